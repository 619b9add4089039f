/* The client against a fake server on a unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <poll.h>

#include "api/client/client.h"
#include "base/mem.h"
#include "fake_server.h"

#define WAIT_MS 20000u

struct fixture {
    struct fake_server *server;
    struct client *client;
    struct client_status status;
    struct bytes reply;
};

static int setup(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    f->server = fake_server_start();
    struct err_ctx ec;
    assert_int_equal(client_connect(fake_server_target(f->server), WAIT_MS, &f->client, &ec), OK);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    client_close(&f->client);
    fake_server_stop(&f->server);
    bytes_deinit(&f->reply);
    free(f);
    return 0;
}

static enum err call(struct fixture *f, const char *path, const char *request, uint32_t timeout_ms)
{
    return client_call(f->client, path, slice_str(request), timeout_ms, &f->status, &f->reply);
}

static void test_unary_outcomes(void **state)
{
    static const struct {
        const char *claim, *path, *request;
        uint32_t timeout_ms, code;
        const char *reply, *text;
        bool local;
    } rows[] = {
        {"bytes come back", "/t.T/Echo", "hello", WAIT_MS, 0, "hello", "", false},
        {"an empty message is a reply too", "/t.T/Echo", "", WAIT_MS, 0, "", "", false},
        {"the text is decoded", "/t.T/Fail", "x", WAIT_MS, 5, "", "no such \"thing\" 100%", false},
        {"a silent server", "/t.T/Never", "x", 30, CLIENT_CODE_DEADLINE, "",
         "deadline exceeded at the client", true},
        {"OK needs a whole reply", "/t.T/Short", "x", WAIT_MS, CLIENT_CODE_INTERNAL, "",
         "status OK without a whole reply", true},
        {"the connection goes on after all that", "/t.T/Echo", "again", WAIT_MS, 0, "again", "",
         false},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        print_message("%s\n", rows[i].claim);
        assert_int_equal(call(f, rows[i].path, rows[i].request, rows[i].timeout_ms), OK);
        assert_int_equal(f->status.code, rows[i].code);
        assert_string_equal(f->status.text, rows[i].text);
        assert_int_equal(f->status.local, rows[i].local);
        assert_true(slice_eq(bytes_slice(&f->reply), slice_str(rows[i].reply)));
    }
    assert_int_equal(fake_server_canceled(f->server), 1);
}

static void test_lost_connection(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(call(f, "/t.T/Hangup", "x", WAIT_MS), OK);
    assert_int_equal(f->status.code, CLIENT_CODE_UNAVAILABLE);
    assert_true(f->status.local);
    assert_int_equal(call(f, "/t.T/Echo", "x", WAIT_MS), ERR_CLOSED);
    struct client_stream *s = NULL;
    assert_int_equal(client_stream_open(f->client, "/t.T/Echo", &s), ERR_CLOSED);
}

static void test_metadata(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(client_metadata(f->client, "token", "first"), OK);
    assert_int_equal(client_metadata(f->client, "token", "second"), OK);
    assert_int_equal(call(f, "/t.T/Token", "", WAIT_MS), OK);
    assert_true(slice_eq(bytes_slice(&f->reply), slice_str("second")));
    assert_int_equal(client_metadata(f->client, "token", NULL), OK);
    assert_int_equal(call(f, "/t.T/Token", "", WAIT_MS), OK);
    assert_int_equal(f->reply.len, 0);
    for (unsigned i = 0; i < CLIENT_METADATA_MAX; i++) {
        char name[] = {'x', (char)('a' + i), '\0'};
        assert_int_equal(client_metadata(f->client, name, "v"), OK);
    }
    assert_int_equal(client_metadata(f->client, "one-more", "v"), ERR_LIMIT);
}

struct many {
    struct client *client;
    unsigned n_done, n_again;
    uint32_t code;
};

static void count_done(void *arg, const struct client_status *status, struct slice reply)
{
    struct many *m = arg;
    m->n_done++;
    m->code = status->code;
    if (status->code == 0) {
        assert_true(slice_eq(reply, slice_str("ping")));
    }
    if (m->n_again > 0) {
        m->n_again--;
        assert_int_equal(
            client_submit(m->client, "/t.T/Echo", slice_str("ping"), WAIT_MS, count_done, m), OK);
    }
}

static void test_many_outstanding(void **state)
{
    struct fixture *f = *state;
    struct many m = {.client = f->client, .n_again = 500};
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(
            client_submit(f->client, "/t.T/Echo", slice_str("ping"), WAIT_MS, count_done, &m), OK);
    }
    assert_int_equal(client_in_flight(f->client), 500);
    while (client_in_flight(f->client) > 0) {
        assert_int_equal(client_pump(f->client, WAIT_MS), OK);
    }
    assert_int_equal(m.n_done, 1000);
    assert_int_equal(m.code, 0);
    assert_int_equal(client_pump(f->client, 1), ERR_DEADLINE);
}

static void test_close_ends_calls(void **state)
{
    struct fixture *f = *state;
    struct many m = {.client = f->client};
    assert_int_equal(
        client_submit(f->client, "/t.T/Never", slice_str("x"), WAIT_MS, count_done, &m), OK);
    client_close(&f->client);
    assert_int_equal(m.n_done, 1);
    assert_int_equal(m.code, CLIENT_CODE_CANCELED);
}

static void test_stream_echo(void **state)
{
    struct fixture *f = *state;
    struct client_stream *s = NULL;
    assert_int_equal(client_stream_open(f->client, "/t.T/Echo", &s), OK);
    assert_int_equal(client_stream_send(s, slice_str("one")), OK);
    assert_int_equal(client_stream_send(s, slice_str("two")), OK);
    assert_int_equal(client_stream_recv(s, WAIT_MS, &f->reply), OK);
    assert_true(slice_eq(bytes_slice(&f->reply), slice_str("one")));
    /* A unary call beside it does not disturb the stream. */
    assert_int_equal(call(f, "/t.T/Fail", "x", WAIT_MS), OK);
    assert_int_equal(client_stream_recv(s, WAIT_MS, &f->reply), OK);
    assert_true(slice_eq(bytes_slice(&f->reply), slice_str("two")));
    assert_int_equal(client_stream_recv(s, 5, &f->reply), ERR_DEADLINE);
    assert_null(client_stream_status(s));
    assert_int_equal(client_stream_half_close(s), OK);
    assert_int_equal(client_stream_send(s, slice_str("late")), ERR_END);
    assert_int_equal(client_stream_recv(s, WAIT_MS, &f->reply), ERR_END);
    assert_int_equal(client_stream_status(s)->code, 0);
    client_stream_close(&s);
    assert_null(s);
}

