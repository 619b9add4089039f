/* watch.c - the Watch service: streams of watchers.
 *
 * A stream multiplexes watchers by id. The hub of the stream's loop decides what each is given and when; this file speaks the protocol:
 * creation and its refusals, cancellation, progress, fragments. A stream whose client reads slowly refuses deliveries above
 * WATCH_QUEUE_BYTES; its watchers keep their places in history and go on when the socket has drained.
 */
#include "api/etcd/caller.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/watch.h"

enum { WATCH_ID = 2, WATCH_CREATED = 3, WATCH_CANCELED = 4, WATCH_COMPACT_REVISION = 5, WATCH_REASON = 6, WATCH_FRAGMENT = 7 };

#define HELD_BYTES_MAX (4u << 20) /* requests of a stream that wait until its token is known here; over: ResourceExhausted */
#define REFUSAL_TEXT_BYTES 128u

#define FRAGMENT_EXTRA (512u << 10) /* a response may be this much larger than a request before it is split */

struct stream_watch {
    int64_t id;
    struct watch_stream *stream;
    struct watcher *watcher; /* owned */
    struct stream_watch *next;         /* in its hash slot */
    struct stream_watch *blocked_next; /* in the stream's list of those without room */
    bool blocked;
    bool dead; /* its revision was compacted; the id stays taken until the client cancels it */
    bool progress_notify;
    bool fragment;
    bool sent; /* something since the last progress tick */
};

struct watch_stream {
    struct grpc_call *call; /* borrowed: the stream goes with it */
    struct etcd_loop *loop;
    struct stream_watch **slots; /* by id, owned */
    size_t n, n_slots;           /* n_slots is a power of two */
    int64_t next_id;
    struct stream_watch *blocked;
    bool waiting;      /* for what made the stream's token to be applied, once in its life; requests go to `held` */
    bool waited;
    struct bytes held; /* each behind its length, four bytes */
    struct loop_timer timer;
    uint64_t interval_ms;
};

/* --- ids ------------------------------------------------------------------------------------------------- */

static struct stream_watch **slot_of(const struct watch_stream *s, int64_t id)
{
    return &s->slots[hash64(&id, sizeof(id)) & (s->n_slots - 1)];
}

static struct stream_watch *find(const struct watch_stream *s, int64_t id)
{
    struct stream_watch *w = *slot_of(s, id);
    while (w != NULL && w->id != id) {
        w = w->next;
    }
    return w;
}

static void insert(struct watch_stream *s, struct stream_watch *w)
{
    if (s->n == s->n_slots) {
        struct stream_watch **old = s->slots;
        size_t n_old = s->n_slots;
        s->n_slots *= 2;
        s->slots = xcalloc(s->n_slots, sizeof(struct stream_watch *));
        for (size_t i = 0; i < n_old; i++) {
            for (struct stream_watch *x = old[i], *next; x != NULL; x = next) {
                next = x->next;
                struct stream_watch **slot = slot_of(s, x->id);
                x->next = *slot;
                *slot = x;
            }
        }
        free(old);
    }
    struct stream_watch **slot = slot_of(s, w->id);
    w->next = *slot;
    *slot = w;
    s->n++;
}

static void unblock(struct watch_stream *s, struct stream_watch *w)
{
    struct stream_watch **p = &s->blocked;
    while (*p != w) {
        p = &(*p)->blocked_next;
    }
    *p = w->blocked_next;
    w->blocked = false;
}

static void delete(struct watch_stream *s, struct stream_watch *w)
{
    struct stream_watch **p = slot_of(s, w->id);
    while (*p != w) {
        p = &(*p)->next;
    }
    *p = w->next;
    s->n--;
    if (w->blocked) {
        unblock(s, w);
    }
    watch_remove(s->loop->hub, &w->watcher);
    free(w);
}

/* --- responses ---------------------------------------------------------------------------------------------- */

struct response {
    int64_t revision; /* of the header; 0 is left out */
    int64_t id;
    bool created, canceled, fragment;
    int64_t compact_revision;
    const char *reason; /* NULL: none */
};

#define RESPONSE_FIELDS_MAX 384u

static uint8_t *put_uint(uint8_t *p, uint32_t field, uint64_t v)
{
    return v == 0 ? p : wire_put_varint(wire_put_tag(p, field, WIRE_VARINT), v);
}

