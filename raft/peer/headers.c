/* headers.c - see headers.h; what is refused, and how, stands in one table below. */
#include "raft/peer/headers.h"

#include <stdio.h>

#include "base/assert.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define JSON "application/json"

/* The version that a request without one stands for, and the first one with these streams. */
static const struct peer_version version_absent = {2, 0, 0};
static const struct peer_version version_streams = {2, 1, 0};

/* ---- small parts ---- */

static bool take_number(struct slice *rest, uint32_t *out)
{
    uint64_t v = 0;
    size_t n = 0;
    while (n < rest->len && rest->data[n] >= '0' && rest->data[n] <= '9') {
        v = v * 10 + (uint64_t)(rest->data[n] - '0');
        n++;
        if (v > UINT32_MAX) {
            return false;
        }
    }
    *rest = (struct slice){rest->data + n, rest->len - n};
    *out = (uint32_t)v;
    return n > 0;
}

enum err peer_version_parse(struct slice text, struct peer_version *out)
{
    uint32_t v[3] = {0, 0, 0};
    if (text.len > 0 && text.data[0] == 'v') {
        text = (struct slice){text.data + 1, text.len - 1};
    }
    for (size_t i = 0; i < ARRAY_LEN(v); i++) {
        if (!take_number(&text, &v[i])) {
            return ERR_INVALID;
        }
        if (text.len == 0 || text.data[0] != '.') {
            break;
        }
        text = (struct slice){text.data + 1, text.len - 1};
    }
    if (text.len > 0 && text.data[0] != '-' && text.data[0] != '+') {
        return ERR_INVALID;
    }
    *out = (struct peer_version){v[0], v[1], v[2]};
    return OK;
}

