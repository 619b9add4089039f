/* lease.c - the lease table.
 *
 * Leases are found by id and keys by their bytes, each through a hash table with open addressing.
 * The keys of a lease form a list, sorted only when somebody asks for them. While promoted, every
 * lease stands in a binary heap by the time at which it is due to be reported: its deadline, or a
 * while after it was last reported. Nothing depends on hash order.
 */
#include "engine/lease.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#define SPREAD_LEASES_MIN 1000u /* with fewer leases a promotion spreads nothing */
/* expiries in any one second, below etcd's 1000 revocations a second */
#define SPREAD_PER_SECOND_MAX 750u
#define TABLE_CELLS_FIRST 64u
#define NOT_IN_HEAP SIZE_MAX

struct lease;

/* A key that hangs on a lease. */
struct lease_key {
    struct lease *lease;
    struct lease_key *next; /* among the lease's keys */
    struct lease_key *prev;
    size_t len;
    uint8_t data[];
};

struct lease {
    int64_t id;
    int64_t ttl_s;
    int64_t checkpoint_s;
    uint64_t deadline_ms; /* while promoted */
    uint64_t due_ms;      /* while promoted: the next report */
    size_t heap_i;        /* place in the heap, or NOT_IN_HEAP */
    struct lease_key *keys;
    size_t n_keys;
};

struct cell {
    uint64_t hash;
    void *p; /* NULL: free */
};

/* Open addressing with linear probing, at most three quarters full. */
struct table {
    struct cell *cells; /* owned */
    size_t n_cells;     /* a power of two */
    size_t n;
};

struct lease_table {
    int64_t min_ttl_s;
    bool promoted;
    struct table by_id;  /* struct lease, owned */
    struct table by_key; /* struct lease_key, owned */
    struct lease **heap; /* by due_ms, then id */
    size_t n_heap;
    size_t heap_cap;
};

/* --- hash table ------------------------------------------------------------------------------- */

static void table_place(struct table *t, uint64_t hash, void *p)
{
    size_t i = hash & (t->n_cells - 1);
    while (t->cells[i].p != NULL) {
        i = (i + 1) & (t->n_cells - 1);
    }
    t->cells[i] = (struct cell){hash, p};
}

static void table_add(struct table *t, uint64_t hash, void *p)
{
    if (t->n >= t->n_cells / 4 * 3) {
        struct table grown = {.n_cells = t->n_cells == 0 ? TABLE_CELLS_FIRST : 2 * t->n_cells,
                              .n = t->n};
        grown.cells = xcalloc(grown.n_cells, sizeof *grown.cells);
        for (size_t i = 0; i < t->n_cells; i++) {
            if (t->cells[i].p != NULL) {
                table_place(&grown, t->cells[i].hash, t->cells[i].p);
            }
        }
        free(t->cells);
        *t = grown;
    }
    table_place(t, hash, p);
    t->n++;
}

static void table_remove(struct table *t, uint64_t hash, const void *p)
{
    size_t mask = t->n_cells - 1;
    size_t i = hash & mask;
    while (t->cells[i].p != p) {
        ASSERT(t->cells[i].p != NULL);
        i = (i + 1) & mask;
    }
    /* Close the gap with cells that may stand there, so that no probe ends too early. */
    for (size_t k = (i + 1) & mask; t->cells[k].p != NULL; k = (k + 1) & mask) {
        size_t home = t->cells[k].hash & mask;
        if (((k - home) & mask) >= ((k - i) & mask)) {
            t->cells[i] = t->cells[k];
            i = k;
        }
    }
    t->cells[i].p = NULL;
    t->n--;
}

static uint64_t id_hash(int64_t id)
{
    return hash64(&id, sizeof id);
}

static struct lease *find_lease(const struct lease_table *t, int64_t id)
{
    const struct table *ids = &t->by_id;
    if (ids->n == 0) {
        return NULL;
    }
    uint64_t hash = id_hash(id);
    size_t i = hash & (ids->n_cells - 1);
    for (; ids->cells[i].p != NULL; i = (i + 1) & (ids->n_cells - 1)) {
        struct lease *l = ids->cells[i].p;
        if (ids->cells[i].hash == hash && l->id == id) {
            return l;
        }
    }
    return NULL;
}

static struct lease_key *find_key(const struct lease_table *t, uint64_t hash, struct slice key)
{
    const struct table *keys = &t->by_key;
    if (keys->n == 0) {
        return NULL;
    }
    size_t i = hash & (keys->n_cells - 1);
    for (; keys->cells[i].p != NULL; i = (i + 1) & (keys->n_cells - 1)) {
        struct lease_key *k = keys->cells[i].p;
        if (keys->cells[i].hash == hash && slice_eq(slice_of(k->data, k->len), key)) {
            return k;
        }
    }
    return NULL;
}

