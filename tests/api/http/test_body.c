/* HTTP/1.x over memory, as api/peer uses it: bodies in pieces, bounds by path, headers by name, word of what was written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/api/http/mem_conn.h"

struct site {
    struct mem_site at;
    struct http_exchange *x; /* kept */
    bool refuse;             /* at the head */
    bool answer_at_end;
    unsigned n_requests, n_gone, n_ends, n_written;
    bool drained;
    struct bytes body;
    char seen[256];
};

static void begin(void *arg, const struct http_request *r, struct http_intake *in)
{
    (void)arg;
    assert_int_equal(r->body.len, 0);
    assert_int_equal(in->bytes_max, H1_BODY_BYTES_MAX);
    in->streamed = strcmp(r->path, "/stream") == 0;
    in->bytes_max = strcmp(r->path, "/small") == 0 ? 3 : strcmp(r->path, "/large") == 0 ? 2u * H1_BODY_BYTES_MAX : in->bytes_max;
}

static void on_piece(void *arg, struct slice piece)
{
    struct site *s = arg;
    bytes_add(&s->body, piece.data, piece.len);
}

static void on_end(void *arg)
{
    struct site *s = arg;
    s->n_ends++;
    if (s->answer_at_end) {
        http_respond(s->x, 204, NULL, NULL, slice_of(NULL, 0));
    }
}

static void on_gone(void *arg)
{
    struct site *s = arg;
    s->n_gone++;
    http_exchange_kill(s->x);
    s->x = NULL;
}

static void on_written(void *arg)
{
    struct site *s = arg;
    s->n_written++;
    s->drained = http_stream_drained(s->x);
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct site *s = arg;
    s->n_requests++;
    (void)snprintf(s->seen, sizeof(s->seen), "%s %s x=%s y=%s b=%zu", r->method, r->path, http_request_header(r, "X-One"),
                   http_request_header(r, "x-two"), r->body.len);
    if (s->refuse) {
        http_respond(x, 412, "text/plain", NULL, slice_str("no"));
        return;
    }
    if (strcmp(r->path, "/stream") == 0 || strcmp(r->path, "/keep") == 0) {
        s->x = x;
        bytes_reset(&s->body);
        http_exchange_on_gone(x, on_gone, s);
        http_body_to(x, on_piece, on_end, s);
        return;
    }
    http_respond(x, 200, "text/plain", NULL, slice_str("ok"));
}

static int open_site(void **state)
{
    struct site *s = calloc(1, sizeof(*s));
    s->at.cfg = (struct http_config){.http = {handle, s}, .begin = begin};
    mem_site_open(&s->at);
    *state = s;
    return 0;
}

static int close_site(void **state)
{
    struct site *s = *state;
    mem_site_close(&s->at);
    bytes_deinit(&s->body);
    free(s);
    return 0;
}

static void feed(struct site *s, const char *text)
{
    mem_site_feed(&s->at, text);
}

/* What was written since the last look, as a string. */
static const char *take(struct site *s)
{
    static char text[8192];
    mem_site_take(&s->at, text, sizeof(text));
    return text;
}

static void assert_starts(struct site *s, const char *start)
{
    const char *got = take(s);
    if (strncmp(got, start, strlen(start)) != 0) {
        fail_msg("'%s' does not begin with '%s'", got, start);
    }
}

static void assert_body(const struct site *s, const char *text)
{
    assert_true(slice_eq(bytes_slice(&s->body), slice_str(text)));
}

/* --- bodies in pieces ------------------------------------------------------------------------------------------- */

static void test_headers_by_name(void **state)
{
    struct site *s = *state;
    feed(s, "GET /a?b=c HTTP/1.1\r\nHost: h\r\nx-ONE: 1\r\nX-One: 2\r\n\r\n");
    assert_string_equal(s->seen, "GET /a x=1 y= b=0");
    const struct http_request by_hand = {.path = "/"};
    assert_string_equal(http_request_header(&by_hand, "X-One"), "");
}

