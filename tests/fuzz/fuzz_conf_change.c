/* fuzz_conf_change.c - the data of a configuration entry, as a peer or a damaged log may hold it.
 *
 * The input is a list of changes: one byte of type, one of length, the bytes. What decodes must,
 * encoded again, decode to the same; and a member of three takes each one as committed without
 * falling, whatever became of the configuration by then.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/buf.h"
#include "raft/core/raft.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHANGES_MAX 100u

static struct raft *three_members(void)
{
    struct raft_config config = {
        .id = 1,
        .election_ticks = 10,
        .heartbeat_ticks = 1,
        .max_append_bytes = UINT64_MAX,
        .max_inflight = 16,
        .seed = 1,
        .conf = {.voters = {.n = 3, .id = {1, 2, 3}}},
        .snapshot_index = 10,
        .snapshot_term = 1,
        .hard_state = {.term = 1, .commit = 10},
    };
    struct raft *r = NULL;
    struct err_ctx ec;
    enum err e = raft_create(&config, &r, &ec);
    ASSERT(e == OK);
    return r;
}

static void check_same(const struct raft_conf_change *a, const struct raft_conf_change *b)
{
    ASSERT(a->v1 == b->v1);
    ASSERT(a->id == b->id);
    ASSERT(a->transition == b->transition);
    ASSERT(a->n_changes == b->n_changes);
    for (size_t i = 0; i < a->n_changes; i++) {
        ASSERT(a->changes[i].type == b->changes[i].type);
        ASSERT(a->changes[i].node == b->changes[i].node);
    }
    ASSERT(slice_eq(a->context, b->context));
}

static void one_change(struct raft *r, enum raft_entry_type type, struct slice data)
{
    struct raft_conf_change cc;
    if (raft_conf_change_decode(type, data, &cc) != OK) {
        return;
    }
    struct raft_conf_change back;
    struct buf *again = raft_conf_change_encode(&cc);
    enum err e = raft_conf_change_decode(type, buf_slice(again), &back);
    ASSERT(e == OK);
    check_same(&cc, &back);
    buf_unref(&again);
    struct raft_conf_state before;
    struct raft_conf_state after;
    struct err_ctx ec;
    before = *raft_conf(r);
    if (raft_apply_conf_change(r, &cc, &after, &ec) != OK) {
        after = *raft_conf(r);
        ASSERT(after.voters.n == before.voters.n);
        ASSERT(after.learners.n == before.learners.n);
        ASSERT(after.voters_outgoing.n == before.voters_outgoing.n);
    }
    ASSERT(after.voters.n > 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct raft *r = three_members();
    struct slice in = slice_of(data, size);
    for (size_t n = 0; n < CHANGES_MAX && in.len >= 2; n++) {
        enum raft_entry_type type =
            in.data[0] % 2 == 0 ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_CONF_CHANGE_V2;
        size_t len = in.data[1] < in.len - 2 ? in.data[1] : in.len - 2;
        one_change(r, type, slice_of(in.data + 2, len));
        in = slice_of(in.data + 2 + len, in.len - 2 - len);
    }
    raft_destroy(&r);
    return 0;
}
