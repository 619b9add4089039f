/* watch.c - see the header. */
#include "watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "rules.h"

#define NO_PUT 1u
#define NO_DELETE 2u

struct event_queue {
    Mvccpb__Event **events; /* owned, [at, n) wait for the other side */
    size_t at, n, cap;
    int64_t last_revision; /* newest revision delivered */
    bool in_fragments;     /* the last response said that more of it follows */
};

struct watcher {
    bool used;
    int64_t id;
    struct bytes key;
    int64_t start_revision;
    int64_t compacted; /* the store was compacted to, at creation */
    unsigned filters;
    struct event_queue queues[N_SIDES];
};

struct control_queue {
    Etcdserverpb__WatchResponse *responses[CONTROLS_MAX]; /* owned */
    size_t n;
};

struct watch_stream {
    struct client_stream *streams[N_SIDES];
    struct control_queue controls[N_SIDES];
    struct watcher watchers[WATCHERS_MAX];
    struct watcher *pending; /* being created: its first events may come with the answer */
    bool half_closed;
};

struct watches {
    struct pair *pair;
    struct watch_stream streams[WATCH_STREAMS];
    struct bytes message; /* scratch */
    uint64_t n_events;
};

uint64_t watches_events(const struct watches *w)
{
    return w->n_events;
}

/* ---- reports ---- */

static void print_message(const char *who, const ProtobufCMessage *m)
{
    struct bytes text = {0};
    if (m != NULL) {
        diff_print(m, &text);
    }
    (void)fprintf(stderr, "  %-8s %.*s\n", who, text.len == 0 ? 7 : (int)text.len,
                  text.len == 0 ? "nothing" : (const char *)text.data);
    bytes_deinit(&text);
}

static bool report(const struct watches *w, const struct watcher *watcher, const char *what,
                   const ProtobufCMessage *oracle, const ProtobufCMessage *subject)
{
    const struct pair *p = w->pair;
    (void)fprintf(stderr,
                  "DIFFERENCE in a watch after request %" PRIu64 ", seed %" PRIu64
                  ", at revision %" PRId64 " compacted %" PRId64 "\n  %s\n",
                  p->n_requests, p->seed, p->world->revision, p->world->compacted, what);
    if (watcher != NULL) {
        struct bytes key = {0};
        diff_print_bytes(bytes_slice(&watcher->key), &key);
        (void)fprintf(stderr,
                      "  watcher %" PRId64 " from %.*s, start revision %" PRId64
                      " when compacted to %" PRId64 ", filters %u; delivered up to %" PRId64
                      " | %" PRId64 "\n",
                      watcher->id, (int)key.len, (const char *)key.data, watcher->start_revision,
                      watcher->compacted, watcher->filters, watcher->queues[ORACLE].last_revision,
                      watcher->queues[SUBJECT].last_revision);
        bytes_deinit(&key);
    }
    print_message(p->names[ORACLE], oracle);
    print_message(p->names[SUBJECT], subject);
    return false;
}

/* ---- queues ---- */

static void queue_reset(struct event_queue *q)
{
    while (q->at < q->n) {
        protobuf_c_message_free_unpacked(&q->events[q->at++]->base, NULL);
    }
    free(q->events);
    *q = (struct event_queue){0};
}

static Mvccpb__Event *queue_front(const struct event_queue *q)
{
    return q->at < q->n ? q->events[q->at] : NULL;
}

static void queue_pop(struct event_queue *q)
{
    protobuf_c_message_free_unpacked(&q->events[q->at++]->base, NULL);
    if (q->at == q->n) {
        q->at = q->n = 0;
    }
}

static void queue_push(struct event_queue *q, Mvccpb__Event *event)
{
    ASSERT(q->n < PENDING_MAX);
    if (q->n == q->cap) {
        q->cap = q->cap == 0 ? 64 : q->cap * 2;
        q->events = xrealloc(q->events, q->cap * sizeof(q->events[0]));
    }
    q->events[q->n++] = event;
}

