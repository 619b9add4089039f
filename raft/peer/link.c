/* link.c - see link.h.
 *
 *   reader   waiting ──its time──► dialing ──accepted──► reading ──lost──► waiting
 *                                     └──refused, failed──► waiting
 *   writer   detached ──the other one dials──► attached ──lost──► detached
 *
 * An event changes the state; then, whatever the event was, everything whose time has come is done,
 * and it is looked whether the other one is gone. So the order of events of one instant does not
 * matter.
 *
 * Evidence that a process is gone needs three things: connections were up and none is left, the
 * machine answers that nobody listens, and it does so several times and at every address. Silence
 * never counts: it may be this member that is cut off.
 */
#include "raft/peer/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "raft/peer/codec.h"

#define RING_CAP_FIRST 16u

static_assert(LINK_URLS_MAX < 32, "a bit per address fits");
static_assert(LINK_HEARTBEAT_MS * 3 <= LINK_READ_TIMEOUT_MS, "two heartbeats may get lost");

/* Messages in order; room grows up to `max` of them and LINK_STREAM_BYTES_MAX. */
struct ring {
    struct waiting {
        struct raft_message *message;
        size_t bytes;
    } *at; /* owned, and so are the messages */
    uint32_t cap, start, count, max;
    size_t bytes;
};

struct writer {
    uint64_t conn;       /* 0: detached */
    struct ring waiting; /* empty when detached */
    bool awake;          /* the shell was told and has not yet found it empty */
    bool outstanding;    /* handed to the shell and not yet drained */
    uint64_t since_ms;   /* outstanding: of the last progress */
    uint64_t beat_at_ms;
};

enum reader_state { READER_WAITING, READER_DIALING, READER_READING };

struct reader {
    enum reader_state state;
    uint64_t conn;
    uint32_t url;
    uint64_t at_ms; /* WAITING: when to dial; DIALING: since when; READING: of the last bytes */
    uint64_t dialed_ms;
    uint32_t n_failures; /* in a row */
    uint32_t n_fast;     /* dials that are left at the quick pace */
};

struct post {
    uint64_t conn; /* 0: free */
    uint32_t url;
    uint64_t since_ms; /* of the start; of a snapshot: of the last progress */
};

struct link {
    struct link_config config;
    bool stopped;
    uint64_t now_ms;
    uint64_t last_conn;
    uint32_t picked; /* the address in use */
    struct writer writers[LINK_STREAMS];
    struct reader readers[LINK_STREAMS];
    struct ring pipeline;
    struct post posts[LINK_POSTS_MAX];
    struct post snapshot;
    bool active;
    uint64_t active_since_ms;
    bool lived;            /* a connection was up since the last LINK_GONE */
    uint32_t n_refusals;   /* refused dials in a row, of both readers */
    uint32_t refused_urls; /* a bit for each address among them */
};

const char *link_path_name(enum link_path path)
{
    switch (path) {
    case LINK_PATH_APPEND:
        return "streamMsgAppV2";
    case LINK_PATH_MESSAGE:
        return "streamMsg";
    case LINK_PATH_PIPELINE:
        return "pipeline";
    case LINK_PATH_SNAPSHOT:
        return "sendMsgSnap";
    }
    UNREACHABLE();
}

/* ---- queues ---- */

static bool ring_push(struct ring *r, struct raft_message *m)
{
    size_t bytes = peer_message_bytes(m);
    if (r->count == r->max || (r->count > 0 && r->bytes + bytes > LINK_STREAM_BYTES_MAX)) {
        return false;
    }
    if (r->count == r->cap) {
        uint32_t cap = r->cap == 0 ? RING_CAP_FIRST : r->cap * 2;
        struct waiting *at = xcalloc(cap, sizeof(*at));
        for (uint32_t i = 0; i < r->count; i++) {
            at[i] = r->at[(r->start + i) % r->cap];
        }
        free(r->at);
        r->at = at;
        r->cap = cap;
        r->start = 0;
    }
    r->at[(r->start + r->count) % r->cap] = (struct waiting){m, bytes};
    r->count++;
    r->bytes += bytes;
    return true;
}

