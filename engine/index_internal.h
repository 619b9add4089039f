/* index_internal.h - the parts that the files of the key index share.
 *
 * What        Layout of leaves, inner nodes, the side table and the log of creations and deletions.
 * Callers     engine/index.c (the public calls), index_leaf.c (bytes of one leaf), index_tree.c
 *             (inner nodes, splits and merges), index_log.c (the log), index_check.c (the structure
 *             check).
 * Thread      as engine/index.h says.
 * Invariants  A leaf is at most LEAF_BYTES_MAX and at least one leaf exists. Dead keys count
 *             nowhere but in `keys`.
 */
#ifndef ENGINE_INDEX_INTERNAL_H
#define ENGINE_INDEX_INTERNAL_H

#include <assert.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/index.h"

/* --- leaves ----------------------------------------------------------------------------------- */

#define LEAF_BYTES_MAX 4096u /* one allocation; a leaf that would be larger is split */
/* allocations grow and shrink by this, so that a half-full leaf costs half */
#define LEAF_BYTES_STEP 256u
#define LEAF_MERGE_BYTES 1024u  /* a leaf smaller than this looks for a neighbour to join */
#define LEAF_JOINED_BYTES 3072u /* ... and joins it when the sum is at most this */
#define KEY_INLINE_MAX 512u     /* a longer key stands in an allocation of its own */
#define PREFIX_BYTES_MAX 512u   /* longer common prefixes are cut off here */
/* of each suffix stand in the slot, so that most comparisons end there */
#define HEAD_BYTES 4u
#define VERSION_BYTES 24u /* main, sub, kv_bytes, main - create, version */
#define POINTER_BYTES 8u
#define PAYLOAD_BYTES_MAX (VERSION_BYTES + POINTER_BYTES)

#define CACHE_LINE_BYTES 64u

/* One key: where its bytes are, its suffix length, its flags. */
struct slot {
    uint32_t head; /* the first bytes of the suffix, big endian, zero padded */
    uint16_t tail; /* the entry begins this far before the end of the leaf */
    uint16_t bits; /* suffix length (not used with SLOT_LONG) and flags */
};

#define SLOT_LEN_MASK 0x03ffu
/* 8 bytes for a history pointer follow the version: once a key had old changes it will again */
#define SLOT_ROOM 0x0800u
#define SLOT_TOMB 0x1000u /* the newest change is a deletion */
/* older changes exist: the pointer to struct history is set; implies SLOT_ROOM */
#define SLOT_HIST 0x2000u
#define SLOT_LONG 0x4000u /* the entry's key is a pointer to struct long_key */
/* create and version do not fit: their 8 bytes are a pointer to struct wide */
#define SLOT_WIDE 0x8000u
#define SLOT_FLAGS 0xfc00u
static_assert(KEY_INLINE_MAX <= SLOT_LEN_MASK, "a suffix length fits in a slot");
static_assert(sizeof(void *) == POINTER_BYTES, "pointers are packed as 8 bytes");

/* From the front: header, common prefix (padded to 8 bytes), slots in key order. From the end
 * downwards: entries, each [suffix behind its head | long_key pointer][version][history pointer] */
struct leaf {
    struct leaf *next;
    struct leaf *prev;
    uint16_t n;          /* slots */
    uint16_t cap;        /* bytes of the allocation */
    uint16_t prefix_len; /* bytes all keys of the leaf begin with */
    uint16_t heap;       /* bytes taken at the end, garbage included */
    uint16_t garbage;    /* bytes of the heap that no entry uses */
    uint16_t live;       /* slots without SLOT_TOMB */
    uint16_t marked;     /* slots with SLOT_TOMB or SLOT_HIST: what a compaction has to look at */
    uint64_t body[];
};
static_assert(LEAF_BYTES_MAX <= UINT16_MAX, "offsets fit");

#define LEAF_ITEMS_MAX                                                                             \
    ((LEAF_BYTES_MAX - sizeof(struct leaf)) / (sizeof(struct slot) + VERSION_BYTES))

struct long_key {
    uint32_t len;
    uint8_t data[];
};

/* Create revision and version that do not fit in 32 bits each. */
struct wide {
    int64_t create_revision;
    int64_t version;
};

