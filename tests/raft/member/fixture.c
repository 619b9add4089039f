/* fixture.c - see fixture.h. */
#include "tests/raft/member/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"

#define PATIENCE_S 200 /* of real time: whoever waits longer has found a hang, even with a race detector on a busy machine */

/* --- the store -------------------------------------------------------------------------------------- */

static struct gate *gate_of(struct backend *b)
{
    return CONTAINER_OF(b, struct gate, base);
}

static void gate_close(struct backend **b)
{
    *b = NULL; /* what it holds is for the next open */
}

static enum err gate_begin(struct backend *b, struct err_ctx *ec)
{
    struct gate *g = gate_of(b);
    return g->inner->ops->begin(g->inner, ec);
}

static enum err gate_put(struct backend *b, enum bucket k, struct slice key, struct slice v1, struct slice v2,
                         bool append, struct err_ctx *ec)
{
    struct gate *g = gate_of(b);
    return g->inner->ops->put(g->inner, k, key, v1, v2, append, ec);
}

static enum err gate_del(struct backend *b, enum bucket k, struct slice key, struct err_ctx *ec)
{
    struct gate *g = gate_of(b);
    return g->inner->ops->del(g->inner, k, key, ec);
}

static void gate_abort(struct backend *b)
{
    struct gate *g = gate_of(b);
    g->inner->ops->abort(g->inner);
}

static enum err gate_commit(struct backend *b, struct err_ctx *ec)
{
    struct gate *g = gate_of(b);
    pthread_mutex_lock(&g->hold);
    pthread_mutex_unlock(&g->hold);
    uint64_t n = atomic_fetch_add(&g->n_commits, 1) + 1;
    uint64_t fail_at = atomic_load(&g->fail_at);
    bool dark = g->power != NULL && g->power_at != 0 && vfs_fault_calls(g->power) >= g->power_at;
    if (dark || (fail_at != 0 && n >= fail_at)) {
        g->inner->ops->abort(g->inner);
        return err_set(ec, ERR_IO, "injected failure of commit %llu", (unsigned long long)n);
    }
    return g->inner->ops->commit(g->inner, ec);
}

static enum err gate_read_begin(struct backend *b, struct backend_read **out, struct err_ctx *ec)
{
    struct gate *g = gate_of(b);
    return g->inner->ops->read_begin(g->inner, out, ec);
}

static struct backend_stats gate_stats(struct backend *b)
{
    struct gate *g = gate_of(b);
    return g->inner->ops->stats(g->inner);
}

static enum err gate_defrag(struct backend *b, struct err_ctx *ec)
{
    struct gate *g = gate_of(b);
    atomic_fetch_add(&g->n_defrags, 1);
    return g->inner->ops->defrag(g->inner, ec);
}

/* Reads and cursors are the inner store's own. */
static void gate_init(struct gate *g, struct backend_ops *ops)
{
    g->inner = backend_mem_create();
    pthread_mutex_init(&g->hold, NULL);
    *ops = *g->inner->ops;
    ops->close = gate_close;
    ops->begin = gate_begin;
    ops->put = gate_put;
    ops->del = gate_del;
    ops->commit = gate_commit;
    ops->abort = gate_abort;
    ops->read_begin = gate_read_begin;
    ops->stats = gate_stats;
    ops->defrag = gate_defrag;
    g->base.ops = ops;
}

/* --- callbacks (of other threads, where cmocka cannot fail a test) -------------------------------------------------------------------------------------- */

static void on_answered(void *arg, struct member_op *first, struct member_op *last, size_t n)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    struct member_op *op = first;
    for (size_t i = 0; i < n; i++) {
        struct member_op *next = CONTAINER_OF(op->node.next, struct member_op, node);
        bool is_last = op->node.next == NULL;
        ASSERT(is_last == (i == n - 1));
        ASSERT(!is_last || op == last);
        struct ask *a = CONTAINER_OF(op, struct ask, op);
        ASSERT(!a->answered);
        a->answered = true;
        op = next;
    }
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
}

static void on_changed(void *arg, struct event_batch *const *batches, size_t n)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    for (size_t i = 0; i < n; i++) {
        struct event_batch *b = batches[i];
        ASSERT(b->revision > f->changed_revision);
        f->changed_revision = b->revision;
        f->n_changes += b->n;
        event_batch_unref(&b);
    }
    pthread_mutex_unlock(&f->lock);
}

static void on_failed(void *arg, enum err e, const char *what)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    if (f->n_failed++ == 0) {
        f->failed = e;
        (void)snprintf(f->failed_text, sizeof(f->failed_text), "%s", what);
    }
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
}

static void on_removed(void *arg)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    f->n_removed++;
    pthread_mutex_unlock(&f->lock);
}

