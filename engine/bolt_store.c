/* bolt_store.c - see bolt_store.h. One walk in the file's order for everything; HashKV takes a second one, since which of the old records count is known
 * only when all are. */
#include "engine/bolt_store.h"

#include <stdio.h>

#include "base/hash.h"
#include "engine/engine_internal.h"

#define ROW_STORAGE_VERSION "storageVersion"

struct reading {
    struct index *keys; /* owned */
    uint32_t crc;
    struct rev last;             /* of the last record; 0: none */
    int64_t finished, scheduled; /* compactions; -1: none */
    char version[BOLT_STORE_VERSION_BYTES];
};

/* A pair of the bucket `key`. */
struct change_record {
    struct rev rev;
    bool tombstone;
    struct kv_view kv;
};

static enum err read_record(struct slice key, struct slice value, struct change_record *out, struct err_ctx *ec)
{
    if (record_key_decode(key, &out->rev, &out->tombstone) != OK) {
        return err_set(ec, ERR_CORRUPT, "bucket key: a key of %zu bytes that is no revision", key.len);
    }
    enum err e = record_view(value, out->tombstone, &out->kv);
    bool fits = out->rev.sub <= INDEX_SUB_MAX && (out->tombstone || value.len == 0 || (out->kv.mod_revision == out->rev.main && out->kv.version > 0));
    if (e != OK || !fits) {
        return err_set(ec, ERR_CORRUPT, "bucket key: revision %lld_%lld: %s", (long long)out->rev.main, (long long)out->rev.sub,
                       e != OK ? "does not decode" : "fields do not fit the revision");
    }
    return OK;
}

static enum err note_record(struct reading *r, struct slice key, struct slice value, struct err_ctx *ec)
{
    struct change_record c;
    enum err e = read_record(key, value, &c, ec);
    if (e == OK && rev_cmp(c.rev, r->last) <= 0) {
        e = err_set(ec, ERR_CORRUPT, "bucket key: revision %lld_%lld is not above the one before", (long long)c.rev.main, (long long)c.rev.sub);
    }
    if (e != OK) {
        return e;
    }
    struct key_version v = {.mod = c.rev, .tombstone = c.tombstone};
    if (!c.tombstone) {
        v.create_revision = c.kv.create_revision;
        v.version = c.kv.version;
        v.kv_bytes = (uint32_t)value.len;
    }
    index_restore_put(r->keys, c.kv.key, &v);
    r->last = c.rev;
    return OK;
}

static int64_t revision_of(struct slice value)
{
    struct rev rev;
    bool tombstone;
    return record_key_decode(value, &rev, &tombstone) == OK ? rev.main : -1;
}

/* "3.7.0"; what is no version is as good as none. */
static void note_version(struct reading *r, struct slice value)
{
    unsigned part[3];
    int end = 0;
    char text[BOLT_STORE_VERSION_BYTES] = "";
    if (value.len >= sizeof(text)) {
        return;
    }
    memcpy(text, value.data, value.len);
    if (sscanf(text, "%u.%u.%u%n", &part[0], &part[1], &part[2], &end) == 3 && (size_t)end == value.len) {
        memcpy(r->version, text, sizeof(text));
    }
}

static void note_row(struct reading *r, struct slice key, struct slice value)
{
    if (slice_eq(key, slice_str(ROW_FINISHED_COMPACT))) {
        r->finished = revision_of(value);
    } else if (slice_eq(key, slice_str(ROW_SCHEDULED_COMPACT))) {
        r->scheduled = revision_of(value);
    } else if (slice_eq(key, slice_str(ROW_STORAGE_VERSION))) {
        note_version(r, value);
    }
}

