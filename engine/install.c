/* install.c - from a bbolt file to the state in use.
 *
 * Staging copies etcd's ten buckets pair by pair into a fresh backend, in big transactions and in
 * order, so that pages are filled from left to right; then an engine is opened on it, which
 * verifies every record and builds what is kept in memory. Only then the backend is made durable.
 *
 *     file ──check──► ──copy──► backend ──open──► engine ──finish──► staged ──install──► ──adopt──►
 *
 * Adopting exchanges what the running engine and the staged one hold, field by field, under the
 * running one's lock: readers see the one or the other. The staged engine, now with the old state,
 * is freed by the store thread with its next flush. Reads that began before keep the old backend
 * open; those that go on in steps notice by the generation.
 */
#include "engine/install.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/auth.h"
#include "engine/engine_internal.h"
#include "engine/membership.h"

#define MEMBER_KEY_BYTES 20u /* an id in hex */
#define STAGE_TXN_BYTES (32u << 20) /* copied per transaction */

struct staged {
    struct store_place place;
    struct home *home; /* ref */
    struct engine *engine;
    struct origin origin;
};

/* --- copying the file
 * ------------------------------------------------------------------------------------- */

struct copier {
    struct backend *to;
    const struct snapshot_origin *origin; /* NULL: the file says all itself */
    struct snapshot_founding *founding;   /* NULL: the store goes on where the file ends */
    size_t n_bytes;                       /* in the transaction */
    uint64_t index, term;
    int64_t revision; /* of the last record, or of a compaction behind it */
    bool has_conf;
};

static enum err put(struct copier *c, enum bucket b, struct slice key, struct slice value,
                    struct err_ctx *ec)
{
    uint8_t sum[RECORD_SUM_BYTES];
    struct slice behind = {0};
    if (c->n_bytes >= STAGE_TXN_BYTES) {
        c->n_bytes = 0;
        enum err e = c->to->ops->commit(c->to, ec);
        if (e == OK) {
            e = c->to->ops->begin(c->to, ec);
        }
        if (e != OK) {
            return e;
        }
    }
    if (b == BUCKET_KEY) {
        struct rev rev;
        bool tombstone;
        if (record_key_decode(key, &rev, &tombstone) != OK) {
            return err_set(ec, ERR_CORRUPT, "a key of %zu bytes that is no revision", key.len);
        }
        c->revision = rev.main > c->revision ? rev.main : c->revision;
        record_sum_encode(sum, key, value);
        behind = slice_of(sum, sizeof(sum));
    }
    c->n_bytes += key.len + value.len + behind.len;
    return c->to->ops->put(c->to, b, key, value, behind, true, ec);
}

static void note_meta(struct copier *c, struct slice key, struct slice value)
{
    struct rev compacted;
    bool tombstone;
    if ((slice_eq(key, slice_str(ROW_SCHEDULED_COMPACT)) || slice_eq(key, slice_str(ROW_FINISHED_COMPACT))) &&
        record_key_decode(value, &compacted, &tombstone) == OK && compacted.main > c->revision) {
        c->revision = compacted.main;
    }
    if (value.len == 8 && slice_eq(key, slice_str(ROW_CONSISTENT_INDEX))) {
        c->index = be64_get(value.data);
    } else if (value.len == 8 && slice_eq(key, slice_str(ROW_TERM))) {
        c->term = be64_get(value.data);
    } else if (slice_eq(key, slice_str(ROW_CONF_STATE))) {
        struct conf_state conf = {0};
        c->has_conf = conf_decode(value, &conf) == OK && conf.voters.n > 0;
        conf_deinit(&conf);
    }
}

static enum err copy_bucket(struct copier *c, struct bolt_reader *r, enum bucket b,
                            struct err_ctx *ec)
{
    struct slice key;
    struct slice value;
    enum err e;
    while ((e = bolt_next(r, &key, &value, ec)) == OK) {
        if (b == BUCKET_META) {
            note_meta(c, key, value);
        }
        if (c->founding != NULL && (b == BUCKET_MEMBERS || b == BUCKET_MEMBERS_REMOVED)) {
            continue;
        }
        e = put(c, b, key, value, ec);
        if (e != OK) {
            return err_wrap(ec, e, "bucket %s", bucket_name(b));
        }
    }
    return e == ERR_END ? OK : e;
}

