/* discovery.c - see discovery.h.
 *
 * Read how many shall be, list who is there, register, list again, and watch from that revision on until all have come. The order is that of the
 * revisions in which the members' keys were created, so that all agree on who came first. A watch that breaks off is followed by a new listing.
 */
#include "tools/pintle/discovery.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "api/client/client.h"
#include "api/proto/rpc.pb-c.h"
#include "base/mem.h"
#include "tools/pintle/cluster.h"
#include "tools/pintle/registry.h"
#include "tools/pintle/urls.h"

#define BACKOFF_DOUBLINGS_MAX 8u
#define WATCH_TURN_MS 60000u /* looked at the connection anew so often */

#define CODE_FAILED_PRECONDITION 9u

struct discovery {
    struct logger *log;
    const char *token;
    char *endpoint_list; /* owned */
    const char *const *endpoints;
    size_t n_endpoints, at; /* the one that is asked */
    struct client_options options;
    uint32_t dial_ms, request_ms;
    char *user, *password; /* owned; NULL: nobody */
    const char *credential;
    struct client *client; /* NULL: not connected */
    struct registry *registry;
    unsigned failures; /* in a row */
    int64_t size;
    int64_t revision; /* of the listing */
};

#define SERVICE(d) F_STR("discovery-token", (d)->token), F_STR("discovery-endpoints", (d)->endpoint_list)

/* --- asking ------------------------------------------------------------------------------------------------------ */

static void pack(const ProtobufCMessage *m, struct bytes *out)
{
    bytes_reset(out);
    out->len = protobuf_c_message_pack(m, bytes_reserve(out, protobuf_c_message_get_packed_size(m) + 1));
}

