/* test_vectors.c - etcd-io/raft's own scripts, replayed: every line of every trace must be equal.
 */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/mem.h"
#include "raft/core/internal.h"
#include "tests/raft/core/cluster.h"
#include "tests/raft/core/describe.h"
#include "tests/raft/core/script.h"

static void run_suite(const char *sub, const struct script_suite *suite, size_t files_min)
{
    char dir[4096];
    if (!script_vectors(sub, dir, sizeof(dir))) {
        skip();
    }
    size_t n_files = 0;
    size_t differ = script_run_dir(dir, suite, &n_files);
    (void)fprintf(stderr, "%zu scripts in %s, %zu differ\n", n_files, sub, differ);
    assert_int_equal(differ, 0);
    assert_true(n_files >= files_min);
}

/* ---- a cluster ---- */

static void *cluster_begin(void)
{
    return cluster_create();
}

static void cluster_end(void *arg)
{
    struct cluster *c = arg;
    cluster_destroy(&c);
}

static void cluster_command(void *arg, const struct script_case *s, struct bytes *out)
{
    cluster_handle(arg, s, out);
}

static void interaction_traces_are_etcds(void **state)
{
    (void)state;
    struct script_suite suite = {cluster_begin, cluster_end, cluster_command, NULL};
    run_suite("testdata", &suite, 20);
}

/* ---- configuration changes ---- */

struct conf_run {
    struct raft_tracker tracker;
    uint64_t last_index;
};

static void *conf_begin(void)
{
    struct conf_run *run = xcalloc(1, sizeof(*run));
    run->tracker.max_inflight = 10;
    return run;
}

static void conf_end(void *arg)
{
    struct conf_run *run = arg;
    raft_tracker_deinit(&run->tracker);
    free(run);
}

static void conf_command(void *arg, const struct script_case *s, struct bytes *out)
{
    struct conf_run *run = arg;
    struct raft_conf_change cc = {0};
    struct raft_tracker next;
    struct err_ctx ec = {0};
    enum err e = ERR_INVALID;
    describe_parse_changes((const char *)s->input.data, &cc);
    if (strcmp(s->command, "simple") == 0) {
        e = raft_conf_simple(&run->tracker, run->last_index, cc.changes, cc.n_changes, &next, &ec);
    } else if (strcmp(s->command, "enter-joint") == 0) {
        const struct script_arg *leave = script_find(s, "autoleave");
        bool auto_leave = leave != NULL && script_bool(leave->values[0]);
        e = raft_conf_enter_joint(&run->tracker, run->last_index, auto_leave, cc.changes,
                                  cc.n_changes, &next, &ec);
    } else if (strcmp(s->command, "leave-joint") == 0) {
        e = raft_conf_leave_joint(&run->tracker, &next, &ec);
    }
    run->last_index++;
    if (e != OK) {
        bytes_printf(out, "%s\n", ec.text);
        return;
    }
    raft_tracker_replace(&run->tracker, &next);
    raft_conf_text(&run->tracker.conf, out);
    bytes_add_str(out, "\n");
    for (size_t i = 0; i < run->tracker.n; i++) {
        char text[RAFT_PROGRESS_TEXT_MAX];
        bytes_printf(out, "%" PRIu64 ": %s\n", run->tracker.p[i].id,
                     raft_progress_text(&run->tracker, &run->tracker.p[i], text));
    }
}

static void conf_changes_are_etcds(void **state)
{
    (void)state;
    struct script_suite suite = {conf_begin, conf_end, conf_command, NULL};
    run_suite("confchange/testdata", &suite, 9);
}

/* ---- quorums ---- */

struct quorum_run {
    struct raft_ids half[2];
    size_t n;
    uint64_t id[2 * RAFT_MEMBERS_MAX];    /* in the order of the script */
    uint64_t value[2 * RAFT_MEMBERS_MAX]; /* index, or 1 no and 2 yes; 0: unknown */
};

static bool lookup(const void *arg, uint64_t id, uint64_t *value)
{
    const struct quorum_run *q = arg;
    for (size_t i = 0; i < q->n; i++) {
        if (q->id[i] == id && q->value[i] != 0) {
            *value = q->value[i];
            return true;
        }
    }
    return false;
}

static enum raft_ballot ballot(const void *arg, uint64_t id)
{
    uint64_t v = 0;
    return !lookup(arg, id, &v) ? RAFT_BALLOT_NONE : v == 2 ? RAFT_BALLOT_YES : RAFT_BALLOT_NO;
}

static void add_voter(struct quorum_run *q, struct raft_ids *half, uint64_t id)
{
    bool known = raft_ids_has(&q->half[0], id) || raft_ids_has(&q->half[1], id);
    raft_ids_add(half, id);
    if (!known) {
        q->id[q->n++] = id;
    }
}

