/* lease.c - a user of leases: a key must be there as long as its lease was renewed, and go after.
 *
 * A renewal that was answered holds for its time to live counted from when it was asked for; a
 * linearizable read that returns before that must find the key.
 */
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"
#include "tests/cluster/workload/workload.h"

#define RENEWALS 4u
#define RENEW_NS (700u * 1000000u)
#define GONE_MS                                                                                    \
    40000u /* etcd extends all leases after an election, and looks every half second               \
            */

static void record(struct lease_user *u, uint32_t key, uint64_t invoke, bool present,
                   uint64_t alive_until)
{
    struct lease_read r = {u->number, key, invoke, now_ns(), present, LEASE_EITHER};
    if (r.return_ns < alive_until) {
        r.expect = LEASE_THERE;
    }
    if (u->n == u->cap) {
        u->cap = u->cap == 0 ? 256 : u->cap * 2;
        u->reads = xrealloc(u->reads, u->cap * sizeof(*u->reads));
    }
    u->reads[u->n++] = r;
}

/* One linearizable read, recorded; false without an answer. */
static bool read_key(struct lease_user *u, uint32_t key, uint64_t alive_until, bool *present)
{
    struct bytes request = {0};
    struct bytes reply = {0};
    encode_range(&request, key, false);
    uint64_t invoke = now_ns();
    bool ok = session_call(&u->session, "/etcdserverpb.KV/Range", bytes_slice(&request), &reply) ==
              ANSWERED;
    if (ok) {
        struct reply r;
        decode_reply(bytes_slice(&reply), &r);
        *present = r.mod != 0;
        record(u, key, invoke, *present, alive_until);
    }
    bytes_deinit(&request);
    bytes_deinit(&reply);
    return ok;
}

static int64_t grant(struct lease_user *u)
{
    struct bytes request = {0};
    struct bytes reply = {0};
    struct reply r = {0};
    encode_grant(&request, LEASE_TTL_S);
    if (session_call(&u->session, "/etcdserverpb.Lease/LeaseGrant", bytes_slice(&request),
                     &reply) == ANSWERED) {
        decode_reply(bytes_slice(&reply), &r);
    }
    bytes_deinit(&request);
    bytes_deinit(&reply);
    return r.id;
}

static bool put_key(struct lease_user *u, uint32_t key, int64_t lease)
{
    struct bytes request = {0};
    struct bytes reply = {0};
    encode_put(&request, key, (u->number + 1) * VALUES_PER_CLIENT + ++u->values, 0, lease);
    bool ok = session_call(&u->session, "/etcdserverpb.KV/Put", bytes_slice(&request), &reply) ==
              ANSWERED;
    bytes_deinit(&request);
    bytes_deinit(&reply);
    return ok;
}

/* One renewal on a stream of its own; the seconds it holds, 0 without an answer, negative when the
 * lease is no more. */
static int64_t renew(struct lease_user *u, int64_t lease)
{
    int64_t ttl = 0;
    if (!session_connect(&u->session)) {
        return 0;
    }
    struct client_stream *stream = NULL;
    struct bytes message = {0};
    encode_keepalive(&message, lease);
    enum err e =
        client_stream_open(u->session.client, "/etcdserverpb.Lease/LeaseKeepAlive", &stream);
    if (e == OK) {
        e = client_stream_send(stream, bytes_slice(&message));
    }
    if (e == OK) {
        e = client_stream_recv(stream, CALL_MS, &message);
    }
    if (e == OK) {
        struct reply r;
        decode_reply(bytes_slice(&message), &r);
        ttl = r.ttl > 0 ? r.ttl : -1;
        u->n_keepalives += r.ttl > 0;
    }
    client_stream_close(&stream);
    bytes_deinit(&message);
    if (e != OK) {
        session_drop(&u->session);
    }
    return ttl;
}

static void one_lease(struct lease_user *u)
{
    const struct shared *shared = u->session.shared;
    bool present = false;
    uint64_t alive_until = now_ns() + LEASE_TTL_S * 1000000000u;
    int64_t id = grant(u);
    uint32_t key = LEASE_KEYS + u->number * 1000u + u->keys;
    if (id == 0) {
        sleep_ns(PAUSE_MS * 1000000u);
        return;
    }
    u->keys++;
    if (!put_key(u, key, id)) {
        return;
    }
    for (unsigned i = 0; i < RENEWALS && !atomic_load(&shared->stop); i++) {
        (void)read_key(u, key, alive_until, &present);
        sleep_ns(RENEW_NS);
        uint64_t asked = now_ns();
        int64_t ttl = renew(u, id);
        if (ttl < 0) {
            /* It is gone. Whether it was entitled to is for the read to show. */
            u->n_lost += now_ns() < alive_until;
            (void)read_key(u, key, alive_until, &present);
            return;
        }
        if (ttl > 0) {
            alive_until = asked + (uint64_t)ttl * 1000000000u;
        }
    }
    (void)read_key(u, key, alive_until, &present);
}

void *lease_main(void *arg)
{
    struct lease_user *u = arg;
    while (!atomic_load(&u->session.shared->stop) && u->keys < 1000u) {
        one_lease(u);
    }
    return NULL;
}

void lease_wait_gone(struct lease_user *u)
{
    uint64_t until = now_ns() + GONE_MS * 1000000ull;
    for (uint32_t i = 0; i < u->keys; i++) {
        uint32_t key = LEASE_KEYS + u->number * 1000u + i;
        bool present = true;
        while (!(read_key(u, key, 0, &present) && !present) && now_ns() < until) {
            sleep_ns(100u * 1000000u);
        }
        if (u->n > 0 && u->reads[u->n - 1].key == key) {
            u->reads[u->n - 1].expect = LEASE_GONE;
        }
    }
}
