/* endpoint.c - health, status, hashkv. */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "tools/cli/table.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/endpoints.h"
#include "tools/pintlectl/print.h"

#define DURATION_BYTES 40u
#define STATUS_COLUMNS 16u
#define HASH_COLUMNS 3u
#define HEALTH_COLUMNS 4u

const struct flag endpoint_flags[] = {
    {"cluster", 0, FLAG_BOOL, NULL, "ask all members of the cluster"}, {0}};
const struct flag endpoint_hashkv_flags[] = {
    {"rev", 0, FLAG_INT64, NULL, "last revision to look at (the newest)"}, {0}};

struct endpoint_list endpoints_of(struct ctl *ctl)
{
    const struct flag_value *v = flag(&ctl->flags, "endpoints");
    if (!flag_yes(&ctl->flags, "cluster")) {
        return (struct endpoint_list){v->list, v->n_list};
    }
    struct failure f;
    Etcdserverpb__MemberListResponse *r = NULL;
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    request.linearizable = true;
    struct conn *c = ctl_open(&ctl->options);
    if (!conn_call(c, "/etcdserverpb.Cluster/MemberList", &request.base, true,
                   &etcdserverpb__member_list_response__descriptor, ctl_deadline(ctl), &r, &f)) {
        char text[FAILURE_TEXT_MAX];
        failure_text(&f, text);
        ctl_fail(EXIT_ERROR, "failed to fetch endpoints from etcd cluster member list: %s", text);
    }
    struct endpoint_list out = {0};
    for (size_t i = 0; i < r->n_members; i++) {
        out.n += r->members[i]->n_clienturls;
    }
    const char **texts = cli_alloc(ctl->arena, (out.n + 1) * sizeof(*texts));
    size_t n = 0;
    for (size_t i = 0; i < r->n_members; i++) {
        for (size_t k = 0; k < r->members[i]->n_clienturls; k++) {
            const char *url = r->members[i]->clienturls[k];
            texts[n++] = cli_dup(ctl->arena, url, strlen(url));
        }
    }
    etcdserverpb__member_list_response__free_unpacked(r, NULL);
    conn_close(&c);
    out.texts = texts;
    return out;
}

/* ---- health ---- */

struct health_shared {
    pthread_mutex_t lock; /* guards n_done */
    size_t n_done;
};

/* One endpoint, checked by a thread of its own. */
struct health {
    const char *endpoint;
    struct conn_options options;
    uint64_t timeout_ns;
    struct health_shared *shared;
    pthread_t thread;
    size_t place; /* in the order of completion */
    bool healthy;
    char took[DURATION_BYTES];
    char error[FAILURE_TEXT_MAX];
};

static void check_alarms(struct health *h, struct conn *c, deadline_ns deadline)
{
    struct failure f;
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    Etcdserverpb__AlarmResponse *r = NULL;
    if (!conn_call(c, "/etcdserverpb.Maintenance/Alarm", &request.base, true,
                   &etcdserverpb__alarm_response__descriptor, deadline, &r, &f)) {
        h->healthy = false;
        (void)snprintf(h->error, sizeof(h->error), "Unable to fetch the alarm list");
        return;
    }
    size_t at = 0;
    for (size_t i = 0; i < r->n_alarms && at < sizeof(h->error) / 2; i++) {
        Etcdserverpb__AlarmType type = r->alarms[i]->alarm;
        const char *name = type == ETCDSERVERPB__ALARM_TYPE__NOSPACE   ? "NOSPACE"
                           : type == ETCDSERVERPB__ALARM_TYPE__CORRUPT ? "CORRUPT"
                                                                       : "UNKNOWN";
        at += (size_t)snprintf(h->error + at, sizeof(h->error) - at, "%s%s ",
                               i == 0 ? "Active Alarm(s): " : "", name);
        h->healthy = false;
    }
    etcdserverpb__alarm_response__free_unpacked(r, NULL);
}

static void check_health(struct health *h)
{
    struct failure f = {0};
    struct conn *c = NULL;
    if (!conn_open(&h->options, &c, &f)) {
        failure_text(&f, h->error);
        return;
    }
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    Etcdserverpb__RangeResponse *r = NULL;
    request.key = binary(slice_str("health"));
    uint64_t start = now_ns();
    deadline_ns deadline = start + h->timeout_ns;
    bool answered = conn_call(c, "/etcdserverpb.KV/Range", &request.base, true,
                              &etcdserverpb__range_response__descriptor, deadline, &r, &f);
    go_duration_format((int64_t)(now_ns() - start), h->took, sizeof(h->took));
    if (answered) {
        etcdserverpb__range_response__free_unpacked(r, NULL);
    }
    h->healthy = answered || failure_is(&f, "etcdserver: permission denied");
    if (h->healthy) {
        check_alarms(h, c, deadline);
    } else {
        failure_text(&f, h->error);
    }
    conn_close(&c);
}

