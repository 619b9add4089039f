/* bolt_read.c - a bbolt file read with suspicion.
 *
 * A tree is walked in order with a stack of pages. Everything a page says is held against the
 * page's bounds when it is entered; a bitmap of pages refuses those that were entered before, which
 * ends cycles and bounds the work by the file's size. Order needs two keys to be known: the last
 * one of a leaf, and the last one seen in a branch. A key in a branch must be above everything that
 * came before and not above what follows; a key in a leaf above the last one and not below the
 * branch's.
 *
 * A small bucket stands inside its parent's leaf, as the image of a page at some odd place of the
 * file. Since everything is read by offset and decoded bytewise, it is walked like any page.
 *
 * Pages that nothing leads to are never looked at: their old content may look like valid pages.
 */
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/bolt.h"
#include "engine/bolt_internal.h"

#define PAGE_BYTES_MIN 1024u
#define PAGE_BYTES_MAX (16u << 20)
#define PAGE_SIZES 15u      /* 1 KiB, 2 KiB, ... 16 MiB */
#define WINDOW_BYTES 16384u /* read ahead at a time */
#define FILE_BYTES_MAX                                                                             \
    (1ull << 42)         /* so that the bitmaps stay below a GiB even with the smallest pages */
#define SUM_PIECE_BYTES (256u << 10)
#define IDS_AT_ONCE 512u /* of a freelist */

struct frame {
    uint64_t page; /* for messages */
    uint64_t base; /* offset in the file */
    uint64_t span; /* bytes */
    uint32_t n;
    uint32_t i; /* next element */
    bool is_leaf;
    uint8_t *heads; /* owned; the elements */
};

struct walk {
    size_t depth;
    struct frame frames[BOLT_DEPTH_MAX];
    struct bytes last; /* key of the leaf element given last */
    struct bytes low;  /* key of the branch element passed last */
    struct bytes key;  /* the one being looked at */
    bool has_last;
    bool has_low;
};

/* What a leaf element holds beside its key, which is in walk.last. */
struct found {
    uint64_t page;
    uint32_t flags;
    uint64_t value_at; /* offset in the file */
    uint32_t value_len;
};

struct bolt_reader {
    struct bolt_source src;
    struct bolt_info info;
    uint64_t root;
    uint64_t freelist;
    uint8_t *visited; /* owned; a bit for each page */
    struct walk buckets;
    struct walk pairs;
    struct bytes value;
    uint64_t window_at;
    size_t window_len;
    uint8_t window[WINDOW_BYTES];
};

/* --- bytes ------------------------------------------------------------------------------------ */

/* The caller has checked that the bytes lie in the file. */
static enum err read_at(struct bolt_reader *r, uint64_t at, uint8_t *dst, size_t n,
                        struct err_ctx *ec)
{
    ASSERT(n <= r->src.size && at <= r->src.size - n);
    if (n > WINDOW_BYTES / 4) {
        return r->src.read_at(r->src.arg, at, dst, n, ec);
    }
    if (at < r->window_at || at + n > r->window_at + r->window_len) {
        uint64_t left = r->src.size - at;
        r->window_len = 0;
        size_t len = left < WINDOW_BYTES ? (size_t)left : WINDOW_BYTES;
        enum err e = r->src.read_at(r->src.arg, at, r->window, len, ec);
        if (e != OK) {
            return e;
        }
        r->window_at = at;
        r->window_len = len;
    }
    if (n > 0) {
        memcpy(dst, r->window + (at - r->window_at), n);
    }
    return OK;
}

static enum err read_bytes(struct bolt_reader *r, uint64_t at, size_t n, struct bytes *out,
                           struct err_ctx *ec)
{
    bytes_reset(out);
    enum err e = read_at(r, at, bytes_reserve(out, n == 0 ? 1 : n), n, ec);
    if (e == OK) {
        out->len = n;
    }
    return e;
}

/* Where the bitmap has the page. */
static bool bit_test_and_set(uint8_t *bits, uint64_t id)
{
    uint8_t mask = (uint8_t)(1u << (id % 8));
    bool was = (bits[id / 8] & mask) != 0;
    bits[id / 8] |= mask;
    return was;
}

static bool bit_is_set(const uint8_t *bits, uint64_t id)
{
    return (bits[id / 8] & (1u << (id % 8))) != 0;
}

static bool page_is_in_file(const struct bolt_reader *r, uint64_t id)
{
    return id >= BOLT_FIRST_PAGE && id < r->info.n_pages;
}

