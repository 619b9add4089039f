/* engine_fixture.c */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void on_changed(void *arg, struct event_batch *batch)
{
    struct fixture *f = arg;
    assert_true(batch->revision > f->changed_revision);
    assert_true(batch->n > 0);
    for (size_t i = 0; i < batch->n; i++) {
        assert_int_equal(batch->changes[i].rev.main, batch->revision);
        assert_int_equal(batch->changes[i].rev.sub, (int64_t)i);
    }
    f->changed_revision = batch->revision;
    f->n_changes += batch->n;
    event_batch_unref(&batch);
}

static void on_stored(void *arg, uint64_t index, uint64_t index_before)
{
    struct fixture *f = arg;
    assert_true(index >= index_before);
    assert_true(index >= f->stored_index);
    f->stored_index = index;
    f->stored_before = index_before;
}

static void on_compacted(void *arg, const struct compaction_report *report)
{
    struct fixture *f = arg;
    f->compacted = report->revision;
    f->passes[f->n_passes++ % ARRAY_LEN(f->passes)] = *report;
}

static void on_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    (void)e;
    (void)ec;
    ((struct fixture *)arg)->n_failed++;
}

static const struct engine_events events = {on_changed, on_stored, on_compacted, on_failed};

static void open_engine(struct fixture *f)
{
    struct err_ctx ec = {{0}};
    struct engine_config cfg = {
        .backend = f->backend,
        .cluster_id = 1,
        .member_id = 2,
        .quota_bytes = INT64_MAX,
        .min_lease_ttl_s = 2,
        .compaction_batch_limit = f->batch_limit,
        .compaction_pause_ms = f->pause_ms,
        .events = &events,
        .events_arg = f,
    };
    enum err err = engine_open(&cfg, &f->e, &ec);
    if (err != OK) {
        print_error("%s\n", ec.text);
    }
    assert_int_equal(err, OK);
    f->changed_revision = engine_revision(f->e);
    f->stored_index = engine_applied_index(f->e);
}

static void open_backend(struct fixture *f)
{
    struct err_ctx ec = {{0}};
    if (f->dir == NULL) {
        f->backend = backend_mem_create();
        return;
    }
    enum err err = backend_lmdb_open(f->dir, 1u << 30, true, &f->backend, &ec);
    assert_int_equal(err, OK);
}

void fixture_init(struct fixture *f, enum fixture_kind kind)
{
    *f = (struct fixture){.now_ms = 1000, .batch_limit = 1000, .compacted = -1};
    if (kind == ON_LMDB) {
        char name[] = "/tmp/pintle-engine-XXXXXX";
        assert_non_null(mkdtemp(name));
        f->dir = xstrdup(name);
    }
    open_backend(f);
    open_engine(f);
}

void fixture_deinit(struct fixture *f)
{
    engine_close(&f->e);
    for (size_t i = 0; i < f->n_log; i++) {
        buf_unref(&f->log[i].data);
    }
    free(f->log);
    if (f->dir != NULL) {
        char *command = xasprintf("rm -rf '%s'", f->dir);
        int rc = system(command);
        assert_int_equal(rc, 0);
        free(command);
        free(f->dir);
    }
}

static void replay(struct fixture *f)
{
    for (uint64_t i = engine_applied_index(f->e); i < f->n_log; i++) {
        struct apply_result r;
        engine_apply(f->e, i + 1, 1, f->log[i].type, buf_slice(f->log[i].data), false, f->now_ms,
                     &r);
        assert_null(r.body);
    }
}

/* In place of the backend's own close, so that the backend in memory outlives the engine. */
static void keep_open(struct backend **b)
{
    *b = NULL;
}

void fixture_release(struct fixture *f)
{
    const struct backend_ops *own = f->backend->ops;
    f->kept_ops = *own;
    f->kept_ops.close = keep_open;
    f->backend->ops = &f->kept_ops;
    engine_close(&f->e);
    f->backend->ops = own;
}

void fixture_crash(struct fixture *f, bool undo_last)
{
    assert_null(f->dir);
    fixture_release(f);
    backend_mem_crash(f->backend, undo_last);
    open_engine(f);
    replay(f);
}

void fixture_reopen(struct fixture *f)
{
    if (f->dir == NULL) {
        fixture_crash(f, false);
        return;
    }
    engine_close(&f->e);
    open_backend(f);
    open_engine(f);
    replay(f);
}

struct apply_result fixture_apply(struct fixture *f, uint32_t type, struct slice data,
                                  bool want_reply)
{
    if ((f->n_log & (f->n_log - 1)) == 0) { /* full: 0, 1, 2, 4, ... */
        f->log = xrealloc(f->log, (f->n_log == 0 ? 1 : f->n_log * 2) * sizeof(*f->log));
    }
    f->log[f->n_log++] = (struct logged){type, buf_copy(data)};
    struct apply_result r;
    engine_apply(f->e, f->n_log, 1, type, data, want_reply, f->now_ms, &r);
    f->index = f->n_log;
    return r;
}

