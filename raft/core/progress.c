/* progress.c - what the leader knows of each member, and how much it may have under way to it.
 *
 * A member in probe gets one append at a time until one is accepted and its log is found; in
 * replicate appends follow each other without waiting, up to the window's limits in messages and
 * bytes; in snapshot it gets nothing until the snapshot is there. The window is a ring of the last
 * index of each append under way: an acknowledgement frees all up to its index.
 */
#include "raft/core/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"

const struct raft_progress *raft_tracker_get(const struct raft_tracker *t, uint64_t id)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->p[i].id == id) {
            return &t->p[i];
        }
    }
    return NULL;
}

struct raft_progress *raft_tracker_find(struct raft_tracker *t, uint64_t id)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->p[i].id == id) {
            return &t->p[i];
        }
    }
    return NULL;
}

void raft_tracker_deinit(struct raft_tracker *t)
{
    for (size_t i = 0; i < t->n; i++) {
        free(t->p[i].window.ring);
        t->p[i].window.ring = NULL;
    }
    t->n = 0;
}

void raft_tracker_reset_votes(struct raft_tracker *t)
{
    for (size_t i = 0; i < t->n; i++) {
        t->p[i].vote = RAFT_BALLOT_NONE;
    }
}

static bool acked_match(const void *arg, uint64_t id, uint64_t *index)
{
    const struct raft_progress *p = raft_tracker_get(arg, id);
    if (p == NULL) {
        return false;
    }
    *index = p->match;
    return true;
}

uint64_t raft_tracker_committed(const struct raft_tracker *t)
{
    struct raft_acks acks = {t, acked_match};
    return raft_joint_committed(&t->conf.voters, &t->conf.voters_outgoing, acks);
}

static bool acked_reads(const void *arg, uint64_t id, uint64_t *index)
{
    const struct raft_progress *p = raft_tracker_get(arg, id);
    if (p == NULL || !p->read_acked) {
        return false;
    }
    *index = p->read_ack;
    return true;
}

uint64_t raft_tracker_read_acks(const struct raft_tracker *t)
{
    struct raft_acks acks = {t, acked_reads};
    return raft_joint_committed(&t->conf.voters, &t->conf.voters_outgoing, acks);
}

static enum raft_ballot ballot_active(const void *arg, uint64_t id)
{
    const struct raft_progress *p = raft_tracker_get(arg, id);
    if (p == NULL || p->is_learner) {
        return RAFT_BALLOT_NONE;
    }
    return p->recent_active ? RAFT_BALLOT_YES : RAFT_BALLOT_NO;
}

bool raft_tracker_quorum_active(const struct raft_tracker *t)
{
    struct raft_ballots ballots = {t, ballot_active};
    return raft_joint_vote(&t->conf.voters, &t->conf.voters_outgoing, ballots) == RAFT_VOTE_WON;
}

bool raft_tracker_is_singleton(const struct raft_tracker *t)
{
    return t->conf.voters.n == 1 && t->conf.voters_outgoing.n == 0;
}

static enum raft_ballot ballot_cast(const void *arg, uint64_t id)
{
    const struct raft_progress *p = raft_tracker_get(arg, id);
    return p == NULL ? RAFT_BALLOT_NONE : p->vote;
}

enum raft_vote_result raft_tracker_tally(const struct raft_tracker *t, size_t *granted,
                                         size_t *rejected)
{
    *granted = 0;
    *rejected = 0;
    for (size_t i = 0; i < t->n; i++) {
        if (!t->p[i].is_learner) {
            *granted += t->p[i].vote == RAFT_BALLOT_YES;
            *rejected += t->p[i].vote == RAFT_BALLOT_NO;
        }
    }
    struct raft_ballots ballots = {t, ballot_cast};
    return raft_joint_vote(&t->conf.voters, &t->conf.voters_outgoing, ballots);
}

/* ---- the window ---- */

bool raft_window_full(const struct raft_tracker *t, const struct raft_progress *p)
{
    return p->window.count >= t->max_inflight ||
           (t->max_inflight_bytes != 0 && p->window.bytes >= t->max_inflight_bytes);
}

static uint32_t ring_at(const struct raft_window *w, uint32_t i)
{
    uint64_t at = (uint64_t)w->start + i;
    return (uint32_t)(at >= w->cap ? at - w->cap : at);
}

static void window_grow(struct raft_window *w, uint32_t max)
{
    uint32_t cap = w->cap == 0 ? 8 : w->cap * 2;
    if (cap > max) {
        cap = max;
    }
    struct raft_inflight *ring = xcalloc(cap, sizeof(*ring));
    for (uint32_t i = 0; i < w->count; i++) {
        ring[i] = w->ring[ring_at(w, i)];
    }
    free(w->ring);
    w->ring = ring;
    w->cap = cap;
    w->start = 0;
}

