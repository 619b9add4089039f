/* test_member.c - one voter from its first start to its end: what it answers, and what it refuses to open. */
#include "tests/raft/member/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "engine/lease.h"

static int64_t count_keys(struct fixture *f, const char *key, const char *end)
{
    Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;
    r.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)(uintptr_t)key};
    r.range_end = (ProtobufCBinaryData){strlen(end), (uint8_t *)(uintptr_t)end};
    struct range_read *rr = NULL;
    struct range_info info;
    struct err_ctx ec = {{0}};
    assert_int_equal(engine_range_open(member_engine(f->m), &r, 0, &rr, &info, &ec), OK);
    engine_range_close(&rr);
    return info.count;
}

/* --- first start ---------------------------------------------------------------------------------------- */

static void becomes_leader_and_serves(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    struct member_status s = member_status(f.m);
    assert_true(s.is_leader);
    assert_false(s.is_learner);
    assert_int_equal(s.leader, MEMBER);
    assert_true(s.applied_index >= 3); /* founding entry, start of term, publication */
    assert_true(s.term >= 1);
    assert_int_equal(member_id(f.m), MEMBER);
    assert_int_equal(member_cluster_id(f.m), CLUSTER);

    assert_int_equal(put(&f, "a", "1"), OK);
    assert_true(member_read_is_current(f.m));
    assert_int_equal(put(&f, "b", "2"), OK);
    assert_int_equal(count_keys(&f, "a", "z"), 2);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_DELETE, .key = "b"}), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_TXN, .key = "c", .value = slice_str("3")}), OK);
    assert_int_equal(count_keys(&f, "a", "z"), 2);
    assert_int_equal(engine_revision(member_engine(f.m)), 5);
    /* Refused by the state machine: the error is the answer. */
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 99}), ERR_FUTURE_REV);
    size_t n = 0;
    struct member_info *members = engine_members(member_engine(f.m), &n);
    assert_int_equal(n, 1);
    assert_string_equal(members[0].name, "a");
    assert_string_equal(members[0].client_urls[0], "http://127.0.0.1:2379");
    assert_string_equal(members[0].peer_urls[0], "http://127.0.0.1:2380");
    free(members);
    fixture_close(&f);
    assert_int_equal(f.changed_revision, 5);
    assert_int_equal(f.n_changes, 4);
    assert_int_equal(f.n_failed, 0);
    fixture_deinit(&f);
}

static void cluster_version_is_decided(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    char version[16] = "";
    while (version[0] == '\0') { /* an entry behind the publication */
        assert_int_equal(ask_kind(&f, MEMBER_READ_INDEX), OK);
        engine_cluster_version(member_engine(f.m), version);
    }
    assert_string_equal(version, "3.7.0");
    fixture_deinit(&f);
}

/* The bytes of the reply and its revision belong to the entry that was proposed. */
static void answers_belong_to_their_proposals(void **state)
{
    (void)state;
    enum { N = 500 };
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    struct ask *asks = calloc(N, sizeof(*asks));
    for (int i = 0; i < N; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%d", i);
        struct proposal p = {.kind = PROPOSE_PUT, .key = key, .value = slice_str("v")};
        assert_int_equal(propose_start(&f, &asks[i], &p), OK);
    }
    for (int i = 0; i < N; i++) {
        assert_int_equal(ask_wait(&asks[i]), OK);
        assert_int_equal(asks[i].op.result.revision, i + 2);
        assert_int_equal(asks[i].op.result.request_id, asks[i].op.request_id);
        assert_null(asks[i].op.data);
        ask_release(&asks[i]);
    }
    free(asks);
    fixture_deinit(&f);
}

/* --- the other kinds -------------------------------------------------------------------------------------- */

static void read_index_follows_writes(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    for (int i = 0; i < 50; i++) {
        struct ask write;
        struct ask read = {.op.kind = MEMBER_READ_INDEX};
        assert_int_equal(propose_start(&f, &write, &(struct proposal){.kind = PROPOSE_PUT, .key = "k"}), OK);
        assert_int_equal(ask_wait(&write), OK);
        int64_t revision = write.op.result.revision;
        ask_release(&write);
        assert_int_equal(ask_submit(&f, &read), OK);
        assert_int_equal(ask_wait(&read), OK);
        assert_true(engine_revision(member_engine(f.m)) >= revision);
    }
    fixture_deinit(&f);
}

