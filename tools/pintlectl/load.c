/* load.c - one loop: hand out puts when they are due and a connection is idle, poll, take answers.
 *
 * Puts that are due and find no idle connection wait, at most as many as there are connections;
 * what is due beyond that is never made up for, so that a slow server gets fewer puts.
 */
#include "tools/pintlectl/load.h"

#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "api/proto/rpc.pb-c.h"
#include "base/hash.h"
#include "base/mem.h"

#define NS_PER_S UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)
#define RECONNECT_NS (200 * NS_PER_MS) /* for a connection that was lost under load */
#define CONNECT_NS (10 * NS_PER_S)     /* for the first one */
#define TICK_NS (100 * NS_PER_MS)      /* how often progress shows */
#define GIVE_UP 50u                    /* failures in a row that end a load without a clock */
#define RANDOM_BYTES sizeof(uint64_t)  /* of a key; the others are zero */

struct worker {
    struct load *load;
    struct conn *conn;     /* owned */
    struct client *client; /* the conn's, while a put is under way */
    uint64_t begun_ns;     /* 0: idle */
};

struct load {
    struct worker workers[LOAD_CLIENTS_MAX];
    size_t n;
    const struct load_plan *plan; /* while load_run runs */
    struct load_result *result;
    struct bytes request; /* a packed put, whose key changes */
    size_t key_at;        /* where its random bytes are */
    size_t at;            /* where the search for an idle worker goes on */
    uint64_t seed, n_sent, n_ended;
    uint64_t n_dropped;   /* puts that were due when all connections were busy */
    unsigned n_failed;    /* since the last success */
    uint64_t driven_ns;   /* when all connections were driven */
    double mean, squares; /* Welford's running sums of the times */
};

struct load *load_create(const struct conn_options *options, size_t n_clients, struct arena *arena)
{
    ASSERT(n_clients <= LOAD_CLIENTS_MAX);
    struct load *l = xcalloc(1, sizeof(*l));
    size_t n = options->n_endpoints;
    const char **twice = cli_alloc(arena, (2 * n + 1) * sizeof(*twice));
    for (size_t i = 0; i < 2 * n; i++) {
        twice[i] = options->endpoints[i % n];
    }
    for (size_t i = 0; i < n_clients; i++) {
        struct conn_options o = *options;
        o.endpoints = twice + i % n;
        l->workers[i] = (struct worker){.load = l, .conn = ctl_open(&o)};
        l->n++;
    }
    if (getrandom(&l->seed, sizeof(l->seed), 0) < 0) {
        l->seed = now_ns();
    }
    return l;
}

void load_destroy(struct load **l)
{
    if (*l == NULL) {
        return;
    }
    for (size_t i = 0; i < (*l)->n; i++) {
        conn_close(&(*l)->workers[i].conn);
    }
    bytes_deinit(&(*l)->request);
    free(*l);
    *l = NULL;
}

/* ---- results ---- */

static void count_failure(struct load_result *r, const char *text)
{
    size_t i = 0;
    while (i < r->n_failures && strcmp(r->failures[i].text, text) != 0) {
        i++;
    }
    if (i == LOAD_FAILURES_MAX) {
        i--;
    } else if (i == r->n_failures) {
        (void)snprintf(r->failures[i].text, sizeof(r->failures[i].text), "%s", text);
        r->n_failures++;
    }
    r->failures[i].n++;
}

static void fail(struct load *l, const struct failure *f)
{
    char text[FAILURE_TEXT_MAX];
    failure_text(f, text);
    count_failure(l->result, text);
    l->n_ended++;
    l->n_failed++;
}

static void put_done(void *arg, const struct client_status *status, struct slice reply)
{
    (void)reply;
    struct worker *w = arg;
    struct load *l = w->load;
    double took = (double)(now_ns() - w->begun_ns) / (double)NS_PER_S;
    w->begun_ns = 0;
    ASSERT(l->result != NULL); /* load_run waits for all */
    if (status->code != CLIENT_CODE_OK) {
        struct failure f;
        failure_from(&f, status);
        fail(l, &f);
        return;
    }
    struct load_result *r = l->result;
    l->n_ended++;
    l->n_failed = 0;
    r->n_done++;
    double off = took - l->mean;
    l->mean += off / (double)r->n_done;
    l->squares += off * (took - l->mean);
    r->slowest_s = took > r->slowest_s ? took : r->slowest_s;
}

