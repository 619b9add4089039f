/* call.c - the life of a call and the queue of its answer.
 *
 *     open ──request──► running ──finish──► finished ──stream closed──► closed ──last reference──►
 * pool └───────────── reset, connection lost ──────────┘
 *
 * Response headers go out with the first message, or together with the status when there is none.
 * Bytes wait in the call until nghttp2 pulls them; a status waits behind them. `ended` is called
 * from the stream's close or from the deadline, never from inside a function that a service called.
 */
#include <stdlib.h>

#include "api/grpc/call.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

static const nghttp2_nv head_fields[] = {
    H2_NV(":status", "200"),
    H2_NV("content-type", "application/grpc"),
};
static const nghttp2_nv ok_trailers[] = {
    H2_NV("grpc-status", "0"),
};

/* --- life
 * ------------------------------------------------------------------------------------------- */

static void on_deadline(struct loop *l, struct loop_timer *t);

struct grpc_call *call_open(struct call_home *h)
{
    struct grpc_call *c = h->pool;
    if (c == NULL) {
        c = xcalloc(1, sizeof(*c));
    } else {
        h->pool = c->next;
        h->n_pool--;
    }
    c->home = h;
    c->refs = 1;
    c->deadline_ms = UINT64_MAX;
    c->timer.fire = on_deadline;
    return c;
}

static void keep_small(struct bytes *b)
{
    bytes_reset(b);
    if (b->cap > CALL_KEEP_BYTES) {
        bytes_deinit(b);
    }
}

static void free_call(struct grpc_call *c)
{
    arena_destroy(&c->arena);
    bytes_deinit(&c->in);
    bytes_deinit(&c->out);
    bytes_deinit(&c->after);
    free(c);
}

static void recycle(struct grpc_call *c)
{
    struct call_home *h = c->home;
    ASSERT(c->closed && c->source == NULL && !c->drain_listed && c->slow_prev == NULL);
    if (h->detached || h->n_pool >= CALL_POOL_MAX) {
        free_call(c);
        return;
    }
    keep_small(&c->in);
    keep_small(&c->out);
    bytes_deinit(&c->after);
    if (c->arena != NULL) {
        arena_reset(c->arena);
    }
    struct arena *arena = c->arena;
    struct bytes in = c->in;
    struct bytes out = c->out;
    memset(c, 0, sizeof(*c));
    c->arena = arena;
    c->in = in;
    c->out = out;
    c->next = h->pool;
    h->pool = c;
    h->n_pool++;
}

void call_pool_free(struct call_home *h)
{
    while (h->pool != NULL) {
        struct grpc_call *c = h->pool;
        h->pool = c->next;
        free_call(c);
    }
    h->n_pool = 0;
}

struct grpc_call *grpc_call_ref(struct grpc_call *c)
{
    ASSERT(c->refs > 0);
    c->refs++;
    return c;
}

void grpc_call_unref(struct grpc_call **cp)
{
    struct grpc_call *c = *cp;
    *cp = NULL;
    if (c == NULL) {
        return;
    }
    ASSERT(c->refs > 0);
    c->refs--;
    if (c->refs == 0) {
        recycle(c);
    }
}

static void release_source(struct grpc_call *c)
{
    struct grpc_source *s = c->source;
    if (s != NULL) {
        c->source = NULL;
        c->source_left = 0;
        s->release(s);
    }
}

static void tell_ended(struct grpc_call *c)
{
    if (c->told_ended || !c->running) {
        return;
    }
    c->told_ended = true;
    if (c->method->ended != NULL) {
        c->method->ended(c);
    }
}

/* --- the way to the peer: a stream, or whoever made the call in this process
 * ------------------------------------- */

static void account(struct grpc_call *c)
{
    if (!c->in_process) {
        h2_queued_set(&c->stream, c->out.len - c->out_at + c->after.len);
    }
}

static void tell_local(struct grpc_call *c)
{
    if (c->local != NULL) {
        local_news(c->local);
    }
}

static void drop_queue(struct grpc_call *c)
{
    call_slow_end(c);
    release_source(c);
    keep_small(&c->out);
    bytes_deinit(&c->after);
    c->out_at = 0;
    account(c);
}

