/* store.c - the store thread: moves what was applied from memory into the backend.
 *
 * The log carries durability, so there is no hurry: a flush waits until ENGINE_FLUSH_BYTES are pending or the first of
 * them is ENGINE_FLUSH_MS old. While physical compaction goes on, steps follow one another with a pause between them.
 */
#include "raft/member/internal.h"

#include <time.h>

#include "base/assert.h"

/* etcd removes a batch and rests 10 ms. The rate is the same here, but with ten batches to a commit: each commit is a sync of the
 * disk that the log's own syncs wait behind. */
#define COMPACTION_PAUSE_MS (10u * COMPACTION_BATCHES_PER_COMMIT)

static void add_ms(struct timespec *ts, uint64_t ms)
{
    ts->tv_sec += (time_t)(ms / 1000u);
    ts->tv_nsec += (long)(ms % 1000u) * 1000000;
    if (ts->tv_nsec >= 1000000000) {
        ts->tv_sec++;
        ts->tv_nsec -= 1000000000;
    }
}

/* Wait for work; false: stop. Takes the requests. The lock is held on entry and on return. */
static void wait_for_work(struct store_thread *s, bool more)
{
    if (more) {
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        add_ms(&until, COMPACTION_PAUSE_MS);
        while (!s->urgent && !s->stopping && s->requests == NULL &&
               pthread_cond_timedwait(&s->cond, &s->lock, &until) == 0) {
        }
        return;
    }
    while (!s->kicked && !s->stopping && s->requests == NULL) {
        pthread_cond_wait(&s->cond, &s->lock);
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    add_ms(&until, ENGINE_FLUSH_MS);
    while (!s->urgent && !s->stopping && s->requests == NULL &&
           pthread_cond_timedwait(&s->cond, &s->lock, &until) == 0) {
    }
}

static void answer(struct member_op *op, enum err e)
{
    op->err = e;
    op->node.next = NULL;
    if (op->port != NULL) {
        op->port->answered(op->port->arg, op, op, 1);
    } else if (op->done != NULL) {
        op->done(op);
    }
}

static struct member_op *oldest_first(struct member_op *list)
{
    struct member_op *out = NULL;
    while (list != NULL) {
        struct member_op *next = list->list_next;
        list->list_next = out;
        out = list;
        list = next;
    }
    return out;
}

static void serve(struct store_thread *s, struct member_op *requests, enum err flushed)
{
    struct member *m = s->member;
    for (struct member_op *op = oldest_first(requests), *next; op != NULL; op = next) {
        next = op->list_next;
        enum err e = flushed;
        if (e == OK && op->kind == MEMBER_DEFRAG) {
            struct err_ctx ec = {{0}};
            e = engine_defrag(m->engine, &ec);
            if (e != OK) {
                log_error(m->cfg.log, "failed to defragment the store", F_STR("error", ec.text));
            }
        }
        answer(op, e);
    }
}

static void *store_main(void *arg)
{
    struct store_thread *s = arg;
    struct member *m = s->member;
    bool more = false;
    bool stop = false;
    while (!stop) {
        pthread_mutex_lock(&s->lock);
        wait_for_work(s, more);
        struct member_op *requests = s->requests;
        s->requests = NULL;
        s->kicked = false;
        s->urgent = false;
        stop = s->stopping;
        pthread_mutex_unlock(&s->lock);

        struct err_ctx ec = {{0}};
        bool force = requests != NULL || stop;
        enum err e = engine_flush(m->engine, force, &more, &ec);
        if (e != OK) {
            member_fail(m, e, ec.text);
            more = false;
        }
        serve(s, requests, e);
    }
    return NULL;
}

void store_thread_start(struct store_thread *s, struct member *m)
{
    s->member = m;
    pthread_mutex_init(&s->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&s->cond, &attr);
    pthread_condattr_destroy(&attr);
    s->kicked = true; /* an unfinished compaction may wait */
    int rc = pthread_create(&s->thread, NULL, store_main, s);
    ASSERT(rc == 0);
    (void)pthread_setname_np(s->thread, "store");
}

void store_thread_kick(struct store_thread *s, bool urgent)
{
    pthread_mutex_lock(&s->lock);
    bool news = !s->kicked || (urgent && !s->urgent);
    s->kicked = true;
    s->urgent = s->urgent || urgent;
    if (news) {
        pthread_cond_signal(&s->cond);
    }
    pthread_mutex_unlock(&s->lock);
}

void store_thread_request(struct store_thread *s, struct member_op *op)
{
    pthread_mutex_lock(&s->lock);
    op->list_next = s->requests;
    s->requests = op;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
}

void store_thread_stop(struct store_thread *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopping = true;
    pthread_cond_signal(&s->cond);
    pthread_mutex_unlock(&s->lock);
    pthread_join(s->thread, NULL);
    ASSERT(s->requests == NULL);
    pthread_cond_destroy(&s->cond);
    pthread_mutex_destroy(&s->lock);
}
