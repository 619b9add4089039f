/* world.c - see world.h. */
#include "tests/api/peer/world.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

/* --- the fake member -------------------------------------------------------------------------------------------- */

struct engine {
    struct member m;
};

struct staged {
    uint64_t bytes;
};

struct engine_snapshot {
    struct member *m;
    uint64_t at;
};

static unsigned number_of(uint64_t id)
{
    return (unsigned)(id - 0xa0u);
}

static void lock(struct member *m)
{
    (void)pthread_mutex_lock(&m->lock);
}

static void unlock(struct member *m)
{
    (void)pthread_cond_broadcast(&m->changed);
    (void)pthread_mutex_unlock(&m->lock);
}

void member_receive(struct member *m, struct raft_message *message)
{
    lock(m);
    unsigned type = (unsigned)message->type;
    assert_true(type < TYPES);
    m->n_received[type]++;
    m->in_order[type] = m->in_order[type] && message->index == m->last_index[type] + 1;
    m->last_index[type] = message->index;
    for (size_t i = 0; i < message->n_entries; i++) {
        m->bytes += message->entries[i].data == NULL ? 0 : message->entries[i].data->len;
    }
    raft_message_destroy(&m->last);
    m->last = message;
    unlock(m);
}

void member_link_news(struct member *m, uint64_t id, enum link_news news)
{
    if (number_of(id) >= NODES_MAX) {
        return;
    }
    lock(m);
    m->news[number_of(id)][news]++;
    unlock(m);
}

void member_versions(struct member *m, const char *lowest, bool all)
{
    lock(m);
    (void)snprintf(m->versions, sizeof(m->versions), "%s", lowest);
    m->all_versions = all;
    m->n_versions++;
    unlock(m);
}

struct member_info *member_peers(struct member *m, size_t *n)
{
    struct node *all = m->node - m->node->i;
    size_t room = NODES_MAX * (sizeof(struct member_info) + sizeof(char *) * 3 + sizeof(m->node->url) * 2);
    struct member_info *list = xcalloc(1, room);
    char **urls = (char **)&list[NODES_MAX];
    char *text = (char *)&urls[NODES_MAX * 3];
    *n = 0;
    lock(m);
    for (unsigned i = 0; i < NODES_MAX; i++) {
        if (!m->knows[i]) {
            continue;
        }
        list[*n] = (struct member_info){.id = all[i].id, .peer_urls = urls};
        (*n)++;
        if (all[i].dead_url[0] != '\0') {
            (void)snprintf(text, sizeof(m->node->url), "%s", all[i].dead_url);
            *urls++ = text;
            text += sizeof(m->node->url);
        }
        (void)snprintf(text, sizeof(m->node->url), "%s", all[i].url);
        *urls = text;
        urls += 2;
        text += sizeof(m->node->url);
    }
    unlock(m);
    return list;
}

struct engine *member_engine(struct member *m)
{
    return (struct engine *)m;
}

bool engine_member_removed(const struct engine *e, uint64_t id)
{
    struct member *m = (struct member *)(uintptr_t)e;
    lock(m);
    bool removed = number_of(id) < NODES_MAX && m->removed[number_of(id)];
    unlock(m);
    return removed;
}

struct member_info *engine_members(const struct engine *e, size_t *n)
{
    return member_peers((struct member *)(uintptr_t)e, n);
}

void engine_cluster_version(const struct engine *e, char *out)
{
    (void)e;
    (void)snprintf(out, 16, "3.6.0");
}

enum err member_submit(struct member *m, struct member_op *op)
{
    lock(m);
    bool hold = op->kind == MEMBER_INSTALL && m->hold_install;
    op->err = OK;
    if (op->kind == MEMBER_INSTALL) {
        raft_message_destroy(&m->installed);
        m->installed = op->message;
        free(op->staged);
        op->err = m->install_err;
        m->n_installed += op->err == OK ? 1u : 0u;
        m->held = hold ? op : NULL;
    } else {
        assert_int_equal(op->kind, MEMBER_FLUSH);
        m->n_flushes++;
    }
    unlock(m);
    if (!hold) {
        op->done(op);
    }
    return OK;
}

