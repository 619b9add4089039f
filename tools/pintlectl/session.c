/* session.c - one loop over the connection and a signalfd. */
#include "tools/pintlectl/session.h"

#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS 500

void session_start(struct session *s, struct ctl *ctl, int64_t ttl)
{
    memset(s, 0, sizeof(*s));
    s->ctl = ctl;
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGCHLD);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ASSERT(s->signals >= 0);
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    request.ttl = ttl > 0 ? ttl : SESSION_TTL_S;
    Etcdserverpb__LeaseGrantResponse *r =
        ctl_call(ctl, "/etcdserverpb.Lease/LeaseGrant", &request.base, true,
                 &etcdserverpb__lease_grant_response__descriptor, 0, EXIT_ERROR);
    s->lease = r->id;
    keepalive_init(&s->keepalive, ctl->conn, r->id, r->ttl);
    etcdserverpb__lease_grant_response__free_unpacked(r, NULL);
}

void session_unwatch(struct session *s)
{
    if (s->generation != conn_generation(s->ctl->conn)) {
        s->stream = NULL;
    }
    client_stream_close(&s->stream);
    s->watching = false;
}

void session_end(struct session *s)
{
    session_unwatch(s);
    keepalive_deinit(&s->keepalive);
    (void)close(s->signals);
}

void session_watch(struct session *s, struct key_range range, int64_t revision)
{
    session_unwatch(s);
    s->watching = true;
    s->range = range;
    s->next_revision = revision;
}

/* Open the stream that is wanted and not there. */
static void open_watch(struct session *s)
{
    if (s->generation != conn_generation(s->ctl->conn)) {
        s->stream = NULL;
    }
    if (!s->watching || s->stream != NULL) {
        return;
    }
    struct failure f;
    Etcdserverpb__WatchCreateRequest c = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchRequest r = ETCDSERVERPB__WATCH_REQUEST__INIT;
    c.key = binary(s->range.key);
    c.range_end = binary(s->range.end);
    c.start_revision = s->next_revision;
    r.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    r.create_request = &c;
    if (!conn_stream(s->ctl->conn, "/etcdserverpb.Watch/Watch", &r.base, false,
                     s->keepalive.expires_at_ns, &s->stream, &f)) {
        s->stream = NULL; /* the lease has expired meanwhile, which the next look at it says */
    }
    s->generation = conn_generation(s->ctl->conn);
}

static enum session_news look_at_signals(struct session *s)
{
    struct signalfd_siginfo info;
    while (read(s->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo != SIGCHLD) {
            return SESSION_SIGNAL;
        }
        if (s->child > 0 && waitpid(s->child, &s->child_status, WNOHANG) == s->child) {
            s->child = 0;
            return SESSION_CHILD;
        }
    }
    return SESSION_NONE;
}

static enum session_news look_at_watch(struct session *s, Etcdserverpb__WatchResponse **events)
{
    open_watch(s);
    if (s->stream == NULL) {
        return SESSION_NONE;
    }
    struct bytes message = {0};
    enum err e = client_stream_recv(s->stream, 0, &message);
    enum session_news news = SESSION_NONE;
    if (e == OK) {
        Etcdserverpb__WatchResponse *r =
            etcdserverpb__watch_response__unpack(NULL, message.len, message.data);
        if (r != NULL && r->n_events > 0 && r->header != NULL) {
            s->next_revision = r->header->revision + 1;
            *events = r;
            news = SESSION_EVENTS;
        } else if (r != NULL) {
            news = r->canceled ? SESSION_WATCH_LOST : SESSION_NONE;
            etcdserverpb__watch_response__free_unpacked(r, NULL);
        }
    } else if (e != ERR_DEADLINE) {
        client_stream_close(&s->stream); /* the next round opens another */
    }
    bytes_deinit(&message);
    return news;
}

