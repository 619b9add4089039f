/* test_index_cases.c - the key index: what compaction keeps, edges of cursors, memory given back;
 * and, when PINTLE_BENCH is set, figures for a million keys. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "engine/index.h"

static const struct slice no_bound = {NULL, 0};

static struct key_version put_at(int64_t main)
{
    return (struct key_version){
        .mod = {main, 0}, .create_revision = main, .version = 1, .kv_bytes = 100};
}

/* --- compaction ------------------------------------------------------------------------------- */

/* Changes of one key, a character for each revision from 1 on: p a put, d a deletion, . nothing.
 * What reads at each revision find afterwards: the digit of a put's revision, the letter of a
 * deletion's (a is 1), . for nothing. */
struct compaction {
    const char *name;
    const char *changes;
    int64_t c;
    const char *found;
    uint64_t keys;
    uint64_t old_versions;
};

static const struct compaction compactions[] = {
    {"nothing to drop", ".p...", 2, ".2222", 1, 0},
    {"the newest at or below C is kept", ".pp.p", 4, "..335", 1, 1},
    {"the newest at C itself is kept", ".ppp.", 3, "..344", 1, 1},
    {"everything above C is kept", ".pppp", 1, ".2345", 1, 3},
    {"a key made after C", "....p", 2, "....5", 1, 0},
    {"a tombstone below C goes with its key", ".pd..", 4, ".....", 0, 0},
    {"a tombstone at C stays", ".p.d.", 4, "...dd", 1, 0},
    {"a tombstone above C stays with what it deleted", ".pp.d", 4, "..33e", 1, 1},
    {"a dead generation below C goes, the new one stays", ".pd.p", 4, "....5", 1, 0},
    {"a dead generation that ended at C leaves its tombstone", ".p.dp", 4, "...d5", 1, 1},
    {"two dead generations", ".pdpd..", 6, ".......", 0, 0},
    {"the last change is a put below C", "pdp....", 6, "..33333", 1, 0},
    {"compaction beyond the newest change", ".pp", 9, "..3", 1, 0},
};

static void make_changes(struct index *x, struct slice key, const char *changes)
{
    for (int64_t main = 1; changes[main - 1] != '\0'; main++) {
        if (changes[main - 1] == 'p') {
            struct key_version v = put_at(main);
            index_put(x, key, &v);
        } else if (changes[main - 1] == 'd') {
            index_tombstone(x, key, (struct rev){main, 0});
        }
    }
}

static void compaction_keeps(void **state)
{
    const struct compaction *row = *state;
    struct index *x = index_create();
    struct slice key = slice_str("key");
    make_changes(x, key, row->changes);
    index_compact_begin(x, row->c);
    while (!index_compact_step(x, 1)) {
    }
    assert_true(index_compact_step(x, 1));
    char found[16] = {0};
    for (size_t i = 0; row->changes[i] != '\0'; i++) {
        struct key_version v;
        found[i] = '.';
        if (index_version_at(x, key, (int64_t)i + 1, &v)) {
            found[i] = (char)((v.tombstone ? 'a' - 1 : '0') + v.mod.main);
        }
    }
    assert_string_equal(found, row->found);
    assert_int_equal(index_stats(x).keys, row->keys);
    assert_int_equal(index_stats(x).old_versions, row->old_versions);
    index_check(x);
    index_destroy(&x);
}

/* --- cursors ---------------------------------------------------------------------------------- */

struct range {
    const char *name;
    const char *from; /* NULL: the beginning */
    const char *to;   /* NULL: the end */
    const char *want;
};

static const struct range ranges[] = {
    {"all", NULL, NULL, "a b ba c "},
    {"from a key", "b", NULL, "b ba c "},
    {"behind a key", "b!", NULL, "ba c "},
    {"behind the last", "d", NULL, ""},
    {"up to a key", NULL, "c", "a b ba "},
    {"between", "aa", "bb", "b ba "},
    {"of nothing", "b", "b", ""},
    {"turned round", "c", "a", ""},
    {"to the empty key", NULL, "", ""},
};

