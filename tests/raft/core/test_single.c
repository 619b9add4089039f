/* test_single.c - one voter: founding, election, durability before commit, restart, reads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/core/raft.h"

#define E 10u /* election ticks */

/* A log that is durable when the test says so. */
struct solo {
    struct raft *r;
    struct raft_hard_state hard_state;
    size_t n_entries;
    struct raft_entry entries[64];
    size_t n_after; /* of batches handed out, oldest first */
    struct raft_message *after[64];
    uint64_t applied;
    struct raft_conf_state conf;
    size_t n_reads;
    struct raft_read_state reads[16];
};

static struct raft_config base_config(void)
{
    return (struct raft_config){
        .id = 1,
        .election_ticks = E,
        .heartbeat_ticks = 1,
        .max_append_bytes = RAFT_APPEND_BYTES,
        .max_inflight = RAFT_INFLIGHT,
        .pre_vote = true,
        .check_quorum = true,
        .seed = 42,
    };
}

static void start(struct solo *s, struct raft_config config)
{
    struct err_ctx ec = {0};
    config.hard_state = s->hard_state;
    config.entries = s->entries;
    config.n_entries = s->n_entries;
    config.applied = s->applied;
    config.conf = s->conf;
    assert_int_equal(raft_create(&config, &s->r, &ec), OK);
}

static void stop(struct solo *s)
{
    for (size_t i = 0; i < s->n_after; i++) {
        raft_message_destroy(&s->after[i]);
    }
    s->n_after = 0;
    raft_destroy(&s->r);
}

static void forget(struct solo *s)
{
    stop(s);
    for (size_t i = 0; i < s->n_entries; i++) {
        buf_unref(&s->entries[i].data);
    }
}

/* What a new cluster of one begins with. */
static void found(struct solo *s)
{
    *s = (struct solo){.hard_state = {.term = 1, .commit = 1}, .n_entries = 1};
    struct raft_conf_change cc = {.v1 = true, .n_changes = 1, .changes = {{RAFT_CONF_ADD_NODE, 1}}};
    s->entries[0] = (struct raft_entry){.index = 1,
                                        .term = 1,
                                        .type = RAFT_ENTRY_CONF_CHANGE,
                                        .data = raft_conf_change_encode(&cc)};
}

static void apply(struct solo *s, const struct raft_actions *a)
{
    if (a->n_committed == 0) {
        return;
    }
    bool conf = false;
    struct raft_conf_change cc = {0};
    for (size_t i = 0; i < a->n_committed; i++) {
        const struct raft_entry *e = &a->committed[i];
        assert_int_equal(e->index, s->applied + 1);
        s->applied = e->index;
        if (e->type != RAFT_ENTRY_NORMAL) {
            assert_int_equal(raft_conf_change_decode(e->type, buf_slice(e->data), &cc), OK);
            conf = true;
        }
    }
    if (conf) { /* never more than one in these tests */
        assert_int_equal(raft_apply_conf_change(s->r, &cc, &s->conf, NULL), OK);
    }
    raft_applied(s->r, s->applied);
}

/* Take the actions; the log has them now, and says so at the next durable(). */
static struct raft_actions act(struct solo *s)
{
    struct raft_actions a;
    raft_actions(s->r, &a);
    assert_int_equal(a.n_send, 0); /* there is nobody */
    if (a.hard_state_changed) {
        s->hard_state = a.hard_state;
    }
    for (size_t i = 0; i < a.n_append; i++) {
        s->entries[s->n_entries] = a.append[i];
        if (a.append[i].data != NULL) {
            (void)buf_ref(a.append[i].data);
        }
        assert_int_equal(a.append[i].index, s->n_entries + 1);
        s->n_entries++;
    }
    for (size_t i = 0; i < a.n_after; i++) {
        s->after[s->n_after++] = a.after[i];
    }
    for (size_t i = 0; i < a.n_reads; i++) {
        s->reads[s->n_reads++] = a.reads[i];
    }
    apply(s, &a);
    return a;
}

static void durable(struct solo *s, size_t n_messages)
{
    for (size_t i = 0; i < n_messages; i++) {
        assert_int_equal(raft_receive(s->r, s->after[i]), OK);
        raft_message_destroy(&s->after[i]);
    }
    s->n_after -= n_messages;
    memmove(&s->after[0], &s->after[n_messages], s->n_after * sizeof(s->after[0]));
}

static void run(struct solo *s)
{
    while (s->n_after > 0 || raft_has_actions(s->r)) {
        (void)act(s);
        durable(s, s->n_after);
    }
}

static struct raft_status status(const struct solo *s)
{
    struct raft_status st;
    raft_status(s->r, &st);
    return st;
}

