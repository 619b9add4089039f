/* test_step.c - a member that is moved on by hand (raft/member/step.h): what it asks of its store, and when. */
#include "tests/raft/member/fixture.h"

#include "raft/member/step.h"

enum { REQUESTS_MAX = 64, TURNS_MAX = 2000 };

/* The log and the store, played here. */
struct shell {
    struct fixture f;
    struct wal *wal;
    struct wal_request *requests[REQUESTS_MAX];
    size_t n_requests;
    unsigned n_kicks, n_urgent;
};

static void on_submit(void *arg, struct wal_request *r)
{
    struct shell *s = arg;
    assert_true(s->n_requests < REQUESTS_MAX);
    s->requests[s->n_requests++] = r;
}

static void on_release(void *arg, uint64_t index)
{
    struct err_ctx ec = {{0}};
    assert_int_equal(wal_release(((struct shell *)arg)->wal, index, &ec), OK);
}

static void on_kick(void *arg, bool urgent)
{
    struct shell *s = arg;
    s->n_kicks++;
    s->n_urgent += urgent;
}

static void on_request(void *arg, struct member_op *op)
{
    (void)arg;
    fail_msg("nobody asked the store for %d", (int)op->kind);
}

static void step(struct shell *s)
{
    fixture_advance(&s->f, 10);
    (void)member_turn(s->f.m);
    for (size_t i = 0; i < s->n_requests; i++) {
        struct wal_request *r = s->requests[i];
        const struct wal_batch b = {.has_hard_state = r->has_hard_state,
                                    .hard_state = r->hard_state,
                                    .restart_at = r->restart_at,
                                    .entries = r->entries,
                                    .n_entries = r->n_entries};
        struct err_ctx ec = {{0}};
        assert_int_equal(wal_append(s->wal, &b, &r->last, &ec), OK);
        r->node.next = NULL;
        member_log_done(s->f.m, r, r, 1);
    }
    s->n_requests = 0;
}

static void shell_init(struct shell *s)
{
    *s = (struct shell){0};
    fixture_init(&s->f);
    fixture_freeze(&s->f);
    fixture_open(&s->f);
    s->wal = member_take_wal(s->f.m);
    member_connect(s->f.m, &(struct member_log){on_submit, on_release, s}, &(struct member_store){on_kick, on_request, s});
    for (int i = 0; i < TURNS_MAX && !s->f.ready; i++) {
        step(s);
    }
    assert_true(s->f.ready);
}

static void shell_deinit(struct shell *s)
{
    member_last_turn(s->f.m);
    wal_close(&s->wal);
    fixture_deinit(&s->f);
}

static enum err propose_by_hand(struct shell *s, const struct proposal *p)
{
    struct ask a;
    assert_int_equal(propose_start(&s->f, &a, p), OK);
    for (int i = 0; i < TURNS_MAX && !ask_answered(&a); i++) {
        step(s);
    }
    enum err e = ask_wait(&a);
    ask_release(&a);
    return e;
}

static void a_compaction_is_begun_at_once_although_nobody_waits(void **state)
{
    (void)state;
    struct shell s;
    bool more;
    shell_init(&s);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(propose_by_hand(&s, &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = slice_str("1")}), OK);
    }
    assert_int_equal(s.n_urgent, 0);
    assert_int_equal(propose_by_hand(&s, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 3}), OK);
    assert_int_equal(s.n_urgent, 1);
    assert_int_equal(member_store_flush(s.f.m, false, &more), OK);
    assert_false(more);
    assert_int_equal(engine_physical_compact_revision(member_engine(s.f.m)), 3);
    unsigned n_kicks = s.n_kicks;
    assert_int_equal(propose_by_hand(&s, &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = slice_str("1")}), OK);
    assert_true(s.n_kicks > n_kicks);
    assert_int_equal(s.n_urgent, 1);
    shell_deinit(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_compaction_is_begun_at_once_although_nobody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
