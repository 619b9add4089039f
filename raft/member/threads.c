/* threads.c - a member in a server: the member loop, the log thread (wal/writer.h), the store thread.
 *
 * While physical compaction goes on, the store thread's steps follow one another with a pause between them. Once it was told to install a
 * snapshot it does nothing until the member loop has taken the new store into use: see `held`.
 */
#include "raft/member/internal.h"

#include <malloc.h>
#include <stdlib.h>
#include <time.h>

#include "base/assert.h"
#include "base/mem.h"

#define TRIM_AFTER_MS 1000u /* of quiet */

/* The store thread: commits what the engine has pending. */
struct threads {
    struct member *member;
    pthread_t loop;
    struct wal_writer *writer;
    pthread_t store;
    pthread_mutex_t lock; /* guards the fields below; never held across a flush */
    pthread_cond_t cond;
    bool kicked; /* something is pending */
    bool urgent; /* do not wait for more */
    bool retry;  /* the log holds more than it did when a flush had to wait */
    bool stopping;
    bool trimmed; /* nothing was done since memory went back to the system */
    bool held;   /* a snapshot was put in place and is not in use yet: no flush */
    struct member_op *requests; /* newest first, linked by list_next */
};

/* --- the store thread -------------------------------------------------------------------------------------- */

static void add_ms(struct timespec *ts, uint64_t ms)
{
    ts->tv_sec += (time_t)(ms / 1000u);
    ts->tv_nsec += (long)(ms % 1000u) * 1000000;
    if (ts->tv_nsec >= 1000000000) {
        ts->tv_sec++;
        ts->tv_nsec -= 1000000000;
    }
}

/* Wait until there is something. When nothing has come for a while, what a load has left behind in the allocator goes back to the system. */
static void wait_for_kick(struct threads *t)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    add_ms(&until, TRIM_AFTER_MS);
    while (!t->kicked && !t->stopping && t->requests == NULL) {
        if (t->trimmed) {
            pthread_cond_wait(&t->cond, &t->lock);
        } else if (pthread_cond_timedwait(&t->cond, &t->lock, &until) != 0) {
            t->trimmed = true;
            pthread_mutex_unlock(&t->lock);
            (void)malloc_trim(0);
            pthread_mutex_lock(&t->lock);
        }
    }
    t->trimmed = false;
}

