/* model.c - the log that was committed, and a second opinion of what it means.
 *
 * The first member that is seen to hold a committed entry adds it; all others are compared. Each entry is executed on a plain model
 * of the key space, written from etcd's rules and sharing nothing with the engine. Every event of every key is kept, so reads,
 * watches and answers can be judged at any revision.
 */
#include "tests/sim/sim.h"

#include <stdio.h>
#include <stdlib.h>

#include "api/proto/raft.pb-c.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

void model_init(struct model *m)
{
    *m = (struct model){0};
    m->cap = 1024;
    m->log = xcalloc(m->cap, sizeof(*m->log));
    m->revision = 1;
    m->compacted = -1;
    m->log[0].revision = 1;
    m->log[0].compacted = -1;
}

void model_deinit(struct model *m)
{
    free(m->log);
    free(m->events);
    free(m->results);
    free(m->hashes);
}

/* --- names and values --------------------------------------------------------------------------------------------- */

void model_key_name(uint32_t key, char out[8])
{
    (void)snprintf(out, 8, "k%02u", key % 100u);
}

int model_key(struct slice key)
{
    if (key.len != 3 || key.data[0] != 'k') {
        return -1;
    }
    int k = (key.data[1] - '0') * 10 + (key.data[2] - '0');
    return k >= 0 && k < (int)SIM_KEYS ? k : -1;
}

static void fill(uint8_t *p, uint64_t number, uint32_t len)
{
    struct rng r = {number};
    for (uint32_t i = 0; i < len; i += 8) {
        uint64_t v = i == 0 ? number : rng_next(&r);
        memcpy(p + i, &v, len - i < 8 ? len - i : 8);
    }
}

struct buf *model_value(uint64_t number, uint32_t len)
{
    ASSERT(len >= 8);
    struct buf *b = buf_create(len);
    fill(b->data, number, len);
    return b;
}

bool model_value_is(struct slice value, uint64_t number, uint32_t len)
{
    if (value.len != len) {
        return false;
    }
    uint8_t want[8192];
    ASSERT(len <= sizeof(want));
    fill(want, number, len);
    return memcmp(want, value.data, len) == 0;
}

uint64_t model_entry_hash(uint64_t term, uint32_t type, const struct buf *data)
{
    struct slice d = buf_slice(data);
    uint64_t parts[3] = {term, type, d.len == 0 ? 0 : hash64(d.data, d.len)};
    return hash64(parts, sizeof(parts));
}

/* --- results ------------------------------------------------------------------------------------------------------- */

static struct model_result *slot_of(struct model_result *table, size_t cap, uint64_t id)
{
    size_t i = (size_t)(id * 0x9e3779b97f4a7c15u) & (cap - 1);
    while (table[i].id != 0 && table[i].id != id) {
        i = (i + 1) & (cap - 1);
    }
    return &table[i];
}

/* A request that was proposed twice answers as its first entry did. */
static void add_result(struct model *m, const struct model_result *r)
{
    if (r->id == 0) {
        return;
    }
    if (2 * m->n_results >= m->cap_results) {
        size_t cap = m->cap_results == 0 ? 1024 : 2 * m->cap_results;
        struct model_result *table = xcalloc(cap, sizeof(*table));
        for (size_t i = 0; i < m->cap_results; i++) {
            if (m->results[i].id != 0) {
                *slot_of(table, cap, m->results[i].id) = m->results[i];
            }
        }
        free(m->results);
        m->results = table;
        m->cap_results = cap;
    }
    struct model_result *slot = slot_of(m->results, m->cap_results, r->id);
    if (slot->id == 0) {
        *slot = *r;
        m->n_results++;
    }
}

const struct model_result *model_result(const struct model *m, uint64_t id)
{
    if (m->cap_results == 0) {
        return NULL;
    }
    const struct model_result *r = slot_of(m->results, m->cap_results, id);
    return r->id == id ? r : NULL;
}

/* --- keys ---------------------------------------------------------------------------------------------------------- */

const struct model_event *model_at(const struct model *m, uint32_t key, int64_t revision)
{
    size_t at = m->last[key];
    while (at != 0 && m->events[at - 1].revision > revision) {
        at = m->events[at - 1].before;
    }
    return at == 0 || m->events[at - 1].deleted ? NULL : &m->events[at - 1];
}

static const struct model_event *newest(const struct model *m, uint32_t key)
{
    size_t at = m->last[key];
    return at == 0 || m->events[at - 1].deleted ? NULL : &m->events[at - 1];
}

static void add_event(struct model *m, const struct model_event *e)
{
    if (m->n_events == m->cap_events) {
        m->cap_events = m->cap_events == 0 ? 1024 : 2 * m->cap_events;
        m->events = xrealloc(m->events, m->cap_events * sizeof(*m->events));
    }
    m->events[m->n_events] = *e;
    m->events[m->n_events].before = m->last[e->key];
    m->last[e->key] = ++m->n_events;
}

