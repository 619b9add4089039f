/* test_install.c - a snapshot of one engine becomes the state of another: all of it, at one moment,
 * whatever is open meanwhile and wherever it is cut off.
 */
#include "install_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* --- tests
 * ------------------------------------------------------------------------------------------------ */

static void all_state_is_taken_over(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    target_init(&t, *(enum fixture_kind *)*state);
    install_fill(&f, 400);
    assert_int_equal(fixture_compact(&f, 90), OK);
    fixture_settle(&f);
    install_raise_alarm(&f, 1, 2);
    fixture_flush(&f);
    /* What was there before goes away. */
    target_put(&t, "old", "state");
    target_put(&t, "pending", "too");
    target_flush(&t);
    target_put(&t, "unflushed", "as well");
    install_take(f.e, &file, &info);
    assert_int_equal(info.conf.n_voters, 1);
    assert_int_equal(info.conf.n_learners, 1);
    assert_int_equal(info.conf.learners[0], 3);
    assert_false(target_is_installed(&t, 0));
    target_install(&t, &file);
    install_expect_same(f.e, t.e);
    assert_true(target_is_installed(&t, info.index));
    assert_true(engine_member_removed(t.e, 2));
    uint64_t w[3];
    engine_witness(t.e, &w[0], &w[1], &w[2]);
    assert_int_equal(w[0], 0);
    /* Life goes on: entries, flushes, compaction, a snapshot of the snapshot. */
    Etcdserverpb__InternalRaftRequest off = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AlarmRequest a = ETCDSERVERPB__ALARM_REQUEST__INIT;
    a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
    a.memberid = 1;
    a.alarm = (Etcdserverpb__AlarmType)2;
    off.alarm = &a;
    struct apply_result cleared = fixture_request(&f, &off);
    buf_unref(&cleared.body);
    for (int i = 0; i < 50; i++) {
        install_put(&f, i, 8);
    }
    assert_int_equal(fixture_compact(&f, 300), OK);
    target_follow(&t, &f);
    assert_int_equal(t.changed, engine_revision(f.e));
    install_expect_same(f.e, t.e);
    engine_log_follows(t.e);
    bool more = true;
    while (more) {
        assert_int_equal(engine_flush(t.e, false, &more, NULL), OK);
        while (engine_step(t.e)) {
        }
    }
    fixture_settle(&f);
    install_expect_same(f.e, t.e);
    assert_int_equal(engine_physical_compact_revision(t.e), 300);
    target_crash(&t, false);
    assert_false(target_is_installed(&t, 0));
    install_expect_same(f.e, t.e);
    struct bytes again = {0};
    install_take(f.e, &file, &info);
    install_take(t.e, &again, &info);
    assert_true(slice_eq(bytes_slice(&file), bytes_slice(&again)));
    bytes_deinit(&again);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

/* Where the member dies, and what it finds at the next start. */
static void a_crash_leaves_one_or_the_other(void **state)
{
    (void)state;
    enum step { STAGED, INSTALLED, ADOPTED, FOLLOWING, FLUSHED, N_STEPS };
    struct fixture f;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    install_fill(&f, 100);
    fixture_flush(&f);
    install_take(f.e, &file, &info);
    for (int step = STAGED; step < N_STEPS; step++) {
        for (int undo = 0; undo < 2; undo++) {
            struct target t;
            target_init(&t, ON_MEMORY);
            target_put(&t, "old", "state");
            target_flush(&t);
            target_put(&t, "old", "later");
            target_flush(&t);
            struct staged *s = target_stage(&t, &file);
            if (step >= INSTALLED) {
                assert_int_equal(staged_install(s, NULL), OK);
            }
            if (step >= ADOPTED) {
                engine_adopt(t.e, &s);
            }
            if (step >= FOLLOWING) {
                engine_log_follows(t.e);
            }
            if (step >= FLUSHED) {
                target_flush(&t);
            }
            engine_close(&t.e);
            staged_discard(&s);
            t.e = NULL;
            target_crash(&t, undo == 1);
            if (step == STAGED) {
                assert_int_equal(engine_applied_index(t.e), 2 - undo);
                assert_false(target_is_installed(&t, 0));
            } else {
                install_expect_same(f.e, t.e);
                assert_int_equal(target_is_installed(&t, info.index), step < FLUSHED || undo == 1);
            }
            target_deinit(&t);
        }
    }
    bytes_deinit(&file);
    fixture_deinit(&f);
}

/* A copy of the folder stands for what a killed process leaves. */
static void expect_copy(const struct target *t, struct engine *want)
{
    struct target copy = {.cfg = t->cfg};
    char name[] = "/tmp/pintle-install-XXXXXX";
    assert_non_null(mkdtemp(name));
    copy.dir = xstrdup(name);
    copy.cfg.events = NULL;
    char *from = xasprintf("%s/.", t->dir);
    install_command("cp -r", from, name);
    free(from);
    target_open(&copy);
    assert_false(target_has_file(&copy, "store.mdb.incoming"));
    assert_false(target_has_file(&copy, "store.mdb.incoming-lock"));
    if (want != NULL) {
        install_expect_same(want, copy.e);
    } else {
        assert_int_equal(engine_applied_index(copy.e), 1);
    }
    target_deinit(&copy);
}

static void a_kill_leaves_one_or_the_other(void **state)
{
    (void)state;
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    struct backend *other = NULL;
    fixture_init(&f, ON_MEMORY);
    install_fill(&f, 100);
    fixture_flush(&f);
    install_take(f.e, &file, &info);
    target_init(&t, ON_LMDB);
    target_put(&t, "old", "state");
    target_flush(&t);
    for (int i = 0; i < 3; i++) {
        struct staged *s = target_stage(&t, &file);
        assert_true(target_has_file(&t, "store.mdb.incoming"));
        if (i == 0) {
            expect_copy(&t, NULL);
            staged_discard(&s);
            assert_false(target_has_file(&t, "store.mdb.incoming"));
            assert_false(target_has_file(&t, "store.mdb.incoming-lock"));
            expect_copy(&t, NULL);
            continue;
        }
        assert_int_equal(staged_install(s, NULL), OK);
        expect_copy(&t, f.e);
        assert_false(target_has_file(&t, "store.mdb.incoming"));
        engine_adopt(t.e, &s);
        assert_int_equal(backend_lmdb_open(t.dir, 1u << 30, true, &other, NULL), ERR_LOCKED);
        /* Frees the old one; the lock stays. */
        bool more;
        assert_int_equal(engine_flush(t.e, true, &more, NULL), OK);
        assert_int_equal(backend_lmdb_open(t.dir, 1u << 30, true, &other, NULL), ERR_LOCKED);
        expect_copy(&t, f.e);
        assert_int_equal(engine_defrag(t.e, NULL), OK);
        expect_copy(&t, f.e);
    }
    engine_close(&t.e);
    target_open(&t);
    install_expect_same(f.e, t.e);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

/* --- what is open meanwhile
 * ------------------------------------------------------------------------------- */

static void open_reads_end(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    install_fill(&f, 3000);
    fixture_flush(&f);
    target_init(&t, *(enum fixture_kind *)*state);
    target_follow(&t, &f);
    target_flush(&t);
    for (int i = 0; i < 200; i++) {
        install_put(&f, i, 0);
    }
    fixture_flush(&f);
    install_take(f.e, &file, &info);

    struct engine_snapshot *snapshot = NULL;
    struct snapshot_info old_info;
    struct range_read *walk = NULL;
    struct range_read *sorted = NULL;
    struct range_read *whole = NULL;
    struct range_info ri;
    struct bytes out = {0};
    size_t n = 0;
    enum err err;
    struct bytes before = {0};
    install_take(t.e, &before, &old_info);
    Etcdserverpb__RangeRequest all = fixture_range_request("k", "l", 0);
    Etcdserverpb__RangeRequest by_mod = all;
    Etcdserverpb__RangeRequest few = fixture_range_request("key00001", "key00005", 0);
    by_mod.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD;
    by_mod.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    assert_int_equal(engine_range_open(t.e, &all, 1000, &walk, &ri, NULL), OK);
    assert_int_equal(engine_range_chunk(walk, 10, 100000, &out, &n), OK);
    assert_int_equal(n, 10);
    assert_int_equal(engine_range_open(t.e, &by_mod, 1000, &sorted, &ri, NULL), OK);
    assert_int_equal(engine_range_open(t.e, &few, 1000, &whole, &ri, NULL), OK);
    assert_int_equal(engine_snapshot_open(t.e, &snapshot, &old_info, NULL), OK);

    target_install(&t, &file);
    bool more;
    assert_int_equal(engine_flush(t.e, false, &more, NULL), OK); /* frees the old state */
    install_expect_same(f.e, t.e);

    uint8_t piece[4096];
    while ((n = engine_range_pull(walk, piece, sizeof(piece), &err)) > 0) {
    }
    assert_int_equal(err, ERR_LEADER_CHANGED);
    while ((n = engine_range_pull(sorted, piece, sizeof(piece), &err)) > 0) {
    }
    assert_int_equal(err, ERR_LEADER_CHANGED);
    /* What was collected at open is complete. */
    assert_int_equal(engine_range_pull(whole, piece, sizeof(piece), &err), ri.kvs_bytes);
    bytes_reset(&out);
    do {
        assert_int_equal(engine_snapshot_read(snapshot, piece, sizeof(piece), &n, NULL), OK);
        bytes_add(&out, piece, n);
    } while (n > 0);
    assert_true(slice_eq(bytes_slice(&out), bytes_slice(&before)));
    engine_snapshot_close(&snapshot);
    engine_range_close(&walk);
    engine_range_close(&sorted);
    engine_range_close(&whole);
    bytes_deinit(&out);
    bytes_deinit(&before);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

static void a_large_store(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    install_fill(&f, 10);
    for (int i = 0; i < 120000; i++) {
        install_put(&f, i, 0);
    }
    fixture_flush(&f);
    install_take(f.e, &file, &info);
    target_init(&t, *(enum fixture_kind *)*state);
    target_install(&t, &file);
    install_expect_same(f.e, t.e);
    engine_log_follows(t.e);
    target_flush(&t);
    target_crash(&t, false);
    install_expect_same(f.e, t.e);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

int main(void)
{
    static enum fixture_kind kinds[] = {ON_MEMORY, ON_LMDB};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(all_state_is_taken_over, &kinds[0]),
        cmocka_unit_test_prestate(all_state_is_taken_over, &kinds[1]),
        cmocka_unit_test(a_crash_leaves_one_or_the_other),
        cmocka_unit_test(a_kill_leaves_one_or_the_other),
        cmocka_unit_test_prestate(open_reads_end, &kinds[0]),
        cmocka_unit_test_prestate(open_reads_end, &kinds[1]),
        cmocka_unit_test_prestate(a_large_store, &kinds[0]),
        cmocka_unit_test_prestate(a_large_store, &kinds[1]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