enum session_news session_wait(struct session *s, Etcdserverpb__WatchResponse **events)
{
    for (;;) {
        struct failure f;
        Etcdserverpb__LeaseKeepAliveResponse *renewed = NULL;
        enum session_news news = look_at_signals(s);
        if (news != SESSION_NONE) {
            return news;
        }
        enum keepalive_news k = keepalive_wait(&s->keepalive, 0, &renewed, &f);
        if (k == KEEPALIVE_RENEWED) {
            etcdserverpb__lease_keep_alive_response__free_unpacked(renewed, NULL);
        }
        if (k == KEEPALIVE_EXPIRED || k == KEEPALIVE_FAILED) {
            return SESSION_EXPIRED;
        }
        news = look_at_watch(s, events);
        if (news != SESSION_NONE) {
            return news;
        }
        struct client *client = NULL;
        struct pollfd fds[2] = {{.fd = s->signals, .events = POLLIN}, {.fd = -1}};
        if (conn_client(s->ctl->conn, s->keepalive.expires_at_ns, &client, &f)) {
            fds[1].fd = client_fd(client);
            fds[1].events = client_wants_write(client) ? POLLIN | POLLOUT : POLLIN;
        }
        (void)poll(fds, 2, TICK_MS);
    }
}

/* ---- the recipe ---- */

const char *session_key(const struct session *s, const char *name)
{
    struct bytes b = {0};
    bytes_printf(&b, "%s/%" PRIx64, name, s->lease);
    const char *out = cli_dup(s->ctl->arena, b.data, b.len);
    bytes_deinit(&b);
    return out;
}

struct key_range session_prefix(const struct session *s, const char *name)
{
    struct bytes b = {0};
    bytes_printf(&b, "%s/", name);
    struct slice prefix = slice_of(cli_dup(s->ctl->arena, b.data, b.len), b.len);
    bytes_deinit(&b);
    return ctl_prefix_range(s->ctl->arena, prefix);
}

static void range_op(Etcdserverpb__RequestOp *op, Etcdserverpb__RangeRequest *r)
{
    etcdserverpb__request_op__init(op);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op->request_range = r;
}

/* If the key is absent put it, else get it; in any case tell which key under the prefix is the
 * oldest. */
static Etcdserverpb__TxnResponse *enter(struct session *s, const char *key, const char *value,
                                        struct key_range prefix)
{
    Etcdserverpb__Compare absent = ETCDSERVERPB__COMPARE__INIT;
    absent.target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
    absent.target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
    absent.key = binary(slice_str(key));
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = absent.key;
    put.value = binary(slice_str(value));
    put.lease = s->lease;
    Etcdserverpb__RangeRequest get = ETCDSERVERPB__RANGE_REQUEST__INIT;
    get.key = absent.key;
    Etcdserverpb__RangeRequest first = ETCDSERVERPB__RANGE_REQUEST__INIT;
    first.key = binary(prefix.key);
    first.range_end = binary(prefix.end);
    first.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND;
    first.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE;
    first.limit = 1;
    Etcdserverpb__RequestOp ops[3];
    etcdserverpb__request_op__init(&ops[0]);
    ops[0].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    ops[0].request_put = &put;
    range_op(&ops[1], &get);
    range_op(&ops[2], &first);
    Etcdserverpb__Compare *compares[] = {&absent};
    Etcdserverpb__RequestOp *success[] = {&ops[0], &ops[2]};
    Etcdserverpb__RequestOp *failure[] = {&ops[1], &ops[2]};
    Etcdserverpb__TxnRequest txn = ETCDSERVERPB__TXN_REQUEST__INIT;
    txn.n_compare = 1;
    txn.compare = compares;
    txn.n_success = txn.n_failure = 2;
    txn.success = success;
    txn.failure = failure;
    return ctl_call(s->ctl, "/etcdserverpb.KV/Txn", &txn.base, false,
                    &etcdserverpb__txn_response__descriptor, 0, EXIT_ERROR);
}

static bool is_range(const Etcdserverpb__ResponseOp *op)
{
    return op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE;
}

