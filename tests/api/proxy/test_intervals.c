/* What is taken out of the tree is what overlaps, in order, whatever was added and removed before. Against a list that is looked through. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/proxy/intervals.h"
#include "base/assert.h"

#define RANGES 400u
#define ROUNDS 40000u
#define DEEP 64u /* of 65,536 ranges in any order of keys */

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

struct row {
    struct interval i;
    bool in, taken;
    uint64_t at; /* when it was added */
    char key[4], end[4];
};

/* Up to three letters of three; "" at times. */
static struct slice draw(uint64_t *seed, char *to)
{
    size_t n = next_random(seed) % 4;
    for (size_t i = 0; i < n; i++) {
        to[i] = (char)('a' + next_random(seed) % 3);
    }
    return slice_of(to, n);
}

/* A key alone, all from a key on, or up to an end that may be before it. */
static struct slice draw_end(uint64_t *seed, char *to)
{
    switch (next_random(seed) % 6) {
    case 0:
        to[0] = '\0';
        return slice_of(to, 1);
    case 1:
    case 2:
        return slice_of(to, 0);
    default:
        return draw(seed, to);
    }
}

/* As etcd reads them: [k, x) and the key `at`. */
static bool is_behind_end(struct slice k, struct slice x, struct slice at)
{
    if (x.len == 0) {
        return slice_cmp(at, k) > 0;
    }
    return !(x.len == 1 && x.data[0] == 0) && slice_cmp(at, x) >= 0;
}

static bool overlap(const struct row *r, struct slice key, struct slice end)
{
    return !is_behind_end(r->i.key, r->i.end, key) && !is_behind_end(key, end, r->i.key);
}

static void take_and_compare(struct intervals *t, struct row *rows, struct slice key, struct slice end)
{
    const struct row *before = NULL;
    for (struct interval *i = intervals_take(t, key, end), *next; i != NULL; i = next) {
        next = i->right;
        struct row *r = CONTAINER_OF(i, struct row, i);
        assert_true(r->in && overlap(r, key, end));
        if (before != NULL) {
            int c = slice_cmp(before->i.key, r->i.key);
            assert_true(c < 0 || (c == 0 && before->at < r->at));
        }
        r->in = false;
        before = r;
    }
    for (size_t n = 0; n < RANGES; n++) {
        assert_false(rows[n].in && overlap(&rows[n], key, end));
    }
}

static void test_like_a_list(void **state)
{
    (void)state;
    static struct row rows[RANGES];
    for (uint64_t begin = 1; begin <= 3; begin++) {
        struct intervals t = {0};
        uint64_t seed = begin;
        memset(rows, 0, sizeof(rows));
        for (uint64_t round = 0; round < ROUNDS; round++) {
            struct row *r = &rows[next_random(&seed) % RANGES];
            if (next_random(&seed) % 64 == 0) {
                char key[4];
                char end[4];
                struct slice k = draw(&seed, key);
                take_and_compare(&t, rows, k, draw_end(&seed, end));
            } else if (!r->in) {
                r->i = (struct interval){.key = draw(&seed, r->key), .end = draw_end(&seed, r->end)};
                r->at = round;
                r->in = true;
                intervals_add(&t, &r->i);
            } else if (next_random(&seed) % 4 == 0) {
                intervals_remove(&t, &r->i);
                r->in = false;
            }
        }
        take_and_compare(&t, rows, slice_of("", 0), slice_of("\0", 1));
        assert_null(t.root);
    }
}

static size_t depth(const struct interval *i)
{
    if (i == NULL) {
        return 0;
    }
    size_t left = depth(i->left);
    size_t right = depth(i->right);
    return 1 + (left > right ? left : right);
}

static void test_stays_flat(void **state)
{
    (void)state;
    enum { N = 65536 };
    static struct interval all[N];
    static char keys[N][8];
    static const unsigned steps[] = {1, N - 1, 40503}; /* up, down, here and there */
    for (size_t s = 0; s < ARRAY_LEN(steps); s++) {
        struct intervals t = {0};
        for (unsigned n = 0; n < N; n++) {
            (void)snprintf(keys[n], sizeof(keys[n]), "%05x", n * steps[s] % N);
            all[n] = (struct interval){.key = slice_of(keys[n], 5)};
            intervals_add(&t, &all[n]);
        }
        assert_in_range(depth(t.root), 17, DEEP);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_a_list),
        cmocka_unit_test(test_stays_flat),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