static void *health_thread(void *arg)
{
    struct health *h = arg;
    check_health(h);
    (void)pthread_mutex_lock(&h->shared->lock);
    h->place = h->shared->n_done++;
    (void)pthread_mutex_unlock(&h->shared->lock);
    return NULL;
}

static int by_place(const void *a, const void *b)
{
    const struct health *x = a;
    const struct health *y = b;
    return (x->place > y->place) - (x->place < y->place);
}

static void json_health(const struct health *list, size_t n)
{
    struct bytes out = {0};
    for (size_t i = 0; i < n; i++) {
        bytes_add_str(&out, i == 0 ? "[{\"endpoint\":" : ",{\"endpoint\":");
        text_json(&out, slice_str(list[i].endpoint));
        bytes_printf(&out, ",\"health\":%s,\"took\":", yes_no(list[i].healthy));
        text_json(&out, slice_str(list[i].took));
        if (list[i].error[0] != '\0') {
            bytes_add_str(&out, ",\"error\":");
            text_json(&out, slice_str(list[i].error));
        }
        bytes_add_str(&out, "}");
    }
    bytes_add_str(&out, n == 0 ? "null" : "]");
    print_json_line(&out);
}

static void table_health(struct ctl *ctl, const struct health *list, size_t n)
{
    static const char *const head[HEALTH_COLUMNS] = {"endpoint", "health", "took", "error"};
    const char **cells = cli_alloc(ctl->arena, (n * HEALTH_COLUMNS + 1) * sizeof(*cells));
    for (size_t i = 0; i < n; i++) {
        cells[i * HEALTH_COLUMNS] = list[i].endpoint;
        cells[i * HEALTH_COLUMNS + 1] = yes_no(list[i].healthy);
        cells[i * HEALTH_COLUMNS + 2] = list[i].took;
        cells[i * HEALTH_COLUMNS + 3] = list[i].error;
    }
    table_print(head, HEALTH_COLUMNS, cells, n, stdout);
}

static void print_health(struct ctl *ctl, const struct health *list, size_t n)
{
    for (size_t i = 0; i < n && ctl->format == FORMAT_SIMPLE; i++) {
        if (list[i].error[0] == '\0') {
            (void)printf("%s is healthy: successfully committed proposal: took = %s\n",
                         list[i].endpoint, list[i].took);
        } else {
            (void)fprintf(stderr, "%s is unhealthy: failed to commit proposal: %s\n",
                          list[i].endpoint, list[i].error);
        }
    }
    for (size_t i = 0; i < n && ctl->format == FORMAT_FIELDS; i++) {
        fields_text("Endpoint", slice_str(list[i].endpoint));
        (void)printf("\"Health\" : %s\n\"Took\" : %s\n\"Error\" : %s\n\n", yes_no(list[i].healthy),
                     list[i].took, list[i].error);
    }
    if (ctl->format == FORMAT_JSON) {
        json_health(list, n);
    } else if (ctl->format == FORMAT_TABLE) {
        table_health(ctl, list, n);
    } else if (ctl->format == FORMAT_PROTOBUF) {
        print_unsupported(FORMAT_PROTOBUF);
    }
}

int endpoint_health_run(struct ctl *ctl)
{
    ctl_configure(ctl);
    struct endpoint_list e = endpoints_of(ctl);
    struct health *list = cli_alloc(ctl->arena, (e.n + 1) * sizeof(*list));
    struct health_shared shared = {.lock = PTHREAD_MUTEX_INITIALIZER};
    int64_t timeout = flag_number(&ctl->flags, "command-timeout");
    for (size_t i = 0; i < e.n; i++) {
        list[i].endpoint = e.texts[i];
        list[i].options = ctl_options_for(ctl, &e.texts[i]);
        list[i].timeout_ns = timeout > 0 ? (uint64_t)timeout : 0;
        list[i].shared = &shared;
        if (pthread_create(&list[i].thread, NULL, health_thread, &list[i]) != 0) {
            ctl_fail(EXIT_ERROR, "no thread for endpoint %s", e.texts[i]);
        }
    }
    bool failed = false;
    for (size_t i = 0; i < e.n; i++) {
        (void)pthread_join(list[i].thread, NULL);
        failed = failed || list[i].error[0] != '\0';
    }
    qsort(list, e.n, sizeof(*list), by_place);
    print_health(ctl, list, e.n);
    if (failed) {
        ctl_fail(EXIT_ERROR, "unhealthy cluster");
    }
    return 0;
}

/* ---- status and hashkv: one after the other ---- */

