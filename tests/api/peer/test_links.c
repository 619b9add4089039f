/* Links between transports on loopback: streams, the pipeline, members that die, come back, join, leave and are removed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "tests/api/peer/world.h"

#define MANY 5000u
#define BATCH 100u

static void assert_in_order(struct node *n, enum raft_message_type type, uint64_t last)
{
    (void)pthread_mutex_lock(&n->m.lock);
    assert_true(n->m.in_order[type]);
    assert_int_equal(n->m.last_index[type], last);
    (void)pthread_mutex_unlock(&n->m.lock);
}

static double metric(struct node *n, const char *series)
{
    struct bytes text = {0};
    metrics_render(n->metrics, &text);
    bytes_add(&text, "", 1);
    const char *at = strstr((const char *)text.data, series);
    double v = at == NULL ? -1 : strtod(at + strlen(series), NULL);
    bytes_deinit(&text);
    return v;
}

static void connect_all(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        for (unsigned j = 0; j < w->n; j++) {
            if (i != j) {
                wait_active(w, i, j);
                wait_streams(w, i, j);
            }
        }
    }
}

static void exchange(struct world *w, unsigned from, unsigned to, size_t bytes, uint64_t first)
{
    struct raft_message *batch[BATCH * 2];
    for (uint64_t i = first; i < first + MANY; i += BATCH) {
        size_t n = 0;
        for (uint64_t j = i; j < i + BATCH; j++) {
            batch[n++] = message(w, from, to, RAFT_MSG_APP, j, bytes);
            batch[n++] = message(w, from, to, RAFT_MSG_HEARTBEAT, j, 0);
        }
        send_all(&w->nodes[from], batch, n);
        /* The streams' queues are bounded: a sender as quick as this one has to wait now and then. */
        wait_received(&w->nodes[to], RAFT_MSG_APP, i + BATCH - 1);
    }
}

static void ask(struct node *n, struct peer_question *q, uint64_t member, const char *path, uint32_t timeout_ms);

/* --- streams ----------------------------------------------------------------------------------------------------- */

static void test_three_members_exchange_thousands_of_messages(void **state)
{
    (void)state;
    struct world *w = world_open(3);
    connect_all(w);
    for (unsigned from = 0; from < 2; from++) {
        exchange(w, from, 2 - from * 2, 50, 1);
        wait_received(&w->nodes[2 - from * 2], RAFT_MSG_HEARTBEAT, MANY);
        assert_in_order(&w->nodes[2 - from * 2], RAFT_MSG_APP, MANY);
        assert_in_order(&w->nodes[2 - from * 2], RAFT_MSG_HEARTBEAT, MANY);
    }
    assert_true(metric(&w->nodes[0], "etcd_network_peer_sent_bytes_total{To=\"a2\"} ") > MANY * 50.0);
    assert_true(metric(&w->nodes[2], "etcd_network_peer_received_bytes_total{From=\"a0\"} ") > MANY * 50.0);
    assert_true(metric(&w->nodes[0], "etcd_network_active_peers{Local=\"a0\",Remote=\"a1\"} ") == 1.0);
    const struct member_transport *table = peer_transport_table(w->nodes[0].t);
    assert_true(table->active_since_ms(table->arg, 0xa1) > 0);
    assert_true(table->active_since_ms(table->arg, 0xa7) == 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(news_count(&w->nodes[i], 2, LINK_NEWS_UNREACHABLE), 0);
    }
    world_close(w);
}

static void test_sockets_of_the_unix_kind(void **state)
{
    (void)state;
    struct world *w = world_open_unix(2);
    connect_all(w);
    exchange(w, 0, 1, 10, 1);
    assert_in_order(&w->nodes[1], RAFT_MSG_APP, MANY);
    world_close(w);
}

static void test_large_messages_wait_for_the_socket(void **state)
{
    (void)state;
    enum { COUNT = 60, BYTES = 1000000 };
    struct world *w = world_open(2);
    struct raft_message *batch[COUNT];
    connect_all(w);
    for (uint64_t i = 0; i < COUNT; i++) {
        batch[i] = message(w, 0, 1, RAFT_MSG_APP, i + 1, BYTES);
    }
    send_all(&w->nodes[0], batch, COUNT);
    wait_received(&w->nodes[1], RAFT_MSG_APP, COUNT);
    assert_in_order(&w->nodes[1], RAFT_MSG_APP, COUNT);
    assert_int_equal(w->nodes[1].m.bytes, (size_t)COUNT * BYTES);
    assert_int_equal(news_count(&w->nodes[0], 1, LINK_NEWS_UNREACHABLE), 0);
    world_close(w);
}

/* --- members that come and go -------------------------------------------------------------------------------------- */

