/* Cross-origin headers and the list of hosts; the table of routes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/gateway/access.h"
#include "api/gateway/gateway.h"
#include "api/gateway/limits.h"
#include "api/gateway/routes.h"
#include "base/assert.h"

static const char *const none[] = {NULL};
static const char *const all[] = {"*", NULL};
static const char *const two[] = {"http://a.example", "http://b.example:80", NULL};
static const char *const two_and_all[] = {"http://a.example", "*", NULL};

static void test_cors(void **state)
{
    (void)state;
    static const struct {
        const char *const *list;
        const char *origin, *allowed;
    } rows[] = {
        {NULL, "", "*"},
        {none, "http://x", "*"},
        {all, "", "*"},
        {all, "http://x", "*"},
        {two_and_all, "http://a.example", "*"},
        {two, "http://a.example", "http://a.example"},
        {two, "http://b.example:80", "http://b.example:80"},
        {two, "http://b.example", NULL},
        {two, "HTTP://a.example", NULL},
        {two, "", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct bytes b = {0};
        char want[256] = "";
        if (rows[i].allowed != NULL) {
            (void)snprintf(want, sizeof(want),
                           "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\nAccess-Control-Allow-Origin: %s\r\n"
                           "Access-Control-Allow-Headers: accept, content-type, authorization\r\n",
                           rows[i].allowed);
        }
        access_cors(rows[i].list, rows[i].origin, &b);
        assert_true(slice_eq(bytes_slice(&b), slice_str(want)));
        bytes_deinit(&b);
    }
}

static void test_hosts(void **state)
{
    (void)state;
    static const char *const list[] = {"a.example", "10.0.0.1", "::1", NULL};
    static const struct {
        const char *header, *host;
        bool allowed;
    } rows[] = {
        {"a.example", "a.example", true},
        {"a.example:2379", "a.example", true},
        {"10.0.0.1:2379", "10.0.0.1", true},
        {"[::1]:2379", "::1", true},
        {"[::1]", "[::1]", false},
        {"::1", "::1", true},
        {"b.example:2379", "b.example", false},
        {"A.example", "A.example", false},
        {"", "", false},
        {":2379", "", false},
        {"a.example:1:2", "a.example:1:2", false},
        {"a.example.evil", "a.example.evil", false},
        {"[a.example:2379", "[a.example:2379", false},
        {"[]:1", "", false},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        assert_true(slice_eq(access_host(rows[i].header), slice_str(rows[i].host)));
        assert_int_equal(access_host_allowed(list, rows[i].header), rows[i].allowed);
        assert_true(access_host_allowed(NULL, rows[i].header));
        assert_true(access_host_allowed(none, rows[i].header));
        assert_true(access_host_allowed(all, rows[i].header));
    }
    struct bytes b = {0};
    access_host_refusal("evil\"\x01.example:1", &b);
    bytes_add(&b, "", 1);
    assert_memory_equal(b.data, "\netcd received your request, but the Host header was unrecognized.\n", 67);
    assert_non_null(strstr((const char *)b.data, "etcd --host-whitelist \"evil\\\"\\x01.example\"\n"));
    assert_non_null(strstr((const char *)b.data, "CVE-2018-5702"));
    bytes_deinit(&b);
}

/* The mapping knows every type of field that a routed message can have, however deep. */
static void check_fields(const ProtobufCMessageDescriptor *d, unsigned depth)
{
    assert_true(d->n_fields <= JSON_FIELDS_MAX);
    for (unsigned i = 0; i < d->n_fields && depth < 8; i++) {
        ProtobufCType t = d->fields[i].type;
        assert_true(t == PROTOBUF_C_TYPE_INT32 || t == PROTOBUF_C_TYPE_INT64 || t == PROTOBUF_C_TYPE_UINT32 || t == PROTOBUF_C_TYPE_UINT64 ||
                    t == PROTOBUF_C_TYPE_BOOL || t == PROTOBUF_C_TYPE_ENUM || t == PROTOBUF_C_TYPE_STRING || t == PROTOBUF_C_TYPE_BYTES ||
                    t == PROTOBUF_C_TYPE_MESSAGE);
        if (t == PROTOBUF_C_TYPE_MESSAGE) {
            check_fields(d->fields[i].descriptor, depth + 1);
        }
    }
}

static void test_routes(void **state)
{
    (void)state;
    size_t n = 0;
    for (const struct route *r = gateway_routes; r->path != NULL; r++, n++) {
        assert_ptr_equal(route_find(r->path), r); /* no path twice */
        assert_true(gateway_takes(r->path));
        check_fields(r->request, 0);
        check_fields(r->response, 0);
        /* The messages are the method's: of its package. */
        const char *slash = strrchr(r->method, '/');
        size_t package = strcspn(r->method + 1, ".");
        assert_non_null(slash);
        assert_int_equal(strncmp(r->request->name, r->method + 1, package), 0);
        assert_int_equal(strncmp(r->response->name, r->method + 1, package), 0);
    }
    assert_int_equal(n, 51);
    assert_null(route_find("/v3/kv"));
    assert_null(route_find("/v3/kv/put/"));
    assert_true(gateway_takes("/v3beta/kv/put"));
    assert_false(gateway_takes("/v3alpha/kv/put"));
    assert_false(gateway_takes("/version"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_cors), cmocka_unit_test(test_hosts), cmocka_unit_test(test_routes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
