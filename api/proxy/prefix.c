/* prefix.c - see prefix.h.
 *
 * Each kind of message says which fields are messages of which kind, and which hold a key and its range's end. Those two go out last, since one
 * depends on the other; protobuf leaves the order open.
 */
#include "api/proxy/prefix.h"

#include "api/proxy/limits.h"
#include "base/mem.h"
#include "base/wire.h"

#define FIELDS_MAX 4u

struct shape {
    struct {
        uint32_t number;
        enum prefix_message kind;
    } inner[FIELDS_MAX]; /* number 0: no more */
    uint32_t key, end;   /* of a request; 0: none */
    uint32_t strip;      /* a key of an answer; 0: none */
    bool others_are_hidden; /* keys without the prefix are left out */
};

static const struct shape shapes[PREFIX_MESSAGES] = {
    [PREFIX_RANGE] = {.key = 1, .end = 2},
    [PREFIX_PUT] = {.key = 1},
    [PREFIX_DELETE] = {.key = 1, .end = 2},
    [PREFIX_TXN] = {.inner = {{1, PREFIX_COMPARE}, {2, PREFIX_REQUEST_OP}, {3, PREFIX_REQUEST_OP}}},
    [PREFIX_COMPARE] = {.key = 3, .end = 64},
    [PREFIX_REQUEST_OP] = {.inner = {{1, PREFIX_RANGE}, {2, PREFIX_PUT}, {3, PREFIX_DELETE}, {4, PREFIX_TXN}}},
    [PREFIX_WATCH] = {.key = 1, .end = 2},
    [PREFIX_RANGE_REPLY] = {.inner = {{2, PREFIX_KEY_VALUE}}},
    [PREFIX_PUT_REPLY] = {.inner = {{2, PREFIX_KEY_VALUE}}},
    [PREFIX_DELETE_REPLY] = {.inner = {{3, PREFIX_KEY_VALUE}}},
    [PREFIX_TXN_REPLY] = {.inner = {{3, PREFIX_RESPONSE_OP}}},
    [PREFIX_RESPONSE_OP] = {.inner = {{1, PREFIX_RANGE_REPLY}, {2, PREFIX_PUT_REPLY}, {3, PREFIX_DELETE_REPLY}, {4, PREFIX_TXN_REPLY}}},
    [PREFIX_WATCH_REPLY] = {.inner = {{11, PREFIX_EVENT}}},
    [PREFIX_EVENT] = {.inner = {{2, PREFIX_KEY_VALUE}, {3, PREFIX_KEY_VALUE}}},
    [PREFIX_KEY_VALUE] = {.strip = 1},
    [PREFIX_LEASE_REPLY] = {.strip = 5, .others_are_hidden = true},
};

static bool is_open_end(struct slice end)
{
    return end.len == 1 && end.data[0] == 0;
}

static void add(struct bytes *out, struct slice s)
{
    if (s.len > 0) {
        bytes_add(out, s.data, s.len);
    }
}

/* The first key behind all that begin with the prefix: the next sibling of its longest part that has one. */
static void add_end_of(struct slice prefix, struct bytes *out)
{
    size_t n = prefix.len;
    while (n > 0 && prefix.data[n - 1] == 0xff) {
        n--;
    }
    if (n == 0) {
        bytes_add(out, "", 1); /* there is none: open */
        return;
    }
    size_t at = out->len;
    add(out, prefix);
    out->data[at + n - 1]++;
    memset(out->data + at + n, 0, prefix.len - n);
}

void prefix_range(struct slice prefix, struct slice key, struct slice end, struct bytes *key_out, struct bytes *end_out)
{
    add(key_out, prefix);
    add(key_out, key);
    if (is_open_end(end)) {
        add_end_of(prefix, end_out);
    } else if (end.len > 0) {
        add(end_out, prefix);
        add(end_out, end);
    }
}

static void add_field(struct bytes *out, const struct wire_field *f)
{
    switch (f->type) {
    case WIRE_VARINT: {
        uint8_t *p = bytes_reserve(out, 2 * WIRE_VARINT_MAX);
        out->len += (size_t)(wire_put_varint(wire_put_tag(p, f->number, f->type), f->value) - p);
        return;
    }
    case WIRE_LEN:
        wire_add_message(out, f->number, f->bytes);
        return;
    case WIRE_I64:
    case WIRE_I32: {
        uint8_t *p = bytes_reserve(out, WIRE_VARINT_MAX + sizeof(f->value));
        uint8_t *q = wire_put_tag(p, f->number, f->type);
        for (size_t i = 0; i < (f->type == WIRE_I64 ? 8u : 4u); i++) {
            *q++ = (uint8_t)(f->value >> (8 * i));
        }
        out->len += (size_t)(q - p);
        return;
    }
    }
}

