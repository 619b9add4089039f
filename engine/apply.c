/* apply.c - from a log entry to a change of state.
 *
 * Nothing here looks at a clock, a cache or this member's own name: the entry and the replicated
 * state decide. What the proposing member alone needs, the reply, is built on the way and cannot
 * change what happens. An entry ends with publish, which makes all its effects visible at once; the
 * store thread seals only between entries.
 */
#include <stdlib.h>

#include "base/wire.h"
#include "engine/alarm.h"
#include "engine/auth.h"
#include "engine/auth_touch.h"
#include "engine/engine_internal.h"
#include "engine/membership.h"
#include "engine/txn.h"

#define LEASE_GRANT_COST 64
#define OLD_REQUEST_FIELD 2u

enum {
    PUT_PREV_KV = 2,
    DELETE_DELETED = 2,
    DELETE_PREV_KVS = 3,
    GRANT_ID = 2,
    GRANT_TTL = 3,
    LEASE_ID = 1,
    LEASE_TTL = 2,
    LEASE_REMAINING = 3
};

struct entry {
    struct engine *e;
    uint64_t index;
    uint64_t now_ms;
    struct bytes *body; /* NULL: no reply is wanted */
    struct apply_result *out;
    bool compacts;
    struct pass pass; /* of an entry that compacts */
    struct err_ctx ec;
};

/* --- decoding
 * ----------------------------------------------------------------------------------------- */

static void *scratch_alloc(void *arena, size_t size)
{
    return arena_alloc(arena, size);
}

static void scratch_free(void *arena, void *p)
{
    (void)arena;
    (void)p; /* freed with the arena */
}

static ProtobufCAllocator scratch_allocator(struct engine *e)
{
    return (ProtobufCAllocator){scratch_alloc, scratch_free, e->scratch};
}

/* --- key space
 * ------------------------------------------------------------------------------------------ */

/* Requests were checked by whoever proposed them. They are not checked again here, because all
 * members must do the same with an entry, those of other versions included; what no engine could
 * store (an empty key) is an answer of put_check. */
static enum err apply_put(struct entry *x, const Etcdserverpb__PutRequest *p)
{
    bool fits = engine_quota_fits(x->e, engine_put_cost(p));
    enum err err = put_check(x->e, p, &x->out->err, &x->ec);
    if (err != OK || x->out->err != OK) {
        return err;
    }
    struct mvcc_txn w;
    struct buf *prev = NULL;
    enum err read_err = OK;
    mvcc_begin(&w, x->e);
    put_execute(&w, p, x->body != NULL && p->prev_kv ? &prev : NULL, &read_err);
    mvcc_end(&w);
    x->out->err = read_err;
    x->out->over_quota = !fits && read_err == OK;
    if (prev != NULL) {
        wire_add_message(x->body, PUT_PREV_KV, buf_slice(prev));
        buf_unref(&prev);
    }
    return OK;
}

static enum err apply_delete(struct entry *x, const Etcdserverpb__DeleteRangeRequest *d)
{
    struct mvcc_txn w;
    struct bytes prev_kvs = {0};
    struct span s = span_of(d->key, d->range_end);
    mvcc_begin(&w, x->e);
    int64_t n = mvcc_delete_span(&w, &s, x->body != NULL && d->prev_kv ? &prev_kvs : NULL,
                                 DELETE_PREV_KVS, &x->out->err);
    mvcc_end(&w);
    if (x->body != NULL) {
        wire_add_int(x->body, DELETE_DELETED, n);
        bytes_add(x->body, prev_kvs.data, prev_kvs.len);
    }
    bytes_deinit(&prev_kvs);
    return OK;
}

static enum err apply_txn(struct entry *x, const Etcdserverpb__TxnRequest *t)
{
    bool fits = engine_quota_fits(x->e, engine_txn_cost(t));
    enum err err = txn_apply(x->e, t, x->body, &x->out->err, &x->ec);
    x->out->over_quota = err == OK && x->out->err == OK && !fits;
    return err;
}