static void watcher_reset(struct watcher *watcher)
{
    for (int side = 0; side < N_SIDES; side++) {
        queue_reset(&watcher->queues[side]);
    }
    bytes_deinit(&watcher->key);
    *watcher = (struct watcher){0};
}

/* ---- receiving ---- */

static struct watcher *find(struct watch_stream *s, int64_t id)
{
    for (size_t i = 0; i < WATCHERS_MAX; i++) {
        if (s->watchers[i].used && s->watchers[i].id == id) {
            return &s->watchers[i];
        }
    }
    return NULL;
}

/* Events must come in order, and those of one revision in one response unless it is in fragments.
 */
static const char *take_events(struct watcher *watcher, enum side_id side,
                               Etcdserverpb__WatchResponse *r)
{
    struct event_queue *q = &watcher->queues[side];
    int64_t before = q->last_revision;
    for (size_t i = 0; i < r->n_events; i++) {
        int64_t revision = r->events[i]->kv == NULL ? -1 : r->events[i]->kv->mod_revision;
        if (revision < q->last_revision) {
            return "an event out of order";
        }
        if (revision == before && !q->in_fragments) {
            return "the events of one revision in two responses";
        }
        q->last_revision = revision;
        queue_push(q, r->events[i]);
        r->events[i] = NULL;
    }
    if (r->header == NULL || r->header->revision < q->last_revision) {
        return "header.revision before the events";
    }
    q->in_fragments = r->fragment;
    return NULL;
}

static bool take_response(struct watches *w, struct watch_stream *s, enum side_id side)
{
    Etcdserverpb__WatchResponse *r =
        etcdserverpb__watch_response__unpack(NULL, w->message.len, w->message.data);
    if (r == NULL) {
        return report(w, NULL, "a watch response does not decode", NULL, NULL);
    }
    struct control_queue *control = &s->controls[side];
    if (r->created || r->canceled || r->n_events == 0) {
        if (control->n == CONTROLS_MAX) {
            (void)report(w, NULL, "answers that nobody asked for", &r->base, &r->base);
            etcdserverpb__watch_response__free_unpacked(r, NULL);
            return false;
        }
        control->responses[control->n++] = r;
        if (r->created && !r->canceled && s->pending != NULL) {
            s->pending->used = true;
            s->pending->id = r->watch_id;
        }
        return true;
    }
    struct watcher *watcher = find(s, r->watch_id);
    const char *wrong =
        watcher == NULL ? "events for an unknown watcher" : take_events(watcher, side, r);
    if (wrong != NULL) {
        for (size_t i = 0; i < r->n_events; i++) { /* those already taken are in the queue */
            if (r->events[i] == NULL) {
                r->n_events = 0;
            }
        }
        (void)report(w, watcher, wrong, side == ORACLE ? &r->base : NULL,
                     side == SUBJECT ? &r->base : NULL);
    }
    w->n_events += side == SUBJECT ? r->n_events : 0;
    r->n_events = wrong == NULL ? 0 : r->n_events;
    etcdserverpb__watch_response__free_unpacked(r, NULL);
    return wrong == NULL;
}

static bool same_place(const Mvccpb__Event *a, const Mvccpb__Event *b)
{
    return a->kv != NULL && b->kv != NULL && a->kv->mod_revision == b->kv->mod_revision &&
           slice_eq(slice_of(a->kv->key.data, a->kv->key.len),
                    slice_of(b->kv->key.data, b->kv->key.len));
}

static int64_t event_revision(const Mvccpb__Event *event)
{
    return event->kv == NULL ? 0 : event->kv->mod_revision;
}

