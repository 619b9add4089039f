/* test_threads.c - readers while the member loop applies and compacts and the store thread flushes.
 *
 * Each entry is a txn that writes the same number under all keys of one group, so whatever revision
 * a reader sees, the values of a group are equal and their mod revisions too. Run under
 * ThreadSanitizer as well.
 */
#include "engine_fixture.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS 20
#define GROUP_KEYS 60
#define ENTRIES 800
#define READERS 3

struct shared {
    struct fixture f;
    _Atomic bool applied; /* all entries are */
    _Atomic int n_reads;
    _Atomic int n_compacted;
};

static void build_entry(uint32_t i, struct bytes *out)
{
    char value[256];
    int n = snprintf(value, sizeof(value), "%08u", i);
    memset(value + n, 'x', sizeof(value) - (size_t)n - 1);
    value[sizeof(value) - 1] = 0;
    fixture_group_entry(i % GROUPS, GROUP_KEYS, value, out);
}

static void *member_loop(void *arg)
{
    struct shared *s = arg;
    struct bytes entry = {0};
    for (uint32_t i = 0; i < ENTRIES; i++) {
        bytes_reset(&entry);
        build_entry(i, &entry);
        struct apply_result r = fixture_apply(&s->f, 0, bytes_slice(&entry), true);
        ASSERT(r.err == OK);
        buf_unref(&r.body);
        engine_set_witness(s->f.e, r.revision > 0 ? engine_applied_index(s->f.e) : 0, 1, i);
        if (i % 200 == 150) {
            enum err err = fixture_compact(&s->f, r.revision - 20);
            ASSERT(err == OK);
        }
        engine_step(s->f.e);
        s->f.now_ms++;
    }
    bytes_deinit(&entry);
    atomic_store(&s->applied, true);
    return NULL;
}

static void *store_loop(void *arg)
{
    struct shared *s = arg;
    bool more = true;
    while (!atomic_load(&s->applied) || more || engine_pending_bytes(s->f.e) > 0) {
        enum err err = engine_flush(s->f.e, false, &more, NULL);
        ASSERT(err == OK);
    }
    return NULL;
}

static void check_groups(const Etcdserverpb__RangeResponse *resp)
{
    for (size_t i = 1; i < resp->n_kvs; i++) {
        const Mvccpb__KeyValue *a = resp->kvs[i - 1];
        const Mvccpb__KeyValue *b = resp->kvs[i];
        ASSERT(slice_cmp(slice_of(a->key.data, a->key.len), slice_of(b->key.data, b->key.len)) < 0);
        if (memcmp(a->key.data, b->key.data, 3) == 0) {
            ASSERT(a->mod_revision == b->mod_revision);
            ASSERT(a->value.len == b->value.len);
            ASSERT(memcmp(a->value.data, b->value.data, a->value.len) == 0);
        }
    }
    ASSERT(resp->n_kvs % GROUP_KEYS == 0);
}

static void read_range(struct shared *s, int64_t back)
{
    int64_t live = engine_revision(s->f.e);
    Etcdserverpb__RangeRequest r =
        fixture_range_request("g", "h", back > 0 && live > back ? live - back : 0);
    struct range_read *rr = NULL;
    struct range_info info;
    enum err err = engine_range_open(s->f.e, &r, 1, &rr, &info, NULL);
    if (err == ERR_COMPACTED) {
        atomic_fetch_add(&s->n_compacted, 1);
        return;
    }
    ASSERT(err == OK);
    struct bytes all = {0};
    size_t n = engine_range_pull(rr, bytes_reserve(&all, info.kvs_bytes), info.kvs_bytes, &err);
    ASSERT(err == OK);
    ASSERT(n == info.kvs_bytes);
    engine_range_close(&rr);
    Etcdserverpb__RangeResponse *resp = etcdserverpb__range_response__unpack(NULL, n, all.data);
    bytes_deinit(&all);
    ASSERT(resp != NULL);
    ASSERT((int64_t)resp->n_kvs == info.count);
    check_groups(resp);
    etcdserverpb__range_response__free_unpacked(resp, NULL);
}

struct last_seen {
    int64_t revision;
    int64_t n;
};

static void see(void *arg, const struct change *c)
{
    struct last_seen *l = arg;
    ASSERT(c->rev.main >= l->revision);
    ASSERT(c->rev.main > l->revision || c->rev.sub == l->n);
    l->n = c->rev.main > l->revision ? 1 : l->n + 1;
    l->revision = c->rev.main;
}

static void *reader(void *arg)
{
    struct shared *s = arg;
    for (int64_t i = 0; !atomic_load(&s->applied) || i < 50; i++) {
        read_range(s, i % 3 == 0 ? 0 : i % 30);
        Etcdserverpb__RangeRequest one = fixture_range_request("g07/011", "", 0);
        struct range_read *rr = NULL;
        struct range_info info;
        enum err err = engine_range_open(s->f.e, &one, 1, &rr, &info, NULL);
        ASSERT(err == OK);
        engine_range_close(&rr);
        if (i % 10 == 0) {
            struct hash_kv h;
            err = engine_hash_kv(s->f.e, 0, &h, NULL);
            ASSERT(err == OK || err == ERR_COMPACTED);
            int64_t from = engine_revision(s->f.e) - 10;
            struct last_seen l = {0};
            int64_t next;
            err = engine_history(s->f.e, from < 2 ? 2 : from, INT64_MAX - 1, 1000, 1u << 20, see,
                                 &l, &next, NULL);
            ASSERT(err == OK || err == ERR_COMPACTED);
        }
        atomic_fetch_add(&s->n_reads, 1);
    }
    return NULL;
}

static void run(enum fixture_kind kind)
{
    struct shared *s = xcalloc(1, sizeof(*s));
    fixture_init(&s->f, kind);
    pthread_t threads[READERS + 2];
    assert_int_equal(pthread_create(&threads[0], NULL, member_loop, s), 0);
    assert_int_equal(pthread_create(&threads[1], NULL, store_loop, s), 0);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[2 + i], NULL, reader, s), 0);
    }
    for (int i = 0; i < READERS + 2; i++) {
        pthread_join(threads[i], NULL);
    }
    assert_true(atomic_load(&s->n_reads) > 0);
    fixture_settle(&s->f);
    uint32_t before = fixture_hash_kv(&s->f, 0);
    fixture_reopen(&s->f);
    assert_int_equal(fixture_hash_kv(&s->f, 0), before);
    uint64_t index;
    uint64_t term;
    uint64_t chain;
    engine_witness(s->f.e, &index, &term, &chain);
    assert_int_equal(chain, ENTRIES - 1);
    assert_true(index > 0 && index <= engine_applied_index(s->f.e));
    fixture_deinit(&s->f);
    free(s);
}

static void readers_see_whole_entries_in_memory(void **state)
{
    (void)state;
    run(ON_MEMORY);
}

static void readers_see_whole_entries_on_lmdb(void **state)
{
    (void)state;
    run(ON_LMDB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(readers_see_whole_entries_in_memory),
        cmocka_unit_test(readers_see_whole_entries_on_lmdb),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
