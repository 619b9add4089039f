/* vfs_mem_internal.h - the bytes of one file on the simulated disk.
 *
 * What        A sparse array of pages. A page that was changed since the last sync keeps its synced
 *             bytes beside the live ones and a mask of the sectors that differ in age.
 * Callers     vfs_mem.c alone.
 * Thread      under the disk's lock.
 * Invariants  Live and synced bytes past their sizes are zero. A page without old bytes is synced.
 */
#ifndef BASE_VFS_MEM_INTERNAL_H
#define BASE_VFS_MEM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MEM_SECTOR_BYTES 512u
#define MEM_PAGE_BYTES 4096u
#define MEM_FILE_BYTES_MAX (UINT64_C(4) << 30) /* a larger file: ERR_NO_DISK */
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

#endif