static void apply_compaction(struct entry *x, const Etcdserverpb__CompactionRequest *c)
{
    struct engine *e = x->e;
    int64_t before = atomic_load_explicit(&e->compact_revision, memory_order_relaxed);
    int64_t finished = atomic_load_explicit(&e->compact_finished, memory_order_acquire);
    if (c->revision <= before) {
        x->out->err = ERR_COMPACTED;
        /* As in etcd, whoever asks for physical removal waits even now for what was scheduled
         * before. */
        x->out->compacting_to = c->physical && before > finished ? before : 0;
        return;
    }
    if (c->revision > atomic_load_explicit(&e->revision, memory_order_relaxed)) {
        x->out->err = ERR_FUTURE_REV;
        return;
    }
    uint8_t row[RECORD_KEY_BYTES_MAX];
    size_t len = record_key_encode(row, (struct rev){c->revision, 0}, false);
    rows_add(&e->entry_rows, BUCKET_META, slice_str(ROW_SCHEDULED_COMPACT), slice_of(row, len));
    x->compacts = true;
    x->pass = (struct pass){c->revision, before, true};
    x->out->compacting_to = c->physical ? c->revision : 0;
}

/* --- leases
 * -------------------------------------------------------------------------------------------- */

static void save_lease(struct engine *e, int64_t id, int64_t ttl_s, int64_t remaining_s)
{
    uint8_t key[8];
    struct bytes row = {0};
    be64_put(key, (uint64_t)id);
    wire_add_int(&row, LEASE_ID, id);
    wire_add_int(&row, LEASE_TTL, ttl_s);
    wire_add_int(&row, LEASE_REMAINING, remaining_s);
    rows_add(&e->entry_rows, BUCKET_LEASE, slice_of(key, sizeof(key)), bytes_slice(&row));
    bytes_deinit(&row);
}

static void apply_grant(struct entry *x, const Etcdserverpb__LeaseGrantRequest *g)
{
    int64_t ttl = 0;
    bool fits = engine_quota_fits(x->e, LEASE_GRANT_COST);
    x->out->err = lease_grant(x->e->leases, g->id, g->ttl, x->now_ms, &ttl);
    if (x->out->err != OK) {
        return;
    }
    save_lease(x->e, g->id, ttl, 0);
    x->out->over_quota = !fits;
    count(x->e->metrics.leases_granted, 1);
    if (x->e->metrics.lease_ttl != NULL) {
        histogram_observe(x->e->metrics.lease_ttl, (double)ttl);
    }
    if (x->body != NULL) {
        wire_add_int(x->body, GRANT_ID, g->id);
        wire_add_int(x->body, GRANT_TTL, ttl);
    }
}

struct lease_keys {
    struct slice *v; /* in the entry's arena */
    size_t n;
    struct arena *arena;
};

static void copy_key(void *arg, struct slice key)
{
    struct lease_keys *k = arg;
    void *copy = arena_dup(k->arena, key.data, key.len);
    ASSERT(copy != NULL);
    k->v[k->n++] = slice_of(copy, key.len);
}

static enum err apply_revoke(struct entry *x, const Etcdserverpb__LeaseRevokeRequest *r)
{
    struct engine *e = x->e;
    struct lease_info info;
    x->out->err = lease_lookup(e->leases, r->id, x->now_ms, &info);
    if (x->out->err != OK) {
        return OK;
    }
    /* The keys are many at most in the sense of the store's own size; the arena's cap is for
     * requests, so they have their own. */
    struct lease_keys keys = {.arena = arena_create(0, SIZE_MAX / 4)};
    keys.v = xcalloc(info.n_keys + 1, sizeof(*keys.v));
    lease_each_key(e->leases, r->id, copy_key, &keys);
    ASSERT(keys.n == info.n_keys);
    struct mvcc_txn w;
    mvcc_begin(&w, e);
    for (size_t i = 0; i < keys.n; i++) {
        bool deleted = mvcc_delete(&w, keys.v[i]);
        ASSERT(deleted); /* only keys that live are attached */
    }
    mvcc_end(&w);
    enum err err = lease_revoke(e->leases, r->id);
    ASSERT(err == OK);
    uint8_t key[8];
    be64_put(key, (uint64_t)r->id);
    rows_add_delete(&e->entry_rows, BUCKET_LEASE, slice_of(key, sizeof(key)));
    count(e->metrics.leases_revoked, 1);
    free(keys.v);
    arena_destroy(&keys.arena);
    return OK;
}