void call_handled(struct grpc_call *c, enum grpc_code code)
{
    if (!c->counted) {
        return;
    }
    uint64_t took_ms = loop_now_ms(c->home->loop) - c->began_ms;
    counter_add(c->row->handled[code], 1);
    if (c->row->seconds != NULL) {
        histogram_observe(c->row->seconds, (double)took_ms / 1e3);
    }
    const struct grpc_server_config *cfg = server_config(c->home->server);
    if (cfg->ended != NULL && c->method->kind == GRPC_UNARY) {
        uint64_t took_ns = clock_now_ns(clock_real()) - c->began_ns;
        cfg->ended(cfg->admit_arg, c, &(struct grpc_end){took_ns, c->received_bytes, c->sent_bytes, code});
    }
}

bool call_admit(struct grpc_call *c)
{
    if (c->inner) {
        return true;
    }
    c->counted = true;
    c->began_ms = loop_now_ms(c->home->loop);
    c->began_ns = server_config(c->home->server)->ended == NULL ? 0 : clock_now_ns(clock_real());
    counter_add(c->row->started, 1);
    return server_admit(c);
}

void call_closed(struct grpc_call *c)
{
    ASSERT(!c->closed);
    c->closed = true;
    loop_timer_clear(c->home->loop, &c->timer);
    drop_queue(c);
    if (!c->finished) {
        call_handled(c, GRPC_CANCELED);
    }
    tell_ended(c);
    grpc_call_unref(&c);
}

/* --- status
 * ----------------------------------------------------------------------------------------- */

static bool silent(const struct grpc_call *c)
{
    return c->finished || c->closed;
}

void call_draining(struct grpc_call *c)
{
    if (c->running && !silent(c) && c->method->draining != NULL) {
        c->method->draining(c);
    }
}

struct slice call_keep(struct grpc_call *c, struct slice s)
{
    if (s.len == 0) {
        return slice_of("", 0);
    }
    const void *p = arena_dup(grpc_call_arena(c), s.data, s.len);
    return p == NULL ? slice_of("", 0) : slice_of(p, s.len);
}

static struct slice encoded_text(struct grpc_call *c, const char *text)
{
    if (text == NULL || text[0] == '\0') {
        return (struct slice){NULL, 0};
    }
    struct bytes b = {0};
    grpc_text_encode(&b, slice_of(text, strnlen(text, STATUS_TEXT_MAX)));
    struct slice kept = call_keep(c, bytes_slice(&b));
    bytes_deinit(&b);
    return kept;
}

/* The fields of a status; returns how many. Their bytes stay where they are until nghttp2 has
 * copied them. */
static size_t status_fields(const struct grpc_call *c, nghttp2_nv *nv)
{
    static const char status[] = "grpc-status";
    static const char message[] = "grpc-message";
    const char *digits = grpc_code_digits(c->code);
    nv[0] =
        (nghttp2_nv){(uint8_t *)(uintptr_t)status, (uint8_t *)(uintptr_t)digits, sizeof(status) - 1,
                     strlen(digits), NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE};
    if (c->text.len == 0) {
        return 1;
    }
    nv[1] = (nghttp2_nv){(uint8_t *)(uintptr_t)message, (uint8_t *)(uintptr_t)c->text.data,
                         sizeof(message) - 1, c->text.len, NGHTTP2_NV_FLAG_NO_COPY_NAME};
    return 2;
}

static void send_trailers(struct grpc_call *c)
{
    if (c->code == GRPC_OK && c->text.len == 0) {
        h2_trailers(&c->stream, ok_trailers, ARRAY_LEN(ok_trailers));
        return;
    }
    nghttp2_nv nv[2];
    h2_trailers(&c->stream, nv, status_fields(c, nv));
}

static void respond_trailers_only(struct grpc_call *c, const char *http_status)
{
    static const char status[] = ":status";
    nghttp2_nv nv[4] = {
        {(uint8_t *)(uintptr_t)status, (uint8_t *)(uintptr_t)http_status, sizeof(status) - 1,
         strlen(http_status), NGHTTP2_NV_FLAG_NO_COPY_NAME},
        head_fields[1],
    };
    size_t n = status_fields(c, nv + 2);
    h2_respond(&c->stream, nv, 2 + n, false);
}

static bool queue_is_empty(const struct grpc_call *c)
{
    return c->out_at == c->out.len && c->source == NULL && c->after.len == 0;
}

