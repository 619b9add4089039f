/* snapshot.c - Maintenance.Snapshot: the store as a file, in messages of 32 KiB.
 *
 * The store is flushed first, so that everything applied is in the file. From then on loop and worker
 * pool take turns over one struct: a worker reads a piece and adds it to the digest, the loop sends it as messages
 * and waits until the socket has taken most of them. Nothing but a piece and what the call has queued stands in
 * memory, however slow the client is.
 *
 *     flushing ──► working ⇄ draining ──► digest sent
 *
 * An open snapshot keeps pages of the store from being used again, so a client gets a time that is long for its
 * size and not longer: at its end the call fails and the pages are free.
 */
#include "api/etcd/internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"

#define BLOB_BYTES 32768u                    /* of one message, as etcd */
#define PIECE_BYTES (16u * BLOB_BYTES)       /* read by one visit to a worker */
#define QUEUE_BYTES (2u * PIECE_BYTES)       /* unsent: above it, reading waits */
#define GRACE_MS 120000u                     /* any client has this long, ... */
#define RATE_BYTES_PER_MS 1024u              /* ... and longer by the size at about 1 MiB/s */
#define DIGEST_BYTES 32u
#define HEAD_BYTES (2u * (1u + WIRE_VARINT_MAX)) /* in front of a blob */

struct snapshot_stream {
    uv_work_t work;
    struct loop_timer deadline;
    struct grpc_call *call; /* referenced while a worker has the struct, else borrowed */
    struct engine *engine;
    bool working;           /* a worker has what follows the line, or the loop is sending it: not to be freed */
    bool ended;             /* the call is over: free when that is done */
    bool opened;
    /* ---- worker or loop, by turns */
    struct engine_snapshot *snapshot; /* owned */
    struct snapshot_info info;
    uint64_t remaining; /* not yet read */
    EVP_MD_CTX *sha;    /* owned */
    uint8_t *piece;     /* owned */
    size_t n;
    enum err err;
    struct err_ctx ec;
};

static void stream_free(struct snapshot_stream *s)
{
    engine_snapshot_close(&s->snapshot);
    EVP_MD_CTX_free(s->sha);
    free(s->piece);
    free(s);
}

/* --- on a worker ----------------------------------------------------------------------------------------- */

static void work_run(uv_work_t *work)
{
    struct snapshot_stream *s = work->data;
    if (s->snapshot == NULL) {
        s->err = engine_snapshot_open(s->engine, &s->snapshot, &s->info, &s->ec);
        s->remaining = s->info.bytes;
    }
    s->n = 0;
    if (s->err == OK) {
        s->err = engine_snapshot_read(s->snapshot, s->piece, PIECE_BYTES, &s->n, &s->ec);
    }
    if (s->err == OK) {
        ASSERT(s->n <= s->remaining && (s->n == PIECE_BYTES || s->n == s->remaining));
        s->remaining -= s->n;
        int rc = EVP_DigestUpdate(s->sha, s->piece, s->n);
        ASSERT(rc == 1);
    }
}

/* --- on the loop ----------------------------------------------------------------------------------------- */

static void send_blob(struct snapshot_stream *s, struct slice blob, uint64_t remaining)
{
    uint8_t head[HEAD_BYTES];
    uint8_t *p = head;
    if (remaining > 0) {
        p = wire_put_tag(p, 2, WIRE_VARINT);
        p = wire_put_varint(p, remaining);
    }
    p = wire_put_tag(p, 3, WIRE_LEN);
    p = wire_put_varint(p, blob.len);
    static const uint8_t version[] = "\x22\x05" ENGINE_STORAGE_VERSION; /* field 4 */
    static_assert(sizeof(version) == 2 + 5 + 1, "its length is in front of it");
    const struct slice pieces[] = {{head, (size_t)(p - head)}, blob, {version, sizeof(version) - 1}};
    grpc_send(s->call, pieces, ARRAY_LEN(pieces));
}

static void send_piece(struct snapshot_stream *s)
{
    uint64_t left = s->remaining + s->n;
    for (size_t at = 0; at < s->n;) {
        size_t now = s->n - at < BLOB_BYTES ? s->n - at : BLOB_BYTES;
        left -= now;
        send_blob(s, slice_of(s->piece + at, now), left);
        at += now;
    }
}

static void send_digest(struct snapshot_stream *s)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int rc = EVP_DigestFinal_ex(s->sha, digest, &len);
    ASSERT(rc == 1 && len == DIGEST_BYTES);
    send_blob(s, slice_of(digest, len), 0);
    grpc_finish(s->call, GRPC_OK, NULL);
}

