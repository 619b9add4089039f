/* internal.h - what the files of raft/core share.
 *
 * What        The parts a struct raft is made of: the log in memory, the progress of every member,
 *             quorum arithmetic, the rules of configuration changes, and the functions by which
 *             election, replication and reads call each other.
 * Callers     raft/core/ *.c, and its tests (quorum, confchange).
 * Thread      the owner of the struct raft.
 */
#ifndef RAFT_CORE_INTERNAL_H
#define RAFT_CORE_INTERNAL_H

#include "base/assert.h"
#include "raft/core/raft.h"

/* ---- quorum.c: majorities, single and joint ---- */

enum raft_vote_result { RAFT_VOTE_PENDING = 1, RAFT_VOTE_LOST, RAFT_VOTE_WON };
enum raft_ballot { RAFT_BALLOT_NONE, RAFT_BALLOT_NO, RAFT_BALLOT_YES };

/* How a quorum asks about one voter. */
struct raft_acks {
    const void *arg;
    bool (*acked)(const void *arg, uint64_t id, uint64_t *index); /* false: nothing known */
};
struct raft_ballots {
    const void *arg;
    enum raft_ballot (*ballot)(const void *arg, uint64_t id);
};

/* The highest index that a majority has acknowledged; UINT64_MAX without voters. */
uint64_t raft_quorum_committed(const struct raft_ids *voters, struct raft_acks acks);
/* Of both halves; an empty half agrees with everything. */
uint64_t raft_joint_committed(const struct raft_ids *incoming, const struct raft_ids *outgoing,
                              struct raft_acks acks);
enum raft_vote_result raft_quorum_vote(const struct raft_ids *voters, struct raft_ballots ballots);
enum raft_vote_result raft_joint_vote(const struct raft_ids *incoming,
                                      const struct raft_ids *outgoing, struct raft_ballots ballots);

void raft_ids_remove(struct raft_ids *s, uint64_t id); /* may be absent */
/* `a` and `b` together. False when they are more than RAFT_MEMBERS_MAX. */
bool raft_ids_union(const struct raft_ids *a, const struct raft_ids *b, struct raft_ids *out);

/* ---- progress.c: what the leader knows of each member ---- */

struct raft_inflight {
    uint64_t index; /* of the last entry in the message */
    uint64_t bytes; /* of the payloads in it */
};

struct raft_window {            /* appends under way, oldest first */
    struct raft_inflight *ring; /* owned by the tracker; grows up to `max` */
    uint32_t cap;
    uint32_t start;
    uint32_t count;
    uint64_t bytes;
};

/*  probe ──acknowledged──► replicate;  replicate ──rejected, unreachable──► probe;
 *  probe, replicate ──entries are compacted──► snapshot;  snapshot ──caught up, reported──► probe
 */
struct raft_progress {
    uint64_t id;
    uint64_t match;       /* the member's log is known to equal ours up to here */
    uint64_t next;        /* the next entry to send; match < next */
    uint64_t sent_commit; /* highest commit index on its way there */
    uint64_t pending_snapshot;
    uint64_t read_ack; /* reads confirmed by its heartbeat answers, counted over the term */
    enum raft_progress_state state;
    enum raft_ballot vote; /* in the running election */
    bool is_learner;
    bool recent_active; /* heard from since the last quorum check */
    bool flow_paused;   /* nothing more to it until it answers or a heartbeat passes */
    bool read_acked;
    struct raft_window window;
};

struct raft_tracker {
    struct raft_conf_state conf;
    size_t n;
    struct raft_progress p[RAFT_MEMBERS_MAX]; /* ascending id: all of conf's members */
    uint32_t max_inflight;
    uint64_t max_inflight_bytes; /* 0: no limit */
};

#define RAFT_PROGRESS_TEXT_MAX 192u

struct raft_progress *raft_tracker_find(struct raft_tracker *t, uint64_t id); /* NULL: absent */
const struct raft_progress *raft_tracker_get(const struct raft_tracker *t, uint64_t id);
void raft_tracker_deinit(struct raft_tracker *t);
void raft_tracker_reset_votes(struct raft_tracker *t);
uint64_t raft_tracker_committed(const struct raft_tracker *t);
bool raft_tracker_quorum_active(const struct raft_tracker *t);
bool raft_tracker_is_singleton(const struct raft_tracker *t);
enum raft_vote_result raft_tracker_tally(const struct raft_tracker *t, size_t *granted,
                                         size_t *rejected);
