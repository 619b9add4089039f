/* vfs_mem_data.c - sparse pages, copy on the first write after a sync.
 *
 * Costs follow what changed since the last sync, never the size of the file: a sync drops the old
 * copies of the changed pages, a crash looks at their sectors.
 */
#include "base/vfs_mem_internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define SECTORS_PER_PAGE (MEM_PAGE_BYTES / MEM_SECTOR_BYTES)
_Static_assert(SECTORS_PER_PAGE == 8, "the mask of a page is one byte");

/* How a file's unsynced sectors come out of a crash. Even coins alone would nearly never lose or
 * keep all of a long run. */
enum fate {
    FATE_ALL_OLD,
    FATE_ALL_NEW,
    FATE_EVEN,
    FATE_MOST_OLD,
    FATE_MOST_NEW,
    FATE_PREFIX,
    FATE_N
};

uint64_t mem_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

void mem_data_init(struct mem_data *d, uint64_t *disk_bytes)
{
    *d = (struct mem_data){.disk_bytes = disk_bytes};
}

static void page_free(struct mem_data *d, size_t i)
{
    struct mem_page *p = d->pages[i];
    if (p != NULL) {
        free(p->old);
        free(p);
        d->pages[i] = NULL;
        *d->disk_bytes -= MEM_PAGE_BYTES;
    }
}

void mem_data_deinit(struct mem_data *d)
{
    for (size_t i = 0; i < d->n_pages; i++) {
        page_free(d, i);
    }
    free(d->pages);
    free(d->dirty);
    mem_data_init(d, d->disk_bytes);
}

/* The part of [offset, offset + len) that lies in one page. */
static size_t part_of(uint64_t offset, size_t len)
{
    size_t left = MEM_PAGE_BYTES - (size_t)(offset % MEM_PAGE_BYTES);
    return len < left ? len : left;
}

static const struct mem_page *page_at(const struct mem_data *d, uint64_t offset)
{
    uint64_t i = offset / MEM_PAGE_BYTES;
    return i < d->n_pages ? d->pages[i] : NULL;
}

static struct mem_page *page_make(struct mem_data *d, uint64_t offset)
{
    size_t i = (size_t)(offset / MEM_PAGE_BYTES);
    if (i >= d->n_pages) {
        size_t n = d->n_pages == 0 ? 16 : d->n_pages;
        while (n <= i) {
            n *= 2;
        }
        d->pages = xrealloc(d->pages, n * sizeof(*d->pages));
        memset(d->pages + d->n_pages, 0, (n - d->n_pages) * sizeof(*d->pages));
        d->n_pages = n;
    }
    if (d->pages[i] == NULL) {
        d->pages[i] = xcalloc(1, sizeof(**d->pages));
        *d->disk_bytes += MEM_PAGE_BYTES;
    }
    return d->pages[i];
}

/* Bytes [offset, offset + len) of page `p`, all within it, are about to change. */
static void touch(struct mem_data *d, struct mem_page *p, uint64_t offset, size_t len)
{
    if (p->old == NULL) {
        p->old = xalloc(MEM_PAGE_BYTES);
        memcpy(p->old, p->live, MEM_PAGE_BYTES);
        if (d->n_dirty == d->cap_dirty) {
            d->cap_dirty = d->cap_dirty == 0 ? 16 : d->cap_dirty * 2;
            d->dirty = xrealloc(d->dirty, d->cap_dirty * sizeof(*d->dirty));
        }
        d->dirty[d->n_dirty++] = (size_t)(offset / MEM_PAGE_BYTES);
    }
    unsigned first = (unsigned)(offset % MEM_PAGE_BYTES / MEM_SECTOR_BYTES);
    unsigned last = (unsigned)((offset + len - 1) % MEM_PAGE_BYTES / MEM_SECTOR_BYTES);
    for (unsigned i = first; i <= last; i++) {
        p->unsynced = (uint8_t)(p->unsynced | 1u << i);
    }
}

size_t mem_data_read(const struct mem_data *d, void *out, size_t len, uint64_t offset)
{
    if (offset >= d->size) {
        return 0;
    }
    len = len < d->size - offset ? len : (size_t)(d->size - offset);
    for (size_t done = 0; done < len;) {
        size_t n = part_of(offset + done, len - done);
        const struct mem_page *p = page_at(d, offset + done);
        if (p == NULL) {
            memset((uint8_t *)out + done, 0, n);
        } else {
            memcpy((uint8_t *)out + done, p->live + (offset + done) % MEM_PAGE_BYTES, n);
        }
        done += n;
    }
    return len;
}

/* Whether the disk has room for the pages that a write of [offset, offset + len) adds at most. */
static bool has_room(const struct mem_data *d, size_t len, uint64_t offset)
{
    return offset <= MEM_FILE_BYTES_MAX && len <= MEM_FILE_BYTES_MAX - offset &&
           *d->disk_bytes + len + 2 * MEM_PAGE_BYTES <= MEM_DISK_BYTES;
}

