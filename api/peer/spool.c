/* spool.c - a database that another member posts: into a file, checked and built beside the store in use, then installed.
 *
 *     HEAD ──message──► BODY ──end of the body──► STAGING (worker) ──► INSTALLING (member) ──► answered, file removed
 *       └───────────────── refused, cut off ─────────────┴──► file removed
 *
 * Bytes gather in `pending` on the loop; a worker writes `writing`. Above SPOOL_PENDING_BYTES the sender waits. Nothing of the member's state
 * is touched before everything was checked. One database at a time.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/vfs.h"

#define SUFFIX ".snap.db.tmp"
#define NAME_BYTES 64u
#define BODY_BYTES 640u

enum spool_state { SPOOL_HEAD, SPOOL_BODY, SPOOL_STAGING, SPOOL_INSTALLING, SPOOL_REMOVING };

struct spool {
    struct peer_transport *t;
    struct http_exchange *exchange; /* NULL: answered, or the sender is gone */
    struct peer_verdict verdict;
    enum spool_state state;
    struct peer_decoder decoder;
    uint64_t sender; /* by its headers */
    uint64_t from;   /* by its message */
    uint64_t index;
    uint64_t started_ns;
    struct bytes pending;
    uint64_t received; /* bytes of the database */
    uint64_t came;     /* bytes of the body since the last look; also those of its head */
    bool waited;       /* the sender had to wait since then */
    struct loop_timer look;
    bool paused;
    bool complete; /* the whole body has come */
    bool working;
    char text[BODY_BYTES]; /* of a refusal */
    struct member_op op;
    struct loop_item item;
    uv_work_t work;
    /* ---- worker or loop, by turns: the worker has them while `working` */
    struct raft_message *message; /* owned */
    char *path;                   /* owned */
    struct vfs_file *file;        /* owned; NULL: not open */
    struct bytes writing;
    uint64_t written;
    bool last;             /* after this nothing is to be written: stage */
    struct staged *staged; /* owned */
    enum err err;
    struct err_ctx ec;
};

static void remove_start(struct spool *s);

/* --- the end ---------------------------------------------------------------------------------------------------- */

static void finish(struct spool *s, bool ok)
{
    metrics_spool(s->t, s->sender, ok, clock_now_ns(s->t->cfg.clock) - s->started_ns);
    metrics_spool_change(s->t, s->sender, -1);
    s->state = SPOOL_REMOVING;
    loop_timer_clear(s->t->cfg.loop, &s->look);
    if (!s->working) {
        remove_start(s);
    } /* else write_done sees the state */
}

/* `what` is etcd's sentence, `reason` stands in brackets behind it. */
static void fail(struct spool *s, const char *what, const char *reason)
{
    struct peer_transport *t = s->t;
    log_warn(t->cfg.log, what, F_HEX("local-member-id", t->identity.member), F_HEX("remote-snapshot-sender-id", s->from),
             F_UINT("incoming-snapshot-index", s->index), F_UINT("bytes", s->received), F_STR("error", reason));
    (void)snprintf(s->text, sizeof(s->text), "%s (%s)\n", what, reason);
    s->verdict.status = 500;
    s->verdict.body = s->text;
    s->verdict.content_type = "text/plain; charset=utf-8";
    finish(s, false);
}

/* Before anything was written. */
static void refuse_head(struct spool *s, enum err e, const char *reason)
{
    struct peer_transport *t = s->t;
    peer_check_message(&t->identity, &t->directory, e, s->message, &s->verdict);
    log_warn(t->cfg.log, peer_refusal_log(s->verdict.refusal), F_HEX("local-member-id", t->identity.member),
             F_HEX("remote-snapshot-sender-id", s->from), F_STR("error", reason));
    finish(s, false);
}

static const char *reason_of(const struct spool *s)
{
    return s->ec.text[0] != '\0' ? s->ec.text : err_text(s->err);
}

/* --- on a worker -------------------------------------------------------------------------------------------------- */

