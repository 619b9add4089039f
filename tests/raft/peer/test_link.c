/* test_link.c - one link, event by event. Each scenario is a table: an event, and the actions that
 * must come of it, as text. Connections are numbered in the order in which they appear. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/peer/link.h"

#define A PEER_STREAM_APPEND
#define M PEER_STREAM_MESSAGE
#define DIAL_TIMEOUT 2000u
#define ROWS_MAX 24u
#define BOTH_DIALED "dial append 1 @0, dial message 2 @0"

static const char *const stream_names[] = {"append", "message", "pipeline", "snapshot"};

static void describe_action(const struct link_action *a, const struct link_actions *all,
                            struct bytes *out)
{
    const char *path = stream_names[a->path];
    const char *end = a->writer ? "writer" : "reader";
    unsigned conn = (unsigned)a->conn;
    switch (a->kind) {
    case LINK_DIAL:
        bytes_printf(out, "dial %s %u @%u", path, conn, a->url);
        break;
    case LINK_CLOSE:
        bytes_printf(out, "close %u", conn);
        break;
    case LINK_WRITE:
        bytes_printf(out, "write %s %u", path, conn);
        break;
    case LINK_BEAT:
        bytes_printf(out, "beat %s %u", path, conn);
        break;
    case LINK_POST:
    case LINK_POST_SNAPSHOT:
        bytes_printf(out, "post %s %u @%u", raft_message_type_name(a->type), conn, a->url);
        break;
    case LINK_UNREACHABLE:
        bytes_add_str(out, "unreachable");
        break;
    case LINK_SNAPSHOT_DONE:
        bytes_add_str(out, a->delivered ? "snapshot delivered" : "snapshot failed");
        break;
    case LINK_REMOVED:
        bytes_add_str(out, "removed");
        break;
    case LINK_GONE:
        bytes_add_str(out, "gone");
        break;
    case LINK_DROPPED:
        bytes_printf(out, "dropped %s on %s", raft_message_type_name(a->type), path);
        break;
    case LINK_ACTIVE:
        bytes_add_str(out, "active");
        break;
    case LINK_INACTIVE:
        bytes_printf(out, "inactive: %s", all->text);
        break;
    case LINK_STREAM_UP:
        bytes_printf(out, "%s %s up", path, end);
        break;
    case LINK_STREAM_DOWN:
        bytes_printf(out, "%s %s down", path, end);
        break;
    case LINK_REFUSED:
        bytes_printf(out, "refused on %s: %s", path, peer_outcome_text(a->outcome));
        break;
    }
}

static void describe(struct link_actions *actions, struct bytes *out)
{
    for (size_t i = 0; i < actions->n; i++) {
        bytes_add_str(out, i == 0 ? "" : ", ");
        describe_action(&actions->at[i], actions, out);
        raft_message_destroy(&actions->at[i].message);
    }
    bytes_add(out, "", 1);
}

static struct link *create(uint32_t n_urls, bool pipeline_only)
{
    const struct link_config config = {.peer = 0xab,
                                       .n_urls = n_urls,
                                       .dial_timeout_ms = DIAL_TIMEOUT,
                                       .pipeline_only = pipeline_only,
                                       .now_ms = 1000};
    return link_create(&config);
}

/* One row: an event (its message by type, 0: none), and what it must give. */
struct row {
    struct link_event ev;
    enum raft_message_type type;
    const char *want;
};

#define AT(ms) .ev.now_ms = 1000 + (ms)
#define TICK(ms, text)                                                                             \
    {                                                                                              \
        AT(ms), .ev.kind = LINK_EV_TICK, .want = (text)                                            \
    }
#define SEND(ms, msg, text)                                                                        \
    {                                                                                              \
        AT(ms), .ev.kind = LINK_EV_SEND, .type = (msg), .want = (text)                             \
    }