static void test_member_that_goes_is_reported_and_found_again(void **state)
{
    (void)state;
    struct world *w = world_open(2);
    connect_all(w);
    exchange(w, 0, 1, 10, 1);
    node_down(w, 1);
    wait_news(&w->nodes[0], 1, LINK_NEWS_GONE, 1);
    send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_HEARTBEAT, 9, 0));
    wait_news(&w->nodes[0], 1, LINK_NEWS_UNREACHABLE, 1);
    const struct member_transport *table = peer_transport_table(w->nodes[0].t);
    assert_true(table->active_since_ms(table->arg, 0xa1) == 0);
    size_t had = w->nodes[1].m.n_received[RAFT_MSG_APP];
    node_up(w, 1);
    wait_news(&w->nodes[0], 1, LINK_NEWS_ACTIVE, 2);
    wait_streams(w, 0, 1);
    send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_APP, MANY + 1, 10));
    wait_received(&w->nodes[1], RAFT_MSG_APP, had + 1);
    assert_in_order(&w->nodes[1], RAFT_MSG_APP, MANY + 1);
    world_close(w);
}

static void test_member_nobody_has_seen_is_not_gone(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    node_up(w, 0);
    for (unsigned i = 0; i < 5; i++) {
        send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_VOTE, 1, 0));
        wait_news(&w->nodes[0], 1, LINK_NEWS_UNREACHABLE, i + 1);
    }
    assert_int_equal(news_count(&w->nodes[0], 1, LINK_NEWS_GONE), 0);
    assert_int_equal(news_count(&w->nodes[0], 1, LINK_NEWS_ACTIVE), 0);
    world_close(w);
}

/* The new member 2 knows the others, who do not know it: it may only post, and is answered by posts. */
static void test_stranger_is_answered_by_posts(void **state)
{
    (void)state;
    struct world *w = world_prepare(3);
    for (unsigned i = 0; i < 3; i++) {
        w->nodes[i].m.knows[2] = i == 2;
        node_up(w, i);
    }
    wait_active(w, 0, 1);
    send_one(&w->nodes[2], message(w, 2, 0, RAFT_MSG_APP_RESP, 7, 0));
    wait_received(&w->nodes[0], RAFT_MSG_APP_RESP, 1);
    send_one(&w->nodes[0], message(w, 0, 2, RAFT_MSG_APP, 7, 10));
    wait_received(&w->nodes[2], RAFT_MSG_APP, 1);
    set_members(&w->nodes[0], 2, true, false);
    wait_streams(w, 0, 2);
    world_close(w);
}

static void test_removed_member_is_told(void **state)
{
    (void)state;
    struct world *w = world_open(3);
    connect_all(w);
    set_members(&w->nodes[0], 2, false, true);
    wait_news(&w->nodes[2], 0, LINK_NEWS_REMOVED, 1);
    send_one(&w->nodes[0], message(w, 0, 2, RAFT_MSG_HEARTBEAT, 1, 0));
    wait_news(&w->nodes[0], 2, LINK_NEWS_UNREACHABLE, 1);
    send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_HEARTBEAT, 1, 0));
    wait_received(&w->nodes[1], RAFT_MSG_HEARTBEAT, 1);
    world_close(w);
}

static void test_member_moves_to_another_address(void **state)
{
    (void)state;
    struct world *w = world_open(2);
    char spare[64];
    connect_all(w);
    node_down(w, 1);
    (void)snprintf(spare, sizeof(spare), "%s", w->nodes[3].url);
    (void)pthread_mutex_lock(&w->nodes[0].m.lock);
    memcpy(w->nodes[1].url, spare, sizeof(spare));
    memcpy(w->nodes[1].port, w->nodes[3].port, sizeof(w->nodes[1].port));
    (void)pthread_mutex_unlock(&w->nodes[0].m.lock);
    node_up(w, 1);
    set_members(&w->nodes[0], 1, true, false);
    wait_streams(w, 0, 1);
    world_close(w);
}

static void test_second_address_is_used_when_the_first_is_dead(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    memcpy(w->nodes[1].dead_url, w->nodes[3].url, sizeof(w->nodes[1].dead_url));
    node_up(w, 0);
    node_up(w, 1);
    connect_all(w);
    exchange(w, 0, 1, 10, 1);
    struct peer_question q = {.method = "POST", .content_type = "a/b", .authorization = ""};
    ask(&w->nodes[0], &q, 0xa1, "/echo", 5000);
    assert_int_equal(q.err, OK);
    bytes_deinit(&q.answer);
    node_down(w, 1);
    wait_news(&w->nodes[0], 1, LINK_NEWS_GONE, 1); /* every address refused */
    world_close(w);
}

static void test_other_cluster_is_refused(void **state)
{
    (void)state;
    struct world *w = world_prepare(2);
    w->nodes[1].cluster = CLUSTER + 1;
    node_up(w, 0);
    node_up(w, 1);
    send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_VOTE, 1, 0));
    wait_news(&w->nodes[0], 1, LINK_NEWS_UNREACHABLE, 1);
    assert_int_equal(w->nodes[1].m.n_received[RAFT_MSG_VOTE], 0);
    assert_int_equal(news_count(&w->nodes[0], 1, LINK_NEWS_ACTIVE), 0);
    world_close(w);
}