/* Reads that both majorities have confirmed. */
uint64_t raft_tracker_read_acks(const struct raft_tracker *t);

void raft_progress_become_probe(struct raft_progress *p);
void raft_progress_become_replicate(struct raft_progress *p);
void raft_progress_become_snapshot(struct raft_progress *p, uint64_t index);
void raft_progress_sent(const struct raft_tracker *t, struct raft_progress *p, size_t n_entries,
                        uint64_t bytes);
bool raft_progress_can_bump_commit(const struct raft_progress *p, uint64_t index);
/* An append up to `n` was acknowledged; false when that is old news. */
bool raft_progress_update(struct raft_progress *p, uint64_t n);
/* An append after `rejected` was refused and its log may match at `hint`; false when stale. */
bool raft_progress_decrease(struct raft_progress *p, uint64_t rejected, uint64_t hint);
bool raft_progress_paused(const struct raft_progress *p);
bool raft_window_full(const struct raft_tracker *t, const struct raft_progress *p);
void raft_window_add(const struct raft_tracker *t, struct raft_progress *p, uint64_t index,
                     uint64_t bytes);
void raft_window_free_to(struct raft_progress *p, uint64_t index); /* up to and including */
void raft_window_reset(struct raft_progress *p);
/* One line in etcd's form; returns `out` (RAFT_PROGRESS_TEXT_MAX bytes). */
const char *raft_progress_text(const struct raft_tracker *t, const struct raft_progress *p,
                               char *out);

/* ---- confchange.c: from one configuration to the next ---- */

/* Each takes the present tracker and gives the next one, whose windows are shared with the present
 * one until raft_tracker_replace. ERR_INVALID with a text in etcd's words, or ERR_LIMIT. */
enum err raft_conf_simple(const struct raft_tracker *t, uint64_t last_index,
                          const struct raft_conf_change_single *c, size_t n,
                          struct raft_tracker *out, struct err_ctx *ec);
enum err raft_conf_enter_joint(const struct raft_tracker *t, uint64_t last_index, bool auto_leave,
                               const struct raft_conf_change_single *c, size_t n,
                               struct raft_tracker *out, struct err_ctx *ec);
enum err raft_conf_leave_joint(const struct raft_tracker *t, struct raft_tracker *out,
                               struct err_ctx *ec);
/* From nothing to `conf`; `t` gives the limits of the windows. */
enum err raft_conf_restore(const struct raft_tracker *t, uint64_t last_index,
                           const struct raft_conf_state *conf, struct raft_tracker *out,
                           struct err_ctx *ec);
/* `*t` becomes `*next`; windows that `next` does not share are freed. */
void raft_tracker_replace(struct raft_tracker *t, const struct raft_tracker *next);
bool raft_conf_leaves_joint(const struct raft_conf_change *cc);
/* Whether the change needs a joint configuration. */
bool raft_conf_enters_joint(const struct raft_conf_change *cc, bool *auto_leave);
/* "voters=(1 2)&&(1) learners=(3)"; appended to `out`. */
void raft_conf_text(const struct raft_conf_state *c, struct bytes *out);
void raft_conf_change_text(const struct raft_conf_change *cc, struct bytes *out);

/* ---- log.c: the entries in memory ---- */

/* Handed out, not reported applied yet. */
struct raft_apply_batch {
    uint64_t last;
    uint64_t entry_bytes;
    uint64_t payload_bytes;
};

struct raft_log {
    struct raft_entry *e; /* e[head + i] has index base_index + 1 + i; data are references */
    size_t head;
    size_t n;
    size_t cap;
    uint64_t bytes;      /* of the window's data */
    uint64_t base_index; /* the entry just below the window, */
    uint64_t base_term;  /* known by its term only */
    uint64_t committed;
    uint64_t applying; /* handed out up to here */
    uint64_t applied;
    uint64_t durable_next;     /* entries below are in the durable log; no batch under way can */
                               /* replace them */
    uint64_t in_progress_next; /* entries below were handed to the log */
    struct raft_snapshot *snapshot; /* received and not installed yet; NULL: none */
    bool snapshot_in_progress;      /* handed out */
    uint64_t max_applying_bytes;
    uint64_t applying_bytes;
    bool applying_paused;
    struct raft_apply_batch *batches; /* oldest at batch_head */
    size_t batch_head;
    size_t n_batches;
    size_t batch_cap;
};

