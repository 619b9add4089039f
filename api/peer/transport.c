/* transport.c - life of the transport, and what the member and the main thread ask of it.
 *
 * Whatever comes from other threads is posted to the loop. A post refers to the transport, which therefore lives longer than the loop
 * (transport.h); after peer_transport_stop nothing more is taken, and `done` waits for what is still on its way back.
 */
#include "api/peer/transport.h"

#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

/* The messages of one call of `send`. */
struct batch {
    struct loop_item item;
    struct peer_transport *t;
    size_t n;
    struct raft_message *messages[];
};

struct stop_request {
    struct loop_item item;
    struct peer_transport *t;
    void (*done)(void *arg);
    void *arg;
};

/* --- small parts -------------------------------------------------------------------------------------------- */

uint64_t transport_now_ms(const struct peer_transport *t)
{
    return clock_now_ms(t->cfg.clock);
}

static bool directory_known(void *arg, uint64_t id)
{
    const struct peer *p = peer_find(arg, id);
    return p != NULL && !p->stranger;
}

/* A member to whom a link exists was not removed, as far as this loop knows: the common case needs no look into the engine. */
static bool directory_removed(void *arg, uint64_t id)
{
    struct peer_transport *t = arg;
    return !directory_known(t, id) && engine_member_removed(member_engine(t->member), id);
}

static void maybe_done(struct peer_transport *t)
{
    if (t->stopping && t->server_done && t->n_busy == 0 && t->done != NULL) {
        void (*done)(void *arg) = t->done;
        t->done = NULL;
        done(t->done_arg);
    }
}

void transport_busy(struct peer_transport *t, int change)
{
    ASSERT(change > 0 || t->n_busy > 0);
    t->n_busy = change > 0 ? t->n_busy + 1 : t->n_busy - 1;
    maybe_done(t);
}

/* --- the table of activity ------------------------------------------------------------------------------------ */

void transport_set_active(struct peer_transport *t, uint64_t id, uint64_t since_ms)
{
    (void)pthread_mutex_lock(&t->lock);
    size_t i = 0;
    while (i < t->n_activity && t->activity[i].id != id) {
        i++;
    }
    if (since_ms == 0) {
        if (i < t->n_activity) {
            t->activity[i] = t->activity[--t->n_activity];
        }
    } else if (i < PEER_ACTIVE_MAX) {
        t->activity[i] = (struct peer_activity){id, since_ms};
        t->n_activity += i == t->n_activity ? 1u : 0u;
    }
    (void)pthread_mutex_unlock(&t->lock);
}

static uint64_t table_active_since_ms(void *arg, uint64_t id)
{
    struct peer_transport *t = arg;
    uint64_t since_ms = 0;
    (void)pthread_mutex_lock(&t->lock);
    for (size_t i = 0; i < t->n_activity; i++) {
        since_ms = t->activity[i].id == id ? t->activity[i].since_ms : since_ms;
    }
    (void)pthread_mutex_unlock(&t->lock);
    return since_ms;
}

/* --- messages that go out --------------------------------------------------------------------------------------- */

static void lose(struct peer_transport *t, struct raft_message *m)
{
    member_link_news(t->member, m->to, m->type == RAFT_MSG_SNAP ? LINK_NEWS_SNAPSHOT_FAILED : LINK_NEWS_UNREACHABLE);
    raft_message_destroy(&m);
}

static void send_one(struct peer_transport *t, struct raft_message *m)
{
    struct peer *p = t->stopping ? NULL : peer_find(t, m->to);
    if (p == NULL) {
        lose(t, m);
        return;
    }
    struct link_event ev = {.kind = LINK_EV_SEND, .message = m};
    peer_step(p, &ev);
}

static void batch_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct batch *b = CONTAINER_OF(item, struct batch, item);
    (void)atomic_fetch_sub_explicit(&b->t->n_handed, (uint32_t)b->n, memory_order_relaxed);
    for (size_t i = 0; i < b->n; i++) {
        send_one(b->t, b->messages[i]);
    }
    free(b);
}

