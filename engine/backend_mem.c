/* backend_mem.c - the backend in memory, for tests and simulation.
 *
 * Each bucket is a persistent treap: a search tree over the keys that is also a heap over a hash of
 * each key, so its shape depends on the set of keys alone and its depth is logarithmic. Nodes are
 * counted and shared between versions. The writer changes a node in place when nobody else holds it
 * and copies it otherwise, so a snapshot costs one reference and a transaction copies each path
 * once.
 *
 * What a power cut leaves is the newest version or the one before it, as with LMDB in
 * MDB_NOMETASYNC:
 *
 *     before ── commit ──► newest ── begin, put, del ──► working
 *
 * At the next commit `newest` becomes `before`, and `working` becomes `newest`.
 *
 * The size follows LMDB's habit: it grows to the high-water mark and shrinks only by
 * defragmentation.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/install.h"

#define CURSOR_DEPTH_MAX 256u /* a treap of 10M keys is about 70 deep */
#define PAGE_BYTES 4096
#define ITEM_OVERHEAD_BYTES 16 /* what a store on disk would spend on one pair */

struct item {
    _Atomic uint32_t refs;
    uint32_t key_len;
    uint64_t priority;
    size_t value_len;
    uint8_t data[]; /* key, value */
};

struct node {
    _Atomic uint32_t refs;
    struct node *left;  /* ref; smaller keys */
    struct node *right; /* ref; larger keys */
    struct item *item;  /* ref */
};

struct version {
    _Atomic uint32_t refs;
    int64_t bytes;
    struct node *roots[N_BUCKETS]; /* refs */
};

struct mem {
    struct backend base;
    _Atomic uint32_t refs; /* one of whoever has it open, one of its disk */
    /* Writer only. */
    struct version *working; /* owned; NULL outside a transaction */
    bool dirty;              /* the transaction changed something */
    struct version *before;  /* ref; what the last commit replaced */
    /* Any thread. */
    pthread_mutex_t lock;   /* guards the two below */
    struct version *newest; /* ref */
    int64_t bytes_high;     /* high-water mark of sizes since the last defragmentation */
    _Atomic int64_t open_reads;
};

struct backend_read {
    struct mem *mem;
    struct version *version; /* ref */
};

/* Nodes whose key is still to be given, the next one on top; their right trees come after them. */
struct backend_cursor {
    size_t depth;
    const struct node *stack[CURSOR_DEPTH_MAX];
};

/* --- items, nodes, versions ------------------------------------------------------------------- */

static bool last_ref(_Atomic uint32_t *refs)
{
    /* Acquire-release: whoever frees or changes the object sees everything its other holders did.
     */
    return atomic_fetch_sub_explicit(refs, 1, memory_order_acq_rel) == 1;
}

static void take_ref(_Atomic uint32_t *refs)
{
    (void)atomic_fetch_add_explicit(refs, 1, memory_order_relaxed);
}

static struct slice item_key(const struct item *i)
{
    return slice_of(i->data, i->key_len);
}

static struct slice item_value(const struct item *i)
{
    return slice_of(i->data + i->key_len, i->value_len);
}

static int64_t item_bytes(const struct item *i)
{
    return (int64_t)(i->key_len + i->value_len) + ITEM_OVERHEAD_BYTES;
}

static struct item *item_create(struct slice key, struct slice value1, struct slice value2)
{
    struct item *i = xalloc(sizeof(*i) + key.len + value1.len + value2.len);
    atomic_init(&i->refs, 1);
    i->key_len = (uint32_t)key.len;
    i->value_len = value1.len + value2.len;
    i->priority = hash64(key.data, key.len);
    const struct slice parts[] = {key, value1, value2};
    uint8_t *p = i->data;
    for (size_t n = 0; n < ARRAY_LEN(parts); n++) {
        if (parts[n].len > 0) {
            memcpy(p, parts[n].data, parts[n].len);
        }
        p += parts[n].len;
    }
    return i;
}

static void item_unref(struct item *i)
{
    if (last_ref(&i->refs)) {
        free(i);
    }
}

static struct node *node_create(struct item *item, struct node *left, struct node *right)
{
    struct node *n = xalloc(sizeof(*n));
    atomic_init(&n->refs, 1);
    n->item = item;
    n->left = left;
    n->right = right;
    return n;
}

static struct node *node_ref(struct node *n)
{
    if (n != NULL) {
        take_ref(&n->refs);
    }
    return n;
}

/* As deep as the tree, which is logarithmic. */
static void node_unref(struct node *n)
{
    if (n == NULL || !last_ref(&n->refs)) {
        return;
    }
    node_unref(n->left);
    node_unref(n->right);
    item_unref(n->item);
    free(n);
}

