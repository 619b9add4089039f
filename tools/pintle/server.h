/* server.h - the running process: what it owns, and its way up and down.
 *
 * What        Loops, member, services and transport of one server, shared by the files that bring it up (serve.c) and take it down
 *             (stop.c).
 * Callers     tools/pintle/main.c.
 * Thread      main, which runs the first I/O loop. Callbacks of other threads post to that loop.
 */
#ifndef TOOLS_PINTLE_SERVER_H
#define TOOLS_PINTLE_SERVER_H

#include <pthread.h>
#include <uv.h>

#include "api/etcd/server.h"
#include "api/peer/transport.h"
#include "tools/pintle/bootstrap.h"
#include "tools/pintle/config.h"
#include "tools/pintle/datadir.h"
#include "tools/pintle/operations.h"
#include "tools/pintle/tls.h"

struct server {
    struct config config;
    struct operations operations;
    struct origin origin;
    struct datadir datadir;
    struct metrics *metrics;
    struct loop **loops; /* serve clients */
    pthread_t *threads;  /* of loops 1 and on */
    struct loop *peer_loop; /* serves the other members */
    pthread_t peer_thread;
    struct peer_transport *peers;
    struct store_place place;
    struct auth_tokens *tokens;
    struct etcd_server *etcd;
    struct grpc_server *grpc;
    struct http_server *http;         /* of --listen-client-http-urls; NULL: the clients' port serves HTTP as well */
    struct http_server *metrics_http; /* NULL: no listener for metrics alone */
    struct server_tls tls;
    struct member *member;
    uv_signal_t signals[2];
    struct loop_timer removal; /* between being removed and going down */
    int signal;  /* that ended us; 0: none yet */
    bool serving; /* clients have been let in */
    bool closing; /* the way down has begun */
};

/* --- serve.c --- */

/* A start that cannot go on: etcd's line, exit status 1. */
_Noreturn void server_die(struct server *s, enum err e, const char *text);
/* Everything that is made before a thread runs, in this order. They end the process when they fail. */
void server_create_services(struct server *s);
void server_open_member(struct server *s);
/* Start all threads, serve until the end, hand leadership over, stop all threads. */
void server_run(struct server *s);
void server_tear_down(struct server *s);

unsigned server_connections_max(void);

/* --- listen.c --- */

void server_bind(struct server *s); /* after the services, before the member */
bool server_splits_http(const struct server *s); /* HTTP has listeners of its own */
void server_serve_clients(struct server *s); /* on the first loop */
void server_serve_metrics(struct server *s); /* at once, ready or not; before the first loop runs */

/* --- stop.c --- */

/* SIGTERM and SIGINT end the first loop, after clients were let go. Before the loops run. */
void server_catch_signals(struct server *s);
/* member_config.removed */
void server_on_removed(void *arg);
/* The loops of the clients have ended: let another member lead. */
void server_hand_over(struct server *s);
/* The member has stopped: close the links to the others and end their loop. */
void server_stop_peers(struct server *s);

#endif
