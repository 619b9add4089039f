/* headers.h - who is speaking, and whether to listen: requests between members as data.
 *
 * What        The headers that go with every request between members, the checks of the receiving
 * side with status and body in etcd's words, and what an answer means to the asking side. Callers
 * the transport, the simulator. Thread      any; there is no state. Invariants  Nothing of a
 * request is believed before the versions and the cluster's id agree. Source      etcd's rafthttp:
 * names, order of the checks, codes and texts. docs/peer-protocol.md
 */
#ifndef RAFT_PEER_HEADERS_H
#define RAFT_PEER_HEADERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"
#include "raft/core/raft.h"
#include "raft/peer/frame.h"

#define PEER_HEADER_CLUSTER_ID "X-Etcd-Cluster-ID"
#define PEER_HEADER_FROM "X-Server-From"
#define PEER_HEADER_VERSION "X-Server-Version"
#define PEER_HEADER_MIN_CLUSTER_VERSION "X-Min-Cluster-Version"
#define PEER_HEADER_TO "X-Raft-To"
#define PEER_HEADER_URLS "X-PeerURLs"
/* Ours: the highest level of extra messages that the speaker understands, as a decimal number. Both
 * sides use the lower of the two; without the header it is 0 and none are sent. Level 1: extra
 * frames are read, and those of a kind that is not known are passed over. */
#define PEER_HEADER_EXTRAS "X-Pintle-Extras"
#define PEER_EXTRAS_LEVEL 1u

#define PEER_PATH_PIPELINE "/raft"
#define PEER_PATH_APPEND "/raft/stream/msgapp"
#define PEER_PATH_MESSAGE "/raft/stream/message"
#define PEER_PATH_SNAPSHOT "/raft/snapshot"
#define PEER_PATH_PROBING "/raft/probing"

#define PEER_MIN_CLUSTER_VERSION "3.0.0"
#define PEER_ID_TEXT_BYTES 17u /* 16 lower-case hex digits without leading zeros, NUL */

/* ---- small parts ---- */

struct peer_version {
    uint32_t major;
    uint32_t minor;
    uint32_t patch;
};

/* "3.7.0", "v3.7", "3.7.0-rc.1+git": what follows the numbers does not count. ERR_INVALID: none. */
MUST_CHECK enum err peer_version_parse(struct slice text, struct peer_version *out);
/* By major and minor alone: negative, 0 or positive. */
int peer_version_cmp(struct peer_version a, struct peer_version b);

/* Hex, either case, 1 to 16 significant digits. ERR_INVALID otherwise. */
MUST_CHECK enum err peer_id_parse(struct slice text, uint64_t *out);
void peer_id_format(uint64_t id, char out[PEER_ID_TEXT_BYTES]);

enum peer_endpoint {
    PEER_ENDPOINT_NONE, /* no path of this protocol */
    PEER_ENDPOINT_PIPELINE,
    PEER_ENDPOINT_STREAM, /* anything under /raft/stream/; which one is checked after the headers */
    PEER_ENDPOINT_SNAPSHOT,
    PEER_ENDPOINT_PROBING,
};
/* Of a path without its query. */
enum peer_endpoint peer_endpoint_of(struct slice path);

/* ---- this member ---- */

struct peer_identity {
    uint64_t cluster;
    uint64_t member;
    struct peer_version version;
    const char *version_text; /* what is told to others; borrowed */
    struct peer_version min_cluster;
    const char *min_cluster_text; /* borrowed */
    const char *urls; /* own peer URLs, comma between them; borrowed; "" leaves them out */
};

/* ERR_INVALID: a version that is none. The strings are borrowed as long as *out lives. */
MUST_CHECK enum err peer_identity_init(struct peer_identity *out, uint64_t cluster, uint64_t member,
                                       const char *version, const char *urls);

/* ---- asking ---- */

#define PEER_HEADERS_MAX 8u
#define PEER_PATH_BYTES 48u

struct peer_header {
    const char *name;
    const char *value; /* into the peer_ask or the identity */
};

/* What to ask, except for the address. Does not move: headers point into it. */
struct peer_ask {
    const char *method;
    char path[PEER_PATH_BYTES];
    size_t n_headers;
    struct peer_header headers[PEER_HEADERS_MAX];
    char cluster[PEER_ID_TEXT_BYTES];
    char from[PEER_ID_TEXT_BYTES];
    char to[PEER_ID_TEXT_BYTES];
    char extras[4];
};

