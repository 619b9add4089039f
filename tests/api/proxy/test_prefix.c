/* Keys under a namespace: where they are in each message, where ranges end, what is hidden, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/proxy/limits.h"
#include "api/proxy/prefix.h"
#include "base/assert.h"
#include "base/wire.h"

/* --- ranges ------------------------------------------------------------------------------------------------------ */

static const struct {
    const char *claim;
    struct slice prefix, key, end, want_key, want_end;
} ranges[] = {
#define S(text) {(const uint8_t *)(text), sizeof(text) - 1}
    {"one key stays one key", S("p/"), S("a"), S(""), S("p/a"), S("")},
    {"an end gets the prefix, too", S("p/"), S("a"), S("c"), S("p/a"), S("p/c")},
    {"an open end is the end of the prefix", S("p/"), S("a"), S("\0"), S("p/a"), S("p0")},
    {"the end carries over 0xff", S("p\xff"), S("a"), S("\0"), S("p\xff" "a"), S("q\0")},
    {"a prefix of 0xff has no end", S("\xff\xff"), S("a"), S("\0"), S("\xff\xff" "a"), S("\0")},
    {"an end that begins with a zero byte is not open", S("p"), S("a"), S("\0z"), S("pa"), S("p\0z")},
    {"no prefix, no change", S(""), S("a"), S("b"), S("a"), S("b")},
    {"no prefix leaves an open end open", S(""), S("a"), S("\0"), S("a"), S("\0")},
};

static void test_ranges(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ranges); i++) {
        struct bytes key = {0};
        struct bytes end = {0};
        prefix_range(ranges[i].prefix, ranges[i].key, ranges[i].end, &key, &end);
        if (!slice_eq(bytes_slice(&key), ranges[i].want_key) || !slice_eq(bytes_slice(&end), ranges[i].want_end)) {
            fail_msg("%s", ranges[i].claim);
        }
        bytes_deinit(&key);
        bytes_deinit(&end);
    }
}

/* --- messages ------------------------------------------------------------------------------------------------------ */

static struct bytes key_value(const char *key, const char *value)
{
    struct bytes b = {0};
    wire_add_bytes(&b, 1, slice_str(key));
    wire_add_int(&b, 3, 7);
    wire_add_bytes(&b, 5, slice_str(value));
    return b;
}

static void add(struct bytes *out, uint32_t field, struct bytes inner)
{
    wire_add_message(out, field, bytes_slice(&inner));
    bytes_deinit(&inner);
}

/* The field `path` (numbers, outermost first, 0 ends) of a message; empty when there is none. */
static struct slice at(struct slice message, const uint32_t *path)
{
    struct wire_field f;
    while (wire_next(&message, &f) == OK) {
        if (f.number == path[0]) {
            return path[1] == 0 ? f.bytes : at(f.bytes, path + 1);
        }
    }
    return slice_of("", 0);
}

#define PATH(...) (const uint32_t[]){__VA_ARGS__, 0}

static void assert_text(struct slice s, const char *want)
{
    if (!slice_eq(s, slice_str(want))) {
        fail_msg("\"%.*s\" instead of \"%s\"", (int)s.len, (const char *)s.data, want);
    }
}

static void test_txn(void **state)
{
    (void)state;
    /* if cmp [x, y) then put k, nested: delete d else get g */
    struct bytes compare = {0};
    wire_add_bytes(&compare, 3, slice_str("x"));
    wire_add_bytes(&compare, 64, slice_str("y"));
    wire_add_bytes(&compare, 7, slice_str("x")); /* the value that it compares with stays */
    struct bytes put = {0};
    add(&put, 2, key_value("k", "v"));
    struct bytes drop = {0};
    add(&drop, 3, key_value("d", ""));
    struct bytes inner = {0};
    add(&inner, 2, drop);
    struct bytes nested = {0};
    add(&nested, 4, inner);
    struct bytes get = {0};
    add(&get, 1, key_value("g", ""));
    struct bytes txn = {0};
    add(&txn, 1, compare);
    add(&txn, 2, put);
    add(&txn, 2, nested);
    add(&txn, 3, get);

    struct bytes out = {0};
    assert_int_equal(prefix_rewrite(PREFIX_TXN, slice_str("ns/"), bytes_slice(&txn), &out), OK);
    struct slice m = bytes_slice(&out);
    assert_text(at(m, PATH(1, 3)), "ns/x");
    assert_text(at(m, PATH(1, 64)), "ns/y");
    assert_text(at(m, PATH(1, 7)), "x");
    assert_text(at(m, PATH(2, 2, 1)), "ns/k");
    assert_text(at(m, PATH(2, 2, 5)), "v");
    assert_text(at(m, PATH(3, 1, 1)), "ns/g");
    struct wire_field f;
    unsigned n = 0;
    for (struct slice rest = m; wire_next(&rest, &f) == OK;) {
        if (f.number == 2 && n++ == 1) {
            assert_text(at(f.bytes, PATH(4, 2, 3, 1)), "ns/d");
        }
    }
    assert_int_equal(n, 2);
    bytes_deinit(&out);
    bytes_deinit(&txn);
}