static struct raft_message *ring_pop(struct ring *r)
{
    if (r->count == 0) {
        return NULL;
    }
    struct waiting w = r->at[r->start];
    r->start = (r->start + 1) % r->cap;
    r->count--;
    r->bytes -= w.bytes;
    return w.message;
}

static void ring_clear(struct ring *r)
{
    struct raft_message *m;
    while ((m = ring_pop(r)) != NULL) {
        raft_message_destroy(&m);
    }
    free(r->at);
    *r = (struct ring){.max = r->max};
}

/* ---- what comes out ---- */

static struct link_action *act(struct link_actions *out, enum link_action_kind kind)
{
    ASSERT(out->n < LINK_ACTIONS_MAX);
    struct link_action *a = &out->at[out->n++];
    *a = (struct link_action){.kind = kind};
    return a;
}

static void act_close(struct link_actions *out, uint64_t conn)
{
    act(out, LINK_CLOSE)->conn = conn;
}

static void act_stream(struct link_actions *out, enum link_action_kind kind, size_t stream,
                       uint64_t conn, bool writer)
{
    struct link_action *a = act(out, kind);
    a->path = (enum link_path)stream;
    a->conn = conn;
    a->writer = writer;
}

static void activate(struct link *l, struct link_actions *out)
{
    if (!l->active) {
        l->active = true;
        l->active_since_ms = l->now_ms;
        (void)act(out, LINK_ACTIVE);
    }
}

static void deactivate(struct link *l, const char *verb, const char *source, const char *reason,
                       struct link_actions *out)
{
    if (!l->active) {
        return;
    }
    l->active = false;
    (void)snprintf(out->text, sizeof(out->text), "failed to %s %llx on %s (%s)", verb,
                   (unsigned long long)l->config.peer, source, reason);
    (void)act(out, LINK_INACTIVE);
}

static const char *reason_of(const struct link_event *ev)
{
    return ev->reason != NULL ? ev->reason : peer_outcome_text(ev->outcome);
}

/* ---- addresses and evidence ---- */

/* Another address is tried next, unless that was decided before. */
static void url_failed(struct link *l, uint32_t url)
{
    if (url == l->picked) {
        l->picked = (l->picked + 1) % l->config.n_urls;
    }
}

static void forget_refusals(struct link *l)
{
    l->n_refusals = 0;
    l->refused_urls = 0;
}

static void came_up(struct link *l)
{
    l->lived = true;
    forget_refusals(l);
}

static bool any_connection(const struct link *l)
{
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        if (l->writers[i].conn != 0 || l->readers[i].state == READER_READING) {
            return true;
        }
    }
    return false;
}

static void look_for_evidence(struct link *l, struct link_actions *out)
{
    uint32_t every = (1u << l->config.n_urls) - 1u;
    if (l->lived && !any_connection(l) && l->n_refusals >= LINK_GONE_REFUSALS &&
        (l->refused_urls & every) == every) {
        l->lived = false;
        (void)act(out, LINK_GONE);
    }
}

/* ---- readers ---- */

static uint32_t pause_ms(struct reader *r)
{
    if (r->n_fast > 0) {
        r->n_fast--;
        return LINK_REDIAL_FAST_MS;
    }
    return r->n_failures < LINK_REDIAL_TRIES ? LINK_REDIAL_MS : LINK_REDIAL_SLOW_MS;
}

static void wait_to_dial(struct link *l, struct reader *r)
{
    uint64_t at = r->dialed_ms + pause_ms(r);
    r->state = READER_WAITING;
    r->conn = 0;
    r->at_ms = at > l->now_ms ? at : l->now_ms;
}

