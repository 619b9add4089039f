/* test_headers.c - requests between members: what is asked, what is refused and how, what answers
 * mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/peer/headers.h"

#define CLUSTER UINT64_C(0x7e27652122e8b2ae)
#define SELF UINT64_C(0x8211f1d0f64f3269)
#define OTHER UINT64_C(0x91bc3c398fb3c146)
#define GONE UINT64_C(0xfd422379fda50e48)

static struct peer_identity identity(void)
{
    struct peer_identity id;
    assert_int_equal(peer_identity_init(&id, CLUSTER, SELF, "3.7.0", "http://a:1,http://b:2"), OK);
    return id;
}

static bool removed(void *arg, uint64_t id)
{
    (void)arg;
    return id == GONE;
}

static bool known(void *arg, uint64_t id)
{
    (void)arg;
    return id == OTHER;
}

static const struct peer_directory directory = {NULL, removed, known};

static void test_versions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum err e;
        struct peer_version v;
    } rows[] = {
        {"3.4.23", OK, {3, 4, 23}},
        {"3.8.0-alpha.0+git", OK, {3, 8, 0}},
        {"v3.7", OK, {3, 7, 0}},
        {"3", OK, {3, 0, 0}},
        {"", ERR_INVALID, {0}},
        {"3.", ERR_INVALID, {0}},
        {"3.4.5.6", ERR_INVALID, {0}},
        {"a.b.c", ERR_INVALID, {0}},
        {"4294967296.0", ERR_INVALID, {0}},
        {"3.4x", ERR_INVALID, {0}},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer_version v = {0};
        assert_int_equal(peer_version_parse(slice_str(rows[i].text), &v), rows[i].e);
        assert_memory_equal(&v, &rows[i].v, sizeof(v));
    }
    const struct peer_version a = {3, 4, 9};
    const struct peer_version b = {3, 4, 0};
    const struct peer_version c = {3, 10, 0};
    assert_int_equal(peer_version_cmp(a, b), 0);
    assert_true(peer_version_cmp(a, c) < 0);
    assert_true(peer_version_cmp((struct peer_version){4, 0, 0}, c) > 0);
}

static void test_ids(void **state)
{
    (void)state;
    uint64_t id = 0;
    char text[PEER_ID_TEXT_BYTES];
    assert_int_equal(peer_id_parse(slice_str("8211F1d0f64f3269"), &id), OK);
    assert_int_equal(id, SELF);
    peer_id_format(SELF, text);
    assert_string_equal(text, "8211f1d0f64f3269");
    peer_id_format(0xab, text);
    assert_string_equal(text, "ab");
    assert_int_equal(peer_id_parse(slice_str("00000000000000000001"), &id), OK);
    assert_int_equal(id, 1);
    assert_int_equal(peer_id_parse(slice_str("10000000000000000"), &id), ERR_INVALID);
    assert_int_equal(peer_id_parse(slice_str(""), &id), ERR_INVALID);
    assert_int_equal(peer_id_parse(slice_str("12g"), &id), ERR_INVALID);
}

static const char *header(const struct peer_ask *ask, const char *name)
{
    for (size_t i = 0; i < ask->n_headers; i++) {
        if (strcmp(ask->headers[i].name, name) == 0) {
            return ask->headers[i].value;
        }
    }
    return "";
}

static void test_ask(void **state)
{
    (void)state;
    struct peer_identity self = identity();
    struct peer_ask ask;
    peer_ask_stream(&self, PEER_STREAM_APPEND, OTHER, &ask);
    assert_string_equal(ask.method, "GET");
    assert_string_equal(ask.path, "/raft/stream/msgapp/8211f1d0f64f3269");
    assert_string_equal(header(&ask, "X-Server-From"), "8211f1d0f64f3269");
    assert_string_equal(header(&ask, "X-Server-Version"), "3.7.0");
    assert_string_equal(header(&ask, "X-Min-Cluster-Version"), "3.0.0");
    assert_string_equal(header(&ask, "X-Etcd-Cluster-ID"), "7e27652122e8b2ae");
    assert_string_equal(header(&ask, "X-Raft-To"), "91bc3c398fb3c146");
    assert_string_equal(header(&ask, "X-PeerURLs"), "http://a:1,http://b:2");
    assert_string_equal(header(&ask, "X-Pintle-Extras"), "1");
    peer_ask_stream(&self, PEER_STREAM_MESSAGE, OTHER, &ask);
    assert_string_equal(ask.path, "/raft/stream/message/8211f1d0f64f3269");
    peer_ask_post(&self, false, &ask);
    assert_string_equal(ask.method, "POST");
    assert_string_equal(ask.path, "/raft");
    assert_string_equal(header(&ask, "Content-Type"), "application/protobuf");
    assert_string_equal(header(&ask, "X-Raft-To"), "");
    self.urls = "";
    peer_ask_post(&self, true, &ask);
    assert_string_equal(ask.path, "/raft/snapshot");
    assert_string_equal(header(&ask, "Content-Type"), "application/octet-stream");
    assert_string_equal(header(&ask, "X-PeerURLs"), "");
}

#define MESSAGE_PATH "/raft/stream/message/91bc3c398fb3c146"
#define ME "8211f1d0f64f3269"
#define OURS "7e27652122e8b2ae"

static const struct request_case {
    const char *name;
    const char *method;
    const char *path;
    const char *cluster;
    const char *version;
    const char *min_cluster;
    const char *to;
    unsigned status;
    const char *body;
    enum peer_refusal refusal;
} requests[] = {
    {"a stream", "GET", MESSAGE_PATH, OURS, "3.4.23", "3.0.0", ME, 200, "", PEER_ACCEPTED},
    {"an append stream", "GET", "/raft/stream/msgapp/91bc3c398fb3c146", OURS, "3.7.0", "3.0.0", ME,
     200, "", PEER_ACCEPTED},
    {"a post", "POST", "/raft", OURS, "3.6.0", "3.0.0", "", 0, "", PEER_ACCEPTED},
    {"a snapshot", "POST", "/raft/snapshot", OURS, "3.6.0", "3.0.0", "", 0, "", PEER_ACCEPTED},
    {"probing needs no headers", "GET", "/raft/probing", "", "", "", "", 200, "", PEER_ACCEPTED},
    {"a newer server that runs in our cluster", "GET", MESSAGE_PATH, OURS, "4.1.0", "3.7.9", ME,
     200, "", PEER_ACCEPTED},
    {"an unknown path", "GET", "/rafts", OURS, "3.6.0", "3.0.0", "", 404, "404 page not found\n",
     PEER_NO_PATH},
    {"a get of the pipeline", "GET", "/raft", OURS, "3.6.0", "3.0.0", "", 405,
     "Method Not Allowed\n", PEER_WRONG_METHOD},
    {"a post of a stream", "POST", MESSAGE_PATH, OURS, "3.6.0", "3.0.0", ME, 405,
     "Method Not Allowed\n", PEER_WRONG_METHOD},
    {"another cluster", "POST", "/raft", "1", "3.6.0", "3.0.0", "", 412, "cluster ID mismatch\n",
     PEER_FOREIGN_CLUSTER},
    {"no cluster", "GET", MESSAGE_PATH, "", "3.6.0", "3.0.0", ME, 412, "cluster ID mismatch\n",
     PEER_FOREIGN_CLUSTER},
    {"too old a server", "POST", "/raft", OURS, "2.3.8", "2.1.0", "", 412, "incompatible version\n",
     PEER_INCOMPATIBLE},
    {"no version is 2.0", "POST", "/raft", OURS, "", "", "", 412, "incompatible version\n",
     PEER_INCOMPATIBLE},
    {"a server that needs a newer cluster", "GET", MESSAGE_PATH, OURS, "4.0.0", "3.8.0", ME, 412,
     "incompatible version\n", PEER_INCOMPATIBLE},
    {"a version that is none", "POST", "/raft", OURS, "three", "3.0.0", "", 412,
     "incompatible version\n", PEER_INCOMPATIBLE},
    {"versions come before the cluster", "POST", "/raft", "1", "2.0.0", "2.0.0", "", 412,
     "incompatible version\n", PEER_INCOMPATIBLE},
    {"an unknown stream", "GET", "/raft/stream/msgappv2/91bc3c398fb3c146", OURS, "3.6.0", "3.0.0",
     ME, 404, "invalid path\n", PEER_BAD_PATH},
    {"a stream without id", "GET", "/raft/stream/message", OURS, "3.6.0", "3.0.0", ME, 404,
     "invalid path\n", PEER_BAD_PATH},
    {"an id that is none", "GET", "/raft/stream/message/node1", OURS, "3.6.0", "3.0.0", ME, 404,
     "invalid from\n", PEER_BAD_FROM},
    {"an empty id", "GET", "/raft/stream/message/", OURS, "3.6.0", "3.0.0", ME, 404,
     "invalid from\n", PEER_BAD_FROM},
    {"a removed member", "GET", "/raft/stream/message/fd422379fda50e48", OURS, "3.6.0", "3.0.0", ME,
     410, "removed member\n", PEER_REMOVED_SENDER},
    {"an unknown member", "GET", "/raft/stream/message/77", OURS, "3.6.0", "3.0.0", ME, 404,
     "error sender not found\n", PEER_UNKNOWN_SENDER},
    {"a request for somebody else", "GET", MESSAGE_PATH, OURS, "3.6.0", "3.0.0", "1", 412,
     "to field mismatch\n", PEER_OTHER_MEMBER},
};

static struct peer_request request_of(const struct request_case *c)
{
    return (struct peer_request){
        .method = slice_str(c->method),
        .path = slice_str(c->path),
        .cluster = slice_str(c->cluster),
        .version = slice_str(c->version),
        .min_cluster = slice_str(c->min_cluster),
        .to = slice_str(c->to),
        .from = slice_str("77"),
        .urls = slice_str("http://c:3"),
        .extras = slice_str("9"),
    };
}

static void test_requests(void **state)
{
    (void)state;
    struct peer_identity self = identity();
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        const struct request_case *c = &requests[i];
        struct peer_request r = request_of(c);
        struct peer_verdict v;
        print_message("%s\n", c->name);
        peer_check_request(&self, &directory, &r, &v);
        assert_int_equal(v.status, c->status);
        assert_string_equal(v.body, c->body);
        assert_int_equal(v.refusal, c->refusal);
        assert_int_equal(v.content_type != NULL,
                         c->body[0] != '\0' || v.endpoint == PEER_ENDPOINT_PROBING);
        assert_int_equal(v.allow != NULL, c->status == 405);
        assert_int_equal(v.say_version, v.endpoint == PEER_ENDPOINT_STREAM && c->status != 405);
    }
}

static void test_accepted(void **state)
{
    (void)state;
    struct peer_identity self = identity();
    struct peer_verdict v;
    struct peer_request r = request_of(&requests[0]);
    peer_check_request(&self, &directory, &r, &v);
    assert_int_equal(v.from, OTHER);
    assert_int_equal(v.stream, PEER_STREAM_MESSAGE);
    assert_int_equal(v.extras, PEER_EXTRAS_LEVEL); /* the lower of the two */
    assert_false(v.learn_urls);
    r.extras = slice_str("");
    peer_check_request(&self, &directory, &r, &v);
    assert_int_equal(v.extras, 0);
    r.extras = slice_str("1x");
    peer_check_request(&self, &directory, &r, &v);
    assert_int_equal(v.extras, 0);
    r = request_of(&requests[1]);
    peer_check_request(&self, &directory, &r, &v);
    assert_int_equal(v.stream, PEER_STREAM_APPEND);
    r = request_of(&requests[2]);
    peer_check_request(&self, &directory, &r, &v);
    assert_int_equal(v.from, 0x77);
    assert_true(v.learn_urls);
    r.path = slice_str("/raft/stream/message/77");
    r.method = slice_str("GET");
    peer_check_request(&self, &directory, &r, &v);
    assert_int_equal(v.from, 0x77);
    assert_true(v.learn_urls);
}