/* Many rounds' worth of reads while the election is still going on. */
static void reads_before_the_election_are_answered_after_it(void **state)
{
    (void)state;
    struct fixture f;
    struct ask reads[20];
    fixture_init(&f);
    fixture_open(&f);
    for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
        reads[i] = (struct ask){.op.kind = MEMBER_READ_INDEX};
        assert_int_equal(ask_submit(&f, &reads[i]), OK);
    }
    member_start(f.m);
    for (size_t i = 0; i < ARRAY_LEN(reads); i++) {
        assert_int_equal(ask_wait(&reads[i]), OK);
    }
    fixture_deinit(&f);
}

static bool now_is_told(struct member *m, struct member_op *op)
{
    op->revision = (int64_t)member_now_ms(m);
    op->err = OK;
    return true;
}

static bool refuses(struct member *m, struct member_op *op)
{
    (void)m;
    op->err = ERR_NOT_FOUND;
    return true;
}

static bool answers_itself(struct member *m, struct member_op *op)
{
    member_answer(m, op, ERR_EXISTS);
    return false;
}

static enum err call(struct fixture *f, bool (*run)(struct member *m, struct member_op *op), int64_t *number)
{
    struct ask a = {.op = {.kind = MEMBER_CALL, .call = run}};
    enum err e = ask_submit(f, &a);
    e = e == OK ? ask_wait(&a) : e;
    if (number != NULL) {
        *number = a.op.revision;
    }
    return e;
}

static void calls_run_on_the_loop(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    int64_t before = 0;
    int64_t after = 0;
    assert_int_equal(call(&f, now_is_told, &before), OK);
    fixture_advance(&f, 5000);
    assert_int_equal(call(&f, now_is_told, &after), OK);
    assert_true(after >= before + 5000);
    assert_int_equal(call(&f, refuses, NULL), ERR_NOT_FOUND);
    assert_int_equal(call(&f, answers_itself, NULL), ERR_EXISTS);
    fixture_deinit(&f);
}

static void flush_stores_what_is_applied(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    assert_int_equal(put(&f, "a", "1"), OK);
    assert_int_equal(ask_kind(&f, MEMBER_FLUSH), OK);
    assert_int_equal(engine_pending_bytes(member_engine(f.m)), 0);
    uint64_t commits = atomic_load(&f.store.n_commits);
    assert_true(commits > 0);
    assert_int_equal(ask_kind(&f, MEMBER_DEFRAG), OK);
    assert_true(atomic_load(&f.store.n_commits) > commits);
    fixture_deinit(&f);
}

/* Nobody asks for it: what was applied reaches the store by itself. */
static void store_follows_by_itself(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    assert_int_equal(put(&f, "a", "1"), OK);
    while (engine_pending_bytes(member_engine(f.m)) > 0) {
        assert_int_equal(ask_kind(&f, MEMBER_READ_INDEX), OK);
    }
    fixture_deinit(&f);
}

static int64_t stored_records(struct fixture *f)
{
    struct err_ctx ec = {{0}};
    struct backend *b = f->store.inner;
    struct backend_read *r = NULL;
    struct backend_cursor *c = NULL;
    assert_int_equal(b->ops->read_begin(b, &r, &ec), OK);
    assert_int_equal(b->ops->cursor_open(r, BUCKET_KEY, (struct slice){0}, &c, &ec), OK);
    int64_t n = 0;
    struct slice key;
    struct slice value;
    while (b->ops->cursor_next(c, &key, &value) == OK) {
        n++;
    }
    b->ops->cursor_close(&c);
    b->ops->read_end(&r);
    return n;
}

