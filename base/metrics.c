/* metrics.c - the registry and its text.
 *
 * Families are kept sorted by name and series by labels, so that rendering is one walk. Updates are
 * relaxed: a reader may see a histogram's sum and counts a moment apart, as any scrape does. The
 * count of a histogram is the sum of its buckets, so the cumulative numbers always agree.
 */
#include "base/metrics.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/number.h"

#define CACHE_LINE 64u
#define BUCKETS_MAX 64u
#define FAMILIES_MAX 4096u /* registered by the program's text: more is a programmer error */
#define SERIES_MAX 16384u  /* of one family; labels never come from a client's data */
#define NS_PER_S 1e9

enum kind { KIND_COUNTER, KIND_GAUGE, KIND_HISTOGRAM, KIND_CALLBACK };
enum family_type { TYPE_COUNTER, TYPE_GAUGE, TYPE_HISTOGRAM };

/* Each on its own cache line: neighbours may be updated by different threads. */
struct counter {
    _Alignas(CACHE_LINE) _Atomic uint64_t n;
};

/* A double as its bits: C has no atomic addition for doubles. */
struct gauge {
    _Alignas(CACHE_LINE) _Atomic uint64_t bits;
};

struct histogram {
    _Alignas(CACHE_LINE) _Atomic uint64_t sum_bits;
    unsigned n_bounds;
    double bounds[BUCKETS_MAX];
    _Atomic uint64_t counts[BUCKETS_MAX + 1]; /* not cumulative; the last is +Inf's */
};

/* What has a place in a sorted list: its first member. */
struct keyed {
    char *key; /* owned */
};

struct sorted {
    struct keyed **at; /* owned, as is what it points at; in order of the keys */
    size_t n;
};

struct series {
    struct keyed labels; /* "" without labels */
    enum kind kind;
    union {
        struct counter *counter;     /* owned */
        struct gauge *gauge;         /* owned */
        struct histogram *histogram; /* owned */
        struct {
            double (*value)(void *arg);
            void *arg;
        } callback;
    } of;
};

struct family {
    struct keyed name;
    char *help; /* owned */
    enum family_type type;
    struct sorted series;
};

struct metrics {
    pthread_mutex_t lock; /* guards the lists, not the values */
    struct sorted families;
};

static struct series *series_at(const struct family *f, size_t i)
{
    return CONTAINER_OF(f->series.at[i], struct series, labels);
}

static struct family *family_at(const struct metrics *m, size_t i)
{
    return CONTAINER_OF(m->families.at[i], struct family, name);
}

struct metrics *metrics_create(void)
{
    struct metrics *m = xcalloc(1, sizeof(*m));
    int rc = pthread_mutex_init(&m->lock, NULL);
    ASSERT(rc == 0);
    return m;
}

static void series_destroy(struct series *s)
{
    switch (s->kind) {
    case KIND_COUNTER:
        free(s->of.counter);
        break;
    case KIND_GAUGE:
        free(s->of.gauge);
        break;
    case KIND_HISTOGRAM:
        free(s->of.histogram);
        break;
    case KIND_CALLBACK:
        break;
    }
    free(s->labels.key);
    free(s);
}

static void family_destroy(struct family *f)
{
    for (size_t i = 0; i < f->series.n; i++) {
        series_destroy(series_at(f, i));
    }
    free(f->series.at);
    free(f->name.key);
    free(f->help);
    free(f);
}

void metrics_destroy(struct metrics **mp)
{
    struct metrics *m = *mp;
    *mp = NULL;
    if (m == NULL) {
        return;
    }
    for (size_t i = 0; i < m->families.n; i++) {
        family_destroy(family_at(m, i));
    }
    free(m->families.at);
    (void)pthread_mutex_destroy(&m->lock);
    free(m);
}

static void add_escaped(struct bytes *b, const char *text, bool quotes)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (*p == '\n') {
            bytes_add_str(b, "\\n");
        } else if (*p == '\\' || (quotes && *p == '"')) {
            bytes_add_str(b, *p == '"' ? "\\\"" : "\\\\");
        } else {
            bytes_add(b, p, 1);
        }
    }
}

void metrics_label(struct bytes *labels, const char *name, const char *value)
{
    bytes_printf(labels, "%s%s=\"", labels->len > 0 ? "," : "", name);
    add_escaped(labels, value, true);
    bytes_add_str(labels, "\"");
}

/* Whether `key` is there; *place is where it stands or belongs. */
static bool find(const struct sorted *list, const char *key, size_t *place)
{
    size_t low = 0;
    size_t high = list->n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = strcmp(list->at[mid]->key, key);
        if (c == 0) {
            *place = mid;
            return true;
        }
        low = c < 0 ? mid + 1 : low;
        high = c < 0 ? high : mid;
    }
    *place = low;
    return false;
}

