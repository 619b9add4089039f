/* test_reconfig.c - etcd's rules for changes of membership, as a table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/member/reconfig.h"

static void rules(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum member_change_kind kind;
        enum err want;
        struct census c;
    } rows[] = {
        {"a second member beside a started one", MEMBER_ADD, OK, {.strict = true, .voters = 1, .started = 1, .active = 1}},
        {"a second member beside one that has no name", MEMBER_ADD, ERR_NOT_ENOUGH_STARTED, {.strict = true, .voters = 1, .active = 1}},
        {"a third one while the second has not started", MEMBER_ADD, ERR_NOT_ENOUGH_STARTED, {.strict = true, .voters = 2, .started = 1, .active = 2}},
        {"a third one", MEMBER_ADD, OK, {.strict = true, .voters = 2, .started = 2, .active = 2}},
        {"a fourth one, all up", MEMBER_ADD, OK, {.strict = true, .voters = 3, .started = 3, .active = 3}},
        {"a fourth one, one of three down", MEMBER_ADD, ERR_UNHEALTHY, {.strict = true, .voters = 3, .started = 3, .active = 2}},
        {"the same, not strict", MEMBER_ADD, OK, {.voters = 3, .started = 3, .active = 2}},
        {"a sixth one, one of five down", MEMBER_ADD, OK, {.strict = true, .voters = 5, .started = 5, .active = 4}},
        {"a sixth one, two of five down", MEMBER_ADD, ERR_UNHEALTHY, {.strict = true, .voters = 5, .started = 5, .active = 3}},
        {"a learner does not mind who has started", MEMBER_ADD_LEARNER, OK, {.strict = true, .voters = 3, .started = 1, .active = 3}},
        {"a learner minds who is up", MEMBER_ADD_LEARNER, ERR_UNHEALTHY, {.strict = true, .voters = 3, .started = 3, .active = 2}},
        {"a learner of a single member", MEMBER_ADD_LEARNER, OK, {.strict = true, .voters = 1, .started = 1, .active = 1}},
        {"the only member", MEMBER_REMOVE, ERR_NOT_ENOUGH_STARTED,
         {.strict = true, .voters = 1, .started = 1, .active = 1, .target_known = true, .target_started = true, .target_active = true, .target_is_self = true}},
        {"a healthy one of three", MEMBER_REMOVE, OK,
         {.strict = true, .voters = 3, .started = 3, .active = 3, .target_known = true, .target_started = true, .target_active = true}},
        {"a dead one of three", MEMBER_REMOVE, OK, {.strict = true, .voters = 3, .started = 3, .active = 2, .target_known = true, .target_started = true}},
        {"a healthy one while another is dead", MEMBER_REMOVE, ERR_UNHEALTHY,
         {.strict = true, .voters = 3, .started = 3, .active = 2, .target_known = true, .target_started = true, .target_active = true}},
        {"itself while another is dead", MEMBER_REMOVE, ERR_UNHEALTHY,
         {.strict = true, .voters = 3, .started = 3, .active = 2, .target_known = true, .target_started = true, .target_is_self = true, .target_active = true}},
        {"one that has started while one of the others has not", MEMBER_REMOVE, ERR_NOT_ENOUGH_STARTED,
         {.strict = true, .voters = 3, .started = 2, .active = 3, .target_known = true, .target_started = true, .target_active = true}},
        {"one that never started", MEMBER_REMOVE, OK, {.strict = true, .voters = 3, .started = 2, .active = 2, .target_known = true}},
        {"a learner", MEMBER_REMOVE, OK, {.strict = true, .voters = 1, .started = 1, .active = 1, .target_known = true, .target_learner = true}},
        {"anybody, not strict", MEMBER_REMOVE, OK, {.voters = 1, .started = 1, .active = 1, .target_known = true}},
        {"new addresses", MEMBER_UPDATE, OK, {.strict = true, .voters = 3}},
        {"promotion asked of a follower", MEMBER_PROMOTE, ERR_NOT_LEADER, {.strict = true, .target_known = true}},
        {"promotion of nobody", MEMBER_PROMOTE, ERR_MEMBER_NOT_FOUND, {.strict = true, .leads = true}},
        {"promotion of one that lacks more than a tenth", MEMBER_PROMOTE, ERR_LEARNER_NOT_READY,
         {.strict = true, .leads = true, .voters = 1, .started = 1, .target_known = true, .match = 89, .own_match = 100}},
        {"the same, not strict", MEMBER_PROMOTE, ERR_LEARNER_NOT_READY, {.leads = true, .voters = 1, .started = 1, .target_known = true, .match = 89, .own_match = 100}},
        {"promotion of one that is close", MEMBER_PROMOTE, OK,
         {.strict = true, .leads = true, .voters = 1, .started = 1, .target_known = true, .match = 90, .own_match = 100}},
        {"promotion beside voters that have not started", MEMBER_PROMOTE, ERR_NOT_ENOUGH_STARTED,
         {.strict = true, .leads = true, .voters = 3, .started = 1, .target_known = true, .match = 100, .own_match = 100}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        enum err got = reconfig_check(&rows[i].c, rows[i].kind);
        if (got != rows[i].want) {
            fail_msg("%s: %s, not %s", rows[i].name, err_text(got), err_text(rows[i].want));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(rules)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
