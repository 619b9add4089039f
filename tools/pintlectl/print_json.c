/* print_json.c - JSON as Go's encoding/json writes etcd's messages.
 *
 * The names are those of the .proto files. A field of value zero is left out, and so is an absent
 * message; bytes are base64, numbers
 * bare, enums numbers. A oneof is an object in an object, named as Go names its field.
 */
#include <inttypes.h>

#include "tools/cli/text.h"
#include "tools/pintlectl/print.h"

static void add_message(struct bytes *out, const ProtobufCMessage *m, bool hex);

/* One value at `p`; false when it is zero, and nothing was written. */
static bool add_value(struct bytes *out, const ProtobufCFieldDescriptor *f, const void *p, bool hex)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_ENUM:
        bytes_printf(out, "%" PRId32, *(const int32_t *)p);
        return *(const int32_t *)p != 0;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        bytes_printf(out, "%" PRIu32, *(const uint32_t *)p);
        return *(const uint32_t *)p != 0;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        bytes_printf(out, "%" PRId64, *(const int64_t *)p);
        return *(const int64_t *)p != 0;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        bytes_printf(out, "%" PRIu64, *(const uint64_t *)p);
        return *(const uint64_t *)p != 0;
    case PROTOBUF_C_TYPE_BOOL:
        bytes_add_str(out, yes_no(*(const protobuf_c_boolean *)p != 0));
        return *(const protobuf_c_boolean *)p != 0;
    case PROTOBUF_C_TYPE_STRING: {
        const char *s = *(char *const *)p;
        text_json(out, slice_str(s == NULL ? "" : s));
        return s != NULL && *s != '\0';
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = p;
        bytes_add_str(out, "\"");
        text_base64(out, slice_of_binary(*b));
        bytes_add_str(out, "\"");
        return b->len > 0;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const ProtobufCMessage *m = *(ProtobufCMessage *const *)p;
        if (m != NULL) {
            add_message(out, m, hex);
        }
        return m != NULL;
    }
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        break;
    }
    ASSERT(false); /* etcd's messages have none */
}

static size_t value_bytes(ProtobufCType t)
{
    return t == PROTOBUF_C_TYPE_BYTES  ? sizeof(ProtobufCBinaryData)
           : t == PROTOBUF_C_TYPE_BOOL ? sizeof(protobuf_c_boolean)
           : t == PROTOBUF_C_TYPE_STRING || t == PROTOBUF_C_TYPE_MESSAGE ? sizeof(void *)
           : t == PROTOBUF_C_TYPE_INT32 || t == PROTOBUF_C_TYPE_UINT32 || t == PROTOBUF_C_TYPE_ENUM
               ? 4
               : 8;
}

/* Elements are written even when they are zero. */
static void add_list(struct bytes *out, const ProtobufCFieldDescriptor *f, const uint8_t *list,
                     size_t n, bool hex)
{
    bytes_add_str(out, "[");
    for (size_t i = 0; i < n; i++) {
        if (i > 0) {
            bytes_add_str(out, ",");
        }
        (void)add_value(out, f, list + i * value_bytes(f->type), hex);
    }
    bytes_add_str(out, "]");
}

/* The field with its name and a comma before it; nothing when it is zero. */
static void add_field(struct bytes *out, const ProtobufCMessage *m,
                      const ProtobufCFieldDescriptor *f, bool *any, bool hex)
{
    const uint8_t *at = (const uint8_t *)m + f->offset;
    const uint8_t *quantifier = (const uint8_t *)m + f->quantifier_offset;
    bool oneof = (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
    size_t before = out->len;
    bytes_printf(out, "%s%s\"%s\":", *any ? "," : "", oneof ? "\"Response\":{" : "", f->name);
    bool shown = false;
    if (oneof) {
        shown = *(const uint32_t *)(const void *)quantifier == f->id && add_value(out, f, at, hex);
        bytes_add_str(out, "}");
    } else if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        size_t n = *(const size_t *)(const void *)quantifier;
        add_list(out, f, *(const uint8_t *const *)(const void *)at, n, hex);
        shown = n > 0;
    } else {
        shown = add_value(out, f, at, hex);
    }
    if (!shown) {
        out->len = before;
    }
    *any = *any || shown;
}

static void add_hex_header(struct bytes *out, const Etcdserverpb__ResponseHeader *h)
{
    bytes_printf(out, "{\"cluster_id\":\"%" PRIx64 "\",\"member_id\":\"%" PRIx64 "\"",
                 h->cluster_id, h->member_id);
    if (h->revision != 0) {
        bytes_printf(out, ",\"revision\":%" PRId64, h->revision);
    }
    if (h->raft_term != 0) {
        bytes_printf(out, ",\"raft_term\":%" PRIu64, h->raft_term);
    }
    bytes_add_str(out, "}");
}

static void add_message(struct bytes *out, const ProtobufCMessage *m, bool hex)
{
    bool any = false;
    unsigned first = 0;
    if (hex && m->descriptor == &etcdserverpb__response_header__descriptor) {
        add_hex_header(out, (const Etcdserverpb__ResponseHeader *)(const void *)m);
        return;
    }
    bytes_add_str(out, "{");
    if (hex && m->descriptor == &etcdserverpb__member__descriptor) {
        bytes_printf(out, "\"ID\":\"%" PRIx64 "\"",
                     ((const Etcdserverpb__Member *)(const void *)m)->id);
        any = true;
        first = 1;
    }
    for (unsigned i = first; i < m->descriptor->n_fields; i++) {
        add_field(out, m, &m->descriptor->fields[i], &any, hex);
    }
    bytes_add_str(out, "}");
}

void json_message(struct bytes *out, const ProtobufCMessage *m, bool hex)
{
    add_message(out, m, hex);
}

void json_header_members(struct bytes *out, const Etcdserverpb__ResponseHeader *h)
{
    bool any = false;
    for (unsigned i = 0; h != NULL && i < h->base.descriptor->n_fields; i++) {
        add_field(out, &h->base, &h->base.descriptor->fields[i], &any, false);
    }
    if (any) {
        bytes_add_str(out, ",");
    }
}

void print_json_line(struct bytes *json)
{
    bytes_add_str(json, "\n");
    (void)fwrite(json->data, 1, json->len, stdout);
    (void)fflush(stdout);
    bytes_deinit(json);
}
