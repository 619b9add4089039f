/* probe.c - how long the way to another member is: GET /raft/probing now and then. */
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/metrics.h"

struct probe {
    struct peer *peer;
    struct loop_timer timer;
    struct net_call call;
    uint64_t since_ns;
    bool failing; /* the last one failed, and that was logged */
};

static bool on_data(struct net_call *c, struct slice piece)
{
    (void)c;
    return piece.len <= PEER_REFUSAL_BYTES;
}

static void wait(struct probe *b)
{
    struct loop *l = b->peer->t->cfg.loop;
    loop_timer_set(l, &b->timer, loop_now_ms(l) + PROBE_MS);
}

static void on_ended(struct net_call *c, enum peer_outcome outcome, const char *reason)
{
    struct probe *b = CONTAINER_OF(c, struct probe, call);
    struct peer *p = b->peer;
    uint64_t took_ns = clock_now_ns(p->t->cfg.clock) - b->since_ns;
    bool ok = outcome == PEER_OK && c->status == 200;
    if (ok && p->metrics.round_trip != NULL) {
        histogram_observe_ns(p->metrics.round_trip, took_ns);
    }
    if (!ok && !b->failing) {
        log_warn(p->t->cfg.log, "prober detected unhealthy status", F_HEX("remote-peer-id", p->id), F_NS("rtt", took_ns),
                 F_STR("error", outcome == PEER_OK ? "unhandled http status" : reason));
    }
    b->failing = !ok;
    wait(b);
}

static void on_timer(struct loop *l, struct loop_timer *timer)
{
    (void)l;
    static const struct net_ops ops = {.data = on_data, .ended = on_ended};
    struct probe *b = CONTAINER_OF(timer, struct probe, timer);
    b->since_ns = clock_now_ns(b->peer->t->cfg.clock);
    const struct net_request r = {.method = "GET", .url = b->peer->urls[0], .path = PEER_PATH_PROBING, .timeout_ms = PROBE_MS};
    net_start(b->peer->t->net, &b->call, &ops, &r);
}

void probe_start(struct peer *p)
{
    p->probe = xcalloc(1, sizeof(*p->probe));
    p->probe->peer = p;
    p->probe->timer.fire = on_timer;
    wait(p->probe);
}

void probe_stop(struct peer *p)
{
    if (p->probe != NULL) {
        loop_timer_clear(p->t->cfg.loop, &p->probe->timer);
        net_cancel(&p->probe->call);
        free(p->probe);
        p->probe = NULL;
    }
}
