/* Databases from one member to another: delivered whole, or refused without a trace. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "raft/peer/frame.h"
#include "tests/api/peer/world.h"

#define MIB (1024u * 1024u)

static void order_snapshot(struct world *w)
{
    send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_SNAP, 0, 0));
}

static struct world *open_pair(uint64_t bytes)
{
    struct world *w = world_prepare(3); /* the third never comes */
    for (unsigned i = 0; i < 2; i++) {
        w->nodes[i].m.db_bytes = bytes;
        node_up(w, i);
    }
    wait_active(w, 0, 1);
    return w;
}

/* The spool is removed behind the answer. */
static void assert_clean(struct world *w)
{
    node_down(w, 1);
    assert_int_equal(spool_files(&w->nodes[1]), 0);
    world_close(w);
}

static void test_delivered(void **state)
{
    (void)state;
    static const uint64_t sizes[] = {1, 4096, 512 * 1024, 512 * 1024 + 1, 37 * MIB + 5};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct world *w = open_pair(sizes[i]);
        struct member *to = &w->nodes[1].m;
        order_snapshot(w);
        wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_DELIVERED, 1);
        assert_int_equal(to->n_installed, 1);
        assert_int_equal(w->nodes[0].m.n_flushes, 1);
        const struct raft_snapshot *s = to->installed->snapshot;
        assert_int_equal(s->index, 77);
        assert_int_equal(s->term, 5);
        assert_int_equal(s->conf.voters.n, 2);
        assert_int_equal(s->conf.voters.id[1], 0xa1);
        assert_int_equal(s->conf.learners.n, 1);
        assert_int_equal(to->installed->from, 0xa0);
        assert_true(s->data->len > 500 && memcmp(s->data->data, "{\"Root\":{\"Path\":\"/\",", 20) == 0);
        assert_int_equal(news_count(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED), 0);
        assert_clean(w);
    }
}

static void test_somebody_left_meanwhile(void **state)
{
    (void)state;
    struct world *w = open_pair(MIB);
    set_members(&w->nodes[0], 2, false, true);
    order_snapshot(w);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED, 1);
    assert_int_equal(w->nodes[1].m.n_staged, 0);
    assert_clean(w);
}

static void test_altered_on_the_way(void **state)
{
    (void)state;
    struct world *w = open_pair(3 * MIB);
    w->nodes[0].m.db_damage = 2 * MIB + 17;
    order_snapshot(w);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED, 1);
    assert_int_equal(w->nodes[1].m.n_staged, 1);
    assert_int_equal(w->nodes[1].m.n_installed, 0);
    w->nodes[0].m.db_damage = UINT64_MAX;
    order_snapshot(w);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_DELIVERED, 1);
    assert_clean(w);
}

static void test_sender_cannot_read_its_store(void **state)
{
    (void)state;
    struct world *w = open_pair(9 * MIB);
    w->nodes[0].m.db_fail_at = 5 * MIB;
    order_snapshot(w);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED, 1);
    assert_int_equal(w->nodes[1].m.n_staged, 0);
    assert_clean(w);
}

static void test_member_refuses_it(void **state)
{
    (void)state;
    struct world *w = open_pair(MIB);
    w->nodes[1].m.install_err = ERR_INVALID;
    order_snapshot(w);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED, 1);
    assert_int_equal(w->nodes[1].m.n_installed, 0);
    assert_clean(w);
}

static bool is_held(struct node *n)
{
    return n->m.held != NULL;
}

/* --- by hand --------------------------------------------------------------------------------------------------------- */