/* A sign of life, or of death: who waits does not wait long any more. */
static void hurry(struct link *l)
{
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        struct reader *r = &l->readers[i];
        r->n_failures = 0;
        r->n_fast = LINK_REDIAL_FAST_TRIES;
        if (r->state == READER_WAITING) {
            wait_to_dial(l, r);
        }
    }
}

static void dial(struct link *l, size_t stream, struct link_actions *out)
{
    struct reader *r = &l->readers[stream];
    r->state = READER_DIALING;
    r->conn = link_new_conn(l);
    r->url = l->picked;
    r->at_ms = l->now_ms;
    r->dialed_ms = l->now_ms;
    act_stream(out, LINK_DIAL, stream, r->conn, false);
    out->at[out->n - 1].url = r->url;
}

static void dial_failed(struct link *l, size_t stream, enum peer_outcome outcome,
                        const char *reason, struct link_actions *out)
{
    struct reader *r = &l->readers[stream];
    if (outcome == PEER_REFUSED_CONNECTION) {
        l->n_refusals++;
        l->refused_urls |= 1u << r->url;
    } else {
        forget_refusals(l);
    }
    if (outcome != PEER_REFUSED_CONNECTION && outcome != PEER_FAILED) {
        struct link_action *a = act(out, outcome == PEER_REMOVED ? LINK_REMOVED : LINK_REFUSED);
        a->path = (enum link_path)stream;
        a->outcome = outcome;
    }
    if (outcome != PEER_UNSUPPORTED) {
        deactivate(l, "dial", peer_stream_name((enum peer_stream)stream), reason, out);
    }
    url_failed(l, r->url);
    r->n_failures++;
    wait_to_dial(l, r);
}

static void dialed(struct link *l, const struct link_event *ev, size_t stream,
                   struct link_actions *out)
{
    struct reader *r = &l->readers[stream];
    if (r->state != READER_DIALING) {
        return;
    }
    if (ev->outcome != PEER_OK) {
        dial_failed(l, stream, ev->outcome, reason_of(ev), out);
        return;
    }
    r->state = READER_READING;
    r->at_ms = l->now_ms;
    r->n_failures = 0;
    r->n_fast = 0;
    came_up(l);
    act_stream(out, LINK_STREAM_UP, stream, r->conn, false);
    activate(l, out);
}

static void reader_lost(struct link *l, size_t stream, bool clean, const char *reason,
                        struct link_actions *out)
{
    struct reader *r = &l->readers[stream];
    act_stream(out, LINK_STREAM_DOWN, stream, r->conn, false);
    if (!clean) {
        deactivate(l, "read", peer_stream_name((enum peer_stream)stream), reason, out);
    }
    wait_to_dial(l, r);
    hurry(l);
}

/* The reader that uses this connection; LINK_STREAMS when none does. */
static size_t reader_of(const struct link *l, uint64_t conn)
{
    size_t i = 0;
    while (i < LINK_STREAMS && (conn == 0 || l->readers[i].conn != conn)) {
        i++;
    }
    return i;
}

static void readers_due(struct link *l, struct link_actions *out)
{
    for (size_t i = 0; i < LINK_STREAMS && !l->config.pipeline_only; i++) {
        struct reader *r = &l->readers[i];
        uint64_t age = l->now_ms - (r->at_ms < l->now_ms ? r->at_ms : l->now_ms);
        if (r->state == READER_DIALING && age >= l->config.dial_timeout_ms) {
            act_close(out, r->conn);
            dial_failed(l, i, PEER_FAILED, "dial timeout", out);
        } else if (r->state == READER_READING && age >= LINK_READ_TIMEOUT_MS) {
            act_close(out, r->conn);
            reader_lost(l, i, false, "i/o timeout", out);
        }
    }
    for (size_t i = 0; i < LINK_STREAMS && !l->config.pipeline_only; i++) {
        if (l->readers[i].state == READER_WAITING && l->readers[i].at_ms <= l->now_ms) {
            dial(l, i, out);
        }
    }
}

