/* HTTP/1.x over memory: requests, answers, limits, pipelining, streams. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "tests/api/http/mem_conn.h"

/* --- a world without HTTP/2
 * ------------------------------------------------------------------------- */

struct site {
    struct mem_site at;
    struct http_exchange *kept; /* /keep */
    unsigned n_requests;
    unsigned n_gone;
    char came[64]; /* after an upgrade */
    char seen[4096]; /* of the last request */
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

static bool turn_end(void *loop_state)
{
    (void)loop_state;
    return false;
}

static const struct h2_handler no_h2 = {.attach = attach, .detach = detach, .turn_end = turn_end};

static void on_piece(void *arg, struct slice piece)
{
    struct site *s = arg;
    size_t n = strlen(s->came);
    assert_true(n + piece.len < sizeof(s->came));
    memcpy(s->came + n, piece.data, piece.len);
    s->came[n + piece.len] = '\0';
}

static void handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct site *s = arg;
    s->n_requests++;
    (void)snprintf(s->seen, sizeof(s->seen), "%s %s ?%s h=%s o=%s a=%s t=%s b=%zu", r->method,
                   r->path, r->query, r->host, r->origin, r->authorization, r->content_type,
                   r->body.len);
    if (strcmp(r->path, "/keep") == 0) {
        s->kept = x;
    } else if (strcmp(r->path, "/upgrade") == 0 && r->upgrade) {
        s->kept = x;
        http_upgrade(x, "Upgrade: talk\r\nConnection: Upgrade\r\n", on_piece, s);
    } else if (strcmp(r->path, "/none") == 0) {
        http_respond(x, 204, NULL, NULL, slice_of(NULL, 0));
    } else {
        http_respond(x, 200, "text/plain", "X-A: b\r\n", slice_str(r->path));
    }
}

static int open_site(void **state)
{
    struct site *s = calloc(1, sizeof(*s));
    s->at.cfg = (struct http_config){.h2 = &no_h2, .http = {handle, s}};
    mem_site_open(&s->at);
    *state = s;
    return 0;
}

static int close_site(void **state)
{
    struct site *s = *state;
    mem_site_close(&s->at);
    free(s);
    return 0;
}

static void feed(struct site *s, const char *text)
{
    mem_site_feed(&s->at, text);
}

/* What was written since the last look, as a string, without Date. */
static const char *take(struct site *s)
{
    static char text[8192];
    mem_site_take(&s->at, text, sizeof(text));
    for (char *date = strstr(text, "Date: "); date != NULL; date = strstr(text, "Date: ")) {
        char *end = strstr(date, "\r\n") + 2;
        assert_int_equal(end - date, 37);
        memmove(date, end, strlen(end) + 1);
    }
    return text;
}

static void again(struct site *s)
{
    mem_open(&s->at.mc, &s->at.hub);
}

/* --- requests
 * --------------------------------------------------------------------------------------- */

static void test_get_is_answered_and_the_connection_kept(void **state)
{
    struct site *s = *state;
    feed(s, "GET /version?a=b HTTP/1.1\r\nHost: h:1\r\nOrigin: o\r\nAuthorization: t\r\n\r\n");
    assert_string_equal(s->seen, "GET /version ?a=b h=h:1 o=o a=t t= b=0");
    assert_string_equal(take(s), "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: "
                                 "text/plain\r\nContent-Length: 8\r\n\r\n/version");
    feed(s, "\r\nPOST /x HTTP/1.1\r\nhost:h\r\nContent-Type: j\r\nContent-Length: 3\r\n\r\nabc");
    assert_string_equal(s->seen, "POST /x ? h=h o= a= t=j b=3");
    assert_false(s->at.mc.closed || s->at.mc.shut);
}

static void test_bytes_one_by_one(void **state)
{
    struct site *s = *state;
    const char *text = "PUT /p HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: "
                       "chunked\r\n\r\n2\r\nab\r\n1;x=y\r\nc\r\n0\r\n\r\n";
    for (const char *p = text; *p != '\0'; p++) {
        assert_int_equal(s->n_requests, 0);
        conn_input(&s->at.mc.conn, slice_of(p, 1));
        hub_flush(&s->at.hub);
    }
    assert_string_equal(s->seen, "PUT /p ? h=h o= a= t= b=3");
}