static ProtobufCBinaryData binary(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* A token for the user, if there is one. Where authentication is off nobody needs one. */
static enum err authenticate(struct discovery *d, struct err_ctx *ec)
{
    if (d->credential[0] != '\0') {
        return client_metadata(d->client, "token", d->credential);
    }
    if (d->user == NULL || d->password == NULL) {
        return OK;
    }
    Etcdserverpb__AuthenticateRequest q = ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;
    q.name = d->user;
    q.password = d->password;
    struct bytes request = {0};
    struct bytes reply = {0};
    struct client_status status = {0};
    pack(&q.base, &request);
    enum err e = client_call(d->client, "/etcdserverpb.Auth/Authenticate", bytes_slice(&request), d->request_ms, &status, &reply);
    if (e == OK && status.code == CLIENT_CODE_OK) {
        Etcdserverpb__AuthenticateResponse *a = etcdserverpb__authenticate_response__unpack(NULL, reply.len, reply.data);
        e = a != NULL ? client_metadata(d->client, "token", a->token) : err_set(ec, ERR_CORRUPT, "malformed answer");
        etcdserverpb__authenticate_response__free_unpacked(a, NULL);
    } else if (e == OK && status.code != CODE_FAILED_PRECONDITION) {
        e = err_set(ec, status.local ? ERR_IO : ERR_AUTH_FAILED, "%s", status.text);
    }
    explicit_bzero(request.data, request.len);
    bytes_deinit(&request);
    bytes_deinit(&reply);
    return e;
}

static enum err connect_to(struct discovery *d, struct err_ctx *ec)
{
    if (d->client != NULL && client_usable(d->client)) {
        return OK;
    }
    client_close(&d->client);
    enum err e = client_connect_with(d->endpoints[d->at], &d->options, d->dial_ms, &d->client, ec);
    if (e == OK) {
        e = authenticate(d, ec);
    }
    if (e != OK) {
        client_close(&d->client);
    }
    return e;
}

/* The next endpoint is asked from now on. */
static void go_on(struct discovery *d)
{
    client_close(&d->client);
    d->at = (d->at + 1) % d->n_endpoints;
}

/* One call, by the first endpoint that can be reached and knows a leader. */
static enum err ask(struct discovery *d, const char *path, const ProtobufCMessage *q, struct bytes *reply, struct err_ctx *ec)
{
    struct bytes request = {0};
    enum err e = ERR_IO;
    pack(q, &request);
    for (size_t i = 0; i < d->n_endpoints && e != OK; i++) {
        struct client_status status = {0};
        e = connect_to(d, ec);
        if (e == ERR_AUTH_FAILED) {
            break; /* it will be so everywhere */
        }
        if (e == OK) {
            e = client_call(d->client, path, bytes_slice(&request), d->request_ms, &status, reply);
        }
        if (e == OK && status.code != CLIENT_CODE_OK) {
            e = err_set(ec, ERR_IO, "%s", status.text);
        }
        if (e != OK) {
            go_on(d);
        }
    }
    bytes_deinit(&request);
    return e;
}

static enum err get(struct discovery *d, const char *key, const char *end, Etcdserverpb__RangeResponse **out, struct err_ctx *ec)
{
    Etcdserverpb__RangeRequest q = ETCDSERVERPB__RANGE_REQUEST__INIT;
    struct bytes reply = {0};
    q.key = binary(key);
    if (end != NULL) {
        q.range_end = binary(end);
        q.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE;
        q.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND;
        q.limit = REGISTRY_MEMBERS_MAX;
    }
    enum err e = ask(d, "/etcdserverpb.KV/Range", &q.base, &reply, ec);
    if (e == OK) {
        *out = etcdserverpb__range_response__unpack(NULL, reply.len, reply.data);
        e = *out != NULL && (*out)->header != NULL ? OK : err_set(ec, ERR_CORRUPT, "malformed answer");
    }
    bytes_deinit(&reply);
    return e;
}

/* What comes right behind all keys that begin like this one; the caller frees. */
static char *end_of(const char *prefix)
{
    char *end = xstrdup(prefix);
    end[strlen(end) - 1]++; /* its last character is an 's' */
    return end;
}

/* --- steps ------------------------------------------------------------------------------------------------------- */

/* Go's strconv takes a sign. */
static bool read_size(struct slice text, int64_t *out)
{
    uint64_t n = 0;
    size_t i = text.len > 0 && text.data[0] == '+' ? 1 : 0;
    size_t first = i;
    for (; i < text.len && text.data[i] >= '0' && text.data[i] <= '9' && n <= FOUNDERS_MAX; i++) {
        n = n * 10 + (uint64_t)(text.data[i] - '0');
    }
    *out = (int64_t)n;
    return i == text.len && i > first && n > 0 && n <= FOUNDERS_MAX;
}

/* ERR_NOT_FOUND, ERR_INVALID: to be told to the user; others: to be tried again. */
static enum err read_config(struct discovery *d, struct err_ctx *ec)
{
    Etcdserverpb__RangeResponse *a = NULL;
    struct err_ctx why = {{0}};
    enum err e = get(d, d->registry->size_key, NULL, &a, &why);
    if (e != OK) {
        log_warn(d->log, "failed to get cluster size from discovery service", SERVICE(d), F_STR("clusterSizeKey", d->registry->size_key),
                 F_STR("error", why.text));
        e = err_set(ec, e == ERR_AUTH_FAILED ? e : ERR_IO, "%s", why.text);
    } else if (a->n_kvs == 0) {
        e = err_set(ec, ERR_NOT_FOUND, "discovery: size key not found");
    } else if (!read_size(slice_of(a->kvs[0]->value.data, a->kvs[0]->value.len), &d->size)) {
        e = err_set(ec, ERR_INVALID, "discovery: size key is bad");
    }
    etcdserverpb__range_response__free_unpacked(a, NULL);
    return e;
}

static void take_record(struct discovery *d, const Mvccpb__KeyValue *kv)
{
    struct err_ctx why = {{0}};
    struct slice key = slice_of(kv->key.data, kv->key.len);
    struct slice text = slice_of(kv->value.data, kv->value.len);
    enum err e = registry_add(d->registry, key, text, kv->create_revision, &why);
    char *key_text = xstrndup((const char *)key.data, key.len);
    char *info = xstrndup(text.len > 0 ? (const char *)text.data : "", text.len);
    log_emit(d->log, e == OK ? LOG_INFO : LOG_WARN, __FILE__, __LINE__, e == OK ? "found peer from discovery service" : why.text,
             (const struct log_field[]){SERVICE(d), F_STR("memberKey", key_text), F_STR("memberInfo", info)}, 4);
    free(key_text);
    free(info);
}

static enum err list_members(struct discovery *d, struct err_ctx *ec)
{
    Etcdserverpb__RangeResponse *a = NULL;
    char *end = end_of(d->registry->members_key);
    enum err e = get(d, d->registry->members_key, end, &a, ec);
    free(end);
    registry_reset(d->registry);
    if (e != OK) {
        log_warn(d->log, "failed to get cluster members from discovery service", SERVICE(d), F_STR("membersKeyPrefix", d->registry->members_key),
                 F_STR("error", ec->text));
    }
    for (size_t i = 0; e == OK && i < a->n_kvs; i++) {
        take_record(d, a->kvs[i]);
    }
    d->revision = e == OK ? a->header->revision : 0;
    etcdserverpb__range_response__free_unpacked(a, NULL);
    return e;
}

/* Wait longer each time: 2 s, 4 s, up to 256 s. */
static void back_off(struct discovery *d, const char *step)
{
    d->failures += d->failures < BACKOFF_DOUBLINGS_MAX ? 1 : 0;
    uint64_t wait_s = UINT64_C(1) << d->failures;
    log_warn(d->log, "retry connecting to discovery service", SERVICE(d), F_STR("reason", step), F_NS("backoff", wait_s * 1000000000u));
    (void)poll(NULL, 0, (int)wait_s * 1000);
}

/* Who is there, and is there a place for this member? */
static enum err check(struct discovery *d, struct err_ctx *ec)
{
    for (;;) {
        struct err_ctx why = {{0}};
        enum err e = read_config(d, ec);
        if (e == ERR_NOT_FOUND || e == ERR_INVALID || e == ERR_AUTH_FAILED) {
            return e;
        }
        if (e == OK && list_members(d, &why) == OK) {
            break;
        }
        back_off(d, "cluster status check");
    }
    d->failures = 0;
    return registry_is_full(d->registry, (size_t)d->size) ? err_set(ec, ERR_LIMIT, "discovery: cluster is full") : OK;
}

static void register_self(struct discovery *d, const char *own)
{
    for (;;) {
        Etcdserverpb__PutRequest q = ETCDSERVERPB__PUT_REQUEST__INIT;
        struct bytes reply = {0};
        struct err_ctx why = {{0}};
        q.key = binary(d->registry->own_key);
        q.value = binary(own);
        enum err e = ask(d, "/etcdserverpb.KV/Put", &q.base, &reply, &why);
        bytes_deinit(&reply);
        if (e == OK) {
            break;
        }
        log_warn(d->log, "failed to register members itself to the discovery service", SERVICE(d), F_STR("memberKey", d->registry->own_key),
                 F_STR("error", why.text));
        back_off(d, "register member itself");
    }
    d->failures = 0;
    log_info(d->log, "register member itself successfully", SERVICE(d), F_STR("memberKey", d->registry->own_key), F_STR("memberInfo", own));
}

/* --- waiting ----------------------------------------------------------------------------------------------------- */

static enum err open_watch(struct discovery *d, struct client_stream **out, struct err_ctx *ec)
{
    Etcdserverpb__WatchCreateRequest create = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchRequest q = ETCDSERVERPB__WATCH_REQUEST__INIT;
    struct bytes request = {0};
    char *end = end_of(d->registry->members_key);
    create.key = binary(d->registry->members_key);
    create.range_end = binary(end);
    create.start_revision = d->revision + 1;
    q.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    q.create_request = &create;
    pack(&q.base, &request);
    enum err e = connect_to(d, ec);
    if (e == OK) {
        e = client_stream_open(d->client, "/etcdserverpb.Watch/Watch", out);
    }
    if (e == OK) {
        e = client_stream_send(*out, bytes_slice(&request));
    }
    bytes_deinit(&request);
    free(end);
    return e;
}

/* One answer of the watch. ERR_END: it was cancelled. */
static enum err take_events(struct discovery *d, struct slice message)
{
    Etcdserverpb__WatchResponse *a = etcdserverpb__watch_response__unpack(NULL, message.len, message.data);
    if (a == NULL) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < a->n_events; i++) {
        if (a->events[i]->kv != NULL) {
            take_record(d, a->events[i]->kv);
        }
    }
    enum err e = a->canceled ? ERR_END : OK;
    etcdserverpb__watch_response__free_unpacked(a, NULL);
    return e;
}