/* ---- writers ---- */

static size_t writer_of(const struct link *l, uint64_t conn)
{
    size_t i = 0;
    while (i < LINK_STREAMS && (conn == 0 || l->writers[i].conn != conn)) {
        i++;
    }
    return i;
}

/* What waited or was on its way is lost, and raft is told. Returns whether there was any. */
static bool detach(struct link *l, size_t stream, struct link_actions *out)
{
    struct writer *w = &l->writers[stream];
    bool lost = w->outstanding || w->waiting.count > 0;
    act_stream(out, LINK_STREAM_DOWN, stream, w->conn, true);
    ring_clear(&w->waiting);
    *w = (struct writer){.waiting = w->waiting};
    if (lost) {
        (void)act(out, LINK_UNREACHABLE);
    }
    return lost;
}

static void writer_lost(struct link *l, size_t stream, bool clean, const char *reason,
                        struct link_actions *out)
{
    bool lost = detach(l, stream, out);
    /* A clean end while nothing was said proves nothing; the readers will find out. */
    if (lost || !clean) {
        deactivate(l, "write", peer_stream_name((enum peer_stream)stream), reason, out);
    }
    hurry(l);
}

static void attached(struct link *l, const struct link_event *ev, struct link_actions *out)
{
    ASSERT(ev->stream != PEER_STREAM_SNAPSHOT);
    ASSERT(ev->conn != 0 && ev->conn <= l->last_conn);
    if (l->config.pipeline_only) {
        act_close(out, ev->conn);
        return;
    }
    struct writer *w = &l->writers[ev->stream];
    if (w->conn != 0) {
        act_close(out, w->conn);
        (void)detach(l, ev->stream, out);
    }
    w->conn = ev->conn;
    w->beat_at_ms = l->now_ms + LINK_HEARTBEAT_MS;
    came_up(l);
    act_stream(out, LINK_STREAM_UP, ev->stream, w->conn, true);
    activate(l, out);
    hurry(l);
}

static void writers_due(struct link *l, struct link_actions *out)
{
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        struct writer *w = &l->writers[i];
        if (w->conn == 0) {
            continue;
        }
        if (w->outstanding && l->now_ms - w->since_ms >= LINK_WRITE_TIMEOUT_MS) {
            act_close(out, w->conn);
            writer_lost(l, i, false, "i/o timeout", out);
        } else if (w->beat_at_ms <= l->now_ms) {
            act_stream(out, LINK_BEAT, i, w->conn, true);
            w->beat_at_ms = l->now_ms + LINK_HEARTBEAT_MS;
            if (!w->outstanding) {
                w->outstanding = true;
                w->since_ms = l->now_ms;
            }
        }
    }
}

/* ---- posts ---- */

static void post(struct link *l, struct post *p, enum link_action_kind kind, struct raft_message *m,
                 struct link_actions *out)
{
    *p = (struct post){.conn = link_new_conn(l), .url = l->picked, .since_ms = l->now_ms};
    struct link_action *a = act(out, kind);
    a->path = kind == LINK_POST ? LINK_PATH_PIPELINE : LINK_PATH_SNAPSHOT;
    a->conn = p->conn;
    a->url = p->url;
    a->message = m;
    a->type = m->type;
}

static void fill_posts(struct link *l, struct link_actions *out)
{
    for (size_t i = 0; i < LINK_POSTS_MAX && l->pipeline.count > 0; i++) {
        if (l->posts[i].conn == 0) {
            post(l, &l->posts[i], LINK_POST, ring_pop(&l->pipeline), out);
        }
    }
}

