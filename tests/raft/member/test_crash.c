/* test_crash.c - the power goes, or the disk fails, at every write of a session.
 *
 * A script of writes has one right outcome after each of its steps: the engine by itself, fed with the same entries, says
 * which. A session runs the script against a member whose disk stops at the n-th write or sync. After that the disk forgets or
 * tears what was not synced and the store loses what was not committed, at times its last commit too. The member must
 * open again unattended, and stand at a step of the script that is no earlier than the last one answered and no later than the last one sent.
 * From there the script goes on, into the next failure. Threads make the moment of each call uncertain, and the check
 * does not depend on it.
 */
#include "tests/raft/member/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "engine/lease.h"

#define N_STEPS 72u
#define GROUP 4u /* sent at once */
#define FLUSH_EVERY 12u
#define VALUE_BYTES_MAX 9000u

/* What can be seen of the state. */
struct state {
    int64_t revision;
    int64_t compact_revision;
    uint32_t hash;
    uint64_t leases; /* a sum over ids, TTLs and numbers of keys */
};

struct step {
    struct proposal p;
    char key[16];
    enum err err;      /* the answer it must get */
    struct state after;
};

struct script {
    uint8_t value[VALUE_BYTES_MAX];
    struct state before;
    struct step steps[N_STEPS];
};

/* --- the script ------------------------------------------------------------------------------------------- */

static void make_step(struct script *s, size_t i)
{
    struct step *t = &s->steps[i];
    struct proposal *p = &t->p;
    (void)snprintf(t->key, sizeof(t->key), "key%zu", i * 7 % 11);
    p->key = t->key;
    p->value = slice_of(s->value, 1 + i * 1237 % (VALUE_BYTES_MAX - 1));
    switch (i % 12) {
    case 3:
    case 9:
        p->kind = PROPOSE_DELETE;
        break;
    case 4:
    case 7:
        p->kind = PROPOSE_TXN;
        break;
    case 1:
        p->kind = PROPOSE_GRANT;
        p->number = (int64_t)(1000 + i);
        p->ttl = 5000;
        break;
    case 2: /* a put on the lease */
        p->kind = PROPOSE_PUT;
        p->number = (int64_t)(1000 + i - 1);
        break;
    case 10: /* every other lease goes again, with its key */
        p->kind = i / 12 % 2 == 0 ? PROPOSE_REVOKE : PROPOSE_PUT;
        p->number = p->kind == PROPOSE_REVOKE ? (int64_t)(1000 + i - 9) : 0;
        break;
    case 11:
        p->kind = PROPOSE_COMPACT;
        p->number = (int64_t)(i / 2);
        p->physical = i % 24 == 23;
        break;
    default:
        p->kind = PROPOSE_PUT;
        break;
    }
}

struct lease_sum {
    struct lease_table *table;
    uint64_t sum;
};

static void add_lease(void *arg, int64_t id)
{
    struct lease_sum *s = arg;
    struct lease_info info;
    assert_int_equal(lease_lookup(s->table, id, 0, &info), OK);
    uint64_t n[3] = {(uint64_t)id, (uint64_t)info.ttl_s, info.n_keys};
    s->sum += hash64(n, sizeof(n));
}

static uint64_t sum_leases(struct engine *e)
{
    struct lease_sum s = {.table = engine_leases(e)};
    lease_each(s.table, add_lease, &s);
    return s.sum;
}

static struct state state_of(struct engine *e, uint64_t leases)
{
    struct hash_kv h;
    struct err_ctx ec = {{0}};
    enum err err = engine_hash_kv(e, 0, &h, &ec);
    if (err != OK) {
        fail_msg("hash: %s", ec.text);
    }
    return (struct state){h.live_revision, h.compact_revision, h.hash, leases};
}

static bool state_eq(const struct state *a, const struct state *b)
{
    return a->revision == b->revision && a->compact_revision == b->compact_revision && a->hash == b->hash &&
           a->leases == b->leases;
}

/* What the state machine alone makes of the script. */
static void make_script(struct script *s)
{
    memset(s, 0, sizeof(*s));
    for (size_t i = 0; i < sizeof(s->value); i++) {
        s->value[i] = (uint8_t)(i * 31);
    }
    struct engine_config cfg = {.backend = backend_mem_create(), .quota_bytes = INT64_MAX, .min_lease_ttl_s = 1};
    struct engine *e = NULL;
    struct err_ctx ec = {{0}};
    assert_int_equal(engine_open(&cfg, &e, &ec), OK);
    s->before = state_of(e, 0);
    for (size_t i = 0; i < N_STEPS; i++) {
        make_step(s, i);
        struct buf *data = proposal_encode(&s->steps[i].p, i + 1);
        struct apply_result r;
        engine_apply(e, i + 1, 1, 0, buf_slice(data), false, 0, &r);
        s->steps[i].err = r.err;
        s->steps[i].after = state_of(e, sum_leases(e));
        buf_unref(&data);
    }
    engine_close(&e);
}

