/* make_mirror.c - copy what is there, then follow what changes.
 *
 * The copy is read at one revision, page by page; the watch begins right behind it. Changes of one
 * revision are applied in one
 * transaction, unless they are too many for it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"

#define PAGE_KEYS 1000
#define REPORT_NS UINT64_C(30000000000)
#define TICK_MS 500u
#define AGAIN_MS 100u
#define OPS_MAX 65536u /* of one transaction, whatever --max-txn-ops says */

const struct flag make_mirror_flags[] = {
    {"dest-cacert", 0, FLAG_STRING, NULL, "as --cacert, for the destination"},
    {"dest-cert", 0, FLAG_STRING, NULL, "as --cert, for the destination"},
    {"dest-insecure-transport", 0, FLAG_BOOL, "true",
     "as --insecure-transport, for the destination"},
    {"dest-key", 0, FLAG_STRING, NULL, "as --key, for the destination"},
    {"dest-password", 0, FLAG_STRING, NULL, "as --password, for the destination"},
    {"dest-prefix", 0, FLAG_STRING, NULL, "what takes the place of the prefix in the destination"},
    {"dest-user", 0, FLAG_STRING, NULL, "as --user, for the destination"},
    {"max-txn-ops", 0, FLAG_UINT, "128", "most changes in one transaction"},
    {"no-dest-prefix", 0, FLAG_BOOL, NULL, "leave the prefix away in the destination"},
    {"prefix", 0, FLAG_STRING, NULL, "what the keys to copy begin with"},
    {"rev", 0, FLAG_INT64, NULL, "follow from this revision on, without copying first"},
    {0}};

struct mirror {
    struct ctl *ctl; /* its connection is the source */
    struct conn *to;
    struct slice prefix, to_prefix;
    struct key_range range;
    int64_t next_revision;
    uint64_t n, report_at_ns;
    size_t ops_max;
};

static const char *text_or_null(const struct ctl *ctl, const char *name)
{
    const char *s = flag_text(&ctl->flags, name);
    return *s == '\0' ? NULL : s;
}

static struct conn *open_destination(struct ctl *ctl)
{
    struct conn_options o = ctl_base_options(ctl);
    o.endpoints = ctl->args;
    o.n_endpoints = 1;
    o.client.tls.ca_file = text_or_null(ctl, "dest-cacert");
    o.client.tls.cert_file = text_or_null(ctl, "dest-cert");
    o.client.tls.key_file = text_or_null(ctl, "dest-key");
    ctl_check_tls(ctl, &o.client, flag_yes(&ctl->flags, "dest-insecure-transport"));
    ctl_split_user(ctl, flag_text(&ctl->flags, "dest-user"),
                   flag_text(&ctl->flags, "dest-password"), "Destination Password: ", &o);
    return ctl_open(&o);
}

static void report(struct mirror *m)
{
    if (now_ns() >= m->report_at_ns) {
        (void)printf("%" PRIu64 "\n", m->n);
        (void)fflush(stdout);
        m->report_at_ns += REPORT_NS;
    }
}

/* The key with the other prefix; malloc'd. */
static ProtobufCBinaryData renamed(const struct mirror *m, ProtobufCBinaryData key)
{
    struct bytes b = {0};
    (void)bytes_reserve(&b, key.len + m->to_prefix.len + 1);
    bytes_add(&b, m->to_prefix.data, m->to_prefix.len);
    bytes_add(&b, key.data + m->prefix.len, key.len - m->prefix.len);
    return (ProtobufCBinaryData){b.len, b.data};
}

static _Noreturn void failed(const struct failure *f)
{
    ctl_fail_with(EXIT_ERROR, f);
}

static void copy_one(struct mirror *m, const Mvccpb__KeyValue *kv)
{
    struct failure f;
    Etcdserverpb__PutRequest request = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__PutResponse *r = NULL;
    request.key = renamed(m, kv->key);
    request.value = kv->value;
    if (!conn_call(m->to, "/etcdserverpb.KV/Put", &request.base, false,
                   &etcdserverpb__put_response__descriptor, 0, &r, &f)) {
        failed(&f);
    }
    free(request.key.data);
    etcdserverpb__put_response__free_unpacked(r, NULL);
    m->n++;
    report(m);
}

static void copy_all(struct mirror *m)
{
    struct bytes from = {0};
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = binary(m->range.key);
    request.range_end = binary(m->range.end);
    request.limit = PAGE_KEYS;
    for (bool more = true; more;) {
        Etcdserverpb__RangeResponse *r =
            ctl_call(m->ctl, "/etcdserverpb.KV/Range", &request.base, true,
                     &etcdserverpb__range_response__descriptor, 0, EXIT_ERROR);
        if (request.revision == 0) {
            request.revision = r->header == NULL ? 0 : r->header->revision;
        }
        for (size_t i = 0; i < r->n_kvs; i++) {
            copy_one(m, r->kvs[i]);
        }
        more = r->more && r->n_kvs > 0;
        if (more) {
            const ProtobufCBinaryData *last = &r->kvs[r->n_kvs - 1]->key;
            bytes_reset(&from);
            bytes_add(&from, last->data, last->len);
            bytes_add(&from, "", 1); /* the next key after it */
            request.key = binary(bytes_slice(&from));
        }
        etcdserverpb__range_response__free_unpacked(r, NULL);
    }
    bytes_deinit(&from);
    m->next_revision = request.revision + 1;
}

/* ---- following ---- */

