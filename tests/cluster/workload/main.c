/* main.c - cluster-workload: load a cluster until standard input ends, then write the history.
 *
 * usage: cluster-workload --endpoints HOST:PORT,... --out FILE [--seed N] [--clients N] [--keys N]
 *            [--rate N] [--leases N] [--seconds N] [--value-bytes N] [--no-watch]
 *            [--leaving N]...
 *
 * Each endpoint gets one watcher and one reader that stay with it; it need not be up yet, and the
 * N-th may be --leaving for good. "started" is printed when the first write was acknowledged. When
 * standard input ends, or after --seconds, the clients end, a last write marks the end, watchers
 * run up to it, every key is read once more through every endpoint, and keys on leases must go. One
 * line of counts follows; watchers that did not reach the end are named. Exit code 0 when the last
 * write and the last reads succeeded.
 */
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tests/cluster/workload/workload.h"

struct run {
    struct shared shared;
    struct kv_client clients[CLIENTS_MAX];
    struct kv_client last; /* does the first write, the last one and the last reads */
    struct kv_client readers[ENDPOINTS_MAX];
    unsigned n_readers;
    struct watcher watchers[ENDPOINTS_MAX];
    unsigned n_watchers;
    struct lease_user leases[CLIENTS_MAX];
    unsigned n_leases;
    unsigned seconds;
    const char *out;
};

enum option_id {
    ENDPOINTS = 1,
    OUT,
    SEED,
    CLIENTS,
    KEYS,
    RATE,
    LEASES,
    SECONDS,
    VALUE,
    NO_WATCH,
    LEAVING
};

static const struct option longs[] = {
    {"endpoints", required_argument, NULL, ENDPOINTS},
    {"out", required_argument, NULL, OUT},
    {"seed", required_argument, NULL, SEED},
    {"clients", required_argument, NULL, CLIENTS},
    {"keys", required_argument, NULL, KEYS},
    {"rate", required_argument, NULL, RATE},
    {"leases", required_argument, NULL, LEASES},
    {"seconds", required_argument, NULL, SECONDS},
    {"value-bytes", required_argument, NULL, VALUE},
    {"no-watch", no_argument, NULL, NO_WATCH},
    {"leaving", required_argument, NULL, LEAVING},
    {NULL, 0, NULL, 0},
};

static unsigned bounded(const char *text, unsigned least, unsigned most)
{
    char *end = NULL;
    unsigned long v = strtoul(text, &end, 10);
    if (*text == '\0' || *end != '\0' || v < least || v > most) {
        (void)fprintf(stderr, "cluster-workload: \"%s\" is not from %u to %u\n", text, least, most);
        exit(2);
    }
    return (unsigned)v;
}

static bool parse(int argc, char **argv, struct run *r)
{
    struct shared *s = &r->shared;
    bool no_watch = false;
    int id;
    while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (id == ENDPOINTS) {
            char *rest = NULL;
            for (char *e = strtok_r(optarg, ",", &rest);
                 e != NULL && s->n_endpoints < ENDPOINTS_MAX; e = strtok_r(NULL, ",", &rest)) {
                s->endpoints[s->n_endpoints++] = e;
            }
        } else if (id == OUT) {
            r->out = optarg;
        } else if (id == SEED) {
            s->seed = strtoull(optarg, NULL, 10);
        } else if (id == CLIENTS) {
            s->n_clients = bounded(optarg, 1, CLIENTS_MAX);
        } else if (id == KEYS) {
            s->n_keys = bounded(optarg, 2, KEYS_MAX);
        } else if (id == RATE) {
            s->rate = bounded(optarg, 1, 100000);
        } else if (id == LEASES) {
            r->n_leases = bounded(optarg, 0, CLIENTS_MAX);
        } else if (id == SECONDS) {
            r->seconds = bounded(optarg, 1, 86400);
        } else if (id == VALUE) {
            s->value_bytes = bounded(optarg, 0, VALUE_BYTES_MAX);
        } else if (id == LEAVING) {
            r->watchers[bounded(optarg, 0, ENDPOINTS_MAX - 1)].expendable = true;
        } else if (id == NO_WATCH) {
            no_watch = true;
        } else {
            return false;
        }
    }
    r->n_readers = s->n_endpoints;
    r->n_watchers = no_watch ? 0 : s->n_endpoints;
    return optind == argc && s->n_endpoints > 0 && r->out != NULL;
}

