/* check.c - the log of writes, and the judge that leans on revisions. */
#include "tests/cluster/check.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

void check_violated(struct check_report *r, enum violation v, const char *fmt, ...)
{
    static const char *const texts[] = {
#define VIOLATION_TEXT(name, text) text,
        VIOLATION_LIST(VIOLATION_TEXT)
#undef VIOLATION_TEXT
    };
    r->found[v]++;
    r->n_found++;
    if (r->out == NULL || r->n_found > CHECK_PRINT_MAX) {
        return;
    }
    va_list args;
    va_start(args, fmt);
    (void)fprintf(r->out, "VIOLATION %s: ", texts[v]);
    (void)vfprintf(r->out, fmt, args);
    (void)fputc('\n', r->out);
    va_end(args);
}

static bool is_read(const struct op *o)
{
    return o->kind == OP_READ || o->kind == OP_STALE;
}

/* An acknowledged operation that changed something. */
static bool wrote(const struct op *o)
{
    if (o->result != RESULT_OK || is_read(o)) {
        return false;
    }
    return o->kind == OP_PUT || o->kind == OP_PAIR || o->done;
}

/* ---- the log ---- */

/* Writes by value, to find who wrote what was seen. */
struct value_index {
    const struct op **ops; /* by value; owned */
    size_t n;
};

static int by_value(const void *a, const void *b)
{
    const struct op *x = *(const struct op *const *)a;
    const struct op *y = *(const struct op *const *)b;
    return (x->value > y->value) - (x->value < y->value);
}

static void index_values(const struct history *h, struct value_index *index)
{
    index->ops = xcalloc(h->n_ops + 1, sizeof(struct op *));
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *o = &h->ops[i];
        if (o->kind == OP_PUT || o->kind == OP_PAIR || o->kind == OP_CAS) {
            index->ops[index->n++] = o;
        }
    }
    qsort(index->ops, index->n, sizeof(struct op *), by_value);
}

static const struct op *find_value(const struct value_index *index, uint64_t value)
{
    struct op probe = {.value = value};
    const struct op *p = &probe;
    const struct op **at = bsearch(&p, index->ops, index->n, sizeof(struct op *), by_value);
    return at == NULL ? NULL : *at;
}

static int by_key_rev(const void *a, const void *b)
{
    const struct log_entry *x = a;
    const struct log_entry *y = b;
    if (x->key != y->key) {
        return x->key < y->key ? -1 : 1;
    }
    if (x->rev != y->rev) {
        return x->rev < y->rev ? -1 : 1;
    }
    /* The one that knows its operation first, so that it stays when the same was seen twice. */
    return (x->op == NULL) - (y->op == NULL);
}

/* Someone saw `value` at `key` with mod revision `rev`: there must have been such a write. */
static void add_seen(struct key_log *log, const struct value_index *values, uint32_t key,
                     int64_t rev, uint64_t value, struct check_report *report)
{
    const struct op *o = find_value(values, value);
    bool cannot = o == NULL || o->result == RESULT_FAILED ||
                  (o->key != key && (o->kind != OP_PAIR || o->key2 != key)) ||
                  (o->kind == OP_CAS && o->result == RESULT_OK && !o->done);
    if (cannot) {
        check_violated(report, UNKNOWN_VALUE, "key %" PRIu32 " value %" PRIu64 " revision %" PRId64,
                       key, value, rev);
        return;
    }
    log->entries[log->n++] = (struct log_entry){key, rev, value, o};
}

static void add_all(const struct history *h, const struct value_index *values, struct key_log *log,
                    struct check_report *report)
{
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *o = &h->ops[i];
        if (wrote(o)) {
            uint64_t value = o->kind == OP_DELETE ? 0 : o->value;
            log->entries[log->n++] = (struct log_entry){o->key, o->rev, value, o};
            if (o->kind == OP_PAIR) {
                log->entries[log->n++] = (struct log_entry){o->key2, o->rev, value, o};
            }
        } else if (o->result == RESULT_OK && o->seen_mod > 0) {
            add_seen(log, values, o->key, o->seen_mod, o->seen_value, report);
        }
    }
    for (size_t i = 0; i < h->n_events; i++) {
        const struct watch_event *e = &h->events[i];
        if (e->key >= LEASE_KEYS_FROM) {
            continue;
        }
        if (e->type == 'p') {
            add_seen(log, values, e->key, e->rev, e->value, report);
        } else {
            log->entries[log->n++] = (struct log_entry){e->key, e->rev, 0, NULL};
        }
    }
}

