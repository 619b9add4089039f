/* stall.c - calls whose client is slow: with its request, or in taking the answer.
 *
 * A request that does not come whole pins its call; an answer that is not taken pins more: its bytes, or one of the few large reads and snapshots
 * that all share. Calls that wait for their client stand in one line for each loop, in the order in which they last moved, so that a single timer
 * watches all of them and moving costs two assignments. Bidirectional streams may rest for ever; what they hold is bounded elsewhere (HELD_BYTES).
 */
#include "api/grpc/call.h"
#include "base/assert.h"

static void on_stalled(struct loop *l, struct loop_timer *t)
{
    struct call_home *h = CONTAINER_OF(t, struct call_home, slow_timer);
    uint64_t now = loop_now_ms(l);
    while (h->slow != NULL && h->slow->slow_since_ms + CALL_STALL_MS <= now) {
        struct grpc_call *c = grpc_call_ref(h->slow);
        call_slow_end(c);
        grpc_abort(c, GRPC_DEADLINE_EXCEEDED);
        grpc_call_unref(&c);
    }
    if (h->slow != NULL) {
        loop_timer_set(l, t, h->slow->slow_since_ms + CALL_STALL_MS);
    }
}

void call_slow_attach(struct call_home *h)
{
    h->slow_last = &h->slow;
    h->slow_timer.fire = on_stalled;
}

void call_slow_detach(struct call_home *h)
{
    loop_timer_clear(h->loop, &h->slow_timer);
}

void call_slow_begin(struct grpc_call *c)
{
    struct call_home *h = c->home;
    if (c->slow_prev != NULL || c->in_process || c->method->kind == GRPC_BIDI) {
        return;
    }
    c->slow_since_ms = loop_now_ms(h->loop);
    c->slow_bytes = 0;
    c->slow_next = NULL;
    c->slow_prev = h->slow_last;
    *h->slow_last = c;
    h->slow_last = &c->slow_next;
    if (h->slow_timer.heap_pos == 0) {
        loop_timer_set(h->loop, &h->slow_timer, c->slow_since_ms + CALL_STALL_MS);
    }
}

void call_slow_end(struct grpc_call *c)
{
    if (c->slow_prev == NULL) {
        return;
    }
    *c->slow_prev = c->slow_next;
    if (c->slow_next != NULL) {
        c->slow_next->slow_prev = c->slow_prev;
    } else {
        c->home->slow_last = c->slow_prev;
    }
    c->slow_prev = NULL;
}

void call_slow_moved(struct grpc_call *c, size_t bytes)
{
    c->slow_bytes += bytes;
    if (c->slow_prev != NULL && c->slow_bytes >= CALL_STEP_BYTES) {
        call_slow_end(c);
        call_slow_begin(c);
    }
}
