/* test_flush.c - the store thread's commits while the log hangs. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/vfs.h"
#include "raft/member/internal.h"
#include "tests/raft/member/fixture.h"

enum { TERM = 2, ATTEMPTS_MAX = 5, TURNS = 100, QUICK_MS = ENGINE_FLUSH_MS / 2 };

/* A disk whose syncs wait while a test holds the lock. */
static pthread_mutex_t log_hold = PTHREAD_MUTEX_INITIALIZER;
static const struct vfs_ops *inner_ops;
static struct vfs_ops held_ops;

static enum err held_datasync(struct vfs_file *f, struct err_ctx *ec)
{
    pthread_mutex_lock(&log_hold);
    pthread_mutex_unlock(&log_hold);
    return inner_ops->datasync(f, ec);
}

/* The leader's next entry, committed by the others' logs; until it is applied here. */
static void append(struct fixture *f, uint64_t after, const struct proposal *p)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_APP, 1);
    m->from = OTHER_MEMBER;
    m->to = MEMBER;
    m->term = TERM;
    m->index = after;
    m->log_term = after == 2 ? 1 : TERM;
    m->commit = after + 1;
    m->entries[0] = (struct raft_entry){.index = after + 1, .term = TERM, .type = RAFT_ENTRY_NORMAL, .data = proposal_encode(p, after)};
    member_receive(f->m, m);
    while (engine_applied_index(f->m->engine) <= after) {
        fixture_turn(f);
    }
}

/* A commit waits for the log; meanwhile as much is applied as makes the next one urgent. How long after the log's return that is in the store, too. */
static uint64_t stored_after_ms(struct fixture *f, uint64_t last, struct slice large)
{
    struct ask flushed = {.op = {.kind = MEMBER_FLUSH}};
    pthread_mutex_lock(&log_hold);
    append(f, last, &(struct proposal){.kind = PROPOSE_PUT, .key = "a"});
    assert_int_equal(ask_submit(f, &flushed), OK);
    while (!atomic_load(&f->m->flush_waits)) {
        fixture_turn(f);
    }
    append(f, last + 1, &(struct proposal){.kind = PROPOSE_PUT, .key = "a", .value = large});
    for (int i = 0; i < TURNS; i++) { /* the store thread has time to hear of it */
        fixture_turn(f);
    }
    assert_false(ask_answered(&flushed));
    uint64_t since = clock_now_ms(clock_real());
    pthread_mutex_unlock(&log_hold);
    while (engine_pending_bytes(f->m->engine) > 0) {
        fixture_turn(f);
    }
    uint64_t took = clock_now_ms(clock_real()) - since;
    assert_int_equal(ask_wait(&flushed), OK);
    ask_release(&flushed);
    return took;
}

/* What is urgent and comes while a commit waits for the log is not forgotten by its end. A busy machine may be slow once; who forgets is slow each time. */
static void what_is_urgent_stays_so_while_a_commit_waits(void **state)
{
    (void)state;
    struct fixture f;
    uint8_t *large = xcalloc(1, ENGINE_FLUSH_BYTES);
    fixture_init(&f);
    fixture_freeze(&f);
    inner_ops = f.disk->ops;
    held_ops = *inner_ops;
    held_ops.datasync = held_datasync;
    f.disk->ops = &held_ops;
    f.n_initial = 2;
    fixture_open(&f);
    member_start(f.m);
    uint64_t last = 2; /* the founding entries */
    uint64_t took = UINT64_MAX;
    for (int i = 0; i < ATTEMPTS_MAX && took >= QUICK_MS; i++) {
        took = stored_after_ms(&f, last, slice_of(large, ENGINE_FLUSH_BYTES));
        last += 2;
    }
    assert_true(took < QUICK_MS);
    fixture_close(&f);
    f.disk->ops = inner_ops;
    fixture_deinit(&f);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_urgent_stays_so_while_a_commit_waits)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
