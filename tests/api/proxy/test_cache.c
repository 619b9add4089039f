/* What the cache gives again, to whom, and what makes it forget. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/proxy/cache.h"
#include "api/proxy/limits.h"
#include "base/assert.h"
#include "base/mem.h"

static struct cache_read read_of(const char *key, const char *end)
{
    return (struct cache_read){.request = slice_str(key), .key = slice_str(key), .end = slice_str(end)};
}

static int setup(void **state)
{
    *state = cache_create();
    return 0;
}

static int teardown(void **state)
{
    struct cache *c = *state;
    cache_destroy(&c);
    return 0;
}

static bool has(struct cache *c, const struct cache_read *r, const char *want)
{
    struct slice answer;
    return cache_get(c, r, &answer) == OK && slice_eq(answer, slice_str(want));
}

static const struct {
    const char *claim;
    const char *key, *end;             /* what was read */
    const char *write_key, *write_end; /* what is written */
    bool stays;
} writes[] = {
    {"the key itself", "k", "", "k", "", false},
    {"another key", "k", "", "l", "", true},
    {"a longer key", "k", "", "kk", "", true},
    {"the first key of the range", "b", "d", "b", "", false},
    {"a key within the range", "b", "d", "c", "", false},
    {"the end is outside", "b", "d", "d", "", true},
    {"before the range", "b", "d", "a", "", true},
    {"a delete over the key", "b", "", "a", "c", false},
    {"a delete up to the key", "b", "", "a", "b", true},
    {"a delete that overlaps", "b", "d", "c", "e", false},
    {"a delete before", "b", "d", "a", "b", true},
    {"a delete behind", "b", "d", "d", "e", true},
};

static void test_writes(void **state)
{
    struct cache *c = *state;
    for (size_t i = 0; i < ARRAY_LEN(writes); i++) {
        struct cache_read r = read_of(writes[i].key, writes[i].end);
        cache_put(c, &r, 5, slice_str("answer"));
        cache_drop(c, slice_str(writes[i].write_key), slice_str(writes[i].write_end));
        if (has(c, &r, "answer") != writes[i].stays) {
            fail_msg("%s", writes[i].claim);
        }
        cache_drop(c, slice_of("\0", 1), slice_of("\0", 1));
        assert_int_equal(cache_size(c), 0);
    }
}

static void test_open_end(void **state)
{
    struct cache *c = *state;
    struct cache_read r = read_of("k", "");
    r.end = slice_of("\0", 1);
    cache_put(c, &r, 5, slice_str("all"));
    cache_drop(c, slice_str("a"), slice_str(""));
    assert_true(has(c, &r, "all"));
    cache_drop(c, slice_str("z"), slice_str(""));
    assert_false(has(c, &r, "all"));
}

static void test_tokens_are_apart(void **state)
{
    struct cache *c = *state;
    struct cache_read mine = read_of("k", "");
    struct cache_read theirs = mine;
    mine.token = slice_str("me");
    theirs.token = slice_str("them");
    cache_put(c, &mine, 5, slice_str("secret"));
    assert_true(has(c, &mine, "secret"));
    assert_false(has(c, &theirs, "secret"));
}

static void test_late_answers(void **state)
{
    struct cache *c = *state;
    struct cache_read r = read_of("k", "");
    cache_wrote(c, 7);
    cache_put(c, &r, 6, slice_str("old")); /* read before the write, come back after it */
    assert_int_equal(cache_size(c), 0);
    cache_put(c, &r, 7, slice_str("new"));
    assert_true(has(c, &r, "new"));
}

