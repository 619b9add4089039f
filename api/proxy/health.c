/* health.c - does the cluster answer, and does this proxy pass on what it says.
 *
 *   read ──► (through the proxy: a watch, until it is confirmed) ──► told
 */
#include <stdlib.h>

#include "api/grpc/local.h"
#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

#define READ_MS 1000u
#define WATCH_MS 3000u
#define DENIED "etcdserver: permission denied"

enum { RANGE_KEY = 1, WATCH_CREATE = 1, CREATE_KEY = 1 };

struct check {
    struct proxy *proxy;
    void (*done)(void *arg, const char *reason);
    void *arg;
    bool through;
    struct up_call up;        /* the cluster asked directly */
    struct grpc_local local;  /* the proxy asked */
    bool watching;
    struct loop_timer timer;
};

static void tell(struct check *k, const char *reason)
{
    loop_timer_clear(k->proxy->cfg.loop, &k->timer);
    up_close(&k->up);
    grpc_local_close(&k->local);
    k->done(k->arg, reason);
    free(k);
}

static void tell_failed(struct check *k, const char *text)
{
    char *reason = xasprintf("GET ERROR:%s", text);
    tell(k, reason);
    free(reason);
}

static void on_late(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct check *k = CONTAINER_OF(t, struct check, timer);
    if (k->watching) {
        tell(k, "WATCH TIMEOUT");
    } else {
        tell_failed(k, "context deadline exceeded");
    }
}

static void wait_for(struct check *k, uint64_t ms)
{
    struct loop *l = k->proxy->cfg.loop;
    loop_timer_set(l, &k->timer, loop_now_ms(l) + ms);
}

static void on_read(struct up_call *u)
{
    struct check *k = CONTAINER_OF(u, struct check, up);
    const struct client_status *status = up_status(u);
    if (status == NULL) {
        return;
    }
    if (status->code == CLIENT_CODE_OK || strcmp(status->text, DENIED) == 0) {
        tell(k, "");
    } else {
        tell_failed(k, status->text);
    }
}

/* --- through the proxy itself ------------------------------------------------------------------------------------ */

static bool open_local(struct check *k, const char *path)
{
    const struct grpc_local_head head = {.path = path, .timeout_ms = UINT64_MAX};
    return k->proxy->server != NULL && grpc_local_open(&k->local, k->proxy->server, k->proxy->cfg.loop, &head);
}

static void watch(struct check *k)
{
    struct bytes create = {0};
    struct bytes b = {0};
    grpc_local_close(&k->local);
    k->watching = true;
    wait_for(k, WATCH_MS);
    if (!open_local(k, "/etcdserverpb.Watch/Watch")) {
        tell(k, "no connection to proxy");
        return;
    }
    wire_add_bytes(&create, CREATE_KEY, slice_str("a"));
    wire_add_message(&b, WATCH_CREATE, bytes_slice(&create));
    grpc_local_send(&k->local, bytes_slice(&b));
    bytes_deinit(&create);
    bytes_deinit(&b);
}

static void on_local(struct grpc_local *l)
{
    struct check *k = CONTAINER_OF(l, struct check, local);
    uint8_t scratch[512];
    enum grpc_code code;
    struct slice text;
    size_t n = 0;
    for (size_t got; (got = grpc_local_take(l, scratch, sizeof(scratch))) > 0;) {
        n += got;
    }
    if (k->watching) {
        if (n > 0 || grpc_local_ended(l, &code, &text)) {
            tell(k, ""); /* any answer will do, as with etcd */
        }
        return;
    }
    if (!grpc_local_ended(l, &code, &text)) {
        return;
    }
    if (code == GRPC_OK || slice_eq(text, slice_str(DENIED))) {
        watch(k);
        return;
    }
    char *why = xstrndup((const char *)text.data, text.len);
    tell_failed(k, why);
    free(why);
}

void proxy_check(struct proxy *p, bool through_proxy, void (*done)(void *arg, const char *reason), void *arg)
{
    if (through_proxy && p->cfg.advertise_url[0] == '\0') {
        done(arg, "no connection to proxy");
        return;
    }
    struct check *k = xcalloc(1, sizeof(*k));
    struct bytes b = {0};
    k->proxy = p;
    k->done = done;
    k->arg = arg;
    k->up.news = on_read;
    k->local.ready = on_local;
    k->timer.fire = on_late;
    wait_for(k, READ_MS);
    if (!through_proxy) {
        const struct up_head head = {.path = "/etcdserverpb.KV/Range", .repeatable = true};
        bytes_add(&b, p->cfg.name_space, p->prefix.len);
        bytes_add_str(&b, "a");
        struct bytes range = {0};
        wire_add_bytes(&range, RANGE_KEY, bytes_slice(&b));
        up_open(p->up, &k->up, &head, bytes_slice(&range));
        bytes_deinit(&range);
    } else if (open_local(k, "/etcdserverpb.KV/Range")) {
        wire_add_bytes(&b, RANGE_KEY, slice_str("a"));
        grpc_local_send(&k->local, bytes_slice(&b));
        grpc_local_half_close(&k->local);
    } else {
        tell(k, "no connection to proxy");
    }
    bytes_deinit(&b);
}
