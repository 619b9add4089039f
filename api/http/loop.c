/* loop.c - a libuv loop with a timer heap, an inbox and end-of-turn hooks.
 *
 * A turn is: timers (one uv_timer armed for the heap's top), then hooks if any fired, then poll
 * with I/O and inbox, then hooks. A hook that leaves work for the next turn calls loop_again: an
 * idle handle makes the next poll return at once, so sockets still get their share in between.
 */
#include "api/http/loop.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"

#define HEAP_FIRST 64u

struct loop {
    uv_loop_t uv;
    uv_async_t async;
    uv_prepare_t prepare;
    uv_check_t check;
    uv_idle_t idle;
    uv_timer_t alarm;
    unsigned number;
    struct queue inbox; /* any thread pushes, this loop takes; LOOP_INBOX_MAX */
    atomic_bool stop;
    /* This loop only. */
    struct loop_timer **heap; /* owned; [1..n_timers], soonest first; the timers are borrowed */
    size_t n_timers;
    size_t heap_cap;
    uint64_t alarm_at_ms;         /* UINT64_MAX: not armed */
    struct loop_hook *hooks;      /* in the order they were added */
    struct loop_hook *last_hooks; /* after all of those */
    struct loop_hook *stop_hooks;
    bool hooks_due; /* timers fired since the hooks ran */
    bool again;
    bool stopped;        /* hooks do not run any more */
    uint64_t skipped_ms; /* loop_skip */
};

/* --- timer heap
 * ------------------------------------------------------------------------------------- */

static void heap_put(struct loop *l, size_t pos, struct loop_timer *t)
{
    l->heap[pos] = t;
    t->heap_pos = pos;
}

static void heap_up(struct loop *l, size_t pos)
{
    struct loop_timer *t = l->heap[pos];
    while (pos > 1 && l->heap[pos / 2]->at_ms > t->at_ms) {
        heap_put(l, pos, l->heap[pos / 2]);
        pos /= 2;
    }
    heap_put(l, pos, t);
}

static void heap_down(struct loop *l, size_t pos)
{
    struct loop_timer *t = l->heap[pos];
    for (size_t child = pos * 2; child <= l->n_timers; child = pos * 2) {
        if (child < l->n_timers && l->heap[child + 1]->at_ms < l->heap[child]->at_ms) {
            child++;
        }
        if (l->heap[child]->at_ms >= t->at_ms) {
            break;
        }
        heap_put(l, pos, l->heap[child]);
        pos = child;
    }
    heap_put(l, pos, t);
}

void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms)
{
    if (t->heap_pos != 0) {
        uint64_t before = t->at_ms;
        t->at_ms = at_ms;
        if (at_ms < before) {
            heap_up(l, t->heap_pos);
        } else if (at_ms > before) {
            heap_down(l, t->heap_pos);
        }
        return;
    }
    if (l->n_timers + 1 >= l->heap_cap) {
        l->heap_cap *= 2;
        l->heap = xrealloc(l->heap, l->heap_cap * sizeof(struct loop_timer *));
    }
    t->at_ms = at_ms;
    l->n_timers++;
    l->heap[l->n_timers] = t;
    heap_up(l, l->n_timers);
}

void loop_timer_clear(struct loop *l, struct loop_timer *t)
{
    size_t pos = t->heap_pos;
    if (pos == 0) {
        return;
    }
    ASSERT(l->heap[pos] == t);
    t->heap_pos = 0;
    struct loop_timer *moved = l->heap[l->n_timers];
    l->n_timers--;
    if (moved == t) {
        return;
    }
    heap_put(l, pos, moved);
    heap_up(l, pos);
    heap_down(l, moved->heap_pos);
}

static void fire_due(struct loop *l)
{
    uint64_t now = loop_now_ms(l);
    /* A timer set by a timer for now or earlier waits for the next turn: the count is taken first.
     */
    for (size_t n = l->n_timers; n > 0 && l->n_timers > 0 && l->heap[1]->at_ms <= now; n--) {
        struct loop_timer *t = l->heap[1];
        loop_timer_clear(l, t);
        t->fire(l, t);
    }
}