static void post_ended(struct link *l, struct post *p, enum peer_outcome outcome,
                       const char *reason, struct link_actions *out)
{
    bool snapshot = p == &l->snapshot;
    uint32_t url = p->url;
    *p = (struct post){0};
    if (outcome == PEER_OK) {
        activate(l, out);
    } else {
        if (outcome != PEER_REFUSED_CONNECTION && outcome != PEER_FAILED) {
            struct link_action *a = act(out, outcome == PEER_REMOVED ? LINK_REMOVED : LINK_REFUSED);
            a->path = snapshot ? LINK_PATH_SNAPSHOT : LINK_PATH_PIPELINE;
            a->outcome = outcome;
        }
        url_failed(l, url);
        deactivate(l, snapshot ? "post" : "write",
                   link_path_name(snapshot ? LINK_PATH_SNAPSHOT : LINK_PATH_PIPELINE), reason, out);
        (void)act(out, LINK_UNREACHABLE);
    }
    if (snapshot) {
        act(out, LINK_SNAPSHOT_DONE)->delivered = outcome == PEER_OK;
    }
}

static void posted(struct link *l, const struct link_event *ev, struct link_actions *out)
{
    if (ev->conn != 0 && ev->conn == l->snapshot.conn) {
        post_ended(l, &l->snapshot, ev->outcome, reason_of(ev), out);
        return;
    }
    for (size_t i = 0; i < LINK_POSTS_MAX; i++) {
        if (ev->conn != 0 && l->posts[i].conn == ev->conn) {
            post_ended(l, &l->posts[i], ev->outcome, reason_of(ev), out);
            return;
        }
    }
}

static void posts_due(struct link *l, struct link_actions *out)
{
    for (size_t i = 0; i < LINK_POSTS_MAX; i++) {
        struct post *p = &l->posts[i];
        if (p->conn != 0 && l->now_ms - p->since_ms >= LINK_POST_TIMEOUT_MS) {
            act_close(out, p->conn);
            post_ended(l, p, PEER_FAILED, "i/o timeout", out);
        }
    }
    if (l->snapshot.conn != 0 && l->now_ms - l->snapshot.since_ms >= LINK_SNAPSHOT_STALL_MS) {
        act_close(out, l->snapshot.conn);
        post_ended(l, &l->snapshot, PEER_FAILED, "no progress", out);
    }
    fill_posts(l, out);
}

/* ---- messages ---- */

static void drop(struct link *l, enum link_path path, struct raft_message *m,
                 struct link_actions *out)
{
    struct link_action *a = act(out, LINK_DROPPED);
    a->path = path;
    a->type = m->type;
    if (!l->config.pipeline_only || m->type == RAFT_MSG_SNAP) {
        (void)act(out, LINK_UNREACHABLE);
    }
    if (m->type == RAFT_MSG_SNAP) {
        act(out, LINK_SNAPSHOT_DONE)->delivered = false;
    }
    raft_message_destroy(&m);
}

static void send_on_stream(struct link *l, enum peer_stream stream, struct raft_message *m,
                           struct link_actions *out)
{
    struct writer *w = &l->writers[stream];
    if (!ring_push(&w->waiting, m)) {
        drop(l, (enum link_path)stream, m, out);
    } else if (!w->awake) {
        w->awake = true;
        act_stream(out, LINK_WRITE, stream, w->conn, true);
    }
}

static void send(struct link *l, struct raft_message *m, struct link_actions *out)
{
    ASSERT(m != NULL);
    if (m->type == RAFT_MSG_SNAP) {
        if (l->config.pipeline_only || l->snapshot.conn != 0) {
            drop(l, LINK_PATH_SNAPSHOT, m, out);
        } else {
            post(l, &l->snapshot, LINK_POST_SNAPSHOT, m, out);
        }
    } else if (m->type == RAFT_MSG_APP && l->writers[PEER_STREAM_APPEND].conn != 0) {
        send_on_stream(l, PEER_STREAM_APPEND, m, out);
    } else if (l->writers[PEER_STREAM_MESSAGE].conn != 0) {
        send_on_stream(l, PEER_STREAM_MESSAGE, m, out);
    } else if (!ring_push(&l->pipeline, m)) {
        drop(l, LINK_PATH_PIPELINE, m, out);
    }
}