static void on_ready(void *arg)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    ASSERT(!f->ready);
    f->ready = true;
    pthread_cond_broadcast(&f->news);
    pthread_mutex_unlock(&f->lock);
}

static uint64_t now_ns(void *self)
{
    struct fixture *f = self;
    uint64_t frozen = atomic_load(&f->clock_frozen_ns);
    return (frozen != 0 ? frozen : clock_now_ns(clock_real())) + atomic_load(&f->clock_offset_ns);
}

static uint64_t wall_ns(void *self)
{
    (void)self;
    return clock_wall_ns(clock_real());
}

/* --- life -------------------------------------------------------------------------------------------- */

void fixture_init(struct fixture *f)
{
    memset(f, 0, sizeof(*f));
    struct err_ctx ec = {{0}};
    f->disk = vfs_mem_create();
    assert_int_equal(f->disk->ops->mkdir(f->disk, DATA_DIR, &ec), OK);
    assert_int_equal(f->disk->ops->sync_dir(f->disk, ".", &ec), OK);
    gate_init(&f->store, xcalloc(1, sizeof(struct backend_ops)));
    f->clock = (struct clock){now_ns, wall_ns, f};
    f->n_initial = 1;
    f->max_request_bytes = 1u << 20;
    f->member_id = MEMBER;
    pthread_mutex_init(&f->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&f->news, &attr);
    pthread_condattr_destroy(&attr);
    f->port = (struct member_port){.answered = on_answered, .changed = on_changed, .arg = f};
    f->ports[0] = &f->port;
}

void fixture_deinit(struct fixture *f)
{
    fixture_close(f);
    fixture_clear_fault(f);
    f->store.inner->ops->close(&f->store.inner);
    free((void *)(uintptr_t)f->store.base.ops);
    pthread_mutex_destroy(&f->store.hold);
    vfs_mem_destroy(&f->disk);
    pthread_cond_destroy(&f->news);
    pthread_mutex_destroy(&f->lock);
}

void fixture_set_fault(struct fixture *f, const struct vfs_fault_plan *plan)
{
    assert_null(f->m);
    fixture_clear_fault(f);
    f->fault = vfs_fault_create(f->disk, plan);
    if (plan->sticky) {
        f->store.power = f->fault;
        f->store.power_at = plan->fail_at;
    }
}

void fixture_clear_fault(struct fixture *f)
{
    assert_null(f->m);
    f->store.power = NULL;
    f->store.power_at = 0;
    if (f->fault != NULL) {
        vfs_fault_destroy(&f->fault);
    }
}

enum err fixture_try_open(struct fixture *f, struct err_ctx *ec)
{
    static const char *const urls_a[] = {"http://127.0.0.1:2380", NULL};
    static const char *const urls_b[] = {"http://127.0.0.1:2381", NULL};
    static const char *const client_urls[] = {"http://127.0.0.1:2379", NULL};
    static const struct member_peer peers[] = {{MEMBER, "a", urls_a}, {OTHER_MEMBER, "b", urls_b}};
    assert_null(f->m);
    f->ready = false;
    f->n_failed = 0;
    f->changed_revision = 0;
    f->metrics = metrics_create();
    struct member_config cfg = {
        .cluster_id = CLUSTER,
        .member_id = f->member_id,
        .name = "a",
        .client_urls = client_urls,
        .initial = peers,
        .n_initial = f->n_initial,
        .vfs = f->fault != NULL ? f->fault : f->disk,
        .clock = &f->clock,
        .metrics = f->metrics,
        .wal_dir = LOG_DIR,
        .segment_bytes = WAL_SEGMENT_BYTES_MIN,
        .backend = &f->store.base,
        .place = f->place,
        .transport = f->transport,
        .heartbeat_ms = HEARTBEAT_MS,
        .election_ms = ELECTION_MS,
        .pre_vote = true,
        .catch_up_entries = 5000,
        .quota_bytes = INT64_MAX,
        .compaction_batch_limit = 10,
        .max_request_bytes = f->max_request_bytes,
        .priority_requests = f->priority_requests,
        .version = "3.7.1",
        .ports = (struct member_port *const *)(uintptr_t)f->ports,
        .failed = on_failed,
        .ready = on_ready,
        .removed = on_removed,
        .arg = f,
    };
    enum err e = member_open(&cfg, &f->m, ec);
    if (e != OK) {
        assert_null(f->m);
        metrics_destroy(&f->metrics);
    }
    return e;
}

void fixture_open(struct fixture *f)
{
    struct err_ctx ec = {{0}};
    enum err e = fixture_try_open(f, &ec);
    if (e != OK) {
        fail_msg("open: %s", ec.text);
    }
}

