/* forward.c - calls that go through as they are, but for keys and tokens. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

enum { HEADER = 1, HEADER_REVISION = 3 }; /* of every answer, and of its ResponseHeader */

struct proxy *proxy_of(const struct grpc_call *c)
{
    return ((const struct route_of *)grpc_call_service(c))->proxy;
}

struct up_head head_for(const struct grpc_call *c, const char *path)
{
    struct slice token = grpc_call_metadata(c, "token");
    struct slice leader = grpc_call_metadata(c, "hasleader");
    return (struct up_head){
        .path = path,
        .token = token.len > 0 ? token : grpc_call_metadata(c, "authorization"),
        .has_leader = slice_eq(leader, slice_str("true")),
    };
}

int64_t answer_revision(struct slice reply)
{
    struct wire_field f;
    while (wire_next(&reply, &f) == OK) {
        struct wire_field g;
        while (f.number == HEADER && f.type == WIRE_LEN && wire_next(&f.bytes, &g) == OK) {
            if (g.number == HEADER_REVISION && g.type == WIRE_VARINT) {
                return (int64_t)g.value;
            }
        }
    }
    return 0;
}

void finish_like(struct grpc_call *c, const struct client_status *status)
{
    uint32_t code = status->code <= GRPC_UNAUTHENTICATED ? status->code : GRPC_UNKNOWN;
    grpc_finish(c, (enum grpc_code)code, status->text);
}

static void ask(struct forward *f, struct slice request)
{
    struct proxy *p = f->proxy;
    const struct route *r = f->route;
    struct up_head head = head_for(f->call, r->path);
    head.repeatable = r->repeatable;
    struct bytes rewritten = {0};
    enum err e = OK;
    if (p->prefix.len > 0 && r->prefixed && r->ask != PREFIX_MESSAGES) {
        e = prefix_rewrite(r->ask, p->prefix, request, &rewritten);
        request = bytes_slice(&rewritten);
    }
    if (e == ERR_EMPTY_KEY) {
        grpc_finish(f->call, GRPC_INVALID_ARGUMENT, "etcdserver: key is not provided");
    } else if (e != OK) {
        grpc_finish(f->call, GRPC_INVALID_ARGUMENT, "malformed request");
    } else if (request.len > p->cfg.send_bytes_max) {
        char text[128];
        (void)snprintf(text, sizeof(text), "trying to send message larger than max (%zu vs. %" PRIu64 ")", request.len, p->cfg.send_bytes_max);
        grpc_finish(f->call, GRPC_RESOURCE_EXHAUSTED, text);
    } else {
        up_open(p->up, &f->up, &head, request);
    }
    bytes_deinit(&rewritten);
}

/* In the client's own keys; `kept` holds them where they had to be rewritten. */
static enum err translate(const struct forward *f, struct slice message, struct bytes *kept, struct slice *out)
{
    const struct proxy *p = f->proxy;
    *out = message;
    if (p->prefix.len == 0 || !f->route->prefixed) {
        return OK;
    }
    enum err e = prefix_rewrite(f->route->answer, p->prefix, message, kept);
    *out = bytes_slice(kept);
    return e;
}

/* false: the answer cannot be passed on, and the call has ended. */
static bool check(struct forward *f, enum err e, struct slice message)
{
    const struct proxy *p = f->proxy;
    char text[128];
    if (message.len > p->cfg.recv_bytes_max) {
        (void)snprintf(text, sizeof(text), "grpc: received message larger than max (%zu vs. %" PRIu64 ")", message.len, p->cfg.recv_bytes_max);
        grpc_finish(f->call, GRPC_RESOURCE_EXHAUSTED, text);
        return false;
    }
    if (e != OK) {
        grpc_finish(f->call, GRPC_INTERNAL, "the cluster's answer has keys outside of the namespace");
        return false;
    }
    return true;
}

static void answer(struct forward *f, struct slice message)
{
    struct bytes kept = {0};
    struct slice reply;
    enum err e = translate(f, message, &kept, &reply);
    if (check(f, e, message)) {
        if (f->route->after != NULL && f->route->after(f, reply)) {
            bytes_deinit(&kept);
            struct bytes again = f->up.request; /* which up_close would free */
            struct up_head head = head_for(f->call, f->route->path);
            head.repeatable = f->route->repeatable;
            f->up.request = (struct bytes){0};
            up_close(&f->up);
            up_open(f->proxy->up, &f->up, &head, bytes_slice(&again));
            bytes_deinit(&again);
            return;
        }
        f->held = reply.len;
        upstream_hold(f->proxy->up, f->held);
        grpc_reply(f->call, &reply, 1);
    }
    bytes_deinit(&kept);
    up_close(&f->up);
}

static void on_unary_news(struct up_call *u)
{
    struct forward *f = CONTAINER_OF(u, struct forward, up);
    const struct client_status *status = up_status(u);
    struct slice message;
    if (status == NULL) {
        return;
    }
    if (status->code == CLIENT_CODE_OK && up_front(u, &message)) {
        answer(f, message);
        return;
    }
    if (f->route->after != NULL) {
        (void)f->route->after(f, (struct slice){NULL, 0});
    }
    finish_like(f->call, status);
    up_close(u);
}

/* --- streams of answers: as fast as the client reads ----------------------------------------------------------- */

static void pass_on(struct forward *f);

static void on_drained(struct grpc_call *c)
{
    pass_on(*grpc_call_state(c));
}

static void pass_on(struct forward *f)
{
    struct slice message;
    while (up_front(&f->up, &message)) {
        if (grpc_call_queued_bytes(f->call) > PROXY_STREAM_PAUSE_BYTES) {
            grpc_call_on_drain(f->call, PROXY_STREAM_RESUME_BYTES, on_drained);
            return;
        }
        if (!check(f, OK, message)) {
            up_close(&f->up);
            return;
        }
        grpc_send(f->call, &message, 1);
        up_drop(&f->up);
    }
    const struct client_status *status = up_status(&f->up);
    if (status != NULL) {
        finish_like(f->call, status);
        up_close(&f->up);
    }
}

static void on_stream_news(struct up_call *u)
{
    pass_on(CONTAINER_OF(u, struct forward, up));
}

/* --- callbacks --------------------------------------------------------------------------------------------------- */

void forward_message(struct grpc_call *c, struct slice request)
{
    const struct route_of *of = grpc_call_service(c);
    struct forward *f = xcalloc(1, sizeof(*f));
    f->proxy = of->proxy;
    f->route = of->route;
    f->call = c;
    f->up.news = of->route->kind == GRPC_UNARY ? on_unary_news : on_stream_news;
    *grpc_call_state(c) = f;
    if (f->route->before == NULL || !f->route->before(f, request)) {
        ask(f, request);
    }
}

void forward_ended(struct grpc_call *c)
{
    struct forward *f = *grpc_call_state(c);
    if (f == NULL) {
        return;
    }
    *grpc_call_state(c) = NULL;
    if (up_is_open(&f->up) && up_status(&f->up) == NULL && f->route->after != NULL) {
        (void)f->route->after(f, (struct slice){NULL, 0});
    }
    up_close(&f->up);
    upstream_release(f->proxy->up, f->held);
    bytes_deinit(&f->kept);
    free(f);
}