static enum err read_bucket(struct reading *r, struct bolt_reader *b, struct slice name, struct err_ctx *ec)
{
    bool records = slice_eq(name, slice_str(bucket_name(BUCKET_KEY)));
    bool meta = slice_eq(name, slice_str(bucket_name(BUCKET_META)));
    struct slice key;
    struct slice value;
    enum err e;
    r->crc = crc32c(r->crc, name.data, name.len);
    while ((e = bolt_next(b, &key, &value, ec)) == OK) {
        r->crc = crc32c(r->crc, key.data, key.len);
        r->crc = crc32c(r->crc, value.data, value.len);
        if (meta) {
            note_row(r, key, value);
        }
        e = records ? note_record(r, key, value, ec) : OK;
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err read_all(const struct bolt_source *src, struct reading *r, struct bolt_info *info, struct err_ctx *ec)
{
    struct bolt_reader *b = NULL;
    struct slice name;
    *r = (struct reading){.keys = index_create(), .finished = -1, .scheduled = -1};
    index_restore_begin(r->keys);
    enum err e = bolt_open(src, &b, info, ec);
    while (e == OK && (e = bolt_next_bucket(b, &name, ec)) == OK) {
        e = read_bucket(r, b, name, ec);
    }
    bolt_close(&b);
    index_restore_end(r->keys);
    return e == ERR_END ? OK : e;
}

enum err bolt_store_status(const struct bolt_source *src, struct bolt_store_status *out, struct err_ctx *ec)
{
    struct reading r;
    struct bolt_info info;
    enum err e = read_all(src, &r, &info, ec);
    if (e == OK) {
        *out = (struct bolt_store_status){.hash = r.crc, .revision = r.last.main, .bytes = info.n_pages * info.page_bytes};
        out->n_keys = (uint64_t)index_live_keys(r.keys);
        memcpy(out->version, r.version, sizeof(out->version));
    }
    index_destroy(&r.keys);
    return e;
}

/* --- HashKV --------------------------------------------------------------------------------------- */

static enum err hash_records(const struct reading *r, const struct hash_rules *rules, struct bolt_reader *b, uint32_t *crc, struct err_ctx *ec)
{
    struct slice key;
    struct slice value;
    enum err e;
    while ((e = bolt_next(b, &key, &value, ec)) == OK) {
        struct change_record c;
        e = read_record(key, value, &c, ec);
        if (e != OK) {
            return e;
        }
        if (c.rev.main <= rules->revision && hash_counts(r->keys, rules, c.rev, c.tombstone, c.kv.key)) {
            *crc = crc32c(*crc, key.data, key.len);
            *crc = crc32c(*crc, value.data, value.len);
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err hash_file(const struct bolt_source *src, const struct reading *r, const struct hash_rules *rules, uint32_t *crc, struct err_ctx *ec)
{
    struct bolt_reader *b = NULL;
    struct bolt_info info;
    struct slice name;
    struct slice wanted = slice_str(bucket_name(BUCKET_KEY));
    *crc = crc32c(0, wanted.data, wanted.len);
    enum err e = bolt_open(src, &b, &info, ec);
    while (e == OK && (e = bolt_next_bucket(b, &name, ec)) == OK) {
        e = slice_eq(name, wanted) ? hash_records(r, rules, b, crc, ec) : OK;
    }
    bolt_close(&b);
    return e == ERR_END ? OK : e;
}

enum err bolt_store_hash_kv(const struct bolt_source *src, int64_t revision, struct hash_kv *out, struct err_ctx *ec)
{
    struct reading r;
    struct bolt_info info;
    enum err e = read_all(src, &r, &info, ec);
    struct hash_rules rules = {.compacted = r.scheduled > r.finished ? r.scheduled : r.finished};
    int64_t live = r.last.main > rules.compacted ? r.last.main : rules.compacted;
    live = live > 1 ? live : 1;
    rules.revision = revision == 0 ? live : revision;
    if (e == OK && rules.revision > live) {
        e = err_set(ec, ERR_FUTURE_REV, "hash of revision %lld", (long long)revision);
    } else if (e == OK && revision > 0 && revision < rules.compacted) {
        e = err_set(ec, ERR_COMPACTED, "hash of revision %lld", (long long)revision);
    }
    uint32_t crc = 0;
    if (e == OK) {
        rules.keep_is_empty = rules.revision < 0 || index_count(r.keys, (struct slice){0}, (struct slice){0}, rules.revision) == 0;
        e = hash_file(src, &r, &rules, &crc, ec);
    }
    if (e == OK) {
        *out = (struct hash_kv){.hash = crc, .compact_revision = rules.compacted, .hash_revision = rules.revision, .live_revision = live};
    }
    index_destroy(&r.keys);
    return e;
}