static void post_database(struct node *n, struct world *w, size_t bytes, const char *length, const char *until, struct bytes *got)
{
    struct bytes body = {0};
    struct peer_encoder e;
    char head[512];
    struct raft_message *m = message(w, 0, 1, RAFT_MSG_SNAP, 0, 0);
    m->snapshot = xcalloc(1, sizeof(*m->snapshot));
    m->snapshot->index = 9;
    m->snapshot->term = 2;
    peer_encoder_init(&e, PEER_STREAM_SNAPSHOT, 0xa0, 0xa1);
    peer_encode(&e, m, &body);
    raft_message_destroy(&m);
    memset(bytes_reserve(&body, bytes), 'd', bytes);
    body.len += bytes;
    (void)snprintf(head, sizeof(head),
                   "POST /raft/snapshot HTTP/1.1\r\nHost: h\r\nX-Server-From: a0\r\nX-Server-Version: 3.7.0\r\nX-Etcd-Cluster-ID: c1\r\n"
                   "Content-Length: %s\r\n\r\n",
                   length);
    if (length[0] == '=') {
        (void)snprintf(head, sizeof(head),
                       "POST /raft/snapshot HTTP/1.1\r\nHost: h\r\nX-Server-From: a0\r\nX-Server-Version: 3.7.0\r\nX-Etcd-Cluster-ID: c1\r\n"
                       "Content-Length: %zu\r\n\r\n",
                       body.len);
    }
    (void)ask_raw(n, head, bytes_slice(&body), until, got);
    bytes_deinit(&body);
}

static void test_one_at_a_time(void **state)
{
    (void)state;
    struct world *w = open_pair(MIB);
    struct bytes got = {0};
    w->nodes[1].m.hold_install = true;
    order_snapshot(w);
    wait_for(&w->nodes[1], is_held);
    post_database(&w->nodes[1], w, 100, "=", "received)\n", &got);
    assert_non_null(strstr((const char *)got.data, "HTTP/1.1 500 Internal Server Error\r\n"));
    assert_non_null(strstr((const char *)got.data, "failed to save KV snapshot (another snapshot is being received)\n"));
    assert_int_equal(w->nodes[1].m.n_staged, 1);
    release_install(&w->nodes[1]);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_DELIVERED, 1);
    bytes_deinit(&got);
    assert_clean(w);
}

static void test_too_short(void **state)
{
    (void)state;
    struct world *w = open_pair(2 * MIB);
    struct bytes got = {0};
    post_database(&w->nodes[1], w, MIB, "=", "2097152)\n", &got);
    assert_non_null(strstr((const char *)got.data, "HTTP/1.1 500 Internal Server Error\r\n"));
    assert_non_null(strstr((const char *)got.data, "X-Content-Type-Options: nosniff\r\n"));
    assert_non_null(strstr((const char *)got.data, "\r\n\r\nfailed to save KV snapshot (1048576 bytes instead of 2097152)\n"));
    assert_int_equal(w->nodes[1].m.n_installed, 0);
    bytes_deinit(&got);
    assert_clean(w);
}

/* The connection ends in the middle: `until` NULL ends our side of it. */
static void test_cut_off(void **state)
{
    (void)state;
    struct world *w = open_pair(2 * MIB);
    struct bytes got = {0};
    for (unsigned i = 0; i < 3;) {
        post_database(&w->nodes[1], w, i * (MIB - 3), "4000000", NULL, &got);
        /* The file of the one before may still be on its way out. */
        assert_true(got.len == 0 || strstr((const char *)got.data, "another snapshot") != NULL);
        i += got.len == 0 ? 1u : 0u;
    }
    post_database(&w->nodes[1], w, 2 * MIB, "100", NULL, &got); /* what comes behind the end is another request, and none */
    assert_int_equal(w->nodes[1].m.n_installed, 0);
    size_t failed = 0;
    order_snapshot(w);
    while (news_count(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_DELIVERED) == 0) {
        if (news_count(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED) > failed) {
            failed++;
            order_snapshot(w); /* the place was taken still */
        }
    }
    bytes_deinit(&got);
    assert_clean(w);
}

/* Lets a minute pass on the node's loop once a database has begun to come in. */
struct leap {
    struct loop_item item;
    struct loop_timer timer;
    struct node *n;
};