/* Everything of a WatchResponse but its events. `out` has REPLY_HEADER_MAX + RESPONSE_FIELDS_MAX bytes. */
static size_t encode_head(const struct watch_stream *s, const struct response *r, uint8_t *out)
{
    size_t reason = r->reason == NULL ? 0 : strlen(r->reason);
    ASSERT(reason + 64 <= RESPONSE_FIELDS_MAX);
    uint8_t *p = out + reply_header(s->loop->server, r->revision, out);
    p = put_uint(p, WATCH_ID, (uint64_t)r->id);
    p = put_uint(p, WATCH_CREATED, r->created);
    p = put_uint(p, WATCH_CANCELED, r->canceled);
    p = put_uint(p, WATCH_COMPACT_REVISION, (uint64_t)r->compact_revision);
    if (reason > 0) {
        p = wire_put_varint(wire_put_tag(p, WATCH_REASON, WIRE_LEN), reason);
        memcpy(p, r->reason, reason);
        p += reason;
    }
    p = put_uint(p, WATCH_FRAGMENT, r->fragment);
    return (size_t)(p - out);
}

static uint64_t now_ns(const struct watch_stream *s)
{
    return clock_now_ns(s->loop->server->cfg.clock);
}

static void send_control(struct watch_stream *s, const struct response *r)
{
    uint64_t began_ns = now_ns(s);
    uint8_t head[REPLY_HEADER_MAX + RESPONSE_FIELDS_MAX];
    grpc_send(s->call, &(struct slice){head, encode_head(s, r, head)}, 1);
    histogram_observe_ns(s->loop->server->watch_send[WATCH_SEND_CONTROL], now_ns(s) - began_ns);
}

/* One response with the events from `events`, n of them. */
static void send_events(struct watch_stream *s, const struct response *r, const struct slice *events, size_t n)
{
    uint8_t head[REPLY_HEADER_MAX + RESPONSE_FIELDS_MAX];
    struct slice few[17];
    struct slice *pieces = n < ARRAY_LEN(few) ? few : xalloc((n + 1) * sizeof(*pieces));
    pieces[0] = (struct slice){head, encode_head(s, r, head)};
    memcpy(pieces + 1, events, n * sizeof(*events));
    grpc_send(s->call, pieces, n + 1);
    if (pieces != few) {
        free(pieces);
    }
}

/* Greedy: each fragment holds at least one event and stays below the threshold unless that one alone does not. */
static void send_fragments(struct watch_stream *s, struct response *r, const struct watch_delivery *d, size_t threshold)
{
    size_t from = 0;
    while (from < d->n_events) {
        size_t bytes = REPLY_HEADER_MAX + d->events[from].len;
        size_t to = from + 1;
        while (to < d->n_events && bytes + d->events[to].len < threshold) {
            bytes += d->events[to++].len;
        }
        r->fragment = to < d->n_events;
        send_events(s, r, d->events + from, to - from);
        from = to;
    }
}

/* --- what the hub says ----------------------------------------------------------------------------------------- */

static void on_drained(struct grpc_call *c)
{
    struct watch_stream *s = *grpc_call_state(c);
    struct stream_watch *w = s->blocked;
    s->blocked = NULL;
    while (w != NULL) {
        struct stream_watch *next = w->blocked_next;
        w->blocked = false;
        watch_resume(s->loop->hub, w->watcher);
        w = next;
    }
    loop_timer_set(s->loop->loop, &s->loop->step_timer, loop_now_ms(s->loop->loop));
}

static bool on_deliver(void *arg, struct watcher *watcher, const struct watch_delivery *d)
{
    struct stream_watch *w = arg;
    struct watch_stream *s = w->stream;
    (void)watcher;
    if (grpc_call_queued_bytes(s->call) >= WATCH_QUEUE_BYTES) {
        w->blocked = true;
        w->blocked_next = s->blocked;
        s->blocked = w;
        grpc_call_on_drain(s->call, WATCH_RESUME_BYTES, on_drained);
        return false;
    }
    struct response r = {.revision = d->header_revision, .id = w->id};
    size_t threshold = s->loop->server->cfg.max_request_bytes + FRAGMENT_EXTRA;
    uint64_t began_ns = now_ns(s);
    w->sent = true;
    if (w->fragment && d->n_events > 1 && d->bytes + REPLY_HEADER_MAX >= threshold) {
        send_fragments(s, &r, d, threshold);
    } else {
        send_events(s, &r, d->events, d->n_events);
    }
    uint64_t took_ns = now_ns(s) - began_ns;
    histogram_observe_ns(s->loop->server->watch_send[WATCH_SEND_EVENTS], took_ns);
    histogram_observe_ns(s->loop->server->watch_send[WATCH_SEND_EVENT], took_ns / d->n_events);
    return true;
}

static void on_compacted(void *arg, struct watcher *watcher, int64_t compact_revision)
{
    struct stream_watch *w = arg;
    (void)watcher;
    w->dead = true;
    send_control(w->stream, &(struct response){.id = w->id, .canceled = true, .compact_revision = compact_revision});
}

static const struct watch_owner owner = {.deliver = on_deliver, .compacted = on_compacted};