static void lead(struct solo *s)
{
    run(s);
    raft_campaign(s->r);
    run(s);
    assert_int_equal(status(s).role, RAFT_LEADER);
}

static enum err propose(struct solo *s, const char *text)
{
    struct raft_entry e = {.data = buf_copy(slice_str(text))};
    enum err err = raft_propose(s->r, &e, 1);
    buf_unref(&e.data);
    return err;
}

static void founded_log_is_handed_out_and_makes_a_voter(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    raft_campaign(s.r); /* not before its own addition is applied */
    assert_int_equal(status(&s).role, RAFT_FOLLOWER);
    struct raft_actions a = act(&s);
    assert_int_equal(a.n_committed, 1);
    assert_false(a.hard_state_changed);
    assert_int_equal(s.conf.voters.n, 1);
    lead(&s);
    assert_int_equal(status(&s).hard_state.term, 2);
    assert_int_equal(status(&s).hard_state.commit, 2); /* the empty entry of the term */
    forget(&s);
}

static void fast_forward_does_not_elect_but_nearly(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct solo s;
        found(&s);
        struct raft_config config = base_config();
        config.seed = seed;
        start(&s, config);
        run(&s);
        raft_fast_forward(s.r, E - 1);
        run(&s);
        assert_int_equal(status(&s).role, RAFT_FOLLOWER);
        uint32_t ticks = 0;
        while (status(&s).role != RAFT_LEADER) {
            raft_tick(s.r);
            run(&s);
            ticks++;
        }
        assert_in_range(ticks, 1, E);
        forget(&s);
    }
}

static void nothing_is_committed_before_it_is_durable(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    lead(&s);
    uint64_t commit = status(&s).hard_state.commit;
    assert_int_equal(propose(&s, "a"), OK);
    struct raft_actions a = act(&s);
    assert_int_equal(a.n_append, 1);
    assert_true(a.must_sync);
    assert_false(raft_has_actions(s.r));
    size_t first_batch = s.n_after;
    assert_int_equal(propose(&s, "b"), OK);
    assert_int_equal(propose(&s, "c"), OK);
    a = act(&s);
    assert_int_equal(a.n_append, 2);
    assert_int_equal(a.n_committed, 0);
    assert_int_equal(status(&s).hard_state.commit, commit);
    durable(&s, first_batch);
    assert_int_equal(status(&s).hard_state.commit, commit + 1);
    a = act(&s);
    assert_int_equal(a.n_committed, 1);
    assert_false(a.must_sync); /* a commit index alone needs no fsync */
    run(&s);
    assert_int_equal(s.applied, commit + 3);
    forget(&s);
}

static void a_batch_is_appended_in_order(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    lead(&s);
    struct raft_entry e[5] = {0};
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        e[i].data = buf_copy(slice_of(&i, sizeof(i)));
    }
    assert_int_equal(raft_propose(s.r, e, ARRAY_LEN(e)), OK);
    struct raft_actions a = act(&s);
    assert_int_equal(a.n_append, ARRAY_LEN(e));
    for (size_t i = 0; i < ARRAY_LEN(e); i++) {
        assert_ptr_equal(a.append[i].data, e[i].data); /* shared, not copied */
        assert_int_equal(a.append[i].index, 3 + i);
        assert_int_equal(a.append[i].term, 2);
        buf_unref(&e[i].data);
    }
    run(&s);
    assert_int_equal(s.applied, 2 + ARRAY_LEN(e));
    forget(&s);
}

static void restart_hands_out_what_was_committed_and_commits_what_was_durable(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    lead(&s);
    assert_int_equal(propose(&s, "committed"), OK);
    run(&s);
    assert_int_equal(propose(&s, "durable only"), OK);
    (void)act(&s);
    uint64_t last = s.n_entries;
    stop(&s);
    s.applied = 1; /* the state machine was stored early */

    start(&s, base_config());
    assert_int_equal(status(&s).hard_state.term, 2);
    assert_int_equal(status(&s).last_index, last);
    struct raft_actions a = act(&s);
    assert_int_equal(a.n_committed, last - 2); /* not the last one, not the first one */
    lead(&s);
    assert_int_equal(status(&s).hard_state.term, 3);
    assert_int_equal(s.applied, last + 1);
    forget(&s);
}

static void reads_wait_for_the_first_commit_of_the_term(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    run(&s);
    assert_int_equal(raft_read_index(s.r, slice_str("early")), ERR_NO_LEADER);
    raft_campaign(s.r);
    while (status(&s).role != RAFT_LEADER) {
        (void)act(&s);
        durable(&s, s.n_after);
    }
    assert_int_equal(raft_read_index(s.r, slice_str("12345678")), OK);
    (void)act(&s);
    assert_int_equal(s.n_reads, 0);
    run(&s);
    assert_int_equal(s.n_reads, 1);
    assert_int_equal(s.reads[0].index, 2);
    assert_int_equal(s.reads[0].context_len, 8);
    assert_memory_equal(s.reads[0].context, "12345678", 8);
    assert_int_equal(raft_read_index(s.r, slice_str("now")), OK);
    (void)act(&s);
    assert_int_equal(s.n_reads, 2); /* at once: a sole voter is its own majority */
    forget(&s);
}