#define ATTACHED(ms, s, text)                                                                      \
    {                                                                                              \
        AT(ms), .ev.kind = LINK_EV_ATTACHED, .ev.stream = (s), .want = (text)                      \
    }
#define EVENT(ms, what, c, text)                                                                   \
    {                                                                                              \
        AT(ms), .ev.kind = (what), .ev.conn = (c), .want = (text)                                  \
    }
#define CLEAN(ms, what, c, text)                                                                   \
    {                                                                                              \
        AT(ms), .ev.kind = (what), .ev.conn = (c), .ev.clean = true, .want = (text)                \
    }
#define BROKEN(ms, what, c, why, text)                                                             \
    {                                                                                              \
        AT(ms), .ev.kind = (what), .ev.conn = (c), .ev.outcome = PEER_FAILED, .ev.reason = (why),  \
                .want = (text)                                                                     \
    }
#define RESULT(ms, what, c, how, text)                                                             \
    {                                                                                              \
        AT(ms), .ev.kind = (what), .ev.conn = (c), .ev.outcome = (how), .want = (text)             \
    }

struct scenario {
    const char *name;
    uint32_t n_urls;
    bool pipeline_only;
    struct row rows[ROWS_MAX];
};

#define REFUSE(ms, c, text) RESULT(ms, LINK_EV_DIALED, c, PEER_REFUSED_CONNECTION, text)
#define OKAY(ms, c, text) RESULT(ms, LINK_EV_DIALED, c, PEER_OK, text)

