/* raft.h - consensus as a pure state machine, on the wire what etcd's raft library (v3) is.
 *
 * What        One member of one raft group. Events go in through the functions below; what has to
 *             be done about them comes out of raft_actions. Nothing here does I/O, reads a clock,
 *             starts a thread or draws a random number except from the seed in the config: the
 *             same config and the same calls give the same actions, byte for byte.
 * Callers     raft/member (one struct raft, on its loop), tests/sim, tests/raft/core.
 * Thread      its owner's. The bufs inside entries and messages may travel to other threads.
 * Invariants  committed never decreases and never passes what a quorum has made durable; the own
 *             log counts only once its durability was reported. term never decreases; one vote a
 *             term. handed out <= committed, applied <= handed out. Entries at or below committed
 *             never change.
 * Source      Ongaro's thesis (chapters 3, 4, 6, 9.6), raftpb for names and numbers.
 *
 * One turn of the shell:
 *
 *     raft_tick / raft_propose / raft_receive / ...   any number of events
 *     raft_actions(r, &a)
 *       send a.send now
 *       queue for the log, in this order and in one batch: a.hard_state, a.append (or a.snapshot),
 *       and behind them a.after
 *       apply a.committed, then raft_applied
 *     once that batch, and every batch before it, is durable: for each message in its `after`, in
 *     order: raft_receive it when it is addressed to this member, else send it. Free it.
 *
 * With one exception: a MsgVote in `send` waits for the batch, too. The term that it asks for has to
 * survive a crash, or this member could lead the same term twice.
 *
 * The messages in `after` are promises that rest on what the batch holds: votes, and acknowledged
 * appends, the leader's own included. So the leader's disk and its followers' disks work in
 * parallel, and nobody promises anything that a crash could take back.
 */
#ifndef RAFT_CORE_RAFT_H
#define RAFT_CORE_RAFT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "base/slice.h"

/* ---- limits ---- */

#define RAFT_MEMBERS_MAX 64u       /* voters, outgoing voters and learners; over: ERR_LIMIT */
#define RAFT_CONTEXT_BYTES_MAX 64u /* of a message; etcd's are 8 (reads) or 16 (transfer) */
#define RAFT_READS_MAX 4096u /* reads waiting at a leader; over: ERR_BUSY, asked again later */
#define RAFT_MESSAGE_ENTRIES_MAX 65536u /* entries of one append; more go in the next */
#define RAFT_APPEND_BYTES 1048576u      /* etcd's limit of one append message */
#define RAFT_INFLIGHT 512u              /* etcd's limit of appends under way to one follower */
#define RAFT_COMMITTED_BYTES 67108864u  /* handed out and not yet reported applied */

/* ---- values ---- */

/* Terms and indexes in messages are below this, so that one more never wraps. */
#define RAFT_NUMBER_MAX (UINT64_C(1) << 62)

#define RAFT_NONE 0u                 /* no member */
#define RAFT_LOCAL_APPEND UINT64_MAX /* `from` of messages that the log's completion feeds back */
#define RAFT_LOCAL_APPLY (UINT64_MAX - 1u)

/* raftpb.EntryType */
enum raft_entry_type {
    RAFT_ENTRY_NORMAL = 0,
    RAFT_ENTRY_CONF_CHANGE = 1,    /* data is a raftpb.ConfChange */
    RAFT_ENTRY_CONF_CHANGE_V2 = 2, /* data is a raftpb.ConfChangeV2 */
};

