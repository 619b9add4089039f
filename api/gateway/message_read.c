/* message_read.c - JSON to wire form.
 *
 * One pass, no tree: fields go out in the order in which they come. A message's length is known at its end, so its bytes are moved up then by the
 * size of its length; the depth bound keeps that cheap.
 */
#include <inttypes.h>

#include "api/gateway/base64.h"
#include "api/gateway/limits.h"
#include "api/gateway/message.h"
#include "base/assert.h"
#include "base/wire.h"

#define RAW_SHOWN_MAX 64 /* bytes of a refused value in the text of its error */

struct reader {
    struct gjson *j;
    struct bytes *out;
};

/* --- names ------------------------------------------------------------------------------------------------------ */

/* lowerCamelCase of a proto name, compared with `name`. */
static bool is_camel(const char *proto, struct slice name)
{
    size_t n = 0;
    bool up = false;
    for (const char *p = proto; *p != '\0'; p++) {
        if (*p == '_') {
            up = true;
            continue;
        }
        char c = up && *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
        up = false;
        if (n >= name.len || name.data[n++] != (uint8_t)c) {
            return false;
        }
    }
    return n == name.len;
}

static const ProtobufCFieldDescriptor *find_field(const ProtobufCMessageDescriptor *d, struct slice name)
{
    for (unsigned i = 0; i < d->n_fields; i++) {
        if (is_camel(d->fields[i].name, name) || slice_eq(slice_str(d->fields[i].name), name)) {
            return &d->fields[i];
        }
    }
    return NULL;
}

static bool in_oneof(const ProtobufCFieldDescriptor *f)
{
    return (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0;
}

/* Members of one oneof share the place of its case. */
static bool oneof_is_set(const ProtobufCMessageDescriptor *d, const ProtobufCFieldDescriptor *f, uint64_t set)
{
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *g = &d->fields[i];
        if (g != f && in_oneof(g) && g->quantifier_offset == f->quantifier_offset && (set >> i & 1u) != 0) {
            return true;
        }
    }
    return false;
}

/* --- scalars ------------------------------------------------------------------------------------------------------ */

static const char *kind_name(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
        return "int32";
    case PROTOBUF_C_TYPE_INT64:
        return "int64";
    case PROTOBUF_C_TYPE_UINT32:
        return "uint32";
    case PROTOBUF_C_TYPE_UINT64:
        return "uint64";
    case PROTOBUF_C_TYPE_BOOL:
        return "bool";
    case PROTOBUF_C_TYPE_ENUM:
        return "enum";
    case PROTOBUF_C_TYPE_STRING:
        return "string";
    case PROTOBUF_C_TYPE_BYTES:
        return "bytes";
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
    case PROTOBUF_C_TYPE_MESSAGE:
        break;
    }
    UNREACHABLE(); /* etcd's services use none of the others; the test of the routes looks */
}

/* The number of a 64-bit field: a number, or one in a string. */
static bool number_text(struct gjson *j, enum err *e, struct slice *s)
{
    enum gjson_kind kind = gjson_peek(j);
    if (kind == JSON_NUMBER) {
        *e = gjson_number(j, s);
        return *e == OK;
    }
    if (kind != JSON_STRING) {
        return false;
    }
    *e = gjson_string(j, s);
    if (*e != OK) {
        return false;
    }
    struct gjson inside;
    struct slice number;
    gjson_init(&inside, *s, NULL);
    bool is_number = s->len > 0 && (s->data[0] == '-' || (s->data[0] >= '0' && s->data[0] <= '9')) && gjson_number(&inside, &number) == OK &&
                     number.len == s->len;
    gjson_deinit(&inside);
    return is_number;
}

static bool read_integer(struct gjson *j, ProtobufCType type, enum err *e, uint64_t *v)
{
    struct slice s;
    if (!number_text(j, e, &s)) {
        return false;
    }
    if (type == PROTOBUF_C_TYPE_UINT64 || type == PROTOBUF_C_TYPE_UINT32) {
        return gjson_to_uint(s, v) && (type == PROTOBUF_C_TYPE_UINT64 || *v <= UINT32_MAX);
    }
    int64_t n = 0;
    if (!gjson_to_int(s, &n) || (type == PROTOBUF_C_TYPE_INT32 && (n < INT32_MIN || n > INT32_MAX))) {
        return false;
    }
    *v = (uint64_t)n;
    return true;
}

