/* conn.c - fail-over, repetition and tokens around one api/client connection. */
#include "tools/pintlectl/conn.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "api/proto/rpc.pb-c.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"
#include "tools/pintlectl/failure_texts.h"

#define CONNECT_MS 20000u       /* as gRPC gives one attempt */
#define CONNECT_SHARED_MS 2000u /* when there are other endpoints to try */
#define PAUSE_MS 25u            /* after each round over the endpoints */
#define PAUSE_LONG_MS 500u      /* from PAUSES on */
#define PAUSES 40u
#define ATTEMPTS_MAX 100u
#define RENEWALS_MAX 10u

struct conn {
    struct conn_options o; /* borrows its texts */
    char **targets;        /* owned, as api/client wants them */
    size_t at;             /* endpoint of `client`, or the next one to try */
    struct client *client; /* NULL: none yet */
    char *token;           /* owned; NULL: anonymous */
    unsigned generation;   /* connections given up */
};

uint64_t now_ns(void)
{
    return clock_now_ns(clock_real());
}

void sleep_ms(unsigned ms)
{
    struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};
    (void)nanosleep(&t, NULL);
}

/* ---- failures ---- */

void failure_text(const struct failure *f, char out[FAILURE_TEXT_MAX])
{
    if (f->context || failure_text_known(f->text)) {
        (void)snprintf(out, FAILURE_TEXT_MAX, "%s", f->text);
        return;
    }
    (void)snprintf(out, FAILURE_TEXT_MAX, "rpc error: code = %s desc = %s",
                   failure_code_name(f->code), f->text);
}

bool failure_is(const struct failure *f, const char *text)
{
    return strcmp(f->text, text) == 0;
}

void failure_deadline(struct failure *f)
{
    *f = (struct failure){
        .code = CLIENT_CODE_DEADLINE, .context = true, .text = "context deadline exceeded"};
}

void failure_canceled(struct failure *f)
{
    *f =
        (struct failure){.code = CLIENT_CODE_CANCELED, .context = true, .text = "context canceled"};
}

void failure_from(struct failure *f, const struct client_status *status)
{
    if (status->local && status->code == CLIENT_CODE_DEADLINE) {
        failure_deadline(f);
        return;
    }
    f->code = status->code;
    f->context = false;
    (void)snprintf(f->text, sizeof(f->text), "%s", status->text);
}

/* ---- connections ---- */

/* Milliseconds to a deadline, at most `most`; 0 when it has passed. */
static uint32_t left_ms(deadline_ns deadline, uint32_t most)
{
    uint64_t now = now_ns();
    if (deadline == 0) {
        return most;
    }
    uint64_t ms = deadline <= now ? 0 : (deadline - now + 999999) / 1000000;
    return ms < most ? (uint32_t)ms : most;
}

void conn_drop(struct conn *c)
{
    client_close(&c->client);
    c->generation++;
    c->at = (c->at + 1) % c->o.n_endpoints;
}

unsigned conn_generation(const struct conn *c)
{
    return c->generation;
}

static bool connect_one(struct conn *c, uint32_t timeout_ms)
{
    struct err_ctx ec;
    if (client_connect_with(c->targets[c->at], &c->o.client, timeout_ms, &c->client, &ec) != OK) {
        return false;
    }
    /* As gRPC does: nothing is sent before the server has said something, so that a handshake it
     * refuses late is a failed attempt to connect and not a lost call. */
    if (client_pump(c->client, timeout_ms) != OK) {
        client_close(&c->client);
        return false;
    }
    if (c->token != NULL && client_metadata(c->client, "token", c->token) != OK) {
        client_close(&c->client);
        return false;
    }
    return true;
}

bool conn_client(struct conn *c, deadline_ns deadline, struct client **out, struct failure *f)
{
    for (unsigned tried = 1; c->client == NULL || !client_usable(c->client); tried++) {
        if (c->client != NULL) {
            conn_drop(c);
        }
        uint32_t left = left_ms(deadline, c->o.n_endpoints > 1 ? CONNECT_SHARED_MS : CONNECT_MS);
        if (left == 0) {
            failure_deadline(f);
            return false;
        }
        if (connect_one(c, left)) {
            break;
        }
        c->at = (c->at + 1) % c->o.n_endpoints;
        if (tried % c->o.n_endpoints == 0) {
            sleep_ms(
                left_ms(deadline, tried / c->o.n_endpoints < PAUSES ? PAUSE_MS : PAUSE_LONG_MS));
        }
    }
    *out = c->client;
    return true;
}

