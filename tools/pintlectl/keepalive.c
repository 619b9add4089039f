/* keepalive.c - asks a third of the time to live after each answer, as etcd's client does. */
#include "tools/pintlectl/keepalive.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define AGAIN_MS 500u /* before a stream that failed is opened again */

void keepalive_init(struct keepalive *k, struct conn *conn, int64_t id, int64_t ttl)
{
    *k = (struct keepalive){.conn = conn, .id = id};
    if (ttl > 0) {
        k->expires_at_ns = now_ns() + (uint64_t)ttl * NS_PER_S;
    }
}

/* The connection may have been given up, and the stream with it. */
static void check_stream(struct keepalive *k)
{
    if (k->stream != NULL && k->generation != conn_generation(k->conn)) {
        k->stream = NULL;
        k->asked = false;
        k->ask_at_ns = 0;
    }
}

void keepalive_deinit(struct keepalive *k)
{
    check_stream(k);
    client_stream_close(&k->stream);
}

static bool ask(struct keepalive *k, struct failure *f)
{
    Etcdserverpb__LeaseKeepAliveRequest r = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    r.id = k->id;
    if (k->stream != NULL) {
        k->asked = conn_send(k->stream, &r.base);
        return true;
    }
    k->asked = conn_stream(k->conn, "/etcdserverpb.Lease/LeaseKeepAlive", &r.base, true,
                           k->expires_at_ns, &k->stream, f);
    k->generation = conn_generation(k->conn);
    return k->asked;
}

static enum keepalive_news take(struct keepalive *k, const struct bytes *message,
                                Etcdserverpb__LeaseKeepAliveResponse **answer)
{
    Etcdserverpb__LeaseKeepAliveResponse *r =
        etcdserverpb__lease_keep_alive_response__unpack(NULL, message->len, message->data);
    if (r == NULL || r->ttl <= 0) {
        if (r != NULL) {
            etcdserverpb__lease_keep_alive_response__free_unpacked(r, NULL);
        }
        return KEEPALIVE_EXPIRED;
    }
    uint64_t now = now_ns();
    k->asked = false;
    k->ask_at_ns = now + (uint64_t)r->ttl * NS_PER_S / 3;
    k->expires_at_ns = now + (uint64_t)r->ttl * NS_PER_S;
    *answer = r;
    return KEEPALIVE_RENEWED;
}

/* The stream is over: why, and whether another one may help. */
static enum keepalive_news ended(struct keepalive *k, struct failure *f)
{
    const struct client_status *status = client_stream_status(k->stream);
    struct client_status lost = {
        .code = CLIENT_CODE_UNAVAILABLE, .local = true, .text = "connection lost"};
    failure_from(f, status == NULL ? &lost : status);
    client_stream_close(&k->stream);
    k->asked = false;
    k->ask_at_ns = now_ns() + AGAIN_MS * NS_PER_MS;
    if (conn_renew(k->conn, f, k->expires_at_ns) || f->code == CLIENT_CODE_UNAVAILABLE ||
        failure_is(f, "etcdserver: no leader")) {
        return KEEPALIVE_NONE;
    }
    return KEEPALIVE_FAILED;
}

enum keepalive_news keepalive_wait(struct keepalive *k, uint32_t timeout_ms,
                                   Etcdserverpb__LeaseKeepAliveResponse **answer, struct failure *f)
{
    uint64_t now = now_ns();
    check_stream(k);
    if (k->expires_at_ns != 0 && now >= k->expires_at_ns) {
        return KEEPALIVE_EXPIRED;
    }
    if (!k->asked && now >= k->ask_at_ns && !ask(k, f)) {
        return f->context ? KEEPALIVE_EXPIRED : KEEPALIVE_FAILED;
    }
    uint64_t until = k->asked ? k->expires_at_ns : k->ask_at_ns;
    uint64_t left_ms = until == 0 ? UINT32_MAX : until <= now ? 0 : (until - now) / NS_PER_MS + 1;
    uint32_t wait = left_ms < timeout_ms ? (uint32_t)left_ms : timeout_ms;
    if (k->stream == NULL) {
        sleep_ms(wait);
        return KEEPALIVE_NONE;
    }
    struct bytes message = {0};
    enum err e = client_stream_recv(k->stream, wait, &message);
    enum keepalive_news news = e == OK             ? take(k, &message, answer)
                               : e == ERR_DEADLINE ? KEEPALIVE_NONE
                                                   : ended(k, f);
    bytes_deinit(&message);
    return news;
}