static void test_pipelined_requests_are_answered_in_order(void **state)
{
    struct site *s = *state;
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\nPOST /3 "
            "HTTP/1.1\r\nHost: "
            "h\r\nContent-Length: 1\r\n\r\nxGET /4 HTTP/1.0\r\n\r\n");
    assert_int_equal(s->n_requests, 1);
    assert_string_equal(take(s), "");
    http_respond(s->kept, 503, "a/b", NULL, slice_str("first"));
    for (unsigned i = 0; i < 8; i++) {
        hub_flush(&s->at.hub);
    }
    assert_int_equal(s->n_requests, 4);
    assert_string_equal(
        take(s),
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: a/b\r\nContent-Length: 5\r\n\r\nfirst"
        "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/2"
        "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/3"
        "HTTP/1.0 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nConnection: "
        "close\r\nContent-Length: 2\r\n\r\n/4");
    assert_true(s->at.mc.shut);
}

static void test_forms(void **state)
{
    struct site *s = *state;
    static const struct {
        const char *claim, *request, *answer;
        bool closes;
    } cases[] = {
        {"HEAD has no body but its length", "HEAD /abc HTTP/1.1\r\nHost: h\r\n\r\n",
         "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n",
         false},
        {"204 has neither", "GET /none HTTP/1.1\r\nHost: h\r\n\r\n",
         "HTTP/1.1 204 No Content\r\n\r\n", false},
        {"close is obeyed", "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
         "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nConnection: "
         "close\r\nContent-Length: 1\r\n\r\n/",
         true},
        {"HTTP/1.0 may be kept", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
         "HTTP/1.0 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nConnection: "
         "keep-alive\r\nContent-Length: 1\r\n\r\n/",
         false},
        {"an absolute target", "GET http://h/abs?q HTTP/1.1\r\nHost: h\r\n\r\n",
         "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\n/abs",
         false},
        {"a star", "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
         "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\n*",
         false},
        {"continue is said",
         "POST /c HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
         "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: "
         "text/plain\r\nContent-Length: "
         "2\r\n\r\n/c",
         false},
        {"an offer of h2c is ignored",
         "GET /u HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: "
         "h2c\r\nHTTP2-Settings: x\r\n\r\n",
         "HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\n/u",
         false},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        feed(s, cases[i].request);
        const char *got = take(s);
        if (strcmp(got, cases[i].answer) != 0 || s->at.mc.shut != cases[i].closes) {
            fail_msg("%s: %s", cases[i].claim, got);
        }
        conn_eof(&s->at.mc.conn);
        hub_flush(&s->at.hub);
        assert_true(s->at.mc.closed);
        bytes_deinit(&s->at.mc.out);
        again(s);
    }
}

