/* internal.h - what the files of api/peer share.
 *
 * What        The struct behind transport.h and one struct peer for each other member. transport.c: life, what the member asks; peer.c: what the
 *             links say; serve.c: requests of others; stream_in.c, stream_out.c, post.c, send_snapshot.c: connections of a link; spool.c:
 *             databases that come in; ask.c: questions.
 * Callers     api/peer only.   Thread  the peer loop, unless said otherwise.
 */
#ifndef API_PEER_INTERNAL_H
#define API_PEER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "api/http/server.h"
#include "api/peer/limits.h"
#include "api/peer/net.h"
#include "api/peer/transport.h"
#include "base/log.h"
#include "raft/peer/codec.h"
#include "raft/peer/link.h"

struct peer;

/* A connection that a link knows by its number; the common start of several structs. */
struct peer_conn {
    struct peer *peer;
    struct peer_conn *next;
    struct peer_conn **prev;
    uint64_t id;
    void (*close)(struct peer_conn *c); /* the link has let go of it: end it and free it */
};

struct peer_metrics {
    struct gauge *active, *known, *sending;
    struct counter *disconnected, *sent_bytes, *sent_failures, *received_bytes, *received_failures;
    struct counter *snapshots_sent, *snapshots_failed;
    struct histogram *round_trip, *snapshot_seconds;
};

/* Another member, or a stranger: a sender that is in no configuration yet. */
struct peer {
    struct peer *next;
    struct peer_transport *t;
    uint64_t id;
    char id_text[PEER_ID_TEXT_BYTES];
    bool stranger;
    struct link *link;  /* owned */
    char **urls;        /* owned, one allocation; NULL-terminated, at most LINK_URLS_MAX */
    uint32_t n_urls;
    struct loop_timer timer;
    struct peer_conn *conns; /* owned */
    struct probe *probe;     /* owned; NULL for strangers */
    struct peer_metrics metrics; /* all NULL without a registry */
};

struct peer_activity {
    uint64_t id;
    uint64_t since_ms;
};

struct peer_transport {
    struct peer_transport_config cfg;
    struct member_transport table;
    struct member *member; /* borrowed */
    struct http_server *server; /* owned */
    struct peer_identity identity;
    char *urls_text;       /* owned; own addresses, commas between */
    struct peer_directory directory;
    struct loop_item start_item, members_item, versions_item;

    /* Any thread. */
    pthread_mutex_t lock; /* guards the table of activity */
    struct peer_activity activity[PEER_ACTIVE_MAX];
    size_t n_activity;
    _Atomic bool closed;        /* nothing is taken any more */
    _Atomic uint32_t n_handed;  /* messages on their way to the loop */
    _Atomic bool members_due;   /* members_item is on its way */
    _Atomic bool versions_due;

    /* The loop's. */
    bool started;
    bool stopping;
    bool served; /* the server takes requests, or did */
    bool server_done;
    void (*done)(void *arg);
    void *done_arg;
    struct loop_hook turn_hook, stop_hook;
    struct net *net; /* owned */
    struct peer *peers;
    struct stream_out *dirty; /* have something to write this turn */
    struct bytes scratch;     /* of one stream's writing */
    struct spool *spool;      /* a database is coming in; NULL: none */
    struct ask *asks;
    unsigned n_asks;
    struct version_round *round; /* NULL: none is under way */
    unsigned n_busy;             /* work on other threads that comes back here */
};

/* A request to the other member on behalf of its link; the common start of several structs. */
struct question {
    struct peer_conn conn;
    struct net_call call;
    struct peer_ask ask;
    struct bytes refusal; /* what the other one said instead of yes */
};

/* --- transport.c */
void transport_busy(struct peer_transport *t, int change); /* n_busy goes up or down */
uint64_t transport_now_ms(const struct peer_transport *t); /* the member's clock */
void transport_set_active(struct peer_transport *t, uint64_t id, uint64_t since_ms); /* 0: not active */
void transport_learn(struct peer_transport *t, uint64_t id, const char *urls); /* a stranger's X-PeerURLs */
/* A message that came: checked here, then the member's. Taken. */
void transport_deliver(struct peer_transport *t, struct raft_message *m, struct peer_verdict *verdict);

/* --- peer.c */
struct peer *peer_find(struct peer_transport *t, uint64_t id);
struct peer *peer_create(struct peer_transport *t, uint64_t id, const char *const *urls, bool stranger);
void peer_update(struct peer *p, const char *const *urls);
void peer_destroy(struct peer *p); /* stops its link; not linked any more */
void peer_step(struct peer *p, struct link_event *ev); /* may close connections; the peer stays */
void peer_conn_add(struct peer *p, struct peer_conn *c);
void peer_conn_remove(struct peer_conn *c);
struct peer_conn *peer_conn_find(struct peer *p, uint64_t id);

/* --- metrics.c */
void peer_metrics_open(struct peer *p);
void metrics_count(struct counter *c, uint64_t n); /* NULL counts nothing */
void metrics_spool(struct peer_transport *t, uint64_t from, bool ok, uint64_t ns);
void metrics_spool_synced(struct peer_transport *t, uint64_t ns); /* any thread */
void metrics_spool_change(struct peer_transport *t, uint64_t from, double change);

/* --- question.c */
/* With q->ask and q->conn.close set; of `r` what is more than the ask. */
void question_start(struct question *q, struct peer *p, const struct link_action *a, const struct net_ops *ops, struct net_request r);
void question_end(struct question *q); /* the link lets go of it */
void question_refused(struct bytes *refusal, struct slice piece); /* keep PEER_REFUSAL_BYTES */

/* --- stream_in.c, stream_out.c, post.c, send_snapshot.c: what links order */
void stream_in_dial(struct peer *p, const struct link_action *a);
void stream_out_attach(struct peer *p, struct http_exchange *x, const struct peer_verdict *v, const char *headers);
void stream_out_write(struct peer_conn *c); /* of an attached stream */
void stream_out_beat(struct peer_conn *c);
void stream_out_turn(struct peer_transport *t); /* the turn ends: write what gathered */
void post_start(struct peer *p, const struct link_action *a);
void send_snapshot_start(struct peer *p, const struct link_action *a);

/* --- serve.c */
void serve_begin(void *arg, const struct http_request *r, struct http_intake *in);
void serve_handle(void *arg, struct http_exchange *x, const struct http_request *r);
void serve_verdict(struct peer_transport *t, struct http_exchange *x, const struct peer_verdict *v);

/* --- spool.c */
void spool_clean(struct peer_transport *t); /* leftovers of an earlier run */
void spool_begin(struct peer_transport *t, struct http_exchange *x, const struct peer_verdict *v);
void spool_stop(struct peer_transport *t);

/* --- ask.c */
void ask_post(struct peer_transport *t, struct peer_question *q); /* any thread */
void ask_versions(struct peer_transport *t);
void ask_stop(struct peer_transport *t);

/* --- probe.c */
void probe_start(struct peer *p);
void probe_stop(struct peer *p);

#endif