static void physical_compaction_is_waited_for(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(put(&f, "a", "1"), OK);
    }
    struct ask reached = {.op = {.kind = MEMBER_COMPACTED, .revision = 91}};
    assert_int_equal(ask_submit(&f, &reached), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 50, .physical = true}), OK);
    assert_int_equal(stored_records(&f), 101 - 49); /* from revision 50 on */
    assert_false(ask_answered(&reached));
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 91}), OK);
    assert_int_equal(ask_wait(&reached), OK);
    assert_int_equal(stored_records(&f), 101 - 90);
    struct ask again = {.op = {.kind = MEMBER_COMPACTED, .revision = 60}};
    assert_int_equal(ask_submit(&f, &again), OK);
    assert_int_equal(ask_wait(&again), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 50, .physical = true}), ERR_COMPACTED);
    fixture_deinit(&f);
}

/* --- leases and time ---------------------------------------------------------------------------------------- */

static bool waits_for_revocation(struct member *m, struct member_op *op)
{
    member_wait_lease_revoked(m, op, op->revision);
    return false;
}

static bool lease_is_there(struct member *m, struct member_op *op)
{
    op->err = lease_exists(engine_leases(member_engine(m)), op->revision) ? OK : ERR_LEASE_NOT_FOUND;
    return true;
}

static enum err lease_state(struct fixture *f, int64_t id)
{
    struct ask a = {.op = {.kind = MEMBER_CALL, .call = lease_is_there, .revision = id}};
    assert_int_equal(ask_submit(f, &a), OK);
    return ask_wait(&a);
}

static void leases_expire_by_the_given_clock(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_GRANT, .number = 7, .ttl = 100}), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_GRANT, .number = 8, .ttl = 1000}), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .number = 7}), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_PUT, .key = "b", .number = 8}), OK);
    fixture_advance(&f, 50000);
    assert_int_equal(lease_state(&f, 7), OK);
    struct ask wait = {.op = {.kind = MEMBER_CALL, .call = waits_for_revocation, .revision = 7}};
    assert_int_equal(ask_submit(&f, &wait), OK);
    assert_int_equal(lease_state(&f, 7), OK);
    assert_false(ask_answered(&wait));
    fixture_advance(&f, 60000); /* past the wait's own timeout as well: which of the two comes first is open */
    enum err e = ask_wait(&wait);
    assert_true(e == ERR_LEASE_NOT_FOUND || e == ERR_TIMEOUT);
    while (lease_state(&f, 7) == OK) {
    }
    assert_int_equal(count_keys(&f, "a", "z"), 1);
    assert_int_equal(lease_state(&f, 8), OK);
    fixture_deinit(&f);
}

static void whoever_waits_for_a_revocation_hears_of_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_GRANT, .number = 7, .ttl = 100}), OK);
    struct ask wait = {.op = {.kind = MEMBER_CALL, .call = waits_for_revocation, .revision = 7}};
    struct ask late = wait;
    assert_int_equal(ask_submit(&f, &wait), OK);
    assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_REVOKE, .number = 7}), OK);
    assert_int_equal(ask_wait(&wait), ERR_LEASE_NOT_FOUND);
    /* One that comes too late is answered at once. */
    assert_int_equal(ask_submit(&f, &late), OK);
    assert_int_equal(ask_wait(&late), ERR_LEASE_NOT_FOUND);
    fixture_deinit(&f);
}

/* A voter of two whose peer does not exist finds no majority. */
static void without_a_leader_everything_times_out(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.n_initial = 2;
    fixture_open(&f);
    member_start(f.m);
    struct ask write;
    struct ask read = {.op.kind = MEMBER_READ_INDEX};
    assert_int_equal(propose_start(&f, &write, &(struct proposal){.kind = PROPOSE_PUT, .key = "a"}), OK);
    assert_int_equal(ask_submit(&f, &read), OK);
    assert_int_equal(call(&f, now_is_told, NULL), OK); /* both were seen */
    assert_int_equal(member_status(f.m).leader, 0);
    fixture_advance(&f, member_request_timeout_ms(f.m) - 4000);
    assert_int_equal(call(&f, now_is_told, NULL), OK);
    assert_false(ask_answered(&write));
    assert_false(ask_answered(&read));
    fixture_advance(&f, 4000);
    assert_int_equal(ask_wait(&write), ERR_TIMEOUT);
    assert_int_equal(ask_wait(&read), ERR_TIMEOUT);
    assert_false(member_read_is_current(f.m));
    fixture_deinit(&f);
}