/* A name that is not known counts as absent, as unknown fields do: *absent. */
static bool read_enum(struct gjson *j, const ProtobufCEnumDescriptor *d, enum err *e, uint64_t *v, bool *absent)
{
    struct slice s;
    int64_t n = 0;
    if (gjson_peek(j) == JSON_NUMBER) {
        *e = gjson_number(j, &s);
        if (*e != OK || !gjson_to_int(s, &n) || n < INT32_MIN || n > INT32_MAX) {
            return false;
        }
        *v = (uint64_t)n;
        return true;
    }
    if (gjson_peek(j) != JSON_STRING) {
        return false;
    }
    *e = gjson_string(j, &s);
    if (*e != OK) {
        return false;
    }
    for (unsigned i = 0; i < d->n_values; i++) {
        if (slice_eq(slice_str(d->values[i].name), s)) {
            *v = (uint64_t)(int64_t)d->values[i].value;
            return true;
        }
    }
    *absent = true;
    return true;
}

static bool read_bool(struct gjson *j, enum err *e, uint64_t *v)
{
    enum gjson_kind kind = gjson_peek(j);
    if (kind != JSON_TRUE && kind != JSON_FALSE) {
        return false;
    }
    *e = gjson_word(j, kind);
    *v = kind == JSON_TRUE;
    return *e == OK;
}

/* Append tag, length and bytes; nothing when they are none and need not be said. */
static bool read_bytes(struct reader *r, const ProtobufCFieldDescriptor *f, bool always, enum err *e)
{
    struct slice s;
    if (gjson_peek(r->j) != JSON_STRING) {
        return false;
    }
    *e = gjson_string(r->j, &s);
    if (*e != OK) {
        return false;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        if (always || s.len > 0) {
            wire_add_message(r->out, f->id, s);
        }
        return true; /* whether it is UTF-8 the service asks, as of any other client */
    }
    struct bytes raw = {0};
    bool sound = base64_take(&raw, s);
    if (sound && (always || raw.len > 0)) {
        wire_add_message(r->out, f->id, bytes_slice(&raw));
    }
    bytes_deinit(&raw);
    return sound;
}

static enum err refuse_value(struct gjson *j, const ProtobufCFieldDescriptor *f, const uint8_t *where)
{
    j->at = where;
    if (gjson_skip(j) != OK) {
        return ERR_INVALID; /* that is worse, and has been said */
    }
    size_t n = (size_t)(j->at - where);
    int shown = (int)(n < RAW_SHOWN_MAX ? n : RAW_SHOWN_MAX);
    return gjson_fault(j, where, "invalid value for %s field %s: %.*s", kind_name(f->type), f->name, shown, (const char *)where);
}

/* One scalar. `packed`: the number alone, without its tag. `always`: zero values too. */
static enum err read_scalar(struct reader *r, const ProtobufCFieldDescriptor *f, bool always, bool packed)
{
    struct gjson *j = r->j;
    (void)gjson_peek(j);
    const uint8_t *where = j->at;
    uint64_t v = 0;
    enum err e = OK;
    bool sound = false, absent = false;
    if (f->type == PROTOBUF_C_TYPE_STRING || f->type == PROTOBUF_C_TYPE_BYTES) {
        sound = read_bytes(r, f, always, &e);
        absent = true; /* it is written */
    } else if (f->type == PROTOBUF_C_TYPE_BOOL) {
        sound = read_bool(j, &e, &v);
    } else if (f->type == PROTOBUF_C_TYPE_ENUM) {
        sound = read_enum(j, f->descriptor, &e, &v, &absent);
    } else {
        sound = read_integer(j, f->type, &e, &v);
    }
    if (e != OK) {
        return e;
    }
    if (!sound) {
        return refuse_value(j, f, where);
    }
    if (absent || (v == 0 && !always)) {
        return OK;
    }
    uint8_t number[2 * WIRE_VARINT_MAX];
    uint8_t *p = packed ? number : wire_put_tag(number, f->id, WIRE_VARINT);
    p = wire_put_varint(p, v);
    bytes_add(r->out, number, (size_t)(p - number));
    return OK;
}

/* --- messages -------------------------------------------------------------------------------------------------------- */

static enum err read_message(struct reader *r, const ProtobufCMessageDescriptor *d);