/* Remaining times are stored from cluster version 3.6 on: older members would not. */
static bool stores_checkpoints(const struct engine *e)
{
    char *end;
    long major = strtol(e->cluster_version, &end, 10);
    long minor = *end == '.' ? strtol(end + 1, NULL, 10) : 0;
    return major > 3 || (major == 3 && minor >= 6);
}

static void apply_checkpoint(struct entry *x, const Etcdserverpb__LeaseCheckpointRequest *r)
{
    for (size_t i = 0; i < r->n_checkpoints; i++) {
        const Etcdserverpb__LeaseCheckpoint *c = r->checkpoints[i];
        struct lease_info info;
        enum err err = lease_lookup(x->e->leases, c->id, x->now_ms, &info);
        if (err != OK) {
            continue; /* revoked meanwhile */
        }
        lease_checkpoint(x->e->leases, c->id, c->remaining_ttl, x->now_ms);
        if (stores_checkpoints(x->e)) {
            save_lease(x->e, c->id, info.ttl_s, c->remaining_ttl);
        }
    }
}

/* --- dispatch
 * ------------------------------------------------------------------------------------------- */

/* What an active alarm forbids. CORRUPT comes before NOSPACE. */
static enum err blocked(const struct engine *e, const Etcdserverpb__InternalRaftRequest *r)
{
    if (atomic_load_explicit(&e->alarm_types, memory_order_relaxed) == 0) {
        return OK;
    }
    bool corrupt = engine_alarm_active(e, ALARM_CORRUPT);
    if (corrupt && (r->put != NULL || r->delete_range != NULL || r->txn != NULL ||
                    r->compaction != NULL || r->lease_grant != NULL || r->lease_revoke != NULL)) {
        return ERR_CORRUPT_CLUSTER;
    }
    bool costs =
        r->put != NULL || r->lease_grant != NULL || (r->txn != NULL && engine_txn_cost(r->txn) > 0);
    return costs && engine_alarm_active(e, ALARM_NOSPACE) ? ERR_NO_SPACE : OK;
}

/* In etcd's order, for the case that an entry carries more than one request. Returns an error that
 * halts the engine. */
static enum err dispatch(struct entry *x, const Etcdserverpb__InternalRaftRequest *r)
{
    if (r->cluster_version_set != NULL) {
        x->out->err = membership_set_version(x->e, r->cluster_version_set->ver);
    } else if (r->cluster_member_attr_set != NULL) {
        membership_set_attributes(x->e, r->cluster_member_attr_set->member_id,
                                  r->cluster_member_attr_set->member_attributes);
    } else if (r->downgrade_info_set != NULL) {
        membership_set_downgrade(x->e, r->downgrade_info_set->enabled, r->downgrade_info_set->ver);
    } else if (r->range != NULL || r->downgrade_version_test != NULL) {
        return OK; /* no effect on the state */
    } else if (r->put != NULL) {
        return apply_put(x, r->put);
    } else if (r->delete_range != NULL) {
        return apply_delete(x, r->delete_range);
    } else if (r->txn != NULL) {
        return apply_txn(x, r->txn);
    } else if (r->compaction != NULL) {
        apply_compaction(x, r->compaction);
    } else if (r->lease_grant != NULL) {
        apply_grant(x, r->lease_grant);
    } else if (r->lease_revoke != NULL) {
        return apply_revoke(x, r->lease_revoke);
    } else if (r->lease_checkpoint != NULL) {
        apply_checkpoint(x, r->lease_checkpoint);
    } else if (r->alarm != NULL) {
        x->out->err = alarm_apply(x->e, r->alarm, x->body);
    } else if (auth_takes(r)) {
        x->out->err = auth_apply(x->e->auth, r, x->index, &x->e->entry_rows, x->body);
    } else {
        x->out->err = ERR_UNSUPPORTED; /* of a newer version */
    }
    return OK;
}