static void test_stream_cancel(void **state)
{
    struct fixture *f = *state;
    struct client_stream *s = NULL;
    assert_int_equal(client_stream_open(f->client, "/t.T/Echo", &s), OK);
    assert_int_equal(client_stream_send(s, slice_str("one")), OK);
    assert_int_equal(client_stream_recv(s, WAIT_MS, &f->reply), OK);
    client_stream_close(&s);
    assert_int_equal(call(f, "/t.T/Echo", "x", WAIT_MS), OK);
    assert_int_equal(fake_server_canceled(f->server), 1);
}

static void test_unread_messages_hold_the_server(void **state)
{
    struct fixture *f = *state;
    struct client_stream *s = NULL;
    assert_int_equal(client_stream_open(f->client, "/t.T/Flood", &s), OK);
    assert_int_equal(client_stream_half_close(s), OK);
    /* Echoes go round many times while nobody reads the flood. */
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(call(f, "/t.T/Echo", "x", WAIT_MS), OK);
    }
    assert_true(fake_server_flooded(f->server) < (uint64_t)FLOOD_MESSAGES * FLOOD_BYTES);
    unsigned n = 0;
    enum err e = OK;
    while ((e = client_stream_recv(s, WAIT_MS, &f->reply)) == OK) {
        assert_int_equal(f->reply.len, FLOOD_BYTES);
        assert_int_equal(f->reply.data[FLOOD_BYTES - 1], (uint8_t)(FLOOD_MESSAGES - n));
        n++;
    }
    assert_int_equal(e, ERR_END);
    assert_int_equal(n, FLOOD_MESSAGES);
    assert_int_equal(client_stream_status(s)->code, 0);
    client_stream_close(&s);
}

/* --- from an event loop --- */

/* Poll as a loop would, until `over` or the connection's end. */
static enum err drive_until(struct client *c, const bool *over)
{
    enum err e = OK;
    bool again = true;
    for (unsigned i = 0; i < 10000 && e == OK && !*over; i++) {
        struct pollfd p = {.fd = client_fd(c), .events = (short)(POLLIN | (client_wants_write(c) ? POLLOUT : 0))};
        assert_true(poll(&p, 1, again ? 0 : WAIT_MS) >= 0);
        e = client_drive(c, &again);
    }
    return e;
}

struct listener {
    struct client_stream *stream;
    struct bytes got;
    size_t n_messages;
    bool over;
};

static void on_news(void *arg)
{
    struct listener *l = arg;
    struct slice message;
    while (client_stream_front(l->stream, &message)) {
        if (message.len < 64) {
            bytes_add(&l->got, message.data, message.len);
        }
        l->n_messages++;
        client_stream_drop(l->stream);
    }
    l->over = client_stream_status(l->stream) != NULL;
}