static void cursor_gives(void **state)
{
    const struct range *row = *state;
    struct index *x = index_create();
    static const char *const keys[] = {"c", "a", "ba", "dead", "b"};
    int64_t main = 1;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        struct key_version v = put_at(++main);
        index_put(x, slice_str(keys[i]), &v);
    }
    index_tombstone(x, slice_str("dead"), (struct rev){++main, 0});
    struct slice from = row->from == NULL ? no_bound : slice_str(row->from);
    struct slice to = row->to == NULL ? no_bound : slice_str(row->to);
    struct index_cursor c;
    index_cursor_init(&c, x, from, to, INDEX_LATEST);
    struct bytes got = {0};
    struct slice key;
    struct key_version v;
    int64_t n = 0;
    while (index_cursor_next(&c, &key, &v)) {
        bytes_add(&got, key.data, key.len);
        bytes_add_str(&got, " ");
        n++;
    }
    assert_false(index_cursor_next(&c, &key, &v));
    index_cursor_deinit(&c);
    bytes_add(&got, "", 1);
    assert_string_equal((const char *)got.data, row->want);
    assert_int_equal(index_count(x, from, to, INDEX_LATEST), n);
    bytes_deinit(&got);
    index_destroy(&x);
}

static void an_empty_index(void **state)
{
    (void)state;
    struct index *x = index_create();
    struct index_cursor c;
    struct slice key;
    struct key_version v;
    index_check(x);
    index_cursor_init(&c, x, no_bound, no_bound, INDEX_LATEST);
    assert_false(index_cursor_next(&c, &key, &v));
    v = put_at(2);
    index_put(x, slice_str("k"), &v);
    assert_true(index_cursor_next(&c, &key, &v)); /* found when the walk is resumed */
    index_cursor_deinit(&c);
    assert_false(index_get(x, slice_str("j"), INDEX_LATEST, &v));
    assert_false(index_get(x, slice_str("k"), 1, &v));
    assert_int_equal(index_count(x, no_bound, no_bound, 1), 0);
    index_destroy(&x);
    index_destroy(&x);
}

/* --- leaves whose keys share much ------------------------------------------------------------- */

#define SHARED_BYTES 500u

struct stranger {
    const char *name;
    size_t shared; /* bytes in common with the others */
    const char *rest;
};

static const struct stranger strangers[] = {
    {"a key before all that shares nothing", 0, "a"},
    {"a key behind all that shares nothing", 0, "z"},
    {"a key before all that shares half", SHARED_BYTES / 2, "a"},
    {"a key behind all that shares half", SHARED_BYTES / 2, "z"},
    {"a prefix of all", SHARED_BYTES / 2, ""},
    {"just the common prefix", SHARED_BYTES, ""},
};

/* With the stranger's prefix the leaf's keys would need ten leaves. */
static void a_stranger_comes(void **state)
{
    const struct stranger *row = *state;
    struct index *x = index_create();
    struct bytes key = {0};
    int64_t main = 1;
    struct key_version v;
    for (uint32_t n = 0; n < 2000; n++) {
        memset(bytes_reserve(&key, SHARED_BYTES), 'p', SHARED_BYTES);
        key.len = SHARED_BYTES;
        bytes_printf(&key, "%05u", n * 7919u % 2000u);
        v = put_at(++main);
        index_put(x, bytes_slice(&key), &v);
        if (n % 100 == 80) {
            key.len = row->shared;
            bytes_add_str(&key, row->rest);
            if (n > 100) {
                bytes_printf(&key, "-%u", n);
            }
            v = put_at(++main);
            index_put(x, bytes_slice(&key), &v);
            index_check(x);
            assert_true(index_get(x, bytes_slice(&key), INDEX_LATEST, &v));
        }
    }
    index_check(x);
    assert_int_equal(index_count(x, no_bound, no_bound, INDEX_LATEST), 2020);
    bytes_deinit(&key);
    index_destroy(&x);
}

/* --- memory given back ------------------------------------------------------------------------ */

#define MANY 200000u
#define LOG_BYTES_MAX (5u << 20) /* the log of creations and deletions may stay */

static void ascending_name(char *out, uint64_t i)
{
    (void)snprintf(out, 48, "/registry/pods/default/%016llx-", (unsigned long long)i);
}

