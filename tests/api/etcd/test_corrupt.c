/* test_corrupt.c - who differs, by tables of hashes; and the body in which another member tells its hash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "api/etcd/corrupt.h"
#include "api/etcd/corrupt_rules.h"

#define SELF 1u

static const struct hash_kv base = {.hash = 77, .compact_revision = 5, .hash_revision = 9, .live_revision = 9};

static struct corrupt_answer says(uint64_t member, uint32_t hash, int64_t compacted, int64_t live)
{
    return (struct corrupt_answer){member, true, {.hash = hash, .compact_revision = compacted, .hash_revision = 9, .live_revision = live}};
}

static void initial(void **state)
{
    (void)state;
    const struct corrupt_answer same[] = {says(2, 77, 5, 9), {.member = 3}};
    const struct corrupt_answer other[] = {says(2, 78, 5, 9), says(3, 77, 5, 9)};
    const struct corrupt_answer apart[] = {says(2, 78, 6, 9), says(3, 77, 5, 12)};
    assert_int_equal(corrupt_initial(&base, same, 2), 0);
    assert_int_equal(corrupt_initial(&base, other, 2), 1);
    assert_int_equal(corrupt_initial(&base, apart, 2), 0); /* another compact revision: nothing can be said */
    assert_int_equal(corrupt_initial(&base, NULL, 0), 0);
}

static void periodic(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        struct hash_kv after;
        struct corrupt_answer answers[2];
        enum corrupt_reason reason;
        uint64_t offender;
    } rows[] = {
        {"all equal", {77, 5, 9, 9}, {{2, true, {77, 5, 9, 9}}, {3, true, {77, 5, 9, 9}}}, CORRUPT_NONE, 0},
        {"who does not answer does not count", {77, 5, 9, 9}, {{2, false, {1, 5, 9, 9}}, {3, false, {0, 0, 0, 0}}}, CORRUPT_NONE, 0},
        {"another hash of the same history", {77, 5, 9, 9}, {{2, true, {77, 5, 9, 9}}, {3, true, {70, 5, 9, 9}}}, CORRUPT_DIFFERS, 3},
        {"another hash behind another compaction says nothing", {77, 5, 9, 9}, {{2, true, {70, 4, 9, 9}}, {3, true, {77, 5, 9, 9}}}, CORRUPT_NONE, 0},
        {"a follower ahead of its leader", {80, 5, 11, 11}, {{2, true, {77, 5, 9, 12}}, {3, true, {77, 5, 9, 9}}}, CORRUPT_AHEAD, 2},
        {"a follower that compacted farther", {80, 5, 11, 11}, {{2, true, {77, 6, 9, 11}}, {3, true, {77, 5, 9, 9}}}, CORRUPT_COMPACTED_AHEAD, 2},
        {"its own hash changed at the same revision", {78, 5, 9, 9}, {{2, true, {77, 5, 9, 9}}, {3, true, {77, 5, 9, 9}}}, CORRUPT_SELF, SELF},
        {"its own hash changed with its revision", {78, 5, 10, 10}, {{2, true, {77, 5, 9, 10}}, {3, true, {77, 5, 9, 9}}}, CORRUPT_NONE, 0},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t offender = 0;
        enum corrupt_reason r = corrupt_periodic(SELF, &base, &rows[i].after, rows[i].answers, 2, &offender);
        if (r != rows[i].reason || (r != CORRUPT_NONE && offender != rows[i].offender)) {
            fail_msg("%s: %d, member %llu", rows[i].claim, (int)r, (unsigned long long)offender);
        }
    }
}

static void compaction(void **state)
{
    (void)state;
    static const struct {
        const char *claim;
        struct corrupt_answer answers[4];
        size_t n;
        bool settled, agreed, no_quorum;
        uint64_t offenders[3]; /* up to the first 0 */
    } rows[] = {
        {"alone", {{0}}, 0, true, true, false, {0}},
        {"all equal", {{2, true, {77, 5, 9, 9}}, {3, true, {77, 5, 9, 9}}}, 2, true, true, false, {0}},
        {"one does not answer: an older one is looked at", {{2, true, {77, 5, 9, 9}}, {3, false, {0}}}, 2, false, true, false, {0}},
        {"one compacted elsewhere: the same", {{2, true, {77, 5, 9, 9}}, {3, true, {1, 4, 9, 9}}}, 2, false, true, false, {0}},
        {"a minority differs", {{2, true, {77, 5, 9, 9}}, {3, true, {70, 5, 9, 9}}}, 2, true, false, false, {3}},
        {"the leader is the minority", {{2, true, {70, 5, 9, 9}}, {3, true, {70, 5, 9, 9}}}, 2, true, false, false, {SELF}},
        {"three ways", {{2, true, {70, 5, 9, 9}}, {3, true, {71, 5, 9, 9}}}, 2, true, false, true, {0}},
        {"two of two", {{2, true, {70, 5, 9, 9}}}, 1, true, false, true, {0}},
        {"a silent one counts for the quorum", {{2, true, {70, 5, 9, 9}}, {3, false, {0}}}, 2, true, false, true, {0}},
        {"five, two of them wrong in two ways", {{2, true, {70, 5, 9, 9}}, {3, true, {71, 5, 9, 9}}, {4, true, {77, 5, 9, 9}}, {5, true, {77, 5, 9, 9}}}, 4,
         true, false, false, {2, 3}},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint64_t offenders[5] = {0};
        struct corrupt_vote v = corrupt_compaction(SELF, &base, rows[i].answers, rows[i].n, offenders);
        bool right = v.settled == rows[i].settled && v.agreed == rows[i].agreed && v.no_quorum == rows[i].no_quorum;
        size_t n = 0;
        for (; right && rows[i].offenders[n] != 0; n++) {
            right = n < v.n_offenders && offenders[n] == rows[i].offenders[n];
        }
        if (!right || n != v.n_offenders) {
            fail_msg("%s", rows[i].claim);
        }
    }
}

static void bodies(void **state)
{
    (void)state;
    struct hash_kv kv;
    struct bytes b = {0};
    const struct hash_kv full = {.hash = 4000000000u, .compact_revision = -1, .hash_revision = 12, .live_revision = 13};
    hash_kv_json(&full, &b);
    assert_int_equal(hash_kv_answer_read(bytes_slice(&b), &kv), OK);
    bytes_deinit(&b);
    assert_int_equal(kv.hash, full.hash);
    assert_int_equal(kv.compact_revision, -1);
    assert_int_equal(kv.hash_revision, 12);
    assert_int_equal(kv.live_revision, 13);
    /* As etcd writes it, with more in its header. */
    assert_int_equal(hash_kv_answer_read(slice_str("{\"header\":{\"cluster_id\":14841639068965178418,\"member_id\":10276657743932975437,"
                                                   "\"revision\":3,\"raft_term\":2},\"hash\":1,\"compact_revision\":2,\"hash_revision\":3}\n"),
                                         &kv), OK);
    assert_int_equal(kv.live_revision, 3);
    static const char *const bad[] = {"", "[]", "{\"hash\":4294967296}", "{\"hash\":\"x\"}", "{\"compact_revision\":9223372036854775808}", "{\"hash\":1"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(hash_kv_answer_read(slice_str(bad[i]), &kv), ERR_INVALID);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(initial),
        cmocka_unit_test(periodic),
        cmocka_unit_test(compaction),
        cmocka_unit_test(bodies),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
