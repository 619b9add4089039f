/* describe.c - see describe.h.
 *
 * Two forms of protobuf's text, since etcd has two: today's, with braces, and an older one for what it redacts, with angle brackets, octal escapes and
 * a space behind each field.
 */
#include "engine/describe.h"

#include <inttypes.h>

#include "api/proto/raft_internal.pb-c.h"
#include "base/assert.h"
#include "base/utf8.h"
#include "engine/txn.h"

enum form { FORM_TODAY, FORM_OLD };

static bool is_full(const struct bytes *out)
{
    return out->len >= DESCRIBE_BYTES_MAX;
}

static void add_escaped_byte(struct bytes *out, uint8_t c, enum form form)
{
    const char *named = c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : c == '"' ? "\\\"" : c == '\\' ? "\\\\" : NULL;
    if (named != NULL) {
        bytes_add_str(out, named);
    } else if (c >= 0x20 && c < 0x7f) {
        bytes_add(out, &c, 1);
    } else {
        bytes_printf(out, form == FORM_OLD ? "\\%03o" : "\\x%02x", c);
    }
}

static void add_quoted(struct bytes *out, struct slice s, enum form form)
{
    bytes_add(out, "\"", 1);
    while (s.len > 0 && !is_full(out)) {
        uint32_t code = 0;
        size_t n = form == FORM_OLD ? 1 : utf8_first(s, &code);
        if (n > 1 && code > 0x9f) {
            bytes_add(out, s.data, n);
        } else if (n > 1) {
            bytes_printf(out, "\\u%04x", code);
        } else {
            n = 1;
            add_escaped_byte(out, s.data[0], form);
        }
        s = slice_of(s.data + n, s.len - n);
    }
    bytes_add(out, "\"", 1);
}

/* --- any message ---------------------------------------------------------------------------------------------------- */

static void add_message(struct bytes *out, const ProtobufCMessage *m);

static void add_value(struct bytes *out, const ProtobufCFieldDescriptor *f, const void *p)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        bytes_printf(out, "%" PRId32, *(const int32_t *)p);
        return;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        bytes_printf(out, "%" PRId64, *(const int64_t *)p);
        return;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        bytes_printf(out, "%" PRIu32, *(const uint32_t *)p);
        return;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        bytes_printf(out, "%" PRIu64, *(const uint64_t *)p);
        return;
    case PROTOBUF_C_TYPE_BOOL:
        bytes_add_str(out, *(const protobuf_c_boolean *)p ? "true" : "false");
        return;
    case PROTOBUF_C_TYPE_ENUM: {
        const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(f->descriptor, *(const int *)p);
        if (v != NULL) {
            bytes_add_str(out, v->name);
        } else {
            bytes_printf(out, "%d", *(const int *)p);
        }
        return;
    }
    case PROTOBUF_C_TYPE_STRING:
        add_quoted(out, slice_str(*(char *const *)p), FORM_TODAY);
        return;
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = p;
        add_quoted(out, slice_of(b->data, b->len), FORM_TODAY);
        return;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        bytes_add_str(out, "{");
        add_message(out, *(ProtobufCMessage *const *)p);
        bytes_add_str(out, "}");
        return;
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_DOUBLE:
        UNREACHABLE(); /* none of etcd's requests has one */
    }
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
    case PROTOBUF_C_TYPE_ENUM:
        return 4;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    }
    UNREACHABLE();
}

