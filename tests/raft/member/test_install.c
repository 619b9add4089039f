/* test_install.c - a snapshot is put in place by the store thread, which has other things to do as well. */
#include "tests/raft/member/fixture.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/install.h"

enum { TERM = 2, SNAPSHOT_INDEX = 100 };

/* The file of a store with one key. */
static void make_file(struct bytes *out)
{
    struct engine_config cfg = {.backend = backend_mem_create(), .quota_bytes = INT64_MAX, .min_lease_ttl_s = 1};
    struct engine *e = NULL;
    struct engine_snapshot *snapshot = NULL;
    struct snapshot_info info;
    struct apply_result r;
    struct err_ctx ec = {{0}};
    bool more;
    size_t n = 1;
    assert_int_equal(engine_open(&cfg, &e, &ec), OK);
    struct buf *entry = proposal_encode(&(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = slice_str("1")}, 1);
    engine_apply(e, 1, 1, 0, buf_slice(entry), false, 0, &r);
    buf_unref(&entry);
    assert_int_equal(engine_flush(e, true, &more, &ec), OK);
    assert_int_equal(engine_snapshot_open(e, &snapshot, &info, &ec), OK);
    while (n > 0) {
        assert_int_equal(engine_snapshot_read(snapshot, bytes_reserve(out, 4096), 4096, &n, &ec), OK);
        out->len += n;
    }
    engine_snapshot_close(&snapshot);
    engine_close(&e);
}

static enum err read_bytes(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    (void)ec;
    memcpy(dst, ((const struct bytes *)arg)->data + offset, n);
    return OK;
}

/* A place that remembers what had been done to the store it replaces. */
struct watched_place {
    char mark[1]; /* what store_place.dir points to */
    struct store_place inner;
    const struct gate *old;
    _Atomic uint64_t n_defrags; /* of the old store, when the new one was put in place */
};

static enum err watched_install(const struct store_place *p, struct backend *staged, struct err_ctx *ec)
{
    struct watched_place *w = CONTAINER_OF((char (*)[1])(uintptr_t)p->dir, struct watched_place, mark);
    atomic_store(&w->n_defrags, atomic_load(&w->old->n_defrags));
    return w->inner.install(&w->inner, staged, ec);
}

static bool nothing(struct member *m, struct member_op *op)
{
    (void)m;
    op->err = OK;
    return true;
}

/* On LMDB it would put the old store back, under the name of the new one. */
static void the_store_that_was_replaced_is_not_defragmented(void **state)
{
    (void)state;
    struct fixture f;
    struct bytes file = {0};
    struct err_ctx ec = {{0}};
    struct backend_mem_disk *disk = backend_mem_disk_create();
    struct watched_place w = {.inner = store_place_mem(disk), .old = &f.store};
    struct store_place place = w.inner;
    place.dir = w.mark;
    place.install = watched_install;
    make_file(&file);
    fixture_init(&f);
    f.n_initial = 2;
    f.place = &place;
    fixture_open(&f);
    /* The store thread stays in its first commit until both are asked of it. */
    pthread_mutex_lock(&f.store.hold);
    member_start(f.m);
    struct raft_message *m = raft_message_create(RAFT_MSG_SNAP, 0);
    m->from = OTHER_MEMBER;
    m->to = MEMBER;
    m->term = TERM;
    m->snapshot = xcalloc(1, sizeof(*m->snapshot));
    *m->snapshot = (struct raft_snapshot){.index = SNAPSHOT_INDEX, .term = TERM, .conf.voters = {.n = 2, .id = {MEMBER, OTHER_MEMBER}}};
    struct ask flush = {.op = {.kind = MEMBER_FLUSH}};
    struct ask install = {.op = {.kind = MEMBER_INSTALL, .message = m}};
    struct ask defrag = {.op = {.kind = MEMBER_DEFRAG}};
    struct ask seen = {.op = {.kind = MEMBER_CALL, .call = nothing}};
    assert_int_equal(member_stage(f.m, &(struct bolt_source){read_bytes, &file, file.len}, m, &install.op.staged, &ec), OK);
    assert_int_equal(ask_submit(&f, &flush), OK);
    assert_int_equal(ask_submit(&f, &install), OK);
    assert_int_equal(ask_submit(&f, &defrag), OK);
    assert_int_equal(ask_submit(&f, &seen), OK);
    assert_int_equal(ask_wait(&seen), OK);
    pthread_mutex_unlock(&f.store.hold);
    assert_int_equal(ask_wait(&flush), OK);
    assert_int_equal(ask_wait(&install), OK);
    assert_int_equal(ask_wait(&defrag), OK);
    assert_int_equal(engine_applied_index(member_engine(f.m)), SNAPSHOT_INDEX);
    assert_int_equal(atomic_load(&w.n_defrags), atomic_load(&f.store.n_defrags));
    fixture_deinit(&f);
    backend_mem_disk_destroy(&disk);
    bytes_deinit(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_store_that_was_replaced_is_not_defragmented),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
