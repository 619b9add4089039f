/* Every method has its path in the gateway, and every path a method of the same kind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/etcd/waiter.h"
#include "api/gateway/routes.h"
#include "base/assert.h"

static const struct grpc_method *const tables[] = {kv_methods,          watch_methods, lease_methods, cluster_methods,
                                                   maintenance_methods, auth_methods,  lock_methods,  election_methods};

static const struct grpc_method *find_method(const char *path)
{
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct grpc_method *m = tables[t]; m->path != NULL; m++) {
            if (strcmp(m->path, path) == 0) {
                return m;
            }
        }
    }
    return NULL;
}

static void test_routes_have_methods(void **state)
{
    (void)state;
    for (const struct route *r = gateway_routes; r->path != NULL; r++) {
        const struct grpc_method *m = find_method(r->method);
        if (m == NULL) {
            fail_msg("%s has no method", r->method);
        } else {
            assert_int_equal(m->kind, r->kind);
        }
    }
}

static void test_methods_have_routes(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(tables); t++) {
        for (const struct grpc_method *m = tables[t]; m->path != NULL; m++) {
            unsigned n = 0;
            for (const struct route *r = gateway_routes; r->path != NULL; r++) {
                n += strcmp(r->method, m->path) == 0;
            }
            if (strcmp(m->path, "/etcdserverpb.KV/RangeStream") == 0) {
                assert_int_equal(n, 0);
            } else if (n == 0) {
                fail_msg("%s has no path", m->path);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_routes_have_methods), cmocka_unit_test(test_methods_have_routes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