int peer_version_cmp(struct peer_version a, struct peer_version b)
{
    if (a.major != b.major) {
        return a.major < b.major ? -1 : 1;
    }
    return (a.minor > b.minor) - (a.minor < b.minor);
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum err peer_id_parse(struct slice text, uint64_t *out)
{
    uint64_t v = 0;
    for (size_t i = 0; i < text.len; i++) {
        int digit = hex_digit(text.data[i]);
        if (digit < 0 || v >> 60 != 0) {
            return ERR_INVALID;
        }
        v = v << 4 | (uint64_t)digit;
    }
    if (text.len == 0) {
        return ERR_INVALID;
    }
    *out = v;
    return OK;
}

void peer_id_format(uint64_t id, char out[PEER_ID_TEXT_BYTES])
{
    (void)snprintf(out, PEER_ID_TEXT_BYTES, "%llx", (unsigned long long)id);
}

static bool is(struct slice s, const char *text)
{
    return slice_eq(s, slice_str(text));
}

static bool starts_with(struct slice s, const char *prefix)
{
    size_t len = strlen(prefix);
    return s.len >= len && memcmp(s.data, prefix, len) == 0;
}

enum peer_endpoint peer_endpoint_of(struct slice path)
{
    if (is(path, PEER_PATH_PIPELINE)) {
        return PEER_ENDPOINT_PIPELINE;
    }
    if (starts_with(path, "/raft/stream/")) {
        return PEER_ENDPOINT_STREAM;
    }
    if (is(path, PEER_PATH_SNAPSHOT)) {
        return PEER_ENDPOINT_SNAPSHOT;
    }
    return is(path, PEER_PATH_PROBING) ? PEER_ENDPOINT_PROBING : PEER_ENDPOINT_NONE;
}

/* The level both sides understand; a header that is no number counts as none. */
static unsigned agree_extras(struct slice header)
{
    uint32_t level = 0;
    if (!take_number(&header, &level) || header.len > 0) {
        return 0;
    }
    return level < PEER_EXTRAS_LEVEL ? level : PEER_EXTRAS_LEVEL;
}

/* ---- asking ---- */

enum err peer_identity_init(struct peer_identity *out, uint64_t cluster, uint64_t member,
                            const char *version, const char *urls)
{
    struct peer_identity id = {
        .cluster = cluster,
        .member = member,
        .version_text = version,
        .min_cluster_text = PEER_MIN_CLUSTER_VERSION,
        .urls = urls,
    };
    enum err e = peer_version_parse(slice_str(version), &id.version);
    if (e == OK) {
        e = peer_version_parse(slice_str(PEER_MIN_CLUSTER_VERSION), &id.min_cluster);
    }
    if (e == OK) {
        *out = id;
    }
    return e;
}

static void add_header(struct peer_ask *ask, const char *name, const char *value)
{
    ASSERT(ask->n_headers < PEER_HEADERS_MAX);
    ask->headers[ask->n_headers++] = (struct peer_header){name, value};
}

static void begin_ask(const struct peer_identity *self, const char *method, struct peer_ask *out)
{
    *out = (struct peer_ask){.method = method};
    peer_id_format(self->cluster, out->cluster);
    peer_id_format(self->member, out->from);
    add_header(out, PEER_HEADER_FROM, out->from);
    add_header(out, PEER_HEADER_VERSION, self->version_text);
    add_header(out, PEER_HEADER_MIN_CLUSTER_VERSION, self->min_cluster_text);
    add_header(out, PEER_HEADER_CLUSTER_ID, out->cluster);
    if (self->urls[0] != '\0') {
        add_header(out, PEER_HEADER_URLS, self->urls);
    }
}

void peer_ask_stream(const struct peer_identity *self, enum peer_stream stream, uint64_t remote,
                     struct peer_ask *out)
{
    ASSERT(stream != PEER_STREAM_SNAPSHOT);
    begin_ask(self, "GET", out);
    (void)snprintf(out->path, sizeof(out->path), "%s/%s",
                   stream == PEER_STREAM_APPEND ? PEER_PATH_APPEND : PEER_PATH_MESSAGE, out->from);
    peer_id_format(remote, out->to);
    add_header(out, PEER_HEADER_TO, out->to);
    (void)snprintf(out->extras, sizeof(out->extras), "%u", PEER_EXTRAS_LEVEL);
    add_header(out, PEER_HEADER_EXTRAS, out->extras);
}

void peer_ask_post(const struct peer_identity *self, bool snapshot, struct peer_ask *out)
{
    begin_ask(self, "POST", out);
    (void)snprintf(out->path, sizeof(out->path), "%s",
                   snapshot ? PEER_PATH_SNAPSHOT : PEER_PATH_PIPELINE);
    add_header(out, "Content-Type", snapshot ? "application/octet-stream" : "application/protobuf");
}

const char *peer_outcome_text(enum peer_outcome outcome)
{
    switch (outcome) {
    case PEER_OK:
        return "ok";
    case PEER_REFUSED_CONNECTION:
        return "connection refused";
    case PEER_FAILED:
        return "failed";
    case PEER_REMOVED:
        return "the member has been permanently removed from the cluster";
    case PEER_UNKNOWN_HERE:
        return "peer failed to find local node";
    case PEER_BAD_VERSION:
        return "incompatible version";
    case PEER_BAD_CLUSTER:
        return "cluster ID mismatch";
    case PEER_UNSUPPORTED:
        return "unsupported stream type";
    case PEER_REFUSED:
        return "unhandled http status";
    }
    UNREACHABLE();
}

/* A 412 says in its body which of the checks failed; one newline at its end does not count. */
static enum peer_outcome of_precondition(struct slice body)
{
    if (body.len > 0 && body.data[body.len - 1] == '\n') {
        body.len--;
    }
    if (is(body, "incompatible version")) {
        return PEER_BAD_VERSION;
    }
    return is(body, "cluster ID mismatch") ? PEER_BAD_CLUSTER : PEER_REFUSED;
}

enum peer_outcome peer_check_stream_answer(const struct peer_identity *self,
                                           const struct peer_answer *answer, unsigned *extras)
{
    struct peer_version remote = version_absent;
    if (answer->version.len > 0 && peer_version_parse(answer->version, &remote) != OK) {
        return PEER_BAD_VERSION;
    }
    if (peer_version_cmp(remote, self->version) < 0 &&
        peer_version_cmp(remote, version_streams) < 0) {
        return PEER_UNSUPPORTED;
    }
    switch (answer->status) {
    case 200:
        *extras = agree_extras(answer->extras);
        return PEER_OK;
    case 404:
        return PEER_UNKNOWN_HERE;
    case 410:
        return PEER_REMOVED;
    case 412:
        return of_precondition(answer->body);
    default:
        return PEER_REFUSED;
    }
}

enum peer_outcome peer_check_post_answer(const struct peer_answer *answer)
{
    switch (answer->status) {
    case 204:
        return PEER_OK;
    case 403:
        return PEER_REMOVED;
    case 412:
        return of_precondition(answer->body);
    default:
        return PEER_REFUSED;
    }
}

/* ---- answering ---- */

static const struct refusal {
    unsigned status;
    const char *body;
    const char *content_type;
    const char *log;
} refusals[] = {
    [PEER_ACCEPTED] = {0, "", NULL, NULL},
    [PEER_NO_PATH] = {404, "404 page not found\n", TEXT_PLAIN, NULL},
    [PEER_WRONG_METHOD] = {405, "Method Not Allowed\n", TEXT_PLAIN, NULL},
    [PEER_INCOMPATIBLE] = {412, "incompatible version\n", TEXT_PLAIN,
                           "failed version compatibility check"},
    [PEER_FOREIGN_CLUSTER] = {412, "cluster ID mismatch\n", TEXT_PLAIN,
                              "request cluster ID mismatch"},
    [PEER_BAD_PATH] = {404, "invalid path\n", TEXT_PLAIN,
                       "ignored unexpected streaming request path"},
    [PEER_BAD_FROM] = {404, "invalid from\n", TEXT_PLAIN, "failed to parse path into ID"},
    [PEER_REMOVED_SENDER] = {410, "removed member\n", TEXT_PLAIN,
                             "rejected stream from remote peer because it was removed"},
    [PEER_UNKNOWN_SENDER] = {404, "error sender not found\n", TEXT_PLAIN,
                             "failed to find remote peer in cluster"},
    [PEER_OTHER_MEMBER] = {412, "to field mismatch\n", TEXT_PLAIN,
                           "ignored streaming request; ID mismatch"},
    [PEER_BAD_MESSAGE] = {400, "error unmarshalling raft message\n", TEXT_PLAIN,
                          "failed to unmarshal Raft message"},
    [PEER_BAD_HEAD] = {400, "failed to decode raft message\n", TEXT_PLAIN,
                       "failed to decode Raft message"},
    [PEER_WRONG_TYPE] = {400, "wrong raft message type\n", TEXT_PLAIN,
                         "unexpected Raft message type"},
    [PEER_REMOVED_AUTHOR] = {403, "{\"message\":\"cannot process message from removed member\"}",
                             JSON, "rejected Raft message from removed member"},
    /* Not the 403 that etcd's source names: its members never send it, and would stop if they got
       it. */
    [PEER_OTHER_ADDRESSEE] = {500, "error processing raft message\n", TEXT_PLAIN,
                              "rejected Raft message to mismatch member"},
};

const char *peer_refusal_log(enum peer_refusal refusal)
{
    ASSERT((size_t)refusal < ARRAY_LEN(refusals));
    return refusals[refusal].log;
}

static void refuse(struct peer_verdict *v, enum peer_refusal refusal)
{
    v->refusal = refusal;
    v->status = refusals[refusal].status;
    v->body = refusals[refusal].body;
    v->content_type = refusals[refusal].content_type;
}

/* An absent version is that of the first etcd, which had no such header. */
static bool compatible(const struct peer_identity *self, const struct peer_request *r)
{
    struct peer_version server = version_absent;
    struct peer_version min_cluster = version_absent;
    if ((r->version.len > 0 && peer_version_parse(r->version, &server) != OK) ||
        (r->min_cluster.len > 0 && peer_version_parse(r->min_cluster, &min_cluster) != OK)) {
        return false;
    }
    return peer_version_cmp(server, self->min_cluster) >= 0 &&
           peer_version_cmp(min_cluster, self->version) <= 0;
}

/* The header is compared as text, as etcd does: an id has one spelling. */
static enum peer_refusal check_cluster(const struct peer_identity *self,
                                       const struct peer_request *r)
{
    char cluster[PEER_ID_TEXT_BYTES];
    peer_id_format(self->cluster, cluster);
    if (!compatible(self, r)) {
        return PEER_INCOMPATIBLE;
    }
    return is(r->cluster, cluster) ? PEER_ACCEPTED : PEER_FOREIGN_CLUSTER;
}

/* Split /raft/stream/KIND/ID at its last slash. */
static bool split_stream(struct slice path, enum peer_stream *stream, struct slice *id)
{
    size_t at = path.len;
    while (at > 0 && path.data[at - 1] != '/') {
        at--;
    }
    ASSERT(at > 0);
    struct slice kind = {path.data, at - 1};
    *id = (struct slice){path.data + at, path.len - at};
    *stream = is(kind, PEER_PATH_APPEND) ? PEER_STREAM_APPEND : PEER_STREAM_MESSAGE;
    return is(kind, PEER_PATH_APPEND) || is(kind, PEER_PATH_MESSAGE);
}

static enum peer_refusal check_stream(const struct peer_identity *self,
                                      const struct peer_directory *directory,
                                      const struct peer_request *r, struct peer_verdict *v)
{
    struct slice id;
    char to[PEER_ID_TEXT_BYTES];
    if (!split_stream(r->path, &v->stream, &id)) {
        return PEER_BAD_PATH;
    }
    if (peer_id_parse(id, &v->from) != OK) {
        return PEER_BAD_FROM;
    }
    if (directory->removed(directory->arg, v->from)) {
        return PEER_REMOVED_SENDER;
    }
    if (!directory->known(directory->arg, v->from)) {
        v->learn_urls = r->urls.len > 0;
        return PEER_UNKNOWN_SENDER;
    }
    peer_id_format(self->member, to);
    return is(r->to, to) ? PEER_ACCEPTED : PEER_OTHER_MEMBER;
}

static void check_stream_request(const struct peer_identity *self,
                                 const struct peer_directory *directory,
                                 const struct peer_request *r, struct peer_verdict *v)
{
    v->say_version = true;
    v->say_cluster = true;
    enum peer_refusal refusal = check_cluster(self, r);
    if (refusal == PEER_ACCEPTED) {
        refusal = check_stream(self, directory, r, v);
    }
    if (refusal != PEER_ACCEPTED) {
        refuse(v, refusal);
        return;
    }
    v->extras = agree_extras(r->extras);
    v->status = 200;
}

static void check_post_request(const struct peer_identity *self, const struct peer_request *r,
                               struct peer_verdict *v)
{
    v->say_cluster = true;
    enum peer_refusal refusal = check_cluster(self, r);
    if (refusal != PEER_ACCEPTED) {
        refuse(v, refusal);
        return;
    }
    if (peer_id_parse(r->from, &v->from) == OK) {
        v->learn_urls = r->urls.len > 0;
    }
}

void peer_check_request(const struct peer_identity *self, const struct peer_directory *directory,
                        const struct peer_request *request, struct peer_verdict *out)
{
    struct peer_verdict v = {.endpoint = peer_endpoint_of(request->path), .body = ""};
    const char *method = NULL;
    switch (v.endpoint) {
    case PEER_ENDPOINT_NONE:
        refuse(&v, PEER_NO_PATH);
        break;
    case PEER_ENDPOINT_PROBING:
        v.status = 200; /* any method; the body has the time in it and is the shell's */
        v.content_type = TEXT_PLAIN;
        break;
    case PEER_ENDPOINT_PIPELINE:
    case PEER_ENDPOINT_SNAPSHOT:
        method = "POST";
        break;
    case PEER_ENDPOINT_STREAM:
        method = "GET";
        break;
    }
    if (method != NULL && !is(request->method, method)) {
        refuse(&v, PEER_WRONG_METHOD);
        v.allow = method;
    } else if (v.endpoint == PEER_ENDPOINT_STREAM) {
        check_stream_request(self, directory, request, &v);
    } else if (method != NULL) {
        check_post_request(self, request, &v);
    }
    *out = v;
}

void peer_check_message(const struct peer_identity *self, const struct peer_directory *directory,
                        enum err e, const struct raft_message *m, struct peer_verdict *verdict)
{
    bool snapshot = verdict->endpoint == PEER_ENDPOINT_SNAPSHOT;
    if (e != OK) {
        refuse(verdict, !snapshot              ? PEER_BAD_MESSAGE
                        : e == ERR_UNSUPPORTED ? PEER_WRONG_TYPE
                                               : PEER_BAD_HEAD);
    } else if (directory->removed(directory->arg, m->from)) {
        refuse(verdict, PEER_REMOVED_AUTHOR);
    } else if (m->to != self->member) {
        refuse(verdict, PEER_OTHER_ADDRESSEE);
    } else {
        verdict->status = 204;
    }
}
