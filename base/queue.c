/* queue.c - a list under a mutex. The lock is held for a few instructions; signal and wake-up come
 * after it is released, so that the consumer does not wake into a held lock. */
#include "base/queue.h"

#include <errno.h>
#include <time.h>

#include "base/assert.h"

#define NS_PER_S UINT64_C(1000000000)

void queue_init(struct queue *q, size_t n_max, void (*wake)(void *arg), void *wake_arg)
{
    *q = (struct queue){.n_max = n_max, .wake = wake, .wake_arg = wake_arg};
    q->last = &q->first;
    int rc = pthread_mutex_init(&q->lock, NULL);
    ASSERT(rc == 0);
    pthread_condattr_t attr;
    rc = pthread_condattr_init(&attr);
    ASSERT(rc == 0);
    rc = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    ASSERT(rc == 0);
    rc = pthread_cond_init(&q->filled, &attr);
    ASSERT(rc == 0);
    (void)pthread_condattr_destroy(&attr);
}

void queue_deinit(struct queue *q)
{
    ASSERT(q->first == NULL);
    (void)pthread_cond_destroy(&q->filled);
    (void)pthread_mutex_destroy(&q->lock);
}

static void lock(struct queue *q)
{
    int rc = pthread_mutex_lock(&q->lock);
    ASSERT(rc == 0);
}

static void unlock(struct queue *q)
{
    int rc = pthread_mutex_unlock(&q->lock);
    ASSERT(rc == 0);
}

/* Append, give the lock back, and wake the consumer if it may be idle. */
static void append_and_unlock(struct queue *q, struct qnode *first, struct qnode *last, size_t n)
{
    bool was_empty = q->first == NULL;
    bool waiting = q->waiting;
    last->next = NULL;
    *q->last = first;
    q->last = &last->next;
    q->n += n;
    unlock(q);
    if (!was_empty) {
        return;
    }
    if (waiting) {
        (void)pthread_cond_signal(&q->filled);
    }
    if (q->wake != NULL) {
        q->wake(q->wake_arg);
    }
}

enum err queue_push(struct queue *q, struct qnode *node)
{
    lock(q);
    if (q->n >= q->n_max) {
        unlock(q);
        return ERR_BUSY;
    }
    append_and_unlock(q, node, node, 1);
    return OK;
}

void queue_push_list(struct queue *q, struct qnode *first, struct qnode *last, size_t n)
{
    if (n == 0) {
        return;
    }
    lock(q);
    append_and_unlock(q, first, last, n);
}

void queue_close(struct queue *q)
{
    lock(q);
    q->n_max = 0;
    unlock(q);
}

static struct qnode *take_locked(struct queue *q)
{
    struct qnode *all = q->first;
    q->first = NULL;
    q->last = &q->first;
    q->n = 0;
    return all;
}

struct qnode *queue_take_all(struct queue *q)
{
    lock(q);
    struct qnode *all = take_locked(q);
    unlock(q);
    return all;
}

static void wait_locked(struct queue *q, uint64_t deadline_ns)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_ns / NS_PER_S),
                             .tv_nsec = (long)(deadline_ns % NS_PER_S)};
    q->waiting = true;
    while (q->first == NULL) {
        int rc = deadline_ns == UINT64_MAX ? pthread_cond_wait(&q->filled, &q->lock)
                                           : pthread_cond_timedwait(&q->filled, &q->lock, &until);
        if (rc == ETIMEDOUT) {
            break;
        }
        ASSERT(rc == 0);
    }
    q->waiting = false;
}

struct qnode *queue_wait_all(struct queue *q, uint64_t deadline_ns)
{
    lock(q);
    wait_locked(q, deadline_ns);
    struct qnode *all = take_locked(q);
    unlock(q);
    return all;
}

void queue_wait(struct queue *q, uint64_t deadline_ns)
{
    lock(q);
    wait_locked(q, deadline_ns);
    unlock(q);
}
