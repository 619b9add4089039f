/* histogram.c - values below 64 have a bucket each; above, the top seven bits choose the bucket. */
#include "bench/histogram.h"

#include "base/assert.h"

static unsigned bucket_of(uint64_t v)
{
    if (v < HISTOGRAM_SUB) {
        return (unsigned)v;
    }
    unsigned shift = 63u - (unsigned)__builtin_clzll(v) - 6u;
    return (shift + 1) * HISTOGRAM_SUB + (unsigned)((v >> shift) - HISTOGRAM_SUB);
}

static uint64_t upper_edge(unsigned bucket)
{
    if (bucket < HISTOGRAM_SUB) {
        return bucket;
    }
    unsigned shift = bucket / HISTOGRAM_SUB - 1;
    uint64_t top = bucket % HISTOGRAM_SUB + HISTOGRAM_SUB;
    return ((top + 1) << shift) - 1;
}

void histogram_add(struct histogram *h, uint64_t value)
{
    unsigned bucket = bucket_of(value);
    ASSERT(bucket < HISTOGRAM_BUCKETS);
    h->counts[bucket]++;
    h->n++;
    h->sum += value;
    h->max = value > h->max ? value : h->max;
}

uint64_t histogram_percentile(const struct histogram *h, uint32_t permyriad)
{
    uint64_t rank = (h->n * permyriad + 9999) / 10000;
    uint64_t seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->counts[i];
        if (seen >= rank && seen > 0) {
            uint64_t edge = upper_edge(i);
            return edge < h->max ? edge : h->max;
        }
    }
    return h->max;
}