/* Wait for work. The lock is held on entry and on return. */
static void wait_for_work(struct threads *t, bool more)
{
    while (t->held && !t->stopping) {
        pthread_cond_wait(&t->cond, &t->lock);
    }
    uint64_t pause_ms = t->member->cfg.compaction_pause_ms;
    uint64_t wait_ms = pause_ms == 0 ? COMPACTION_PAUSE_MS : pause_ms < ENGINE_FLUSH_MS ? pause_ms : ENGINE_FLUSH_MS;
    if (!more) {
        wait_for_kick(t);
        wait_ms = ENGINE_FLUSH_MS;
    }
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    add_ms(&until, wait_ms);
    while (!t->urgent && !t->stopping && t->requests == NULL && pthread_cond_timedwait(&t->cond, &t->lock, &until) == 0) {
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

/* A snapshot is put in place last: from then on the engine's store is the old one, without a name, until the member loop has taken the new one into
 * use. To defragment it then would put it back in the new one's place. */
static void serve(struct threads *t, struct member_op *requests, enum err flushed)
{
    struct member_op *install = NULL;
    for (struct member_op *op = oldest_first(requests), *next; op != NULL; op = next) {
        next = op->list_next;
        op->list_next = NULL;
        if (op->kind == MEMBER_INSTALL) {
            ASSERT(install == NULL); /* one at a time */
            install = op;
        } else {
            member_store_serve(t->member, op, flushed);
        }
    }
    if (install != NULL) {
        pthread_mutex_lock(&t->lock);
        t->held = true;
        pthread_mutex_unlock(&t->lock);
        member_store_serve(t->member, install, flushed);
    }
}

/* A flush that waits for the log where it has to. Kicks that come meanwhile are for the next one: this one knows already what it writes. */
static enum err flush(struct threads *t, bool force, bool *more)
{
    enum err e = member_store_flush(t->member, force, more);
    while (e == ERR_BUSY) {
        pthread_mutex_lock(&t->lock);
        while (!t->retry && !t->stopping) {
            pthread_cond_wait(&t->cond, &t->lock);
        }
        t->retry = false;
        bool stopping = t->stopping;
        pthread_mutex_unlock(&t->lock);
        e = member_store_flush(t->member, force, more);
        if (stopping && e == ERR_BUSY) {
            return ERR_STOPPED; /* the log has failed */
        }
    }
    return e;
}

static void *store_main(void *arg)
{
    struct threads *t = arg;
    bool more = false;
    bool stop = false;
    while (!stop) {
        pthread_mutex_lock(&t->lock);
        wait_for_work(t, more);
        struct member_op *requests = t->requests;
        t->requests = NULL;
        t->kicked = false;
        t->urgent = false;
        stop = t->stopping;
        bool held = t->held; /* only at a stop: what is in place is not in use, and the old store is no place to write to */
        pthread_mutex_unlock(&t->lock);
        enum err e = held ? ERR_STOPPED : flush(t, requests != NULL || stop, &more);
        serve(t, requests, e);
    }
    return NULL;
}

static void store_kick(void *arg, bool urgent)
{
    struct threads *t = arg;
    pthread_mutex_lock(&t->lock);
    bool news = !t->kicked || (urgent && !t->urgent);
    t->kicked = true;
    t->urgent = t->urgent || urgent;
    if (news) {
        pthread_cond_signal(&t->cond);
    }
    pthread_mutex_unlock(&t->lock);
}

static void store_retry(void *arg)
{
    struct threads *t = arg;
    pthread_mutex_lock(&t->lock);
    t->retry = true;
    pthread_cond_signal(&t->cond);
    pthread_mutex_unlock(&t->lock);
}

static void store_request(void *arg, struct member_op *op)
{
    struct threads *t = arg;
    pthread_mutex_lock(&t->lock);
    op->list_next = t->requests;
    t->requests = op;
    pthread_cond_signal(&t->cond);
    pthread_mutex_unlock(&t->lock);
}

/* Member loop: what was put in place is in use. */
static void store_release(struct threads *t)
{
    pthread_mutex_lock(&t->lock);
    if (t->held) {
        t->held = false;
        pthread_cond_signal(&t->cond);
    }
    pthread_mutex_unlock(&t->lock);
}

/* --- the log thread ------------------------------------------------------------------------------------------- */

static void log_submit(void *arg, struct wal_request *r)
{
    struct threads *t = arg;
    enum err e = wal_writer_submit(t->writer, r);
    ASSERT(e == OK); /* MEMBER_LOG_INFLIGHT_MAX is below the writer's bound */
}

static void log_release(void *arg, uint64_t index)
{
    struct threads *t = arg;
    wal_writer_release(t->writer, index);
}

static void log_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    member_fail(arg, e, ec->text);
}

/* --- the member loop ------------------------------------------------------------------------------------------- */

static void *loop_main(void *arg)
{
    struct threads *t = arg;
    struct member *m = t->member;
    bool busy = false;
    while (!atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        uint64_t now_ms = clock_now_ms(m->cfg.clock);
        uint64_t wake_ms = member_wake_at_ms(m);
        if (!busy && wake_ms > now_ms) {
            struct timespec ts;
            clock_gettime(CLOCK_MONOTONIC, &ts);
            member_wait(m, (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec + (wake_ms - now_ms) * 1000000u);
        }
        bool was_installing = m->installing;
        busy = member_turn(m);
        if (was_installing && !m->installing) {
            store_release(t);
        }
    }
    member_last_turn(m);
    return NULL;
}

static void start_thread(pthread_t *thread, void *(*run)(void *arg), void *arg, const char *name)
{
    int rc = pthread_create(thread, NULL, run, arg);
    ASSERT(rc == 0);
    (void)pthread_setname_np(*thread, name);
}

void member_start(struct member *m)
{
    ASSERT(m->threads == NULL);
    struct threads *t = xcalloc(1, sizeof(*t));
    m->threads = t;
    t->member = m;
    pthread_mutex_init(&t->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&t->cond, &attr);
    pthread_condattr_destroy(&attr);
    t->kicked = true; /* an unfinished compaction may wait */
    struct wal_writer_config wc = {
        .wal = member_take_wal(m),
        .done = member_log_done,
        .failed = log_failed,
        .arg = m,
        .log = m->cfg.log,
        .write_seconds = metrics_histogram(m->cfg.metrics, "etcd_disk_wal_write_duration_seconds",
                                           "The latency distributions of write called by WAL.", NULL, 0.001, 2, 14),
        .written_bytes = metrics_gauge(m->cfg.metrics, "etcd_disk_wal_write_bytes_total", "Total number of bytes written in WAL.", NULL),
        .fsync_seconds = metrics_histogram(m->cfg.metrics, "etcd_disk_wal_fsync_duration_seconds",
                                           "The latency distributions of fsync called by WAL.", NULL, 0.001, 2, 14),
    };
    t->writer = wal_writer_start(&wc);
    const struct member_log log = {log_submit, log_release, t};
    const struct member_store store = {store_kick, store_request, store_retry, t};
    member_connect(m, &log, &store);
    start_thread(&t->store, store_main, t, "store");
    start_thread(&t->loop, loop_main, t, "member");
}

void member_stop(struct member *m)
{
    struct threads *t = m->threads;
    if (t == NULL) {
        return;
    }
    atomic_store_explicit(&m->stopping, true, memory_order_release);
    struct news *wake = xcalloc(1, sizeof(*wake));
    wake->head.kind = MEMBER_NEWS_COMPACTED;
    member_post(m, wake);
    pthread_join(t->loop, NULL);
    wal_writer_stop(&t->writer);
    if (!atomic_load(&m->failed)) {
        engine_log_durable(m->engine, UINT64_MAX); /* all that was submitted is */
    }
    pthread_mutex_lock(&t->lock);
    t->stopping = true;
    pthread_cond_signal(&t->cond);
    pthread_mutex_unlock(&t->lock);
    pthread_join(t->store, NULL);
    ASSERT(t->requests == NULL);
    pthread_cond_destroy(&t->cond);
    pthread_mutex_destroy(&t->lock);
    m->threads = NULL;
    free(t);
}
