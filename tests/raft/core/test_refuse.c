/* test_refuse.c - what raft does not accept: starts that cannot be, messages that no sound peer
 * sends, changes that are not possible; and the encoding of changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/core/raft.h"

static struct raft_config config_of(const struct raft_entry *entries, size_t n)
{
    struct raft_config config = {
        .id = 1,
        .election_ticks = 10,
        .heartbeat_ticks = 1,
        .max_append_bytes = RAFT_APPEND_BYTES,
        .max_inflight = RAFT_INFLIGHT,
        .check_quorum = true,
        .hard_state = {.term = 3, .commit = 2},
        .entries = entries,
        .n_entries = n,
        .conf = {.voters = {3, {1, 2, 3}}},
        .applied = 2,
    };
    return config;
}

static const struct raft_entry four[] = {{.index = 1, .term = 1},
                                         {.index = 2, .term = 1},
                                         {.index = 3, .term = 2},
                                         {.index = 4, .term = 3}};

static void starts_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const struct raft_entry gap[] = {{.index = 1, .term = 1}, {.index = 3, .term = 1}};
    static const struct raft_entry falling[] = {{.index = 1, .term = 2}, {.index = 2, .term = 1}};
    struct raft_config c[12];
    enum err want[12];
    size_t n = 0;
#define CASE(entries, error, change)                                                               \
    do {                                                                                           \
        c[n] = config_of(entries, ARRAY_LEN(entries));                                             \
        change;                                                                                    \
        want[n++] = error;                                                                         \
    } while (0)
    CASE(four, OK, (void)0);
    CASE(gap, ERR_CORRUPT, (void)0);
    CASE(falling, ERR_CORRUPT, (void)0);
    CASE(four, ERR_CORRUPT, c[n].hard_state.commit = 5);
    CASE(four, ERR_CORRUPT, c[n].applied = 3);
    CASE(four, ERR_INVALID, c[n].id = 0);
    CASE(four, ERR_INVALID, c[n].election_ticks = 1);
    CASE(four, ERR_INVALID, c[n].max_inflight = 0);
    CASE(four, ERR_INVALID, (c[n].lease_reads = true, c[n].check_quorum = false));
    CASE(four, ERR_INVALID, c[n].max_inflight_bytes = 1);
    CASE(four, ERR_INVALID, c[n].conf.learners_next = c[n].conf.voters);
    CASE(four, ERR_CORRUPT, (c[n].snapshot_index = 1, c[n].snapshot_term = 1));
#undef CASE
    for (size_t i = 0; i < n; i++) {
        struct raft *r = NULL;
        struct err_ctx ec = {0};
        enum err e = raft_create(&c[i], &r, &ec);
        if (e != want[i]) {
            fail_msg("case %zu: %s (%s)", i, err_text(e), ec.text);
        }
        assert_true((e == OK) == (r != NULL));
        raft_destroy(&r);
    }
}

static void drain(struct raft *r)
{
    struct raft_actions a;
    raft_actions(r, &a);
    for (size_t i = 0; i < a.n_send; i++) {
        raft_message_destroy(&a.send[i]);
    }
    for (size_t i = 0; i < a.n_after; i++) {
        raft_message_destroy(&a.after[i]);
    }
}

static void bad_messages_change_nothing(void **state)
{
    (void)state;
    struct raft_entry far[] = {{.index = 7, .term = 3}};
    struct raft_entry newer[] = {{.index = 5, .term = 9}};
    struct raft_entry typed[] = {{.index = 5, .term = 3, .type = (enum raft_entry_type)7}};
    struct raft_snapshot overlap = {
        .index = 9, .term = 3, .conf = {.voters = {1, {1}}, .learners_next = {1, {1}}}};
    const struct {
        const char *claim;
        struct raft_message m;
        enum err want;
    } rows[] = {
        {"an unknown type",
         {.type = (enum raft_message_type)99, .from = 2, .term = 3},
         ERR_INVALID},
        {"a peer may not make us campaign", {.type = RAFT_MSG_HUP, .from = 2}, ERR_PERM},
        {"nor report for our log",
         {.type = RAFT_MSG_STORAGE_APPEND_RESP, .from = 2, .term = 3},
         ERR_PERM},
        {"nor make us forget", {.type = RAFT_MSG_FORGET_LEADER, .from = 2}, ERR_PERM},
        {"answers come from members",
         {.type = RAFT_MSG_APP_RESP, .from = 9, .term = 3},
         ERR_NOT_FOUND},
        {"a term is needed", {.type = RAFT_MSG_APP, .from = 2}, ERR_INVALID},
        {"a proposal has none",
         {.type = RAFT_MSG_PROP, .from = 2, .term = 3, .n_entries = 1, .entries = far},
         ERR_INVALID},
        {"a proposal is of something", {.type = RAFT_MSG_PROP, .from = 2}, ERR_INVALID},
        {"a read has a context", {.type = RAFT_MSG_READ_INDEX, .from = 2}, ERR_INVALID},
        {"entries follow each other",
         {.type = RAFT_MSG_APP,
          .from = 2,
          .term = 3,
          .index = 4,
          .log_term = 3,
          .n_entries = 1,
          .entries = far},
         ERR_INVALID},
        {"no entry is of a later term than its leader",
         {.type = RAFT_MSG_APP,
          .from = 2,
          .term = 3,
          .index = 4,
          .log_term = 3,
          .n_entries = 1,
          .entries = newer},
         ERR_INVALID},
        {"entries have a known type",
         {.type = RAFT_MSG_APP,
          .from = 2,
          .term = 3,
          .index = 4,
          .log_term = 3,
          .n_entries = 1,
          .entries = typed},
         ERR_INVALID},
        {"a snapshot message has one", {.type = RAFT_MSG_SNAP, .from = 2, .term = 3}, ERR_INVALID},
        {"a configuration holds together",
         {.type = RAFT_MSG_SNAP, .from = 2, .term = 3, .snapshot = &overlap},
         ERR_INVALID},
        {"a heartbeat counts on entries we lost",
         {.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 3, .commit = 9},
         ERR_CORRUPT},
        {"the same from a later term",
         {.type = RAFT_MSG_HEARTBEAT, .from = 2, .term = 4, .commit = 9},
         ERR_CORRUPT},
    };
    struct raft_config config = config_of(four, ARRAY_LEN(four));
    struct raft *r = NULL;
    assert_int_equal(raft_create(&config, &r, NULL), OK);
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum err e = raft_receive(r, &rows[i].m);
        if (e != rows[i].want || raft_has_actions(r)) {
            fail_msg("%s: %s", rows[i].claim, err_text(e));
        }
    }
    drain(r);
    raft_destroy(&r);
}

static void a_leader_does_not_believe_in_entries_it_never_had(void **state)
{
    (void)state;
    struct raft_config config = config_of(four, ARRAY_LEN(four));
    struct raft *r = NULL;
    assert_int_equal(raft_create(&config, &r, NULL), OK);
    raft_campaign(r);
    drain(r);
    struct raft_message votes[] = {{.type = RAFT_MSG_VOTE_RESP, .from = 1, .term = 4},
                                   {.type = RAFT_MSG_VOTE_RESP, .from = 2, .term = 4}};
    assert_int_equal(raft_receive(r, &votes[0]), OK);
    assert_int_equal(raft_receive(r, &votes[1]), OK);
    struct raft_status st;
    raft_status(r, &st);
    assert_int_equal(st.role, RAFT_LEADER);
    struct raft_message ack = {.type = RAFT_MSG_APP_RESP, .from = 2, .term = 4, .index = 6};
    assert_int_equal(raft_receive(r, &ack), ERR_INVALID);
    ack.index = 5;
    assert_int_equal(raft_receive(r, &ack), OK);
    /* A proposed change that cannot be read is refused, whoever forwards it. */
    struct raft_entry junk = {.type = RAFT_ENTRY_CONF_CHANGE_V2,
                              .data = buf_copy(slice_str("\x0a"))};
    struct raft_message prop = {.type = RAFT_MSG_PROP, .from = 2, .n_entries = 1, .entries = &junk};
    assert_int_equal(raft_receive(r, &prop), ERR_INVALID);
    buf_unref(&junk.data);
    drain(r);
    raft_destroy(&r);
}