/* Whether a field that is not repeated is shown: without presence of its own, when it is not zero. */
static bool is_set(const ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    const uint8_t *base = (const uint8_t *)m;
    const void *p = base + f->offset;
    if ((f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
        uint32_t which;
        memcpy(&which, base + f->quantifier_offset, sizeof(which));
        return which == f->id;
    }
    if (f->type == PROTOBUF_C_TYPE_MESSAGE) {
        return *(void *const *)p != NULL;
    }
    if (f->type == PROTOBUF_C_TYPE_STRING) {
        const char *s = *(char *const *)p;
        return s != NULL && s[0] != '\0';
    }
    if (f->type == PROTOBUF_C_TYPE_BYTES) {
        return ((const ProtobufCBinaryData *)p)->len > 0;
    }
    static const uint8_t zero[8];
    return memcmp(p, zero, size_of(f->type)) != 0;
}

static void add_named(struct bytes *out, const ProtobufCFieldDescriptor *f, const void *p, bool *any)
{
    bytes_printf(out, "%s%s:", *any ? " " : "", f->name);
    add_value(out, f, p);
    *any = true;
}

static void add_message(struct bytes *out, const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    bool any = false;
    for (unsigned i = 0; i < d->n_fields && !is_full(out); i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        const uint8_t *p = (const uint8_t *)m + f->offset;
        if (f->label != PROTOBUF_C_LABEL_REPEATED) {
            if (is_set(m, f)) {
                add_named(out, f, p, &any);
            }
            continue;
        }
        size_t n;
        memcpy(&n, (const uint8_t *)m + f->quantifier_offset, sizeof(n));
        const uint8_t *list = *(uint8_t *const *)(const void *)p;
        for (size_t k = 0; k < n && !is_full(out); k++) {
            add_named(out, f, list + k * size_of(f->type), &any);
        }
    }
}

/* --- what has values or passwords ------------------------------------------------------------------------------------- */

static void add_old_bytes(struct bytes *out, const char *name, ProtobufCBinaryData b)
{
    if (b.len > 0) {
        bytes_printf(out, "%s:", name);
        add_quoted(out, slice_of(b.data, b.len), FORM_OLD);
        bytes_add_str(out, " ");
    }
}

static void add_old_number(struct bytes *out, const char *name, int64_t n)
{
    if (n != 0) {
        bytes_printf(out, "%s:%" PRId64 " ", name, n);
    }
}

static void add_old_flag(struct bytes *out, const char *name, bool on)
{
    if (on) {
        bytes_printf(out, "%s:true ", name);
    }
}

static void add_put(struct bytes *out, const Etcdserverpb__PutRequest *p)
{
    add_old_bytes(out, "key", p->key);
    add_old_number(out, "value_size", (int64_t)p->value.len);
    add_old_number(out, "lease", p->lease);
    add_old_flag(out, "prev_kv", p->prev_kv);
    add_old_flag(out, "ignore_value", p->ignore_value);
    add_old_flag(out, "ignore_lease", p->ignore_lease);
}

static void add_compare(struct bytes *out, const Etcdserverpb__Compare *c)
{
    static const char *const results[] = {NULL, "GREATER", "LESS", "NOT_EQUAL"};
    static const char *const targets[] = {NULL, "CREATE", "MOD", "VALUE", "LEASE"};
    if (c->target_union_case != ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE) {
        add_message(out, &c->base);
        return;
    }
    if (c->result > 0 && (size_t)c->result < ARRAY_LEN(results)) {
        bytes_printf(out, "result:%s ", results[c->result]);
    }
    if (c->target > 0 && (size_t)c->target < ARRAY_LEN(targets)) {
        bytes_printf(out, "target:%s ", targets[c->target]);
    }
    add_old_bytes(out, "key", c->key);
    add_old_number(out, "value_size", (int64_t)c->value.len);
    add_old_bytes(out, "range_end", c->range_end);
}

static void add_txn(struct bytes *out, const Etcdserverpb__TxnRequest *t);

static void add_ops(struct bytes *out, Etcdserverpb__RequestOp *const *ops, size_t n)
{
    for (size_t i = 0; i < n && !is_full(out); i++) {
        bytes_add_str(out, i > 0 ? " " : "");
        if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT) {
            bytes_add_str(out, "request_put:<");
            add_put(out, ops[i]->request_put);
            bytes_add_str(out, ">");
        } else if (ops[i]->request_case == ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN) {
            bytes_add_str(out, "request_txn:<");
            add_txn(out, ops[i]->request_txn);
            bytes_add_str(out, ">");
        } else {
            add_message(out, &ops[i]->base);
        }
    }
}

