/* print.c - which format gets an answer. */
#include "tools/pintlectl/print.h"

#include <string.h>

static const char *const format_names[] = {[FORMAT_SIMPLE] = "simple",
                                           [FORMAT_FIELDS] = "fields",
                                           [FORMAT_JSON] = "json",
                                           [FORMAT_PROTOBUF] = "protobuf",
                                           [FORMAT_TABLE] = "table"};

_Noreturn void print_unsupported(enum format f)
{
    ctl_fail(EXIT_BAD_FEATURE, "%s not supported as output format", format_names[f]);
}

static void print_protobuf(const ProtobufCMessage *m)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    struct bytes b = {0};
    b.len = protobuf_c_message_pack(m, bytes_reserve(&b, n + 1));
    (void)fwrite(b.data, 1, b.len, stdout);
    bytes_deinit(&b);
    (void)fflush(stdout);
}

bool print_message(const struct ctl *ctl, const ProtobufCMessage *m)
{
    struct bytes json = {0};
    switch (ctl->format) {
    case FORMAT_SIMPLE:
    case FORMAT_FIELDS:
        return false;
    case FORMAT_JSON:
        json_message(&json, m, false);
        print_json_line(&json);
        return true;
    case FORMAT_PROTOBUF:
        print_protobuf(m);
        return true;
    case FORMAT_TABLE:
        break;
    }
    print_unsupported(FORMAT_TABLE);
}

bool print_bare(const struct ctl *ctl, const ProtobufCMessage *m,
                const Etcdserverpb__ResponseHeader *h)
{
    if (ctl->format == FORMAT_FIELDS) {
        fields_header(ctl, h);
        (void)fflush(stdout);
        return true;
    }
    return print_message(ctl, m);
}

#define PRINT(name, message)                                                                       \
    void print_##name(const struct ctl *ctl, const message *r)                                     \
    {                                                                                              \
        if (!print_message(ctl, &r->base)) {                                                       \
            (ctl->format == FORMAT_FIELDS ? fields_##name : simple_##name)(ctl, r);                \
            (void)fflush(stdout);                                                                  \
        }                                                                                          \
    }
PRINT(get, Etcdserverpb__RangeResponse)
PRINT(put, Etcdserverpb__PutResponse)
PRINT(del, Etcdserverpb__DeleteRangeResponse)
PRINT(txn, Etcdserverpb__TxnResponse)