static void changes_that_are_not_possible_leave_no_trace(void **state)
{
    (void)state;
    struct raft_config config = config_of(four, ARRAY_LEN(four));
    struct raft *r = NULL;
    struct err_ctx ec;
    struct raft_conf_state before;
    struct raft_conf_state after;
    assert_int_equal(raft_create(&config, &r, NULL), OK);
    before = *raft_conf(r);
    struct raft_conf_change leave = {0};
    assert_int_equal(raft_apply_conf_change(r, &leave, NULL, &ec), ERR_INVALID);
    assert_string_equal(ec.text, "can't leave a non-joint config");
    struct raft_conf_change many = {.n_changes = RAFT_MEMBERS_MAX};
    for (size_t i = 0; i < RAFT_MEMBERS_MAX; i++) {
        many.changes[i] = (struct raft_conf_change_single){RAFT_CONF_ADD_LEARNER, 100 + i};
    }
    assert_int_equal(raft_apply_conf_change(r, &many, NULL, &ec), ERR_LIMIT);
    assert_int_equal(raft_apply_conf_change(r, NULL, &after, NULL), OK);
    assert_memory_equal(&before, &after, sizeof(before));
    raft_destroy(&r);
}

static void conf_changes_are_encoded_as_etcd_does(void **state)
{
    (void)state;
    struct raft_conf_change v1 = {.v1 = true,
                                  .id = 300,
                                  .n_changes = 1,
                                  .changes = {{RAFT_CONF_ADD_LEARNER, 5}},
                                  .context = slice_str("ctx")};
    static const uint8_t v1_bytes[] = {0x08, 0xac, 0x02, 0x10, 0x03, 0x18,
                                       0x05, 0x22, 0x03, 'c',  't',  'x'};
    struct raft_conf_change v2 = {.transition = RAFT_TRANSITION_JOINT_EXPLICIT,
                                  .n_changes = 2,
                                  .changes = {{RAFT_CONF_ADD_NODE, 1}, {RAFT_CONF_REMOVE_NODE, 2}}};
    static const uint8_t v2_bytes[] = {0x08, 0x02, 0x12, 0x04, 0x08, 0x00, 0x10,
                                       0x01, 0x12, 0x04, 0x08, 0x01, 0x10, 0x02};
    const struct {
        const struct raft_conf_change *cc;
        enum raft_entry_type type;
        struct slice bytes;
    } rows[] = {
        {&v1, RAFT_ENTRY_CONF_CHANGE, {v1_bytes, sizeof(v1_bytes)}},
        {&v2, RAFT_ENTRY_CONF_CHANGE_V2, {v2_bytes, sizeof(v2_bytes)}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct buf *b = raft_conf_change_encode(rows[i].cc);
        struct raft_conf_change back;
        assert_true(slice_eq(buf_slice(b), rows[i].bytes));
        assert_int_equal(raft_conf_change_decode(rows[i].type, buf_slice(b), &back), OK);
        assert_int_equal(back.v1, rows[i].cc->v1);
        assert_int_equal(back.id, rows[i].cc->id);
        assert_int_equal(back.transition, rows[i].cc->transition);
        assert_int_equal(back.n_changes, rows[i].cc->n_changes);
        assert_memory_equal(back.changes, rows[i].cc->changes, sizeof(back.changes));
        assert_true(slice_eq(back.context, rows[i].cc->context));
        /* Every cut of it is either refused or another sound message, never read past its end. */
        for (size_t cut = 0; cut < b->len; cut++) {
            (void)(raft_conf_change_decode(rows[i].type, slice_of(b->data, cut), &back) == OK);
        }
        buf_unref(&b);
    }
    struct raft_conf_change cc;
    static const uint8_t bad_type[] = {0x10, 0x09};
    static const uint8_t unknown_field[] = {0x50, 0x01};
    assert_int_equal(raft_conf_change_decode(RAFT_ENTRY_CONF_CHANGE, slice_of(bad_type, 2), &cc),
                     ERR_INVALID);
    assert_int_equal(
        raft_conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2, slice_of(unknown_field, 2), &cc), OK);
    assert_int_equal(
        raft_conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2, (struct slice){NULL, 0}, &cc), OK);
    assert_int_equal(cc.n_changes, 0);
}

