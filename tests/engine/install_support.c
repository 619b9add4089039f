/* install_support.c */
#include "install_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ADD, REMOVE, UPDATE, ADD_LEARNER };

/* --- what snapshots are taken of
 * -------------------------------------------------------------------------- */

void install_raise_alarm(struct fixture *f, uint64_t id, int type)
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

void install_put(struct fixture *f, int i, int64_t lease)
{
    char key[32];
    char value[64];
    (void)snprintf(key, sizeof(key), "key%05d", i);
    (void)snprintf(value, sizeof(value), "value %d of entry %zu", i, f->n_log);
    assert_int_equal(fixture_put_full(f, key, value, lease, false, false, false).err, OK);
}

void install_fill(struct fixture *f, int n)
{
    assert_int_equal(fixture_conf_change(f, ADD, 1, "{\"id\":1,\"peerURLs\":[\"http://a:1\"],\"name\":\"one\"}"), OK);
    assert_int_equal(fixture_conf_change(f, ADD, 2, "{\"id\":2,\"peerURLs\":[\"http://b:1\"]}"), OK);
    assert_int_equal(fixture_conf_change(f, ADD_LEARNER, 3, "{\"id\":3,\"peerURLs\":[\"http://c:1\"],\"isLearner\":true}"), OK);
    assert_int_equal(fixture_conf_change(f, REMOVE, 2, NULL), OK);
    set_versions(f);
    assert_int_equal(fixture_grant(f, 7, 600), OK);
    assert_int_equal(fixture_grant(f, 8, 900), OK);
    for (int i = 0; i < n; i++) {
        install_put(f, i * 7 % n, i % 5 == 0 ? 7 : 0);
        if (i % 11 == 0) {
            char key[32];
            (void)snprintf(key, sizeof(key), "key%05d", i);
            fixture_delete(f, key, "");
        }
    }
}

void install_take(struct engine *e, struct bytes *out, struct snapshot_info *info)
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

static void on_changed(void *arg, struct event_batch *batch)
{
    ((struct target *)arg)->changed = batch->revision;
    event_batch_unref(&batch);
}

static const struct engine_events events = {.changed = on_changed};

void target_open(struct target *t)
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

void target_init(struct target *t, enum fixture_kind kind)
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

void install_command(const char *format, const char *a, const char *b)
{
    char *command = xasprintf("%s '%s' '%s'", format, a, b);
    assert_int_equal(system(command), 0);
    free(command);
}

void target_deinit(struct target *t)
{
    engine_close(&t->e);
    backend_mem_disk_destroy(&t->disk);
    if (t->dir != NULL) {
        install_command("rm -rf", t->dir, t->dir);
        free(t->dir);
    }
}

/* A power cut, and the start after it. */
void target_crash(struct target *t, bool undo_last)
{
    engine_close(&t->e);
    if (t->disk != NULL) {
        backend_mem_disk_crash(t->disk, undo_last);
    }
    target_open(t);
}

void target_flush(struct target *t)
{
    bool more;
    struct err_ctx ec = {{0}};
    if (engine_flush(t->e, false, &more, &ec) != OK) {
        fail_msg("%s", ec.text);
    }
}

void target_put(struct target *t, const char *key, const char *value)
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
void target_follow(struct target *t, const struct fixture *f)
{
    for (uint64_t i = engine_applied_index(t->e); i < f->n_log; i++) {
        struct apply_result out;
        engine_apply(t->e, i + 1, 1, f->log[i].type, buf_slice(f->log[i].data), false, 1000, &out);
        assert_null(out.body);
    }
}

struct staged *target_stage(struct target *t, const struct bytes *file)
{
    struct err_ctx ec = {{0}};
    struct bolt_source src = bolt_source_of(file);
    struct staged *s = NULL;
    if (engine_stage(&t->cfg, &t->place, &src, &s, &ec) != OK) {
        fail_msg("%s", ec.text);
    }
    return s;
}

void target_install(struct target *t, const struct bytes *file)
{
    struct staged *s = target_stage(t, file);
    assert_int_equal(staged_install(s, NULL), OK);
    engine_adopt(t->e, &s);
    assert_null(s);
}

/* --- equal states
 * ----------------------------------------------------------------------------------------- */

uint32_t install_hash(struct engine *e)
{
    struct hash_kv h;
    struct err_ctx ec = {{0}};
    if (engine_hash_kv(e, 0, &h, &ec) != OK) {
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

void install_expect_same(struct engine *a, struct engine *b)
{
    char text[2][16];
    struct alarm alarms[2][8];
    struct bytes all[2] = {{0}, {0}};
    assert_int_equal(engine_applied_index(a), engine_applied_index(b));
    assert_int_equal(engine_applied_term(a), engine_applied_term(b));
    assert_int_equal(engine_revision(a), engine_revision(b));
    assert_int_equal(engine_compact_revision(a), engine_compact_revision(b));
    assert_int_equal(install_hash(a), install_hash(b));
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

bool target_is_installed(const struct target *t, uint64_t want_index)
{
    uint64_t index;
    uint64_t term;
    bool yes = engine_installed(t->e, &index, &term);
    assert_true(!yes || (index == want_index && term == 1));
    return yes;
}

bool target_has_file(const struct target *t, const char *name)
{
    char *path = xasprintf("%s/%s", t->dir, name);
    bool yes = access(path, F_OK) == 0;
    free(path);
    return yes;
}
