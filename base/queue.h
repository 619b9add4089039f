/* queue.h - a bounded queue between threads that wakes its consumer.
 *
 * What        Many producers, one consumer. Items are intrusive nodes, so a push allocates
 *             nothing. The consumer takes everything at once, in the order of the pushes.
 *             A wake-up is sent only when the queue was empty, so a busy consumer is never
 *             disturbed and an idle one is woken exactly once.
 * Callers     api (to the member loop), raft/member (log, store and I/O threads).
 * Thread      push from any thread; take and wait from the consumer's.
 * Bound       `n_max` nodes; a push past it is refused with ERR_BUSY and nothing is queued.
 */
#ifndef BASE_QUEUE_H
#define BASE_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct qnode {
    struct qnode *next;
};

struct queue {
    pthread_mutex_t lock; /* guards all below; held for a few instructions only */
    pthread_cond_t filled;
    struct qnode *first;
    struct qnode **last;
    size_t n;
    size_t n_max;
    bool waiting; /* the consumer sits in queue_wait */
    void (*wake)(void *arg); /* may be NULL when the consumer uses queue_wait */
    void *wake_arg;
};

void queue_init(struct queue *q, size_t n_max, void (*wake)(void *arg), void *wake_arg);
void queue_deinit(struct queue *q); /* the queue is empty */

/* ERR_BUSY when full or closed. */
MUST_CHECK enum err queue_push(struct queue *q, struct qnode *node);

/* Append a whole list of `n` nodes linked by `next` (last one's next is ignored), past the bound if
 * need be: for completions, whose number is bounded by what was asked for. */
void queue_push_list(struct queue *q, struct qnode *first, struct qnode *last, size_t n);

/* From now on queue_push refuses, queue_push_list does not. What was pushed before is there to be
 * taken: nothing falls between. */
void queue_close(struct queue *q);

/* Everything that is there, oldest first, NULL-terminated; NULL when empty. */
struct qnode *queue_take_all(struct queue *q);

/* As queue_take_all, waiting for the first node until `deadline_ns` (CLOCK_MONOTONIC; UINT64_MAX
 * waits for ever). NULL when the time is over. */
struct qnode *queue_wait_all(struct queue *q, uint64_t deadline_ns);

/* As queue_wait_all, and takes nothing. */
void queue_wait(struct queue *q, uint64_t deadline_ns);

#endif
