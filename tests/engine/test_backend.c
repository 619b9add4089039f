/* test_backend.c - what every backend promises, asked of each of them: a random history against a
 * plain table, snapshots that stay, readers beside the writer. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/backend.h"

#define N_KEYS 300
#define N_SNAPSHOTS 6
#define VALUE_BYTES_MAX 9000u /* some values need pages of their own */
#define MAP_BYTES (1ull << 30)

struct fixture {
    bool lmdb;
    char dir[64];
    struct backend *b;
    struct err_ctx ec;
};

static void open_it(struct fixture *f)
{
    if (f->lmdb) {
        assert_int_equal(backend_lmdb_open(f->dir, MAP_BYTES, true, &f->b, &f->ec), OK);
    } else {
        f->b = backend_mem_create();
    }
}

static int set_up(void **state, bool lmdb)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    f->lmdb = lmdb;
    (void)snprintf(f->dir, sizeof(f->dir), "/tmp/pintle-backend-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    open_it(f);
    *state = f;
    return 0;
}

static int set_up_mem(void **state)
{
    return set_up(state, false);
}

static int set_up_lmdb(void **state)
{
    return set_up(state, true);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->b->ops->close(&f->b);
    assert_null(f->b);
    DIR *d = opendir(f->dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
        }
    }
    (void)closedir(d);
    assert_int_equal(rmdir(f->dir), 0);
    free(f);
    return 0;
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* The model: for each bucket and key the seed of its value; 0: absent. */
struct model {
    uint32_t seed[N_BUCKETS][N_KEYS];
};

static struct slice key_of(unsigned i, char text[16])
{
    return slice_of(text, (size_t)snprintf(text, 16, "k%05u", i * 7));
}

static size_t value_of(uint32_t seed, uint8_t *out)
{
    size_t len = seed % 8 == 0 ? seed % VALUE_BYTES_MAX : seed % 100;
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(seed + i * 31u);
    }
    return len;
}

static void assert_value(struct slice got, uint32_t seed)
{
    static _Thread_local uint8_t want[VALUE_BYTES_MAX];
    size_t len = value_of(seed, want);
    assert_int_equal(got.len, len);
    assert_true(len == 0 || memcmp(got.data, want, len) == 0);
}

static void put_seed(struct fixture *f, enum bucket k, unsigned i, uint32_t seed)
{
    uint8_t value[VALUE_BYTES_MAX];
    char text[16];
    size_t len = value_of(seed, value);
    size_t cut = len / 3;
    assert_int_equal(f->b->ops->put(f->b, k, key_of(i, text), slice_of(value, cut),
                                    slice_of(value + cut, len - cut), false, &f->ec),
                     OK);
}

static void assert_bucket(const struct backend_ops *ops, struct backend_read *r,
                          const uint32_t seeds[N_KEYS], enum bucket k, unsigned from)
{
    char text[16];
    struct backend_cursor *c = NULL;
    struct err_ctx ec;
    assert_int_equal(
        ops->cursor_open(r, k, from == 0 ? slice_str("") : key_of(from, text), &c, &ec), OK);
    struct slice key;
    struct slice value;
    for (unsigned i = from; i < N_KEYS; i++) {
        if (seeds[i] == 0) {
            continue;
        }
        assert_int_equal(ops->cursor_next(c, &key, &value), OK);
        assert_true(slice_eq(key, key_of(i, text)));
        assert_value(value, seeds[i]);
    }
    assert_int_equal(ops->cursor_next(c, &key, &value), ERR_END);
    assert_int_equal(ops->cursor_next(c, &key, &value), ERR_END);
    ops->cursor_close(&c);
    assert_null(c);
}