#define OLD_TOMBSTONE UINT32_MAX /* as kv_bytes of an older change: no record is that large */

struct old_version {
    int64_t main;
    int64_t create_revision;
    int64_t version;
    uint32_t sub;
    uint32_t kv_bytes;
};

/* Older changes of one key, ascending; never empty. */
struct history {
    uint32_t n;
    uint32_t cap;
    struct old_version v[];
};

/* One entry outside a leaf, while leaves are rewritten. */
struct item {
    struct slice key; /* whole */
    struct long_key *long_key;
    uint16_t flags;
    uint8_t payload[PAYLOAD_BYTES_MAX];
};

/* --- inner nodes ------------------------------------------------------------------------------ */

#define FANOUT 64u     /* children of one inner node */
#define HEIGHT_MAX 16u /* levels of inner nodes */
#define INNER_PREFIX_BYTES 56u

struct separator {
    uint32_t len;
    uint8_t data[];
};

/* Keys in child[i] are >= sep[i - 1] and < sep[i]. */
struct inner {
    uint32_t n;                         /* children */
    uint32_t prefix_len;                /* bytes that all separators begin with */
    uint8_t prefix[INNER_PREFIX_BYTES]; /* the first of them, beside what a search reads anyway */
    /* 8 bytes of each separator behind the prefix, big endian, zero padded */
    uint64_t head[FANOUT - 1];
    void *child[FANOUT];               /* inner nodes or leaves, by level */
    int64_t live[FANOUT];              /* live keys below each child */
    struct separator *sep[FANOUT - 1]; /* owned */
};

/* The way from the root to a leaf. */
struct path {
    struct {
        struct inner *node;
        uint32_t i;
    } step[HEIGHT_MAX];
    struct leaf *leaf;
};

/* --- creations and deletions ------------------------------------------------------------------ */

#define COUNT_LOG_CHUNK_BYTES (32u << 10)
#define COUNT_LOG_CHUNKS_MAX 128u /* 4 MiB; full: the oldest chunk is forgotten */

struct count_chunk;

/* Every creation and deletion with main > floor, in order. */
struct count_log {
    struct count_chunk *newest; /* linked towards the older ones */
    struct count_chunk *oldest;
    uint32_t n_chunks;
    int64_t floor;
};

/* --- the index -------------------------------------------------------------------------------- */

struct index {
    void *root; /* a leaf when height is 0 */
    uint32_t height;
    uint64_t epoch; /* changes whenever a leaf or slot position may have moved */
    int64_t newest; /* main of the newest change */
    uint64_t keys;
    int64_t live;
    uint64_t old_versions;
    uint64_t bytes;
    struct count_log log;
    bool restoring;
    /* Compaction under way: keys below `compact_key` are done. */
    bool compacting;
    int64_t compact_revision;
    struct bytes compact_key;
    /* Scratch of the writer: two leaves taken apart, and one entry more. */
    struct item *items;
    uint8_t *scratch;
};

#define SCRATCH_ITEMS (2u * LEAF_ITEMS_MAX + 1u)
#define SCRATCH_BYTES (SCRATCH_ITEMS * KEY_INLINE_MAX)
#define INDEX_FIXED_BYTES                                                                          \
    (sizeof(struct index) + SCRATCH_ITEMS * sizeof(struct item) + SCRATCH_BYTES)

static inline void *take(struct index *x, size_t size)
{
    x->bytes += size;
    return xalloc(size);
}

static inline void give(struct index *x, void *p, size_t size)
{
    x->bytes -= size;
    free(p);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static inline int bytes_cmp(const uint8_t *a, const uint8_t *b, size_t n)
{
    return n == 0 ? 0 : memcmp(a, b, n);
}

static inline void bytes_copy(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n != 0) {
        memcpy(to, from, n);
    }
}

static inline size_t common_prefix(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    size_t i = 0;
    while (i < n && a.data[i] == b.data[i]) {
        i++;
    }
    return i;
}

static inline uint32_t head_of(const uint8_t *p, size_t len)
{
    uint32_t v = 0;
    if (len >= HEAD_BYTES) {
        memcpy(&v, p, HEAD_BYTES);
        return __builtin_bswap32(v);
    }
    for (size_t i = 0; i < len; i++) {
        v |= (uint32_t)p[i] << (24 - 8 * i);
    }
    return v;
}

