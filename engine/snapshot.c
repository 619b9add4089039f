/* snapshot.c - the store as etcd's file.
 *
 * One read of the backend stays open from the first byte to the last: that is the moment the file
 * shows. It is walked twice, since the head of the file names its end: at open with lengths alone,
 * so that the backend need not bring in long values, and while reading with everything.
 *
 * The buckets are etcd's already, with three differences: a record's value is followed by our
 * checksum, which is verified and left behind; our own bucket comes last and is left out; the
 * version of the schema is added unless the store has it.
 */
#include <stdlib.h>

#include "engine/bolt.h"
#include "engine/engine_internal.h"
#include "engine/membership.h"

#define ROW_STORAGE_VERSION "storageVersion"

static_assert(BUCKET_PINTLE + 1 == N_BUCKETS, "etcd's buckets come before ours");

/* A walk over what the file holds, on its way into a writer. */
struct feed {
    struct bolt_writer *writer; /* owned */
    bool measuring;
    int bucket;                    /* enum bucket; BUCKET_PINTLE: at the end */
    struct backend_cursor *cursor; /* owned; NULL between buckets */
    bool ended;
    struct bolt_layout layout; /* once ended */
};

struct engine_snapshot {
    struct engine *e;
    struct store_read read; /* owned */
    bool has_version;          /* the store names its schema itself */
    struct feed feed;
    struct bytes out; /* what the writer gave and nobody took, from out_at on */
    size_t out_at;
};

/* --- feeding ---------------------------------------------------------------------------------- */

static void feed_close(struct engine_snapshot *s)
{
    if (s->feed.cursor != NULL) {
        store_read_ops(&s->read)->cursor_close(&s->feed.cursor);
    }
    bolt_writer_destroy(&s->feed.writer);
}

static enum err add(struct feed *f, struct slice key, struct slice value, struct err_ctx *ec)
{
    enum err e = bolt_put(f->writer, key, value);
    return e == OK ? OK
                   : err_set(ec, e, "bucket %s: a pair that bbolt does not take",
                             bucket_name((enum bucket)f->bucket));
}

/* The KeyValue of a record. When measuring, its length without a look at the bytes. */
static enum err strip_sum(const struct feed *f, struct slice key, struct slice *value,
                          struct err_ctx *ec)
{
    if (f->measuring && value->len >= RECORD_SUM_BYTES) {
        value->len -= RECORD_SUM_BYTES;
        return OK;
    }
    enum err e = record_check(key, *value, value);
    return e == OK ? OK : err_set(ec, e, "bucket key: checksum mismatch");
}

static enum err begin_bucket(struct engine_snapshot *s, struct err_ctx *ec)
{
    struct feed *f = &s->feed;
    enum bucket b = (enum bucket)f->bucket;
    enum err e = bolt_bucket(f->writer, slice_str(bucket_name(b)));
    if (e != OK) {
        return e;
    }
    return store_read_ops(&s->read)->cursor_open(s->read.read, b, (struct slice){0}, &f->cursor, ec);
}

/* All of `meta` at once: it is small, and the added row goes between others. */
static enum err feed_meta(struct engine_snapshot *s, struct err_ctx *ec)
{
    const struct backend_ops *ops = store_read_ops(&s->read);
    struct feed *f = &s->feed;
    struct slice version = slice_str(ROW_STORAGE_VERSION);
    bool due = !s->has_version;
    enum err e = OK;
    while (e == OK) {
        struct slice key;
        struct slice value;
        e = ops->cursor_next(f->cursor, &key, &value);
        if (due && (e == ERR_END || (e == OK && slice_cmp(version, key) < 0))) {
            due = false;
            enum err added = add(f, version, slice_str(ENGINE_STORAGE_VERSION), ec);
            e = added == OK ? e : added;
        }
        if (e == OK) {
            e = add(f, key, value, ec);
        }
    }
    return e;
}

static enum err feed_pair(struct engine_snapshot *s, struct err_ctx *ec)
{
    struct feed *f = &s->feed;
    struct slice key;
    struct slice value;
    enum err e = store_read_ops(&s->read)->cursor_next(f->cursor, &key, &value);
    if (e == OK && f->bucket == BUCKET_KEY) {
        e = strip_sum(f, key, &value, ec);
    }
    return e == OK ? add(f, key, value, ec) : e;
}

/* The next piece: a bucket's beginning, a pair, or the end of a bucket or of all. */
static enum err feed_step(struct engine_snapshot *s, struct err_ctx *ec)
{
    struct feed *f = &s->feed;
    if (f->cursor == NULL && f->bucket == BUCKET_PINTLE) {
        f->ended = true;
        enum err e = bolt_finish(f->writer, &f->layout);
        return e == OK ? OK : err_set(ec, e, "the end is not where it was expected");
    }
    if (f->cursor == NULL) {
        return begin_bucket(s, ec);
    }
    enum err e = f->bucket == BUCKET_META ? feed_meta(s, ec) : feed_pair(s, ec);
    if (e == ERR_END) {
        store_read_ops(&s->read)->cursor_close(&f->cursor);
        f->bucket++;
        e = OK;
    }
    return e;
}

