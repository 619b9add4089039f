/* sim.h - whole clusters in one thread, on simulated disks, clocks and networks.
 *
 * What        One world: up to SIM_SLOTS members with their real logic (raft core, log, engine, member), an event queue ordered by
 *             simulated time, clients, faults and judges. Everything follows from one seed.
 *
 *                 faults.c ─┐                       ┌─ judge.c: what must hold after each step
 *       client.c, watch.c ─┼─► world (run.c) ──────┤
 *                 net.c    ─┤   node.c: one member  └─ model.c: the log that was committed, and what it means
 *                 disk.c   ─┘
 *
 * Callers     tests/sim/main.c.
 * Thread      one.
 * Adding      A fault is a row of the table in faults.c; a judge is a function that calls sim_violation.
 */
#ifndef TESTS_SIM_SIM_H
#define TESTS_SIM_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "base/vfs.h"
#include "engine/engine.h"
#include "engine/install.h"
#include "engine/watch.h"
#include "raft/member/step.h"
#include "tests/sim/random.h"

#define SIM_SLOTS 8u       /* members at a time, removed ones that still run included */
#define SIM_KEYS 24u       /* key space of the clients */
#define SIM_WATCHES 4u     /* watching clients */
#define SIM_OPEN_READS 4u  /* ranges read in steps, per member */
#define SIM_MEMBERS_EVER 4096u
#define MS UINT64_C(1000000) /* simulated time is in nanoseconds */

struct sim;
struct node;

/* --- events --------------------------------------------------------------------------------------------------- */

/* Something that happens at a simulated time. With a node it happens only while that node is in the same life. */
struct event {
    uint64_t at;
    uint64_t seq; /* of equal times the earlier made comes first */
    const char *name;
    void (*run)(struct sim *s, struct event *e);
    void (*drop)(struct event *e); /* frees `p` when it never ran; may be NULL */
    struct node *node;             /* NULL: the world's */
    uint32_t life;
    bool when_down; /* also while the node is down */
    uint64_t a;
    void *p;
};

/* --- one member ------------------------------------------------------------------------------------------------ */

struct log_item {
    struct wal_request *request; /* borrowed from the member; NULL: release */
    uint64_t release;
};

/* The judge's copy of what lies durably in a member's log. */
struct shadow {
    uint64_t base; /* entries base + 1 .. base + n */
    size_t n, cap;
    uint64_t *term;
    uint64_t *hash;
    uint32_t *type;
    struct buf **data;
};

struct client_op;

struct open_read {
    struct range_read *read; /* NULL: unused */
    Etcdserverpb__RangeRequest request;
    struct bytes kvs;
    struct range_info info;
    int64_t revision;
};

enum node_state { NODE_FREE, NODE_DOWN, NODE_UP };
enum stop_kind { STOP_KILL, STOP_POWER, STOP_GRACEFUL };

struct node {
    struct sim *sim;
    unsigned slot;
    enum node_state state;
    uint32_t life;
    uint64_t id;
    char name[24];
    char url[40];
    const char *urls[2];
    bool joining;
    bool booted;  /* its log exists */
    bool removed; /* an entry that is committed removed it */

    /* Machine. */
    struct vfs *disk; /* owned */
    struct vfs *vfs;  /* owned: faults over disk */
    struct backend_mem_disk *store; /* owned */
    struct store_place place;
    struct clock clock;
    uint64_t clock_base, clock_since; /* local time base at simulated time since */
    int64_t clock_ppm;
    uint64_t wall_base;

    /* Process. */
    struct member *m;
    struct member_config cfg;
    struct member_peer peers[SIM_SLOTS];
    struct member_transport transport;
    struct member_port port;
    struct member_port *ports[2];
    struct watch_hub *hub;
    struct wal *wal;
    uint64_t turn_at;   /* UINT64_MAX: none is due */
    uint32_t busy_turns; /* in a row, each asking for another at once */
    uint64_t paused_to; /* the process is stopped until then */
    bool in_call;
    bool dying; /* what it says is not heard any more */
    bool doomed; /* it has to stop: its durability path failed */
    struct member_op *answers, **answers_last;
    struct event_batch **batches;
    size_t n_batches, cap_batches;
    int64_t restored;
    bool was_restored;
    struct client_op *ops; /* asked, not answered */
    struct open_read reads[SIM_OPEN_READS];

    /* Its log thread. */
    struct log_item *items;
    size_t n_items, cap_items;
    bool log_busy;
    /* Its store thread. */
    uint64_t flush_at;
    struct member_op *requests[64];
    size_t n_requests;
    struct flush {
        bool waits;      /* for the log; it knows already what it writes, and what came since is for the next one */
        size_t n_before; /* requests that it is for */
        bool kicked, urgent; /* since */
    } flush;
    bool serving;

    /* Faults. */
    bool disk_hung;
    uint64_t hung_since;
    bool led_then; /* when its disk hung it led */
    uint32_t disk_slow; /* times slower; 1: not */
    bool crash_in_append;
    uint32_t crash_in_open; /* at this file call; 0: not */
    bool fault_armed;       /* a failure of the member is expected */
    bool stay_down; /* not a member yet */
    enum { PROBE_WANTED, PROBE_ASKED, PROBE_DONE } probes[2]; /* the last write and the last read */