static void table_send(void *arg, struct raft_message *const *messages, size_t n)
{
    struct peer_transport *t = arg;
    uint32_t before = atomic_fetch_add_explicit(&t->n_handed, (uint32_t)n, memory_order_relaxed);
    if (n == 0 || before + n > PEER_HANDOVER_MAX || atomic_load_explicit(&t->closed, memory_order_acquire)) {
        (void)atomic_fetch_sub_explicit(&t->n_handed, (uint32_t)n, memory_order_relaxed);
        for (size_t i = 0; i < n; i++) {
            lose(t, messages[i]);
        }
        return;
    }
    struct batch *b = xalloc(sizeof(*b) + n * sizeof(b->messages[0]));
    b->item.run = batch_run;
    b->t = t;
    b->n = n;
    memcpy(b->messages, messages, n * sizeof(b->messages[0]));
    loop_post(t->cfg.loop, &b->item);
}

/* --- messages that came --------------------------------------------------------------------------------------------- */

void transport_deliver(struct peer_transport *t, struct raft_message *m, struct peer_verdict *verdict)
{
    peer_check_message(&t->identity, &t->directory, OK, m, verdict);
    if (verdict->refusal == PEER_ACCEPTED && m->type == RAFT_MSG_SNAP) {
        verdict->refusal = PEER_BAD_MESSAGE; /* one comes with its database or not at all */
        verdict->status = 400;
        verdict->body = "unexpected raft message type\n";
        verdict->content_type = "text/plain; charset=utf-8";
    }
    if (verdict->refusal != PEER_ACCEPTED) {
        log_warn(t->cfg.log, peer_refusal_log(verdict->refusal), F_HEX("local-member-id", t->identity.member), F_HEX("mismatch-member-id", m->to),
                 F_HEX("from", m->from), F_STR("message-type", raft_message_type_name(m->type)));
        raft_message_destroy(&m);
        return;
    }
    member_receive(t->member, m);
}

/* --- who is a member ------------------------------------------------------------------------------------------------- */

static const struct member_info *find_info(const struct member_info *list, size_t n, uint64_t id)
{
    for (size_t i = 0; i < n; i++) {
        if (list[i].id == id) {
            return &list[i];
        }
    }
    return NULL;
}

static void drop_missing(struct peer_transport *t, const struct member_info *list, size_t n)
{
    for (struct peer **at = &t->peers; *at != NULL;) {
        struct peer *p = *at;
        bool stays = p->stranger ? !engine_member_removed(member_engine(t->member), p->id) : find_info(list, n, p->id) != NULL;
        if (stays) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        log_info(t->cfg.log, "removed remote peer", F_HEX("local-member-id", t->identity.member), F_HEX("removed-remote-peer-id", p->id));
        peer_destroy(p);
    }
}

static void add_peer(struct peer_transport *t, uint64_t id, const char *const *urls, bool stranger)
{
    struct peer *p = peer_create(t, id, urls, stranger);
    p->next = t->peers;
    t->peers = p;
    struct link_event ev = {.kind = LINK_EV_TICK};
    peer_step(p, &ev);
}

static void remove_peer(struct peer_transport *t, struct peer *p)
{
    struct peer **at = &t->peers;
    while (*at != p) {
        at = &(*at)->next;
    }
    *at = p->next;
    peer_destroy(p);
}

static void look_at_members(struct peer_transport *t)
{
    size_t n = 0;
    struct member_info *list = member_peers(t->member, &n);
    drop_missing(t, list, n);
    for (size_t i = 0; i < n; i++) {
        const char *const *urls = (const char *const *)list[i].peer_urls;
        struct peer *p = peer_find(t, list[i].id);
        if (list[i].id == t->identity.member || urls[0] == NULL) {
            continue; /* nobody can be reached without an address */
        }
        if (p != NULL && p->stranger) {
            remove_peer(t, p);
            p = NULL;
        }
        if (p == NULL) {
            add_peer(t, list[i].id, urls, false);
            log_info(t->cfg.log, "added remote peer", F_HEX("local-member-id", t->identity.member), F_HEX("remote-peer-id", list[i].id),
                     F_STRS("remote-peer-urls", urls));
        } else {
            peer_update(p, urls);
        }
    }
    free(list);
}