/* --- index_leaf.c ----------------------------------------------------------------------------- */

static inline uint8_t *leaf_prefix(const struct leaf *l)
{
    return (uint8_t *)(uintptr_t)l->body;
}

static inline struct slot *leaf_slots(const struct leaf *l)
{
    return (struct slot *)(void *)(leaf_prefix(l) + ((l->prefix_len + 7u) & ~7u));
}

static inline uint8_t *leaf_entry(const struct leaf *l, const struct slot *s)
{
    return (uint8_t *)(uintptr_t)l + l->cap - s->tail;
}

/* Bytes of the key's part of an entry. */
static inline size_t slot_rest_bytes(uint16_t bits)
{
    size_t len = bits & SLOT_LEN_MASK;
    if ((bits & SLOT_LONG) != 0) {
        return POINTER_BYTES;
    }
    return len > HEAD_BYTES ? len - HEAD_BYTES : 0;
}

static inline size_t payload_bytes(uint16_t bits)
{
    return (bits & SLOT_ROOM) != 0 ? PAYLOAD_BYTES_MAX : VERSION_BYTES;
}

static inline size_t entry_bytes(uint16_t bits)
{
    return slot_rest_bytes(bits) + payload_bytes(bits);
}

static inline bool slot_marked(uint16_t bits)
{
    return (bits & (SLOT_TOMB | SLOT_HIST)) != 0;
}

static inline uint8_t *leaf_payload(const struct leaf *l, const struct slot *s)
{
    return leaf_entry(l, s) + slot_rest_bytes(s->bits);
}

/* Bytes in use, header included, garbage not. */
static inline size_t leaf_used(const struct leaf *l)
{
    return sizeof *l + ((l->prefix_len + 7u) & ~7u) + l->n * sizeof(struct slot) + l->heap -
           l->garbage;
}

/* Bytes between slots and entries. */
static inline size_t leaf_room(const struct leaf *l)
{
    return l->cap -
           (sizeof *l + ((l->prefix_len + 7u) & ~7u) + l->n * sizeof(struct slot) + l->heap);
}

/* The packed form of a version: 24 bytes, unaligned in the leaf. */
struct packed {
    int64_t main;
    uint32_t sub;
    uint32_t kv_bytes;
    union {
        struct {
            uint32_t created_before; /* main - create revision */
            uint32_t version;
        } narrow;
        struct wide *wide;
    } u;
};
static_assert(sizeof(struct packed) == VERSION_BYTES, "a packed version has no holes");

static inline int64_t payload_main(const uint8_t *payload)
{
    int64_t main;
    memcpy(&main, payload, sizeof main);
    return main;
}

static inline uint32_t load32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline struct wide *payload_wide(const uint8_t *payload)
{
    struct wide *w;
    memcpy(&w, payload + offsetof(struct packed, u.wide), sizeof w);
    return w;
}

/* Field by field: a copy of the whole struct would be stored just to be loaded again. */
static inline void payload_version(uint16_t bits, const uint8_t *payload, struct key_version *out)
{
    int64_t main = payload_main(payload);
    out->mod.main = main;
    out->mod.sub = load32(payload + offsetof(struct packed, sub));
    out->kv_bytes = load32(payload + offsetof(struct packed, kv_bytes));
    out->tombstone = (bits & SLOT_TOMB) != 0;
    if ((bits & SLOT_WIDE) != 0) {
        const struct wide *w = payload_wide(payload);
        out->create_revision = w->create_revision;
        out->version = w->version;
    } else {
        out->create_revision =
            out->tombstone
                ? 0
                : main - load32(payload + offsetof(struct packed, u.narrow.created_before));
        out->version = load32(payload + offsetof(struct packed, u.narrow.version));
    }
}

static inline struct history *payload_history(const uint8_t *payload)
{
    struct history *h;
    memcpy(&h, payload + VERSION_BYTES, POINTER_BYTES);
    return h;
}

