/* message_write.c - wire form to JSON, field by field as the bytes come. */
#include <inttypes.h>

#include "api/gateway/base64.h"
#include "api/gateway/limits.h"
#include "api/gateway/message.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "base/wire.h"

/* --- strings ---------------------------------------------------------------------------------------------------- */

static void add_escape(struct bytes *out, uint8_t c)
{
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *p = c == '\0' ? NULL : strchr(from, c);
    if (p != NULL) {
        bytes_add(out, (char[]){'\\', to[p - from]}, 2);
    } else {
        bytes_printf(out, "\\u%04x", c);
    }
}

void gjson_add_string(struct bytes *out, struct slice s)
{
    bytes_add(out, "\"", 1);
    const uint8_t *end = s.len == 0 ? NULL : s.data + s.len;
    for (const uint8_t *p = s.data; s.len > 0 && p < end;) {
        const uint8_t *run = p;
        size_t n = 0;
        uint32_t code;
        while (p < end && *p >= 0x20 && *p != '"' && *p != '\\' && (n = utf8_first(slice_of(p, (size_t)(end - p)), &code)) > 0) {
            p += n;
        }
        bytes_add(out, run, (size_t)(p - run));
        if (p == end) {
            break;
        }
        if (*p < 0x80) {
            add_escape(out, *p);
        } else {
            bytes_add_str(out, "\xef\xbf\xbd");
        }
        p++;
    }
    bytes_add(out, "\"", 1);
}

/* --- values ---------------------------------------------------------------------------------------------------------- */

static enum err write_message(const ProtobufCMessageDescriptor *d, struct slice message, unsigned depth, struct bytes *out);

static void add_enum(struct bytes *out, const ProtobufCEnumDescriptor *d, uint64_t v)
{
    int n = (int32_t)(uint32_t)v;
    const ProtobufCEnumValue *value = protobuf_c_enum_descriptor_get_value(d, n);
    if (value != NULL) {
        bytes_printf(out, "\"%s\"", value->name);
    } else {
        bytes_printf(out, "%d", n);
    }
}

static enum err write_number(const ProtobufCFieldDescriptor *f, uint64_t v, struct bytes *out)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT64:
        bytes_printf(out, "\"%" PRId64 "\"", (int64_t)v);
        return OK;
    case PROTOBUF_C_TYPE_UINT64:
        bytes_printf(out, "\"%" PRIu64 "\"", v);
        return OK;
    case PROTOBUF_C_TYPE_INT32:
        bytes_printf(out, "%" PRId32, (int32_t)(uint32_t)v);
        return OK;
    case PROTOBUF_C_TYPE_UINT32:
        bytes_printf(out, "%" PRIu32, (uint32_t)v);
        return OK;
    case PROTOBUF_C_TYPE_BOOL:
        bytes_add_str(out, v != 0 ? "true" : "false");
        return OK;
    case PROTOBUF_C_TYPE_ENUM:
        add_enum(out, f->descriptor, v);
        return OK;
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    return ERR_INVALID;
}

static bool is_number(ProtobufCType type)
{
    return type != PROTOBUF_C_TYPE_STRING && type != PROTOBUF_C_TYPE_BYTES && type != PROTOBUF_C_TYPE_MESSAGE;
}

/* Whether the field's bytes are of the kind that its type has. */
static bool fits(const ProtobufCFieldDescriptor *f, const struct wire_field *w)
{
    return w->type == (is_number(f->type) ? WIRE_VARINT : WIRE_LEN);
}

static enum err write_value(const ProtobufCFieldDescriptor *f, const struct wire_field *w, unsigned depth, struct bytes *out)
{
    if (!fits(f, w)) {
        return ERR_INVALID;
    }
    if (is_number(f->type)) {
        return write_number(f, w->value, out);
    }
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        return write_message(f->descriptor, w->bytes, depth + 1, out);
    }
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        gjson_add_string(out, w->bytes);
        return OK;
    }
    bytes_add(out, "\"", 1);
    base64_add(out, w->bytes);
    bytes_add(out, "\"", 1);
    return OK;
}

/* --- fields ------------------------------------------------------------------------------------------------------------ */

static void open_field(struct gjson_writer *w, const ProtobufCFieldDescriptor *f, struct bytes *out)
{
    if (w->list != 0) {
        bytes_add(out, "]", 1);
        w->list = 0;
    }
    bytes_printf(out, "%s\"%s\":", w->any ? "," : "", f->name);
    w->any = true;
}