static void test_messages(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        enum err e;
        uint64_t from;
        uint64_t to;
        unsigned status;
        const char *body;
    } rows[] = {
        {"/raft", OK, OTHER, SELF, 204, ""},
        {"/raft/snapshot", OK, OTHER, SELF, 204, ""},
        {"/raft", OK, GONE, SELF, 403,
         "{\"message\":\"cannot process message from removed member\"}"},
        {"/raft", OK, OTHER, OTHER, 500, "error processing raft message\n"},
        {"/raft", ERR_INVALID, 0, 0, 400, "error unmarshalling raft message\n"},
        {"/raft", ERR_UNSUPPORTED, 0, 0, 400, "error unmarshalling raft message\n"},
        {"/raft/snapshot", ERR_LIMIT, 0, 0, 400, "failed to decode raft message\n"},
        {"/raft/snapshot", ERR_UNSUPPORTED, 0, 0, 400, "wrong raft message type\n"},
    };
    struct peer_identity self = identity();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct peer_request r = request_of(&requests[2]);
        struct raft_message m = {.type = RAFT_MSG_SNAP, .from = rows[i].from, .to = rows[i].to};
        struct peer_verdict v;
        r.path = slice_str(rows[i].path);
        peer_check_request(&self, &directory, &r, &v);
        peer_check_message(&self, &directory, rows[i].e, &m, &v);
        assert_int_equal(v.status, rows[i].status);
        assert_string_equal(v.body, rows[i].body);
        assert_int_equal(v.refusal == PEER_ACCEPTED, rows[i].status == 204);
        assert_int_equal(peer_refusal_log(v.refusal) == NULL, rows[i].status == 204);
    }
}