void raft_window_add(const struct raft_tracker *t, struct raft_progress *p, uint64_t index,
                     uint64_t bytes)
{
    struct raft_window *w = &p->window;
    ASSERT(!raft_window_full(t, p));
    if (w->count == w->cap) {
        window_grow(w, t->max_inflight);
    }
    w->ring[ring_at(w, w->count)] = (struct raft_inflight){index, bytes};
    w->count++;
    w->bytes += bytes;
}

void raft_window_free_to(struct raft_progress *p, uint64_t index)
{
    struct raft_window *w = &p->window;
    while (w->count > 0 && w->ring[w->start].index <= index) {
        w->bytes -= w->ring[w->start].bytes;
        w->start = ring_at(w, 1);
        w->count--;
    }
}

void raft_window_reset(struct raft_progress *p)
{
    p->window.start = 0;
    p->window.count = 0;
    p->window.bytes = 0;
}

/* ---- one member ---- */

static uint64_t max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static uint64_t min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static void move(struct raft_progress *p, enum raft_progress_state to)
{
    p->flow_paused = false;
    p->pending_snapshot = 0;
    p->state = to;
    raft_window_reset(p);
}

void raft_progress_become_probe(struct raft_progress *p)
{
    /* A snapshot that was reported delivered is where its log goes on. */
    uint64_t behind_snapshot = p->state == RAFT_SNAPSHOT ? p->pending_snapshot + 1 : 0;
    move(p, RAFT_PROBE);
    p->next = max_u64(p->match + 1, behind_snapshot);
    p->sent_commit = min_u64(p->sent_commit, p->next - 1);
}

void raft_progress_become_replicate(struct raft_progress *p)
{
    move(p, RAFT_REPLICATE);
    p->next = p->match + 1;
}

void raft_progress_become_snapshot(struct raft_progress *p, uint64_t index)
{
    move(p, RAFT_SNAPSHOT);
    p->pending_snapshot = index;
    p->next = index + 1;
    p->sent_commit = index;
}

void raft_progress_sent(const struct raft_tracker *t, struct raft_progress *p, size_t n_entries,
                        uint64_t bytes)
{
    switch (p->state) {
    case RAFT_REPLICATE:
        if (n_entries > 0) {
            p->next += n_entries;
            raft_window_add(t, p, p->next - 1, bytes);
        }
        /* The append that fills the window, or an empty one past it, is the last one until an
         * answer comes or a heartbeat passes. */
        p->flow_paused = raft_window_full(t, p);
        break;
    case RAFT_PROBE:
        if (n_entries > 0) {
            p->flow_paused = true;
        }
        break;
    case RAFT_SNAPSHOT:
        UNREACHABLE();
    }
}

bool raft_progress_can_bump_commit(const struct raft_progress *p, uint64_t index)
{
    return index > p->sent_commit && p->sent_commit < p->next - 1;
}

bool raft_progress_update(struct raft_progress *p, uint64_t n)
{
    if (n <= p->match) {
        return false;
    }
    p->match = n;
    p->next = max_u64(p->next, n + 1);
    p->flow_paused = false;
    return true;
}

bool raft_progress_decrease(struct raft_progress *p, uint64_t rejected, uint64_t hint)
{
    if (p->state == RAFT_REPLICATE) {
        if (rejected <= p->match) {
            return false;
        }
        p->next = p->match + 1;
        p->sent_commit = min_u64(p->sent_commit, p->next - 1);
        return true;
    }
    /* Probes go one at a time, so an answer to anything but the last one is late. */
    if (p->next - 1 != rejected) {
        return false;
    }
    p->next = max_u64(min_u64(rejected, hint + 1), p->match + 1);
    p->sent_commit = min_u64(p->sent_commit, p->next - 1);
    p->flow_paused = false;
    return true;
}

bool raft_progress_paused(const struct raft_progress *p)
{
    return p->state == RAFT_SNAPSHOT || p->flow_paused;
}

static const char *state_name(enum raft_progress_state state)
{
    switch (state) {
    case RAFT_PROBE:
        return "StateProbe";
    case RAFT_REPLICATE:
        return "StateReplicate";
    case RAFT_SNAPSHOT:
        return "StateSnapshot";
    }
    UNREACHABLE();
}

const char *raft_progress_text(const struct raft_tracker *t, const struct raft_progress *p,
                               char *out)
{
    char snapshot[40] = "";
    char inflight[40] = "";
    if (p->pending_snapshot > 0) {
        (void)snprintf(snapshot, sizeof(snapshot), " pendingSnap=%" PRIu64, p->pending_snapshot);
    }
    if (p->window.count > 0) {
        (void)snprintf(inflight, sizeof(inflight), " inflight=%" PRIu32 "%s", p->window.count,
                       raft_window_full(t, p) ? "[full]" : "");
    }
    (void)snprintf(out, RAFT_PROGRESS_TEXT_MAX, "%s match=%" PRIu64 " next=%" PRIu64 "%s%s%s%s%s",
                   state_name(p->state), p->match, p->next, p->is_learner ? " learner" : "",
                   raft_progress_paused(p) ? " paused" : "", snapshot,
                   p->recent_active ? "" : " inactive", inflight);
    return out;
}
