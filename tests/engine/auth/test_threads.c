/* test_threads.c - readers ask while the member loop changes users and roles, and while a snapshot
 * replaces them all. For the thread sanitizer. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "auth_fixture.h"

#define READERS 3
#define ROUNDS 300

struct shared {
    struct auth *auth;
    _Atomic bool stop;
    _Atomic uint64_t n_allowed, n_refused;
};

/* Whatever the moment: nobody gets what no role ever held, and the answers are those that there
 * are. */
static void *read_on(void *arg)
{
    struct shared *s = arg;
    char hash[AUTH_HASH_BYTES];
    uint64_t revision;
    uint64_t n = 0;
    while (!atomic_load(&s->stop) || n < 1000) {
        const struct auth_identity id = {"ann", auth_revision(s->auth)};
        enum err may_read = auth_check(s->auth, &id, DEMAND_READ, slice_str("b"), slice_str("d"));
        enum err never = auth_check(s->auth, &id, DEMAND_READ, slice_str("x"), slice_str(""));
        ASSERT(may_read == OK || may_read == ERR_PERMISSION_DENIED ||
               may_read == ERR_AUTH_OLD_REVISION);
        ASSERT(never == ERR_PERMISSION_DENIED || never == ERR_AUTH_OLD_REVISION);
        ASSERT(auth_check_root(s->auth, &id) != OK);
        enum err password = auth_password_of(s->auth, "ann", hash, &revision);
        ASSERT(password == OK || password == ERR_AUTH_FAILED);
        atomic_fetch_add(may_read == OK ? &s->n_allowed : &s->n_refused, 1);
        n++;
    }
    return NULL;
}

static void test_readers_and_changes(void **state)
{
    (void)state;
    struct world w;
    struct shared s = {0};
    pthread_t threads[READERS];
    world_init(&w);
    assert_int_equal(role_add(&w, "one"), OK);
    assert_int_equal(role_add(&w, "two"), OK);
    assert_int_equal(role_grant(&w, "two", READ, "c", "e"), OK);
    assert_int_equal(user_add(&w, "ann"), OK);
    assert_int_equal(user_grant(&w, "ann", "two"), OK);
    world_enable(&w);
    s.auth = w.auth;
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, read_on, &s), 0);
    }
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(role_grant(&w, "one", READWRITE, "a", "c"), OK);
        assert_int_equal(user_grant(&w, "ann", "one"), OK);
        assert_int_equal(user_revoke(&w, "ann", "one"), OK);
        assert_int_equal(role_revoke(&w, "one", "a", "c"), OK);
        if (i % 10 == 0) {
            assert_int_equal(user_delete(&w, "ann"), OK);
            assert_int_equal(user_add(&w, "ann"), OK);
            assert_int_equal(user_grant(&w, "ann", "two"), OK);
        }
        if (i % 50 == 49) {
            struct auth *back = world_restored(&w);
            auth_replace(w.auth, &back);
        }
    }
    atomic_store(&s.stop, true);
    for (int i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    assert_true(atomic_load(&s.n_refused) > 0);
    world_deinit(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_readers_and_changes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