bool conn_fresh_client(struct conn *c, deadline_ns deadline, struct client **out, struct failure *f)
{
    if (c->client != NULL) {
        enum err e = client_pump(c->client, 0);
        if (e == ERR_CLOSED) {
            conn_drop(c);
        }
    }
    return conn_client(c, deadline, out, f);
}

static void pack(const ProtobufCMessage *m, struct bytes *out)
{
    size_t n = protobuf_c_message_get_packed_size(m);
    uint8_t *p = bytes_reserve(out, n + 1);
    out->len += protobuf_c_message_pack(m, p);
}

static bool send_too_large(const struct conn *c, size_t n, struct failure *f)
{
    if (n <= c->o.max_send_bytes) {
        return false;
    }
    f->code = CLIENT_CODE_EXHAUSTED;
    f->context = false;
    (void)snprintf(f->text, sizeof(f->text),
                   "trying to send message larger than max (%zu vs. %llu)", n,
                   (unsigned long long)c->o.max_send_bytes);
    return true;
}

/* One attempt. OK: there is an answer, good or bad; ERR_CLOSED: it was not sent. */
static enum err call_once(struct conn *c, const char *path, struct slice request,
                          deadline_ns deadline, struct client_status *status, struct bytes *reply,
                          struct failure *f)
{
    struct client *client = NULL;
    if (!conn_fresh_client(c, deadline, &client, f)) {
        return ERR_DEADLINE;
    }
    uint32_t left = left_ms(deadline, UINT32_MAX);
    if (left == 0) {
        failure_deadline(f);
        return ERR_DEADLINE;
    }
    enum err e = client_call(client, path, request, left, status, reply);
    if (e != OK || (status->local && status->code == CLIENT_CODE_UNAVAILABLE)) {
        conn_drop(c);
    }
    return e == OK ? OK : ERR_CLOSED;
}

static bool unpack(const struct conn *c, const ProtobufCMessageDescriptor *d, const struct bytes *b,
                   void *reply, struct failure *f)
{
    f->context = false;
    if (b->len > c->o.max_receive_bytes) {
        f->code = CLIENT_CODE_EXHAUSTED;
        (void)snprintf(f->text, sizeof(f->text),
                       "grpc: received message larger than max (%zu vs. %llu)", b->len,
                       (unsigned long long)c->o.max_receive_bytes);
        return false;
    }
    ProtobufCMessage *m = protobuf_c_message_unpack(d, NULL, b->len, b->data);
    if (m == NULL) {
        f->code = CLIENT_CODE_INTERNAL;
        (void)snprintf(f->text, sizeof(f->text), "grpc: failed to unmarshal the received message");
        return false;
    }
    *(ProtobufCMessage **)reply = m;
    return true;
}

/* Log in; the token is sent from now on. */
static bool authenticate(struct conn *c, deadline_ns deadline, struct failure *f)
{
    Etcdserverpb__AuthenticateRequest r = ETCDSERVERPB__AUTHENTICATE_REQUEST__INIT;
    r.name = (char *)(uintptr_t)c->o.user;
    r.password = (char *)(uintptr_t)c->o.password;
    struct bytes request = {0};
    struct bytes answer = {0};
    pack(&r.base, &request);
    Etcdserverpb__AuthenticateResponse *reply = NULL;
    enum err e = ERR_CLOSED;
    struct client_status status;
    for (unsigned i = 0; i < ATTEMPTS_MAX && e == ERR_CLOSED; i++) {
        e = call_once(c, "/etcdserverpb.Auth/Authenticate", bytes_slice(&request), deadline,
                      &status, &answer, f);
    }
    bool done = false;
    if (e == OK && status.code != CLIENT_CODE_OK) {
        failure_from(f, &status);
    } else if (e == OK) {
        done = unpack(c, &etcdserverpb__authenticate_response__descriptor, &answer, &reply, f);
    }
    if (done) {
        free(c->token);
        c->token = xstrdup(reply->token);
        done = c->client == NULL || client_metadata(c->client, "token", c->token) == OK;
        etcdserverpb__authenticate_response__free_unpacked(reply, NULL);
    }
    bytes_deinit(&request);
    bytes_deinit(&answer);
    return done;
}

