/* send_snapshot.c - the store as it is now, posted to a member that fell too far behind.
 *
 *     flushing ──► opening (worker: walks the store, reads a piece) ──► sending: libcurl takes from `front` while a worker fills `back`
 *
 * The message that raft gave stands for "what your store holds"; index, term and configuration are those of the database that goes out. Two
 * pieces stand in memory, however slow the other side is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "api/peer/internal.h"
#include "api/peer/old_store.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/metrics.h"

struct snapshot_send {
    struct peer_conn conn;
    struct peer_transport *t;
    struct net_call call;
    struct peer_ask ask;
    struct member_op op; /* the flush */
    struct loop_item item;
    uv_work_t work;
    struct raft_message *message; /* owned */
    char url[PEER_URL_BYTES];     /* the peer's may change meanwhile */
    uint64_t started_ns;
    bool away;    /* the member or a worker has it: not to be freed */
    bool closed;  /* the link has let go: free it when it is back */
    bool started; /* the post is under way */
    bool moved;   /* bytes went out that the link has not heard of */
    bool starved; /* libcurl waits for `back` */
    struct loop_timer sign;
    unsigned n_signs;
    struct bytes front;
    size_t front_at;
    struct bytes refusal;
    /* ---- worker or loop, by turns: the worker has them while `away` */
    struct engine_snapshot *snapshot; /* owned */
    struct snapshot_info info;
    uint64_t unread;
    struct bytes back; /* empty: to be filled */
    enum err err;
    struct err_ctx ec;
};

static struct snapshot_send *of_call(struct net_call *c)
{
    return CONTAINER_OF(c, struct snapshot_send, call);
}

static void send_free(struct snapshot_send *s)
{
    engine_snapshot_close(&s->snapshot);
    raft_message_destroy(&s->message);
    bytes_deinit(&s->front);
    bytes_deinit(&s->back);
    bytes_deinit(&s->refusal);
    free(s);
}

/* The link has let go, or is told now: nothing more goes out. */
static void let_go(struct snapshot_send *s)
{
    struct peer *p = s->conn.peer;
    if (p->metrics.sending != NULL) {
        gauge_add(p->metrics.sending, -1);
    }
    peer_conn_remove(&s->conn);
    net_cancel(&s->call);
    loop_timer_clear(s->t->cfg.loop, &s->sign);
    s->closed = true;
}

static void on_close(struct peer_conn *c)
{
    struct snapshot_send *s = CONTAINER_OF(c, struct snapshot_send, conn);
    log_warn(s->t->cfg.log, "failed to send database snapshot", F_HEX("remote-peer-id", s->conn.peer->id), F_STR("error", "given up"));
    metrics_count(s->conn.peer->metrics.snapshots_failed, 1);
    let_go(s);
    if (!s->away) {
        send_free(s);
    }
}

static void end(struct snapshot_send *s, enum peer_outcome outcome, const char *reason)
{
    struct peer *p = s->conn.peer;
    struct logger *log = s->t->cfg.log;
    uint64_t took_ns = clock_now_ns(s->t->cfg.clock) - s->started_ns;
    char text[PEER_REASON_BYTES];
    (void)snprintf(text, sizeof(text), "%s", reason != NULL ? reason : peer_outcome_text(outcome));
    struct link_event ev = {.kind = LINK_EV_POSTED, .conn = s->conn.id, .outcome = outcome, .reason = text};
    if (outcome == PEER_OK) {
        log_info(log, "sent database snapshot", F_UINT("snapshot-index", s->info.index), F_HEX("remote-peer-id", p->id),
                 F_UINT("bytes", s->info.bytes), F_NS("took", took_ns));
        metrics_count(p->metrics.snapshots_sent, 1);
        metrics_count(p->metrics.sent_bytes, s->info.bytes);
        if (p->metrics.snapshot_seconds != NULL) {
            histogram_observe_ns(p->metrics.snapshot_seconds, took_ns);
        }
    } else {
        log_warn(log, "failed to send database snapshot", F_UINT("snapshot-index", s->info.index), F_HEX("remote-peer-id", p->id),
                 F_UINT("bytes", s->info.bytes), F_STR("error", text));
        metrics_count(p->metrics.snapshots_failed, 1);
    }
    let_go(s);
    if (!s->away) {
        send_free(s);
    }
    peer_step(p, &ev);
}

/* --- on a worker ---------------------------------------------------------------------------------------------- */

static void work_run(uv_work_t *work)
{
    struct snapshot_send *s = work->data;
    if (s->snapshot == NULL) {
        s->err = engine_snapshot_open(member_engine(s->t->member), &s->snapshot, &s->info, &s->ec);
        s->unread = s->info.bytes;
    }
    if (s->err == OK) {
        uint8_t *at = bytes_reserve(&s->back, SNAPSHOT_PIECE_BYTES);
        size_t n = 0;
        s->err = engine_snapshot_read(s->snapshot, at, SNAPSHOT_PIECE_BYTES, &n, &s->ec);
        s->back.len = n;
        if (s->err == OK && (n > s->unread || (n < SNAPSHOT_PIECE_BYTES && n != s->unread))) {
            s->err = err_set(&s->ec, ERR_CORRUPT, "the database is not as long as was measured");
        }
        s->unread -= s->err == OK ? n : 0;
    }
}