/* ---- puts ---- */

/* Pack one put; later ones differ in RANDOM_BYTES of their keys alone. */
static void pack_put(struct load *l)
{
    const struct load_plan *p = l->plan;
    size_t prefix = strlen(p->prefix);
    ASSERT(p->key_bytes >= RANDOM_BYTES);
    uint8_t *key = xcalloc(1, prefix + p->key_bytes);
    uint8_t *value = xcalloc(1, p->value_bytes + 1);
    memcpy(key, p->prefix, prefix);
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    put.key = (ProtobufCBinaryData){prefix + p->key_bytes, key};
    put.value = (ProtobufCBinaryData){p->value_bytes, value};
    size_t n = etcdserverpb__put_request__get_packed_size(&put);
    l->request.len = 0;
    l->request.len = etcdserverpb__put_request__pack(&put, bytes_reserve(&l->request, n + 1));
    const uint8_t *at = memmem(l->request.data, l->request.len, key, prefix + p->key_bytes);
    ASSERT(at != NULL);
    l->key_at = (size_t)(at - l->request.data) + prefix;
    free(key);
    free(value);
}

static void next_key(struct load *l)
{
    uint64_t seed[2] = {l->seed, l->n_sent};
    uint64_t r = hash64(seed, sizeof(seed));
    memcpy(l->request.data + l->key_at, &r, RANDOM_BYTES);
}

/* Take what came for one connection; one that failed is made anew with its next put. */
static void drive(struct worker *w)
{
    bool again = true;
    while (again && w->client != NULL) {
        if (client_drive(w->client, &again) != OK) {
            conn_drop(w->conn); /* all callbacks have run */
            again = false;
        }
        if (w->begun_ns == 0) {
            w->client = NULL;
        }
    }
}

static void send_put(struct load *l, struct worker *w)
{
    struct failure f = {0};
    l->n_sent++;
    if (!conn_fresh_client(w->conn, now_ns() + RECONNECT_NS, &w->client, &f)) {
        w->client = NULL;
        fail(l, &f);
        return;
    }
    next_key(l);
    w->begun_ns = now_ns();
    enum err e = client_submit(w->client, "/etcdserverpb.KV/Put", bytes_slice(&l->request),
                               LOAD_PUT_MS, put_done, w);
    if (e != OK) {
        w->begun_ns = 0;
        w->client = NULL;
        f = (struct failure){.code = CLIENT_CODE_UNAVAILABLE, .text = "connection lost"};
        fail(l, &f);
        conn_drop(w->conn);
    } else if (client_flush(w->client) != OK) {
        drive(w);
    }
}

/* ---- the loop ---- */

/* How far it is, where somebody looks on: by the clock when there is an end by the clock. */
static void show(const struct load_plan *p, uint64_t elapsed_ns, uint64_t n, bool last)
{
    if (isatty(STDERR_FILENO) != 1) {
        return;
    }
    uint64_t of = p->duration_ns == 0 ? p->n_max : p->duration_ns / NS_PER_S;
    uint64_t at = p->duration_ns == 0 ? n : elapsed_ns / NS_PER_S;
    (void)fprintf(stderr, "\r%" PRIu64 " / %" PRIu64 " %3.0f%%%s", at, of,
                  100.0 * (double)at / (double)of, last ? "\n" : "");
}

/* Puts that should have begun by now. */
static uint64_t due(const struct load_plan *p, uint64_t elapsed_ns)
{
    double n = (double)elapsed_ns / (double)NS_PER_S * (double)p->per_second;
    return p->per_second == 0 || n >= (double)p->n_max ? p->n_max : (uint64_t)n;
}

static struct worker *idle_worker(struct load *l)
{
    for (size_t i = 0; i < l->n; i++) {
        struct worker *w = &l->workers[l->at++ % l->n];
        if (w->begun_ns == 0) {
            return w;
        }
    }
    return NULL;
}

static bool given_up(const struct load *l)
{
    return l->plan->duration_ns == 0 && l->n_failed >= GIVE_UP;
}

