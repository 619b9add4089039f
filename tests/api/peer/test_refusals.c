/* What a member answers to requests that are wrong: etcd's status and text, and nothing of them reaches the member. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "raft/peer/codec.h"
#include "tests/api/peer/world.h"

#define IDS "X-Server-From: a1\r\nX-Server-Version: 3.7.0\r\nX-Min-Cluster-Version: 3.0.0\r\nX-Etcd-Cluster-ID: c1\r\n"
#define NOSNIFF "X-Content-Type-Options: nosniff\r\n"
#define PLAIN "Content-Type: text/plain; charset=utf-8\r\n"

struct refusal {
    const char *name;
    const char *head; /* without Host and the empty line */
    const char *body;
    const char *status;
    const char *holds[4]; /* lines of the answer */
    const char *text;
};

static const struct refusal refusals[] = {
    {"a path that is none goes to the services", "GET /x HTTP/1.1\r\n", "", "404 Not Found", {NULL}, "no"},
    {"a stream is asked for with GET", "POST /raft/stream/message/a1 HTTP/1.1\r\n" IDS, "", "405 Method Not Allowed",
     {"Allow: GET\r\n", NOSNIFF, PLAIN}, "Method Not Allowed\n"},
    {"a message is posted", "GET /raft HTTP/1.1\r\n" IDS, "", "405 Method Not Allowed", {"Allow: POST\r\n", NOSNIFF}, "Method Not Allowed\n"},
    {"a version that is too low", "GET /raft/stream/message/a1 HTTP/1.1\r\nX-Server-Version: 2.3.0\r\nX-Etcd-Cluster-ID: c1\r\n", "",
     "412 Precondition Failed", {NOSNIFF, "X-Server-Version: 3.7.1\r\n"}, "incompatible version\n"},
    {"a version that needs more than we are",
     "POST /raft HTTP/1.1\r\nX-Server-Version: 4.9.0\r\nX-Min-Cluster-Version: 4.8.0\r\nX-Etcd-Cluster-ID: c1\r\n", "", "412 Precondition Failed",
     {NOSNIFF}, "incompatible version\n"},
    {"another cluster's stream", "GET /raft/stream/msgapp/a1 HTTP/1.1\r\nX-Server-Version: 3.7.0\r\nX-Etcd-Cluster-ID: c2\r\n", "",
     "412 Precondition Failed", {NOSNIFF, "X-Etcd-Cluster-ID: c1\r\n"}, "cluster ID mismatch\n"},
    {"another cluster's post", "POST /raft HTTP/1.1\r\nX-Server-Version: 3.7.0\r\nX-Etcd-Cluster-ID: c2\r\n", "x", "412 Precondition Failed",
     {NOSNIFF, PLAIN}, "cluster ID mismatch\n"},
    {"another cluster's database", "POST /raft/snapshot HTTP/1.1\r\nX-Server-Version: 3.7.0\r\nX-Etcd-Cluster-ID: c2\r\n", "x",
     "412 Precondition Failed", {NOSNIFF, PLAIN}, "cluster ID mismatch\n"},
    {"no such stream", "GET /raft/stream/other/a1 HTTP/1.1\r\n" IDS, "", "404 Not Found", {NOSNIFF}, "invalid path\n"},
    {"no id", "GET /raft/stream/message/zz HTTP/1.1\r\n" IDS, "", "404 Not Found", {NOSNIFF}, "invalid from\n"},
    {"a member nobody knows", "GET /raft/stream/message/77 HTTP/1.1\r\nX-Raft-To: a0\r\n" IDS, "", "404 Not Found", {NOSNIFF},
     "error sender not found\n"},
    {"a member that was removed", "GET /raft/stream/message/a2 HTTP/1.1\r\nX-Raft-To: a0\r\n" IDS, "", "410 Gone", {NOSNIFF}, "removed member\n"},
    {"meant for another", "GET /raft/stream/message/a1 HTTP/1.1\r\nX-Raft-To: a7\r\n" IDS, "", "412 Precondition Failed", {NOSNIFF},
     "to field mismatch\n"},
    {"no message", "POST /raft HTTP/1.1\r\n" IDS, "\xff\xff\xff", "400 Bad Request", {NOSNIFF, PLAIN}, "error unmarshalling raft message\n"},
    {"no message before a database", "POST /raft/snapshot HTTP/1.1\r\n" IDS, "\xff\xff\xff\xff\xff\xff\xff\xff ", "400 Bad Request", {NOSNIFF},
     "failed to decode raft message\n"},
    {"a database that ends in its message", "POST /raft/snapshot HTTP/1.1\r\n" IDS, "abc", "400 Bad Request", {NOSNIFF},
     "failed to decode raft message\n"},
    {"too much", "POST /raft HTTP/1.1\r\nContent-Length: 536870913\r\n" IDS, NULL, "413 Request Entity Too Large", {NULL},
     "413 Request Entity Too Large"},
    {"nothing of HTTP/2", "PRI * HTTP/2.0\r\n", "", "405 Method Not Allowed", {NULL}, "405 Method Not Allowed"},
};