struct apply_result fixture_request(struct fixture *f, const Etcdserverpb__InternalRaftRequest *r)
{
    size_t len = etcdserverpb__internal_raft_request__get_packed_size(r);
    uint8_t *data = xalloc(len + 1);
    etcdserverpb__internal_raft_request__pack(r, data);
    struct apply_result out = fixture_apply(f, 0, slice_of(data, len), true);
    free(data);
    return out;
}

void fixture_flush(struct fixture *f)
{
    bool more;
    struct err_ctx ec = {{0}};
    enum err err = engine_flush(f->e, false, &more, &ec);
    if (err != OK) {
        print_error("%s\n", ec.text);
    }
    assert_int_equal(err, OK);
}

void fixture_settle(struct fixture *f)
{
    bool more = true;
    for (int i = 0; more && i < 100000; i++) {
        struct err_ctx ec = {{0}};
        enum err err = engine_flush(f->e, false, &more, &ec);
        assert_int_equal(err, OK);
        while (engine_step(f->e)) {
        }
    }
    assert_false(more);
}

ProtobufCBinaryData fixture_bytes(const char *s)
{
    static uint8_t zero[1];
    if (strcmp(s, "*") == 0) {
        return (ProtobufCBinaryData){1, zero};
    }
    return (ProtobufCBinaryData){strlen(s), (uint8_t *)(uintptr_t)s};
}

struct apply_result fixture_put_full(struct fixture *f, const char *key, const char *value,
                                     int64_t lease, bool prev_kv, bool ignore_value,
                                     bool ignore_lease)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
    p.key = fixture_bytes(key);
    p.value = fixture_bytes(value);
    p.lease = lease;
    p.prev_kv = prev_kv;
    p.ignore_value = ignore_value;
    p.ignore_lease = ignore_lease;
    r.put = &p;
    return fixture_request(f, &r);
}

int64_t fixture_put(struct fixture *f, const char *key, const char *value)
{
    struct apply_result r = fixture_put_full(f, key, value, 0, false, false, false);
    assert_int_equal(r.err, OK);
    assert_null(r.body);
    return r.revision;
}

int64_t fixture_delete(struct fixture *f, const char *key, const char *range_end)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__DeleteRangeRequest d = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    d.key = fixture_bytes(key);
    d.range_end = fixture_bytes(range_end);
    r.delete_range = &d;
    struct apply_result res = fixture_request(f, &r);
    assert_int_equal(res.err, OK);
    int64_t n = 0;
    if (res.body != NULL) {
        Etcdserverpb__DeleteRangeResponse *resp =
            etcdserverpb__delete_range_response__unpack(NULL, res.body->len, res.body->data);
        assert_non_null(resp);
        n = resp->deleted;
        etcdserverpb__delete_range_response__free_unpacked(resp, NULL);
    }
    buf_unref(&res.body);
    return n;
}

struct apply_result fixture_compact_full(struct fixture *f, int64_t revision, bool physical)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__CompactionRequest c = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    c.revision = revision;
    c.physical = physical;
    r.compaction = &c;
    return fixture_request(f, &r);
}

enum err fixture_compact(struct fixture *f, int64_t revision)
{
    return fixture_compact_full(f, revision, false).err;
}

enum err fixture_grant(struct fixture *f, int64_t id, int64_t ttl)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__LeaseGrantRequest g = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    g.id = id;
    g.ttl = ttl;
    r.lease_grant = &g;
    struct apply_result res = fixture_request(f, &r);
    buf_unref(&res.body);
    return res.err;
}

enum err fixture_revoke(struct fixture *f, int64_t id)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__LeaseRevokeRequest g = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    g.id = id;
    r.lease_revoke = &g;
    return fixture_request(f, &r).err;
}

struct apply_result fixture_txn(struct fixture *f, Etcdserverpb__TxnRequest *t)
{
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.txn = t;
    return fixture_request(f, &r);
}

Etcdserverpb__RangeRequest fixture_range_request(const char *key, const char *range_end,
                                                 int64_t revision)
{
    Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;
    r.key = fixture_bytes(key);
    r.range_end = fixture_bytes(range_end);
    r.revision = revision;
    return r;
}

