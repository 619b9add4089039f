/* transport.c - see transport.h. */
#include "api/peer/transport.h"

#include <stdlib.h>

#include "api/http/server.h"
#include "base/mem.h"

struct peer_transport {
    struct peer_transport_config cfg;
    struct member_transport table;
    struct member *member; /* borrowed */
    struct http_server *server;
};

static void lose(struct peer_transport *t, struct raft_message *m)
{
    bool snapshot = m->type == RAFT_MSG_SNAP;
    member_link_news(t->member, m->to, snapshot ? LINK_NEWS_SNAPSHOT_FAILED : LINK_NEWS_UNREACHABLE);
    raft_message_destroy(&m);
}

static void table_send(void *arg, struct raft_message *const *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        lose(arg, messages[i]);
    }
}

static void table_members_changed(void *arg)
{
    (void)arg;
}

static uint64_t table_active_since_ms(void *arg, uint64_t id)
{
    (void)arg;
    (void)id;
    return 0;
}

static void table_ask_versions(void *arg)
{
    struct peer_transport *t = arg;
    member_versions(t->member, "");
}

struct peer_transport *peer_transport_create(const struct peer_transport_config *cfg)
{
    struct peer_transport *t = xcalloc(1, sizeof(*t));
    t->cfg = *cfg;
    t->table = (struct member_transport){
        .send = table_send,
        .members_changed = table_members_changed,
        .active_since_ms = table_active_since_ms,
        .ask_versions = table_ask_versions,
        .arg = t,
    };
    const struct http_config http = {.http = cfg->other};
    t->server = http_server_create(&http);
    return t;
}

void peer_transport_destroy(struct peer_transport **tp)
{
    struct peer_transport *t = *tp;
    if (t == NULL) {
        return;
    }
    *tp = NULL;
    http_server_destroy(&t->server);
    free(t);
}

const struct member_transport *peer_transport_table(struct peer_transport *t)
{
    return &t->table;
}

void peer_transport_attach(struct peer_transport *t, struct member *m)
{
    t->member = m;
}

enum err peer_transport_bind(struct peer_transport *t, const char *host, const char *port, struct err_ctx *ec)
{
    return http_server_bind(t->server, host, port, ec);
}

enum err peer_transport_bind_unix(struct peer_transport *t, const char *path, struct err_ctx *ec)
{
    return http_server_bind_unix(t->server, path, ec);
}

void peer_transport_start(struct peer_transport *t)
{
    (void)t;
}

void peer_transport_stop(struct peer_transport *t, void (*done)(void *arg), void *arg)
{
    (void)t;
    done(arg);
}

void peer_ask_member(struct peer_transport *t, struct peer_question *q)
{
    (void)t;
    q->err = ERR_MEMBER_NOT_FOUND;
    q->answered(q);
}
