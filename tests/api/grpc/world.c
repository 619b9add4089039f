/* world.c - see world.h. The service: Echo answers what it got, Fail a status, Keep nothing until
 * the test does, Bidi echoes every message, Count sends as many messages as its request has bytes,
 * Bulk a source of 1 MiB, Broken a source that fails halfway, Hold nothing at all. */
#include "tests/api/grpc/world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"

#define BULK_BYTES (1024u * 1024u)

/* --- service
 * ---------------------------------------------------------------------------------------- */

static struct world *world_of(struct grpc_call *c)
{
    return grpc_call_service(c);
}

static void on_started(struct grpc_call *c)
{
    world_of(c)->n_started++;
}

static void on_half_closed(struct grpc_call *c)
{
    world_of(c)->n_half_closed++;
    grpc_finish(c, GRPC_OK, NULL);
}

static void on_ended(struct grpc_call *c)
{
    world_of(c)->n_ended++;
}

static void saw(struct grpc_call *c, struct slice m)
{
    world_of(c)->n_messages++;
    world_of(c)->last_len = m.len;
}

static void echo(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    grpc_reply(c, &m, 1);
}

static void refuse(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    grpc_finish(c, GRPC_FAILED_PRECONDITION, "100% wrong\n\xc3\xa9");
}

static void keep(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    world_of(c)->kept = grpc_call_ref(c);
}

static void bidi(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    grpc_send(c, &m, 1);
}

static void count(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    for (size_t i = 0; i < m.len; i++) {
        struct slice one = slice_of(m.data + i, 1);
        grpc_send(c, &one, 1);
    }
    grpc_finish(c, GRPC_OK, NULL);
}

struct bulk {
    struct grpc_source source;
    struct world *w;
    struct grpc_call *call;
    size_t at;
    size_t fail_at;
};

static size_t bulk_pull(struct grpc_source *s, uint8_t *dst, size_t room)
{
    struct bulk *b = (struct bulk *)s;
    if (b->at >= b->fail_at) {
        grpc_abort(b->call, GRPC_INTERNAL);
        return 0;
    }
    size_t n = room < 1000 ? room : 1000;
    for (size_t i = 0; i < n; i++) {
        dst[i] = (uint8_t)(b->at + i);
    }
    b->at += n;
    return n;
}

static void bulk_release(struct grpc_source *s)
{
    ((struct bulk *)s)->w->n_released++;
    free(s);
}

static void send_bulk(struct grpc_call *c, size_t fail_at)
{
    struct bulk *b = xcalloc(1, sizeof(*b));
    b->source = (struct grpc_source){bulk_pull, bulk_release};
    b->w = world_of(c);
    b->call = c;
    b->fail_at = fail_at;
    grpc_send_source(c, BULK_BYTES, &b->source);
}

static void bulk(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    struct slice s = slice_str("before");
    grpc_send(c, &s, 1);
    send_bulk(c, SIZE_MAX);
    s = slice_str("after");
    grpc_send(c, &s, 1);
    grpc_finish(c, GRPC_OK, NULL);
}

static void broken(struct grpc_call *c, struct slice m)
{
    saw(c, m);
    send_bulk(c, BULK_BYTES / 2);
    grpc_finish(c, GRPC_OK, NULL);
}

static const struct grpc_method rows[] = {
    {.path = "/t.S/Echo", .kind = GRPC_UNARY, .message = echo, .ended = on_ended},
    {.path = "/t.S/Fail", .kind = GRPC_UNARY, .message = refuse, .ended = on_ended},
    {.path = "/t.S/Keep", .kind = GRPC_UNARY, .message = keep, .ended = on_ended},
    {.path = "/t.S/Hold", .kind = GRPC_SERVER_STREAM, .message = saw, .ended = on_ended},
    {.path = "/t.S/Bulk", .kind = GRPC_SERVER_STREAM, .message = bulk, .ended = on_ended},
    {.path = "/t.S/Broken", .kind = GRPC_UNARY, .message = broken, .ended = on_ended},
    {.path = "/t.S/Count",
     .kind = GRPC_SERVER_STREAM,
     .message = count,
     .started = on_started,
     .ended = on_ended},
    {.path = "/t.S/Bidi",
     .kind = GRPC_BIDI,
     .message = bidi,
     .started = on_started,
     .half_closed = on_half_closed,
     .ended = on_ended},
    {.path = NULL},
};

static bool admit(void *arg, struct grpc_call *c)
{
    struct world *w = arg;
    w->n_admitted++;
    if (w->refuse_all) {
        grpc_finish(c, GRPC_UNAVAILABLE, "not now");
        return false;
    }
    return true;
}

static void no_http(void *arg, struct http_exchange *x, const struct http_request *r)
{
    (void)arg;
    (void)r;
    http_respond(x, 404, "text/plain", NULL, slice_str("404 page not found\n"));
}

