/* stop.c - the way down, for a signal or for being removed from the cluster.
 *
 * Clients first: no new ones, calls under way end, what is left is cut. Then leadership is handed over, while the other members can still be
 * reached; then the member stops, and the links to the others last. See server.h and etcd-server.md 2.8, 3.5, 8.4.
 */
#include <signal.h>
#include <stdlib.h>

#include "api/http/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "tools/pintle/server.h"

#define REMOVAL_WAIT_MS 1000u /* for the others to hear what this member still has to say */

static void on_drained(void *arg)
{
    struct server *s = arg;
    for (unsigned i = 0; i < s->config.n_loops; i++) {
        loop_stop(s->loops[i]);
    }
}

/* First loop. */
static void close_down(struct server *s, uint64_t grace_ms)
{
    ASSERT(!s->closing);
    s->closing = true;
    log_info(s->config.log, "closing etcd server", F_STR("name", s->config.name), F_STR("data-dir", s->config.data_dir));
    loop_timer_clear(s->loops[0], &s->removal);
    for (size_t i = 0; i < ARRAY_LEN(s->signals); i++) {
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    }
    if (s->serving) {
        if (s->http != NULL) {
            http_server_shutdown(s->http, grace_ms, NULL, NULL); /* the loops' end cuts what is left */
        }
        grpc_server_shutdown(s->grpc, grace_ms, on_drained, s);
    } else {
        on_drained(s); /* nobody has been let in yet */
    }
}

/* --- signals ------------------------------------------------------------------------------------------------------ */

static void on_signal(uv_signal_t *handle, int number)
{
    struct server *s = handle->data;
    if (s->closing) {
        return;
    }
    s->signal = number;
    log_info(s->config.log, "received signal; shutting down", F_STR("signal", number == SIGTERM ? "terminated" : "interrupt"));
    close_down(s, member_request_timeout_ms(s->member));
}

void server_catch_signals(struct server *s)
{
    static const int numbers[] = {SIGTERM, SIGINT};
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++) {
        ASSERT(uv_signal_init(loop_uv(s->loops[0]), &s->signals[i]) == 0);
        s->signals[i].data = s;
        ASSERT(uv_signal_start(&s->signals[i], on_signal, numbers[i]) == 0);
    }
}

/* --- removal ------------------------------------------------------------------------------------------------------- */

struct removed_item {
    struct loop_item item;
    struct server *server;
};

static void on_removal_due(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct server *s = CONTAINER_OF(t, struct server, removal);
    log_warn(s->config.log, "server error", F_STR("error", "the member has been permanently removed from the cluster"));
    log_warn(s->config.log, "data-dir used by this member must be removed", F_STR("data-dir", s->config.data_dir));
    close_down(s, 0);
}

static void run_removed(struct loop *l, struct loop_item *item)
{
    struct server *s = CONTAINER_OF(item, struct removed_item, item)->server;
    free(CONTAINER_OF(item, struct removed_item, item));
    if (!s->closing) {
        s->removal.fire = on_removal_due;
        loop_timer_set(l, &s->removal, loop_now_ms(l) + REMOVAL_WAIT_MS);
    }
}

/* Member loop. */
void server_on_removed(void *arg)
{
    struct server *s = arg;
    struct removed_item *r = xcalloc(1, sizeof(*r));
    r->item.run = run_removed;
    r->server = s;
    loop_post(s->loops[0], &r->item);
}

/* --- leadership ----------------------------------------------------------------------------------------------------- */

/* etcd waits for ReqTimeout. Raft itself gives a transfer up after one election timeout, and a target that was told to campaign is through with that after
 * another: waiting on only delays the stop of a whole cluster, where the target stops as well. */
void server_hand_over(struct server *s)
{
    uint64_t limit_ms = 2u * (uint64_t)s->config.election_ms;
    uint64_t etcd_ms = member_request_timeout_ms(s->member);
    enum err e = member_hand_over(s->member, limit_ms < etcd_ms ? limit_ms : etcd_ms);
    if (e != OK) {
        log_warn(s->config.log, "leadership transfer failed", F_HEX("local-member-id", s->origin.member_id),
                 F_STR("error", e == ERR_UNHEALTHY ? "etcdserver: unhealthy cluster"
                                                   : "etcdserver: request timed out, leader transfer took too long"));
    }
}

/* --- the others ------------------------------------------------------------------------------------------------------ */

/* Peer loop. */
static void on_peers_stopped(void *arg)
{
    struct server *s = arg;
    loop_stop(s->peer_loop);
}

void server_stop_peers(struct server *s)
{
    peer_transport_stop(s->peers, on_peers_stopped, s);
    pthread_join(s->peer_thread, NULL);
}
