/* test_install_threads.c - snapshots take the place of the state while everything is in use.
 *
 * Each entry writes the same number under all keys of one group, so whatever state a reader sees,
 * the values of a group are equal. A reader may be told that the leader changed; it never sees two
 * states at once. Run under ThreadSanitizer as well.
 */
#include "engine_fixture.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bolt_support.h"
#include "engine/install.h"

#define GROUPS 10
#define GROUP_KEYS 40
#define FILES 6
#define ENTRIES 60 /* between two files */
#define READERS 3

enum job { NONE, FLUSH, INSTALL, QUIT };

struct shared {
    struct engine *e;
    struct staged *staged;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    enum job job;
    _Atomic bool over;
    _Atomic int n_reads, n_ended, n_hashes, n_snapshots;
};

static void build_entry(uint32_t i, struct bytes *out)
{
    char value[512];
    memset(value, 'a' + (int)(i % 26), sizeof(value) - 1);
    value[sizeof(value) - 1] = 0;
    fixture_group_entry(i % GROUPS, GROUP_KEYS, value, out);
}

/* --- readers
 * ---------------------------------------------------------------------------------------------- */

static void check_groups(struct slice all)
{
    Etcdserverpb__RangeResponse *resp =
        etcdserverpb__range_response__unpack(NULL, all.len, all.data);
    ASSERT(resp != NULL);
    ASSERT(resp->n_kvs % GROUP_KEYS == 0);
    for (size_t i = 1; i < resp->n_kvs; i++) {
        const Mvccpb__KeyValue *a = resp->kvs[i - 1];
        const Mvccpb__KeyValue *b = resp->kvs[i];
        if (memcmp(a->key.data, b->key.data, 3) == 0) {
            ASSERT(a->mod_revision == b->mod_revision);
            ASSERT(a->value.data[0] == b->value.data[0]);
        }
    }
    etcdserverpb__range_response__free_unpacked(resp, NULL);
}

/* Until a snapshot has come. */
static void dawdle(struct shared *s)
{
    uint64_t index = engine_applied_index(s->e);
    while (!atomic_load(&s->over) && engine_applied_index(s->e) < index + ENTRIES / 2 + 2) {
        (void)sched_yield();
    }
}

static void read_range(struct shared *s, bool sorted, bool slowly)
{
    Etcdserverpb__RangeRequest r = fixture_range_request("g", "h", 0);
    struct range_read *rr = NULL;
    struct range_info info;
    struct bytes all = {0};
    if (sorted) {
        r.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION;
        r.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
        r.keys_only = true;
    }
    enum err err = engine_range_open(s->e, &r, 1, &rr, &info, NULL);
    if (slowly) {
        dawdle(s);
    }
    while (err == OK) {
        size_t n = engine_range_pull(rr, bytes_reserve(&all, 10000), 10000, &err);
        if (n == 0) {
            break;
        }
        all.len += n;
    }
    if (err == OK) {
        ASSERT(all.len == info.kvs_bytes);
        if (!sorted) {
            check_groups(bytes_slice(&all));
        }
        atomic_fetch_add(&s->n_reads, 1);
    } else {
        ASSERT(err == ERR_LEADER_CHANGED);
        atomic_fetch_add(&s->n_ended, 1);
    }
    engine_range_close(&rr);
    bytes_deinit(&all);
}

static void read_snapshot(struct shared *s)
{
    static const size_t room = 65536;
    struct engine_snapshot *snapshot = NULL;
    struct snapshot_info info;
    struct bytes file = {0};
    struct bolt_info bi;
    size_t n;
    enum err err = engine_snapshot_open(s->e, &snapshot, &info, NULL);
    ASSERT(err == OK);
    do {
        err = engine_snapshot_read(snapshot, bytes_reserve(&file, room), room, &n, NULL);
        ASSERT(err == OK);
        file.len += n;
    } while (n > 0);
    engine_snapshot_close(&snapshot);
    struct bolt_source src = bolt_source_of(&file);
    err = bolt_check(&src, &bi, NULL);
    ASSERT(err == OK);
    bytes_deinit(&file);
    atomic_fetch_add(&s->n_snapshots, 1);
}

