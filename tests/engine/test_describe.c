/* What requests say in logs: etcd's text, no values, no passwords, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/proto/raft_internal.pb-c.h"
#include "base/mem.h"
#include "engine/describe.h"

static ProtobufCBinaryData bin(const char *s, size_t n)
{
    return (ProtobufCBinaryData){.data = (uint8_t *)(uintptr_t)s, .len = n};
}

static void test_quotes(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        size_t len;
        const char *today, *old;
    } rows[] = {
        {"key", 3, "key:\"key\"", "key:\"key\" "},
        {"\0\xff\"\\\n", 5, "key:\"\\x00\\xff\\\"\\\\\\n\"", "key:\"\\000\\377\\\"\\\\\\n\" "},
        {"\xe2\x9c\x93", 3, "key:\"\xe2\x9c\x93\"", "key:\"\\342\\234\\223\" "},
        {"\xc2\x85", 2, "key:\"\\u0085\"", "key:\"\\302\\205\" "},
        {"\xe2\x9c", 2, "key:\"\\xe2\\x9c\"", "key:\"\\342\\234\" "},       /* broken off */
        {"\xed\xa0\x80", 3, "key:\"\\xed\\xa0\\x80\"", "key:\"\\355\\240\\200\" "}, /* a surrogate */
        {"\xc0\x80", 2, "key:\"\\xc0\\x80\"", "key:\"\\300\\200\" "},       /* too long a form */
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;
        Etcdserverpb__PutRequest p = ETCDSERVERPB__PUT_REQUEST__INIT;
        struct bytes today = {0}, old = {0};
        r.key = p.key = bin(rows[i].key, rows[i].len);
        describe_message(&r.base, &today);
        describe_put(&p, &old);
        assert_string_equal((const char *)today.data, rows[i].today);
        assert_string_equal((const char *)old.data, rows[i].old);
        bytes_deinit(&today);
        bytes_deinit(&old);
    }
}

static void test_entries(void **state)
{
    (void)state;
    Etcdserverpb__RequestHeader h = ETCDSERVERPB__REQUEST_HEADER__INIT;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__AuthUserAddRequest u = ETCDSERVERPB__AUTH_USER_ADD_REQUEST__INIT;
    uint8_t bytes[256];
    struct bytes text = {0};
    char name[] = "u", password[] = "secret";
    h.id = 7;
    u.name = name;
    u.password = password;
    r.header = &h;
    r.auth_user_add = &u;
    size_t n = etcdserverpb__internal_raft_request__pack(&r, bytes);
    describe_entry(slice_of(bytes, n), &text);
    assert_string_equal((const char *)text.data, "header:<ID:7> auth_user_add:<name:u>");
    bytes_deinit(&text);
    describe_entry(slice_of("\xff", 1), &text);
    assert_string_equal((const char *)text.data, "");
    bytes_deinit(&text);
}

static void test_bound(void **state)
{
    (void)state;
    size_t n = 2u * DESCRIBE_BYTES_MAX;
    char *key = xcalloc(1, n);
    Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;
    struct bytes text = {0};
    r.key = r.range_end = bin(key, n);
    describe_message(&r.base, &text);
    assert_int_equal(text.len, DESCRIBE_BYTES_MAX + 4);
    assert_string_equal((const char *)text.data + DESCRIBE_BYTES_MAX, "...");
    bytes_deinit(&text);
    free(key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_quotes), cmocka_unit_test(test_entries), cmocka_unit_test(test_bound)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
