/* writer.c - see writer.h.
 *
 * The thread takes everything that is queued, writes it as one batch (or several, when it is more
 * than WAL_WRITER_BATCH_BYTES_MAX), and looks again. Only when nothing is queued does it spend a
 * bounded step on wal_prepare, and only when that wants nothing does it sleep; so it is woken once
 * per idle spell.
 */
#include "wal/writer.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

enum { KIND_REQUEST, KIND_RELEASE, KIND_STOP };

struct release {
    struct wal_request request; /* kind RELEASE; only its node is used */
    uint64_t index;
};

struct wal_writer {
    struct wal_writer_config cfg;
    struct queue queue; /* struct wal_request; any thread to the log thread; full: ERR_BUSY */
    pthread_t thread;
    struct wal_request stop;
    /* Log thread only. */
    bool stopping;
    bool failed;
    struct wal_entry *entries; /* owned; the batch being gathered */
    struct wal_position *positions;
    size_t cap;
};

/* A run of requests that become one batch. */
struct gathered {
    struct wal_request *first;
    struct wal_request *last;
    size_t n_requests;
    struct wal_batch batch;
    uint64_t bytes;
};

static struct wal_request *request_of(struct qnode *node)
{
    return node == NULL ? NULL : CONTAINER_OF(node, struct wal_request, node);
}

static uint64_t request_bytes(const struct wal_request *r)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < r->n_entries; i++) {
        bytes +=
            sizeof(struct wal_entry) + (r->entries[i].data == NULL ? 0 : r->entries[i].data->len);
    }
    return bytes;
}

static void fail_for_good(struct wal_writer *w, enum err e, const struct err_ctx *ec)
{
    w->failed = true;
    w->cfg.failed(w->cfg.arg, e, ec);
}

/* Add `r` to the batch. */
static void gather(struct wal_writer *w, struct gathered *g, struct wal_request *r, uint64_t bytes)
{
    size_t n = g->batch.n_entries + r->n_entries;
    if (n > w->cap) {
        size_t cap = w->cap * 2 > n ? w->cap * 2 : n;
        w->entries = xrealloc(w->entries, cap * sizeof *w->entries);
        w->positions = xrealloc(w->positions, cap * sizeof *w->positions);
        w->cap = cap;
    }
    if (r->n_entries > 0) {
        memcpy(w->entries + g->batch.n_entries, r->entries, r->n_entries * sizeof *r->entries);
    }
    g->batch.n_entries = n;
    g->bytes += bytes;
    if (r->has_hard_state) { /* of several, the last is what holds after the batch */
        g->batch.has_hard_state = true;
        g->batch.hard_state = r->hard_state;
    }
    g->batch.restart_at = r->restart_at != 0 ? r->restart_at : g->batch.restart_at;
    if (g->n_requests == 0) {
        g->first = r;
    } else {
        g->last->node.next = &r->node;
    }
    g->last = r;
    g->n_requests++;
}

/* Take requests off the front of *list as long as they fit in one batch. A restart begins a
 * batch. */
static struct gathered gather_batch(struct wal_writer *w, struct wal_request **list)
{
    struct gathered g = {0};
    while (*list != NULL && (*list)->kind == KIND_REQUEST) {
        struct wal_request *r = *list;
        uint64_t bytes = request_bytes(r);
        if (g.n_requests > 0 &&
            (g.bytes + bytes > WAL_WRITER_BATCH_BYTES_MAX || r->restart_at != 0)) {
            break;
        }
        *list = request_of(r->node.next);
        gather(w, &g, r, bytes);
    }
    g.batch.entries = w->entries;
    g.batch.positions = w->positions;
    return g;
}

/* Tell each request where the log ended behind it. */
static void set_positions(const struct wal_writer *w, const struct gathered *g,
                          struct wal_position before)
{
    struct wal_position last = before;
    size_t n = 0;
    struct wal_request *r = g->first;
    for (size_t i = 0; i < g->n_requests; i++) {
        if (r->restart_at != 0) {
            last = (struct wal_position){r->restart_at - 1, 0, 0};
        }
        n += r->n_entries;
        if (r->n_entries > 0) {
            last = w->positions[n - 1];
        }
        r->last = last;
        r = request_of(r->node.next);
    }
}

