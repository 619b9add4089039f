/* test_step.c - a member that is moved on by hand (raft/member/step.h): what it asks of its store, and when. */
#include "tests/raft/member/fixture.h"

#include <string.h>

#include "base/mem.h"
#include "engine/install.h"
#include "raft/member/limits.h"
#include "raft/member/step.h"

enum { REQUESTS_MAX = MEMBER_LOG_INFLIGHT_MAX, TURNS_MAX = 2000, TERM = 2, SNAPSHOT_INDEX = 100 };

/* The log and the store, played here. */
struct shell {
    struct fixture f;
    struct wal *wal;
    struct wal_request *requests[REQUESTS_MAX];
    size_t n_requests;
    unsigned n_kicks, n_urgent, n_retries;
    struct member_op *asked; /* of the store */
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

static void on_retry(void *arg)
{
    ((struct shell *)arg)->n_retries++;
}

static void on_request(void *arg, struct member_op *op)
{
    struct shell *s = arg;
    assert_int_equal(op->kind, MEMBER_INSTALL);
    assert_null(s->asked);
    s->asked = op;
}

/* A turn of the member; its log does nothing. */
static void turn(struct shell *s)
{
    fixture_advance(&s->f, 1);
    (void)member_turn(s->f.m);
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

/* One of `n_initial` voters. */
static void shell_open(struct shell *s, size_t n_initial, const struct store_place *place)
{
    *s = (struct shell){0};
    fixture_init(&s->f);
    fixture_freeze(&s->f);
    s->f.n_initial = n_initial;
    s->f.place = place;
    fixture_open(&s->f);
    s->wal = member_take_wal(s->f.m);
    member_connect(s->f.m, &(struct member_log){on_submit, on_release, s}, &(struct member_store){on_kick, on_request, on_retry, s});
}

static void shell_init(struct shell *s)
{
    shell_open(s, 1, NULL);
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

/* --- a follower, and what its leader sends ------------------------------------------------------------------- */

/* One entry behind `after`, committed at once. */
static void append(struct shell *s, uint64_t after, uint64_t after_term, const struct proposal *p)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_APP, 1);
    m->from = OTHER_MEMBER;
    m->to = MEMBER;
    m->term = TERM;
    m->index = after;
    m->log_term = after_term;
    m->commit = after + 1;
    m->entries[0] = (struct raft_entry){.index = after + 1, .term = TERM, .type = RAFT_ENTRY_NORMAL, .data = proposal_encode(p, after)};
    member_receive(s->f.m, m);
}

static enum err read_bytes(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    (void)ec;
    memcpy(dst, ((const struct bytes *)arg)->data + offset, n);
    return OK;
}

/* The file of a store that was compacted to 3. */
static void compacted_file(struct bytes *out)
{
    struct shell s;
    struct engine_snapshot *snapshot = NULL;
    struct snapshot_info info;
    struct err_ctx ec = {{0}};
    bool more;
    size_t n = 1;
    shell_init(&s);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(propose_by_hand(&s, &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = slice_str("1")}), OK);
    }
    assert_int_equal(propose_by_hand(&s, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 3}), OK);
    assert_int_equal(member_store_flush(s.f.m, true, &more), OK);
    assert_int_equal(engine_snapshot_open(member_engine(s.f.m), &snapshot, &info, &ec), OK);
    while (n > 0) {
        assert_int_equal(engine_snapshot_read(snapshot, bytes_reserve(out, 4096), 4096, &n, &ec), OK);
        out->len += n;
    }
    engine_snapshot_close(&snapshot);
    shell_deinit(&s);
}

static void send_snapshot(struct shell *s, struct bytes *file, struct ask *a)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_SNAP, 0);
    struct err_ctx ec = {{0}};
    m->from = OTHER_MEMBER;
    m->to = MEMBER;
    m->term = TERM;
    m->snapshot = xcalloc(1, sizeof(*m->snapshot));
    *m->snapshot = (struct raft_snapshot){.index = SNAPSHOT_INDEX, .term = TERM, .conf.voters = {.n = 2, .id = {MEMBER, OTHER_MEMBER}}};
    *a = (struct ask){.op = {.kind = MEMBER_INSTALL, .message = m}};
    assert_int_equal(member_stage(s->f.m, &(struct bolt_source){read_bytes, file, file->len}, m, &a->op.staged, &ec), OK);
    assert_int_equal(ask_submit(&s->f, a), OK);
}