/* --- metas ------------------------------------------------------------------------------------ */

struct meta {
    uint32_t page_bytes;
    uint64_t root, freelist, n_pages, txid;
};

static bool meta_is_sane(const struct meta *m, uint64_t file_bytes)
{
    return m->page_bytes >= PAGE_BYTES_MIN && m->page_bytes <= PAGE_BYTES_MAX &&
           (m->page_bytes & (m->page_bytes - 1)) == 0 && m->n_pages > BOLT_FIRST_PAGE &&
           m->n_pages <= file_bytes / m->page_bytes && m->root >= BOLT_FIRST_PAGE &&
           m->root < m->n_pages &&
           (m->freelist == BOLT_NO_FREELIST ||
            (m->freelist >= BOLT_FIRST_PAGE && m->freelist < m->n_pages));
}

/* The meta of the page at `at`. */
static enum err meta_read(struct bolt_reader *r, uint64_t at, struct meta *m, struct err_ctx *ec)
{
    uint8_t p[BOLT_META_BYTES];
    if (r->info.file_bytes < at + BOLT_HEAD + BOLT_META_BYTES) {
        return err_set(ec, ERR_CORRUPT, "file size too small %llu",
                       (unsigned long long)r->info.file_bytes);
    }
    enum err e = read_at(r, at + BOLT_HEAD, p, sizeof(p), ec);
    if (e != OK) {
        return e;
    }
    uint32_t magic = le_get32(p + BOLT_META_MAGIC);
    if (magic == BOLT_MAGIC_SWAPPED) {
        return err_set(ec, ERR_UNSUPPORTED, "the file was made on a big-endian machine");
    }
    if (magic != BOLT_MAGIC) {
        return err_set(ec, ERR_CORRUPT, "invalid database");
    }
    if (le_get32(p + BOLT_META_VERSION) != BOLT_VERSION) {
        return err_set(ec, ERR_CORRUPT, "version mismatch");
    }
    if (le_get(p + BOLT_META_SUM, 8) != bolt_meta_sum(p)) {
        return err_set(ec, ERR_CORRUPT, "checksum error");
    }
    *m = (struct meta){
        .page_bytes = le_get32(p + BOLT_META_PAGE_BYTES),
        .root = le_get(p + BOLT_META_ROOT, 8),
        .freelist = le_get(p + BOLT_META_FREELIST, 8),
        .n_pages = le_get(p + BOLT_META_PAGES, 8),
        .txid = le_get(p + BOLT_META_TXID, 8),
    };
    if (!meta_is_sane(m, r->info.file_bytes)) {
        return err_set(
            ec, ERR_CORRUPT,
            "meta at byte %llu: root %llu, %llu pages of %u bytes in a file of %llu bytes",
            (unsigned long long)at, (unsigned long long)m->root, (unsigned long long)m->n_pages,
            m->page_bytes, (unsigned long long)r->info.file_bytes);
    }
    return OK;
}

/* The newer one of the valid metas; the error is page 0's. */
static enum err meta_choose(struct bolt_reader *r, struct meta *m, struct err_ctx *ec)
{
    struct meta second;
    struct err_ctx ignored;
    enum err first = meta_read(r, 0, m, ec);
    if (first == OK) {
        if (meta_read(r, m->page_bytes, &second, &ignored) == OK &&
            second.page_bytes == m->page_bytes && second.txid > m->txid) {
            *m = second;
        }
        return OK;
    }
    for (unsigned i = 0; first == ERR_CORRUPT && i < PAGE_SIZES; i++) {
        uint64_t at = (uint64_t)PAGE_BYTES_MIN << i;
        if (meta_read(r, at, &second, &ignored) == OK && second.page_bytes == at) {
            *m = second;
            return OK;
        }
    }
    return first;
}

/* --- pages ------------------------------------------------------------------------------------ */

static enum err page_fail(struct err_ctx *ec, uint64_t page, const char *what)
{
    return err_set(ec, ERR_CORRUPT, "page %llu: %s", (unsigned long long)page, what);
}

