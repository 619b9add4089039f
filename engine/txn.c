/* txn.c - executing transactions (etcd-v3-api.md 3.6.3).
 *
 * First every compare of the chosen path, nested txns included, against the state before; then
 * every check of the chosen path; only then the operations in order. Replies are written on the
 * way, so that a failure to build one cannot change what the transaction does: the operations go on
 * without it.
 */
#include "engine/txn.h"

#include "base/wire.h"
#include "engine/range_internal.h"

/* Field numbers of the replies. */
enum {
    HEADER = 1,
    HEADER_REVISION = 3,
    RANGE_MORE = 3,
    RANGE_COUNT = 4,
    PUT_PREV_KV = 2,
    DELETE_DELETED = 2,
    DELETE_PREV_KVS = 3,
    TXN_SUCCEEDED = 2,
    TXN_RESPONSES = 3,
    OP_RANGE = 1,
    OP_PUT = 2,
    OP_DELETE = 3,
    OP_TXN = 4,
};

struct run {
    struct view view;
    struct mvcc_txn *w; /* NULL: a reader's */
    struct bytes path;  /* owned; one byte for each txn in order of execution: its compares hold */
    size_t path_at;
    enum err reply_err; /* first failure in building the reply */
};

struct branch {
    Etcdserverpb__RequestOp *const *ops;
    size_t n;
};

static struct branch branch_of(const Etcdserverpb__TxnRequest *t, bool succeeded)
{
    return succeeded ? (struct branch){t->success, t->n_success}
                     : (struct branch){t->failure, t->n_failure};
}

/* --- before the first change
 * ------------------------------------------------------------------------ */

static enum err decide(struct run *run, const Etcdserverpb__TxnRequest *t, struct err_ctx *ec)
{
    bool holds;
    enum err err = compare_all(&run->view, t->compare, t->n_compare, &holds, ec);
    uint8_t step = holds;
    bytes_add(&run->path, &step, 1);
    struct branch b = branch_of(t, holds);
    for (size_t i = 0; err == OK && i < b.n; i++) {
        if (b.ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN) {
            err = decide(run, b.ops[i]->request_txn, ec);
        }
    }
    return err;
}

static enum err check_revision(const struct view *v, const Etcdserverpb__RangeRequest *r)
{
    if (r->revision == 0) {
        return OK;
    }
    /* A negative revision means live to a plain Range, but here it is compared as it stands, as in
     * etcd. */
    return r->revision > v->revision    ? ERR_FUTURE_REV
           : r->revision < v->compacted ? ERR_COMPACTED
                                        : OK;
}

static enum err check(struct run *run, const Etcdserverpb__TxnRequest *t, enum err *answer,
                      struct err_ctx *ec)
{
    struct branch b = branch_of(t, run->path.data[run->path_at++] != 0);
    enum err err = OK;
    for (size_t i = 0; err == OK && *answer == OK && i < b.n; i++) {
        switch ((int)b.ops[i]->request_case) {
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
            *answer = check_revision(&run->view, b.ops[i]->request_range);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT:
            err = put_check(run->view.e, b.ops[i]->request_put, answer, ec);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN:
            err = check(run, b.ops[i]->request_txn, answer, ec);
            break;
        default: /* deletions need no check; an empty op does nothing */
            break;
        }
    }
    return err;
}

enum err put_check(struct engine *e, const Etcdserverpb__PutRequest *p, enum err *answer,
                   struct err_ctx *ec)
{
    if (p->key.len == 0) {
        *answer = ERR_EMPTY_KEY;
        return OK;
    }
    if (p->lease != 0 && !lease_exists(e->leases, p->lease)) {
        *answer = ERR_LEASE_NOT_FOUND;
        return OK;
    }
    if (!p->ignore_value && !p->ignore_lease) {
        return OK;
    }
    struct key_version v;
    if (!index_get(e->index, slice_pb(p->key), INDEX_LATEST, &v)) {
        *answer = ERR_KEY_NOT_FOUND;
        return OK;
    }
    if (!p->ignore_value) {
        return OK;
    }
    /* The old value becomes part of the new state, so that it can be read must be known before
     * anything is written. */
    struct buf *old = NULL;
    enum err err = store_read_one(e, v.mod, &old, ec);
    buf_unref(&old);
    return err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
}