static void insert(struct sorted *list, size_t place, struct keyed *element)
{
    list->at = xrealloc(list->at, (list->n + 1) * sizeof(struct keyed *));
    memmove(list->at + place + 1, list->at + place, (list->n - place) * sizeof(struct keyed *));
    list->at[place] = element;
    list->n++;
}

static struct family *family_of(struct metrics *m, const char *name, const char *help,
                                enum family_type type)
{
    size_t place;
    if (find(&m->families, name, &place)) {
        ASSERT(family_at(m, place)->type == type);
        return family_at(m, place);
    }
    ASSERT(m->families.n < FAMILIES_MAX);
    struct family *f = xcalloc(1, sizeof(*f));
    f->name.key = xstrdup(name);
    f->help = xstrdup(help);
    f->type = type;
    insert(&m->families, place, &f->name);
    return f;
}

/* The series, made when it is not there; *is_new tells. */
static struct series *series_of(struct family *f, const char *labels, enum kind kind, bool *is_new)
{
    const char *text = labels == NULL ? "" : labels;
    size_t place;
    *is_new = !find(&f->series, text, &place);
    if (!*is_new) {
        ASSERT(series_at(f, place)->kind == kind);
        return series_at(f, place);
    }
    ASSERT(f->series.n < SERIES_MAX);
    struct series *s = xcalloc(1, sizeof(*s));
    s->labels.key = xstrdup(text);
    s->kind = kind;
    insert(&f->series, place, &s->labels);
    return s;
}

/* Zeroed and on a cache line of its own. `size` is a multiple of the alignment, as sizeof is. */
static void *line_alloc(size_t size)
{
    void *p = aligned_alloc(CACHE_LINE, size);
    ASSERT(p != NULL);
    return memset(p, 0, size);
}

/* Find or make a series under the lock, which stays held. */
static struct series *series_locked(struct metrics *m, const char *name, const char *help,
                                    const char *labels, enum family_type type, enum kind kind,
                                    bool *is_new)
{
    int rc = pthread_mutex_lock(&m->lock);
    ASSERT(rc == 0);
    return series_of(family_of(m, name, help, type), labels, kind, is_new);
}

static void unlock(struct metrics *m)
{
    int rc = pthread_mutex_unlock(&m->lock);
    ASSERT(rc == 0);
}

struct counter *metrics_counter(struct metrics *m, const char *name, const char *help,
                                const char *labels)
{
    bool is_new;
    struct series *s = series_locked(m, name, help, labels, TYPE_COUNTER, KIND_COUNTER, &is_new);
    if (is_new) {
        s->of.counter = line_alloc(sizeof(*s->of.counter));
    }
    unlock(m);
    return s->of.counter;
}

struct gauge *metrics_gauge(struct metrics *m, const char *name, const char *help,
                            const char *labels)
{
    bool is_new;
    struct series *s = series_locked(m, name, help, labels, TYPE_GAUGE, KIND_GAUGE, &is_new);
    if (is_new) {
        s->of.gauge = line_alloc(sizeof(*s->of.gauge));
    }
    unlock(m);
    return s->of.gauge;
}

struct histogram *metrics_histogram(struct metrics *m, const char *name, const char *help,
                                    const char *labels, double start, double factor, unsigned n)
{
    ASSERT(n >= 1 && n <= BUCKETS_MAX);
    ASSERT(start > 0 && factor > 1);
    double bounds[BUCKETS_MAX];
    double bound = start;
    for (unsigned i = 0; i < n; i++) {
        bounds[i] = bound;
        bound *= factor;
    }
    return metrics_histogram_of(m, name, help, labels, bounds, n);
}

struct histogram *metrics_histogram_of(struct metrics *m, const char *name, const char *help,
                                       const char *labels, const double *bounds, size_t n)
{
    ASSERT(n >= 1 && n <= BUCKETS_MAX);
    bool is_new;
    struct series *s =
        series_locked(m, name, help, labels, TYPE_HISTOGRAM, KIND_HISTOGRAM, &is_new);
    if (is_new) {
        struct histogram *h = line_alloc(sizeof(*h));
        h->n_bounds = (unsigned)n;
        memcpy(h->bounds, bounds, n * sizeof(*bounds));
        s->of.histogram = h;
    }
    unlock(m);
    return s->of.histogram;
}

void metrics_callback(struct metrics *m, const char *name, const char *help, const char *labels,
                      int is_counter, double (*value)(void *arg), void *arg)
{
    bool is_new;
    enum family_type type = is_counter != 0 ? TYPE_COUNTER : TYPE_GAUGE;
    struct series *s = series_locked(m, name, help, labels, type, KIND_CALLBACK, &is_new);
    s->of.callback.value = value;
    s->of.callback.arg = arg;
    unlock(m);
}

