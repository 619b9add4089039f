/* engine_restore.c - all state in memory, rebuilt from the backend.
 *
 * The bucket of records is walked once in revision order. Each record's checksum is verified. The
 * revision is what the last commit said, never what the highest record shows (a compaction may have
 * taken that away); only a store that was made by another program has no such row, and then it is
 * derived as etcd does.
 */
#include "base/wire.h"
#include "engine/alarm.h"
#include "engine/auth.h"
#include "engine/engine_internal.h"
#include "engine/membership.h"

static enum err get(struct engine *e, struct backend_read *read, enum bucket b, const char *key,
                    struct slice *out)
{
    return e->home->backend->ops->get(read, b, slice_str(key), out);
}

/* A row of one number. Absent: *out stays, *found false. */
static enum err get_u64(struct engine *e, struct backend_read *read, enum bucket b, const char *key,
                        uint64_t *out, bool *found, struct err_ctx *ec)
{
    struct slice v;
    enum err err = get(e, read, b, key, &v);
    *found = err == OK;
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    if (err == OK && v.len != 8) {
        return err_set(ec, ERR_CORRUPT, "bucket %s: %s: %zu bytes", bucket_name(b), key, v.len);
    }
    if (err == OK) {
        *out = be64_get(v.data);
    }
    return err;
}

static enum err get_revision(struct engine *e, struct backend_read *read, const char *key,
                             int64_t *out, struct err_ctx *ec)
{
    struct slice v;
    struct rev rev;
    bool tombstone;
    enum err err = get(e, read, BUCKET_META, key, &v);
    *out = -1;
    if (err == ERR_NOT_FOUND) {
        return OK;
    }
    if (err == OK && record_key_decode(v, &rev, &tombstone) != OK) {
        return err_set(ec, ERR_CORRUPT, "bucket meta: %s: not a revision", key);
    }
    if (err == OK) {
        *out = rev.main;
    }
    return err;
}