void release_install(struct node *n)
{
    lock(&n->m);
    struct member_op *op = n->m.held;
    n->m.held = NULL;
    unlock(&n->m);
    assert_non_null(op);
    op->done(op);
}

/* --- databases: a pattern of a known length ------------------------------------------------------------------------- */

static uint8_t db_byte(uint64_t at)
{
    uint64_t v = at * 0x9e3779b97f4a7c15u;
    return (uint8_t)(v >> 56);
}

enum err engine_snapshot_open(struct engine *e, struct engine_snapshot **out, struct snapshot_info *info, struct err_ctx *ec)
{
    (void)ec;
    struct engine_snapshot *s = xcalloc(1, sizeof(*s));
    s->m = &e->m;
    *info = (struct snapshot_info){.bytes = s->m->db_bytes, .index = 77, .term = 5};
    info->conf.voters[0] = 0xa0;
    info->conf.voters[1] = 0xa1;
    info->conf.n_voters = 2;
    info->conf.learners[0] = 0xa2;
    info->conf.n_learners = 1;
    *out = s;
    return OK;
}

enum err engine_snapshot_read(struct engine_snapshot *s, uint8_t *dst, size_t room, size_t *n, struct err_ctx *ec)
{
    uint64_t left = s->m->db_bytes - s->at;
    *n = left < room ? (size_t)left : room;
    for (size_t i = 0; i < *n; i++) {
        dst[i] = (uint8_t)(db_byte(s->at + i) ^ (s->at + i == s->m->db_damage ? 0x10u : 0u));
    }
    s->at += *n;
    if (s->at > s->m->db_fail_at) {
        return err_set(ec, ERR_IO, "a page is rotten");
    }
    return OK;
}

void engine_snapshot_close(struct engine_snapshot **s)
{
    free(*s);
    *s = NULL;
}

enum err member_stage(struct member *m, const struct bolt_source *src, const struct raft_message *message, struct staged **out, struct err_ctx *ec)
{
    uint8_t piece[4096];
    assert_int_equal(message->type, RAFT_MSG_SNAP);
    lock(m);
    m->n_staged++;
    uint64_t expected = m->db_bytes;
    unlock(m);
    if (src->size != expected) {
        return err_set(ec, ERR_CORRUPT, "%llu bytes instead of %llu", (unsigned long long)src->size, (unsigned long long)expected);
    }
    for (uint64_t at = 0; at < src->size; at += sizeof(piece)) {
        size_t n = src->size - at < sizeof(piece) ? (size_t)(src->size - at) : sizeof(piece);
        enum err e = src->read_at(src->arg, at, piece, n, ec);
        for (size_t i = 0; e == OK && i < n; i++) {
            e = piece[i] == db_byte(at + i) ? OK : err_set(ec, ERR_CORRUPT, "byte %llu differs", (unsigned long long)(at + i));
        }
        if (e != OK) {
            return e;
        }
    }
    *out = xcalloc(1, sizeof(**out));
    return OK;
}

void member_stage_discard(struct member *m, struct staged **s)
{
    if (*s != NULL) {
        lock(m);
        m->n_discarded++;
        unlock(m);
    }
    free(*s);
    *s = NULL;
}

/* --- waiting ------------------------------------------------------------------------------------------------------------ */

void wait_for(struct node *n, bool (*holds)(struct node *n))
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    (void)pthread_mutex_lock(&n->m.lock);
    int rc = 0;
    while (!holds(n) && rc == 0) {
        rc = pthread_cond_timedwait(&n->m.changed, &n->m.lock, &until);
    }
    bool ok = holds(n);
    (void)pthread_mutex_unlock(&n->m.lock);
    assert_true(ok);
}

