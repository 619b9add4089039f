/* range_internal.h - a range over any view of the key space, for readers and inside transactions.
 *
 * What        The struct behind engine_range_open, and opening one under a lock already held.
 * Callers     engine/range.c, engine/txn.c.
 * Thread      any.
 */
#ifndef ENGINE_RANGE_INTERNAL_H
#define ENGINE_RANGE_INTERNAL_H

#include "engine/engine_internal.h"

#define RANGE_WHOLE_BYTES (64u << 10) /* replies up to this size are collected at open */
#define RANGE_CHUNK_BYTES                                                                          \
    (256u << 10) /* read at a time for larger ones, or one record if that is larger */
#define RANGE_REFS_MAX (16u << 20) /* keys that a sorted range can order; more: ERR_LIMIT */
#define RANGE_SORT_BYTES_MAX                                                                       \
    (512u << 20) /* bytes of values that a range sorted by value can hold; more: ERR_LIMIT */

/* One key of a sorted range. */
struct range_ref {
    struct rev rev;
    uint32_t kv_bytes;
    uint32_t place; /* among equals: in the order of keys, whichever way is sorted, as etcd's sorting has it for up to twelve */
    int64_t order;  /* what it is sorted by; for VALUE: offset << 32 | length of the value in kv */
    struct buf *kv; /* ref, for VALUE only */
};

enum range_mode {
    RANGE_DONE, /* everything there is lies in the chunk */
    RANGE_WALK, /* the rest comes from the index, in key order */
    RANGE_REFS, /* the rest comes from `refs` */
};

struct range_read {
    struct engine *e;
    const Etcdserverpb__RangeRequest *r; /* borrowed */
    struct span span;
    int64_t at;
    uint64_t generation; /* the engine's at open */
    enum range_mode mode;
    bool pinned;
    bool walking; /* cursor is open */
    struct pin pin;
    struct index_cursor cursor;
    struct range_ref *refs; /* owned */
    size_t n_refs;
    size_t ref_at;
    int64_t left;   /* kvs not yet in a chunk */
    uint8_t *chunk; /* encoded kvs fields: `room`, or owned */
    size_t chunk_len;
    size_t chunk_at;
    size_t chunk_cap;
    uint8_t room[];
};

/* Open a range with the engine's lock held for reading; returns with it released. `at` is not
 * compacted; INDEX_LATEST is for the member loop only. `pin`: compaction may begin before the range
 * is closed. */
MUST_CHECK enum err range_open_at(struct engine *e, const Etcdserverpb__RangeRequest *r, int64_t at,
                                  bool pin, uint64_t now_ms, struct range_read **out,
                                  struct range_info *info, struct err_ctx *ec);

/* A single kvs field on the wire. */
size_t range_field_bytes(size_t kv_bytes);

#endif
