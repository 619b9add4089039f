/* load.h - many connections that write keys, and how long that took them.
 *
 * What        Puts of random keys under a prefix: each connection has one put under way, and a pace
 *             may be kept. Counts, times and the texts of failures come back.
 * Callers     check.c.
 * Thread      one.
 * Invariants  It ends: after n_max puts or duration_ns, when `stop` can be read, or without a
 *             duration when many puts in a row have failed; and then after at most LOAD_PUT_MS for
 *             the puts under way.
 */
#ifndef TOOLS_PINTLECTL_LOAD_H
#define TOOLS_PINTLECTL_LOAD_H

#include "tools/pintlectl/ctl.h"

#define LOAD_CLIENTS_MAX 1000u
#define LOAD_PUT_MS 60000u    /* longest that one put may take; over: a failure */
#define LOAD_FAILURES_MAX 32u /* different texts; further ones count with the last */

struct load_plan {
    const char *prefix;
    size_t key_bytes, value_bytes; /* of the key without the prefix */
    uint32_t per_second;           /* 0: as fast as answers come */
    uint64_t n_max;                /* puts */
    uint64_t duration_ns;          /* 0: until n_max */
    int stop;                      /* a descriptor */
};

struct load_failure {
    char text[FAILURE_TEXT_MAX];
    uint64_t n;
};

struct load_result {
    uint64_t n_done; /* puts that succeeded; the times are theirs */
    double total_s, slowest_s, deviation_s;
    struct load_failure failures[LOAD_FAILURES_MAX];
    size_t n_failures;
};

struct load;

/* Connect and log in, connection i beginning at endpoint i. Ends the program when logging in fails.
 * `options` is borrowed until load_destroy. */
struct load *load_create(const struct conn_options *options, size_t n_clients, struct arena *arena);
void load_destroy(struct load **l);
/* Carry a plan out; how far it is shows on a terminal. */
void load_run(struct load *l, const struct load_plan *plan, struct load_result *out);

#endif
