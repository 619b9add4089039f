/* print_fields.c - one line per field: "Name" : value. */
#include <inttypes.h>

#include "tools/cli/text.h"
#include "tools/pintlectl/print.h"

void fields_id(const struct ctl *ctl, const char *name, uint64_t id)
{
    (void)printf(ctl->hex ? "\"%s\" : %" PRIx64 "\n" : "\"%s\" : %" PRIu64 "\n", name, id);
}

void fields_lease(const struct ctl *ctl, const char *name, int64_t id)
{
    (void)printf(ctl->hex ? "\"%s\" : %016" PRIx64 "\n" : "\"%s\" : %" PRId64 "\n", name, id);
}

void fields_text(const char *name, struct slice text)
{
    struct bytes q = {0};
    text_quote(&q, text);
    (void)printf("\"%s\" : %.*s\n", name, (int)q.len, (const char *)q.data);
    bytes_deinit(&q);
}

void fields_text_list(const char *name, char *const *texts, size_t n)
{
    struct bytes q = {0};
    for (size_t i = 0; i < n; i++) {
        bytes_add_str(&q, " ");
        text_quote(&q, slice_str(texts[i]));
    }
    (void)printf("\"%s\" :%.*s\n", name, (int)q.len, q.len == 0 ? "" : (const char *)q.data);
    bytes_deinit(&q);
}

void fields_header(const struct ctl *ctl, const Etcdserverpb__ResponseHeader *h)
{
    static const Etcdserverpb__ResponseHeader none = ETCDSERVERPB__RESPONSE_HEADER__INIT;
    h = h == NULL ? &none : h;
    fields_id(ctl, "ClusterID", h->cluster_id);
    fields_id(ctl, "MemberID", h->member_id);
    if (h->revision > 0) {
        (void)printf("\"Revision\" : %" PRId64 "\n", h->revision);
    }
    (void)printf("\"RaftTerm\" : %" PRIu64 "\n", h->raft_term);
}

void fields_kv(const struct ctl *ctl, const char *prefix, const Mvccpb__KeyValue *kv)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "%sKey", prefix);
    fields_text(name, slice_of_binary(kv->key));
    (void)printf("\"%sCreateRevision\" : %" PRId64 "\n", prefix, kv->create_revision);
    (void)printf("\"%sModRevision\" : %" PRId64 "\n", prefix, kv->mod_revision);
    (void)printf("\"%sVersion\" : %" PRId64 "\n", prefix, kv->version);
    (void)snprintf(name, sizeof(name), "%sValue", prefix);
    fields_text(name, slice_of_binary(kv->value));
    (void)snprintf(name, sizeof(name), "%sLease", prefix);
    fields_lease(ctl, name, kv->lease);
}

void fields_get(const struct ctl *ctl, const Etcdserverpb__RangeResponse *r)
{
    fields_header(ctl, r->header);
    for (size_t i = 0; i < r->n_kvs; i++) {
        fields_kv(ctl, "", r->kvs[i]);
    }
    (void)printf("\"More\" : %s\n\"Count\" : %" PRId64 "\n", yes_no(r->more), r->count);
}

void fields_put(const struct ctl *ctl, const Etcdserverpb__PutResponse *r)
{
    fields_header(ctl, r->header);
    if (r->prev_kv != NULL) {
        fields_kv(ctl, "Prev", r->prev_kv);
    }
}

void fields_del(const struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *r)
{
    fields_header(ctl, r->header);
    (void)printf("\"Deleted\" : %" PRId64 "\n", r->deleted);
    for (size_t i = 0; i < r->n_prev_kvs; i++) {
        fields_kv(ctl, "Prev", r->prev_kvs[i]);
    }
}

void fields_txn(const struct ctl *ctl, const Etcdserverpb__TxnResponse *r)
{
    fields_header(ctl, r->header);
    (void)printf("\"Succeeded\" : %s\n", yes_no(r->succeeded));
    for (size_t i = 0; i < r->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = r->responses[i];
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
            fields_get(ctl, op->response_range);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT) {
            fields_put(ctl, op->response_put);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE) {
            fields_del(ctl, op->response_delete_range);
        }
    }
}