static void test_driven_streams(void **state)
{
    struct fixture *f = *state;
    struct listener ls[8] = {{0}};
    client_cork(f->client);
    for (size_t i = 0; i < 8; i++) {
        const uint8_t token = (uint8_t)('a' + i);
        const struct client_pair pair = {"token", slice_of(&token, 1)};
        assert_int_equal(client_stream_open_with(f->client, "/t.T/Token", &pair, 1, &ls[i].stream), OK);
        client_stream_on_news(ls[i].stream, on_news, &ls[i]);
        assert_int_equal(client_stream_send(ls[i].stream, slice_str("")), OK);
        assert_int_equal(client_stream_half_close(ls[i].stream), OK);
        assert_int_equal(client_stream_unsent(ls[i].stream), 5); /* corked */
    }
    for (size_t i = 0; i < 8; i++) {
        const char want[] = {(char)('a' + i), '\0'}; /* each its own, though they share a connection */
        assert_int_equal(drive_until(f->client, &ls[i].over), OK);
        assert_int_equal(client_stream_status(ls[i].stream)->code, CLIENT_CODE_OK);
        assert_true(slice_eq(bytes_slice(&ls[i].got), slice_str(want)));
        client_stream_close(&ls[i].stream);
        bytes_deinit(&ls[i].got);
    }
}

static void test_driven_flood(void **state)
{
    struct fixture *f = *state;
    struct listener l = {0};
    client_cork(f->client);
    assert_int_equal(client_stream_open(f->client, "/t.T/Flood", &l.stream), OK);
    client_stream_on_news(l.stream, on_news, &l);
    assert_int_equal(client_stream_half_close(l.stream), OK);
    assert_int_equal(drive_until(f->client, &l.over), OK);
    assert_int_equal(l.n_messages, FLOOD_MESSAGES);
    client_stream_close(&l.stream);
}

static void test_held_bytes_are_bounded(void **state)
{
    struct fixture *f = *state;
    struct client_stream *s = NULL;
    client_hold_max(f->client, FLOOD_BYTES * 3 / 2);
    assert_int_equal(client_stream_open(f->client, "/t.T/Flood", &s), OK);
    assert_int_equal(client_stream_half_close(s), OK);
    for (unsigned i = 0; i < 1000 && client_stream_status(s) == NULL; i++) {
        enum err e = client_pump(f->client, WAIT_MS); /* nobody takes what comes */
        assert_true(e == OK || e == ERR_DEADLINE);
    }
    assert_int_equal(client_stream_status(s)->code, CLIENT_CODE_EXHAUSTED);
    client_stream_close(&s);
    assert_int_equal(call(f, "/t.T/Echo", "x", WAIT_MS), OK); /* forgotten with the stream */
    assert_int_equal(f->status.code, CLIENT_CODE_OK);
}

static void test_driven_to_the_end(void **state)
{
    struct fixture *f = *state;
    struct listener l = {0};
    client_cork(f->client);
    assert_int_equal(client_stream_open(f->client, "/t.T/Hangup", &l.stream), OK);
    client_stream_on_news(l.stream, on_news, &l);
    assert_int_equal(client_stream_send(l.stream, slice_str("")), OK);
    assert_int_equal(client_stream_half_close(l.stream), OK);
    bool never = false;
    assert_int_equal(drive_until(f->client, &never), ERR_CLOSED);
    assert_true(l.over);
    assert_int_equal(client_stream_status(l.stream)->code, CLIENT_CODE_UNAVAILABLE);
    assert_true(client_stream_status(l.stream)->local);
    assert_false(client_stream_untouched(l.stream));
    client_stream_close(&l.stream);
}

static void test_bad_targets(void **state)
{
    (void)state;
    static const char *const targets[] = {"nocolon", "host:", ":1", "unix:", "unix:/nowhere/x"};
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        struct client *c = NULL;
        struct err_ctx ec;
        assert_int_not_equal(client_connect(targets[i], 1000, &c, &ec), OK);
        assert_null(c);
        assert_non_null(strstr(ec.text, targets[i]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unary_outcomes, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost_connection, setup, teardown),
        cmocka_unit_test_setup_teardown(test_metadata, setup, teardown),
        cmocka_unit_test_setup_teardown(test_many_outstanding, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close_ends_calls, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_echo, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stream_cancel, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unread_messages_hold_the_server, setup, teardown),
        cmocka_unit_test_setup_teardown(test_driven_streams, setup, teardown),
        cmocka_unit_test_setup_teardown(test_driven_flood, setup, teardown),
        cmocka_unit_test_setup_teardown(test_held_bytes_are_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(test_driven_to_the_end, setup, teardown),
        cmocka_unit_test(test_bad_targets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