static void wait_at_least(struct node *n, const size_t *value, size_t count, const char *what)
{
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    (void)pthread_mutex_lock(&n->m.lock);
    int rc = 0;
    while (*value < count && rc == 0) {
        rc = pthread_cond_timedwait(&n->m.changed, &n->m.lock, &until);
    }
    size_t got = *value;
    (void)pthread_mutex_unlock(&n->m.lock);
    if (got < count) {
        fail_msg("node %u: %s: %zu of %zu", n->i, what, got, count);
    }
}

void wait_received(struct node *n, enum raft_message_type type, size_t count)
{
    wait_at_least(n, &n->m.n_received[type], count, raft_message_type_name(type));
}

void wait_news(struct node *n, unsigned about, enum link_news news, size_t count)
{
    static const char *const names[NEWS_KINDS] = {"unreachable", "delivered", "failed", "gone", "active", "removed"};
    wait_at_least(n, &n->m.news[about][news], count, names[news]);
}

size_t news_count(struct node *n, unsigned about, enum link_news news)
{
    lock(&n->m);
    size_t count = n->m.news[about][news];
    unlock(&n->m);
    return count;
}

void wait_active(struct world *w, unsigned from, unsigned to)
{
    wait_news(&w->nodes[from], to, LINK_NEWS_ACTIVE, 1);
}

/* Looks into a link on its own loop until what is waited for has come. */
struct look {
    struct loop_item item;
    struct loop_timer timer;
    struct node *n;
    uint64_t id;
    bool done;
};

static void look(struct loop *l, struct look *k)
{
    struct link_info info = {0};
    struct peer *p = peer_find(k->n->t, k->id);
    if (p != NULL) {
        link_info(p->link, &info);
    }
    if (info.attached[0] && info.attached[1] && info.reading[0] && info.reading[1]) {
        lock(&k->n->m);
        k->done = true;
        unlock(&k->n->m);
    } else {
        loop_timer_set(l, &k->timer, loop_now_ms(l) + 2);
    }
}

static void look_again(struct loop *l, struct loop_timer *t)
{
    look(l, CONTAINER_OF(t, struct look, timer));
}

static void look_run(struct loop *l, struct loop_item *item)
{
    look(l, CONTAINER_OF(item, struct look, item));
}

void wait_streams(struct world *w, unsigned from, unsigned to)
{
    struct look k = {.item.run = look_run, .timer.fire = look_again, .n = &w->nodes[from], .id = w->nodes[to].id};
    struct timespec until;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += WAIT_S;
    loop_post(k.n->loop, &k.item);
    (void)pthread_mutex_lock(&k.n->m.lock);
    int rc = 0;
    while (!k.done && rc == 0) {
        rc = pthread_cond_timedwait(&k.n->m.changed, &k.n->m.lock, &until);
    }
    (void)pthread_mutex_unlock(&k.n->m.lock);
    assert_true(k.done);
}

/* --- nodes ------------------------------------------------------------------------------------------------------------------ */

static void *loop_main(void *arg)
{
    loop_run(arg);
    return NULL;
}

static void other(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct node *n = arg;
    char body[160];
    if (strcmp(r->path, "/version") == 0) {
        int len = snprintf(body, sizeof(body), "{\"etcdserver\":\"%s\",\"etcdcluster\":\"3.6.0\"}", n->version);
        http_respond(x, 200, "application/json", NULL, slice_of(body, (size_t)len));
    } else if (strcmp(r->path, "/echo") == 0) {
        int len = snprintf(body, sizeof(body), "%s %s %s %s %.*s", r->method, r->content_type, r->authorization,
                           http_request_header(r, PEER_HEADER_CLUSTER_ID), (int)r->body.len, (const char *)r->body.data);
        http_respond(x, 201, "text/plain", NULL, slice_of(body, (size_t)len));
    } else if (strcmp(r->path, "/huge") == 0) {
        struct bytes huge = {0};
        memset(bytes_reserve(&huge, PEER_ASK_BODY_MAX + 1), 'h', PEER_ASK_BODY_MAX + 1);
        huge.len = PEER_ASK_BODY_MAX + 1;
        http_respond(x, 200, "text/plain", NULL, bytes_slice(&huge));
        bytes_deinit(&huge);
    } else if (strcmp(r->path, "/never") != 0) {
        http_respond(x, 404, "text/plain", NULL, slice_str("no"));
    } else {
        http_exchange_on_gone(x, (void (*)(void *))http_exchange_kill, x);
    }
}