static void malformed_changes_are_refused(void **state)
{
    (void)state;
    const struct {
        const char *claim;
        enum raft_entry_type type;
        size_t len;
        const char *bytes;
        enum err want;
    } rows[] = {
        {"normal entries are no changes", RAFT_ENTRY_NORMAL, 0, "", ERR_INVALID},
        {"v1: the id is a number", RAFT_ENTRY_CONF_CHANGE, 2, "\x0a\x00", ERR_INVALID},
        {"v1: the type is a number", RAFT_ENTRY_CONF_CHANGE, 2, "\x12\x00", ERR_INVALID},
        {"v1: the node is a number", RAFT_ENTRY_CONF_CHANGE, 2, "\x1a\x00", ERR_INVALID},
        {"v1: the context is bytes", RAFT_ENTRY_CONF_CHANGE, 2, "\x20\x00", ERR_INVALID},
        {"v1: unknown fields are skipped", RAFT_ENTRY_CONF_CHANGE, 2, "\x50\x01", OK},
        {"v2: the transition is known", RAFT_ENTRY_CONF_CHANGE_V2, 2, "\x08\x03", ERR_INVALID},
        {"v2: changes are messages", RAFT_ENTRY_CONF_CHANGE_V2, 2, "\x10\x00", ERR_INVALID},
        {"v2: whole messages", RAFT_ENTRY_CONF_CHANGE_V2, 3, "\x12\x02\x08", ERR_INVALID},
        {"v2: of a known type", RAFT_ENTRY_CONF_CHANGE_V2, 4, "\x12\x02\x08\x04", ERR_INVALID},
        {"v2: a node is a number", RAFT_ENTRY_CONF_CHANGE_V2, 4, "\x12\x02\x12\x00", ERR_INVALID},
        {"v2: unknown parts are skipped", RAFT_ENTRY_CONF_CHANGE_V2, 4, "\x12\x02\x18\x00", OK},
        {"v2: the context is bytes", RAFT_ENTRY_CONF_CHANGE_V2, 2, "\x18\x00", ERR_INVALID},
        {"v2: a context", RAFT_ENTRY_CONF_CHANGE_V2, 3, "\x1a\x01x", OK},
    };
    struct raft_conf_change cc;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum err e =
            raft_conf_change_decode(rows[i].type, slice_of(rows[i].bytes, rows[i].len), &cc);
        if (e != rows[i].want) {
            fail_msg("%s: %s", rows[i].claim, err_text(e));
        }
    }
    struct bytes many = {0};
    for (size_t i = 0; i <= RAFT_MEMBERS_MAX; i++) {
        bytes_add(&many, "\x12\x02\x10\x05", 4);
    }
    assert_int_equal(raft_conf_change_decode(RAFT_ENTRY_CONF_CHANGE_V2, bytes_slice(&many), &cc),
                     ERR_LIMIT);
    bytes_deinit(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_that_cannot_be_are_refused),
        cmocka_unit_test(bad_messages_change_nothing),
        cmocka_unit_test(a_leader_does_not_believe_in_entries_it_never_had),
        cmocka_unit_test(changes_that_are_not_possible_leave_no_trace),
        cmocka_unit_test(malformed_changes_are_refused),
        cmocka_unit_test(conf_changes_are_encoded_as_etcd_does),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