/* --- sending ---------------------------------------------------------------------------------------------------- */

static void copy_ids(struct raft_ids *out, const uint64_t *ids, size_t n)
{
    out->n = n < RAFT_MEMBERS_MAX ? n : RAFT_MEMBERS_MAX;
    memcpy(out->id, ids, out->n * sizeof(ids[0]));
}

static void rewrite_message(struct snapshot_send *s)
{
    const struct engine_conf *c = &s->info.conf;
    if (s->message->snapshot == NULL) {
        s->message->snapshot = xcalloc(1, sizeof(*s->message->snapshot));
    }
    struct raft_snapshot *snap = s->message->snapshot;
    snap->index = s->info.index;
    snap->term = s->info.term;
    snap->conf = (struct raft_conf_state){.auto_leave = c->auto_leave};
    copy_ids(&snap->conf.voters, c->voters, c->n_voters);
    copy_ids(&snap->conf.learners, c->learners, c->n_learners);
    copy_ids(&snap->conf.voters_outgoing, c->voters_outgoing, c->n_voters_outgoing);
    copy_ids(&snap->conf.learners_next, c->learners_next, c->n_learners_next);
}

static bool has_id(const struct raft_ids *ids, uint64_t id)
{
    size_t i = 0;
    while (i < ids->n && ids->id[i] != id) {
        i++;
    }
    return i < ids->n;
}

/* What older etcds want beside the database. The list of members is the present one, which may be newer than the database: who is not in its
 * configuration is left out, and other differences come again with the entries behind it. false: somebody of the configuration has gone since,
 * so a newer database is needed. */
static bool add_old_store(struct snapshot_send *s)
{
    struct engine *e = member_engine(s->t->member);
    struct raft_snapshot *snap = s->message->snapshot;
    struct bytes json = {0};
    char version[16];
    size_t n = 0;
    size_t kept = 0;
    struct member_info *members = engine_members(e, &n);
    for (size_t i = 0; i < n; i++) {
        if (has_id(&snap->conf.voters, members[i].id) || has_id(&snap->conf.learners, members[i].id)) {
            members[kept++] = members[i];
        }
    }
    engine_cluster_version(e, version);
    old_store_encode(members, kept, version, snap->index, &json);
    free(members);
    buf_unref(&snap->data);
    snap->data = buf_copy(bytes_slice(&json));
    bytes_deinit(&json);
    return kept == snap->conf.voters.n + snap->conf.learners.n;
}

static void work_start(struct snapshot_send *s);

/* Inside libcurl. */
static size_t on_pull(struct net_call *c, uint8_t *dst, size_t room)
{
    struct snapshot_send *s = of_call(c);
    if (s->front_at == s->front.len) {
        if (s->away || s->back.len == 0) {
            s->starved = true;
            return 0;
        }
        struct bytes empty = s->front;
        bytes_reset(&empty);
        s->front = s->back;
        s->back = empty;
        s->front_at = 0;
    }
    size_t n = s->front.len - s->front_at;
    n = n < room ? n : room;
    memcpy(dst, s->front.data + s->front_at, n);
    s->front_at += n;
    s->moved = true;
    return n;
}

static bool on_data(struct net_call *c, struct slice piece)
{
    struct snapshot_send *s = of_call(c);
    question_refused(&s->refusal, piece);
    return true;
}

static void on_settled(struct net_call *c)
{
    struct snapshot_send *s = of_call(c);
    struct peer *p = s->conn.peer;
    uint64_t id = s->conn.id;
    if (!s->away && s->back.len == 0 && s->unread > 0) {
        work_start(s);
    }
    if (s->moved) {
        s->moved = false;
        struct link_event ev = {.kind = LINK_EV_PROGRESS, .conn = id};
        peer_step(p, &ev);
    }
}

static void on_ended(struct net_call *c, enum peer_outcome outcome, const char *reason)
{
    struct snapshot_send *s = of_call(c);
    if (outcome != PEER_OK) {
        end(s, outcome, reason);
        return;
    }
    const struct peer_answer answer = {.status = c->status, .body = bytes_slice(&s->refusal)};
    outcome = peer_check_post_answer(&answer);
    char text[PEER_REASON_BYTES];
    (void)snprintf(text, sizeof(text), "status %u: %.*s", c->status, (int)s->refusal.len,
                   s->refusal.data == NULL ? "" : (const char *)s->refusal.data);
    text[strcspn(text, "\r\n")] = '\0';
    end(s, outcome, outcome == PEER_REFUSED ? text : NULL);
}

