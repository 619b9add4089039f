/* support.h - what the tests of the log share: a model of its content, batches from a seed, disk
 * images.
 *
 * What        `struct history` is what a log should hold; a visitor builds the same from a replay.
 * Callers     tests/wal, tests/fuzz.
 * Thread      one test.
 */
#ifndef TESTS_WAL_SUPPORT_H
#define TESTS_WAL_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/vfs.h"
#include "wal/wal.h"

#define DIR_NAME "log"
#define BATCH_ENTRIES_MAX 64u

static const struct wal_identity test_id = {0x1122334455667788u, 0x99aabbccddeeff00u};

struct seen {
    uint64_t index;
    uint64_t term;
    uint64_t type;
    uint64_t len;
    uint64_t hash;
};

struct history {
    struct seen *entries; /* owned; contiguous */
    size_t n;
    bool has_hard_state;
    struct wal_hard_state hard_state;
    bool gap; /* an entry came that continues nothing */
};

void history_deinit(struct history *h);
void history_copy(struct history *to, const struct history *from);
void history_apply(struct history *h, const struct wal_batch *b);
uint64_t history_last(const struct history *h);
/* Equal hard states, equal last entry, and equal entries wherever both have one; `a` has all
 * from `need` on. */
bool history_matches(const struct history *a, const struct history *b, uint64_t need);
struct wal_visitor history_visitor(struct history *h);

/* Pseudo-random numbers from a seed. */
uint64_t rng_next(uint64_t *state);
uint64_t rng_below(uint64_t *state, uint64_t n);

struct made_batch {
    struct wal_batch batch;
    struct wal_entry entries[BATCH_ENTRIES_MAX];
    struct wal_position positions[BATCH_ENTRIES_MAX];
};
/* `n` entries of `len` bytes each from index `first` on. Free with batch_deinit. */
void batch_make(struct made_batch *m, uint64_t first, size_t n, uint64_t term, size_t len);
void batch_hard_state(struct made_batch *m, uint64_t term, uint64_t vote, uint64_t commit);
void batch_deinit(struct made_batch *m);

struct wal_config test_config(struct vfs *v, uint64_t segment_bytes);
struct wal *must_create(const struct wal_config *cfg);
/* Open, compare the replay with `want` unless that is NULL. */
struct wal *must_open(const struct wal_config *cfg, const struct history *want, uint64_t need);
/* Append to the log and to the model. */
void must_append(struct wal *w, struct history *h, uint64_t first, size_t n, uint64_t term,
                 size_t len);

/* The files of a folder, to be put on another disk. */
struct image {
    struct {
        char name[64];
        struct bytes content;
    } files[32];
    size_t n;
};
void image_take(struct image *im, struct vfs *v);
struct vfs *image_disk(const struct image *im); /* a new disk in memory holding them, synced */
struct bytes *image_file(struct image *im, const char *name);
void image_deinit(struct image *im);

bool file_exists(struct vfs *v, const char *name);
void write_at(struct vfs *v, const char *name, uint64_t offset, const void *data, size_t len);

#endif