struct answer {
    const char *endpoint;
    union {
        Etcdserverpb__StatusResponse *status;
        Etcdserverpb__HashKVResponse *hash;
        void *any;
    };
};

struct answers {
    struct answer *list; /* the arena's */
    size_t n;
    bool failed;
    struct failure last;
};

/* Ask every endpoint the same; failures are said at once. */
static struct answers ask_all(struct ctl *ctl, const char *path, const ProtobufCMessage *request,
                              const ProtobufCMessageDescriptor *d, const char *what)
{
    ctl_configure(ctl);
    struct endpoint_list e = endpoints_of(ctl);
    struct answers out = {.list = cli_alloc(ctl->arena, (e.n + 1) * sizeof(*out.list))};
    for (size_t i = 0; i < e.n; i++) {
        struct conn_options o = ctl_options_for(ctl, &e.texts[i]);
        struct conn *c = ctl_open(&o);
        struct answer *a = &out.list[out.n];
        a->endpoint = e.texts[i];
        if (conn_call(c, path, request, true, d, ctl_deadline(ctl), &a->any, &out.last)) {
            out.n++;
        } else {
            char text[FAILURE_TEXT_MAX];
            failure_text(&out.last, text);
            (void)fprintf(stderr, "Failed to get the %s of endpoint %s (%s)\n", what, e.texts[i],
                          text);
            out.failed = true;
        }
        conn_close(&c);
    }
    return out;
}

static void json_answers(const struct answers *a, const char *name)
{
    struct bytes out = {0};
    for (size_t i = 0; i < a->n; i++) {
        bytes_add_str(&out, i == 0 ? "[{\"Endpoint\":" : ",{\"Endpoint\":");
        text_json(&out, slice_str(a->list[i].endpoint));
        bytes_printf(&out, ",\"%s\":", name);
        json_message(&out, a->list[i].any, false);
        bytes_add_str(&out, "}");
    }
    bytes_add_str(&out, a->n == 0 ? "null" : "]");
    print_json_line(&out);
}

static const char *number(struct ctl *ctl, const char *fmt, uint64_t v)
{
    struct bytes b = {0};
    if (*fmt == 'x') {
        bytes_printf(&b, "%" PRIx64, v);
    } else if (*fmt == 's') {
        char size[TEXT_SIZE_BYTES];
        text_size(v, size);
        bytes_add_str(&b, size);
    } else if (*fmt == 'i') {
        bytes_printf(&b, "%" PRId64, (int64_t)v);
    } else {
        bytes_printf(&b, "%" PRIu64 "%s", v, fmt + 1);
    }
    const char *out = cli_dup(ctl->arena, b.data, b.len);
    bytes_deinit(&b);
    return out;
}

static const char *errors_text(struct ctl *ctl, const Etcdserverpb__StatusResponse *s,
                               const char *between)
{
    struct bytes b = {0};
    for (size_t i = 0; i < s->n_errors; i++) {
        bytes_printf(&b, "%s%s", i == 0 ? "" : between, s->errors[i]);
    }
    const char *out = cli_dup(ctl->arena, b.data, b.len);
    bytes_deinit(&b);
    return out;
}

static void status_row(struct ctl *ctl, const struct answer *a, const char **row)
{
    const Etcdserverpb__StatusResponse *s = a->status;
    uint64_t id = s->header == NULL ? 0 : s->header->member_id;
    /* Of an empty file nothing is in use, and nothing is to be freed. */
    int64_t unused = s->dbsize == 0 ? 0 : 100 - s->dbsizeinuse * 100 / s->dbsize;
    const char *const cells[STATUS_COLUMNS] = {
        a->endpoint,
        number(ctl, "x", id),
        s->version,
        s->storageversion,
        number(ctl, "s", (uint64_t)s->dbsize),
        number(ctl, "s", (uint64_t)s->dbsizeinuse),
        number(ctl, "d%", (uint64_t)unused),
        number(ctl, "s", (uint64_t)s->dbsizequota),
        yes_no(s->leader == id),
        yes_no(s->islearner),
        number(ctl, "d", s->raftterm),
        number(ctl, "d", s->raftindex),
        number(ctl, "d", s->raftappliedindex),
        errors_text(ctl, s, ", "),
        s->downgradeinfo == NULL ? "" : s->downgradeinfo->targetversion,
        yes_no(s->downgradeinfo != NULL && s->downgradeinfo->enabled)};
    memcpy(row, cells, sizeof(cells));
}

