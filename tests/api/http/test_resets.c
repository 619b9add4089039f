/* Calls that are given up: who is served as ever, who in small steps, and who not any more. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/http/h2.h"
#include "base/mem.h"
#include "tests/api/http/mem_conn.h"

/* --- an owner of streams that answers when it is told to ------------------------------------------------------------ */

struct site {
    struct mem_site at;
    struct h2_stream **open; /* owned; in the order in which they were opened */
    size_t n_open;
    uint32_t next_id;
};

static void *attach(void *arg, struct loop *l)
{
    (void)l;
    return arg;
}

static void detach(void *loop_state)
{
    (void)loop_state;
}

static struct h2_stream *open_stream(void *loop_state)
{
    struct site *s = loop_state;
    s->open[s->n_open] = xcalloc(1, sizeof(struct h2_stream));
    return s->open[s->n_open++];
}

static void header(struct h2_stream *s, struct slice name, struct slice value)
{
    (void)s;
    (void)name;
    (void)value;
}

static void request(struct h2_stream *s)
{
    (void)s;
}

static void data(struct h2_stream *s, struct slice piece)
{
    (void)s;
    (void)piece;
}

static int64_t pull(struct h2_stream *s, uint8_t *dst, size_t room, bool *last)
{
    (void)s;
    (void)dst;
    (void)room;
    (void)last;
    return 0; /* an answer without an end */
}

static void closed(struct h2_stream *s, uint32_t error_code)
{
    (void)error_code;
    free(s);
}

static bool turn_end(void *loop_state)
{
    (void)loop_state;
    return false;
}

static const struct h2_handler handler = {.attach = attach, .detach = detach, .open = open_stream, .header = header, .request = request, .data = data,
                                          .half_closed = request, .pull = pull, .closed = closed, .draining = request, .turn_end = turn_end};

#define STREAMS_MAX 20000u /* of one test */

