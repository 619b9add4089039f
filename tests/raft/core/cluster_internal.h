/* cluster_internal.h - what cluster.c (members, log, network) and cluster_script.c (commands)
 * share. */
#ifndef TESTS_RAFT_CORE_CLUSTER_INTERNAL_H
#define TESTS_RAFT_CORE_CLUSTER_INTERNAL_H

#include "raft/core/raft.h"
#include "tests/raft/core/cluster.h"

#define CLUSTER_MEMBERS_MAX 16u
#define CLUSTER_QUEUE_MAX 512u
#define CLUSTER_LEVEL_NONE 5

struct message_queue {
    size_t n;
    struct raft_message *m[CLUSTER_QUEUE_MAX];
};

/* What the log or the state machine of a member that works in the background has to do. */
struct work {
    struct raft_message *m;
    struct message_queue responses;
};
struct work_queue {
    size_t n;
    struct work *w[CLUSTER_QUEUE_MAX];
};

struct member {
    struct cluster *cluster;
    struct raft *raft;
    struct raft_config config;
    bool in_background; /* appends and applies happen on command, else within a turn */
    /* the durable log */
    uint64_t base_index;
    uint64_t base_term;
    size_t n_entries;
    struct raft_entry entries[1024];
    struct work_queue append_work;
    struct work_queue apply_work;
};

struct cluster {
    size_t n;
    struct member *members[CLUSTER_MEMBERS_MAX];
    struct message_queue network;
    int level;         /* of raft's log lines; CLUSTER_LEVEL_NONE silences all output */
    struct bytes *out; /* of the running command */
};

bool cluster_quiet(const struct cluster *c);
void cluster_print(struct cluster *c, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* Print the text of `inner` indented by two spaces. */
void cluster_print_indented(struct cluster *c, const struct bytes *inner);

void cluster_add_member(struct cluster *c, const struct raft_config *config, bool in_background);
/* One turn of a member: take its actions, print them, and do them. */
void cluster_turn(struct cluster *c, size_t i);
void cluster_append_work(struct cluster *c, size_t i);
void cluster_apply_work(struct cluster *c, size_t i);
/* Deliver (or drop) what waits for `id`, of one type or of all (-1). Returns how many. */
size_t cluster_deliver(struct cluster *c, uint64_t id, int type, bool drop);
size_t cluster_waiting(const struct cluster *c, uint64_t id, int type, bool drop);
void cluster_print_log(struct cluster *c, size_t i);
void cluster_compact(struct cluster *c, size_t i, uint64_t index);
const char *cluster_error(enum err e);
void queue_add(struct message_queue *q, struct raft_message *m);

#endif
