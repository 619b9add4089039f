/* floor.c - what this machine does to whoever is paced, without any server: how late a timer is, and how long a small write takes to be on the disk. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "bench/bench.h"

#define NS_PER_S 1000000000u
#define WRITE_BYTES 512u
#define FILE_BYTES (1024u * 1024u) /* written over and over */

struct floor_file {
    int fd;
    uint64_t at;
};

/* A file whose blocks are all written, so that no sync has to note where they are. */
static bool make_file(const char *folder, struct floor_file *f)
{
    char *path = xasprintf("%s/pintle-bench-floor-XXXXXX", folder);
    uint8_t *zeroes = xcalloc(1, FILE_BYTES);
    f->fd = mkstemp(path);
    bool good = f->fd >= 0 && unlink(path) == 0 && pwrite(f->fd, zeroes, FILE_BYTES, 0) == (ssize_t)FILE_BYTES && fsync(f->fd) == 0;
    if (!good) {
        (void)fprintf(stderr, "%s: %s\n", path, strerror(errno));
    }
    free(zeroes);
    free(path);
    return good;
}

static bool write_one(struct floor_file *f)
{
    static const uint8_t bytes[WRITE_BYTES];
    bool good = pwrite(f->fd, bytes, sizeof(bytes), (off_t)f->at) == (ssize_t)sizeof(bytes) && fdatasync(f->fd) == 0;
    f->at = (f->at + WRITE_BYTES) % FILE_BYTES;
    return good;
}

int bench_floor(const struct options *o)
{
    struct floor_file f = {.fd = -1};
    bool good = o->path[0] == '\0' || make_file(o->path, &f);
    struct histogram *late = xcalloc(1, sizeof(*late));
    struct histogram *sync = xcalloc(1, sizeof(*sync));
    uint64_t start = bench_now_ns();
    uint64_t n = (uint64_t)o->rate * o->seconds;
    for (uint64_t i = 1; i <= n && good; i++) {
        uint64_t due = start + i * NS_PER_S / o->rate;
        struct timespec t = {.tv_sec = (time_t)(due / NS_PER_S), .tv_nsec = (long)(due % NS_PER_S)};
        while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
        }
        uint64_t awake = bench_now_ns();
        histogram_add(late, awake - due);
        if (f.fd >= 0) {
            good = write_one(&f);
            histogram_add(sync, bench_now_ns() - awake);
        }
    }
    bench_print_latency("timer", late);
    if (f.fd >= 0) {
        bench_print_latency("sync", sync);
        (void)close(f.fd);
    }
    printf("failed=%d\n", good ? 0 : 1);
    free(late);
    free(sync);
    return good ? 0 : 1;
}
