/* log.c - the entries in memory.
 *
 *      base            durable_next     in_progress_next        last
 *   ────┬──────┬──────────────┬─────────────────┬──────────────────┬──
 *       │ e[head] ...  durable │  handed to log  │  not handed out  │
 *
 * The window holds everything from behind base to the end, whether durable or not; base itself is
 * known by its term only, which is what appending right behind it needs. Replacing entries moves
 * both marks back. durable_next moves forward when the log reports (index, term) of the end as it
 * was when a batch was handed out, and only if the term of the member is still the same
 * (raft_step): otherwise a batch still under way could replace what was reported.
 *
 * Handed-out committed entries are remembered as batches until they are reported applied, so that
 * their bytes can be counted against the limit even if the window is reset meanwhile.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "raft/core/internal.h"

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---- the window ---- */

uint64_t raft_log_first(const struct raft_log *l)
{
    return l->base_index + 1;
}

uint64_t raft_log_last(const struct raft_log *l)
{
    return l->base_index + l->n;
}

bool raft_log_term(const struct raft_log *l, uint64_t index, uint64_t *term)
{
    if (index < l->base_index || index > raft_log_last(l)) {
        return false;
    }
    *term = index == l->base_index ? l->base_term : raft_log_at(l, index)->term;
    return true;
}

uint64_t raft_log_last_term(const struct raft_log *l)
{
    return l->n == 0 ? l->base_term : l->e[l->head + l->n - 1].term;
}

bool raft_log_matches(const struct raft_log *l, uint64_t index, uint64_t term)
{
    uint64_t ours = 0;
    return raft_log_term(l, index, &ours) && ours == term;
}

bool raft_log_up_to_date(const struct raft_log *l, uint64_t index, uint64_t term)
{
    uint64_t ours = raft_log_last_term(l);
    return term > ours || (term == ours && index >= raft_log_last(l));
}

const struct raft_entry *raft_log_at(const struct raft_log *l, uint64_t index)
{
    ASSERT(index > l->base_index && index <= raft_log_last(l));
    return &l->e[l->head + (size_t)(index - l->base_index - 1)];
}

static void drop_one(struct raft_log *l, struct raft_entry *e)
{
    l->bytes -= e->data == NULL ? 0 : e->data->len;
    buf_unref(&e->data);
}

static void drop_tail(struct raft_log *l, size_t keep)
{
    for (size_t i = keep; i < l->n; i++) {
        drop_one(l, &l->e[l->head + i]);
    }
    l->n = keep;
}

static void drop_front(struct raft_log *l, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        drop_one(l, &l->e[l->head + i]);
    }
    l->head += n;
    l->n -= n;
    if (l->n == 0) {
        l->head = 0;
    }
}

void raft_log_deinit(struct raft_log *l)
{
    drop_tail(l, 0);
    free(l->e);
    l->e = NULL;
    free(l->batches);
    l->batches = NULL;
    raft_snapshot_destroy(&l->snapshot);
}

/* Make room behind the end for `n` more, first by moving the window to the front of its memory
 * when at least half of that is unused, so that the moves cost a constant per entry. */
static void make_room(struct raft_log *l, size_t n)
{
    if (l->head + l->n + n <= l->cap) {
        return;
    }
    if (l->head >= l->cap / 2 && l->n + n <= l->cap) {
        memmove(l->e, l->e + l->head, l->n * sizeof(l->e[0]));
        l->head = 0;
        return;
    }
    size_t cap = l->cap == 0 ? 64 : l->cap;
    while (cap < l->n + n) {
        cap *= 2;
    }
    cap = cap == l->cap ? cap * 2 : cap;
    struct raft_entry *e = xalloc(cap * sizeof(*e));
    if (l->n > 0) {
        memcpy(e, l->e + l->head, l->n * sizeof(*e));
    }
    free(l->e);
    l->e = e;
    l->head = 0;
    l->cap = cap;
}

