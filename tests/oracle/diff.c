/* diff.c - see the header. Messages nest as deep as the requests that we make: a few levels. */
#include "diff.h"

#include <inttypes.h>
#include <stdio.h>

#define BYTES_SHOWN 48u

static size_t element_size(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_BOOL:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    return 0;
}

/* Fill the part of `v` that stands for one element at `p`. */
static void read_element(ProtobufCType type, const void *p, struct field_value *v)
{
    size_t size = element_size(type);
    if (type == PROTOBUF_C_TYPE_BYTES) {
        const ProtobufCBinaryData *b = p;
        v->bytes = slice_of(b->data, b->len);
    } else if (type == PROTOBUF_C_TYPE_STRING) {
        const char *s = *(const char *const *)p;
        v->bytes = s == NULL ? (struct slice){NULL, 0} : slice_str(s);
    } else if (type == PROTOBUF_C_TYPE_MESSAGE) {
        v->message = *(const ProtobufCMessage *const *)p;
        v->present = v->present && v->message != NULL;
    } else if (size == 8) {
        memcpy(&v->number, p, 8);
    } else {
        int32_t number = 0;
        memcpy(&number, p, 4);
        v->number = number;
    }
}

static const uint8_t *member(const ProtobufCMessage *m, size_t offset)
{
    return (const uint8_t *)m + offset;
}

static struct field_value read_field(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    struct field_value v = {.present = true, .count = 1};
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        memcpy(&v.count, member(m, f->quantifier_offset), sizeof(v.count));
        return v;
    }
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t which = 0;
        memcpy(&which, member(m, f->quantifier_offset), sizeof(which));
        if (which != f->id) {
            v.present = false;
            return v;
        }
    }
    read_element(f->type, member(m, f->offset), &v);
    return v;
}

static struct field_value read_nth(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f,
                                   size_t i)
{
    struct field_value v = {.present = true, .count = 1};
    const uint8_t *array = NULL;
    memcpy(&array, member(m, f->offset), sizeof(array));
    read_element(f->type, array + i * element_size(f->type), &v);
    return v;
}

static const char *enum_name(const ProtobufCFieldDescriptor *f, int64_t number)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(f->descriptor, (int)number);
    return v == NULL ? NULL : v->name;
}

void diff_print_bytes(struct slice s, struct bytes *out)
{
    size_t n = s.len < BYTES_SHOWN ? s.len : BYTES_SHOWN;
    bytes_add_str(out, "\"");
    for (size_t i = 0; i < n; i++) {
        if (s.data[i] >= 0x20 && s.data[i] < 0x7f && s.data[i] != '"' && s.data[i] != '\\') {
            bytes_add(out, &s.data[i], 1);
        } else {
            bytes_printf(out, "\\x%02x", s.data[i]);
        }
    }
    bytes_add_str(out, "\"");
    if (n < s.len) {
        bytes_printf(out, "...(%zu bytes)", s.len);
    }
}

static void print_value(const ProtobufCFieldDescriptor *f, const struct field_value *v,
                        struct bytes *out)
{
    if (!v->present) {
        bytes_add_str(out, "absent");
    } else if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        bytes_add_str(out, "{");
        diff_print(v->message, out);
        bytes_add_str(out, "}");
    } else if (f->type == PROTOBUF_C_TYPE_BYTES || f->type == PROTOBUF_C_TYPE_STRING) {
        diff_print_bytes(v->bytes, out);
    } else if (f->type == PROTOBUF_C_TYPE_ENUM && enum_name(f, v->number) != NULL) {
        bytes_add_str(out, enum_name(f, v->number));
    } else if (f->type == PROTOBUF_C_TYPE_UINT64) {
        bytes_printf(out, "%" PRIu64, (uint64_t)v->number);
    } else {
        bytes_printf(out, "%" PRId64, v->number);
    }
}

static bool is_default(const ProtobufCFieldDescriptor *f, const struct field_value *v)
{
    return !v->present || ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) == 0 && v->message == NULL &&
                           v->number == 0 && v->bytes.len == 0);
}