/* --- the end ------------------------------------------------------------------------------------------------- */

static void stop_answers_everybody(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    f.n_initial = 2; /* no leader: everything waits */
    fixture_open(&f);
    member_start(f.m);
    struct ask asks[6] = {
        {.op.kind = MEMBER_READ_INDEX},
        {.op = {.kind = MEMBER_COMPACTED, .revision = 5}},
        {.op.kind = MEMBER_READ_INDEX},
        {.op = {.kind = MEMBER_CALL, .call = now_is_told}},
        {.op.kind = MEMBER_FLUSH},
    };
    assert_int_equal(propose_start(&f, &asks[5], &(struct proposal){.kind = PROPOSE_PUT, .key = "a"}), OK);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(ask_submit(&f, &asks[i]), OK);
    }
    member_stop(f.m);
    for (size_t i = 0; i < ARRAY_LEN(asks); i++) {
        assert_true(ask_answered(&asks[i]));
        bool may_be_done = asks[i].op.kind == MEMBER_CALL || asks[i].op.kind == MEMBER_FLUSH;
        assert_true(asks[i].op.err == ERR_STOPPED || (may_be_done && asks[i].op.err == OK));
    }
    assert_int_equal(put(&f, "a", "1"), ERR_STOPPED);
    assert_int_equal(ask_kind(&f, MEMBER_FLUSH), ERR_STOPPED);
    fixture_deinit(&f);
}

struct submitter {
    struct fixture *f;
    struct ask *asks;
    size_t n_max, n;
};

static void *submit_until_refused(void *arg)
{
    struct submitter *s = arg;
    for (enum err e = OK; e != ERR_STOPPED && s->n < s->n_max;) {
        struct ask *a = &s->asks[s->n];
        *a = (struct ask){.op.kind = MEMBER_READ_INDEX};
        e = ask_submit(s->f, a);
        s->n += e == OK ? 1 : 0;
    }
    return NULL;
}

/* What was taken is answered, however close to the end it came. */
static void no_op_falls_between_submit_and_stop(void **state)
{
    (void)state;
    for (int round = 0; round < 30; round++) {
        struct fixture f;
        fixture_init(&f);
        fixture_start(&f);
        struct submitter s[2];
        pthread_t threads[2];
        for (size_t i = 0; i < 2; i++) {
            s[i] = (struct submitter){.f = &f, .asks = calloc(200000, sizeof(struct ask)), .n_max = 200000};
            assert_int_equal(pthread_create(&threads[i], NULL, submit_until_refused, &s[i]), 0);
        }
        for (int i = 0; i < round % 5; i++) {
            assert_int_equal(put(&f, "a", "1"), OK);
        }
        member_stop(f.m);
        for (size_t i = 0; i < 2; i++) {
            pthread_join(threads[i], NULL);
            for (size_t k = 0; k < s[i].n; k++) {
                assert_true(ask_answered(&s[i].asks[k]));
                assert_true(s[i].asks[k].op.err == OK || s[i].asks[k].op.err == ERR_STOPPED);
            }
            free(s[i].asks);
        }
        fixture_deinit(&f);
    }
}

static void stop_right_after_start(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct fixture f;
        fixture_init(&f);
        fixture_open(&f);
        member_start(f.m);
        for (int k = 0; k < i % 10; k++) {
            assert_int_equal(call(&f, now_is_told, NULL), OK);
        }
        fixture_deinit(&f);
    }
}

static void opened_and_never_started(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_open(&f);
    fixture_close(&f);
    fixture_start(&f);
    fixture_deinit(&f);
}

static void too_large_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    size_t len = 1u << 20;
    uint8_t *value = calloc(1, len);
    struct proposal p = {.kind = PROPOSE_PUT, .key = "a", .value = slice_of(value, len)};
    assert_int_equal(propose(&f, &p), ERR_REQUEST_TOO_LARGE);
    p.value.len = len - 100;
    assert_int_equal(propose(&f, &p), OK);
    free(value);
    fixture_deinit(&f);
}

/* --- again ------------------------------------------------------------------------------------------------------ */