void node_up(struct world *w, unsigned i)
{
    struct node *n = &w->nodes[i];
    struct err_ctx ec = {{0}};
    n->loop = loop_create(i);
    const struct peer_transport_config cfg = {
        .loop = n->loop,
        .clock = clock_real(),
        .metrics = n->metrics,
        .cluster_id = n->cluster,
        .member_id = n->id,
        .version = n->version,
        .advertised_urls = n->urls,
        .election_ms = 1000,
        .spool_dir = n->spool,
        .other = {.handle = other, .arg = n},
    };
    n->t = peer_transport_create(&cfg);
    enum err e = w->unix_sockets ? peer_transport_bind_unix(n->t, n->url + strlen("unix://"), &ec)
                                 : peer_transport_bind(n->t, "127.0.0.1", n->port, &ec);
    if (e != OK) {
        fail_msg("%s", ec.text);
    }
    peer_transport_attach(n->t, &n->m);
    if (i % 2 == 0) {
        peer_transport_start(n->t); /* before the loop runs, or while it does */
    }
    assert_int_equal(pthread_create(&n->thread, NULL, loop_main, n->loop), 0);
    if (i % 2 == 1) {
        peer_transport_start(n->t);
    }
    n->up = true;
}

static void on_stopped(void *arg)
{
    struct node *n = arg;
    loop_stop(n->loop);
}

void node_down(struct world *w, unsigned i)
{
    struct node *n = &w->nodes[i];
    if (!n->up) {
        return;
    }
    n->up = false;
    peer_transport_stop(n->t, on_stopped, n);
    assert_int_equal(pthread_join(n->thread, NULL), 0);
    loop_destroy(&n->loop);
    peer_transport_destroy(&n->t);
}

/* A port that is free now. */
static void pick_port(struct node *n)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
    (void)close(fd);
    (void)snprintf(n->port, sizeof(n->port), "%u", (unsigned)ntohs(a.sin_port));
    (void)snprintf(n->url, sizeof(n->url), "http://127.0.0.1:%s", n->port);
}

static void init_node(struct world *w, unsigned i)
{
    struct node *n = &w->nodes[i];
    n->i = i;
    n->id = 0xa0u + i;
    n->cluster = CLUSTER;
    n->version = "3.7.1";
    n->metrics = metrics_create();
    n->m.node = n;
    n->m.db_damage = UINT64_MAX;
    n->m.db_fail_at = UINT64_MAX;
    assert_int_equal(pthread_mutex_init(&n->m.lock, NULL), 0);
    assert_int_equal(pthread_cond_init(&n->m.changed, NULL), 0);
    for (unsigned j = 0; j < TYPES; j++) {
        n->m.in_order[j] = true;
    }
    for (unsigned j = 0; j < NODES_MAX; j++) {
        n->m.knows[j] = j < w->n;
    }
    if (w->unix_sockets) {
        (void)snprintf(n->url, sizeof(n->url), "unix://%s:%u", w->dir + strlen("/tmp/"), i);
    } else {
        pick_port(n);
    }
    n->urls[0] = n->url;
    (void)snprintf(n->spool, sizeof(n->spool), "%s/%u", w->dir, i);
    assert_int_equal(mkdir(n->spool, 0700), 0);
}

static struct world *make(unsigned n, bool unix_sockets)
{
    struct world *w = xcalloc(1, sizeof(*w));
    w->n = n;
    w->unix_sockets = unix_sockets;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)snprintf(w->dir, sizeof(w->dir), "/tmp/peers-XXXXXX");
    assert_non_null(mkdtemp(w->dir));
    assert_int_equal(chdir("/tmp"), 0); /* addresses of unix sockets have no folders */
    for (unsigned i = 0; i < NODES_MAX; i++) {
        init_node(w, i);
    }
    return w;
}

