/* Which addresses a new member may have, and what id follows from them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "api/etcd/internal.h"
#include "api/etcd/peer_url.h"

static void test_one_url_is_cleaned_or_refused(void **state)
{
    (void)state;
    static const struct {
        const char *claim, *url, *clean; /* clean NULL: refused */
    } rows[] = {
        {"host and port", "http://10.0.0.1:2380", "http://10.0.0.1:2380"},
        {"https too", "https://db-1.example.com:2380", "https://db-1.example.com:2380"},
        {"blanks around it go", " \thttp://a:1\n", "http://a:1"},
        {"the scheme is written in lower case, the host is not touched", "HTTP://Host:1", "http://Host:1"},
        {"a port may be missing behind its colon", "http://a:", "http://a:"},
        {"a host may be missing before it", "http://:2380", "http://:2380"},
        {"an address of version 6 in brackets", "http://[::1]:2380", "http://[::1]:2380"},
        {"with a zone", "http://[fe80::1%25eth0]:2380", "http://[fe80::1%25eth0]:2380"},
        {"a query is no path", "http://a:1?x=y", "http://a:1?x=y"},
        {"a user before the host", "http://u:p@a:1", "http://u:p@a:1"},
        {"a socket's path", "unix:///run/a.sock", "unix:///run/a.sock"},
        {"a socket as etcd's tests name it", "unix://localhost:m0", "unix://localhost:m0"},
        {"a socket with TLS", "unixs://a:1", "unixs://a:1"},
        {"no port", "http://a", NULL},
        {"a port that is no number", "http://a:x", NULL},
        {"a path", "http://a:1/x", NULL},
        {"the shortest path", "http://a:1/", NULL},
        {"no scheme", "a:1", NULL},
        {"nothing but a host", "10.0.0.1", NULL},
        {"another scheme", "ftp://a:1", NULL},
        {"no slashes", "http:a:1", NULL},
        {"one slash", "http:/a:1", NULL},
        {"a colon too many", "http://a:b:1", NULL},
        {"version 6 without brackets", "http://::1:2380", NULL},
        {"a bracket that stays open", "http://[::1:2380", NULL},
        {"a blank in it", "http://a b:1", NULL},
        {"a control character", "http://a\x01:1", NULL},
        {"a percent sign in a name", "http://a%20:1", NULL},
        {"nothing", "", NULL},
        {"only blanks", "   ", NULL},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char out[128];
        bool ok = peer_url_clean(rows[i].url, out);
        if (ok != (rows[i].clean != NULL) || (ok && strcmp(out, rows[i].clean) != 0)) {
            fail_msg("%s: \"%s\" gave %s", rows[i].claim, rows[i].url, ok ? out : "a refusal");
        }
    }
}

static void test_a_request_needs_one_to_many_good_urls(void **state)
{
    (void)state;
    struct arena *a = arena_create(4096, 1u << 20);
    const char *const *out = NULL;
    char *two[] = {(char[]){"http://b:2"}, (char[]){" http://a:1 "}};
    assert_int_equal(peer_urls_clean(two, 2, a, &out), OK);
    assert_string_equal(out[0], "http://a:1");
    assert_string_equal(out[1], "http://b:2");
    assert_null(out[2]);
    assert_int_equal(peer_urls_clean(two, 0, a, &out), ERR_INVALID);
    char *mixed[] = {two[0], (char[]){"b"}};
    assert_int_equal(peer_urls_clean(mixed, 2, a, &out), ERR_INVALID);
    char *many[MEMBER_URLS_ASKED_MAX + 1];
    for (size_t i = 0; i < ARRAY_LEN(many); i++) {
        many[i] = two[0];
    }
    assert_int_equal(peer_urls_clean(many, MEMBER_URLS_ASKED_MAX, a, &out), OK);
    assert_int_equal(peer_urls_clean(many, MEMBER_URLS_ASKED_MAX + 1, a, &out), ERR_INVALID);
    char *long_url = arena_calloc(a, MEMBER_URL_BYTES_MAX + 2, 1);
    memset(long_url, 'a', MEMBER_URL_BYTES_MAX + 1);
    memcpy(long_url, "unix://", 7);
    assert_int_equal(peer_urls_clean(&long_url, 1, a, &out), ERR_INVALID);
    long_url[MEMBER_URL_BYTES_MAX] = '\0';
    assert_int_equal(peer_urls_clean(&long_url, 1, a, &out), OK);
    arena_destroy(&a);
}

static void test_an_update_is_only_sorted(void **state)
{
    (void)state;
    struct arena *a = arena_create(4096, 1u << 20);
    char *urls[] = {(char[]){"z"}, (char[]){""}, (char[]){"no url"}};
    const char *const *out = peer_urls_sorted(urls, 3, a);
    assert_string_equal(out[0], "");
    assert_string_equal(out[1], "no url");
    assert_string_equal(out[2], "z");
    assert_null(out[3]);
    out = peer_urls_sorted(NULL, 0, a);
    assert_null(out[0]);
    arena_destroy(&a);
}

/* The same numbers come from: printf '%s' <urls><seconds> | sha1sum | head -c 16 */
static void test_an_id_is_the_head_of_a_sha1(void **state)
{
    (void)state;
    const char *const one[] = {"http://127.0.0.1:23801", NULL};
    const char *const two[] = {"http://127.0.0.1:2380", "https://127.0.0.1:2381", NULL};
    assert_int_equal(member_id_compute(one, 1700000000), 0x1549c914482f567cu);
    assert_int_equal(member_id_compute(one, 1700000001), 0x22957bd1911710a9u);
    assert_int_equal(member_id_compute(two, 1700000000), 0x8af5448d25c9b520u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_url_is_cleaned_or_refused),
        cmocka_unit_test(test_a_request_needs_one_to_many_good_urls),
        cmocka_unit_test(test_an_update_is_only_sorted),
        cmocka_unit_test(test_an_id_is_the_head_of_a_sha1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