static void fill(struct fixture *f, int n)
{
    uint8_t value[8000];
    memset(value, 'v', sizeof(value));
    for (int i = 0; i < n; i++) {
        char key[16];
        (void)snprintf(key, sizeof(key), "k%d", i % 7);
        struct proposal p = {.kind = PROPOSE_PUT, .key = key, .value = slice_of(value, sizeof(value))};
        assert_int_equal(propose(f, &p), OK);
    }
}

static void restart_keeps_everything(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool flush;
        bool crash;
        bool undo_last;
    } cases[] = {
        {"an orderly stop", false, false, false},
        {"a power cut before the store has anything", false, true, false},
        {"a power cut behind a flush", true, true, false},
        {"a power cut that takes the last commit back", true, true, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        fixture_start(&f);
        fill(&f, 30);
        assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_GRANT, .number = 7, .ttl = 100}), OK);
        assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_COMPACT, .number = 10}), OK);
        if (cases[i].flush) {
            assert_int_equal(ask_kind(&f, MEMBER_FLUSH), OK);
        }
        assert_int_equal(propose(&f, &(struct proposal){.kind = PROPOSE_DELETE, .key = "k3"}), OK);
        struct hash_kv before = hash_kv(&f);
        uint64_t applied = member_status(f.m).applied_index;
        if (cases[i].crash) {
            atomic_store(&f.store.fail_at, 1); /* the stop's own flush comes too late */
        }
        fixture_close(&f);
        if (cases[i].crash) {
            vfs_mem_crash(f.disk, i);
            backend_mem_crash(f.store.inner, cases[i].undo_last);
            atomic_store(&f.store.fail_at, 0);
        }
        fixture_start(&f);
        struct hash_kv after = hash_kv(&f);
        if (after.hash != before.hash || after.live_revision != before.live_revision) {
            fail_msg("%s: the state differs", cases[i].name);
        }
        assert_int_equal(after.compact_revision, before.compact_revision);
        assert_true(member_status(f.m).applied_index > applied);
        assert_int_equal(lease_state(&f, 7), OK);
        assert_int_equal(put(&f, "more", "1"), OK);
        fixture_deinit(&f);
    }
}

static void log_is_released_behind_the_store(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    for (int i = 0; i < 10; i++) {
        fill(&f, 30); /* 240 kB, nearly four segments */
        assert_int_equal(ask_kind(&f, MEMBER_FLUSH), OK);
    }
    assert_int_equal(ask_kind(&f, MEMBER_FLUSH), OK);
    struct hash_kv before = hash_kv(&f);
    fixture_close(&f);
    assert_true(count_files(&f, LOG_DIR) < 16); /* it would be forty */
    fixture_start(&f);
    assert_int_equal(hash_kv(&f).hash, before.hash);
    fixture_deinit(&f);
}

/* The log is made and synced, and then the power goes, before the founding entries are in it. */
static void founding_is_taken_up_again(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    struct wal_config wc = {.vfs = f.disk, .dir = LOG_DIR, .segment_bytes = WAL_SEGMENT_BYTES_MIN};
    struct err_ctx ec = {{0}};
    struct wal *w = NULL;
    assert_int_equal(wal_create(&wc, (struct wal_identity){CLUSTER, MEMBER}, 1, &w, &ec), OK);
    wal_close(&w);
    fixture_start(&f);
    assert_int_equal(put(&f, "a", "1"), OK);
    fixture_deinit(&f);
}

/* --- what must not be opened -------------------------------------------------------------------------------------- */

/* A log made by hand: `n` entries from `first` on. */
static void forge_log(struct fixture *f, uint64_t member, uint64_t first, uint64_t n)
{
    struct wal_config wc = {.vfs = f->disk, .dir = LOG_DIR, .segment_bytes = WAL_SEGMENT_BYTES_MIN};
    struct err_ctx ec = {{0}};
    struct wal *w = NULL;
    assert_int_equal(wal_create(&wc, (struct wal_identity){CLUSTER, member}, first, &w, &ec), OK);
    for (uint64_t i = 0; i < n; i++) {
        struct wal_entry e = {.index = first + i, .term = 1};
        struct wal_batch b = {.has_hard_state = i == 0, .hard_state = {.term = 1}, .entries = &e, .n_entries = 1};
        assert_int_equal(wal_append(w, &b, NULL, &ec), OK);
    }
    wal_close(&w);
}