/* Take a reference and give back one to a node of the same content that nobody else holds. */
static struct node *node_own(struct node *n)
{
    if (atomic_load_explicit(&n->refs, memory_order_acquire) == 1) {
        return n;
    }
    take_ref(&n->item->refs);
    struct node *copy = node_create(n->item, node_ref(n->left), node_ref(n->right));
    node_unref(n);
    return copy;
}

static struct version *version_copy(const struct version *v)
{
    struct version *copy = xalloc(sizeof(*copy));
    atomic_init(&copy->refs, 1);
    copy->bytes = v->bytes;
    for (size_t i = 0; i < N_BUCKETS; i++) {
        copy->roots[i] = node_ref(v->roots[i]);
    }
    return copy;
}

static void version_unref(struct version **v)
{
    if (*v != NULL && last_ref(&(*v)->refs)) {
        for (size_t i = 0; i < N_BUCKETS; i++) {
            node_unref((*v)->roots[i]);
        }
        free(*v);
    }
    *v = NULL;
}

/* --- the treap; every function takes the references of the trees it is given ---------------------
 */

/* Part the tree at `key`, which is not in it. */
static void split(struct node *n, struct slice key, struct node **below, struct node **above)
{
    if (n == NULL) {
        *below = NULL;
        *above = NULL;
        return;
    }
    n = node_own(n);
    if (slice_cmp(item_key(n->item), key) < 0) {
        split(n->right, key, &n->right, above);
        *below = n;
    } else {
        split(n->left, key, below, &n->left);
        *above = n;
    }
}

/* All keys of `a` are below all of `b`. */
static struct node *merge(struct node *a, struct node *b)
{
    if (a == NULL || b == NULL) {
        return a != NULL ? a : b;
    }
    if (a->item->priority >= b->item->priority) {
        a = node_own(a);
        a->right = merge(a->right, b);
        return a;
    }
    b = node_own(b);
    b->left = merge(a, b->left);
    return b;
}

/* Takes `item` too; *bytes grows by what the tree grew. A key that is in the tree stands at or
 * above the place where its priority would put it, so a new node is never made beside an old one of
 * the same key. */
static struct node *insert(struct node *n, struct item *item, int64_t *bytes)
{
    if (n == NULL || n->item->priority < item->priority) {
        struct node *top = node_create(item, NULL, NULL);
        split(n, item_key(item), &top->left, &top->right);
        *bytes += item_bytes(item);
        return top;
    }
    n = node_own(n);
    int c = slice_cmp(item_key(item), item_key(n->item));
    if (c == 0) {
        *bytes += item_bytes(item) - item_bytes(n->item);
        item_unref(n->item);
        n->item = item;
    } else if (c < 0) {
        n->left = insert(n->left, item, bytes);
    } else {
        n->right = insert(n->right, item, bytes);
    }
    return n;
}

/* The key is in the tree. */
static struct node *erase(struct node *n, struct slice key, int64_t *bytes)
{
    ASSERT(n != NULL);
    n = node_own(n);
    int c = slice_cmp(key, item_key(n->item));
    if (c < 0) {
        n->left = erase(n->left, key, bytes);
        return n;
    }
    if (c > 0) {
        n->right = erase(n->right, key, bytes);
        return n;
    }
    *bytes -= item_bytes(n->item);
    struct node *rest = merge(node_ref(n->left), node_ref(n->right));
    node_unref(n);
    return rest;
}

static const struct item *find(const struct node *n, struct slice key)
{
    while (n != NULL) {
        int c = slice_cmp(key, item_key(n->item));
        if (c == 0) {
            return n->item;
        }
        n = c < 0 ? n->left : n->right;
    }
    return NULL;
}

static bool is_above_all(const struct node *n, struct slice key)
{
    while (n != NULL && n->right != NULL) {
        n = n->right;
    }
    return n == NULL || slice_cmp(item_key(n->item), key) < 0;
}

/* --- writing ------------------------------------------------------------------------------------
 */

static struct mem *mem_of(struct backend *b)
{
    return CONTAINER_OF(b, struct mem, base);
}

static enum err mem_begin(struct backend *b, struct err_ctx *ec)
{
    (void)ec;
    struct mem *m = mem_of(b);
    ASSERT(m->working == NULL);
    /* Only the writer replaces `newest`, so it may look without the lock. */
    m->working = version_copy(m->newest);
    m->dirty = false;
    return OK;
}