static void members_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct peer_transport *t = CONTAINER_OF(item, struct peer_transport, members_item);
    atomic_store_explicit(&t->members_due, false, memory_order_release);
    if (t->started && !t->stopping) {
        look_at_members(t);
    }
}

static void table_members_changed(void *arg)
{
    struct peer_transport *t = arg;
    if (!atomic_load_explicit(&t->closed, memory_order_acquire) && !atomic_exchange_explicit(&t->members_due, true, memory_order_acq_rel)) {
        loop_post(t->cfg.loop, &t->members_item);
    }
}

static void make_room_for_stranger(struct peer_transport *t)
{
    size_t n = 0;
    struct peer *oldest = NULL;
    for (struct peer *p = t->peers; p != NULL; p = p->next) {
        n += p->stranger ? 1u : 0u;
        oldest = p->stranger ? p : oldest; /* new ones stand in front */
    }
    if (n >= PEER_STRANGERS_MAX) {
        remove_peer(t, oldest);
    }
}

/* Cut the header into addresses and remember the sender. */
void transport_learn(struct peer_transport *t, uint64_t id, const char *text)
{
    if (t->stopping || id == RAFT_NONE || id == t->identity.member || peer_find(t, id) != NULL || strlen(text) > PEER_URLS_HEADER_MAX ||
        engine_member_removed(member_engine(t->member), id)) {
        return;
    }
    char *copy = xstrdup(text);
    const char *urls[LINK_URLS_MAX + 1];
    size_t n = 0;
    char *rest = NULL;
    for (char *url = strtok_r(copy, ",", &rest); url != NULL && n < LINK_URLS_MAX; url = strtok_r(NULL, ",", &rest)) {
        urls[n++] = url;
    }
    urls[n] = NULL;
    if (n > 0) {
        make_room_for_stranger(t);
        add_peer(t, id, urls, true);
    }
    free(copy);
}

static void versions_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct peer_transport *t = CONTAINER_OF(item, struct peer_transport, versions_item);
    atomic_store_explicit(&t->versions_due, false, memory_order_release);
    if (t->started && !t->stopping) {
        ask_versions(t);
    } else {
        member_versions(t->member, "", false);
    }
}

/* Asked again while on its way: one answer serves both. */
static void table_ask_versions(void *arg)
{
    struct peer_transport *t = arg;
    if (!atomic_load_explicit(&t->closed, memory_order_acquire) && !atomic_exchange_explicit(&t->versions_due, true, memory_order_acq_rel)) {
        loop_post(t->cfg.loop, &t->versions_item);
    }
}

void peer_ask_member(struct peer_transport *t, struct peer_question *q)
{
    ask_post(t, q);
}

/* --- start and stop -------------------------------------------------------------------------------------------------------- */

static void close_links(struct peer_transport *t)
{
    t->stopping = true;
    ask_stop(t);
    while (t->peers != NULL) {
        struct peer *p = t->peers;
        t->peers = p->next;
        peer_destroy(p);
    }
    spool_stop(t);
    net_destroy(&t->net);
}

static void on_turn(struct loop *l, void *arg)
{
    (void)l;
    stream_out_turn(arg);
}

static void on_loop_stop(struct loop *l, void *arg)
{
    (void)l;
    struct peer_transport *t = arg;
    atomic_store_explicit(&t->closed, true, memory_order_release);
    if (!t->stopping) {
        close_links(t);
    }
}