static enum err read_at(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    struct spool *s = arg;
    size_t got = 0;
    if (atomic_load_explicit(&s->t->closed, memory_order_acquire)) {
        return err_set(ec, ERR_STOPPED, "stopping"); /* checking a large one takes long */
    }
    enum err e = s->file->ops->pread(s->file, dst, n, offset, &got, ec);
    if (e == OK && got < n) {
        e = err_set(ec, ERR_CORRUPT, "file ends at byte %" PRIu64, offset + got);
    }
    return e;
}

static void write_piece(struct spool *s)
{
    struct vfs *v = vfs_real();
    if (s->file == NULL) {
        s->err = v->ops->open(v, s->path, VFS_CREATE, &s->file, &s->ec);
        if (s->err == OK) {
            s->err = s->file->ops->truncate(s->file, 0, &s->ec);
        }
    }
    if (s->err == OK && s->writing.len > 0) {
        const struct iovec iov = {s->writing.data, s->writing.len};
        s->err = s->file->ops->pwritev(s->file, &iov, 1, s->written, &s->ec);
        s->written += s->writing.len;
    }
}

static void work_write(uv_work_t *work)
{
    struct spool *s = work->data;
    write_piece(s);
    if (s->err == OK && s->last) {
        uint64_t began_ns = clock_now_ns(s->t->cfg.clock);
        s->err = s->file->ops->sync(s->file, &s->ec);
        metrics_spool_synced(s->t, clock_now_ns(s->t->cfg.clock) - began_ns);
    }
    if (s->err == OK && s->last) {
        const struct bolt_source src = {.read_at = read_at, .arg = s, .size = s->written};
        s->err = member_stage(s->t->member, &src, s->message, &s->staged, &s->ec);
    }
}

static void work_remove(uv_work_t *work)
{
    struct spool *s = work->data;
    struct vfs *v = vfs_real();
    if (s->file != NULL) {
        s->file->ops->close(s->file);
        s->file = NULL;
        (void)v->ops->unlink(v, s->path, NULL); /* what stays is removed at the next start */
    }
}

/* --- the loop's side of the work ------------------------------------------------------------------------------------ */

/* The answer comes last, so that who tries again at once finds the place free. */
static void spool_free(struct spool *s)
{
    ASSERT(!s->working);
    s->t->spool = NULL;
    if (s->exchange != NULL) {
        serve_verdict(s->t, s->exchange, &s->verdict);
    }
    raft_message_destroy(&s->message);
    member_stage_discard(s->t->member, &s->staged);
    peer_decoder_deinit(&s->decoder);
    bytes_deinit(&s->pending);
    bytes_deinit(&s->writing);
    free(s->path);
    free(s);
}

static void queue_work(struct spool *s, void (*run)(uv_work_t *work), void (*done)(uv_work_t *work, int status))
{
    s->working = true;
    s->work.data = s;
    transport_busy(s->t, 1);
    int rc = uv_queue_work(loop_uv(s->t->cfg.loop), &s->work, run, done);
    ASSERT(rc == 0); /* fails only without a function */
}

static void remove_done(uv_work_t *work, int status)
{
    (void)status;
    struct spool *s = work->data;
    struct peer_transport *t = s->t;
    s->working = false;
    spool_free(s);
    transport_busy(t, -1);
}

static void remove_start(struct spool *s)
{
    queue_work(s, work_remove, remove_done);
}

static void write_done(uv_work_t *work, int status);

static void write_start(struct spool *s)
{
    struct bytes empty = s->writing;
    bytes_reset(&empty);
    s->writing = s->pending;
    s->pending = empty;
    s->last = s->complete;
    s->state = s->last ? SPOOL_STAGING : s->state;
    queue_work(s, work_write, write_done);
}

static void write_if_due(struct spool *s)
{
    if (!s->working && (s->complete || s->pending.len >= SNAPSHOT_PIECE_BYTES)) {
        write_start(s);
    }
    bool pause = s->pending.len > SPOOL_PENDING_BYTES;
    if (!s->complete && s->exchange != NULL && pause != s->paused) {
        s->paused = pause;
        s->waited = true;
        http_body_pause(s->exchange, pause);
    }
}

/* --- installing -------------------------------------------------------------------------------------------------------- */

