/* peer.c - one other member: its link's events in, its link's orders done, logged and counted. */
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

/* --- connections ---------------------------------------------------------------------------------------------- */

void peer_conn_add(struct peer *p, struct peer_conn *c)
{
    c->peer = p;
    c->next = p->conns;
    c->prev = &p->conns;
    if (c->next != NULL) {
        c->next->prev = &c->next;
    }
    p->conns = c;
}

void peer_conn_remove(struct peer_conn *c)
{
    if (c->prev != NULL) {
        *c->prev = c->next;
        if (c->next != NULL) {
            c->next->prev = c->prev;
        }
        c->prev = NULL;
    }
}

struct peer_conn *peer_conn_find(struct peer *p, uint64_t id)
{
    struct peer_conn *c = p->conns;
    while (c != NULL && c->id != id) {
        c = c->next;
    }
    return c;
}

/* --- what links order -------------------------------------------------------------------------------------------- */

static void log_stream(struct peer *p, const struct link_action *a, bool up)
{
    struct logger *log = p->t->cfg.log;
    const char *kind = a->writer ? "stream-writer-type" : "stream-reader-type";
    const char *name = peer_stream_name((enum peer_stream)a->path);
    if (up) {
        log_info(log, "established TCP streaming connection with remote peer", F_STR(kind, name), F_HEX("local-member-id", p->t->identity.member),
                 F_HEX("remote-peer-id", p->id));
    } else {
        log_warn(log, "lost TCP streaming connection with remote peer", F_STR(kind, name), F_HEX("local-member-id", p->t->identity.member),
                 F_HEX("remote-peer-id", p->id));
    }
}

static void log_refusal(struct peer *p, const struct link_action *a)
{
    const char *msg = a->outcome == PEER_BAD_CLUSTER   ? "request sent was ignored by remote peer due to cluster ID mismatch"
                      : a->outcome == PEER_BAD_VERSION ? "request sent was ignored by remote peer due to server version incompatibility"
                                                       : "request sent was refused by remote peer";
    log_warn(p->t->cfg.log, msg, F_HEX("remote-peer-id", p->id), F_HEX("local-member-id", p->t->identity.member),
             F_HEX("local-member-cluster-id", p->t->identity.cluster), F_STR("path", link_path_name(a->path)),
             F_STR("error", peer_outcome_text(a->outcome)));
}

static void on_dropped(struct peer *p, const struct link_action *a)
{
    metrics_count(p->metrics.sent_failures, 1);
    if (!p->stranger) {
        struct link_info info;
        link_info(p->link, &info);
        log_warn(p->t->cfg.log, "dropped internal Raft message since sending buffer is full", F_STR("message-type", raft_message_type_name(a->type)),
                 F_HEX("local-member-id", p->t->identity.member), F_HEX("remote-peer-id", p->id), F_STR("remote-peer-name", link_path_name(a->path)),
                 F_BOOL("remote-peer-active", info.active));
    }
}

static void on_active(struct peer *p, bool active, const char *error)
{
    struct peer_transport *t = p->t;
    if (p->stranger) {
        return;
    }
    transport_set_active(t, p->id, active ? transport_now_ms(t) : 0);
    if (p->metrics.active != NULL) {
        gauge_set(p->metrics.active, active ? 1 : 0);
    }
    if (active) {
        log_info(t->cfg.log, "peer became active", F_HEX("peer-id", p->id));
        member_link_news(t->member, p->id, LINK_NEWS_ACTIVE);
    } else {
        log_warn(t->cfg.log, "peer became inactive (message send to peer failed)", F_HEX("peer-id", p->id), F_STR("error", error));
        metrics_count(p->metrics.disconnected, 1);
    }
}

static void tell(struct peer *p, enum link_news news)
{
    member_link_news(p->t->member, p->id, news);
}

static void close_conn(struct peer *p, uint64_t id)
{
    struct peer_conn *c = peer_conn_find(p, id);
    if (c != NULL) {
        c->close(c);
    }
}

static void act(struct peer *p, const struct link_actions *out, const struct link_action *a)
{
    switch (a->kind) {
    case LINK_DIAL:
        stream_in_dial(p, a);
        break;
    case LINK_CLOSE:
        close_conn(p, a->conn);
        break;
    case LINK_WRITE:
        stream_out_write(peer_conn_find(p, a->conn));
        break;
    case LINK_BEAT:
        stream_out_beat(peer_conn_find(p, a->conn));
        break;
    case LINK_POST:
        post_start(p, a);
        break;
    case LINK_POST_SNAPSHOT:
        send_snapshot_start(p, a);
        break;
    case LINK_UNREACHABLE:
        metrics_count(p->metrics.sent_failures, 1);
        tell(p, LINK_NEWS_UNREACHABLE);
        break;
    case LINK_SNAPSHOT_DONE:
        tell(p, a->delivered ? LINK_NEWS_SNAPSHOT_DELIVERED : LINK_NEWS_SNAPSHOT_FAILED);
        break;
    case LINK_REMOVED:
        tell(p, LINK_NEWS_REMOVED);
        break;
    case LINK_GONE:
        log_warn(p->t->cfg.log, "remote peer is gone: its connections ended and its machine refuses new ones", F_HEX("remote-peer-id", p->id));
        tell(p, LINK_NEWS_GONE);
        break;
    case LINK_DROPPED:
        on_dropped(p, a);
        break;
    case LINK_ACTIVE:
        on_active(p, true, NULL);
        break;
    case LINK_INACTIVE:
        on_active(p, false, out->text);
        break;
    case LINK_STREAM_UP:
        log_stream(p, a, true);
        break;
    case LINK_STREAM_DOWN:
        log_stream(p, a, false);
        break;
    case LINK_REFUSED:
        log_refusal(p, a);
        break;
    }
}

