/* test_log.c - the life of a log: creating, appending, replaying, rolling over, releasing,
 * locking. */
#include "tests/wal/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wal/wal_internal.h"

#define SMALL WAL_SEGMENT_BYTES_MIN

static void run_prepare(struct wal *w)
{
    struct err_ctx ec;
    for (unsigned i = 0; wal_prepare_wanted(w); i++) {
        assert_true(i < 1000);
        assert_int_equal(wal_prepare(w, &ec), OK);
    }
}

static void replay_gives_what_was_appended(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        uint64_t first;
        size_t n;
        uint64_t term;
        size_t len;
    } rows[] = {
        {"one entry", 1, 1, 1, 10},
        {"empty payloads", 2, 3, 1, 0},
        {"payloads that need padding", 5, 8, 2, 13},
        {"payloads too large to copy", 13, 3, 2, 5000},
        {"a suffix is replaced", 10, 2, 3, 100},
        {"a suffix is replaced by a longer one", 9, 20, 4, 31},
        {"only a hard state", 29, 0, 5, 0},
        {"the whole log is replaced", 1, 2, 6, 64},
    };
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct wal *w = must_create(&cfg);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        must_append(w, &h, rows[i].first, rows[i].n, rows[i].term, rows[i].len);
        struct wal_position last = wal_last(w);
        wal_close(&w);
        w = must_open(&cfg, &h, 1);
        struct wal_position again = wal_last(w);
        assert_int_equal(again.index, last.index);
        assert_int_equal(again.term, last.term);
        assert_int_equal(again.chain, last.chain);
    }
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void rolls_over_and_recycles(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    uint64_t released = 0;
    for (uint64_t i = 1; i <= 600; i += 3) {
        must_append(w, &h, i, 3, 1 + i / 100, 700);
        if (i % 90 == 1 && i > 100) {
            released = i - 50;
            assert_int_equal(wal_release(w, released, &ec), OK);
        }
        if (i % 2 == 0) {
            run_prepare(w);
        }
    }
    run_prepare(w);
    struct wal_stats s = wal_stats(w);
    assert_true(s.first_index <= released + 1);
    assert_true(s.first_index > 300);
    assert_true(s.n_segments < 5);
    assert_true(w->segments[w->n_segments - 1].sequence > 6);
    wal_close(&w);
    w = must_open(&cfg, &h, released + 1);
    assert_int_equal(wal_last(w).index, 600);
    assert_int_equal(wal_release(w, 600, &ec), OK);
    run_prepare(w);
    assert_int_equal(wal_stats(w).n_segments, 1);
    assert_true(w->n_spares <= WAL_SPARES_MAX);
    must_append(w, &h, 601, 2, 9, 100);
    wal_close(&w);
    w = must_open(&cfg, &h, 601);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void a_batch_may_exceed_a_segment(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct wal *w = must_create(&cfg);
    must_append(w, &h, 1, 2, 1, 200000);
    must_append(w, &h, 3, 1, 1, 10);
    must_append(w, &h, 4, 40, 1, 3000);
    must_append(w, &h, 44, 1, 1, 10);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    assert_true(wal_stats(w).n_segments >= 3);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void a_batch_may_step_back(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    struct made_batch m;
    batch_make(&m, 1, 5, 1, 20);
    m.entries[3].index = 2;
    m.entries[3].term = 2;
    m.entries[4].index = 3;
    m.entries[4].term = 2;
    assert_int_equal(wal_append(w, &m.batch, NULL, &ec), OK);
    history_apply(&h, &m.batch);
    assert_int_equal(wal_last(w).index, 3);
    batch_deinit(&m);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void a_restart_forgets_every_entry(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    for (uint64_t i = 1; i <= 300; i += 3) {
        must_append(w, &h, i, 3, 1, 700);
    }
    struct made_batch m;
    batch_make(&m, 1001, 2, 7, 30);
    batch_hard_state(&m, 7, 2, 1000);
    m.batch.restart_at = 1001;
    assert_int_equal(wal_append(w, &m.batch, NULL, &ec), OK);
    history_apply(&h, &m.batch);
    batch_deinit(&m);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    assert_int_equal(wal_stats(w).first_index, 1001);
    assert_int_equal(wal_stats(w).n_segments, 1);
    run_prepare(w);
    assert_false(file_exists(v, "0000000000000001.seg"));
    /* A restart without entries or hard state: the vote stays. */
    struct wal_batch bare = {.restart_at = 5000};
    assert_int_equal(wal_append(w, &bare, NULL, &ec), OK);
    history_apply(&h, &bare);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    assert_int_equal(wal_last(w).index, 4999);
    assert_int_equal(h.hard_state.vote, 2);
    must_append(w, &h, 5000, 1, 8, 8);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void unsynced_logs_replay_too(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    cfg.no_sync = true;
    struct history h = {0};
    struct wal *w = must_create(&cfg);
    for (uint64_t i = 1; i <= 300; i += 3) {
        must_append(w, &h, i, 3, 1, 700);
        run_prepare(w);
    }
    assert_int_equal(wal_stats(w).synced_batches, 0);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void one_process_at_a_time(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    struct wal *second = NULL;
    assert_int_equal(wal_open(&cfg, NULL, &second, NULL, &ec), ERR_LOCKED);
    assert_int_equal(wal_create(&cfg, test_id, 1, &second, &ec), ERR_LOCKED);
    assert_null(second);
    wal_close(&w);
    assert_int_equal(wal_create(&cfg, test_id, 1, &second, &ec), ERR_EXISTS);
    assert_int_equal(wal_open(&cfg, NULL, &second, NULL, &ec), OK);
    wal_close(&second);
    vfs_mem_destroy(&v);
}

static void tells_what_is_there(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct err_ctx ec;
    struct wal *w = NULL;
    bool exists = true;
    assert_int_equal(wal_exists(v, DIR_NAME, &exists, &ec), OK);
    assert_false(exists);
    assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), ERR_NOT_FOUND);
    assert_int_equal(v->ops->mkdir(v, DIR_NAME, &ec), OK);
    assert_int_equal(wal_exists(v, DIR_NAME, &exists, &ec), OK);
    assert_false(exists);
    assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), ERR_NOT_FOUND);
    assert_false(file_exists(v, "LOCK"));
    /* What a crash while creating leaves is no log, and is cleaned away. */
    write_at(v, "next.tmp", 0, "half", 4);
    write_at(v, "0000000000000007.spare", 0, "half", 4);
    assert_int_equal(wal_exists(v, DIR_NAME, &exists, &ec), OK);
    assert_false(exists);
    w = must_create(&cfg);
    assert_false(file_exists(v, "next.tmp"));
    assert_false(file_exists(v, "0000000000000007.spare"));
    assert_int_equal(wal_exists(v, DIR_NAME, &exists, &ec), OK);
    assert_true(exists);
    wal_close(&w);
    write_at(v, "next.tmp", 0, "half", 4);
    w = must_open(&cfg, NULL, 0);
    assert_false(file_exists(v, "next.tmp"));
    wal_close(&w);
    write_at(v, "0000000000000000-0000000000000000.wal", 0, "x", 1);
    assert_int_equal(wal_exists(v, DIR_NAME, &exists, &ec), ERR_FOREIGN);
    assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), ERR_FOREIGN);
    vfs_mem_destroy(&v);
}