/* As deep as the request, which is bounded before it is decoded. */
static void add_txn(struct bytes *out, const Etcdserverpb__TxnRequest *t)
{
    bytes_add_str(out, "compare:<");
    for (size_t i = 0; i < t->n_compare && !is_full(out); i++) {
        bytes_add_str(out, i > 0 ? " " : "");
        add_compare(out, t->compare[i]);
    }
    bytes_add_str(out, "> success:<");
    add_ops(out, t->success, t->n_success);
    bytes_add_str(out, "> failure:<");
    add_ops(out, t->failure, t->n_failure);
    bytes_add_str(out, ">");
}

/* Those whose words are etcd's own. False: it is none of them. */
static bool add_redacted(struct bytes *out, const Etcdserverpb__InternalRaftRequest *r)
{
    if (r->lease_grant != NULL) {
        bytes_printf(out, "lease_grant:<ttl:%" PRId64 "-second id:%016" PRIx64 ">", r->lease_grant->ttl, (uint64_t)r->lease_grant->id);
    } else if (r->lease_revoke != NULL) {
        bytes_printf(out, "lease_revoke:<id:%016" PRIx64 ">", (uint64_t)r->lease_revoke->id);
    } else if (r->authenticate != NULL) {
        bytes_printf(out, "authenticate:<name:%s>", r->authenticate->name);
    } else if (r->auth_user_add != NULL) {
        bytes_printf(out, "auth_user_add:<name:%s>", r->auth_user_add->name);
    } else if (r->auth_user_change_password != NULL) {
        bytes_printf(out, "auth_user_change_password:<name:%s>", r->auth_user_change_password->name);
    } else if (r->put != NULL) {
        bytes_add_str(out, "put:<");
        add_put(out, r->put);
        bytes_add_str(out, ">");
    } else if (r->txn != NULL) {
        bytes_add_str(out, "txn:<");
        add_txn(out, r->txn);
        bytes_add_str(out, ">");
    } else {
        return false;
    }
    return true;
}

/* --- public --------------------------------------------------------------------------------------------------------------- */

static void end(struct bytes *out)
{
    if (is_full(out)) {
        out->len = DESCRIBE_BYTES_MAX;
        bytes_add_str(out, "...");
    }
    bytes_add(out, "", 1);
}

void describe_message(const ProtobufCMessage *m, struct bytes *out)
{
    add_message(out, m);
    end(out);
}

void describe_put(const Etcdserverpb__PutRequest *p, struct bytes *out)
{
    add_put(out, p);
    end(out);
}

void describe_txn(const Etcdserverpb__TxnRequest *t, struct bytes *out)
{
    add_txn(out, t);
    end(out);
}

void describe_entry(struct slice entry, struct bytes *out)
{
    bool fits = entry_depth(entry) == OK; /* those that do not are refused, and described all the same */
    Etcdserverpb__InternalRaftRequest *r = fits ? etcdserverpb__internal_raft_request__unpack(NULL, entry.len, entry.data) : NULL;
    if (r != NULL) {
        struct bytes header = {0};
        Etcdserverpb__RequestHeader *h = r->header;
        r->header = NULL; /* it comes first, whatever its number */
        if (h != NULL) {
            add_message(&header, &h->base);
        }
        bytes_add(&header, "", 1);
        size_t at = out->len;
        bytes_printf(out, "header:<%s> ", (const char *)header.data);
        if (!add_redacted(out, r)) {
            out->len = at;
            bytes_printf(out, "header:{%s} ", (const char *)header.data);
            add_message(out, &r->base);
        }
        r->header = h;
        bytes_deinit(&header);
        etcdserverpb__internal_raft_request__free_unpacked(r, NULL);
    }
    end(out);
}