/* Until all are there or the watch breaks off. */
static void watch(struct discovery *d)
{
    struct client_stream *s = NULL;
    struct bytes message = {0};
    struct err_ctx why = {{0}};
    enum err e = open_watch(d, &s, &why);
    while (e == OK && d->registry->n < (size_t)d->size) {
        e = client_stream_recv(s, WATCH_TURN_MS, &message);
        if (e == OK) {
            e = take_events(d, bytes_slice(&message));
        } else if (e == ERR_DEADLINE) {
            e = OK;
        }
    }
    if (e != OK) {
        const struct client_status *status = s != NULL ? client_stream_status(s) : NULL;
        log_warn(d->log, "lost the watch of the discovery service", SERVICE(d), F_STR("error", status != NULL ? status->text : why.text));
    }
    client_stream_close(&s);
    bytes_deinit(&message);
    if (e != OK) {
        go_on(d);
        back_off(d, "waiting for peers");
    }
}

static void wait_for_peers(struct discovery *d)
{
    log_info(d->log, "waiting for peers from discovery service", SERVICE(d), F_INT("clusterSize", d->size), F_UINT("found-peers", d->registry->n));
    while (d->registry->n < (size_t)d->size) {
        struct err_ctx why = {{0}};
        watch(d);
        while (d->registry->n < (size_t)d->size && list_members(d, &why) != OK) {
            back_off(d, "waiting for peers");
        }
        d->failures = 0;
    }
    log_info(d->log, "found all needed peers from discovery service", SERVICE(d), F_INT("clusterSize", d->size), F_UINT("found-peers", d->registry->n));
}