static void print_index(uint64_t index, struct bytes *out)
{
    if (index == UINT64_MAX) {
        bytes_add_str(out, "\xe2\x88\x9e");
    } else {
        bytes_printf(out, "%" PRIu64, index);
    }
}

/* The voters by id, each with a bar as long as the number of voters that are behind it. */
static void print_bars(const struct quorum_run *q, const struct raft_ids *all, struct bytes *out)
{
    if (all->n == 0) {
        bytes_add_str(out, "<empty majority quorum>");
        return;
    }
    bytes_printf(out, "%*s    idx\n", (int)all->n, "");
    for (size_t i = 0; i < all->n; i++) {
        uint64_t mine = 0;
        bool known = lookup(q, all->id[i], &mine);
        size_t behind = 0;
        for (size_t k = 0; k < all->n; k++) {
            uint64_t theirs = 0;
            (void)lookup(q, all->id[k], &theirs);
            behind += theirs < mine;
        }
        for (size_t k = 0; known && k < behind; k++) {
            bytes_add_str(out, "x");
        }
        bytes_printf(out, "%s%*s %5" PRIu64 "    (id=%" PRIx64 ")\n", known ? ">" : "?",
                     (int)(known ? all->n - behind : all->n), "", mine, all->id[i]);
    }
}

static void print_committed(const struct quorum_run *q, struct bytes *out)
{
    struct raft_ids all;
    struct raft_acks acks = {q, lookup};
    struct raft_ids none = {0};
    bool fits = raft_ids_union(&q->half[0], &q->half[1], &all);
    assert_true(fits);
    print_bars(q, &all, out);
    uint64_t index = raft_joint_committed(&q->half[0], &q->half[1], acks);
    assert_int_equal(index, raft_joint_committed(&q->half[1], &q->half[0], acks));
    if (q->half[1].n == 0) {
        assert_int_equal(index, raft_joint_committed(&q->half[0], &none, acks));
        assert_int_equal(index, raft_joint_committed(&q->half[0], &q->half[0], acks));
    }
    print_index(index, out);
    bytes_add_str(out, "\n");
}

static void print_vote(const struct quorum_run *q, struct bytes *out)
{
    static const char *const names[] = {
        [RAFT_VOTE_PENDING] = "VotePending",
        [RAFT_VOTE_LOST] = "VoteLost",
        [RAFT_VOTE_WON] = "VoteWon",
    };
    struct raft_ballots ballots = {q, ballot};
    enum raft_vote_result result = raft_joint_vote(&q->half[0], &q->half[1], ballots);
    assert_int_equal(result, raft_joint_vote(&q->half[1], &q->half[0], ballots));
    bytes_printf(out, "%s\n", names[result]);
}

static uint64_t value_of(const char *text)
{
    return strcmp(text, "_") == 0   ? 0
           : strcmp(text, "n") == 0 ? 1
           : strcmp(text, "y") == 0 ? 2
                                    : script_number(text);
}

static void quorum_command(void *arg, const struct script_case *s, struct bytes *out)
{
    struct quorum_run *q = arg;
    *q = (struct quorum_run){0};
    for (size_t i = 0; i < s->n_args; i++) {
        const struct script_arg *a = &s->args[i];
        for (size_t k = 0; k < a->n_values; k++) {
            if (strcmp(a->key, "cfg") == 0) {
                add_voter(q, &q->half[0], script_number(a->values[k]));
            } else if (strcmp(a->key, "cfgj") == 0 && strcmp(a->values[k], "zero") != 0) {
                add_voter(q, &q->half[1], script_number(a->values[k]));
            }
        }
    }
    const struct script_arg *values = script_find(s, "idx");
    values = values == NULL ? script_find(s, "votes") : values;
    size_t n_values = values == NULL ? 0 : values->n_values;
    if (n_values != q->n) {
        bytes_add_str(out, "error: mismatched input\n");
        return;
    }
    for (size_t k = 0; k < n_values; k++) {
        q->value[k] = value_of(values->values[k]);
    }
    if (strcmp(s->command, "committed") == 0) {
        print_committed(q, out);
    } else {
        print_vote(q, out);
    }
}

static void *quorum_begin(void)
{
    return xcalloc(1, sizeof(struct quorum_run));
}

static void quorums_are_etcds(void **state)
{
    (void)state;
    struct script_suite suite = {quorum_begin, free, quorum_command, NULL};
    run_suite("quorum/testdata", &suite, 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quorums_are_etcds),
        cmocka_unit_test(conf_changes_are_etcds),
        cmocka_unit_test(interaction_traces_are_etcds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
