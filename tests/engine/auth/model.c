/* model.c - see model.h. */
#include "model.h"

#include <stdlib.h>

const char *const user_names[N_USERS] = {"root", "ann", "bob", "cat", "dan", "eve"};
const char *const role_names[N_ROLES] = {"root", "r1", "r2", "r3", "r4", "r5"};

static int by_bytes(const void *a, const void *b)
{
    return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

void model_init(struct model *m)
{
    static const uint8_t alphabet[4] = {0, 'a', 'b', 0xff};
    *m = (struct model){.revision = 1};
    int n = 0;
    for (int i = 0; i < 4; i++) {
        m->bytes[n][0] = alphabet[i];
        m->keys[n] = slice_of(m->bytes[n], 1);
        n++;
        for (int k = 0; k < 4; k++) {
            m->bytes[n][0] = alphabet[i];
            m->bytes[n][1] = alphabet[k];
            m->keys[n] = slice_of(m->bytes[n], 2);
            n++;
        }
    }
    qsort(m->keys, N_KEYS, sizeof(m->keys[0]), by_bytes);
    /* The point behind "a" is the key "a\0"; behind a key of two bytes it is a point of its own. */
    for (int i = 0; i < N_KEYS; i++) {
        m->point_of_key[i] = m->n_points++;
        m->point_behind_key[i] = m->keys[i].len == 1 ? m->n_points : m->n_points++;
        m->lease_of_key[i] = -1;
    }
    assert_true(m->n_points <= 64);
}

struct slice model_end(const struct model *m, int end)
{
    static const uint8_t zero[1];
    return end == END_NONE ? (struct slice){0} : end == END_OPEN ? slice_of(zero, 1) : m->keys[end];
}

static int key_number(const struct model *m, struct slice s)
{
    for (int i = 0; i < N_KEYS; i++) {
        if (slice_eq(m->keys[i], s)) {
            return i;
        }
    }
    return -1;
}

static uint64_t atoms(int from, int to)
{
    uint64_t v = 0;
    for (int i = from; i < to; i++) {
        v |= UINT64_C(1) << i;
    }
    return v;
}

/* The atoms that must be allowed; 0: none would do. */
static uint64_t atoms_of(const struct model *m, struct slice key, struct slice end)
{
    int k = key_number(m, key);
    if (k < 0) {
        return 0;
    }
    if (end.len == 0) {
        return atoms(m->point_of_key[k], m->point_behind_key[k]);
    }
    if (end.len == 1 && end.data[0] == 0) {
        return atoms(m->point_of_key[k], m->n_points);
    }
    int e = key_number(m, end);
    assert_true(e >= 0);
    int from = m->point_of_key[k];
    int to = m->point_of_key[e];
    if (to <= from) { /* matches nothing; both ends have to lie in one piece */
        return to == 0 ? 0 : atoms(to - 1, from + 1);
    }
    return atoms(from, to);
}

static uint64_t allowed(const struct model *m, int user, bool write)
{
    uint64_t v = 0;
    for (int r = 0; r < N_ROLES; r++) {
        if (!m->users[user].holds[r] || !m->roles[r].exists) {
            continue;
        }
        for (int i = 0; i < m->roles[r].n; i++) {
            const struct m_perm *p = &m->roles[r].v[i];
            if (p->type == READWRITE || p->type == (write ? WRITE : READ)) {
                v |= atoms_of(m, m->keys[p->key], model_end(m, p->end));
            }
        }
    }
    return v;
}

static bool is_root(const struct m_asker *q)
{
    return q->user >= 0 && q->user < N_USERS && q->m->users[q->user].exists &&
           q->m->users[q->user].holds[0];
}

static enum err judge(const struct m_asker *q, bool write, struct slice key, struct slice end)
{
    if (!q->m->enabled) {
        return OK;
    }
    if (q->user < 0) {
        return ERR_USER_EMPTY;
    }
    if (q->revision < q->m->revision) {
        return ERR_AUTH_OLD_REVISION;
    }
    if (is_root(q)) {
        return OK;
    }
    if (q->user >= N_USERS || !q->m->users[q->user].exists) {
        return ERR_PERMISSION_DENIED;
    }
    uint64_t need = atoms_of(q->m, key, end);
    return need != 0 && (need & ~allowed(q->m, q->user, write)) == 0 ? OK : ERR_PERMISSION_DENIED;
}

enum err model_range(struct m_asker *q, bool write, struct slice key, struct slice end)
{
    q->n_touched++;
    if (q->list != NULL && key_number(q->m, key) >= 0) {
        enum demand_verb verb = write ? DEMAND_WRITE : DEMAND_READ;
        bool listed = false;
        for (size_t i = 0; i < q->list->n; i++) {
            const struct demand *d = &q->list->v[i];
            listed = listed || (d->kind == DEMAND_RANGE && d->verb == verb &&
                                slice_eq(d->key, key) && slice_eq(d->range_end, end));
        }
        assert_true(listed);
    }
    return judge(q, write, key, end);
}

enum err model_lease_keys(struct m_asker *q, bool write, int64_t lease)
{
    q->n_touched++;
    enum err err = OK;
    for (int i = 0; i < N_KEYS; i++) {
        if ((lease < 0 || q->m->lease_of_key[i] == (int)lease) && q->m->lease_of_key[i] >= 0 &&
            err == OK && !is_root(q)) {
            err = judge(q, write, q->m->keys[i], (struct slice){0});
        }
    }
    return err;
}

static struct slice s(ProtobufCBinaryData d)
{
    return slice_of(d.data, d.len);
}

static enum err worse(enum err a, enum err b)
{
    return a != OK ? a : b;
}

static enum err put(struct m_asker *q, const Etcdserverpb__PutRequest *p)
{
    enum err err = model_range(q, true, s(p->key), (struct slice){0});
    if (p->lease != 0) {
        err = worse(err, model_lease_keys(q, true, p->lease));
    }
    if (p->prev_kv) {
        err = worse(err, model_range(q, false, s(p->key), (struct slice){0}));
    }
    return err;
}

static enum err delete_range(struct m_asker *q, const Etcdserverpb__DeleteRangeRequest *d)
{
    enum err err = model_range(q, true, s(d->key), s(d->range_end));
    if (d->prev_kv) {
        err = worse(err, model_range(q, false, s(d->key), s(d->range_end)));
    }
    return err;
}

static enum err txn(struct m_asker *q, const Etcdserverpb__TxnRequest *t)
{
    enum err err = OK;
    for (size_t i = 0; i < t->n_compare; i++) {
        err = worse(err, model_range(q, false, s(t->compare[i]->key), s(t->compare[i]->range_end)));
    }
    for (size_t i = 0; i < t->n_success + t->n_failure; i++) {
        const Etcdserverpb__RequestOp *op =
            i < t->n_success ? t->success[i] : t->failure[i - t->n_success];
        if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE) {
            err = worse(err, model_range(q, false, s(op->request_range->key),
                                         s(op->request_range->range_end)));
        } else if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT) {
            err = worse(err, put(q, op->request_put));
        } else if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE) {
            err = worse(err, delete_range(q, op->request_delete_range));
        } else if (op->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN) {
            err = worse(err, txn(q, op->request_txn));
        }
    }
    return err;
}

