/* maintenance.c - the Maintenance service. What walks the whole store runs on libuv's worker pool, never on a loop. */
#include "api/etcd/auth_method.h"
#include "api/etcd/caller.h"

#include <inttypes.h>
#include <stdlib.h>
#include <uv.h>

#include "base/mem.h"
#include "engine/describe.h"

enum { FIELD_ALARM = 10 }; /* of InternalRaftRequest */
#define QUOTA_DEFAULT 2147483648ll

/* --- alarms ------------------------------------------------------------------------------------------------ */

static void on_alarm(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__AlarmRequest *q = request_decode(c, &etcdserverpb__alarm_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    struct auth_who who;
    enum err e = caller_identify(c, &who);
    if (e == OK) {
        const struct auth_identity id = auth_identity_of(&who);
        e = auth_alarm_admit(q, engine_auth(server_of(c)->engine), &id);
    }
    if (e != OK) {
        status_finish(c, e);
        return;
    }
    struct request *r = request_create(c, MEMBER_PROPOSE, request_finish_proposal);
    if (r != NULL) {
        request_propose(r, FIELD_ALARM, bytes);
    }
}

/* --- status ------------------------------------------------------------------------------------------------- */

static void add_errors(struct bytes *b, const struct etcd_server *s, const struct member_status *st)
{
    if (st->leader == 0) {
        wire_add_bytes(b, 8, slice_str("etcdserver: no leader"));
    }
    struct alarm alarms[64];
    size_t n = engine_alarms(s->engine, alarms, 64);
    for (size_t i = 0; i < n && i < 64; i++) {
        Etcdserverpb__AlarmMember a = ETCDSERVERPB__ALARM_MEMBER__INIT;
        struct bytes text = {0};
        a.memberid = alarms[i].member_id;
        a.alarm = (Etcdserverpb__AlarmType)alarms[i].type;
        describe_message(&a.base, &text);
        wire_add_bytes(b, 8, slice_of(text.data, text.len - 1));
        bytes_deinit(&text);
    }
}

/* DowngradeInfo is always there. */
static void add_downgrade(struct bytes *b, const struct etcd_server *s)
{
    char target[16];
    struct bytes info = {0};
    if (engine_downgrade(s->engine, target)) {
        wire_add_bool(&info, 1, true);
        wire_add_bytes(&info, 2, slice_str(target));
    }
    wire_add_message(b, 13, bytes_slice(&info));
    bytes_deinit(&info);
}

static void on_status(struct grpc_call *c, struct slice bytes)
{
    if (request_decode(c, &etcdserverpb__status_request__descriptor, bytes) == NULL) {
        return;
    }
    const struct etcd_server *s = server_of(c);
    struct member_status st = member_status(s->member);
    struct backend_stats bs = engine_backend_stats(s->engine);
    struct bytes b = {0};
    wire_add_bytes(&b, 2, slice_str(ETCD_VERSION));
    wire_add_int(&b, 3, bs.file_bytes);
    wire_add_uint(&b, 4, st.leader);
    wire_add_uint(&b, 5, st.committed_index);
    wire_add_uint(&b, 6, st.term);
    wire_add_uint(&b, 7, st.applied_index);
    add_errors(&b, s, &st);
    wire_add_int(&b, 9, bs.in_use_bytes);
    wire_add_bool(&b, 10, st.is_learner);
    char storage[16];
    server_storage_version(s, storage);
    wire_add_bytes(&b, 11, slice_str(storage));
    wire_add_int(&b, 12, s->cfg.quota_flag == 0 ? QUOTA_DEFAULT : s->cfg.quota_flag);
    add_downgrade(&b, s);
    reply_send(c, engine_revision(s->engine), bytes_slice(&b));
    bytes_deinit(&b);
}

/* --- defragment ----------------------------------------------------------------------------------------------- */

static void finish_defragment(struct request *r)
{
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
        return;
    }
    grpc_reply(r->call, &(struct slice){NULL, 0}, 1); /* its reply has no header */
}

static void on_defragment(struct grpc_call *c, struct slice bytes)
{
    if (request_decode(c, &etcdserverpb__defragment_request__descriptor, bytes) == NULL) {
        return;
    }
    struct request *r = request_create(c, MEMBER_DEFRAG, finish_defragment);
    if (r != NULL) {
        request_submit(r);
    }
}

/* --- hashes ------------------------------------------------------------------------------------------------------ */

struct hash_work {
    uv_work_t work;
    struct grpc_call *call; /* referenced */
    struct engine *engine;
    bool whole; /* Hash, else HashKV */
    int64_t revision;
    enum err err;
    struct hash_kv kv;
};