static enum err rewrite(enum prefix_message kind, struct slice prefix, struct slice message, struct bytes *out, unsigned depth);

/* A message within: its length is known only once it is written. */
static enum err rewrite_inner(enum prefix_message kind, struct slice prefix, const struct wire_field *f, struct bytes *out, unsigned depth)
{
    struct bytes inner = {0};
    enum err e = rewrite(kind, prefix, f->bytes, &inner, depth);
    if (e == OK) {
        wire_add_message(out, f->number, bytes_slice(&inner));
    }
    bytes_deinit(&inner);
    return e;
}

static bool has_prefix(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len && memcmp(s.data, prefix.data, prefix.len) == 0;
}

static enum err strip(const struct shape *shape, struct slice prefix, const struct wire_field *f, struct bytes *out)
{
    if (has_prefix(f->bytes, prefix)) {
        wire_add_message(out, f->number, slice_of(f->bytes.data + prefix.len, f->bytes.len - prefix.len));
        return OK;
    }
    return shape->others_are_hidden ? OK : ERR_INVALID;
}

static const enum prefix_message *inner_kind(const struct shape *shape, const struct wire_field *f)
{
    for (size_t i = 0; i < FIELDS_MAX && shape->inner[i].number != 0; i++) {
        if (shape->inner[i].number == f->number && f->type == WIRE_LEN) {
            return &shape->inner[i].kind;
        }
    }
    return NULL;
}

static enum err rewrite(enum prefix_message kind, struct slice prefix, struct slice message, struct bytes *out, unsigned depth)
{
    const struct shape *shape = &shapes[kind];
    struct slice key = {0};
    struct slice end = {0};
    struct wire_field f;
    enum err e;
    if (depth > 2 * PROXY_NESTING_MAX) { /* an op and its txn make two */
        return ERR_INVALID;
    }
    while ((e = wire_next(&message, &f)) == OK) {
        const enum prefix_message *inner = inner_kind(shape, &f);
        if (inner != NULL) {
            e = rewrite_inner(*inner, prefix, &f, out, depth + 1);
        } else if (shape->key != 0 && f.number == shape->key && f.type == WIRE_LEN) {
            key = f.bytes;
        } else if (shape->end != 0 && f.number == shape->end && f.type == WIRE_LEN) {
            end = f.bytes;
        } else if (shape->strip != 0 && f.number == shape->strip && f.type == WIRE_LEN) {
            e = strip(shape, prefix, &f, out);
        } else {
            add_field(out, &f);
        }
        if (e != OK) {
            return e;
        }
    }
    if (e != ERR_END || shape->key == 0) {
        return e == ERR_END ? OK : e;
    }
    if (key.len == 0 && depth == 0 && kind != PREFIX_WATCH) {
        return ERR_EMPTY_KEY;
    }
    struct bytes k = {0};
    struct bytes x = {0};
    prefix_range(prefix, key, end, &k, &x);
    wire_add_bytes(out, shape->key, bytes_slice(&k));
    if (shape->end != 0) {
        wire_add_bytes(out, shape->end, bytes_slice(&x));
    }
    bytes_deinit(&k);
    bytes_deinit(&x);
    return OK;
}

enum err prefix_rewrite(enum prefix_message kind, struct slice prefix, struct slice message, struct bytes *out)
{
    return rewrite(kind, prefix, message, out, 0);
}

/* --- which ranges a txn touches ------------------------------------------------------------------------------- */

struct each {
    void (*fn)(void *arg, struct slice key, struct slice end);
    void *arg;
};

static enum err walk(enum prefix_message kind, struct slice message, const struct each *each, unsigned depth)
{
    const struct shape *shape = &shapes[kind];
    struct slice key = {0};
    struct slice end = {0};
    struct wire_field f;
    enum err e;
    if (depth > 2 * PROXY_NESTING_MAX) {
        return ERR_INVALID;
    }
    while ((e = wire_next(&message, &f)) == OK) {
        const enum prefix_message *inner = inner_kind(shape, &f);
        if (inner != NULL) {
            e = walk(*inner, f.bytes, each, depth + 1);
        } else if (f.type == WIRE_LEN && f.number == shape->key) {
            key = f.bytes;
        } else if (f.type == WIRE_LEN && f.number == shape->end) {
            end = f.bytes;
        }
        if (e != OK) {
            return e;
        }
    }
    if (e != ERR_END) {
        return e;
    }
    if (shape->key != 0 && kind != PREFIX_RANGE) {
        each->fn(each->arg, key, end);
    }
    return OK;
}

enum err txn_each_range(struct slice txn, void (*fn)(void *arg, struct slice key, struct slice end), void *arg)
{
    const struct each each = {fn, arg};
    return walk(PREFIX_TXN, txn, &each, 0);
}