/* Compare as far as both sides are. Up to revision `complete` both have delivered everything. */
static bool settle(struct watches *w, struct watcher *watcher, int64_t complete)
{
    struct event_queue *q = watcher->queues;
    for (;;) {
        Mvccpb__Event *a = queue_front(&q[ORACLE]);
        Mvccpb__Event *b = queue_front(&q[SUBJECT]);
        if (b != NULL && (a != NULL ? !same_place(a, b) : event_revision(b) <= complete) &&
            rules_allow_missing_event(w->pair->world, b, watcher->start_revision,
                                      watcher->compacted)) {
            queue_pop(&q[SUBJECT]);
            w->pair->n_allowed++;
            continue;
        }
        if (a == NULL || b == NULL) {
            const Mvccpb__Event *left = a == NULL ? b : a;
            return left == NULL || event_revision(left) > complete ||
                   report(w, watcher, "one side delivered more events", a == NULL ? NULL : &a->base,
                          b == NULL ? NULL : &b->base);
        }
        struct rules_context context = {w->pair, NULL};
        struct bytes where = {0};
        bool equal = diff_equal(&a->base, &b->base, rules_allow_field, &context, &where);
        bytes_deinit(&where);
        if (!equal) {
            return report(w, watcher, "different events", &a->base, &b->base);
        }
        queue_pop(&q[ORACLE]);
        queue_pop(&q[SUBJECT]);
    }
}

static bool receive(struct watches *w, struct watch_stream *s, enum side_id side)
{
    while (client_stream_ready(s->streams[side])) {
        if (client_stream_recv(s->streams[side], 0, &w->message) != OK ||
            !take_response(w, s, side)) {
            return false;
        }
    }
    const struct client_status *status = client_stream_status(s->streams[side]);
    if (status != NULL) {
        (void)fprintf(stderr, "%s: watch stream ended: code %u %s\n", w->pair->names[side],
                      status->code, status->text);
        return report(w, NULL, "a watch stream ended", NULL, NULL);
    }
    return true;
}

bool watches_drain(struct watches *w)
{
    for (size_t i = 0; i < WATCH_STREAMS; i++) {
        for (int side = 0; side < N_SIDES; side++) {
            if (!receive(w, &w->streams[i], (enum side_id)side)) {
                return false;
            }
        }
        for (size_t k = 0; k < WATCHERS_MAX; k++) {
            if (w->streams[i].watchers[k].used && !settle(w, &w->streams[i].watchers[k], 0)) {
                return false;
            }
        }
    }
    return true;
}

/* Wait for something to come on either side. */
static bool pump(struct watches *w, uint64_t until_ms)
{
    uint64_t now = clock_now_ms(clock_real());
    if (now >= until_ms) {
        return false;
    }
    enum err e = client_pump_all(w->pair->clients, N_SIDES, (uint32_t)(until_ms - now));
    return e == OK || e == ERR_DEADLINE;
}

/* ---- requests ---- */

static bool send_both(struct watches *w, struct watch_stream *s,
                      const Etcdserverpb__WatchRequest *request)
{
    size_t n = etcdserverpb__watch_request__get_packed_size(request);
    struct bytes packed = {0};
    (void)etcdserverpb__watch_request__pack(request, bytes_reserve(&packed, n + 1));
    bool sent = true;
    for (int side = 0; side < N_SIDES; side++) {
        sent = sent && client_stream_send(s->streams[side], slice_of(packed.data, n)) == OK;
    }
    bytes_deinit(&packed);
    w->pair->n_requests++;
    return sent || report(w, NULL, "a watch request cannot be sent", &request->base, NULL);
}

static void pop_control(struct control_queue *q)
{
    etcdserverpb__watch_response__free_unpacked(q->responses[0], NULL);
    q->n--;
    memmove(&q->responses[0], &q->responses[1], q->n * sizeof(q->responses[0]));
}