static void push_one(struct raft_log *l, uint64_t term, const struct raft_entry *e)
{
    l->e[l->head + l->n] = (struct raft_entry){
        .index = raft_log_last(l) + 1,
        .term = term,
        .type = e->type,
        .data = e->data == NULL ? NULL : buf_ref(e->data),
    };
    l->bytes += e->data == NULL ? 0 : e->data->len;
    l->n++;
}

void raft_log_push(struct raft_log *l, uint64_t term, const struct raft_entry *e, size_t n)
{
    make_room(l, n);
    for (size_t i = 0; i < n; i++) {
        push_one(l, term, &e[i]);
    }
}

void raft_log_append(struct raft *r, const struct raft_entry *e, size_t n)
{
    struct raft_log *l = &r->log;
    if (n == 0) {
        return;
    }
    uint64_t from = e[0].index;
    ASSERT(from > l->committed && from <= raft_log_last(l) + 1);
    if (from <= raft_log_last(l)) {
        if (from <= l->durable_next) {
            RAFT_TRACE(r, RAFT_LOG_INFO, "replace the unstable entries from index %" PRIu64, from);
            l->durable_next = from;
            l->in_progress_next = from;
        } else {
            RAFT_TRACE(r, RAFT_LOG_INFO, "truncate the unstable entries before index %" PRIu64,
                       from);
            l->in_progress_next = min_u64(l->in_progress_next, from);
        }
        drop_tail(l, (size_t)(from - l->base_index - 1));
    }
    make_room(l, n);
    for (size_t i = 0; i < n; i++) {
        push_one(l, e[i].term, &e[i]);
    }
}

size_t raft_log_fit(const struct raft_log *l, uint64_t lo, uint64_t hi, uint64_t max_bytes,
                    uint64_t *bytes)
{
    size_t n = 0;
    uint64_t total = 0;
    for (uint64_t i = lo; i < hi; i++) {
        uint64_t size = raft_entry_bytes(raft_log_at(l, i));
        if (n > 0 && (total + size > max_bytes || n == RAFT_MESSAGE_ENTRIES_MAX)) {
            break;
        }
        total += size;
        n++;
    }
    *bytes = total;
    return n;
}

uint64_t raft_log_conflict_by_term(const struct raft_log *l, uint64_t index, uint64_t term,
                                   uint64_t *out_term)
{
    *out_term = 0;
    for (; index > 0; index--) {
        uint64_t ours = 0;
        if (!raft_log_term(l, index, &ours)) {
            return index;
        }
        if (ours <= term) {
            *out_term = ours;
            return index;
        }
    }
    return 0;
}

/* ---- commit and apply ---- */

void raft_log_commit_to(struct raft_log *l, uint64_t index)
{
    if (l->committed < index) {
        ASSERT(index <= raft_log_last(l)); /* raft_check_message refuses what would break this */
        l->committed = index;
    }
}

void raft_log_applied_to(struct raft_log *l, uint64_t index)
{
    ASSERT(index <= l->committed);
    ASSERT(index >= l->applied);
    l->applied = index;
    l->applying = max_u64(l->applying, index);
}

uint64_t raft_log_retire(struct raft_log *l, uint64_t index)
{
    uint64_t payload = 0;
    while (l->n_batches > 0 && l->batches[l->batch_head].last <= index) {
        const struct raft_apply_batch *b = &l->batches[l->batch_head];
        payload += b->payload_bytes;
        l->applying_bytes -= b->entry_bytes;
        l->batch_head++;
        l->n_batches--;
    }
    if (l->n_batches == 0) {
        l->batch_head = 0;
    }
    l->applying_paused = l->applying_bytes >= l->max_applying_bytes;
    return payload;
}

uint64_t raft_log_appliable(const struct raft_log *l, bool before_durable)
{
    return before_durable ? l->committed : min_u64(l->committed, l->durable_next - 1);
}

bool raft_log_has_committed(const struct raft_log *l, bool before_durable)
{
    /* While a snapshot waits, what is behind it cannot be applied yet. */
    return !l->applying_paused && l->snapshot == NULL &&
           l->applying < raft_log_appliable(l, before_durable);
}