static const struct scenario scenarios[] = {
    {"both streams are dialled at once, and again after a while",
     1,
     false,
     {TICK(0, BOTH_DIALED), OKAY(5, 1, "append reader up, active"),
      RESULT(5, LINK_EV_DIALED, 2, PEER_FAILED,
             "inactive: failed to dial ab on stream Message (failed)"),
      TICK(99, ""), TICK(100, "dial message 3 @0"), OKAY(101, 3, "message reader up, active"),
      OKAY(102, 3, "")}},
    {"a dial that nobody answers is given up",
     2,
     false,
     {TICK(0, BOTH_DIALED), TICK(1999, ""),
      TICK(2000, "close 1, close 2, dial append 3 @1, dial message 4 @1"), OKAY(2001, 1, ""),
      OKAY(2002, 3, "append reader up, active")}},
    {"a stream that brings nothing is given up",
     1,
     false,
     {TICK(0, BOTH_DIALED), OKAY(0, 1, "append reader up, active"), OKAY(0, 2, "message reader up"),
      EVENT(4000, LINK_EV_RECEIVED, 1, ""), TICK(4999, ""),
      TICK(5000, "close 2, message reader down, inactive: failed to read ab on stream Message (i/o "
                 "timeout), dial message 3 @0"),
      OKAY(5001, 3, "message reader up, active"),
      CLEAN(8999, LINK_EV_LOST, 3, "message reader down, dial message 4 @0")}},
    {"what goes where",
     1,
     false,
     {TICK(0, BOTH_DIALED), SEND(1, RAFT_MSG_APP, "post MsgApp 3 @0"),
      ATTACHED(2, M, "message writer up, active"), SEND(3, RAFT_MSG_APP, "write message 4"),
      ATTACHED(4, A, "append writer up"), SEND(5, RAFT_MSG_APP, "write append 5"),
      SEND(6, RAFT_MSG_APP, ""), SEND(7, RAFT_MSG_HEARTBEAT, ""),
      SEND(8, RAFT_MSG_SNAP, "post MsgSnap 6 @0"),
      SEND(9, RAFT_MSG_SNAP, "dropped MsgSnap on snapshot, unreachable, snapshot failed"),
      RESULT(9, LINK_EV_POSTED, 3, PEER_OK, ""),
      RESULT(10, LINK_EV_POSTED, 6, PEER_OK, "snapshot delivered"),
      SEND(11, RAFT_MSG_SNAP, "post MsgSnap 7 @0"),
      CLEAN(12, LINK_EV_DETACHED, 5,
            "append writer down, unreachable, inactive: failed to write ab on "
            "stream MsgApp v2 (ok)"),
      SEND(13, RAFT_MSG_APP, "")}},
    {"a new connection replaces the old one",
     1,
     false,
     {TICK(0, BOTH_DIALED), ATTACHED(0, M, "message writer up, active"),
      ATTACHED(1, M, "close 3, message writer down, message writer up"),
      SEND(2, RAFT_MSG_VOTE, "write message 4"),
      ATTACHED(3, M, "close 4, message writer down, unreachable, message writer up"),
      CLEAN(4, LINK_EV_DETACHED, 4, ""), CLEAN(5, LINK_EV_DETACHED, 5, "message writer down")}},
    {"heartbeats, and a stream that is stuck",
     1,
     false,
     {TICK(0, BOTH_DIALED),
      ATTACHED(0, M, "message writer up, active"),
      TICK(1665, ""),
      TICK(1666, "beat message 3"),
      {AT(1700), .ev.kind = LINK_EV_PROGRESS, .ev.conn = 3, .ev.drained = true, .want = ""},
      TICK(3332, "beat message 3, close 1, inactive: failed to dial ab on stream MsgApp v2 (dial "
                 "timeout), close 2, dial append 4 @0, dial message 5 @0"),
      EVENT(3400, LINK_EV_PROGRESS, 3, ""),
      TICK(4998, "beat message 3"),
      OKAY(5000, 4, "append reader up, active"),
      TICK(8399, "beat message 3, close 5, inactive: failed to dial ab on stream Message (dial "
                 "timeout), dial message 6 @0"),
      OKAY(8399, 6, "message reader up, active"),
      TICK(8400,
           "close 3, message writer down, unreachable, inactive: failed to write ab on stream "
           "Message (i/o timeout)")}},
    {"posts that fail, and posts that hang",
     2,
     false,
     {TICK(0, BOTH_DIALED), OKAY(0, 1, "append reader up, active"),
      SEND(1, RAFT_MSG_VOTE, "post MsgVote 3 @0"),
      BROKEN(2, LINK_EV_POSTED, 3, "reset",
             "inactive: failed to write ab on pipeline (reset), unreachable"),
      SEND(3, RAFT_MSG_VOTE, "post MsgVote 4 @1"),
      RESULT(4, LINK_EV_POSTED, 4, PEER_BAD_CLUSTER,
             "refused on pipeline: cluster ID mismatch, unreachable"),
      OKAY(5, 2, "message reader up, active"), SEND(6, RAFT_MSG_SNAP, "post MsgSnap 5 @0"),
      RESULT(7, LINK_EV_POSTED, 5, PEER_REMOVED,
             "removed, inactive: failed to post ab on sendMsgSnap (the member has been permanently "
             "removed from the cluster), unreachable, snapshot failed"),
      RESULT(8, LINK_EV_POSTED, 5, PEER_OK, "")}},
    {"refusals of a stream",
     1,
     false,
     {TICK(0, BOTH_DIALED),
      RESULT(1, LINK_EV_DIALED, 1, PEER_UNSUPPORTED, "refused on append: unsupported stream type"),
      RESULT(1, LINK_EV_DIALED, 2, PEER_REMOVED, "removed"),
      TICK(100, "dial append 3 @0, dial message 4 @0"),
      RESULT(101, LINK_EV_DIALED, 4, PEER_UNKNOWN_HERE,
             "refused on message: peer failed to find local node")}},
    {"a killed process is noticed within tens of milliseconds",
     1,
     false,
     {TICK(0, BOTH_DIALED),
      OKAY(0, 1, "append reader up, active"),
      OKAY(0, 2, "message reader up"),
      ATTACHED(1, M, "message writer up"),
      CLEAN(1000, LINK_EV_LOST, 1, "append reader down, dial append 4 @0"),
      REFUSE(1001, 4, "inactive: failed to dial ab on stream MsgApp v2 (connection refused)"),
      CLEAN(1001, LINK_EV_LOST, 2, "message reader down, dial message 5 @0"),
      REFUSE(1002, 5, ""),
      TICK(1010, "dial append 6 @0"),
      REFUSE(1010, 6, ""),
      CLEAN(1010, LINK_EV_DETACHED, 3, "message writer down, gone"),
      TICK(1011, "dial message 7 @0"),
      REFUSE(1012, 7, ""),
      TICK(1020, "dial append 8 @0"),
      OKAY(1020, 8, "append reader up, active"),
      CLEAN(1030, LINK_EV_LOST, 8, "append reader down, dial append 9 @0, dial message 10 @0"),
      REFUSE(1031, 9, "inactive: failed to dial ab on stream MsgApp v2 (connection refused)"),
      REFUSE(1031, 10, ""),
      TICK(1040, "dial append 11 @0, dial message 12 @0"),
      REFUSE(1041, 12, "gone"),
      REFUSE(1041, 11, "")}},
    {"every address has to refuse",
     2,
     false,
     {TICK(0, BOTH_DIALED), OKAY(0, 1, "append reader up, active"),
      REFUSE(1, 2, "inactive: failed to dial ab on stream Message (connection refused)"),
      CLEAN(1000, LINK_EV_LOST, 1, "append reader down, dial append 3 @1, dial message 4 @1"),
      REFUSE(1001, 3, ""), RESULT(1001, LINK_EV_DIALED, 4, PEER_FAILED, ""),
      TICK(1010, "dial append 5 @0, dial message 6 @0"), REFUSE(1011, 5, ""), REFUSE(1011, 6, ""),
      TICK(1020, "dial append 7 @1, dial message 8 @1"), REFUSE(1021, 7, "gone")}},
    {"silence is no evidence",
     1,
     false,
     {TICK(0, BOTH_DIALED), OKAY(0, 1, "append reader up, active"), OKAY(0, 2, "message reader up"),
      TICK(5000,
           "close 1, append reader down, inactive: failed to read ab on stream MsgApp v2 (i/o "
           "timeout), close 2, message reader down, dial append 3 @0, dial message 4 @0"),
      RESULT(5001, LINK_EV_DIALED, 3, PEER_FAILED, ""),
      RESULT(5001, LINK_EV_DIALED, 4, PEER_FAILED, ""),
      TICK(5010, "dial append 5 @0, dial message 6 @0"), REFUSE(5011, 5, ""),
      RESULT(5011, LINK_EV_DIALED, 6, PEER_FAILED, ""),
      TICK(5020, "dial append 7 @0, dial message 8 @0")}},
    {"a peer that never was there is not gone",
     1,
     false,
     {TICK(0, BOTH_DIALED), REFUSE(1, 1, ""), REFUSE(1, 2, ""),
      TICK(100, "dial append 3 @0, dial message 4 @0"), REFUSE(101, 3, ""), REFUSE(101, 4, "")}},
    {"who is known from a request alone gets posts only",
     1,
     true,
     {TICK(0, ""), SEND(1, RAFT_MSG_APP_RESP, "post MsgAppResp 1 @0"), ATTACHED(2, M, "close 2"),
      SEND(3, RAFT_MSG_SNAP, "dropped MsgSnap on snapshot, unreachable, snapshot failed"),
      RESULT(4, LINK_EV_POSTED, 1, PEER_OK, "active"), TICK(100000, "")}},
    {"new addresses",
     2,
     false,
     {TICK(0, BOTH_DIALED),
      RESULT(1, LINK_EV_DIALED, 1, PEER_FAILED, ""),
      {AT(2), .ev.kind = LINK_EV_URLS, .ev.n_urls = 3, .want = ""},
      TICK(10, "dial append 3 @0")}},
    {"a stop closes everything, once",
     1,
     false,
     {TICK(0, BOTH_DIALED), OKAY(1, 1, "append reader up, active"),
      ATTACHED(2, A, "append writer up"), SEND(3, RAFT_MSG_APP, "write append 3"),
      SEND(3, RAFT_MSG_VOTE, "post MsgVote 4 @0"), SEND(3, RAFT_MSG_SNAP, "post MsgSnap 5 @0"),
      EVENT(4, LINK_EV_STOP, 0, "close 3, close 1, close 2, close 4, close 5, snapshot failed"),
      SEND(5, RAFT_MSG_APP, ""), RESULT(5, LINK_EV_POSTED, 5, PEER_OK, ""), TICK(100000, "")}},
};