static void assert_read(struct backend *b, struct backend_read *r, const struct model *m)
{
    char text[16];
    for (unsigned k = 0; k < N_BUCKETS; k++) {
        assert_bucket(b->ops, r, m->seed[k], (enum bucket)k, 0);
        assert_bucket(b->ops, r, m->seed[k], (enum bucket)k, N_KEYS / 2);
        for (unsigned i = 0; i < N_KEYS; i += 17) {
            struct slice value;
            enum err e = b->ops->get(r, (enum bucket)k, key_of(i, text), &value);
            assert_int_equal(e, m->seed[k][i] == 0 ? ERR_NOT_FOUND : OK);
            if (e == OK) {
                assert_value(value, m->seed[k][i]);
            }
        }
    }
}

static void assert_now(struct fixture *f, const struct model *m)
{
    struct backend_read *r = NULL;
    assert_int_equal(f->b->ops->read_begin(f->b, &r, &f->ec), OK);
    assert_read(f->b, r, m);
    f->b->ops->read_end(&r);
    assert_null(r);
}

/* A few random puts and deletions within the open transaction. */
static void write_some(struct fixture *f, struct model *m, uint64_t *rng)
{
    char text[16];
    unsigned n = (unsigned)(next_random(rng) % 40);
    for (unsigned j = 0; j < n; j++) {
        unsigned k = (unsigned)(next_random(rng) % N_BUCKETS);
        unsigned i = (unsigned)(next_random(rng) % N_KEYS);
        if (next_random(rng) % 3 == 0) {
            m->seed[k][i] = 0;
            assert_int_equal(f->b->ops->del(f->b, (enum bucket)k, key_of(i, text), &f->ec), OK);
        } else {
            m->seed[k][i] = (uint32_t)(next_random(rng) | 1u);
            put_seed(f, (enum bucket)k, i, m->seed[k][i]);
        }
    }
}

struct snapshot {
    struct backend_read *r;
    struct model m;
};

static void snapshots_show_their_moment(void **state)
{
    struct fixture *f = *state;
    struct backend *b = f->b;
    struct model *m = xcalloc(1, sizeof(*m));
    struct model *before = xcalloc(1, sizeof(*before));
    struct snapshot *snaps = xcalloc(N_SNAPSHOTS, sizeof(*snaps));
    uint64_t rng = 20240607;
    for (unsigned round = 0; round < 150; round++) {
        *before = *m;
        assert_int_equal(b->ops->begin(b, &f->ec), OK);
        write_some(f, m, &rng);
        if (round % 9 == 0) {
            assert_now(f, before);
        }
        if (next_random(&rng) % 5 == 0) {
            b->ops->abort(b);
            *m = *before;
        } else {
            assert_int_equal(b->ops->commit(b, &f->ec), OK);
        }
        struct snapshot *s = &snaps[next_random(&rng) % N_SNAPSHOTS];
        if (s->r != NULL) {
            assert_read(b, s->r, &s->m);
            b->ops->read_end(&s->r);
        }
        if (round % 50 == 33) {
            assert_int_equal(b->ops->defrag(b, &f->ec), OK);
        }
        assert_int_equal(b->ops->read_begin(b, &s->r, &f->ec), OK);
        s->m = *m;
    }
    assert_now(f, m);
    for (size_t i = 0; i < N_SNAPSHOTS; i++) {
        if (snaps[i].r != NULL) {
            assert_read(b, snaps[i].r, &snaps[i].m);
            b->ops->read_end(&snaps[i].r);
        }
    }
    assert_int_equal(b->ops->stats(b).open_reads, 0);
    free(snaps);
    free(before);
    free(m);
}

static void content_outlives_the_handle(void **state)
{
    struct fixture *f = *state;
    struct model *m = xcalloc(1, sizeof(*m));
    uint64_t rng = 77;
    for (unsigned round = 0; round < 8; round++) {
        assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
        write_some(f, m, &rng);
        assert_int_equal(f->b->ops->commit(f->b, &f->ec), OK);
        if (round == 5) {
            assert_int_equal(f->b->ops->defrag(f->b, &f->ec), OK);
        }
        f->b->ops->close(&f->b);
        open_it(f);
        assert_now(f, m);
    }
    free(m);
}

