/* bolt_write.c - a bbolt file in one pass.
 *
 * Trees grow from the left. The leaf under construction is written out when the next pair does not
 * fit; its first key and page id become a child of level 0 of branches, and a full branch becomes a
 * child of the level above. Only one unfinished page a level is kept, whatever the number of keys:
 *
 *     level 1   [ branch branch ............ ]
 *     level 0   [ leaf leaf leaf ....... ]         written pages never change
 *     leaf      [ key key key ... ]
 *
 * bbolt relies on branches having two children at least. So a branch that is full is written
 * without its last child, which stays behind together with the one that did not fit: what is left
 * at the end always has two. A branch of two or three long keys may be larger than a page; it gets
 * several.
 *
 * Page ids follow the order of writing. The root bucket is a tree like the others, fed with one
 * element a bucket, and written out last.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/bolt.h"
#include "engine/bolt_internal.h"

#define LEAF_MAX                                                                                   \
    ((BOLT_PAGE_BYTES - BOLT_HEAD) / (BOLT_ELEMENT + 1)) /* keys have a byte at least */
#define BRANCH_MAX LEAF_MAX
#define BRANCH_KEEP_MIN 3u /* a branch of fewer children is not cut, however long their keys */
#define INLINE_MAX (BOLT_PAGE_BYTES / 4u) /* of the page image */
#define TXID 2u
static_assert(TXID == BOLT_SUM_TXID_MAX, "the sum is of the file as we wrote it");
static_assert(sizeof(BOLT_SUM_MAGIC) == BOLT_SUM_MAGIC_BYTES, "it ends with a NUL");

struct leaf {
    size_t n;
    size_t bytes; /* of the page so far */
    size_t data_len;
    struct {
        uint32_t flags;
        uint32_t key_len;
        uint32_t value_len;
    } elements[LEAF_MAX];
    uint8_t data[BOLT_PAGE_BYTES];
};

struct level {
    size_t n;
    size_t bytes; /* of the page so far */
    struct {
        uint64_t page;
        size_t key_len;
    } children[BRANCH_MAX];
    struct bytes keys; /* owned; one behind the other */
};

struct tree {
    struct leaf leaf;
    size_t n_levels;
    struct level *levels[BOLT_DEPTH_MAX]; /* owned; those from n_levels on are kept for reuse */
};

struct bolt_writer {
    enum err (*write)(void *arg, struct slice bytes); /* NULL: measuring */
    void *arg;
    struct bolt_layout layout;
    bool has_sum;
    uint32_t crc;  /* of what was written */
    uint64_t next; /* page id */
    bool in_bucket;
    struct bytes name;
    struct bytes last_key; /* of the bucket; empty: none yet */
    struct tree root;
    struct tree bucket;
};

/* --- pages ------------------------------------------------------------------------------------ */

static void head_put(uint8_t *p, uint64_t id, unsigned kind, size_t n, uint64_t overflow)
{
    le_put(p + BOLT_AT_ID, id, 8);
    le_put(p + BOLT_AT_KIND, kind, 2);
    le_put(p + BOLT_AT_COUNT, n, 2);
    le_put(p + BOLT_AT_OVERFLOW, overflow, 4);
}

static enum err write_out(struct bolt_writer *w, struct slice bytes)
{
    w->crc = crc32c(w->crc, bytes.data, bytes.len);
    return w->write(w->arg, bytes);
}