struct raft_message *link_take(struct link *l, enum peer_stream stream, uint64_t conn)
{
    ASSERT(stream != PEER_STREAM_SNAPSHOT);
    struct writer *w = &l->writers[stream];
    if (conn == 0 || w->conn != conn) {
        return NULL;
    }
    struct raft_message *m = ring_pop(&w->waiting);
    if (m == NULL) {
        w->awake = false;
    } else if (!w->outstanding) {
        w->outstanding = true;
        w->since_ms = l->now_ms;
    }
    return m;
}

/* ---- the step ---- */

static void progressed(struct link *l, const struct link_event *ev)
{
    size_t i = writer_of(l, ev->conn);
    if (i < LINK_STREAMS) {
        l->writers[i].since_ms = l->now_ms;
        l->writers[i].outstanding = l->writers[i].outstanding && !ev->drained;
    } else if (ev->conn != 0 && ev->conn == l->snapshot.conn) {
        l->snapshot.since_ms = l->now_ms;
    }
}

static void new_urls(struct link *l, uint32_t n_urls)
{
    ASSERT(n_urls >= 1 && n_urls <= LINK_URLS_MAX);
    l->config.n_urls = n_urls;
    l->picked = 0;
    forget_refusals(l);
    hurry(l);
}

static void stop(struct link *l, struct link_actions *out)
{
    l->stopped = true;
    l->active = false;
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        if (l->writers[i].conn != 0) {
            act_close(out, l->writers[i].conn);
        }
        if (l->readers[i].conn != 0) {
            act_close(out, l->readers[i].conn);
        }
        ring_clear(&l->writers[i].waiting);
        l->writers[i].conn = 0;
        l->readers[i] = (struct reader){0};
    }
    for (size_t i = 0; i < LINK_POSTS_MAX; i++) {
        if (l->posts[i].conn != 0) {
            act_close(out, l->posts[i].conn);
        }
        l->posts[i] = (struct post){0};
    }
    ring_clear(&l->pipeline);
    if (l->snapshot.conn != 0) {
        act_close(out, l->snapshot.conn);
        act(out, LINK_SNAPSHOT_DONE)->delivered = false;
        l->snapshot = (struct post){0};
    }
}

static void on_event(struct link *l, const struct link_event *ev, struct link_actions *out)
{
    size_t reader = reader_of(l, ev->conn);
    size_t writer = writer_of(l, ev->conn);
    switch (ev->kind) {
    case LINK_EV_TICK:
        return;
    case LINK_EV_SEND:
        send(l, ev->message, out);
        return;
    case LINK_EV_ATTACHED:
        attached(l, ev, out);
        return;
    case LINK_EV_PROGRESS:
        progressed(l, ev);
        return;
    case LINK_EV_DETACHED:
        if (writer < LINK_STREAMS) {
            writer_lost(l, writer, ev->clean, reason_of(ev), out);
        }
        return;
    case LINK_EV_DIALED:
        if (reader < LINK_STREAMS) {
            dialed(l, ev, reader, out);
        }
        return;
    case LINK_EV_RECEIVED:
        if (reader < LINK_STREAMS && l->readers[reader].state == READER_READING) {
            l->readers[reader].at_ms = l->now_ms;
        }
        return;
    case LINK_EV_LOST:
        if (reader < LINK_STREAMS && l->readers[reader].state == READER_READING) {
            reader_lost(l, reader, ev->clean, reason_of(ev), out);
        }
        return;
    case LINK_EV_POSTED:
        posted(l, ev, out);
        return;
    case LINK_EV_URLS:
        new_urls(l, ev->n_urls);
        return;
    case LINK_EV_STOP:
        stop(l, out);
        return;
    }
    UNREACHABLE();
}

