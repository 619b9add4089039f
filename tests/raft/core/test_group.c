/* test_group.c - three members: reads, transfer of leadership, flow control, quorum checks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "tests/raft/core/sim.h"

static struct sim_options three(void)
{
    return (struct sim_options){
        .seed = 5,
        .n_members = 3,
        .n_voters = 3,
        .pre_vote = true,
        .check_quorum = true,
        .max_append_bytes = RAFT_APPEND_BYTES,
        .max_inflight = RAFT_INFLIGHT,
    };
}

static struct sim_member *begin(const struct sim_options *options, struct sim **s)
{
    *s = sim_create(options);
    assert_true(sim_settle(*s, 200));
    return sim_leader(*s);
}

static struct sim_member *other(struct sim *s, const struct sim_member * not )
{
    return &s->members[not ->id == 1 ? 1 : 0];
}

static size_t waiting(const struct sim *s, enum raft_message_type type, uint64_t to)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n_network; i++) {
        n += s->network[i]->type == type && s->network[i]->to == to;
    }
    return n;
}

static uint64_t side_of(const struct sim_member *m)
{
    return UINT64_C(1) << (m->id - 1);
}

static enum raft_role role_of(const struct sim_member *m)
{
    struct raft_status st;
    raft_status(m->raft, &st);
    return st.role;
}

/* Exchange all messages once; nobody's clock moves. */
static void exchange(struct sim *s)
{
    for (size_t i = 0; i < s->options.n_members; i++) {
        sim_complete_all(s, &s->members[i]);
    }
    for (size_t n = s->n_network; n > 0; n--) {
        struct raft_message *m = s->network[0];
        s->n_network--;
        memmove(&s->network[0], &s->network[1], s->n_network * sizeof(s->network[0]));
        struct sim_member *to = &s->members[m->to - 1];
        if (((s->cut >> (m->from - 1)) & 1u) == ((s->cut >> (m->to - 1)) & 1u)) {
            assert_int_equal(raft_receive(to->raft, m), OK);
        }
        raft_message_destroy(&m);
    }
}

static void tick_all(struct sim *s, size_t rounds)
{
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < s->options.n_members; i++) {
            raft_tick(s->members[i].raft);
        }
        exchange(s);
    }
    exchange(s);
}

static void reads_are_confirmed_by_a_majority(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    struct sim_member *follower = other(s, leader);
    assert_int_equal(sim_read(s, leader), OK);
    assert_int_equal(sim_read(s, follower), OK);
    sim_act(s, leader);
    assert_int_equal(leader->n_reads_answered, 0);
    tick_all(s, 5);
    assert_int_equal(leader->n_reads_answered, 1);
    assert_int_equal(follower->n_reads_answered, 1);
    sim_destroy(&s);
}

static void a_leader_that_is_cut_off_answers_no_read_and_steps_down(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    s->cut = side_of(leader);
    assert_int_equal(sim_read(s, leader), OK);
    tick_all(s, 9);
    assert_int_equal(role_of(leader), RAFT_LEADER);
    tick_all(s, 40);
    assert_int_equal(role_of(leader), RAFT_PRE_CANDIDATE); /* it asks, and its term stands still */
    assert_int_equal(leader->n_reads_answered, 0);
    struct sim_member *now = sim_leader(s);
    assert_ptr_not_equal(now, leader);
    assert_non_null(now);
    sim_destroy(&s);
}

static void lease_reads_need_no_messages(void **state)
{
    (void)state;
    struct sim_options options = three();
    options.lease_reads = true;
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    assert_int_equal(sim_read(s, leader), OK);
    sim_act(s, leader);
    assert_int_equal(leader->n_reads_answered, 1);
    assert_int_equal(waiting(s, RAFT_MSG_HEARTBEAT, other(s, leader)->id), 0);
    sim_destroy(&s);
}

static void leadership_is_handed_over(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    struct sim_member *target = other(s, leader);
    raft_transfer_leader(leader->raft, target->id);
    assert_int_equal(sim_propose(s, leader), ERR_BUSY);
    for (size_t i = 0; i < 10; i++) { /* no election timeout passes */
        exchange(s);
    }
    assert_int_equal(role_of(target), RAFT_LEADER);
    assert_int_equal(role_of(leader), RAFT_FOLLOWER);
    /* A follower passes the wish on. */
    raft_transfer_leader(leader->raft, leader->id);
    for (size_t i = 0; i < 10; i++) {
        exchange(s);
    }
    assert_int_equal(role_of(leader), RAFT_LEADER);
    sim_destroy(&s);
}

static void a_transfer_to_nowhere_is_given_up(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    s->cut = side_of(other(s, leader));
    raft_transfer_leader(leader->raft, other(s, leader)->id);
    assert_int_equal(sim_propose(s, leader), ERR_BUSY);
    tick_all(s, 10);
    assert_int_equal(role_of(leader), RAFT_LEADER);
    assert_int_equal(sim_propose(s, leader), OK);
    sim_destroy(&s);
}

static void bytes_under_way_are_bounded(void **state)
{
    (void)state;
    struct sim_options options = three();
    options.max_append_bytes = 50;
    options.max_inflight_bytes = 100;
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    uint64_t follower = other(s, leader)->id;
    uint64_t bytes = 0;
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(sim_propose(s, leader), OK);
    }
    sim_act(s, leader);
    for (size_t i = 0; i < s->n_network; i++) {
        const struct raft_message *m = s->network[i];
        for (size_t k = 0; m->to == follower && k < m->n_entries; k++) {
            bytes += m->entries[k].data->len;
        }
    }
    assert_in_range(bytes, 100, 150); /* the message that reaches the limit is the last one */
    assert_true(sim_settle(s, 100));
    sim_destroy(&s);
}

