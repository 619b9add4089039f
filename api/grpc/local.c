/* local.c - see local.h. A call whose peer is in this process: `call.c` queues as for a stream, and the maker takes the place of nghttp2. */
#include "api/grpc/local.h"

#include "api/grpc/call.h"
#include "base/assert.h"

/* --- lists, in no order that matters ------------------------------------------------------- */

void local_news(struct grpc_local *l)
{
    if (l->prev_ready != NULL) {
        return;
    }
    struct grpc_local **p = &l->call->home->ready;
    l->next_ready = *p;
    l->prev_ready = p;
    if (*p != NULL) {
        (*p)->prev_ready = &l->next_ready;
    }
    *p = l;
}

static void unlist(struct grpc_local *l)
{
    if (l->prev_ready != NULL) {
        *l->prev_ready = l->next_ready;
        if (l->next_ready != NULL) {
            l->next_ready->prev_ready = l->prev_ready;
        }
        l->prev_ready = NULL;
        l->next_ready = NULL;
    }
}

/* Whoever is told may open, close and cause news of others; what is caused now comes in the next round. */
bool local_run(struct call_home *h)
{
    struct grpc_local *now = h->ready;
    h->ready = NULL;
    if (now == NULL) {
        return false;
    }
    now->prev_ready = &now;
    while (now != NULL) {
        struct grpc_local *l = now;
        unlist(l);
        l->ready(l);
    }
    /* What they have asked for since then is handed over by hooks that have run already in this turn. */
    loop_again(h->loop);
    return true;
}

void local_detach(struct call_home *h)
{
    ASSERT(h->detached);
    while (h->locals != NULL) {
        struct grpc_local *l = h->locals;
        grpc_abort(l->call, GRPC_UNAVAILABLE);
        unlist(l);
        l->ready(l);
        ASSERT(h->locals != l); /* a maker closes what has ended */
    }
}

/* --- public ---------------------------------------------------------------------------------------------------------------- */

static void set_key(struct grpc_call *c, enum call_key key, struct slice value)
{
    if (value.data != NULL) {
        c->keys[key] = call_keep(c, value);
    }
}

bool grpc_local_open(struct grpc_local *l, struct grpc_server *s, struct loop *loop, const struct grpc_local_head *head)
{
    ASSERT(l->call == NULL && l->ready != NULL);
    struct call_home *h = server_home(s, loop);
    if (h == NULL || h->detached) {
        return false;
    }
    struct grpc_call *c = call_open(h);
    c->in_process = true;
    c->inner = head->inner;
    c->local = l;
    c->post = true;
    c->content_type_ok = true;
    c->row = server_find(s, slice_str(head->path));
    if (c->row != NULL) {
        c->method = c->row->method;
    } else {
        c->path = call_keep(c, slice_str(head->path));
    }
    set_key(c, KEY_TOKEN, head->token);
    set_key(c, KEY_AUTHORIZATION, head->authorization);
    set_key(c, KEY_HASLEADER, head->hasleader);
    set_key(c, KEY_CLIENT_API_VERSION, head->client_api_version);
    set_key(c, KEY_COMMON_NAME, head->common_name);
    if (head->from_gateway) {
        set_key(c, KEY_GATEWAY_ACCEPT, slice_str("*/*"));
    }
    uint64_t now = loop_now_ms(loop);
    if (head->timeout_ms < UINT64_MAX - now) {
        c->deadline_ms = now + head->timeout_ms;
    }
    l->call = c;
    l->next = h->locals;
    l->prev = &h->locals;
    if (l->next != NULL) {
        l->next->prev = &l->next;
    }
    h->locals = l;
    call_request(c);
    return true;
}

bool grpc_local_is_open(const struct grpc_local *l)
{
    return l->call != NULL;
}

void grpc_local_send(struct grpc_local *l, struct slice message)
{
    struct grpc_call *c = l->call;
    if (!c->finished && call_length_is_allowed(c, message.len)) {
        call_message(c, message);
    }
}

void grpc_local_half_close(struct grpc_local *l)
{
    call_half_closed(l->call);
}

size_t grpc_local_take(struct grpc_local *l, uint8_t *dst, size_t room)
{
    bool last = false;
    int64_t n = call_pull(l->call, dst, room, &last);
    return n < 0 ? 0 : (size_t)n; /* a source that failed has ended the call */
}

bool grpc_local_ended(const struct grpc_local *l, enum grpc_code *code, struct slice *text)
{
    const struct grpc_call *c = l->call;
    if (!c->finished || grpc_call_queued_bytes(c) > 0) {
        return false;
    }
    *code = c->code;
    *text = c->text;
    return true;
}

void grpc_local_drain(struct grpc_local *l)
{
    if (l->call != NULL) {
        call_draining(l->call);
    }
}

void grpc_local_close(struct grpc_local *l)
{
    struct grpc_call *c = l->call;
    if (c == NULL) {
        return;
    }
    unlist(l);
    *l->prev = l->next;
    if (l->next != NULL) {
        l->next->prev = l->prev;
    }
    l->call = NULL;
    c->local = NULL;
    call_closed(c);
}
