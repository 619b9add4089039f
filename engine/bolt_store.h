/* bolt_store.h - what a store in etcd's form says, read as it lies in its file.
 *
 * What        The sums that etcd's offline tool prints of a file: of all that is in it, and HashKV.
 * Callers     tools/pintleutl.
 * Thread      the caller's. Memory: an index of the keys.
 * Source      cli.md 14.1, 14.3.
 */
#ifndef ENGINE_BOLT_STORE_H
#define ENGINE_BOLT_STORE_H

#include "engine/bolt.h"
#include "engine/engine.h"

#define BOLT_STORE_VERSION_BYTES 32u

struct bolt_store_status {
    uint32_t hash;    /* CRC-32C of names, keys and values */
    int64_t revision; /* main, of the last record; 0: there is none */
    uint64_t n_keys;  /* that live */
    uint64_t bytes;   /* pages up to the high-water mark */
    char version[BOLT_STORE_VERSION_BYTES]; /* of the schema; "": not named, or no version */
};

/* The file is sound (bolt_check) as far as the caller needs it to be. ERR_CORRUPT, with bucket and reason; else as bolt_next. */
MUST_CHECK enum err bolt_store_status(const struct bolt_source *src, struct bolt_store_status *out, struct err_ctx *ec);
/* As engine_hash_kv of an engine over this store. ERR_FUTURE_REV, ERR_COMPACTED; else as above. */
MUST_CHECK enum err bolt_store_hash_kv(const struct bolt_source *src, int64_t revision, struct hash_kv *out, struct err_ctx *ec);

#endif
