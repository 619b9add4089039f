/* test_torn.c - a batch whose sync never returned is cut off, whatever of it reached the disk,
 * and what was acknowledged before it stays. */
#include "tests/wal/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wal/format.h"
#include "wal/wal_internal.h"

#define SECTOR 512u

/* A log on whose last batch the tests work, as a power cut right behind its write would leave
 * it. */
struct torn {
    const char *segment;
    struct image image;  /* with the whole last batch */
    struct bytes before; /* the segment before that batch was written */
    uint64_t from;       /* where the batch begins and ends */
    uint64_t to;
    struct history acknowledged; /* without that batch */
    struct history all;
};

/* `recycled`: the segment has a former life, so that old records, not zeroes, lie behind the
 * end. */
static void torn_init(struct torn *t, bool recycled)
{
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    *t = (struct torn){.segment = "0000000000000001.seg"};
    uint64_t i = 1;
    if (recycled) {
        for (; wal_stats(w).n_segments < 2; i++) {
            must_append(w, &t->acknowledged, i, 1, 1, 500);
        }
        assert_int_equal(wal_release(w, i, &ec), OK);
        for (; w->segments[w->n_segments - 1].sequence < 3; i++) {
            must_append(w, &t->acknowledged, i, 1, 1, 500);
        }
        t->segment = "0000000000000003.seg";
    }
    for (uint64_t end = i + 4; i < end; i++) {
        must_append(w, &t->acknowledged, i, 1, 2, 300);
    }
    history_copy(&t->all, &t->acknowledged);
    struct image old;
    image_take(&old, v);
    struct bytes *b = image_file(&old, t->segment);
    bytes_add(&t->before, b->data, b->len);
    t->from = w->offset;
    must_append(w, &t->all, i, 4, 2, 301);
    t->to = w->offset;
    image_take(&t->image, v);
    image_deinit(&old);
    wal_close(&w);
    vfs_mem_destroy(&v);
}

static void torn_deinit(struct torn *t)
{
    image_deinit(&t->image);
    bytes_deinit(&t->before);
    history_deinit(&t->acknowledged);
    history_deinit(&t->all);
}

/* Open a log whose last segment has these bytes: it holds all, or what was acknowledged; then go
 * on. */
static void check(struct torn *t, const uint8_t *bytes, size_t len, const char *what, uint64_t at)
{
    bool whole =
        len >= t->to && memcmp(bytes + t->from, image_file(&t->image, t->segment)->data + t->from,
                               t->to - t->from) == 0;
    struct image im = t->image;
    struct vfs *v = image_disk(&im);
    struct err_ctx ec;
    char path[64];
    struct vfs_file *f;
    (void)snprintf(path, sizeof path, DIR_NAME "/%s", t->segment);
    assert_int_equal(v->ops->open(v, path, 0, &f, &ec), OK);
    assert_int_equal(f->ops->truncate(f, len, &ec), OK);
    f->ops->close(f);
    write_at(v, t->segment, 0, bytes, len);
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct history got = {0};
    struct wal_visitor visit = history_visitor(&got);
    struct wal *w = NULL;
    if (wal_open(&cfg, &visit, &w, NULL, &ec) != OK) {
        fail_msg("%s %llu: %s", what, (unsigned long long)at, ec.text);
    }
    const struct history *want = whole ? &t->all : &t->acknowledged;
    if (!history_matches(&got, want, history_last(want))) {
        fail_msg("%s %llu: the log holds something else", what, (unsigned long long)at);
    }
    struct history more = {0};
    history_copy(&more, want);
    must_append(w, &more, history_last(&more) + 1, 1, 3, 40);
    vfs_mem_crash(v, at); /* no mark at the end this time */
    wal_close(&w);
    w = must_open(&cfg, &more, history_last(want));
    wal_close(&w);
    history_deinit(&more);
    history_deinit(&got);
    vfs_mem_destroy(&v);
}

static void every_prefix_is_cut(struct torn *t)
{
    const struct bytes *after = image_file(&t->image, t->segment);
    uint8_t *bytes = malloc(after->len);
    for (uint64_t cut = t->from; cut <= t->to; cut++) {
        memcpy(bytes, t->before.data, after->len);
        memcpy(bytes + t->from, after->data + t->from, cut - t->from);
        check(t, bytes, after->len, "written up to byte", cut);
    }
    free(bytes);
}

