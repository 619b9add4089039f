/* test_hostile.c - one member among peers that send anything at all. What it does then may be
 * wrong, for such peers are no part of raft's bargain; but nothing they send ends the process, and
 * the shell's side of the contract holds: the log has no gaps, terms and commits only grow. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/mem.h"
#include "raft/core/raft.h"

#define ROUNDS 100u
#define EVENTS 4000u
#define MESSAGES_MAX 4096u

struct victim {
    struct raft *r;
    uint64_t random;
    struct raft_hard_state hard_state;
    uint64_t last; /* of the log that the shell keeps */
    uint64_t applied;
    size_t n_after;
    struct raft_message *after[MESSAGES_MAX];
    uint64_t n_accepted;
};

static uint64_t chance(struct victim *v, uint64_t below)
{
    v->random = v->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (v->random >> 33) % below;
}

/* Around what the member knows, so that checks are passed as often as not; sometimes far off. */
static uint64_t near(struct victim *v, uint64_t center)
{
    static const uint64_t far[] = {
        0, 1, UINT64_MAX, UINT64_MAX - 1, RAFT_NUMBER_MAX, RAFT_NUMBER_MAX - 1};
    if (chance(v, 200) == 0) {
        return far[chance(v, ARRAY_LEN(far))];
    }
    uint64_t n = center + chance(v, 6);
    return n < 3 ? n : n - 3;
}

static void random_ids(struct victim *v, struct raft_ids *ids)
{
    ids->n = (size_t)chance(v, 4);
    for (size_t i = 0; i < ids->n; i++) {
        ids->id[i] = chance(v, 6);
    }
}

static struct raft_snapshot *random_snapshot(struct victim *v, const struct raft_status *st)
{
    struct raft_snapshot s = {.index = near(v, st->last_index), .term = near(v, st->last_term)};
    random_ids(v, &s.conf.voters);
    if (chance(v, 3) == 0) {
        random_ids(v, &s.conf.learners);
        random_ids(v, &s.conf.voters_outgoing);
        random_ids(v, &s.conf.learners_next);
    }
    return raft_snapshot_copy(&s);
}

static void random_entries(struct victim *v, const struct raft_status *st, struct raft_message *m)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        struct raft_entry *e = &m->entries[i];
        e->index = chance(v, 50) == 0 ? near(v, st->last_index) : m->index + 1 + i;
        e->term = chance(v, 10) == 0 ? near(v, st->last_term) : m->log_term;
        if (chance(v, 5) == 0) {
            struct raft_conf_change cc = {.v1 = chance(v, 2) == 0, .n_changes = 1};
            cc.changes[0].type = (enum raft_conf_change_type)chance(v, 4);
            cc.changes[0].node = chance(v, 6);
            e->type = cc.v1 ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_CONF_CHANGE_V2;
            e->data = raft_conf_change_encode(&cc);
        } else if (chance(v, 100) == 0) {
            e->type = (enum raft_entry_type)chance(v, 5);
        } else {
            e->data = chance(v, 2) == 0 ? NULL : buf_copy(slice_str("junk"));
        }
    }
}

static struct raft_message *random_message(struct victim *v)
{
    struct raft_status st;
    raft_status(v->r, &st);
    enum raft_message_type type = (enum raft_message_type)chance(v, 25);
    bool request = type == RAFT_MSG_PROP || type == RAFT_MSG_READ_INDEX;
    struct raft_message *m = raft_message_create(
        type, request || type == RAFT_MSG_READ_INDEX_RESP ? 1 : (size_t)chance(v, 4));
    m->to = 1;
    m->from = chance(v, 40) == 0 ? near(v, UINT64_MAX) : chance(v, 5);
    m->term = request ? 0 : near(v, st.hard_state.term + 2);
    m->index = near(v, st.last_index);
    m->log_term = near(v, st.last_term + 2);
    m->commit = near(v, st.hard_state.commit);
    m->reject = chance(v, 4) == 0;
    m->reject_hint = near(v, st.last_index);
    m->context_len = (uint8_t)(chance(v, 50) == 0 ? 200 : chance(v, 2) * 8);
    if (type == RAFT_MSG_SNAP && chance(v, 10) != 0) {
        m->snapshot = random_snapshot(v, &st);
    }
    random_entries(v, &st, m);
    return m;
}