size_t raft_log_next_committed(const struct raft_log *l, bool before_durable,
                               const struct raft_entry **out, uint64_t *bytes)
{
    *out = NULL;
    *bytes = 0;
    if (!raft_log_has_committed(l, before_durable)) {
        return 0;
    }
    *out = raft_log_at(l, l->applying + 1);
    return raft_log_fit(l, l->applying + 1, raft_log_appliable(l, before_durable) + 1,
                        l->max_applying_bytes - l->applying_bytes, bytes);
}

static void add_batch(struct raft_log *l, struct raft_apply_batch b)
{
    if (l->batch_head + l->n_batches == l->batch_cap) {
        if (l->batch_head > 0) {
            memmove(l->batches, l->batches + l->batch_head, l->n_batches * sizeof(b));
            l->batch_head = 0;
        } else {
            l->batch_cap = l->batch_cap == 0 ? 16 : l->batch_cap * 2;
            l->batches = xrealloc(l->batches, l->batch_cap * sizeof(b));
        }
    }
    l->batches[l->batch_head + l->n_batches++] = b;
}

void raft_log_hand_out(struct raft_log *l, const struct raft_entry *e, size_t n, uint64_t bytes,
                       bool before_durable)
{
    uint64_t payload = 0;
    for (size_t i = 0; i < n; i++) {
        payload += e[i].data == NULL ? 0 : e[i].data->len;
    }
    uint64_t last = e[n - 1].index;
    add_batch(l, (struct raft_apply_batch){last, bytes, payload});
    l->applying = last;
    l->applying_bytes += bytes;
    l->applying_paused =
        l->applying_bytes >= l->max_applying_bytes || last < raft_log_appliable(l, before_durable);
}

/* ---- durability ---- */

void raft_log_durable_to(struct raft *r, uint64_t index, uint64_t term)
{
    struct raft_log *l = &r->log;
    if (index < l->durable_next || index > raft_log_last(l)) {
        bool is_snapshot = l->snapshot != NULL && l->snapshot->index == index;
        RAFT_TRACE(r, RAFT_LOG_INFO, "entry at index %" PRIu64 " %s; ignoring", index,
                   is_snapshot ? "matched unstable snapshot" : "missing from unstable log");
        return;
    }
    uint64_t ours = raft_log_at(l, index)->term;
    if (ours != term) {
        RAFT_TRACE(r, RAFT_LOG_INFO,
                   "entry at (index,term)=(%" PRIu64 ",%" PRIu64
                   ") mismatched with entry at (%" PRIu64 ",%" PRIu64 ") in unstable log; ignoring",
                   index, term, index, ours);
        return;
    }
    l->durable_next = index + 1;
    l->in_progress_next = max_u64(l->in_progress_next, l->durable_next);
}

void raft_log_snapshot_installed(struct raft_log *l, uint64_t index)
{
    if (l->snapshot != NULL && l->snapshot->index == index) {
        raft_snapshot_destroy(&l->snapshot);
        l->snapshot_in_progress = false;
    }
}

void raft_log_restore(struct raft_log *l, const struct raft_snapshot *s)
{
    drop_front(l, l->n);
    l->base_index = s->index;
    l->base_term = s->term;
    l->committed = s->index;
    l->durable_next = s->index + 1;
    l->in_progress_next = s->index + 1;
    raft_snapshot_destroy(&l->snapshot);
    l->snapshot = raft_snapshot_copy(s);
    l->snapshot_in_progress = false;
}

void raft_log_compact(struct raft_log *l, uint64_t index)
{
    index = min_u64(index, min_u64(l->applied, l->durable_next - 1));
    if (index <= l->base_index || l->snapshot != NULL) {
        return;
    }
    uint64_t term = raft_log_at(l, index)->term;
    drop_front(l, (size_t)(index - l->base_index));
    l->base_index = index;
    l->base_term = term;
}
