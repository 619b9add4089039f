/* test_install.c - a snapshot of one engine becomes the state of another: all of it, at one moment,
 * whatever is open meanwhile and wherever it is cut off.
 */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bolt_support.h"
#include "engine/install.h"

enum { ADD, REMOVE, UPDATE, ADD_LEARNER };

/* --- what snapshots are taken of
 * -------------------------------------------------------------------------- */

static void change(struct fixture *f, int type, uint64_t id, const char *context)
{
    Raftpb__ConfChange cc = RAFTPB__CONF_CHANGE__INIT;
    uint8_t packed[1024];
    cc.has_type = 1;
    cc.type = (Raftpb__ConfChangeType)type;
    cc.has_node_id = 1;
    cc.node_id = id;
    cc.has_context = context != NULL;
    if (context != NULL) {
        cc.context = fixture_bytes(context);
    }
    size_t len = raftpb__conf_change__pack(&cc, packed);
    assert_true(len <= sizeof(packed));
    assert_int_equal(fixture_apply(f, 1, slice_of(packed, len), false).err, OK);
}

static void raise_alarm(struct fixture *f, uint64_t id, int type)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AlarmRequest a = ETCDSERVERPB__ALARM_REQUEST__INIT;
    a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE;
    a.memberid = id;
    a.alarm = (Etcdserverpb__AlarmType)type;
    r.alarm = &a;
    struct apply_result out = fixture_request(f, &r);
    assert_int_equal(out.err, OK);
    buf_unref(&out.body);
}

static void set_versions(struct fixture *f)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Membershippb__ClusterVersionSetRequest v = MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;
    Membershippb__DowngradeInfoSetRequest d = MEMBERSHIPPB__DOWNGRADE_INFO_SET_REQUEST__INIT;
    v.ver = (char *)(uintptr_t) "3.7.0";
    r.cluster_version_set = &v;
    assert_int_equal(fixture_request(f, &r).err, OK);
    r.cluster_version_set = NULL;
    d.enabled = true;
    d.ver = (char *)(uintptr_t) "3.6.0";
    r.downgrade_info_set = &d;
    assert_int_equal(fixture_request(f, &r).err, OK);
}

static void put_numbered(struct fixture *f, int i, int64_t lease)
{
    char key[32];
    char value[64];
    (void)snprintf(key, sizeof(key), "key%05d", i);
    (void)snprintf(value, sizeof(value), "value %d of entry %zu", i, f->n_log);
    assert_int_equal(fixture_put_full(f, key, value, lease, false, false, false).err, OK);
}

static void fill(struct fixture *f, int n)
{
    change(f, ADD, 1, "{\"id\":1,\"peerURLs\":[\"http://a:1\"],\"name\":\"one\"}");
    change(f, ADD, 2, "{\"id\":2,\"peerURLs\":[\"http://b:1\"]}");
    change(f, ADD_LEARNER, 3, "{\"id\":3,\"peerURLs\":[\"http://c:1\"],\"isLearner\":true}");
    change(f, REMOVE, 2, NULL);
    set_versions(f);
    assert_int_equal(fixture_grant(f, 7, 600), OK);
    assert_int_equal(fixture_grant(f, 8, 900), OK);
    for (int i = 0; i < n; i++) {
        put_numbered(f, i * 7 % n, i % 5 == 0 ? 7 : 0);
        if (i % 11 == 0) {
            char key[32];
            (void)snprintf(key, sizeof(key), "key%05d", i);
            fixture_delete(f, key, "");
        }
    }
}

static void take(struct engine *e, struct bytes *out, struct snapshot_info *info)
{
    struct engine_snapshot *s = NULL;
    size_t n;
    bytes_reset(out);
    assert_int_equal(engine_snapshot_open(e, &s, info, NULL), OK);
    do {
        uint8_t *dst = bytes_reserve(out, 65536);
        assert_int_equal(engine_snapshot_read(s, dst, 65536, &n, NULL), OK);
        out->len += n;
    } while (n > 0);
    engine_snapshot_close(&s);
    assert_int_equal(out->len, info->bytes);
}

