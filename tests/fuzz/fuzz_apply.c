/* fuzz_apply.c - entries of the log, as any member of any version may have proposed them.
 *
 * The input is a list of orders: one byte what to do, two bytes a length, the entry's data. Entries
 * are applied here with replies, flushes and crashes in between, and on a second engine without any
 * of that. Both must agree on every answer and, at the end, on the whole state: what an entry does
 * may not depend on who asks or on what the disk holds.
 */
#include <stdint.h>
#include <stdlib.h>

#include "engine/auth.h"
#include "fuzz_engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ENTRIES_MAX 64u
#define NOW_MS 1000u
#define TERM 1u

enum order { NORMAL, CONF_CHANGE, CONF_CHANGE_V2, UNKNOWN, FLUSH, CRASH, CRASH_UNDO, ORDERS };

struct logged {
    uint32_t type;
    struct slice data;
    enum err err;
};

struct run {
    struct fuzz_engine f;
    struct logged log[ENTRIES_MAX];
    size_t n_log;
};

static enum err apply(struct engine *e, uint64_t index, const struct logged *l, bool want_reply)
{
    struct apply_result r;
    engine_apply(e, index, TERM, l->type, l->data, want_reply, NOW_MS, &r);
    ASSERT(engine_applied_index(e) == index);
    ASSERT(r.revision == engine_revision(e));
    ASSERT(want_reply || r.body == NULL);
    buf_unref(&r.body);
    return r.err;
}

/* What the store lost is applied again from the log and must answer as it did. */
static void crash(struct run *x, bool undo_last)
{
    fuzz_engine_crash(&x->f, undo_last);
    for (uint64_t i = engine_applied_index(x->f.e); i < x->n_log; i++) {
        enum err e = apply(x->f.e, i + 1, &x->log[i], false);
        ASSERT(e == x->log[i].err);
    }
}

static void one_order(struct run *x, enum order order, struct slice data)
{
    switch (order) {
    case NORMAL:
    case CONF_CHANGE:
    case CONF_CHANGE_V2:
    case UNKNOWN:
        if (x->n_log < ENTRIES_MAX) {
            struct logged *l = &x->log[x->n_log++];
            *l = (struct logged){.type = order, .data = data};
            l->err = apply(x->f.e, x->n_log, l, true);
        }
        break;
    case FLUSH:
        fuzz_engine_flush(&x->f);
        break;
    case CRASH:
    case CRASH_UNDO:
        crash(x, order == CRASH_UNDO);
        break;
    case ORDERS:
        break;
    }
}

static void check_same(struct engine *a, struct engine *b)
{
    ASSERT(engine_revision(a) == engine_revision(b));
    ASSERT(engine_compact_revision(a) == engine_compact_revision(b));
    struct hash_kv ha;
    struct hash_kv hb;
    struct err_ctx ec;
    enum err e = engine_hash_kv(a, 0, &ha, &ec);
    ASSERT(e == engine_hash_kv(b, 0, &hb, &ec));
    ASSERT(e != OK || ha.hash == hb.hash);
    struct alarm alarms[2][ENGINE_ALARMS_MAX];
    size_t n_alarms = engine_alarms(a, alarms[0], ENGINE_ALARMS_MAX);
    ASSERT(n_alarms == engine_alarms(b, alarms[1], ENGINE_ALARMS_MAX));
    for (size_t i = 0; i < n_alarms; i++) {
        ASSERT(alarms[0][i].member_id == alarms[1][i].member_id);
        ASSERT(alarms[0][i].type == alarms[1][i].type);
    }
    size_t n_a = 0;
    size_t n_b = 0;
    struct member_info *members_a = engine_members(a, &n_a);
    struct member_info *members_b = engine_members(b, &n_b);
    ASSERT(n_a == n_b);
    for (size_t i = 0; i < n_a; i++) {
        ASSERT(members_a[i].id == members_b[i].id);
        ASSERT(members_a[i].is_learner == members_b[i].is_learner);
        ASSERT(strcmp(members_a[i].name, members_b[i].name) == 0);
    }
    free(members_a);
    free(members_b);
    ASSERT(auth_enabled(engine_auth(a)) == auth_enabled(engine_auth(b)));
    ASSERT(auth_revision(engine_auth(a)) == auth_revision(engine_auth(b)));
    char versions[2][16];
    engine_cluster_version(a, versions[0]);
    engine_cluster_version(b, versions[1]);
    ASSERT(strcmp(versions[0], versions[1]) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run *x = xcalloc(1, sizeof(*x));
    fuzz_engine_open(&x->f);
    struct slice in = slice_of(data, size);
    while (in.len >= 3) {
        size_t len = in.data[1] | (size_t)in.data[2] << 8;
        len = len < in.len - 3 ? len : in.len - 3;
        one_order(x, (enum order)(in.data[0] % ORDERS), slice_of(in.data + 3, len));
        in = slice_of(in.data + 3 + len, in.len - 3 - len);
    }
    struct fuzz_engine plain;
    fuzz_engine_open(&plain);
    for (size_t i = 0; i < x->n_log; i++) {
        enum err e = apply(plain.e, i + 1, &x->log[i], false);
        ASSERT(e == x->log[i].err);
    }
    check_same(x->f.e, plain.e);
    engine_close(&plain.e);
    engine_close(&x->f.e);
    free(x);
    return 0;
}
