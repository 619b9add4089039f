/* mvcc.h - one write transaction over the key space.
 *
 * What        Puts and deletions of one log entry, all at one new main revision with ascending
 * subs. Readers do not see them before the entry is published, because they read at the live
 * revision; so the engine's lock is taken for each change alone, and records may be read in
 * between. Callers     engine/apply, engine/txn. Thread      member loop. Invariants  Everything
 * was checked before the first change: nothing here can be refused.
 */
#ifndef ENGINE_MVCC_H
#define ENGINE_MVCC_H

#include "engine/engine_internal.h"

struct mvcc_txn {
    struct engine *e;
    int64_t begin_revision;
    int64_t n_changes; /* also the next sub */
    size_t n_ops;      /* puts, deletions and ranges, for the metric */
};

void mvcc_begin(struct mvcc_txn *w, struct engine *e);
/* The revision a reply shows at this point of the transaction. */
static inline int64_t mvcc_revision(const struct mvcc_txn *w)
{
    return w->begin_revision + (w->n_changes > 0);
}
/* The lease exists, or is 0. */
void mvcc_put(struct mvcc_txn *w, struct slice key, struct slice value, int64_t lease);
/* Delete one key if it is there. */
bool mvcc_delete(struct mvcc_txn *w, struct slice key);
/* Delete all keys of the span, in key order; returns how many. With `prev_kvs` each deleted
 * KeyValue is appended as field `field`; an error in reading one is left in *read_err and deletes
 * all the same. */
int64_t mvcc_delete_span(struct mvcc_txn *w, const struct span *s, struct bytes *prev_kvs,
                         uint32_t field, enum err *read_err);
/* Counts the transaction. The changes stay in engine.changes until they are published. */
void mvcc_end(struct mvcc_txn *w);

#endif
