/* read.c - linearizable reads without the log (thesis, 6.4).
 *
 * A read is good at the commit index of the moment it came, once a majority confirms that this
 * leader still leads after that moment. Reads are numbered by arrival within the term; a heartbeat
 * carries the number of the youngest one, its answer acknowledges all up to there, and what both
 * majorities have acknowledged is answered. So one round of heartbeats serves every read that waits
 * when it starts. A new leader knows the true commit index only after its first commit: reads wait
 * until then. A sole voter is its own majority and answers at once.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "raft/core/internal.h"

static void push(struct raft_reads *q, const struct raft_message *m, uint64_t index)
{
    if (q->head + q->n == q->cap) {
        if (q->head > 0) {
            memmove(q->v, q->v + q->head, q->n * sizeof(q->v[0]));
            q->head = 0;
        } else {
            q->cap = q->cap == 0 ? 16 : q->cap * 2;
            q->v = xrealloc(q->v, q->cap * sizeof(q->v[0]));
        }
    }
    struct buf *context = m->entries[0].data;
    q->v[q->head + q->n++] = (struct raft_read){
        .from = m->from,
        .index = index,
        .context = context == NULL ? NULL : buf_ref(context),
    };
}

static struct raft_read pop(struct raft_reads *q)
{
    struct raft_read read = q->v[q->head];
    q->head++;
    q->n--;
    if (q->n == 0) {
        q->head = 0;
    }
    return read;
}

static void clear(struct raft_reads *q)
{
    while (q->n > 0) {
        struct raft_read read = pop(q);
        buf_unref(&read.context);
    }
}

void raft_reads_deinit(struct raft_reads *q)
{
    clear(q);
    free(q->v);
    q->v = NULL;
}

void raft_reset_reads(struct raft *r)
{
    clear(&r->pending_reads);
    clear(&r->reads);
    r->confirmed_reads = 0;
}

void raft_add_read_state(struct raft *r, uint64_t index, struct slice context)
{
    if (context.len > RAFT_CONTEXT_BYTES_MAX) {
        return; /* not one of ours: raft_read_index makes none so long */
    }
    if (r->n_read_states == r->read_states_cap) {
        r->read_states_cap = r->read_states_cap == 0 ? 16 : r->read_states_cap * 2;
        r->read_states = xrealloc(r->read_states, r->read_states_cap * sizeof(r->read_states[0]));
    }
    struct raft_read_state *s = &r->read_states[r->n_read_states++];
    *s = (struct raft_read_state){.index = index, .context_len = (uint8_t)context.len};
    if (context.len > 0) {
        memcpy(s->context, context.data, context.len);
    }
}

static void respond(struct raft *r, uint64_t from, uint64_t index, struct buf *context)
{
    if (from == RAFT_NONE || from == r->id) {
        raft_add_read_state(r, index, buf_slice(context));
        return;
    }
    struct raft_message *m = raft_message_create(RAFT_MSG_READ_INDEX_RESP, 1);
    m->to = from;
    m->index = index;
    m->entries[0].data = context == NULL ? NULL : buf_ref(context);
    raft_send(r, m);
}

static bool committed_in_term(const struct raft *r)
{
    return raft_term_of(r, r->log.committed) == r->term;
}

bool raft_read_position(const struct raft *r, uint64_t *out)
{
    if (r->reads.n == 0) {
        return false;
    }
    *out = r->confirmed_reads + r->reads.n;
    return true;
}

/* The own acknowledgement is given here; the round goes out with the caller's heartbeat. */
static void wait_for_quorum(struct raft *r, const struct raft_message *m)
{
    push(&r->reads, m, r->log.committed);
    struct raft_progress *self = raft_tracker_find(&r->tracker, r->id);
    if (self != NULL) {
        self->read_acked = raft_read_position(r, &self->read_ack);
    }
}

enum err raft_lead_read(struct raft *r, const struct raft_message *m)
{
    if (raft_tracker_is_singleton(&r->tracker) && raft_ids_has(&r->tracker.conf.voters, r->id)) {
        if (committed_in_term(r)) {
            respond(r, m->from, r->log.committed, m->entries[0].data);
            return OK;
        }
    }
    if (r->pending_reads.n + r->reads.n >= RAFT_READS_MAX) {
        return ERR_BUSY;
    }
    if (!committed_in_term(r)) {
        push(&r->pending_reads, m, 0);
    } else if (r->config.lease_reads) {
        respond(r, m->from, r->log.committed, m->entries[0].data);
    } else {
        wait_for_quorum(r, m);
        raft_broadcast_heartbeat(r);
    }
    return OK;
}

void raft_release_pending_reads(struct raft *r)
{
    if (r->pending_reads.n == 0 || !committed_in_term(r)) {
        return;
    }
    bool round = false;
    bool alone =
        raft_tracker_is_singleton(&r->tracker) && raft_ids_has(&r->tracker.conf.voters, r->id);
    while (r->pending_reads.n > 0) {
        struct raft_read read = pop(&r->pending_reads);
        if (r->config.lease_reads || alone) {
            respond(r, read.from, r->log.committed, read.context);
        } else {
            struct raft_entry e = {.data = read.context};
            struct raft_message m = {.from = read.from, .n_entries = 1, .entries = &e};
            wait_for_quorum(r, &m);
            round = true;
        }
        buf_unref(&read.context);
    }
    if (round) {
        raft_broadcast_heartbeat(r);
    }
}

void raft_confirm_reads(struct raft *r)
{
    uint64_t confirmed = raft_tracker_read_acks(&r->tracker);
    uint64_t youngest = r->confirmed_reads + r->reads.n;
    if (confirmed > youngest) { /* nobody was asked for more; a broken peer may say so */
        confirmed = youngest;
    }
    while (r->confirmed_reads < confirmed) {
        struct raft_read read = pop(&r->reads);
        r->confirmed_reads++;
        respond(r, read.from, read.index, read.context);
        buf_unref(&read.context);
    }
}