bool mem_data_write(struct mem_data *d, const void *data, size_t len, uint64_t offset)
{
    if (!has_room(d, len, offset)) {
        return false;
    }
    for (size_t done = 0; done < len;) {
        size_t n = part_of(offset + done, len - done);
        struct mem_page *p = page_make(d, offset + done);
        touch(d, p, offset + done, n);
        memcpy(p->live + (offset + done) % MEM_PAGE_BYTES, (const uint8_t *)data + done, n);
        done += n;
    }
    if (len > 0 && offset + len > d->size) {
        d->size = offset + len;
    }
    return true;
}

/* Live bytes from `size` on become zero. */
static void zero_from(struct mem_data *d, uint64_t size)
{
    for (uint64_t at = size; at < (uint64_t)d->n_pages * MEM_PAGE_BYTES;) {
        size_t n = part_of(at, MEM_PAGE_BYTES);
        struct mem_page *p = d->pages[at / MEM_PAGE_BYTES];
        if (p != NULL) {
            touch(d, p, at, n);
            memset(p->live + at % MEM_PAGE_BYTES, 0, n);
        }
        at += n;
    }
}

bool mem_data_resize(struct mem_data *d, uint64_t size)
{
    if (size > MEM_FILE_BYTES_MAX) {
        return false;
    }
    if (size < d->size) {
        zero_from(d, size);
    }
    d->size = size;
    return true;
}

/* Nothing of page `i` is unsynced any more; a page past the end holds only zeros and goes. */
static void settle(struct mem_data *d, size_t i)
{
    struct mem_page *p = d->pages[i];
    free(p->old);
    p->old = NULL;
    p->unsynced = 0;
    if ((uint64_t)i * MEM_PAGE_BYTES >= d->size) {
        page_free(d, i);
    }
}

void mem_data_sync(struct mem_data *d)
{
    for (size_t i = 0; i < d->n_dirty; i++) {
        settle(d, d->dirty[i]);
    }
    d->n_dirty = 0;
    d->synced_size = d->size;
}

/* Whether sector `sector` of the file comes out new. `cut` counts for FATE_PREFIX. */
static bool comes_new(enum fate fate, uint64_t sector, uint64_t cut, uint64_t *random)
{
    uint64_t coin = mem_random(random) % 8;
    switch (fate) {
    case FATE_ALL_OLD:
        return false;
    case FATE_ALL_NEW:
        return true;
    case FATE_EVEN:
        return coin < 4;
    case FATE_MOST_OLD:
        return coin == 0;
    case FATE_MOST_NEW:
        return coin != 0;
    case FATE_PREFIX:
        return sector < cut;
    case FATE_N:
        break;
    }
    UNREACHABLE();
}

/* A sector number between the first and one past the last of the changed pages. */
static uint64_t pick_cut(const struct mem_data *d, uint64_t *random)
{
    uint64_t low = UINT64_MAX;
    uint64_t high = 0;
    for (size_t i = 0; i < d->n_dirty; i++) {
        low = d->dirty[i] < low ? d->dirty[i] : low;
        high = d->dirty[i] + 1 > high ? d->dirty[i] + 1 : high;
    }
    uint64_t n = d->n_dirty == 0 ? 0 : (high - low) * SECTORS_PER_PAGE;
    uint64_t r = mem_random(random);
    return d->n_dirty == 0 ? 0 : low * SECTORS_PER_PAGE + r % (n + 1);
}

/* The size is a fact of its own: the old one, the new one, or, in a file that grew, any between. */
static uint64_t pick_size(const struct mem_data *d, uint64_t *random)
{
    uint64_t which = mem_random(random) % 4;
    uint64_t within = mem_random(random);
    if (which == 0) {
        return d->synced_size;
    }
    if (which == 1 && d->size > d->synced_size) {
        return d->synced_size + within % (d->size - d->synced_size + 1);
    }
    return d->size;
}

void mem_data_crash(struct mem_data *d, uint64_t *random)
{
    enum fate fate = (enum fate)(mem_random(random) % FATE_N);
    uint64_t cut = pick_cut(d, random);
    for (size_t i = 0; i < d->n_dirty; i++) {
        struct mem_page *p = d->pages[d->dirty[i]];
        for (unsigned s = 0; s < SECTORS_PER_PAGE; s++) {
            if ((p->unsynced & 1u << s) != 0 &&
                !comes_new(fate, d->dirty[i] * SECTORS_PER_PAGE + s, cut, random)) {
                memcpy(p->live + s * MEM_SECTOR_BYTES, p->old + s * MEM_SECTOR_BYTES,
                       MEM_SECTOR_BYTES);
            }
        }
    }
    d->size = pick_size(d, random);
    zero_from(d, d->size);
    mem_data_sync(d);
}

bool mem_data_flip(struct mem_data *d, uint64_t bit)
{
    uint64_t offset = bit / 8;
    if (offset >= d->size) {
        return false;
    }
    struct mem_page *p = page_make(d, offset);
    uint8_t mask = (uint8_t)(1u << bit % 8);
    p->live[offset % MEM_PAGE_BYTES] ^= mask;
    if (p->old != NULL) {
        p->old[offset % MEM_PAGE_BYTES] ^= mask;
    }
    return true;
}