struct leaf *leaf_create(struct index *x, size_t used);
void leaf_release(struct index *x, struct leaf *l); /* the leaf's own memory only */
void leaf_free_deep(struct index *x, struct leaf *l);
uint32_t leaf_find(const struct leaf *l, struct slice key, bool *found); /* the first slot >= key */
/* Assemble the key of slot i in `out`, which already begins with the prefix when `have_prefix`. */
void leaf_key(const struct leaf *l, uint32_t i, bool have_prefix, struct bytes *out);
/* Take the leaf apart into items; short keys go to `scratch`, whose end is returned. */
uint8_t *leaf_unpack(const struct leaf *l, struct item *items, uint8_t *scratch);
/* slot and entry in a leaf with this prefix */
size_t item_bytes(const struct item *it, size_t prefix);
size_t items_bytes(const struct item *items, size_t n); /* of the leaf they would make */
struct leaf *leaf_pack(struct index *x, const struct item *items, size_t n);
/* In place; there is room. */
void leaf_insert(struct leaf *l, uint32_t i, const struct item *it);
void leaf_remove(struct leaf *l, uint32_t i);
/* Give slot i a new payload and flags (SLOT_ROOM and SLOT_LONG are never taken away). false: no
 * room for a history pointer. */
bool leaf_set_payload(struct leaf *l, uint32_t i, uint16_t flags, const uint8_t *payload);
/* A copy of the leaf with the same prefix, without garbage, in an allocation for `used` bytes. */
struct leaf *leaf_copy(struct index *x, const struct leaf *l, size_t used);

/* Pack `v` (and `h`, may be NULL) into `payload`; the flags it needs. Allocates struct wide when it
 * must. */
uint16_t payload_pack(struct index *x, const struct key_version *v, struct history *h,
                      uint8_t *payload);
void payload_free_wide(struct index *x, uint16_t bits, const uint8_t *payload);
struct history *history_push(struct index *x, struct history *h, const struct key_version *v);
/* Forget the first `n_drop` changes; NULL when none is left. */
struct history *history_trim(struct index *x, struct history *h, uint32_t n_drop);
void history_free(struct index *x, struct history *h);
/* How many changes have main <= at. */
uint32_t history_until(const struct history *h, int64_t at);
void history_version(const struct history *h, uint32_t i, struct key_version *out);
/* The newest older change of slot i with main <= at, tombstones included. */
bool leaf_old_version_at(const struct leaf *l, const struct slot *s, int64_t at,
                         struct key_version *out);

/* The newest change of slot i with main <= at, tombstones included. */
static inline bool leaf_version_at(const struct leaf *l, uint32_t i, int64_t at,
                                   struct key_version *out)
{
    const struct slot *s = &leaf_slots(l)[i];
    const uint8_t *payload = leaf_payload(l, s);
    if (payload_main(payload) <= at) {
        payload_version(s->bits, payload, out);
        return true;
    }
    return (s->bits & SLOT_HIST) != 0 && leaf_old_version_at(l, s, at, out);
}

/* --- index_tree.c ----------------------------------------------------------------------------- */

void tree_descend(const struct index *x, struct slice key, struct path *p);
const struct leaf *tree_leaf(const struct index *x, struct slice key);
int64_t tree_rank(const struct index *x, struct slice key); /* live keys below `key` */
void tree_add_live(const struct index *x, struct path *p, int64_t delta);
/* Put items[0 .. n) of the index in place of the path's leaf, as one leaf or two; `i` is the item
 * that made it grow. */
void tree_rebuild(struct index *x, struct path *p, size_t n, size_t i);
void tree_replace_leaf(struct index *x, struct path *p, struct leaf *l);
/* After removals: release the leaf, make it smaller, or join it with a neighbour. */
void tree_shrink(struct index *x, struct path *p);
/* The separator that ends the leaf's range; NULL: it is the last leaf. */
const struct separator *tree_upper_bound(const struct index *x, const struct path *p);
void tree_free(struct index *x, void *node, uint32_t level);

/* --- index_log.c ------------------------------------------------------------------------------ */

void count_log_add(struct index *x, struct slice key, int64_t main, int delta);
/* Forget everything: counts below `floor` have to walk. */
void count_log_reset(struct index *x, int64_t floor);
/* Events with main > at, at most about: a bound of the cost. at >= floor. */
uint64_t count_log_events(const struct index *x, int64_t at);
size_t count_log_bytes(const struct index *x);
/* Creations less deletions in [from, to) with main > at. */
int64_t count_log_sum(const struct index *x, struct slice from, struct slice to, int64_t at);

#endif
