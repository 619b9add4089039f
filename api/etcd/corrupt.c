/* corrupt.c - comparing members' data while they run, and once before this one serves.
 *
 *   initial     own hash -> ask all ------------------------------------------> judge
 *   periodic    own hash -> ask all -> read barrier -> own hash once more ----> judge -> alarm
 *   compaction  for each compaction since the last look, newest first: ask all -> judge -> alarms
 *
 * One check at a time, on the first loop; hashes of this member are computed on libuv's worker pool, and the others are asked for theirs over their peer
 * ports. Only a leader checks periodically. Source: etcd-server.md 5.8.
 */
#include "api/etcd/corrupt.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "api/etcd/corrupt_rules.h"
#include "base/json.h"
#include "base/mem.h"

#define HASHES_MAX 10u /* the engine remembers no more of them */

struct check {
    struct request r; /* barrier and alarms; r.call stays NULL */
    uv_work_t work;
    struct etcd_server *server;
    struct etcd_loop *loop;
    enum { INITIAL, PERIODIC, COMPACTION } kind;
    void (*done)(void *arg, bool consistent); /* INITIAL */
    void *arg;
    struct hash_kv before, after; /* of this member */
    bool again; /* `after` is being computed */
    enum err err;
    struct hash_kv hashes[HASHES_MAX]; /* COMPACTION, newest first */
    size_t n_hashes, at;
    uint64_t *alarms; /* owned; for whom they are to be raised */
    size_t n_alarms;
    struct corrupt_answer *answers; /* owned, and so are the questions */
    struct peer_question *questions;
    size_t n, n_left;
};

static void judge(struct check *k);

/* --- the end of a check ----------------------------------------------------------------------------------- */

static void end(struct check *k, bool consistent)
{
    k->server->corrupt.busy = false;
    if (k->kind == INITIAL) {
        k->done(k->arg, consistent);
    }
    free(k->alarms);
    free(k->answers);
    free(k->questions);
    free(k);
}

static bool call_raise(struct member *m, struct member_op *op)
{
    struct check *k = CONTAINER_OF(CONTAINER_OF(op, struct request, op), struct check, r);
    for (size_t i = 0; i < k->n_alarms; i++) {
        member_raise_corrupt(m, k->alarms[i]);
    }
    op->err = OK;
    return true;
}

static void on_raised(struct request *r)
{
    end(CONTAINER_OF(r, struct check, r), false);
}

static void submit(struct check *k, enum member_op_kind kind, void (*finish)(struct request *r))
{
    const struct request fresh = {.finish = finish};
    k->r = fresh;
    k->r.op.kind = kind;
    k->r.op.call = kind == MEMBER_CALL ? call_raise : NULL;
    request_submit_on(k->loop, &k->r);
}

static void end_with_alarms(struct check *k)
{
    if (k->n_alarms == 0) {
        end(k, true);
    } else {
        submit(k, MEMBER_CALL, on_raised);
    }
}

/* --- own hashes ------------------------------------------------------------------------------------------------ */

static void ask_all(struct check *k, int64_t revision);

static void hash_run(uv_work_t *work)
{
    struct check *k = work->data;
    struct err_ctx ec = {{0}};
    k->err = engine_hash_kv(k->server->engine, 0, k->again ? &k->after : &k->before, &ec);
}

static void hash_done(uv_work_t *work, int status)
{
    struct check *k = work->data;
    if (status != 0 || k->err != OK) {
        log_warn(k->server->cfg.log, "failed to compute the hash of this member's data", F_STR("error", status != 0 ? "canceled" : err_text(k->err)));
        bool damaged = status == 0 && (k->err == ERR_CORRUPT || k->err == ERR_IO);
        end(k, !(damaged && k->kind == INITIAL)); /* who cannot read all of its own data does not begin to serve it */
    } else if (k->again) {
        judge(k);
    } else {
        ask_all(k, k->before.hash_revision);
    }
}

static void start_hash(struct check *k)
{
    k->work.data = k;
    if (uv_queue_work(loop_uv(k->loop->loop), &k->work, hash_run, hash_done) != 0) {
        end(k, true);
    }
}

static void on_barrier(struct request *r)
{
    struct check *k = CONTAINER_OF(r, struct check, r);
    if (r->op.err != OK) {
        end(k, true);
        return;
    }
    k->again = true;
    start_hash(k);
}

