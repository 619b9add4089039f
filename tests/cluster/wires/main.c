/* main.c - cluster-wires: the network between namespaces, with faults.
 *
 * usage: cluster-wires SEED NAMESPACE...
 *
 * Opens an interface "t0" (TUN) in each namespace below /run/netns and carries IPv4 packets between
 * them: the packet for address a.b.c.N goes to the N-th namespace, counted from 1. A wire is
 * directed, and may lose packets and hold them back, so that every fault of a network is made here
 * and nothing is needed of the kernel but TUN. The interfaces vanish with this process.
 *
 * Standard input takes commands, each answered with "ok":
 *   wire FROM TO LOSS DELAY JITTER    loss per thousand; delay and jitter in microseconds
 *   heal                              all wires whole
 * The end of standard input ends the program.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/clock.h"
#include "base/mem.h"

#define ENDS_MAX 16u
#define PACKET_MAX 65536u /* bytes */
#define HELD_MAX 8192u    /* packets held back; more are lost, as in a full router */
#define IPV4_HEADER 20u
#define BURST 64u /* packets taken from one end before the others have their turn */

struct wire {
    unsigned loss;
    uint64_t delay_us;
    uint64_t jitter_us;
};

struct held {
    uint64_t due_ns;
    uint64_t order; /* of arrival: packets due at one moment keep it */
    unsigned to;
    size_t n;
    uint8_t *bytes; /* owned */
};

struct net {
    int ends[ENDS_MAX];
    unsigned n_ends;
    struct wire wires[ENDS_MAX][ENDS_MAX];
    struct held heap[HELD_MAX]; /* by due_ns, the soonest first */
    size_t n_held;
    uint64_t n_arrived;
    uint64_t random;
    uint8_t packet[PACKET_MAX];
};

static _Noreturn void die(const char *what)
{
    (void)fprintf(stderr, "cluster-wires: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t next_random(uint64_t *state)
{
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static int open_end(const char *namespace, int home)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "/run/netns/%s", namespace);
    int ns = open(path, O_RDONLY | O_CLOEXEC);
    if (ns < 0 || setns(ns, CLONE_NEWNET) != 0) {
        die(path);
    }
    (void)close(ns);
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq request = {.ifr_name = "t0"};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0) {
        die("TUN");
    }
    if (setns(home, CLONE_NEWNET) != 0) {
        die("back to the first namespace");
    }
    return fd;
}

/* ---- packets held back ---- */

static bool sooner(const struct held *a, const struct held *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void swap(struct held *a, struct held *b)
{
    struct held c = *a;
    *a = *b;
    *b = c;
}

static void hold(struct net *net, unsigned to, size_t n, uint64_t due_ns)
{
    if (net->n_held == HELD_MAX) {
        return;
    }
    uint8_t *bytes = xalloc(n);
    memcpy(bytes, net->packet, n);
    size_t i = net->n_held++;
    net->heap[i] = (struct held){due_ns, net->n_arrived++, to, n, bytes};
    while (i > 0 && sooner(&net->heap[i], &net->heap[(i - 1) / 2])) {
        swap(&net->heap[i], &net->heap[(i - 1) / 2]);
        i = (i - 1) / 2;
    }
}

static void drop_first(struct net *net)
{
    free(net->heap[0].bytes);
    net->heap[0] = net->heap[--net->n_held];
    size_t i = 0;
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < net->n_held; child++) {
            if (sooner(&net->heap[child], &net->heap[least])) {
                least = child;
            }
        }
        if (least == i) {
            return;
        }
        swap(&net->heap[i], &net->heap[least]);
        i = least;
    }
}

static void deliver(struct net *net, unsigned to, const uint8_t *bytes, size_t n)
{
    ssize_t written = write(net->ends[to], bytes, n);
    (void)written; /* a full or closed interface loses the packet, as interfaces do */
}

static void release(struct net *net, uint64_t now)
{
    while (net->n_held > 0 && net->heap[0].due_ns <= now) {
        deliver(net, net->heap[0].to, net->heap[0].bytes, net->heap[0].n);
        drop_first(net);
    }
}

/* ---- the loop ---- */