/* --- all of it --------------------------------------------------------------------------------------------------- */

static uint32_t ms_of(struct flag_set *f, const char *flag)
{
    int64_t ms = flag_get(f, flag)->i / 1000000;
    return ms <= 0 ? 0 : ms > INT32_MAX ? INT32_MAX : (uint32_t)ms;
}

static const char *text_or_null(struct flag_set *f, const char *flag)
{
    const char *text = flag_get(f, flag)->text;
    return text[0] != '\0' ? text : NULL;
}

/* "user:password", or the two apart. */
static void set_user(struct discovery *d, struct flag_set *f)
{
    const char *user = text_or_null(f, "discovery-user");
    const char *password = text_or_null(f, "discovery-password");
    const char *colon = user != NULL && password == NULL ? strchr(user, ':') : NULL;
    d->user = user == NULL ? NULL : colon != NULL ? xstrndup(user, (size_t)(colon - user)) : xstrdup(user);
    d->password = colon != NULL ? xstrdup(colon + 1) : password != NULL ? xstrdup(password) : NULL;
}

static void init(struct discovery *d, struct flag_set *f, struct logger *log, uint64_t id)
{
    *d = (struct discovery){.log = log, .token = flag_get(f, "discovery-token")->text};
    d->endpoints = (const char *const *)flag_get(f, "discovery-endpoints")->urls;
    d->n_endpoints = urls_count(d->endpoints);
    d->endpoint_list = urls_join(d->endpoints, "", ",");
    d->dial_ms = ms_of(f, "discovery-dial-timeout");
    d->request_ms = ms_of(f, "discovery-request-timeout");
    d->credential = flag_get(f, "discovery-config.client.auth.token")->text;
    struct client_tls *t = &d->options.tls;
    t->ca_file = text_or_null(f, "discovery-cacert");
    t->cert_file = text_or_null(f, "discovery-cert");
    t->key_file = text_or_null(f, "discovery-key");
    t->server_name = text_or_null(f, "discovery-config.client.secure.server-name");
    t->insecure_skip_verify = flag_get(f, "discovery-insecure-skip-tls-verify")->b;
    bool any = t->ca_file != NULL || t->cert_file != NULL || t->key_file != NULL || t->server_name != NULL || t->insecure_skip_verify;
    d->options.secure = any || !flag_get(f, "discovery-insecure-transport")->b;
    uint32_t alive = ms_of(f, "discovery-keepalive-time");
    d->options.keepalive_ms = alive == 0 ? 0 : alive < CLIENT_KEEPALIVE_MIN_MS ? CLIENT_KEEPALIVE_MIN_MS : alive;
    d->options.keepalive_timeout_ms = ms_of(f, "discovery-keepalive-timeout");
    set_user(d, f);
    d->registry = registry_create(d->token, id);
}

