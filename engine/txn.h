/* txn.h - executing puts and txns that were checked.
 *
 * What        The same code runs a txn from the log and a read-only txn of a reader; they differ in
 * the view (the newest state, or a pinned revision) and in that a reader has no write transaction.
 * Callers     engine/apply (from the log), engine.h (read-only).
 * Thread      txn_apply and put_* on the member loop; engine_txn_read on any.
 * Errors      Two kinds are kept apart. An *answer* (lease unknown, revision compacted ...) is the
 * same on every member. A failed read of a record that decides what an entry does is not: then
 * nothing may be applied, and the engine halts.
 */
#ifndef ENGINE_TXN_H
#define ENGINE_TXN_H

#include "engine/engine_internal.h"
#include "engine/mvcc.h"

/* Checks before a put. *answer: ERR_EMPTY_KEY, ERR_LEASE_NOT_FOUND, ERR_KEY_NOT_FOUND. */
MUST_CHECK enum err put_check(struct engine *e, const Etcdserverpb__PutRequest *p, enum err *answer,
                              struct err_ctx *ec);
/* Execute a put that passed. With `prev`, *prev is a reference to the KeyValue before, or NULL when
 * there was none; an error in reading it for the reply only is left in *read_err. */
void put_execute(struct mvcc_txn *w, const Etcdserverpb__PutRequest *p, struct buf **prev,
                 enum err *read_err);

/* Check and execute; `body` (may be NULL) receives the TxnResponse's fields behind the header.
 * *answer: the txn's result; with an error either nothing was changed, or (ERR_CORRUPT, ERR_IO,
 * ERR_LIMIT) all was and the reply could not be built. */
MUST_CHECK enum err txn_apply(struct engine *e, const Etcdserverpb__TxnRequest *r,
                              struct bytes *body, enum err *answer, struct err_ctx *ec);

/* --- txn_check.c --- */

/* engine_txn_depth of what an entry of the log holds. */
MUST_CHECK enum err entry_depth(struct slice entry);

/* --- txn_compare.c --- */

/* A view of the key space: what a txn's compares and ranges look at. */
struct view {
    struct engine *e;
    int64_t at;       /* INDEX_LATEST on the member loop */
    int64_t revision; /* live, before the txn */
    int64_t compacted;
    struct pin *pin; /* NULL on the member loop */
    uint64_t generation; /* the engine's when it was pinned */
    uint64_t now_ms;
};
/* Under the lock: ERR_LEADER_CHANGED when a snapshot has replaced the state, ERR_COMPACTED when the
 * read was too slow. */
static inline enum err view_valid(const struct view *v)
{
    if (v->pin == NULL) {
        return OK;
    }
    if (engine_generation(v->e) != v->generation) {
        return ERR_LEADER_CHANGED;
    }
    return atomic_load_explicit(&v->pin->lost, memory_order_acquire) ? ERR_COMPACTED : OK;
}
MUST_CHECK enum err compare_all(const struct view *v, Etcdserverpb__Compare *const *c, size_t n,
                                bool *holds, struct err_ctx *ec);

#endif
