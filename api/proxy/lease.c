/* lease.c - Lease: grants and the like forwarded, renewals of one lease made once for all who ask at a time.
 *
 *   client stream ──< wait >── renewal ── one upstream stream for all
 *
 * A renewal is sent when the first client asks and is answered to all who asked until then. When the upstream stream breaks, another is opened
 * and what has no answer is sent again.
 */
#include <stdlib.h>

#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

#define BUCKETS 4096u
#define RESUME_MS 100u

enum { ASK_ID = 1, ANSWER_ID = 2 };

struct renewal;

/* How often one stream waits for one renewal. */
struct wait {
    struct wait *next, **prev;           /* the stream's */
    struct wait *next_peer, **prev_peer; /* the renewal's */
    struct renewal *renewal;
    struct keep_stream *stream;
    unsigned n;
};

struct renewal {
    struct renewal *next; /* of the bucket */
    struct renewal *next_unsent, **prev_unsent; /* prev_unsent NULL: it is sent */
    int64_t id;
    struct wait *waits;
};

struct keep_stream {
    struct proxy *proxy;
    struct grpc_call *call; /* borrowed: `ended` frees this */
    struct led led;
    struct wait *waits;
    unsigned n; /* requests without an answer */
    bool half_closed; /* ends with the last answer */
};

struct keeper {
    struct proxy *proxy;
    struct up_call up;
    struct loop_timer timer; /* to open it again */
    struct renewal *buckets[BUCKETS];
    struct renewal *unsent, **unsent_last;
};

static struct renewal **bucket_of(struct keeper *k, int64_t id)
{
    return &k->buckets[(((uint64_t)id * UINT64_C(0x9E3779B97F4A7C15)) >> 32) % BUCKETS];
}

/* --- upstream -------------------------------------------------------------------------------------------------- */

static void encode(int64_t id, struct bytes *out)
{
    bytes_reset(out);
    wire_add_int(out, ASK_ID, id);
}

static void put_unsent(struct keeper *k, struct renewal *r)
{
    r->next_unsent = NULL;
    r->prev_unsent = k->unsent_last;
    *k->unsent_last = r;
    k->unsent_last = &r->next_unsent;
}

static void take_unsent(struct keeper *k, struct renewal *r)
{
    *r->prev_unsent = r->next_unsent;
    if (r->next_unsent != NULL) {
        r->next_unsent->prev_unsent = r->prev_unsent;
    } else {
        k->unsent_last = r->prev_unsent;
    }
    r->prev_unsent = NULL;
}

static void send_unsent(struct keeper *k)
{
    struct bytes b = {0};
    if (k->unsent != NULL && !up_is_open(&k->up) && k->timer.heap_pos == 0) {
        const struct up_head head = {.path = "/etcdserverpb.Lease/LeaseKeepAlive", .stays_open = true};
        encode(k->unsent->id, &b);
        take_unsent(k, k->unsent);
        up_open(k->proxy->up, &k->up, &head, bytes_slice(&b));
    }
    while (k->unsent != NULL && up_has_link(&k->up)) {
        encode(k->unsent->id, &b);
        if (!up_send(&k->up, bytes_slice(&b))) {
            break;
        }
        take_unsent(k, k->unsent);
    }
    bytes_deinit(&b);
}

static void part(struct wait *w)
{
    *w->prev = w->next;
    if (w->next != NULL) {
        w->next->prev = w->prev;
    }
    *w->prev_peer = w->next_peer;
    if (w->next_peer != NULL) {
        w->next_peer->prev_peer = w->prev_peer;
    }
    w->stream->n -= w->n;
    free(w);
}

static void on_answer(struct keeper *k, struct slice message)
{
    struct slice rest = message;
    struct wire_field f;
    int64_t id = 0;
    while (wire_next(&rest, &f) == OK) {
        id = f.number == ANSWER_ID && f.type == WIRE_VARINT ? (int64_t)f.value : id;
    }
    struct renewal **p = bucket_of(k, id);
    while (*p != NULL && (*p)->id != id) {
        p = &(*p)->next;
    }
    struct renewal *r = *p;
    if (r == NULL || r->prev_unsent != NULL) {
        return;
    }
    *p = r->next;
    while (r->waits != NULL) {
        struct wait *w = r->waits;
        for (unsigned i = 0; i < w->n; i++) {
            grpc_send(w->stream->call, &message, 1);
        }
        struct keep_stream *s = w->stream;
        part(w);
        if (s->half_closed && s->n == 0) {
            grpc_finish(s->call, GRPC_OK, NULL);
        }
    }
    free(r);
}

/* All who wait end with it; their streams go with `ended`. */
static void fail(struct keeper *k, const struct client_status *status)
{
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct renewal *r = k->buckets[i]; r != NULL; r = r->next) {
            for (struct wait *w = r->waits; w != NULL; w = w->next_peer) {
                finish_like(w->stream->call, status);
            }
        }
    }
}

static void send_again(struct keeper *k)
{
    k->unsent = NULL;
    k->unsent_last = &k->unsent;
    for (size_t i = 0; i < BUCKETS; i++) {
        for (struct renewal **p = &k->buckets[i]; *p != NULL;) {
            struct renewal *r = *p;
            if (r->waits == NULL) {
                *p = r->next; /* nobody waits for it any more */
                free(r);
            } else {
                put_unsent(k, r);
                p = &r->next;
            }
        }
    }
}