static void step_row(struct link *l, const struct row *row)
{
    struct link_actions actions;
    struct link_event ev = row->ev;
    struct bytes got = {0};
    if (ev.kind == LINK_EV_SEND) {
        ev.message = raft_message_create(row->type, 0);
    } else if (ev.kind == LINK_EV_ATTACHED) {
        ev.conn = link_new_conn(l);
    }
    link_step(l, &ev, &actions);
    describe(&actions, &got);
    if (strcmp((const char *)got.data, row->want) != 0) {
        print_error("at %u:\n  got  %s\n  want %s\n", (unsigned)(ev.now_ms - 1000),
                    (const char *)got.data, row->want);
        fail();
    }
    bytes_deinit(&got);
}

static void test_scenarios(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
        struct link *l = create(scenarios[i].n_urls, scenarios[i].pipeline_only);
        print_message("%s\n", scenarios[i].name);
        for (size_t k = 0; k < ROWS_MAX && scenarios[i].rows[k].want != NULL; k++) {
            step_row(l, &scenarios[i].rows[k]);
        }
        link_destroy(&l);
    }
}

static size_t send_many(struct link *l, enum raft_message_type type, size_t n,
                        struct link_actions *last)
{
    size_t n_dropped = 0;
    for (size_t i = 0; i < n; i++) {
        struct link_event ev = {.kind = LINK_EV_SEND, .now_ms = 1000};
        ev.message = raft_message_create(type, 0);
        ev.message->index = i;
        link_step(l, &ev, last);
        for (size_t k = 0; k < last->n; k++) {
            n_dropped += last->at[k].kind == LINK_DROPPED;
            raft_message_destroy(&last->at[k].message);
        }
    }
    return n_dropped;
}

