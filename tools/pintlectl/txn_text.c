/* txn_text.c - target("key") op "value", as Go's Sscanf with "%q) %s %q" reads it. */
#include "tools/pintlectl/txn_text.h"

#include <string.h>

#include "base/assert.h"
#include "tools/cli/flags.h"
#include "tools/cli/text.h"

struct parts {
    struct slice target;
    struct bytes key, op, value; /* owned */
    bool whole;
};

static size_t blanks(struct slice s, size_t at)
{
    while (at < s.len && (s.data[at] == ' ' || s.data[at] == '\t')) {
        at++;
    }
    return at;
}

/* Read a quoted text after blanks; returns where it ends, SIZE_MAX when it is none. */
static size_t take_quoted(struct slice s, size_t at, struct bytes *out)
{
    size_t used = 0;
    at = blanks(s, at);
    if (text_unquote(slice_of(s.data + at, s.len - at), out, &used) != OK) {
        bytes_reset(out);
        return SIZE_MAX;
    }
    return at + used;
}

static void split(const char *line, struct parts *p)
{
    const char *open = strchr(line, '(');
    p->target = slice_of(line, (size_t)(open - line));
    struct slice rest = slice_str(open + 1);
    size_t at = take_quoted(rest, 0, &p->key);
    if (at == SIZE_MAX || at >= rest.len || rest.data[at] != ')') {
        return;
    }
    size_t start = blanks(rest, at + 1);
    if (start == at + 1) {
        return; /* Sscanf wants a blank here */
    }
    at = start;
    while (at < rest.len && rest.data[at] != ' ' && rest.data[at] != '\t') {
        at++;
    }
    bytes_add(&p->op, rest.data + start, at - start);
    p->whole = p->op.len > 0 && take_quoted(rest, at, &p->value) != SIZE_MAX;
}

static enum err malformed(struct bytes *why, const char *line, const struct parts *p)
{
    bytes_printf(why, "malformed comparison: %s; got %.*s(", line, (int)p->target.len,
                 (const char *)p->target.data);
    text_quote(why, bytes_slice(&p->key));
    bytes_printf(why, ") %.*s ", (int)p->op.len, p->op.len == 0 ? "" : (const char *)p->op.data);
    text_quote(why, bytes_slice(&p->value));
    return ERR_INVALID;
}

static bool is(struct slice s, const char *a, const char *b)
{
    return slice_eq(s, slice_str(a)) || slice_eq(s, slice_str(b));
}

static bool set_result(struct slice op, Etcdserverpb__Compare *out)
{
    static const char *const ops[] = {[ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL] = "=",
                                      [ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER] = ">",
                                      [ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS] = "<",
                                      [ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL] = "!="};
    for (size_t i = 0; i < ARRAY_LEN(ops); i++) {
        if (slice_eq(op, slice_str(ops[i]))) {
            out->result = (Etcdserverpb__Compare__CompareResult)i;
            return true;
        }
    }
    return false;
}

/* A number, or the bytes of a value. false: no such target. */
static bool set_target(struct arena *a, const struct parts *p, Etcdserverpb__Compare *out,
                       enum err *e)
{
    char *value = cli_dup(a, p->value.data, p->value.len);
    bool hex = slice_eq(p->target, slice_str("lease"));
    if (is(p->target, "val", "value")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
        out->value = (ProtobufCBinaryData){p->value.len, (uint8_t *)value};
        return true;
    }
    if (is(p->target, "ver", "version")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION;
    } else if (is(p->target, "c", "create")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION;
    } else if (is(p->target, "m", "mod")) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION;
    } else if (hex) {
        out->target = ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE;
        out->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE;
    } else {
        return false;
    }
    *e = text_int(value, hex ? 16 : 10, &out->version, NULL); /* the numbers share one place */
    return true;
}

static enum err compare_parts(struct arena *a, const char *line, const struct parts *p,
                              Etcdserverpb__Compare *out, struct bytes *why)
{
    enum err e = OK;
    etcdserverpb__compare__init(out);
    if (!p->whole) {
        return malformed(why, line, p);
    }
    if (!set_target(a, p, out, &e)) {
        bytes_printf(why, "malformed comparison: %s (unknown target %.*s)", line,
                     (int)p->target.len, (const char *)p->target.data);
        return ERR_INVALID;
    }
    if (e != OK) {
        bytes_printf(why, "invalid txn compare request: %s", line);
        return ERR_INVALID;
    }
    if (!set_result(bytes_slice(&p->op), out)) {
        bytes_printf(why, "malformed comparison: %s", line);
        return ERR_INVALID;
    }
    out->key = (ProtobufCBinaryData){p->key.len, (uint8_t *)cli_dup(a, p->key.data, p->key.len)};
    return OK;
}

enum err txn_compare(struct arena *a, const char *line, Etcdserverpb__Compare *out,
                     struct bytes *why)
{
    struct parts p = {0};
    if (strchr(line, '(') == NULL) {
        bytes_printf(why, "malformed comparison: %s", line);
        return ERR_INVALID;
    }
    split(line, &p);
    enum err e = compare_parts(a, line, &p, out, why);
    bytes_deinit(&p.key);
    bytes_deinit(&p.op);
    bytes_deinit(&p.value);
    return e;
}