static void installed_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct spool *s = CONTAINER_OF(item, struct spool, item);
    struct peer_transport *t = s->t;
    s->working = false;
    if (s->op.err != OK) {
        fail(s, "failed to process Raft message", err_text(s->op.err));
    } else {
        log_info(t->cfg.log, "received and saved database snapshot", F_HEX("local-member-id", t->identity.member),
                 F_HEX("remote-snapshot-sender-id", s->from), F_UINT("incoming-snapshot-index", s->index), F_UINT("bytes", s->received),
                 F_NS("took", clock_now_ns(t->cfg.clock) - s->started_ns));
        const struct peer *p = peer_find(t, s->sender);
        if (p != NULL) {
            metrics_count(p->metrics.received_bytes, s->received);
        }
        s->verdict.status = 204;
        finish(s, true);
    }
    transport_busy(t, -1);
}

/* On the member loop. */
static void on_installed(struct member_op *op)
{
    struct spool *s = CONTAINER_OF(op, struct spool, op);
    loop_post(s->t->cfg.loop, &s->item);
}

static void install(struct spool *s)
{
    s->state = SPOOL_INSTALLING;
    s->working = true;
    transport_busy(s->t, 1);
    s->item.run = installed_run;
    s->op = (struct member_op){.kind = MEMBER_INSTALL, .done = on_installed, .message = s->message, .staged = s->staged};
    enum err e = member_submit(s->t->member, &s->op);
    if (e == OK) {
        s->message = NULL;
        s->staged = NULL;
    } else {
        s->op.err = e;
        loop_post(s->t->cfg.loop, &s->item);
    }
}

static void write_done(uv_work_t *work, int status)
{
    (void)status;
    struct spool *s = work->data;
    struct peer_transport *t = s->t;
    s->working = false;
    if (s->state == SPOOL_REMOVING) {
        remove_start(s); /* it was given up meanwhile */
    } else if (s->err != OK) {
        fail(s, "failed to save KV snapshot", reason_of(s));
    } else if (s->last) {
        install(s);
    } else {
        write_if_due(s);
    }
    transport_busy(t, -1);
}

/* --- the body ------------------------------------------------------------------------------------------------------------ */

/* The message in front of the database is there: may it be taken? */
static bool take_head(struct spool *s)
{
    struct peer_transport *t = s->t;
    char name[NAME_BYTES];
    peer_check_message(&t->identity, &t->directory, OK, s->message, &s->verdict);
    if (s->verdict.refusal != PEER_ACCEPTED) {
        refuse_head(s, OK, "");
        return false;
    }
    s->from = s->message->from;
    s->index = s->message->snapshot == NULL ? 0 : s->message->snapshot->index;
    (void)snprintf(name, sizeof(name), "%" PRIx64 "-%016" PRIx64 SUFFIX, s->from, s->index);
    s->path = xasprintf("%s/%s", t->cfg.spool_dir, name);
    s->state = SPOOL_BODY;
    log_info(t->cfg.log, "receiving database snapshot", F_HEX("local-member-id", t->identity.member),
             F_HEX("remote-snapshot-sender-id", s->from), F_UINT("incoming-snapshot-index", s->index), F_STR("path", s->path));
    return true;
}

static void on_piece(void *arg, struct slice in)
{
    struct spool *s = arg;
    s->came += in.len;
    while (s->state == SPOOL_HEAD) {
        struct err_ctx ec = {{0}};
        enum peer_frame frame = PEER_FRAME_NONE;
        enum err e = peer_decode(&s->decoder, &in, &frame, &s->message, &ec);
        if (e != OK) {
            refuse_head(s, e, ec.text[0] != '\0' ? ec.text : err_text(e));
            return;
        }
        if (frame == PEER_FRAME_SKIPPED) {
            refuse_head(s, ERR_UNSUPPORTED, "unknown message type");
            return;
        }
        if (frame == PEER_FRAME_NONE) {
            return; /* more of the head is needed */
        }
        if (frame == PEER_FRAME_MESSAGE && !take_head(s)) {
            return;
        }
    }
    if (s->state == SPOOL_BODY) {
        bytes_add(&s->pending, in.data, in.len);
        s->received += in.len;
        write_if_due(s);
    }
}