static void carry(struct net *net, unsigned from)
{
    for (unsigned i = 0; i < BURST; i++) {
        ssize_t n = read(net->ends[from], net->packet, PACKET_MAX);
        if (n <= 0) {
            return;
        }
        if ((size_t)n < IPV4_HEADER || net->packet[0] >> 4 != 4) {
            continue;
        }
        unsigned to = (unsigned)net->packet[19] - 1;
        if (to >= net->n_ends || to == from) {
            continue;
        }
        const struct wire *w = &net->wires[from][to];
        if (w->loss > 0 && next_random(&net->random) % 1000 < w->loss) {
            continue;
        }
        if (w->delay_us + w->jitter_us == 0) {
            deliver(net, to, net->packet, (size_t)n);
            continue;
        }
        uint64_t jitter = w->jitter_us > 0 ? next_random(&net->random) % w->jitter_us : 0;
        hold(net, to, (size_t)n, clock_now_ns(clock_real()) + (w->delay_us + jitter) * 1000u);
    }
}

static void obey(struct net *net, const char *line)
{
    unsigned from;
    unsigned to;
    struct wire w = {0};
    if (strcmp(line, "heal") == 0) {
        memset(net->wires, 0, sizeof(net->wires));
    } else if (sscanf(line, "wire %u %u %u %lu %lu", &from, &to, &w.loss, &w.delay_us,
                      &w.jitter_us) == 5 &&
               from < net->n_ends && to < net->n_ends && w.loss <= 1000) {
        net->wires[from][to] = w;
    } else {
        (void)printf("what: %s\n", line);
        (void)fflush(stdout);
        return;
    }
    (void)puts("ok");
    (void)fflush(stdout);
}

/* Commands come whole or in pieces; false at the end of standard input. */
static bool take_commands(struct net *net, char *buffer, size_t size, size_t *used)
{
    ssize_t n = read(STDIN_FILENO, buffer + *used, size - 1 - *used);
    if (n <= 0) {
        return false;
    }
    *used += (size_t)n;
    buffer[*used] = '\0';
    char *line = buffer;
    for (char *end = strchr(line, '\n'); end != NULL; end = strchr(line, '\n')) {
        *end = '\0';
        obey(net, line);
        line = end + 1;
    }
    *used = strlen(line);
    memmove(buffer, line, *used + 1);
    return *used < size - 1;
}

static void run(struct net *net)
{
    char commands[4096];
    size_t used = 0;
    for (;;) {
        struct pollfd fds[ENDS_MAX + 1];
        for (unsigned i = 0; i < net->n_ends; i++) {
            fds[i] = (struct pollfd){net->ends[i], POLLIN, 0};
        }
        fds[net->n_ends] = (struct pollfd){STDIN_FILENO, POLLIN, 0};
        uint64_t now = clock_now_ns(clock_real());
        struct timespec wait = {0};
        if (net->n_held > 0 && net->heap[0].due_ns > now) {
            uint64_t left = net->heap[0].due_ns - now;
            wait = (struct timespec){(time_t)(left / 1000000000u), (long)(left % 1000000000u)};
        }
        if (ppoll(fds, net->n_ends + 1, net->n_held > 0 ? &wait : NULL, NULL) < 0 &&
            errno != EINTR) {
            die("poll");
        }
        release(net, clock_now_ns(clock_real()));
        for (unsigned i = 0; i < net->n_ends; i++) {
            if ((fds[i].revents & POLLIN) != 0) {
                carry(net, i);
            }
        }
        if (fds[net->n_ends].revents != 0 &&
            !take_commands(net, commands, sizeof(commands), &used)) {
            return;
        }
    }
}

int main(int argc, char **argv)
{
    if (argc < 4 || argc - 2 > (int)ENDS_MAX) {
        (void)fputs("usage: cluster-wires SEED NAMESPACE...\n", stderr);
        return 2;
    }
    struct net *net = xcalloc(1, sizeof(*net));
    net->random = strtoull(argv[1], NULL, 10);
    int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    if (home < 0) {
        die("own namespace");
    }
    for (int i = 2; i < argc; i++) {
        net->ends[net->n_ends++] = open_end(argv[i], home);
    }
    (void)puts("ready");
    (void)fflush(stdout);
    run(net);
    while (net->n_held > 0) {
        drop_first(net);
    }
    free(net);
    return 0;
}
