/* auth_range.c - see auth_range.h.
 *
 * The end behind key k is the key k followed by a zero byte: the smallest one above k. It is
 * compared as if that byte were there, so no copy is needed.
 */
#include "engine/auth_range.h"

#include <stdlib.h>

#include "base/mem.h"

static bool is_open_end(struct slice range_end)
{
    return range_end.len == 1 && range_end.data[0] == 0;
}

struct key_span key_span_of(struct slice key, struct slice range_end)
{
    if (range_end.len == 0) {
        return (struct key_span){key, {END_BEHIND, key}};
    }
    return (struct key_span){key, {is_open_end(range_end) ? END_NEVER : END_BEFORE, range_end}};
}

bool permission_range_valid(struct slice key, struct slice range_end)
{
    return key.len > 0 &&
           (range_end.len == 0 || is_open_end(range_end) || slice_cmp(key, range_end) < 0);
}

/* Is `key` below the end? */
static bool below(struct slice key, const struct key_end *end)
{
    if (end->kind == END_NEVER) {
        return true;
    }
    int c = slice_cmp(key, end->bytes);
    return end->kind == END_BEHIND ? c <= 0 : c < 0;
}

/* The bytes of an end, of which byte number len is a zero when it lies behind. */
static int byte_of(const struct key_end *end, size_t i)
{
    if (i < end->bytes.len) {
        return end->bytes.data[i];
    }
    return i == end->bytes.len && end->kind == END_BEHIND ? 0 : -1;
}

/* Order of two ends as positions: negative, 0 or positive. */
static int end_cmp(const struct key_end *a, const struct key_end *b)
{
    if (a->kind == END_NEVER || b->kind == END_NEVER) {
        return (a->kind == END_NEVER) - (b->kind == END_NEVER);
    }
    size_t n = a->bytes.len < b->bytes.len ? a->bytes.len : b->bytes.len;
    int c = n == 0 ? 0 : memcmp(a->bytes.data, b->bytes.data, n);
    for (size_t i = n; c == 0; i++) {
        int x = byte_of(a, i);
        int y = byte_of(b, i);
        if (x < 0 && y < 0) {
            break;
        }
        c = x - y;
    }
    return c;
}

/* Does `key` start at or before the end, so that the two intervals touch? */
static bool touches(struct slice key, const struct key_end *end)
{
    const struct key_end at = {END_BEFORE, key};
    return end_cmp(&at, end) <= 0;
}

void span_set_add(struct span_set *s, struct key_span span)
{
    if (span.from.len == 0 || !below(span.from, &span.to)) {
        return;
    }
    if (s->n == s->cap) {
        s->cap = s->cap == 0 ? 4 : s->cap * 2;
        s->v = xrealloc(s->v, s->cap * sizeof(*s->v));
    }
    s->v[s->n++] = span;
}

static int by_from(const void *a, const void *b)
{
    return slice_cmp(((const struct key_span *)a)->from, ((const struct key_span *)b)->from);
}

void span_set_merge(struct span_set *s)
{
    if (s->n == 0) {
        return;
    }
    qsort(s->v, s->n, sizeof(*s->v), by_from);
    size_t last = 0;
    for (size_t i = 1; i < s->n; i++) {
        if (!touches(s->v[i].from, &s->v[last].to)) {
            s->v[++last] = s->v[i];
        } else if (end_cmp(&s->v[last].to, &s->v[i].to) < 0) {
            s->v[last].to = s->v[i].to;
        }
    }
    s->n = last + 1;
}

void span_set_deinit(struct span_set *s)
{
    free(s->v);
    *s = (struct span_set){0};
}

static bool span_covers(const struct key_span *outer, const struct key_span *inner)
{
    const struct key_end start = {END_BEFORE, outer->from};
    return slice_cmp(outer->from, inner->from) <= 0 && below(inner->from, &outer->to) &&
           end_cmp(&inner->to, &outer->to) <= 0 && end_cmp(&start, &inner->to) < 0;
}

bool span_set_covers(const struct span_set *s, struct slice key, struct slice range_end)
{
    struct key_span inner = key_span_of(key, range_end);
    size_t low = 0;
    size_t high = s->n;
    while (low < high) { /* the first interval that begins above the key */
        size_t mid = low + (high - low) / 2;
        if (slice_cmp(s->v[mid].from, key) <= 0) {
            low = mid + 1;
        } else {
            high = mid;
        }
    }
    return low > 0 && span_covers(&s->v[low - 1], &inner);
}

bool key_range_covers(struct slice outer_key, struct slice outer_end, struct slice key,
                      struct slice range_end)
{
    struct key_span outer = key_span_of(outer_key, outer_end);
    struct key_span inner = key_span_of(key, range_end);
    return span_covers(&outer, &inner);
}