static void a_prefix_over_zeroes_is_cut(void **state)
{
    (void)state;
    struct torn t;
    torn_init(&t, false);
    every_prefix_is_cut(&t);
    torn_deinit(&t);
}

static void a_prefix_over_a_former_life_is_cut(void **state)
{
    (void)state;
    struct torn t;
    torn_init(&t, true);
    every_prefix_is_cut(&t);
    torn_deinit(&t);
}

static void a_short_file_is_cut(void **state)
{
    (void)state;
    struct torn t;
    torn_init(&t, false);
    const struct bytes *after = image_file(&t.image, t.segment);
    for (uint64_t len = t.from; len <= t.to; len += 4) {
        check(&t, after->data, len, "file ends at byte", len);
    }
    torn_deinit(&t);
}

/* Any subset of the batch's sectors may have been written. */
static void every_set_of_sectors_is_cut(void **state)
{
    (void)state;
    for (unsigned recycled = 0; recycled < 2; recycled++) {
        struct torn t;
        torn_init(&t, recycled != 0);
        const struct bytes *after = image_file(&t.image, t.segment);
        uint64_t first = t.from / SECTOR;
        uint64_t n = (t.to + SECTOR - 1) / SECTOR - first;
        assert_in_range(n, 3, 6);
        uint8_t *bytes = malloc(after->len);
        for (uint64_t set = 0; set < (1u << n); set++) {
            memcpy(bytes, t.before.data, after->len);
            for (uint64_t i = 0; i < n; i++) {
                if ((set >> i & 1) != 0) {
                    memcpy(bytes + (first + i) * SECTOR, after->data + (first + i) * SECTOR,
                           SECTOR);
                }
            }
            check(&t, bytes, after->len, "set of sectors", set);
        }
        free(bytes);
        torn_deinit(&t);
    }
}

static void a_damaged_last_batch_is_cut(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t len;
    } rows[] = {{"8 bytes", 8}, {"a record head", 40}, {"a sector", SECTOR}};
    struct torn t;
    torn_init(&t, false);
    const struct bytes *after = image_file(&t.image, t.segment);
    uint8_t *bytes = malloc(after->len);
    for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
        for (uint64_t at = t.from; at < t.to; at += 8) {
            size_t len = at + rows[r].len > t.to ? (size_t)(t.to - at) : rows[r].len;
            memcpy(bytes, after->data, after->len);
            memset(bytes + at, 0, len);
            check(&t, bytes, after->len, rows[r].name, at);
            uint64_t seed = at;
            for (size_t i = 0; i < len; i++) {
                bytes[at + i] = (uint8_t)rng_next(&seed);
            }
            check(&t, bytes, after->len, rows[r].name, at);
        }
    }
    free(bytes);
    torn_deinit(&t);
}

/* A batch that was cut never comes back, even if the disk finds its missing sectors again. */
static void what_was_cut_stays_cut(void **state)
{
    (void)state;
    struct torn t;
    torn_init(&t, false);
    struct bytes *seg = image_file(&t.image, t.segment);
    uint8_t lost = seg->data[t.to - 20];
    seg->data[t.to - 20] ^= 1u;
    struct vfs *v = image_disk(&t.image);
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct wal *w = must_open(&cfg, &t.acknowledged, 1);
    wal_close(&w);
    write_at(v, t.segment, t.to - 20, &lost, 1);
    w = NULL;
    struct history got = {0};
    struct wal_visitor visit = history_visitor(&got);
    struct err_ctx ec;
    enum err e = wal_open(&cfg, &visit, &w, NULL, &ec);
    /* The byte now lies in a mark's padding: harmless or noticed, but the batch is not there. */
    assert_true(e == ERR_CORRUPT || (e == OK && history_matches(&got, &t.acknowledged, 1)));
    wal_close(&w);
    history_deinit(&got);
    vfs_mem_destroy(&v);
    torn_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_prefix_over_zeroes_is_cut),
        cmocka_unit_test(a_prefix_over_a_former_life_is_cut),
        cmocka_unit_test(a_short_file_is_cut),
        cmocka_unit_test(every_set_of_sectors_is_cut),
        cmocka_unit_test(a_damaged_last_batch_is_cut),
        cmocka_unit_test(what_was_cut_stays_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
