/* lane.c - see lane.h.
 *
 *   watch:  waits ──► asked ──(created)──► open        any ──(closed, refused, canceled, the stream has ended)──► gone
 *
 * A watch that goes while it is asked for leaves its place empty: what is created in answer is cancelled at once. Answers for an id that nobody has
 * are those that were on their way when it was cancelled.
 */
#include "api/proxy/lane.h"

#include <stdlib.h>

#include "api/proxy/limits.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

#define BUCKETS 64u

enum { CANCEL = 2, CANCEL_ID = 1 };                            /* of WatchRequest and WatchCancelRequest */
enum { ANSWER_ID = 2, ANSWER_CREATED = 3, ANSWER_CANCELED = 4 }; /* of WatchResponse */

struct lane {
    struct lanes *all;
    struct lane *next;
    struct up_call up;
    struct bytes token;        /* owned */
    struct loop_timer timer;   /* it cannot send: it ends in a turn of its own */
    struct lane_watch *open[BUCKETS]; /* by id */
    struct lane_watch *asked;  /* NULL although `asking`: it has gone */
    struct lane_watch *waiting;
    struct lane_watch **waiting_last;
    size_t n;    /* of all its watches */
    bool asking; /* the next `created` is the answer */
    bool busy;   /* its news are being told */
};

struct lanes {
    struct upstream *up;
    struct loop *loop;
    struct lane *first;
};

struct lanes *lanes_create(struct upstream *up, struct loop *loop)
{
    struct lanes *all = xcalloc(1, sizeof(*all));
    all->up = up;
    all->loop = loop;
    return all;
}

/* --- who is where -------------------------------------------------------------------------------------------------- */

static void list(struct lane_watch *w, struct lane_watch **head)
{
    w->next = *head;
    w->prev = head;
    if (w->next != NULL) {
        w->next->prev = &w->next;
    }
    *head = w;
}

static void list_waiting(struct lane *l, struct lane_watch *w)
{
    w->state = LANE_WAITS;
    w->next = NULL;
    w->prev = l->waiting_last;
    *l->waiting_last = w;
    l->waiting_last = &w->next;
}

/* Out of whatever list it is in. */
static void unlist(struct lane_watch *w)
{
    if (w->lane != NULL && w->state == LANE_WAITS && w->next == NULL) {
        w->lane->waiting_last = w->prev;
    }
    *w->prev = w->next;
    if (w->next != NULL) {
        w->next->prev = w->prev;
    }
    w->next = NULL;
    w->prev = NULL;
}

static struct lane_watch **bucket(struct lane *l, int64_t id)
{
    return &l->open[(uint64_t)id % BUCKETS];
}

static void leave(struct lane_watch *w)
{
    struct lane *l = w->lane;
    unlist(w);
    l->n--;
    w->lane = NULL;
    bytes_deinit(&w->request);
}

static void free_lane(struct lane *l)
{
    ASSERT(l->n == 0 && !l->busy);
    struct lane **p = &l->all->first;
    while (*p != l) {
        p = &(*p)->next;
    }
    *p = l->next;
    loop_timer_clear(l->all->loop, &l->timer);
    up_close(&l->up);
    bytes_deinit(&l->token);
    free(l);
}

/* --- requests -------------------------------------------------------------------------------------------------------- */

static void send(struct lane *l, struct slice request)
{
    if (!up_send(&l->up, request)) {
        loop_timer_set(l->all->loop, &l->timer, loop_now_ms(l->all->loop));
    }
}

static void send_cancel(struct lane *l, int64_t id)
{
    struct bytes cancel = {0};
    struct bytes b = {0};
    wire_add_int(&cancel, CANCEL_ID, id);
    wire_add_message(&b, CANCEL, bytes_slice(&cancel));
    send(l, bytes_slice(&b));
    bytes_deinit(&cancel);
    bytes_deinit(&b);
}

static void open_stream(struct lane *l, struct slice request)
{
    const struct up_head head = {.path = "/etcdserverpb.Watch/Watch", .token = bytes_slice(&l->token), .stays_open = true};
    up_open(l->all->up, &l->up, &head, request);
}

static void ask_next(struct lane *l)
{
    struct lane_watch *w = l->waiting;
    if (l->asking || w == NULL) {
        return;
    }
    struct bytes request = w->request;
    w->request = (struct bytes){0};
    unlist(w);
    w->state = LANE_ASKED;
    list(w, &l->asked);
    l->asking = true;
    if (up_is_open(&l->up)) {
        send(l, bytes_slice(&request));
    } else {
        open_stream(l, bytes_slice(&request));
    }
    bytes_deinit(&request);
}

