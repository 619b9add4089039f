/* histogram.h - latencies counted in buckets that are one part in 64 wide.
 *
 * What        Constant memory, any number of samples, percentiles within 1.6 %.
 * Callers     pintle-bench.   Thread  the owner's.
 */
#ifndef BENCH_HISTOGRAM_H
#define BENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_SUB 64u /* buckets per power of two */
#define HISTOGRAM_BUCKETS (59u * HISTOGRAM_SUB)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t n, sum, max;
};

void histogram_add(struct histogram *h, uint64_t value);

/* The value that `permyriad` of 10,000 samples do not exceed (upper edge of its bucket). */
uint64_t histogram_percentile(const struct histogram *h, uint32_t permyriad);

#endif