static void test_full(void **state)
{
    (void)state;
    struct link *l = create(1, false);
    struct link_actions actions;
    struct link_info info;
    assert_int_equal(send_many(l, RAFT_MSG_VOTE, 64 + 4, &actions), 0);
    assert_int_equal(send_many(l, RAFT_MSG_VOTE, 3, &actions), 3);
    assert_int_equal(actions.at[0].kind, LINK_DROPPED);
    assert_int_equal(actions.at[1].kind, LINK_UNREACHABLE);
    struct link_event ev = {.kind = LINK_EV_ATTACHED, .stream = M, .conn = link_new_conn(l)};
    link_step(l, &ev, &actions);
    assert_int_equal(send_many(l, RAFT_MSG_VOTE, 4096 + 5, &actions), 5);
    link_info(l, &info);
    assert_int_equal(info.n_waiting[M], 4096);
    assert_int_equal(info.n_pipeline, 64);
    assert_int_equal(info.n_posts, 4);
    assert_true(info.attached[M]);
    assert_false(info.attached[A]);
    assert_null(link_take(l, A, ev.conn));
    assert_null(link_take(l, M, ev.conn + 1));
    for (uint64_t i = 0; i < 4096; i++) {
        struct raft_message *m = link_take(l, M, ev.conn);
        assert_int_equal(m->index, i); /* in order */
        raft_message_destroy(&m);
    }
    assert_null(link_take(l, M, ev.conn));
    assert_int_equal(send_many(l, RAFT_MSG_VOTE, 1, &actions), 0);
    assert_int_equal(actions.at[0].kind, LINK_WRITE); /* told anew, for it was found empty */
    link_destroy(&l);
}