/* --- requests ------------------------------------------------------------------------------------------------------ */

static void refuse(struct watch_stream *s, const char *reason)
{
    send_control(s, &(struct response){.revision = engine_revision(s->loop->server->engine), .id = -1, .created = true, .canceled = true,
                                       .reason = reason});
}

/* Etcd gives the reason as Go prints a status. Whatever it does not expect here it calls a denial. */
static void refuse_caller(struct watch_stream *s, enum err e)
{
    bool named = e == ERR_AUTH_TOKEN || e == ERR_AUTH_OLD_REVISION || e == ERR_USER_EMPTY;
    const struct status status = status_of(named ? e : ERR_PERMISSION_DENIED);
    const char *code = status.code == GRPC_UNAUTHENTICATED     ? "Unauthenticated"
                       : status.code == GRPC_INVALID_ARGUMENT ? "InvalidArgument"
                                                               : "PermissionDenied";
    char reason[REFUSAL_TEXT_BYTES];
    (void)snprintf(reason, sizeof(reason), "rpc error: code = %s desc = %s", code, status.text);
    refuse(s, reason);
}

/* Asked once: a watch goes on whatever happens to its user later, as in etcd. */
static enum err check_caller(const struct watch_stream *s, const Etcdserverpb__WatchCreateRequest *q)
{
    const struct demand_request demands = {.kind = DEMAND_OF_WATCH, .of.watch = q};
    const struct caller_read only_asked = {.demands = &demands};
    struct auth_who who;
    return caller_read(s->call, &only_asked, &who);
}

static bool range_is_empty(struct slice key, struct slice end)
{
    bool to_the_end = end.len == 1 && end.data[0] == 0;
    return end.len > 0 && !to_the_end && slice_cmp(key, end) >= 0;
}

static unsigned filters_of(const Etcdserverpb__WatchCreateRequest *q)
{
    unsigned filters = 0;
    for (size_t i = 0; i < q->n_filters; i++) {
        if (q->filters[i] == ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT) {
            filters |= WATCH_NO_PUT;
        } else if (q->filters[i] == ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE) {
            filters |= WATCH_NO_DELETE;
        }
    }
    return filters;
}

static void create(struct watch_stream *s, const Etcdserverpb__WatchCreateRequest *q)
{
    struct slice key = q->key.len == 0 ? slice_of("\0", 1) : slice_of(q->key.data, q->key.len);
    struct slice end = slice_of(q->range_end.data, q->range_end.len);
    if (q->start_revision < 0) {
        refuse(s, "etcdserver: mvcc: required revision has been compacted");
        return;
    }
    enum err e = check_caller(s, q);
    if (e != OK) {
        refuse_caller(s, e);
        return;
    }
    if (range_is_empty(key, end)) {
        refuse(s, "mvcc: watcher range is empty");
        return;
    }
    if (q->watch_id != 0 && find(s, q->watch_id) != NULL) {
        refuse(s, "mvcc: duplicate watch ID provided on the WatchStream");
        return;
    }
    struct stream_watch *w = xcalloc(1, sizeof(*w));
    w->id = q->watch_id;
    if (w->id == 0) {
        while (find(s, s->next_id) != NULL) {
            s->next_id++;
        }
        w->id = s->next_id++;
    }
    w->stream = s;
    w->progress_notify = q->progress_notify;
    w->fragment = q->fragment;
    insert(s, w);
    struct watch_spec spec = {.key = key, .range_end = end, .start_revision = q->start_revision, .filters = filters_of(q),
                              .prev_kv = q->prev_kv, .owner = &owner, .arg = w};
    int64_t live = 0;
    w->watcher = watch_add(s->loop->hub, &spec, &live);
    send_control(s, &(struct response){.revision = live, .id = w->id, .created = true});
}

static void cancel(struct watch_stream *s, int64_t id)
{
    struct stream_watch *w = find(s, id);
    if (w == NULL) {
        return;
    }
    delete(s, w);
    send_control(s, &(struct response){.revision = engine_revision(s->loop->server->engine), .id = id, .canceled = true});
}

static bool all_synced(const struct watch_stream *s)
{
    for (size_t i = 0; i < s->n_slots; i++) {
        for (const struct stream_watch *w = s->slots[i]; w != NULL; w = w->next) {
            if (w->dead || !watcher_synced(s->loop->hub, w->watcher)) {
                return false;
            }
        }
    }
    return s->n > 0;
}

static void progress(struct watch_stream *s)
{
    if (all_synced(s)) {
        send_control(s, &(struct response){.revision = watch_hub_revision(s->loop->hub), .id = -1});
    }
}

