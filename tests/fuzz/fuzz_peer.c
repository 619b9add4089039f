/* fuzz_peer.c - bytes as a message, an entry and a snapshot from another member. What reads must,
 * written again, read as the same; and what is written twice is equal byte by byte. */
#include <stdint.h>

#include "base/assert.h"
#include "raft/peer/codec.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_message(struct slice in)
{
    struct raft_message *m = NULL;
    struct raft_message *back = NULL;
    struct bytes once = {0};
    struct bytes twice = {0};
    if (peer_message_decode(in, &m, NULL) != OK) {
        ASSERT(m == NULL);
        return;
    }
    peer_message_encode(m, &once);
    ASSERT(once.len == peer_message_bytes(m));
    enum err e = peer_message_decode(bytes_slice(&once), &back, NULL);
    ASSERT(e == OK);
    ASSERT(back->type == m->type && back->n_entries == m->n_entries);
    ASSERT((back->snapshot == NULL) == (m->snapshot == NULL));
    peer_message_encode(back, &twice);
    ASSERT(slice_eq(bytes_slice(&once), bytes_slice(&twice)));
    bytes_deinit(&once);
    bytes_deinit(&twice);
    raft_message_destroy(&m);
    raft_message_destroy(&back);
}

static void check_entry(struct slice in)
{
    struct raft_entry entry = {0};
    struct raft_entry back = {0};
    struct bytes out = {0};
    if (peer_entry_decode(in, &entry, NULL) != OK) {
        ASSERT(entry.data == NULL);
        return;
    }
    peer_entry_encode(&entry, &out);
    enum err e = peer_entry_decode(bytes_slice(&out), &back, NULL);
    ASSERT(e == OK);
    ASSERT(back.index == entry.index && back.term == entry.term && back.type == entry.type);
    ASSERT((back.data == NULL) == (entry.data == NULL));
    ASSERT(slice_eq(buf_slice(back.data), buf_slice(entry.data)));
    buf_unref(&entry.data);
    buf_unref(&back.data);
    bytes_deinit(&out);
}

static void check_ids(const struct raft_ids *ids)
{
    ASSERT(ids->n <= RAFT_MEMBERS_MAX);
    for (size_t i = 1; i < ids->n; i++) {
        ASSERT(ids->id[i - 1] < ids->id[i]);
    }
}

static void check_snapshot(struct slice in)
{
    struct raft_snapshot *s = NULL;
    struct raft_snapshot *back = NULL;
    struct bytes out = {0};
    if (peer_snapshot_decode(in, &s, NULL) != OK) {
        ASSERT(s == NULL);
        return;
    }
    check_ids(&s->conf.voters);
    check_ids(&s->conf.learners);
    check_ids(&s->conf.voters_outgoing);
    check_ids(&s->conf.learners_next);
    peer_snapshot_encode(s, &out);
    ASSERT(out.len == peer_snapshot_bytes(s));
    enum err e = peer_snapshot_decode(bytes_slice(&out), &back, NULL);
    ASSERT(e == OK);
    ASSERT(back->index == s->index && back->term == s->term);
    raft_snapshot_destroy(&s);
    raft_snapshot_destroy(&back);
    bytes_deinit(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    check_message(in);
    check_entry(in);
    check_snapshot(in);
    return 0;
}