static void ignore(void *arg, const struct change *c)
{
    *(int64_t *)arg = c->rev.main;
}

static void read_history(struct shared *s)
{
    int64_t next;
    int64_t last = 0;
    struct buf *kv = NULL;
    int64_t live = engine_revision(s->e);
    enum err err = engine_history(s->e, live > 20 ? live - 20 : 2, live, 100, 1u << 20, ignore,
                                  &last, &next, NULL);
    ASSERT(err == OK);
    ASSERT(last <= live);
    err = engine_kv_at(s->e, slice_str("g01/001"), live, &kv, NULL);
    ASSERT(err == OK);
    buf_unref(&kv);
}

static void *reader(void *arg)
{
    struct shared *s = arg;
    for (unsigned i = 0; !atomic_load(&s->over); i++) {
        read_range(s, i % 3 == 0, i % 4 == 1);
        read_history(s);
        if (i % 4 == 0) {
            struct hash_kv h;
            enum err err = engine_hash_kv(s->e, 0, &h, NULL);
            ASSERT(err == OK || err == ERR_LEADER_CHANGED);
            atomic_fetch_add(&s->n_hashes, 1);
        }
        if (i % 8 == 0) {
            uint32_t hash;
            int64_t revision;
            enum err err = engine_hash(s->e, &hash, &revision, NULL);
            ASSERT(err == OK);
            read_snapshot(s);
        }
        size_t n;
        struct engine_conf conf;
        free(engine_members(s->e, &n));
        engine_conf(s->e, &conf);
        ASSERT(engine_backend_stats(s->e).open_reads >= 0);
    }
    return NULL;
}

/* --- the store thread
 * ------------------------------------------------------------------------------------- */