struct session_place session_enter(struct session *s, const char *name, const char *value)
{
    struct session_place p = {.name = name, .key = session_key(s, name)};
    Etcdserverpb__TxnResponse *r = enter(s, p.key, value, session_prefix(s, name));
    if (r->header == NULL || r->n_responses != 2 || !is_range(r->responses[1]) ||
        (!r->succeeded && !is_range(r->responses[0]))) {
        ctl_fail(EXIT_ERROR, "malformed answer");
    }
    p.created = p.header_revision = r->header->revision;
    if (!r->succeeded && r->responses[0]->response_range->n_kvs > 0) {
        p.created = r->responses[0]->response_range->kvs[0]->create_revision;
    }
    const Etcdserverpb__RangeResponse *oldest = r->responses[1]->response_range;
    p.first = oldest->n_kvs == 0 || oldest->kvs[0]->create_revision == p.created;
    etcdserverpb__txn_response__free_unpacked(r, NULL);
    return p;
}

/* The newest key under the prefix that is older than ours, in the arena; empty: there is none. */
static struct slice older(struct session *s, const struct session_place *p, int64_t *revision)
{
    struct key_range prefix = session_prefix(s, p->name);
    Etcdserverpb__RangeRequest get = ETCDSERVERPB__RANGE_REQUEST__INIT;
    get.key = binary(prefix.key);
    get.range_end = binary(prefix.end);
    get.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    get.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE;
    get.max_create_revision = p->created - 1;
    get.limit = 1;
    Etcdserverpb__RangeResponse *r =
        ctl_call(s->ctl, "/etcdserverpb.KV/Range", &get.base, true,
                 &etcdserverpb__range_response__descriptor, 0, EXIT_ERROR);
    struct slice key = {0};
    if (r->n_kvs > 0) {
        key = slice_of(cli_dup(s->ctl->arena, r->kvs[0]->key.data, r->kvs[0]->key.len),
                       r->kvs[0]->key.len);
    }
    *revision = r->header == NULL ? 0 : r->header->revision;
    etcdserverpb__range_response__free_unpacked(r, NULL);
    return key;
}

static bool has_delete(const Etcdserverpb__WatchResponse *r)
{
    for (size_t i = 0; i < r->n_events; i++) {
        if (r->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__DELETE) {
            return true;
        }
    }
    return false;
}

bool session_wait_first(struct session *s, const struct session_place *p)
{
    int64_t revision = 0;
    for (struct slice key = older(s, p, &revision); key.len > 0; key = older(s, p, &revision)) {
        session_watch(s, (struct key_range){key, slice_str("")}, revision);
        for (bool gone = false; !gone;) {
            Etcdserverpb__WatchResponse *events = NULL;
            enum session_news news = session_wait(s, &events);
            if (news == SESSION_SIGNAL) {
                return false;
            }
            /* What has expired or was lost shows when the keys are looked at again. */
            gone = news == SESSION_EXPIRED || news == SESSION_WATCH_LOST;
            if (news == SESSION_EVENTS) {
                gone = has_delete(events);
                etcdserverpb__watch_response__free_unpacked(events, NULL);
            }
        }
        session_unwatch(s);
    }
    return true;
}

void session_delete(struct session *s, const char *key)
{
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    request.key = binary(slice_str(key));
    Etcdserverpb__DeleteRangeResponse *r =
        ctl_call(s->ctl, "/etcdserverpb.KV/DeleteRange", &request.base, false,
                 &etcdserverpb__delete_range_response__descriptor, 0, EXIT_ERROR);
    etcdserverpb__delete_range_response__free_unpacked(r, NULL);
}

Etcdserverpb__RangeResponse *session_get(struct session *s, const char *key)
{
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = binary(slice_str(key));
    return ctl_call(s->ctl, "/etcdserverpb.KV/Range", &request.base, true,
                    &etcdserverpb__range_response__descriptor, 0, EXIT_ERROR);
}

void session_hold(struct session *s, const char *key, const char *expired)
{
    enum session_news news = SESSION_NONE;
    while (news != SESSION_SIGNAL) {
        Etcdserverpb__WatchResponse *none = NULL;
        news = session_wait(s, &none);
        if (news == SESSION_EXPIRED) {
            ctl_fail(EXIT_ERROR, "%s", expired);
        }
    }
    session_delete(s, key);
}