static void finish(struct grpc_call *c, enum grpc_code code, const char *text)
{
    c->finished = true;
    c->code = code;
    if (!c->in_process) {
        c->text = encoded_text(c, text);
    } else if (text != NULL) {
        c->text = call_keep(c, slice_of(text, strnlen(text, STATUS_TEXT_MAX)));
    }
    call_handled(c, code);
}

void call_refuse(struct grpc_call *c, const char *http_status, enum grpc_code code,
                 const char *text)
{
    finish(c, code, text);
    if (c->in_process) {
        tell_local(c);
    } else {
        respond_trailers_only(c, http_status);
    }
}

void grpc_finish(struct grpc_call *c, enum grpc_code code, const char *message)
{
    if (silent(c)) {
        return;
    }
    finish(c, code, message);
    if (c->in_process) {
        tell_local(c);
    } else if (c->stream.responded) {
        h2_resume(&c->stream);
    } else if (queue_is_empty(c)) {
        respond_trailers_only(c, "200");
    }
}

/* HTTP/2's nearest word for the status of a call that is cut off (gRPC over HTTP/2, "Errors"). */
static uint32_t reset_code(enum grpc_code code)
{
    switch (code) {
    case GRPC_CANCELED:
    case GRPC_DEADLINE_EXCEEDED:
        return NGHTTP2_CANCEL;
    case GRPC_UNAVAILABLE:
        return NGHTTP2_REFUSED_STREAM;
    case GRPC_RESOURCE_EXHAUSTED:
        return NGHTTP2_ENHANCE_YOUR_CALM;
    case GRPC_PERMISSION_DENIED:
        return NGHTTP2_INADEQUATE_SECURITY;
    case GRPC_OK:
    case GRPC_UNKNOWN:
    case GRPC_INVALID_ARGUMENT:
    case GRPC_NOT_FOUND:
    case GRPC_ALREADY_EXISTS:
    case GRPC_FAILED_PRECONDITION:
    case GRPC_ABORTED:
    case GRPC_OUT_OF_RANGE:
    case GRPC_UNIMPLEMENTED:
    case GRPC_INTERNAL:
    case GRPC_DATA_LOSS:
    case GRPC_UNAUTHENTICATED:
        return NGHTTP2_INTERNAL_ERROR;
    }
    UNREACHABLE();
}

void grpc_abort(struct grpc_call *c, enum grpc_code code)
{
    if (c->closed || c->stream.reset) {
        return;
    }
    if (!c->finished) {
        finish(c, code, NULL);
    } else if (c->in_process && c->code == GRPC_OK) {
        c->code = code; /* the maker has no stream that could be reset under it */
    }
    if (c->pulling) {
        return; /* the pull's failure resets the stream */
    }
    drop_queue(c);
    if (c->in_process) {
        tell_local(c);
    } else {
        h2_reset(&c->stream, reset_code(code));
    }
}

static void on_deadline(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct grpc_call *c = CONTAINER_OF(t, struct grpc_call, timer);
    (void)grpc_call_ref(c);
    if (c->finished || !queue_is_empty(c)) {
        /* The answer is stuck behind a peer that does not take it. */
        grpc_abort(c, GRPC_DEADLINE_EXCEEDED);
    } else {
        grpc_finish(c, GRPC_DEADLINE_EXCEEDED, "context deadline exceeded");
    }
    tell_ended(c);
    grpc_call_unref(&c);
}

/* --- messages
 * --------------------------------------------------------------------------------------- */

static void respond(struct grpc_call *c)
{
    call_slow_begin(c);
    if (c->in_process) {
        tell_local(c);
    } else if (c->stream.responded) {
        h2_resume(&c->stream);
    } else {
        h2_respond(&c->stream, head_fields, ARRAY_LEN(head_fields), true);
    }
}

static void count_sent(struct grpc_call *c, uint64_t len)
{
    if (!c->inner) {
        c->home->sent_bytes += len;
        c->sent_bytes += len;
        counter_add(c->row->sent, 1);
    }
}

static void put_frame_head(uint8_t *p, uint32_t len)
{
    p[0] = 0;
    p[1] = (uint8_t)(len >> 24);
    p[2] = (uint8_t)(len >> 16);
    p[3] = (uint8_t)(len >> 8);
    p[4] = (uint8_t)len;
}