static void on_news(struct up_call *u)
{
    struct keeper *k = CONTAINER_OF(u, struct keeper, up);
    struct slice message;
    while (up_front(u, &message)) {
        on_answer(k, message);
        up_drop(u);
    }
    const struct client_status *status = up_status(u);
    if (status != NULL) {
        if (!status->local && status->code != CLIENT_CODE_OK && status->code != CLIENT_CODE_UNAVAILABLE) {
            fail(k, status);
        }
        up_close(u);
        struct loop *l = k->proxy->cfg.loop;
        loop_timer_set(l, &k->timer, loop_now_ms(l) + RESUME_MS);
        send_again(k);
        return;
    }
    send_unsent(k);
}

static void on_resume(struct loop *l, struct loop_timer *t)
{
    (void)l;
    send_unsent(CONTAINER_OF(t, struct keeper, timer));
}

struct keeper *keeper_create(struct proxy *p)
{
    struct keeper *k = xcalloc(1, sizeof(*k));
    k->proxy = p;
    k->up.news = on_news;
    k->timer.fire = on_resume;
    k->unsent_last = &k->unsent;
    return k;
}

/* --- clients -------------------------------------------------------------------------------------------------------- */

static void on_started(struct grpc_call *c)
{
    struct keep_stream *s = xcalloc(1, sizeof(*s));
    s->proxy = proxy_of(c);
    s->call = c;
    *grpc_call_state(c) = s;
    led_join(&s->led, c);
}

static struct renewal *renewal_of(struct keeper *k, int64_t id)
{
    struct renewal **bucket = bucket_of(k, id);
    for (struct renewal *r = *bucket; r != NULL; r = r->next) {
        if (r->id == id) {
            return r;
        }
    }
    struct renewal *r = xcalloc(1, sizeof(*r));
    r->id = id;
    r->next = *bucket;
    *bucket = r;
    put_unsent(k, r);
    return r;
}

static struct wait *wait_of(struct keep_stream *s, struct renewal *r)
{
    /* Many leases on one stream are usual, many streams for one lease are not. */
    for (struct wait *w = r->waits; w != NULL; w = w->next_peer) {
        if (w->stream == s) {
            return w;
        }
    }
    struct wait *w = xcalloc(1, sizeof(*w));
    w->stream = s;
    w->renewal = r;
    w->next = s->waits;
    w->prev = &s->waits;
    if (w->next != NULL) {
        w->next->prev = &w->next;
    }
    s->waits = w;
    w->next_peer = r->waits;
    w->prev_peer = &r->waits;
    if (w->next_peer != NULL) {
        w->next_peer->prev_peer = &w->next_peer;
    }
    r->waits = w;
    return w;
}

static void on_message(struct grpc_call *c, struct slice message)
{
    struct keep_stream *s = *grpc_call_state(c);
    struct keeper *k = s->proxy->keeper;
    struct wire_field f;
    int64_t id = 0;
    while (wire_next(&message, &f) == OK) {
        id = f.number == ASK_ID && f.type == WIRE_VARINT ? (int64_t)f.value : id;
    }
    if (s->n >= PROXY_KEEPALIVES_MAX || grpc_call_queued_bytes(c) > PROXY_STREAM_PAUSE_BYTES) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, "too many keepalive requests");
        return;
    }
    wait_of(s, renewal_of(k, id))->n++;
    s->n++;
    send_unsent(k);
}

static void on_half_closed(struct grpc_call *c)
{
    struct keep_stream *s = *grpc_call_state(c);
    s->half_closed = true;
    if (s->n == 0) {
        grpc_finish(c, GRPC_OK, NULL);
    }
}

/* One that is not sent and that nobody waits for. */
static void forget(struct keeper *k, struct renewal *r)
{
    struct renewal **p = bucket_of(k, r->id);
    while (*p != r) {
        p = &(*p)->next;
    }
    *p = r->next;
    take_unsent(k, r);
    free(r);
}

static void on_ended(struct grpc_call *c)
{
    struct keep_stream *s = *grpc_call_state(c);
    *grpc_call_state(c) = NULL;
    led_leave(&s->led);
    while (s->waits != NULL) {
        struct renewal *r = s->waits->renewal;
        part(s->waits);
        if (r->waits == NULL && r->prev_unsent != NULL) {
            forget(s->proxy->keeper, r); /* else clients that come and go while the cluster is away would fill the memory */
        }
    }
    free(s);
}

const struct route lease_routes[] = {
    {.path = "/etcdserverpb.Lease/LeaseGrant"},
    {.path = "/etcdserverpb.Lease/LeaseRevoke", .after = forget_reads},
    {.path = "/etcdserverpb.Lease/LeaseKeepAlive", .kind = GRPC_BIDI, .message = on_message, .started = on_started,
     .half_closed = on_half_closed, .ended = on_ended},
    {.path = "/etcdserverpb.Lease/LeaseTimeToLive", .repeatable = true, .prefixed = true, .ask = PREFIX_MESSAGES, .answer = PREFIX_LEASE_REPLY},
    {.path = "/etcdserverpb.Lease/LeaseLeases", .repeatable = true},
    {.path = NULL},
};