static void test_faults_are_refused_and_end_the_connection(void **state)
{
    struct site *s = *state;
    char long_field[H1_HEAD_BYTES_MAX + 100];
    (void)snprintf(long_field, sizeof(long_field),
                   "GET / HTTP/1.1\r\nHost: h\r\nA: %065000d\r\nB: %0600d\r\n", 0, 0);
    const struct {
        const char *claim, *request;
        int status;
    } cases[] = {
        {"no host", "GET / HTTP/1.1\r\n\r\n", 400},
        {"two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400},
        {"no version", "GET /\r\n\r\n", 400},
        {"another version", "GET / HTTP/3.0\r\nHost: h\r\n\r\n", 505},
        {"no such method", "BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 405},
        {"a space before the colon", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length : 1\r\n\r\nx", 400},
        {"a space in a name", "GET / HTTP/1.1\r\nHost: h\r\na b: c\r\n\r\n", 400},
        {"a field without a colon", "GET / HTTP/1.1\r\nHost h\r\n\r\n", 400},
        {"a length that is no number", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n",
         400},
        {"two different lengths",
         "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400},
        {"length and chunks at once",
         "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
         400},
        {"a body over the bound", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8388609\r\n\r\n",
         413},
        {"a chunk over the bound",
         "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 400},
        {"a head over the bound", long_field, 431},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        feed(s, cases[i].request);
        char want[32];
        (void)snprintf(want, sizeof(want), "HTTP/1.1 %d ", cases[i].status);
        const char *got = take(s);
        if (strncmp(got, want, strlen(want)) != 0 || strstr(got, "Connection: close\r\n") == NULL ||
            !s->at.mc.shut) {
            fail_msg("%s: %s", cases[i].claim, got);
        }
        feed(s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); /* falls on deaf ears */
        assert_int_equal(s->at.mc.out.len, 0);
        conn_eof(&s->at.mc.conn);
        hub_flush(&s->at.hub);
        bytes_deinit(&s->at.mc.out);
        again(s);
    }
    assert_int_equal(s->n_requests, 0);
}

static void test_chunked_body_over_the_bound(void **state)
{
    struct site *s = *state;
    feed(s, "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    static char chunk[1024 * 1024 + 16];
    int head = snprintf(chunk, sizeof(chunk), "%x\r\n", 1024 * 1024);
    memset(chunk + head, 'x', 1024 * 1024);
    memcpy(chunk + head + 1024 * 1024, "\r\n", 2);
    for (unsigned i = 0; i < 9 && !s->at.mc.shut; i++) {
        conn_input(&s->at.mc.conn, slice_of(chunk, (size_t)head + 1024 * 1024 + 2));
        hub_flush(&s->at.hub);
    }
    assert_true(strncmp(take(s), "HTTP/1.1 413 ", 13) == 0);
    assert_true(s->at.mc.shut);
}

static void test_many_headers(void **state)
{
    struct site *s = *state;
    feed(s, "GET / HTTP/1.1\r\nHost: h\r\n");
    for (unsigned i = 0; i < H1_HEADERS_MAX; i++) {
        feed(s, "a:\r\n");
    }
    feed(s, "\r\n");
    assert_true(strncmp(take(s), "HTTP/1.1 431 ", 13) == 0);
}

/* --- later answers
 * ---------------------------------------------------------------------------------- */

static void count_gone(void *arg)
{
    struct site *s = arg;
    s->n_gone++;
}

static void test_client_that_left_is_told_of(void **state)
{
    struct site *s = *state;
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    http_exchange_on_gone(s->kept, count_gone, s);
    assert_ptr_equal(http_exchange_loop(s->kept), s->at.loop);
    assert_false(http_exchange_gone(s->kept));
    conn_eof(&s->at.mc.conn);
    hub_flush(&s->at.hub);
    assert_true(s->at.mc.closed);
    assert_int_equal(s->n_gone, 1);
    assert_true(http_exchange_gone(s->kept));
    http_respond(s->kept, 200, "a/b", NULL, slice_str("too late"));
}

static void test_half_closed_client_is_still_answered(void **state)
{
    struct site *s = *state;
    conn_input(&s->at.mc.conn,
               slice_str("GET /1 HTTP/1.1\r\nHost: h\r\n\r\nGET /2 HTTP/1.1\r\nHost: h\r\n\r\n"));
    conn_eof(&s->at.mc.conn);
    for (unsigned i = 0; i < 8; i++) {
        hub_flush(&s->at.hub);
    }
    assert_int_equal(s->n_requests, 2);
    const char *got = take(s);
    assert_non_null(strstr(got, "\r\n\r\n/1HTTP/1.1 200 OK\r\n"));
    assert_string_equal(got + strlen(got) - 2, "/2");
    assert_true(s->at.mc.shut);
    conn_eof(&s->at.mc.conn);
    hub_flush(&s->at.hub);
    assert_true(s->at.mc.closed);
}

static void test_streamed_answer(void **state)
{
    struct site *s = *state;
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    http_stream_begin(s->kept, 200, "a/b", NULL);
    http_stream_send(s->kept, slice_str("0123456789abcdefg"));
    http_stream_send(s->kept, slice_str(""));
    hub_flush(&s->at.hub);
    assert_int_equal(http_stream_queued(s->kept), 0);
    assert_string_equal(take(s),
                        "HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n"
                        "11\r\n0123456789abcdefg\r\n");
    http_stream_end(s->kept);
    hub_flush(&s->at.hub);
    assert_string_equal(take(s), "0\r\n\r\n");
    feed(s, "GET /keep HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    http_stream_begin(s->kept, 200, "a/b", NULL);
    http_stream_send(s->kept, slice_str("xyz"));
    http_stream_end(s->kept);
    hub_flush(&s->at.hub);
    assert_string_equal(take(s),
                        "HTTP/1.0 200 OK\r\nContent-Type: a/b\r\nConnection: close\r\n\r\nxyz");
    assert_true(s->at.mc.shut);
}

static void test_large_answer_goes_out_in_pieces(void **state)
{
    struct site *s = *state;
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    static uint8_t body[3 * CONN_WRITE_BYTES];
    s->at.mc.room = 1000;
    http_respond(s->kept, 200, "a/b", NULL, slice_of(body, sizeof(body)));
    hub_flush(&s->at.hub);
    assert_true(s->at.mc.blocked);
    assert_true(s->at.mc.conn.rest.len <= CONN_WRITE_BYTES);
    for (unsigned i = 0; i < 10; i++) {
        mem_unblock(&s->at.mc);
        hub_flush(&s->at.hub);
    }
    assert_true(s->at.mc.out.len > sizeof(body));
    bytes_reset(&s->at.mc.out);
    s->at.mc.room = SIZE_MAX;
    feed(s, "GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(s->n_requests, 2);
}

/* --- time and shutdown
 * ------------------------------------------------------------------------------ */

static void pass(struct site *s, uint64_t ms)
{
    loop_skip(s->at.loop, ms);
    hub_flush(&s->at.hub);
}

static void test_deadlines(void **state)
{
    struct site *s = *state;
    feed(s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    pass(s, CONN_IDLE_MS - 1);
    assert_false(s->at.mc.closed);
    feed(s, "G");
    pass(s, CONN_HEAD_MS - 1);
    assert_false(s->at.mc.closed);
    feed(s, "ET / HTTP/1.1\r\n"); /* progress does not help a head */
    pass(s, 1);
    assert_true(s->at.mc.closed);
    bytes_deinit(&s->at.mc.out);
    again(s);
    feed(s, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n");
    pass(s, CONN_STALL_MS - 1);
    assert_false(s->at.mc.closed);
    feed(s, "x"); /* a byte now and then does not help a body */
    pass(s, 1);
    assert_true(s->at.mc.closed);
    again(s);
    feed(s, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 8000000\r\n\r\n");
    char *step = calloc(1, CONN_BODY_STEP_BYTES);
    for (unsigned i = 0; i < 3; i++) { /* but a step does */
        pass(s, CONN_STALL_MS - 1);
        assert_false(s->at.mc.closed);
        conn_input(&s->at.mc.conn, slice_of(step, CONN_BODY_STEP_BYTES));
    }
    free(step);
    assert_int_equal(s->at.hub.held, s->at.mc.conn.held);
    assert_in_range(s->at.hub.held, 3u * CONN_BODY_STEP_BYTES, 4u * CONN_BODY_STEP_BYTES);
    pass(s, CONN_STALL_MS);
    assert_true(s->at.mc.closed);
    assert_int_equal(s->at.hub.held, 0);
    again(s);
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    pass(s, 10 * CONN_IDLE_MS); /* the handler may take its time */
    assert_false(s->at.mc.closed);
    http_respond(s->kept, 200, NULL, NULL, slice_str(""));
    hub_flush(&s->at.hub);
    pass(s, CONN_IDLE_MS);
    assert_true(s->at.mc.closed);
}

/* A time that was set for one write which stalled is over when that write is. */
static void test_a_slow_reader_of_a_long_answer_is_kept(void **state)
{
    struct site *s = *state;
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    http_stream_begin(s->kept, 200, NULL, NULL);
    for (unsigned i = 0; i < 5; i++) {
        s->at.mc.room = 3;
        http_stream_send(s->kept, slice_str("0123456789"));
        hub_flush(&s->at.hub);
        assert_true(s->at.mc.blocked);
        pass(s, CONN_STALL_MS - 1);
        assert_false(s->at.mc.closed);
        mem_unblock(&s->at.mc);
        hub_flush(&s->at.hub);
    }
    s->at.mc.room = 3;
    http_stream_send(s->kept, slice_str("0123456789"));
    hub_flush(&s->at.hub);
    pass(s, CONN_STALL_MS);
    assert_true(s->at.mc.closed);
    http_stream_end(s->kept);
}

/* Nor does it touch the other times, nor they it. */
static void test_a_stalled_write_has_a_time_of_its_own(void **state)
{
    struct site *s = *state;
    s->at.mc.room = 3;
    feed(s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(s->at.mc.blocked);
    s->at.mc.room = SIZE_MAX;
    mem_unblock(&s->at.mc);
    pass(s, CONN_IDLE_MS - 1);
    assert_false(s->at.mc.closed); /* it is idle, no more */
    s->at.mc.room = 3;
    feed(s, "GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_true(s->at.mc.blocked);
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_int_equal(s->n_requests, 3);
    pass(s, CONN_STALL_MS - 1);
    assert_false(s->at.mc.closed);
    pass(s, 1);
    assert_true(s->at.mc.closed); /* another request is no excuse for not reading */
    http_stream_begin(s->kept, 200, NULL, NULL);
    http_stream_end(s->kept);
}

#define UPGRADE "GET /upgrade HTTP/1.1\r\nHost: h\r\nConnection: a, upgrade\r\nUpgrade: talk\r\n\r\n"

static void test_upgrade(void **state)
{
    struct site *s = *state;
    feed(s, UPGRADE "GET / HTT");
    assert_string_equal(take(s), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: talk\r\nConnection: Upgrade\r\n\r\n");
    feed(s, "P/1.1\r\n");
    assert_string_equal(s->came, "GET / HTTP/1.1\r\n");
    assert_int_equal(s->n_requests, 1);
    http_stream_send(s->kept, slice_str("as it is"));
    hub_flush(&s->at.hub);
    assert_string_equal(take(s), "as it is");
    http_body_pause(s->kept, true);
    assert_false(s->at.mc.reading);
    http_body_pause(s->kept, false);
    assert_true(s->at.mc.reading);
    pass(s, 10 * CONN_IDLE_MS);
    assert_false(s->at.mc.closed);
    http_stream_send(s->kept, slice_str("bye"));
    http_stream_end(s->kept);
    hub_flush(&s->at.hub);
    feed(s, "too late");
    assert_string_equal(take(s), "bye");
    assert_true(s->at.mc.shut);
    assert_string_equal(s->came, "GET / HTTP/1.1\r\n");
}

static void test_upgraded_clients_that_leave_or_say_nothing(void **state)
{
    struct site *s = *state;
    feed(s, UPGRADE);
    http_exchange_on_gone(s->kept, count_gone, s);
    conn_eof(&s->at.mc.conn);
    hub_flush(&s->at.hub);
    assert_true(s->at.mc.closed);
    assert_int_equal(s->n_gone, 1);
    http_stream_end(s->kept);
    bytes_deinit(&s->at.mc.out);
    again(s);
    feed(s, UPGRADE);
    pass(s, CONN_IDLE_MS);
    assert_true(s->at.mc.closed);
    http_stream_end(s->kept);
    bytes_deinit(&s->at.mc.out);
    again(s);
    feed(s, "GET /upgrade HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: talk\r\n\r\n");
    assert_non_null(strstr(take(s), "200 OK"));
}

static void test_drain_ends_idle_now_and_busy_after_its_answer(void **state)
{
    struct site *s = *state;
    struct mem_conn idle;
    mem_open(&idle, &s->at.hub);
    conn_input(&idle.conn, slice_str("GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
    feed(s, "GET /keep HTTP/1.1\r\nHost: h\r\n\r\n");
    hub_drain(&s->at.hub);
    hub_flush(&s->at.hub);
    assert_true(idle.shut);
    assert_false(s->at.mc.shut);
    http_respond(s->kept, 200, NULL, NULL, slice_str("x"));
    hub_flush(&s->at.hub);
    assert_true(s->at.mc.shut);
    assert_non_null(strstr(take(s), "Connection: close\r\n"));
    pass(s, CONN_LINGER_MS);
    assert_true(idle.closed && s->at.mc.closed);
    bytes_deinit(&idle.out);
}

#define SITE_TEST(f) cmocka_unit_test_setup_teardown(f, open_site, close_site)

int main(void)
{
    const struct CMUnitTest tests[] = {
        SITE_TEST(test_get_is_answered_and_the_connection_kept),
        SITE_TEST(test_bytes_one_by_one),
        SITE_TEST(test_pipelined_requests_are_answered_in_order),
        SITE_TEST(test_forms),
        SITE_TEST(test_faults_are_refused_and_end_the_connection),
        SITE_TEST(test_chunked_body_over_the_bound),
        SITE_TEST(test_many_headers),
        SITE_TEST(test_client_that_left_is_told_of),
        SITE_TEST(test_half_closed_client_is_still_answered),
        SITE_TEST(test_streamed_answer),
        SITE_TEST(test_large_answer_goes_out_in_pieces),
        SITE_TEST(test_deadlines),
        SITE_TEST(test_a_slow_reader_of_a_long_answer_is_kept),
        SITE_TEST(test_a_stalled_write_has_a_time_of_its_own),
        SITE_TEST(test_upgrade),
        SITE_TEST(test_upgraded_clients_that_leave_or_say_nothing),
        SITE_TEST(test_drain_ends_idle_now_and_busy_after_its_answer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
