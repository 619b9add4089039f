/* vfs_mem_names.c - the folders of the simulated disk.
 *
 * A folder's entry knows two files for its name: the live one, which every call sees, and the
 * synced one, which survives for sure. Each change of names (create, remove, rename, make a folder)
 * is also kept as a pending change until a sync_dir of its folder. At a crash every pending change
 * happens or does not, by the seed, under three rules that real file systems keep: a rename happens
 * at both of its names or at neither; changes of one name happen in their order; moves of folders
 * happen in their order (else a folder could end up inside itself). A sync_dir makes the changes in
 * its folder happen, with whatever those rules tie to them.
 */
#include "base/vfs_mem_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

struct node *mem_node_create(struct mem_disk *d, bool is_dir)
{
    struct node *n = xcalloc(1, sizeof(*n));
    n->refs = 1;
    n->is_dir = is_dir;
    mem_data_init(&n->data, &d->disk_bytes);
    n->prev = d->nodes.prev;
    n->next = &d->nodes;
    n->prev->next = n;
    n->next->prev = n;
    return n;
}

struct node *mem_node_ref(struct node *n)
{
    if (n != NULL) {
        n->refs++;
    }
    return n;
}

/* Recursion goes as deep as folders are nested. */
void mem_node_unref(struct node *n)
{
    if (n == NULL || --n->refs > 0) {
        return;
    }
    for (size_t i = 0; i < n->n_entries; i++) {
        mem_node_unref(n->entries[i]->live);
        mem_node_unref(n->entries[i]->synced);
        free(n->entries[i]->name);
        free(n->entries[i]);
    }
    free(n->entries);
    mem_data_deinit(&n->data);
    n->prev->next = n->next;
    n->next->prev = n->prev;
    free(n);
}

static void slot_set(struct node **slot, struct node *to)
{
    struct node *before = *slot;
    *slot = mem_node_ref(to);
    mem_node_unref(before);
}

static int name_cmp(const char *a, const char *b, size_t b_len)
{
    int c = strncmp(a, b, b_len);
    return c != 0 ? c : a[b_len] != '\0';
}

static bool entry_search(const struct node *dir, const char *name, size_t len, size_t *place)
{
    size_t low = 0;
    size_t high = dir->n_entries;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int c = name_cmp(dir->entries[mid]->name, name, len);
        if (c == 0) {
            *place = mid;
            return true;
        }
        low = c < 0 ? mid + 1 : low;
        high = c < 0 ? high : mid;
    }
    *place = low;
    return false;
}

static struct node *live_in(const struct node *dir, const char *name, size_t len)
{
    size_t at;
    return entry_search(dir, name, len, &at) ? dir->entries[at]->live : NULL;
}

static struct entry *entry_make(struct node *dir, const char *name, size_t len)
{
    size_t at;
    if (entry_search(dir, name, len, &at)) {
        return dir->entries[at];
    }
    struct entry *e = xcalloc(1, sizeof(*e));
    e->name = xstrndup(name, len);
    dir->entries = xrealloc(dir->entries, (dir->n_entries + 1) * sizeof(struct entry *));
    memmove(dir->entries + at + 1, dir->entries + at,
            (dir->n_entries - at) * sizeof(struct entry *));
    dir->entries[at] = e;
    dir->n_entries++;
    return e;
}

/* Drop the entries that mean nothing any more. Pending changes look entries up by name. */
static void sweep(struct node *dir)
{
    size_t kept = 0;
    for (size_t i = 0; i < dir->n_entries; i++) {
        struct entry *e = dir->entries[i];
        if (e->live == NULL && e->synced == NULL) {
            free(e->name);
            free(e);
        } else {
            dir->entries[kept++] = e;
        }
    }
    dir->n_entries = kept;
}

/* Returns 0 or an errno. A path through `avoid` is EINVAL: it cannot be moved below itself. */
int mem_walk(struct mem_disk *d, const char *path, const struct node *avoid, struct place *out)
{
    *out = (struct place){d->root, "", 0};
    for (;;) {
        path += strspn(path, "/");
        size_t len = strcspn(path, "/");
        if (len == 0) {
            return 0;
        }
        if (len == 1 && path[0] == '.') {
            path += len;
            continue;
        }
        if (out->name_len > 0) {
            struct node *next = live_in(out->dir, out->name, out->name_len);
            if (next == NULL || !next->is_dir) {
                return next == NULL ? ENOENT : ENOTDIR;
            }
            if (next == avoid) {
                return EINVAL;
            }
            out->dir = next;
        }
        out->name = path;
        out->name_len = len;
        path += len;
    }
}

struct node *mem_node_of(const struct place *p)
{
    return p->name_len == 0 ? p->dir : live_in(p->dir, p->name, p->name_len);
}

/* The node that `path` names. Returns 0 or an errno. */
int mem_look_up(struct mem_disk *d, const char *path, struct node **out)
{
    struct place p;
    int errnum = mem_walk(d, path, NULL, &p);
    if (errnum != 0) {
        return errnum;
    }
    *out = mem_node_of(&p);
    return *out == NULL ? ENOENT : 0;
}