/* Enter a page: its head, its extent, and that it is entered for the first time. */
static enum err page_enter(struct bolt_reader *r, uint64_t id, uint8_t head[BOLT_HEAD],
                           uint64_t *span, struct err_ctx *ec)
{
    if (!page_is_in_file(r, id)) {
        return page_fail(ec, id, "out of bounds");
    }
    enum err e = read_at(r, id * r->info.page_bytes, head, BOLT_HEAD, ec);
    if (e != OK) {
        return e;
    }
    if (le_get(head + BOLT_AT_ID, 8) != id) {
        return err_set(ec, ERR_CORRUPT, "page %llu: self identifies as %llu",
                       (unsigned long long)id, (unsigned long long)le_get(head + BOLT_AT_ID, 8));
    }
    uint64_t overflow = le_get32(head + BOLT_AT_OVERFLOW);
    if (overflow >= r->info.n_pages - id) {
        return page_fail(ec, id, "overflow out of bounds");
    }
    for (uint64_t i = id; i <= id + overflow; i++) {
        if (bit_test_and_set(r->visited, i)) {
            return page_fail(ec, i, "multiple references");
        }
    }
    *span = (overflow + 1) * r->info.page_bytes;
    return OK;
}

/* Lengths and places of element `i`. */
struct element {
    uint32_t flags;
    uint64_t key_at; /* in the page */
    uint32_t key_len;
    uint32_t value_len;
    uint64_t child;
};

static struct element element_at(const struct frame *f, uint32_t i)
{
    const uint8_t *h = f->heads + (size_t)i * BOLT_ELEMENT;
    uint64_t own = BOLT_HEAD + (uint64_t)i * BOLT_ELEMENT;
    if (f->is_leaf) {
        return (struct element){.flags = le_get32(h + BOLT_LEAF_FLAGS),
                                .key_at = own + le_get32(h + BOLT_LEAF_POS),
                                .key_len = le_get32(h + BOLT_LEAF_KEY),
                                .value_len = le_get32(h + BOLT_LEAF_VALUE)};
    }
    return (struct element){.key_at = own + le_get32(h + BOLT_BRANCH_POS),
                            .key_len = le_get32(h + BOLT_BRANCH_KEY),
                            .child = le_get(h + BOLT_BRANCH_CHILD, 8)};
}

/* Everything that the elements of a page say is within it; together they claim no more than there
 * is, so data that is used many times over cannot make a small file endless. */
static enum err frame_check(const struct bolt_reader *r, const struct frame *f, struct err_ctx *ec)
{
    uint64_t heads_end = BOLT_HEAD + (uint64_t)f->n * BOLT_ELEMENT;
    uint64_t claimed = 0;
    if (!f->is_leaf && f->n == 0) {
        return page_fail(ec, f->page, "a branch without children");
    }
    for (uint32_t i = 0; i < f->n; i++) {
        struct element el = element_at(f, i);
        uint64_t len = (uint64_t)el.key_len + el.value_len;
        claimed += len;
        if (el.key_at < heads_end || el.key_at > f->span || len > f->span - el.key_at ||
            claimed > f->span - heads_end) {
            return page_fail(ec, f->page, "an element out of bounds");
        }
        if (el.key_len == 0 || el.key_len > BOLT_KEY_BYTES_MAX ||
            el.value_len > BOLT_VALUE_BYTES_MAX) {
            return page_fail(ec, f->page, "an impossible length");
        }
        if (el.flags > BOLT_FLAG_BUCKET) {
            return page_fail(ec, f->page, "an unknown kind of element");
        }
        if (!f->is_leaf && !page_is_in_file(r, el.child)) {
            return page_fail(ec, el.child, "out of bounds");
        }
    }
    return OK;
}

/* The page whose head is `head` becomes the top of the stack. */
static enum err walk_push(struct bolt_reader *r, struct walk *w, struct frame f,
                          const uint8_t head[BOLT_HEAD], struct err_ctx *ec)
{
    unsigned kind = (unsigned)le_get(head + BOLT_AT_KIND, 2);
    f.n = (uint32_t)le_get(head + BOLT_AT_COUNT, 2);
    f.is_leaf = kind == BOLT_PAGE_LEAF;
    if (kind != BOLT_PAGE_LEAF && kind != BOLT_PAGE_BRANCH) {
        return err_set(ec, ERR_CORRUPT, "page %llu: invalid type: flags %x",
                       (unsigned long long)f.page, kind);
    }
    if (w->depth == BOLT_DEPTH_MAX) {
        return page_fail(ec, f.page, "the tree is too deep");
    }
    if ((uint64_t)f.n * BOLT_ELEMENT > f.span - BOLT_HEAD) {
        return page_fail(ec, f.page, "more elements than there is room for");
    }
    f.heads = xalloc((size_t)f.n * BOLT_ELEMENT + 1);
    w->frames[w->depth++] = f;
    enum err e = read_at(r, f.base + BOLT_HEAD, f.heads, (size_t)f.n * BOLT_ELEMENT, ec);
    return e == OK ? frame_check(r, &f, ec) : e;
}

