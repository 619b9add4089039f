/* test_check.c - histories written by hand: the checker must find what is wrong, and nothing else.
 *
 * Times are small numbers; see history.h for the fields of a line:
 * op KIND CLIENT KEY KEY2 INVOKE RETURN RESULT REV VALUE EXPECT SEEN_MOD SEEN_VALUE DONE
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "tests/cluster/check.h"

#define GOOD VIOLATIONS

struct row {
    const char *claim;
    const char *text;
    enum violation want;
};

static const struct row rows[] = {
    {"a write and a read of it",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op g 2 7 0 30 40 o 2 0 0 2 100 0\n",
     GOOD},
    {"an absent key reads as absent", "op g 2 7 0 30 40 o 1 0 0 0 0 0\n", GOOD},
    {"a stale read: it began after a write was acknowledged",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 2 100 0\n",
     BACK_IN_TIME},
    {"the same when the server claims a young revision",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "op g 2 7 0 50 60 o 3 0 0 2 100 0\n",
     WRONG_READ},
    {"a stale read is found without believing revisions",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 2 100 0\n",
     NO_ORDER},
    {"a serializable read may be stale",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "op s 2 7 0 50 60 o 2 0 0 2 100 0\n",
     GOOD},
    {"a serializable read may not be wrong",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "op s 2 7 0 50 60 o 3 0 0 2 100 0\n",
     WRONG_READ},
    {"what a serializable read showed cannot be unseen",
     "op p 1 7 0 10 90 u 0 100 0 0 0 0\n"
     "op s 2 7 0 50 60 o 2 0 0 2 100 0\n"
     "op g 2 7 0 70 80 o 1 0 0 0 0 0\n",
     BACK_IN_TIME},
    {"reads during a write may see either",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 80 o 3 101 0 0 0 0\n"
     "op g 2 7 0 40 50 o 2 0 0 2 100 0\n"
     "op g 2 7 0 60 70 o 3 0 0 3 101 0\n",
     GOOD},
    {"but not the new one and then the old one",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 80 o 3 101 0 0 0 0\n"
     "op g 2 7 0 40 50 o 3 0 0 3 101 0\n"
     "op g 2 7 0 60 70 o 2 0 0 2 100 0\n",
     BACK_IN_TIME},
    {"nor found without revisions",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 1 7 0 30 80 o 3 101 0 0 0 0\n"
     "op g 2 7 0 40 50 o 3 0 0 3 101 0\n"
     "op g 2 7 0 60 70 o 2 0 0 2 100 0\n",
     NO_ORDER},
    {"a lost write: acknowledged, then gone",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 0 0 0\n",
     WRONG_READ},
    {"a lost write is found without revisions",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 0 0 0\n",
     NO_ORDER},
    {"a lost write whose revision went to another: two leaders",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op p 2 8 0 12 22 o 2 101 0 0 0 0\n",
     SHARED_REVISION},
    {"a write with an older revision than one acknowledged before it began",
     "op p 1 7 0 10 20 o 5 100 0 0 0 0\n"
     "op p 2 8 0 30 40 o 4 101 0 0 0 0\n",
     BACK_IN_TIME},
    {"an unanswered write may have happened",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 2 100 0\n",
     GOOD},
    {"or not",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 1 0 0 0 0 0\n",
     GOOD},
    {"or happen after its client gave up",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 1 0 0 0 0 0\n"
     "op g 2 7 0 70 80 o 2 0 0 2 100 0\n",
     GOOD},
    {"but not go away again",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 2 100 0\n"
     "op g 2 7 0 70 80 o 2 0 0 0 0 0\n",
     NO_ORDER},
    {"nor happen twice",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 2 100 0\n"
     "op g 2 7 0 70 80 o 3 0 0 3 100 0\n",
     APPLIED_TWICE},
    {"a refused write must not happen",
     "op p 1 7 0 10 20 f 0 100 0 0 0 0\n"
     "op g 2 7 0 50 60 o 2 0 0 2 100 0\n",
     UNKNOWN_VALUE},
    {"a value from nowhere", "op g 2 7 0 50 60 o 2 0 0 2 100 0\n", UNKNOWN_VALUE},
    {"a value from the future",
     "op g 2 7 0 10 20 o 2 0 0 2 100 0\n"
     "op p 1 7 0 30 40 o 2 100 0 0 0 0\n",
     BACK_IN_TIME},
    {"a value from the future is found without revisions",
     "op g 2 7 0 10 20 o 2 0 0 2 100 0\n"
     "op p 1 7 0 30 40 o 2 100 0 0 0 0\n",
     NO_ORDER},
    {"an unanswered value from the future",
     "op g 2 7 0 10 20 o 2 0 0 2 100 0\n"
     "op p 1 7 0 30 40 u 0 100 0 0 0 0\n",
     NO_ORDER},
    {"a chain of comparisons",
     "op c 1 7 0 10 20 o 2 100 0 0 0 1\n"
     "op c 1 7 0 30 40 o 3 101 2 0 0 1\n"
     "op c 2 7 0 50 60 o 3 102 2 3 101 0\n",
     GOOD},
    {"two comparisons that both won",
     "op c 1 7 0 10 20 o 2 100 0 0 0 1\n"
     "op c 1 7 0 30 90 o 3 101 2 0 0 1\n"
     "op c 2 7 0 30 90 o 4 102 2 0 0 1\n",
     WRONG_COMPARE},
    {"two comparisons that both won are found without revisions",
     "op c 1 7 0 10 20 o 2 100 0 0 0 1\n"
     "op c 1 7 0 30 90 o 3 101 2 0 0 1\n"
     "op c 2 7 0 30 90 o 4 102 2 0 0 1\n",
     NO_ORDER},
    {"a comparison refused although it held",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op c 1 7 0 30 40 o 2 101 2 2 100 0\n",
     WRONG_COMPARE},
    {"a deletion",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op d 1 7 0 30 40 o 3 0 0 0 0 1\n"
     "op g 2 7 0 50 60 o 3 0 0 0 0 0\n"
     "op d 1 7 0 70 80 o 3 0 0 0 0 0\n",
     GOOD},
    {"a deleted key that comes back",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op d 1 7 0 30 40 o 3 0 0 0 0 1\n"
     "op g 2 7 0 50 60 o 3 0 0 2 100 0\n",
     NO_ORDER},
    {"an unanswered deletion explains absence",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "op d 1 7 0 30 40 u 0 0 0 0 0 0\n"
     "op g 2 7 0 50 60 o 3 0 0 0 0 0\n",
     GOOD},
    {"an unanswered write that nobody read but a deletion met",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "op d 1 7 0 30 40 o 3 0 0 0 0 1\n"
     "watch 1 1 2 3\nev 1 2 p 7 100\nev 1 3 d 7 0\n",
     GOOD},
    {"a pair", "op t 1 7 8 10 20 o 2 100 0 0 0 0\nop g 2 8 0 30 40 o 2 0 0 2 100 0\n", GOOD},
    {"half a pair is read",
     "op t 1 7 8 10 20 o 2 100 0 0 0 0\n"
     "op g 2 7 0 30 40 o 2 0 0 2 100 0\n"
     "op g 2 8 0 30 40 o 2 0 0 0 0 0\n",
     WRONG_READ},
    {"half of an unanswered pair is seen",
     "op t 1 7 8 10 20 u 0 100 0 0 0 0\n"
     "watch 1 1 2 2\nev 1 2 p 7 100\n",
     TORN_TXN},
    {"watchers see what was written",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop t 1 7 8 30 40 o 3 101 0 0 0 0\n"
     "op p 1 8 0 50 60 u 0 102 0 0 0 0\n"
     "watch 1 1 2 4\nwatch 2 2 3 4\nev 1 2 p 7 100\nev 1 3 p 8 101\nev 1 3 p 7 101\n"
     "ev 1 4 p 8 102\nev 2 3 p 7 101\nev 2 3 p 8 101\nev 2 4 p 8 102\n",
     GOOD},
    {"a watcher that was cut off owes nothing past its last event",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "watch 1 1 2 9223372036854775807\nev 1 2 p 7 100\n",
     GOOD},
    {"a double event",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "watch 1 1 2 2\nev 1 2 p 7 100\nev 1 2 p 7 100\n",
     DOUBLE_EVENT},
    {"a double event much later",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop p 1 8 0 30 40 o 3 101 0 0 0 0\n"
     "watch 1 1 2 3\nev 1 2 p 7 100\nev 1 3 p 8 101\nev 1 2 p 7 100\n",
     DOUBLE_EVENT},
    {"reordered events",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop p 1 8 0 30 40 o 3 101 0 0 0 0\n"
     "watch 1 1 2 3\nev 1 3 p 8 101\nev 1 2 p 7 100\n",
     REORDERED_EVENT},
    {"a missing event in the middle",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "op p 1 7 0 50 60 o 4 102 0 0 0 0\n"
     "watch 1 1 2 4\nev 1 2 p 7 100\nev 1 4 p 7 102\n",
     MISSING_EVENT},
    {"a missing event at the end",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "watch 1 1 2 3\nev 1 2 p 7 100\n",
     MISSING_EVENT},
    {"an event that only one of two watchers got, of a write without an answer",
     "op p 1 7 0 10 20 u 0 100 0 0 0 0\n"
     "watch 1 1 2 2\nwatch 2 2 2 2\nev 1 2 p 7 100\n",
     MISSING_EVENT},
    {"a watcher that was cut off in the middle still owes what came before",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\nop p 1 7 0 30 40 o 3 101 0 0 0 0\n"
     "watch 1 1 2 9223372036854775807\nev 1 3 p 7 101\n",
     MISSING_EVENT},
    {"an event of a refused write",
     "op p 1 7 0 10 20 f 0 100 0 0 0 0\n"
     "watch 1 1 2 2\nev 1 2 p 7 100\n",
     UNKNOWN_VALUE},
    {"an event with another's key",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "watch 1 1 2 2\nev 1 2 p 8 100\n",
     UNKNOWN_VALUE},
    {"watchers that differ on a key with a lease",
     "watch 1 1 2 2\nwatch 2 2 2 2\nev 1 2 p 1000000 5\nev 2 2 d 1000000 0\n", DIFFERENT_EVENT},
    {"a deletion by nobody",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "watch 1 1 2 3\nev 1 2 p 7 100\nev 1 3 d 7 0\n",
     UNKNOWN_VALUE},
    {"an event before the watch's beginning",
     "op p 1 7 0 10 20 o 2 100 0 0 0 0\n"
     "watch 1 1 3 3\nev 1 2 p 7 100\n",
     EVENT_OUT_OF_RANGE},
    {"a lease that holds", "lease 1 1000000 10 20 1 1\nlease 1 1000000 30 40 0 0\n", GOOD},
    {"a key that leaves before its lease", "lease 1 1000000 10 20 0 1\n", LEASE_BROKEN},
    {"a key that outlives its lease", "lease 1 1000000 10 20 1 0\n", LEASE_BROKEN},
};

static void run_text(const char *text, struct check_report *report)
{
    FILE *f = fmemopen((void *)(uintptr_t)text, strlen(text), "r");
    assert_non_null(f);
    struct history h = {0};
    struct err_ctx ec = {{0}};
    assert_int_equal(history_read(f, &h, &ec), OK);
    (void)fclose(f);
    check_history(&h, report);
    history_deinit(&h);
}

static void test_rows(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct check_report report = {0};
        run_text(rows[i].text, &report);
        bool right = rows[i].want == GOOD ? report.n_found == 0 : report.found[rows[i].want] > 0;
        if (!right || report.n_undecided > 0) {
            report.out = stderr;
            run_text(rows[i].text, &report);
            fail_msg("%s", rows[i].claim);
        }
    }
}

/* A long history of several clients that is right, made from a real register; then each of its
 * acknowledged reads is turned into a stale one in turn, and found. */