void diff_print(const ProtobufCMessage *m, struct bytes *out)
{
    const char *separator = "";
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        struct field_value v = read_field(m, f);
        size_t n = v.count;
        for (size_t k = 0; k < n; k++) {
            if (f->label == PROTOBUF_C_LABEL_REPEATED) {
                v = read_nth(m, f, k);
            } else if (is_default(f, &v)) {
                break;
            }
            bytes_printf(out, "%s%s: ", separator, f->name);
            print_value(f, &v, out);
            separator = " ";
        }
    }
    if (m->n_unknown_fields > 0) {
        bytes_printf(out, "%s(%u unknown fields)", separator, m->n_unknown_fields);
    }
}

struct comparison {
    diff_allow_fn allow;
    void *arg;
    struct bytes *where;
};

static bool report(const struct comparison *c, const ProtobufCFieldDescriptor *f,
                   const struct field_value *a, const struct field_value *b)
{
    bytes_printf(c->where, "%s: ", f->name);
    print_value(f, a, c->where);
    bytes_add_str(c->where, " | ");
    print_value(f, b, c->where);
    return false;
}

static bool messages_equal(const struct comparison *c, const ProtobufCMessage *a,
                           const ProtobufCMessage *b);

static bool values_equal(const struct comparison *c, const ProtobufCMessageDescriptor *in,
                         const ProtobufCFieldDescriptor *f, const struct field_value *a,
                         const struct field_value *b)
{
    if (!a->present && !b->present) {
        return true;
    }
    if (a->present && b->present && f->type == PROTOBUF_C_TYPE_MESSAGE) {
        size_t mark = c->where->len;
        bytes_printf(c->where, "%s.", f->name);
        if (messages_equal(c, a->message, b->message)) {
            c->where->len = mark;
            return true;
        }
        return false;
    }
    bool equal = a->present == b->present && a->number == b->number && slice_eq(a->bytes, b->bytes);
    return equal || c->allow(c->arg, in, f, a, b) || report(c, f, a, b);
}

static bool repeated_equal(const struct comparison *c, const ProtobufCMessage *a,
                           const ProtobufCMessage *b, const ProtobufCFieldDescriptor *f,
                           const struct field_value *va, const struct field_value *vb)
{
    if (va->count != vb->count) {
        if (c->allow(c->arg, a->descriptor, f, va, vb)) {
            return true;
        }
        bytes_printf(c->where, "%s: %zu | %zu elements", f->name, va->count, vb->count);
        return false;
    }
    for (size_t i = 0; i < va->count; i++) {
        struct field_value ea = read_nth(a, f, i);
        struct field_value eb = read_nth(b, f, i);
        size_t mark = c->where->len;
        bytes_printf(c->where, "[%zu]", i);
        if (!values_equal(c, a->descriptor, f, &ea, &eb)) {
            return false;
        }
        c->where->len = mark;
    }
    return true;
}

static bool messages_equal(const struct comparison *c, const ProtobufCMessage *a,
                           const ProtobufCMessage *b)
{
    for (unsigned i = 0; i < a->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &a->descriptor->fields[i];
        struct field_value va = read_field(a, f);
        struct field_value vb = read_field(b, f);
        bool equal = f->label == PROTOBUF_C_LABEL_REPEATED
                         ? repeated_equal(c, a, b, f, &va, &vb)
                         : values_equal(c, a->descriptor, f, &va, &vb);
        if (!equal) {
            return false;
        }
    }
    if (a->n_unknown_fields != b->n_unknown_fields) {
        bytes_printf(c->where, "unknown fields: %u | %u", a->n_unknown_fields, b->n_unknown_fields);
        return false;
    }
    return true;
}

bool diff_equal(const ProtobufCMessage *a, const ProtobufCMessage *b, diff_allow_fn allow,
                void *arg, struct bytes *where)
{
    struct comparison c = {allow, arg, where};
    return messages_equal(&c, a, b);
}