/* --- a session ------------------------------------------------------------------------------------------------ */

struct progress {
    size_t acked; /* every step before this one was answered */
    size_t sent;
};

/* Send a group and wait for all of it. false: the member failed. */
static bool run_group(struct fixture *f, const struct script *s, struct progress *p, size_t n, struct ask *asks)
{
    size_t first = p->sent;
    for (size_t i = 0; i < n; i++) {
        enum err e = propose_start(f, &asks[i], &s->steps[first + i].p);
        assert_int_equal(e, OK);
        p->sent++;
    }
    bool all = true;
    for (size_t i = 0; i < n; i++) {
        all = ask_wait_or_failed(&asks[i]) && all;
    }
    return all;
}

static void take_answers(const struct script *s, struct progress *p, size_t first, struct ask *asks, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct step *t = &s->steps[first + i];
        enum err e = asks[i].op.err;
        assert_true(ask_answered(&asks[i]));
        ask_release(&asks[i]);
        if (e == ERR_STOPPED && t->err != ERR_STOPPED) {
            continue;
        }
        if (e != t->err) {
            fail_msg("step %zu was answered %s instead of %s", first + i, err_text(e), err_text(t->err));
        }
        if (e == OK) {
            assert_int_equal(asks[i].op.result.revision, t->after.revision);
        }
        p->acked = first + i + 1;
    }
}

/* From `p` on, until the end or a failure. Leaves the member closed. */
static void run_script(struct fixture *f, const struct script *s, struct progress *p, size_t end)
{
    struct ask asks[GROUP];
    bool going = true;
    while (going && p->sent < end) {
        size_t first = p->sent;
        size_t n = end - first < GROUP ? end - first : GROUP;
        going = run_group(f, s, p, n, asks);
        if (!going) {
            fixture_close(f); /* answers what still waits */
        }
        take_answers(s, p, first, asks, n);
        if (going && p->sent % FLUSH_EVERY < n) {
            struct ask flush = {.op.kind = MEMBER_FLUSH};
            assert_int_equal(ask_submit(f, &flush), OK);
            going = ask_wait_or_failed(&flush);
            if (!going) {
                fixture_close(f);
                assert_true(ask_answered(&flush));
            }
        }
    }
    fixture_close(f);
}

static bool sum_on_loop(struct member *m, struct member_op *op)
{
    op->revision = (int64_t)sum_leases(member_engine(m));
    op->err = OK;
    return true;
}

/* Find the step at which the member stands, between what was answered and what was sent, and set both to it. false: the
 * member failed and is closed. */
static bool find_place(struct fixture *f, const struct script *s, struct progress *p, const char *when)
{
    struct ask sum = {.op = {.kind = MEMBER_CALL, .call = sum_on_loop}};
    assert_int_equal(ask_submit(f, &sum), OK);
    if (!ask_wait_or_failed(&sum)) {
        fixture_close(f);
        return false;
    }
    struct state now = state_of(member_engine(f->m), (uint64_t)sum.op.revision);
    for (size_t i = p->acked; i <= p->sent; i++) {
        const struct state *expected = i == 0 ? &s->before : &s->steps[i - 1].after;
        if (state_eq(&now, expected)) {
            /* Steps that change nothing leave this open: the earliest is safe to go on from. */
            p->acked = i;
            p->sent = i;
            return true;
        }
    }
    fail_msg("%s: revision %lld (compacted %lld) is none of the states after steps %zu to %zu", when, (long long)now.revision,
             (long long)now.compact_revision, p->acked, p->sent);
    return false;
}

/* Open, start, look, go on with the script until `end`. false: a failure came before the member was ready. */
static bool session(struct fixture *f, const struct script *s, struct progress *p, size_t end, const char *when)
{
    struct err_ctx ec = {{0}};
    enum err e = fixture_try_open(f, &ec);
    if (e != OK) {
        if (f->fault == NULL) {
            fail_msg("%s: does not open: %s", when, ec.text);
        }
        return false;
    }
    member_start(f->m);
    if (!fixture_wait_ready(f)) {
        assert_non_null(f->fault);
        fixture_close(f);
        return false;
    }
    if (find_place(f, s, p, when)) {
        run_script(f, s, p, end);
    }
    return true;
}

static void power_cut(struct fixture *f, uint64_t seed)
{
    fixture_clear_fault(f);
    vfs_mem_crash(f->disk, seed);
    backend_mem_crash(f->store.inner, seed % 2 == 0);
}

/* --- power cuts --------------------------------------------------------------------------------------------------- */