static int open_site(void **state)
{
    struct site *s = xcalloc(1, sizeof(*s));
    s->open = xcalloc(STREAMS_MAX, sizeof(struct h2_stream *));
    s->next_id = 1;
    s->at.cfg = (struct http_config){.h2 = &handler, .h2_arg = s, .streams_max = H2_STREAMS_MAX};
    mem_site_open(&s->at);
    conn_input(&s->at.mc.conn, slice_of("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33));
    mem_site_flush(&s->at);
    *state = s;
    return 0;
}

static int close_site(void **state)
{
    struct site *s = *state;
    mem_site_close(&s->at);
    free(s->open);
    free(s);
    return 0;
}

static void put_frame(struct bytes *b, uint8_t kind, uint8_t flags, uint32_t id, struct slice payload)
{
    const uint8_t head[9] = {0, (uint8_t)(payload.len >> 8), (uint8_t)payload.len, kind, flags,
                             (uint8_t)(id >> 24), (uint8_t)(id >> 16), (uint8_t)(id >> 8), (uint8_t)id};
    bytes_add(b, head, sizeof(head));
    bytes_add(b, payload.data, payload.len);
}

/* Open `n` streams, answer them or not, let time pass, and give them up. */
static void wave(struct site *s, unsigned n, bool answered, uint64_t lived_ms)
{
    struct bytes b = {0};
    uint32_t first = s->next_id;
    size_t before = s->n_open;
    for (unsigned i = 0; i < n; i++, s->next_id += 2) {
        put_frame(&b, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, s->next_id, slice_of("\x83\x86\x84", 3)); /* POST, http, / */
    }
    conn_input(&s->at.mc.conn, bytes_slice(&b));
    for (size_t i = before; answered && i < s->n_open; i++) {
        const nghttp2_nv ok[] = {H2_NV(":status", "200")};
        h2_respond(s->open[i], ok, 1, true);
    }
    mem_site_flush(&s->at);
    loop_skip(s->at.loop, lived_ms);
    bytes_reset(&b);
    for (uint32_t id = first; id < s->next_id; id += 2) {
        put_frame(&b, NGHTTP2_RST_STREAM, 0, id, slice_of("\0\0\0\x8", 4));
    }
    conn_input(&s->at.mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
    mem_site_flush(&s->at);
    bytes_reset(&s->at.mc.out);
}

/* Time has passed: bytes that mean little make it look again. */
static void look_again(struct site *s, uint64_t ms)
{
    struct bytes b = {0};
    loop_skip(s->at.loop, ms);
    put_frame(&b, NGHTTP2_PRIORITY, 0, 1, slice_of("\0\0\0\0\x10", 5));
    conn_input(&s->at.mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
}

enum service { AS_EVER, IN_SMALL_STEPS, NO_MORE };

static enum service service(const struct site *s)
{
    if (s->at.mc.shut) {
        return NO_MORE;
    }
    return conn_share(&s->at.mc.conn) == CONN_WARY_BYTES ? IN_SMALL_STEPS : AS_EVER;
}

static const struct {
    const char *claim;
    unsigned waves, each;
    bool answered;
    uint64_t lived_ms, apart_ms;
    enum service then;
} rows[] = {
    {"a few at once", 1, H2_RESETS_FEW, false, 0, 0, AS_EVER},
    {"one more", 1, H2_RESETS_FEW + 1, false, 0, 0, IN_SMALL_STEPS},
    {"1,000 at once", 1, 1000, false, 0, 0, IN_SMALL_STEPS},
    {"1,000 at once are forgotten two seconds later", 1, 1000, false, 0, 2000, AS_EVER},
    {"1,000 at once every five seconds", 10, 1000, false, 0, 5000, AS_EVER},
    {"all that are allowed at once", 1, H2_RESETS_BURST, false, 0, 0, IN_SMALL_STEPS},
    {"one more than are allowed", 1, H2_RESETS_BURST + 1, false, 0, 0, NO_MORE},
    {"200 a second for ever, one at a time", 10000, 1, false, 0, 5, AS_EVER},
    {"200 a second for ever, half a second's at a time", 100, 100, false, 0, 500, AS_EVER},
    {"as many a second as are allowed, for ever", 18000, 1, false, 0, 1000 / H2_RESETS_PER_S, AS_EVER},
    {"twice as many a second, for long", 10000, 1, false, 0, 500 / H2_RESETS_PER_S, NO_MORE},
    {"calls that were answered", 10, 1000, true, 0, 0, AS_EVER},
    {"calls that have timed out", 1, 5000, false, H2_YOUNG_MS, 0, AS_EVER},
    {"calls that have not quite", 1, 5000, false, H2_YOUNG_MS - 1, 0, NO_MORE},
};

static void test_waves(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        void *fresh;
        (void)open_site(&fresh);
        struct site *s = fresh;
        for (unsigned w = 0; w < rows[i].waves && !s->at.mc.shut; w++) {
            wave(s, rows[i].each, rows[i].answered, rows[i].lived_ms);
            if (rows[i].apart_ms > 0) {
                look_again(s, rows[i].apart_ms);
            }
        }
        if (service(s) != rows[i].then) {
            fail_msg("%s: %d", rows[i].claim, service(s));
        }
        (void)close_site(&fresh);
    }
}

static void test_last_words(void **state)
{
    struct site *s = *state;
    struct bytes b = {0};
    for (unsigned i = 0; i <= H2_RESETS_BURST; i++, s->next_id += 2) {
        put_frame(&b, NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, s->next_id, slice_of("\x83\x86\x84", 3));
        put_frame(&b, NGHTTP2_RST_STREAM, 0, s->next_id, slice_of("\0\0\0\x8", 4));
    }
    conn_input(&s->at.mc.conn, bytes_slice(&b));
    bytes_deinit(&b);
    mem_site_flush(&s->at);
    assert_true(s->at.mc.shut);
    const char *words = "too_many_resets";
    assert_memory_equal(s->at.mc.out.data + s->at.mc.out.len - strlen(words), words, strlen(words));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_waves),
        cmocka_unit_test_setup_teardown(test_last_words, open_site, close_site),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