/* Wait for the next answer of both sides and compare. `*answer` is valid until the next call. */
static bool answer(struct watches *w, struct watch_stream *s, const ProtobufCMessage *request,
                   const Etcdserverpb__WatchResponse **out)
{
    uint64_t until_ms = clock_now_ms(clock_real()) + WATCH_WAIT_MS;
    bool moved = true;
    for (;;) { /* what is asked for may have come with something else: look before waiting */
        if (!watches_drain(w)) {
            return false;
        }
        const struct control_queue *q = s->controls;
        if (q[ORACLE].n > 0 && q[SUBJECT].n > 0) {
            break;
        }
        if (!moved) {
            print_message("asked", request);
            return report(w, NULL, "no answer to a watch request",
                          q[ORACLE].n == 0 ? NULL : &q[ORACLE].responses[0]->base,
                          q[SUBJECT].n == 0 ? NULL : &q[SUBJECT].responses[0]->base);
        }
        moved = pump(w, until_ms);
    }
    struct rules_context context = {w->pair, NULL};
    struct bytes where = {0};
    const Etcdserverpb__WatchResponse *a = s->controls[ORACLE].responses[0];
    const Etcdserverpb__WatchResponse *b = s->controls[SUBJECT].responses[0];
    bool equal = diff_equal(&a->base, &b->base, rules_allow_field, &context, &where);
    bytes_deinit(&where);
    if (!equal) {
        print_message("asked", request);
        return report(w, NULL, "different answers to a watch request", &a->base, &b->base);
    }
    *out = b;
    return true;
}

static void answered(struct watch_stream *s)
{
    pop_control(&s->controls[ORACLE]);
    pop_control(&s->controls[SUBJECT]);
}

static bool cancel(struct watches *w, struct watch_stream *s, struct watcher *watcher)
{
    Etcdserverpb__WatchCancelRequest cancel = ETCDSERVERPB__WATCH_CANCEL_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    cancel.watch_id = watcher->id;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
    request.cancel_request = &cancel;
    const Etcdserverpb__WatchResponse *a = NULL;
    if (!send_both(w, s, &request) || !answer(w, s, &request.base, &a)) {
        return false;
    }
    answered(s);
    watcher_reset(watcher);
    return true;
}

static int64_t start_revision(struct world *w, unsigned filters)
{
    uint32_t kind = random_below(&w->random, 20);
    if (kind < 8 || w->compacted < 0) {
        return 0;
    }
    if (kind < 10) {
        return w->revision + 1 + random_below(&w->random, 30);
    }
    if (filters == (NO_PUT | NO_DELETE)) {
        return 0; /* nobody could tell when it has caught up */
    }
    if (kind == 10) {
        return w->compacted;
    }
    if (kind == 11 && w->compacted > 1) {
        return 1 + random_below(&w->random, (uint32_t)w->compacted - 1);
    }
    if (kind == 12 && w->version != V34) {
        return -1 - (int64_t)random_below(&w->random, 3); /* 3.4: as if compacted, or as if 0 */
    }
    return w->compacted + 1 + random_below(&w->random, (uint32_t)(w->revision - w->compacted));
}

static unsigned choose_filters(struct world *w, Etcdserverpb__WatchCreateRequest *q)
{
    static const unsigned masks[] = {0, 0, 0, 0, 0, NO_PUT, NO_DELETE, NO_PUT | NO_DELETE};
    unsigned mask = masks[random_below(&w->random, (uint32_t)ARRAY_LEN(masks))];
    q->filters = arena_calloc(w->arena, 3, sizeof(q->filters[0]));
    ASSERT(q->filters != NULL);
    if ((mask & NO_PUT) != 0) {
        q->filters[q->n_filters++] = ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NOPUT;
    }
    if ((mask & NO_DELETE) != 0) {
        q->filters[q->n_filters++] = ETCDSERVERPB__WATCH_CREATE_REQUEST__FILTER_TYPE__NODELETE;
    }
    if (random_in(&w->random, 20)) { /* unknown ones change nothing */
        q->filters[q->n_filters++] = (Etcdserverpb__WatchCreateRequest__FilterType)7;
    }
    return mask;
}