/* --- client
 * ----------------------------------------------------------------------------------------- */

static struct reply *reply_of(struct world *w, int32_t id)
{
    for (size_t i = 0; i < w->n_replies; i++) {
        if (w->replies[i].id == id) {
            return &w->replies[i];
        }
    }
    return NULL;
}

static void put(char *dst, size_t room, const uint8_t *v, size_t len)
{
    size_t n = len < room - 1 ? len : room - 1;
    if (n > 0) {
        memcpy(dst, v, n);
    }
    dst[n] = '\0';
}

static int on_header(nghttp2_session *s, const nghttp2_frame *f, const uint8_t *name,
                     size_t name_len, const uint8_t *v, size_t len, uint8_t flags, void *arg)
{
    (void)s;
    (void)flags;
    struct reply *r = reply_of(arg, f->hd.stream_id);
    struct slice n = slice_of(name, name_len);
    if (slice_eq(n, slice_str(":status"))) {
        put(r->http_status, sizeof(r->http_status), v, len);
    } else if (slice_eq(n, slice_str("grpc-status"))) {
        put(r->status, sizeof(r->status), v, len);
    } else if (slice_eq(n, slice_str("grpc-message"))) {
        put(r->message, sizeof(r->message), v, len);
    } else if (slice_eq(n, slice_str("content-type"))) {
        put(r->content_type, sizeof(r->content_type), v, len);
    }
    return 0;
}

static int on_frame(nghttp2_session *s, const nghttp2_frame *f, void *arg)
{
    (void)s;
    struct world *w = arg;
    if (f->hd.type == NGHTTP2_HEADERS) {
        reply_of(w, f->hd.stream_id)->n_heads++;
    } else if (f->hd.type == NGHTTP2_PING) {
        if ((f->hd.flags & NGHTTP2_FLAG_ACK) != 0) {
            w->n_ping_acks++;
        } else {
            w->n_pings++;
        }
    } else if (f->hd.type == NGHTTP2_GOAWAY) {
        w->goaway = true;
        w->goaway_code = f->goaway.error_code;
        w->goaway_last = f->goaway.last_stream_id;
        put(w->goaway_text, sizeof(w->goaway_text), f->goaway.opaque_data,
            f->goaway.opaque_data_len);
    }
    return 0;
}

static int on_data(nghttp2_session *s, uint8_t flags, int32_t id, const uint8_t *data, size_t len,
                   void *arg)
{
    (void)s;
    (void)flags;
    struct reply *r = reply_of(arg, id);
    r->n_data++;
    bytes_add(&r->body, data, len);
    return 0;
}

static int on_close(nghttp2_session *s, int32_t id, uint32_t error, void *arg)
{
    (void)s;
    struct reply *r = reply_of(arg, id);
    r->closed = true;
    r->error = error;
    return 0;
}

static ssize_t on_read(nghttp2_session *s, int32_t id, uint8_t *buf, size_t room, uint32_t *flags,
                       nghttp2_data_source *src, void *arg)
{
    (void)s;
    (void)id;
    (void)arg;
    struct reply *r = src->ptr;
    size_t n = r->request.len - r->request_at;
    n = n < room ? n : room;
    if (n > 0) {
        memcpy(buf, r->request.data + r->request_at, n);
    }
    r->request_at += n;
    if (r->request_at == r->request.len && !r->request_open) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    } else if (n == 0) {
        return NGHTTP2_ERR_DEFERRED;
    }
    return (ssize_t)n;
}

static void client_open(struct world *w, size_t window)
{
    nghttp2_session_callbacks *cb;
    assert_int_equal(nghttp2_session_callbacks_new(&cb), 0);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option *o;
    assert_int_equal(nghttp2_option_new(&o), 0);
    if (window != 0) {
        nghttp2_option_set_no_auto_window_update(o, 1);
    }
    assert_int_equal(nghttp2_session_client_new2(&w->client, cb, w, o), 0);
    nghttp2_option_del(o);
    nghttp2_session_callbacks_del(cb);
    const nghttp2_settings_entry e[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, window == 0 ? 65535 : (uint32_t)window}};
    assert_int_equal(nghttp2_submit_settings(w->client, 0, e, 1), 0);
}

static void flush(struct loop *l, void *arg)
{
    (void)l;
    hub_flush(arg);
}