/* Who may administer comes before the alarms, who may touch these keys behind them, as in etcd. */
static enum err admit(struct entry *x, const Etcdserverpb__InternalRaftRequest *r,
                      struct slice data)
{
    struct auth *a = x->e->auth;
    if ((auth_enabled(a) || auth_takes(r)) && !auth_strings_fit(data)) {
        return ERR_AUTH_MANAGEMENT;
    }
    enum err err = auth_gate(a, r);
    if (err == OK) {
        err = blocked(x->e, r);
    }
    return err == OK ? auth_check_request(a, r, x->e->leases) : err;
}

/* A request of etcd's v2 API, within ours. The decoder keeps the field it does not know. */
static bool wrapped_old_request(const Etcdserverpb__InternalRaftRequest *r, struct slice *out)
{
    for (size_t i = 0; i < r->base.n_unknown_fields; i++) {
        const ProtobufCMessageUnknownField *f = &r->base.unknown_fields[i];
        struct slice rest = slice_of(f->data, f->len);
        uint64_t len = 0;
        if (f->tag == OLD_REQUEST_FIELD && wire_take_varint(&rest, &len) == OK &&
            len == rest.len) {
            *out = rest;
            return true;
        }
    }
    return false;
}

static enum err apply_request(struct entry *x, struct slice data)
{
    x->out->err = entry_depth(data); /* before it is decoded */
    if (x->out->err != OK) {
        return OK;
    }
    ProtobufCAllocator a = scratch_allocator(x->e);
    Etcdserverpb__InternalRaftRequest *r =
        etcdserverpb__internal_raft_request__unpack(&a, data.len, data.data);
    if (r == NULL) {
        /* Etcd up to 3.5 writes requests of its v2 API as they are. They never decode as ours. */
        x->out->err = membership_apply_old(x->e, data, &x->out->request_id);
        return OK;
    }
    x->out->request_id = r->header != NULL && r->header->id != 0 ? r->header->id : r->id;
    struct slice old;
    if (wrapped_old_request(r, &old)) {
        x->out->err = membership_apply_old(x->e, old, &x->out->request_id);
        return OK;
    }
    x->out->err = admit(x, r, data);
    if (x->out->err != OK) {
        return OK;
    }
    enum err err = dispatch(x, r);
    ASSERT(!auth_enabled(x->e->auth) ||
           auth_touched_is_demanded(r, x->e->changes, x->e->n_changes));
    return err;
}

static void apply_conf_change(struct entry *x, uint32_t type, struct slice data)
{
    ProtobufCAllocator a = scratch_allocator(x->e);
    if (type == RAFTPB__ENTRY_TYPE__EntryConfChange) {
        Raftpb__ConfChange *cc = raftpb__conf_change__unpack(&a, data.len, data.data);
        x->out->err = cc == NULL ? ERR_INVALID : membership_apply_v1(x->e, cc);
        x->out->request_id = cc == NULL ? 0 : cc->id;
    } else {
        Raftpb__ConfChangeV2 *cc = raftpb__conf_change_v2__unpack(&a, data.len, data.data);
        x->out->err = cc == NULL ? ERR_INVALID : membership_apply_v2(x->e, cc);
    }
}

/* --- the end of an entry
 * --------------------------------------------------------------------------------- */

/* The changes as one batch for the watchers, or NULL. */
static struct event_batch *take_changes(struct engine *e)
{
    if (e->n_changes == 0) {
        return NULL;
    }
    struct event_batch *b = xalloc(sizeof(*b) + e->n_changes * sizeof(b->changes[0]));
    atomic_init(&b->refs, 1);
    b->revision = e->changes[0].rev.main;
    b->n = e->n_changes;
    memcpy(b->changes, e->changes, e->n_changes * sizeof(b->changes[0]));
    e->n_changes = 0;
    return b;
}

void engine_pend_rows(struct engine *e)
{
    size_t bytes = e->entry_rows.bytes + ENTRY_OVERHEAD_BYTES;
    lock_write(e);
    rows_move(&e->rows, &e->entry_rows);
    e->unsealed_bytes += bytes;
    atomic_fetch_add_explicit(&e->pending_bytes, bytes, memory_order_relaxed);
    unlock(e);
}