enum damage { LOG_GONE, LOG_SHORT, LOG_EMPTY, LOG_LATE, LOG_FOREIGN, LOG_DIFFERS, STORE_GONE };

static void do_damage(struct fixture *f, enum damage d, uint64_t applied)
{
    if (d != STORE_GONE) {
        remove_log(f);
    }
    switch (d) {
    case LOG_GONE:
        break;
    case LOG_SHORT:
        forge_log(f, MEMBER, 1, applied - 1);
        break;
    case LOG_EMPTY:
        forge_log(f, MEMBER, 1, 0);
        break;
    case LOG_LATE:
        forge_log(f, MEMBER, applied + 2, 3);
        break;
    case LOG_FOREIGN:
        forge_log(f, OTHER_MEMBER, 1, applied + 5);
        break;
    case LOG_DIFFERS:
        forge_log(f, MEMBER, 1, applied + 5);
        break;
    case STORE_GONE:
        f->store.inner->ops->close(&f->store.inner);
        f->store.inner = backend_mem_create();
        break;
    }
}

static void log_and_store_must_agree(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        enum damage damage;
        enum err err;
        const char *story;
    } cases[] = {
        {"the log is gone", LOG_GONE, ERR_CORRUPT, "the log is lost"},
        {"the log ends too early", LOG_SHORT, ERR_CORRUPT, "acknowledged entries are lost"},
        {"the log is empty", LOG_EMPTY, ERR_CORRUPT, "acknowledged entries are lost"},
        {"the log begins too late", LOG_LATE, ERR_CORRUPT, "begins at entry"},
        {"another member's log", LOG_FOREIGN, ERR_FOREIGN, "belongs to member b2"},
        {"another history", LOG_DIFFERS, ERR_CORRUPT, "differs at entry"},
        {"the store is gone, the log is not whole", STORE_GONE, ERR_CORRUPT, "the store ends at entry 0"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct fixture f;
        fixture_init(&f);
        fixture_start(&f);
        for (int k = 0; k < 3; k++) {
            fill(&f, 20);
            assert_int_equal(ask_kind(&f, MEMBER_FLUSH), OK);
        }
        uint64_t applied = member_status(f.m).applied_index;
        fixture_close(&f);
        do_damage(&f, cases[i].damage, applied);
        struct err_ctx ec = {{0}};
        enum err e = fixture_try_open(&f, &ec);
        if (e != cases[i].err || strstr(ec.text, cases[i].story) == NULL || strstr(ec.text, LOG_DIR) == NULL) {
            fail_msg("%s: got %s: %s", cases[i].name, err_text(e), ec.text);
        }
        /* Looking changed nothing: the same again. */
        assert_int_equal(fixture_try_open(&f, &ec), cases[i].err);
        fixture_deinit(&f);
    }
}

/* --- back-pressure and failures --------------------------------------------------------------------------------------- */

static void failed_store_is_reported_once(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    assert_int_equal(put(&f, "a", "1"), OK);
    atomic_store(&f.store.fail_at, 1);
    assert_int_equal(ask_kind(&f, MEMBER_FLUSH), ERR_IO);
    fixture_wait_failed(&f);
    assert_int_equal(f.failed, ERR_IO);
    assert_non_null(strstr(f.failed_text, "injected failure"));
    /* Durable in the log all the same. */
    assert_int_equal(put(&f, "b", "2"), OK);
    assert_int_equal(ask_kind(&f, MEMBER_FLUSH), ERR_IO);
    fixture_close(&f);
    assert_int_equal(f.n_failed, 1);
    atomic_store(&f.store.fail_at, 0);
    fixture_start(&f);
    assert_int_equal(count_keys(&f, "a", "z"), 2);
    fixture_deinit(&f);
}

