/* watch.c - Watch: many clients' watchers on few upstream watches.
 *
 *   stream ──< watcher >── group ── one upstream watch >── lane
 *
 * A group watches one range from one revision on. A watcher joins a group that has not yet passed what it wants, else it gets one of its own; a
 * group that has caught up with another of the same range gives its receivers to that one and ends. Where a group stands is told by the events
 * it has delivered, not by the header of an answer, which may be ahead of events that are still to come.
 *
 * When an upstream watch breaks, the group opens another from where it stood; receivers do not notice. If that has been compacted meanwhile, those
 * of them that have less far to go back than the group go on in another. Before a watch is created the client's right to the range is tried with a
 * read, since it may join a watch that somebody else was allowed; and, when it would join one, whether its revision is compacted, which the cluster
 * then says in answer to a watch of its own. Requests of a stream are taken in order, so those behind these reads wait.
 */
#include <stdlib.h>

#include "api/proxy/internal.h"
#include "api/proxy/lane.h"
#include "api/proxy/watch_view.h"
#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/wire.h"

#define BUCKETS 4096u
#define RESUME_MS 100u /* before a broken upstream watch is opened again */
#define HEADER_KEPT_BYTES 64u
#define INVALID_WATCH_ID (-1)

enum { CREATE = 1, CANCEL = 2, PROGRESS = 3 }; /* of WatchRequest */
enum { C_KEY = 1, C_END, C_REVISION, C_PROGRESS, C_FILTERS, C_BEFORE }; /* of WatchCreateRequest */
enum { R_KEY = 1, R_END = 2, R_LIMIT = 3, R_REVISION = 4, R_SERIALIZABLE = 7, R_COUNT_ONLY = 9 }; /* of RangeRequest */
enum { W_HEADER = 1, W_ID, W_CREATED, W_CANCELED, W_COMPACT, W_REASON }; /* of WatchResponse */
enum { FILTER_NOPUT = 0, FILTER_NODELETE = 1 };

static const char compacted[] = "etcdserver: mvcc: required revision has been compacted";
static const char too_many[] = "etcdserver: too many requests";

struct watcher {
    struct stream *stream;
    struct group *group;
    struct watcher *next, **prev;           /* the stream's */
    struct watcher *next_peer, **prev_peer; /* the group's */
    struct watch_want want;
    bool told; /* that it is created */
    uint8_t header[HEADER_KEPT_BYTES]; /* the last that it was sent */
    size_t n_header;
};

struct stream {
    struct proxy *proxy;
    struct grpc_call *call; /* borrowed: `ended` frees this */
    struct led led;
    struct watcher *watchers;
    int64_t next_id;
    struct up_call check; /* the read before a creation */
    bool looks_back; /* that read is about its revision, not its right any more */
    struct bytes creating; /* owned; the WatchCreateRequest that waits for it */
    struct bytes waiting; /* owned; requests behind it, each behind its length */
    size_t waiting_at, n_waiting;
    size_t held; /* of what is queued for the client */
};

struct group {
    struct watch_groups *all;
    struct group *next; /* of the bucket */
    struct bytes range; /* owned; key and end */
    size_t n_key;
    struct lane_watch up;
    struct loop_timer timer;
    struct watcher *receivers;
    size_t n;
    int64_t next_revision; /* every event below it was delivered; 0: not known, from now on */
    bool answered;         /* its creation was confirmed once */
    bool alone;            /* it is for one that is too late: nobody joins it, and it joins no other */
};

struct watch_groups {
    struct proxy *proxy;
    struct lanes *lanes;
    struct group *buckets[BUCKETS];
};

struct watch_groups *watch_groups_create(struct proxy *p)
{
    struct watch_groups *all = xcalloc(1, sizeof(*all));
    all->proxy = p;
    all->lanes = lanes_create(p->up, p->cfg.loop);
    return all;
}