static void hash_run(uv_work_t *work)
{
    struct hash_work *w = work->data;
    struct err_ctx ec = {{0}};
    if (w->whole) {
        w->err = engine_hash(w->engine, &w->kv.hash, &w->kv.live_revision, &ec);
    } else {
        w->err = engine_hash_kv(w->engine, w->revision, &w->kv, &ec);
    }
}

static void hash_done(uv_work_t *work, int status)
{
    struct hash_work *w = work->data;
    if (status != 0) {
        status_finish(w->call, ERR_STOPPED);
    } else if (w->err != OK) {
        status_finish(w->call, w->err);
    } else {
        struct bytes b = {0};
        wire_add_uint(&b, 2, w->kv.hash);
        if (!w->whole) {
            wire_add_int(&b, 3, w->kv.compact_revision);
            wire_add_int(&b, 4, w->kv.hash_revision);
        }
        reply_send(w->call, w->kv.live_revision, bytes_slice(&b));
        bytes_deinit(&b);
    }
    grpc_call_unref(&w->call);
    free(w);
}

static void hash_start(struct grpc_call *c, bool whole, int64_t revision)
{
    struct hash_work *w = xcalloc(1, sizeof(*w));
    w->work.data = w;
    w->call = grpc_call_ref(c);
    w->engine = server_of(c)->engine;
    w->whole = whole;
    w->revision = revision;
    if (uv_queue_work(loop_uv(grpc_call_loop(c)), &w->work, hash_run, hash_done) != 0) {
        hash_done(&w->work, UV_ECANCELED);
    }
}

static void finish_flush(struct request *r)
{
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
    } else if (!grpc_call_ended(r->call)) {
        hash_start(r->call, true, 0);
    }
}

static void on_hash(struct grpc_call *c, struct slice bytes)
{
    if (request_decode(c, &etcdserverpb__hash_request__descriptor, bytes) == NULL) {
        return;
    }
    struct request *r = request_create(c, MEMBER_FLUSH, finish_flush);
    if (r != NULL) {
        request_submit(r);
    }
}

static void on_hash_kv(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__HashKVRequest *q = request_decode(c, &etcdserverpb__hash_kvrequest__descriptor, bytes);
    if (q != NULL) {
        hash_start(c, false, q->revision);
    }
}

/* --- leadership ----------------------------------------------------------------------------------------------------- */

static void finish_move(struct request *r)
{
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err == ERR_TIMEOUT ? ERR_TIMEOUT_TRANSFER : r->op.err);
        return;
    }
    grpc_reply(r->call, &(struct slice){NULL, 0}, 1); /* its reply has no header */
}

static void on_move_leader(struct grpc_call *c, struct slice bytes)
{
    Etcdserverpb__MoveLeaderRequest *q = request_decode(c, &etcdserverpb__move_leader_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    struct etcd_server *s = server_of(c);
    if (!member_status(s->member).is_leader) {
        status_finish(c, ERR_NOT_LEADER);
        return;
    }
    if (q->targetid == member_id(s->member)) {
        grpc_reply(c, &(struct slice){NULL, 0}, 1);
        return;
    }
    struct request *r = request_create(c, MEMBER_TRANSFER, finish_move);
    if (r != NULL) {
        r->op.target = q->targetid;
        request_submit(r);
    }
}

const struct grpc_method maintenance_methods[] = {
    {.path = "/etcdserverpb.Maintenance/Alarm", .kind = GRPC_UNARY, .message = on_alarm},
    {.path = "/etcdserverpb.Maintenance/Status", .kind = GRPC_UNARY, .message = on_status},
    {.path = "/etcdserverpb.Maintenance/Defragment", .kind = GRPC_UNARY, .message = on_defragment},
    {.path = "/etcdserverpb.Maintenance/Hash", .kind = GRPC_UNARY, .message = on_hash},
    {.path = "/etcdserverpb.Maintenance/HashKV", .kind = GRPC_UNARY, .message = on_hash_kv},
    {.path = "/etcdserverpb.Maintenance/Snapshot", .kind = GRPC_SERVER_STREAM, .message = snapshot_on_message, .ended = snapshot_on_ended},
    {.path = "/etcdserverpb.Maintenance/MoveLeader", .kind = GRPC_UNARY, .message = on_move_leader},
    {.path = "/etcdserverpb.Maintenance/Downgrade", .kind = GRPC_UNARY, .message = downgrade_on_message},
    {.path = NULL},
};