/* --- the others' ------------------------------------------------------------------------------------------------- */

static enum err take_signed(struct json *j, int64_t *out)
{
    uint64_t v = 0;
    bool negative = json_take(j, '-');
    enum err e = json_u64(j, &v);
    if (e == OK && v > INT64_MAX) {
        e = ERR_INVALID;
    }
    if (e == OK) {
        *out = negative ? -(int64_t)v : (int64_t)v;
    }
    return e;
}

static enum err header_field(void *arg, const char *name, struct json *j)
{
    struct hash_kv *kv = arg;
    return strcmp(name, "revision") == 0 ? take_signed(j, &kv->live_revision) : json_skip(j);
}

static enum err answer_field(void *arg, const char *name, struct json *j)
{
    struct hash_kv *kv = arg;
    if (strcmp(name, "header") == 0) {
        return json_object(j, header_field, kv);
    }
    if (strcmp(name, "compact_revision") == 0) {
        return take_signed(j, &kv->compact_revision);
    }
    if (strcmp(name, "hash_revision") == 0) {
        return take_signed(j, &kv->hash_revision);
    }
    if (strcmp(name, "hash") == 0) {
        uint64_t hash = 0;
        enum err e = json_u64(j, &hash);
        kv->hash = (uint32_t)hash;
        return e == OK && hash > UINT32_MAX ? ERR_INVALID : e;
    }
    return json_skip(j);
}

enum err hash_kv_answer_read(struct slice body, struct hash_kv *out)
{
    struct json j = {.rest = body};
    memset(out, 0, sizeof(*out));
    return json_object(&j, answer_field, out);
}

static void all_answered(struct check *k)
{
    if (k->kind == PERIODIC) {
        submit(k, MEMBER_READ_INDEX, on_barrier);
    } else {
        judge(k);
    }
}

static void on_answer(struct peer_question *q)
{
    struct check *k = q->arg;
    struct corrupt_answer *a = &k->answers[q - k->questions];
    struct logger *log = k->server->cfg.log;
    if (q->err != OK) {
        log_warn(log, "failed to get hash kv from peer", F_HEX("remote-peer-id", q->member), F_STR("error", err_text(q->err)));
    } else if (q->status != 200) {
        char text[160];
        size_t len = q->answer.len < sizeof(text) ? q->answer.len : sizeof(text) - 1;
        (void)snprintf(text, sizeof(text), "%.*s", (int)len, len == 0 ? "" : (const char *)q->answer.data);
        log_warn(log, "failed to get hash kv from peer", F_HEX("remote-peer-id", q->member), F_UINT("status", q->status), F_STR("error", text));
    } else {
        a->answered = hash_kv_answer_read(bytes_slice(&q->answer), &a->kv) == OK;
    }
    bytes_deinit(&q->answer);
    bytes_deinit(&q->body);
    if (--k->n_left == 0) {
        all_answered(k);
    }
}

static void ask_all(struct check *k, int64_t revision)
{
    struct etcd_server *s = k->server;
    size_t n_members = 0;
    struct member_info *members = engine_members(s->engine, &n_members);
    free(k->answers);
    free(k->questions);
    k->answers = xcalloc(n_members + 1, sizeof(*k->answers));
    k->questions = xcalloc(n_members + 1, sizeof(*k->questions));
    k->n = 0;
    for (size_t i = 0; i < n_members; i++) {
        if (members[i].id != member_id(s->member)) {
            k->answers[k->n++].member = members[i].id;
        }
    }
    free(members);
    k->n_left = k->n;
    if (k->n == 0 || s->peers == NULL) {
        k->n = 0;
        all_answered(k);
        return;
    }
    for (size_t i = 0; i < k->n; i++) {
        struct peer_question *q = &k->questions[i];
        *q = (struct peer_question){.member = k->answers[i].member, .method = "GET", .path = "/members/hashkv", .content_type = "application/json",
                                    .timeout_ms = (uint32_t)member_request_timeout_ms(s->member), .loop = k->loop->loop, .answered = on_answer, .arg = k};
        bytes_printf(&q->body, "{\"revision\":%" PRId64 "}", revision);
        peer_ask_member(s->peers, q); /* answers come through the loop, never from here */
    }
}

/* --- judging -------------------------------------------------------------------------------------------------------- */