/* --- where they go
 * ---------------------------------------------------------------------------------------- */

struct target {
    char *dir; /* owned; NULL: on `disk` */
    struct backend_mem_disk *disk;
    struct store_place place;
    struct engine_config cfg;
    struct engine *e;
    int64_t changed;
};

static void on_changed(void *arg, struct event_batch *batch)
{
    ((struct target *)arg)->changed = batch->revision;
    event_batch_unref(&batch);
}

static const struct engine_events events = {.changed = on_changed};

static void target_open(struct target *t)
{
    struct err_ctx ec = {{0}};
    if (t->dir == NULL) {
        t->cfg.backend = backend_mem_disk_open(t->disk);
    } else {
        enum err err = backend_lmdb_open(t->dir, 1u << 30, true, &t->cfg.backend, &ec);
        if (err != OK) {
            fail_msg("%s", ec.text);
        }
    }
    enum err err = engine_open(&t->cfg, &t->e, &ec);
    if (err != OK) {
        fail_msg("%s", ec.text);
    }
}

static void target_init(struct target *t, enum fixture_kind kind)
{
    *t = (struct target){.cfg = {.cluster_id = 1,
                                 .member_id = 3,
                                 .quota_bytes = INT64_MAX,
                                 .min_lease_ttl_s = 2,
                                 .compaction_batch_limit = 50,
                                 .events = &events}};
    t->cfg.events_arg = t;
    if (kind == ON_LMDB) {
        char name[] = "/tmp/pintle-install-XXXXXX";
        assert_non_null(mkdtemp(name));
        t->dir = xstrdup(name);
        t->place = store_place_lmdb(t->dir, 1u << 30, true);
    } else {
        t->disk = backend_mem_disk_create();
        t->place = store_place_mem(t->disk);
    }
    target_open(t);
}

static void run_command(const char *format, const char *a, const char *b)
{
    char *command = xasprintf("%s '%s' '%s'", format, a, b);
    assert_int_equal(system(command), 0);
    free(command);
}

static void target_deinit(struct target *t)
{
    engine_close(&t->e);
    backend_mem_disk_destroy(&t->disk);
    if (t->dir != NULL) {
        run_command("rm -rf", t->dir, t->dir);
        free(t->dir);
    }
}

/* A power cut, and the start after it. */
static void target_crash(struct target *t, bool undo_last)
{
    engine_close(&t->e);
    if (t->disk != NULL) {
        backend_mem_disk_crash(t->disk, undo_last);
    }
    target_open(t);
}

static void target_flush(struct target *t)
{
    bool more;
    struct err_ctx ec = {{0}};
    if (engine_flush(t->e, false, &more, &ec) != OK) {
        fail_msg("%s", ec.text);
    }
}

static void target_put(struct target *t, const char *key, const char *value)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    struct apply_result out;
    uint8_t packed[1024];
    p.key = fixture_bytes(key);
    p.value = fixture_bytes(value);
    r.put = &p;
    size_t len = etcdserverpb__internal_raft_request__pack(&r, packed);
    engine_apply(t->e, engine_applied_index(t->e) + 1, 1, 0, slice_of(packed, len), false, 1000,
                 &out);
    assert_int_equal(out.err, OK);
}

/* Apply what the source has applied and this one not yet. */
static void target_follow(struct target *t, const struct fixture *f)
{
    for (uint64_t i = engine_applied_index(t->e); i < f->n_log; i++) {
        struct apply_result out;
        engine_apply(t->e, i + 1, 1, f->log[i].type, buf_slice(f->log[i].data), false, 1000, &out);
        assert_null(out.body);
    }
}

static struct staged *stage(struct target *t, const struct bytes *file)
{
    struct err_ctx ec = {{0}};
    struct bolt_source src = bolt_source_of(file);
    struct staged *s = NULL;
    if (engine_stage(&t->cfg, &t->place, &src, &s, &ec) != OK) {
        fail_msg("%s", ec.text);
    }
    return s;
}

static void install(struct target *t, const struct bytes *file)
{
    struct staged *s = stage(t, file);
    assert_int_equal(staged_install(s, NULL), OK);
    engine_adopt(t->e, &s);
    assert_null(s);
}

