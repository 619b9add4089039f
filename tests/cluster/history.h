/* history.h - what clients saw of a cluster, as the workload writes it and the checker reads it.
 *
 * What        Operations with the times of their invocation and return, the events of every
 *             watcher, and reads of keys that hang on a lease. A text file, one record a line, so
 *             that histories for tests are written by hand and violations are read by people.
 * Callers     the workload (history_print_*), the checker (history_read).
 * Thread      values; a struct history belongs to its owner.
 * Format      op KIND CLIENT KEY KEY2 INVOKE RETURN RESULT REV VALUE EXPECT SEEN_MOD SEEN_VALUE
 * DONE watch ID MEMBER START END ev WATCHER REV TYPE KEY VALUE lease CLIENT KEY INVOKE RETURN
 * PRESENT EXPECT Times are nanoseconds of one monotonic clock. Keys are numbers; values are
 * numbers, unique among all writes of a history; 0 is "absent". '#' begins a comment.
 */
#ifndef TESTS_CLUSTER_HISTORY_H
#define TESTS_CLUSTER_HISTORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"

#define HISTORY_RECORDS_MAX 4000000u /* of one kind in a file */

enum op_kind {
    OP_PUT = 'p',
    OP_PAIR = 't', /* one txn that puts `value` at key and key2 */
    OP_CAS = 'c',  /* one txn: when key's mod revision is `expect`, put `value`, else read */
    OP_DELETE = 'd',
    OP_READ = 'g',  /* linearizable */
    OP_STALE = 's', /* serializable: may be old, never wrong */
};

enum op_result {
    RESULT_OK = 'o',
    RESULT_FAILED = 'f',  /* refused: it did not happen and never will */
    RESULT_UNKNOWN = 'u', /* may have happened, or still happen later */
};

struct op {
    enum op_kind kind;
    enum op_result result;
    uint32_t client;
    uint32_t key;
    uint32_t key2; /* OP_PAIR */
    uint64_t invoke_ns;
    uint64_t return_ns;
    int64_t rev;         /* the reply's header revision, when OK */
    uint64_t value;      /* written */
    int64_t expect;      /* OP_CAS */
    int64_t seen_mod;    /* reads and failed comparisons: the mod revision found, 0 for absent */
    uint64_t seen_value; /* and the value */
    bool done;           /* OP_CAS: the comparison held; OP_DELETE: there was something to delete */
};

#define OPEN_END INT64_MAX /* a watcher that did not get to the end */

/* A watcher of the whole prefix on one member, resumed after each break. */
struct watch_run {
    uint32_t id;
    uint32_t member;
    int64_t start; /* first revision it was to see */
    int64_t end;   /* last one, inclusive; OPEN_END when it was cut off: nothing is demanded */
};

struct watch_event {
    uint32_t watcher;
    int64_t rev;
    char type; /* 'p' or 'd' */
    uint32_t key;
    uint64_t value;
};

enum lease_expect { LEASE_GONE = 0, LEASE_THERE = 1, LEASE_EITHER = 2 };

struct lease_read {
    uint32_t client;
    uint32_t key;
    uint64_t invoke_ns;
    uint64_t return_ns;
    bool present;
    enum lease_expect expect;
};

struct history {
    struct op *ops; /* owned, as all of these */
    size_t n_ops;
    struct watch_run *watches;
    size_t n_watches;
    struct watch_event *events; /* of one watcher: in the order in which they came */
    size_t n_events;
    struct lease_read *leases;
    size_t n_leases;
};

void history_print_op(FILE *f, const struct op *op);
void history_print_watch(FILE *f, const struct watch_run *w);
void history_print_event(FILE *f, const struct watch_event *e);
void history_print_lease(FILE *f, const struct lease_read *l);

/* Read a whole file, to its end. ERR_INVALID names the line. On failure `out` is empty. */
MUST_CHECK enum err history_read(FILE *f, struct history *out, struct err_ctx *ec);
void history_deinit(struct history *h);

#endif