    /* Judged. */
    struct shadow shadow;
    bool maybe_valid; /* of what was in the log at the crash, entries from here on may be there or not */
    uint64_t maybe_from;
    uint64_t judged; /* entries up to here were compared with the canon */
    uint64_t checked_applied;
    uint64_t promised_term;
    uint64_t durable_term;
    uint64_t vote_term, vote;
    bool lead_before; /* at the last judgement */
    uint64_t lead_term, lead_term_before, committed_before;
    bool heard_removed;
    uint64_t removed_at; /* simulated time at which it applied its own removal; 0: not */
    uint64_t up_since;
    uint64_t conf_checked; /* applied index at which members were last compared */
};

/* --- network -------------------------------------------------------------------------------------------------- */

struct wire { /* one direction between two slots */
    bool cut;
    uint32_t loss, duplicate; /* of a thousand */
    uint64_t delay_min, delay_max;
    uint32_t tail; /* of a thousand: ten times longer */
    uint64_t whole_since;
};

/* --- the judge's log and its meaning -------------------------------------------------------------------------- */

struct canon_entry {
    uint64_t term;
    uint64_t hash;
    int64_t revision; /* after it */
    int64_t compacted;
    uint64_t seen_at;
    uint64_t members_hash; /* as the first member that stopped there had it; 0: not known */
};

struct model_event {
    int64_t revision;
    uint32_t key;
    bool deleted;
    uint64_t value;
    uint32_t value_len;
    int64_t create, version, lease;
    size_t before; /* event of the same key before this one, plus 1; 0: none */
};

struct model_result { /* what an entry with a request id had to answer */
    uint64_t id;
    uint64_t index;
    enum err err;
    int64_t revision;
    bool succeeded;
};

struct model_lease {
    int64_t id;
    int64_t ttl;
    bool alive, was;
    bool revoke_asked;
    uint64_t granted_at; /* when the client asked */
};

#define SIM_LEASES 64u

struct hash_seen {
    int64_t compacted;
    uint32_t hash;
    bool any;
};
struct hashes_seen {
    struct hash_seen walked, stored;
};

struct model_member {
    uint64_t id;
    bool voter, gone;
    bool voted; /* before the last change of membership, which a leader applies only after it was committed */
};

struct model {
    struct canon_entry *log; /* log[0] is before the first entry */
    size_t n, cap;
    struct model_event *events;
    size_t n_events, cap_events;
    size_t last[SIM_KEYS]; /* newest event of the key, plus 1 */
    int64_t key_lease[SIM_KEYS];
    int64_t revision, compacted;
    struct model_result *results; /* hash table by id, open addressing */
    size_t n_results, cap_results;
    struct model_lease leases[SIM_LEASES];
    struct hashes_seen *hashes; /* by revision */
    size_t cap_hashes;
    uint64_t leader_of_term[8192];
    struct model_member members[SIM_MEMBERS_EVER]; /* ever added, in order */
    size_t n_members;
};

/* --- clients -------------------------------------------------------------------------------------------------- */

struct watching {
    struct sim *sim;
    struct node *node; /* NULL: looking for one */
    uint32_t life;
    struct watcher *w;
    bool whole;
    uint32_t key;
    size_t cursor;        /* model events before it were seen or skipped */
    int64_t next;         /* revision to go on with */
    bool dead;            /* told that it is compacted */
    uint32_t refuse;      /* of a thousand deliveries */
};

struct settings {
    uint32_t n_founders;
    uint32_t heartbeat_ms, election_ticks;
    uint32_t catch_up, compaction_batch;
    uint64_t client_every; /* ns, mean */
    uint64_t admin_every;  /* 0: membership stays */
    uint64_t fault_every;
    uint64_t fault_long;
    uint64_t duration;
    bool pre_vote, strict_reconfig;
    uint32_t value_max;
    uint32_t fsync_max_us;
    uint64_t faults; /* bit i: kind i of the table may happen */
    bool clock_steady; /* no jumps: leases can be timed */
};

enum plant {
    PLANT_NONE,
    PLANT_ANSWER_BEFORE_SYNC, /* the log says done before it wrote */
    PLANT_VOTE_FORGOTTEN,     /* the vote is left out of what is written */
    PLANT_HALF_SNAPSHOT,      /* rows are missing in an installed store */
};

struct stats {
    uint64_t events, messages, snapshots_sent, snapshots_installed, restarts, acked, unknown, refused, reads, watch_events;
    uint64_t changes, elections, faults, refused_snapshots, hung_leaders, stranded;
};

struct sim {
    uint64_t seed;
    struct rng rng;
    uint64_t now;
    uint64_t seq;
    struct event *heap;
    size_t n_heap, cap_heap;
    uint64_t trace_hash;
    bool trace;
    bool violated;
    char violation[1024];
    enum plant plant;
    struct settings set;
    struct stats stats;
    struct node nodes[SIM_SLOTS];
    struct wire wires[SIM_SLOTS][SIM_SLOTS];
    uint32_t snapshot_damage; /* of a thousand: cut off or altered on the way */
    struct model model;
    struct watching watches[SIM_WATCHES];
    uint64_t next_value;
    uint64_t next_id;
    int64_t seen_revision; /* the highest that some client was told of */
    bool calm;             /* the end: no new faults or changes */
    struct fault *faults;
    struct transfer *transfers; /* snapshots on their way */
    struct metrics *metrics;
};