struct pending *mem_pending_add(struct mem_disk *d, bool moves_dir)
{
    if (d->n_pending == d->cap_pending) {
        d->cap_pending = d->cap_pending == 0 ? 16 : d->cap_pending * 2;
        d->pending = xrealloc(d->pending, d->cap_pending * sizeof(*d->pending));
    }
    struct pending *p = &d->pending[d->n_pending++];
    *p = (struct pending){.moves_dir = moves_dir};
    return p;
}

/* Make the change live, and a part of `p`. */
void mem_change_live(struct pending *p, const struct place *at, struct node *to)
{
    struct change *c = &p->changes[p->n_changes++];
    c->dir = mem_node_ref(at->dir);
    c->name = xstrndup(at->name, at->name_len);
    c->to = mem_node_ref(to);
    slot_set(&entry_make(at->dir, at->name, at->name_len)->live, to);
}

static struct entry *entry_of(const struct change *c)
{
    return entry_make(c->dir, c->name, strlen(c->name));
}

static bool any_marked(const struct pending *p)
{
    bool marked = false;
    for (unsigned i = 0; i < p->n_changes; i++) {
        marked = marked || entry_of(&p->changes[i])->marked;
    }
    return marked;
}

static void mark(const struct pending *p, bool marked)
{
    for (unsigned i = 0; i < p->n_changes; i++) {
        entry_of(&p->changes[i])->marked = marked;
    }
}

static void make_synced(const struct pending *p)
{
    for (unsigned i = 0; i < p->n_changes; i++) {
        slot_set(&entry_of(&p->changes[i])->synced, p->changes[i].to);
    }
}

static void pending_deinit(struct pending *p)
{
    for (unsigned i = 0; i < p->n_changes; i++) {
        mem_node_unref(p->changes[i].to);
        mem_node_unref(p->changes[i].dir);
        free(p->changes[i].name);
    }
}

static bool touches(const struct pending *p, const struct node *dir)
{
    return p->changes[0].dir == dir || (p->n_changes == 2 && p->changes[1].dir == dir);
}

/* Backwards: what touches the folder is needed, and what came before it at one of its names. */
static void find_needed(struct mem_disk *d, const struct node *dir)
{
    bool moves_needed = false;
    for (size_t i = d->n_pending; i > 0; i--) {
        struct pending *p = &d->pending[i - 1];
        p->needed = touches(p, dir) || any_marked(p) || (p->moves_dir && moves_needed);
        if (p->needed) {
            mark(p, true);
            moves_needed = moves_needed || p->moves_dir;
        }
    }
}

void mem_names_sync(struct mem_disk *d, struct node *dir)
{
    find_needed(d, dir);
    size_t kept = 0;
    for (size_t i = 0; i < d->n_pending; i++) {
        struct pending p = d->pending[i];
        if (p.needed) {
            make_synced(&p);
            mark(&p, false);
            pending_deinit(&p);
        } else {
            d->pending[kept++] = p;
        }
    }
    d->n_pending = kept;
    sweep(dir);
}

/* Decide each pending change, oldest first. A change that does not happen marks its names, and
 * nothing later happens to a marked name. */
static void crash_names(struct mem_disk *d, uint64_t *random)
{
    uint64_t mood = mem_random(random) % 4; /* 0: none happens, 1: all, else coins */
    bool moves_lost = false;
    for (size_t i = 0; i < d->n_pending; i++) {
        struct pending *p = &d->pending[i];
        bool coin = mem_random(random) % 2 == 0;
        bool blocked = any_marked(p) || (p->moves_dir && moves_lost);
        if (!blocked && (mood == 1 || (mood != 0 && coin))) {
            make_synced(p);
        } else {
            mark(p, true);
            moves_lost = moves_lost || p->moves_dir;
        }
    }
    for (size_t i = 0; i < d->n_pending; i++) {
        mark(&d->pending[i], false);
    }
    for (size_t i = 0; i < d->n_pending; i++) {
        pending_deinit(&d->pending[i]);
    }
    d->n_pending = 0;
}

/* What is live in the folder or file `n` becomes what survived. */
static void node_crash(struct node *n, uint64_t *random)
{
    for (size_t i = 0; i < n->n_entries; i++) {
        slot_set(&n->entries[i]->live, n->entries[i]->synced);
    }
    sweep(n);
    n->locked_by = NULL;
    mem_data_crash(&n->data, random);
}

void mem_names_crash(struct mem_disk *d, uint64_t seed)
{
    uint64_t random = seed;
    crash_names(d, &random);
    /* A reference on every node while they change: none goes away under the walk, and on the way
     * out only nodes that the walk has left behind can. */
    for (struct node *n = d->nodes.next; n != &d->nodes; n = n->next) {
        (void)mem_node_ref(n);
    }
    for (struct node *n = d->nodes.next; n != &d->nodes; n = n->next) {
        node_crash(n, &random);
    }
    for (struct node *n = d->nodes.next; n != &d->nodes;) {
        struct node *next = n->next;
        mem_node_unref(n);
        n = next;
    }
}

void mem_names_deinit(struct mem_disk *d)
{
    for (size_t i = 0; i < d->n_pending; i++) {
        pending_deinit(&d->pending[i]);
    }
    free(d->pending);
    mem_node_unref(d->root);
    ASSERT(d->nodes.next == &d->nodes);
}
