/* test_backlog.c - what is still taken when applying lags behind: with etcd's gate PriorityRequest revocations of leases, twice as long as the rest. */
#include <stdlib.h>
#include <string.h>

#include "tests/raft/member/fixture.h"

#include "raft/member/limits.h"

enum { LARGE = 1000000, N_LARGE = 290, N_SMALL = (int)(MEMBER_APPLY_LAG_MAX + MEMBER_PRIORITY_LAG_MAX) / 2 };

static uint64_t lag(struct fixture *f)
{
    struct member_status s = member_status(f->m);
    return s.committed_index - s.applied_index;
}

static void revocations_go_first(void **state)
{
    (void)state;
    struct fixture f;
    struct ask revocation;
    struct ask grant;
    fixture_init(&f);
    f.priority_requests = true;
    fixture_start(&f);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_GRANT, .number = 7, .ttl = 1000}), OK);
    fixture_freeze(&f); /* nobody loses patience */
    pthread_mutex_lock(&f.store.hold); /* the store hangs: once its tail is full, nothing is applied any more */
    uint8_t *value = calloc(1, LARGE);
    struct ask *asks = calloc(N_LARGE + N_SMALL, sizeof(*asks));
    assert_non_null(value);
    assert_non_null(asks);
    size_t n = 0;
    enum err e = OK;
    for (size_t i = 0; i < N_LARGE + N_SMALL && e == OK; i++) {
        const struct slice v = slice_of(value, i < N_LARGE ? LARGE : 1);
        e = propose_start(&f, &asks[n], &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = v});
        n += e == OK ? 1 : 0;
        if (i % 10 == 9) {
            fixture_turn(&f);
        }
    }
    while (lag(&f) <= MEMBER_APPLY_LAG_MAX) { /* the log takes them meanwhile */
        fixture_turn(&f);
    }
    assert_true(lag(&f) < MEMBER_PRIORITY_LAG_MAX);
    assert_int_equal(propose_start(&f, &grant, &(struct proposal){.kind = PROPOSE_GRANT, .number = 8, .ttl = 1000}), ERR_TOO_MANY_REQUESTS);
    assert_int_equal(propose_start(&f, &revocation, &(struct proposal){.kind = PROPOSE_REVOKE, .number = 7}), OK);
    pthread_mutex_unlock(&f.store.hold);
    for (size_t i = 0; i < n; i++) {
        enum err got = ask_wait(&asks[i]);
        assert_true(got == OK || got == ERR_TOO_MANY_REQUESTS);
        ask_release(&asks[i]);
    }
    assert_int_equal(ask_wait(&revocation), OK);
    ask_release(&revocation);
    free(asks);
    free(value);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(revocations_go_first)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