static void random_name(char *out, uint64_t i)
{
    uint64_t z = (i + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 29)) * 0xbf58476d1ce4e5b9u; /* both steps can be undone: names differ */
    (void)snprintf(out, 48, "/registry/pods/default/%016llx-", (unsigned long long)(z ^ (z >> 32)));
}

struct naming {
    void (*name)(char *out, uint64_t i);
};

static const struct naming ascending = {ascending_name};
static const struct naming random_order = {random_name};

static void compact_to(struct index *x, int64_t c)
{
    index_compact_begin(x, c);
    while (!index_compact_step(x, 1000)) {
    }
}

/* More creations than the log holds: counts at any revision are right all the same. */
static void assert_counts(const struct index *x)
{
    for (int64_t at = 1; at <= (int64_t)MANY + 1; at += MANY / 40) {
        assert_int_equal(index_count(x, no_bound, no_bound, at), at - 1);
    }
}

static void deleted_keys_give_their_memory_back(void **state)
{
    const struct naming *naming = *state;
    void (*key_name)(char *, uint64_t) = naming->name;
    struct index *x = index_create();
    uint64_t empty = index_stats(x).bytes;
    int64_t main = 1;
    char name[48];
    for (uint64_t i = 0; i < MANY; i++) {
        key_name(name, i);
        struct key_version v = put_at(++main);
        index_put(x, slice_str(name), &v);
    }
    index_check(x);
    assert_counts(x);
    for (uint64_t i = 0; i < MANY; i++) {
        key_name(name, i);
        if (i % 10 != 0) {
            index_tombstone(x, slice_str(name), (struct rev){++main, 0});
        }
    }
    compact_to(x, main + 1);
    index_check(x);
    assert_int_equal(index_stats(x).keys, MANY / 10);
    assert_int_equal(index_stats(x).old_versions, 0);
    assert_in_range(index_stats(x).bytes, empty, empty + LOG_BYTES_MAX + MANY / 10 * 90);
    for (uint64_t i = 0; i < MANY; i += 10) {
        key_name(name, i);
        index_tombstone(x, slice_str(name), (struct rev){++main, 0});
    }
    compact_to(x, main + 1);
    index_check(x);
    assert_int_equal(index_stats(x).keys, 0);
    assert_in_range(index_stats(x).bytes, empty, empty + LOG_BYTES_MAX);
    struct key_version v = put_at(++main);
    index_put(x, slice_str("again"), &v);
    assert_int_equal(index_count(x, no_bound, no_bound, main), 1);
    index_destroy(&x);
}

/* --- figures ---------------------------------------------------------------------------------- */

#define BENCH_KEYS 1000000u
#define BENCH_KEY_BYTES 40u

struct bench {
    struct index *x;
    uint8_t (*keys)[BENCH_KEY_BYTES];
    int64_t main;
    uint64_t sum; /* keeps the work from being optimised away */
};

static struct slice bench_key(const struct bench *b, uint64_t i)
{
    return slice_of(b->keys[i % BENCH_KEYS], BENCH_KEY_BYTES);
}

static void bench_put(struct bench *b, uint64_t i)
{
    struct key_version v = put_at(++b->main);
    index_put(b->x, bench_key(b, i), &v);
}

static void bench_get(struct bench *b, uint64_t i)
{
    struct key_version v;
    b->sum += index_get(b->x, bench_key(b, i * 7 + 3), INDEX_LATEST, &v);
}

static void bench_count(struct bench *b, uint64_t i)
{
    b->sum += (uint64_t)index_count(b->x, bench_key(b, i), no_bound, INDEX_LATEST);
}

static void bench_count_before(struct bench *b, uint64_t i)
{
    (void)i;
    b->sum += (uint64_t)index_count(b->x, no_bound, no_bound, b->main - 1000);
}

static void bench_walk(struct bench *b, uint64_t i)
{
    (void)i;
    struct index_cursor c;
    struct slice key;
    struct key_version v;
    index_cursor_init(&c, b->x, no_bound, no_bound, INDEX_LATEST);
    while (index_cursor_next(&c, &key, &v)) {
        b->sum += key.len;
    }
    index_cursor_deinit(&c);
}

static void bench_delete(struct bench *b, uint64_t i)
{
    index_tombstone(b->x, bench_key(b, i), (struct rev){++b->main, 0});
}

