/* pair.c - see the header.
 *
 * Where upstream leaves an order open (equal sort keys, lease lists, alarm lists), both replies are
 * first brought into one order; then every field must agree, but for the table in rules.c.
 */
#include "pair.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "rules.h"

struct method_info {
    const char *name, *path;
    const ProtobufCMessageDescriptor *reply;
};

static const struct method_info methods[] = {
#define METHOD_ROW(name, path, request, reply)                                                     \
    [M_##name] = {#name, "/" path, &etcdserverpb__##reply##__descriptor},
    METHODS(METHOD_ROW)
#undef METHOD_ROW
};

const char *method_name(enum method m)
{
    return methods[m].name;
}

struct step step_of(enum method m, const void *request)
{
    return (struct step){.method = m, .request = {request, request}};
}

int64_t reply_revision(const ProtobufCMessage *reply)
{
    const ProtobufCFieldDescriptor *f =
        reply == NULL
            ? NULL
            : protobuf_c_message_descriptor_get_field_by_name(reply->descriptor, "header");
    if (f == NULL) {
        return 0;
    }
    const Etcdserverpb__ResponseHeader *header = NULL;
    memcpy(&header, (const uint8_t *)reply + f->offset, sizeof(header));
    return header == NULL ? 0 : header->revision;
}

/* ---- bringing replies into one order ---- */

static struct slice slice_of_binary(ProtobufCBinaryData b)
{
    return slice_of(b.data, b.len);
}

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_targets(Etcdserverpb__RangeRequest__SortTarget target, const Mvccpb__KeyValue *a,
                           const Mvccpb__KeyValue *b)
{
    if (target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION) {
        return compare_numbers(a->version, b->version);
    }
    if (target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE) {
        return compare_numbers(a->create_revision, b->create_revision);
    }
    if (target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD) {
        return compare_numbers(a->mod_revision, b->mod_revision);
    }
    if (target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE) {
        return slice_cmp(slice_of_binary(a->value), slice_of_binary(b->value));
    }
    return 0;
}

struct kv_order {
    Etcdserverpb__RangeRequest__SortTarget target;
    bool descending;
};

static int compare_kvs(const struct kv_order *o, const Mvccpb__KeyValue *a,
                       const Mvccpb__KeyValue *b)
{
    int c = compare_targets(o->target, a, b);
    c = o->descending ? -c : c;
    return c != 0 ? c : slice_cmp(slice_of_binary(a->key), slice_of_binary(b->key));
}

/* Sort runs of equal sort keys by key. What is not sorted as asked stays as it is, and differs. */
static void settle_ties(const struct kv_order *o, Etcdserverpb__RangeResponse *r)
{
    for (size_t i = 1; i < r->n_kvs; i++) { /* insertion: there are a few dozen keys */
        for (size_t k = i; k > 0 && compare_targets(o->target, r->kvs[k - 1], r->kvs[k]) == 0 &&
                           compare_kvs(o, r->kvs[k - 1], r->kvs[k]) > 0;
             k--) {
            Mvccpb__KeyValue *other = r->kvs[k];
            r->kvs[k] = r->kvs[k - 1];
            r->kvs[k - 1] = other;
        }
    }
}

static void cut_kvs(Etcdserverpb__RangeResponse *r, size_t n)
{
    while (r->n_kvs > n) {
        protobuf_c_message_free_unpacked(&r->kvs[--r->n_kvs]->base, NULL);
    }
}

static void canonical_range(const Etcdserverpb__RangeRequest *q, Etcdserverpb__RangeResponse *a,
                            Etcdserverpb__RangeResponse *b)
{
    if (q->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY || a->n_kvs != b->n_kvs) {
        return;
    }
    struct kv_order o = {q->sort_target,
                         q->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND};
    settle_ties(&o, a);
    settle_ties(&o, b);
    /* Which of several equal keys a limit cuts off is open as well. */
    if (a->more && b->more && a->n_kvs > 0) {
        size_t keep = a->n_kvs - 1;
        while (keep > 0 && compare_targets(o.target, a->kvs[keep - 1], a->kvs[a->n_kvs - 1]) == 0) {
            keep--;
        }
        if (compare_targets(o.target, a->kvs[a->n_kvs - 1], b->kvs[b->n_kvs - 1]) == 0) {
            cut_kvs(a, keep);
            cut_kvs(b, keep);
        }
    }
}

static void canonical_txn(const Etcdserverpb__TxnRequest *q, Etcdserverpb__TxnResponse *a,
                          Etcdserverpb__TxnResponse *b)
{
    size_t n_ops = a->succeeded ? q->n_success : q->n_failure;
    Etcdserverpb__RequestOp *const *ops = a->succeeded ? q->success : q->failure;
    if (a->succeeded != b->succeeded || a->n_responses != n_ops || b->n_responses != n_ops) {
        return; /* differs anyway */
    }
    for (size_t i = 0; i < n_ops; i++) {
        Etcdserverpb__ResponseOp *ra = a->responses[i];
        Etcdserverpb__ResponseOp *rb = b->responses[i];
        if (ra->response_case != rb->response_case) {
            continue;
        }
        if (ra->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE &&
            ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE) {
            canonical_range(ops[i]->request_range, ra->response_range, rb->response_range);
        } else if (ra->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_TXN &&
                   ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN) {
            canonical_txn(ops[i]->request_txn, ra->response_txn, rb->response_txn);
        }
    }
}

static int by_lease(const void *a, const void *b)
{
    const Etcdserverpb__LeaseStatus *const *x = a;
    const Etcdserverpb__LeaseStatus *const *y = b;
    return compare_numbers((*x)->id, (*y)->id);
}

static int by_alarm(const void *a, const void *b)
{
    const Etcdserverpb__AlarmMember *const *x = a;
    const Etcdserverpb__AlarmMember *const *y = b;
    int c = compare_numbers((int64_t)(*x)->memberid, (int64_t)(*y)->memberid);
    return c != 0 ? c : compare_numbers((*x)->alarm, (*y)->alarm);
}

static int by_bytes(const void *a, const void *b)
{
    const ProtobufCBinaryData *x = a;
    const ProtobufCBinaryData *y = b;
    return slice_cmp(slice_of_binary(*x), slice_of_binary(*y));
}

/* Releases put zero, one or two blanks between and after the fields of an alarm's text. */
static void squeeze_blanks(char *s)
{
    char *to = s;
    for (const char *from = s; *from != '\0'; from++) {
        if (*from != ' ' || (from[1] != ' ' && from[1] != '\0')) {
            *to++ = *from;
        }
    }
    *to = '\0';
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void sort(void *list, size_t n, size_t size, int (*order)(const void *, const void *))
{
    if (n > 1) { /* an empty list may be NULL, which qsort does not take */
        qsort(list, n, size, order);
    }
}

static void canonical_one(enum method m, ProtobufCMessage *reply)
{
    if (m == M_LEASES) {
        Etcdserverpb__LeaseLeasesResponse *r = (void *)reply;
        sort(r->leases, r->n_leases, sizeof(r->leases[0]), by_lease);
    } else if (m == M_TIME_TO_LIVE) {
        Etcdserverpb__LeaseTimeToLiveResponse *r = (void *)reply;
        sort(r->keys, r->n_keys, sizeof(r->keys[0]), by_bytes);
    } else if (m == M_ALARM) {
        Etcdserverpb__AlarmResponse *r = (void *)reply;
        sort(r->alarms, r->n_alarms, sizeof(r->alarms[0]), by_alarm);
    } else if (m == M_STATUS) {
        Etcdserverpb__StatusResponse *r = (void *)reply;
        for (size_t i = 0; i < r->n_errors; i++) {
            squeeze_blanks(r->errors[i]);
        }
        sort(r->errors, r->n_errors, sizeof(r->errors[0]), by_text);
    }
}

static void canonical(struct step *s)
{
    ProtobufCMessage *a = s->outcome[ORACLE].reply;
    ProtobufCMessage *b = s->outcome[SUBJECT].reply;
    if (s->method == M_RANGE) {
        canonical_range((const void *)s->request[ORACLE], (void *)a, (void *)b);
    } else if (s->method == M_TXN) {
        canonical_txn((const void *)s->request[ORACLE], (void *)a, (void *)b);
    } else {
        canonical_one(s->method, a);
        canonical_one(s->method, b);
    }
}

/* ---- comparing ---- */

static void print_outcome(const char *who, const struct outcome *o)
{
    struct bytes text = {0};
    if (o->reply != NULL) {
        diff_print(o->reply, &text);
    }
    size_t n = text.len < SHOWN_MAX ? text.len : SHOWN_MAX;
    (void)fprintf(stderr, "  %-8s code %u%s%s%s%s %.*s%s\n", who, o->status.code,
                  o->status.text[0] != '\0' ? " \"" : "", o->status.text,
                  o->status.text[0] != '\0' ? "\"" : "",
                  o->status.local ? " (from the client)" : "", (int)n,
                  text.len > 0 ? (const char *)text.data : "", n < text.len ? "..." : "");
    bytes_deinit(&text);
}

static bool report(const struct pair *p, const struct step *s, struct slice where)
{
    struct bytes text = {0};
    diff_print(s->request[ORACLE], &text);
    (void)fprintf(stderr,
                  "DIFFERENCE in request %" PRIu64 ", seed %" PRIu64 ", at revision %" PRId64
                  " compacted %" PRId64 "\n  %s %.*s\n",
                  s->number, p->seed, p->world->revision, p->world->compacted,
                  method_name(s->method), (int)text.len,
                  text.len > 0 ? (const char *)text.data : "");
    (void)fprintf(stderr, "  first difference (oracle | subject): %.*s\n", (int)where.len,
                  where.len > 0 ? (const char *)where.data : "");
    print_outcome(p->names[ORACLE], &s->outcome[ORACLE]);
    print_outcome(p->names[SUBJECT], &s->outcome[SUBJECT]);
    bytes_deinit(&text);
    return false;
}

bool pair_compare(struct pair *p, struct step *s)
{
    const struct client_status *a = &s->outcome[ORACLE].status;
    const struct client_status *b = &s->outcome[SUBJECT].status;
    if (a->local || b->local) {
        p->gave_up = !b->local;
        return report(p, s, slice_str("no answer"));
    }
    if (a->code != b->code || strcmp(a->text, b->text) != 0) {
        if (rules_allow_status(p, s)) {
            p->n_allowed++;
            return true;
        }
        p->gave_up = a->code == CLIENT_CODE_UNAVAILABLE; /* a disk that stood still, a new leader */
        return report(p, s, slice_str("status"));
    }
    if (a->code != CLIENT_CODE_OK) {
        p->n_errors++;
        return true;
    }
    if (s->outcome[ORACLE].reply == NULL || s->outcome[SUBJECT].reply == NULL) {
        return report(p, s, slice_str("a reply does not decode"));
    }
    canonical(s);
    struct rules_context context = {p, s};
    struct bytes where = {0};
    bool equal = diff_equal(s->outcome[ORACLE].reply, s->outcome[SUBJECT].reply, rules_allow_field,
                            &context, &where) ||
                 report(p, s, bytes_slice(&where));
    bytes_deinit(&where);
    return equal;
}

static void answered(void *arg, const struct client_status *status, struct slice reply)
{
    struct outcome *o = arg;
    o->done = true;
    o->status = *status;
    if (status->code == CLIENT_CODE_OK) {
        o->reply =
            protobuf_c_message_unpack(methods[o->step->method].reply, NULL, reply.len, reply.data);
    }
}

static bool submit(struct pair *p, struct step *s, enum side_id side, struct bytes *scratch)
{
    size_t n = protobuf_c_message_get_packed_size(s->request[side]);
    bytes_reset(scratch);
    (void)protobuf_c_message_pack(s->request[side], bytes_reserve(scratch, n + 1));
    struct outcome *o = &s->outcome[side];
    *o = (struct outcome){.step = s, .side = side};
    enum err e = client_submit(p->clients[side], methods[s->method].path,
                               slice_of(scratch->data, n), CALL_MS, answered, o);
    if (e != OK) {
        (void)fprintf(stderr, "%s: %s\n", p->names[side], err_text(e));
    }
    return e == OK;
}

bool pair_run(struct pair *p, struct step *steps, size_t n)
{
    ASSERT(n <= STEPS_MAX);
    struct bytes scratch = {0};
    bool sent = true;
    for (size_t i = 0; i < n && sent; i++) {
        steps[i].number = ++p->n_requests;
        p->n_by_method[steps[i].method]++;
        sent = submit(p, &steps[i], ORACLE, &scratch) && submit(p, &steps[i], SUBJECT, &scratch);
    }
    bytes_deinit(&scratch);
    while (client_in_flight(p->clients[ORACLE]) + client_in_flight(p->clients[SUBJECT]) > 0) {
        enum err e = client_pump_all(p->clients, N_SIDES, CALL_MS);
        if (e != OK && e != ERR_DEADLINE) {
            break;
        }
    }
    for (size_t i = 0; i < n; i++) {
        for (int side = 0; side < N_SIDES; side++) {
            if (!steps[i].outcome[side].done) {
                (void)fprintf(stderr,
                              "%s: connection lost, seed %" PRIu64 ", at request %" PRIu64 "\n",
                              p->names[side], p->seed, steps[i].number);
                p->gave_up = side == ORACLE && steps[i].outcome[SUBJECT].done;
                sent = false;
            }
        }
    }
    if (!sent) { /* the calls point into `steps`: they must end while those are there */
        client_close(&p->clients[ORACLE]);
        client_close(&p->clients[SUBJECT]);
        return false;
    }
    for (size_t i = 0; i < n && sent; i++) {
        sent = pair_compare(p, &steps[i]);
    }
    return sent;
}

void pair_release(struct step *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        for (int side = 0; side < N_SIDES; side++) {
            if (steps[i].outcome[side].reply != NULL) {
                protobuf_c_message_free_unpacked(steps[i].outcome[side].reply, NULL);
                steps[i].outcome[side].reply = NULL;
            }
        }
    }
}

bool pair_one(struct pair *p, enum method m, const void *request)
{
    struct step s = step_of(m, request);
    bool same = pair_run(p, &s, 1);
    int64_t revision = same ? reply_revision(s.outcome[ORACLE].reply) : 0;
    if (revision > 0) {
        p->world->revision = revision;
    }
    pair_release(&s, 1);
    return same;
}