static void wait_for_end(const struct run *r)
{
    uint64_t until = now_ns() + r->seconds * 1000000000ull;
    char ignored[64];
    for (;;) {
        uint64_t now = now_ns();
        if (r->seconds > 0 && now >= until) {
            return;
        }
        struct pollfd p = {STDIN_FILENO, POLLIN, 0};
        int n = poll(&p, 1, r->seconds > 0 ? (int)((until - now) / 1000000u + 1) : -1);
        if (n > 0 && read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0) {
            return;
        }
    }
}

static void start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    ASSERT(pthread_create(thread, NULL, run, arg) == 0);
}

static void write_ops(FILE *f, const struct kv_client *c)
{
    for (size_t i = 0; i < c->ops.n; i++) {
        history_print_op(f, &c->ops.ops[i]);
    }
}

static void write_history(struct run *r)
{
    FILE *f = fopen(r->out, "w");
    ASSERT(f != NULL);
    (void)fprintf(f, "# seed %" PRIu64 "\n", r->shared.seed);
    for (unsigned i = 0; i < r->shared.n_clients; i++) {
        write_ops(f, &r->clients[i]);
    }
    for (unsigned i = 0; i < r->n_readers; i++) {
        write_ops(f, &r->readers[i]);
    }
    write_ops(f, &r->last);
    for (unsigned i = 0; i < r->n_watchers; i++) {
        history_print_watch(f, &r->watchers[i].run);
        for (size_t j = 0; j < r->watchers[i].n; j++) {
            history_print_event(f, &r->watchers[i].events[j]);
        }
    }
    for (unsigned i = 0; i < r->n_leases; i++) {
        for (size_t j = 0; j < r->leases[i].n; j++) {
            history_print_lease(f, &r->leases[i].reads[j]);
        }
    }
    ASSERT(fflush(f) == 0 && fclose(f) == 0);
}

static void print_counts(const struct run *r, bool ended)
{
    uint64_t requests = 0, ok = 0, failed = 0, unknown = 0, not_sent = 0, worst = 0;
    uint64_t events = 0, breaks = 0, renewals = 0, lost = 0;
    unsigned cut = 0;
    for (unsigned i = 0; i < r->shared.n_clients; i++) {
        const struct kv_client *c = &r->clients[i];
        requests += c->n_requests;
        ok += c->n_ok;
        failed += c->n_failed;
        unknown += c->n_unknown;
        not_sent += c->session.n_not_sent;
        worst = c->worst_ns > worst ? c->worst_ns : worst;
        if (c->n_failed > 0) {
            (void)printf("client %u failed %" PRIu64 " requests, first: %s\n", c->number,
                         c->n_failed, c->first_failure);
        } else if (c->n_unknown > 0) {
            (void)printf("client %u had %" PRIu64 " unanswered writes, first: %s\n", c->number,
                         c->n_unknown, c->first_unknown);
        }
    }
    for (unsigned i = 0; i < r->n_watchers; i++) {
        const struct watcher *w = &r->watchers[i];
        events += w->n;
        breaks += w->n_breaks > 0 ? w->n_breaks - 1 : 0;
        if (w->run.end == OPEN_END) {
            cut++;
            (void)printf("watcher %u of %s did not reach the end: %s %s\n", i,
                         r->shared.endpoints[w->session.at], w->canceled, w->session.last_error);
        }
    }
    for (unsigned i = 0; i < r->n_leases; i++) {
        renewals += r->leases[i].n_keepalives;
        lost += r->leases[i].n_lost;
    }
    (void)printf("requests=%" PRIu64 " ok=%" PRIu64 " failed=%" PRIu64 " unknown=%" PRIu64
                 " not_sent=%" PRIu64 " worst_ms=%" PRIu64 " events=%" PRIu64
                 " watch_breaks=%" PRIu64 " watchers_cut=%u renewals=%" PRIu64
                 " leases_lost=%" PRIu64 " ended=%d end_rev=%" PRId64 "\n",
                 requests, ok, failed, unknown, not_sent, worst / 1000000u, events, breaks, cut,
                 renewals, lost, ended, atomic_load(&r->shared.end_rev));
}

