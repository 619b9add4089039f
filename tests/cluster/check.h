/* check.h - judges a history of clients and watchers.
 *
 * What        Three independent judges. The first leans on revisions, which order every write:
 *             they are unique, grow in real time, and each read shows exactly the newest write not
 *             younger than its reply's revision. The second does not believe revisions: it
 * searches, key by key, for an order of the operations that a single register could have produced
 * (Wing and Gong's search with Lowe's memory of visited states). The third compares the watchers'
 * events with the writes and with each other. Callers     tests/cluster/checker, test_check.c.
 * Thread      one.
 * Source      Wing, Gong: Testing and verifying concurrent objects (1993); Lowe: Testing for
 *             linearizability (2017); etcd.io, KV API guarantees.
 */
#ifndef TESTS_CLUSTER_CHECK_H
#define TESTS_CLUSTER_CHECK_H

#include "tests/cluster/history.h"

/* Keys from here on hang on leases: their deletion is nobody's operation, so that only the order of
 * their events and the lease records are judged. */
#define LEASE_KEYS_FROM 1000000u

#define CHECK_PRINT_MAX 20u       /* violations printed; all are counted */
#define SEARCH_STATES_MAX 500000u /* of one key; over: undecided, which is counted and shown */

#define VIOLATION_LIST(X)                                                                          \
    X(SHARED_REVISION, "two writes were acknowledged with one revision")                           \
    X(BACK_IN_TIME, "a revision older than one seen before the operation began")                   \
    X(WRONG_READ, "not the newest write at the reply's revision")                                  \
    X(WRONG_COMPARE, "a comparison was decided against the key's state")                           \
    X(UNKNOWN_VALUE, "a value that nobody wrote, or whose write was refused")                      \
    X(APPLIED_TWICE, "one write was applied twice")                                                \
    X(TORN_TXN, "one half of a transaction")                                                       \
    X(MISSING_EVENT, "a watcher did not get an event")                                             \
    X(DOUBLE_EVENT, "a watcher got an event twice")                                                \
    X(REORDERED_EVENT, "a watcher got an event after a younger one")                               \
    X(DIFFERENT_EVENT, "an event differs from the write or from another watcher's event")          \
    X(EVENT_OUT_OF_RANGE, "an event before the watch's first revision or after its end")           \
    X(NO_ORDER, "no order of the operations explains the results")                                 \
    X(LEASE_BROKEN, "a key left before its lease ended, or stayed on after")

enum violation {
#define VIOLATION_ENUM(name, text) name,
    VIOLATION_LIST(VIOLATION_ENUM)
#undef VIOLATION_ENUM
        VIOLATIONS
};

struct check_report {
    FILE *out; /* where violations are told; NULL: nowhere */
    size_t found[VIOLATIONS];
    size_t n_found;
    size_t n_undecided; /* keys whose search was given up */
    size_t n_writes;    /* in the log that was reconstructed */
    size_t n_reads;
};

void check_violated(struct check_report *r, enum violation v, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* One write as reconstructed from acknowledgements, events and reads. */
struct log_entry {
    uint32_t key;
    int64_t rev;
    uint64_t value;      /* 0: deleted */
    const struct op *op; /* NULL when unknown which: a deletion seen as an event only */
};

struct key_log {
    struct log_entry *entries; /* by key, then revision; owned */
    size_t n;
};

/* The newest entry of `key` not younger than `rev`; NULL when there is none. */
const struct log_entry *log_at(const struct key_log *log, uint32_t key, int64_t rev);

/* All judges. Fills `report` from nothing but `out`. */
void check_history(const struct history *h, struct check_report *report);

/* The single judges; `log` from check_log. */
void check_log(const struct history *h, struct key_log *log, struct check_report *report);
void check_revisions(const struct history *h, const struct key_log *log,
                     struct check_report *report);
void check_search(const struct history *h, const struct key_log *log, struct check_report *report);
void check_events(const struct history *h, const struct key_log *log, struct check_report *report);
void check_leases(const struct history *h, struct check_report *report);

#endif