/* What was appended since `from` becomes the content of a field: put tag and length before it. */
static void wrap(struct bytes *out, size_t from, uint32_t id)
{
    size_t len = out->len - from;
    uint8_t head[2 * WIRE_VARINT_MAX];
    uint8_t *p = wire_put_varint(wire_put_tag(head, id, WIRE_LEN), len);
    size_t n = (size_t)(p - head);
    (void)bytes_reserve(out, n);
    memmove(out->data + from + n, out->data + from, len);
    memcpy(out->data + from, head, n);
    out->len += n;
}

static enum err read_element(struct reader *r, const ProtobufCFieldDescriptor *f, bool always, bool packed)
{
    if (f->type != PROTOBUF_C_TYPE_MESSAGE) {
        return read_scalar(r, f, always, packed);
    }
    size_t from = r->out->len;
    enum err e = read_message(r, f->descriptor);
    if (e == OK) {
        wrap(r->out, from, f->id);
    }
    return e;
}

static enum err read_list(struct reader *r, const ProtobufCFieldDescriptor *f)
{
    bool first;
    bool packed = f->type != PROTOBUF_C_TYPE_MESSAGE && f->type != PROTOBUF_C_TYPE_STRING && f->type != PROTOBUF_C_TYPE_BYTES;
    size_t from = r->out->len;
    (void)gjson_peek(r->j);
    if (r->j->at < r->j->end && *r->j->at != '[') {
        return gjson_fault(r->j, r->j->at, "syntax error: unexpected token for repeated field %s", f->name);
    }
    enum err e = gjson_enter(r->j, '[', &first);
    while (e == OK) {
        e = gjson_next(r->j, ']', &first);
        if (e == OK) {
            e = read_element(r, f, true, packed);
        }
    }
    if (e == ERR_END && packed && r->out->len > from) {
        wrap(r->out, from, f->id);
    }
    return e == ERR_END ? OK : e;
}

/* One member of an object. `seen` are the fields that were named, `set` those that were given a value. */
static enum err read_member(struct reader *r, const ProtobufCMessageDescriptor *d, uint64_t *seen, uint64_t *set)
{
    struct gjson *j = r->j;
    struct slice name;
    (void)gjson_peek(j);
    const uint8_t *where = j->at;
    enum err e = gjson_name(j, &name);
    if (e != OK) {
        return e;
    }
    const ProtobufCFieldDescriptor *f = find_field(d, name);
    if (f == NULL) {
        return gjson_skip(j);
    }
    uint64_t bit = UINT64_C(1) << (f - d->fields);
    if ((*seen & bit) != 0) {
        return gjson_fault(j, where, "duplicate field \"%s\"", f->name);
    }
    *seen |= bit;
    if (gjson_peek(j) == JSON_NULL) {
        return gjson_word(j, JSON_NULL);
    }
    if (in_oneof(f) && oneof_is_set(d, f, *set)) {
        return gjson_fault(j, where, "error parsing \"%s\", its oneof of %s is already set", f->name, d->name);
    }
    *set |= bit;
    return f->label == PROTOBUF_C_LABEL_REPEATED ? read_list(r, f) : read_element(r, f, in_oneof(f), false);
}

/* Its recursion is bounded by JSON_DEPTH_MAX. */
static enum err read_message(struct reader *r, const ProtobufCMessageDescriptor *d)
{
    struct gjson *j = r->j;
    bool first;
    uint64_t seen = 0, set = 0;
    ASSERT(d->n_fields <= JSON_FIELDS_MAX);
    enum gjson_kind kind = gjson_peek(j);
    const uint8_t *where = j->at;
    if (kind != JSON_OBJECT && kind != JSON_END && kind != JSON_FAULT) {
        enum err skipped = gjson_skip(j);
        return skipped != OK ? skipped : gjson_fault(j, where, "syntax error: unexpected token instead of a message of %s", d->name);
    }
    enum err e = gjson_enter(j, '{', &first);
    while (e == OK) {
        e = gjson_next(j, '}', &first);
        if (e == OK) {
            e = read_member(r, d, &seen, &set);
        }
    }
    return e == ERR_END ? OK : e;
}

enum err message_from_json(struct gjson *j, const ProtobufCMessageDescriptor *d, struct bytes *out)
{
    struct reader r = {.j = j, .out = out};
    size_t before = out->len;
    if (gjson_peek(j) == JSON_END) {
        return ERR_END;
    }
    enum err e = read_message(&r, d);
    if (e != OK) {
        out->len = before;
        return ERR_INVALID;
    }
    return OK;
}