static void serve(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__WatchRequest *q = request_decode_stream(c, &etcdserverpb__watch_request__descriptor, bytes);
    struct watch_stream *s = *grpc_call_state(c);
    if (q == NULL) {
        counter_add(s->loop->server->stream_failures[0], 1);
        return;
    }
    switch (q->request_union_case) {
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST:
        create(s, q->create_request);
        return;
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST:
        cancel(s, q->cancel_request->watch_id);
        return;
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST:
        progress(s);
        return;
    case ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION__NOT_SET:
    case _ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION__CASE_IS_INT_SIZE:
        return;
    }
}

#define HELD_HEAD 4u

static void serve_held(struct grpc_call *c, void *message)
{
    struct watch_stream *s = *grpc_call_state(c);
    (void)message;
    s->waiting = false;
    s->waited = true;
    struct bytes held = s->held;
    s->held = (struct bytes){0};
    /* The call may end while it is served, and its stream with it. */
    for (size_t at = 0; at < held.len && !grpc_call_ended(c);) {
        uint32_t len;
        memcpy(&len, held.data + at, HELD_HEAD);
        serve(c, slice_of(held.data + at + HELD_HEAD, len));
        at += HELD_HEAD + len;
    }
    bytes_deinit(&held);
}

static void on_watch(struct grpc_call *c, struct slice bytes)
{
    struct watch_stream *s = *grpc_call_state(c);
    bool ahead = !s->waiting && !s->waited && caller_is_ahead(c);
    if (!s->waiting && !ahead) {
        serve(c, bytes);
        return;
    }
    if (s->held.len + bytes.len > HELD_BYTES_MAX) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests");
        return;
    }
    uint32_t len = (uint32_t)bytes.len;
    bytes_add(&s->held, &len, HELD_HEAD);
    bytes_add(&s->held, bytes.data, bytes.len);
    s->waiting = true;
    if (ahead) {
        request_read_barrier(c, NULL, serve_held);
    }
}

/* --- streams ---------------------------------------------------------------------------------------------------------- */

static void on_progress_tick(struct loop *l, struct loop_timer *t)
{
    struct watch_stream *s = CONTAINER_OF(t, struct watch_stream, timer);
    uint64_t began_ns = now_ns(s);
    for (size_t i = 0; i < s->n_slots; i++) {
        for (struct stream_watch *w = s->slots[i]; w != NULL; w = w->next) {
            if (w->progress_notify && !w->sent && !w->dead && watcher_synced(s->loop->hub, w->watcher) &&
                grpc_call_queued_bytes(s->call) < WATCH_QUEUE_BYTES) {
                send_control(s, &(struct response){.revision = watch_hub_revision(s->loop->hub), .id = w->id});
            }
            w->sent = false;
        }
    }
    histogram_observe_ns(s->loop->server->watch_send[WATCH_SEND_PROGRESS], now_ns(s) - began_ns);
    loop_timer_set(l, &s->timer, loop_now_ms(l) + s->interval_ms);
}

static void watch_started(struct grpc_call *c)
{
    struct etcd_server *server = server_of(c);
    struct watch_stream *s = xcalloc(1, sizeof(*s));
    s->call = c;
    s->loop = loop_of(server, grpc_call_loop(c));
    s->n_slots = 4;
    s->slots = xcalloc(s->n_slots, sizeof(struct stream_watch *));
    /* Up to a tenth longer, so that streams opened together do not tick together. */
    uint64_t jitter = hash64(&(uint64_t){member_next_request_id(server->member)}, sizeof(uint64_t));
    s->interval_ms = server->cfg.progress_interval_ms + jitter % (server->cfg.progress_interval_ms / 10u + 1u);
    s->timer.fire = on_progress_tick;
    loop_timer_set(s->loop->loop, &s->timer, loop_now_ms(s->loop->loop) + s->interval_ms);
    *grpc_call_state(c) = s;
    gauge_add(server->watch_streams, 1);
}

static void watch_ended(struct grpc_call *c)
{
    struct watch_stream *s = *grpc_call_state(c);
    if (s == NULL) {
        return;
    }
    *grpc_call_state(c) = NULL;
    gauge_add(s->loop->server->watch_streams, -1);
    loop_timer_clear(s->loop->loop, &s->timer);
    for (size_t i = 0; i < s->n_slots; i++) {
        while (s->slots[i] != NULL) {
            delete(s, s->slots[i]);
        }
    }
    free(s->slots);
    bytes_deinit(&s->held);
    free(s);
}

/* A stream stays open as long as its client likes; its client resumes it elsewhere. */
static void watch_draining(struct grpc_call *c)
{
    status_finish(c, ERR_STOPPED);
}

const struct grpc_method watch_methods[] = {
    {.path = "/etcdserverpb.Watch/Watch", .kind = GRPC_BIDI, .started = watch_started, .message = on_watch, .draining = watch_draining, .ended = watch_ended},
    {.path = NULL},
};