static void pending_reads_are_bounded(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    run(&s);
    raft_campaign(s.r);
    while (status(&s).role != RAFT_LEADER) {
        (void)act(&s);
        durable(&s, s.n_after);
    }
    for (size_t i = 0; i < RAFT_READS_MAX; i++) {
        assert_int_equal(raft_read_index(s.r, slice_str("x")), OK);
    }
    assert_int_equal(raft_read_index(s.r, slice_str("x")), ERR_BUSY);
    forget(&s);
}

static void uncommitted_proposals_are_bounded_except_the_first(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    struct raft_config config = base_config();
    config.max_uncommitted_bytes = 10;
    start(&s, config);
    lead(&s);
    assert_int_equal(propose(&s, "longer than the limit"), OK);
    assert_int_equal(propose(&s, "b"), ERR_BUSY);
    run(&s);
    assert_int_equal(propose(&s, "12345"), OK);
    assert_int_equal(propose(&s, "67890"), OK);
    assert_int_equal(propose(&s, "1"), ERR_BUSY);
    run(&s);
    assert_int_equal(propose(&s, "1"), OK);
    forget(&s);
}

static void committed_entries_come_in_pieces(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    struct raft_config config = base_config();
    config.max_committed_bytes = 30; /* two entries of 5 bytes, each 5 + 8 */
    start(&s, config);
    lead(&s);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(propose(&s, "12345"), OK);
    }
    (void)act(&s);
    durable(&s, s.n_after);
    struct raft_actions a;
    size_t sizes[4] = {0};
    for (size_t i = 0; i < 3; i++) {
        raft_actions(s.r, &a);
        s.hard_state = a.hard_state;
        for (size_t k = 0; k < a.n_after; k++) {
            raft_message_destroy(&a.after[k]);
        }
        sizes[i] = a.n_committed;
        uint64_t last = a.committed[a.n_committed - 1].index;
        assert_false(raft_has_actions(s.r)); /* no more until these are applied */
        raft_applied(s.r, last);
    }
    assert_int_equal(sizes[0], 2);
    assert_int_equal(sizes[1], 2);
    assert_int_equal(sizes[2], 1);
    forget(&s);
}

static void compaction_keeps_what_is_not_applied(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    lead(&s);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(propose(&s, "x"), OK);
    }
    run(&s);
    assert_int_equal(propose(&s, "y"), OK);
    raft_compact(s.r, 10);
    assert_int_equal(status(&s).first_index, 11);
    assert_int_equal(raft_term_of(s.r, 10), 2);
    assert_int_equal(raft_term_of(s.r, 9), 0);
    raft_compact(s.r, 5);
    assert_int_equal(status(&s).first_index, 11);
    raft_compact(s.r, 1000);
    assert_int_equal(status(&s).first_index, s.applied + 1);
    run(&s);
    assert_int_equal(s.applied, 23);
    forget(&s);
}

static void a_lone_suspect_does_not_lead(void **state)
{
    (void)state;
    struct solo s;
    found(&s);
    start(&s, base_config());
    raft_suspect(s.r, 1, 1);
    assert_false(status(&s).suspect); /* the log reaches there */
    raft_suspect(s.r, 1, 5);
    assert_true(status(&s).suspect);
    assert_int_equal(status(&s).hard_state.term, 2);
    run(&s);
    raft_campaign(s.r);
    assert_int_equal(status(&s).role, RAFT_FOLLOWER);
    forget(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(founded_log_is_handed_out_and_makes_a_voter),
        cmocka_unit_test(fast_forward_does_not_elect_but_nearly),
        cmocka_unit_test(nothing_is_committed_before_it_is_durable),
        cmocka_unit_test(a_batch_is_appended_in_order),
        cmocka_unit_test(restart_hands_out_what_was_committed_and_commits_what_was_durable),
        cmocka_unit_test(reads_wait_for_the_first_commit_of_the_term),
        cmocka_unit_test(pending_reads_are_bounded),
        cmocka_unit_test(uncommitted_proposals_are_bounded_except_the_first),
        cmocka_unit_test(committed_entries_come_in_pieces),
        cmocka_unit_test(compaction_keeps_what_is_not_applied),
        cmocka_unit_test(a_lone_suspect_does_not_lead),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