static void put(struct model *m, int64_t revision, const Etcdserverpb__PutRequest *r)
{
    int k = model_key(slice_of(r->key.data, r->key.len));
    ASSERT(k >= 0 && r->value.len >= 8);
    const struct model_event *old = newest(m, (uint32_t)k);
    uint64_t number = 0;
    memcpy(&number, r->value.data, 8);
    struct model_event e = {.revision = revision, .key = (uint32_t)k, .value = number, .value_len = (uint32_t)r->value.len,
                            .create = old == NULL ? revision : old->create, .version = old == NULL ? 1 : old->version + 1, .lease = r->lease};
    m->key_lease[k] = r->lease;
    add_event(m, &e);
}

static bool delete_key(struct model *m, int64_t revision, uint32_t key)
{
    if (newest(m, key) == NULL) {
        return false;
    }
    m->key_lease[key] = 0;
    add_event(m, &(struct model_event){.revision = revision, .key = key, .deleted = true});
    return true;
}

static bool within(uint32_t key, const Etcdserverpb__DeleteRangeRequest *r)
{
    char name[8];
    model_key_name(key, name);
    struct slice n = slice_str(name);
    struct slice from = slice_of(r->key.data, r->key.len);
    if (r->range_end.len == 0) {
        return slice_eq(n, from);
    }
    return slice_cmp(n, from) >= 0 && slice_cmp(n, slice_of(r->range_end.data, r->range_end.len)) < 0;
}

static bool delete_range(struct model *m, int64_t revision, const Etcdserverpb__DeleteRangeRequest *r)
{
    bool any = false;
    for (uint32_t k = 0; k < SIM_KEYS; k++) {
        if (within(k, r)) {
            any = delete_key(m, revision, k) || any;
        }
    }
    return any;
}

/* Clients compare the newest change of a key, or its version, for being equal. */
static bool compare(const struct model *m, const Etcdserverpb__Compare *c)
{
    int k = model_key(slice_of(c->key.data, c->key.len));
    const struct model_event *e = k < 0 ? NULL : newest(m, (uint32_t)k);
    if (c->target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD) {
        return (e == NULL ? 0 : e->revision) == c->mod_revision;
    }
    ASSERT(c->target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION);
    return (e == NULL ? 0 : e->version) == c->version;
}

static bool txn(struct model *m, int64_t revision, const Etcdserverpb__TxnRequest *t, bool *succeeded)
{
    bool holds = true;
    for (size_t i = 0; i < t->n_compare; i++) {
        holds = holds && compare(m, t->compare[i]);
    }
    *succeeded = holds;
    size_t n = holds ? t->n_success : t->n_failure;
    Etcdserverpb__RequestOp **ops = holds ? t->success : t->failure;
    bool changed = false;
    for (size_t i = 0; i < n; i++) {
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT) {
            put(m, revision, ops[i]->request_put);
            changed = true;
        } else if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE) {
            changed = delete_range(m, revision, ops[i]->request_delete_range) || changed;
        }
    }
    return changed;
}

/* --- leases ---------------------------------------------------------------------------------------------------------- */

struct model_lease *model_lease(struct model *m, int64_t id)
{
    for (size_t i = 0; i < SIM_LEASES; i++) {
        if (m->leases[i].id == id) {
            return &m->leases[i];
        }
    }
    return NULL;
}

static bool lease_alive(struct model *m, int64_t id)
{
    const struct model_lease *l = model_lease(m, id);
    return l != NULL && l->alive;
}

static enum err grant(struct sim *s, const Etcdserverpb__LeaseGrantRequest *r)
{
    struct model_lease *l = model_lease(&s->model, r->id);
    if (l == NULL) {
        sim_violation(s, "model", "a lease %lld that no client asked for", (long long)r->id);
        return OK;
    }
    if (l->alive) {
        return ERR_LEASE_EXISTS;
    }
    l->alive = true;
    l->was = true;
    return OK;
}

/* Who expires a lease early does harm. With clocks that jump nobody can say what early is. */
static void judge_revoke(struct sim *s, const struct model_lease *l)
{
    if (l->revoke_asked || !s->set.clock_steady) {
        return;
    }
    uint64_t lived_ms = (s->now - l->granted_at) / MS;
    if (lived_ms < (uint64_t)l->ttl * 800u) {
        sim_violation(s, "leases", "lease %lld of %lld s was revoked after %llu ms, and nobody asked for it", (long long)l->id, (long long)l->ttl,
                      (unsigned long long)lived_ms);
    }
}

static enum err revoke(struct sim *s, int64_t revision, int64_t id, bool *changed)
{
    struct model *m = &s->model;
    if (!lease_alive(m, id)) {
        return ERR_LEASE_NOT_FOUND;
    }
    struct model_lease *l = model_lease(m, id);
    judge_revoke(s, l);
    l->alive = false;
    for (uint32_t k = 0; k < SIM_KEYS; k++) {
        if (m->key_lease[k] == id) {
            *changed = delete_key(m, revision, k) || *changed;
        }
    }
    return OK;
}