static void deinit(struct discovery *d)
{
    client_close(&d->client);
    registry_destroy(&d->registry);
    free(d->endpoint_list);
    free(d->user);
    if (d->password != NULL) {
        explicit_bzero(d->password, strlen(d->password));
    }
    free(d->password);
}

/* Files that cannot be used will not be so later either. */
static enum err check_files(const struct discovery *d, struct err_ctx *ec)
{
    const struct client_tls *t = &d->options.tls;
    const struct tls_context_config rules = {.cert_file = t->cert_file, .key_file = t->key_file, .trust = t->ca_file != NULL, .ca_file = t->ca_file};
    if ((t->cert_file == NULL) != (t->key_file == NULL)) {
        return err_set(ec, ERR_INVALID, "KeyFile and CertFile must both be present[key: %s, cert: %s]", t->key_file != NULL ? t->key_file : "",
                       t->cert_file != NULL ? t->cert_file : "");
    }
    SSL_CTX *ctx = NULL;
    enum err e = tls_context_create(&rules, &ctx, ec);
    if (e == OK) {
        SSL_CTX_free(ctx);
    }
    return e;
}

static enum err found(struct discovery *d, const char *own, char **cluster, struct err_ctx *ec)
{
    struct founders members = {0};
    enum err e = check(d, ec);
    if (e == OK) {
        register_self(d, own);
        e = check(d, ec);
    }
    if (e != OK) {
        return e;
    }
    wait_for_peers(d);
    char *text = registry_cluster(d->registry, (size_t)d->size);
    struct err_ctx why = {{0}};
    if (founders_parse(text, d->token, &members, &why) != OK) {
        e = err_set(ec, ERR_INVALID, "discovery: invalid peer URL");
    }
    founders_deinit(&members);
    *cluster = text;
    return e;
}

enum err discovery_join(struct flag_set *flags, struct logger *log, uint64_t id, const char *own, char **cluster, struct err_ctx *ec)
{
    struct discovery d;
    char *text = NULL;
    init(&d, flags, log, id);
    enum err e = check_files(&d, ec);
    if (e == OK) {
        e = found(&d, own, &text, ec);
        if (e == OK) {
            log_info(log, "discovery joined cluster successfully", SERVICE(&d), F_STR("cluster", text));
        } else {
            log_error(log, "discovery failed to join cluster", SERVICE(&d), F_STR("cluster", text), F_STR("error", ec->text));
        }
    }
    deinit(&d);
    if (e != OK) {
        free(text);
        return e;
    }
    *cluster = text;
    return OK;
}
