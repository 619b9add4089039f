/* bolt.h - bbolt database files, the form in which etcd hands out its store.
 *
 * What        A writer that makes a file in one pass, without going back and with little memory,
 * and a reader that believes nothing it reads. etcd's tools take what the writer makes. Callers
 * engine/snapshot.c writes; imports of snapshots read. Thread      pure, without files: bytes go
 * out and come in through callbacks. One thread at a time for each writer or reader. Limits One
 * level of buckets, as etcd has; sequences are 0. Written files have pages of 4096 bytes and no
 * freelist page: what is not reached is free. Format      bbolt's file format version 2,
 * little-endian. File: pages of one size; 0 and 1 hold the two metas, each with an FNV-1a sum. A
 * page begins with id, kind, number of elements and number of further pages that belong to it, then
 * comes an array of elements of 16 bytes (place and lengths of key and value, or of key and child
 * page), then the data. A bucket whose only leaf is small stands inside its parent's leaf.
 */
#ifndef ENGINE_BOLT_H
#define ENGINE_BOLT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define BOLT_PAGE_BYTES 4096u            /* of files we write */
#define BOLT_KEY_BYTES_MAX 32768u        /* bbolt's */
#define BOLT_VALUE_BYTES_MAX 2147483646u /* bbolt's */
#define BOLT_READ_VALUE_MAX (256u << 20) /* a longer value is not read: ERR_LIMIT */
#define BOLT_DEPTH_MAX                                                                             \
    64u /* of trees; deeper ones are refused on reading, and cannot come up on writing */
#define BOLT_TRAILER_BYTES 32u /* the SHA-256 behind a snapshot file */

/* --- writing ---------------------------------------------------------------------------------- */

/* What the first pages of a file must know about the rest. */
struct bolt_layout {
    uint64_t root;    /* page id */
    uint64_t n_pages; /* the file has exactly so many */
};

struct bolt_writer; /* opaque */

/* The metas come first and name the last page, so the same pairs are fed twice: once to a writer
 * that only measures, then to one that writes with the layout so found. */
struct bolt_writer *bolt_measure_create(void);
/* `write` gets the file's bytes in order; its error is handed through, and ends the writing. */
struct bolt_writer *bolt_writer_create(const struct bolt_layout *layout,
                                       enum err (*write)(void *arg, struct slice bytes), void *arg);
void bolt_writer_destroy(struct bolt_writer **w);
/* The file gets one page more, the last, which to bbolt is free: it holds a sum of all bytes before
 * it, for bolt_check. Before the first bucket, when measuring too. */
void bolt_add_sum(struct bolt_writer *w);

/* Begin the next bucket; names ascend. Errors: ERR_INVALID, out of order; ERR_LIMIT, a length that
 * bbolt does not take; what `write` gave. */
MUST_CHECK enum err bolt_bucket(struct bolt_writer *w, struct slice name);
/* The next pair of the bucket; keys ascend. When measuring, value.data is not looked at. Errors as
 * above. */
MUST_CHECK enum err bolt_put(struct bolt_writer *w, struct slice key, struct slice value);
/* The end of the file. ERR_INVALID: what was written is not what was measured. */
MUST_CHECK enum err bolt_finish(struct bolt_writer *w, struct bolt_layout *out);

/* --- reading ---------------------------------------------------------------------------------- */

struct bolt_source {
    /* Exactly `n` bytes from `offset`, which lie below `size`. */
    enum err (*read_at)(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec);
    void *arg;
    uint64_t size;
};

struct bolt_info {
    uint32_t page_bytes;
    uint64_t n_pages; /* up to the high-water mark */
    uint64_t txid;
    uint64_t file_bytes; /* without the trailer */
    bool has_trailer;    /* BOLT_TRAILER_BYTES follow; they are not verified here */
    bool has_freelist;
};

struct bolt_reader; /* opaque */

/* Find the valid meta of the newest transaction. `src` is copied, its arg borrowed until close.
 * Errors: ERR_CORRUPT, no valid meta, or not as long as it says; ERR_UNSUPPORTED, big-endian; what
 * read_at gave. */
MUST_CHECK enum err bolt_open(const struct bolt_source *src, struct bolt_reader **out,
                              struct bolt_info *info, struct err_ctx *ec);
void bolt_close(struct bolt_reader **r);

/* Go to the next bucket, in order of names. *name is valid until the next call of this function.
 * ERR_END; ERR_CORRUPT with page and reason; ERR_UNSUPPORTED, buckets within buckets; ERR_LIMIT;
 * ERR_NO_MEM. After an error the reader can only be closed. */
MUST_CHECK enum err bolt_next_bucket(struct bolt_reader *r, struct slice *name, struct err_ctx *ec);
/* The next pair of the bucket, in order of keys; slices valid until the next call on the reader.
 * Errors as above. Every page is checked when it is first entered: bounds, kind, that nothing else
 * leads to it, order of keys. */
MUST_CHECK enum err bolt_next(struct bolt_reader *r, struct slice *key, struct slice *value,
                              struct err_ctx *ec);

/* What `bbolt check` verifies, and bounds besides: walk everything, then hold the freelist, if the
 * file has one, against what was reached. A file with a sum of its bytes that nobody has
 * written to since must add up to it. The first finding ends it: ERR_CORRUPT. */
MUST_CHECK enum err bolt_check(const struct bolt_source *src, struct bolt_info *info,
                               struct err_ctx *ec);

#endif