/* --- run.c ---------------------------------------------------------------------------------------------------- */

struct sim *sim_create(uint64_t seed, enum plant plant, bool trace);
/* The whole life of a world. False: a judge found something; sim->violation says what. */
bool sim_run(struct sim *s);
void sim_destroy(struct sim **s);

/* Copies *e. `at` is not before now. */
void sim_schedule(struct sim *s, const struct event *e);
void sim_violation(struct sim *s, const char *judge, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Everything that happens goes into the trace hash; text is made only for --trace. */
void sim_note(struct sim *s, const struct node *n, uint64_t what, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
struct node *sim_node_of(struct sim *s, uint64_t id); /* NULL */
struct node *sim_random_up(struct sim *s);            /* NULL: none is up */
struct node *sim_leader(struct sim *s);               /* one that thinks it leads; NULL */

/* --- node.c --------------------------------------------------------------------------------------------------- */

void node_create(struct sim *s, struct node *n, uint64_t id, bool joining);
void node_start(struct node *n);
void node_stop(struct node *n, enum stop_kind how);
void node_wipe(struct node *n); /* frees the slot; it is down */
/* Something was handed to the member: it needs a turn soon. */
void node_wake(struct node *n);
uint64_t node_local_ns(const struct node *n, uint64_t at);
void node_set_rate(struct node *n, int64_t ppm);
void node_jump(struct node *n, uint64_t ns);
void node_log_pump(struct node *n);

/* --- disk.c --------------------------------------------------------------------------------------------------- */

struct store_place sim_store_place(struct node *n);

/* --- net.c ---------------------------------------------------------------------------------------------------- */

void net_init(struct sim *s);
struct member_transport net_transport(struct node *n);
void net_node_up(struct node *n);
void net_node_closing(struct node *n); /* snapshots that are read from it or staged on it go, before it closes */
void net_set_cut(struct sim *s, unsigned from, unsigned to, bool cut);
void net_deinit(struct sim *s);
void net_node_down(struct node *n);

/* --- model.c -------------------------------------------------------------------------------------------------- */

void model_init(struct model *m);
void model_deinit(struct model *m);
/* The next entry of the log is committed. */
void model_commit(struct sim *s, uint64_t term, uint32_t type, struct buf *data, uint64_t hash);
const struct model_result *model_result(const struct model *m, uint64_t request_id);
/* The key's event as of a revision; NULL: not there. */
const struct model_event *model_at(const struct model *m, uint32_t key, int64_t revision);
bool model_is_gone(const struct model *m, uint64_t id);
struct model_lease *model_lease(struct model *m, int64_t id);
uint64_t model_entry_hash(uint64_t term, uint32_t type, const struct buf *data);
/* Keys are k00 ... ; -1: none of them. */
int model_key(struct slice key);
void model_key_name(uint32_t key, char out[8]);
/* A value is its number and filler that follows from it. */
struct buf *model_value(uint64_t number, uint32_t len);
bool model_value_is(struct slice value, uint64_t number, uint32_t len);

/* --- judge.c -------------------------------------------------------------------------------------------------- */

void judge_turn(struct node *n);
void judge_send(struct node *n, const struct raft_message *m);
/* The disk hung and goes on now. */
void judge_hung(struct node *n);
/* The log as it lies on the disk before a start. */
void judge_log(struct node *n);
/* Recovery may have started the log again behind an installed snapshot. */
void judge_opened(struct node *n);
void judge_appended(struct node *n, const struct wal_request *r);
void judge_range(struct node *n, const Etcdserverpb__RangeRequest *r, const struct range_info *info, struct slice kvs, const char *what);
bool judge_delivery(struct watching *w, const struct watch_delivery *d);
void judge_content(struct node *n);
void shadow_deinit(struct shadow *sh);

/* --- client.c ------------------------------------------------------------------------------------------------- */

void client_init(struct sim *s);
void client_answered(struct node *n, struct member_op *op);
void client_forget(struct node *n); /* the member is gone: what was asked has an unknown end */
void client_node_gone(struct node *n); /* readers and watchers leave it, before it closes */
/* At the end: ask every member for a write and a read, and again when it was refused or the member began anew. True: all of them succeeded. */
bool client_probe(struct sim *s);

/* --- watch.c -------------------------------------------------------------------------------------------------- */

void watch_init(struct sim *s);
void watch_node_gone(struct node *n);
bool watch_all_done(struct sim *s); /* everybody has got everything */

/* --- faults.c ------------------------------------------------------------------------------------------------- */

void faults_init(struct sim *s);
void faults_heal_all(struct sim *s);
void faults_deinit(struct sim *s);
size_t faults_count(void);
const char *fault_name(size_t i);

#endif