static void deadline_fire(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct snapshot_stream *s = (struct snapshot_stream *)((char *)t - offsetof(struct snapshot_stream, deadline));
    log_warn(server_of(s->call)->cfg.log, "snapshot given up: the client takes too long", F_UINT("bytes", s->info.bytes));
    grpc_finish(s->call, GRPC_DEADLINE_EXCEEDED, "etcdserver: the snapshot took too long");
}

static void work_start(struct snapshot_stream *s);

static void go_on(struct grpc_call *c)
{
    struct snapshot_stream *s = *grpc_call_state(c);
    if (grpc_call_queued_bytes(c) > QUEUE_BYTES) {
        grpc_call_on_drain(c, QUEUE_BYTES / 2, go_on);
    } else {
        work_start(s);
    }
}

/* A piece has been read: send it, and see what is next. */
static void take_piece(struct snapshot_stream *s)
{
    struct grpc_call *c = s->call;
    struct loop *l = grpc_call_loop(c);
    if (!s->opened) {
        s->opened = true;
        loop_timer_set(l, &s->deadline, loop_now_ms(l) + GRACE_MS + s->info.bytes / RATE_BYTES_PER_MS);
        log_info(server_of(c)->cfg.log, "sending database snapshot to client", F_UINT("total-bytes", s->info.bytes));
    }
    send_piece(s);
    s->working = false;
    if (s->ended) {
        stream_free(s);
    } else if (s->remaining == 0) {
        uint64_t took_ms = loop_now_ms(l) - grpc_call_began_ms(c);
        log_info(server_of(c)->cfg.log, "successfully sent database snapshot to client", F_UINT("total-bytes", s->info.bytes), F_NS("took", took_ms * 1000000u),
                 F_STR("storage-version", ENGINE_STORAGE_VERSION));
        histogram_observe(server_of(c)->snapshot_seconds, (double)took_ms / 1e3);
        send_digest(s);
    } else {
        go_on(c);
    }
}

static void work_done(uv_work_t *work, int status)
{
    struct snapshot_stream *s = work->data;
    struct grpc_call *c = s->call;
    if (status == 0 && s->err == OK && !s->ended) {
        take_piece(s);
    } else if (s->ended) {
        stream_free(s);
    } else {
        s->working = false;
        if (status == 0) {
            log_warn(server_of(c)->cfg.log, "failed to read a snapshot", F_STR("error", s->ec.text));
        }
        status_finish(c, status != 0 ? ERR_STOPPED : s->err);
    }
    grpc_call_unref(&c);
}

static void work_start(struct snapshot_stream *s)
{
    s->working = true;
    (void)grpc_call_ref(s->call);
    if (uv_queue_work(loop_uv(grpc_call_loop(s->call)), &s->work, work_run, work_done) != 0) {
        work_done(&s->work, UV_ECANCELED);
    }
}

static void finish_flush(struct request *r)
{
    struct grpc_call *c = r->call;
    if (r->op.err != OK) {
        status_finish(c, r->op.err);
        return;
    }
    if (grpc_call_ended(c)) {
        return;
    }
    struct snapshot_stream *s = xcalloc(1, sizeof(*s));
    s->work.data = s;
    s->deadline.fire = deadline_fire;
    s->call = c;
    s->engine = server_of(c)->engine;
    s->piece = xalloc(PIECE_BYTES);
    s->sha = EVP_MD_CTX_new();
    if (s->sha == NULL || EVP_DigestInit_ex(s->sha, EVP_sha256(), NULL) != 1) {
        stream_free(s);
        status_finish(c, ERR_NO_MEM);
        return;
    }
    *grpc_call_state(c) = s;
    work_start(s);
}

void snapshot_on_message(struct grpc_call *c, struct slice bytes)
{
    if (request_decode(c, &etcdserverpb__snapshot_request__descriptor, bytes) == NULL) {
        return;
    }
    struct request *r = request_create(c, MEMBER_FLUSH, finish_flush);
    if (r != NULL) {
        request_submit(r);
    }
}

void snapshot_on_ended(struct grpc_call *c)
{
    struct snapshot_stream *s = *grpc_call_state(c);
    if (s == NULL) {
        return;
    }
    *grpc_call_state(c) = NULL;
    loop_timer_clear(grpc_call_loop(c), &s->deadline);
    s->ended = true;
    if (!s->working) {
        stream_free(s);
    }
}