static void start_run(struct loop *l, struct loop_item *item)
{
    struct peer_transport *t = CONTAINER_OF(item, struct peer_transport, start_item);
    if (t->stopping || t->started) {
        return;
    }
    t->started = true;
    t->net = net_create(l, t->cfg.tls);
    t->turn_hook = (struct loop_hook){.run = on_turn, .arg = t};
    loop_hook_add(l, &t->turn_hook);
    /* Before the server's own, which ends the exchanges that streams hold. */
    t->stop_hook = (struct loop_hook){.run = on_loop_stop, .arg = t};
    loop_hook_add_stop(l, &t->stop_hook);
    if (t->stopping) {
        return; /* the loop is over already */
    }
    spool_clean(t);
    http_server_serve(t->server, &l, 1);
    look_at_members(t);
}

void peer_transport_start(struct peer_transport *t)
{
    loop_post(t->cfg.loop, &t->start_item);
}

static void on_server_done(void *arg)
{
    struct peer_transport *t = arg;
    t->server_done = true;
    maybe_done(t);
}

static void stop_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct stop_request *s = CONTAINER_OF(item, struct stop_request, item);
    struct peer_transport *t = s->t;
    ASSERT(t->done == NULL); /* once */
    t->done = s->done;
    t->done_arg = s->arg;
    free(s);
    bool serving = t->started && !t->stopping;
    if (!t->stopping) {
        close_links(t);
    }
    if (serving) {
        http_server_shutdown(t->server, STOP_GRACE_MS, on_server_done, t);
    } else {
        on_server_done(t);
    }
}

void peer_transport_stop(struct peer_transport *t, void (*done)(void *arg), void *arg)
{
    atomic_store_explicit(&t->closed, true, memory_order_release);
    struct stop_request *s = xcalloc(1, sizeof(*s));
    s->item.run = stop_run;
    s->t = t;
    s->done = done;
    s->arg = arg;
    loop_post(t->cfg.loop, &s->item);
}

/* --- life -------------------------------------------------------------------------------------------------------------------- */

static char *join_urls(const char *const *urls)
{
    struct bytes text = {0};
    for (size_t i = 0; urls != NULL && urls[i] != NULL; i++) {
        bytes_add_str(&text, i == 0 ? "" : ",");
        bytes_add_str(&text, urls[i]);
    }
    bytes_add(&text, "", 1);
    return (char *)text.data;
}

struct peer_transport *peer_transport_create(const struct peer_transport_config *cfg)
{
    struct peer_transport *t = xcalloc(1, sizeof(*t));
    t->cfg = *cfg;
    t->urls_text = join_urls(cfg->advertised_urls);
    enum err e = peer_identity_init(&t->identity, cfg->cluster_id, cfg->member_id, cfg->version, t->urls_text);
    ASSERT(e == OK);
    t->directory = (struct peer_directory){t, directory_removed, directory_known};
    t->table = (struct member_transport){
        .send = table_send,
        .members_changed = table_members_changed,
        .active_since_ms = table_active_since_ms,
        .ask_versions = table_ask_versions,
        .arg = t,
    };
    t->start_item.run = start_run;
    t->members_item.run = members_run;
    t->versions_item.run = versions_run;
    ASSERT(pthread_mutex_init(&t->lock, NULL) == 0);
    ASSERT(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
    const struct http_config http = {.http = {.handle = serve_handle, .arg = t}, .begin = serve_begin, .connections_max = PEER_CONNECTIONS_MAX};
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
    ASSERT(t->peers == NULL && t->net == NULL);
    http_server_destroy(&t->server);
    curl_global_cleanup();
    (void)pthread_mutex_destroy(&t->lock);
    bytes_deinit(&t->scratch);
    free(t->urls_text);
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

void peer_transport_secure(struct peer_transport *t, struct tls *tls, bool plain)
{
    http_server_secure(t->server, tls, plain);
}

uint16_t peer_transport_port(const struct peer_transport *t, unsigned i)
{
    return http_server_port(t->server, i);
}
