/* The store of older etcds, byte for byte as their JSON reader wants it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/peer/old_store.h"

#define TIME "\"ExpireTime\":\"0001-01-01T00:00:00Z\""
#define FOLDER(path, index) "{\"Path\":\"" path "\",\"CreatedIndex\":" index ",\"ModifiedIndex\":" index "," TIME ",\"Value\":\"\",\"Children\":{"
#define FILE_OF(path, value) "{\"Path\":\"" path "\",\"CreatedIndex\":9,\"ModifiedIndex\":9," TIME ",\"Value\":\"" value "\",\"Children\":null}"
#define Q "\\u0022"

static void test_members_and_version(void **state)
{
    (void)state;
    char *peers[] = {"http://a:1", "http://b:1", NULL};
    char *clients[] = {"http://a:2", NULL};
    char name[] = "m\"1";
    const struct member_info members[] = {
        {.id = 0xab, .name = name, .peer_urls = peers, .client_urls = clients},
        {.id = 0x1000, .peer_urls = clients, .is_learner = true},
    };
    struct bytes out = {0};
    old_store_encode(members, 2, "3.6.0", 9, &out);
    bytes_add(&out, "", 1);
    assert_string_equal(
        (const char *)out.data,
        "{\"Root\":" FOLDER("/", "0") "\"0\":" FOLDER("/0", "0") "\"members\":" FOLDER("/0/members", "0") "\"ab\":" FOLDER("/0/members/ab", "9")
        "\"raftAttributes\":" FILE_OF("/0/members/ab/raftAttributes", "{" Q "peerURLs" Q ":[" Q "http://a:1" Q "," Q "http://b:1" Q "]}")
        ",\"attributes\":" FILE_OF("/0/members/ab/attributes", "{" Q "name" Q ":" Q "m\\u005cu00221" Q "," Q "clientURLs" Q ":[" Q "http://a:2" Q "]}")
        "}},\"1000\":" FOLDER("/0/members/1000", "9") "\"raftAttributes\":"
        FILE_OF("/0/members/1000/raftAttributes", "{" Q "peerURLs" Q ":[" Q "http://a:2" Q "]," Q "isLearner" Q ":true}")
        "}}}},\"version\":" FILE_OF("/0/version", "3.6.0") "}},\"1\":" FOLDER("/1", "0") "}}}},\"CurrentIndex\":9,\"CurrentVersion\":2}");
    bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_members_and_version),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
