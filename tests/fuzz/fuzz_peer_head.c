/* fuzz_peer_head.c - lines as the parts of a request of another member, and of an answer to ours:
 * method, path, cluster, from, version, min cluster version, to, URLs, extras; then status and body
 * of the answer. Nothing is accepted that does not name this cluster. */
#include <stdint.h>

#include "base/assert.h"
#include "raft/peer/headers.h"

#define CLUSTER UINT64_C(0xc1)
#define SELF UINT64_C(0xa)
#define OTHER UINT64_C(0xb)
#define GONE UINT64_C(0xdead)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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

static struct slice take_line(struct slice *rest)
{
    size_t n = 0;
    while (n < rest->len && rest->data[n] != '\n') {
        n++;
    }
    struct slice line = {rest->data, n};
    n += n < rest->len;
    if (n > 0) {
        *rest = (struct slice){rest->data + n, rest->len - n};
    }
    return line;
}

static void check_request(const struct peer_identity *self, const struct peer_request *r)
{
    static const struct peer_directory directory = {NULL, removed, known};
    struct peer_verdict v;
    peer_check_request(self, &directory, r, &v);
    bool accepted = v.refusal == PEER_ACCEPTED;
    bool posts = v.endpoint == PEER_ENDPOINT_PIPELINE || v.endpoint == PEER_ENDPOINT_SNAPSHOT;
    ASSERT(accepted == (v.status == 0 || v.status == 200));
    ASSERT((v.status == 0) == (accepted && posts));
    ASSERT(accepted == (v.body[0] == '\0'));
    if (accepted && v.endpoint != PEER_ENDPOINT_PROBING) {
        ASSERT(slice_eq(r->cluster, slice_str("c1")));
    }
    if (accepted && v.endpoint == PEER_ENDPOINT_STREAM) {
        ASSERT(v.from == OTHER && v.extras <= PEER_EXTRAS_LEVEL);
    }
    if (v.status == 0) {
        struct raft_message m = {.type = RAFT_MSG_SNAP, .from = v.from, .to = SELF};
        peer_check_message(self, &directory, OK, &m, &v);
        ASSERT(v.status == (v.from == GONE ? 403 : 204));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice rest = slice_of(data, size);
    struct peer_identity self;
    enum err e = peer_identity_init(&self, CLUSTER, SELF, "3.7.0", "http://a:2380");
    ASSERT(e == OK);
    struct peer_request r;
    struct slice *const parts[] = {&r.method,      &r.path, &r.cluster, &r.from,  &r.version,
                                   &r.min_cluster, &r.to,   &r.urls,    &r.extras};
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        *parts[i] = take_line(&rest);
    }
    check_request(&self, &r);
    struct slice status = take_line(&rest);
    unsigned extras = 0;
    struct peer_answer answer = {.version = r.version, .extras = r.extras, .body = rest};
    for (size_t i = 0; i < status.len && i < 3; i++) {
        answer.status = answer.status * 10 + (unsigned)(status.data[i] % 10);
    }
    enum peer_outcome outcome = peer_check_stream_answer(&self, &answer, &extras);
    ASSERT(outcome != PEER_OK || answer.status == 200);
    ASSERT(extras <= PEER_EXTRAS_LEVEL);
    ASSERT(peer_check_post_answer(&answer) != PEER_OK || answer.status == 204);
    return 0;
}