/* GET of a stream that `remote` writes and this member reads. Not for PEER_STREAM_SNAPSHOT. */
void peer_ask_stream(const struct peer_identity *self, enum peer_stream stream, uint64_t remote,
                     struct peer_ask *out);
/* POST of one message, or of a snapshot. */
void peer_ask_post(const struct peer_identity *self, bool snapshot, struct peer_ask *out);

enum peer_outcome {
    PEER_OK,
    PEER_REFUSED_CONNECTION, /* nobody listens there: a statement of the other machine */
    PEER_FAILED,             /* anything else went wrong, time among it */
    PEER_REMOVED,            /* the other side says that this member was removed for good */
    PEER_UNKNOWN_HERE,       /* it does not know this member, yet */
    PEER_BAD_VERSION,        /* 412, by versions */
    PEER_BAD_CLUSTER,        /* 412, by the cluster's id */
    PEER_UNSUPPORTED,        /* a version too old for the stream */
    PEER_REFUSED,            /* another status */
};

/* etcd's text for what went wrong. Static. */
const char *peer_outcome_text(enum peer_outcome outcome);

struct peer_answer {
    unsigned status;
    struct slice version; /* header; empty: absent */
    struct slice extras;  /* header; empty: absent */
    struct slice body;    /* of a refusal */
};

/* Never PEER_REFUSED_CONNECTION or PEER_FAILED, which have no answer. With PEER_OK of a stream
 * *extras is the level both sides use. */
enum peer_outcome peer_check_stream_answer(const struct peer_identity *self,
                                           const struct peer_answer *answer, unsigned *extras);
enum peer_outcome peer_check_post_answer(const struct peer_answer *answer);

/* ---- answering ---- */

/* What the member knows of others; both are asked at most once per request. */
struct peer_directory {
    void *arg;
    bool (*removed)(void *arg, uint64_t id);
    bool (*known)(void *arg, uint64_t id); /* a link to it exists */
};

struct peer_request {
    struct slice method;
    struct slice path; /* without the query */
    struct slice cluster;
    struct slice from;
    struct slice version;
    struct slice min_cluster;
    struct slice to;
    struct slice urls;
    struct slice extras;
};

/* Why a request was refused: what the log says. */
enum peer_refusal {
    PEER_ACCEPTED,
    PEER_NO_PATH,
    PEER_WRONG_METHOD,
    PEER_INCOMPATIBLE,
    PEER_FOREIGN_CLUSTER,
    PEER_BAD_PATH,
    PEER_BAD_FROM,
    PEER_REMOVED_SENDER,
    PEER_UNKNOWN_SENDER,
    PEER_OTHER_MEMBER,
    PEER_BAD_MESSAGE,
    PEER_BAD_HEAD,
    PEER_WRONG_TYPE,
    PEER_REMOVED_AUTHOR,
    PEER_OTHER_ADDRESSEE,
};

/* etcd's log text; NULL: nothing is logged. Static. */
const char *peer_refusal_log(enum peer_refusal refusal);

struct peer_verdict {
    enum peer_refusal refusal;
    enum peer_endpoint endpoint;
    enum peer_stream stream;  /* of an accepted stream */
    uint64_t from;            /* 0: not told */
    bool learn_urls;          /* `from` at the request's URLs may be unknown here: remember it */
    unsigned extras;          /* of an accepted stream: the level both sides use */
    unsigned status;          /* 0: read the body first, then peer_check_message */
    const char *body;         /* static; "" with status 0, 200 and 204 */
    const char *content_type; /* static; NULL: none */
    const char *allow;        /* value of the Allow header; NULL: none */
    bool say_version; /* the answer carries X-Server-Version, and with extras X-Pintle-Extras */
    bool say_cluster; /* the answer carries X-Etcd-Cluster-ID */
};

/* The checks before a body is read, in etcd's order. */
void peer_check_request(const struct peer_identity *self, const struct peer_directory *directory,
                        const struct peer_request *request, struct peer_verdict *out);

/* The body of a post has come: `e` is what peer_message_decode or peer_decode made of it, `m` the
 * message if it was OK. Sets status, body and refusal; status 204 is what to answer once raft took
 * it. Messages that come on a stream are checked with this as well: nothing is answered
 * there, a refused one is logged and dropped. */
void peer_check_message(const struct peer_identity *self, const struct peer_directory *directory,
                        enum err e, const struct raft_message *m, struct peer_verdict *verdict);

#endif