static void a_big_bucket_is_appended_scanned_and_emptied(void **state)
{
    struct fixture *f = *state;
    const struct backend_ops *ops = f->b->ops;
    enum { N = 100000 };
    uint8_t key[8];
    int64_t bytes_full = 0;
    for (uint32_t i = 0; i < N; i++) {
        if (i % 10000 == 0) {
            assert_int_equal(ops->begin(f->b, &f->ec), OK);
        }
        for (unsigned j = 0; j < 8; j++) {
            key[j] = (uint8_t)((uint64_t)i >> (56 - 8 * j));
        }
        assert_int_equal(ops->put(f->b, BUCKET_KEY, slice_of(key, 8),
                                  slice_str("value of some length, "), slice_of(key, 8), true,
                                  &f->ec),
                         OK);
        if (i % 10000 == 9999) {
            assert_int_equal(ops->commit(f->b, &f->ec), OK);
        }
    }
    bytes_full = ops->stats(f->b).file_bytes;
    assert_true(bytes_full >= N * 38);
    struct backend_read *r = NULL;
    struct backend_cursor *c = NULL;
    assert_int_equal(ops->read_begin(f->b, &r, &f->ec), OK);
    assert_int_equal(ops->cursor_open(r, BUCKET_KEY, slice_str(""), &c, &f->ec), OK);
    struct slice k;
    struct slice v;
    size_t n = 0;
    while (ops->cursor_next(c, &k, &v) == OK) {
        assert_int_equal(v.len, 30);
        assert_memory_equal(v.data + 22, k.data, 8);
        n++;
    }
    assert_int_equal(n, N);
    ops->cursor_close(&c);
    ops->read_end(&r);
    assert_int_equal(ops->begin(f->b, &f->ec), OK);
    for (uint32_t i = 0; i < N; i++) {
        for (unsigned j = 0; j < 8; j++) {
            key[j] = (uint8_t)((uint64_t)i >> (56 - 8 * j));
        }
        assert_int_equal(ops->del(f->b, BUCKET_KEY, slice_of(key, 8), &f->ec), OK);
    }
    assert_int_equal(ops->commit(f->b, &f->ec), OK);
    assert_true(ops->stats(f->b).file_bytes >= bytes_full);
    assert_true(ops->stats(f->b).in_use_bytes < bytes_full);
    assert_int_equal(ops->defrag(f->b, &f->ec), OK);
    assert_true(ops->stats(f->b).file_bytes < bytes_full / 10);
}

/* --- readers beside the writer -------------------------------------------------------------------
 */

#define N_READERS 3
#define N_COMMITS 120
#define N_MIRRORED 40

struct race {
    struct backend *b;
    _Atomic bool stop;
    _Atomic uint64_t reads;
};

/* Every commit sets all mirrored keys to one number: a snapshot that mixes two is broken. */
static void *read_in_a_loop(void *arg)
{
    struct race *race = arg;
    const struct backend_ops *ops = race->b->ops;
    uint64_t last = 0;
    while (!atomic_load(&race->stop)) {
        struct backend_read *r = NULL;
        struct backend_cursor *c = NULL;
        struct err_ctx ec;
        ASSERT(ops->read_begin(race->b, &r, &ec) == OK);
        ASSERT(ops->cursor_open(r, BUCKET_KEY, slice_str(""), &c, &ec) == OK);
        struct slice k;
        struct slice v;
        uint64_t seen = 0;
        size_t n = 0;
        while (ops->cursor_next(c, &k, &v) == OK) {
            uint64_t x = 0;
            ASSERT(v.len == sizeof(x));
            memcpy(&x, v.data, sizeof(x));
            ASSERT(n == 0 || x == seen);
            seen = x;
            n++;
        }
        ASSERT(n == 0 || n == N_MIRRORED);
        ASSERT(seen >= last);
        last = seen;
        struct slice value;
        ASSERT((ops->get(r, BUCKET_META, slice_str("n"), &value) == OK) == (n > 0));
        ops->cursor_close(&c);
        ops->read_end(&r);
        (void)ops->stats(race->b);
        (void)atomic_fetch_add(&race->reads, 1);
    }
    return NULL;
}