void fixture_start(struct fixture *f)
{
    fixture_open(f);
    member_start(f->m);
    assert_true(fixture_wait_ready(f));
}

void fixture_close(struct fixture *f)
{
    if (f->m == NULL) {
        return;
    }
    member_stop(f->m);
    member_close(&f->m);
    metrics_destroy(&f->metrics);
}

void fixture_freeze(struct fixture *f)
{
    atomic_store(&f->clock_frozen_ns, clock_now_ns(clock_real()));
}

void fixture_advance(struct fixture *f, uint64_t ms)
{
    atomic_fetch_add(&f->clock_offset_ns, ms * 1000000u);
}

/* One wait of a longer one. The lock is held. */
static void wait_news(struct fixture *f, const struct timespec *until)
{
    if (pthread_cond_timedwait(&f->news, &f->lock, until) != 0) {
        pthread_mutex_unlock(&f->lock);
        fail_msg("waited %d s for the member", PATIENCE_S);
    }
}

static struct timespec patience(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_sec += PATIENCE_S;
    return t;
}

bool fixture_wait_ready(struct fixture *f)
{
    struct timespec until = patience();
    pthread_mutex_lock(&f->lock);
    while (!f->ready && f->n_failed == 0) {
        wait_news(f, &until);
    }
    bool ready = f->ready;
    pthread_mutex_unlock(&f->lock);
    return ready;
}

bool fixture_has_failed(struct fixture *f)
{
    pthread_mutex_lock(&f->lock);
    bool failed = f->n_failed > 0;
    pthread_mutex_unlock(&f->lock);
    return failed;
}

void fixture_wait_failed(struct fixture *f)
{
    struct timespec until = patience();
    pthread_mutex_lock(&f->lock);
    while (f->n_failed == 0) {
        wait_news(f, &until);
    }
    pthread_mutex_unlock(&f->lock);
}

/* --- asking -------------------------------------------------------------------------------------------- */

enum err ask_submit(struct fixture *f, struct ask *a)
{
    a->f = f;
    a->op.port = &f->port;
    return member_submit(f->m, &a->op);
}

bool ask_answered(struct ask *a)
{
    pthread_mutex_lock(&a->f->lock);
    bool answered = a->answered;
    pthread_mutex_unlock(&a->f->lock);
    return answered;
}

enum err ask_wait(struct ask *a)
{
    struct timespec until = patience();
    pthread_mutex_lock(&a->f->lock);
    while (!a->answered) {
        wait_news(a->f, &until);
    }
    pthread_mutex_unlock(&a->f->lock);
    return a->op.err;
}

bool ask_wait_or_failed(struct ask *a)
{
    struct timespec until = patience();
    pthread_mutex_lock(&a->f->lock);
    while (!a->answered && a->f->n_failed == 0) {
        wait_news(a->f, &until);
    }
    bool answered = a->answered;
    pthread_mutex_unlock(&a->f->lock);
    return answered;
}

void ask_release(struct ask *a)
{
    buf_unref(&a->op.result.body);
}

enum err ask_kind(struct fixture *f, enum member_op_kind kind)
{
    struct ask a = {.op.kind = kind};
    enum err e = ask_submit(f, &a);
    return e != OK ? e : ask_wait(&a);
}

static ProtobufCBinaryData bin(struct slice s)
{
    return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.data};
}

static struct buf *pack(Etcdserverpb__InternalRaftRequest *r)
{
    struct buf *b = buf_create(etcdserverpb__internal_raft_request__get_packed_size(r));
    etcdserverpb__internal_raft_request__pack(r, b->data);
    return b;
}

/* A put when `key` does not exist, else a deletion of it and a put of another. */
static struct buf *encode_txn(Etcdserverpb__InternalRaftRequest *r, const struct proposal *p)
{
    Etcdserverpb__Compare compare = ETCDSERVERPB__COMPARE__INIT;
    compare.key = bin(slice_str(p->key));
    compare.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
    compare.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
    Etcdserverpb__PutRequest puts[2] = {ETCDSERVERPB__PUT_REQUEST__INIT, ETCDSERVERPB__PUT_REQUEST__INIT};
    puts[0].key = bin(slice_str(p->key));
    puts[0].value = bin(p->value);
    puts[1].key = bin(slice_str("else"));
    puts[1].value = bin(p->value);
    Etcdserverpb__DeleteRangeRequest del = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    del.key = bin(slice_str(p->key));
    Etcdserverpb__RequestOp ops[3] = {ETCDSERVERPB__REQUEST_OP__INIT, ETCDSERVERPB__REQUEST_OP__INIT,
                                      ETCDSERVERPB__REQUEST_OP__INIT};
    ops[0].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    ops[0].request_put = &puts[0];
    ops[1].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    ops[1].request_delete_range = &del;
    ops[2].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    ops[2].request_put = &puts[1];
    Etcdserverpb__Compare *compares[] = {&compare};
    Etcdserverpb__RequestOp *success[] = {&ops[0]};
    Etcdserverpb__RequestOp *failure[] = {&ops[1], &ops[2]};
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    txn.n_compare = 1;
    txn.compare = compares;
    txn.n_success = 1;
    txn.success = success;
    txn.n_failure = 2;
    txn.failure = failure;
    r->txn = &txn;
    return pack(r);
}