/* raftpb.MessageType */
enum raft_message_type {
    RAFT_MSG_HUP = 0,
    RAFT_MSG_BEAT = 1,
    RAFT_MSG_PROP = 2,
    RAFT_MSG_APP = 3,
    RAFT_MSG_APP_RESP = 4,
    RAFT_MSG_VOTE = 5,
    RAFT_MSG_VOTE_RESP = 6,
    RAFT_MSG_SNAP = 7,
    RAFT_MSG_HEARTBEAT = 8,
    RAFT_MSG_HEARTBEAT_RESP = 9,
    RAFT_MSG_UNREACHABLE = 10,
    RAFT_MSG_SNAP_STATUS = 11,
    RAFT_MSG_CHECK_QUORUM = 12,
    RAFT_MSG_TRANSFER_LEADER = 13,
    RAFT_MSG_TIMEOUT_NOW = 14,
    RAFT_MSG_READ_INDEX = 15,
    RAFT_MSG_READ_INDEX_RESP = 16,
    RAFT_MSG_PRE_VOTE = 17,
    RAFT_MSG_PRE_VOTE_RESP = 18,
    RAFT_MSG_STORAGE_APPEND = 19,
    RAFT_MSG_STORAGE_APPEND_RESP = 20,
    RAFT_MSG_STORAGE_APPLY = 21,
    RAFT_MSG_STORAGE_APPLY_RESP = 22,
    RAFT_MSG_FORGET_LEADER = 23,
};

enum raft_role { RAFT_FOLLOWER, RAFT_CANDIDATE, RAFT_LEADER, RAFT_PRE_CANDIDATE };

struct raft_entry {
    uint64_t index;
    uint64_t term;
    enum raft_entry_type type;
    struct buf *data; /* NULL: empty */
};

struct raft_hard_state {
    uint64_t term;
    uint64_t vote;
    uint64_t commit;
};

/* Ascending, each once. */
struct raft_ids {
    size_t n;
    uint64_t id[RAFT_MEMBERS_MAX];
};
bool raft_ids_has(const struct raft_ids *s, uint64_t id);
void raft_ids_add(struct raft_ids *s, uint64_t id); /* there is room, or it is in already */

/* raftpb.ConfState */
struct raft_conf_state {
    struct raft_ids voters;
    struct raft_ids learners;
    struct raft_ids voters_outgoing;
    struct raft_ids learners_next;
    bool auto_leave;
};

/* raftpb.Snapshot */
struct raft_snapshot {
    uint64_t index;
    uint64_t term;
    struct raft_conf_state conf;
    struct buf *data; /* NULL: empty; owned reference */
};

/* raftpb.Message. A field that a type does not use is 0. Made by raft_message_create, freed by
 * raft_message_destroy; immutable once given away. */
struct raft_message {
    enum raft_message_type type;
    uint64_t to;
    uint64_t from;
    uint64_t term;
    uint64_t log_term;
    uint64_t index;
    uint64_t commit;
    uint64_t vote;
    bool reject;
    uint64_t reject_hint;
    uint8_t context_len;
    uint8_t context[RAFT_CONTEXT_BYTES_MAX];
    struct raft_snapshot *snapshot; /* owned; NULL: none */
    size_t n_entries;
    struct raft_entry *entries; /* inside the message's own allocation; data are owned references */
};

/* A zeroed message with room for `n_entries` zeroed entries. */
struct raft_message *raft_message_create(enum raft_message_type type, size_t n_entries);
struct raft_message *raft_message_copy(const struct raft_message *m);
void raft_message_destroy(struct raft_message **m);

struct raft_snapshot *raft_snapshot_copy(const struct raft_snapshot *s); /* refs the data */
void raft_snapshot_destroy(struct raft_snapshot **s);

/* raftpb's names: "MsgApp", "EntryNormal", and "StateLeader" for roles. Static; NULL for a number
 * that is none. */
const char *raft_message_type_name(enum raft_message_type type);
const char *raft_entry_type_name(enum raft_entry_type type);
const char *raft_role_name(enum raft_role role);

/* Bytes of the entry as a raftpb.Entry: what max_append_bytes and max_committed_bytes count. */
size_t raft_entry_bytes(const struct raft_entry *e);

/* ---- configuration changes ---- */

/* raftpb.ConfChangeType */
enum raft_conf_change_type {
    RAFT_CONF_ADD_NODE = 0,
    RAFT_CONF_REMOVE_NODE = 1,
    RAFT_CONF_UPDATE_NODE = 2,
    RAFT_CONF_ADD_LEARNER = 3,
};

