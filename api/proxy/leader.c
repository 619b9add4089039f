/* leader.c - streams that shall end when the cluster has no leader.
 *
 * Merged streams cannot each ask the cluster for that, so one watch does it for all: of a key that nobody has, from a revision that never comes, on
 * a stream that wants a leader. While it stands there is one; what ends it says whether that was for want of a leader. It is opened for the first
 * client's stream that asks, and until it is answered a leader is assumed.
 */
#include <stdlib.h>

#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

#define RETRY_MS 100u
#define WATCHED_KEY "__lostleader"
#define NO_LEADER "etcdserver: no leader"

enum { CREATE = 1, CREATE_KEY = 1, CREATE_REVISION = 3 };

struct leader {
    struct proxy *proxy;
    struct led *streams;
    struct up_call up;
    struct loop_timer timer;
    bool lost;
};

static void watch(struct leader *l)
{
    struct bytes key = {0};
    struct bytes create = {0};
    struct bytes request = {0};
    const struct up_head head = {.path = "/etcdserverpb.Watch/Watch", .has_leader = true, .stays_open = true};
    bytes_add(&key, l->proxy->prefix.data, l->proxy->prefix.len);
    bytes_add_str(&key, WATCHED_KEY);
    wire_add_bytes(&create, CREATE_KEY, bytes_slice(&key));
    wire_add_int(&create, CREATE_REVISION, INT64_MAX - 2);
    wire_add_message(&request, CREATE, bytes_slice(&create));
    up_open(l->proxy->up, &l->up, &head, bytes_slice(&request));
    bytes_deinit(&key);
    bytes_deinit(&create);
    bytes_deinit(&request);
}

/* Their ends are told from the loop, so none leaves the list here. */
static void lose(struct leader *l)
{
    l->lost = true;
    for (struct led *s = l->streams; s != NULL; s = s->next) {
        grpc_finish(s->call, GRPC_UNAVAILABLE, NO_LEADER);
    }
}

static void on_news(struct up_call *u)
{
    struct leader *l = CONTAINER_OF(u, struct leader, up);
    struct slice message;
    while (up_front(u, &message)) {
        l->lost = false; /* whatever it says: a member that knows a leader says it */
        up_drop(u);
    }
    const struct client_status *status = up_status(u);
    if (status == NULL) {
        return;
    }
    if (strcmp(status->text, NO_LEADER) == 0) {
        lose(l);
    }
    up_close(u);
    loop_timer_set(l->proxy->cfg.loop, &l->timer, loop_now_ms(l->proxy->cfg.loop) + RETRY_MS);
}

static void on_retry(struct loop *loop, struct loop_timer *t)
{
    (void)loop;
    watch(CONTAINER_OF(t, struct leader, timer));
}

struct leader *leader_create(struct proxy *p)
{
    struct leader *l = xcalloc(1, sizeof(*l));
    l->proxy = p;
    l->up.news = on_news;
    l->timer.fire = on_retry;
    return l;
}

void led_join(struct led *s, struct grpc_call *c)
{
    struct leader *l = proxy_of(c)->leader;
    if (!head_for(c, "").has_leader) {
        return;
    }
    if (!up_is_open(&l->up) && l->timer.heap_pos == 0) {
        watch(l);
    }
    s->call = c;
    s->next = l->streams;
    s->prev = &l->streams;
    if (s->next != NULL) {
        s->next->prev = &s->next;
    }
    l->streams = s;
    if (l->lost) {
        grpc_finish(c, GRPC_UNAVAILABLE, NO_LEADER);
    }
}

void led_leave(struct led *s)
{
    if (s->prev == NULL) {
        return;
    }
    *s->prev = s->next;
    if (s->next != NULL) {
        s->next->prev = s->prev;
    }
    s->prev = NULL;
}
