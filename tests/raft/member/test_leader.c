/* test_leader.c - a leader of two, moved on by hand: what it has under way to a slow follower is never more than a link holds (raft/peer/limits.h), and
 * once it is removed it stays until the other one knows. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "raft/member/internal.h"
#include "raft/member/limits.h"
#include "raft/member/step.h"
#include "raft/peer/codec.h"
#include "tests/raft/member/fixture.h"

enum { TURNS_MAX = 4000, LARGE = 1500000, N_LARGE = 160, WAITING_MAX = LINK_STREAM_MESSAGES_MAX, REQUESTS_MAX = 64 };

static_assert((uint64_t)N_LARGE * LARGE > 3u * (uint64_t)LINK_STREAM_BYTES_MAX, "several times what the link holds");

/* A leader of two, its log, the link to the other one, and the other one. */
struct world {
    struct fixture f;
    struct wal *wal;
    struct wal_request *requests[REQUESTS_MAX];
    size_t n_requests;
    struct member_transport transport;
    struct raft_message *waiting[WAITING_MAX]; /* appends at the link */
    size_t first, n;
    size_t bytes, bytes_most;
    size_t n_dropped;
    uint64_t last; /* entry of the other one */
    uint64_t commit; /* as its log knows it */
    bool stands;   /* the link takes, and brings nothing on */
};

static void on_submit(void *arg, struct wal_request *r)
{
    struct world *w = arg;
    assert_true(w->n_requests < REQUESTS_MAX);
    w->requests[w->n_requests++] = r;
}

static void on_release(void *arg, uint64_t index)
{
    struct err_ctx ec = {{0}};
    assert_int_equal(wal_release(((struct world *)arg)->wal, index, &ec), OK);
}

static void on_kick(void *arg, bool urgent)
{
    (void)arg;
    (void)urgent;
}

static void on_retry(void *arg)
{
    (void)arg;
}

static void on_request(void *arg, struct member_op *op)
{
    (void)arg;
    (void)op;
    fail_msg("nothing is asked of the store");
}

/* --- the other one -------------------------------------------------------------------------------------------- */

static void answer(struct world *w, const struct raft_message *m)
{
    enum raft_message_type type = RAFT_MSG_APP_RESP;
    if (m->type == RAFT_MSG_TIMEOUT_NOW) { /* it does not want to lead */
        return;
    }
    if (m->type == RAFT_MSG_PRE_VOTE || m->type == RAFT_MSG_VOTE) {
        type = m->type == RAFT_MSG_VOTE ? RAFT_MSG_VOTE_RESP : RAFT_MSG_PRE_VOTE_RESP;
    } else if (m->type == RAFT_MSG_HEARTBEAT) {
        type = RAFT_MSG_HEARTBEAT_RESP;
    } else {
        assert_int_equal(m->type, RAFT_MSG_APP);
    }
    struct raft_message *r = raft_message_create(type, 0);
    r->to = MEMBER;
    r->from = OTHER_MEMBER;
    r->term = m->term;
    if (type == RAFT_MSG_APP_RESP) {
        assert_true(m->index <= w->last); /* nothing is missing before it */
        w->last = m->index + m->n_entries > w->last ? m->index + m->n_entries : w->last;
        r->index = m->index + m->n_entries;
    } else if (type == RAFT_MSG_HEARTBEAT_RESP) {
        r->context_len = m->context_len;
        memcpy(r->context, m->context, m->context_len);
    }
    member_receive(w->f.m, r);
}

/* As ring_push of raft/peer/link.c. */
static void send_one(struct world *w, struct raft_message *m)
{
    size_t bytes = peer_message_bytes(m);
    if (m->type != RAFT_MSG_APP) { /* by the other stream */
        answer(w, m);
        raft_message_destroy(&m);
        return;
    }
    if (w->n == WAITING_MAX || (w->n > 0 && w->bytes + bytes > LINK_STREAM_BYTES_MAX)) {
        w->n_dropped++;
        raft_message_destroy(&m);
        member_link_news(w->f.m, OTHER_MEMBER, LINK_NEWS_UNREACHABLE);
        return;
    }
    w->waiting[(w->first + w->n++) % WAITING_MAX] = m;
    w->bytes += bytes;
    w->bytes_most = w->bytes > w->bytes_most ? w->bytes : w->bytes_most;
}

