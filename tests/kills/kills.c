/* kills.c - SIGKILL at random moments under load: nothing acknowledged may be lost.
 *
 * usage: kills PINTLE DATA_DIR PORT KILLS [SEED]
 *
 * Each round starts the server on the same data directory, checks every key against what was acknowledged before, lets several
 * clients write for a random while, and kills it. A key's value is a counter: after a restart it must be at least the highest
 * acknowledged and at most the highest sent. Every client also writes a pair of keys in one transaction: they must be equal.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "api/client/client.h"
#include "base/assert.h"
#include "base/wire.h"

#define CLIENTS 6u
#define KEYS 12u          /* of each client; each has one write under way */
#define PAIR KEYS         /* the slot of the transaction's pair */
#define RUN_MS_MAX 160u
#define READY_MS_MAX 20000u

struct slot {
    uint64_t sent;
    uint64_t acked;
};

struct worker {
    unsigned number;
    const char *target;
    struct client *client;
    struct slot slots[KEYS + 1];
    uint64_t writes;
};

struct call {
    struct worker *worker;
    unsigned slot;
    uint64_t value;
};

static _Noreturn void fail(const char *what)
{
    (void)fprintf(stderr, "kills: %s\n", what);
    abort();
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void sleep_ms(uint64_t ms)
{
    struct timespec ts = {(time_t)(ms / 1000u), (long)(ms % 1000u) * 1000000};
    (void)nanosleep(&ts, NULL);
}

/* --- the writers ------------------------------------------------------------------------------------------- */

static void key_of(char *out, size_t n, unsigned worker, unsigned slot, char which)
{
    (void)snprintf(out, n, "kills/%u/%u%c", worker, slot, which);
}

static void encode_put(struct bytes *b, const char *key, uint64_t value)
{
    char text[256];
    int n = snprintf(text, sizeof(text), "%llu", (unsigned long long)value);
    /* Some are longer than a sector, so that a torn write shows. */
    size_t pad = value % 7u == 0 ? 180u : 0u;
    memset(text + n, ' ', pad);
    wire_add_bytes(b, 1, slice_str(key));
    wire_add_bytes(b, 2, slice_of(text, (size_t)n + pad));
}

static void send_write(struct worker *w, unsigned slot);

static void on_done(void *arg, const struct client_status *status, struct slice reply)
{
    struct call *c = arg;
    (void)reply;
    struct worker *w = c->worker;
    if (status->code == CLIENT_CODE_OK) {
        ASSERT(w->slots[c->slot].acked < c->value);
        w->slots[c->slot].acked = c->value;
        w->writes++;
        send_write(w, c->slot);
    }
    free(c);
}

static void send_write(struct worker *w, unsigned slot)
{
    struct bytes request = {0};
    struct bytes op = {0};
    struct bytes put = {0};
    char key[64];
    struct call *c = malloc(sizeof(*c));
    ASSERT(c != NULL);
    *c = (struct call){w, slot, ++w->slots[slot].sent};
    if (slot == PAIR) {
        for (char which = 'a'; which <= 'b'; which++) {
            bytes_reset(&put);
            bytes_reset(&op);
            key_of(key, sizeof(key), w->number, slot, which);
            encode_put(&put, key, c->value);
            wire_add_message(&op, 2, bytes_slice(&put));      /* RequestOp.request_put */
            wire_add_message(&request, 2, bytes_slice(&op));  /* TxnRequest.success */
        }
    } else {
        key_of(key, sizeof(key), w->number, slot, 'k');
        encode_put(&request, key, c->value);
    }
    enum err e = client_submit(w->client, slot == PAIR ? "/etcdserverpb.KV/Txn" : "/etcdserverpb.KV/Put", bytes_slice(&request), 30000,
                               on_done, c);
    if (e != OK) {
        free(c);
    }
    bytes_deinit(&request);
    bytes_deinit(&op);
    bytes_deinit(&put);
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct err_ctx ec;
    if (client_connect(w->target, 5000, &w->client, &ec) != OK) {
        return NULL; /* killed already */
    }
    for (unsigned i = 0; i <= KEYS; i++) {
        send_write(w, i);
    }
    enum err e;
    do {
        e = client_pump(w->client, 100);
    } while (e == OK || e == ERR_DEADLINE);
    client_close(&w->client);
    return NULL;
}

/* --- the check ------------------------------------------------------------------------------------------------ */

/* The key's counter by a linearizable read; 0 when it is absent. */
static bool read_counter(struct client *c, const char *key, uint64_t *out)
{
    struct bytes request = {0};
    struct bytes reply = {0};
    struct client_status status;
    wire_add_bytes(&request, 1, slice_str(key));
    bool ok = client_call(c, "/etcdserverpb.KV/Range", bytes_slice(&request), 10000, &status, &reply) == OK && status.code == CLIENT_CODE_OK;
    *out = 0;
    struct slice rest = bytes_slice(&reply);
    struct wire_field f;
    while (ok && wire_next(&rest, &f) == OK) {
        if (f.number != 2) {
            continue;
        }
        struct slice kv = f.bytes;
        while (wire_next(&kv, &f) == OK) {
            if (f.number == 5) {
                *out = (uint64_t)strtoull((const char *)f.bytes.data, NULL, 10);
            }
        }
    }
    bytes_deinit(&request);
    bytes_deinit(&reply);
    return ok;
}

static void check_worker(struct client *c, struct worker *w)
{
    char key[64];
    char text[256];
    for (unsigned i = 0; i < KEYS; i++) {
        uint64_t v = 0;
        key_of(key, sizeof(key), w->number, i, 'k');
        if (!read_counter(c, key, &v)) {
            fail("a read after the restart failed");
        }
        if (v < w->slots[i].acked || v > w->slots[i].sent) {
            (void)snprintf(text, sizeof(text), "%s is %llu: acknowledged %llu, sent %llu", key, (unsigned long long)v,
                           (unsigned long long)w->slots[i].acked, (unsigned long long)w->slots[i].sent);
            fail(text);
        }
    }
    uint64_t pair[2] = {0, 0};
    for (unsigned i = 0; i < 2; i++) {
        key_of(key, sizeof(key), w->number, PAIR, (char)('a' + i));
        if (!read_counter(c, key, &pair[i])) {
            fail("a read after the restart failed");
        }
    }
    if (pair[0] != pair[1]) {
        fail("a transaction was applied in part");
    }
    if (pair[0] < w->slots[PAIR].acked || pair[0] > w->slots[PAIR].sent) {
        fail("an acknowledged transaction is lost");
    }
}

/* --- rounds ------------------------------------------------------------------------------------------------------ */

static pid_t start(const char *binary, const char *data, const char *url)
{
    pid_t pid = fork();
    if (pid != 0) {
        return pid;
    }
    char log[4096];
    (void)snprintf(log, sizeof(log), "%s.log", data);
    if (freopen(log, "a", stderr) == NULL) {
        _exit(126);
    }
    (void)execl(binary, binary, "--data-dir", data, "--listen-client-urls", url, "--advertise-client-urls", url, "--listen-peer-urls",
                "http://127.0.0.1:0", (char *)NULL);
    _exit(127);
}

/* A connection to a server that serves; it must come up by itself. */
static struct client *connect_ready(pid_t pid, const char *target)
{
    for (unsigned waited = 0; waited < READY_MS_MAX; waited += 5) {
        struct client *c = NULL;
        struct err_ctx ec;
        uint64_t ignored;
        if (client_connect(target, 1000, &c, &ec) == OK && read_counter(c, "kills/none", &ignored)) {
            return c;
        }
        client_close(&c);
        int status;
        if (waitpid(pid, &status, WNOHANG) == pid) {
            fail("the server ended instead of starting");
        }
        sleep_ms(5);
    }
    fail("the server did not get ready");
}

int main(int argc, char **argv)
{
    if (argc < 5) {
        (void)fprintf(stderr, "usage: kills PINTLE DATA_DIR PORT KILLS [SEED]\n");
        return 2;
    }
    uint64_t seed = argc > 5 ? (uint64_t)strtoull(argv[5], NULL, 10) : (uint64_t)getpid() * 2654435761u;
    unsigned kills = (unsigned)strtoul(argv[4], NULL, 10);
    char url[64];
    char target[64];
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%s", argv[3]);
    (void)snprintf(target, sizeof(target), "127.0.0.1:%s", argv[3]);
    printf("seed %llu\n", (unsigned long long)seed);
    struct worker workers[CLIENTS];
    memset(workers, 0, sizeof(workers));
    for (unsigned round = 0; round <= kills; round++) {
        pid_t pid = start(argv[1], argv[2], url);
        struct client *c = connect_ready(pid, target);
        for (unsigned i = 0; i < CLIENTS; i++) {
            check_worker(c, &workers[i]);
        }
        client_close(&c);
        pthread_t threads[CLIENTS];
        for (unsigned i = 0; i < CLIENTS && round < kills; i++) {
            workers[i].number = i;
            workers[i].target = target;
            ASSERT(pthread_create(&threads[i], NULL, worker_main, &workers[i]) == 0);
        }
        sleep_ms(round < kills ? next_random(&seed) % RUN_MS_MAX : 0);
        (void)kill(pid, SIGKILL);
        int status;
        ASSERT(waitpid(pid, &status, 0) == pid);
        for (unsigned i = 0; i < CLIENTS && round < kills; i++) {
            pthread_join(threads[i], NULL);
        }
    }
    uint64_t writes = 0;
    for (unsigned i = 0; i < CLIENTS; i++) {
        writes += workers[i].writes;
    }
    printf("%u kills, %llu acknowledged writes, none lost\n", kills, (unsigned long long)writes);
    return writes > 0 ? 0 : 1;
}