static void *store_loop(void *arg)
{
    struct shared *s = arg;
    for (bool over = false; !over;) {
        pthread_mutex_lock(&s->lock);
        while (s->job == NONE) {
            pthread_cond_wait(&s->changed, &s->lock);
        }
        enum job job = s->job;
        pthread_mutex_unlock(&s->lock);
        bool more;
        enum err err = engine_flush(s->e, false, &more, NULL);
        ASSERT(err == OK);
        if (job == INSTALL) {
            err = staged_install(s->staged, NULL);
            ASSERT(err == OK);
        }
        over = job == QUIT;
        pthread_mutex_lock(&s->lock);
        s->job = NONE;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

static void ask(struct shared *s, enum job job, bool wait)
{
    pthread_mutex_lock(&s->lock);
    while (s->job != NONE) {
        pthread_cond_wait(&s->changed, &s->lock);
    }
    s->job = job;
    pthread_cond_broadcast(&s->changed);
    while (wait && s->job != NONE) {
        pthread_cond_wait(&s->changed, &s->lock);
    }
    pthread_mutex_unlock(&s->lock);
}

/* --- the member loop
 * -------------------------------------------------------------------------------------- */

static void make_files(struct fixture *f, struct bytes *files)
{
    static const uint8_t add[] = "\x10\x00\x18\x01\x22\x20{\"id\":1,\"peerURLs\":[\"http://a\"]}";
    struct bytes entry = {0};
    fixture_init(f, ON_MEMORY);
    assert_int_equal(fixture_apply(f, 1, slice_of(add, sizeof(add) - 1), false).err, OK);
    for (uint32_t i = 0; i < FILES * ENTRIES; i++) {
        build_entry(i, &entry);
        assert_int_equal(fixture_apply(f, 0, bytes_slice(&entry), false).err, OK);
        if (i % ENTRIES == ENTRIES - 1) {
            struct engine_snapshot *s = NULL;
            struct snapshot_info info;
            struct bytes *file = &files[i / ENTRIES];
            fixture_flush(f);
            assert_int_equal(engine_snapshot_open(f->e, &s, &info, NULL), OK);
            uint8_t *dst = bytes_reserve(file, info.bytes);
            assert_int_equal(engine_snapshot_read(s, dst, info.bytes, &file->len, NULL), OK);
            engine_snapshot_close(&s);
        }
    }
    bytes_deinit(&entry);
}

/* Entries, then a snapshot that is ahead of them, and so on. */
static void follow(struct shared *s, const struct engine_config *cfg,
                   const struct store_place *place, const struct fixture *f,
                   const struct bytes *files)
{
    for (size_t file = 0; file < FILES; file++) {
        uint64_t to = engine_applied_index(s->e) + ENTRIES / 2;
        for (uint64_t i = engine_applied_index(s->e); i < to; i++) {
            struct apply_result r;
            engine_apply(s->e, i + 1, 1, f->log[i].type, buf_slice(f->log[i].data), false, 1, &r);
            assert_int_equal(r.err, OK);
            (void)engine_step(s->e);
            if (i % 10 == 0) {
                ask(s, FLUSH, false);
            }
        }
        struct bolt_source src = bolt_source_of(&files[file]);
        struct err_ctx ec = {{0}};
        if (engine_stage(cfg, place, &src, &s->staged, &ec) != OK) {
            fail_msg("%s", ec.text);
        }
        ask(s, INSTALL, true);
        engine_adopt(s->e, &s->staged);
        engine_log_follows(s->e);
        if (file % 2 == 0) {
            ask(s, FLUSH, false);
        }
    }
}

static void everything_is_in_use(void **state)
{
    struct fixture f;
    struct bytes files[FILES] = {{0}};
    struct shared s = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};
    char dir[] = "/tmp/pintle-install-XXXXXX";
    struct backend_mem_disk *disk = NULL;
    struct store_place place;
    struct engine_config cfg = {
        .quota_bytes = INT64_MAX, .min_lease_ttl_s = 2, .compaction_batch_limit = 1000};
    pthread_t readers[READERS];
    pthread_t store;
    make_files(&f, files);
    if (*(enum fixture_kind *)*state == ON_LMDB) {
        assert_non_null(mkdtemp(dir));
        assert_int_equal(backend_lmdb_open(dir, 1u << 30, true, &cfg.backend, NULL), OK);
        place = store_place_lmdb(dir, 1u << 30, true);
    } else {
        disk = backend_mem_disk_create();
        cfg.backend = backend_mem_disk_open(disk);
        place = store_place_mem(disk);
    }
    assert_int_equal(engine_open(&cfg, &s.e, NULL), OK);
    assert_int_equal(pthread_create(&store, NULL, store_loop, &s), 0);
    for (size_t i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&readers[i], NULL, reader, &s), 0);
    }
    follow(&s, &cfg, &place, &f, files);
    atomic_store(&s.over, true);
    ask(&s, QUIT, true);
    pthread_join(store, NULL);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readers[i], NULL);
    }
    struct hash_kv h;
    assert_int_equal(engine_hash_kv(s.e, 0, &h, NULL), OK);
    assert_int_equal(h.hash, fixture_hash_kv(&f, 0));
    print_message("%d reads, %d ended, %d hashes, %d snapshots\n", s.n_reads, s.n_ended, s.n_hashes,
                  s.n_snapshots);
    assert_true(s.n_reads > 0);
    engine_close(&s.e);
    backend_mem_disk_destroy(&disk);
    if (place.dir != NULL) {
        char *command = xasprintf("rm -rf '%s'", dir);
        assert_int_equal(system(command), 0);
        free(command);
    }
    for (size_t i = 0; i < FILES; i++) {
        bytes_deinit(&files[i]);
    }
    fixture_deinit(&f);
}

int main(void)
{
    static enum fixture_kind kinds[] = {ON_MEMORY, ON_LMDB};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(everything_is_in_use, &kinds[0]),
        cmocka_unit_test_prestate(everything_is_in_use, &kinds[1]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