struct world *world_open(const struct world_options *o)
{
    static const struct world_options none;
    o = o == NULL ? &none : o;
    struct world *w = xcalloc(1, sizeof(*w));
    struct grpc_method *table = xalloc(sizeof(rows));
    memcpy(table, rows, sizeof(rows));
    for (struct grpc_method *m = table; m->path != NULL; m++) {
        m->service = w;
    }
    const struct grpc_method **tables = xcalloc(2, sizeof(*tables));
    tables[0] = table;
    w->loop = loop_create(0);
    const struct grpc_server_config cfg = {
        .limits = {.recv_bytes_max = WORLD_RECV_MAX,
                   .concurrent_streams_max = o->streams_max == 0 ? UINT32_MAX : o->streams_max,
                   .keepalive_min_ms = 5000,
                   .keepalive_interval_ms = o->keepalive_interval_ms,
                   .keepalive_timeout_ms = 20000},
        .tables = tables,
        .http = {no_http, NULL},
        .admit = admit,
        .admit_arg = w,
    };
    w->server = grpc_server_create(&cfg);
    grpc_http_config(w->server, &w->http);
    hub_init(&w->hub, w->loop, &w->http);
    w->hub.flush_hook = (struct loop_hook){.run = flush, .arg = &w->hub};
    loop_hook_add_last(w->loop, &w->hub.flush_hook);
    mem_open(&w->mc, &w->hub);
    client_open(w, o->window);
    world_turn(w);
    return w;
}

void world_close(struct world **wp)
{
    struct world *w = *wp;
    *wp = NULL;
    const struct grpc_method *const *tables = server_config(w->server)->tables;
    if (w->kept != NULL) {
        grpc_call_unref(&w->kept);
    }
    hub_deinit(&w->hub);
    loop_destroy(&w->loop);
    grpc_server_destroy(&w->server);
    nghttp2_session_del(w->client);
    for (size_t i = 0; i < w->n_replies; i++) {
        bytes_deinit(&w->replies[i].body);
        bytes_deinit(&w->replies[i].request);
    }
    bytes_deinit(&w->mc.out);
    free((void *)(uintptr_t)tables[0]);
    free((void *)(uintptr_t)tables);
    free(w);
}

void world_turn(struct world *w)
{
    for (unsigned i = 0; i < 10000; i++) {
        bool busy = false;
        if (!w->mute) {
            const uint8_t *p;
            ssize_t n;
            while ((n = nghttp2_session_mem_send(w->client, &p)) > 0) {
                busy = true;
                if (!w->mc.closed) {
                    conn_input(&w->mc.conn, slice_of(p, (size_t)n));
                }
            }
        }
        hub_flush(&w->hub);
        if (w->mc.out.len > 0) {
            busy = true;
            ssize_t n = nghttp2_session_mem_recv(w->client, w->mc.out.data, w->mc.out.len);
            assert_int_equal(n, (ssize_t)w->mc.out.len);
            bytes_reset(&w->mc.out);
        }
        if (!busy && w->hub.dirty == NULL) {
            return;
        }
    }
    fail_msg("the exchange does not come to rest");
}

static nghttp2_nv field(const char *name, const char *value)
{
    return (nghttp2_nv){(uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, strlen(name),
                        strlen(value), 0};
}

struct reply *world_request(struct world *w, const char *path, const char *const *more,
                            size_t n_more, const void *body, size_t len, bool open)
{
    assert_true(w->n_replies < REPLIES_MAX && n_more <= 8);
    struct reply *r = &w->replies[w->n_replies++];
    bytes_add(&r->request, body, len);
    r->request_open = open;
    nghttp2_nv nv[16] = {field(":method", "POST"),
                         field(":scheme", "http"),
                         field(":path", path),
                         field(":authority", "t"),
                         field("content-type", "application/grpc"),
                         field("te", "trailers")};
    size_t n = 6;
    for (size_t i = 0; i < n_more; i++) {
        nghttp2_nv f = field(more[2 * i], more[2 * i + 1]);
        size_t at = n;
        for (size_t j = 0; j < n; j++) {
            if (nv[j].namelen == f.namelen && memcmp(nv[j].name, f.name, f.namelen) == 0) {
                at = j;
            }
        }
        nv[at] = f;
        n += at == n ? 1 : 0;
    }
    const nghttp2_data_provider data = {.source.ptr = r, .read_callback = on_read};
    r->id = nghttp2_submit_request(w->client, NULL, nv, n, &data, NULL);
    assert_true(r->id > 0);
    return r;
}

void world_add(struct world *w, struct reply *r, const void *body, size_t len, bool open)
{
    bytes_add(&r->request, body, len);
    r->request_open = open;
    (void)nghttp2_session_resume_data(w->client, r->id);
    world_turn(w);
}

size_t world_frame(uint8_t *out, const void *message, size_t len)
{
    out[0] = 0;
    out[1] = (uint8_t)(len >> 24);
    out[2] = (uint8_t)(len >> 16);
    out[3] = (uint8_t)(len >> 8);
    out[4] = (uint8_t)len;
    memcpy(out + 5, message, len);
    return len + 5;
}

struct reply *world_call(struct world *w, const char *path, const char *text)
{
    uint8_t frame[256];
    size_t n = world_frame(frame, text, strlen(text));
    struct reply *r = world_request(w, path, NULL, 0, frame, n, false);
    world_turn(w);
    return r;
}