/* Room for `len` bytes at the end of the queue; NULL: the queue is at its bound and the call was
 * cut off. */
static uint8_t *queue_room(struct grpc_call *c, size_t len)
{
    size_t queued = c->out.len - c->out_at + c->after.len;
    if (len > CALL_QUEUE_BYTES_MAX || queued > CALL_QUEUE_BYTES_MAX - len) {
        grpc_abort(c, GRPC_RESOURCE_EXHAUSTED);
        return NULL;
    }
    struct bytes *b = c->source != NULL ? &c->after : &c->out;
    if (b == &c->out && c->out_at > c->out.len / 2) {
        memmove(b->data, b->data + c->out_at, b->len - c->out_at);
        b->len -= c->out_at;
        c->out_at = 0;
    }
    uint8_t *p = bytes_reserve(b, len);
    b->len += len;
    return p;
}

void grpc_send(struct grpc_call *c, const struct slice *pieces, size_t n)
{
    if (silent(c)) {
        return;
    }
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        len += pieces[i].len;
    }
    uint8_t *p = queue_room(c, FRAME_HEAD_BYTES + len);
    if (p == NULL) {
        return;
    }
    put_frame_head(p, (uint32_t)len);
    p += FRAME_HEAD_BYTES;
    for (size_t i = 0; i < n; i++) {
        if (pieces[i].len > 0) {
            memcpy(p, pieces[i].data, pieces[i].len);
            p += pieces[i].len;
        }
    }
    count_sent(c, len);
    account(c);
    respond(c);
}

void grpc_send_source(struct grpc_call *c, uint64_t len, struct grpc_source *s)
{
    if (silent(c)) {
        s->release(s);
        return;
    }
    ASSERT(c->source == NULL && len > 0 && len <= UINT32_MAX);
    uint8_t *p = queue_room(c, FRAME_HEAD_BYTES);
    if (p == NULL) {
        s->release(s);
        return;
    }
    put_frame_head(p, (uint32_t)len);
    c->source = s;
    c->source_left = len;
    count_sent(c, len);
    account(c);
    respond(c);
    if (!c->in_process) {
        h2_urgency(&c->stream, 5, true); /* bulk gives way to small answers beside it */
    }
}

void grpc_reply(struct grpc_call *c, const struct slice *pieces, size_t n)
{
    grpc_send(c, pieces, n);
    grpc_finish(c, GRPC_OK, NULL);
}

/* --- what nghttp2 pulls
 * ------------------------------------------------------------------------------ */

static size_t take_out(struct grpc_call *c, uint8_t *dst, size_t room)
{
    size_t n = c->out.len - c->out_at;
    n = n < room ? n : room;
    if (n > 0) {
        memcpy(dst, c->out.data + c->out_at, n);
        c->out_at += n;
    }
    if (c->out_at == c->out.len) {
        c->out_at = 0;
        keep_small(&c->out);
    }
    return n;
}

/* Bytes from the source, 0 when it failed. At its end what was queued behind it becomes the queue.
 */
static size_t take_source(struct grpc_call *c, uint8_t *dst, size_t room)
{
    size_t n = room < c->source_left ? room : (size_t)c->source_left;
    c->pulling = true;
    size_t got = c->source->pull(c->source, dst, n);
    c->pulling = false;
    ASSERT(got <= n);
    if (got == 0) {
        return 0;
    }
    c->source_left -= got;
    if (c->source_left == 0) {
        release_source(c);
        bytes_deinit(&c->out);
        c->out = c->after;
        c->after = (struct bytes){0};
    }
    return got;
}

static size_t queued_bytes(const struct grpc_call *c)
{
    size_t left = c->source_left < SIZE_MAX / 2 ? (size_t)c->source_left : SIZE_MAX / 2;
    return c->out.len - c->out_at + left + c->after.len;
}

static void check_drain(struct grpc_call *c)
{
    if (c->drain == NULL || c->drain_listed || queued_bytes(c) > c->drain_below) {
        return;
    }
    c->drain_listed = true;
    c->drain_next = c->home->drains;
    c->home->drains = grpc_call_ref(c);
}