static void test_stopping_among_traffic(void **state)
{
    (void)state;
    struct world *w = world_open(3);
    connect_all(w);
    for (uint64_t i = 1; i <= 200; i++) {
        send_one(&w->nodes[0], message(w, 0, 1, RAFT_MSG_APP, i, 10000));
        send_one(&w->nodes[1], message(w, 1, 0, RAFT_MSG_APP, i, 10000));
    }
    world_close(w);
}

/* --- questions --------------------------------------------------------------------------------------------------------- */

static bool has_versions(struct node *n)
{
    return n->m.n_versions > 0;
}

static void ask_versions(struct node *n)
{
    const struct member_transport *table = peer_transport_table(n->t);
    table->ask_versions(table->arg);
    wait_for(n, has_versions);
    n->m.n_versions = 0;
}

static void test_lowest_version(void **state)
{
    (void)state;
    struct world *w = world_prepare(3);
    w->nodes[1].version = "3.6.16";
    w->nodes[2].version = "3.5.2";
    for (unsigned i = 0; i < 3; i++) {
        node_up(w, i);
    }
    ask_versions(&w->nodes[0]);
    assert_string_equal(w->nodes[0].m.versions, "3.5.0");
    assert_true(w->nodes[0].m.all_versions);
    node_down(w, 2);
    ask_versions(&w->nodes[0]);
    assert_string_equal(w->nodes[0].m.versions, "3.6.0");
    assert_false(w->nodes[0].m.all_versions);
    set_members(&w->nodes[0], 2, false, true);
    ask_versions(&w->nodes[0]);
    assert_string_equal(w->nodes[0].m.versions, "3.6.0");
    world_close(w);
}

static void on_answered(struct peer_question *q)
{
    struct node *n = q->arg;
    (void)pthread_mutex_lock(&n->m.lock);
    n->m.n_versions++;
    (void)pthread_cond_broadcast(&n->m.changed);
    (void)pthread_mutex_unlock(&n->m.lock);
}

static void ask(struct node *n, struct peer_question *q, uint64_t member, const char *path, uint32_t timeout_ms)
{
    bytes_deinit(&q->answer);
    q->member = member;
    q->timeout_ms = timeout_ms;
    (void)snprintf(q->path, sizeof(q->path), "%s", path);
    q->loop = n->loop;
    q->answered = on_answered;
    q->arg = n;
    peer_ask_member(n->t, q);
    wait_for(n, has_versions);
    n->m.n_versions = 0;
}

static void test_questions(void **state)
{
    (void)state;
    struct world *w = world_open(3);
    struct node *n = &w->nodes[0];
    struct peer_question q = {.method = "POST", .content_type = "a/b", .authorization = "token"};
    bytes_add_str(&q.body, "body");
    ask(n, &q, 0xa1, "/echo", 5000);
    assert_int_equal(q.err, OK);
    assert_int_equal(q.status, 201);
    bytes_add(&q.answer, "", 1);
    assert_string_equal(q.answer.data, "POST a/b token c1 body");
    ask(n, &q, 0xa1, "/nothing", 5000);
    assert_int_equal(q.err, OK);
    assert_int_equal(q.status, 404);
    ask(n, &q, 0xa7, "/echo", 5000);
    assert_int_equal(q.err, ERR_MEMBER_NOT_FOUND);
    ask(n, &q, 0xa1, "/never", 50);
    assert_int_equal(q.err, ERR_TIMEOUT);
    ask(n, &q, 0xa1, "/huge", 20000);
    assert_int_equal(q.err, ERR_LIMIT);
    node_down(w, 2);
    ask(n, &q, 0xa2, "/echo", 5000);
    assert_int_equal(q.err, ERR_IO);
    bytes_deinit(&q.body);
    bytes_deinit(&q.answer);
    world_close(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_three_members_exchange_thousands_of_messages),
        cmocka_unit_test(test_sockets_of_the_unix_kind),
        cmocka_unit_test(test_large_messages_wait_for_the_socket),
        cmocka_unit_test(test_member_that_goes_is_reported_and_found_again),
        cmocka_unit_test(test_member_nobody_has_seen_is_not_gone),
        cmocka_unit_test(test_stranger_is_answered_by_posts),
        cmocka_unit_test(test_removed_member_is_told),
        cmocka_unit_test(test_member_moves_to_another_address),
        cmocka_unit_test(test_second_address_is_used_when_the_first_is_dead),
        cmocka_unit_test(test_other_cluster_is_refused),
        cmocka_unit_test(test_stopping_among_traffic),
        cmocka_unit_test(test_lowest_version),
        cmocka_unit_test(test_questions),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