Etcdserverpb__RangeResponse *fixture_range(struct fixture *f, const Etcdserverpb__RangeRequest *r,
                                           enum err *err)
{
    struct range_read *rr = NULL;
    struct range_info info;
    struct err_ctx ec = {{0}};
    *err = engine_range_open(f->e, r, f->now_ms, &rr, &info, &ec);
    if (*err != OK) {
        return NULL;
    }
    assert_int_equal(info.header_revision, engine_revision(f->e));
    struct bytes all = {0};
    for (;;) {
        size_t room = 1 + all.len % 1777; /* odd pieces, so that records are cut anywhere */
        uint8_t *p = bytes_reserve(&all, room);
        size_t n = engine_range_pull(rr, p, room, err);
        if (*err != OK) {
            engine_range_close(&rr);
            bytes_deinit(&all);
            return NULL;
        }
        if (n == 0) {
            break;
        }
        all.len += n;
    }
    engine_range_close(&rr);
    assert_int_equal(all.len, info.kvs_bytes);
    Etcdserverpb__RangeResponse *resp =
        etcdserverpb__range_response__unpack(NULL, all.len, all.data);
    bytes_deinit(&all);
    assert_non_null(resp);
    assert_int_equal(resp->n_kvs, info.n_kvs);
    resp->more = info.more;
    resp->count = info.count;
    return resp;
}

void fixture_dump(struct fixture *f, const char *key, const char *range_end, int64_t revision,
                  char *out, size_t out_bytes)
{
    Etcdserverpb__RangeRequest r = fixture_range_request(key, range_end, revision);
    enum err err;
    Etcdserverpb__RangeResponse *resp = fixture_range(f, &r, &err);
    out[0] = 0;
    size_t at = 0;
    if (err != OK) {
        snprintf(out, out_bytes, "%s", err_text(err));
        return;
    }
    for (size_t i = 0; i < resp->n_kvs; i++) {
        const Mvccpb__KeyValue *kv = resp->kvs[i];
        int n =
            snprintf(out + at, out_bytes - at, "%.*s=%.*s@%lld,%lld,%lld,%lld;", (int)kv->key.len,
                     kv->key.data, (int)kv->value.len, kv->value.data, (long long)kv->mod_revision,
                     (long long)kv->create_revision, (long long)kv->version, (long long)kv->lease);
        assert_true(n > 0 && (size_t)n < out_bytes - at);
        at += (size_t)n;
    }
    etcdserverpb__range_response__free_unpacked(resp, NULL);
}

uint32_t fixture_hash_kv(struct fixture *f, int64_t revision)
{
    struct hash_kv h;
    struct err_ctx ec = {{0}};
    enum err err = engine_hash_kv(f->e, revision, &h, &ec);
    assert_int_equal(err, OK);
    return h.hash;
}

enum err fixture_conf_change(struct fixture *f, int type, uint64_t id, const char *context)
{
    Raftpb__ConfChange cc = RAFTPB__CONF_CHANGE__INIT;
    cc.has_type = 1;
    cc.type = (Raftpb__ConfChangeType)type;
    cc.has_node_id = 1;
    cc.node_id = id;
    cc.has_context = context != NULL;
    if (context != NULL) {
        cc.context = fixture_bytes(context);
    }
    uint8_t packed[1024];
    assert_true(raftpb__conf_change__get_packed_size(&cc) <= sizeof(packed));
    size_t len = raftpb__conf_change__pack(&cc, packed);
    return fixture_apply(f, 1, slice_of(packed, len), true).err;
}

void fixture_group_entry(unsigned group, unsigned n_keys, const char *value, struct bytes *out)
{
    static const char name_format[] = "g%02u/%03u";
    char keys[FIXTURE_GROUP_KEYS_MAX][16];
    Etcdserverpb__PutRequest puts[FIXTURE_GROUP_KEYS_MAX];
    Etcdserverpb__RequestOp ops[FIXTURE_GROUP_KEYS_MAX];
    Etcdserverpb__RequestOp *list[FIXTURE_GROUP_KEYS_MAX];
    ASSERT(n_keys <= FIXTURE_GROUP_KEYS_MAX);
    for (unsigned k = 0; k < n_keys; k++) {
        etcdserverpb__put_request__init(&puts[k]);
        etcdserverpb__request_op__init(&ops[k]);
        (void)snprintf(keys[k], sizeof(keys[k]), name_format, group, k);
        puts[k].key = fixture_bytes(keys[k]);
        puts[k].value = fixture_bytes(value);
        ops[k].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        ops[k].request_put = &puts[k];
        list[k] = &ops[k];
    }
    Etcdserverpb__TxnRequest t = ETCDSERVERPB__TXN_REQUEST__INIT;
    t.n_success = n_keys;
    t.success = list;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.txn = &t;
    size_t len = etcdserverpb__internal_raft_request__get_packed_size(&r);
    bytes_reset(out);
    out->len = etcdserverpb__internal_raft_request__pack(&r, bytes_reserve(out, len));
}