/* --- equal states
 * ----------------------------------------------------------------------------------------- */

static uint32_t hash_of(struct engine *e, int64_t revision)
{
    struct hash_kv h;
    struct err_ctx ec = {{0}};
    if (engine_hash_kv(e, revision, &h, &ec) != OK) {
        fail_msg("%s", ec.text);
    }
    return h.hash;
}

static void read_all(struct engine *e, int64_t revision, struct bytes *out)
{
    Etcdserverpb__RangeRequest r = fixture_range_request("*", "*", revision);
    struct range_read *rr = NULL;
    struct range_info info;
    enum err err;
    r.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) ""};
    bytes_reset(out);
    assert_int_equal(engine_range_open(e, &r, 1000, &rr, &info, NULL), OK);
    out->len = engine_range_pull(rr, bytes_reserve(out, info.kvs_bytes + 1), info.kvs_bytes, &err);
    assert_int_equal(err, OK);
    assert_int_equal(out->len, info.kvs_bytes);
    engine_range_close(&rr);
}

static void same_members(struct engine *a, struct engine *b)
{
    size_t n[2];
    struct member_info *m[2] = {engine_members(a, &n[0]), engine_members(b, &n[1])};
    assert_int_equal(n[0], n[1]);
    for (size_t i = 0; i < n[0]; i++) {
        assert_int_equal(m[0][i].id, m[1][i].id);
        assert_string_equal(m[0][i].name, m[1][i].name);
        assert_string_equal(m[0][i].peer_urls[0], m[1][i].peer_urls[0]);
        assert_int_equal(m[0][i].is_learner, m[1][i].is_learner);
    }
    free(m[0]);
    free(m[1]);
    for (uint64_t id = 0; id < 5; id++) {
        assert_int_equal(engine_member_removed(a, id), engine_member_removed(b, id));
    }
    struct engine_conf conf[2];
    engine_conf(a, &conf[0]);
    engine_conf(b, &conf[1]);
    assert_memory_equal(&conf[0], &conf[1], sizeof(conf[0]));
}

static void same_leases(struct engine *a, struct engine *b)
{
    assert_int_equal(lease_count(engine_leases(a)), lease_count(engine_leases(b)));
    for (int64_t id = 7; id <= 8; id++) {
        struct lease_info l[2];
        enum err err = lease_lookup(engine_leases(a), id, 1000, &l[0]);
        assert_int_equal(err, lease_lookup(engine_leases(b), id, 1000, &l[1]));
        if (err == OK) {
            assert_int_equal(l[0].ttl_s, l[1].ttl_s);
            assert_int_equal(l[0].n_keys, l[1].n_keys);
        }
    }
}

static void same(struct engine *a, struct engine *b)
{
    char text[2][16];
    struct alarm alarms[2][8];
    struct bytes all[2] = {{0}, {0}};
    assert_int_equal(engine_applied_index(a), engine_applied_index(b));
    assert_int_equal(engine_applied_term(a), engine_applied_term(b));
    assert_int_equal(engine_revision(a), engine_revision(b));
    assert_int_equal(engine_compact_revision(a), engine_compact_revision(b));
    assert_int_equal(hash_of(a, 0), hash_of(b, 0));
    for (int64_t r = engine_revision(a) - 20; r <= engine_revision(a); r += 10) {
        if (r > 1 && r >= engine_compact_revision(a)) {
            read_all(a, r, &all[0]);
            read_all(b, r, &all[1]);
            assert_true(slice_eq(bytes_slice(&all[0]), bytes_slice(&all[1])));
        }
    }
    bytes_deinit(&all[0]);
    bytes_deinit(&all[1]);
    same_members(a, b);
    same_leases(a, b);
    size_t n = engine_alarms(a, alarms[0], 8);
    assert_int_equal(n, engine_alarms(b, alarms[1], 8));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(alarms[0][i].member_id, alarms[1][i].member_id);
        assert_int_equal(alarms[0][i].type, alarms[1][i].type);
        assert_int_equal(engine_alarm_active(a, alarms[0][i].type),
                         engine_alarm_active(b, alarms[0][i].type));
    }
    engine_cluster_version(a, text[0]);
    engine_cluster_version(b, text[1]);
    assert_string_equal(text[0], text[1]);
    assert_int_equal(engine_downgrade(a, text[0]), engine_downgrade(b, text[1]));
    assert_string_equal(text[0], text[1]);
}