static void publish(const struct entry *x, uint64_t term)
{
    struct engine *e = x->e;
    struct event_batch *b = take_changes(e);
    size_t bytes = e->entry_bytes + e->entry_rows.bytes + ENTRY_OVERHEAD_BYTES;
    e->entry_bytes = 0;
    lock_write(e);
    bool changed = e->tail.end != e->tail.published;
    int64_t revision = e->mark.revision + changed;
    e->tail.published = e->tail.end;
    rows_move(&e->rows, &e->entry_rows);
    e->unsealed_bytes += bytes;
    e->mark.index = x->index;
    e->mark.term = term;
    e->mark.revision = revision;
    if (x->compacts) {
        passes_add(e, &x->pass);
        e->mark.compact_revision = x->pass.target;
        atomic_store_explicit(&e->compact_revision, x->pass.target, memory_order_release);
    }
    atomic_fetch_add_explicit(&e->pending_bytes, bytes, memory_order_relaxed);
    atomic_store_explicit(&e->revision, revision, memory_order_release);
    atomic_store_explicit(&e->applied_term, term, memory_order_release);
    atomic_store_explicit(&e->applied_index, x->index, memory_order_release);
    unlock(e);
    if (b != NULL) {
        e->events->changed(e->events_arg, b);
    }
}

/* A record that decides what an entry does cannot be read: this member must stop before it differs
 * from the others. */
static void halt(struct entry *x, enum err err)
{
    struct engine *e = x->e;
    ASSERT(e->n_changes == 0);
    ASSERT(e->tail.end == e->tail.published);
    rows_deinit(&e->entry_rows);
    e->halted = true;
    x->out->err = err;
    if (e->events != NULL && e->events->failed != NULL) {
        e->events->failed(e->events_arg, err, &x->ec);
    }
}

static void take_body(struct apply_result *out, struct bytes *body)
{
    if (out->err == OK && body->len > 0) {
        out->body = buf_copy(bytes_slice(body));
    }
    bytes_deinit(body);
}

void engine_apply(struct engine *e, uint64_t index, uint64_t term, uint32_t type, struct slice data,
                  bool want_reply, uint64_t now_ms, struct apply_result *out)
{
    *out = (struct apply_result){.err = OK};
    engine_note_time(e, now_ms);
    if (e->halted) {
        out->err = ERR_IO;
        return;
    }
    if (index <= e->mark.index) {
        out->revision = e->mark.revision;
        return;
    }
    ASSERT(index == e->mark.index + 1 || e->mark.index == 0);
    struct bytes body = {0};
    struct entry x = {.e = e,
                      .index = index,
                      .now_ms = now_ms,
                      .body = want_reply ? &body : NULL,
                      .out = out};
    enum err err = OK;
    arena_reset(e->scratch);
    if (type == RAFTPB__ENTRY_TYPE__EntryNormal) {
        err = data.len == 0 ? OK : apply_request(&x, data);
    } else if (type == RAFTPB__ENTRY_TYPE__EntryConfChange ||
               type == RAFTPB__ENTRY_TYPE__EntryConfChangeV2) {
        apply_conf_change(&x, type, data);
    } else {
        out->err = ERR_INVALID;
    }
    if (err != OK) {
        halt(&x, err);
    } else {
        publish(&x, term);
    }
    take_body(out, &body);
    out->revision = e->mark.revision;
}

/* --- compaction of the index
 * -------------------------------------------------------------------------------- */

bool engine_step(struct engine *e)
{
    if (!e->index_compacting) {
        int64_t target = atomic_load_explicit(&e->compact_passing, memory_order_acquire);
        if (target <= e->index_target ||
            !pins_clear(&e->pins, target, atomic_load_explicit(&e->now_ms, memory_order_relaxed))) {
            return false;
        }
        lock_write(e);
        index_compact_begin(e->index, target);
        unlock(e);
        e->index_target = target;
        e->index_compacting = true;
    }
    uint64_t before = now_ns(e);
    lock_write(e);
    e->index_compacting = !index_compact_step(e->index, ENGINE_STEP_KEYS);
    unlock(e);
    observe_ms(e, e->metrics.index_pause, before);
    return e->index_compacting;
}