/* raftpb.ConfChangeTransition */
enum raft_conf_transition {
    RAFT_TRANSITION_AUTO = 0,
    RAFT_TRANSITION_JOINT_IMPLICIT = 1,
    RAFT_TRANSITION_JOINT_EXPLICIT = 2,
};

struct raft_conf_change_single {
    enum raft_conf_change_type type;
    uint64_t node; /* 0: nothing is done (a change that the state machine refused) */
};

/* raftpb.ConfChangeV2; a ConfChange is one with exactly one change and `v1` set. */
struct raft_conf_change {
    bool v1;
    uint64_t id;                          /* v1 only: etcd's request id */
    enum raft_conf_transition transition; /* not with v1 */
    size_t n_changes;
    struct raft_conf_change_single changes[RAFT_MEMBERS_MAX];
    struct slice context; /* decoded: borrowed from the entry's data */
};

/* Read the data of an entry of one of the two types. ERR_INVALID for bytes that are no such
 * message or numbers outside the enums, ERR_LIMIT for more changes than RAFT_MEMBERS_MAX. */
MUST_CHECK enum err raft_conf_change_decode(enum raft_entry_type type, struct slice data,
                                            struct raft_conf_change *out);
/* The data for an entry of type CONF_CHANGE (v1) or CONF_CHANGE_V2; count 1. Every number is
 * written, zeros too, as etcd does. */
struct buf *raft_conf_change_encode(const struct raft_conf_change *cc);

/* ---- life ---- */

enum raft_log_level { RAFT_LOG_DEBUG, RAFT_LOG_INFO, RAFT_LOG_WARN, RAFT_LOG_ERROR };

struct raft_config {
    uint64_t id;               /* not 0, not one of RAFT_LOCAL_* */
    uint32_t election_ticks;   /* more than heartbeat_ticks; the timeout is drawn from [n, 2n-1] */
    uint32_t heartbeat_ticks;  /* at least 1 */
    uint64_t max_append_bytes; /* of entries in one message, though at least one entry;
                                  RAFT_APPEND_BYTES */
    uint64_t max_committed_bytes;   /* handed out at once, though at least one entry; 0:
                                       RAFT_COMMITTED_BYTES */
    uint64_t max_uncommitted_bytes; /* of a leader's proposals, though at least one; 0: no limit */
    uint32_t max_inflight;          /* append messages to one follower; RAFT_INFLIGHT */
    uint64_t max_inflight_bytes;    /* 0: no limit */
    bool pre_vote;
    bool check_quorum;
    bool lease_reads;          /* answer reads from the leader's lease; needs check_quorum */
    bool no_forwarding;        /* a follower refuses proposals instead of forwarding them */
    bool no_conf_validation;   /* a leader does not check proposed conf changes */
    bool step_down_on_removal; /* a leader that is removed or demoted becomes a follower */
    bool apply_before_durable; /* hand out committed entries that the own log does not hold yet */
    uint64_t seed;             /* of the election timeouts */

    /* What was durable when the member last stopped; borrowed for the call, entries are ref'd. */
    struct raft_hard_state hard_state; /* all zero for a new member */
    uint64_t snapshot_index;           /* everything up to here is in the state machine; 0: none */
    uint64_t snapshot_term;
    struct raft_conf_state conf; /* as of `applied` */
    uint64_t applied; /* at least snapshot_index; the state machine holds it. 0: snapshot_index */
    const struct raft_entry *entries; /* snapshot_index + 1 and on, without a gap */
    size_t n_entries;

    /* What raft would log, in etcd's words; NULL: nobody listens and nothing is formatted. The text
     * lives for the call. The callback must not call back into this struct raft. */
    void (*log)(void *arg, enum raft_log_level level, const char *text);
    void *log_arg;
    enum raft_log_level log_level; /* lower ones are not formatted */
};

struct raft; /* opaque */