void put_execute(struct mvcc_txn *w, const Etcdserverpb__PutRequest *p, struct buf **prev,
                 enum err *read_err)
{
    struct engine *e = w->e;
    struct slice key = slice_pb(p->key);
    struct slice value = slice_pb(p->value);
    int64_t lease = p->ignore_lease ? lease_of_key(e->leases, key) : p->lease;
    struct buf *old = NULL;
    struct key_version v;
    if ((p->ignore_value || prev != NULL) && index_get(e->index, key, INDEX_LATEST, &v)) {
        enum err err = store_read_one(e, v.mod, &old, NULL);
        /* It was read a moment ago; to go on without it would be to make up a value. */
        ASSERT(err == OK || !p->ignore_value);
        if (err != OK) {
            *read_err = err == ERR_NOT_FOUND ? ERR_CORRUPT : err;
        }
    }
    if (p->ignore_value && old != NULL) {
        struct kv_view kv;
        enum err err = kv_decode(buf_slice(old), &kv);
        ASSERT(err == OK);
        value = kv.value;
    }
    mvcc_put(w, key, value, lease);
    if (prev != NULL) {
        *prev = old;
    } else {
        buf_unref(&old);
    }
}

/* --- replies
 * ------------------------------------------------------------------------------------------ */

static size_t field_bytes(size_t len)
{
    return 1 + wire_varint_size(len) + len;
}

/* The header inside a txn carries the revision alone. */
static size_t header_bytes(int64_t revision)
{
    return field_bytes(1 + wire_varint_size((uint64_t)revision));
}

static void add_header(struct bytes *out, int64_t revision)
{
    wire_add_message_head(out, HEADER, 1 + wire_varint_size((uint64_t)revision));
    wire_add_int(out, HEADER_REVISION, revision);
}

/* Heads of the ResponseOp and of the response in it, which has `len` bytes. false: the reply would
 * grow too large. */
static bool add_op_head(struct run *run, struct bytes *out, uint32_t field, uint64_t len)
{
    if (len > ENGINE_REPLY_BYTES_MAX || out->len + len > ENGINE_REPLY_BYTES_MAX) {
        run->reply_err = ERR_LIMIT;
        return false;
    }
    wire_add_message_head(out, TXN_RESPONSES, field_bytes((size_t)len));
    wire_add_message_head(out, field, (size_t)len);
    return true;
}

static int64_t revision_now(const struct run *run)
{
    return run->w == NULL ? run->view.revision : mvcc_revision(run->w);
}

/* --- operations: `out` is NULL when no reply is wanted or it cannot be built
 * -------------------------- */

static size_t number_bytes(uint64_t v)
{
    return v == 0 ? 0 : 1 + wire_varint_size(v);
}

static void fill_range(struct run *run, struct range_read *rr, const struct range_info *info,
                       struct bytes *out)
{
    int64_t revision = revision_now(run);
    uint64_t len = header_bytes(revision) + info->kvs_bytes + number_bytes(info->more) +
                   number_bytes((uint64_t)info->count);
    if (!add_op_head(run, out, OP_RANGE, len)) {
        return;
    }
    add_header(out, revision);
    uint8_t *p = bytes_reserve(out, (size_t)info->kvs_bytes);
    enum err err;
    size_t n = engine_range_pull(rr, p, (size_t)info->kvs_bytes, &err);
    if (err != OK) {
        run->reply_err = err;
        return;
    }
    ASSERT(n == info->kvs_bytes);
    out->len += n;
    wire_add_bool(out, RANGE_MORE, info->more);
    wire_add_int(out, RANGE_COUNT, info->count);
}

static void do_range(struct run *run, const Etcdserverpb__RangeRequest *r, struct bytes *out)
{
    struct view *v = &run->view;
    if (run->w != NULL) {
        run->w->n_ops++;
    }
    if (out == NULL) {
        return;
    }
    struct range_read *rr = NULL;
    struct range_info info;
    lock_read(v->e);
    enum err err = view_valid(v);
    if (err != OK) {
        unlock(v->e);
        run->reply_err = err;
        return;
    }
    int64_t at = r->revision <= 0 ? v->at : r->revision;
    err = range_open_at(v->e, r, at, v->pin != NULL, v->now_ms, &rr, &info, NULL);
    if (err != OK) {
        run->reply_err = err;
        return;
    }
    fill_range(run, rr, &info, out);
    engine_range_close(&rr);
}

static void do_put(struct run *run, const Etcdserverpb__PutRequest *p, struct bytes *out)
{
    struct buf *prev = NULL;
    put_execute(run->w, p, out != NULL && p->prev_kv ? &prev : NULL, &run->reply_err);
    int64_t revision = mvcc_revision(run->w);
    size_t len = header_bytes(revision) + (prev == NULL ? 0 : field_bytes(prev->len));
    if (out != NULL && run->reply_err == OK && add_op_head(run, out, OP_PUT, len)) {
        add_header(out, revision);
        if (prev != NULL) {
            wire_add_message(out, PUT_PREV_KV, buf_slice(prev));
        }
    }
    buf_unref(&prev);
}