static enum err walk_enter(struct bolt_reader *r, struct walk *w, uint64_t id, struct err_ctx *ec)
{
    uint8_t head[BOLT_HEAD];
    struct frame f = {.page = id, .base = id * r->info.page_bytes};
    enum err e = page_enter(r, id, head, &f.span, ec);
    return e == OK ? walk_push(r, w, f, head, ec) : e;
}

/* --- walking ---------------------------------------------------------------------------------- */

static void walk_reset(struct walk *w)
{
    while (w->depth > 0) {
        free(w->frames[--w->depth].heads);
    }
    w->has_last = false;
    w->has_low = false;
}

static void walk_deinit(struct walk *w)
{
    walk_reset(w);
    bytes_deinit(&w->last);
    bytes_deinit(&w->low);
    bytes_deinit(&w->key);
}

static void bytes_swap(struct bytes *a, struct bytes *b)
{
    struct bytes held = *a;
    *a = *b;
    *b = held;
}

/* The key in walk.key, of element `i` of the page, against those before. */
static enum err check_order(struct walk *w, const struct frame *f, uint32_t i, struct err_ctx *ec)
{
    struct slice key = bytes_slice(&w->key);
    int low = w->has_low ? slice_cmp(key, bytes_slice(&w->low)) : 1;
    bool below_last = w->has_last && slice_cmp(key, bytes_slice(&w->last)) <= 0;
    /* The first key of a page may be the one that led to it. */
    bool below_low = f->is_leaf || i == 0 ? low < 0 : low <= 0;
    if (below_last || below_low) {
        return err_set(ec, ERR_CORRUPT, "page %llu: key %u is not above what comes before it",
                       (unsigned long long)f->page, i);
    }
    if (f->is_leaf) {
        bytes_swap(&w->last, &w->key);
        w->has_last = true;
    } else {
        bytes_swap(&w->low, &w->key);
        w->has_low = true;
    }
    return OK;
}

/* The next element of a leaf; its key is then in walk.last. */
static enum err walk_next(struct bolt_reader *r, struct walk *w, struct found *out,
                          struct err_ctx *ec)
{
    while (w->depth > 0) {
        struct frame *f = &w->frames[w->depth - 1];
        if (f->i == f->n) {
            free(f->heads);
            w->depth--;
            continue;
        }
        uint32_t i = f->i++;
        struct element el = element_at(f, i);
        enum err e = read_bytes(r, f->base + el.key_at, el.key_len, &w->key, ec);
        if (e == OK) {
            e = check_order(w, f, i, ec);
        }
        if (e == OK && f->is_leaf) {
            *out =
                (struct found){f->page, el.flags, f->base + el.key_at + el.key_len, el.value_len};
            return OK;
        }
        if (e == OK) {
            e = walk_enter(r, w, el.child, ec);
        }
        if (e != OK) {
            return e;
        }
    }
    return ERR_END;
}

/* --- public ----------------------------------------------------------------------------------- */

enum err bolt_open(const struct bolt_source *src, struct bolt_reader **out, struct bolt_info *info,
                   struct err_ctx *ec)
{
    if (src->size > FILE_BYTES_MAX) {
        return err_set(ec, ERR_LIMIT, "a file of %llu bytes", (unsigned long long)src->size);
    }
    struct bolt_reader *r = xcalloc(1, sizeof(*r));
    r->src = *src;
    r->info.has_trailer = src->size % 512 == BOLT_TRAILER_BYTES;
    r->info.file_bytes = src->size - (r->info.has_trailer ? BOLT_TRAILER_BYTES : 0);
    struct meta m;
    enum err e = meta_choose(r, &m, ec);
    if (e == OK) {
        r->info.page_bytes = m.page_bytes;
        r->info.n_pages = m.n_pages;
        r->info.txid = m.txid;
        r->info.has_freelist = m.freelist != BOLT_NO_FREELIST;
        r->root = m.root;
        r->freelist = m.freelist;
        r->visited = calloc((size_t)(m.n_pages / 8 + 1), 1);
        e = r->visited == NULL ? err_set(ec, ERR_NO_MEM, "a bit for each page") : OK;
    }
    if (e == OK) {
        e = walk_enter(r, &r->buckets, m.root, ec);
    }
    if (e != OK) {
        bolt_close(&r);
        return e;
    }
    *out = r;
    *info = r->info;
    return OK;
}

