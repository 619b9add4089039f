/* test_watch_match.c - the matcher against a plain walk over all ranges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>

#include "base/assert.h"
#include "engine/watch_match.h"

#define N_GROUPS 400
#define KEY_BYTES_MAX 4

struct row {
    struct watch_group *g; /* NULL: not there */
    uint8_t key[KEY_BYTES_MAX], end[KEY_BYTES_MAX];
    size_t key_len, end_len;
    unsigned hits;
};

struct hits {
    struct row *rows;
    size_t n;
};

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static size_t random_key(uint64_t *rng, uint8_t *out)
{
    static const uint8_t letters[] = {0x00, 'a', 'b', 'c', 0xff};
    size_t len = next_random(rng) % (KEY_BYTES_MAX + 1);
    for (size_t i = 0; i < len; i++) {
        out[i] = letters[next_random(rng) % sizeof(letters)];
    }
    return len;
}

static bool contains(const struct row *r, struct slice key)
{
    struct slice from = slice_of(r->key, r->key_len);
    struct slice end = slice_of(r->end, r->end_len);
    if (end.len == 0) {
        return slice_eq(from, key);
    }
    bool endless = end.len == 1 && end.data[0] == 0;
    return slice_cmp(from, key) <= 0 && (endless || slice_cmp(key, end) < 0);
}

static void count_hit(void *arg, struct watch_group *g)
{
    struct hits *h = arg;
    for (size_t i = 0; i < h->n; i++) {
        if (h->rows[i].g == g) {
            h->rows[i].hits++;
            return;
        }
    }
    fail_msg("an unknown group");
}

/* Of equal ranges only the first row owns the group. */
static void set_row(struct watch_matcher *m, struct row *rows, size_t at, uint64_t *rng)
{
    struct row *r = &rows[at];
    r->key_len = random_key(rng, r->key);
    r->end_len = next_random(rng) % 3 == 0 ? 0 : random_key(rng, r->end);
    struct watch_group *g =
        watch_matcher_group(m, slice_of(r->key, r->key_len), slice_of(r->end, r->end_len));
    for (size_t i = 0; i < N_GROUPS; i++) {
        if (rows[i].g == g) {
            assert_true(
                slice_eq(slice_of(rows[i].key, rows[i].key_len), slice_of(r->key, r->key_len)));
            assert_true(
                slice_eq(slice_of(rows[i].end, rows[i].end_len), slice_of(r->end, r->end_len)));
            return;
        }
    }
    r->g = g;
}

static void forget(void *arg, struct watch_group *g)
{
    (void)g;
    (*(size_t *)arg)++;
}

static void stabs_equal_a_walk_over_all_ranges(void **state)
{
    (void)state;
    static struct row rows[N_GROUPS];
    struct watch_matcher *m = watch_matcher_create();
    uint64_t rng = 4711;
    for (unsigned step = 0; step < 6000; step++) {
        size_t at = next_random(&rng) % N_GROUPS;
        if (rows[at].g != NULL) {
            watch_matcher_remove(m, &rows[at].g);
            assert_null(rows[at].g);
        } else {
            set_row(m, rows, at, &rng);
        }
        uint8_t key[KEY_BYTES_MAX];
        struct slice k = slice_of(key, random_key(&rng, key));
        struct hits h = {rows, N_GROUPS};
        watch_matcher_stab(m, k, count_hit, &h);
        size_t n = 0;
        for (size_t i = 0; i < N_GROUPS; i++) {
            n += rows[i].g != NULL ? 1 : 0;
            assert_int_equal(rows[i].hits, rows[i].g != NULL && contains(&rows[i], k) ? 1 : 0);
            rows[i].hits = 0;
        }
        assert_int_equal(watch_matcher_check(m), n);
    }
    size_t n_left = watch_matcher_check(m);
    size_t n_cleared = 0;
    watch_matcher_clear(m, forget, &n_cleared);
    assert_int_equal(n_cleared, n_left);
    assert_int_equal(watch_matcher_check(m), 0);
    watch_matcher_destroy(&m);
    assert_null(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(stabs_equal_a_walk_over_all_ranges)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