/* Begin what is due as far as connections are idle. */
static void hand_out(struct load *l, uint64_t elapsed_ns)
{
    uint64_t n = due(l->plan, elapsed_ns) - l->n_dropped - l->n_sent;
    if (l->plan->per_second != 0 && n > l->n) {
        l->n_dropped += n - l->n;
        n = l->n;
    }
    struct worker *w = NULL;
    for (; n > 0 && !given_up(l) && (w = idle_worker(l)) != NULL; n--) {
        send_put(l, w);
    }
}

/* Wait for answers, for the next put that is due, or to be stopped: then true. */
static bool wait_and_drive(struct load *l, uint64_t wait_ns, bool stopped)
{
    struct pollfd fds[LOAD_CLIENTS_MAX + 1];
    struct worker *whose[LOAD_CLIENTS_MAX + 1];
    nfds_t n = 1;
    fds[0] = (struct pollfd){.fd = stopped ? -1 : l->plan->stop, .events = POLLIN};
    for (size_t i = 0; i < l->n; i++) {
        struct worker *w = &l->workers[i];
        if (w->begun_ns != 0) {
            short events = client_wants_write(w->client) ? POLLIN | POLLOUT : POLLIN;
            whose[n] = w;
            fds[n++] = (struct pollfd){.fd = client_fd(w->client), .events = events};
        }
    }
    struct timespec t = {(time_t)(wait_ns / NS_PER_S), (long)(wait_ns % NS_PER_S)};
    int ready = ppoll(fds, n, &t, NULL);
    /* Now and then all of them are driven, because calls have deadlines. */
    uint64_t now = now_ns();
    bool all = now - l->driven_ns >= TICK_NS;
    l->driven_ns = all ? now : l->driven_ns;
    for (nfds_t i = 1; i < n; i++) {
        if (all || (ready > 0 && fds[i].revents != 0)) {
            drive(whose[i]);
        }
    }
    return stopped || (ready > 0 && fds[0].revents != 0);
}

/* Until the next put is due, at most a tick. */
static uint64_t wait_time(const struct load *l, uint64_t elapsed_ns)
{
    const struct load_plan *p = l->plan;
    if (p->per_second == 0 || l->n_sent - l->n_ended == l->n) {
        return TICK_NS; /* answers come first */
    }
    double at = (double)(l->n_sent + l->n_dropped + 1) * (double)NS_PER_S / (double)p->per_second;
    uint64_t left = (uint64_t)at > elapsed_ns ? (uint64_t)at - elapsed_ns : 0;
    return left < TICK_NS ? left : TICK_NS;
}

/* What is not connected by then connects with its first put, which tells when that fails. */
static void connect_all(struct load *l)
{
    struct failure f;
    struct client *c = NULL;
    uint64_t deadline = now_ns() + CONNECT_NS;
    for (size_t i = 0; i < l->n && conn_client(l->workers[i].conn, deadline, &c, &f); i++) {
    }
}

void load_run(struct load *l, const struct load_plan *plan, struct load_result *out)
{
    memset(out, 0, sizeof(*out));
    l->plan = plan;
    l->result = out;
    pack_put(l);
    connect_all(l);
    uint64_t begun = now_ns();
    uint64_t elapsed = 0;
    uint64_t shown = UINT64_MAX;
    bool stopped = false;
    for (;;) {
        elapsed = now_ns() - begun;
        bool over = stopped || given_up(l) || l->n_sent == plan->n_max ||
                    (plan->duration_ns != 0 && elapsed >= plan->duration_ns);
        if (!over) {
            hand_out(l, elapsed);
        } else if (l->n_sent == l->n_ended) {
            break;
        }
        if (elapsed / TICK_NS != shown) {
            shown = elapsed / TICK_NS;
            show(plan, elapsed, l->n_ended, false);
        }
        stopped = wait_and_drive(l, over ? TICK_NS : wait_time(l, elapsed), stopped);
    }
    show(plan, elapsed, l->n_ended, true);
    out->total_s = (double)elapsed / (double)NS_PER_S;
    out->deviation_s = out->n_done == 0 ? NAN : sqrt(l->squares / (double)out->n_done);
    l->result = NULL;
}