static void alarm_for(struct check *k, uint64_t id)
{
    k->alarms = xrealloc(k->alarms, (k->n_alarms + 1) * sizeof(*k->alarms));
    k->alarms[k->n_alarms++] = id;
}

static void judge_initial(struct check *k)
{
    const struct etcd_server *s = k->server;
    for (size_t i = 0; i < k->n; i++) {
        const struct corrupt_answer *a = &k->answers[i];
        if (!a->answered || a->kv.hash == k->before.hash) {
            continue;
        }
        bool same = a->kv.compact_revision == k->before.compact_revision;
        log_warn(s->cfg.log, same ? "found different hash values from remote peer" : "found different compact revision values from remote peer",
                 F_HEX("local-member-id", member_id(s->member)), F_INT("local-member-revision", k->before.live_revision),
                 F_INT("local-member-compact-revision", k->before.compact_revision), F_UINT("local-member-hash", k->before.hash),
                 F_HEX("remote-peer-id", a->member), F_INT("remote-peer-revision", a->kv.live_revision),
                 F_INT("remote-peer-compact-revision", a->kv.compact_revision), F_UINT("remote-peer-hash", a->kv.hash));
    }
    bool consistent = corrupt_initial(&k->before, k->answers, k->n) == 0;
    if (consistent) {
        log_info(s->cfg.log, "initial corruption checking passed; no corruption", F_HEX("local-member-id", member_id(s->member)));
    }
    end(k, consistent);
}

static const char *const reasons[] = {
    [CORRUPT_SELF] = "found hash mismatch",
    [CORRUPT_AHEAD] = "revision from follower must be less than or equal to leader's",
    [CORRUPT_COMPACTED_AHEAD] = "compact revision from follower must be less than or equal to leader's",
    [CORRUPT_DIFFERS] = "same compact revision then hashes must match",
};

static void judge_periodic(struct check *k)
{
    const struct etcd_server *s = k->server;
    uint64_t offender = 0;
    size_t n_checked = 0;
    const struct hash_kv *theirs = &k->after;
    enum corrupt_reason why = corrupt_periodic(member_id(s->member), &k->before, &k->after, k->answers, k->n, &offender);
    for (size_t i = 0; i < k->n; i++) {
        n_checked += k->answers[i].answered ? 1u : 0u;
        theirs = k->answers[i].member == offender ? &k->answers[i].kv : theirs;
    }
    if (why != CORRUPT_NONE) {
        log_warn(s->cfg.log, reasons[why], F_INT("leader-revision", k->after.live_revision), F_INT("leader-compact-revision", k->before.compact_revision),
                 F_UINT("leader-hash", k->before.hash), F_INT("follower-revision", theirs->live_revision),
                 F_INT("follower-compact-revision", theirs->compact_revision), F_UINT("follower-hash", theirs->hash),
                 F_HEX("follower-peer-id", offender));
        alarm_for(k, offender);
    }
    log_info(s->cfg.log, "finished peer corruption check", F_UINT("number-of-peers-checked", n_checked));
    end_with_alarms(k);
}

static void judge_compaction(struct check *k)
{
    struct etcd_server *s = k->server;
    const struct hash_kv *own = &k->hashes[k->at];
    uint64_t *offenders = xcalloc(k->n + 1, sizeof(*offenders));
    struct corrupt_vote v = corrupt_compaction(member_id(s->member), own, k->answers, k->n, offenders);
    for (size_t i = 0; i < v.n_offenders; i++) {
        log_error(s->cfg.log, "Detected compaction hash mismatch", F_INT("revision", own->hash_revision), F_INT("leader-compact-revision", own->compact_revision),
                  F_UINT("leader-hash", own->hash), F_HEX("member-id", offenders[i]));
        alarm_for(k, offenders[i]);
    }
    free(offenders);
    if (v.no_quorum) {
        log_error(s->cfg.log, "Detected compaction hash mismatch but cannot identify the corrupted members, so intentionally set the memberID as 0",
                  F_INT("revision", own->hash_revision), F_INT("leader-compact-revision", own->compact_revision), F_UINT("leader-hash", own->hash));
        alarm_for(k, 0);
    } else if (v.agreed && v.settled) {
        log_info(s->cfg.log, "successfully checked hash on whole cluster", F_UINT("number-of-peers-checked", v.n_counted),
                 F_INT("revision", own->hash_revision), F_INT("compactRevision", own->compact_revision));
        s->corrupt.checked = own->hash_revision > s->corrupt.checked ? own->hash_revision : s->corrupt.checked;
    }
    k->at++;
    if (v.settled || k->at == k->n_hashes) {
        log_info(s->cfg.log, "finished compaction hash check", F_UINT("number-of-hashes-checked", k->at));
        end_with_alarms(k);
    } else {
        ask_all(k, k->hashes[k->at].hash_revision);
    }
}