static void test_answers(void **state)
{
    (void)state;
    static const struct {
        unsigned status;
        const char *version;
        const char *body;
        enum peer_outcome stream;
        enum peer_outcome post;
    } rows[] = {
        {200, "3.4.23", "", PEER_OK, PEER_REFUSED},
        {200, "9.0.0", "", PEER_OK, PEER_REFUSED},
        {204, "3.7.0", "", PEER_REFUSED, PEER_OK},
        {200, "", "", PEER_UNSUPPORTED, PEER_REFUSED},
        {200, "2.0.9", "", PEER_UNSUPPORTED, PEER_REFUSED},
        {200, "new", "", PEER_BAD_VERSION, PEER_REFUSED},
        {403, "3.7.0", "", PEER_REFUSED, PEER_REMOVED},
        {404, "3.7.0", "error sender not found\n", PEER_UNKNOWN_HERE, PEER_REFUSED},
        {410, "3.7.0", "removed member\n", PEER_REMOVED, PEER_REFUSED},
        {412, "3.7.0", "incompatible version\n", PEER_BAD_VERSION, PEER_BAD_VERSION},
        {412, "3.7.0", "cluster ID mismatch", PEER_BAD_CLUSTER, PEER_BAD_CLUSTER},
        {412, "3.7.0", "to field mismatch\n", PEER_REFUSED, PEER_REFUSED},
        {500, "3.7.0", "", PEER_REFUSED, PEER_REFUSED},
    };
    struct peer_identity self = identity();
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        unsigned extras = 7;
        const struct peer_answer a = {rows[i].status, slice_str(rows[i].version), slice_str("1"),
                                      slice_str(rows[i].body)};
        assert_int_equal(peer_check_stream_answer(&self, &a, &extras), rows[i].stream);
        assert_int_equal(extras, rows[i].stream == PEER_OK ? 1 : 7);
        assert_int_equal(peer_check_post_answer(&a), rows[i].post);
        assert_true(peer_outcome_text(rows[i].stream)[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_versions), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_ask),      cmocka_unit_test(test_requests),
        cmocka_unit_test(test_accepted), cmocka_unit_test(test_messages),
        cmocka_unit_test(test_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
