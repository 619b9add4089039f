/* main.c - the server: flags in, member and services up, signals, down again.
 *
 * The main thread runs the first I/O loop; the other loops, the peer loop, the member loop, the log and the store have threads of their own.
 * Up: who am I (bootstrap.c), listeners, member, threads (serve.c). Down: stop.c. Then the signal is raised again, so that the parent
 * sees death by signal, as with etcd; a member that was removed from its cluster ends with status 0.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/pintle/server.h"

extern char **environ;

static void log_configuration(const struct config *c)
{
    log_info(c->log, "starting an etcd server", F_STR("etcd-version", ETCD_VERSION), F_STR("pintle-version", PINTLE_VERSION),
             F_STR("name", c->name), F_STR("data-dir", c->data_dir), F_STR("wal-dir", c->wal_dir), F_BOOL("force-new-cluster", c->force_new_cluster),
             F_UINT("heartbeat-interval-ms", c->heartbeat_ms), F_UINT("election-timeout-ms", c->election_ms),
             F_BOOL("initial-election-tick-advance", c->fast_forward), F_UINT("snapshot-catchup-entries", c->catch_up_entries),
             F_STRS("initial-advertise-peer-urls", (const char *const *)c->advertise_peer),
             F_STRS("listen-peer-urls", (const char *const *)c->listen_peer),
             F_STRS("advertise-client-urls", (const char *const *)c->advertise_client),
             F_STRS("listen-client-urls", (const char *const *)c->listen_client), F_STR("initial-cluster", c->initial_cluster),
             F_STR("initial-cluster-state", c->existing_cluster ? "existing" : "new"), F_STR("initial-cluster-token", c->cluster_token),
             F_BOOL("pre-vote", c->pre_vote), F_UINT("max-learners", c->max_learners), F_STR("v2-deprecation", "write-only"),
             F_UINT("io-loops", c->n_loops));
}

/* As etcd says it, whatever the reason. */
static _Noreturn void die_undiscovered(struct config *c, const char *text)
{
    log_warn(c->log, "failed to bootstrap; discovery token was already used", F_STR("discovery-token", c->cluster_token),
             F_STRS("discovery-endpoints", (const char *const *)flag_get(&c->flags, "discovery-endpoints")->urls), F_STR("error", text));
    log_msg(c->log, LOG_WARN, "do not reuse discovery token; generate a new one to bootstrap a cluster");
    exit(1);
}

static void find_origin(struct server *s)
{
    struct err_ctx ec = {{0}};
    enum err e = datadir_open(vfs_real(), &s->config, &s->datadir, &ec);
    if (e != OK) {
        server_die(s, e, ec.text);
    }
    e = server_tls_open(&s->config, &s->tls, &ec);
    if (e != OK) {
        server_die(s, e, ec.text);
    }
    e = origin_find(&s->config, vfs_real(), &s->origin, &ec);
    if (e != OK) {
        const char *text = s->origin.story != NULL ? s->origin.story : ec.text;
        log_error(s->config.log, "bootstrap failed", F_STR("error", text[0] != '\0' ? text : err_text(e)));
        if (s->origin.undiscovered) {
            die_undiscovered(&s->config, text);
        }
        server_die(s, e, text);
    }
    log_info(s->config.log, s->origin.restarting ? "restarting local member" : "starting local member",
             F_HEX("local-member-id", s->origin.member_id), F_HEX("cluster-id", s->origin.cluster_id));
}

int main(int argc, char **argv)
{
    struct server server;
    struct server *s = &server;
    memset(s, 0, sizeof(*s));
    int status = config_load(&s->config, argc, argv, environ);
    if (status >= 0) {
        config_deinit(&s->config);
        return status;
    }
    (void)signal(SIGPIPE, SIG_IGN); /* a client that goes away is an error value, not an end */
    log_info(s->config.log, "Running: ", F_STRS("args", (const char *const *)argv));
    log_configuration(&s->config);
    find_origin(s);
    server_create_services(s);
    server_bind(s);
    server_open_member(s);
    log_info(s->config.log, "starting etcd server", F_HEX("local-member-id", s->origin.member_id), F_HEX("cluster-id", s->origin.cluster_id),
             F_STR("local-server-version", ETCD_VERSION));
    server_run(s);
    int number = s->signal;
    server_tear_down(s);
    if (getpid() != 1 && number != 0) {
        (void)signal(number, SIG_DFL);
        (void)raise(number);
    }
    return 0;
}
