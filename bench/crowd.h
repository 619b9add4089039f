/* crowd.h - clients that a server would rather not have.
 *
 * What        crowd.c opens connections and keeps them going; crowd_scenes.c says what each kind of them sends.
 * Callers     pintle-bench.   Thread  one.
 */
#ifndef BENCH_CROWD_H
#define BENCH_CROWD_H

#include <openssl/ssl.h>

#include "base/slice.h"
#include "bench/bench.h"

#define CROWD_MAX 32768u             /* connections */
#define CROWD_CHUNK_BYTES 65536u     /* written to one connection before the next has its turn, about */
#define CROWD_SOURCE_CONNECTIONS 5000u /* from one loopback address; the next come from the next one */
#define CROWD_READY_S 120u           /* for all to be served as far as the scene goes; over: given up */

/* One of the crowd. */
struct guest {
    int fd;
    SSL *ssl; /* owned; NULL: plain */
    bool up;  /* connected, and TLS is done */
    bool served; /* as far as the scene goes */
    uint32_t number;
    uint32_t stream; /* the next */
    struct bytes out; /* owned */
    size_t out_at;
    uint64_t due_ns; /* of the next byte, where they trickle */
    uint8_t head[9]; /* of the frame that comes in */
    uint8_t n_head;
    uint32_t left;
};

struct scene {
    const char *name;
    bool secure;
    bool deaf;     /* never reads */
    bool once;     /* goes as soon as it was answered; another one comes */
    bool settings; /* it is served when the server's SETTINGS are here; otherwise when all is written */
    bool trickle;  /* a byte a second */
    void (*first)(struct guest *g);
    void (*more)(struct guest *g); /* once that is written; NULL: nothing */
};

/* NULL: no such. */
const struct scene *scene_find(const char *name);
void scene_list(FILE *to);

#endif