static void measure(const struct wal_writer *w, uint64_t took_ns)
{
    struct wal_stats s = wal_stats(w->cfg.wal);
    if (w->cfg.fsync_seconds != NULL && s.last_sync_ns > 0) {
        histogram_observe_ns(w->cfg.fsync_seconds, s.last_sync_ns);
    }
    if (w->cfg.write_seconds != NULL) {
        histogram_observe_ns(w->cfg.write_seconds, took_ns > s.last_sync_ns ? took_ns - s.last_sync_ns : 0);
    }
    if (w->cfg.written_bytes != NULL) {
        gauge_set(w->cfg.written_bytes, (double)s.written_bytes);
    }
    if (s.last_sync_ns > WAL_WRITER_SLOW_SYNC_NS) {
        log_warn(w->cfg.log, "slow fdatasync", F_NS("took", s.last_sync_ns), F_NS("expected-duration", WAL_WRITER_SLOW_SYNC_NS));
    }
}

static void write_batch(struct wal_writer *w, struct gathered *g)
{
    struct err_ctx ec;
    struct wal_position before = wal_last(w->cfg.wal);
    g->last->node.next = NULL;
    uint64_t began_ns = clock_now_ns(clock_real());
    enum err e = wal_append(w->cfg.wal, &g->batch, NULL, &ec);
    if (e != OK) {
        fail_for_good(w, e, &ec);
        return;
    }
    set_positions(w, g, before);
    measure(w, clock_now_ns(clock_real()) - began_ns);
    w->cfg.done(w->cfg.arg, g->first, g->last, g->n_requests);
}

static void release(struct wal_writer *w, struct wal_request *r)
{
    struct release *release = CONTAINER_OF(r, struct release, request);
    struct err_ctx ec;
    if (!w->failed) {
        enum err e = wal_release(w->cfg.wal, release->index, &ec);
        if (e != OK) {
            fail_for_good(w, e, &ec);
        }
    }
    free(release);
}

/* Work off what was queued, in order. */
static void serve(struct wal_writer *w, struct wal_request *list)
{
    while (list != NULL) {
        if (list->kind == KIND_REQUEST) {
            struct gathered g = gather_batch(w, &list);
            if (!w->failed) {
                write_batch(w, &g);
            }
            continue;
        }
        struct wal_request *r = list;
        list = request_of(r->node.next);
        if (r->kind == KIND_STOP) {
            w->stopping = true;
        } else {
            release(w, r);
        }
    }
}

/* One step of work ahead. Having no room for it is no failure: the log tries again behind its
 * next append. */
static void prepare(struct wal_writer *w)
{
    struct err_ctx ec;
    enum err e = wal_prepare(w->cfg.wal, &ec);
    if (e != OK && e != ERR_NO_DISK) {
        fail_for_good(w, e, &ec);
    }
}

static void *run(void *arg)
{
    struct wal_writer *w = arg;
    while (!w->stopping) {
        bool idle_work = !w->failed && wal_prepare_wanted(w->cfg.wal);
        struct qnode *first =
            idle_work ? queue_take_all(&w->queue) : queue_wait_all(&w->queue, UINT64_MAX);
        if (first != NULL) {
            serve(w, request_of(first));
        } else if (idle_work) {
            prepare(w);
        }
    }
    return NULL;
}

struct wal_writer *wal_writer_start(const struct wal_writer_config *cfg)
{
    struct wal_writer *w = xcalloc(1, sizeof *w);
    w->cfg = *cfg;
    w->stop.kind = KIND_STOP;
    queue_init(&w->queue, WAL_WRITER_QUEUE_MAX, NULL, NULL);
    int rc = pthread_create(&w->thread, NULL, run, w);
    ASSERT(rc == 0);
    (void)pthread_setname_np(w->thread, "log"); /* for the eyes of whoever looks with top */
    return w;
}

enum err wal_writer_submit(struct wal_writer *w, struct wal_request *r)
{
    r->kind = KIND_REQUEST;
    return queue_push(&w->queue, &r->node);
}

void wal_writer_release(struct wal_writer *w, uint64_t index)
{
    struct release *r = xcalloc(1, sizeof *r);
    r->request.kind = KIND_RELEASE;
    r->index = index;
    if (queue_push(&w->queue, &r->request.node) != OK) {
        free(r);
    }
}

void wal_writer_stop(struct wal_writer **writer)
{
    struct wal_writer *w = *writer;
    if (w == NULL) {
        return;
    }
    queue_push_list(&w->queue, &w->stop.node, &w->stop.node, 1);
    (void)pthread_join(w->thread, NULL);
    wal_close(&w->cfg.wal);
    queue_deinit(&w->queue);
    free(w->entries);
    free(w->positions);
    free(w);
    *writer = NULL;
}