static void check_refusal(struct node *n, const struct refusal *c)
{
    char head[1024];
    char status[64];
    struct bytes got = {0};
    int len = snprintf(head, sizeof(head), "%sHost: h\r\n", c->head);
    if (c->body != NULL) {
        (void)snprintf(head + len, sizeof(head) - (size_t)len, "Connection: close\r\nContent-Length: %zu\r\n\r\n", strlen(c->body));
    } else {
        (void)snprintf(head + len, sizeof(head) - (size_t)len, "\r\n");
    }
    (void)ask_raw(n, head, c->body == NULL ? slice_of(NULL, 0) : slice_str(c->body), c->text, &got);
    const char *text = (const char *)got.data;
    (void)snprintf(status, sizeof(status), "HTTP/1.1 %s\r\n", c->status);
    const char *body = strstr(text, "\r\n\r\n");
    if (strncmp(text, status, strlen(status)) != 0 || body == NULL || strcmp(body + 4, c->text) != 0) {
        fail_msg("%s: got %s", c->name, text);
    }
    for (size_t i = 0; i < 4 && c->holds[i] != NULL; i++) {
        if (strstr(text, c->holds[i]) == NULL) {
            fail_msg("%s: no %s in %s", c->name, c->holds[i], text);
        }
    }
    bytes_deinit(&got);
}

static void test_refusals(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    w->nodes[0].m.removed[2] = true;
    node_up(w, 0);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        check_refusal(&w->nodes[0], &refusals[i]);
    }
    for (size_t i = 0; i < TYPES; i++) {
        assert_int_equal(w->nodes[0].m.n_received[i], 0);
    }
    assert_int_equal(w->nodes[0].m.n_staged, 0);
    assert_int_equal(spool_files(&w->nodes[0]), 0);
    world_close(w);
}

/* --- messages in posts ---------------------------------------------------------------------------------------------- */

static void post(struct world *w, struct raft_message *m, const char *answer)
{
    char head[512];
    struct bytes body = {0};
    struct bytes got = {0};
    peer_message_encode(m, &body);
    raft_message_destroy(&m);
    (void)snprintf(head, sizeof(head), "POST /raft HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: %zu\r\n" IDS "\r\n", body.len);
    (void)ask_raw(&w->nodes[0], head, bytes_slice(&body), answer, &got);
    if (strstr((const char *)got.data, answer) == NULL) {
        fail_msg("no %s in %s", answer, (const char *)got.data);
    }
    bytes_deinit(&body);
    bytes_deinit(&got);
}

static void test_posted_messages(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    w->nodes[0].m.removed[2] = true;
    node_up(w, 0);
    post(w, message(w, 1, 0, RAFT_MSG_VOTE, 3, 0), "HTTP/1.1 204 No Content\r\nX-Etcd-Cluster-ID: c1\r\n");
    wait_received(&w->nodes[0], RAFT_MSG_VOTE, 1);
    post(w, message(w, 2, 0, RAFT_MSG_VOTE, 3, 0), "{\"message\":\"cannot process message from removed member\"}");
    post(w, message(w, 1, 3, RAFT_MSG_VOTE, 3, 0), "error processing raft message\n");
    post(w, message(w, 1, 0, RAFT_MSG_SNAP, 3, 0), "HTTP/1.1 400 ");
    assert_int_equal(w->nodes[0].m.n_received[RAFT_MSG_VOTE], 1);
    assert_int_equal(w->nodes[0].m.n_received[RAFT_MSG_SNAP], 0);
    world_close(w);
}

static void test_probing_and_streams_by_hand(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    struct bytes got = {0};
    node_up(w, 0);
    (void)ask_raw(&w->nodes[0], "GET /raft/probing HTTP/1.1\r\nHost: h\r\n\r\n", slice_of(NULL, 0), "Z\"}\n", &got);
    assert_non_null(strstr((const char *)got.data, "HTTP/1.1 200 OK\r\n" PLAIN));
    assert_non_null(strstr((const char *)got.data, "{\"OK\":true,\"Now\":\"20"));
    send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_VOTE, 1, 0)); /* nobody is there */
    /* The first heartbeat of the link comes after a while: 8 bytes of length, 20 of message, as one chunk. */
    (void)ask_raw(&w->nodes[0],
                  "GET /raft/stream/message/a1 HTTP/1.1\r\nHost: h\r\nX-Raft-To: a0\r\nX-PeerURLs: http://127.0.0.1:1\r\n" IDS "\r\n",
                  slice_of(NULL, 0), "\r\n1c\r\n", &got);
    const char *text = (const char *)got.data;
    static const char start[] = "HTTP/1.1 200 OK\r\nX-Server-Version: 3.7.1\r\nX-Etcd-Cluster-ID: c1\r\n";
    assert_true(strncmp(text, start, sizeof(start) - 1) == 0);
    assert_non_null(strstr(text, "Transfer-Encoding: chunked\r\n"));
    assert_null(strstr(text, "X-Pintle-Extras"));
    bytes_deinit(&got);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_posted_messages),
        cmocka_unit_test(test_probing_and_streams_by_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