/* A follower with what the config gives. ERR_INVALID: a number out of its range or a conf that is
 * none; ERR_CORRUPT: a gap or falling terms in the entries, or commit or applied outside them;
 * ERR_LIMIT: too many members. A new cluster is begun by a durable log that holds one
 * ConfChangeAddNode per founding member at term 1 (entry i is member i's), hard state term 1 and
 * commit that number, and an empty conf: the first actions then hand those out to be applied. */
MUST_CHECK enum err raft_create(const struct raft_config *config, struct raft **out,
                                struct err_ctx *ec);
void raft_destroy(struct raft **r);

/* ---- events ---- */

/* One tick of the shell's clock; etcd's is one heartbeat interval. */
void raft_tick(struct raft *r);

/* As if `ticks` had passed; etcd's start-up fast-forward. */
void raft_fast_forward(struct raft *r, uint32_t ticks);

/* Begin an election now, with pre-vote if configured. Ignored by a leader and by who may not. */
void raft_campaign(struct raft *r);

/* Propose entries; only type and data count, data are ref'd. A leader appends them all or none; a
 * follower forwards them. A conf change that cannot be made now becomes an empty normal entry.
 * ERR_NO_LEADER: none is known, or forwarding is off. ERR_BUSY: leadership is being transferred,
 * or too much is uncommitted. ERR_NOT_LEADER: this leader was removed. ERR_INVALID: an undecodable
 * conf change. Nothing is kept on failure. */
MUST_CHECK enum err raft_propose(struct raft *r, const struct raft_entry *entries, size_t n);

/* A message from a peer, or one of our own `after`. Borrowed; what is kept is ref'd.
 * ERR_PERM: a type that no peer may send. ERR_NOT_FOUND: an answer from somebody who is not in
 * the configuration. ERR_INVALID: malformed. ERR_BUSY: a full queue (reads). ERR_NO_LEADER: a
 * forwarded proposal met no leader. ERR_CORRUPT: the message contradicts what is committed here, or
 * counts on entries that this log once acknowledged and no longer holds; nothing was changed, and
 * the member must look at its log. */
MUST_CHECK enum err raft_receive(struct raft *r, const struct raft_message *m);

/* Ask for a linearizable read point. The answer comes as a raft_read_state with this context (1 to
 * RAFT_CONTEXT_BYTES_MAX bytes), or never: leaders change and messages get lost, so the caller asks
 * again. ERR_NO_LEADER: dropped at once. ERR_BUSY: RAFT_READS_MAX wait already. */
MUST_CHECK enum err raft_read_index(struct raft *r, struct slice context);

/* The state machine holds everything up to `index`, which was handed out before. Call it once the
 * conf changes up to there, and none above, have been given to raft_apply_conf_change. */
void raft_applied(struct raft *r, uint64_t index);

/* A committed conf change takes effect (`cc` NULL: it was refused; a change with node 0 is the
 * same). *out, if not NULL, is the configuration from now on. ERR_INVALID: not possible in the
 * present configuration, nothing changed; ERR_LIMIT: too many members. */
MUST_CHECK enum err raft_apply_conf_change(struct raft *r, const struct raft_conf_change *cc,
                                           struct raft_conf_state *out, struct err_ctx *ec);

/* Hand leadership to `to`. On a follower the wish is forwarded. */
void raft_transfer_leader(struct raft *r, uint64_t to);

/* A leader becomes a follower that knows of no leader, in the same term: it cannot do its work, as
 * when its disk hangs. Nothing happens to anybody else. */
void raft_step_down(struct raft *r);

/* A follower forgets its leader: it no longer ignores requests for votes on the leader's behalf.
 * When connections to the leader die, members that call this elect another one without waiting for
 * the election timeout (one of them calls raft_campaign). Not with lease_reads. */
void raft_forget_leader(struct raft *r);

/* The last message to `id` did not arrive. */
void raft_report_unreachable(struct raft *r, uint64_t id);

/* The snapshot that raft told us to send to `id` was delivered, or not. Has to be said of every
 * one: until then, or until `id` acknowledges it, nothing else is sent there. */
void raft_report_snapshot(struct raft *r, uint64_t id, bool delivered);