/* The leader says that 100 is the last entry; the own log still writes entry 3, which is applied. */
static void a_snapshot_lets_the_store_not_get_ahead_of_the_log(void **state)
{
    (void)state;
    struct shell s;
    struct bytes file = {0};
    struct ask a;
    struct ask waiting = {.op = {.kind = MEMBER_COMPACTED, .revision = 3}};
    bool more;
    compacted_file(&file);
    struct backend_mem_disk *disk = backend_mem_disk_create();
    const struct store_place place = store_place_mem(disk);
    shell_open(&s, 2, &place);
    step(&s);
    append(&s, 2, 1, &(struct proposal){.kind = PROPOSE_PUT, .key = "b", .value = slice_str("2")});
    turn(&s);
    assert_int_equal(engine_applied_index(member_engine(s.f.m)), 3);
    assert_int_equal(s.n_requests, 1);
    assert_int_equal(member_store_flush(s.f.m, false, &more), ERR_BUSY);
    assert_int_equal(ask_submit(&s.f, &waiting), OK);
    send_snapshot(&s, &file, &a);
    turn(&s);
    assert_ptr_equal(s.asked, &a.op);
    assert_int_equal(s.n_retries, 0);
    assert_int_equal(member_store_flush(s.f.m, true, &more), ERR_BUSY);
    step(&s); /* the log writes it, */
    turn(&s);
    assert_int_equal(s.n_retries, 1);
    assert_int_equal(s.n_urgent, 0);
    assert_int_equal(member_store_flush(s.f.m, true, &more), OK);
    assert_false(ask_answered(&waiting));
    member_store_serve(s.f.m, s.asked, OK);
    turn(&s);
    assert_int_equal(ask_wait(&a), OK);
    assert_int_equal(engine_applied_index(member_engine(s.f.m)), SNAPSHOT_INDEX);
    assert_true(ask_answered(&waiting)); /* the store came compacted */
    assert_int_equal(ask_wait(&waiting), OK);
    step(&s);
    turn(&s);
    assert_int_equal(member_store_flush(s.f.m, true, &more), OK);
    shell_deinit(&s);
    backend_mem_disk_destroy(&disk);
    bytes_deinit(&file);
}

/* A log that stands still takes no restart either: raft is not asked. */
static void a_snapshot_is_refused_while_the_log_is_full(void **state)
{
    (void)state;
    struct shell s;
    struct bytes file = {0};
    struct ask a;
    compacted_file(&file);
    struct backend_mem_disk *disk = backend_mem_disk_create();
    const struct store_place place = store_place_mem(disk);
    shell_open(&s, 2, &place);
    step(&s);
    for (uint64_t i = 0; i < MEMBER_LOG_INFLIGHT_MAX; i++) {
        append(&s, 2 + i, i == 0 ? 1 : TERM, &(struct proposal){.kind = PROPOSE_PUT, .key = "b", .value = slice_str("2")});
        (void)member_turn(s.f.m);
    }
    assert_int_equal(s.n_requests, MEMBER_LOG_INFLIGHT_MAX);
    send_snapshot(&s, &file, &a);
    turn(&s);
    assert_int_equal(ask_wait(&a), ERR_BUSY);
    step(&s);
    turn(&s);
    assert_null(s.asked);
    shell_deinit(&s);
    backend_mem_disk_destroy(&disk);
    bytes_deinit(&file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_snapshot_lets_the_store_not_get_ahead_of_the_log),
        cmocka_unit_test(a_snapshot_is_refused_while_the_log_is_full),
        cmocka_unit_test(a_compaction_is_begun_at_once_although_nobody_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