static void on_alarm(uv_timer_t *h)
{
    struct loop *l = h->data;
    l->alarm_at_ms = UINT64_MAX;
    l->hooks_due = true;
    fire_due(l);
}

/* An alarm that is too early costs one idle turn, so it is moved only when it would be late. */
static void arm_alarm(struct loop *l)
{
    if (l->n_timers == 0 || l->heap[1]->at_ms >= l->alarm_at_ms) {
        return;
    }
    l->alarm_at_ms = l->heap[1]->at_ms;
    uint64_t now = loop_now_ms(l);
    uint64_t delay = l->alarm_at_ms > now ? l->alarm_at_ms - now : 0;
    (void)uv_timer_start(&l->alarm, on_alarm, delay, 0); /* fails only without a callback */
}

/* --- turns
 * ------------------------------------------------------------------------------------------ */

static void run_hooks(struct loop *l)
{
    if (l->stopped) {
        return;
    }
    l->hooks_due = false;
    l->again = false;
    for (struct loop_hook *h = l->hooks; h != NULL; h = h->next) {
        h->run(l, h->arg);
    }
    for (struct loop_hook *h = l->last_hooks; h != NULL; h = h->next) {
        h->run(l, h->arg);
    }
}

static void on_idle(uv_idle_t *h)
{
    (void)h; /* its being active is the point: poll does not block */
}

static void settle_turn(struct loop *l)
{
    if (l->again) {
        (void)uv_idle_start(&l->idle, on_idle);
    } else {
        (void)uv_idle_stop(&l->idle);
    }
}

static void on_prepare(uv_prepare_t *h)
{
    struct loop *l = h->data;
    if (l->hooks_due) {
        run_hooks(l);
        settle_turn(l);
    }
    arm_alarm(l);
}

static void on_check(uv_check_t *h)
{
    struct loop *l = h->data;
    run_hooks(l);
    settle_turn(l);
    arm_alarm(l);
}

static void run_inbox(struct loop *l)
{
    struct qnode *n = queue_take_all(&l->inbox);
    while (n != NULL) {
        struct qnode *next = n->next;
        struct loop_item *item = CONTAINER_OF(n, struct loop_item, node);
        item->run(l, item);
        n = next;
    }
}

static void on_async(uv_async_t *h)
{
    struct loop *l = h->data;
    run_inbox(l);
    if (atomic_load_explicit(&l->stop, memory_order_acquire)) {
        uv_stop(&l->uv);
    }
}

static void wake(void *arg)
{
    struct loop *l = arg;
    (void)uv_async_send(&l->async);
}

/* --- life
 * ------------------------------------------------------------------------------------------- */

struct loop *loop_create(unsigned number)
{
    struct loop *l = xcalloc(1, sizeof(*l));
    l->number = number;
    l->heap_cap = HEAP_FIRST;
    l->heap = xalloc(l->heap_cap * sizeof(struct loop_timer *));
    l->alarm_at_ms = UINT64_MAX;
    l->hooks_due = true; /* what was queued before the first turn */
    queue_init(&l->inbox, LOOP_INBOX_MAX, wake, l);
    /* These fail only when the process is out of descriptors at start-up. */
    ASSERT(uv_loop_init(&l->uv) == 0);
    ASSERT(uv_async_init(&l->uv, &l->async, on_async) == 0);
    ASSERT(uv_prepare_init(&l->uv, &l->prepare) == 0);
    ASSERT(uv_check_init(&l->uv, &l->check) == 0);
    ASSERT(uv_idle_init(&l->uv, &l->idle) == 0);
    ASSERT(uv_timer_init(&l->uv, &l->alarm) == 0);
    l->async.data = l;
    l->prepare.data = l;
    l->check.data = l;
    l->alarm.data = l;
    ASSERT(uv_prepare_start(&l->prepare, on_prepare) == 0);
    ASSERT(uv_check_start(&l->check, on_check) == 0);
    return l;
}