/* --- entries --------------------------------------------------------------------------------------------------------- */

static enum err compact(struct model *m, int64_t revision)
{
    if (revision <= m->compacted) {
        return ERR_COMPACTED;
    }
    if (revision > m->revision) {
        return ERR_FUTURE_REV;
    }
    m->compacted = revision;
    return OK;
}

static enum err execute(struct sim *s, const Etcdserverpb__InternalRaftRequest *r, bool *changed, bool *succeeded)
{
    struct model *m = &s->model;
    int64_t next = m->revision + 1;
    if (r->put != NULL) {
        if (r->put->lease != 0 && !lease_alive(m, r->put->lease)) {
            return ERR_LEASE_NOT_FOUND;
        }
        put(m, next, r->put);
        *changed = true;
    } else if (r->delete_range != NULL) {
        *changed = delete_range(m, next, r->delete_range);
    } else if (r->txn != NULL) {
        *changed = txn(m, next, r->txn, succeeded);
    } else if (r->lease_grant != NULL) {
        return grant(s, r->lease_grant);
    } else if (r->lease_revoke != NULL) {
        return revoke(s, next, r->lease_revoke->id, changed);
    } else if (r->compaction != NULL) {
        return compact(m, r->compaction->revision);
    }
    return OK;
}

static void normal_entry(struct sim *s, const struct buf *data)
{
    struct model *m = &s->model;
    if (data == NULL || data->len == 0) {
        return;
    }
    Etcdserverpb__InternalRaftRequest *r = etcdserverpb__internal_raft_request__unpack(NULL, data->len, data->data);
    if (r == NULL) {
        sim_violation(s, "model", "entry %zu is no request", m->n);
        return;
    }
    bool changed = false;
    bool succeeded = false;
    enum err e = execute(s, r, &changed, &succeeded);
    if (changed) {
        m->revision++;
    }
    struct model_result result = {.id = r->header == NULL ? 0 : r->header->id, .index = m->n, .err = e, .revision = m->revision, .succeeded = succeeded};
    add_result(m, &result);
    etcdserverpb__internal_raft_request__free_unpacked(r, NULL);
}

static struct model_member *find_member(struct model *m, uint64_t id)
{
    for (size_t i = 0; i < m->n_members; i++) {
        if (m->members[i].id == id) {
            return &m->members[i];
        }
    }
    return NULL;
}

bool model_is_gone(const struct model *m, uint64_t id)
{
    for (size_t i = 0; i < m->n_members; i++) {
        if (m->members[i].id == id) {
            return m->members[i].gone;
        }
    }
    return false;
}

static bool is_only_voter(const struct model *m, const struct model_member *x)
{
    size_t voters = 0;
    for (size_t i = 0; i < m->n_members; i++) {
        voters += m->members[i].voter && !m->members[i].gone ? 1u : 0u;
    }
    return x->voter && voters == 1;
}

/* A removal is refused for unknown members and for the only voter; a new id is accepted unless its URL is taken: ids and URLs go together here. An
 * id that is there as a learner comes again, as a voter, when it is promoted. */
static void change_entry(struct model *m, const struct buf *data)
{
    Raftpb__ConfChange *cc = data == NULL ? NULL : raftpb__conf_change__unpack(NULL, data->len, data->data);
    if (cc == NULL) {
        return;
    }
    for (size_t i = 0; i < m->n_members; i++) {
        m->members[i].voted = m->members[i].voter && !m->members[i].gone;
    }
    struct model_member *x = find_member(m, cc->node_id);
    bool adds_voter = cc->type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddNode;
    if (cc->type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeRemoveNode) {
        if (x != NULL && !x->gone && !is_only_voter(m, x)) {
            x->gone = true;
        }
    } else if (x != NULL) {
        x->voter = x->voter || adds_voter;
    } else if (cc->type != RAFTPB__CONF_CHANGE_TYPE__ConfChangeUpdateNode) {
        ASSERT(m->n_members < SIM_MEMBERS_EVER);
        m->members[m->n_members++] = (struct model_member){.id = cc->node_id, .voter = adds_voter};
    }
    raftpb__conf_change__free_unpacked(cc, NULL);
}

void model_commit(struct sim *s, uint64_t term, uint32_t type, struct buf *data, uint64_t hash)
{
    struct model *m = &s->model;
    if (m->n + 1 == m->cap) {
        m->cap *= 2;
        m->log = xrealloc(m->log, m->cap * sizeof(*m->log));
    }
    m->n++;
    if (type == RAFT_ENTRY_NORMAL) {
        normal_entry(s, data);
    } else {
        change_entry(m, data);
    }
    m->log[m->n] = (struct canon_entry){.term = term, .hash = hash, .revision = m->revision, .compacted = m->compacted, .seen_at = s->now};
    sim_note(s, NULL, hash, "committed %zu (term %llu, type %u), revision %lld", m->n, (unsigned long long)term, type, (long long)m->revision);
}