static void test_compaction(void **state)
{
    struct cache *c = *state;
    struct cache_read old = read_of("k", "");
    struct cache_read now = read_of("k2", "");
    struct slice answer;
    old.revision = 3;
    cache_put(c, &old, 9, slice_str("then"));
    cache_put(c, &now, 9, slice_str("now"));
    cache_drop(c, slice_str("k"), slice_str("")); /* what was at a revision stays as it was */
    assert_true(has(c, &old, "then"));
    cache_compact(c, 5);
    assert_int_equal(cache_get(c, &old, &answer), ERR_COMPACTED);
    assert_true(has(c, &now, "now"));
    cache_put(c, &old, 9, slice_str("then"));
    assert_int_equal(cache_size(c), 1);
    cache_compact(c, 2); /* never back */
    assert_int_equal(cache_get(c, &old, &answer), ERR_COMPACTED);
}

static void test_bounds(void **state)
{
    struct cache *c = *state;
    char key[16];
    struct cache_read first = read_of("0", "");
    cache_put(c, &first, 1, slice_str("x"));
    for (unsigned i = 1; i <= PROXY_CACHE_ENTRIES_MAX; i++) {
        (void)snprintf(key, sizeof(key), "%u", i);
        struct cache_read r = read_of(key, "");
        if (i == PROXY_CACHE_ENTRIES_MAX) {
            assert_true(has(c, &first, "x")); /* used just now: the next one is the oldest */
        }
        cache_put(c, &r, 1, slice_str("y"));
    }
    assert_int_equal(cache_size(c), PROXY_CACHE_ENTRIES_MAX);
    assert_true(has(c, &first, "x"));
    struct cache_read second = read_of("1", "");
    assert_false(has(c, &second, "y"));

    struct slice large = {xcalloc(1, PROXY_CACHE_ENTRY_BYTES_MAX), PROXY_CACHE_ENTRY_BYTES_MAX};
    cache_put(c, &first, 1, large);
    assert_false(has(c, &first, "x")); /* neither the old answer nor the large one */
    large.len -= 16;
    for (unsigned i = 0; i < 2 * PROXY_CACHE_BYTES_MAX / PROXY_CACHE_ENTRY_BYTES_MAX; i++) {
        (void)snprintf(key, sizeof(key), "%u", i);
        struct cache_read r = read_of(key, "");
        cache_put(c, &r, 1, large);
    }
    assert_in_range(cache_size(c), 1, PROXY_CACHE_BYTES_MAX / PROXY_CACHE_ENTRY_BYTES_MAX + 1);
    free((void *)(uintptr_t)large.data);
}

static void test_clear(void **state)
{
    struct cache *c = *state;
    struct cache_read r = read_of("k", "");
    struct cache_read old = read_of("o", "");
    old.revision = 3;
    cache_put(c, &r, 5, slice_str("x"));
    cache_put(c, &old, 5, slice_str("x"));
    cache_clear(c);
    assert_int_equal(cache_size(c), 0);
    cache_put(c, &old, 9, slice_str("x")); /* asked before, come back after it */
    assert_false(has(c, &old, "x"));
    old.era = cache_era(c);
    cache_put(c, &old, 9, slice_str("x"));
    assert_true(has(c, &old, "x"));
}

/* --- against a cache that looks through all it has ----------------------------------------------------------------- */

#define MODEL_ROUNDS 60000u
#define MODEL_MAX PROXY_CACHE_ENTRIES_MAX

struct kept {
    unsigned name; /* the request is its number; all else follows from it */
    unsigned answer;
    uint64_t used;
};

struct model {
    struct kept rows[MODEL_MAX];
    size_t n;
    uint64_t clock;
};

static uint32_t next_random(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(*seed >> 33);
}

struct named {
    char request[16], key[8], end[8];
};

/* One in eight is of a revision; half are ranges, of which few are large. */
static struct cache_read name_to_read(unsigned name, struct named *n)
{
    unsigned key = name % 997;
    unsigned to = name % 64 == 3 ? 2000 : key + name % 7;
    (void)snprintf(n->request, sizeof(n->request), "%u", name);
    (void)snprintf(n->key, sizeof(n->key), "%04u", key);
    (void)snprintf(n->end, sizeof(n->end), "%04u", to);
    struct cache_read r = {.request = slice_str(n->request), .key = slice_str(n->key), .token = slice_str(name % 3 == 0 ? "me" : "")};
    if (name % 2 == 1) {
        r.end = name % 63 == 1 ? slice_of("\0", 1) : slice_str(n->end);
    }
    r.revision = name % 8 == 0 ? 5 : 0;
    return r;
}

