/* txn_check.c - checks of requests that need no state, in etcd's order
 * (etcd-v3-api.md 3.3, 3.5, 3.6.1, 3.6.2), and costs. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/wire.h"
#include "engine/engine_internal.h"
#include "engine/txn.h"

#define PUT_OVERHEAD_COST 256

enum err engine_check_range(const Etcdserverpb__RangeRequest *r)
{
    if (r->key.len == 0) {
        return ERR_EMPTY_KEY;
    }
    int order = (int)r->sort_order;
    int target = (int)r->sort_target;
    if (order < ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE ||
        order > ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND ||
        target < ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY ||
        target > ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE) {
        return ERR_SORT_OPTION;
    }
    return OK;
}

enum err engine_check_put(const Etcdserverpb__PutRequest *r)
{
    if (r->key.len == 0) {
        return ERR_EMPTY_KEY;
    }
    if (r->ignore_value && r->value.len != 0) {
        return ERR_VALUE_PROVIDED;
    }
    if (r->ignore_lease && r->lease != 0) {
        return ERR_LEASE_PROVIDED;
    }
    return OK;
}

enum err engine_check_delete(const Etcdserverpb__DeleteRangeRequest *r)
{
    return r->key.len == 0 ? ERR_EMPTY_KEY : OK;
}

/* --- counts, fields, depth
 * ---------------------------------------------------------------------------- */

static size_t max3(size_t a, size_t b, size_t c)
{
    size_t m = a > b ? a : b;
    return m > c ? m : c;
}

static enum err check_level(const Etcdserverpb__TxnRequest *t, size_t budget, unsigned depth);

static enum err check_ops(Etcdserverpb__RequestOp *const *ops, size_t n, size_t budget,
                          unsigned depth)
{
    enum err err = OK;
    for (size_t i = 0; err == OK && i < n; i++) {
        switch ((int)ops[i]->request_case) {
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE:
            err = engine_check_range(ops[i]->request_range);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT:
            err = engine_check_put(ops[i]->request_put);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE:
            err = engine_check_delete(ops[i]->request_delete_range);
            break;
        case ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN:
            err = check_level(ops[i]->request_txn, budget, depth + 1);
            break;
        default: /* an empty oneof */
            err = ERR_KEY_NOT_FOUND;
            break;
        }
    }
    return err;
}

static enum err check_level(const Etcdserverpb__TxnRequest *t, size_t budget, unsigned depth)
{
    size_t n = max3(t->n_compare, t->n_success, t->n_failure);
    if (n > budget || depth > ENGINE_TXN_DEPTH_MAX) {
        return ERR_TOO_MANY_OPS;
    }
    for (size_t i = 0; i < t->n_compare; i++) {
        if (t->compare[i]->key.len == 0) {
            return ERR_EMPTY_KEY;
        }
    }
    enum err err = check_ops(t->success, t->n_success, budget - n, depth);
    return err != OK ? err : check_ops(t->failure, t->n_failure, budget - n, depth);
}

/* --- duplicate keys
 * ------------------------------------------------------------------------------------- */

/* Put keys in order of arrival. */
struct key_set {
    struct slice *v; /* owned */
    size_t n;
    size_t cap;
    size_t *table; /* owned; open addressing over hash64: index into v plus 1; power of two, at most
                      half full */
    size_t table_cap;
};
struct interval {
    struct slice from;
    struct slice to; /* only when not single */
    bool single;
};
struct interval_set {
    struct interval *v; /* owned */
    size_t n;
    size_t cap;
};
struct touched {
    struct key_set puts;
    struct interval_set dels;
};

static void touched_deinit(struct touched *t)
{
    free(t->puts.v);
    free(t->puts.table);
    free(t->dels.v);
    *t = (struct touched){0};
}

static size_t *slot_of(const struct key_set *s, struct slice key)
{
    size_t i = (size_t)hash64(key.data, key.len) & (s->table_cap - 1);
    while (s->table[i] != 0 && !slice_eq(s->v[s->table[i] - 1], key)) {
        i = (i + 1) & (s->table_cap - 1);
    }
    return &s->table[i];
}

