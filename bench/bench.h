/* bench.h - what the commands of pintle-bench share.
 *
 * What        Options, the connection, keys and values, the printing of a result.
 * Callers     the files of this folder.   Thread  one.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include "api/client/client.h"
#include "api/proto/rpc.pb-c.h"
#include "bench/histogram.h"

#define CALL_MS 120000u
#define CONNECT_MS 10000u
#define KEY_BYTES_MAX 256u
#define VALUE_BYTES_MAX (1024u * 1024u)
#define BATCH_MAX 128u  /* puts in one txn */
#define DEPTH_MAX 4096u /* calls outstanding */

struct options {
    const char *endpoint;
    uint64_t requests;
    uint64_t keys; /* numbered from 0 */
    uint32_t key_bytes;
    uint32_t value_bytes;
    uint32_t depth;
    uint32_t batch;
    uint32_t rate; /* per second */
    uint32_t seconds;
    int64_t limit;
    int64_t revision;
    uint64_t first; /* number of the first key */
    int pid;
    uint32_t connections;
    bool serializable;
    bool physical;
    bool spread; /* begin each range at another key */
    const char *path;
    const char *file;
};

struct bench {
    const struct options *options;
    struct client *client;     /* owned */
    struct histogram *latency; /* nanoseconds; owned */
    uint64_t n_failed;
    char first_failure[CLIENT_STATUS_TEXT_MAX + 32];
};

/* Connect; prints and returns false on failure. */
bool bench_open(struct bench *b, const struct options *o);
void bench_close(struct bench *b);

/* Count a failed call and keep the first one's text. */
void bench_failed(struct bench *b, const struct client_status *status);

/* "requests=... seconds=... rate=... mean_us=... p50_us=..." on one line; true without failures. */
bool bench_print(const struct bench *b, uint64_t units, uint64_t elapsed_ns);

/* "WHAT_p50_us=... WHAT_p99_us=... WHAT_max_us=... ", in the midst of a line. */
void bench_print_latency(const char *what, const struct histogram *h);

/* The n-th key: "/bench/", zeros, the number; exactly key_bytes long. */
void bench_key(const struct options *o, uint64_t n, char key[KEY_BYTES_MAX + 1]);
ProtobufCBinaryData bench_binary(const void *data, size_t len);

uint64_t bench_now_ns(void);

/* The commands. They return the program's exit code. */
int bench_put(const struct options *o);   /* one client, one call at a time */
int bench_paced(const struct options *o); /* puts at a fixed rate, latency from when each is due */
int bench_load(const struct options *o);  /* many keys, pipelined, `batch` to a txn */
int bench_compact(const struct options *o);
int bench_range(const struct options *o);
int bench_wait(const struct options *o);  /* until a linearizable read answers */
int bench_frame(const struct options *o); /* a framed request body for another load tool */
int bench_call(const struct options *o);  /* send such a body once and show the status */
int bench_memory(const struct options *o);
int bench_probe(const struct options *o); /* puts and gets in turn for some time */
int bench_floor(const struct options *o); /* of timers, and of the disk below `path`: needs no server */
int bench_crowd(const struct options *o); /* clients that a server would rather not have, until standard input ends */
int bench_failover(const struct options *o); /* kill a leader, wait for the next one's first put */

#endif