/* Appends are counted by their bytes, too; one alone may be as large as it likes. */
static void test_full_of_bytes(void **state)
{
    (void)state;
    static const uint8_t zeros[1u << 20];
    struct link *l = create(1, false);
    struct link_actions actions;
    struct link_info info;
    struct buf *data = buf_copy(slice_of(zeros, sizeof(zeros)));
    struct link_event attached = {.kind = LINK_EV_ATTACHED, .stream = A, .conn = link_new_conn(l)};
    link_step(l, &attached, &actions);
    const struct {
        const char *claim;
        size_t n_entries; /* of a MiB */
        bool dropped;
    } rows[] = {
        {"one that is too large by itself", 65, false},
        {"a small one behind it", 0, true},
        {"60 MiB, when that has gone", 60, false},
        {"less than the rest", 3, false},
        {"more than the rest", 2, true},
        {"a small one still fits", 0, false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct link_event ev = {.kind = LINK_EV_SEND, .now_ms = 1000};
        ev.message = raft_message_create(RAFT_MSG_APP, rows[i].n_entries);
        for (size_t k = 0; k < rows[i].n_entries; k++) {
            ev.message->entries[k].data = buf_ref(data);
        }
        if (i == 2) {
            struct raft_message *first = link_take(l, A, attached.conn);
            assert_int_equal(first->n_entries, 65);
            raft_message_destroy(&first);
        }
        link_step(l, &ev, &actions);
        bool dropped = actions.n > 0 && actions.at[0].kind == LINK_DROPPED;
        if (dropped != rows[i].dropped) {
            fail_msg("%s", rows[i].claim);
        }
    }
    link_info(l, &info);
    assert_int_equal(info.n_waiting[A], 3);
    buf_unref(&data);
    link_destroy(&l);
}

/* Whoever wakes up when told misses nothing: dials of a peer that is not there, for a minute. */
static void test_pace(void **state)
{
    (void)state;
    struct link *l = create(1, false);
    struct link_actions actions;
    struct link_event ev = {.kind = LINK_EV_TICK, .now_ms = 1000};
    size_t n_dials = 0;
    link_step(l, &ev, &actions);
    while (ev.now_ms < 61000) {
        struct link_actions dials = actions;
        for (size_t i = 0; i < dials.n; i++) {
            assert_int_equal(dials.at[i].kind, LINK_DIAL);
            n_dials++;
            struct link_event refused = {.kind = LINK_EV_DIALED,
                                         .now_ms = ev.now_ms,
                                         .conn = dials.at[i].conn,
                                         .outcome = PEER_REFUSED_CONNECTION};
            link_step(l, &refused, &actions);
            assert_int_equal(actions.n, 0);
        }
        assert_true(actions.wake_at_ms > ev.now_ms);
        ev.now_ms = actions.wake_at_ms;
        link_step(l, &ev, &actions);
    }
    /* Ten a second for ten seconds, then one a second; of each stream. */
    assert_in_range(n_dials, 2 * 145, 2 * 155);
    link_destroy(&l);
}

/* What hangs is given up, each at its own time; progress counts, and only for a snapshot. */
static void test_hangs(void **state)
{
    (void)state;
    struct link *l = create(1, false);
    struct link_actions actions;
    const struct row start[] = {
        TICK(0, BOTH_DIALED),
        OKAY(0, 1, "append reader up, active"),
        OKAY(0, 2, "message reader up"),
        SEND(0, RAFT_MSG_VOTE, "post MsgVote 3 @0"),
        SEND(0, RAFT_MSG_SNAP, "post MsgSnap 4 @0"),
    };
    uint64_t post_closed = 0;
    uint64_t snapshot_failed = 0;
    for (size_t i = 0; i < ARRAY_LEN(start); i++) {
        step_row(l, &start[i]);
    }
    for (uint64_t ms = 500; ms < 70000; ms += 500) {
        for (uint64_t conn = 1; conn <= 4; conn++) {
            struct link_event ev = {.kind = LINK_EV_RECEIVED, .now_ms = 1000 + ms, .conn = conn};
            if (conn > 2) {
                ev.kind = ms <= 5000 ? LINK_EV_PROGRESS : LINK_EV_TICK;
            }
            link_step(l, &ev, &actions);
            for (size_t k = 0; k < actions.n; k++) {
                const struct link_action *a = &actions.at[k];
                post_closed = a->kind == LINK_CLOSE && a->conn == 3 ? ms : post_closed;
                snapshot_failed =
                    a->kind == LINK_SNAPSHOT_DONE && !a->delivered ? ms : snapshot_failed;
                assert_int_not_equal(a->kind, LINK_DIAL);
            }
        }
    }
    assert_int_equal(post_closed, LINK_POST_TIMEOUT_MS);
    assert_int_equal(snapshot_failed, 5000 + LINK_SNAPSHOT_STALL_MS);
    link_destroy(&l);
}

/* Any order of any events keeps the bargain: bounded actions, every snapshot reported once, and
 * time limits that are never forgotten. */
static void test_random(void **state)
{
    (void)state;
    uint64_t random = 1;
    for (unsigned round = 0; round < 200; round++) {
        struct link *l = create(1 + round % 3, round % 7 == 0);
        struct link_actions actions;
        uint64_t now = 1000;
        uint64_t last_conn = 0;
        long n_snapshots = 0;
        for (unsigned i = 0; i <= 400; i++) {
            random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
            uint64_t dice = random >> 33;
            struct link_event ev = {.kind = (enum link_event_kind)(dice % LINK_EV_URLS)};
            now += dice / 16 % 64 == 0 ? 3000 : dice / 16 % 8;
            ev.now_ms = now;
            ev.stream = (enum peer_stream)(dice / 1024 % 2);
            ev.conn = last_conn < 6 ? dice / 2048 % 8 : last_conn - dice / 2048 % 6;
            ev.outcome = (enum peer_outcome)(dice / 65536 % 4);
            ev.clean = dice / 262144 % 2 == 0;
            if (i == 400) {
                ev.kind = LINK_EV_STOP;
            }
            if (ev.kind == LINK_EV_SEND) {
                enum raft_message_type type = (enum raft_message_type)(dice / 4096 % 9);
                ev.message = raft_message_create(type, 0);
                n_snapshots += type == RAFT_MSG_SNAP;
            } else if (ev.kind == LINK_EV_ATTACHED) {
                ev.conn = link_new_conn(l);
            }
            link_step(l, &ev, &actions);
            for (size_t k = 0; k < actions.n; k++) {
                const struct link_action *a = &actions.at[k];
                n_snapshots -= a->kind == LINK_SNAPSHOT_DONE;
                last_conn = a->conn > last_conn ? a->conn : last_conn;
                if (a->kind == LINK_WRITE && dice % 3 != 0) {
                    struct raft_message *m = link_take(l, (enum peer_stream)a->path, a->conn);
                    raft_message_destroy(&m);
                }
                raft_message_destroy(&actions.at[k].message);
            }
            assert_in_range(n_snapshots, 0, 1);
            assert_true(actions.wake_at_ms > now);
        }
        assert_int_equal(n_snapshots, 0);
        link_destroy(&l);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_scenarios), cmocka_unit_test(test_full),
        cmocka_unit_test(test_full_of_bytes),
        cmocka_unit_test(test_pace),      cmocka_unit_test(test_hangs),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