/* Values of a repeated field: one, or a packed run of numbers. */
static enum err write_elements(struct gjson_writer *w, const ProtobufCFieldDescriptor *f, const struct wire_field *field, struct bytes *out)
{
    bool packed = is_number(f->type) && field->type == WIRE_LEN;
    struct slice rest = field->bytes;
    for (;;) {
        struct wire_field one = *field;
        if (packed) {
            one.type = WIRE_VARINT;
            if (rest.len == 0) {
                return OK;
            }
            enum err e = wire_take_varint(&rest, &one.value);
            if (e != OK) {
                return ERR_INVALID;
            }
        }
        unsigned index = (unsigned)(f - w->d->fields) + 1;
        if (w->list != index) {
            if ((w->seen >> (index - 1) & 1u) != 0) {
                return ERR_INVALID; /* its list is closed already */
            }
            open_field(w, f, out);
            bytes_add(out, "[", 1);
            w->list = index;
            w->seen |= UINT64_C(1) << (index - 1);
        } else {
            bytes_add(out, ",", 1);
        }
        enum err e = write_value(f, &one, w->depth, out);
        if (e != OK || !packed) {
            return e;
        }
    }
}

static bool is_zero(const ProtobufCFieldDescriptor *f, const struct wire_field *field)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE || (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        return false;
    }
    return field->type == WIRE_LEN ? field->bytes.len == 0 : field->value == 0;
}

static enum err write_field(struct gjson_writer *w, const struct wire_field *field, struct bytes *out)
{
    const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(w->d, field->number);
    if (f == NULL) {
        return OK; /* a newer member's */
    }
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        return write_elements(w, f, field, out);
    }
    uint64_t bit = UINT64_C(1) << (f - w->d->fields);
    if (!fits(f, field)) {
        return ERR_INVALID;
    }
    if ((w->seen & bit) != 0) {
        return ERR_INVALID; /* legal on the wire, but our services do not write it and JSON cannot take it back */
    }
    if (is_zero(f, field)) {
        return OK;
    }
    w->seen |= bit;
    open_field(w, f, out);
    return write_value(f, field, w->depth, out);
}

/* How many bytes the field at the front of `in` takes; 0: not known yet. */
static enum err field_size(struct slice in, uint64_t *size)
{
    struct slice rest = in;
    uint64_t tag = 0, v = 0;
    *size = 0;
    enum err e = wire_take_varint(&rest, &tag);
    if (e != OK) {
        return in.len < WIRE_VARINT_MAX ? OK : ERR_INVALID;
    }
    switch (tag & 7u) {
    case WIRE_VARINT:
    case WIRE_LEN:
        e = wire_take_varint(&rest, &v);
        if (e != OK) {
            return rest.len < WIRE_VARINT_MAX ? OK : ERR_INVALID;
        }
        v = (tag & 7u) == WIRE_LEN ? v : 0;
        break;
    case WIRE_I64:
        v = 8;
        break;
    case WIRE_I32:
        v = 4;
        break;
    default:
        return ERR_INVALID;
    }
    if (v > UINT32_MAX) {
        return ERR_INVALID;
    }
    *size = in.len - rest.len + v;
    return OK;
}

void gjson_writer_begin(struct gjson_writer *w, const ProtobufCMessageDescriptor *d, struct bytes *out)
{
    ASSERT(d->n_fields <= JSON_FIELDS_MAX);
    *w = (struct gjson_writer){.d = d};
    bytes_add(out, "{", 1);
}

enum err gjson_writer_feed(struct gjson_writer *w, struct slice in, size_t out_max, struct bytes *out, size_t *used, uint64_t *want)
{
    *used = 0;
    *want = 0;
    while (*used < in.len && out->len < out_max) {
        struct slice rest = slice_of(in.data + *used, in.len - *used);
        enum err e = field_size(rest, want);
        if (e != OK) {
            return e;
        }
        if (*want == 0 || *want > rest.len) {
            *want = *want == 0 ? rest.len + 1 : *want;
            return OK;
        }
        struct wire_field field;
        struct slice one = slice_of(rest.data, (size_t)*want);
        e = wire_next(&one, &field);
        if (e == OK) {
            e = write_field(w, &field, out);
        }
        if (e != OK) {
            return ERR_INVALID;
        }
        *used += (size_t)*want;
        *want = 0;
    }
    return OK;
}

void gjson_writer_end(struct gjson_writer *w, struct bytes *out)
{
    bytes_add_str(out, w->list != 0 ? "]}" : "}");
}

/* Its recursion is bounded by JSON_DEPTH_MAX. */
static enum err write_message(const ProtobufCMessageDescriptor *d, struct slice message, unsigned depth, struct bytes *out)
{
    struct gjson_writer w;
    size_t used = 0;
    uint64_t want = 0;
    if (depth >= JSON_DEPTH_MAX) {
        return ERR_INVALID;
    }
    gjson_writer_begin(&w, d, out);
    w.depth = depth;
    enum err e = gjson_writer_feed(&w, message, SIZE_MAX, out, &used, &want);
    if (e != OK || used != message.len) {
        return ERR_INVALID;
    }
    gjson_writer_end(&w, out);
    return OK;
}

enum err message_to_json(const ProtobufCMessageDescriptor *d, struct slice message, struct bytes *out)
{
    return write_message(d, message, 0, out);
}