static bool create(struct watches *w, struct watch_stream *s, struct watcher *watcher)
{
    struct world *world = w->pair->world;
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &create;
    const Etcdserverpb__RangeRequest *range = world_range(world, false);
    create.key = range->key;
    create.range_end = range->range_end;
    unsigned filters = choose_filters(world, &create);
    create.start_revision = start_revision(world, filters);
    create.prev_kv = random_in(&world->random, 500);
    create.fragment = random_in(&world->random, 300);
    create.progress_notify = random_in(&world->random, 200);
    if (random_in(&world->random, 250)) {
        create.watch_id = (int64_t)random_below(&world->random, 12) - 3;
        create.watch_id -= create.watch_id == -1; /* -1 stands for "none" in answers */
    }
    *watcher = (struct watcher){
        .filters = filters, .start_revision = create.start_revision, .compacted = world->compacted};
    bytes_add(&watcher->key, create.key.len == 0 ? (const uint8_t *)"" : create.key.data,
              create.key.len == 0 ? 1 : create.key.len); /* no key means the smallest one */
    s->pending = watcher;
    const Etcdserverpb__WatchResponse *a = NULL;
    bool asked = send_both(w, s, &request) && answer(w, s, &create.base, &a);
    s->pending = NULL;
    if (!asked) {
        return false;
    }
    bool refused = a->canceled;
    answered(s);
    if (refused) {
        watcher_reset(watcher);
        return true;
    }
    if (create.start_revision == 0 || create.start_revision >= world->compacted) {
        return true;
    }
    if (!answer(w, s, &create.base, &a)) { /* the compaction cancels it in a moment */
        return false;
    }
    answered(s);
    return cancel(w, s, watcher);
}

static bool open_stream(struct watches *w, struct watch_stream *s)
{
    for (int side = 0; side < N_SIDES; side++) {
        enum err e = client_stream_open(w->pair->clients[side], "/etcdserverpb.Watch/Watch",
                                        &s->streams[side]);
        if (e != OK) {
            return report(w, NULL, "a watch stream does not open", NULL, NULL);
        }
    }
    return true;
}

static void close_stream(struct watch_stream *s)
{
    for (size_t i = 0; i < WATCHERS_MAX; i++) {
        watcher_reset(&s->watchers[i]);
    }
    for (int side = 0; side < N_SIDES; side++) {
        client_stream_close(&s->streams[side]);
        while (s->controls[side].n > 0) {
            pop_control(&s->controls[side]);
        }
    }
    s->half_closed = false;
}

/* After a barrier every watcher that need not wait for the future is in sync, so both sides have to
 * answer. */
static bool progress(struct watches *w, struct watch_stream *s)
{
    size_t n = 0;
    for (size_t i = 0; i < WATCHERS_MAX; i++) {
        n += s->watchers[i].used;
        if (s->watchers[i].used && s->watchers[i].start_revision > w->pair->world->revision) {
            return true;
        }
    }
    if (n == 0 || s->half_closed) {
        return true;
    }
    Etcdserverpb__WatchProgressRequest ask = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    request.progress_request = &ask;
    const Etcdserverpb__WatchResponse *a = NULL;
    if (!send_both(w, s, &request) || !answer(w, s, &request.base, &a)) {
        return false;
    }
    answered(s);
    return true;
}

/* Requests that no server answers: the next answer belongs to the next request. */
static bool nonsense(struct watches *w, struct watch_stream *s)
{
    Etcdserverpb__WatchCancelRequest unknown = ETCDSERVERPB__WATCH_CANCEL_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    if (random_in(&w->pair->world->random, 500)) {
        unknown.watch_id = 4711;
        request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CANCEL_REQUEST;
        request.cancel_request = &unknown;
    }
    return send_both(w, s, &request);
}

/* The client's half close does not end a watch; the next close does. */
static bool half_close(struct watches *w, struct watch_stream *s)
{
    s->half_closed = true;
    for (int side = 0; side < N_SIDES; side++) {
        if (client_stream_half_close(s->streams[side]) != OK) {
            return report(w, NULL, "half close fails", NULL, NULL);
        }
    }
    return true;
}