static void do_delete(struct run *run, const Etcdserverpb__DeleteRangeRequest *d, struct bytes *out)
{
    struct span s = span_of(d->key, d->range_end);
    struct bytes prev_kvs = {0};
    int64_t n = mvcc_delete_span(run->w, &s, out != NULL && d->prev_kv ? &prev_kvs : NULL,
                                 DELETE_PREV_KVS, &run->reply_err);
    int64_t revision = mvcc_revision(run->w);
    size_t len = header_bytes(revision) + number_bytes((uint64_t)n) + prev_kvs.len;
    if (out != NULL && run->reply_err == OK && add_op_head(run, out, OP_DELETE, len)) {
        add_header(out, revision);
        wire_add_int(out, DELETE_DELETED, n);
        bytes_add(out, prev_kvs.data, prev_kvs.len);
    }
    bytes_deinit(&prev_kvs);
}

static void do_branch(struct run *run, const Etcdserverpb__TxnRequest *t, struct bytes *out);

static void do_nested(struct run *run, const Etcdserverpb__TxnRequest *t, struct bytes *out)
{
    struct bytes inner = {0};
    if (out != NULL) {
        wire_add_message(&inner, HEADER, (struct slice){0});
    }
    do_branch(run, t, out != NULL ? &inner : NULL);
    if (out != NULL && run->reply_err == OK && add_op_head(run, out, OP_TXN, inner.len)) {
        bytes_add(out, inner.data, inner.len);
    }
    bytes_deinit(&inner);
}

static void do_branch(struct run *run, const Etcdserverpb__TxnRequest *t, struct bytes *out)
{
    bool succeeded = run->path.data[run->path_at++] != 0;
    struct branch b = branch_of(t, succeeded);
    if (out != NULL) {
        wire_add_bool(out, TXN_SUCCEEDED, succeeded);
    }
    for (size_t i = 0; i < b.n; i++) {
        const Etcdserverpb__RequestOp *op = b.ops[i];
        struct bytes *to = run->reply_err == OK ? out : NULL;
        switch ((int)op->request_case) {
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
            do_range(run, op->request_range, to);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT:
            do_put(run, op->request_put, to);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
            do_delete(run, op->request_delete_range, to);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN:
            do_nested(run, op->request_txn, to);
            break;
        default: /* an empty op does nothing and answers nothing */
            if (to != NULL) {
                wire_add_message(to, TXN_RESPONSES, (struct slice){0});
            }
            break;
        }
    }
}

/* --- whole txns
 * --------------------------------------------------------------------------------------- */

enum err txn_apply(struct engine *e, const Etcdserverpb__TxnRequest *r, struct bytes *body,
                   enum err *answer, struct err_ctx *ec)
{
    struct mvcc_txn w;
    mvcc_begin(&w, e);
    struct run run = {
        .view = {.e = e,
                 .at = INDEX_LATEST,
                 .revision = w.begin_revision,
                 .compacted = atomic_load_explicit(&e->compact_revision, memory_order_relaxed)},
        .w = &w,
    };
    *answer = OK;
    enum err err = decide(&run, r, ec);
    if (err == OK) {
        err = check(&run, r, answer, ec);
    }
    if (err == OK && *answer == OK) {
        run.path_at = 0;
        do_branch(&run, r, body);
        mvcc_end(&w);
        *answer = run.reply_err;
    }
    bytes_deinit(&run.path);
    return err;
}

enum err engine_txn_read(struct engine *e, const Etcdserverpb__TxnRequest *r, uint64_t now_ms,
                         struct bytes *body, int64_t *revision, struct err_ctx *ec)
{
    struct pin pin;
    bool serializable;
    ASSERT(engine_txn_is_read_only(r, &serializable));
    engine_note_time(e, now_ms);
    lock_read(e);
    int64_t live = atomic_load_explicit(&e->revision, memory_order_acquire);
    int64_t compacted = atomic_load_explicit(&e->compact_revision, memory_order_relaxed);
    /* Pinned at the compact revision, because ranges may name any revision from there on. */
    bool pinned = pins_add(&e->pins, &pin, compacted, now_ms);
    uint64_t generation = engine_generation(e);
    unlock(e);
    if (!pinned) {
        return err_set(ec, ERR_TOO_MANY_REQUESTS, "%u large reads are under way", ENGINE_PINS_MAX);
    }
    struct run run = {
        .view = {.e = e,
                 .at = live,
                 .revision = live,
                 .compacted = compacted,
                 .pin = &pin,
                 .generation = generation,
                 .now_ms = now_ms},
    };
    enum err answer = OK;
    enum err err = decide(&run, r, ec);
    if (err == OK) {
        err = check(&run, r, &answer, ec);
    }
    if (err == OK) {
        err = answer;
    }
    size_t before = body->len;
    if (err == OK) {
        run.path_at = 0;
        do_branch(&run, r, body);
        err = run.reply_err;
    }
    if (err != OK) {
        body->len = before;
    } else {
        *revision = live;
    }
    pins_remove(&e->pins, &pin);
    bytes_deinit(&run.path);
    return err;
}
