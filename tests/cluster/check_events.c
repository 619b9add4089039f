/* check_events.c - the watchers' judge: every event exactly once, in order, the same for all.
 *
 * Each watcher's events are taken into a list that must come out sorted by revision. The union of
 * all lists and of the log of writes is what each of them should have seen between its bounds.
 */
#include "tests/cluster/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct seen {
    struct watch_event *events; /* by revision and key once taken; owned */
    size_t n;
};

static int by_place(const void *a, const void *b)
{
    const struct watch_event *x = a;
    const struct watch_event *y = b;
    if (x->rev != y->rev) {
        return x->rev < y->rev ? -1 : 1;
    }
    return (x->key > y->key) - (x->key < y->key);
}

static bool has(const struct seen *s, const struct watch_event *e)
{
    return s->n > 0 && bsearch(e, s->events, s->n, sizeof(*e), by_place) != NULL;
}

/* Keys within one revision come in no promised order: sort from where the revision begins. */
static void sort_last_revision(struct seen *s)
{
    size_t first = s->n;
    while (first > 0 && s->events[first - 1].rev == s->events[s->n - 1].rev) {
        first--;
    }
    qsort(s->events + first, s->n - first, sizeof(*s->events), by_place);
}

static void take(const struct watch_run *w, const struct watch_event *e, struct seen *s,
                 struct check_report *report)
{
    enum violation v = VIOLATIONS;
    if (e->rev < w->start || e->rev > w->end) {
        v = EVENT_OUT_OF_RANGE;
    } else if (has(s, e)) {
        v = DOUBLE_EVENT;
    } else if (s->n > 0 && e->rev < s->events[s->n - 1].rev) {
        v = REORDERED_EVENT;
    }
    if (v != VIOLATIONS) {
        check_violated(report, v,
                       "watcher %" PRIu32 " on member %" PRIu32 ": key %" PRIu32
                       " revision %" PRId64 " (after %" PRId64 ")",
                       w->id, w->member, e->key, e->rev, s->n > 0 ? s->events[s->n - 1].rev : 0);
    }
    if (v != VIOLATIONS && v != REORDERED_EVENT) {
        return;
    }
    s->events[s->n++] = *e;
    if (v == REORDERED_EVENT) {
        qsort(s->events, s->n, sizeof(*s->events), by_place);
    } else {
        sort_last_revision(s);
    }
}

/* The union of what was seen and what was written. */
static void unite(const struct history *h, const struct key_log *log, struct seen *all,
                  struct check_report *report)
{
    all->events = xcalloc(h->n_events + log->n + 1, sizeof(*all->events));
    if (h->n_events > 0) {
        memcpy(all->events, h->events, h->n_events * sizeof(*all->events));
    }
    all->n = h->n_events;
    for (size_t i = 0; i < log->n; i++) {
        const struct log_entry *e = &log->entries[i];
        all->events[all->n++] =
            (struct watch_event){0, e->rev, e->value == 0 ? 'd' : 'p', e->key, e->value};
    }
    qsort(all->events, all->n, sizeof(*all->events), by_place);
    size_t kept = 0;
    for (size_t i = 0; i < all->n; i++) {
        const struct watch_event *e = &all->events[i];
        const struct watch_event *last = kept > 0 ? &all->events[kept - 1] : NULL;
        if (last == NULL || by_place(last, e) != 0) {
            all->events[kept++] = *e;
        } else if (last->type != e->type || last->value != e->value) {
            check_violated(report, DIFFERENT_EVENT,
                           "key %" PRIu32 " revision %" PRId64 ": %c %" PRIu64 " and %c %" PRIu64,
                           e->key, e->rev, last->type, last->value, e->type, e->value);
        }
    }
    all->n = kept;
}

static void check_complete(const struct watch_run *w, const struct seen *s, const struct seen *all,
                           struct check_report *report)
{
    int64_t end = w->end;
    if (end == OPEN_END) {
        end = s->n > 0 ? s->events[s->n - 1].rev : 0;
    }
    for (size_t i = 0; i < all->n; i++) {
        const struct watch_event *e = &all->events[i];
        if (e->rev >= w->start && e->rev <= end && !has(s, e)) {
            check_violated(report, MISSING_EVENT,
                           "watcher %" PRIu32 " on member %" PRIu32 " [%" PRId64 ", %" PRId64
                           "]: key %" PRIu32 " revision %" PRId64,
                           w->id, w->member, w->start, end, e->key, e->rev);
        }
    }
}

/* A deletion that only watchers saw must be one of those whose client got no answer. */
static void check_deletions(const struct history *h, const struct key_log *log,
                            struct check_report *report)
{
    for (size_t i = 0; i < log->n;) {
        uint32_t key = log->entries[i].key;
        size_t seen = 0;
        for (; i < log->n && log->entries[i].key == key; i++) {
            seen += log->entries[i].op == NULL;
        }
        for (size_t j = 0; j < h->n_ops && seen > 0; j++) {
            const struct op *o = &h->ops[j];
            seen -= o->kind == OP_DELETE && o->key == key && o->result == RESULT_UNKNOWN;
        }
        if (seen > 0) {
            check_violated(report, UNKNOWN_VALUE, "key %" PRIu32 ": %zu deletions by nobody", key,
                           seen);
        }
    }
}

void check_events(const struct history *h, const struct key_log *log, struct check_report *report)
{
    struct seen all = {0};
    unite(h, log, &all, report);
    for (size_t i = 0; i < h->n_watches; i++) {
        const struct watch_run *w = &h->watches[i];
        struct seen s = {xcalloc(h->n_events + 1, sizeof(*s.events)), 0};
        for (size_t j = 0; j < h->n_events; j++) {
            if (h->events[j].watcher == w->id) {
                take(w, &h->events[j], &s, report);
            }
        }
        check_complete(w, &s, &all, report);
        free(s.events);
    }
    check_deletions(h, log, report);
    free(all.events);
}