static bool installed_as(struct engine *e, uint64_t want_index)
{
    uint64_t index;
    uint64_t term;
    bool yes = engine_installed(e, &index, &term);
    assert_true(!yes || (index == want_index && term == 1));
    return yes;
}

/* --- tests
 * ------------------------------------------------------------------------------------------------ */

static void all_state_is_taken_over(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    target_init(&t, *(enum fixture_kind *)*state);
    fill(&f, 400);
    assert_int_equal(fixture_compact(&f, 90), OK);
    fixture_settle(&f);
    raise_alarm(&f, 1, 2);
    fixture_flush(&f);
    /* What was there before goes away. */
    target_put(&t, "old", "state");
    target_put(&t, "pending", "too");
    target_flush(&t);
    target_put(&t, "unflushed", "as well");
    take(f.e, &file, &info);
    assert_int_equal(info.conf.n_voters, 1);
    assert_int_equal(info.conf.n_learners, 1);
    assert_int_equal(info.conf.learners[0], 3);
    assert_false(installed_as(t.e, 0));
    install(&t, &file);
    same(f.e, t.e);
    assert_true(installed_as(t.e, info.index));
    assert_true(engine_member_removed(t.e, 2));
    uint64_t w[3];
    engine_witness(t.e, &w[0], &w[1], &w[2]);
    assert_int_equal(w[0], 0);
    /* Life goes on: entries, flushes, compaction, a snapshot of the snapshot. */
    Etcdserverpb__InternalRaftRequest off = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AlarmRequest a = ETCDSERVERPB__ALARM_REQUEST__INIT;
    a.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
    a.memberid = 1;
    a.alarm = (Etcdserverpb__AlarmType)2;
    off.alarm = &a;
    struct apply_result cleared = fixture_request(&f, &off);
    buf_unref(&cleared.body);
    for (int i = 0; i < 50; i++) {
        put_numbered(&f, i, 8);
    }
    assert_int_equal(fixture_compact(&f, 300), OK);
    target_follow(&t, &f);
    assert_int_equal(t.changed, engine_revision(f.e));
    same(f.e, t.e);
    engine_log_follows(t.e);
    bool more = true;
    while (more) {
        assert_int_equal(engine_flush(t.e, false, &more, NULL), OK);
        while (engine_step(t.e)) {
        }
    }
    fixture_settle(&f);
    same(f.e, t.e);
    assert_int_equal(engine_physical_compact_revision(t.e), 300);
    target_crash(&t, false);
    assert_false(installed_as(t.e, 0));
    same(f.e, t.e);
    struct bytes again = {0};
    take(f.e, &file, &info);
    take(t.e, &again, &info);
    assert_true(slice_eq(bytes_slice(&file), bytes_slice(&again)));
    bytes_deinit(&again);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

/* Where the member dies, and what it finds at the next start. */
static void a_crash_leaves_one_or_the_other(void **state)
{
    (void)state;
    enum step { STAGED, INSTALLED, ADOPTED, FOLLOWING, FLUSHED, N_STEPS };
    struct fixture f;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    fill(&f, 100);
    fixture_flush(&f);
    take(f.e, &file, &info);
    for (int step = STAGED; step < N_STEPS; step++) {
        for (int undo = 0; undo < 2; undo++) {
            struct target t;
            target_init(&t, ON_MEMORY);
            target_put(&t, "old", "state");
            target_flush(&t);
            target_put(&t, "old", "later");
            target_flush(&t);
            struct staged *s = stage(&t, &file);
            if (step >= INSTALLED) {
                assert_int_equal(staged_install(s, NULL), OK);
            }
            if (step >= ADOPTED) {
                engine_adopt(t.e, &s);
            }
            if (step >= FOLLOWING) {
                engine_log_follows(t.e);
            }
            if (step >= FLUSHED) {
                target_flush(&t);
            }
            engine_close(&t.e);
            staged_discard(&s);
            t.e = NULL;
            target_crash(&t, undo == 1);
            if (step == STAGED) {
                assert_int_equal(engine_applied_index(t.e), 2 - undo);
                assert_false(installed_as(t.e, 0));
            } else {
                same(f.e, t.e);
                assert_int_equal(installed_as(t.e, info.index), step < FLUSHED || undo == 1);
            }
            target_deinit(&t);
        }
    }
    bytes_deinit(&file);
    fixture_deinit(&f);
}

static bool exists(const char *dir, const char *name)
{
    char *path = xasprintf("%s/%s", dir, name);
    bool yes = access(path, F_OK) == 0;
    free(path);
    return yes;
}

/* A copy of the folder stands for what a killed process leaves. */
static void expect_copy(const struct target *t, struct engine *want)
{
    struct target copy = {.cfg = t->cfg};
    char name[] = "/tmp/pintle-install-XXXXXX";
    assert_non_null(mkdtemp(name));
    copy.dir = xstrdup(name);
    copy.cfg.events = NULL;
    char *from = xasprintf("%s/.", t->dir);
    run_command("cp -r", from, name);
    free(from);
    target_open(&copy);
    assert_false(exists(copy.dir, "store.mdb.incoming"));
    assert_false(exists(copy.dir, "store.mdb.incoming-lock"));
    if (want != NULL) {
        same(want, copy.e);
    } else {
        assert_int_equal(engine_applied_index(copy.e), 1);
    }
    target_deinit(&copy);
}

static void a_kill_leaves_one_or_the_other(void **state)
{
    (void)state;
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    struct backend *other = NULL;
    fixture_init(&f, ON_MEMORY);
    fill(&f, 100);
    fixture_flush(&f);
    take(f.e, &file, &info);
    target_init(&t, ON_LMDB);
    target_put(&t, "old", "state");
    target_flush(&t);
    for (int i = 0; i < 3; i++) {
        struct staged *s = stage(&t, &file);
        assert_true(exists(t.dir, "store.mdb.incoming"));
        if (i == 0) {
            expect_copy(&t, NULL);
            staged_discard(&s);
            assert_false(exists(t.dir, "store.mdb.incoming"));
            assert_false(exists(t.dir, "store.mdb.incoming-lock"));
            expect_copy(&t, NULL);
            continue;
        }
        assert_int_equal(staged_install(s, NULL), OK);
        expect_copy(&t, f.e);
        assert_false(exists(t.dir, "store.mdb.incoming"));
        engine_adopt(t.e, &s);
        assert_int_equal(backend_lmdb_open(t.dir, 1u << 30, true, &other, NULL), ERR_LOCKED);
        /* Frees the old one; the lock stays. */
        bool more;
        assert_int_equal(engine_flush(t.e, true, &more, NULL), OK);
        assert_int_equal(backend_lmdb_open(t.dir, 1u << 30, true, &other, NULL), ERR_LOCKED);
        expect_copy(&t, f.e);
        assert_int_equal(engine_defrag(t.e, NULL), OK);
        expect_copy(&t, f.e);
    }
    engine_close(&t.e);
    target_open(&t);
    same(f.e, t.e);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

/* --- files that are not what they should be
 * ----------------------------------------------------------- */

static enum err try_to_install(struct target *t, const struct bytes *file)
{
    struct err_ctx ec = {{0}};
    struct bolt_source src = bolt_source_of(file);
    struct staged *s = NULL;
    enum err err = engine_stage(&t->cfg, &t->place, &src, &s, &ec);
    if (err != OK) {
        assert_null(s);
        assert_true(ec.text[0] != 0);
        return err;
    }
    assert_int_equal(staged_install(s, NULL), OK);
    engine_adopt(t->e, &s);
    return OK;
}

static void damage_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    size_t n_refused = 0;
    size_t n_taken = 0;
    fixture_init(&f, ON_MEMORY);
    fill(&f, 60);
    fixture_flush(&f);
    take(f.e, &file, &info);
    target_init(&t, ON_MEMORY);
    target_put(&t, "old", "state");
    uint32_t old = hash_of(t.e, 0);
    uint32_t new = hash_of(f.e, 0);
    bool is_new = false;
    for (size_t at = 0; at < file.len; at++) {
        static const uint8_t masks[] = {0x01, 0xff};
        uint8_t mask = masks[at % 2];
        file.data[at] ^= mask;
        enum err err = try_to_install(&t, &file);
        file.data[at] ^= mask;
        assert_true(err == OK || err == ERR_CORRUPT || err == ERR_UNSUPPORTED);
        is_new = is_new || err == OK;
        assert_int_equal(hash_of(t.e, 0), is_new ? new : old);
        n_refused += err != OK;
        n_taken += err == OK;
    }
    /* Everything before the page of the sum, and the sum. */
    assert_true(n_refused >= file.len - 4096);
    assert_true(n_taken > 4000);
    for (size_t len = 0; len < file.len; len += len < 20000 ? 411 : 4096) {
        struct bytes cut = {.data = file.data, .len = len};
        assert_int_not_equal(try_to_install(&t, &cut), OK);
    }
    same(f.e, t.e);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

/* Files of another writer, without the sum: well-formed, and wrong in what they say. */
struct rows_of {
    struct slice keys[N_BUCKETS][6];
    struct slice values[N_BUCKETS][6];
    size_t n[N_BUCKETS];
};

static bool row_pair(void *arg, size_t bucket, uint64_t i, struct slice *key, struct slice *value)
{
    const struct rows_of *r = arg;
    if (i >= r->n[bucket]) {
        return false;
    }
    *key = r->keys[bucket][i];
    *value = r->values[bucket][i];
    return true;
}

static const uint8_t number_5[8] = {0, 0, 0, 0, 0, 0, 0, 5};
static const uint8_t number_0[8] = {0};
static const uint8_t number_1[8] = {0, 0, 0, 0, 0, 0, 0, 1};

static void what_must_be_there(void **state)
{
    (void)state;
    static const char *const names[] = {"alarm", "auth", "authRoles", "authUsers",
                                        "cluster", "extra", "key", "lease",
                                        "members", "members_removed", "meta", NULL};
    enum { KEY = 6, META = 10 };
    static const struct {
        const char *name;
        const char *conf; /* NULL: no row */
        const uint8_t *index;
        const uint8_t *term;
        const char *record; /* key of 17 bytes */
        bool good;
    } rows[] = {
        {"everything", "{\"voters\":[1],\"auto_leave\":false}", number_5, number_1, NULL, true},
        {"no configuration", NULL, number_5, number_1, NULL, false},
        {"a configuration without voters", "{\"auto_leave\":false}", number_5, number_1, NULL,
         false},
        {"a configuration that does not decode", "{\"voters\":", number_5, number_1, NULL, false},
        {"no index", "{\"voters\":[1]}", NULL, number_1, NULL, false},
        {"index 0", "{\"voters\":[1]}", number_0, number_1, NULL, false},
        {"no term", "{\"voters\":[1]}", number_5, NULL, NULL, false},
        {"a record that is none", "{\"voters\":[1]}", number_5, number_1, "not a revision....", false},
    };
    struct target t;
    target_init(&t, ON_MEMORY);
    target_put(&t, "old", "state");
    uint32_t old = hash_of(t.e, 0);
    for (size_t i = ARRAY_LEN(rows); i > 0; i--) { /* the good one last */
        struct rows_of r = {.n = {0}};
        struct bytes file = {0};
        size_t n = 0;
        print_message("%s\n", rows[i - 1].name);
        if (rows[i - 1].conf != NULL) {
            r.keys[0][n] = slice_str("confState");
            r.values[0][n++] = slice_str(rows[i - 1].conf);
        }
        if (rows[i - 1].index != NULL) {
            r.keys[0][n] = slice_str("consistent_index");
            r.values[0][n++] = slice_of(rows[i - 1].index, 8);
        }
        if (rows[i - 1].term != NULL) {
            r.keys[0][n] = slice_str("term");
            r.values[0][n++] = slice_of(rows[i - 1].term, 8);
        }
        /* bucket numbers of the plan */
        memcpy(r.keys[META], r.keys[0], sizeof(r.keys[0]));
        memcpy(r.values[META], r.values[0], sizeof(r.values[0]));
        r.n[META] = n;
        r.keys[5][0] = slice_str("unknown");
        r.values[5][0] = slice_str("ignored");
        r.n[5] = 1;
        if (rows[i - 1].record != NULL) {
            r.keys[KEY][0] = slice_of(rows[i - 1].record, 17);
            r.values[KEY][0] = slice_str("x");
            r.n[KEY] = 1;
        }
        struct bolt_plan plan = {names, row_pair, &r};
        bolt_write_plan(&plan, &file);
        assert_int_equal(try_to_install(&t, &file), rows[i - 1].good ? OK : ERR_CORRUPT);
        if (!rows[i - 1].good) {
            assert_int_equal(hash_of(t.e, 0), old);
            assert_int_equal(engine_applied_index(t.e), 1);
        }
        bytes_deinit(&file);
    }
    assert_int_equal(engine_applied_index(t.e), 5);
    assert_int_equal(engine_revision(t.e), 1);
    target_put(&t, "new", "state");
    target_flush(&t);
    target_crash(&t, false);
    assert_int_equal(engine_revision(t.e), 2);
    target_deinit(&t);
}

/* A file of etcd 3.4 names neither term nor configuration; the message with which it comes does. */
static void what_the_message_says(void **state)
{
    (void)state;
    static const char *const names[] = {"key", "meta", NULL};
    static const struct {
        const char *name;
        uint64_t index, term, voter;
        bool good;
    } rows[] = {
        {"the file is ahead", 4, 1, 9, false},
        {"nobody votes", 5, 1, 0, false},
        {"a message without a term", 5, 0, 9, false},
        {"the file's index", 5, 1, 9, true},
        {"a later index", 6, 1, 9, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct target t;
        struct rows_of r = {.n = {0}};
        struct bytes file = {0};
        struct err_ctx ec = {{0}};
        struct staged *s = NULL;
        struct snapshot_origin o = {.index = rows[i].index, .term = rows[i].term};
        print_message("%s\n", rows[i].name);
        o.conf.n_voters = rows[i].voter != 0;
        o.conf.voters[0] = rows[i].voter;
        r.keys[1][0] = slice_str("consistent_index");
        r.values[1][0] = slice_of(number_5, 8);
        r.n[1] = 1;
        struct bolt_plan plan = {names, row_pair, &r};
        bolt_write_plan(&plan, &file);
        struct bolt_source src = bolt_source_of(&file);
        target_init(&t, ON_LMDB);
        assert_int_equal(engine_stage(&t.cfg, &t.place, &src, &s, &ec), ERR_CORRUPT);
        enum err err = engine_stage_of(&t.cfg, &t.place, &src, &o, &s, &ec);
        assert_int_equal(err, rows[i].good ? OK : ERR_CORRUPT);
        assert_int_equal(exists(t.dir, "store.mdb.incoming"), rows[i].good);
        if (rows[i].good) {
            struct engine_conf conf;
            assert_int_equal(staged_index(s), rows[i].index);
            assert_int_equal(staged_term(s), 1);
            assert_int_equal(staged_install(s, NULL), OK);
            engine_adopt(t.e, &s);
            target_crash(&t, false);
            assert_int_equal(engine_applied_index(t.e), rows[i].index);
            assert_true(installed_as(t.e, rows[i].index));
            engine_conf(t.e, &conf);
            assert_int_equal(conf.n_voters, 1);
            assert_int_equal(conf.voters[0], 9);
        }
        target_deinit(&t);
        bytes_deinit(&file);
    }
}

/* --- what is open meanwhile
 * ------------------------------------------------------------------------------- */

static void open_reads_end(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    fill(&f, 3000);
    fixture_flush(&f);
    target_init(&t, *(enum fixture_kind *)*state);
    target_follow(&t, &f);
    target_flush(&t);
    for (int i = 0; i < 200; i++) {
        put_numbered(&f, i, 0);
    }
    fixture_flush(&f);
    take(f.e, &file, &info);

    struct engine_snapshot *snapshot = NULL;
    struct snapshot_info old_info;
    struct range_read *walk = NULL;
    struct range_read *sorted = NULL;
    struct range_read *whole = NULL;
    struct range_info ri;
    struct bytes out = {0};
    size_t n = 0;
    enum err err;
    struct bytes before = {0};
    take(t.e, &before, &old_info);
    Etcdserverpb__RangeRequest all = fixture_range_request("k", "l", 0);
    Etcdserverpb__RangeRequest by_mod = all;
    Etcdserverpb__RangeRequest few = fixture_range_request("key00001", "key00005", 0);
    by_mod.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD;
    by_mod.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    assert_int_equal(engine_range_open(t.e, &all, 1000, &walk, &ri, NULL), OK);
    assert_int_equal(engine_range_chunk(walk, 10, 100000, &out, &n), OK);
    assert_int_equal(n, 10);
    assert_int_equal(engine_range_open(t.e, &by_mod, 1000, &sorted, &ri, NULL), OK);
    assert_int_equal(engine_range_open(t.e, &few, 1000, &whole, &ri, NULL), OK);
    assert_int_equal(engine_snapshot_open(t.e, &snapshot, &old_info, NULL), OK);

    install(&t, &file);
    bool more;
    assert_int_equal(engine_flush(t.e, false, &more, NULL), OK); /* frees the old state */
    same(f.e, t.e);

    uint8_t piece[4096];
    while ((n = engine_range_pull(walk, piece, sizeof(piece), &err)) > 0) {
    }
    assert_int_equal(err, ERR_LEADER_CHANGED);
    while ((n = engine_range_pull(sorted, piece, sizeof(piece), &err)) > 0) {
    }
    assert_int_equal(err, ERR_LEADER_CHANGED);
    /* What was collected at open is complete. */
    assert_int_equal(engine_range_pull(whole, piece, sizeof(piece), &err), ri.kvs_bytes);
    bytes_reset(&out);
    do {
        assert_int_equal(engine_snapshot_read(snapshot, piece, sizeof(piece), &n, NULL), OK);
        bytes_add(&out, piece, n);
    } while (n > 0);
    assert_true(slice_eq(bytes_slice(&out), bytes_slice(&before)));
    engine_snapshot_close(&snapshot);
    engine_range_close(&walk);
    engine_range_close(&sorted);
    engine_range_close(&whole);
    bytes_deinit(&out);
    bytes_deinit(&before);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

static void a_large_store(void **state)
{
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    fixture_init(&f, ON_MEMORY);
    fill(&f, 10);
    for (int i = 0; i < 120000; i++) {
        put_numbered(&f, i, 0);
    }
    fixture_flush(&f);
    take(f.e, &file, &info);
    target_init(&t, *(enum fixture_kind *)*state);
    install(&t, &file);
    same(f.e, t.e);
    engine_log_follows(t.e);
    target_flush(&t);
    target_crash(&t, false);
    same(f.e, t.e);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

int main(void)
{
    static enum fixture_kind kinds[] = {ON_MEMORY, ON_LMDB};
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_prestate(all_state_is_taken_over, &kinds[0]),
        cmocka_unit_test_prestate(all_state_is_taken_over, &kinds[1]),
        cmocka_unit_test(a_crash_leaves_one_or_the_other),
        cmocka_unit_test(a_kill_leaves_one_or_the_other),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(what_must_be_there),
        cmocka_unit_test(what_the_message_says),
        cmocka_unit_test_prestate(open_reads_end, &kinds[0]),
        cmocka_unit_test_prestate(open_reads_end, &kinds[1]),
        cmocka_unit_test_prestate(a_large_store, &kinds[0]),
        cmocka_unit_test_prestate(a_large_store, &kinds[1]),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