static void judge(struct check *k)
{
    switch (k->kind) {
    case INITIAL:
        judge_initial(k);
        return;
    case PERIODIC:
        judge_periodic(k);
        return;
    case COMPACTION:
        judge_compaction(k);
        return;
    }
}

/* --- beginning ----------------------------------------------------------------------------------------------------------- */

static struct check *begin(struct etcd_server *s)
{
    struct check *k = xcalloc(1, sizeof(*k));
    k->server = s;
    k->loop = &s->loops[0];
    s->corrupt.busy = true;
    return k;
}

static void check_compactions(struct etcd_server *s)
{
    struct hash_kv all[HASHES_MAX];
    size_t n = engine_compaction_hashes(s->engine, all, HASHES_MAX);
    log_info(s->cfg.log, "starting compact hash check", F_HEX("local-member-id", member_id(s->member)),
             F_NS("timeout", member_request_timeout_ms(s->member) * 1000000u));
    struct check *k = begin(s);
    k->kind = COMPACTION;
    for (size_t i = n; i > 0; i--) {
        if (all[i - 1].hash_revision > s->corrupt.checked) {
            k->hashes[k->n_hashes++] = all[i - 1];
        }
    }
    if (k->n_hashes == 0) {
        log_info(s->cfg.log, "finished compaction hash check", F_UINT("number-of-hashes-checked", 0));
        end(k, true);
        return;
    }
    ask_all(k, k->hashes[0].hash_revision);
}

static void check_peers(struct etcd_server *s)
{
    struct check *k = begin(s);
    k->kind = PERIODIC;
    start_hash(k);
}

/* One that comes while another is under way waits for its next turn, as does one on a member that does not lead. */
static bool may_check(const struct etcd_server *s)
{
    return !s->corrupt.busy && member_status(s->member).is_leader;
}

static void fire_periodic(struct loop *l, struct loop_timer *t)
{
    struct etcd_server *s = CONTAINER_OF(t, struct etcd_server, corrupt.periodic);
    loop_timer_set(l, t, loop_now_ms(l) + s->cfg.corrupt_check_ms);
    if (may_check(s)) {
        check_peers(s);
    }
}

static void fire_compaction(struct loop *l, struct loop_timer *t)
{
    struct etcd_server *s = CONTAINER_OF(t, struct etcd_server, corrupt.compaction);
    loop_timer_set(l, t, loop_now_ms(l) + s->cfg.compact_hash_check_ms);
    if (may_check(s)) {
        check_compactions(s);
    }
}

void etcd_server_check_data(struct etcd_server *s)
{
    struct loop *l = s->loops[0].loop;
    s->corrupt.periodic.fire = fire_periodic;
    s->corrupt.compaction.fire = fire_compaction;
    if (s->cfg.corrupt_check_ms > 0) {
        log_info(s->cfg.log, "enabled corruption checking", F_HEX("local-member-id", member_id(s->member)),
                 F_NS("interval", s->cfg.corrupt_check_ms * 1000000u));
        loop_timer_set(l, &s->corrupt.periodic, loop_now_ms(l) + s->cfg.corrupt_check_ms);
    }
    if (s->cfg.compact_hash_check_ms > 0) {
        log_info(s->cfg.log, "enabled compact hash checking", F_HEX("local-member-id", member_id(s->member)),
                 F_NS("interval", s->cfg.compact_hash_check_ms * 1000000u));
        loop_timer_set(l, &s->corrupt.compaction, loop_now_ms(l) + s->cfg.compact_hash_check_ms);
    }
}

void etcd_server_check_initial(struct etcd_server *s, void (*done)(void *arg, bool consistent), void *arg)
{
    log_info(s->cfg.log, "starting initial corruption check", F_HEX("local-member-id", member_id(s->member)),
             F_NS("timeout", member_request_timeout_ms(s->member) * 1000000u));
    struct check *k = begin(s);
    k->kind = INITIAL;
    k->done = done;
    k->arg = arg;
    start_hash(k);
}
