/* metrics.h - counters, gauges and histograms in Prometheus' text format.
 *
 * What        A registry of families; a family has a name, help, type and label names; a series is a
 *             family with label values. Handles are pointers that stay valid as long as the registry; updates
 *             are relaxed atomics, cheap enough for the hot path. Rendering reads them as they are.
 * Callers     everybody updates; api/etcd renders /metrics; creation happens at start-up.
 * Thread      updates and rendering from any; creation of families and series takes the registry's lock.
 */
#ifndef BASE_METRICS_H
#define BASE_METRICS_H

#include <stdint.h>

#include "base/slice.h"

struct metrics;   /* registry */
struct counter;
struct gauge;
struct histogram;

struct metrics *metrics_create(void);
void metrics_destroy(struct metrics **m);

/* Append one label to a label text, with a comma before it unless it is the first; quotes, backslashes
 * and line ends of the value are escaped. */
void metrics_label(struct bytes *labels, const char *name, const char *value);

/* `labels` is NULL or "name=\"value\",..." ready for the text format (metrics_label makes it).
 * Asking again for the same name and labels returns the same handle; asking with another type is a
 * programmer error. */
struct counter *metrics_counter(struct metrics *m, const char *name, const char *help, const char *labels);
struct gauge *metrics_gauge(struct metrics *m, const char *name, const char *help, const char *labels);
/* Buckets: n upper bounds, first `start`, each `factor` times the one before; +Inf is added. */
struct histogram *metrics_histogram(struct metrics *m, const char *name, const char *help, const char *labels,
                                    double start, double factor, unsigned n);
/* The same with `n` upper bounds that ascend. */
struct histogram *metrics_histogram_of(struct metrics *m, const char *name, const char *help, const char *labels,
                                       const double *bounds, size_t n);
/* A gauge or counter whose value is asked for at rendering time. `is_counter` chooses the TYPE line.
 * `value` runs on the rendering thread under the registry's lock: it must not create metrics. Asking
 * again for the same name and labels replaces it. */
void metrics_callback(struct metrics *m, const char *name, const char *help, const char *labels, int is_counter,
                      double (*value)(void *arg), void *arg);

void counter_add(struct counter *c, uint64_t n);
uint64_t counter_value(const struct counter *c);
void gauge_set(struct gauge *g, double v);
void gauge_add(struct gauge *g, double v);
double gauge_value(const struct gauge *g);
void histogram_observe(struct histogram *h, double v);
void histogram_observe_ns(struct histogram *h, uint64_t ns); /* as seconds */

/* Append the exposition (version 0.0.4): families by name, series by labels. */
void metrics_render(struct metrics *m, struct bytes *out);

#endif
