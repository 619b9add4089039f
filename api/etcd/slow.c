/* slow.c - the word about unary calls that take long, with etcd's message and keys. Values do not belong in logs: their sizes stand for them.
 * A line is put into words only when the log's sampling writes it.
 *
 * Source: etcd-server.md 8. As in etcd, only KV's calls say more than how long they took.
 */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "api/etcd/internal.h"
#include "engine/describe.h"

struct stats {
    int64_t request_count, request_size, response_count, response_size;
    struct bytes content; /* a string, or empty */
};

static int64_t ops_size(Etcdserverpb__RequestOp *const *ops, size_t n)
{
    size_t size = 0;
    for (size_t i = 0; i < n; i++) {
        size += etcdserverpb__request_op__get_packed_size(ops[i]);
    }
    return (int64_t)size;
}

/* Of the branch that was taken; nothing of a txn that was refused. */
static void stats_of_txn(const struct call_note *n, struct stats *out)
{
    const Etcdserverpb__TxnRequest *t = (const Etcdserverpb__TxnRequest *)(const void *)n->request;
    out->request_size = 0;
    if (n->answered) {
        out->request_count = (int64_t)(n->succeeded ? t->n_success : t->n_failure);
        out->request_size = n->succeeded ? ops_size(t->success, t->n_success) : ops_size(t->failure, t->n_failure);
        describe_txn(t, &out->content);
    }
}

static void stats_of(struct call_note *n, const struct grpc_end *how, struct stats *out)
{
    const ProtobufCMessageDescriptor *d = n->request->descriptor;
    *out = (struct stats){.request_size = (int64_t)how->received_bytes, .response_size = (int64_t)how->sent_bytes};
    if (d == &etcdserverpb__txn_request__descriptor) {
        stats_of_txn(n, out);
    } else if (d == &etcdserverpb__put_request__descriptor) {
        out->request_count = 1;
        describe_put((const Etcdserverpb__PutRequest *)(const void *)n->request, &out->content);
    } else {
        out->response_count = how->code == GRPC_OK ? n->response_count : 0;
        describe_message(n->request, &out->content);
    }
}

static bool is_kv(const char *path)
{
    static const char *const paths[] = {"/etcdserverpb.KV/Range", "/etcdserverpb.KV/Put", "/etcdserverpb.KV/DeleteRange", "/etcdserverpb.KV/Txn"};
    bool found = false;
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        found = found || strcmp(path, paths[i]) == 0;
    }
    return found;
}

static void format_time(uint64_t wall_ns, char out[48])
{
    time_t seconds = (time_t)(wall_ns / 1000000000u);
    struct tm tm;
    char day[24];
    ASSERT(gmtime_r(&seconds, &tm) != NULL && strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) > 0);
    (void)snprintf(out, 48, "%s.%06" PRIu64 "Z", day, wall_ns % 1000000000u / 1000u);
}

/* Of slow calls, and of all when the log is at debug level. */
void etcd_server_ended(void *server, struct grpc_call *c, const struct grpc_end *how)
{
    struct etcd_server *s = server;
    static const char msg[] = "request stats";
    enum log_level level = how->took_ns > s->cfg.slow_unary_ns ? LOG_WARN : LOG_DEBUG;
    if (!log_take(s->cfg.log, level, msg)) {
        return;
    }
    const char *path = grpc_call_method(c)->path;
    struct call_note *note = is_kv(path) ? *grpc_call_state(c) : NULL;
    struct stats st = {.request_count = -1, .request_size = -1, .response_count = -1, .response_size = -1};
    char start[48];
    char remote[GRPC_REMOTE_BYTES];
    if (note != NULL) {
        stats_of(note, how, &st);
    }
    format_time(clock_wall_ns(s->cfg.clock) - how->took_ns, start);
    grpc_call_remote(c, remote);
    const struct log_field fields[] = {
        F_STR("start time", start),
        F_NS("time spent", how->took_ns),
        F_STR("remote", remote[0] == '\0' ? "No remote client info." : remote),
        F_STR("response type", path),
        F_INT("request count", st.request_count),
        F_INT("request size", st.request_size),
        F_INT("response count", st.response_count),
        F_INT("response size", st.response_size),
        F_STR("request content", st.content.data == NULL ? "" : (const char *)st.content.data),
    };
    log_write(s->cfg.log, level, __FILE__, __LINE__, msg, fields, ARRAY_LEN(fields));
    bytes_deinit(&st.content);
}

void slow_read(struct grpc_call *c, const ProtobufCMessage *request, int64_t n, uint64_t bytes, enum err e)
{
    struct etcd_server *s = server_of(c);
    uint64_t began_ns = grpc_call_began_ns(c);
    uint64_t took_ns = began_ns == 0 ? 0 : clock_now_ns(clock_real()) - began_ns;
    if (s->cfg.slow_apply_ns == 0 || took_ns <= s->cfg.slow_apply_ns) {
        return;
    }
    static const char msg[] = "apply request took too long";
    counter_add(s->slow_apply, 1);
    if (!log_take(s->cfg.log, LOG_WARN, msg)) {
        return;
    }
    char response[80] = "";
    struct bytes text = {0};
    if (n < 0) {
        describe_txn((const Etcdserverpb__TxnRequest *)(const void *)request, &text);
        (void)snprintf(response, sizeof(response), "size:%" PRIu64, bytes);
    } else {
        describe_message(request, &text);
        (void)snprintf(response, sizeof(response), "range_response_count:%" PRId64 " size:%" PRIu64, n, bytes);
    }
    struct log_field fields[6] = {F_NS("took", took_ns), F_NS("expected-duration", s->cfg.slow_apply_ns),
                                  F_STR("prefix", n < 0 ? "read-only txn " : "read-only range "), F_STR("request", (const char *)text.data),
                                  F_STR("response", e == OK ? response : "")};
    size_t n_fields = 5;
    if (e != OK) {
        fields[n_fields++] = (struct log_field)F_STR("error", err_text(e));
    }
    log_write(s->cfg.log, LOG_WARN, __FILE__, __LINE__, msg, fields, n_fields);
    bytes_deinit(&text);
}