static void on_end(void *arg)
{
    struct spool *s = arg;
    if (s->state == SPOOL_HEAD) {
        refuse_head(s, ERR_INVALID, "unexpected EOF");
    } else if (s->state == SPOOL_BODY) {
        s->complete = true;
        write_if_due(s);
    }
}

/* The sender left. When its bytes are complete, what they are good for goes on without an answer. */
static void on_gone(void *arg)
{
    struct spool *s = arg;
    http_exchange_kill(s->exchange);
    s->exchange = NULL;
    if (!s->complete && s->state != SPOOL_REMOVING) {
        fail(s, "failed to save KV snapshot", "unexpected EOF");
    }
}

/* One that dribbles would keep others from sending. */
static void on_look(struct loop *l, struct loop_timer *timer)
{
    struct spool *s = CONTAINER_OF(timer, struct spool, look);
    if (s->complete) {
        return;
    }
    if (!s->paused && !s->waited && s->came < SPOOL_SLOWEST_BYTES) {
        http_exchange_kill(s->exchange);
        s->exchange = NULL;
        fail(s, "failed to save KV snapshot", "the sender is too slow");
        return;
    }
    s->came = 0;
    s->waited = s->paused;
    loop_timer_set(l, &s->look, loop_now_ms(l) + SPOOL_LOOK_MS);
}

void spool_begin(struct peer_transport *t, struct http_exchange *x, const struct peer_verdict *v)
{
    if (t->spool != NULL) {
        struct peer_verdict busy = *v;
        busy.status = 500;
        busy.body = "failed to save KV snapshot (another snapshot is being received)\n";
        busy.content_type = "text/plain; charset=utf-8";
        log_warn(t->cfg.log, "failed to save KV snapshot", F_HEX("local-member-id", t->identity.member), F_HEX("remote-snapshot-sender-id", v->from),
                 F_STR("error", "another snapshot is being received"));
        serve_verdict(t, x, &busy);
        return;
    }
    struct spool *s = xcalloc(1, sizeof(*s));
    s->t = t;
    s->exchange = x;
    s->verdict = *v;
    s->sender = v->from;
    s->from = v->from;
    s->started_ns = clock_now_ns(t->cfg.clock);
    peer_decoder_init(&s->decoder, PEER_STREAM_SNAPSHOT, t->identity.member, v->from, false);
    t->spool = s;
    s->look.fire = on_look;
    loop_timer_set(t->cfg.loop, &s->look, loop_now_ms(t->cfg.loop) + SPOOL_LOOK_MS);
    metrics_spool_change(t, s->sender, 1);
    http_exchange_on_gone(x, on_gone, s);
    http_body_to(x, on_piece, on_end, s);
}

void spool_stop(struct peer_transport *t)
{
    struct spool *s = t->spool;
    if (s == NULL) {
        return;
    }
    if (s->exchange != NULL) {
        http_exchange_kill(s->exchange);
        s->exchange = NULL;
    }
    /* What is staged or installed ends by itself: the member refuses it or has it. */
    if (s->state == SPOOL_HEAD || s->state == SPOOL_BODY) {
        fail(s, "failed to save KV snapshot", "stopping");
    }
}

static void clean_one(void *arg, const char *name)
{
    struct peer_transport *t = arg;
    struct vfs *v = vfs_real();
    size_t len = strlen(name);
    size_t suffix = sizeof(SUFFIX) - 1;
    if (len < suffix || strcmp(name + len - suffix, SUFFIX) != 0) {
        return;
    }
    char *path = xasprintf("%s/%s", t->cfg.spool_dir, name);
    enum err e = v->ops->unlink(v, path, NULL);
    log_info(t->cfg.log, "removed what was left of a snapshot", F_STR("path", path), F_BOOL("removed", e == OK));
    free(path);
}

void spool_clean(struct peer_transport *t)
{
    struct vfs *v = vfs_real();
    struct err_ctx ec = {{0}};
    if (t->cfg.spool_dir != NULL && v->ops->list(v, t->cfg.spool_dir, clean_one, t, &ec) != OK) {
        log_warn(t->cfg.log, "failed to look for leftover snapshots", F_STR("error", ec.text));
    }
}
