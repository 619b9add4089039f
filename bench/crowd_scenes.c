/* crowd_scenes.c - what the clients of each scene send: HTTP/2 frames by hand, right or wrong. */
#include <stdio.h>
#include <string.h>

#include "base/assert.h"
#include "bench/crowd.h"

enum frame { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION };
#define END_STREAM 1u
#define END_HEADERS 4u

static const char big_prefix[] = "crowd/big/"; /* bench/compare-crowd fills it */
static const char busy_prefix[] = "busy/";     /* pintle-bench probe writes there */

static void put32(struct bytes *b, uint32_t v)
{
    const uint8_t p[4] = {(uint8_t)(v >> 24), (uint8_t)(v >> 16), (uint8_t)(v >> 8), (uint8_t)v};
    bytes_add(b, p, sizeof(p));
}

static void put_frame(struct bytes *b, enum frame kind, uint8_t flags, uint32_t stream, const void *payload, size_t n)
{
    const uint8_t head[5] = {(uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n, (uint8_t)kind, flags};
    bytes_add(b, head, sizeof(head));
    put32(b, stream);
    bytes_add(b, payload, n);
}

static void put_setting(struct bytes *b, uint8_t id, uint32_t value)
{
    const uint8_t p[6] = {0, id, (uint8_t)(value >> 24), (uint8_t)(value >> 16), (uint8_t)(value >> 8), (uint8_t)value};
    put_frame(b, SETTINGS, 0, 0, p, sizeof(p));
}

/* The preface, and windows as wide as they get. */
static void hello(struct guest *g)
{
    bytes_add_str(&g->out, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    put_setting(&g->out, 4, INT32_MAX);
    put_frame(&g->out, WINDOW_UPDATE, 0, 0, "\x3f\xff\0\0", 4);
    g->stream = 1;
}

/* A literal that stays out of the table; both are shorter than 127 bytes. */
static void put_field(struct bytes *b, const char *name, const char *value)
{
    uint8_t n = (uint8_t)strlen(name);
    uint8_t v = (uint8_t)strlen(value);
    ASSERT(n < 127 && v < 127);
    bytes_add(b, "\0", 1);
    bytes_add(b, &n, 1);
    bytes_add(b, name, n);
    bytes_add(b, &v, 1);
    bytes_add(b, value, v);
}

static void put_head(struct bytes *out, uint32_t stream, const char *path, bool whole)
{
    struct bytes b = {0};
    bytes_add(&b, "\x83\x86", 2); /* POST, http */
    put_field(&b, ":path", path);
    put_field(&b, ":authority", "localhost");
    put_field(&b, "content-type", "application/grpc");
    put_field(&b, "te", "trailers");
    put_frame(out, HEADERS, whole ? END_HEADERS : 0, stream, b.data, b.len);
    bytes_deinit(&b);
}

/* A message whose fields 1 and 2 are `key` and what lies behind all keys that begin with it; `outer`: it is field 1 of another one. */
static void put_range(struct bytes *out, uint32_t stream, const char *key, bool prefix, bool outer, bool last)
{
    uint8_t n = (uint8_t)strlen(key);
    struct bytes b = {0};
    bytes_add(&b, "\x0a", 1);
    bytes_add(&b, &n, 1);
    bytes_add(&b, key, n);
    if (prefix) {
        bytes_add(&b, "\x12", 1);
        bytes_add(&b, &n, 1);
        bytes_add(&b, key, n);
        b.data[b.len - 1]++;
    }
    struct bytes message = {0};
    uint8_t size = (uint8_t)b.len;
    bytes_add(&message, "\0\0\0\0", 4);
    uint8_t whole = (uint8_t)(outer ? size + 2 : size);
    bytes_add(&message, &whole, 1);
    if (outer) {
        bytes_add(&message, "\x0a", 1);
        bytes_add(&message, &size, 1);
    }
    bytes_add(&message, b.data, b.len);
    put_frame(out, DATA, last ? END_STREAM : 0, stream, message.data, message.len);
    bytes_deinit(&b);
    bytes_deinit(&message);
}

/* --- scenes ------------------------------------------------------------------------------------------------------ */

static void large_range(struct guest *g)
{
    hello(g);
    put_head(&g->out, 1, "/etcdserverpb.KV/Range", true);
    put_range(&g->out, 1, big_prefix, true, false, true);
}

static void busy_watch(struct guest *g)
{
    hello(g);
    put_head(&g->out, 1, "/etcdserverpb.Watch/Watch", true);
    put_range(&g->out, 1, busy_prefix, true, true, false);
}

static void one_get(struct guest *g)
{
    hello(g);
    put_head(&g->out, 1, "/etcdserverpb.KV/Range", true);
    put_range(&g->out, 1, "busy/0", false, false, true);
}

/* One list of headers without end. */
static void header_flood(struct guest *g)
{
    struct bytes block = {0};
    if (g->stream == 1) {
        put_head(&g->out, 1, "/etcdserverpb.KV/Range", false);
        g->stream = 3;
    }
    while (block.len < 16000) {
        put_field(&block, "x-some-header", "a value that nobody asked for, and that has to be looked at all the same");
    }
    for (unsigned i = 0; i < 4; i++) {
        put_frame(&g->out, CONTINUATION, 0, 1, block.data, block.len);
    }
    bytes_deinit(&block);
}

/* Requests that are given up as soon as they are made. */
static void reset_flood(struct guest *g)
{
    while (g->out.len < CROWD_CHUNK_BYTES) {
        put_head(&g->out, g->stream, "/etcdserverpb.KV/Range", true);
        put_range(&g->out, g->stream, "busy/0", false, false, true);
        put_frame(&g->out, RST_STREAM, 0, g->stream, "\0\0\0\x8", 4);
        g->stream += 2;
    }
}

static void ping_flood(struct guest *g)
{
    while (g->out.len < CROWD_CHUNK_BYTES) {
        put_frame(&g->out, PING, 0, 0, "12345678", 8);
    }
}

static void settings_flood(struct guest *g)
{
    while (g->out.len < CROWD_CHUNK_BYTES) {
        put_setting(&g->out, 4, 65535u + g->stream++ % 2);
    }
}

static void priority_flood(struct guest *g)
{
    while (g->out.len < CROWD_CHUNK_BYTES) {
        put_frame(&g->out, PRIORITY, 0, 3, "\0\0\0\0\x10", 5);
    }
}

/* Thirds of the crowd dawdle at different places. */
static void dawdle(struct guest *g)
{
    static const char *const texts[] = {
        "\x16\x03\x01\x02\x01\x01\x01\xfc\x03\x03", /* a ClientHello; NULs follow */
        "GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        "POST /v3/kv/range HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n",
    };
    const char *text = texts[g->number % 3];
    bytes_add_str(&g->out, text);
    memset(bytes_reserve(&g->out, 200), g->number % 3 == 0 ? 1 : 'a', 200);
    g->out.len += 200;
    g->out_at = g->number % 3 == 2 ? strlen(text) : 1; /* this much at once */
}

static const struct scene scenes[] = {
    {.name = "idle", .settings = true, .first = hello},
    {.name = "idle-tls", .secure = true, .settings = true, .first = hello},
    {.name = "stalled-range", .deaf = true, .first = large_range},
    {.name = "stalled-watch", .deaf = true, .first = busy_watch},
    {.name = "headers", .first = hello, .more = header_flood},
    {.name = "resets", .first = hello, .more = reset_flood},
    {.name = "pings", .first = hello, .more = ping_flood},
    {.name = "settings", .first = hello, .more = settings_flood},
    {.name = "priority", .first = hello, .more = priority_flood},
    {.name = "dawdle", .trickle = true, .first = dawdle},
    {.name = "churn", .once = true, .first = one_get},
    {.name = "churn-tls", .secure = true, .once = true, .first = one_get},
};

const struct scene *scene_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
        if (strcmp(scenes[i].name, name) == 0) {
            return &scenes[i];
        }
    }
    return NULL;
}

void scene_list(FILE *to)
{
    for (size_t i = 0; i < ARRAY_LEN(scenes); i++) {
        (void)fprintf(to, " %s", scenes[i].name);
    }
    (void)fputc('\n', to);
}