/* Cut the power at write n; then again somewhere in the recovery or soon behind it; then run to the end and look once more. true:
 * the first session ended before write n. */
static bool cut_at(const struct script *s, uint64_t n, uint64_t seed)
{
    char when[64];
    struct fixture f;
    struct progress p = {0, 0};
    fixture_init(&f);
    struct vfs_fault_plan plan = {.fail_at = n, .sticky = true, .writes_only = true, .with = ERR_IO,
                                  .tear_bytes = seed % 3 == 0 ? 0 : seed * 769 % 12000};
    fixture_set_fault(&f, &plan);
    (void)session(&f, s, &p, N_STEPS, "first");
    bool done = vfs_fault_calls(f.fault) < n;
    power_cut(&f, seed);

    (void)snprintf(when, sizeof(when), "cut at write %llu, seed %llu", (unsigned long long)n, (unsigned long long)seed);
    plan.fail_at = 1 + (n * 5 + seed) % 40;
    fixture_set_fault(&f, &plan);
    (void)session(&f, s, &p, N_STEPS, when);
    power_cut(&f, seed + 1);

    (void)session(&f, s, &p, N_STEPS, when);
    assert_int_equal(p.acked, N_STEPS);
    power_cut(&f, seed + 2);
    (void)session(&f, s, &p, N_STEPS, when);
    assert_int_equal(p.acked, N_STEPS);
    fixture_deinit(&f);
    return done;
}

static void power_cut_at_every_write(void **state)
{
    struct script *s = *state;
    uint64_t n = 1;
    for (bool done = false; !done; n++) {
        assert_true(n < 5000);
        done = cut_at(s, n, n * 2654435761u % 1000003u);
        (void)cut_at(s, n, n * 40503u % 1000003u + 1);
    }
    print_message("%llu places to cut\n", (unsigned long long)n - 1);
    assert_true(n > 50); /* how many there are depends on how much comes together in a batch */
}

/* --- failing calls --------------------------------------------------------------------------------------------------- */

/* One call fails, and the machine stays up. Whatever does not work any more is told; nothing answered is lost. */
static bool fail_at(const struct script *s, uint64_t n, enum err with)
{
    char when[64];
    struct fixture f;
    struct progress p = {0, 0};
    fixture_init(&f);
    fixture_set_fault(&f, &(struct vfs_fault_plan){.fail_at = n, .writes_only = true, .with = with, .tear_bytes = n % 2 * 700});
    (void)snprintf(when, sizeof(when), "%s at write %llu", err_text(with), (unsigned long long)n);
    bool started = session(&f, s, &p, N_STEPS, when);
    bool done = vfs_fault_calls(f.fault) < n;
    if (started && f.n_failed == 0) {
        assert_int_equal(p.acked, N_STEPS); /* what failed was not needed */
    }
    assert_true(f.n_failed <= 1);
    assert_true(f.n_failed == 0 || f.failed == with || f.failed == ERR_IO);
    fixture_clear_fault(&f);
    (void)session(&f, s, &p, N_STEPS, when);
    assert_int_equal(p.acked, N_STEPS);
    (void)session(&f, s, &p, N_STEPS, when);
    fixture_deinit(&f);
    return done;
}

static void every_write_fails_once(void **state)
{
    struct script *s = *state;
    static const enum err with[] = {ERR_IO, ERR_NO_DISK};
    uint64_t n = 1;
    for (bool done = false; !done; n++) {
        assert_true(n < 5000);
        done = fail_at(s, n, with[n % 2]);
    }
    print_message("%llu calls to fail\n", (unsigned long long)n - 1);
    assert_true(n > 50);
}

/* The store's commits fail from the n-th on; then the power goes as well. */
static void every_commit_fails(void **state)
{
    struct script *s = *state;
    for (uint64_t n = 1, done = 0; done == 0; n++) {
        struct fixture f;
        struct progress p = {0, 0};
        fixture_init(&f);
        atomic_store(&f.store.fail_at, n);
        struct vfs_fault_plan none = {.fail_at = 0};
        fixture_set_fault(&f, &none); /* failures are expected */
        (void)session(&f, s, &p, N_STEPS, "commits fail");
        done = atomic_load(&f.store.n_commits) < n ? 1 : 0;
        assert_int_equal(f.n_failed, done == 1 ? 0 : 1);
        atomic_store(&f.store.fail_at, 0);
        power_cut(&f, n);
        (void)session(&f, s, &p, N_STEPS, "after failed commits");
        assert_int_equal(p.acked, N_STEPS);
        fixture_deinit(&f);
    }
}

static int set_up(void **state)
{
    struct script *s = calloc(1, sizeof(*s));
    make_script(s);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(power_cut_at_every_write),
        cmocka_unit_test(every_write_fails_once),
        cmocka_unit_test(every_commit_fails),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