bool watches_random(struct watches *w)
{
    struct random *random = &w->pair->world->random;
    struct watch_stream *s = &w->streams[random_below(random, WATCH_STREAMS)];
    struct watcher *watcher = &s->watchers[random_below(random, WATCHERS_MAX)];
    uint32_t kind = random_below(random, 1000);
    if (kind < 8 || (s->half_closed && kind < 300)) {
        close_stream(s);
        return open_stream(w, s);
    }
    if (s->half_closed) {
        return true;
    }
    if (kind < 15) {
        return half_close(w, s);
    }
    if (kind < 60) {
        return nonsense(w, s);
    }
    return watcher->used ? cancel(w, s, watcher) : create(w, s, watcher);
}

/* ---- barriers ---- */

/* Put and delete each watcher's first key; `*put` and `*gone` are the revisions of the last two. */
static bool sentinel(struct watches *w, const struct watcher *watcher, int64_t *put, int64_t *gone)
{
    ProtobufCBinaryData key = {.data = watcher->key.data, .len = watcher->key.len};
    Etcdserverpb__PutRequest write = ETCDSERVERPB__PUT_REQUEST__INIT;
    write.key = key;
    Etcdserverpb__DeleteRangeRequest remove = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    remove.key = key;
    if (!pair_one(w->pair, M_PUT, &write)) {
        return false;
    }
    *put = w->pair->world->revision;
    if (!pair_one(w->pair, M_DELETE, &remove)) {
        return false;
    }
    *gone = w->pair->world->revision;
    return true;
}

static bool wait_for(struct watches *w, struct watcher *watcher, int64_t revision)
{
    uint64_t until_ms = clock_now_ms(clock_real()) + WATCH_WAIT_MS;
    bool moved = true;
    for (;;) {
        if (!watches_drain(w)) {
            return false;
        }
        const struct event_queue *q = watcher->queues;
        if (q[ORACLE].last_revision >= revision && q[SUBJECT].last_revision >= revision) {
            return true;
        }
        if (!moved) {
            return report(w, watcher, "an event does not come", NULL, NULL);
        }
        moved = pump(w, until_ms);
    }
}

bool watches_barrier(struct watches *w)
{
    int64_t wanted[WATCH_STREAMS][WATCHERS_MAX] = {{0}};
    for (size_t i = 0; i < WATCH_STREAMS; i++) {
        for (size_t k = 0; k < WATCHERS_MAX; k++) {
            struct watcher *watcher = &w->streams[i].watchers[k];
            if (!watcher->used || watcher->filters == (NO_PUT | NO_DELETE)) {
                continue;
            }
            int64_t put = 0;
            int64_t gone = 0;
            if (!sentinel(w, watcher, &put, &gone)) {
                return false;
            }
            int64_t seen = (watcher->filters & NO_DELETE) != 0 ? put : gone;
            wanted[i][k] = watcher->start_revision <= seen ? seen : 0;
        }
    }
    for (size_t i = 0; i < WATCH_STREAMS; i++) {
        for (size_t k = 0; k < WATCHERS_MAX; k++) {
            struct watcher *watcher = &w->streams[i].watchers[k];
            if (!wait_for(w, watcher, wanted[i][k]) || !settle(w, watcher, wanted[i][k])) {
                return false;
            }
        }
    }
    for (size_t i = 0; i < WATCH_STREAMS; i++) {
        if (!progress(w, &w->streams[i])) {
            return false;
        }
    }
    return true;
}

struct watches *watches_create(struct pair *p)
{
    struct watches *w = xcalloc(1, sizeof(*w));
    w->pair = p;
    for (size_t i = 0; i < WATCH_STREAMS; i++) {
        if (!open_stream(w, &w->streams[i])) {
            watches_destroy(&w);
            return NULL;
        }
    }
    return w;
}

void watches_destroy(struct watches **watches)
{
    struct watches *w = *watches;
    *watches = NULL;
    if (w == NULL) {
        return;
    }
    for (size_t i = 0; i < WATCH_STREAMS; i++) {
        close_stream(&w->streams[i]);
    }
    bytes_deinit(&w->message);
    free(w);
}
