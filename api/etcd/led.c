/* led.c - what hangs on leaders and learners: streams that end without the one, methods that the other refuses. */
#include "api/etcd/internal.h"

#include <stdlib.h>

#include "base/mem.h"

/* --- streams that want a leader ---------------------------------------------------------------------------- */

static uint64_t election_timeout_ms(const struct etcd_server *s)
{
    return (member_request_timeout_ms(s->member) - 5000u) / 2u; /* as it is made: 5 s and two election timeouts */
}

static struct led_stream *drop(struct led_stream *s)
{
    struct led_stream *next = s->next;
    grpc_call_unref(&s->call);
    free(s);
    return next;
}

/* Ending a stream costs its client a new connection to its watches, so it takes a leader that is missing for long. */
static void on_check(struct loop *loop, struct loop_timer *t)
{
    struct etcd_loop *l = CONTAINER_OF(t, struct etcd_loop, led_timer);
    l->no_leader_checks = member_status(l->server->member).leader == 0 ? l->no_leader_checks + 1 : 0;
    struct led_stream **p = &l->led;
    while (*p != NULL) {
        if (l->no_leader_checks >= NO_LEADER_CHECKS) {
            status_finish((*p)->call, ERR_NO_LEADER);
        }
        if (grpc_call_ended((*p)->call)) {
            *p = drop(*p);
        } else {
            p = &(*p)->next;
        }
    }
    if (l->led != NULL) {
        loop_timer_set(loop, t, loop_now_ms(loop) + election_timeout_ms(l->server));
    }
}

void led_stream_add(struct etcd_loop *l, struct grpc_call *c)
{
    if (l->led == NULL) {
        l->no_leader_checks = 0;
        l->led_timer.fire = on_check;
        loop_timer_set(l->loop, &l->led_timer, loop_now_ms(l->loop) + election_timeout_ms(l->server));
    }
    struct led_stream *s = xalloc(sizeof(*s));
    *s = (struct led_stream){.call = grpc_call_ref(c), .next = l->led};
    l->led = s;
}

void led_streams_drop(struct etcd_loop *l)
{
    loop_timer_clear(l->loop, &l->led_timer);
    while (l->led != NULL) {
        l->led = drop(l->led);
    }
}

/* --- learners ------------------------------------------------------------------------------------------------- */

/* Everything that is not named here is refused, health checks over gRPC included. */
static const struct {
    const char *path;
    enum learner_serves serves;
} learner_table[] = {
    {"/etcdserverpb.Maintenance/Status", LEARNER_SERVES},
    {"/etcdserverpb.Maintenance/Snapshot", LEARNER_SERVES},
    {"/etcdserverpb.KV/Range", LEARNER_SERVES_SERIALIZABLE},
};

enum learner_serves learner_serves(const char *path)
{
    for (size_t i = 0; i < ARRAY_LEN(learner_table); i++) {
        if (strcmp(learner_table[i].path, path) == 0) {
            return learner_table[i].serves;
        }
    }
    return LEARNER_REFUSES;
}

bool learner_admits(struct grpc_call *c, bool serializable)
{
    if (serializable || !member_status(server_of(c)->member).is_learner) {
        return true;
    }
    status_finish(c, ERR_LEARNER);
    return false;
}