int64_t call_pull(struct grpc_call *c, uint8_t *dst, size_t room, bool *last)
{
    size_t n = 0;
    while (n < room) {
        n += take_out(c, dst + n, room - n);
        if (c->source == NULL || c->out_at < c->out.len || n == room) {
            break;
        }
        size_t got = take_source(c, dst + n, room - n);
        if (got == 0) {
            if (!c->finished) {
                finish(c, GRPC_INTERNAL, NULL);
            } else if (c->in_process && c->code == GRPC_OK) {
                c->code = GRPC_INTERNAL;
            }
            drop_queue(c);
            return -1;
        }
        n += got;
    }
    account(c);
    check_drain(c);
    if (queue_is_empty(c)) {
        call_slow_end(c);
    } else {
        call_slow_moved(c, n);
    }
    if (c->finished && queue_is_empty(c)) {
        *last = true;
        if (!c->in_process) {
            send_trailers(c);
        }
    }
    return (int64_t)n;
}

size_t grpc_call_queued_bytes(const struct grpc_call *c)
{
    return queued_bytes(c);
}

void grpc_call_on_drain(struct grpc_call *c, size_t below_bytes, void (*fn)(struct grpc_call *c))
{
    if (silent(c)) {
        return;
    }
    c->drain = fn;
    c->drain_below = below_bytes;
    check_drain(c);
}

bool call_run_drains(struct call_home *h)
{
    struct grpc_call *c = h->drains;
    h->drains = NULL;
    bool any = c != NULL;
    while (c != NULL) {
        struct grpc_call *next = c->drain_next;
        c->drain_listed = false;
        void (*fn)(struct grpc_call *) = c->drain;
        if (fn != NULL && !silent(c) && queued_bytes(c) <= c->drain_below) {
            c->drain = NULL;
            fn(c);
        }
        grpc_call_unref(&c);
        c = next;
    }
    return any;
}

/* --- what a call knows
 * ------------------------------------------------------------------------------ */

void *grpc_call_service(const struct grpc_call *c)
{
    return c->method->service;
}

const struct grpc_method *grpc_call_method(const struct grpc_call *c)
{
    return c->method;
}

struct loop *grpc_call_loop(const struct grpc_call *c)
{
    return c->home->loop;
}

struct arena *grpc_call_arena(struct grpc_call *c)
{
    if (c->arena == NULL) {
        c->arena = arena_create(CALL_ARENA_FIRST_BYTES, CALL_ARENA_BYTES_MAX);
    }
    return c->arena;
}

struct slice grpc_call_metadata(const struct grpc_call *c, const char *key)
{
    static const char *const names[KEY_N] = {
        [KEY_TOKEN] = "token",
        [KEY_AUTHORIZATION] = "authorization",
        [KEY_HASLEADER] = "hasleader",
        [KEY_CLIENT_API_VERSION] = "client-api-version",
        [KEY_GATEWAY_ACCEPT] = "grpcgateway-accept",
        [KEY_COMMON_NAME] = ":common-name", /* which no metadata can be called */
    };
    for (size_t i = 0; i < KEY_N; i++) {
        if (strcmp(names[i], key) == 0) {
            return c->keys[i];
        }
    }
    return (struct slice){NULL, 0};
}

struct slice grpc_call_common_name(const struct grpc_call *c)
{
    return c->in_process ? c->keys[KEY_COMMON_NAME] : slice_str(h2_common_name(&c->stream));
}

void grpc_call_remote(const struct grpc_call *c, char out[GRPC_REMOTE_BYTES])
{
    out[0] = '\0';
    if (!c->in_process) {
        h2_remote(&c->stream, out, GRPC_REMOTE_BYTES);
    }
}

uint64_t grpc_call_began_ns(const struct grpc_call *c)
{
    return c->began_ns;
}

uint64_t grpc_call_began_ms(const struct grpc_call *c)
{
    return c->began_ms;
}

uint64_t grpc_call_deadline_ms(const struct grpc_call *c)
{
    return c->deadline_ms;
}

bool grpc_call_ended(const struct grpc_call *c)
{
    return c->finished || c->closed;
}

struct grpc_server *grpc_call_server(const struct grpc_call *c)
{
    return c->home->server;
}

void **grpc_call_state(struct grpc_call *c)
{
    return &c->state;
}