/* The last write, then a read of every key through every endpoint that answers. */
static bool finish(struct run *r)
{
    struct shared *s = &r->shared;
    int64_t rev = 0;
    bool ended = kv_request(&r->last, OP_PUT, SENTINEL_KEY, 0, END_MS, &rev);
    atomic_store(&s->end_rev, ended ? rev : 0);
    atomic_store(&s->end_deadline_ns, now_ns() + (ended ? END_MS * 1000000ull : 0));
    for (unsigned e = 0; e < s->n_endpoints && ended; e++) {
        session_drop(&r->last.session);
        r->last.session.at = e;
        for (uint32_t key = 0; key < s->n_keys && ended; key++) {
            ended = kv_request(&r->last, OP_READ, key, 0, END_MS, &rev);
        }
    }
    return ended;
}

static bool run(struct run *r)
{
    struct shared *s = &r->shared;
    pthread_t threads[CLIENTS_MAX * 2 + ENDPOINTS_MAX * 2];
    unsigned n = 0;
    int64_t rev = 0;
    kv_init(&r->last, s, s->n_clients);
    if (!kv_request(&r->last, OP_PUT, SENTINEL_KEY, 0, END_MS, &rev)) {
        (void)fprintf(stderr, "cluster-workload: the first write failed: %s\n",
                      r->last.first_failure);
        return false;
    }
    s->start_rev = rev + 1;
    (void)printf("started at revision %" PRId64 "\n", rev);
    (void)fflush(stdout);
    for (unsigned i = 0; i < r->n_watchers; i++) {
        struct watcher *w = &r->watchers[i];
        w->id = i;
        w->run = (struct watch_run){i, i, s->start_rev, OPEN_END};
        session_init(&w->session, s, i, true, 0);
        start(&threads[n++], watch_main, w);
    }
    unsigned n_watch_threads = n;
    for (unsigned i = 0; i < s->n_clients; i++) {
        kv_init(&r->clients[i], s, i);
        start(&threads[n++], kv_main, &r->clients[i]);
    }
    for (unsigned i = 0; i < r->n_readers; i++) {
        reader_init(&r->readers[i], s, i);
        start(&threads[n++], reader_main, &r->readers[i]);
    }
    for (unsigned i = 0; i < r->n_leases; i++) {
        r->leases[i].number = s->n_clients + 1 + i;
        session_init(&r->leases[i].session, s, i, false, 0);
        start(&threads[n++], lease_main, &r->leases[i]);
    }
    wait_for_end(r);
    atomic_store(&s->stop, true);
    while (n > n_watch_threads) {
        (void)pthread_join(threads[--n], NULL);
    }
    bool ended = finish(r);
    while (n > 0) {
        (void)pthread_join(threads[--n], NULL);
    }
    for (unsigned i = 0; i < r->n_leases && ended; i++) {
        lease_wait_gone(&r->leases[i]);
    }
    write_history(r);
    print_counts(r, ended);
    return ended;
}

int main(int argc, char **argv)
{
    struct run *r = xcalloc(1, sizeof(*r));
    r->shared.seed = 1;
    r->shared.n_clients = 6;
    r->shared.n_keys = 8;
    r->shared.rate = 300;
    if (!parse(argc, argv, r)) {
        (void)fputs("usage: cluster-workload --endpoints HOST:PORT,... --out FILE [--seed N]"
                    " [--clients N] [--keys N] [--rate N] [--leases N] [--seconds N]"
                    " [--value-bytes N] [--no-watch] [--leaving N]...\n",
                    stderr);
        free(r);
        return 2;
    }
    bool good = run(r);
    for (unsigned i = 0; i < r->shared.n_clients; i++) {
        kv_deinit(&r->clients[i]);
    }
    kv_deinit(&r->last);
    for (unsigned i = 0; i < r->n_readers; i++) {
        kv_deinit(&r->readers[i]);
    }
    for (unsigned i = 0; i < r->n_watchers; i++) {
        free(r->watchers[i].events);
    }
    for (unsigned i = 0; i < r->n_leases; i++) {
        session_deinit(&r->leases[i].session);
        free(r->leases[i].reads);
    }
    free(r);
    return good ? 0 : 1;
}