/* A log of several segments, closed. */
static struct vfs *long_log(struct history *h)
{
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct wal *w = must_create(&cfg);
    for (uint64_t i = 1; i <= 300; i += 3) {
        must_append(w, h, i, 3, 1, 700);
    }
    wal_close(&w);
    return v;
}

static void a_missing_middle_is_corruption(void **state)
{
    (void)state;
    struct history h = {0};
    struct vfs *v = long_log(&h);
    struct wal_config cfg = test_config(v, SMALL);
    struct err_ctx ec;
    struct wal *w = NULL;
    assert_int_equal(v->ops->unlink(v, DIR_NAME "/0000000000000002.seg", &ec), OK);
    assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), ERR_CORRUPT);
    assert_non_null(strstr(ec.text, "segment 2 is missing"));
    /* Without the first two it reads: released segments are gone from the front. */
    assert_int_equal(v->ops->unlink(v, DIR_NAME "/0000000000000001.seg", &ec), OK);
    assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), OK);
    assert_true(wal_stats(w).first_index > 1);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void segments_from_elsewhere_do_not_verify(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct wal_identity id;
        enum err want;
    } rows[] = {
        {"of another cluster", {1, 0x99aabbccddeeff00u}, ERR_FOREIGN},
        {"of another member", {0x1122334455667788u, 1}, ERR_FOREIGN},
        {"of another life of this member", {0x1122334455667788u, 0x99aabbccddeeff00u}, ERR_CORRUPT},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct history h = {0};
        struct vfs *v = long_log(&h);
        struct vfs *other = vfs_mem_create();
        struct wal_config cfg = test_config(other, SMALL);
        struct err_ctx ec;
        struct wal *w = NULL;
        assert_int_equal(wal_create(&cfg, rows[i].id, 1, &w, &ec), OK);
        for (uint64_t at = 1; at <= 200; at++) {
            must_append(w, &h, at, 1, 1, 900);
        }
        wal_close(&w);
        struct image im;
        image_take(&im, other);
        const struct bytes *alien = image_file(&im, "0000000000000002.seg");
        write_at(v, "0000000000000002.seg", 0, alien->data, alien->len);
        cfg.vfs = v;
        assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), rows[i].want);
        /* The segment of one number under the name of another. */
        const struct bytes *third = image_file(&im, "0000000000000003.seg");
        write_at(other, "0000000000000002.seg", 0, third->data, third->len);
        cfg.vfs = other;
        assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), ERR_CORRUPT);
        image_deinit(&im);
        history_deinit(&h);
        vfs_mem_destroy(&v);
        vfs_mem_destroy(&other);
    }
}

