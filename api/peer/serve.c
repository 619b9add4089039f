/* serve.c - requests of other members: checks, streams, posts; everything else goes to the handler of the services. */
#include <stdio.h>
#include <time.h>

#include "api/peer/internal.h"

#define TEXT_PLAIN "text/plain; charset=utf-8"
#define HEADERS_BYTES 512u

static struct slice header(const struct http_request *r, const char *name)
{
    return slice_str(http_request_header(r, name));
}

static void check(struct peer_transport *t, const struct http_request *r, struct peer_verdict *v)
{
    const struct peer_request request = {
        .method = slice_str(r->method),
        .path = slice_str(r->path),
        .cluster = header(r, PEER_HEADER_CLUSTER_ID),
        .from = header(r, PEER_HEADER_FROM),
        .version = header(r, PEER_HEADER_VERSION),
        .min_cluster = header(r, PEER_HEADER_MIN_CLUSTER_VERSION),
        .to = header(r, PEER_HEADER_TO),
        .urls = header(r, PEER_HEADER_URLS),
        .extras = header(r, PEER_HEADER_EXTRAS),
    };
    peer_check_request(&t->identity, &t->directory, &request, v);
}

/* --- answers ---------------------------------------------------------------------------------------------------- */

static void format_headers(const struct peer_transport *t, const struct peer_verdict *v, char out[HEADERS_BYTES])
{
    struct bytes text = {0};
    char cluster[PEER_ID_TEXT_BYTES];
    peer_id_format(t->identity.cluster, cluster);
    if (v->say_version) {
        bytes_printf(&text, PEER_HEADER_VERSION ": %s\r\n", t->identity.version_text);
    }
    if (v->say_version && v->extras > 0) {
        bytes_printf(&text, PEER_HEADER_EXTRAS ": %u\r\n", v->extras);
    }
    if (v->say_cluster) {
        bytes_printf(&text, PEER_HEADER_CLUSTER_ID ": %s\r\n", cluster);
    }
    if (v->allow != NULL) {
        bytes_printf(&text, "Allow: %s\r\n", v->allow);
    }
    if (v->status >= 400 && v->content_type != NULL && strcmp(v->content_type, TEXT_PLAIN) == 0) {
        bytes_add_str(&text, "X-Content-Type-Options: nosniff\r\n");
    }
    (void)snprintf(out, HEADERS_BYTES, "%.*s", (int)text.len, text.data == NULL ? "" : (const char *)text.data);
    bytes_deinit(&text);
}

void serve_verdict(struct peer_transport *t, struct http_exchange *x, const struct peer_verdict *v)
{
    char headers[HEADERS_BYTES];
    format_headers(t, v, headers);
    http_respond(x, (int)v->status, v->content_type, headers, slice_str(v->body));
}

static void refuse(struct peer_transport *t, struct http_exchange *x, const struct http_request *r, const struct peer_verdict *v)
{
    const char *msg = peer_refusal_log(v->refusal);
    if (msg != NULL) {
        log_warn(t->cfg.log, msg, F_STR("path", r->path), F_HEX("local-member-id", t->identity.member),
                 F_HEX("local-member-cluster-id", t->identity.cluster), F_STR("remote-peer-id", http_request_header(r, PEER_HEADER_FROM)),
                 F_STR("remote-peer-cluster-id", http_request_header(r, PEER_HEADER_CLUSTER_ID)),
                 F_STR("remote-peer-server-version", http_request_header(r, PEER_HEADER_VERSION)));
    }
    serve_verdict(t, x, v);
}

static void answer_probe(struct peer_transport *t, struct http_exchange *x)
{
    uint64_t ns = clock_wall_ns(t->cfg.clock);
    time_t s = (time_t)(ns / 1000000000u);
    struct tm tm;
    char date[32] = "";
    char body[96];
    if (gmtime_r(&s, &tm) != NULL) {
        (void)strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
    }
    int n = snprintf(body, sizeof(body), "{\"OK\":true,\"Now\":\"%s.%09uZ\"}\n", date, (unsigned)(ns % 1000000000u));
    http_respond(x, 200, TEXT_PLAIN, NULL, slice_of(body, (size_t)n));
}

/* --- requests ----------------------------------------------------------------------------------------------------- */

static void attach(struct peer_transport *t, struct http_exchange *x, const struct peer_verdict *v)
{
    char headers[HEADERS_BYTES];
    format_headers(t, v, headers);
    stream_out_attach(peer_find(t, v->from), x, v, headers);
}

static void take_post(struct peer_transport *t, struct http_exchange *x, const struct http_request *r, struct peer_verdict *v)
{
    struct raft_message *m = NULL;
    struct err_ctx ec = {{0}};
    enum err e = peer_message_decode(r->body, &m, &ec);
    const struct peer *p = peer_find(t, v->from);
    if (p != NULL) {
        metrics_count(e == OK ? p->metrics.received_bytes : p->metrics.received_failures, e == OK ? r->body.len : 1);
    }
    if (e == OK) {
        transport_deliver(t, m, v); /* says in its log why it refuses */
        serve_verdict(t, x, v);
    } else {
        peer_check_message(&t->identity, &t->directory, e, NULL, v);
        log_warn(t->cfg.log, peer_refusal_log(v->refusal), F_HEX("local-member-id", t->identity.member), F_HEX("remote-peer-id", v->from),
                 F_STR("error", ec.text[0] != '\0' ? ec.text : err_text(e)));
        serve_verdict(t, x, v);
    }
}

/* A post is looked at before its body comes: what is refused takes no memory, and a database is never gathered. */
void serve_begin(void *arg, const struct http_request *r, struct http_intake *in)
{
    struct peer_transport *t = arg;
    enum peer_endpoint endpoint = peer_endpoint_of(slice_str(r->path));
    if (endpoint == PEER_ENDPOINT_SNAPSHOT) {
        in->streamed = true;
    } else if (endpoint == PEER_ENDPOINT_PIPELINE) {
        struct peer_verdict v;
        check(t, r, &v);
        in->streamed = v.refusal != PEER_ACCEPTED;
        in->bytes_max = PEER_MESSAGE_BYTES_MAX;
    }
}

void serve_handle(void *arg, struct http_exchange *x, const struct http_request *r)
{
    struct peer_transport *t = arg;
    struct peer_verdict v;
    if (peer_endpoint_of(slice_str(r->path)) == PEER_ENDPOINT_NONE && t->cfg.other.handle != NULL) {
        t->cfg.other.handle(t->cfg.other.arg, x, r);
        return;
    }
    check(t, r, &v);
    if (v.learn_urls) {
        transport_learn(t, v.from, http_request_header(r, PEER_HEADER_URLS));
    }
    if (v.refusal != PEER_ACCEPTED || t->stopping) {
        if (v.refusal == PEER_ACCEPTED) {
            v = (struct peer_verdict){.status = 503, .body = "stopping\n", .content_type = TEXT_PLAIN};
        }
        refuse(t, x, r, &v);
        return;
    }
    switch (v.endpoint) {
    case PEER_ENDPOINT_PROBING:
        answer_probe(t, x);
        break;
    case PEER_ENDPOINT_STREAM:
        attach(t, x, &v);
        break;
    case PEER_ENDPOINT_PIPELINE:
        take_post(t, x, r, &v);
        break;
    case PEER_ENDPOINT_SNAPSHOT:
        spool_begin(t, x, &v);
        break;
    case PEER_ENDPOINT_NONE:
        refuse(t, x, r, &v); /* has been refused above */
        break;
    }
}