static void failed_log_answers_nothing(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f);
    fixture_set_fault(&f, &(struct vfs_fault_plan){.fail_at = 60, .sticky = true, .writes_only = true, .with = ERR_NO_DISK});
    fixture_start(&f);
    struct ask a;
    unsigned n = 0;
    for (bool answered = true; answered;) {
        assert_int_equal(propose_start(&f, &a, &(struct proposal){.kind = PROPOSE_PUT, .key = "a"}), OK);
        answered = ask_wait_or_failed(&a);
        n += answered ? 1 : 0;
        if (answered) {
            ask_release(&a);
        }
    }
    assert_int_equal(f.failed, ERR_NO_DISK);
    assert_false(ask_answered(&a));
    fixture_close(&f);
    assert_true(ask_answered(&a));
    assert_int_equal(a.op.err, ERR_STOPPED);
    fixture_clear_fault(&f);
    fixture_start(&f);
    assert_true(engine_revision(member_engine(f.m)) >= (int64_t)n + 1);
    fixture_deinit(&f);
}

/* A store that hangs: memory stays bounded, because the member stops applying and then taking. */
static void hanging_store_holds_writers_back(void **state)
{
    (void)state;
    enum { VALUE = 1000000, N = 700 };
    struct fixture f;
    fixture_init(&f);
    fixture_start(&f);
    fixture_freeze(&f); /* nobody loses patience */
    pthread_mutex_lock(&f.store.hold);
    uint8_t *value = calloc(1, VALUE);
    struct ask *asks = calloc(N, sizeof(*asks));
    size_t n = 0;
    enum err e = OK;
    for (size_t i = 0; i < N && e == OK; i++) {
        e = propose_start(&f, &asks[i], &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = slice_of(value, VALUE)});
        n += e == OK ? 1 : 0;
        if (i % 10 == 9) { /* let it get there */
            assert_int_equal(call(&f, now_is_told, NULL), OK);
        }
    }
    size_t pending = engine_pending_bytes(member_engine(f.m));
    assert_true(pending < ENGINE_TAIL_BYTES_MAX + (100u << 20));
    pthread_mutex_unlock(&f.store.hold);
    size_t refused = N - n;
    for (size_t i = 0; i < n; i++) {
        enum err got = ask_wait(&asks[i]);
        if (got != OK && got != ERR_TOO_MANY_REQUESTS) {
            fail_msg("write %zu: %s", i, err_text(got));
        }
        refused += got == ERR_TOO_MANY_REQUESTS ? 1u : 0u;
        ask_release(&asks[i]);
    }
    assert_int_equal(asks[0].op.err, OK);
    assert_true(refused > 0); /* which ones depends on when room was made by what was applied */
    assert_int_equal(put(&f, "b", "1"), OK);
    free(asks);
    free(value);
    fixture_deinit(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(becomes_leader_and_serves),
        cmocka_unit_test(cluster_version_is_decided),
        cmocka_unit_test(answers_belong_to_their_proposals),
        cmocka_unit_test(read_index_follows_writes),
        cmocka_unit_test(reads_before_the_election_are_answered_after_it),
        cmocka_unit_test(calls_run_on_the_loop),
        cmocka_unit_test(flush_stores_what_is_applied),
        cmocka_unit_test(store_follows_by_itself),
        cmocka_unit_test(physical_compaction_is_waited_for),
        cmocka_unit_test(leases_expire_by_the_given_clock),
        cmocka_unit_test(whoever_waits_for_a_revocation_hears_of_it),
        cmocka_unit_test(without_a_leader_everything_times_out),
        cmocka_unit_test(stop_answers_everybody),
        cmocka_unit_test(no_op_falls_between_submit_and_stop),
        cmocka_unit_test(stop_right_after_start),
        cmocka_unit_test(opened_and_never_started),
        cmocka_unit_test(too_large_is_refused),
        cmocka_unit_test(restart_keeps_everything),
        cmocka_unit_test(log_is_released_behind_the_store),
        cmocka_unit_test(founding_is_taken_up_again),
        cmocka_unit_test(log_and_store_must_agree),
        cmocka_unit_test(failed_store_is_reported_once),
        cmocka_unit_test(failed_log_answers_nothing),
        cmocka_unit_test(hanging_store_holds_writers_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