bool conn_renew(struct conn *c, const struct failure *why, deadline_ns deadline)
{
    if (c->o.token != NULL) {
        return false;
    }
    bool stale = failure_is(why, "etcdserver: invalid auth token") ||
                 failure_is(why, "etcdserver: revision of auth store is old");
    bool ours = c->o.user != NULL;
    if (!stale && !(ours && failure_is(why, "etcdserver: user name is empty"))) {
        return false;
    }
    struct failure f;
    /* By certificate the old revision is only a reason to ask again. */
    return ours ? authenticate(c, deadline, &f)
                : failure_is(why, "etcdserver: revision of auth store is old");
}

static bool may_repeat(const struct conn *c, const struct failure *f, bool repeatable)
{
    if (c->o.n_endpoints > 1 && failure_is(f, "etcdserver: rpc not supported for learner")) {
        return true;
    }
    return repeatable && f->code == CLIENT_CODE_UNAVAILABLE;
}

/* Until there is an answer to give. */
static bool call_packed(struct conn *c, const char *path, struct slice request, bool repeatable,
                        deadline_ns deadline, struct bytes *answer, struct failure *f)
{
    unsigned renewals = 0;
    for (unsigned attempt = 1;; attempt++) {
        struct client_status status = {0};
        enum err e = call_once(c, path, request, deadline, &status, answer, f);
        if (e == ERR_DEADLINE) {
            return false;
        }
        if (e != OK) {
            continue;
        }
        if (status.code == CLIENT_CODE_OK) {
            return true;
        }
        failure_from(f, &status);
        if (f->context) {
            return false;
        }
        if (renewals++ < RENEWALS_MAX && conn_renew(c, f, deadline)) {
            continue;
        }
        if (!may_repeat(c, f, repeatable) || attempt >= ATTEMPTS_MAX) {
            return false;
        }
        if (c->client != NULL && c->o.n_endpoints > 1) {
            conn_drop(c);
        }
        if (attempt % c->o.n_endpoints == 0) {
            sleep_ms(left_ms(deadline, PAUSE_MS));
        }
    }
}

bool conn_call(struct conn *c, const char *path, const ProtobufCMessage *request, bool repeatable,
               const ProtobufCMessageDescriptor *answer, deadline_ns deadline, void *reply,
               struct failure *f)
{
    struct bytes packed = {0};
    struct bytes received = {0};
    pack(request, &packed);
    bool done = !send_too_large(c, packed.len, f) &&
                call_packed(c, path, bytes_slice(&packed), repeatable, deadline, &received, f) &&
                unpack(c, answer, &received, reply, f);
    bytes_deinit(&packed);
    bytes_deinit(&received);
    return done;
}

bool conn_send(struct client_stream *s, const ProtobufCMessage *m)
{
    struct bytes packed = {0};
    pack(m, &packed);
    enum err e = client_stream_send(s, bytes_slice(&packed));
    bytes_deinit(&packed);
    return e == OK;
}

bool conn_stream(struct conn *c, const char *path, const ProtobufCMessage *first, bool wants_leader,
                 deadline_ns deadline, struct client_stream **out, struct failure *f)
{
    const struct client_pair leader = {"hasleader", slice_str("true")};
    for (;;) {
        struct client *client = NULL;
        if (!conn_fresh_client(c, deadline, &client, f)) {
            return false;
        }
        enum err e = client_stream_open_with(client, path, &leader, wants_leader ? 1 : 0, out);
        if (e == OK && conn_send(*out, first)) {
            return true;
        }
        if (e == OK) {
            client_stream_close(out);
        }
        conn_drop(c);
    }
}

/* ---- life ---- */

bool conn_open(const struct conn_options *o, struct conn **out, struct failure *f)
{
    ASSERT(o->n_endpoints > 0);
    struct conn *c = xcalloc(1, sizeof(*c));
    c->o = *o;
    c->targets = xcalloc(o->n_endpoints, sizeof(*c->targets));
    for (size_t i = 0; i < o->n_endpoints; i++) {
        c->targets[i] = conn_target(o->endpoints[0], o->endpoints[i], o->client.secure);
    }
    if (o->token != NULL) {
        c->token = xstrdup(o->token);
    }
    if (o->token == NULL && o->user != NULL && !authenticate(c, now_ns() + o->dial_timeout_ns, f) &&
        !failure_is(f, "etcdserver: authentication is not enabled")) {
        conn_close(&c);
        return false;
    }
    *out = c;
    return true;
}

void conn_close(struct conn **c)
{
    if (*c == NULL) {
        return;
    }
    client_close(&(*c)->client);
    for (size_t i = 0; i < (*c)->o.n_endpoints; i++) {
        free((*c)->targets[i]);
    }
    free((*c)->targets);
    free((*c)->token);
    free(*c);
    *c = NULL;
}
