/* history.c - one line a record; see history.h for the fields. */
#include "tests/cluster/history.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define LINE_BYTES_MAX 512u

void history_print_op(FILE *f, const struct op *o)
{
    (void)fprintf(f,
                  "op %c %" PRIu32 " %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %c %" PRId64
                  " %" PRIu64 " %" PRId64 " %" PRId64 " %" PRIu64 " %d\n",
                  (char)o->kind, o->client, o->key, o->key2, o->invoke_ns, o->return_ns,
                  (char)o->result, o->rev, o->value, o->expect, o->seen_mod, o->seen_value,
                  o->done);
}

void history_print_watch(FILE *f, const struct watch_run *w)
{
    (void)fprintf(f, "watch %" PRIu32 " %" PRIu32 " %" PRId64 " %" PRId64 "\n", w->id, w->member,
                  w->start, w->end);
}

void history_print_event(FILE *f, const struct watch_event *e)
{
    (void)fprintf(f, "ev %" PRIu32 " %" PRId64 " %c %" PRIu32 " %" PRIu64 "\n", e->watcher, e->rev,
                  e->type, e->key, e->value);
}

void history_print_lease(FILE *f, const struct lease_read *l)
{
    (void)fprintf(f, "lease %" PRIu32 " %" PRIu32 " %" PRIu64 " %" PRIu64 " %d %d\n", l->client,
                  l->key, l->invoke_ns, l->return_ns, l->present, (int)l->expect);
}

/* The place of one more record in an array that doubles; NULL at the bound. */
static void *grow(void *array, size_t *n, size_t size)
{
    void **a = array;
    if (*n == HISTORY_RECORDS_MAX) {
        return NULL;
    }
    if ((*n & (*n - 1)) == 0) { /* at 0 and at each power of two */
        *a = xrealloc(*a, (*n == 0 ? 1 : *n * 2) * size);
    }
    char *at = (char *)*a + *n * size;
    memset(at, 0, size);
    (*n)++;
    return at;
}

static bool parse_op(const char *line, struct history *h)
{
    struct op o = {0};
    char kind = 0;
    char result = 0;
    int done = 0;
    int n = sscanf(line,
                   "op %c %" SCNu32 " %" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64 " %c %" SCNd64
                   " %" SCNu64 " %" SCNd64 " %" SCNd64 " %" SCNu64 " %d",
                   &kind, &o.client, &o.key, &o.key2, &o.invoke_ns, &o.return_ns, &result, &o.rev,
                   &o.value, &o.expect, &o.seen_mod, &o.seen_value, &done);
    if (n != 13 || strchr("ptcdgs", kind) == NULL || strchr("ofu", result) == NULL ||
        o.return_ns < o.invoke_ns) {
        return false;
    }
    o.kind = (enum op_kind)kind;
    o.result = (enum op_result)result;
    o.done = done != 0;
    struct op *at = grow(&h->ops, &h->n_ops, sizeof(o));
    if (at != NULL) {
        *at = o;
    }
    return at != NULL;
}

static bool parse_other(const char *line, struct history *h)
{
    struct watch_run w = {0};
    struct watch_event e = {0};
    struct lease_read l = {0};
    int present = 0;
    int expect = 0;
    void *at = NULL;
    if (sscanf(line, "watch %" SCNu32 " %" SCNu32 " %" SCNd64 " %" SCNd64, &w.id, &w.member,
               &w.start, &w.end) == 4) {
        at = grow(&h->watches, &h->n_watches, sizeof(w));
        if (at != NULL) {
            memcpy(at, &w, sizeof(w));
        }
    } else if (sscanf(line, "ev %" SCNu32 " %" SCNd64 " %c %" SCNu32 " %" SCNu64, &e.watcher,
                      &e.rev, &e.type, &e.key, &e.value) == 5 &&
               (e.type == 'p' || e.type == 'd')) {
        at = grow(&h->events, &h->n_events, sizeof(e));
        if (at != NULL) {
            memcpy(at, &e, sizeof(e));
        }
    } else if (sscanf(line, "lease %" SCNu32 " %" SCNu32 " %" SCNu64 " %" SCNu64 " %d %d",
                      &l.client, &l.key, &l.invoke_ns, &l.return_ns, &present, &expect) == 6 &&
               expect >= LEASE_GONE && expect <= LEASE_EITHER) {
        l.present = present != 0;
        l.expect = (enum lease_expect)expect;
        at = grow(&h->leases, &h->n_leases, sizeof(l));
        if (at != NULL) {
            memcpy(at, &l, sizeof(l));
        }
    }
    return at != NULL;
}

enum err history_read(FILE *f, struct history *out, struct err_ctx *ec)
{
    char line[LINE_BYTES_MAX];
    struct history h = {0};
    for (size_t number = 1; fgets(line, sizeof(line), f) != NULL; number++) {
        if (line[0] == '#' || line[0] == '\n') {
            continue;
        }
        bool good = strncmp(line, "op ", 3) == 0 ? parse_op(line, &h) : parse_other(line, &h);
        if (!good) {
            history_deinit(&h);
            return err_set(ec, ERR_INVALID, "line %zu of the history: %.80s", number, line);
        }
    }
    if (ferror(f)) {
        history_deinit(&h);
        return err_set(ec, ERR_IO, "read the history");
    }
    *out = h;
    return OK;
}

void history_deinit(struct history *h)
{
    free(h->ops);
    free(h->watches);
    free(h->events);
    free(h->leases);
    *h = (struct history){0};
}