static int by_op_rev(const void *a, const void *b)
{
    const struct log_entry *x = a;
    const struct log_entry *y = b;
    if (x->op != y->op) {
        return (uintptr_t)x->op < (uintptr_t)y->op ? -1 : 1;
    }
    return (x->rev > y->rev) - (x->rev < y->rev);
}

/* A watcher that reached the end tells the fate of every deletion. */
static bool fully_watched(const struct history *h)
{
    for (size_t i = 0; i < h->n_watches; i++) {
        if (h->watches[i].end != OPEN_END) {
            return true;
        }
    }
    return false;
}

/* One operation has one revision, and a pair has both halves. */
static void check_once(const struct history *h, const struct key_log *log,
                       struct check_report *report)
{
    struct log_entry *sorted = xcalloc(log->n + 1, sizeof(*sorted));
    if (log->n > 0) {
        memcpy(sorted, log->entries, log->n * sizeof(*sorted));
    }
    qsort(sorted, log->n, sizeof(*sorted), by_op_rev);
    for (size_t i = 1; i < log->n; i++) {
        const struct log_entry *a = &sorted[i - 1];
        const struct log_entry *b = &sorted[i];
        if (a->op != NULL && a->op == b->op && a->rev != b->rev) {
            check_violated(report, APPLIED_TWICE,
                           "client %" PRIu32 " value %" PRIu64 " at revisions %" PRId64
                           " and %" PRId64,
                           a->op->client, a->op->value, a->rev, b->rev);
        }
    }
    free(sorted);
    bool watched = fully_watched(h);
    for (size_t i = 0; i < log->n && watched; i++) {
        const struct log_entry *e = &log->entries[i];
        if (e->op == NULL || e->op->kind != OP_PAIR) {
            continue;
        }
        uint32_t other = e->key == e->op->key ? e->op->key2 : e->op->key;
        const struct log_entry *half = log_at(log, other, e->rev);
        if (half == NULL || half->rev != e->rev || half->op != e->op) {
            check_violated(report, TORN_TXN, "value %" PRIu64 " at revision %" PRId64, e->value,
                           e->rev);
        }
    }
}

/* Drop what was seen more than once; two things in one place are a violation. */
static void unify(struct key_log *log, struct check_report *report)
{
    size_t kept = 0;
    for (size_t i = 0; i < log->n; i++) {
        const struct log_entry *e = &log->entries[i];
        const struct log_entry *last = kept > 0 ? &log->entries[kept - 1] : NULL;
        if (last == NULL || last->key != e->key || last->rev != e->rev) {
            log->entries[kept++] = *e;
            continue;
        }
        if (last->op != NULL && e->op != NULL && last->op != e->op) {
            check_violated(report, SHARED_REVISION,
                           "key %" PRIu32 " revision %" PRId64 ": values %" PRIu64 " and %" PRIu64,
                           e->key, e->rev, last->value, e->value);
        } else if (last->value != e->value) {
            check_violated(report, DIFFERENT_EVENT,
                           "key %" PRIu32 " revision %" PRId64 ": values %" PRIu64 " and %" PRIu64,
                           e->key, e->rev, last->value, e->value);
        }
    }
    log->n = kept;
}

void check_log(const struct history *h, struct key_log *log, struct check_report *report)
{
    struct value_index values = {0};
    index_values(h, &values);
    *log = (struct key_log){xcalloc(h->n_ops * 2 + h->n_events + 1, sizeof(*log->entries)), 0};
    add_all(h, &values, log, report);
    qsort(log->entries, log->n, sizeof(*log->entries), by_key_rev);
    unify(log, report);
    check_once(h, log, report);
    report->n_writes = log->n;
    free(values.ops);
}