/* Larger than a segment, and than any sensible request. */
static void a_huge_entry_is_an_entry(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct wal *w = must_create(&cfg);
    must_append(w, &h, 1, 1, 1, 10);
    must_append(w, &h, 2, 1, 1, 65u << 20);
    must_append(w, &h, 3, 1, 1, 10);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void too_large_an_entry_is_refused(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    struct buf *large = buf_create(WAL_RECORD_BYTES_MAX);
    struct wal_entry e = {.index = 1, .term = 1, .data = large};
    struct wal_batch b = {.entries = &e, .n_entries = 1};
    assert_int_equal(wal_append(w, &b, NULL, &ec), ERR_LIMIT);
    buf_unref(&large);
    must_append(w, &h, 1, 1, 1, 10);
    wal_close(&w);
    w = must_open(&cfg, &h, 1);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static enum err refuse(void *arg, const struct wal_entry *e, uint64_t chain)
{
    (void)arg;
    (void)chain;
    return e->index == 5 ? ERR_UNSUPPORTED : OK;
}

static void a_visitor_can_refuse(void **state)
{
    (void)state;
    struct history h = {0};
    struct vfs *v = long_log(&h);
    struct wal_config cfg = test_config(v, SMALL);
    struct wal_visitor visit = {.entry = refuse};
    struct err_ctx ec;
    struct wal *w = NULL;
    assert_int_equal(wal_open(&cfg, &visit, &w, NULL, &ec), ERR_UNSUPPORTED);
    w = must_open(&cfg, &h, 1);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

/* Bytes of a segment's former life stand behind the new records and must never count. */
static void recycled_bytes_never_verify(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    uint64_t i = 1;
    for (; i <= 900; i++) { /* equal batches: old and new heads stand at the same offsets */
        must_append(w, &h, i, 1, 1, 1000);
        if (i % 60 == 0) {
            assert_int_equal(wal_release(w, i - 1, &ec), OK);
            run_prepare(w);
        }
        if (i % 7 == 0) { /* as if the process were killed: no mark at the end */
            struct image im;
            image_take(&im, v);
            struct vfs *copy = image_disk(&im);
            struct wal_config there = test_config(copy, SMALL);
            struct wal *again = must_open(&there, &h, i);
            wal_close(&again);
            vfs_mem_destroy(&copy);
            image_deinit(&im);
        }
    }
    assert_true(w->segments[w->n_segments - 1].sequence > 12);
    wal_close(&w);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void works_on_the_real_disk(void **state)
{
    (void)state;
    char base[] = "/tmp/pintle-wal-XXXXXX";
    assert_non_null(mkdtemp(base));
    char dir[64];
    (void)snprintf(dir, sizeof dir, "%s/log", base);
    struct vfs *v = vfs_real();
    struct wal_config cfg = {.vfs = v, .dir = dir, .segment_bytes = SMALL};
    struct history h = {0};
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    struct wal *second = NULL;
    assert_int_equal(wal_open(&cfg, NULL, &second, NULL, &ec), ERR_LOCKED);
    for (uint64_t i = 1; i <= 300; i += 3) {
        must_append(w, &h, i, 3, 1, i % 2 == 0 ? 700 : 2500);
        if (i % 50 == 0) {
            assert_int_equal(wal_release(w, i / 2, &ec), OK);
            run_prepare(w);
        }
    }
    wal_close(&w);
    w = must_open(&cfg, &h, 200);
    wal_close(&w);
    char command[128];
    (void)snprintf(command, sizeof command, "rm -r '%s'", base);
    assert_int_equal(system(command), 0);
    history_deinit(&h);
}

static void expect_identity(const struct wal_config *cfg, bool has_entries)
{
    struct err_ctx ec;
    struct wal_identity id = {0, 0};
    bool has = !has_entries;
    assert_int_equal(wal_identity_of(cfg->vfs, cfg->dir, &id, &has, &ec), OK);
    assert_int_equal(id.cluster_id, test_id.cluster_id);
    assert_int_equal(id.member_id, test_id.member_id);
    assert_int_equal(has, has_entries);
}

static void says_whose_it_is_without_being_opened(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct err_ctx ec;
    struct wal_config cfg = test_config(v, SMALL);
    struct history h = {0};
    struct wal_identity id = {0, 0};
    bool has = false;
    assert_int_equal(wal_identity_of(v, cfg.dir, &id, &has, &ec), ERR_NOT_FOUND);
    struct wal *w = must_create(&cfg);
    expect_identity(&cfg, false);
    struct wal_batch vote = {.has_hard_state = true, .hard_state = {.term = 3, .vote = 1, .commit = 0}};
    assert_int_equal(wal_append(w, &vote, NULL, &ec), OK);
    history_apply(&h, &vote);
    wal_close(&w);
    expect_identity(&cfg, false);
    w = must_open(&cfg, &h, 1);
    wal_close(&w);
    expect_identity(&cfg, false);
    w = must_open(&cfg, &h, 1);
    must_append(w, &h, 1, 1, 1, 10);
    expect_identity(&cfg, true);
    for (uint64_t i = 2; i <= 200; i++) {
        must_append(w, &h, i, 1, 1, 2500); /* rolls over */
    }
    expect_identity(&cfg, true);
    struct wal_batch restart = {.restart_at = 1000};
    assert_int_equal(wal_append(w, &restart, NULL, &ec), OK);
    wal_close(&w);
    expect_identity(&cfg, true);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replay_gives_what_was_appended),
        cmocka_unit_test(rolls_over_and_recycles),
        cmocka_unit_test(a_batch_may_exceed_a_segment),
        cmocka_unit_test(a_batch_may_step_back),
        cmocka_unit_test(a_restart_forgets_every_entry),
        cmocka_unit_test(unsynced_logs_replay_too),
        cmocka_unit_test(one_process_at_a_time),
        cmocka_unit_test(tells_what_is_there),
        cmocka_unit_test(says_whose_it_is_without_being_opened),
        cmocka_unit_test(a_missing_middle_is_corruption),
        cmocka_unit_test(segments_from_elsewhere_do_not_verify),
        cmocka_unit_test(a_huge_entry_is_an_entry),
        cmocka_unit_test(too_large_an_entry_is_refused),
        cmocka_unit_test(a_visitor_can_refuse),
        cmocka_unit_test(recycled_bytes_never_verify),
        cmocka_unit_test(works_on_the_real_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
