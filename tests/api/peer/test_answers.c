/* What this member makes of answers to its dials: another one that speaks wrongly costs a connection, never more. */
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/api/peer/world.h"

#define OKAY "HTTP/1.1 200 OK\r\nX-Server-Version: 3.4.23\r\nX-Etcd-Cluster-Id: c1\r\nTransfer-Encoding: chunked\r\n\r\n"
#define OLD "HTTP/1.1 200 OK\r\nX-Server-Version: 2.0.9\r\nTransfer-Encoding: chunked\r\n\r\n"

/* A member played by hand: answers every dial of the message stream with the same bytes, refuses the other stream. */
struct fake {
    int fd;
    const uint8_t *answer;
    size_t len;
    size_t n_answered; /* stop after so many */
    pthread_t thread;
};

static void serve_one(const struct fake *f, int fd, bool *message)
{
    static const char refusal[] = "HTTP/1.1 404 Not Found\r\nX-Server-Version: 3.4.23\r\nContent-Length: 23\r\n\r\nerror sender not found\n";
    char head[4096];
    size_t len = 0;
    head[0] = '\0';
    while (len < sizeof(head) - 1 && strstr(head, "\r\n\r\n") == NULL) {
        ssize_t n = recv(fd, head + len, sizeof(head) - 1 - len, 0);
        if (n <= 0) {
            return;
        }
        len += (size_t)n;
        head[len] = '\0';
    }
    *message = strstr(head, "GET /raft/stream/message/a0 HTTP/1.1\r\n") != NULL;
    if (*message) {
        assert_non_null(strstr(head, "X-Raft-To: a1\r\n"));
        assert_non_null(strstr(head, "X-Etcd-Cluster-ID: c1\r\n"));
        assert_non_null(strstr(head, "X-PeerURLs: http://127.0.0.1:"));
        assert_non_null(strstr(head, "X-Pintle-Extras: 1\r\n"));
    }
    (void)send(fd, *message ? f->answer : (const uint8_t *)refusal, *message ? f->len : sizeof(refusal) - 1, MSG_NOSIGNAL);
}

static void *fake_main(void *arg)
{
    struct fake *f = arg;
    for (size_t n = 0; n < f->n_answered;) {
        int fd = accept(f->fd, NULL, NULL);
        bool message = false;
        assert_true(fd >= 0);
        serve_one(f, fd, &message);
        n += message ? 1u : 0u;
        (void)close(fd);
    }
    return NULL;
}

static void fake_open(struct fake *f, const struct node *n)
{
    int on = 1;
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    a.sin_port = htons((uint16_t)strtoul(n->port, NULL, 10));
    f->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(f->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    assert_int_equal(bind(f->fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(f->fd, 64), 0);
    assert_int_equal(pthread_create(&f->thread, NULL, fake_main, f), 0);
}

struct row {
    const char *name;
    const char *answer;
    size_t len; /* 0: a string */
    size_t heartbeats; /* that reach the member for each answer */
    bool active;
    bool removed;
};

/* 30 bytes: a length, and a heartbeat to a0 from a1 in term 5. */
#define BEAT                                                                                                                                    \
    "\0\0\0\0\0\0\0\x16\x08\x08\x10\xa0\x01\x18\xa1\x01\x20\x05\x28\x00\x30\x00\x40\x00\x50\x00\x58\x00\x68\x00"
#define BYTES(s) (s), sizeof(s) - 1

static const struct row rows[] = {
    {"nothing of HTTP", "hello\r\n\r\n", 0, 0, false, false},
    {"an end before the head", "HTTP/1.1 200 OK\r\nX-Ser", 0, 0, false, false},
    {"a version without streams", OLD "0\r\n\r\n", 0, 0, false, false},
    {"another cluster", "HTTP/1.1 412 Precondition Failed\r\nContent-Length: 20\r\n\r\ncluster ID mismatch\n", 0, 0, false, false},
    {"this one was removed", "HTTP/1.1 410 Gone\r\nX-Server-Version: 3.7.1\r\nContent-Length: 15\r\n\r\nremoved member\n", 0, 0, false, true},
    {"an endless refusal", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 99999999\r\n\r\nno", 0, 0, false, false},
    {"an end in good order", OKAY "0\r\n\r\n", 0, 0, true, false},
    {"a frame that claims too much", BYTES(OKAY "8\r\n\x7f\xff\xff\xff\xff\xff\xff\xff\r\n"), 0, true, false},
    {"garbage in a frame", BYTES(OKAY "c\r\n\0\0\0\0\0\0\0\x04\xff\xff\xff\xff\r\n"), 0, true, false},
    {"a message, then an extra frame nobody agreed to", BYTES(OKAY "1e\r\n" BEAT "\r\n8\r\n\x80\0\0\0\0\0\0\0\r\n"), 1, true, false},
    {"a message that is cut off", BYTES(OKAY "1e\r\n" BEAT "\r\n5\r\n\0\0\0\0\0\r\n0\r\n\r\n"), 1, true, false},
    {"a chunk that is none", BYTES(OKAY "1e\r\n" BEAT "\r\nzz\r\n"), 1, true, false},
};

static void check_row(const struct row *r)
{
    struct world *w = world_prepare(2);
    struct fake f = {.answer = (const uint8_t *)r->answer, .len = r->len == 0 ? strlen(r->answer) : r->len, .n_answered = 3};
    fake_open(&f, &w->nodes[1]);
    node_up(w, 0);
    assert_int_equal(pthread_join(f.thread, NULL), 0);
    (void)close(f.fd);
    if (r->heartbeats > 0) {
        wait_received(&w->nodes[0], RAFT_MSG_HEARTBEAT, r->heartbeats * 3);
    }
    if (r->active) {
        wait_active(w, 0, 1);
    }
    if (r->removed) {
        wait_news(&w->nodes[0], 1, LINK_NEWS_REMOVED, 1);
    }
    node_down(w, 0);
    if (w->nodes[0].m.n_received[RAFT_MSG_HEARTBEAT] != r->heartbeats * 3 || (news_count(&w->nodes[0], 1, LINK_NEWS_ACTIVE) > 0) != r->active ||
        (news_count(&w->nodes[0], 1, LINK_NEWS_REMOVED) > 0) != r->removed) {
        fail_msg("%s: %zu messages, %zu times active", r->name, w->nodes[0].m.n_received[RAFT_MSG_HEARTBEAT],
                 news_count(&w->nodes[0], 1, LINK_NEWS_ACTIVE));
    }
    world_close(w);
}

static void test_answers(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        check_row(&rows[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