/* --- public ----------------------------------------------------------------------------------- */

static enum err get_number(struct engine_snapshot *s, const char *key, uint64_t *out,
                           struct err_ctx *ec)
{
    struct slice v;
    enum err e = store_read_ops(&s->read)->get(s->read.read, BUCKET_META, slice_str(key), &v);
    if (e == ERR_NOT_FOUND) {
        *out = 0;
        return OK;
    }
    if (e == OK && v.len != 8) {
        e = ERR_CORRUPT;
    }
    if (e != OK) {
        return err_set(ec, e, "bucket meta: %s", key);
    }
    *out = be64_get(v.data);
    return OK;
}

static enum err get_conf(struct engine_snapshot *s, struct engine_conf *out, struct err_ctx *ec)
{
    struct slice v;
    struct conf_state conf = {0};
    enum err e = store_read_ops(&s->read)->get(s->read.read, BUCKET_META, slice_str(ROW_CONF_STATE), &v);
    if (e == OK) {
        e = conf_decode(v, &conf) == OK ? OK : ERR_CORRUPT;
    }
    conf_tell(&conf, out);
    conf_deinit(&conf);
    return e == OK || e == ERR_NOT_FOUND ? OK : err_set(ec, e, "bucket meta: " ROW_CONF_STATE);
}

static enum err collect(void *arg, struct slice bytes)
{
    struct engine_snapshot *s = arg;
    bytes_add(&s->out, bytes.data, bytes.len);
    return OK;
}

/* Walk once to measure, and stand at the beginning again. */
static enum err prepare(struct engine_snapshot *s, struct snapshot_info *info, struct err_ctx *ec)
{
    struct slice version;
    enum err e =
        store_read_ops(&s->read)->get(s->read.read, BUCKET_META, slice_str(ROW_STORAGE_VERSION), &version);
    if (e != OK && e != ERR_NOT_FOUND) {
        return err_set(ec, e, "bucket meta: " ROW_STORAGE_VERSION);
    }
    s->has_version = e == OK;
    s->feed = (struct feed){.writer = bolt_measure_create(), .measuring = true};
    bolt_add_sum(s->feed.writer);
    e = OK;
    while (e == OK && !s->feed.ended) {
        e = feed_step(s, ec);
    }
    if (e == OK) {
        e = get_number(s, ROW_CONSISTENT_INDEX, &info->index, ec);
    }
    if (e == OK) {
        e = get_number(s, ROW_TERM, &info->term, ec);
    }
    if (e == OK) {
        e = get_conf(s, &info->conf, ec);
    }
    if (e == OK) {
        struct bolt_layout layout = s->feed.layout;
        info->bytes = layout.n_pages * BOLT_PAGE_BYTES;
        feed_close(s);
        s->feed = (struct feed){.writer = bolt_writer_create(&layout, collect, s)};
        bolt_add_sum(s->feed.writer);
    }
    return e;
}

enum err engine_snapshot_open(struct engine *e, struct engine_snapshot **out,
                              struct snapshot_info *info, struct err_ctx *ec)
{
    if (atomic_fetch_add(&e->n_snapshots, 1) >= ENGINE_SNAPSHOTS_MAX) {
        atomic_fetch_sub(&e->n_snapshots, 1);
        return err_set(ec, ERR_TOO_MANY_REQUESTS, "%u snapshots are being read",
                       ENGINE_SNAPSHOTS_MAX);
    }
    struct engine_snapshot *s = xcalloc(1, sizeof(*s));
    struct snapshot_info found;
    s->e = e;
    lock_read(e);
    enum err err = store_read_begin(e, &s->read, ec);
    unlock(e);
    if (err == OK) {
        err = prepare(s, &found, ec);
    }
    if (err != OK) {
        engine_snapshot_close(&s);
        return err_wrap(ec, err, "snapshot");
    }
    *out = s;
    *info = found;
    return OK;
}

enum err engine_snapshot_read(struct engine_snapshot *s, uint8_t *dst, size_t room, size_t *n,
                              struct err_ctx *ec)
{
    size_t done = 0;
    for (;;) {
        size_t left = s->out.len - s->out_at;
        size_t now = left < room - done ? left : room - done;
        if (now > 0) {
            memcpy(dst + done, s->out.data + s->out_at, now);
            done += now;
            s->out_at += now;
        }
        if (done == room || s->feed.ended) {
            *n = done;
            return OK;
        }
        bytes_reset(&s->out);
        s->out_at = 0;
        enum err e = feed_step(s, ec);
        if (e != OK) {
            return err_wrap(ec, e, "snapshot");
        }
    }
}

void engine_snapshot_close(struct engine_snapshot **sp)
{
    struct engine_snapshot *s = *sp;
    *sp = NULL;
    if (s == NULL) {
        return;
    }
    struct engine *e = s->e;
    feed_close(s);
    store_read_end(&s->read);
    bytes_deinit(&s->out);
    free(s);
    atomic_fetch_sub(&e->n_snapshots, 1);
}