static enum err mem_put(struct backend *b, enum bucket k, struct slice key, struct slice value1,
                        struct slice value2, bool append, struct err_ctx *ec)
{
    struct mem *m = mem_of(b);
    ASSERT(m->working != NULL);
    if (key.len == 0 || key.len > BACKEND_KEY_BYTES_MAX) {
        return err_set(ec, ERR_LIMIT, "key of %zu bytes in %s", key.len, bucket_name(k));
    }
    struct node **root = &m->working->roots[k];
    if (append) {
        ASSERT(is_above_all(*root, key));
    }
    *root = insert(*root, item_create(key, value1, value2), &m->working->bytes);
    m->dirty = true;
    return OK;
}

static enum err mem_del(struct backend *b, enum bucket k, struct slice key, struct err_ctx *ec)
{
    (void)ec;
    struct mem *m = mem_of(b);
    ASSERT(m->working != NULL);
    struct node **root = &m->working->roots[k];
    if (find(*root, key) != NULL) {
        *root = erase(*root, key, &m->working->bytes);
        m->dirty = true;
    }
    return OK;
}

static void set_newest(struct mem *m, struct version *v)
{
    (void)pthread_mutex_lock(&m->lock);
    m->newest = v;
    m->bytes_high = v->bytes > m->bytes_high ? v->bytes : m->bytes_high;
    (void)pthread_mutex_unlock(&m->lock);
}

static enum err mem_commit(struct backend *b, struct err_ctx *ec)
{
    (void)ec;
    struct mem *m = mem_of(b);
    ASSERT(m->working != NULL);
    if (!m->dirty) {
        version_unref(&m->working);
        return OK;
    }
    version_unref(&m->before);
    m->before = m->newest;
    struct version *done = m->working;
    m->working = NULL;
    set_newest(m, done);
    return OK;
}

static void mem_abort(struct backend *b)
{
    struct mem *m = mem_of(b);
    ASSERT(m->working != NULL);
    version_unref(&m->working);
}

/* --- reading -------------------------------------------------------------------------------------
 */

static enum err mem_read_begin(struct backend *b, struct backend_read **out, struct err_ctx *ec)
{
    (void)ec;
    struct mem *m = mem_of(b);
    struct backend_read *r = xalloc(sizeof(*r));
    r->mem = m;
    (void)pthread_mutex_lock(&m->lock);
    take_ref(&m->newest->refs);
    r->version = m->newest;
    (void)pthread_mutex_unlock(&m->lock);
    (void)atomic_fetch_add_explicit(&m->open_reads, 1, memory_order_relaxed);
    *out = r;
    return OK;
}

static void mem_read_end(struct backend_read **r)
{
    if (*r == NULL) {
        return;
    }
    version_unref(&(*r)->version);
    (void)atomic_fetch_sub_explicit(&(*r)->mem->open_reads, 1, memory_order_relaxed);
    free(*r);
    *r = NULL;
}

static enum err mem_get(struct backend_read *r, enum bucket k, struct slice key,
                        struct slice *value)
{
    const struct item *i = find(r->version->roots[k], key);
    if (i == NULL) {
        return ERR_NOT_FOUND;
    }
    *value = item_value(i);
    return OK;
}

static void push(struct backend_cursor *c, const struct node *n)
{
    ASSERT(c->depth < CURSOR_DEPTH_MAX);
    c->stack[c->depth++] = n;
}

static enum err mem_cursor_open(struct backend_read *r, enum bucket k, struct slice from,
                                struct backend_cursor **out, struct err_ctx *ec)
{
    (void)ec;
    struct backend_cursor *c = xalloc(sizeof(*c));
    c->depth = 0;
    for (const struct node *n = r->version->roots[k]; n != NULL;) {
        if (slice_cmp(item_key(n->item), from) >= 0) {
            push(c, n);
            n = n->left;
        } else {
            n = n->right;
        }
    }
    *out = c;
    return OK;
}

static enum err mem_cursor_next(struct backend_cursor *c, struct slice *key, struct slice *value)
{
    if (c->depth == 0) {
        return ERR_END;
    }
    const struct node *n = c->stack[--c->depth];
    for (const struct node *x = n->right; x != NULL; x = x->left) {
        push(c, x);
    }
    *key = item_key(n->item);
    *value = item_value(n->item);
    return OK;
}

static void mem_cursor_close(struct backend_cursor **c)
{
    free(*c);
    *c = NULL;
}

/* --- the rest
 * -------------------------------------------------------------------------------------- */

