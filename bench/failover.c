/* failover.c - how long a cluster is without a leader after the leader's death.
 *
 * Connects to the other members, kills the leader's process (SIGKILL), and from then on sends a put
 * to each of them every few milliseconds, whatever became of the ones before: a put that a member
 * passed on to the dead leader is lost, and must not be what is waited for. The time ends with the
 * first put that is acknowledged by anybody.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "bench/bench.h"

#define MEMBERS_MAX 8u
#define PUT_EVERY_NS (5u * 1000000u)

struct failover {
    struct client *clients[MEMBERS_MAX]; /* owned */
    size_t n;
    uint64_t acknowledged_ns; /* 0: not yet */
    uint64_t n_sent;
    uint64_t n_refused;
};

static void put_done(void *arg, const struct client_status *status, struct slice reply)
{
    struct failover *f = arg;
    (void)reply;
    if (status->code != CLIENT_CODE_OK) {
        f->n_refused++;
    } else if (f->acknowledged_ns == 0) {
        f->acknowledged_ns = bench_now_ns();
    }
}

static bool connect_all(struct failover *f, const struct options *o)
{
    char *list = xstrdup(o->endpoint);
    char *rest = NULL;
    bool good = true;
    for (char *e = strtok_r(list, ",", &rest); e != NULL && good; e = strtok_r(NULL, ",", &rest)) {
        struct err_ctx ec = {{0}};
        good = f->n < MEMBERS_MAX && client_connect(e, CONNECT_MS, &f->clients[f->n], &ec) == OK;
        if (good) {
            f->n++;
        } else {
            (void)fprintf(stderr, "pintle-bench: %s: %s\n", e, ec.text);
        }
    }
    free(list);
    return good && f->n > 0;
}

static void put_everywhere(struct failover *f, const struct options *o)
{
    char key[KEY_BYTES_MAX + 1];
    bench_key(o, f->n_sent % o->keys, key);
    Etcdserverpb__PutRequest q = ETCDSERVERPB__PUT_REQUEST__INIT;
    q.key = bench_binary(key, o->key_bytes);
    q.value = q.key;
    struct bytes request = {0};
    request.len = etcdserverpb__put_request__pack(
        &q, bytes_reserve(&request, etcdserverpb__put_request__get_packed_size(&q)));
    for (size_t i = 0; i < f->n; i++) {
        /* A full or broken connection misses this put; the others go on. */
        enum err e = client_submit(f->clients[i], "/etcdserverpb.KV/Put", bytes_slice(&request),
                                   CALL_MS, put_done, f);
        f->n_refused += e != OK;
    }
    f->n_sent++;
    bytes_deinit(&request);
}

int bench_failover(const struct options *o)
{
    struct failover f = {0};
    bool good = connect_all(&f, o);
    if (good) {
        good = client_pump_until(f.clients, f.n, bench_now_ns() + PUT_EVERY_NS) !=
               ERR_CLOSED; /* settings */
    }
    if (good && kill(o->pid, SIGKILL) != 0) {
        perror("pintle-bench: kill");
        good = false;
    }
    uint64_t killed = bench_now_ns();
    uint64_t until = killed + (uint64_t)o->seconds * 1000000000u;
    for (uint64_t due = killed; good && f.acknowledged_ns == 0 && due < until;
         due += PUT_EVERY_NS) {
        put_everywhere(&f, o);
        enum err e = OK;
        while ((e == OK || e == ERR_DEADLINE) && f.acknowledged_ns == 0 &&
               bench_now_ns() < due + PUT_EVERY_NS) {
            e = client_pump_until(f.clients, f.n, due + PUT_EVERY_NS);
        }
        good = e == OK || e == ERR_DEADLINE;
    }
    good = good && f.acknowledged_ns != 0;
    if (good) {
        (void)printf("failover_ms=%.3f sent=%" PRIu64 " refused=%" PRIu64 "\n",
                     (double)(f.acknowledged_ns - killed) / 1e6, f.n_sent * f.n, f.n_refused);
    } else {
        (void)fprintf(stderr, "pintle-bench: no put was acknowledged\n");
    }
    for (size_t i = 0; i < f.n; i++) {
        client_close(&f.clients[i]);
    }
    return good ? 0 : 1;
}
