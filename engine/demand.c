/* demand.c - see demand.h.
 *
 * A transaction is walked depth first: its compares, then the operations of the branch for success,
 * then those of the other one. A frame of the walk remembers where in a transaction it stands.
 */
#include "engine/demand.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/auth_range.h"
#include "engine/engine.h"

struct visitor {
    enum err (*each)(void *arg, const struct demand *d);
    void *arg;
};

static struct slice slice_of_pb(ProtobufCBinaryData d)
{
    return slice_of(d.data, d.len);
}

static enum err visit(const struct visitor *v, enum demand_verb verb, ProtobufCBinaryData key,
                      ProtobufCBinaryData range_end)
{
    struct demand d = {.kind = DEMAND_RANGE,
                       .verb = verb,
                       .key = slice_of_pb(key),
                       .range_end = slice_of_pb(range_end)};
    return v->each(v->arg, &d);
}

static enum err visit_lease(const struct visitor *v, enum demand_verb verb, int64_t id)
{
    struct demand d = {.kind = DEMAND_LEASE_KEYS, .verb = verb, .lease = id};
    return v->each(v->arg, &d);
}

static enum err of_range(const struct visitor *v, const Etcdserverpb__RangeRequest *r)
{
    return visit(v, DEMAND_READ, r->key, r->range_end);
}

/* Who attaches a key to a lease decides when the lease's other keys go. */
static enum err of_put(const struct visitor *v, const Etcdserverpb__PutRequest *p)
{
    const ProtobufCBinaryData one_key = {0};
    enum err err = visit(v, DEMAND_WRITE, p->key, one_key);
    if (err == OK && p->lease != 0) {
        err = visit_lease(v, DEMAND_WRITE, p->lease);
    }
    if (err == OK && p->prev_kv) {
        err = visit(v, DEMAND_READ, p->key, one_key);
    }
    return err;
}

static enum err of_delete(const struct visitor *v, const Etcdserverpb__DeleteRangeRequest *d)
{
    enum err err = visit(v, DEMAND_WRITE, d->key, d->range_end);
    if (err == OK && d->prev_kv) {
        err = visit(v, DEMAND_READ, d->key, d->range_end);
    }
    return err;
}

/* A watch without a key begins at the first key there can be. */
static enum err of_watch(const struct visitor *v, const Etcdserverpb__WatchCreateRequest *w)
{
    static const uint8_t first[1];
    struct demand d = {.kind = DEMAND_RANGE,
                       .verb = DEMAND_READ,
                       .key = w->key.len == 0 ? slice_of(first, 1) : slice_of_pb(w->key),
                       .range_end = slice_of_pb(w->range_end)};
    return v->each(v->arg, &d);
}

/* --- transactions
 * ---------------------------------------------------------------------------------- */

struct frame {
    const Etcdserverpb__TxnRequest *txn;
    size_t at; /* below n_success an operation of that branch, then of the other one */
};

static enum err of_compares(const struct visitor *v, const Etcdserverpb__TxnRequest *t)
{
    enum err err = OK;
    for (size_t i = 0; err == OK && i < t->n_compare; i++) {
        err = visit(v, DEMAND_READ, t->compare[i]->key, t->compare[i]->range_end);
    }
    return err;
}

/* Takes the next operation of the frame; NULL at its end. */
static const Etcdserverpb__RequestOp *next_op(struct frame *f)
{
    const Etcdserverpb__TxnRequest *t = f->txn;
    size_t i = f->at;
    if (i >= t->n_success + t->n_failure) {
        return NULL;
    }
    f->at++;
    return i < t->n_success ? t->success[i] : t->failure[i - t->n_success];
}

/* The demands of one operation; *inner is set when it is a transaction itself. */
static enum err of_op(const struct visitor *v, const Etcdserverpb__RequestOp *op,
                      const Etcdserverpb__TxnRequest **inner)
{
    *inner = NULL;
    switch ((int)op->request_case) {
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
        return of_range(v, op->request_range);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT:
        return of_put(v, op->request_put);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
        return of_delete(v, op->request_delete_range);
    case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN:
        *inner = op->request_txn;
        return OK;
    default:
        return OK; /* an operation that is not set does nothing */
    }
}

static enum err of_txn(const struct visitor *v, const Etcdserverpb__TxnRequest *t)
{
    struct frame stack[ENGINE_TXN_DEPTH_MAX];
    size_t depth = 1;
    stack[0] = (struct frame){.txn = t};
    enum err err = of_compares(v, t);
    while (err == OK && depth > 0) {
        const Etcdserverpb__TxnRequest *inner;
        const Etcdserverpb__RequestOp *op = next_op(&stack[depth - 1]);
        if (op == NULL) {
            depth--;
            continue;
        }
        err = of_op(v, op, &inner);
        if (err != OK || inner == NULL) {
            continue;
        }
        if (depth == ENGINE_TXN_DEPTH_MAX) {
            return ERR_TOO_MANY_OPS;
        }
        stack[depth++] = (struct frame){.txn = inner};
        err = of_compares(v, inner);
    }
    return err;
}

/* --- requests
 * -------------------------------------------------------------------------------------- */

enum err demand_each(const struct demand_request *r,
                     enum err (*each)(void *arg, const struct demand *d), void *arg)
{
    const struct visitor v = {each, arg};
    switch (r->kind) {
    case DEMAND_OF_RANGE:
        return of_range(&v, r->of.range);
    case DEMAND_OF_PUT:
        return of_put(&v, r->of.put);
    case DEMAND_OF_DELETE:
        return of_delete(&v, r->of.delete_range);
    case DEMAND_OF_TXN:
        return of_txn(&v, r->of.txn);
    case DEMAND_OF_WATCH:
        return of_watch(&v, r->of.watch);
    case DEMAND_OF_LEASE_REVOKE:
        return visit_lease(&v, DEMAND_WRITE, r->of.lease_revoke->id);
    case DEMAND_OF_LEASE_KEEP_ALIVE:
        return visit_lease(&v, DEMAND_WRITE, r->of.lease_keep_alive->id);
    case DEMAND_OF_LEASE_TIME_TO_LIVE:
        /* Without the keys only the lease's times are told. */
        return r->of.lease_time_to_live->keys
                   ? visit_lease(&v, DEMAND_READ, r->of.lease_time_to_live->id)
                   : OK;
    case DEMAND_OF_LEASE_LEASES: {
        struct demand d = {.kind = DEMAND_ALL_LEASES, .verb = DEMAND_READ};
        return each(arg, &d);
    }
    }
    UNREACHABLE();
}

static enum err add_to_list(void *arg, const struct demand *d)
{
    struct demand_list *l = arg;
    if (l->n == DEMANDS_MAX) {
        return ERR_LIMIT;
    }
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 8 : l->cap * 2;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    l->v[l->n++] = *d;
    return OK;
}

enum err demand_list_of(const struct demand_request *r, struct demand_list *out)
{
    *out = (struct demand_list){0};
    enum err err = demand_each(r, add_to_list, out);
    if (err != OK) {
        demand_list_deinit(out);
    }
    return err;
}

void demand_list_deinit(struct demand_list *l)
{
    free(l->v);
    *l = (struct demand_list){0};
}

bool demand_list_allows(const struct demand_list *l, enum demand_verb verb, struct slice key,
                        struct slice range_end)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct demand *d = &l->v[i];
        if (d->kind == DEMAND_RANGE && d->verb == verb &&
            key_range_covers(d->key, d->range_end, key, range_end)) {
            return true;
        }
    }
    return false;
}