/* SIZE_MAX: not in the set. Else its place. */
static size_t set_find(const struct key_set *s, struct slice key)
{
    return s->n == 0 ? SIZE_MAX : *slot_of(s, key) - 1;
}

/* A key that is there already stays where it is. */
static void set_add(struct key_set *s, struct slice key)
{
    if (set_find(s, key) != SIZE_MAX) {
        return;
    }
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 16 : s->cap * 2;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
        s->table_cap = s->cap * 2;
        free(s->table);
        s->table = xcalloc(s->table_cap, sizeof(*s->table));
        for (size_t i = 0; i < s->n; i++) {
            *slot_of(s, s->v[i]) = i + 1;
        }
    }
    s->v[s->n] = key;
    *slot_of(s, key) = s->n + 1;
    s->n++;
}

static void intervals_add(struct interval_set *s, struct interval iv)
{
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 8 : s->cap * 2;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
    }
    s->v[s->n++] = iv;
}

static bool covered(const struct interval_set *s, struct slice key)
{
    for (size_t i = 0; i < s->n; i++) {
        const struct interval *iv = &s->v[i];
        if (iv->single ? slice_eq(iv->from, key)
                       : slice_cmp(iv->from, key) <= 0 && slice_cmp(key, iv->to) < 0) {
            return true;
        }
    }
    return false;
}

static void add_deletes(Etcdserverpb__RequestOp *const *ops, size_t n, struct interval_set *out)
{
    for (size_t i = 0; i < n; i++) {
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE) {
            const Etcdserverpb__DeleteRangeRequest *d = ops[i]->request_delete_range;
            /* As in etcd a range_end of "\0" is taken literally here, and so covers nothing. */
            intervals_add(out, (struct interval){slice_pb(d->key), slice_pb(d->range_end),
                                                 d->range_end.len == 0});
        }
    }
}

static enum err touches(Etcdserverpb__RequestOp *const *ops, size_t n, struct touched *out);

/* Merge one nested txn. Keys put in its failure branch may repeat those of its own success branch.
 */
static enum err merge_nested(const Etcdserverpb__TxnRequest *t, struct touched *out)
{
    struct touched yes = {0};
    struct touched no = {0};
    enum err err = touches(t->success, t->n_success, &yes);
    if (err == OK) {
        err = touches(t->failure, t->n_failure, &no);
    }
    size_t n_before = out->puts.n;
    for (size_t i = 0; err == OK && i < yes.puts.n; i++) {
        struct slice key = yes.puts.v[i];
        if (set_find(&out->puts, key) != SIZE_MAX || covered(&out->dels, key)) {
            err = ERR_DUPLICATE_KEY;
        } else {
            set_add(&out->puts, key);
        }
    }
    for (size_t i = 0; err == OK && i < no.puts.n; i++) {
        struct slice key = no.puts.v[i];
        size_t at = set_find(&out->puts, key);
        if (covered(&out->dels, key) || (at != SIZE_MAX && at < n_before)) {
            err = ERR_DUPLICATE_KEY;
        } else {
            set_add(&out->puts, key);
        }
    }
    for (size_t i = 0; err == OK && i < yes.dels.n; i++) {
        intervals_add(&out->dels, yes.dels.v[i]);
    }
    for (size_t i = 0; err == OK && i < no.dels.n; i++) {
        intervals_add(&out->dels, no.dels.v[i]);
    }
    touched_deinit(&yes);
    touched_deinit(&no);
    return err;
}

static enum err touches(Etcdserverpb__RequestOp *const *ops, size_t n, struct touched *out)
{
    add_deletes(ops, n, &out->dels);
    for (size_t i = 0; i < n; i++) {
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN) {
            enum err err = merge_nested(ops[i]->request_txn, out);
            if (err != OK) {
                return err;
            }
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (ops[i]->request_case != ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT) {
            continue;
        }
        struct slice key = slice_pb(ops[i]->request_put->key);
        if (set_find(&out->puts, key) != SIZE_MAX || covered(&out->dels, key)) {
            return ERR_DUPLICATE_KEY;
        }
        set_add(&out->puts, key);
    }
    return OK;
}