void bolt_close(struct bolt_reader **rp)
{
    struct bolt_reader *r = *rp;
    *rp = NULL;
    if (r == NULL) {
        return;
    }
    walk_deinit(&r->buckets);
    walk_deinit(&r->pairs);
    bytes_deinit(&r->value);
    free(r->visited);
    free(r);
}

/* The tree of the bucket whose element was found. */
static enum err bucket_enter(struct bolt_reader *r, const struct found *b, struct err_ctx *ec)
{
    uint8_t head[BOLT_BUCKET];
    if (b->flags != BOLT_FLAG_BUCKET) {
        return page_fail(ec, b->page, "a pair among the buckets");
    }
    if (b->value_len < BOLT_BUCKET) {
        return page_fail(ec, b->page, "a bucket without a head");
    }
    enum err e = read_at(r, b->value_at, head, sizeof(head), ec);
    if (e != OK) {
        return e;
    }
    uint64_t root = le_get(head, 8);
    if (root != 0) {
        return walk_enter(r, &r->pairs, root, ec);
    }
    struct frame f = {
        .page = b->page, .base = b->value_at + BOLT_BUCKET, .span = b->value_len - BOLT_BUCKET};
    uint8_t page[BOLT_HEAD];
    if (f.span < BOLT_HEAD) {
        return page_fail(ec, b->page, "an inline bucket that is cut");
    }
    e = read_at(r, f.base, page, sizeof(page), ec);
    if (e != OK) {
        return e;
    }
    if (le_get(page + BOLT_AT_ID, 8) != 0 || le_get(page + BOLT_AT_KIND, 2) != BOLT_PAGE_LEAF ||
        le_get32(page + BOLT_AT_OVERFLOW) != 0) {
        return page_fail(ec, b->page, "an inline bucket that is no leaf");
    }
    return walk_push(r, &r->pairs, f, page, ec);
}

enum err bolt_next_bucket(struct bolt_reader *r, struct slice *name, struct err_ctx *ec)
{
    struct found b;
    walk_reset(&r->pairs);
    enum err e = walk_next(r, &r->buckets, &b, ec);
    if (e == OK) {
        e = bucket_enter(r, &b, ec);
    }
    if (e == OK) {
        *name = bytes_slice(&r->buckets.last);
    }
    return e;
}

enum err bolt_next(struct bolt_reader *r, struct slice *key, struct slice *value,
                   struct err_ctx *ec)
{
    struct found p;
    enum err e = walk_next(r, &r->pairs, &p, ec);
    if (e != OK) {
        return e;
    }
    if (p.flags == BOLT_FLAG_BUCKET) {
        return err_set(ec, ERR_UNSUPPORTED, "page %llu: a bucket within a bucket",
                       (unsigned long long)p.page);
    }
    if (p.value_len > BOLT_READ_VALUE_MAX) {
        return err_set(ec, ERR_LIMIT, "page %llu: a value of %u bytes", (unsigned long long)p.page,
                       p.value_len);
    }
    e = read_bytes(r, p.value_at, p.value_len, &r->value, ec);
    if (e == OK) {
        *key = bytes_slice(&r->pairs.last);
        *value = bytes_slice(&r->value);
    }
    return e;
}

/* --- checking --------------------------------------------------------------------------------- */

/* Enter the ids of a freelist into `freed`. */
static enum err freelist_ids(struct bolt_reader *r, uint64_t at, uint64_t n, uint8_t *freed,
                             struct err_ctx *ec)
{
    uint8_t ids[IDS_AT_ONCE * 8];
    for (uint64_t done = 0; done < n;) {
        size_t now = n - done < IDS_AT_ONCE ? (size_t)(n - done) : IDS_AT_ONCE;
        enum err e = read_at(r, at + done * 8, ids, now * 8, ec);
        if (e != OK) {
            return e;
        }
        for (size_t i = 0; i < now; i++) {
            uint64_t id = le_get(ids + i * 8, 8);
            if (!page_is_in_file(r, id)) {
                return page_fail(ec, id, "out of bounds");
            }
            if (bit_test_and_set(freed, id)) {
                return page_fail(ec, id, "already freed");
            }
        }
        done += now;
    }
    return OK;
}

