/* step.h - a member without threads: for whoever plays the log, the store and the clock.
 *
 * What        The member as a thing that is moved on by calls. threads.c runs it in the server with a loop, a log thread and
 *             a store thread; tests/sim runs many of them in one thread, on simulated disks and networks.
 * Callers     raft/member/threads.c, tests/sim.
 * Thread      member_turn on one thread at a time. A log and a store may finish their work on other threads: what they call says so.
 *
 *     member_open -> member_connect(log, store) -> member_turn ... member_turn -> member_close
 */
#ifndef RAFT_MEMBER_STEP_H
#define RAFT_MEMBER_STEP_H

#include "raft/member/member.h"
#include "wal/writer.h"

/* The log, as the member sees it. Called on the member loop; must only hand on. */
struct member_log {
    /* Make it durable, in order with all others; then member_log_done. The memory is lent until then. */
    void (*submit)(void *arg, struct wal_request *r);
    void (*release)(void *arg, uint64_t index); /* wal_release, behind what was submitted before */
    void *arg;
};

/* The store, as the member sees it. Called on the member loop; must only hand on. */
struct member_store {
    /* Something is pending: member_store_flush within ENGINE_FLUSH_MS, or at once when `urgent`. */
    void (*kick)(void *arg, bool urgent);
    /* member_store_serve with this op, soon, behind a flush. FLUSH, DEFRAG and INSTALL come here. Behind an INSTALL nothing is served until the member has
     * taken what was put in place into use. */
    void (*request)(void *arg, struct member_op *op);
    /* The log holds more: a flush that answered ERR_BUSY may be tried again. */
    void (*retry)(void *arg);
    void *arg;
};

/* The tables are copied. Once, before the first turn. */
void member_connect(struct member *m, const struct member_log *log, const struct member_store *store);
/* The open log, for whoever plays the log thread; the caller's from now on. */
struct wal *member_take_wal(struct member *m);

/* Take what was submitted, tick when it is due, do what raft says, hand answers on. true: there is more to do at once. */
bool member_turn(struct member *m);
/* When the next turn is due although nothing was submitted (member's clock). */
uint64_t member_wake_at_ms(const struct member *m);
/* Wait for something in the inbox, or for `deadline_ns` (CLOCK_MONOTONIC); for the thread that runs the turns. */
void member_wait(struct member *m, uint64_t deadline_ns);
/* Refuse new ops, answer all that wait with ERR_STOPPED. The last turn. */
void member_last_turn(struct member *m);

/* n requests, oldest first, linked by node.next, are durable. [log's thread] */
void member_log_done(void *member, struct wal_request *first, struct wal_request *last, size_t n);
/* One flush of what is pending; *more: again after COMPACTION_PAUSE_MS. ERR_BUSY: something was applied that the own log does not hold yet; a
 * retry comes when it holds more. Another error has been reported to the owner. [store's thread] */
enum err member_store_flush(struct member *m, bool force, bool *more);
/* Do what `op` asks (after a flush, with its result, which is not ERR_BUSY) and answer it. [store's thread] */
void member_store_serve(struct member *m, struct member_op *op, enum err flushed);

#endif