static void on_send(void *arg, struct raft_message *const *messages, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        send_one(arg, messages[i]);
    }
}

static void bring_one(struct world *w)
{
    if (w->n == 0 || w->stands) {
        return;
    }
    struct raft_message *m = w->waiting[w->first];
    w->first = (w->first + 1) % WAITING_MAX;
    w->n--;
    w->bytes -= peer_message_bytes(m);
    answer(w, m);
    raft_message_destroy(&m);
}

static void on_members_changed(void *arg)
{
    (void)arg;
}

static uint64_t active_since_ms(void *arg, uint64_t id)
{
    (void)arg;
    return id == OTHER_MEMBER ? 1 : 0;
}

/* --- the world -------------------------------------------------------------------------------------------------- */

static void turn(struct world *w)
{
    fixture_advance(&w->f, 1);
    bring_one(w);
    (void)member_turn(w->f.m);
    for (size_t i = 0; i < w->n_requests; i++) {
        struct wal_request *r = w->requests[i];
        const struct wal_batch b = {.has_hard_state = r->has_hard_state, .hard_state = r->hard_state, .entries = r->entries, .n_entries = r->n_entries};
        struct err_ctx ec = {{0}};
        assert_int_equal(wal_append(w->wal, &b, &r->last, &ec), OK);
        w->commit = r->has_hard_state ? r->hard_state.commit : w->commit;
        r->node.next = NULL;
        member_log_done(w->f.m, r, r, 1);
    }
    w->n_requests = 0;
}

static void ask_versions(void *arg)
{
    member_versions(((struct world *)arg)->f.m, "3.7.1", true);
}

static void world_init(struct world *w)
{
    memset(w, 0, sizeof(*w));
    w->transport = (struct member_transport){on_send, on_members_changed, active_since_ms, ask_versions, w};
    fixture_init(&w->f);
    fixture_freeze(&w->f); /* a heartbeat each second turn */
    w->f.n_initial = 2;
    w->f.transport = &w->transport;
    w->f.max_request_bytes = 2u * LARGE;
    fixture_open(&w->f);
    w->wal = member_take_wal(w->f.m);
    member_connect(w->f.m, &(struct member_log){on_submit, on_release, w}, &(struct member_store){on_kick, on_request, on_retry, w});
    w->last = 2; /* the founding entries */
    for (int i = 0; i < TURNS_MAX && !w->f.ready; i++) {
        turn(w);
    }
    assert_true(w->f.ready);
}

static void world_deinit(struct world *w)
{
    for (; w->n > 0; w->n--) {
        raft_message_destroy(&w->waiting[w->first]);
        w->first = (w->first + 1) % WAITING_MAX;
    }
    member_last_turn(w->f.m);
    for (; w->n > 0; w->n--) { /* sent with the last turn */
        raft_message_destroy(&w->waiting[w->first]);
        w->first = (w->first + 1) % WAITING_MAX;
    }
    wal_close(&w->wal);
    fixture_deinit(&w->f);
}

/* The puts come while the link stands; then it brings one message a turn. */
static void large_entries_do_not_overfill_a_link(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof(*w));
    uint8_t *value = xcalloc(1, LARGE);
    struct ask *asks = xcalloc(N_LARGE, sizeof(*asks));
    world_init(w);
    w->stands = true;
    for (size_t i = 0; i < N_LARGE; i++) {
        assert_int_equal(propose_start(&w->f, &asks[i], &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = slice_of(value, LARGE)}), OK);
        turn(w);
    }
    w->stands = false;
    for (int i = 0; i < TURNS_MAX && !ask_answered(&asks[N_LARGE - 1]); i++) {
        turn(w);
    }
    for (size_t i = 0; i < N_LARGE; i++) {
        assert_int_equal(ask_wait(&asks[i]), OK);
        ask_release(&asks[i]);
    }
    assert_int_equal(w->n_dropped, 0);
    assert_true(w->bytes_most >= MEMBER_INFLIGHT_BYTES_MAX); /* the window is used, ... */
    assert_true(w->bytes_most <= LINK_STREAM_BYTES_MAX / 2); /* ... and the link has room left */
    world_deinit(w);
    free(asks);
    free(value);
    free(w);
}