static enum err freelist_read(struct bolt_reader *r, uint8_t *freed, struct err_ctx *ec)
{
    uint8_t head[BOLT_HEAD];
    uint8_t count[8];
    uint64_t span;
    uint64_t id = r->freelist;
    enum err e = page_enter(r, id, head, &span, ec);
    if (e != OK) {
        return e;
    }
    if (le_get(head + BOLT_AT_KIND, 2) != BOLT_PAGE_FREELIST) {
        return page_fail(ec, id, "is not a freelist");
    }
    uint64_t at = BOLT_HEAD;
    uint64_t n = le_get(head + BOLT_AT_COUNT, 2);
    if (n == UINT16_MAX) {
        e = read_at(r, id * r->info.page_bytes + at, count, sizeof(count), ec);
        if (e != OK) {
            return e;
        }
        n = le_get(count, 8);
        at += 8;
    }
    if (n > (span - at) / 8) {
        return page_fail(ec, id, "a freelist longer than its pages");
    }
    return freelist_ids(r, id * r->info.page_bytes + at, n, freed, ec);
}

/* Every page is either reached or free. A file without a freelist has nothing to say about it. */
static enum err freelist_check(struct bolt_reader *r, struct err_ctx *ec)
{
    uint8_t *freed = calloc((size_t)(r->info.n_pages / 8 + 1), 1);
    if (freed == NULL) {
        return err_set(ec, ERR_NO_MEM, "a bit for each page");
    }
    enum err e = freelist_read(r, freed, ec);
    for (uint64_t id = BOLT_FIRST_PAGE; e == OK && id < r->info.n_pages; id++) {
        bool is_reached = bit_is_set(r->visited, id);
        bool is_free = bit_is_set(freed, id);
        if (is_reached == is_free) {
            e = page_fail(ec, id, is_reached ? "reachable freed" : "unreachable unfreed");
        }
    }
    free(freed);
    return e;
}

/* Does the file say what its bytes add up to? */
static enum err sum_find(struct bolt_reader *r, bool *found, uint32_t *sum, struct err_ctx *ec)
{
    uint8_t p[BOLT_SUM_PAGE_BYTES];
    uint64_t last = r->info.n_pages - 1;
    *found = false;
    if (r->info.has_freelist || r->info.txid > BOLT_SUM_TXID_MAX || bit_is_set(r->visited, last)) {
        return OK;
    }
    enum err e = read_at(r, last * r->info.page_bytes, p, sizeof(p), ec);
    if (e == OK) {
        *found = memcmp(p + BOLT_AT_SUM_MAGIC, BOLT_SUM_MAGIC, BOLT_SUM_MAGIC_BYTES) == 0;
        *sum = le_get32(p + BOLT_AT_SUM);
    }
    return e;
}

static enum err sum_check(struct bolt_reader *r, struct err_ctx *ec)
{
    bool found;
    uint32_t want = 0;
    uint32_t crc = 0;
    enum err e = sum_find(r, &found, &want, ec);
    if (e != OK || !found) {
        return e;
    }
    uint64_t end = (r->info.n_pages - 1) * r->info.page_bytes;
    uint8_t *piece = xalloc(SUM_PIECE_BYTES);
    for (uint64_t at = 0; e == OK && at < end;) {
        size_t n = end - at < SUM_PIECE_BYTES ? (size_t)(end - at) : SUM_PIECE_BYTES;
        e = r->src.read_at(r->src.arg, at, piece, n, ec);
        if (e == OK) {
            crc = crc32c(crc, piece, n);
            at += n;
        }
    }
    free(piece);
    if (e == OK && crc != want) {
        e = err_set(ec, ERR_CORRUPT, "the pages add up to %08x, and should to %08x", crc, want);
    }
    return e;
}

enum err bolt_check(const struct bolt_source *src, struct bolt_info *info, struct err_ctx *ec)
{
    struct bolt_reader *r = NULL;
    enum err e = bolt_open(src, &r, info, ec);
    if (e != OK) {
        return e;
    }
    struct slice name;
    struct slice key;
    struct slice value;
    while ((e = bolt_next_bucket(r, &name, ec)) == OK) {
        do {
            e = bolt_next(r, &key, &value, ec);
        } while (e == OK);
        if (e != ERR_END) {
            break;
        }
    }
    if (e == ERR_END) {
        e = r->info.has_freelist ? freelist_check(r, ec) : sum_check(r, ec);
    }
    bolt_close(&r);
    return e;
}