/* The own log lost entries that it may have acknowledged, none behind the one of (`term`, `index`):
 * a damaged or cut-off log, a store that knows more than the log. This member is suspect until its
 * durable log reaches there again: it does not campaign, and it votes only for candidates whose log
 * reaches there too, for they have all that it may have helped to commit. It also moves to a new
 * term, which makes a present leader step down: only a new leader finds out that entries which were
 * acknowledged have to be sent again. Does nothing when the log reaches there. Call it right after
 * raft_create; the shell remembers the fact until raft_status says that it is over. */
void raft_suspect(struct raft *r, uint64_t term, uint64_t index);

/* Drop entries up to and including `index` (at most `applied`) from memory. Followers that need
 * them get a snapshot. Below the first kept entry nothing happens. */
void raft_compact(struct raft *r, uint64_t index);

/* ---- actions ---- */

struct raft_read_state {
    uint64_t index; /* serve the read once this is applied */
    uint8_t context_len;
    uint8_t context[RAFT_CONTEXT_BYTES_MAX];
};

/* Arrays are borrowed until the next call with this struct raft. The messages in `send` and `after`
 * are the caller's: each is freed with raft_message_destroy. */
struct raft_actions {
    bool soft_state_changed; /* leader or role */
    uint64_t leader;         /* RAFT_NONE: unknown */
    enum raft_role role;
    uint64_t term;

    const struct raft_read_state *reads;
    size_t n_reads;

    struct raft_message **send; /* now, before anything here is durable */
    size_t n_send;

    /* One batch for the log. When log_batch is false all of it is empty. Batches become durable in
     * order; without must_sync the batch needs no fsync of its own, but its `after` still waits for
     * the batches before it. */
    bool log_batch;
    bool must_sync;
    bool hard_state_changed;
    struct raft_hard_state hard_state;
    const struct raft_entry *append; /* replaces whatever the log holds from append[0].index on */
    size_t n_append;
    const struct raft_snapshot
        *snapshot;               /* install: state machine, then log, start again behind it */
    struct raft_message **after; /* see the top of this file */
    size_t n_after;

    const struct raft_entry *committed; /* to be applied, in order */
    size_t n_committed;
};

/* Whether raft_actions would have anything to do. */
bool raft_has_actions(const struct raft *r);

/* Everything that has to be done and was not handed out before. */
void raft_actions(struct raft *r, struct raft_actions *out);

/* ---- looking inside ---- */

struct raft_status {
    uint64_t id;
    struct raft_hard_state hard_state;
    uint64_t leader;
    enum raft_role role;
    bool is_learner;
    bool suspect;        /* see raft_suspect */
    uint64_t transferee; /* leadership is on its way to; RAFT_NONE: nobody */
    uint64_t applied;
    uint64_t first_index; /* of the entries in memory; last_index + 1 when there is none */
    uint64_t last_index;
    uint64_t log_bytes; /* of the data of the entries in memory */
    uint64_t last_term;
    uint64_t durable_index; /* of the own log, as far as reported */
};
void raft_status(const struct raft *r, struct raft_status *out);
uint64_t raft_durable_index(const struct raft *r); /* raft_status's */
const struct raft_conf_state *raft_conf(const struct raft *r); /* borrowed until the next call */

enum raft_progress_state { RAFT_PROBE, RAFT_REPLICATE, RAFT_SNAPSHOT };

struct raft_peer {
    uint64_t id;
    uint64_t match;
    uint64_t next;
    uint64_t pending_snapshot;
    enum raft_progress_state state;
    bool is_learner;
    bool paused;
    bool recent_active;
    bool inflight_full;
    size_t n_inflight;
};
/* Everyone in the configuration, this member too, by ascending id; up to `max`. Only a leader's
 * numbers mean anything. */
size_t raft_peers(const struct raft *r, struct raft_peer *out, size_t max);

/* The term of an entry that is in memory, or of the one just below; 0 when unknown. */
uint64_t raft_term_of(const struct raft *r, uint64_t index);

#endif
