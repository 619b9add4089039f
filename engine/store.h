/* store.h - what was applied and is not yet in the backend, and reads that find a record in either
 * place.
 *
 * What        The tail: an append-only run of records in revision order, looked up by revision.
 * Rows: the ordered changes of all other buckets. Both are sealed at an entry boundary, written and
 * committed by the store thread, and only then dropped. A record is therefore always in the tail or
 * in the committed backend. Callers     engine only. Thread      The tail is guarded by the
 * engine's lock: the member loop appends and publishes, the store thread drops, with the lock held
 * for writing; readers hold it for reading. A record between head and published never changes, so
 * the store thread reads what it has sealed without the lock. Invariants  Revisions ascend. Every
 * record up to and including `stored` is in the backend.
 */
#ifndef ENGINE_STORE_H
#define ENGINE_STORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "engine/backend.h"
#include "engine/record.h"

struct engine;

#define TAIL_CHUNK_RECORDS 512u
#define RECORD_OVERHEAD_BYTES                                                                      \
    64u /* what a pending record or row costs beside its bytes, for the tail's bound */
#define ENTRY_OVERHEAD_BYTES                                                                       \
    32u /* and an entry, so that the applied index alone counts as pending */

struct tail_record {
    struct rev rev;
    bool tombstone;
    struct buf *kv; /* ref; the encoded KeyValue */
};

struct tail_chunk {
    struct tail_chunk *next; /* in the list of dropped chunks */
    struct tail_record records[TAIL_CHUNK_RECORDS];
};

/* Records are numbered from 0 for the life of the process; number n lies in chunk n /
 * TAIL_CHUNK_RECORDS, which stands at that number modulo `cap` in the ring of chunks. */
struct tail {
    struct tail_chunk **chunks; /* owned; `cap` is a power of two */
    uint64_t cap;
    uint64_t head;      /* first record still here */
    uint64_t published; /* end of the last whole entry */
    uint64_t end;
    struct rev stored;
};

void tail_init(struct tail *t, struct rev stored);
void tail_deinit(struct tail *t);
/* Takes `kv`. */
void tail_append(struct tail *t, struct rev rev, bool tombstone, struct buf *kv);
const struct tail_record *tail_at(const struct tail *t, uint64_t number);
/* Number of the first record above `rev`; t->end when there is none. */
uint64_t tail_above(const struct tail *t, struct rev rev);
/* NULL: not in the tail. */
const struct tail_record *tail_find(const struct tail *t, struct rev rev);
/* What a drop left behind: whole chunks, and a run of records in a chunk that is still in use. */
struct tail_dropped {
    struct tail_chunk *whole; /* owned list */
    struct tail_chunk *part;
    uint64_t part_from;
    uint64_t part_to;
};
/* Take the records below `upto` out. The store thread then frees them with tail_free_dropped,
 * without the lock. */
void tail_drop(struct tail *t, uint64_t upto, struct tail_dropped *out);
void tail_free_dropped(struct tail_dropped *d);

/* The backend in use, shared with the reads that began on it: a snapshot may put another in its
 * place (engine_adopt). The last who holds it closes it. */
struct home {
    _Atomic uint32_t refs;
    struct backend *backend; /* owned */
};
struct home *home_create(struct backend *b);
struct home *home_ref(struct home *h);
void home_unref(struct home **h);
/* Give the backend back; nobody else holds it. */
struct backend *home_release(struct home **h);

/* A snapshot of the backend. Zero: none. */
struct store_read {
    struct home *home; /* ref */
    struct backend_read *read;
};
/* Hold the engine's lock, or be the store thread. */
MUST_CHECK enum err store_read_begin(struct engine *e, struct store_read *out, struct err_ctx *ec);
void store_read_end(struct store_read *r);
static inline const struct backend_ops *store_read_ops(const struct store_read *r)
{
    return r->home->backend->ops;
}

/* One change of a bucket other than `key`. */
struct row {
    enum bucket bucket;
    struct buf *key;   /* owned */
    struct buf *value; /* owned; NULL deletes */
};
struct rows {
    struct row *v; /* owned */
    size_t n;
    size_t cap;
    size_t bytes;
};
void rows_add(struct rows *r, enum bucket bucket, struct slice key, struct slice value);
void rows_add_delete(struct rows *r, enum bucket bucket, struct slice key);
/* Move everything from `from` to the end of `to`. */
void rows_move(struct rows *to, struct rows *from);
void rows_deinit(struct rows *r);

/* Reads a handful of records at once. Use: init, add revisions, fetch_hold under the lock,
 * fetch_read without it, use `kvs`, release. Under the lock records of the tail are referenced and,
 * for all others, a snapshot of the backend is begun: so it has whatever left the tail before, and
 * no later compaction can take it away. */
#define FETCH_MAX 512u
struct fetch {
    struct engine *e;
    struct store_read read; /* owned */
    size_t n;
    size_t n_backend; /* how many are to be read from the backend */
    struct rev revs[FETCH_MAX];
    struct slice kvs[FETCH_MAX];  /* valid until release */
    struct buf *holds[FETCH_MAX]; /* refs */
};
void fetch_init(struct fetch *f, struct engine *e);
static inline void fetch_add(struct fetch *f, struct rev rev)
{
    f->revs[f->n++] = rev;
}
/* The engine's lock is held. */
MUST_CHECK enum err fetch_hold(struct fetch *f, struct err_ctx *ec);
/* Errors: ERR_NOT_FOUND when a record is in neither place; ERR_CORRUPT; ERR_IO. */
MUST_CHECK enum err fetch_read(struct fetch *f, struct err_ctx *ec);
void fetch_release(struct fetch *f);

/* One record, by the engine's own locking. `*out` is a reference or, for a record of the backend, a
 * copy. */
MUST_CHECK enum err store_read_one(struct engine *e, struct rev rev, struct buf **out,
                                   struct err_ctx *ec);

/* The records above `after` in revision order, from backend and tail, in bounded batches. */
#define BATCH_MAX 512u
#define BATCH_BYTES (1u << 20)
struct batch_item {
    struct rev rev;
    bool tombstone;
    struct slice kv;  /* valid until release */
    struct buf *hold; /* ref; NULL when kv lies in the backend */
};
struct batch {
    struct store_read read; /* owned */
    size_t n;
    struct rev reached; /* everything up to here has been given: go on from it */
    bool at_end;        /* of what was published when the batch was read, or of main_max */
    struct batch_item items[BATCH_MAX];
};
/* Published records with revision > after and main <= main_max. On error nothing is held. */
MUST_CHECK enum err store_batch(struct engine *e, struct rev after, int64_t main_max,
                                struct batch *b, struct err_ctx *ec);
void store_batch_release(struct batch *b);

#endif
