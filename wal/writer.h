/* writer.h - the log thread: group commit.
 *
 * What        A thread that owns a struct wal. Whatever was submitted while one fdatasync ran
 *             becomes the next batch: one write, one sync for all of it. A single request never
 *             waits for a timer.
 * Callers     raft/member submits and gets completions.
 * Thread      submit and release from any thread; `done` and `failed` run on the log thread and
 *             must only hand the news on (queue_push_list).
 * Bound       WAL_WRITER_BATCH_BYTES_MAX per sync; what is over waits one turn. The queue is
 *             bounded by what raft lets be in flight.
 */
#ifndef WAL_WRITER_H
#define WAL_WRITER_H

#include "base/log.h"
#include "base/metrics.h"
#include "base/queue.h"
#include "wal/wal.h"

#define WAL_WRITER_BATCH_BYTES_MAX (8u * 1024u * 1024u)
#define WAL_WRITER_QUEUE_MAX 65536u
#define WAL_WRITER_SLOW_SYNC_NS 1000000000u /* a sync that takes longer is told in the log, as etcd does */

struct wal_writer; /* opaque */

/* One submission. The submitter owns the memory and gets it back through `done`, in order. */
struct wal_request {
    struct qnode node;
    uint8_t kind; /* the writer's own */
    bool has_hard_state;
    struct wal_hard_state hard_state;
    uint64_t restart_at;       /* as in struct wal_batch; 0 nearly always */
    struct wal_entry *entries; /* bufs must stay referenced until done */
    size_t n_entries;
    struct wal_position last; /* set before done: the log's last entry after this request */
};

struct wal_writer_config {
    struct wal *wal; /* taken: closed by wal_writer_stop */
    /* A list of n requests, oldest first, linked by node.next, all durable now. */
    void (*done)(void *arg, struct wal_request *first, struct wal_request *last, size_t n);
    /* The log failed for good; no done follows. Called once. */
    void (*failed)(void *arg, enum err e, const struct err_ctx *ec);
    void *arg;
    struct logger *log;              /* may be NULL */
    struct histogram *fsync_seconds; /* may be NULL */
    struct histogram *write_seconds; /* of a batch without its sync; may be NULL */
    struct gauge *written_bytes;     /* to the log so far; may be NULL */
};

struct wal_writer *wal_writer_start(const struct wal_writer_config *cfg);

/* ERR_BUSY when the queue is full. After a failure of the log requests are taken and never done:
 * their memory is the submitter's again after wal_writer_stop. */
MUST_CHECK enum err wal_writer_submit(struct wal_writer *w, struct wal_request *r);

/* wal_release(index), soon, on the log thread, behind what was submitted before. When the queue
 * is full nothing happens: a later release makes up for it. */
void wal_writer_release(struct wal_writer *w, uint64_t index);

/* Write what was submitted, stop the thread, close the log. Requests that could not be written are
 * not reported again. */
void wal_writer_stop(struct wal_writer **w);

#endif