void peer_step(struct peer *p, struct link_event *ev)
{
    struct peer_transport *t = p->t;
    struct link_actions out;
    ev->now_ms = transport_now_ms(t);
    link_step(p->link, ev, &out);
    for (size_t i = 0; i < out.n; i++) {
        act(p, &out, &out.at[i]);
    }
    if (out.wake_at_ms == UINT64_MAX) {
        loop_timer_clear(t->cfg.loop, &p->timer);
    } else {
        uint64_t in_ms = out.wake_at_ms > ev->now_ms ? out.wake_at_ms - ev->now_ms : 0;
        loop_timer_set(t->cfg.loop, &p->timer, loop_now_ms(t->cfg.loop) + in_ms);
    }
}

static void on_timer(struct loop *l, struct loop_timer *timer)
{
    (void)l;
    struct link_event ev = {.kind = LINK_EV_TICK};
    peer_step(CONTAINER_OF(timer, struct peer, timer), &ev);
}

/* --- life ------------------------------------------------------------------------------------------------------- */

struct peer *peer_find(struct peer_transport *t, uint64_t id)
{
    struct peer *p = t->peers;
    while (p != NULL && p->id != id) {
        p = p->next;
    }
    return p;
}

/* One allocation: the pointers, then the strings. */
static char **copy_urls(const char *const *urls, uint32_t *n_urls)
{
    size_t n = 0;
    size_t bytes = 0;
    for (; urls[n] != NULL && n < LINK_URLS_MAX; n++) {
        bytes += strlen(urls[n]) + 1;
    }
    char **out = xalloc((n + 1) * sizeof(char *) + bytes);
    char *at = (char *)&out[n + 1];
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(urls[i]) + 1;
        memcpy(at, urls[i], len);
        out[i] = at;
        at += len;
    }
    out[n] = NULL;
    *n_urls = (uint32_t)n;
    return out;
}

struct peer *peer_create(struct peer_transport *t, uint64_t id, const char *const *urls, bool stranger)
{
    struct peer *p = xcalloc(1, sizeof(*p));
    p->t = t;
    p->id = id;
    p->stranger = stranger;
    p->timer.fire = on_timer;
    peer_id_format(id, p->id_text);
    p->urls = copy_urls(urls, &p->n_urls);
    const struct link_config cfg = {
        .peer = id,
        .n_urls = p->n_urls,
        .dial_timeout_ms = 1000u + t->cfg.election_ms,
        .pipeline_only = stranger,
        .now_ms = transport_now_ms(t),
    };
    p->link = link_create(&cfg);
    if (!stranger) {
        log_info(t->cfg.log, "started remote peer", F_HEX("remote-peer-id", id));
        peer_metrics_open(p);
        probe_start(p);
    }
    return p;
}

void peer_update(struct peer *p, const char *const *urls)
{
    bool same = true;
    uint32_t n = 0;
    for (; same && urls[n] != NULL && n < LINK_URLS_MAX; n++) {
        same = n < p->n_urls && strcmp(urls[n], p->urls[n]) == 0;
    }
    if (same && n == p->n_urls) {
        return;
    }
    free(p->urls);
    p->urls = copy_urls(urls, &p->n_urls);
    log_info(p->t->cfg.log, "updated remote peer", F_HEX("local-member-id", p->t->identity.member), F_HEX("updated-remote-peer-id", p->id),
             F_STRS("updated-remote-peer-urls", urls));
    struct link_event ev = {.kind = LINK_EV_URLS, .n_urls = p->n_urls};
    peer_step(p, &ev);
}

void peer_destroy(struct peer *p)
{
    struct peer_transport *t = p->t;
    if (!p->stranger) {
        log_info(t->cfg.log, "stopping remote peer", F_HEX("remote-peer-id", p->id));
        probe_stop(p);
        transport_set_active(t, p->id, 0);
        if (p->metrics.active != NULL) {
            gauge_set(p->metrics.active, 0);
            gauge_set(p->metrics.known, 0);
        }
    }
    struct link_event ev = {.kind = LINK_EV_STOP};
    peer_step(p, &ev);
    while (p->conns != NULL) {
        p->conns->close(p->conns);
    }
    loop_timer_clear(t->cfg.loop, &p->timer);
    link_destroy(&p->link);
    if (!p->stranger) {
        log_info(t->cfg.log, "stopped remote peer", F_HEX("remote-peer-id", p->id));
    }
    free(p->urls);
    free(p);
}
