/* test_damage.c - bytes that were durable and no longer read are corruption: wal_open says so,
 * with the place, and never returns a log without them. */
#include "tests/wal/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "wal/format.h"
#include "wal/wal_internal.h"

#define SECTOR 512u

/* A closed log of three segments. */
struct victim {
    struct image image;
    struct history all;
    uint64_t end; /* of the last entry in the last segment */
};

static void victim_init(struct victim *t)
{
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct wal *w = must_create(&cfg);
    *t = (struct victim){0};
    uint64_t i = 1;
    for (; w->segments[w->n_segments - 1].sequence < 3; i += 2) {
        must_append(w, &t->all, i, 2, 1, 400 + i % 1000);
    }
    for (uint64_t end = i + 40; i < end; i += 2) {
        must_append(w, &t->all, i, 2, 2, 100 + i % 700);
    }
    t->end = w->offset;
    wal_close(&w);
    image_take(&t->image, v);
    vfs_mem_destroy(&v);
}

static void victim_deinit(struct victim *t)
{
    image_deinit(&t->image);
    history_deinit(&t->all);
}

static void set_zero(uint8_t *p, uint64_t at, size_t size)
{
    (void)size;
    memset(p + at, 0, SECTOR);
}

static void flip_bit(uint8_t *p, uint64_t at, size_t size)
{
    (void)size;
    uint64_t seed = at;
    uint64_t bit = rng_below(&seed, SECTOR * 8);
    p[at + bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static void swap_with_next(uint8_t *p, uint64_t at, size_t size)
{
    uint8_t keep[SECTOR];
    if (at + 2 * SECTOR <= size) {
        memcpy(keep, p + at, SECTOR);
        memcpy(p + at, p + at + SECTOR, SECTOR);
        memcpy(p + at + SECTOR, keep, SECTOR);
    }
}

static void copy_from_before(uint8_t *p, uint64_t at, size_t size)
{
    (void)size;
    if (at >= SECTOR) {
        memcpy(p + at, p + at - SECTOR, SECTOR);
    }
}

static void garbage(uint8_t *p, uint64_t at, size_t size)
{
    (void)size;
    uint64_t seed = at;
    for (size_t i = 0; i < SECTOR; i++) {
        p[at + i] = (uint8_t)rng_next(&seed);
    }
}

static void zero_page_of(uint8_t *p, uint64_t at, size_t size)
{
    at &= ~(uint64_t)(WAL_PAGE_BYTES - 1);
    memset(p + at, 0, at + WAL_PAGE_BYTES > size ? size - (size_t)at : WAL_PAGE_BYTES);
}

static void expect_corrupt(struct victim *t, const char *segment, const char *what, uint64_t at)
{
    struct vfs *v = image_disk(&t->image);
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct err_ctx ec;
    struct wal *w = NULL;
    enum err e = wal_open(&cfg, NULL, &w, NULL, &ec);
    if (e != ERR_CORRUPT) {
        fail_msg("%s, %s at byte %llu: %s", segment, what, (unsigned long long)at, err_text(e));
    }
    assert_non_null(strstr(ec.text, ".seg: byte "));
    assert_null(w);
    /* The evidence is untouched. */
    struct image after;
    image_take(&after, v);
    for (size_t i = 0; i < t->image.n; i++) {
        const struct bytes *was = &t->image.files[i].content;
        const struct bytes *is = image_file(&after, t->image.files[i].name);
        assert_true(was->len == is->len &&
                    (was->len == 0 || memcmp(was->data, is->data, was->len) == 0));
    }
    image_deinit(&after);
    vfs_mem_destroy(&v);
}

static void damage_to_durable_bytes_is_told(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        void (*damage)(uint8_t *p, uint64_t at, size_t size);
    } rows[] = {
        {"a sector of zeroes", set_zero},        {"a flipped bit", flip_bit},
        {"two sectors swapped", swap_with_next}, {"a sector written twice", copy_from_before},
        {"a sector of garbage", garbage},        {"a page of zeroes", zero_page_of},
    };
    static const char *const segments[] = {"0000000000000001.seg", "0000000000000002.seg",
                                           "0000000000000003.seg"};
    struct victim t;
    victim_init(&t);
    for (size_t s = 0; s < 3; s++) {
        struct bytes *b = image_file(&t.image, segments[s]);
        struct bytes sound = {0};
        bytes_add(&sound, b->data, b->len);
        uint64_t end = s == 2 ? t.end : b->len;
        unsigned n_told = 0;
        for (size_t r = 0; r < sizeof rows / sizeof rows[0]; r++) {
            for (uint64_t at = 0; at + SECTOR <= end + SECTOR - 1 && at + SECTOR <= b->len;
                 at += SECTOR) {
                rows[r].damage(b->data, at, b->len);
                /* Behind the end of a sealed segment nothing is kept. */
                if (memcmp(b->data, sound.data, s == 2 ? t.end : b->len - 4096) != 0) {
                    expect_corrupt(&t, segments[s], rows[r].name, at);
                    n_told++;
                }
                memcpy(b->data, sound.data, b->len);
            }
        }
        assert_true(n_told > 100);
        bytes_deinit(&sound);
    }
    victim_deinit(&t);
}

/* As a process that was killed leaves it: no mark at the end. What the last batch vouches for is
 * safe. */
static void a_later_batch_vouches_for_earlier_ones(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct wal *w = must_create(&cfg);
    struct victim t = {0};
    uint64_t ends[12];
    for (uint64_t i = 0; i < 12; i++) {
        must_append(w, &t.all, 1 + i, 1, 1, 700);
        ends[i] = w->offset;
    }
    image_take(&t.image, v);
    struct bytes *b = image_file(&t.image, "0000000000000001.seg");
    for (uint64_t at = WAL_SEGMENT_HEAD_BYTES; at < ends[10]; at += 8) {
        uint64_t keep = wal_get_u64(b->data + at);
        if (keep != 0) {
            wal_put_u64(b->data + at, 0);
            expect_corrupt(&t, "0000000000000001.seg", "8 bytes of zeroes", at);
            wal_put_u64(b->data + at, keep);
        }
    }
    wal_close(&w);
    victim_deinit(&t);
    vfs_mem_destroy(&v);
}

/* In a log of one segment, opened before and killed: the mark of wal_open vouches. */
static void opening_vouches_for_what_it_found(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct victim t = {0};
    struct wal *w = must_create(&cfg);
    must_append(w, &t.all, 1, 3, 1, 700);
    uint64_t end = w->offset;
    struct image killed;
    image_take(&killed, v);
    wal_close(&w);
    vfs_mem_destroy(&v);
    v = image_disk(&killed);
    cfg.vfs = v;
    w = must_open(&cfg, &t.all, 1);
    image_take(&t.image, v);
    struct bytes *b = image_file(&t.image, "0000000000000001.seg");
    for (uint64_t at = WAL_SEGMENT_HEAD_BYTES; at < end; at += SECTOR) {
        struct bytes sound = {0};
        bytes_add(&sound, b->data, b->len);
        zero_page_of(b->data, at, b->len);
        expect_corrupt(&t, "0000000000000001.seg", "a page of zeroes", at);
        memcpy(b->data, sound.data, b->len);
        bytes_deinit(&sound);
    }
    wal_close(&w);
    image_deinit(&killed);
    victim_deinit(&t);
    vfs_mem_destroy(&v);
}

static void a_newer_version_is_not_taken_for_damage(void **state)
{
    (void)state;
    struct victim t;
    victim_init(&t);
    struct bytes *b = image_file(&t.image, "0000000000000003.seg");
    wal_put_u32(b->data + 8, WAL_VERSION + 1);
    wal_put_u32(b->data + WAL_SEGMENT_HEAD_BYTES - 4,
                crc32c(0, b->data, WAL_SEGMENT_HEAD_BYTES - 4));
    struct vfs *v = image_disk(&t.image);
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct err_ctx ec;
    struct wal *w = NULL;
    assert_int_equal(wal_open(&cfg, NULL, &w, NULL, &ec), ERR_UNSUPPORTED);
    vfs_mem_destroy(&v);
    victim_deinit(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_to_durable_bytes_is_told),
        cmocka_unit_test(a_later_batch_vouches_for_earlier_ones),
        cmocka_unit_test(opening_vouches_for_what_it_found),
        cmocka_unit_test(a_newer_version_is_not_taken_for_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