static void apply(struct mirror *m, Mvccpb__Event *const *events, size_t n)
{
    struct failure f;
    Etcdserverpb__RequestOp *ops = xcalloc(n, sizeof(*ops));
    Etcdserverpb__RequestOp **list = xcalloc(n, sizeof(*list));
    Etcdserverpb__PutRequest *puts = xcalloc(n, sizeof(*puts));
    Etcdserverpb__DeleteRangeRequest *deletes = xcalloc(n, sizeof(*deletes));
    for (size_t i = 0; i < n; i++) {
        ProtobufCBinaryData key = renamed(m, events[i]->kv->key);
        list[i] = &ops[i];
        etcdserverpb__request_op__init(&ops[i]);
        etcdserverpb__put_request__init(&puts[i]);
        etcdserverpb__delete_range_request__init(&deletes[i]);
        puts[i].key = deletes[i].key = key;
        puts[i].value = events[i]->kv->value;
        if (events[i]->type == MVCCPB__EVENT__EVENT_TYPE__PUT) {
            ops[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
            ops[i].request_put = &puts[i];
        } else {
            ops[i].request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
            ops[i].request_delete_range = &deletes[i];
        }
    }
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    Etcdserverpb__TxnResponse *r = NULL;
    request.n_success = n;
    request.success = list;
    if (!conn_call(m->to, "/etcdserverpb.KV/Txn", &request.base, false,
                   &etcdserverpb__txn_response__descriptor, 0, &r, &f)) {
        failed(&f);
    }
    etcdserverpb__txn_response__free_unpacked(r, NULL);
    for (size_t i = 0; i < n; i++) {
        free(puts[i].key.data);
    }
    free(ops);
    free((void *)list);
    free(puts);
    free(deletes);
    m->n += n;
}

/* Runs of one revision, each at most ops_max long. */
static void apply_all(struct mirror *m, const Etcdserverpb__WatchResponse *r)
{
    for (size_t i = 0; i < r->n_events;) {
        size_t n = 0;
        int64_t revision = r->events[i]->kv == NULL ? 0 : r->events[i]->kv->mod_revision;
        while (i + n < r->n_events && n < m->ops_max && r->events[i + n]->kv != NULL &&
               r->events[i + n]->kv->mod_revision == revision &&
               r->events[i + n]->kv->key.len >= m->prefix.len) {
            n++;
        }
        if (n == 0) {
            ctl_fail(EXIT_ERROR, "malformed event");
        }
        apply(m, r->events + i, n);
        i += n;
        m->next_revision = revision + 1;
    }
}

static void take(struct mirror *m, const struct bytes *message)
{
    Etcdserverpb__WatchResponse *r =
        etcdserverpb__watch_response__unpack(NULL, message->len, message->data);
    if (r == NULL) {
        ctl_fail(EXIT_ERROR, "malformed event");
    }
    if (r->compact_revision != 0) {
        ctl_fail(EXIT_ERROR, "etcdserver: mvcc: required revision has been compacted");
    }
    if (r->canceled) {
        ctl_fail(EXIT_ERROR, "%s", r->cancel_reason);
    }
    apply_all(m, r);
    etcdserverpb__watch_response__free_unpacked(r, NULL);
}

/* One stream from its opening to its end; then another has to be opened. */
static void follow(struct mirror *m)
{
    struct failure f;
    struct client_stream *s = NULL;
    Etcdserverpb__WatchCreateRequest c = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchRequest request = ETCDSERVERPB__WATCH_REQUEST__INIT;
    c.key = binary(m->range.key);
    c.range_end = binary(m->range.end);
    c.start_revision = m->next_revision;
    request.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    request.create_request = &c;
    if (!conn_stream(m->ctl->conn, "/etcdserverpb.Watch/Watch", &request.base, false, 0, &s, &f)) {
        failed(&f);
    }
    struct bytes message = {0};
    enum err e = OK;
    while (e == OK || e == ERR_DEADLINE) {
        e = client_stream_recv(s, TICK_MS, &message);
        if (e == OK) {
            take(m, &message);
        }
        report(m);
    }
    bytes_deinit(&message);
    const struct client_status *status = client_stream_status(s);
    if (status != NULL) {
        failure_from(&f, status);
    }
    client_stream_close(&s);
    if (status != NULL && f.code != CLIENT_CODE_UNAVAILABLE && !conn_renew(m->ctl->conn, &f, 0)) {
        failed(&f);
    }
    sleep_ms(AGAIN_MS);
}

int make_mirror_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "make-mirror takes one destination argument");
    }
    struct mirror m = {.ctl = ctl, .prefix = slice_str(flag_text(&ctl->flags, "prefix"))};
    m.to = open_destination(ctl);
    ctl_connect(ctl);
    const char *to_prefix = flag_text(&ctl->flags, "dest-prefix");
    bool none = flag_yes(&ctl->flags, "no-dest-prefix");
    if (none && *to_prefix != '\0') {
        ctl_fail(
            EXIT_BAD_ARGS,
            "`--dest-prefix` and `--no-dest-prefix` cannot be set at the same time, choose one");
    }
    m.to_prefix = none ? slice_str("") : *to_prefix != '\0' ? slice_str(to_prefix) : m.prefix;
    m.range = ctl_prefix_range(ctl->arena, m.prefix);
    uint64_t ops = (uint64_t)flag_number(&ctl->flags, "max-txn-ops");
    m.ops_max = ops == 0 || ops > OPS_MAX ? OPS_MAX : (size_t)ops;
    m.next_revision = flag_number(&ctl->flags, "rev");
    m.report_at_ns = now_ns() + REPORT_NS;
    if (m.next_revision <= 1) {
        copy_all(&m);
    }
    for (;;) {
        follow(&m);
    }
}