static void keep(struct bytes *b, struct slice s)
{
    if (s.len > 0) {
        bytes_add(b, s.data, s.len);
    }
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

static void account(struct stream *s)
{
    size_t now = grpc_call_queued_bytes(s->call);
    upstream_hold(s->proxy->up, now);
    upstream_release(s->proxy->up, s->held);
    s->held = now;
}

static void on_drained(struct grpc_call *c)
{
    account(*grpc_call_state(c));
}

/* A client that does not read loses its stream, and opens another from where it stood. */
static void post(struct stream *s, const struct bytes *message)
{
    struct slice piece = bytes_slice(message);
    if (grpc_call_ended(s->call)) {
        return;
    }
    if (s->held > 0) {
        account(s);
    }
    if (s->held > PROXY_WATCH_QUEUE_BYTES || (s->held > PROXY_STREAM_RESUME_BYTES && upstream_is_full(s->proxy->up))) {
        log_msg(s->proxy->cfg.log, LOG_ERROR, "failed to put a watch response on the watcher's proxy stream: the client does not read");
        grpc_abort(s->call, GRPC_CANCELED);
        return;
    }
    grpc_send(s->call, &piece, 1);
    account(s);
    grpc_call_on_drain(s->call, 0, on_drained);
}

struct verdict {
    struct slice header; /* encoded */
    int64_t id;
    bool created, canceled;
    const char *reason;
};

static void post_verdict(struct stream *s, const struct verdict *v)
{
    struct bytes b = {0};
    wire_add_message(&b, W_HEADER, v->header);
    wire_add_int(&b, W_ID, v->id);
    wire_add_bool(&b, W_CREATED, v->created);
    wire_add_bool(&b, W_CANCELED, v->canceled);
    wire_add_bytes(&b, W_REASON, slice_str(v->reason));
    post(s, &b);
    bytes_deinit(&b);
}

/* --- groups -------------------------------------------------------------------------------------------------------- */

static struct slice key_of(const struct group *g)
{
    return slice_of(g->range.data, g->n_key);
}

static struct slice end_of(const struct group *g)
{
    return slice_of(g->range.data + g->n_key, g->range.len - g->n_key);
}

static struct group **bucket_of(struct watch_groups *all, struct slice key, struct slice end)
{
    return &all->buckets[(hash64(key.data, key.len) * 31u + hash64(end.data, end.len)) % BUCKETS];
}

static void join(struct watcher *w, struct group *g)
{
    w->group = g;
    w->next_peer = g->receivers;
    w->prev_peer = &g->receivers;
    if (w->next_peer != NULL) {
        w->next_peer->prev_peer = &w->next_peer;
    }
    g->receivers = w;
    if (g->n++ > 0) {
        gauge_add(g->all->proxy->watchers_coalescing, 1);
    }
}

static void part(struct watcher *w)
{
    struct group *g = w->group;
    *w->prev_peer = w->next_peer;
    if (w->next_peer != NULL) {
        w->next_peer->prev_peer = w->prev_peer;
    }
    w->group = NULL;
    if (--g->n > 0) {
        gauge_add(g->all->proxy->watchers_coalescing, -1);
    }
}

static void free_group(struct group *g)
{
    ASSERT(g->n == 0);
    struct group **p = bucket_of(g->all, key_of(g), end_of(g));
    while (*p != g) {
        p = &(*p)->next;
    }
    *p = g->next;
    lane_watch_close(&g->up);
    loop_timer_clear(g->all->proxy->cfg.loop, &g->timer);
    bytes_deinit(&g->range);
    free(g);
}

static void free_watcher(struct watcher *w)
{
    *w->prev = w->next;
    if (w->next != NULL) {
        w->next->prev = w->prev;
    }
    free(w);
}

/* Nobody has it any more. */
static void remove_watcher(struct watcher *w)
{
    struct group *g = w->group;
    part(w);
    free_watcher(w);
    if (g->n == 0) {
        free_group(g);
    }
}

/* Its receivers are told that their watch is over, for this reason. The group is gone. */
static void cancel_all(struct group *g, const char *reason)
{
    while (g->receivers != NULL) {
        struct watcher *w = g->receivers;
        const struct verdict v = {.header = slice_of(w->header, w->n_header), .id = w->want.id, .created = !w->told, .canceled = true, .reason = reason};
        post_verdict(w->stream, &v);
        part(w);
        free_watcher(w);
    }
    free_group(g);
}

static void open_group(struct group *g)
{
    struct proxy *p = g->all->proxy;
    struct bytes create = {0};
    struct bytes request = {0};
    struct bytes key = {0};
    struct bytes end = {0};
    prefix_range(p->prefix, key_of(g), end_of(g), &key, &end);
    wire_add_bytes(&create, C_KEY, bytes_slice(&key));
    wire_add_bytes(&create, C_END, bytes_slice(&end));
    wire_add_int(&create, C_REVISION, g->next_revision);
    wire_add_bool(&create, C_PROGRESS, true);
    wire_add_bool(&create, C_BEFORE, true);
    wire_add_message(&request, CREATE, bytes_slice(&create));
    /* In the name of one who still has it: who had it opened may have left, and its login may be gone. */
    lane_watch_open(g->all->lanes, &g->up, head_for(g->receivers->stream->call, "").token, bytes_slice(&request));
    bytes_deinit(&create);
    bytes_deinit(&request);
    bytes_deinit(&key);
    bytes_deinit(&end);
}

static void on_resume(struct loop *l, struct loop_timer *t)
{
    (void)l;
    open_group(CONTAINER_OF(t, struct group, timer));
}

/* Give all receivers to a group of the same range that will deliver all that they have not had; many of them only to one that has even more,
 * since it may be behind. This one is gone then. */
static void coalesce(struct group *g)
{
    if (g->alone) {
        return;
    }
    for (struct group *o = *bucket_of(g->all, key_of(g), end_of(g)); o != NULL; o = o->next) {
        bool fits = o->answered && !o->alone && o->next_revision <= g->next_revision && (g->n < PROXY_COALESCE_RECEIVERS_MAX || o->n >= g->n);
        if (o != g && fits && slice_eq(key_of(o), key_of(g)) && slice_eq(end_of(o), end_of(g))) {
            while (g->receivers != NULL) {
                struct watcher *w = g->receivers;
                part(w);
                join(w, o);
            }
            free_group(g);
            return;
        }
    }
}

static void keep_header(struct watcher *w, struct slice header)
{
    if (header.len <= sizeof(w->header)) {
        w->n_header = header.len;
        memcpy(w->header, header.data, header.len);
    }
}

static void broadcast(struct group *g, const struct watch_view *v)
{
    struct bytes b = {0};
    for (struct watcher *w = g->receivers; w != NULL; w = w->next_peer) {
        struct watch_view its = *v;
        its.created = v->created && !w->told;
        if (v->created && w->told && !v->canceled) { /* of the watch that followed one that broke */
            continue;
        }
        bytes_reset(&b);
        if (watch_view_write(&its, &w->want, &b)) {
            w->told = true;
            keep_header(w, v->header);
            post(w->stream, &b);
        }
    }
    bytes_deinit(&b);
    if (g->n > 1) {
        counter_add(g->all->proxy->events_coalescing, g->n - 1);
    }
}

/* The first of those receivers that do not have to go back behind `revision`, which are in no group any more. */
static struct watcher *part_ahead(struct group *g, int64_t revision)
{
    struct watcher *ahead = NULL;
    for (struct watcher *w = g->receivers, *next; w != NULL; w = next) {
        next = w->next_peer;
        if (w->want.next_revision >= revision) {
            part(w);
            w->next_peer = ahead;
            ahead = w;
        }
    }
    return ahead;
}

static void add_watcher(struct watch_groups *all, struct watcher *w, struct slice key, struct slice end, bool alone);

/* The cluster has ended the watch. The group is gone. */
static void take_end(struct group *g, const struct watch_view *v)
{
    struct watch_groups *all = g->all;
    struct bytes range = {0};
    size_t n_key = g->n_key;
    keep(&range, bytes_slice(&g->range));
    struct watcher *ahead = g->next_revision < v->compact_revision ? part_ahead(g, v->compact_revision) : NULL;
    broadcast(g, v);
    while (g->receivers != NULL) {
        struct watcher *w = g->receivers;
        part(w);
        free_watcher(w);
    }
    free_group(g);
    for (struct watcher *next; ahead != NULL; ahead = next) {
        next = ahead->next_peer;
        add_watcher(all, ahead, slice_of(range.data, n_key), slice_of(range.data + n_key, range.len - n_key), false);
    }
    bytes_deinit(&range);
}

/* The group may be gone then. */
static void take(struct group *g, const struct watch_view *v)
{
    if (v->canceled || v->compact_revision > 0) {
        take_end(g, v);
        return;
    }
    broadcast(g, v);
    if (v->created && g->answered) {
        return;
    }
    if (v->n_events > 0) {
        g->next_revision = v->events[v->n_events - 1].revision + 1;
    } else if (g->next_revision == 0 || (watch_view_is_progress(v) && v->header_revision >= g->next_revision)) {
        g->next_revision = v->header_revision + 1;
    }
    g->answered = true;
    coalesce(g);
}

static void on_answer(struct lane_watch *u, struct slice message)
{
    struct group *g = CONTAINER_OF(u, struct group, up);
    struct proxy *p = g->all->proxy;
    struct bytes kept = {0};
    struct watch_view v = {0};
    enum err e = OK;
    if (p->prefix.len > 0) {
        e = prefix_rewrite(PREFIX_WATCH_REPLY, p->prefix, message, &kept);
        message = bytes_slice(&kept);
    }
    if (e == OK) {
        e = watch_view_read(message, &v);
    }
    if (e == OK) {
        take(g, &v);
    } else {
        cancel_all(g, "the cluster's answer makes no sense");
    }
    watch_view_deinit(&v);
    bytes_deinit(&kept);
}

/* clientv3 goes on after these. */
static bool is_passing(const struct client_status *s)
{
    return s->local || s->code == CLIENT_CODE_OK || s->code == CLIENT_CODE_UNAVAILABLE || s->code == CLIENT_CODE_INTERNAL;
}

static void on_stream_ended(struct lane_watch *u, const struct client_status *status)
{
    struct group *g = CONTAINER_OF(u, struct group, up);
    if (!is_passing(status)) {
        cancel_all(g, status->text);
        return;
    }
    struct loop *l = g->all->proxy->cfg.loop;
    loop_timer_set(l, &g->timer, loop_now_ms(l) + RESUME_MS);
}

/* --- creating --------------------------------------------------------------------------------------------------------- */

/* For one that has to go back to `revision`; 0: it does not. */
static bool has_room(const struct group *g, int64_t revision)
{
    return !g->alone && g->next_revision <= revision && (g->next_revision != 0 || revision == 0);
}

/* true: the watcher belongs to it, and has been or will be told that it is created. */
static bool accept(struct group *g, struct watcher *w)
{
    if (!has_room(g, w->want.next_revision)) {
        return false;
    }
    join(w, g);
    if (g->answered && !w->told) {
        w->told = true;
        struct bytes header = {0};
        wire_add_int(&header, 3, w->want.next_revision);
        keep_header(w, bytes_slice(&header));
        post_verdict(w->stream, &(struct verdict){.header = bytes_slice(&header), .id = w->want.id, .created = true, .reason = ""});
        bytes_deinit(&header);
    }
    return true;
}

static void add_watcher(struct watch_groups *all, struct watcher *w, struct slice key, struct slice end, bool alone)
{
    struct group **bucket = bucket_of(all, key, end);
    for (struct group *g = *bucket; g != NULL && !alone; g = g->next) {
        if (slice_eq(key_of(g), key) && slice_eq(end_of(g), end) && accept(g, w)) {
            return;
        }
    }
    struct group *g = xcalloc(1, sizeof(*g));
    g->all = all;
    keep(&g->range, key);
    keep(&g->range, end);
    g->n_key = key.len;
    g->next_revision = w->want.next_revision;
    g->alone = alone;
    g->timer.fire = on_resume;
    g->up.answer = on_answer;
    g->up.ended = on_stream_ended;
    g->next = *bucket;
    *bucket = g;
    join(w, g);
    open_group(g);
}

struct creation {
    struct slice key, end;
    struct watch_want want;
};

static void read_creation(struct slice message, struct creation *out)
{
    struct wire_field f;
    *out = (struct creation){0};
    while (wire_next(&message, &f) == OK) {
        if (f.number == C_KEY && f.type == WIRE_LEN) {
            out->key = f.bytes;
        } else if (f.number == C_END && f.type == WIRE_LEN) {
            out->end = f.bytes;
        } else if (f.number == C_REVISION) {
            out->want.next_revision = (int64_t)f.value;
        } else if (f.number == C_PROGRESS) {
            out->want.progress = f.value != 0;
        } else if (f.number == C_BEFORE) {
            out->want.before = f.value != 0;
        } else if (f.number == C_FILTERS) {
            /* One by one, or several in one field. */
            struct slice packed = f.bytes;
            uint64_t value = f.value;
            while (f.type == WIRE_VARINT || wire_take_varint(&packed, &value) == OK) {
                out->want.no_put = out->want.no_put || value == FILTER_NOPUT;
                out->want.no_delete = out->want.no_delete || value == FILTER_NODELETE;
                if (f.type == WIRE_VARINT) {
                    break;
                }
            }
        }
    }
}

static bool is_range(struct slice key, struct slice end)
{
    return end.len == 0 || slice_cmp(end, key) > 0 || (end.len == 1 && end.data[0] == 0);
}

static void create(struct stream *s, bool alone)
{
    struct creation c;
    read_creation(bytes_slice(&s->creating), &c);
    if (!is_range(c.key, c.end)) {
        post_verdict(s, &(struct verdict){.id = INVALID_WATCH_ID, .created = true, .canceled = true, .reason = ""});
        return;
    }
    struct watcher *w = xcalloc(1, sizeof(*w));
    w->stream = s;
    w->want = c.want;
    w->want.id = s->next_id++;
    w->next = s->watchers;
    w->prev = &s->watchers;
    if (w->next != NULL) {
        w->next->prev = &w->next;
    }
    s->watchers = w;
    add_watcher(s->proxy->groups, w, c.key, c.end, alone);
}

static void refuse(struct stream *s, const char *reason)
{
    post_verdict(s, &(struct verdict){.id = INVALID_WATCH_ID, .created = true, .canceled = true, .reason = reason});
}

/* Ask for as good as nothing of [key, end), and hear whether that may be asked for. */
static void try_read(struct stream *s, struct slice key, struct slice end, int64_t revision)
{
    struct proxy *p = s->proxy;
    struct bytes its_key = {0};
    struct bytes its_end = {0};
    struct bytes request = {0};
    prefix_range(p->prefix, key, end, &its_key, &its_end);
    wire_add_bytes(&request, R_KEY, bytes_slice(&its_key));
    wire_add_bytes(&request, R_END, bytes_slice(&its_end));
    wire_add_int(&request, R_LIMIT, 1);
    wire_add_int(&request, R_REVISION, revision);
    wire_add_bool(&request, R_SERIALIZABLE, true);
    wire_add_bool(&request, R_COUNT_ONLY, true);
    struct up_head head = head_for(s->call, "/etcdserverpb.KV/Range");
    head.repeatable = true;
    head.has_leader = false;
    up_open(p->up, &s->check, &head, bytes_slice(&request));
    bytes_deinit(&its_key);
    bytes_deinit(&its_end);
    bytes_deinit(&request);
}

static void check_right(struct stream *s, const struct creation *c)
{
    bool whole = c->key.len == 0;
    s->looks_back = false;
    try_read(s, whole ? slice_of("", 1) : c->key, whole ? slice_of("", 1) : c->end, 0);
}

/* Would it join a group although its revision may be compacted? A count at an old revision takes a step for each key, so one key is asked for. */
static bool check_revision(struct stream *s)
{
    struct creation c;
    read_creation(bytes_slice(&s->creating), &c);
    struct group *g = *bucket_of(s->proxy->groups, c.key, c.end);
    while (g != NULL && !(slice_eq(key_of(g), c.key) && slice_eq(end_of(g), c.end) && has_room(g, c.want.next_revision))) {
        g = g->next;
    }
    if (g == NULL || c.want.next_revision == 0) {
        return false;
    }
    s->looks_back = true;
    try_read(s, c.key.len == 0 ? slice_of("", 1) : c.key, slice_of("", 0), c.want.next_revision);
    return true;
}

/* --- requests ----------------------------------------------------------------------------------------------------------- */

static void cancel(struct stream *s, int64_t id)
{
    struct watcher *w = s->watchers;
    while (w != NULL && w->want.id != id) {
        w = w->next;
    }
    if (w == NULL) {
        return;
    }
    post_verdict(s, &(struct verdict){.header = slice_of(w->header, w->n_header), .id = id, .canceled = true, .reason = ""});
    remove_watcher(w);
}

static void request(struct stream *s, struct slice message)
{
    struct wire_field f = {0};
    struct wire_field id = {0};
    if (wire_next(&message, &f) != OK || f.type != WIRE_LEN) {
        return;
    }
    switch (f.number) {
    case CREATE: {
        struct creation c;
        read_creation(f.bytes, &c);
        if (c.want.next_revision < 0) {
            refuse(s, compacted);
            return;
        }
        if (upstream_is_full(s->proxy->up)) {
            refuse(s, too_many);
            return;
        }
        bytes_reset(&s->creating);
        keep(&s->creating, f.bytes);
        check_right(s, &c);
        return;
    }
    case CANCEL:
        if (wire_next(&f.bytes, &id) != OK) {
            id.value = 0; /* left out, as zero is */
        }
        cancel(s, (int64_t)id.value);
        return;
    default:
        log_msg(s->proxy->cfg.log, LOG_ERROR, "not supported request type by gRPC proxy");
        return;
    }
}

static void take_waiting(struct stream *s)
{
    while (s->n_waiting > 0 && !up_is_open(&s->check) && !grpc_call_ended(s->call)) {
        uint32_t len;
        memcpy(&len, s->waiting.data + s->waiting_at, sizeof(len));
        struct slice message = slice_of(s->waiting.data + s->waiting_at + sizeof(len), len);
        s->waiting_at += sizeof(len) + len;
        s->n_waiting--;
        request(s, message);
    }
    if (s->n_waiting == 0) {
        bytes_deinit(&s->waiting);
        s->waiting_at = 0;
    }
}

static void on_checked(struct up_call *u)
{
    struct stream *s = CONTAINER_OF(u, struct stream, check);
    const struct client_status *status = up_status(u);
    if (status == NULL) {
        return;
    }
    bool looked_back = s->looks_back;
    bool right = looked_back || status->code == CLIENT_CODE_OK;
    bool late = looked_back && strcmp(status->text, compacted) == 0;
    if (!right) {
        refuse(s, status->text);
    }
    up_close(u);
    if (right && (looked_back || !check_revision(s))) {
        create(s, late);
    }
    take_waiting(s);
}

/* --- callbacks ----------------------------------------------------------------------------------------------------------- */

static void on_started(struct grpc_call *c)
{
    struct stream *s = xcalloc(1, sizeof(*s));
    s->proxy = proxy_of(c);
    s->call = c;
    s->check.news = on_checked;
    *grpc_call_state(c) = s;
    led_join(&s->led, c);
}

static void on_message(struct grpc_call *c, struct slice message)
{
    struct stream *s = *grpc_call_state(c);
    if (!up_is_open(&s->check) && s->n_waiting == 0) {
        request(s, message);
        return;
    }
    if (s->waiting_at > s->waiting.len / 2) {
        memmove(s->waiting.data, s->waiting.data + s->waiting_at, s->waiting.len - s->waiting_at);
        s->waiting.len -= s->waiting_at;
        s->waiting_at = 0;
    }
    if (s->n_waiting >= PROXY_WATCH_REQUESTS_MAX || s->waiting.len + message.len > PROXY_WATCH_QUEUE_BYTES) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, "too many watch requests are waiting");
        return;
    }
    uint32_t len = (uint32_t)message.len;
    bytes_add(&s->waiting, &len, sizeof(len));
    keep(&s->waiting, message);
    s->n_waiting++;
}

static void on_half_closed(struct grpc_call *c)
{
    grpc_finish(c, GRPC_CANCELED, "context canceled");
}

static void on_ended(struct grpc_call *c)
{
    struct stream *s = *grpc_call_state(c);
    *grpc_call_state(c) = NULL;
    led_leave(&s->led);
    while (s->watchers != NULL) {
        remove_watcher(s->watchers);
    }
    up_close(&s->check);
    upstream_release(s->proxy->up, s->held);
    bytes_deinit(&s->creating);
    bytes_deinit(&s->waiting);
    free(s);
}

const struct route watch_routes[] = {
    {.path = "/etcdserverpb.Watch/Watch", .kind = GRPC_BIDI, .message = on_message, .started = on_started, .half_closed = on_half_closed,
     .ended = on_ended},
    {.path = NULL},
};