struct raft; /* below */

void raft_log_deinit(struct raft_log *l);
uint64_t raft_log_first(const struct raft_log *l);
uint64_t raft_log_last(const struct raft_log *l);
uint64_t raft_log_last_term(const struct raft_log *l);
/* False when the term is not known: compacted, or behind the end. */
bool raft_log_term(const struct raft_log *l, uint64_t index, uint64_t *term);
bool raft_log_matches(const struct raft_log *l, uint64_t index, uint64_t term);
bool raft_log_up_to_date(const struct raft_log *l, uint64_t index, uint64_t term);
const struct raft_entry *raft_log_at(const struct raft_log *l, uint64_t index); /* in the window */
/* How many entries from `lo` on, up to `hi` excluded, fit `max_bytes`; at least one if any. */
size_t raft_log_fit(const struct raft_log *l, uint64_t lo, uint64_t hi, uint64_t max_bytes,
                    uint64_t *bytes);
/* Put entries behind the end; the indexes are given out here. For a leader and for the start. */
void raft_log_push(struct raft_log *l, uint64_t term, const struct raft_entry *e, size_t n);
/* Put entries at e[0].index, cutting what is there. */
void raft_log_append(struct raft *r, const struct raft_entry *e, size_t n);
/* The largest index <= `index` whose term is <= `term`, or is not known (then *out_term is 0). */
uint64_t raft_log_conflict_by_term(const struct raft_log *l, uint64_t index, uint64_t term,
                                   uint64_t *out_term);
void raft_log_commit_to(struct raft_log *l, uint64_t index);
void raft_log_applied_to(struct raft_log *l, uint64_t index);
/* Retire what was handed out up to `index`; gives the payload bytes retired. */
uint64_t raft_log_retire(struct raft_log *l, uint64_t index);
uint64_t raft_log_appliable(const struct raft_log *l, bool before_durable);
bool raft_log_has_committed(const struct raft_log *l, bool before_durable);
/* The next committed entries to hand out, without handing them out. */
size_t raft_log_next_committed(const struct raft_log *l, bool before_durable,
                               const struct raft_entry **out, uint64_t *bytes);
void raft_log_hand_out(struct raft_log *l, const struct raft_entry *e, size_t n, uint64_t bytes,
                       bool before_durable);
void raft_log_durable_to(struct raft *r, uint64_t index, uint64_t term);
void raft_log_snapshot_installed(struct raft_log *l, uint64_t index);
void raft_log_restore(struct raft_log *l, const struct raft_snapshot *s);
void raft_log_compact(struct raft_log *l, uint64_t index);

/* ---- raft.c ---- */

struct raft_messages {
    struct raft_message **v;
    size_t n;
    size_t cap;
};

enum raft_campaign_kind { RAFT_CAMPAIGN_PRE, RAFT_CAMPAIGN_ELECTION, RAFT_CAMPAIGN_TRANSFER };
#define RAFT_TRANSFER_CONTEXT "CampaignTransfer" /* marks a vote request that ignores the lease */

struct raft_read {  /* a read request at the leader */
    uint64_t from;  /* RAFT_NONE or this member: answered by a raft_read_state */
    uint64_t index; /* committed when it came */
    struct buf *context;
};

/* Oldest first. */
struct raft_reads {
    struct raft_read *v;
    size_t head;
    size_t n;
    size_t cap;
};

struct raft {
    struct raft_config config; /* pointers to borrowed start state are cleared */
    uint64_t id;
    uint64_t term;
    uint64_t vote;
    enum raft_role role;
    bool is_learner;
    uint64_t leader;
    uint64_t transferee;
    uint64_t lost_term; /* suspect: the log once reached this far; lost_index 0: it is sound */
    uint64_t lost_index;
    uint64_t pending_conf_index; /* no conf change is proposed while it is above applied */
    uint64_t uncommitted_bytes;  /* leader: payloads proposed and not applied yet */
    uint32_t election_elapsed;
    uint32_t heartbeat_elapsed;
    uint32_t election_timeout; /* this round's draw */
    uint64_t random;
    struct raft_log log;
    struct raft_tracker tracker;
    struct raft_conf_state applied_conf; /* as of log.applied; what a snapshot from here says */
    bool applied_conf_stale;             /* tracker.conf has moved on since */