static void bench_compact(struct bench *b, uint64_t i)
{
    (void)i;
    compact_to(b->x, b->main + 1);
}

static void bench_phase(struct bench *b, const char *name, void (*one)(struct bench *, uint64_t),
                        uint64_t n, uint64_t per)
{
    uint64_t start = clock_now_ns(clock_real());
    for (uint64_t i = 0; i < n; i++) {
        one(b, i);
    }
    uint64_t ns = clock_now_ns(clock_real()) - start;
    struct index_stats s = index_stats(b->x);
    print_message("%-44s %8.1f ns  (keys %llu, old versions %llu, %.1f MB)\n", name,
                  (double)ns / (double)per, (unsigned long long)s.keys,
                  (unsigned long long)s.old_versions, (double)s.bytes / 1e6);
}

static void figures(void **state)
{
    (void)state;
    if (getenv("PINTLE_BENCH") == NULL) {
        skip();
    }
    struct bench b = {.x = index_create(), .main = 1};
    b.keys = xalloc((size_t)BENCH_KEYS * BENCH_KEY_BYTES);
    for (uint64_t i = 0; i < BENCH_KEYS; i++) {
        char name[48];
        random_name(name, i);
        memcpy(b.keys[i], name, BENCH_KEY_BYTES);
    }
    uint64_t empty = index_stats(b.x).bytes;
    bench_phase(&b, "first put of a key, random order", bench_put, BENCH_KEYS, BENCH_KEYS);
    print_message("memory per key of %u bytes: %.1f\n", BENCH_KEY_BYTES,
                  (double)(index_stats(b.x).bytes - empty) / (double)BENCH_KEYS);
    bench_phase(&b, "get", bench_get, BENCH_KEYS, BENCH_KEYS);
    bench_phase(&b, "cursor step", bench_walk, 10, 10ull * BENCH_KEYS);
    bench_phase(&b, "count to the end", bench_count, BENCH_KEYS, BENCH_KEYS);
    bench_phase(&b, "count 1000 creations ago", bench_count_before, 1000, 1000);
    bench_phase(&b, "second put of a key", bench_put, BENCH_KEYS, BENCH_KEYS);
    bench_phase(&b, "compaction, per key", bench_compact, 1, BENCH_KEYS);
    bench_phase(&b, "third put of a key", bench_put, BENCH_KEYS, BENCH_KEYS);
    bench_phase(&b, "compaction, per key", bench_compact, 1, BENCH_KEYS);
    bench_phase(&b, "deletion", bench_delete, BENCH_KEYS, BENCH_KEYS);
    bench_phase(&b, "compaction, all dead, per key", bench_compact, 1, BENCH_KEYS);
    assert_int_equal(index_stats(b.x).keys, 0);
    free(b.keys);
    index_destroy(&b.x);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(compactions) + ARRAY_LEN(ranges) + ARRAY_LEN(strangers) + 4];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(compactions); i++) {
        tests[n++] = (struct CMUnitTest){compactions[i].name, compaction_keeps, NULL, NULL,
                                         (void *)(uintptr_t)&compactions[i]};
    }
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        tests[n++] = (struct CMUnitTest){ranges[i].name, cursor_gives, NULL, NULL,
                                         (void *)(uintptr_t)&ranges[i]};
    }
    for (size_t i = 0; i < ARRAY_LEN(strangers); i++) {
        tests[n++] = (struct CMUnitTest){strangers[i].name, a_stranger_comes, NULL, NULL,
                                         (void *)(uintptr_t)&strangers[i]};
    }
    tests[n++] = (struct CMUnitTest){"an empty index", an_empty_index, NULL, NULL, NULL};
    tests[n++] = (struct CMUnitTest){"keys in random order, deleted, give their memory back",
                                     deleted_keys_give_their_memory_back, NULL, NULL,
                                     (void *)(uintptr_t)&random_order};
    tests[n++] = (struct CMUnitTest){"keys in ascending order, deleted, give their memory back",
                                     deleted_keys_give_their_memory_back, NULL, NULL,
                                     (void *)(uintptr_t)&ascending};
    tests[n++] = (struct CMUnitTest){"figures", figures, NULL, NULL, NULL};
    return cmocka_run_group_tests_name("index cases", tests, NULL, NULL);
}