enum err engine_check_txn(const Etcdserverpb__TxnRequest *r, uint32_t ops_max)
{
    enum err err = check_level(r, ops_max, 1);
    struct touched yes = {0};
    struct touched no = {0};
    if (err == OK) {
        err = touches(r->success, r->n_success, &yes);
    }
    if (err == OK) {
        err = touches(r->failure, r->n_failure, &no);
    }
    touched_deinit(&yes);
    touched_deinit(&no);
    return err;
}

/* --- what a txn is
 * ---------------------------------------------------------------------------------------- */

static bool only_ranges(Etcdserverpb__RequestOp *const *ops, size_t n, bool *serializable)
{
    for (size_t i = 0; i < n; i++) {
        if (ops[i]->request_case != ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE) {
            return false;
        }
        *serializable = *serializable && ops[i]->request_range->serializable;
    }
    return true;
}

bool engine_txn_is_read_only(const Etcdserverpb__TxnRequest *r, bool *serializable)
{
    *serializable = true;
    return only_ranges(r->success, r->n_success, serializable) &&
           only_ranges(r->failure, r->n_failure, serializable);
}

int64_t engine_put_cost(const Etcdserverpb__PutRequest *r)
{
    return PUT_OVERHEAD_COST + (int64_t)r->key.len + (int64_t)r->value.len;
}

static int64_t ops_cost(Etcdserverpb__RequestOp *const *ops, size_t n)
{
    int64_t cost = 0;
    for (size_t i = 0; i < n; i++) {
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT) {
            cost += engine_put_cost(ops[i]->request_put);
        } else if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN) {
            cost += engine_txn_cost(ops[i]->request_txn);
        }
    }
    return cost;
}

int64_t engine_txn_cost(const Etcdserverpb__TxnRequest *r)
{
    int64_t yes = ops_cost(r->success, r->n_success);
    int64_t no = ops_cost(r->failure, r->n_failure);
    return yes > no ? yes : no;
}

/* --- depth of encoded requests
 * -------------------------------------------------------------------------- */

#define REQUEST_TXN_FIELD 4u
#define SUCCESS_FIELD 2u
#define FAILURE_FIELD 3u
#define ENTRY_TXN_FIELD 6u /* of InternalRaftRequest */

/* Walks only what may nest: ops of both branches, and their txns. Recursion is bounded by `left`.
 */
static enum err check_depth(struct slice txn, unsigned left)
{
    struct wire_field op;
    enum err err;
    while ((err = wire_next(&txn, &op)) == OK) {
        if (op.type != WIRE_LEN || (op.number != SUCCESS_FIELD && op.number != FAILURE_FIELD)) {
            continue;
        }
        struct wire_field inner;
        while ((err = wire_next(&op.bytes, &inner)) == OK) {
            if (inner.type == WIRE_LEN && inner.number == REQUEST_TXN_FIELD) {
                err = left == 0 ? ERR_TOO_MANY_OPS : check_depth(inner.bytes, left - 1);
                if (err != OK) {
                    return err;
                }
            }
        }
        if (err != ERR_END) {
            return err;
        }
    }
    return err == ERR_END ? OK : err;
}

enum err engine_txn_depth(struct slice encoded_txn)
{
    return check_depth(encoded_txn, ENGINE_TXN_DEPTH_MAX - 1);
}

enum err entry_depth(struct slice entry)
{
    struct wire_field f;
    enum err err;
    while ((err = wire_next(&entry, &f)) == OK) {
        if (f.number == ENTRY_TXN_FIELD && f.type == WIRE_LEN) {
            err = engine_txn_depth(f.bytes);
            if (err != OK) {
                return err;
            }
        }
    }
    return err == ERR_END ? OK : err;
}