    struct raft_reads pending_reads; /* wait for the first commit of the term */
    struct raft_reads reads;         /* wait for a quorum's heartbeats */
    uint64_t confirmed_reads;        /* left `reads` since the term began */

    struct raft_messages send; /* filled by events, */
    struct raft_messages after;
    struct raft_read_state *read_states;
    size_t n_read_states;
    size_t read_states_cap;
    struct raft_messages send_out; /* and lent out by the last raft_actions */
    struct raft_messages after_out;
    struct raft_read_state *read_states_out;
    size_t read_states_out_cap;
    struct raft_snapshot *snapshot_out;
    struct raft_hard_state prev_hard;
    uint64_t prev_leader;
    enum raft_role prev_role;
};

void raft_push_message(struct raft_messages *q, struct raft_message *m); /* takes it */
/* Takes the message. Answers that promise something durable wait for the log. */
void raft_send(struct raft *r, struct raft_message *m);
/* A leader in a joint configuration with auto-leave proposes to leave it once the change that
 * entered it is applied. */
void raft_leave_joint(struct raft *r);
enum err raft_step(struct raft *r, const struct raft_message *m);

#define RAFT_TRACE(r, level, ...)                                                                  \
    do {                                                                                           \
        if ((r)->config.log != NULL && (level) >= (r)->config.log_level) {                         \
            raft_trace((r), (level), __VA_ARGS__);                                                 \
        }                                                                                          \
    } while (0)
void raft_trace(const struct raft *r, enum raft_log_level level, const char *fmt, ...)
    PRINTF_LIKE(3, 4);

/* ---- election.c ---- */

void raft_become_follower(struct raft *r, uint64_t term, uint64_t leader);
void raft_hup(struct raft *r, enum raft_campaign_kind kind);
bool raft_promotable(const struct raft *r);
/* The durable log has grown: it may have got back what it lost. */
void raft_check_recovered(struct raft *r);
/* A (pre-)vote request that passed the checks of terms. */
void raft_handle_vote(struct raft *r, const struct raft_message *m);
void raft_handle_vote_resp(struct raft *r, const struct raft_message *m);
void raft_tick_election(struct raft *r);
void raft_check_quorum(struct raft *r);
uint64_t raft_random(struct raft *r);
/* The next election comes after `ticks`; for tests. */
void raft_set_election_timeout(struct raft *r, uint32_t ticks);

/* ---- replication.c: the leader's side ---- */

bool raft_append_own(struct raft *r, const struct raft_entry *e, size_t n); /* false: too much */
enum err raft_lead_proposal(struct raft *r, const struct raft_message *m);
bool raft_maybe_send_append(struct raft *r, struct raft_progress *p, bool even_empty);
void raft_broadcast_append(struct raft *r);
void raft_broadcast_heartbeat(struct raft *r);
bool raft_maybe_commit(struct raft *r);
void raft_handle_append_resp(struct raft *r, struct raft_progress *p, const struct raft_message *m);
void raft_handle_heartbeat_resp(struct raft *r, struct raft_progress *p,
                                const struct raft_message *m);
void raft_handle_snapshot_status(struct raft *r, struct raft_progress *p, bool reject);
void raft_handle_unreachable(struct raft *r, struct raft_progress *p);
void raft_handle_transfer(struct raft *r, struct raft_progress *p);
void raft_tick_heartbeat(struct raft *r);

/* ---- follow.c: the follower's side ---- */

/* ERR_INVALID or ERR_CORRUPT for what must not be acted on; nothing is changed. */
enum err raft_check_message(const struct raft *r, const struct raft_message *m);
void raft_handle_append(struct raft *r, const struct raft_message *m);
void raft_handle_heartbeat(struct raft *r, const struct raft_message *m);
void raft_handle_snapshot(struct raft *r, const struct raft_message *m);
/* The tracker was replaced: act on what that means for this member. */
void raft_switched_config(struct raft *r);

/* ---- read.c ---- */

enum err raft_lead_read(struct raft *r, const struct raft_message *m);
void raft_release_pending_reads(struct raft *r);
void raft_confirm_reads(struct raft *r);
void raft_reset_reads(struct raft *r);
/* The number that a heartbeat carries so that its answer confirms what waits; false: nothing. */
bool raft_read_position(const struct raft *r, uint64_t *out);
void raft_add_read_state(struct raft *r, uint64_t index, struct slice context);
void raft_reads_deinit(struct raft_reads *q);

#endif