static void test_replies(void **state)
{
    (void)state;
    static const struct {
        enum prefix_message kind;
        uint32_t path[4]; /* to the key */
    } cases[] = {
        {PREFIX_RANGE_REPLY, {2, 1}},     {PREFIX_PUT_REPLY, {2, 1}},      {PREFIX_DELETE_REPLY, {3, 1}},
        {PREFIX_TXN_REPLY, {3, 1, 2, 1}}, {PREFIX_WATCH_REPLY, {11, 2, 1}}, {PREFIX_WATCH_REPLY, {11, 3, 1}},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        size_t depth = 4;
        while (cases[i].path[depth - 1] == 0) {
            depth--;
        }
        struct bytes b = key_value("ns/key", "ns/value");
        for (size_t d = depth - 1; d > 0; d--) {
            struct bytes outer = {0};
            add(&outer, cases[i].path[d - 1], b);
            b = outer;
        }
        struct bytes out = {0};
        uint32_t path[6] = {0};
        memcpy(path, cases[i].path, depth * sizeof(path[0]));
        assert_int_equal(prefix_rewrite(cases[i].kind, slice_str("ns/"), bytes_slice(&b), &out), OK);
        assert_text(at(bytes_slice(&out), path), "key");
        path[depth - 1] = 5;
        assert_text(at(bytes_slice(&out), path), "ns/value");
        bytes_reset(&out);
        assert_int_equal(prefix_rewrite(cases[i].kind, slice_str("other/"), bytes_slice(&b), &out), ERR_INVALID);
        bytes_deinit(&out);
        bytes_deinit(&b);
    }
}

static void test_leases_show_own_keys(void **state)
{
    (void)state;
    struct bytes b = {0};
    struct bytes out = {0};
    wire_add_int(&b, 2, 99);
    wire_add_bytes(&b, 5, slice_str("other"));
    wire_add_bytes(&b, 5, slice_str("ns/mine"));
    wire_add_bytes(&b, 5, slice_str("n"));
    assert_int_equal(prefix_rewrite(PREFIX_LEASE_REPLY, slice_str("ns/"), bytes_slice(&b), &out), OK);
    struct bytes want = {0};
    wire_add_int(&want, 2, 99);
    wire_add_bytes(&want, 5, slice_str("mine"));
    assert_true(slice_eq(bytes_slice(&out), bytes_slice(&want)));
    bytes_deinit(&want);
    bytes_deinit(&out);
    bytes_deinit(&b);
}

static void test_refused(void **state)
{
    (void)state;
    struct bytes out = {0};
    assert_int_equal(prefix_rewrite(PREFIX_PUT, slice_str("p"), slice_of("", 0), &out), ERR_EMPTY_KEY);
    assert_int_equal(prefix_rewrite(PREFIX_RANGE, slice_str("p"), slice_of("", 0), &out), ERR_EMPTY_KEY);
    assert_int_equal(prefix_rewrite(PREFIX_PUT, slice_str("p"), slice_of("\x0a\x05" "a", 3), &out), ERR_INVALID);
    /* txn { success { txn { ... */
    struct bytes b = {0};
    for (unsigned i = 0; i < 2 * PROXY_NESTING_MAX + 1; i++) {
        struct bytes outer = {0};
        add(&outer, i % 2 == 0 ? 4 : 2, b);
        b = outer;
    }
    struct slice txn = bytes_slice(&b);
    assert_int_equal(prefix_rewrite(PREFIX_REQUEST_OP, slice_str("p"), txn, &out), ERR_INVALID);
    bytes_deinit(&b);
    bytes_deinit(&out);
}

static void note(void *arg, struct slice key, struct slice end)
{
    bytes_printf(arg, "[%.*s %.*s]", (int)key.len, (const char *)key.data, (int)end.len, (const char *)end.data);
}

static void test_ranges_of_a_txn(void **state)
{
    (void)state;
    struct bytes compare = {0};
    wire_add_bytes(&compare, 3, slice_str("c"));
    struct bytes put = {0};
    add(&put, 2, key_value("k", "v"));
    struct bytes range = {0};
    wire_add_bytes(&range, 1, slice_str("d"));
    wire_add_bytes(&range, 2, slice_str("e"));
    struct bytes drop = {0};
    add(&drop, 3, range);
    struct bytes get = {0};
    add(&get, 1, key_value("read", ""));
    struct bytes txn = {0};
    add(&txn, 1, compare);
    add(&txn, 2, put);
    add(&txn, 2, get);
    add(&txn, 3, drop);
    struct bytes seen = {0};
    assert_int_equal(txn_each_range(bytes_slice(&txn), note, &seen), OK);
    assert_text(bytes_slice(&seen), "[c ][k ][d e]");
    bytes_deinit(&seen);
    bytes_deinit(&txn);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),  cmocka_unit_test(test_txn),     cmocka_unit_test(test_replies), cmocka_unit_test(test_leases_show_own_keys),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_ranges_of_a_txn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