struct buf *proposal_encode(const struct proposal *p, uint64_t request_id)
{
    Etcdserverpb__RequestHeader header = ETCDSERVERPB__REQUEST_HEADER__INIT;
    header.id = request_id;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.header = &header;
    Etcdserverpb__PutRequest put_request = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__DeleteRangeRequest del = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    Etcdserverpb__CompactionRequest compact = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    Etcdserverpb__LeaseGrantRequest grant = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    Etcdserverpb__LeaseRevokeRequest revoke = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    switch (p->kind) {
    case PROPOSE_PUT:
        put_request.key = bin(slice_str(p->key));
        put_request.value = bin(p->value);
        put_request.lease = p->number;
        r.put = &put_request;
        break;
    case PROPOSE_DELETE:
        del.key = bin(slice_str(p->key));
        r.delete_range = &del;
        break;
    case PROPOSE_TXN:
        return encode_txn(&r, p);
    case PROPOSE_COMPACT:
        compact.revision = p->number;
        compact.physical = p->physical;
        r.compaction = &compact;
        break;
    case PROPOSE_GRANT:
        grant.id = p->number;
        grant.ttl = p->ttl;
        r.lease_grant = &grant;
        break;
    case PROPOSE_REVOKE:
        revoke.id = p->number;
        r.lease_revoke = &revoke;
        break;
    }
    return pack(&r);
}

enum err propose_start(struct fixture *f, struct ask *a, const struct proposal *p)
{
    *a = (struct ask){.op.kind = MEMBER_PROPOSE};
    a->op.request_id = member_next_request_id(f->m);
    a->op.data = proposal_encode(p, a->op.request_id);
    struct buf *data = a->op.data;
    enum err e = ask_submit(f, a);
    if (e != OK) {
        buf_unref(&data);
    }
    return e;
}

enum err propose(struct fixture *f, const struct proposal *p)
{
    struct ask a;
    enum err e = propose_start(f, &a, p);
    if (e != OK) {
        return e;
    }
    e = ask_wait(&a);
    ask_release(&a);
    return e;
}

enum err put(struct fixture *f, const char *key, const char *value)
{
    return propose(f, &(struct proposal){.kind = PROPOSE_PUT, .key = key, .value = slice_str(value)});
}

/* --- looking -------------------------------------------------------------------------------------------- */

struct hash_kv hash_kv(struct fixture *f)
{
    struct hash_kv h = {0};
    struct err_ctx ec = {{0}};
    enum err e = engine_hash_kv(member_engine(f->m), 0, &h, &ec);
    if (e != OK) {
        fail_msg("hash: %s", ec.text);
    }
    return h;
}

struct names {
    char list[256][64];
    size_t n;
};

static void on_name(void *arg, const char *name)
{
    struct names *names = arg;
    assert_true(names->n < ARRAY_LEN(names->list));
    (void)snprintf(names->list[names->n++], sizeof(names->list[0]), "%s", name);
}

static struct names list_names(struct fixture *f, const char *dir)
{
    struct names names = {.n = 0};
    struct err_ctx ec = {{0}};
    assert_int_equal(f->disk->ops->list(f->disk, dir, on_name, &names, &ec), OK);
    return names;
}

size_t count_files(struct fixture *f, const char *dir)
{
    return list_names(f, dir).n;
}

void remove_log(struct fixture *f)
{
    struct names names = list_names(f, LOG_DIR);
    for (size_t i = 0; i < names.n; i++) {
        char path[128];
        struct err_ctx ec = {{0}};
        (void)snprintf(path, sizeof(path), LOG_DIR "/%s", names.list[i]);
        assert_int_equal(f->disk->ops->unlink(f->disk, path, &ec), OK);
    }
}

static bool nothing(struct member *m, struct member_op *op)
{
    (void)m;
    op->err = OK;
    return true;
}

void fixture_turn(struct fixture *f)
{
    struct ask a = {.op = {.kind = MEMBER_CALL, .call = nothing}};
    assert_int_equal(ask_submit(f, &a), OK);
    assert_int_equal(ask_wait(&a), OK);
    ask_release(&a);
}