/* --- answers --------------------------------------------------------------------------------------------------------- */

struct answer {
    int64_t id;
    bool created, canceled;
};

static struct answer read_answer(struct slice message)
{
    struct answer a = {0};
    struct wire_field f;
    while (wire_next(&message, &f) == OK) {
        if (f.number == ANSWER_ID && f.type == WIRE_VARINT) {
            a.id = (int64_t)f.value;
        } else if (f.number == ANSWER_CREATED) {
            a.created = f.value != 0;
        } else if (f.number == ANSWER_CANCELED) {
            a.canceled = f.value != 0;
        }
    }
    return a;
}

/* Whom it is for; NULL: nobody. */
static struct lane_watch *receiver(struct lane *l, const struct answer *a)
{
    if (!a->created || !l->asking) {
        struct lane_watch *w = *bucket(l, a->id);
        while (w != NULL && w->id != a->id) {
            w = w->next;
        }
        return w;
    }
    struct lane_watch *w = l->asked;
    l->asking = false;
    if (w != NULL) {
        unlist(w);
        w->state = LANE_OPEN;
        w->id = a->id;
        list(w, bucket(l, w->id));
    } else if (!a->canceled) {
        send_cancel(l, a->id);
    }
    return w;
}

static void take_answer(struct lane *l, struct slice message)
{
    const struct answer a = read_answer(message);
    struct lane_watch *w = receiver(l, &a);
    if (w == NULL) {
        return;
    }
    if (a.canceled) {
        leave(w);
    }
    w->answer(w, message);
}

/* The stream is over: so are all that are on it. Who is told may open and close others. */
static void end(struct lane *l, const struct client_status *status)
{
    const struct client_status last = *status;
    struct lane_watch *over = NULL;
    for (size_t i = 0; i <= BUCKETS; i++) {
        struct lane_watch **from = i < BUCKETS ? &l->open[i] : &l->asked;
        while (*from != NULL) {
            struct lane_watch *w = *from;
            leave(w);
            list(w, &over);
        }
    }
    while (l->waiting != NULL) {
        struct lane_watch *w = l->waiting;
        leave(w);
        list(w, &over);
    }
    free_lane(l);
    while (over != NULL) {
        struct lane_watch *w = over;
        unlist(w);
        w->ended(w, &last);
    }
}

static void on_news(struct up_call *u)
{
    struct lane *l = CONTAINER_OF(u, struct lane, up);
    struct slice message;
    l->busy = true;
    while (up_front(u, &message)) {
        take_answer(l, message);
        up_drop(u);
        ask_next(l);
    }
    l->busy = false;
    const struct client_status *status = up_status(u);
    if (status != NULL) {
        end(l, status);
    } else if (l->n == 0) {
        free_lane(l);
    }
}

static void on_cannot_send(struct loop *loop, struct loop_timer *t)
{
    (void)loop;
    const struct client_status status = {.code = CLIENT_CODE_UNAVAILABLE, .local = true, .text = "a request could not be sent"};
    end(CONTAINER_OF(t, struct lane, timer), &status);
}

/* --- public ---------------------------------------------------------------------------------------------------------- */

static struct lane *find(struct lanes *all, struct slice token)
{
    struct lane *l = all->first;
    while (l != NULL && (l->n >= PROXY_LANE_WATCHES_MAX || up_status(&l->up) != NULL || !slice_eq(bytes_slice(&l->token), token))) {
        l = l->next;
    }
    return l;
}

void lane_watch_open(struct lanes *all, struct lane_watch *w, struct slice token, struct slice request)
{
    ASSERT(w->lane == NULL);
    struct lane *l = find(all, token);
    if (l == NULL) {
        l = xcalloc(1, sizeof(*l));
        l->all = all;
        l->up.news = on_news;
        l->timer.fire = on_cannot_send;
        l->waiting_last = &l->waiting;
        if (token.len > 0) {
            bytes_add(&l->token, token.data, token.len);
        }
        l->next = all->first;
        all->first = l;
    }
    w->lane = l;
    l->n++;
    bytes_add(&w->request, request.data, request.len);
    list_waiting(l, w);
    ask_next(l);
}

void lane_watch_close(struct lane_watch *w)
{
    struct lane *l = w->lane;
    if (l == NULL) {
        if (w->prev != NULL) { /* it was about to hear that its stream has ended */
            unlist(w);
        }
        return;
    }
    bool open = w->state == LANE_OPEN;
    leave(w);
    if (l->n == 0 && !l->busy) {
        free_lane(l);
    } else if (open) {
        send_cancel(l, w->id);
    }
}