/* --- heap ------------------------------------------------------------------------------------- */

static bool due_before(const struct lease *a, const struct lease *b)
{
    return a->due_ms != b->due_ms ? a->due_ms < b->due_ms : a->id < b->id;
}

static void heap_set(struct lease_table *t, size_t i, struct lease *l)
{
    t->heap[i] = l;
    l->heap_i = i;
}

/* The lease at `i` may be out of place: move it up or down to where it belongs. */
static void heap_fix(struct lease_table *t, size_t i)
{
    struct lease *l = t->heap[i];
    while (i > 0 && due_before(l, t->heap[(i - 1) / 2])) {
        heap_set(t, i, t->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
    for (;;) {
        size_t child = 2 * i + 1;
        if (child + 1 < t->n_heap && due_before(t->heap[child + 1], t->heap[child])) {
            child++;
        }
        if (child >= t->n_heap || !due_before(t->heap[child], l)) {
            break;
        }
        heap_set(t, i, t->heap[child]);
        i = child;
    }
    heap_set(t, i, l);
}

static void heap_add(struct lease_table *t, struct lease *l)
{
    if (t->n_heap == t->heap_cap) {
        t->heap_cap = t->heap_cap == 0 ? TABLE_CELLS_FIRST : 2 * t->heap_cap;
        t->heap = xrealloc(t->heap, t->heap_cap * sizeof(struct lease *));
    }
    heap_set(t, t->n_heap++, l);
    heap_fix(t, l->heap_i);
}

static void heap_remove(struct lease_table *t, struct lease *l)
{
    size_t i = l->heap_i;
    struct lease *last = t->heap[--t->n_heap];
    if (last != l) {
        heap_set(t, i, last);
        heap_fix(t, i);
    }
    l->heap_i = NOT_IN_HEAP;
}

static void set_deadline(struct lease_table *t, struct lease *l, uint64_t deadline_ms)
{
    l->deadline_ms = deadline_ms;
    l->due_ms = deadline_ms;
    if (l->heap_i == NOT_IN_HEAP) {
        heap_add(t, l);
    } else {
        heap_fix(t, l->heap_i);
    }
}

/* --- leases ----------------------------------------------------------------------------------- */

struct lease_table *lease_table_create(int64_t min_ttl_s)
{
    struct lease_table *t = xcalloc(1, sizeof *t);
    t->min_ttl_s = min_ttl_s;
    return t;
}

void lease_table_destroy(struct lease_table **tp)
{
    struct lease_table *t = *tp;
    if (t == NULL) {
        return;
    }
    for (size_t i = 0; i < t->by_key.n_cells; i++) {
        free(t->by_key.cells[i].p);
    }
    for (size_t i = 0; i < t->by_id.n_cells; i++) {
        free(t->by_id.cells[i].p);
    }
    free(t->by_key.cells);
    free(t->by_id.cells);
    free(t->heap);
    free(t);
    *tp = NULL;
}

/* Seconds that a lease may run, from a request or from the store. */
static int64_t ttl_within(const struct lease_table *t, int64_t ttl_s)
{
    if (ttl_s < t->min_ttl_s) {
        return t->min_ttl_s;
    }
    return ttl_s > LEASE_TTL_MAX_S ? LEASE_TTL_MAX_S : ttl_s;
}

static int64_t checkpoint_within(int64_t remaining_s)
{
    if (remaining_s < 0) {
        return 0;
    }
    return remaining_s > LEASE_TTL_MAX_S ? LEASE_TTL_MAX_S : remaining_s;
}

static struct lease *add_lease(struct lease_table *t, int64_t id, int64_t ttl_s,
                               int64_t checkpoint_s)
{
    struct lease *l = xcalloc(1, sizeof *l);
    l->id = id;
    l->ttl_s = ttl_s;
    l->checkpoint_s = checkpoint_s;
    l->heap_i = NOT_IN_HEAP;
    table_add(&t->by_id, id_hash(id), l);
    return l;
}

enum err lease_grant(struct lease_table *t, int64_t id, int64_t ttl_s, uint64_t now_ms,
                     int64_t *effective_s)
{
    if (id == 0) {
        return ERR_LEASE_NOT_FOUND;
    }
    if (ttl_s > LEASE_TTL_MAX_S) {
        return ERR_LEASE_TTL;
    }
    if (find_lease(t, id) != NULL) {
        return ERR_LEASE_EXISTS;
    }
    struct lease *l = add_lease(t, id, ttl_within(t, ttl_s), 0);
    if (t->promoted) {
        set_deadline(t, l, now_ms + (uint64_t)l->ttl_s * 1000u);
    }
    *effective_s = l->ttl_s;
    return OK;
}

void lease_restore(struct lease_table *t, int64_t id, int64_t ttl_s, int64_t remaining_s)
{
    ASSERT(!t->promoted);
    ASSERT(id != 0 && find_lease(t, id) == NULL);
    (void)add_lease(t, id, ttl_within(t, ttl_s), checkpoint_within(remaining_s));
}

enum err lease_revoke(struct lease_table *t, int64_t id)
{
    struct lease *l = find_lease(t, id);
    if (l == NULL) {
        return ERR_LEASE_NOT_FOUND;
    }
    while (l->keys != NULL) {
        struct lease_key *k = l->keys;
        l->keys = k->next;
        table_remove(&t->by_key, hash64(k->data, k->len), k);
        free(k);
    }
    if (l->heap_i != NOT_IN_HEAP) {
        heap_remove(t, l);
    }
    table_remove(&t->by_id, id_hash(id), l);
    free(l);
    return OK;
}

bool lease_exists(const struct lease_table *t, int64_t id)
{
    return find_lease(t, id) != NULL;
}

size_t lease_count(const struct lease_table *t)
{
    return t->by_id.n;
}

/* --- keys ------------------------------------------------------------------------------------- */

static void link_key(struct lease *l, struct lease_key *k)
{
    k->lease = l;
    k->prev = NULL;
    k->next = l->keys;
    if (l->keys != NULL) {
        l->keys->prev = k;
    }
    l->keys = k;
    l->n_keys++;
}

static void unlink_key(struct lease_key *k)
{
    if (k->prev != NULL) {
        k->prev->next = k->next;
    } else {
        k->lease->keys = k->next;
    }
    if (k->next != NULL) {
        k->next->prev = k->prev;
    }
    k->lease->n_keys--;
}

void lease_attach(struct lease_table *t, struct slice key, int64_t id)
{
    uint64_t hash = hash64(key.data, key.len);
    struct lease_key *k = find_key(t, hash, key);
    if (id == 0) {
        if (k != NULL) {
            unlink_key(k);
            table_remove(&t->by_key, hash, k);
            free(k);
        }
        return;
    }
    struct lease *l = find_lease(t, id);
    ASSERT(l != NULL);
    if (k == NULL) {
        k = xalloc(sizeof *k + key.len);
        k->len = key.len;
        memcpy(k->data, key.data, key.len);
        table_add(&t->by_key, hash, k);
    } else {
        unlink_key(k);
    }
    link_key(l, k);
}

int64_t lease_of_key(const struct lease_table *t, struct slice key)
{
    const struct lease_key *k = find_key(t, hash64(key.data, key.len), key);
    return k == NULL ? 0 : k->lease->id;
}

static int by_bytes(const void *a, const void *b)
{
    const struct lease_key *x = *(const struct lease_key *const *)a;
    const struct lease_key *y = *(const struct lease_key *const *)b;
    return slice_cmp(slice_of(x->data, x->len), slice_of(y->data, y->len));
}

void lease_each_key(const struct lease_table *t, int64_t id,
                    void (*each)(void *arg, struct slice key), void *arg)
{
    const struct lease *l = find_lease(t, id);
    if (l == NULL || l->n_keys == 0) {
        return;
    }
    size_t n = l->n_keys;
    const struct lease_key **keys = xalloc(n * sizeof *keys);
    size_t i = 0;
    for (const struct lease_key *k = l->keys; k != NULL; k = k->next) {
        keys[i++] = k;
    }
    ASSERT(i == n);
    qsort(keys, n, sizeof *keys, by_bytes);
    for (i = 0; i < n; i++) {
        each(arg, slice_of(keys[i]->data, keys[i]->len));
    }
    free(keys);
}

/* --- time ------------------------------------------------------------------------------------- */

static int by_deadline(const void *a, const void *b)
{
    const struct lease *x = *(const struct lease *const *)a;
    const struct lease *y = *(const struct lease *const *)b;
    if (x->deadline_ms != y->deadline_ms) {
        return x->deadline_ms < y->deadline_ms ? -1 : 1;
    }
    return (x->id > y->id) - (x->id < y->id);
}

static int by_id(const void *a, const void *b)
{
    const struct lease *x = *(const struct lease *const *)a;
    const struct lease *y = *(const struct lease *const *)b;
    return (x->id > y->id) - (x->id < y->id);
}

/* All leases in the given order; the caller frees. */
static struct lease **sorted_leases(const struct lease_table *t,
                                    int (*order)(const void *, const void *))
{
    struct lease **all = xalloc(t->by_id.n * sizeof(struct lease *));
    size_t n = 0;
    for (size_t i = 0; i < t->by_id.n_cells; i++) {
        if (t->by_id.cells[i].p != NULL) {
            all[n++] = t->by_id.cells[i].p;
        }
    }
    ASSERT(n == t->by_id.n);
    if (n > 0) {
        qsort(all, n, sizeof *all, order);
    }
    return all;
}

void lease_promote(struct lease_table *t, uint64_t now_ms, uint64_t extend_ms)
{
    lease_demote(t);
    t->promoted = true;
    for (size_t i = 0; i < t->by_id.n_cells; i++) {
        struct lease *l = t->by_id.cells[i].p;
        if (l != NULL) {
            int64_t run_s = l->checkpoint_s > 0 ? l->checkpoint_s : l->ttl_s;
            l->deadline_ms = now_ms + (uint64_t)run_s * 1000u + extend_ms;
        }
    }
    struct lease **all = sorted_leases(t, by_deadline);
    size_t n = t->by_id.n;
    for (size_t i = 0; i < n; i++) {
        if (n >= SPREAD_LEASES_MIN && i >= SPREAD_PER_SECOND_MAX) {
            /* Any SPREAD_PER_SECOND_MAX + 1 neighbours span a second or more. */
            uint64_t earliest = all[i - SPREAD_PER_SECOND_MAX]->deadline_ms + 1000u;
            all[i]->deadline_ms = all[i]->deadline_ms > earliest ? all[i]->deadline_ms : earliest;
        }
        set_deadline(t, all[i], all[i]->deadline_ms);
    }
    free(all);
}

void lease_demote(struct lease_table *t)
{
    t->promoted = false;
    for (size_t i = 0; i < t->n_heap; i++) {
        t->heap[i]->heap_i = NOT_IN_HEAP;
    }
    t->n_heap = 0;
}

enum err lease_renew(struct lease_table *t, int64_t id, uint64_t now_ms, int64_t *ttl_s)
{
    if (!t->promoted) {
        return ERR_NOT_LEADER;
    }
    struct lease *l = find_lease(t, id);
    if (l == NULL) {
        return ERR_LEASE_NOT_FOUND;
    }
    if (l->deadline_ms <= now_ms) {
        return ERR_TIMEOUT;
    }
    l->checkpoint_s = 0;
    set_deadline(t, l, now_ms + (uint64_t)l->ttl_s * 1000u);
    *ttl_s = l->ttl_s;
    return OK;
}

enum err lease_lookup(const struct lease_table *t, int64_t id, uint64_t now_ms,
                      struct lease_info *out)
{
    const struct lease *l = find_lease(t, id);
    if (l == NULL) {
        return ERR_LEASE_NOT_FOUND;
    }
    *out = (struct lease_info){
        .id = id,
        .ttl_s = l->ttl_s,
        .remaining_s = t->promoted ? ((int64_t)l->deadline_ms - (int64_t)now_ms) / 1000 : l->ttl_s,
        .checkpoint_s = l->checkpoint_s,
        .n_keys = l->n_keys,
    };
    return OK;
}

void lease_each(const struct lease_table *t, void (*each)(void *arg, int64_t id), void *arg)
{
    struct lease **all = sorted_leases(t, t->promoted ? by_deadline : by_id);
    size_t n = t->by_id.n;
    for (size_t i = 0; i < n; i++) {
        each(arg, all[i]->id);
    }
    free(all);
}

size_t lease_expired(struct lease_table *t, uint64_t now_ms, uint64_t retry_ms, int64_t *ids,
                     size_t n_max)
{
    size_t n = 0;
    while (n < n_max && t->n_heap > 0 && t->heap[0]->due_ms <= now_ms) {
        struct lease *l = t->heap[0];
        ids[n++] = l->id;
        /* At least a millisecond later, so that one call never reports a lease twice. */
        l->due_ms = now_ms + (retry_ms > 0 ? retry_ms : 1u);
        heap_fix(t, 0);
    }
    return n;
}

void lease_checkpoint(struct lease_table *t, int64_t id, int64_t remaining_s, uint64_t now_ms)
{
    (void)now_ms; /* a deadline that runs is not moved */
    struct lease *l = find_lease(t, id);
    if (l != NULL) {
        l->checkpoint_s = checkpoint_within(remaining_s);
    }
}