const struct log_entry *log_at(const struct key_log *log, uint32_t key, int64_t rev)
{
    size_t low = 0;
    size_t high = log->n; /* the first entry past (key, rev) lies in [low, high] */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct log_entry *e = &log->entries[middle];
        if (e->key < key || (e->key == key && e->rev <= rev)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low > 0 && log->entries[low - 1].key == key ? &log->entries[low - 1] : NULL;
}

/* ---- revisions ---- */

static int by_rev(const void *a, const void *b)
{
    const struct op *x = *(const struct op *const *)a;
    const struct op *y = *(const struct op *const *)b;
    return (x->rev > y->rev) - (x->rev < y->rev);
}

static void check_unique(const struct history *h, struct check_report *report)
{
    const struct op **writes = xcalloc(h->n_ops + 1, sizeof(struct op *));
    size_t n = 0;
    for (size_t i = 0; i < h->n_ops; i++) {
        if (wrote(&h->ops[i])) {
            writes[n++] = &h->ops[i];
        }
    }
    qsort(writes, n, sizeof(struct op *), by_rev);
    for (size_t i = 1; i < n; i++) {
        if (writes[i]->rev == writes[i - 1]->rev) {
            check_violated(report, SHARED_REVISION,
                           "revision %" PRId64 ": client %" PRIu32 " key %" PRIu32
                           " and client %" PRIu32 " key %" PRIu32,
                           writes[i]->rev, writes[i - 1]->client, writes[i - 1]->key,
                           writes[i]->client, writes[i]->key);
        }
    }
    free(writes);
}

/* A moment at which a revision was known to somebody. */
struct moment {
    uint64_t at_ns;
    bool begins; /* an operation begins, otherwise one ends */
    int64_t rev;
    bool writes; /* its revision must be past everything known; a read's may be the newest */
    const struct op *op;
};

static int by_time(const void *a, const void *b)
{
    const struct moment *x = a;
    const struct moment *y = b;
    if (x->at_ns != y->at_ns) {
        return x->at_ns < y->at_ns ? -1 : 1;
    }
    /* At one moment, beginnings first: then the two overlap, which demands less. */
    return (int)y->begins - (int)x->begins;
}

/* What is known when an operation begins bounds its revision from below. A serializable read is
 * not bound itself, but what it showed was committed, so it binds what begins after it. */
static void check_real_time(const struct history *h, const struct key_log *log,
                            struct check_report *report)
{
    struct moment *moments = xcalloc(h->n_ops * 2 + log->n + 1, sizeof(*moments));
    size_t n = 0;
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *o = &h->ops[i];
        if (o->result != RESULT_OK) {
            continue;
        }
        moments[n++] = (struct moment){o->return_ns, false, o->rev, false, o};
        if (o->kind != OP_STALE) {
            moments[n++] = (struct moment){o->invoke_ns, true, o->rev, wrote(o), o};
        }
    }
    /* Writes without an answer that turned out to have happened. */
    for (size_t i = 0; i < log->n; i++) {
        const struct log_entry *e = &log->entries[i];
        if (e->op != NULL && e->op->result == RESULT_UNKNOWN) {
            moments[n++] = (struct moment){e->op->invoke_ns, true, e->rev, true, e->op};
        }
    }
    qsort(moments, n, sizeof(*moments), by_time);
    int64_t known = 0;
    const struct op *knower = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct moment *m = &moments[i];
        if (!m->begins) {
            if (m->rev > known) {
                known = m->rev;
                knower = m->op;
            }
        } else if (m->rev < known + (m->writes ? 1 : 0)) {
            check_violated(report, BACK_IN_TIME,
                           "client %" PRIu32 " %c key %" PRIu32 " has revision %" PRId64
                           ", client %" PRIu32 " %c key %" PRIu32 " had %" PRId64 " %" PRIu64
                           " us before it began",
                           m->op->client, (char)m->op->kind, m->op->key, m->rev, knower->client,
                           (char)knower->kind, knower->key, known,
                           (m->op->invoke_ns - knower->return_ns) / 1000);
        }
    }
    free(moments);
}