static void apply(struct victim *v, const struct raft_actions *a)
{
    if (a->n_committed == 0) {
        return;
    }
    size_t n = a->n_committed;
    struct raft_entry *e = xcalloc(n, sizeof(*e));
    for (size_t i = 0; i < n; i++) {
        e[i] = a->committed[i];
        e[i].data = e[i].data == NULL ? NULL : buf_ref(e[i].data);
        assert_int_equal(e[i].index, v->applied + 1);
        v->applied++;
    }
    for (size_t i = 0; i < n; i++) {
        struct raft_conf_change cc;
        if (e[i].type != RAFT_ENTRY_NORMAL &&
            raft_conf_change_decode(e[i].type, buf_slice(e[i].data), &cc) == OK) {
            enum err err = raft_apply_conf_change(v->r, &cc, NULL, NULL);
            assert_true(err == OK || err == ERR_INVALID);
        }
        buf_unref(&e[i].data);
    }
    free(e);
    raft_applied(v->r, v->applied);
}

static void act(struct victim *v)
{
    struct raft_actions a;
    raft_actions(v->r, &a);
    for (size_t i = 0; i < a.n_send; i++) {
        assert_int_not_equal(a.send[i]->to, 1);
        raft_message_destroy(&a.send[i]);
    }
    if (a.hard_state_changed) {
        assert_true(a.hard_state.term >= v->hard_state.term);
        assert_true(a.hard_state.commit >= v->hard_state.commit);
        v->hard_state = a.hard_state;
    }
    if (a.snapshot != NULL) {
        v->last = a.snapshot->index;
        v->applied = v->last;
    }
    if (a.n_append > 0) {
        assert_true(a.append[0].index <= v->last + 1);
        v->last = a.append[a.n_append - 1].index;
    }
    for (size_t i = 0; i < a.n_after; i++) {
        assert_true(v->n_after < MESSAGES_MAX);
        v->after[v->n_after++] = a.after[i];
    }
    apply(v, &a);
}

static void complete(struct victim *v)
{
    for (size_t i = 0; i < v->n_after; i++) {
        if (v->after[i]->to == 1) {
            enum err e = raft_receive(v->r, v->after[i]);
            assert_true(e == OK || e == ERR_NOT_FOUND);
        }
        raft_message_destroy(&v->after[i]);
    }
    v->n_after = 0;
}

static void event(struct victim *v)
{
    uint64_t dice = chance(v, 100);
    if (dice < 70) {
        struct raft_message *m = random_message(v);
        v->n_accepted += raft_receive(v->r, m) == OK;
        raft_message_destroy(&m);
    } else if (dice < 80) {
        raft_tick(v->r);
    } else if (dice < 90) {
        act(v);
    } else if (dice < 95) {
        act(v);
        complete(v);
    } else if (dice < 98) {
        /* The votes of the two others, so that it leads now and then. */
        struct raft_status st;
        raft_campaign(v->r);
        raft_status(v->r, &st);
        for (uint64_t from = 1; from <= 3; from++) {
            struct raft_message vote = {
                .type = RAFT_MSG_VOTE_RESP, .from = from, .term = st.hard_state.term};
            v->n_accepted += raft_receive(v->r, &vote) == OK;
        }
    } else {
        raft_compact(v->r, v->applied);
    }
}

static void nothing_that_peers_send_ends_the_process(void **state)
{
    (void)state;
    uint64_t accepted = 0;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        struct victim *v = xcalloc(1, sizeof(*v));
        v->random = round;
        struct raft_config config = {
            .id = 1,
            .election_ticks = 10,
            .heartbeat_ticks = 1,
            .max_append_bytes = (round & 1u) != 0 ? 40 : RAFT_APPEND_BYTES,
            .max_inflight = (round & 2u) != 0 ? 2 : RAFT_INFLIGHT,
            .check_quorum = (round & 4u) != 0,
            .conf = {.voters = {3, {1, 2, 3}}},
            .seed = round,
        };
        assert_int_equal(raft_create(&config, &v->r, NULL), OK);
        for (size_t i = 0; i < EVENTS; i++) {
            event(v);
        }
        act(v);
        complete(v);
        accepted += v->n_accepted;
        act(v);
        complete(v);
        raft_destroy(&v->r);
        for (size_t i = 0; i < v->n_after; i++) {
            raft_message_destroy(&v->after[i]);
        }
        free(v);
    }
    assert_true(accepted > ROUNDS * EVENTS / 10); /* it was not all refused at the door */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_that_peers_send_ends_the_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