#define CLIENTS 4u
#define ROUNDS 40u

static size_t make_history(struct op *ops)
{
    size_t n = 0;
    uint64_t now = 1;
    uint64_t value = 0;
    int64_t rev = 1;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        /* All clients' operations of a round overlap; they take effect in the order of clients. */
        for (uint32_t c = 0; c < CLIENTS; c++) {
            struct op *o = &ops[n++];
            *o = (struct op){.kind = c % 2 == 0 ? OP_PUT : OP_READ,
                             .result = RESULT_OK,
                             .client = c,
                             .key = 3,
                             .invoke_ns = now + c,
                             .return_ns = now + 50 + c};
            if (o->kind == OP_PUT) {
                o->value = 1000 + n;
                value = o->value;
                rev++;
            } else {
                o->seen_value = value;
                o->seen_mod = rev;
            }
            o->rev = rev;
        }
        now += 100;
    }
    return n;
}

static void test_every_stale_read_is_found(void **state)
{
    (void)state;
    struct op ops[CLIENTS * ROUNDS];
    struct history h = {.ops = ops, .n_ops = make_history(ops)};
    struct check_report report = {0};
    check_history(&h, &report);
    assert_int_equal(report.n_found, 0);
    for (size_t i = 2 * CLIENTS; i < h.n_ops; i++) {
        if (ops[i].kind != OP_READ) {
            continue;
        }
        struct op kept = ops[i];
        const struct op *old = &ops[i - 2 * CLIENTS];
        ops[i].seen_mod = old->seen_mod;
        ops[i].seen_value = old->seen_value;
        check_history(&h, &report);
        assert_true(report.found[WRONG_READ] > 0);
        assert_true(report.found[NO_ORDER] > 0);
        ops[i].rev = old->rev;
        check_history(&h, &report);
        assert_true(report.found[BACK_IN_TIME] > 0);
        assert_true(report.found[NO_ORDER] > 0);
        ops[i] = kept;
    }
}

static void test_malformed_histories_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {"op p 1\n",
                                      "op x 1 7 0 10 20 o 2 100 0 0 0 0\n",
                                      "op p 1 7 0 20 10 o 2 100 0 0 0 0\n",
                                      "ev 1 2 x 3 4\n",
                                      "lease 1 2 3 4 1 9\n",
                                      "something\n"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        FILE *f = fmemopen((void *)(uintptr_t)bad[i], strlen(bad[i]), "r");
        struct history h = {0};
        struct err_ctx ec = {{0}};
        assert_int_equal(history_read(f, &h, &ec), ERR_INVALID);
        (void)fclose(f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_every_stale_read_is_found),
        cmocka_unit_test(test_malformed_histories_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