/* The key's state at `rev` must be (mod, value). */
static void check_state(const struct op *o, const struct key_log *log, int64_t rev, int64_t mod,
                        uint64_t value, enum violation v, struct check_report *report)
{
    const struct log_entry *e = log_at(log, o->key, rev);
    int64_t want_mod = e == NULL || e->value == 0 ? 0 : e->rev;
    uint64_t want_value = e == NULL ? 0 : e->value;
    if (want_mod != mod || want_value != value) {
        check_violated(report, v,
                       "client %" PRIu32 " %c key %" PRIu32 " at revision %" PRId64
                       ": mod revision %" PRId64 " value %" PRIu64 ", but it was %" PRId64
                       " value %" PRIu64,
                       o->client, (char)o->kind, o->key, rev, mod, value, want_mod, want_value);
    }
}

/* Whether the key exists at `rev`. */
static bool exists(const struct key_log *log, uint32_t key, int64_t rev)
{
    const struct log_entry *e = log_at(log, key, rev);
    return e != NULL && e->value != 0;
}

/* Keys with a deletion that nobody knows the fate of, where no watcher tells either: absence and
 * comparisons prove nothing about them. */
static bool is_vague(const struct history *h, uint32_t key)
{
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *o = &h->ops[i];
        if (o->kind == OP_DELETE && o->result == RESULT_UNKNOWN && o->key == key) {
            return true;
        }
    }
    return false;
}

static void check_op_state(const struct op *o, const struct key_log *log,
                           struct check_report *report)
{
    switch (o->kind) {
    case OP_READ:
    case OP_STALE:
        report->n_reads++;
        check_state(o, log, o->rev, o->seen_mod, o->seen_value, WRONG_READ, report);
        break;
    case OP_CAS: {
        const struct log_entry *e = log_at(log, o->key, o->done ? o->rev - 1 : o->rev);
        int64_t mod = e == NULL || e->value == 0 ? 0 : e->rev;
        if ((mod == o->expect) != o->done) {
            check_violated(report, WRONG_COMPARE,
                           "client %" PRIu32 " key %" PRIu32 " revision %" PRId64
                           ": expected mod revision %" PRId64 ", it was %" PRId64,
                           o->client, o->key, o->rev, o->expect, mod);
        }
        if (!o->done) {
            check_state(o, log, o->rev, o->seen_mod, o->seen_value, WRONG_READ, report);
        }
        break;
    }
    case OP_DELETE:
        if (o->done != exists(log, o->key, o->done ? o->rev - 1 : o->rev)) {
            check_violated(report, WRONG_COMPARE,
                           "client %" PRIu32 " key %" PRIu32 " revision %" PRId64 ": %s deleted",
                           o->client, o->key, o->rev, o->done ? "something was" : "nothing was");
        }
        break;
    case OP_PUT:
    case OP_PAIR:
        break;
    }
}

void check_revisions(const struct history *h, const struct key_log *log,
                     struct check_report *report)
{
    check_unique(h, report);
    check_real_time(h, log, report);
    bool watched = fully_watched(h);
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *o = &h->ops[i];
        if (o->result == RESULT_OK && (watched || !is_vague(h, o->key))) {
            check_op_state(o, log, report);
        }
    }
}

void check_leases(const struct history *h, struct check_report *report)
{
    for (size_t i = 0; i < h->n_leases; i++) {
        const struct lease_read *l = &h->leases[i];
        if (l->expect != LEASE_EITHER && l->present != (l->expect == LEASE_THERE)) {
            check_violated(report, LEASE_BROKEN, "client %" PRIu32 " key %" PRIu32 " is %s",
                           l->client, l->key, l->present ? "still there" : "gone already");
        }
    }
}

void check_history(const struct history *h, struct check_report *report)
{
    FILE *out = report->out;
    *report = (struct check_report){.out = out};
    struct key_log log = {0};
    check_log(h, &log, report);
    check_revisions(h, &log, report);
    check_search(h, &log, report);
    check_events(h, &log, report);
    check_leases(h, report);
    free(log.entries);
}
