/* world.h - members that only remember what they were told, each with a real transport on loopback.
 *
 * What        A node is a fake of struct member (receives, keeps, counts) with its own loop thread and transport. The test's thread plays the
 *             member loops. Callers  tests/api/peer.   Thread  the test's; the fakes lock.
 */
#ifndef TESTS_API_PEER_WORLD_H
#define TESTS_API_PEER_WORLD_H

#include <pthread.h>

#include "api/peer/transport.h"
#include "base/metrics.h"

#define NODES_MAX 4u
#define CLUSTER 0xc1u
#define NEWS_KINDS 6u
#define TYPES 32u
#define WAIT_S 30 /* for anything; a failure beyond */

struct node;

/* The fake. */
struct member {
    struct node *node;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    size_t n_received[TYPES]; /* by type */
    uint64_t last_index[TYPES];
    bool in_order[TYPES]; /* indexes grew by one each time, from 1 */
    size_t bytes;         /* of entries */
    struct raft_message *last; /* owned */
    size_t news[NODES_MAX][NEWS_KINDS];
    size_t n_versions;
    char versions[32];
    bool all_versions;
    bool knows[NODES_MAX]; /* who is in member_peers */
    bool removed[NODES_MAX];
    size_t n_staged, n_discarded, n_installed;
    struct raft_message *installed; /* owned */
    enum err install_err;
    bool hold_install; /* MEMBER_INSTALL is answered by world_release */
    struct member_op *held;
    size_t n_flushes;
    /* The database that goes out, and the one that is expected. */
    uint64_t db_bytes;
    uint64_t db_damage; /* this byte is read wrongly; UINT64_MAX: none */
    uint64_t db_fail_at;
};

struct node {
    unsigned i;
    uint64_t id;
    bool up;
    struct member m;
    struct loop *loop;
    struct peer_transport *t;
    pthread_t thread;
    struct metrics *metrics;
    char url[64];
    char dead_url[64]; /* stands before the other one when it is not empty */
    char port[8];
    char spool[64];
    const char *urls[2];
    const char *version;
    uint64_t cluster;
};

struct world {
    unsigned n;
    bool unix_sockets;
    struct node nodes[NODES_MAX];
    char dir[32];
};

/* n nodes that all know each other, bound and started. */
struct world *world_open(unsigned n);
struct world *world_open_unix(unsigned n);
struct world *world_prepare(unsigned n); /* the same, nobody is started */
void world_close(struct world *w);
void node_up(struct world *w, unsigned i);
void node_down(struct world *w, unsigned i);

/* A message `from` -> `to`; entries with `bytes` of data. */
struct raft_message *message(struct world *w, unsigned from, unsigned to, enum raft_message_type type, uint64_t index, size_t bytes);
void send_all(struct node *n, struct raft_message **messages, size_t count);
void send_one(struct node *n, struct raft_message *m);

/* Wait until it holds; fails the test after WAIT_S. */
void wait_received(struct node *n, enum raft_message_type type, size_t count);
void wait_news(struct node *n, unsigned about, enum link_news news, size_t count);
size_t news_count(struct node *n, unsigned about, enum link_news news);
void wait_active(struct world *w, unsigned from, unsigned to);
void wait_streams(struct world *w, unsigned from, unsigned to); /* all four are up */
void wait_for(struct node *n, bool (*holds)(struct node *n)); /* under the lock */
void set_members(struct node *n, unsigned who, bool knows, bool removed);
void release_install(struct node *n);
size_t spool_files(struct node *n);

/* Plain HTTP over a socket: everything that comes back until the other side closes, or, with `keep`, until `until` came. */
struct slice ask_raw(struct node *n, const char *head, struct slice body, const char *until, struct bytes *out);

#endif