static void sooner(uint64_t *at, uint64_t ms)
{
    *at = ms < *at ? ms : *at;
}

static uint64_t next_wake(const struct link *l)
{
    uint64_t at = UINT64_MAX;
    for (size_t i = 0; i < LINK_STREAMS && !l->config.pipeline_only; i++) {
        const struct reader *r = &l->readers[i];
        const uint64_t limits[] = {[READER_WAITING] = 0,
                                   [READER_DIALING] = l->config.dial_timeout_ms,
                                   [READER_READING] = LINK_READ_TIMEOUT_MS};
        sooner(&at, r->at_ms + limits[r->state]);
    }
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        if (l->writers[i].conn != 0) {
            sooner(&at, l->writers[i].beat_at_ms);
            if (l->writers[i].outstanding) {
                sooner(&at, l->writers[i].since_ms + LINK_WRITE_TIMEOUT_MS);
            }
        }
    }
    for (size_t i = 0; i < LINK_POSTS_MAX; i++) {
        if (l->posts[i].conn != 0) {
            sooner(&at, l->posts[i].since_ms + LINK_POST_TIMEOUT_MS);
        }
    }
    if (l->snapshot.conn != 0) {
        sooner(&at, l->snapshot.since_ms + LINK_SNAPSHOT_STALL_MS);
    }
    return at;
}

void link_step(struct link *l, const struct link_event *event, struct link_actions *out)
{
    out->n = 0;
    out->wake_at_ms = UINT64_MAX;
    out->text[0] = '\0';
    if (event->now_ms > l->now_ms) {
        l->now_ms = event->now_ms;
    }
    if (l->stopped) {
        struct raft_message *m = event->kind == LINK_EV_SEND ? event->message : NULL;
        raft_message_destroy(&m);
        if (event->kind == LINK_EV_ATTACHED) {
            act_close(out, event->conn);
        }
        return;
    }
    on_event(l, event, out);
    if (l->stopped) {
        return;
    }
    writers_due(l, out);
    posts_due(l, out);
    readers_due(l, out);
    look_for_evidence(l, out);
    out->wake_at_ms = next_wake(l);
}

/* ---- life ---- */

struct link *link_create(const struct link_config *config)
{
    ASSERT(config->peer != RAFT_NONE);
    ASSERT(config->n_urls >= 1 && config->n_urls <= LINK_URLS_MAX);
    ASSERT(config->dial_timeout_ms > 0);
    struct link *l = xcalloc(1, sizeof(*l));
    l->config = *config;
    l->now_ms = config->now_ms;
    l->pipeline.max = LINK_PIPELINE_MESSAGES_MAX;
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        l->writers[i].waiting.max = LINK_STREAM_MESSAGES_MAX;
        l->readers[i].at_ms = config->now_ms;
    }
    return l;
}

void link_destroy(struct link **l)
{
    if (*l == NULL) {
        return;
    }
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        ring_clear(&(*l)->writers[i].waiting);
    }
    ring_clear(&(*l)->pipeline);
    free(*l);
    *l = NULL;
}

uint64_t link_new_conn(struct link *l)
{
    return ++l->last_conn;
}

void link_info(const struct link *l, struct link_info *out)
{
    *out = (struct link_info){
        .active = l->active,
        .active_since_ms = l->active_since_ms,
        .n_pipeline = l->pipeline.count,
        .snapshot = l->snapshot.conn != 0,
    };
    for (size_t i = 0; i < LINK_STREAMS; i++) {
        out->attached[i] = l->writers[i].conn != 0;
        out->reading[i] = l->readers[i].state == READER_READING;
        out->n_waiting[i] = l->writers[i].waiting.count;
    }
    for (size_t i = 0; i < LINK_POSTS_MAX; i++) {
        out->n_posts += l->posts[i].conn != 0;
    }
}
