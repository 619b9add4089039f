/* sim.h - whole clusters of raft cores on a simulated network and disk, from one seed.
 *
 * What        Members with a log that becomes durable batch by batch, a state machine that is
 * stored now and then, a network that delays, reorders, doubles and loses messages, and crashes
 * that forget whatever was not durable. After each step it is checked that no term has two leaders,
 * that all members apply the same entry at an index, that nothing applied is ever lost or changed,
 * and that reads see all that was applied anywhere when they were asked for. Callers test_random.c,
 * test_single.c. Thread      one.
 */
#ifndef TESTS_RAFT_CORE_SIM_H
#define TESTS_RAFT_CORE_SIM_H

#include "raft/core/raft.h"

#define SIM_MEMBERS_MAX 7u
#define SIM_NETWORK_MAX 4096u  /* messages under way; more are lost, but no snapshots */
#define SIM_SNAPSHOTS_MAX 256u /* above that */
#define SIM_BATCHES_MAX 256u   /* batches under way to one log; more and the member waits */
#define SIM_INDEX_MAX 65536u

struct sim_batch {
    bool hard_state_changed;
    struct raft_hard_state hard_state;
    size_t n;
    struct raft_entry *entries; /* owned, data are references */
    struct raft_snapshot *snapshot;
    size_t n_after;
    struct raft_message **after; /* owned */
};

struct sim_member {
    uint64_t id;
    struct raft *raft; /* NULL: down */
    /* durable */
    struct raft_hard_state hard_state;
    uint64_t base_index;
    uint64_t base_term;
    size_t n_entries;
    size_t cap_entries;
    struct raft_entry *entries;
    uint64_t lost_term; /* the log lost entries up to this one; index 0: it is sound */
    uint64_t lost_index;
    uint64_t stored_applied; /* the state machine as it was last stored */
    uint64_t stored_sum;
    struct raft_conf_state stored_conf;
    /* lost by a crash */
    uint64_t applied;
    uint64_t sum; /* of all applied entries: the state machine's content */
    struct raft_conf_state conf;
    size_t n_batches;
    struct sim_batch batches[SIM_BATCHES_MAX];
    uint64_t n_reads_answered;
};

struct sim_options {
    uint64_t seed;
    size_t n_members; /* that exist; */
    size_t n_voters;  /* the first ones found the cluster */
    bool pre_vote;
    bool check_quorum;
    bool apply_before_durable;
    bool step_down_on_removal;
    bool stormy; /* more ticks, crashes, cuts and elections; less work */
    uint64_t max_append_bytes;
    uint64_t max_committed_bytes;
    uint32_t max_inflight;
    uint64_t max_inflight_bytes;
    bool lease_reads;
    bool no_forwarding;
};

struct sim {
    struct sim_options options;
    uint64_t random;
    struct sim_member members[SIM_MEMBERS_MAX];
    size_t n_network;
    struct raft_message *network[SIM_NETWORK_MAX + SIM_SNAPSHOTS_MAX];
    uint64_t cut; /* bit i: the side of a parted network on which member i + 1 is */
    /* what is known for sure */
    uint64_t max_applied;
    uint64_t chain[SIM_INDEX_MAX]; /* sum after the entry at this index; 0: not applied yet */
    uint64_t leader_of_term[SIM_INDEX_MAX];
    uint64_t n_proposed;
    uint64_t n_elections;
    uint64_t n_snapshots;
    uint64_t n_crashes;
    uint64_t n_losses; /* of durable entries, by one member at a time */
    uint64_t n_conf_changes;
    uint64_t n_read_answers;
};

struct sim *sim_create(const struct sim_options *options);
void sim_destroy(struct sim **s);

uint64_t sim_random(struct sim *s, uint64_t below);
struct sim_member *sim_leader(struct sim *s); /* of the highest term, or NULL */

/* One random event. */
void sim_step(struct sim *s);
/* End all faults and run until every member of the configuration has applied the same. False when
 * that does not happen in `rounds` ticks. */
bool sim_settle(struct sim *s, size_t rounds);

/* After sim_settle: whether the cluster is caught where raft, as etcd has it, cannot get out. A
 * configuration counts from when it is applied. A voter that ceased to be one, in a small cluster,
 * may be needed by others who do not know it yet, and refuse its vote to their shorter logs.
 * (Shells avoid that by handing leadership over first.) Or the vote of a member is needed that may
 * have acknowledged more than the others hold, and lost it. */
bool sim_trapped(struct sim *s);

/* Where every member stands, on stderr. */
void sim_print(const struct sim *s);

/* The parts, for tests that play by hand. */
void sim_start(struct sim *s, struct sim_member *m);
void sim_crash(struct sim *s, struct sim_member *m);
void sim_act(struct sim *s, struct sim_member *m);          /* take and do the actions */
void sim_complete(struct sim *s, struct sim_member *m);     /* the oldest batch is durable */
void sim_complete_all(struct sim *s, struct sim_member *m); /* and all that follow from it */
void sim_store(struct sim_member *m);                       /* the state machine is stored */
enum err sim_propose(struct sim *s, struct sim_member *m);
enum err sim_read(struct sim *s, struct sim_member *m);

#endif