void loop_run(struct loop *l)
{
    /* libuv writes without MSG_NOSIGNAL. Blocked here, a write to a closed socket is just EPIPE,
     * while other threads keep the process's rule for closed output pipes. */
    sigset_t pipe_only;
    (void)sigemptyset(&pipe_only);
    (void)sigaddset(&pipe_only, SIGPIPE);
    ASSERT(pthread_sigmask(SIG_BLOCK, &pipe_only, NULL) == 0);
    if (!atomic_load_explicit(&l->stop, memory_order_acquire)) {
        (void)uv_run(&l->uv, UV_RUN_DEFAULT);
    }
    run_inbox(l); /* what was posted before the stop may still add a stop hook */
    l->stopped = true;
    for (struct loop_hook *h = l->stop_hooks; h != NULL; h = h->next) {
        h->run(l, h->arg);
    }
    run_inbox(l);
    /* Closed handles report back. The loop's own stay open, so that posts remain safe until
     * loop_destroy. */
    (void)uv_run(&l->uv, UV_RUN_NOWAIT);
}

void loop_destroy(struct loop **lp)
{
    struct loop *l = *lp;
    if (l == NULL) {
        return;
    }
    *lp = NULL;
    run_inbox(l); /* completions that came after the last turn still own their items */
    uv_close((uv_handle_t *)&l->async, NULL);
    uv_close((uv_handle_t *)&l->prepare, NULL);
    uv_close((uv_handle_t *)&l->check, NULL);
    uv_close((uv_handle_t *)&l->idle, NULL);
    uv_close((uv_handle_t *)&l->alarm, NULL);
    (void)uv_run(&l->uv, UV_RUN_DEFAULT);
    ASSERT(uv_loop_close(&l->uv) == 0);
    queue_deinit(&l->inbox);
    free(l->heap);
    free(l);
}

void loop_stop(struct loop *l)
{
    atomic_store_explicit(&l->stop, true, memory_order_release);
    (void)uv_async_send(&l->async);
}

unsigned loop_number(const struct loop *l)
{
    return l->number;
}

struct uv_loop_s *loop_uv(struct loop *l)
{
    return &l->uv;
}

void loop_post(struct loop *l, struct loop_item *item)
{
    queue_push_list(&l->inbox, &item->node, &item->node, 1);
}

void loop_post_list(struct loop *l, struct loop_item *first, struct loop_item *last, size_t n)
{
    queue_push_list(&l->inbox, &first->node, &last->node, n);
}

uint64_t loop_now_ms(const struct loop *l)
{
    return uv_now(&l->uv) + l->skipped_ms;
}

uint64_t loop_turn_ms(const struct loop *l)
{
    uint64_t now = uv_hrtime() / 1000000u;
    return now - uv_now(&l->uv); /* of the same clock */
}

void loop_skip(struct loop *l, uint64_t ms)
{
    l->skipped_ms += ms;
    fire_due(l);
    run_hooks(l);
}

static void append_hook(struct loop_hook **list, struct loop_hook *h)
{
    while (*list != NULL) {
        list = &(*list)->next;
    }
    h->next = NULL;
    *list = h;
}

void loop_hook_add(struct loop *l, struct loop_hook *h)
{
    append_hook(&l->hooks, h);
}

void loop_hook_add_last(struct loop *l, struct loop_hook *h)
{
    append_hook(&l->last_hooks, h);
}

void loop_hook_add_stop(struct loop *l, struct loop_hook *h)
{
    if (l->stopped) {
        h->run(l, h->arg);
        return;
    }
    append_hook(&l->stop_hooks, h);
}

void loop_again(struct loop *l)
{
    l->again = true;
}
