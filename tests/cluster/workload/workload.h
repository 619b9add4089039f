/* workload.h - clients of a cluster whose members fail, and what they remember.
 *
 * What        Threads that read, write, watch and hold leases through a list of endpoints, as
 *             etcd's own clients would: a connection to one endpoint, the next one when it fails.
 *             Each thread records what it saw (tests/cluster/history.h).
 * Callers     the files of this folder.
 * Thread      struct shared is common to all: `stop` and `end_rev` are atomic, the rest is written
 *             before the threads start. Everything else belongs to one thread.
 */
#ifndef TESTS_CLUSTER_WORKLOAD_H
#define TESTS_CLUSTER_WORKLOAD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "api/client/client.h"
#include "base/slice.h"
#include "tests/cluster/history.h"

#define ENDPOINTS_MAX 16u
#define CLIENTS_MAX 32u
#define KEYS_MAX 64u
#define VALUE_BYTES_MAX 65536u
#define CALL_MS 2000u     /* for one attempt; etcd's own limit of seven seconds is too dear here */
#define REQUEST_MS 15000u /* for all attempts of one request; over: the request failed */
#define CONNECT_MS 500u
#define READER_CALL_MS 300u
#define READER_PERIOD_NS (25u * 1000000u)
#define READERS_FROM 1000u /* their client numbers */
#define PAUSE_MS 10u       /* between attempts */
#define END_MS 60000u      /* for the last write, and for watchers to reach it */
#define LEASE_TTL_S 3
#define SENTINEL_KEY 999999u
#define LEASE_KEYS 1000000u /* check.h says the same; leases number their keys from here */
#define VALUES_PER_CLIENT ((uint64_t)1 << 40)

struct shared {
    const char *endpoints[ENDPOINTS_MAX];
    unsigned n_endpoints;
    unsigned n_clients;
    unsigned n_keys;
    unsigned rate; /* operations per second, of all clients together */
    unsigned value_bytes;
    uint64_t seed;
    int64_t start_rev; /* watchers begin here */
    _Atomic bool stop;
    _Atomic int64_t end_rev;          /* 0: not known; watchers end there */
    _Atomic uint64_t end_deadline_ns; /* when watchers give up */
};

enum outcome {
    ANSWERED, /* OK */
    NOT_SENT, /* the server has not seen it, or says that it did nothing: try another */
    REFUSED,  /* the server's final word: it did not happen */
    UNKNOWN,
};

/* One thread's connection. */
struct session {
    const struct shared *shared;
    unsigned at; /* endpoint */
    bool pinned; /* stays with that endpoint */
    uint32_t call_ms;
    struct client *client;
    uint64_t random;
    uint64_t n_not_sent; /* attempts */
    char last_error[256];
};

uint64_t now_ns(void);
void sleep_ns(uint64_t ns);
uint64_t next_random(uint64_t *state);

void session_init(struct session *s, const struct shared *shared, unsigned endpoint, bool pinned,
                  uint64_t seed);
void session_deinit(struct session *s);
/* Connected to the current endpoint, or on to the next one: false. */
bool session_connect(struct session *s);
void session_drop(struct session *s);
/* One attempt. */
enum outcome session_call(struct session *s, const char *path, struct slice request,
                          struct bytes *reply);

/* ---- requests.c: encode, decode ---- */

struct reply {
    int64_t rev;
    bool succeeded; /* txn */
    int64_t deleted;
    int64_t mod; /* of the first key found, 0: none */
    uint64_t value;
    int64_t id;  /* lease */
    int64_t ttl; /* lease */
};

void key_text(uint32_t key, char out[64]);
uint32_t key_number(struct slice text);
void encode_put(struct bytes *b, uint32_t key, uint64_t value, unsigned value_bytes, int64_t lease);
void encode_range(struct bytes *b, uint32_t key, bool serializable);
void encode_delete(struct bytes *b, uint32_t key);
void encode_cas(struct bytes *b, uint32_t key, int64_t mod, uint64_t value, unsigned value_bytes);
void encode_pair(struct bytes *b, uint32_t key, uint32_t key2, uint64_t value,
                 unsigned value_bytes);
void encode_watch(struct bytes *b, int64_t start_rev);
void encode_grant(struct bytes *b, int64_t ttl_s);
void encode_keepalive(struct bytes *b, int64_t id);
void decode_reply(struct slice message, struct reply *out);
/* A key value of an event or of a range. */
void decode_kv(struct slice kv, uint32_t *key, uint64_t *value, int64_t *mod);

/* ---- the kinds of clients; each writes its records to its own part of the history ---- */

struct op_list {
    struct op *ops; /* owned */
    size_t n, cap;
};
void op_list_add(struct op_list *l, const struct op *o);

struct kv_client {
    struct session session;
    uint32_t number;
    uint64_t values; /* given out */
    int64_t mods[KEYS_MAX];
    struct op_list ops;
    uint64_t n_requests;
    uint64_t n_failed; /* no attempt succeeded within REQUEST_MS */
    uint64_t worst_ns; /* the slowest request */
    uint64_t n_ok;
    char first_failure[256];
    /* Attempts to write that got no answer: etcd's clients hand these to their callers, while they
     * repeat by themselves what was not sent and what only reads. */
    uint64_t n_unknown;
    char first_unknown[256];
};
void kv_init(struct kv_client *c, const struct shared *shared, uint32_t number);
void *kv_main(void *arg);
/* Reads through one endpoint, whatever its state: a member that is cut off must not serve what is
 * old as if it were new. */
void reader_init(struct kv_client *c, const struct shared *shared, uint32_t endpoint);
void *reader_main(void *arg);
/* Repeat the operation until an attempt is answered, or refused, or `limit_ms` is over. */
bool kv_request(struct kv_client *c, enum op_kind kind, uint32_t key, uint32_t key2,
                uint64_t limit_ms, int64_t *rev);
void kv_deinit(struct kv_client *c);

struct watcher {
    struct session session;
    uint32_t id;
    struct watch_run run;
    struct watch_event *events; /* owned */
    size_t n, cap;
    unsigned n_breaks;
    bool expendable;    /* its member will leave: not being there at the end is no fault */
    char canceled[256]; /* the server's reason to end the watch for good */
};
void *watch_main(void *arg);

struct lease_user {
    struct session session;
    uint32_t number;
    uint64_t values;
    uint32_t keys;            /* used so far */
    struct lease_read *reads; /* owned */
    size_t n, cap;
    uint64_t n_keepalives;
    uint64_t n_lost; /* the server said that the lease is gone while it should live */
};
void *lease_main(void *arg);
/* After the end: every lease's key must go. */
void lease_wait_gone(struct lease_user *u);

#endif