static enum err write_metas(struct bolt_writer *w)
{
    for (uint64_t id = 0; id < BOLT_FIRST_PAGE; id++) {
        uint8_t page[BOLT_PAGE_BYTES] = {0};
        uint8_t *m = page + BOLT_HEAD;
        head_put(page, id, BOLT_PAGE_META, 0, 0);
        le_put(m + BOLT_META_MAGIC, BOLT_MAGIC, 4);
        le_put(m + BOLT_META_VERSION, BOLT_VERSION, 4);
        le_put(m + BOLT_META_PAGE_BYTES, BOLT_PAGE_BYTES, 4);
        le_put(m + BOLT_META_ROOT, w->layout.root, 8);
        le_put(m + BOLT_META_FREELIST, BOLT_NO_FREELIST, 8);
        le_put(m + BOLT_META_PAGES, w->layout.n_pages, 8);
        le_put(m + BOLT_META_TXID, TXID - id, 8);
        le_put(m + BOLT_META_SUM, bolt_meta_sum(m), 8);
        enum err e = write_out(w, slice_of(page, sizeof(page)));
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

/* Write a page: `heads` are its `n` elements, the data is `a` and `b`. */
static enum err emit(struct bolt_writer *w, unsigned kind, size_t n, const uint8_t *heads,
                     struct slice a, struct slice b, uint64_t *id)
{
    static const uint8_t zeros[BOLT_PAGE_BYTES];
    uint64_t bytes = BOLT_HEAD + (uint64_t)n * BOLT_ELEMENT + a.len + b.len;
    uint64_t n_pages = (bytes + BOLT_PAGE_BYTES - 1) / BOLT_PAGE_BYTES;
    enum err e = OK;
    *id = w->next;
    w->next += n_pages;
    if (w->write == NULL) {
        return OK;
    }
    if (*id == BOLT_FIRST_PAGE) {
        e = write_metas(w);
    }
    uint8_t head[BOLT_HEAD];
    head_put(head, *id, kind, n, n_pages - 1);
    const struct slice pieces[] = {slice_of(head, sizeof(head)), slice_of(heads, n * BOLT_ELEMENT),
                                   a, b,
                                   slice_of(zeros, (size_t)(n_pages * BOLT_PAGE_BYTES - bytes))};
    for (size_t i = 0; i < ARRAY_LEN(pieces) && e == OK; i++) {
        e = pieces[i].len == 0 ? OK : write_out(w, pieces[i]);
    }
    return e;
}

/* --- branches --------------------------------------------------------------------------------- */

static struct level *level_at(struct tree *t, size_t depth)
{
    ASSERT(depth < BOLT_DEPTH_MAX); /* each level at least halves the number of pages */
    if (t->levels[depth] == NULL) {
        t->levels[depth] = xcalloc(1, sizeof(struct level));
    }
    struct level *l = t->levels[depth];
    if (depth == t->n_levels) {
        t->n_levels++;
        l->n = 0;
        l->bytes = BOLT_HEAD;
        bytes_reset(&l->keys);
    }
    return l;
}

static enum err add_child(struct bolt_writer *w, struct tree *t, size_t depth, struct slice key,
                          uint64_t page);

/* Write the first `n` children of the level as a branch; the others stay. */
static enum err emit_branch(struct bolt_writer *w, struct tree *t, size_t depth, size_t n)
{
    struct level *l = t->levels[depth];
    uint8_t heads[BRANCH_MAX * BOLT_ELEMENT];
    size_t keys_len = 0;
    ASSERT(n >= 2 && n <= l->n);
    for (size_t i = 0; i < n; i++) {
        uint8_t *h = heads + i * BOLT_ELEMENT;
        le_put(h + BOLT_BRANCH_POS, (n - i) * BOLT_ELEMENT + keys_len, 4);
        le_put(h + BOLT_BRANCH_KEY, l->children[i].key_len, 4);
        le_put(h + BOLT_BRANCH_CHILD, l->children[i].page, 8);
        keys_len += l->children[i].key_len;
    }
    uint64_t id;
    enum err e = emit(w, BOLT_PAGE_BRANCH, n, heads, slice_of(l->keys.data, keys_len),
                      (struct slice){0}, &id);
    if (e == OK) {
        e = add_child(w, t, depth + 1, slice_of(l->keys.data, l->children[0].key_len), id);
    }
    l->n -= n;
    l->bytes -= n * BOLT_ELEMENT + keys_len;
    l->keys.len -= keys_len;
    memmove(l->keys.data, l->keys.data + keys_len, l->keys.len);
    memmove(&l->children[0], &l->children[n], l->n * sizeof(l->children[0]));
    return e;
}

static enum err add_child(struct bolt_writer *w, struct tree *t, size_t depth, struct slice key,
                          uint64_t page)
{
    struct level *l = level_at(t, depth);
    size_t more = BOLT_ELEMENT + key.len;
    if (l->n >= BRANCH_KEEP_MIN && l->bytes + more > BOLT_PAGE_BYTES) {
        enum err e = emit_branch(w, t, depth, l->n - 1);
        if (e != OK) {
            return e;
        }
    }
    ASSERT(l->n < BRANCH_MAX);
    l->children[l->n].page = page;
    l->children[l->n].key_len = key.len;
    l->n++;
    l->bytes += more;
    bytes_add(&l->keys, key.data, key.len);
    return OK;
}

/* --- leaves ----------------------------------------------------------------------------------- */

static void leaf_element_put(uint8_t *h, uint32_t flags, size_t pos, size_t key_len,
                             size_t value_len)
{
    le_put(h + BOLT_LEAF_FLAGS, flags, 4);
    le_put(h + BOLT_LEAF_POS, pos, 4);
    le_put(h + BOLT_LEAF_KEY, key_len, 4);
    le_put(h + BOLT_LEAF_VALUE, value_len, 4);
}

static void leaf_heads_put(uint8_t *heads, const struct leaf *l)
{
    size_t at = 0;
    for (size_t i = 0; i < l->n; i++) {
        leaf_element_put(heads + i * BOLT_ELEMENT, l->elements[i].flags,
                         (l->n - i) * BOLT_ELEMENT + at, l->elements[i].key_len,
                         l->elements[i].value_len);
        at += (size_t)l->elements[i].key_len + l->elements[i].value_len;
    }
}

static void leaf_reset(struct leaf *l)
{
    l->n = 0;
    l->bytes = BOLT_HEAD;
    l->data_len = 0;
}

static enum err emit_leaf(struct bolt_writer *w, struct tree *t)
{
    struct leaf *l = &t->leaf;
    uint8_t heads[LEAF_MAX * BOLT_ELEMENT];
    leaf_heads_put(heads, l);
    uint64_t id;
    enum err e = emit(w, BOLT_PAGE_LEAF, l->n, heads, slice_of(l->data, l->data_len),
                      (struct slice){0}, &id);
    if (e == OK) {
        e = add_child(w, t, 0, slice_of(l->data, l->n == 0 ? 0 : l->elements[0].key_len), id);
    }
    leaf_reset(l);
    return e;
}

static enum err add_element(struct bolt_writer *w, struct tree *t, uint32_t flags, struct slice key,
                            struct slice value)
{
    struct leaf *l = &t->leaf;
    size_t more = BOLT_ELEMENT + key.len + value.len;
    if (l->n > 0 && l->bytes + more > BOLT_PAGE_BYTES) {
        enum err e = emit_leaf(w, t);
        if (e != OK) {
            return e;
        }
    }
    if (BOLT_HEAD + more > BOLT_PAGE_BYTES) {
        /* Too long for one page: it has a leaf of its own and goes there without being copied. */
        uint8_t h[BOLT_ELEMENT];
        uint64_t id;
        leaf_element_put(h, flags, BOLT_ELEMENT, key.len, value.len);
        enum err e = emit(w, BOLT_PAGE_LEAF, 1, h, key, value, &id);
        return e == OK ? add_child(w, t, 0, key, id) : e;
    }
    l->elements[l->n].flags = flags;
    l->elements[l->n].key_len = (uint32_t)key.len;
    l->elements[l->n].value_len = (uint32_t)value.len;
    l->n++;
    l->bytes += more;
    memcpy(l->data + l->data_len, key.data, key.len);
    l->data_len += key.len;
    if (w->write != NULL && value.len > 0) {
        memcpy(l->data + l->data_len, value.data, value.len);
    }
    l->data_len += value.len;
    return OK;
}

/* --- trees ------------------------------------------------------------------------------------ */

static void tree_reset(struct tree *t)
{
    leaf_reset(&t->leaf);
    t->n_levels = 0;
}

/* Write what is left of the tree; *root is its topmost page. */
static enum err finish_tree(struct bolt_writer *w, struct tree *t, uint64_t *root)
{
    enum err e = t->leaf.n > 0 || t->n_levels == 0 ? emit_leaf(w, t) : OK;
    for (size_t depth = 0; e == OK && depth < t->n_levels; depth++) {
        const struct level *l = t->levels[depth];
        if (depth + 1 == t->n_levels && l->n == 1) {
            *root = l->children[0].page;
            return OK;
        }
        e = emit_branch(w, t, depth, l->n);
    }
    ASSERT(e != OK);
    return e;
}

/* The bucket under construction becomes an element of the root. */
static enum err end_bucket(struct bolt_writer *w)
{
    struct leaf *l = &w->bucket.leaf;
    uint8_t value[BOLT_BUCKET + INLINE_MAX] = {0};
    size_t len = BOLT_BUCKET;
    if (w->bucket.n_levels == 0 && l->bytes <= INLINE_MAX) {
        uint8_t *p = value + BOLT_BUCKET;
        head_put(p, 0, BOLT_PAGE_LEAF, l->n, 0);
        leaf_heads_put(p + BOLT_HEAD, l);
        memcpy(p + BOLT_HEAD + l->n * BOLT_ELEMENT, l->data, l->data_len);
        len += l->bytes;
    } else {
        uint64_t root;
        enum err e = finish_tree(w, &w->bucket, &root);
        if (e != OK) {
            return e;
        }
        le_put(value, root, 8);
    }
    tree_reset(&w->bucket);
    w->in_bucket = false;
    return add_element(w, &w->root, BOLT_FLAG_BUCKET, bytes_slice(&w->name), slice_of(value, len));
}

/* --- public ----------------------------------------------------------------------------------- */

struct bolt_writer *bolt_measure_create(void)
{
    struct bolt_writer *w = xcalloc(1, sizeof(*w));
    w->next = BOLT_FIRST_PAGE;
    tree_reset(&w->root);
    tree_reset(&w->bucket);
    return w;
}

struct bolt_writer *bolt_writer_create(const struct bolt_layout *layout,
                                       enum err (*write)(void *arg, struct slice bytes), void *arg)
{
    struct bolt_writer *w = bolt_measure_create();
    w->layout = *layout;
    w->write = write;
    w->arg = arg;
    return w;
}

void bolt_add_sum(struct bolt_writer *w)
{
    w->has_sum = true;
}

static void tree_deinit(struct tree *t)
{
    for (size_t i = 0; i < BOLT_DEPTH_MAX; i++) {
        if (t->levels[i] != NULL) {
            bytes_deinit(&t->levels[i]->keys);
            free(t->levels[i]);
        }
    }
}

void bolt_writer_destroy(struct bolt_writer **wp)
{
    struct bolt_writer *w = *wp;
    *wp = NULL;
    if (w == NULL) {
        return;
    }
    tree_deinit(&w->root);
    tree_deinit(&w->bucket);
    bytes_deinit(&w->name);
    bytes_deinit(&w->last_key);
    free(w);
}

/* `*last` is the key before, and becomes this one. */
static enum err take_key(struct bytes *last, struct slice key)
{
    if (key.len == 0 || key.len > BOLT_KEY_BYTES_MAX) {
        return ERR_LIMIT;
    }
    if (slice_cmp(key, bytes_slice(last)) <= 0) {
        return ERR_INVALID;
    }
    bytes_reset(last);
    bytes_add(last, key.data, key.len);
    return OK;
}

enum err bolt_bucket(struct bolt_writer *w, struct slice name)
{
    enum err e = w->in_bucket ? end_bucket(w) : OK;
    if (e == OK) {
        e = take_key(&w->name, name);
    }
    if (e == OK) {
        w->in_bucket = true;
        bytes_reset(&w->last_key);
    }
    return e;
}

enum err bolt_put(struct bolt_writer *w, struct slice key, struct slice value)
{
    ASSERT(w->in_bucket);
    if (value.len > BOLT_VALUE_BYTES_MAX) {
        return ERR_LIMIT;
    }
    enum err e = take_key(&w->last_key, key);
    return e == OK ? add_element(w, &w->bucket, 0, key, value) : e;
}

/* The page with the sum of all before it. */
static enum err write_sum(struct bolt_writer *w)
{
    uint8_t page[BOLT_PAGE_BYTES] = {0};
    uint64_t id = w->next++;
    if (w->write == NULL) {
        return OK;
    }
    head_put(page, id, 0, 0, 0);
    memcpy(page + BOLT_AT_SUM_MAGIC, BOLT_SUM_MAGIC, BOLT_SUM_MAGIC_BYTES);
    le_put(page + BOLT_AT_SUM, w->crc, 4);
    return w->write(w->arg, slice_of(page, sizeof(page)));
}

enum err bolt_finish(struct bolt_writer *w, struct bolt_layout *out)
{
    uint64_t root;
    enum err e = w->in_bucket ? end_bucket(w) : OK;
    if (e == OK) {
        e = finish_tree(w, &w->root, &root);
    }
    if (e == OK && w->has_sum) {
        e = write_sum(w);
    }
    if (e != OK) {
        return e;
    }
    if (w->write != NULL && (root != w->layout.root || w->next != w->layout.n_pages)) {
        return ERR_INVALID;
    }
    *out = (struct bolt_layout){root, w->next};
    return OK;
}
