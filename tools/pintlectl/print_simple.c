/* print_simple.c - the plain format: bytes as they are, a newline after each. */
#include <inttypes.h>

#include "tools/cli/text.h"
#include "tools/pintlectl/print.h"

void simple_bytes(const struct ctl *ctl, ProtobufCBinaryData b)
{
    struct bytes hex = {0};
    struct slice s = slice_of_binary(b);
    if (ctl->hex) {
        text_hex_escape(&hex, s);
        s = bytes_slice(&hex);
    }
    if (s.len > 0) {
        (void)fwrite(s.data, 1, s.len, stdout);
    }
    (void)putchar('\n');
    bytes_deinit(&hex);
}

void simple_kv(const struct ctl *ctl, const Mvccpb__KeyValue *kv)
{
    if (!ctl->value_only) {
        simple_bytes(ctl, kv->key);
    }
    simple_bytes(ctl, kv->value);
}

void simple_get(const struct ctl *ctl, const Etcdserverpb__RangeResponse *r)
{
    for (size_t i = 0; i < r->n_kvs; i++) {
        simple_kv(ctl, r->kvs[i]);
    }
}

void simple_put(const struct ctl *ctl, const Etcdserverpb__PutResponse *r)
{
    (void)puts("OK");
    if (r->prev_kv != NULL) {
        simple_kv(ctl, r->prev_kv);
    }
}

void simple_del(const struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *r)
{
    (void)printf("%" PRId64 "\n", r->deleted);
    for (size_t i = 0; i < r->n_prev_kvs; i++) {
        simple_kv(ctl, r->prev_kvs[i]);
    }
}

void simple_txn(const struct ctl *ctl, const Etcdserverpb__TxnResponse *r)
{
    (void)puts(r->succeeded ? "SUCCESS" : "FAILURE");
    for (size_t i = 0; i < r->n_responses; i++) {
        const Etcdserverpb__ResponseOp *op = r->responses[i];
        (void)puts("");
        if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE) {
            simple_get(ctl, op->response_range);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT) {
            simple_put(ctl, op->response_put);
        } else if (op->response_case == ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE) {
            simple_del(ctl, op->response_delete_range);
        }
    }
}

void print_rows(const char *const *cells, size_t n_columns, size_t n_rows)
{
    for (size_t i = 0; i < n_rows * n_columns; i++) {
        (void)printf("%s%s", cells[i], (i + 1) % n_columns == 0 ? "\n" : ", ");
    }
    (void)fflush(stdout);
}