static enum err restore_meta(struct engine *e, struct backend_read *read, bool *has_revision,
                             struct err_ctx *ec)
{
    bool found;
    uint64_t revision = 1;
    uint64_t format = FORMAT_VERSION;
    int64_t finished = -1;
    int64_t scheduled = -1;
    struct mark *m = &e->mark;
    enum err err = get_u64(e, read, BUCKET_PINTLE, ROW_FORMAT, &format, &found, ec);
    if (err == OK && format != FORMAT_VERSION) {
        err = err_set(ec, ERR_FOREIGN, "format %llu, we know %u", (unsigned long long)format,
                      FORMAT_VERSION);
    }
    if (err == OK) {
        err = get_u64(e, read, BUCKET_META, ROW_CONSISTENT_INDEX, &m->index, &found, ec);
    }
    if (err == OK) {
        err = get_u64(e, read, BUCKET_META, ROW_TERM, &m->term, &found, ec);
    }
    if (err == OK) {
        err = get_u64(e, read, BUCKET_PINTLE, ROW_REVISION, &revision, has_revision, ec);
    }
    if (err == OK) {
        err = get_revision(e, read, ROW_FINISHED_COMPACT, &finished, ec);
    }
    if (err == OK) {
        err = get_revision(e, read, ROW_SCHEDULED_COMPACT, &scheduled, ec);
    }
    if (err != OK) {
        return err;
    }
    m->revision = (int64_t)revision;
    m->compact_revision = scheduled > finished ? scheduled : finished;
    if (!*has_revision && m->compact_revision > m->revision) {
        m->revision = m->compact_revision;
    }
    atomic_store(&e->compact_finished, finished);
    atomic_store(&e->compact_passing, finished);
    atomic_store(&e->compact_revision, m->compact_revision);
    e->index_target = finished;
    if (m->compact_revision > finished) {
        /* Some of the records are gone already, and which compactions lay between is not known:
         * one pass to the last, without a hash, as in etcd. */
        passes_add(e, &(struct pass){m->compact_revision, finished, false});
    }
    struct slice w;
    err = get(e, read, BUCKET_PINTLE, ROW_INSTALLED, &w);
    if (err == OK && w.len != 16) {
        return err_set(ec, ERR_CORRUPT, "bucket pintle: installed: %zu bytes", w.len);
    }
    if (err == OK) {
        e->installed = (struct origin){be64_get(w.data), be64_get(w.data + 8)};
    } else if (err != ERR_NOT_FOUND) {
        return err;
    }
    err = get(e, read, BUCKET_PINTLE, ROW_WITNESS, &w);
    if (err == OK && w.len != 24) {
        return err_set(ec, ERR_CORRUPT, "bucket pintle: witness: %zu bytes", w.len);
    }
    if (err == OK) {
        m->witness =
            (struct witness){be64_get(w.data), be64_get(w.data + 8), be64_get(w.data + 16)};
        e->witness_at_open = m->witness;
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* --- small buckets
 * -------------------------------------------------------------------------------------- */

static enum err restore_lease(struct engine *e, struct slice key, struct slice value)
{
    int64_t id = 0;
    int64_t ttl = 0;
    int64_t remaining = 0;
    struct wire_field f;
    enum err err;
    while ((err = wire_next(&value, &f)) == OK) {
        if (f.type == WIRE_VARINT && f.number == 1) {
            id = (int64_t)f.value;
        } else if (f.type == WIRE_VARINT && f.number == 2) {
            ttl = (int64_t)f.value;
        } else if (f.type == WIRE_VARINT && f.number == 3) {
            remaining = (int64_t)f.value;
        }
    }
    if (err != ERR_END || id == 0 || key.len != 8 || (int64_t)be64_get(key.data) != id ||
        lease_exists(e->leases, id)) {
        return ERR_CORRUPT;
    }
    lease_restore(e->leases, id, ttl, remaining);
    return OK;
}

static enum err restore_row(struct engine *e, enum bucket b, struct slice key, struct slice value)
{
    if (b == BUCKET_LEASE) {
        return restore_lease(e, key, value);
    }
    if (b == BUCKET_ALARM) {
        return alarm_restore(e, key);
    }
    if (b == BUCKET_AUTH || b == BUCKET_AUTH_ROLES || b == BUCKET_AUTH_USERS) {
        return auth_restore_row(e->auth, b, key, value);
    }
    if (b == BUCKET_MEMBERS) {
        return membership_restore_member(e, key, value);
    }
    if (b == BUCKET_MEMBERS_REMOVED) {
        return membership_restore_removed(e, key);
    }
    if (b == BUCKET_CLUSTER && slice_eq(key, slice_str(ROW_CLUSTER_VERSION))) {
        return membership_restore_version(e, value);
    }
    if (b == BUCKET_CLUSTER && slice_eq(key, slice_str(ROW_DOWNGRADE))) {
        return membership_restore_downgrade(e, value);
    }
    return OK;
}

static enum err restore_bucket(struct engine *e, struct backend_read *read, enum bucket b,
                               struct err_ctx *ec)
{
    struct backend_cursor *c = NULL;
    enum err err = e->home->backend->ops->cursor_open(read, b, (struct slice){0}, &c, ec);
    while (err == OK) {
        struct slice key;
        struct slice value;
        err = e->home->backend->ops->cursor_next(c, &key, &value);
        if (err == OK && restore_row(e, b, key, value) != OK) {
            err = err_set(ec, ERR_CORRUPT, "bucket %s: a row of %zu bytes does not decode",
                          bucket_name(b), value.len);
        }
    }
    e->home->backend->ops->cursor_close(&c);
    return err == ERR_END ? OK : err;
}

static enum err restore_small(struct engine *e, struct backend_read *read, struct err_ctx *ec)
{
    static const enum bucket small[] = {BUCKET_AUTH,    BUCKET_AUTH_ROLES,      BUCKET_AUTH_USERS,
                                        BUCKET_LEASE,   BUCKET_ALARM,           BUCKET_MEMBERS,
                                        BUCKET_MEMBERS_REMOVED, BUCKET_CLUSTER};
    enum err err = OK;
    for (size_t i = 0; err == OK && i < ARRAY_LEN(small); i++) {
        err = restore_bucket(e, read, small[i], ec);
    }
    struct slice conf;
    if (err == OK) {
        err = get(e, read, BUCKET_META, ROW_CONF_STATE, &conf);
        if (err == OK && membership_restore_conf(e, conf) != OK) {
            return err_set(ec, ERR_CORRUPT, "bucket meta: confState does not decode");
        }
    }
    return err == ERR_NOT_FOUND ? OK : err;
}

/* --- records
 * -------------------------------------------------------------------------------------------- */

struct loader {
    struct engine *e;
    struct rev last;
    bool has_leases;
};

static enum err load(struct loader *l, struct slice key, struct slice value, struct err_ctx *ec)
{
    struct rev rev = {0};
    bool tombstone = false;
    struct slice kv;
    struct kv_view view;
    enum err err = record_key_decode(key, &rev, &tombstone);
    if (err != OK) {
        return err_set(ec, ERR_CORRUPT, "bucket key: after %lld_%lld: not a revision",
                       (long long)l->last.main, (long long)l->last.sub);
    }
    err = record_check(key, value, &kv);
    if (err == OK) {
        err = record_view(kv, tombstone, &view);
    }
    bool sound = err == OK && rev.sub <= INDEX_SUB_MAX && (tombstone || kv.len == 0 || (view.mod_revision == rev.main && view.version > 0));
    if (!sound || rev_cmp(rev, l->last) <= 0) {
        return err_set(ec, ERR_CORRUPT, "bucket key: revision %lld_%lld: %s", (long long)rev.main,
                       (long long)rev.sub,
                       err != OK ? "checksum mismatch" : "fields do not fit the revision");
    }
    struct key_version v = {
        .mod = rev,
        .create_revision = view.create_revision,
        .version = view.version,
        .kv_bytes = tombstone ? 0 : (uint32_t)kv.len,
        .tombstone = tombstone,
    };
    if (tombstone) {
        v.create_revision = 0;
        v.version = 0;
    }
    index_restore_put(l->e->index, view.key, &v);
    l->last = rev;
    if (l->has_leases) {
        int64_t lease = !tombstone && view.lease != 0 && lease_exists(l->e->leases, view.lease)
                            ? view.lease
                            : 0;
        lease_attach(l->e->leases, view.key, lease);
    }
    return OK;
}

static enum err restore_records(struct engine *e, struct backend_read *read, bool has_revision,
                                struct err_ctx *ec)
{
    struct loader l = {.e = e, .last = {-1, 0}, .has_leases = lease_count(e->leases) > 0};
    struct backend_cursor *c = NULL;
    enum err err = e->home->backend->ops->cursor_open(read, BUCKET_KEY, (struct slice){0}, &c, ec);
    index_restore_begin(e->index);
    while (err == OK) {
        struct slice key;
        struct slice value;
        err = e->home->backend->ops->cursor_next(c, &key, &value);
        if (err == OK) {
            err = load(&l, key, value, ec);
        }
    }
    index_restore_end(e->index);
    e->home->backend->ops->cursor_close(&c);
    if (err != ERR_END) {
        return err;
    }
    if (l.last.main > e->mark.revision) {
        if (has_revision) {
            return err_set(ec, ERR_CORRUPT, "revision %lld is stored, but records go to %lld",
                           (long long)e->mark.revision, (long long)l.last.main);
        }
        e->mark.revision = l.last.main;
    }
    if (e->mark.compact_revision > e->mark.revision) {
        return err_set(ec, ERR_CORRUPT, "compacted to %lld, but the revision is %lld",
                       (long long)e->mark.compact_revision, (long long)e->mark.revision);
    }
    return OK;
}

enum err engine_restore(struct engine *e, struct err_ctx *ec)
{
    struct backend_read *read = NULL;
    bool has_revision = false;
    enum err err = e->home->backend->ops->read_begin(e->home->backend, &read, ec);
    if (err != OK) {
        return err;
    }
    err = restore_meta(e, read, &has_revision, ec);
    if (err == OK) {
        err = restore_small(e, read, ec);
    }
    if (err == OK) {
        err = restore_records(e, read, has_revision, ec);
    }
    e->home->backend->ops->read_end(&read);
    if (err != OK) {
        return err;
    }
    atomic_store(&e->revision, e->mark.revision);
    atomic_store(&e->applied_index, e->mark.index);
    atomic_store(&e->applied_term, e->mark.term);
    e->stored = e->mark;
    tail_init(&e->tail, (struct rev){e->mark.revision, INT64_MAX});
    return OK;
}