/* A leader of two that has applied its own removal. */
static struct world *removed_leader(void)
{
    struct world *w = xcalloc(1, sizeof(*w));
    const struct member_change change = {.kind = MEMBER_REMOVE, .id = MEMBER};
    struct ask a = {.op = {.kind = MEMBER_CHANGE, .change = &change}};
    world_init(w);
    assert_int_equal(ask_submit(&w->f, &a), OK);
    for (int i = 0; i < TURNS_MAX && !ask_answered(&a); i++) {
        turn(w);
    }
    assert_int_equal(ask_wait(&a), OK);
    ask_release(&a);
    return w;
}

static void turns(struct world *w, int n)
{
    for (int i = 0; i < n; i++) {
        turn(w);
    }
}

static void a_removed_leader_stays_until_the_other_one_knows(void **state)
{
    (void)state;
    struct world *w = removed_leader();
    turns(w, 1);
    assert_int_equal(w->commit, engine_applied_index(member_engine(w->f.m))); /* a crash does not make it forget */
    turns(w, 1000);
    assert_int_equal(w->f.n_removed, 0);
    assert_true(member_status(w->f.m).is_leader); /* and tells it what is committed */
    member_link_news(w->f.m, OTHER_MEMBER + 1, LINK_NEWS_REMOVED);
    turns(w, 2);
    assert_int_equal(w->f.n_removed, 0); /* not one of those who stay */
    member_link_news(w->f.m, OTHER_MEMBER, LINK_NEWS_REMOVED);
    turns(w, 2);
    assert_int_equal(w->f.n_removed, 1);
    world_deinit(w);
    free(w);
}

static void the_patience_of_a_removed_leader_ends(void **state)
{
    (void)state;
    struct world *w = removed_leader();
    fixture_advance(&w->f, MEMBER_REMOVAL_WAIT_MS / 2);
    turns(w, 2);
    assert_int_equal(w->f.n_removed, 0);
    fixture_advance(&w->f, MEMBER_REMOVAL_WAIT_MS / 2);
    turns(w, 2);
    assert_int_equal(w->f.n_removed, 1);
    world_deinit(w);
    free(w);
}

/* It never gets the entry: the others' word is all there is. */
static void another_members_word_is_enough(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof(*w));
    world_init(w);
    member_link_news(w->f.m, OTHER_MEMBER, LINK_NEWS_REMOVED);
    turns(w, 2);
    assert_int_equal(w->f.n_removed, 1);
    world_deinit(w);
    free(w);
}

static bool briefly(struct member *m, struct member_op *op)
{
    op->target = OTHER_MEMBER;
    op->deadline_ms = m->now_ms + 20;
    transfer_begin(m, op);
    return false;
}

/* Each transfer has a time of its own: a planned stop does not wait for what a client asked before. */
static void a_transfer_ends_in_its_own_time(void **state)
{
    (void)state;
    struct world *w = xcalloc(1, sizeof(*w));
    world_init(w);
    struct ask asked = {.op = {.kind = MEMBER_TRANSFER, .target = OTHER_MEMBER}};
    struct ask brief = {.op = {.kind = MEMBER_CALL, .call = briefly}};
    assert_int_equal(ask_submit(&w->f, &asked), OK);
    assert_int_equal(ask_submit(&w->f, &brief), OK);
    turns(w, 30);
    assert_true(ask_answered(&brief));
    assert_int_equal(ask_wait(&brief), ERR_TIMEOUT_TRANSFER);
    assert_false(ask_answered(&asked));
    turns(w, TURNS_MAX * 2);
    assert_int_equal(ask_wait(&asked), ERR_TIMEOUT_TRANSFER);
    ask_release(&asked);
    ask_release(&brief);
    world_deinit(w);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(large_entries_do_not_overfill_a_link),
        cmocka_unit_test(a_removed_leader_stays_until_the_other_one_knows),
        cmocka_unit_test(the_patience_of_a_removed_leader_ends),
        cmocka_unit_test(another_members_word_is_enough),
        cmocka_unit_test(a_transfer_ends_in_its_own_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