static void readers_never_see_half_a_transaction(void **state)
{
    struct fixture *f = *state;
    const struct backend_ops *ops = f->b->ops;
    struct race race = {.b = f->b};
    pthread_t threads[N_READERS];
    for (size_t i = 0; i < N_READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_in_a_loop, &race), 0);
    }
    for (uint64_t n = 1; n <= N_COMMITS || atomic_load(&race.reads) < N_COMMITS; n++) {
        char text[16];
        assert_int_equal(ops->begin(f->b, &f->ec), OK);
        for (unsigned i = 0; i < N_MIRRORED; i++) {
            assert_int_equal(ops->put(f->b, BUCKET_KEY, key_of(i, text), slice_of(&n, 4),
                                      slice_of((uint8_t *)&n + 4, 4), false, &f->ec),
                             OK);
        }
        assert_int_equal(ops->put(f->b, BUCKET_META, slice_str("n"), slice_of(&n, sizeof(n)),
                                  slice_str(""), false, &f->ec),
                         OK);
        assert_int_equal(ops->commit(f->b, &f->ec), OK);
        if (n % 16 == 0) {
            assert_int_equal(ops->defrag(f->b, &f->ec), OK);
        }
    }
    atomic_store(&race.stop, true);
    for (size_t i = 0; i < N_READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_int_equal(ops->stats(f->b).open_reads, 0);
}

/* --- the memory backend's power cuts
 * -------------------------------------------------------------- */

static void a_power_cut_undoes_at_most_one_commit(void **state)
{
    struct fixture *f = *state;
    struct model m[4] = {0};
    uint64_t rng = 5;
    for (unsigned i = 1; i < 4; i++) {
        m[i] = m[i - 1];
        assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
        write_some(f, &m[i], &rng);
        assert_int_equal(f->b->ops->commit(f->b, &f->ec), OK);
    }
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
    struct model scratch = m[3];
    write_some(f, &scratch, &rng);
    backend_mem_crash(f->b, false);
    assert_now(f, &m[3]);
    backend_mem_crash(f->b, true); /* what was found once stays */
    assert_now(f, &m[3]);
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
    scratch = m[3];
    put_seed(f, BUCKET_META, 1, 12345);
    assert_int_equal(f->b->ops->commit(f->b, &f->ec), OK);
    assert_int_equal(f->b->ops->begin(f->b, &f->ec), OK);
    put_seed(f, BUCKET_META, 2, 12345);
    backend_mem_crash(f->b, true);
    assert_now(f, &m[3]);
    backend_mem_crash(f->b, true);
    assert_now(f, &m[3]);
}

static void buckets_have_etcds_names_in_order(void **state)
{
    (void)state;
    for (unsigned i = 1; i < N_BUCKETS; i++) {
        assert_true(strcmp(bucket_name((enum bucket)(i - 1)), bucket_name((enum bucket)i)) < 0);
    }
    assert_string_equal(bucket_name(BUCKET_MEMBERS_REMOVED), "members_removed");
}

#define BOTH(test)                                                                                 \
    {"mem: " #test, test, set_up_mem, tear_down, NULL},                                            \
    {                                                                                              \
        "lmdb: " #test, test, set_up_lmdb, tear_down, NULL                                         \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(buckets_have_etcds_names_in_order),
        BOTH(snapshots_show_their_moment),
        {"lmdb: content_outlives_the_handle", content_outlives_the_handle, set_up_lmdb, tear_down,
         NULL},
        BOTH(a_big_bucket_is_appended_scanned_and_emptied),
        BOTH(readers_never_see_half_a_transaction),
        {"mem: a_power_cut_undoes_at_most_one_commit", a_power_cut_undoes_at_most_one_commit,
         set_up_mem, tear_down, NULL},
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