static uint64_t to_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static double from_bits(uint64_t bits)
{
    double v;
    memcpy(&v, &bits, sizeof(v));
    return v;
}

static void add_double(_Atomic uint64_t *bits, double v)
{
    uint64_t seen = atomic_load_explicit(bits, memory_order_relaxed);
    while (!atomic_compare_exchange_weak_explicit(bits, &seen, to_bits(from_bits(seen) + v),
                                                  memory_order_relaxed, memory_order_relaxed)) {
    }
}

void counter_add(struct counter *c, uint64_t n)
{
    atomic_fetch_add_explicit(&c->n, n, memory_order_relaxed);
}

uint64_t counter_value(const struct counter *c)
{
    return atomic_load_explicit(&c->n, memory_order_relaxed);
}

void gauge_set(struct gauge *g, double v)
{
    atomic_store_explicit(&g->bits, to_bits(v), memory_order_relaxed);
}

void gauge_add(struct gauge *g, double v)
{
    add_double(&g->bits, v);
}

double gauge_value(const struct gauge *g)
{
    return from_bits(atomic_load_explicit(&g->bits, memory_order_relaxed));
}

void histogram_observe(struct histogram *h, double v)
{
    /* Most observations fall into the low buckets, so a walk beats a search. */
    unsigned i = 0;
    while (i < h->n_bounds && v > h->bounds[i]) {
        i++;
    }
    if (isnan(v)) {
        i = h->n_bounds;
    }
    atomic_fetch_add_explicit(&h->counts[i], 1, memory_order_relaxed);
    add_double(&h->sum_bits, v);
}

void histogram_observe_ns(struct histogram *h, uint64_t ns)
{
    histogram_observe(h, (double)ns / NS_PER_S);
}

/* name{labels} value; `le` NULL outside buckets. */
static void render_sample(struct bytes *out, const char *name, const char *suffix,
                          const char *labels, const char *le, double value)
{
    bytes_add_str(out, name);
    bytes_add_str(out, suffix);
    if (labels[0] != '\0' || le != NULL) {
        bytes_add_str(out, "{");
        bytes_add_str(out, labels);
        if (le != NULL) {
            bytes_printf(out, "%sle=\"%s\"", labels[0] != '\0' ? "," : "", le);
        }
        bytes_add_str(out, "}");
    }
    char text[NUMBER_G_BYTES];
    number_format_g(value, text);
    bytes_printf(out, " %s\n", text);
}

static void render_histogram(struct bytes *out, const struct family *f, const struct series *s)
{
    const struct histogram *h = s->of.histogram;
    uint64_t n = 0;
    for (unsigned i = 0; i <= h->n_bounds; i++) {
        char le[NUMBER_G_BYTES];
        number_format_g(i < h->n_bounds ? h->bounds[i] : (double)INFINITY, le);
        n += atomic_load_explicit(&h->counts[i], memory_order_relaxed);
        render_sample(out, f->name.key, "_bucket", s->labels.key, le, (double)n);
    }
    double sum = from_bits(atomic_load_explicit(&h->sum_bits, memory_order_relaxed));
    render_sample(out, f->name.key, "_sum", s->labels.key, NULL, sum);
    render_sample(out, f->name.key, "_count", s->labels.key, NULL, (double)n);
}

static void render_series(struct bytes *out, const struct family *f, const struct series *s)
{
    switch (s->kind) {
    case KIND_COUNTER:
        render_sample(out, f->name.key, "", s->labels.key, NULL,
                      (double)counter_value(s->of.counter));
        break;
    case KIND_GAUGE:
        render_sample(out, f->name.key, "", s->labels.key, NULL, gauge_value(s->of.gauge));
        break;
    case KIND_HISTOGRAM:
        render_histogram(out, f, s);
        break;
    case KIND_CALLBACK:
        render_sample(out, f->name.key, "", s->labels.key, NULL,
                      s->of.callback.value(s->of.callback.arg));
        break;
    }
}

void metrics_render(struct metrics *m, struct bytes *out)
{
    static const char *const types[] = {
        [TYPE_COUNTER] = "counter", [TYPE_GAUGE] = "gauge", [TYPE_HISTOGRAM] = "histogram"};
    int rc = pthread_mutex_lock(&m->lock);
    ASSERT(rc == 0);
    for (size_t i = 0; i < m->families.n; i++) {
        const struct family *f = family_at(m, i);
        bytes_printf(out, "# HELP %s ", f->name.key);
        add_escaped(out, f->help, false);
        bytes_printf(out, "\n# TYPE %s %s\n", f->name.key, types[f->type]);
        for (size_t k = 0; k < f->series.n; k++) {
            render_series(out, f, series_at(f, k));
        }
    }
    unlock(m);
}