static int64_t whole_pages(int64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static struct backend_stats mem_stats(struct backend *b)
{
    struct mem *m = mem_of(b);
    (void)pthread_mutex_lock(&m->lock);
    struct backend_stats s = {
        .file_bytes = whole_pages(m->bytes_high),
        .in_use_bytes = whole_pages(m->newest->bytes),
        .open_reads = atomic_load_explicit(&m->open_reads, memory_order_relaxed),
    };
    (void)pthread_mutex_unlock(&m->lock);
    return s;
}

static enum err mem_defrag(struct backend *b, struct err_ctx *ec)
{
    (void)ec;
    struct mem *m = mem_of(b);
    ASSERT(m->working == NULL);
    (void)pthread_mutex_lock(&m->lock);
    m->bytes_high = m->newest->bytes;
    (void)pthread_mutex_unlock(&m->lock);
    /* A compacted copy is synced whole before it takes the file's place: nothing is left to undo.
     */
    version_unref(&m->before);
    return OK;
}

static void mem_unref(struct mem **mp)
{
    struct mem *m = *mp;
    *mp = NULL;
    if (m != NULL && last_ref(&m->refs)) {
        version_unref(&m->before);
        version_unref(&m->newest);
        (void)pthread_mutex_destroy(&m->lock);
        free(m);
    }
}

static void mem_close(struct backend **b)
{
    if (*b == NULL) {
        return;
    }
    struct mem *m = mem_of(*b);
    ASSERT(atomic_load(&m->open_reads) == 0);
    *b = NULL;
    version_unref(&m->working);
    mem_unref(&m);
}

static const struct backend_ops mem_ops = {
    .close = mem_close,
    .begin = mem_begin,
    .put = mem_put,
    .del = mem_del,
    .commit = mem_commit,
    .abort = mem_abort,
    .read_begin = mem_read_begin,
    .read_end = mem_read_end,
    .get = mem_get,
    .cursor_open = mem_cursor_open,
    .cursor_next = mem_cursor_next,
    .cursor_close = mem_cursor_close,
    .stats = mem_stats,
    .defrag = mem_defrag,
};

static struct mem *create(void)
{
    struct mem *m = xcalloc(1, sizeof(*m));
    m->base.ops = &mem_ops;
    atomic_init(&m->refs, 1);
    (void)pthread_mutex_init(&m->lock, NULL);
    m->newest = xcalloc(1, sizeof(*m->newest));
    atomic_init(&m->newest->refs, 1);
    return m;
}

struct backend *backend_mem_create(void)
{
    return &create()->base;
}

void backend_mem_crash(struct backend *b, bool undo_last)
{
    ASSERT(b->ops == &mem_ops);
    struct mem *m = mem_of(b);
    version_unref(&m->working);
    if (undo_last && m->before != NULL) {
        struct version *lost = m->newest;
        set_newest(m, m->before);
        m->before = NULL;
        version_unref(&lost);
    }
    /* What was found after the cut is on the disk for good. */
    version_unref(&m->before);
}

/* --- a disk with one store -------------------------------------------------------------------- */

struct backend_mem_disk {
    struct mem *store; /* ref */
};

static bool is_open(const struct mem *m)
{
    return atomic_load_explicit(&m->refs, memory_order_acquire) > 1;
}

struct backend_mem_disk *backend_mem_disk_create(void)
{
    struct backend_mem_disk *d = xcalloc(1, sizeof(*d));
    d->store = create();
    return d;
}

void backend_mem_disk_destroy(struct backend_mem_disk **dp)
{
    struct backend_mem_disk *d = *dp;
    *dp = NULL;
    if (d != NULL) {
        ASSERT(!is_open(d->store));
        mem_unref(&d->store);
        free(d);
    }
}

struct backend *backend_mem_disk_open(struct backend_mem_disk *d)
{
    ASSERT(!is_open(d->store));
    take_ref(&d->store->refs);
    return &d->store->base;
}

void backend_mem_disk_crash(struct backend_mem_disk *d, bool undo_last)
{
    ASSERT(!is_open(d->store));
    backend_mem_crash(&d->store->base, undo_last);
}

static enum err disk_stage(const struct store_place *p, struct backend **out, struct err_ctx *ec)
{
    (void)p;
    (void)ec;
    *out = backend_mem_create();
    return OK;
}

static enum err disk_finish(const struct store_place *p, struct backend *staged, struct err_ctx *ec)
{
    (void)p;
    (void)ec;
    struct mem *m = mem_of(staged);
    version_unref(&m->before); /* nothing is left to undo */
    return OK;
}

static enum err disk_install(const struct store_place *p, struct backend *staged,
                             struct err_ctx *ec)
{
    (void)ec;
    struct mem *m = mem_of(staged);
    ASSERT(m->working == NULL);
    take_ref(&m->refs);
    mem_unref(&p->disk->store);
    p->disk->store = m;
    return OK;
}

static void disk_discard(const struct store_place *p, struct backend **staged)
{
    (void)p;
    mem_close(staged);
}

struct store_place store_place_mem(struct backend_mem_disk *d)
{
    return (struct store_place){.stage = disk_stage,
                                .finish = disk_finish,
                                .install = disk_install,
                                .discard = disk_discard,
                                .disk = d};
}