static void test_body_in_pieces(void **state)
{
    struct site *s = *state;
    s->answer_at_end = true;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nX-One: 1\r\nContent-Length: 10\r\n\r\n");
    assert_string_equal(s->seen, "POST /stream x=1 y= b=0");
    feed(s, "01234");
    assert_body(s, "01234");
    assert_int_equal(s->n_ends, 0);
    feed(s, "56789POST /stream HTTP/1.1\r\nHost: h\r\nX-Two: 2\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n");
    assert_starts(s, "HTTP/1.1 204 No Content\r\n");
    assert_string_equal(s->seen, "POST /stream x= y=2 b=0");
    assert_body(s, "abcde");
    assert_int_equal(s->n_ends, 1);
    feed(s, "0\r\n\r\n");
    assert_starts(s, "HTTP/1.1 204 No Content\r\n");
    assert_int_equal(s->n_ends, 2);
    assert_false(s->at.mc.shut);
    feed(s, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(s->n_requests, 3);
}

static void test_later_answer_to_a_body_in_pieces(void **state)
{
    struct site *s = *state;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab");
    assert_int_equal(s->n_ends, 1);
    feed(s, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"); /* waits its turn */
    assert_int_equal(s->n_requests, 1);
    http_respond(s->x, 200, NULL, NULL, slice_str("done"));
    mem_site_flush(&s->at);
    assert_int_equal(s->n_requests, 2);
    assert_int_equal(s->n_gone, 0);
}

static void test_answer_before_the_end_of_the_body(void **state)
{
    struct site *s = *state;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 100\r\n\r\nabc");
    http_respond(s->x, 400, "text/plain", NULL, slice_str("enough"));
    mem_site_flush(&s->at);
    const char *got = take(s);
    assert_non_null(strstr(got, "Connection: close\r\n"));
    assert_non_null(strstr(got, "\r\n\r\nenough"));
    assert_true(s->at.mc.shut);
    feed(s, "def");
    assert_body(s, "abc");
    assert_int_equal(s->n_ends, 0);
    conn_eof(&s->at.mc.conn);
    mem_site_flush(&s->at);
    assert_true(s->at.mc.closed);
    assert_int_equal(s->n_gone, 0);
}

static void test_refused_at_the_head(void **state)
{
    struct site *s = *state;
    s->refuse = true;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nabcdeGET / HTTP/1.1\r\nHost: h\r\n\r\n");
    const char *got = take(s);
    assert_true(strncmp(got, "HTTP/1.1 412 ", 13) == 0);
    assert_null(strstr(got + 1, "HTTP/1.1"));
    assert_true(s->at.mc.shut);
    assert_int_equal(s->n_requests, 1);
}

static void test_continue_is_said_to_who_asks(void **state)
{
    struct site *s = *state;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_string_equal(take(s), "HTTP/1.1 100 Continue\r\n\r\n");
}

static void test_pause(void **state)
{
    struct site *s = *state;
    s->answer_at_end = true;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nab");
    http_body_pause(s->x, true);
    assert_false(s->at.mc.reading);
    feed(s, "cd"); /* was read before */
    loop_skip(s->at.loop, 10 * CONN_STALL_MS);
    mem_site_flush(&s->at);
    assert_false(s->at.mc.closed);
    http_body_pause(s->x, false);
    assert_true(s->at.mc.reading);
    loop_skip(s->at.loop, CONN_STALL_MS - 1);
    mem_site_flush(&s->at);
    assert_false(s->at.mc.closed);
    feed(s, "ef");
    assert_body(s, "abcdef");
    assert_starts(s, "HTTP/1.1 204 ");
}

static void test_end_that_comes_while_paused(void **state)
{
    struct site *s = *state;
    feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nab");
    http_body_pause(s->x, true);
    feed(s, "cd");
    assert_int_equal(s->n_ends, 1);
    assert_true(s->at.mc.reading); /* the client's leaving is to be seen */
    http_body_pause(s->x, true);
    assert_true(s->at.mc.reading);
}

static void test_body_that_breaks_off(void **state)
{
    struct site *s = *state;
    struct row {
        const char *name;
        const char *rest; /* NULL: the client leaves */
    } rows[] = {{"the client leaves", NULL}, {"a chunk that is none", "zz\r\n"}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        s->n_gone = 0;
        feed(s, "POST /stream HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        if (rows[i].rest == NULL) {
            conn_eof(&s->at.mc.conn);
        } else {
            conn_input(&s->at.mc.conn, slice_str(rows[i].rest));
        }
        mem_site_flush(&s->at);
        assert_int_equal(s->n_gone, 1);
        assert_int_equal(s->n_ends, 0);
        assert_true(s->at.mc.closed);
        assert_int_equal(s->at.mc.out.len, 0);
        bytes_deinit(&s->at.mc.out);
        mem_open(&s->at.mc, &s->at.hub);
    }
}

/* --- bounds --------------------------------------------------------------------------------------------------------- */

static void test_bounds_by_path(void **state)
{
    struct site *s = *state;
    feed(s, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc");
    assert_string_equal(s->seen, "POST /small x= y= b=3");
    assert_starts(s, "HTTP/1.1 200 OK\r\n");
    feed(s, "POST /small HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n");
    assert_starts(s, "HTTP/1.1 413 ");
    conn_eof(&s->at.mc.conn);
    mem_site_flush(&s->at);
    assert_true(s->at.mc.closed);
    bytes_deinit(&s->at.mc.out);
    mem_open(&s->at.mc, &s->at.hub);
    char head[128];
    unsigned size = H1_BODY_BYTES_MAX + 1;
    (void)snprintf(head, sizeof(head), "POST /large HTTP/1.1\r\nHost: h\r\nContent-Length: %u\r\n\r\n", size);
    feed(s, head);
    char *body = malloc(size);
    memset(body, 'b', size);
    conn_input(&s->at.mc.conn, slice_of(body, size));
    mem_site_flush(&s->at);
    free(body);
    (void)snprintf(head, sizeof(head), "POST /large x= y= b=%u", size);
    assert_string_equal(s->seen, head);
    assert_starts(s, "HTTP/1.1 200 OK\r\n");
}

/* --- what was written ------------------------------------------------------------------------------------------------ */

static void test_word_of_what_was_written(void **state)
{
    struct site *s = *state;
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    http_stream_begin(s->x, 200, NULL, NULL);
    http_stream_on_written(s->x, on_written, s);
    assert_false(http_stream_drained(s->x));
    hub_flush(&s->at.hub);
    assert_int_equal(s->n_written, 1);
    assert_true(s->drained);
    s->at.mc.room = 10;
    http_stream_send(s->x, slice_str("more than fits into ten bytes"));
    hub_flush(&s->at.hub);
    assert_true(s->at.mc.blocked);
    assert_false(http_stream_drained(s->x));
    assert_int_equal(http_stream_queued(s->x), 0);
    unsigned before = s->n_written;
    mem_unblock(&s->at.mc);
    hub_flush(&s->at.hub);
    assert_int_equal(s->n_written, before + 1);
    assert_true(s->drained);
    http_exchange_kill(s->x);
    mem_site_flush(&s->at);
    assert_true(s->at.mc.closed);
    assert_int_equal(s->n_gone, 0);
}

static void test_http2_is_not_spoken(void **state)
{
    struct site *s = *state;
    feed(s, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_starts(s, "HTTP/1.1 405 ");
    assert_true(s->at.mc.shut);
}

#define SITE_TEST(f) cmocka_unit_test_setup_teardown(f, open_site, close_site)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SITE_TEST(test_headers_by_name),
        SITE_TEST(test_body_in_pieces),
        SITE_TEST(test_later_answer_to_a_body_in_pieces),
        SITE_TEST(test_answer_before_the_end_of_the_body),
        SITE_TEST(test_refused_at_the_head),
        SITE_TEST(test_continue_is_said_to_who_asks),
        SITE_TEST(test_pause),
        SITE_TEST(test_end_that_comes_while_paused),
        SITE_TEST(test_body_that_breaks_off),
        SITE_TEST(test_bounds_by_path),
        SITE_TEST(test_word_of_what_was_written),
        SITE_TEST(test_http2_is_not_spoken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