static void status_fields(struct ctl *ctl, const struct answer *a)
{
    const Etcdserverpb__StatusResponse *s = a->status;
    fields_header(ctl, s->header);
    fields_text("Version", slice_str(s->version));
    fields_text("StorageVersion", slice_str(s->storageversion));
    (void)printf("\"DBSize\" : %" PRId64 "\n\"DBSizeInUse\" : %" PRId64
                 "\n\"DBSizeQuota\" : %" PRId64 "\n",
                 s->dbsize, s->dbsizeinuse, s->dbsizequota);
    (void)printf("\"Leader\" : %" PRIu64 "\n\"IsLearner\" : %s\n", s->leader, yes_no(s->islearner));
    (void)printf("\"RaftIndex\" : %" PRIu64 "\n\"RaftTerm\" : %" PRIu64
                 "\n\"RaftAppliedIndex\" : %" PRIu64 "\n",
                 s->raftindex, s->raftterm, s->raftappliedindex);
    (void)printf("\"Errors\" : [%s]\n", errors_text(ctl, s, " "));
    fields_text("Endpoint", slice_str(a->endpoint));
    fields_text("DowngradeTargetVersion",
                slice_str(s->downgradeinfo == NULL ? "" : s->downgradeinfo->targetversion));
    (void)printf("\"DowngradeEnabled\" : %s\n\n",
                 yes_no(s->downgradeinfo != NULL && s->downgradeinfo->enabled));
}

static void hash_row(struct ctl *ctl, const struct answer *a, const char **row)
{
    row[0] = a->endpoint;
    row[1] = number(ctl, "d", a->hash->hash);
    row[2] = number(ctl, "i", (uint64_t)a->hash->hash_revision);
}

static void hash_fields(struct ctl *ctl, const struct answer *a)
{
    fields_header(ctl, a->hash->header);
    fields_text("Endpoint", slice_str(a->endpoint));
    (void)printf("\"Hash\" : %" PRIu32 "\n\"HashRevision\" : %" PRId64 "\n\n", a->hash->hash,
                 a->hash->hash_revision);
}

struct layout {
    const char *json_name;
    const char *const *head;
    size_t n_columns;
    void (*row)(struct ctl *ctl, const struct answer *a, const char **row);
    void (*fields)(struct ctl *ctl, const struct answer *a);
};

static void print_answers(struct ctl *ctl, const struct answers *a, const struct layout *l)
{
    const char **cells = cli_alloc(ctl->arena, (a->n * l->n_columns + 1) * sizeof(*cells));
    for (size_t i = 0; i < a->n; i++) {
        l->row(ctl, &a->list[i], cells + i * l->n_columns);
    }
    switch (ctl->format) {
    case FORMAT_SIMPLE:
        print_rows(cells, l->n_columns, a->n);
        break;
    case FORMAT_TABLE:
        table_print(l->head, l->n_columns, cells, a->n, stdout);
        break;
    case FORMAT_JSON:
        json_answers(a, l->json_name);
        break;
    case FORMAT_FIELDS:
        for (size_t i = 0; i < a->n; i++) {
            l->fields(ctl, &a->list[i]);
        }
        break;
    case FORMAT_PROTOBUF:
        print_unsupported(FORMAT_PROTOBUF);
    }
}

int endpoint_status_run(struct ctl *ctl)
{
    static const char *const head[STATUS_COLUMNS] = {"endpoint",
                                                     "ID",
                                                     "version",
                                                     "storage version",
                                                     "db size",
                                                     "in use",
                                                     "percentage not in use",
                                                     "quota",
                                                     "is leader",
                                                     "is learner",
                                                     "raft term",
                                                     "raft index",
                                                     "raft applied index",
                                                     "errors",
                                                     "downgrade target version",
                                                     "downgrade enabled"};
    static const struct layout layout = {"Status", head, STATUS_COLUMNS, status_row, status_fields};
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    struct answers a = ask_all(ctl, "/etcdserverpb.Maintenance/Status", &request.base,
                               &etcdserverpb__status_response__descriptor, "status");
    print_answers(ctl, &a, &layout);
    for (size_t i = 0; i < a.n; i++) {
        etcdserverpb__status_response__free_unpacked(a.list[i].status, NULL);
    }
    return a.failed ? EXIT_ERROR : 0;
}

int endpoint_hashkv_run(struct ctl *ctl)
{
    static const char *const head[HASH_COLUMNS] = {"endpoint", "hash", "hash_revision"};
    static const struct layout layout = {"HashKV", head, HASH_COLUMNS, hash_row, hash_fields};
    Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
    request.revision = flag_number(&ctl->flags, "rev");
    struct answers a = ask_all(ctl, "/etcdserverpb.Maintenance/HashKV", &request.base,
                               &etcdserverpb__hash_kvresponse__descriptor, "hash");
    print_answers(ctl, &a, &layout);
    for (size_t i = 0; i < a.n; i++) {
        etcdserverpb__hash_kvresponse__free_unpacked(a.list[i].hash, NULL);
    }
    if (a.failed) {
        ctl_fail_with(EXIT_ERROR, &a.last);
    }
    return 0;
}