enum err model_request(struct m_asker *q, const struct demand_request *r)
{
    switch (r->kind) {
    case DEMAND_OF_RANGE:
        return model_range(q, false, s(r->of.range->key), s(r->of.range->range_end));
    case DEMAND_OF_PUT:
        return put(q, r->of.put);
    case DEMAND_OF_DELETE:
        return delete_range(q, r->of.delete_range);
    case DEMAND_OF_TXN:
        return txn(q, r->of.txn);
    case DEMAND_OF_WATCH: {
        struct slice key = s(r->of.watch->key);
        return model_range(q, false, key.len == 0 ? q->m->keys[0] : key, s(r->of.watch->range_end));
    }
    case DEMAND_OF_LEASE_REVOKE:
        return model_lease_keys(q, true, r->of.lease_revoke->id);
    case DEMAND_OF_LEASE_KEEP_ALIVE:
        return model_lease_keys(q, true, r->of.lease_keep_alive->id);
    case DEMAND_OF_LEASE_TIME_TO_LIVE:
        return r->of.lease_time_to_live->keys
                   ? model_lease_keys(q, false, r->of.lease_time_to_live->id)
                   : OK;
    case DEMAND_OF_LEASE_LEASES:
        return model_lease_keys(q, false, -1);
    }
    fail();
    return OK;
}