struct world *world_prepare(unsigned n)
{
    return make(n, false);
}

struct world *world_open(unsigned n)
{
    struct world *w = make(n, false);
    for (unsigned i = 0; i < n; i++) {
        node_up(w, i);
    }
    return w;
}

struct world *world_open_unix(unsigned n)
{
    struct world *w = make(n, true);
    for (unsigned i = 0; i < n; i++) {
        node_up(w, i);
    }
    return w;
}

void world_close(struct world *w)
{
    for (unsigned i = 0; i < NODES_MAX; i++) {
        struct node *n = &w->nodes[i];
        node_down(w, i);
        raft_message_destroy(&n->m.last);
        raft_message_destroy(&n->m.installed);
        metrics_destroy(&n->metrics);
        (void)pthread_mutex_destroy(&n->m.lock);
        (void)pthread_cond_destroy(&n->m.changed);
        (void)rmdir(n->spool);
    }
    assert_int_equal(rmdir(w->dir), 0); /* nothing is left in the spools */
    free(w);
}

void set_members(struct node *n, unsigned who, bool knows, bool removed)
{
    lock(&n->m);
    n->m.knows[who] = knows;
    n->m.removed[who] = removed;
    unlock(&n->m);
    const struct member_transport *table = peer_transport_table(n->t);
    table->members_changed(table->arg);
}

size_t spool_files(struct node *n)
{
    size_t count = 0;
    DIR *d = opendir(n->spool);
    assert_non_null(d);
    for (const struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        count += e->d_name[0] != '.' ? 1u : 0u;
    }
    (void)closedir(d);
    return count;
}

/* --- messages ----------------------------------------------------------------------------------------------------------------- */

struct raft_message *message(struct world *w, unsigned from, unsigned to, enum raft_message_type type, uint64_t index, size_t bytes)
{
    struct raft_message *m = raft_message_create(type, type == RAFT_MSG_APP ? 1 : 0);
    m->from = w->nodes[from].id;
    m->to = w->nodes[to].id;
    m->term = 5;
    m->log_term = 5;
    m->index = index;
    m->commit = index;
    if (type == RAFT_MSG_APP) {
        m->entries[0].term = 5;
        m->entries[0].index = index + 1;
        m->entries[0].data = buf_create(bytes);
        memset(m->entries[0].data->data, (int)(index & 0xffu), bytes);
    }
    return m;
}

void send_all(struct node *n, struct raft_message **messages, size_t count)
{
    const struct member_transport *table = peer_transport_table(n->t);
    table->send(table->arg, messages, count);
}

void send_one(struct node *n, struct raft_message *m)
{
    send_all(n, &m, 1);
}

/* --- a plain client --------------------------------------------------------------------------------------------------------------- */

static void send_bytes(int fd, const void *data, size_t len)
{
    const uint8_t *at = data;
    while (len > 0) {
        ssize_t n = send(fd, at, len, MSG_NOSIGNAL);
        if (n < 0) {
            return; /* the answer says why the rest was not wanted */
        }
        at += n;
        len -= (size_t)n;
    }
}

struct slice ask_raw(struct node *n, const char *head, struct slice body, const char *until, struct bytes *out)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a.sin_port = htons((uint16_t)strtoul(n->port, NULL, 10));
    const struct timeval limit = {.tv_sec = WAIT_S};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    send_bytes(fd, head, strlen(head));
    send_bytes(fd, body.data, body.len);
    if (until == NULL) {
        (void)shutdown(fd, SHUT_WR);
    }
    bytes_reset(out);
    for (;;) {
        uint8_t piece[4096];
        ssize_t got = recv(fd, piece, sizeof(piece), 0);
        if (got <= 0) {
            break;
        }
        bytes_add(out, piece, (size_t)got);
        bytes_add(out, "", 1);
        out->len--;
        if (until != NULL && strstr((const char *)out->data, until) != NULL) {
            break;
        }
    }
    bytes_add(out, "", 1);
    out->len--;
    (void)close(fd);
    return bytes_slice(out);
}
