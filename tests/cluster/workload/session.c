/* session.c - one connection at a time, and what an attempt's end means. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tests/cluster/workload/workload.h"

uint64_t now_ns(void)
{
    return clock_now_ns(clock_real());
}

void sleep_ns(uint64_t ns)
{
    struct timespec ts = {(time_t)(ns / 1000000000u), (long)(ns % 1000000000u)};
    (void)nanosleep(&ts, NULL);
}

uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

void session_init(struct session *s, const struct shared *shared, unsigned endpoint, bool pinned,
                  uint64_t seed)
{
    *s = (struct session){.shared = shared,
                          .at = endpoint % shared->n_endpoints,
                          .pinned = pinned,
                          .call_ms = CALL_MS,
                          .random = seed};
}

void session_deinit(struct session *s)
{
    client_close(&s->client);
}

void session_drop(struct session *s)
{
    client_close(&s->client);
    if (!s->pinned) {
        s->at = (s->at + 1) % s->shared->n_endpoints;
    }
}

static void remember(struct session *s, const char *what, uint32_t code, const char *text)
{
    (void)snprintf(s->last_error, sizeof(s->last_error), "%s: %s: code %u %.150s",
                   s->shared->endpoints[s->at], what, code, text);
}

bool session_connect(struct session *s)
{
    struct err_ctx ec = {{0}};
    if (s->client != NULL) {
        /* The server may have said good-bye. */
        enum err e = client_pump(s->client, 0);
        if ((e == OK || e == ERR_DEADLINE) && client_usable(s->client)) {
            return true;
        }
        session_drop(s);
    }
    if (client_connect(s->shared->endpoints[s->at], CONNECT_MS, &s->client, &ec) == OK) {
        return true;
    }
    remember(s, "connect", 0, ec.text);
    session_drop(s);
    return false;
}

static enum outcome meaning(const struct client_status *status)
{
    static const uint32_t final[] = {
        3,  /* InvalidArgument */
        5,  /* NotFound */
        7,  /* PermissionDenied */
        9,  /* FailedPrecondition */
        11, /* OutOfRange */
        12, /* Unimplemented */
        16, /* Unauthenticated */
    };
    if (status->code == CLIENT_CODE_OK) {
        return ANSWERED;
    }
    if (status->local) {
        /* 7 is HTTP/2's REFUSED_STREAM: no application has seen the stream. */
        bool refused = strstr(status->text, "HTTP 0, error 7") != NULL;
        return refused ? NOT_SENT : UNKNOWN;
    }
    bool nothing_done = strstr(status->text, "rpc not supported for learner") != NULL ||
                        strstr(status->text, "too many requests") != NULL;
    if (nothing_done) {
        return NOT_SENT;
    }
    for (size_t i = 0; i < sizeof(final) / sizeof(final[0]); i++) {
        if (status->code == final[i]) {
            return REFUSED;
        }
    }
    return UNKNOWN;
}

enum outcome session_call(struct session *s, const char *path, struct slice request,
                          struct bytes *reply)
{
    if (!session_connect(s)) {
        s->n_not_sent++;
        return NOT_SENT;
    }
    struct client_status status = {0};
    if (client_call(s->client, path, request, s->call_ms, &status, reply) != OK) {
        s->n_not_sent++;
        session_drop(s);
        return NOT_SENT;
    }
    enum outcome o = meaning(&status);
    if (o != ANSWERED) {
        remember(s, path, status.code, status.text);
        s->n_not_sent += o == NOT_SENT;
        session_drop(s);
    }
    return o;
}