static size_t model_find(const struct model *m, unsigned name)
{
    size_t i = 0;
    while (i < m->n && m->rows[i].name != name) {
        i++;
    }
    return i;
}

static void model_put(struct model *m, unsigned name, unsigned answer)
{
    size_t i = model_find(m, name);
    if (i == m->n && m->n == MODEL_MAX) {
        i = 0;
        for (size_t k = 1; k < m->n; k++) {
            i = m->rows[k].used < m->rows[i].used ? k : i;
        }
    } else if (i == m->n) {
        m->n++;
    }
    m->rows[i] = (struct kept){name, answer, ++m->clock};
}

static bool is_over(struct slice begin, struct slice end, struct slice key)
{
    if (end.len == 0) {
        return slice_cmp(key, begin) > 0;
    }
    return !(end.len == 1 && end.data[0] == 0) && slice_cmp(key, end) >= 0;
}

static void model_drop(struct model *m, struct slice key, struct slice end)
{
    for (size_t i = m->n; i > 0; i--) {
        struct named n;
        struct cache_read r = name_to_read(m->rows[i - 1].name, &n);
        if (r.revision == 0 && !is_over(r.key, r.end, key) && !is_over(key, end, r.key)) {
            m->rows[i - 1] = m->rows[--m->n];
        }
    }
}

static void model_get(struct model *m, struct cache *c, unsigned name)
{
    struct named n;
    struct cache_read r = name_to_read(name, &n);
    size_t i = model_find(m, name);
    struct slice answer;
    enum err e = cache_get(c, &r, &answer);
    assert_int_equal(e, i < m->n ? OK : ERR_NOT_FOUND);
    if (e == OK) {
        char want[16];
        (void)snprintf(want, sizeof(want), "%u", m->rows[i].answer);
        assert_true(slice_eq(answer, slice_str(want)));
        m->rows[i].used = ++m->clock;
    }
}

static void test_like_a_list(void **state)
{
    struct cache *c = *state;
    struct model *m = xcalloc(1, sizeof(*m));
    uint64_t seed = 11;
    size_t most = 0;
    for (unsigned round = 0; round < MODEL_ROUNDS; round++) {
        unsigned name = next_random(&seed) % 6000;
        struct named n;
        struct cache_read r = name_to_read(name, &n);
        switch (next_random(&seed) % 512) {
        case 0: /* over some; all but those of a revision, at last */
            r.end = round > MODEL_ROUNDS - 2000 ? slice_of("\0", 1) : slice_str(n.end);
            __attribute__((fallthrough));
        case 1:
        case 2:
            cache_drop(c, r.key, r.end);
            model_drop(m, r.key, r.end);
            break;
        default:
            if (next_random(&seed) % 4 == 0) {
                model_get(m, c, name);
                break;
            }
            char answer[16];
            (void)snprintf(answer, sizeof(answer), "%u", round);
            cache_put(c, &r, 1, slice_str(answer));
            model_put(m, name, round);
            break;
        }
        most = m->n > most ? m->n : most;
        assert_int_equal(cache_size(c), m->n);
    }
    assert_int_equal(most, MODEL_MAX); /* or making room was not tried */
    for (unsigned name = 0; name < 6000; name++) {
        model_get(m, c, name);
    }
    free(m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_writes, setup, teardown),       cmocka_unit_test_setup_teardown(test_open_end, setup, teardown),
        cmocka_unit_test_setup_teardown(test_tokens_are_apart, setup, teardown), cmocka_unit_test_setup_teardown(test_late_answers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_compaction, setup, teardown),   cmocka_unit_test_setup_teardown(test_bounds, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clear, setup, teardown),        cmocka_unit_test_setup_teardown(test_like_a_list, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