static void begin(struct snapshot_send *s)
{
    static const struct net_ops ops = {.data = on_data, .pull = on_pull, .settled = on_settled, .ended = on_ended};
    struct peer *p = s->conn.peer;
    struct peer_encoder encoder;
    rewrite_message(s);
    if (!add_old_store(s)) {
        end(s, PEER_FAILED, "the membership changed meanwhile");
        return;
    }
    peer_encoder_init(&encoder, PEER_STREAM_SNAPSHOT, s->t->identity.member, p->id);
    peer_encode(&encoder, s->message, &s->front);
    peer_ask_post(&s->t->identity, true, &s->ask);
    log_info(s->t->cfg.log, "sending database snapshot", F_UINT("snapshot-index", s->info.index), F_HEX("remote-peer-id", p->id),
             F_UINT("bytes", s->info.bytes));
    const struct net_request r = {
        .method = s->ask.method,
        .url = s->url,
        .path = s->ask.path,
        .headers = s->ask.headers,
        .n_headers = s->ask.n_headers,
        .own_connection = true,
        .pulled_bytes = s->front.len + s->info.bytes,
    };
    s->started = true;
    net_start(s->t->net, &s->call, &ops, &r);
}

static void work_done(uv_work_t *work, int status)
{
    struct snapshot_send *s = work->data;
    struct peer_transport *t = s->t;
    s->away = false;
    if (s->closed) {
        send_free(s);
    } else if (status != 0 || s->err != OK) {
        end(s, PEER_FAILED, s->ec.text[0] != '\0' ? s->ec.text : err_text(s->err));
    } else if (!s->started && s->info.conf.n_voters == 0) {
        end(s, PEER_FAILED, "the database has no configuration");
    } else if (!s->started) {
        begin(s);
    } else if (s->starved) {
        s->starved = false;
        net_resume(&s->call);
    }
    transport_busy(t, -1);
}

static void work_start(struct snapshot_send *s)
{
    s->away = true;
    transport_busy(s->t, 1);
    s->work.data = s;
    int rc = uv_queue_work(loop_uv(s->t->cfg.loop), &s->work, work_run, work_done);
    ASSERT(rc == 0); /* fails only without a function */
}

/* The link gives up what does not move. Walking a large store takes long, and so does the other side's check; both are no silence. */
static void on_sign(struct loop *l, struct loop_timer *timer)
{
    struct snapshot_send *s = CONTAINER_OF(timer, struct snapshot_send, sign);
    bool sent = !s->away && s->started && s->unread == 0 && s->back.len == 0 && s->front_at == s->front.len;
    if (++s->n_signs < SNAPSHOT_SIGNS_MAX) {
        loop_timer_set(l, &s->sign, loop_now_ms(l) + SNAPSHOT_SIGN_MS);
    }
    if (!s->started || sent) {
        struct link_event ev = {.kind = LINK_EV_PROGRESS, .conn = s->conn.id};
        peer_step(s->conn.peer, &ev);
    }
}

/* --- the flush before ------------------------------------------------------------------------------------------- */

static void flush_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct snapshot_send *s = CONTAINER_OF(item, struct snapshot_send, item);
    struct peer_transport *t = s->t;
    s->away = false;
    if (s->closed) {
        send_free(s);
    } else if (s->op.err != OK) {
        end(s, PEER_FAILED, err_text(s->op.err));
    } else {
        work_start(s);
    }
    transport_busy(t, -1);
}

/* On the member loop. */
static void on_flushed(struct member_op *op)
{
    struct snapshot_send *s = CONTAINER_OF(op, struct snapshot_send, op);
    loop_post(s->t->cfg.loop, &s->item);
}

void send_snapshot_start(struct peer *p, const struct link_action *a)
{
    struct snapshot_send *s = xcalloc(1, sizeof(*s));
    s->t = p->t;
    s->conn.id = a->conn;
    s->conn.close = on_close;
    s->message = a->message;
    s->started_ns = clock_now_ns(p->t->cfg.clock);
    (void)snprintf(s->url, sizeof(s->url), "%s", p->urls[a->url]);
    peer_conn_add(p, &s->conn);
    if (p->metrics.sending != NULL) {
        gauge_add(p->metrics.sending, 1);
    }
    s->item.run = flush_run;
    s->sign.fire = on_sign;
    loop_timer_set(p->t->cfg.loop, &s->sign, loop_now_ms(p->t->cfg.loop) + SNAPSHOT_SIGN_MS);
    s->op = (struct member_op){.kind = MEMBER_FLUSH, .done = on_flushed};
    s->away = true;
    transport_busy(s->t, 1);
    enum err e = member_submit(s->t->member, &s->op);
    if (e != OK) {
        s->op.err = e;
        loop_post(s->t->cfg.loop, &s->item);
    }
}