static void messages_under_way_are_bounded(void **state)
{
    (void)state;
    struct sim_options options = three();
    options.max_inflight = 3;
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    for (size_t i = 0; i < 40; i++) {
        assert_int_equal(sim_propose(s, leader), OK);
    }
    sim_act(s, leader);
    assert_int_equal(waiting(s, RAFT_MSG_APP, other(s, leader)->id), 3);
    struct raft_peer peers[3];
    assert_int_equal(raft_peers(leader->raft, peers, 3), 3);
    assert_true(peers[other(s, leader)->id - 1].inflight_full);
    assert_true(sim_settle(s, 100));
    sim_destroy(&s);
}

static void forwarding_can_be_refused(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    uint64_t applied = leader->applied;
    assert_int_equal(sim_propose(s, other(s, leader)), OK);
    assert_true(sim_settle(s, 50));
    assert_true(sim_leader(s)->applied > applied);
    sim_destroy(&s);

    options.no_forwarding = true;
    leader = begin(&options, &s);
    assert_int_equal(sim_propose(s, other(s, leader)), ERR_NO_LEADER);
    sim_destroy(&s);
}

static void a_lost_snapshot_is_sent_again(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    struct sim_member *behind = other(s, leader);
    s->cut = side_of(behind);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sim_propose(s, leader), OK);
        exchange(s);
        exchange(s);
    }
    raft_compact(leader->raft, leader->applied);
    s->cut = 0;
    for (size_t i = 0; i < 10 && waiting(s, RAFT_MSG_SNAP, behind->id) == 0; i++) {
        raft_tick(leader->raft);
        exchange(s);
        sim_act(s, leader);
    }
    assert_int_equal(waiting(s, RAFT_MSG_SNAP, behind->id), 1);
    struct raft_peer peers[3];
    assert_int_equal(raft_peers(leader->raft, peers, 3), 3);
    assert_int_equal(peers[behind->id - 1].state, RAFT_SNAPSHOT);
    s->cut = side_of(behind);
    exchange(s);
    raft_report_snapshot(leader->raft, behind->id, false);
    assert_int_equal(raft_peers(leader->raft, peers, 3), 3);
    assert_int_equal(peers[behind->id - 1].state, RAFT_PROBE);
    assert_int_equal(s->n_snapshots, 1);
    assert_true(sim_settle(s, 100));
    assert_int_equal(behind->applied, leader->applied);
    assert_int_equal(s->n_snapshots, 2);
    sim_destroy(&s);
}

/* One of three lost acknowledged entries, and the leader believes that it still has them. */
static void a_suspect_gets_back_what_it_lost(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    struct sim_member *m = other(s, leader);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sim_propose(s, leader), OK);
    }
    assert_true(sim_settle(s, 50));
    leader = sim_leader(s);
    m = other(s, leader);
    sim_crash(s, m);
    uint64_t last = m->base_index + m->n_entries;
    m->lost_term = m->entries[m->n_entries - 1].term;
    m->lost_index = last;
    for (size_t keep = m->n_entries - 4; m->n_entries > keep; m->n_entries--) {
        buf_unref(&m->entries[m->n_entries - 1].data);
    }
    m->hard_state.commit = m->base_index + m->n_entries;
    sim_start(s, m);
    struct raft_status st;
    raft_status(m->raft, &st);
    assert_true(st.suspect);
    raft_campaign(m->raft);
    assert_int_equal(role_of(m), RAFT_FOLLOWER);
    assert_true(sim_settle(s, 200)); /* without a proposal or a restart of the leader */
    raft_status(m->raft, &st);
    assert_false(st.suspect);
    assert_true(m->applied >= last);
    sim_destroy(&s);
}

static void who_forgets_the_leader_elects_another_at_once(void **state)
{
    (void)state;
    struct sim_options options = three();
    struct sim *s = NULL;
    struct sim_member *leader = begin(&options, &s);
    struct sim_member *hasty = other(s, leader);
    s->cut = side_of(leader);
    raft_campaign(hasty->raft);
    for (size_t i = 0; i < 10; i++) {
        exchange(s);
    }
    assert_int_equal(role_of(hasty), RAFT_PRE_CANDIDATE); /* the third one keeps the lease */
    for (size_t i = 0; i < options.n_members; i++) {
        raft_forget_leader(s->members[i].raft);
    }
    raft_campaign(hasty->raft);
    for (size_t i = 0; i < 10; i++) {
        exchange(s);
    }
    assert_int_equal(role_of(hasty), RAFT_LEADER);
    sim_destroy(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_are_confirmed_by_a_majority),
        cmocka_unit_test(a_leader_that_is_cut_off_answers_no_read_and_steps_down),
        cmocka_unit_test(lease_reads_need_no_messages),
        cmocka_unit_test(leadership_is_handed_over),
        cmocka_unit_test(a_transfer_to_nowhere_is_given_up),
        cmocka_unit_test(bytes_under_way_are_bounded),
        cmocka_unit_test(messages_under_way_are_bounded),
        cmocka_unit_test(forwarding_can_be_refused),
        cmocka_unit_test(a_lost_snapshot_is_sent_again),
        cmocka_unit_test(who_forgets_the_leader_elects_another_at_once),
        cmocka_unit_test(a_suspect_gets_back_what_it_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
