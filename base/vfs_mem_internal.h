/* vfs_mem_internal.h - the parts of the simulated disk.
 *
 * What        The bytes of a file: a sparse array of pages; one that was changed since the last
 *             sync keeps its synced bytes beside the live ones, and a mask of the sectors written.
 *             The names: folders whose entries have a live and a synced meaning, and the changes
 *             between the two.
 * Callers     vfs_mem.c (the calls), vfs_mem_names.c, vfs_mem_data.c.
 * Thread      under the disk's lock.
 * Invariants  Live and synced bytes past their sizes are zero. A page without old bytes is synced.
 *             A name whose two meanings differ has a pending change.
 */
#ifndef BASE_VFS_MEM_INTERNAL_H
#define BASE_VFS_MEM_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/vfs.h"

#define MEM_SECTOR_BYTES 512u
#define MEM_PAGE_BYTES 4096u
#define MEM_FILE_BYTES_MAX (UINT64_C(4) << 30) /* a larger file is refused */
#define MEM_DISK_BYTES (UINT64_C(8) << 30)     /* of pages in use; over: ERR_NO_DISK */

struct mem_page {
    uint8_t live[MEM_PAGE_BYTES];
    uint8_t *old;     /* owned; MEM_PAGE_BYTES as of the last sync, NULL when nothing changed */
    uint8_t unsynced; /* bit i: sector i was written since then */
};

struct mem_data {
    uint64_t size;
    uint64_t synced_size;
    struct mem_page **pages; /* owned; NULL pages are zeros */
    size_t n_pages;          /* of the array */
    size_t *dirty;           /* owned; indexes of pages with old bytes, in order of the change */
    size_t n_dirty;
    size_t cap_dirty;
    uint64_t *disk_bytes; /* borrowed: the disk's count of bytes in use */
};

/* A stream of numbers from a seed (splitmix64). */
uint64_t mem_random(uint64_t *state);

void mem_data_init(struct mem_data *d, uint64_t *disk_bytes);
void mem_data_deinit(struct mem_data *d);

/* Returns the bytes read: fewer than asked only at the end. */
size_t mem_data_read(const struct mem_data *d, void *out, size_t len, uint64_t offset);
/* False when file or disk are full; nothing is written then. */
bool mem_data_write(struct mem_data *d, const void *data, size_t len, uint64_t offset);
/* New bytes are zero. False when past the largest size. */
bool mem_data_resize(struct mem_data *d, uint64_t size);
/* Everything live is synced. */
void mem_data_sync(struct mem_data *d);
/* Live becomes what the power cut left, and that is synced. */
void mem_data_crash(struct mem_data *d, uint64_t *random);
/* Flip a bit of the live and of the synced bytes. False past the end. */
bool mem_data_flip(struct mem_data *d, uint64_t bit);

struct node;
struct mem_file;

struct entry {
    char *name;          /* owned */
    struct node *live;   /* ref; NULL: no such name */
    struct node *synced; /* ref */
    bool marked;         /* scratch of sync_dir and crash */
};

/* A file or a folder. */
struct node {
    struct node *next; /* all of the disk, in order of creation */
    struct node *prev;
    uint32_t refs; /* entries, pending changes, open files */
    bool is_dir;
    struct mem_data data;             /* of a file */
    const struct mem_file *locked_by; /* of a file */
    struct entry **entries;           /* of a folder: owned, sorted by name */
    size_t n_entries;
};

/* `name` in `dir` now means `to`. */
struct change {
    struct node *dir; /* ref */
    char *name;       /* owned */
    struct node *to;  /* ref; NULL: removed */
};

struct pending {
    struct change changes[2];
    unsigned n_changes;
    bool moves_dir;
    bool needed; /* scratch of sync_dir */
};

struct mem_disk {
    struct vfs vfs;
    pthread_mutex_t lock;    /* guards all below and all files */
    struct node nodes;       /* head of the ring of all nodes */
    struct node *root;       /* ref */
    struct pending *pending; /* owned; oldest first */
    size_t n_pending;
    size_t cap_pending;
    uint64_t n_crashes;
    uint64_t disk_bytes;
    size_t n_open;
};

/* Where a path leads: a name in a folder; no name for the root. */
struct place {
    struct node *dir;
    const char *name;
    size_t name_len;
};

/* ---- names: vfs_mem_names.c; an int is 0 or an errno ---- */

/* With one reference, the caller's. */
struct node *mem_node_create(struct mem_disk *d, bool is_dir);
struct node *mem_node_ref(struct node *n);
void mem_node_unref(struct node *n);

/* Paths are plain: parts between slashes, "." and empty parts skipped, all relative to the root. A
 * path through `avoid` is EINVAL: a folder cannot be moved below itself. */
int mem_walk(struct mem_disk *d, const char *path, const struct node *avoid, struct place *out);
/* What stands at the place; NULL when nothing does. */
struct node *mem_node_of(const struct place *p);
int mem_look_up(struct mem_disk *d, const char *path, struct node **out);

/* A change of names begins; one or two mem_change_live follow before the next. */
struct pending *mem_pending_add(struct mem_disk *d, bool moves_dir);
/* The name at `at` means `to` (NULL: nothing) from now on. */
void mem_change_live(struct pending *p, const struct place *at, struct node *to);
/* The names of the folder are synced. */
void mem_names_sync(struct mem_disk *d, struct node *dir);
/* Names and bytes become what the power cut left. */
void mem_names_crash(struct mem_disk *d, uint64_t seed);
void mem_names_deinit(struct mem_disk *d);

#endif
