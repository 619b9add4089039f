/* loop.h - one I/O loop: a thread with a libuv loop, timers and an inbox.
 *
 * What        Sockets, calls and watchers belong to exactly one loop and are touched on its thread only.
 *             Other threads reach it by posting nodes to its inbox. Work that should happen once per turn
 *             (hand gathered proposals to the member loop, send what connections have queued) registers as an
 *             end-of-turn hook.
 * Callers     everything under api, tools/pintle.
 * Thread      loop_post and loop_stop from any thread; everything else on the loop's own.
 */
#ifndef API_HTTP_LOOP_H
#define API_HTTP_LOOP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/queue.h"

struct uv_loop_s;

#define LOOP_INBOX_MAX 1048576u /* nodes; completions of what this loop asked for, and event batches */

struct loop; /* opaque */

/* A piece of news for a loop. `run` is called on the loop's thread and owns the item from then on. */
struct loop_item {
    struct qnode node;
    void (*run)(struct loop *l, struct loop_item *item);
};

/* An intrusive one-shot timer; zero-initialise. */
struct loop_timer {
    uint64_t at_ms;  /* private */
    size_t heap_pos; /* private; 0 = not set */
    void (*fire)(struct loop *l, struct loop_timer *t);
};

/* Called at the end of every turn in which anything happened, after all I/O events and inbox items. */
struct loop_hook {
    struct loop_hook *next; /* private */
    void (*run)(struct loop *l, void *arg);
    void *arg;
};

struct loop *loop_create(unsigned number);
void loop_destroy(struct loop **l); /* not running any more */
/* On the calling thread, until loop_stop; then runs the stop hooks and what is left in the inbox. Posting stays safe
 * until loop_destroy, which runs late items too. SIGPIPE is blocked on this thread from then on. */
void loop_run(struct loop *l);
void loop_stop(struct loop *l);
unsigned loop_number(const struct loop *l);
struct uv_loop_s *loop_uv(struct loop *l);

void loop_post(struct loop *l, struct loop_item *item);
/* A list of n items linked by node.next, in order. */
void loop_post_list(struct loop *l, struct loop_item *first, struct loop_item *last, size_t n);

uint64_t loop_turn_ms(const struct loop *l); /* since this turn's events were polled */
uint64_t loop_now_ms(const struct loop *l); /* monotonic, cached per turn */
void loop_timer_set(struct loop *l, struct loop_timer *t, uint64_t at_ms); /* moves it when set already */
/* For tests, on a loop that does not run: `ms` pass at once; timers fire, then a turn ends. */
void loop_skip(struct loop *l, uint64_t ms);
void loop_timer_clear(struct loop *l, struct loop_timer *t);
/* Hooks run in the order they were added; before loop_run or on the loop's thread. */
void loop_hook_add(struct loop *l, struct loop_hook *h);
/* After all of those: the transport sends what they have queued. */
void loop_hook_add_last(struct loop *l, struct loop_hook *h);
/* Once, when the loop has stopped (at once if it has already): close sockets. */
void loop_hook_add_stop(struct loop *l, struct loop_hook *h);
/* From a hook: work is left, so let the next turn begin without waiting for an event. */
void loop_again(struct loop *l);

#endif