/* Buckets that etcd does not have are left out; ours does not travel. */
static bool is_wanted(struct slice name, enum bucket *b)
{
    for (int i = 0; i < BUCKET_PINTLE; i++) {
        if (slice_eq(name, slice_str(bucket_name((enum bucket)i)))) {
            *b = (enum bucket)i;
            return true;
        }
    }
    return false;
}

static enum err copy_buckets(struct copier *c, struct bolt_reader *r, struct err_ctx *ec)
{
    struct slice name;
    enum bucket b;
    enum err e;
    while ((e = bolt_next_bucket(r, &name, ec)) == OK) {
        e = is_wanted(name, &b) ? copy_bucket(c, r, b, ec) : OK;
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

/* A row that may be there already, or in front of others. */
static enum err put_row(struct copier *c, enum bucket b, const char *key, struct slice value, struct err_ctx *ec)
{
    return c->to->ops->put(c->to, b, slice_str(key), value, (struct slice){0}, false, ec);
}

static enum err put_over(struct copier *c, const char *key, struct slice value, struct err_ctx *ec)
{
    return put_row(c, BUCKET_META, key, value, ec);
}

static enum err put_position(struct copier *c, const struct snapshot_origin *o, struct err_ctx *ec)
{
    struct conf_state conf = {0};
    struct bytes json = {0};
    uint8_t index[8];
    uint8_t term[8];
    be64_put(index, o->index);
    be64_put(term, o->term);
    conf_take(&conf, &o->conf);
    conf_encode(&conf, &json);
    enum err e = put_over(c, ROW_CONSISTENT_INDEX, slice_of(index, sizeof(index)), ec);
    if (e == OK) {
        e = put_over(c, ROW_TERM, slice_of(term, sizeof(term)), ec);
    }
    if (e == OK) {
        e = put_over(c, ROW_CONF_STATE, bytes_slice(&json), ec);
    }
    c->index = o->index;
    c->term = o->term;
    c->has_conf = conf.voters.n > 0;
    bytes_deinit(&json);
    conf_deinit(&conf);
    return e;
}

/* The file is of its origin: what it does not say about that, or says of an entry before, is made
 * so. */
static enum err put_origin(struct copier *c, struct err_ctx *ec)
{
    const struct snapshot_origin *o = c->origin;
    if (c->index > o->index || c->term > o->term) {
        return err_set(ec, ERR_CORRUPT,
                       "the file is of index %llu and term %llu, its message of %llu and %llu",
                       (unsigned long long)c->index, (unsigned long long)c->term,
                       (unsigned long long)o->index, (unsigned long long)o->term);
    }
    return put_position(c, o, ec);
}

/* A record without bytes at the raised revision, and a compaction to it that has yet to be made: as etcd's tool does it, so that all have equal hashes. */
static enum err put_bump(struct copier *c, struct err_ctx *ec)
{
    uint8_t key[RECORD_KEY_BYTES_MAX];
    int64_t raised;
    if (__builtin_add_overflow(c->revision, c->founding->bump, &raised)) {
        return err_set(ec, ERR_INVALID, "revision %lld cannot be raised by %llu", (long long)c->revision, (unsigned long long)c->founding->bump);
    }
    struct slice at = slice_of(key, record_key_encode(key, (struct rev){raised, 0}, false));
    enum err e = put(c, BUCKET_KEY, at, slice_of("", 0), ec);
    return e == OK ? put_over(c, ROW_SCHEDULED_COMPACT, at, ec) : e;
}

/* Entries 1 to n of term 1 have added the members. */
static enum err put_founding(struct copier *c, struct err_ctx *ec)
{
    struct snapshot_founding *f = c->founding;
    struct snapshot_origin *o = xcalloc(1, sizeof(*o));
    ASSERT(f->n > 0 && f->n <= ENGINE_CONF_MAX);
    *o = (struct snapshot_origin){.index = f->n, .term = 1};
    enum err e = OK;
    for (size_t i = 0; e == OK && i < f->n; i++) {
        struct bytes json = {0};
        char key[MEMBER_KEY_BYTES];
        o->conf.voters[o->conf.n_voters++] = f->members[i].id;
        member_json_encode(&f->members[i], &json);
        (void)snprintf(key, sizeof(key), "%llx", (unsigned long long)f->members[i].id);
        e = put_row(c, BUCKET_MEMBERS, key, bytes_slice(&json), ec);
        bytes_deinit(&json);
    }
    if (e == OK) {
        e = put_position(c, o, ec);
    }
    free(o);
    f->revision = c->revision;
    return e == OK && f->bump > 0 ? put_bump(c, ec) : e;
}

/* Ours, behind all others: the bucket's name comes last. */
static enum err put_own_rows(struct copier *c, struct err_ctx *ec)
{
    uint8_t number[8];
    uint8_t installed[16];
    enum err e = c->founding != NULL ? put_founding(c, ec) : c->origin != NULL ? put_origin(c, ec) : OK;
    if (e != OK) {
        return e;
    }
    if (c->index == 0 || c->term == 0 || !c->has_conf) {
        return err_set(ec, ERR_CORRUPT,
                       "bucket meta: no " ROW_CONSISTENT_INDEX ", " ROW_TERM " or " ROW_CONF_STATE
                       " with a voter");
    }
    be64_put(number, FORMAT_VERSION);
    be64_put(installed, c->index);
    be64_put(installed + 8, c->term);
    e = put(c, BUCKET_PINTLE, slice_str(ROW_FORMAT), slice_of(number, 8), ec);
    return e == OK && c->founding == NULL ? put(c, BUCKET_PINTLE, slice_str(ROW_INSTALLED), slice_of(installed, 16), ec)
                                          : e;
}

static enum err copy_file(struct copier *c, const struct bolt_source *src, struct err_ctx *ec)
{
    struct bolt_reader *r = NULL;
    struct bolt_info info;
    enum err e = bolt_check(src, &info, ec);
    if (e == OK) {
        e = bolt_open(src, &r, &info, ec);
    }
    if (e == OK) {
        e = c->to->ops->begin(c->to, ec);
    }
    if (e == OK) {
        e = copy_buckets(c, r, ec);
    }
    if (e == OK) {
        e = put_own_rows(c, ec);
    }
    if (e == OK) {
        e = c->to->ops->commit(c->to, ec);
    }
    bolt_close(&r);
    return e; /* a transaction that is open ends with the backend */
}

/* --- staging
 * ---------------------------------------------------------------------------------------------- */

static enum err build(struct staged *s, const struct engine_config *cfg,
                      const struct bolt_source *src, const struct snapshot_origin *origin,
                      struct snapshot_founding *founding, struct err_ctx *ec)
{
    struct backend *b = NULL;
    enum err e = s->place.stage(&s->place, &b, ec);
    if (e != OK) {
        return e;
    }
    s->home = home_create(b);
    struct copier c = {.to = b, .origin = origin, .founding = founding};
    e = copy_file(&c, src, ec);
    if (e != OK) {
        return e;
    }
    s->origin = (struct origin){c.index, c.term};
    struct engine_config quiet = *cfg;
    quiet.backend = NULL;
    quiet.metrics = NULL;
    quiet.events = NULL;
    e = engine_open_on(&quiet, s->home, &s->engine, ec);
    return e == OK ? s->place.finish(&s->place, b, ec) : e;
}

static enum err stage(const struct engine_config *cfg, const struct store_place *place,
                      const struct bolt_source *src, const struct snapshot_origin *origin,
                      struct snapshot_founding *founding, struct staged **out, struct err_ctx *ec)
{
    struct staged *s = xcalloc(1, sizeof(*s));
    s->place = *place;
    enum err e = build(s, cfg, src, origin, founding, ec);
    if (e != OK) {
        staged_discard(&s);
        return err_wrap(ec, e, "stage a snapshot");
    }
    *out = s;
    return OK;
}

enum err engine_stage(const struct engine_config *cfg, const struct store_place *place,
                      const struct bolt_source *src, struct staged **out, struct err_ctx *ec)
{
    return engine_stage_of(cfg, place, src, NULL, out, ec);
}

enum err engine_stage_of(const struct engine_config *cfg, const struct store_place *place,
                         const struct bolt_source *src, const struct snapshot_origin *origin,
                         struct staged **out, struct err_ctx *ec)
{
    return stage(cfg, place, src, origin, NULL, out, ec);
}

enum err engine_stage_founding(const struct engine_config *cfg, const struct store_place *place,
                               const struct bolt_source *src, struct snapshot_founding *founding,
                               struct staged **out, struct err_ctx *ec)
{
    return stage(cfg, place, src, NULL, founding, out, ec);
}

uint64_t staged_index(const struct staged *s)
{
    return s->origin.index;
}

uint64_t staged_term(const struct staged *s)
{
    return s->origin.term;
}

void staged_discard(struct staged **sp)
{
    struct staged *s = *sp;
    *sp = NULL;
    if (s == NULL) {
        return;
    }
    engine_close(&s->engine);
    if (s->home != NULL) {
        struct backend *b = home_release(&s->home);
        s->place.discard(&s->place, &b);
    }
    free(s);
}

/* --- installing
 * ------------------------------------------------------------------------------------------- */

enum err staged_install(struct staged *s, struct err_ctx *ec)
{
    return s->place.install(&s->place, s->home->backend, ec);
}

#define SWAP(type, a, b)                                                                           \
    do {                                                                                           \
        type swapped_ = (a);                                                                       \
        (a) = (b);                                                                                 \
        (b) = swapped_;                                                                            \
    } while (0)

/* What readers see. The lock of `e` is held, and nobody else knows `s`. */
static void swap_shared(struct engine *e, struct engine *s)
{
    SWAP(struct home *, e->home, s->home);
    SWAP(struct index *, e->index, s->index);
    SWAP(struct tail, e->tail, s->tail);
    SWAP(struct rows, e->rows, s->rows);
    SWAP(struct members, e->members, s->members);
    SWAP(struct conf_state, e->conf, s->conf);
    e->unsealed_bytes = 0;
    e->mark = s->mark;
    e->passes = s->passes;
    e->n_alarms = s->n_alarms;
    memcpy(e->alarms, s->alarms, sizeof(e->alarms));
    memcpy(e->cluster_version, s->cluster_version, sizeof(e->cluster_version));
    e->downgrading = s->downgrading;
    memcpy(e->downgrade_target, s->downgrade_target, sizeof(e->downgrade_target));
    atomic_store(&e->revision, atomic_load(&s->revision));
    atomic_store(&e->compact_revision, atomic_load(&s->compact_revision));
    atomic_store(&e->compact_finished, atomic_load(&s->compact_finished));
    atomic_store(&e->compact_passing, atomic_load(&s->compact_passing));
    atomic_store(&e->pending_bytes, 0);
    atomic_store(&e->file_bytes, atomic_load(&s->file_bytes));
    atomic_store(&e->alarm_types, atomic_load(&s->alarm_types));
    atomic_store(&e->applied_term, atomic_load(&s->applied_term));
    atomic_store(&e->applied_index, atomic_load(&s->applied_index));
    pins_lose(&e->pins);
    hashes_forget(&e->hashes);
    atomic_fetch_add(&e->generation, 1);
}

/* Of the member loop, and of the store thread, which does not flush meanwhile. */
static void swap_owned(struct engine *e, struct engine *s)
{
    SWAP(struct lease_table *, e->leases, s->leases);
    e->index_target = s->index_target;
    e->index_compacting = false;
    e->halted = false;
    e->installed = s->installed;
    ASSERT(!e->seal.taken); /* the flush before the installation was whole */
    e->store_failed = false;
    e->stored = s->stored;
    e->compaction = (struct compaction){0};
    e->witness_at_open = s->witness_at_open;
}

void engine_adopt(struct engine *e, struct staged **sp)
{
    struct staged *s = *sp;
    struct engine *old = s->engine;
    *sp = NULL;
    ASSERT(e->entry_rows.n == 0);
    ASSERT(e->n_changes == 0);
    /* First: nobody whom the new state knows no more shall read it. */
    auth_replace(e->auth, &old->auth);
    lock_write(e);
    swap_shared(e, old);
    swap_owned(e, old);
    old->replaced = e->replaced;
    e->replaced = old;
    unlock(e);
    struct backend *b = e->home->backend;
    if (b->ops->succeed != NULL) {
        b->ops->succeed(b, old->home->backend);
    }
    home_unref(&s->home); /* the engine has its own */
    free(s);
}

bool engine_installed(const struct engine *e, uint64_t *index, uint64_t *term)
{
    *index = e->installed.index;
    *term = e->installed.term;
    return e->installed.index != 0;
}

void engine_log_follows(struct engine *e)
{
    if (e->installed.index != 0) {
        e->installed = (struct origin){0};
        rows_add_delete(&e->entry_rows, BUCKET_PINTLE, slice_str(ROW_INSTALLED));
        engine_pend_rows(e);
    }
}