static void leap(struct loop *l, struct leap *k)
{
    if (k->n->t->spool == NULL) {
        loop_timer_set(l, &k->timer, loop_now_ms(l) + 2);
    } else {
        loop_skip(l, SPOOL_LOOK_MS + 1);
    }
}

static void leap_again(struct loop *l, struct loop_timer *t)
{
    leap(l, CONTAINER_OF(t, struct leap, timer));
}

static void leap_run(struct loop *l, struct loop_item *item)
{
    leap(l, CONTAINER_OF(item, struct leap, item));
}

static void test_too_slow(void **state)
{
    (void)state;
    struct world *w = open_pair(2 * MIB);
    struct bytes got = {0};
    struct leap k = {.item.run = leap_run, .timer.fire = leap_again, .n = &w->nodes[1]};
    loop_post(w->nodes[1].loop, &k.item);
    post_database(&w->nodes[1], w, 1000, "4000000", "never comes", &got);
    assert_int_equal(got.len, 0);
    assert_int_equal(w->nodes[1].m.n_staged, 0);
    bytes_deinit(&got);
    assert_clean(w);
}

static void test_head_that_is_wrong(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    struct bytes body = {0};
    struct bytes got = {0};
    struct peer_encoder e;
    node_up(w, 1);
    struct raft_message *m = message(w, 0, 1, RAFT_MSG_HEARTBEAT, 0, 0);
    peer_encoder_init(&e, PEER_STREAM_MESSAGE, 0xa0, 0xa1);
    peer_encode(&e, m, &body);
    raft_message_destroy(&m);
    char head[512];
    (void)snprintf(head, sizeof(head),
                   "POST /raft/snapshot HTTP/1.1\r\nHost: h\r\nX-Server-From: a0\r\nX-Server-Version: 3.7.0\r\nX-Etcd-Cluster-ID: c1\r\n"
                   "Content-Length: %zu\r\n\r\n",
                   body.len);
    (void)ask_raw(&w->nodes[1], head, bytes_slice(&body), "type\n", &got);
    assert_non_null(strstr((const char *)got.data, "HTTP/1.1 400 Bad Request\r\n"));
    assert_non_null(strstr((const char *)got.data, "wrong raft message type\n"));
    bytes_deinit(&body);
    bytes_deinit(&got);
    assert_clean(w);
}

/* --- stopping ----------------------------------------------------------------------------------------------------------- */

static void test_stop_of_the_sender(void **state)
{
    (void)state;
    struct world *w = open_pair(300 * MIB);
    order_snapshot(w);
    node_down(w, 0);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED, 1);
    assert_clean(w);
}

static void test_stop_of_the_receiver(void **state)
{
    (void)state;
    struct world *w = open_pair(300 * MIB);
    order_snapshot(w);
    node_down(w, 1);
    wait_news(&w->nodes[0], 1, LINK_NEWS_SNAPSHOT_FAILED, 1);
    assert_clean(w);
}

static void test_leftovers_are_removed(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/a0-0000000000000007.snap.db.tmp", w->nodes[1].spool);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fclose(f);
    node_up(w, 1);
    assert_clean(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_delivered),
        cmocka_unit_test(test_somebody_left_meanwhile),
        cmocka_unit_test(test_altered_on_the_way),
        cmocka_unit_test(test_sender_cannot_read_its_store),
        cmocka_unit_test(test_member_refuses_it),
        cmocka_unit_test(test_one_at_a_time),
        cmocka_unit_test(test_too_short),
        cmocka_unit_test(test_cut_off),
        cmocka_unit_test(test_too_slow),
        cmocka_unit_test(test_head_that_is_wrong),
        cmocka_unit_test(test_stop_of_the_sender),
        cmocka_unit_test(test_stop_of_the_receiver),
        cmocka_unit_test(test_leftovers_are_removed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
