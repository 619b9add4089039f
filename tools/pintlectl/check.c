/* check.c - check perf and check datascale: a load of puts, then a verdict. */
#include <curl/curl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "api/proto/rpc.pb-c.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/load.h"

#define NS_PER_S UINT64_C(1000000000)
#define PERF_S 60u
#define CLEANUP_S 30u /* longest that deleting, compacting and defragmenting may each take */
#define DATASCALE_CLEANUP_S 600u
#define METRICS_S 30L
#define METRICS_MAX (16u * 1024u * 1024u) /* bytes of a page of metrics */
#define LEAST_RATE 0.9                    /* of the wanted one */
#define SLOWEST_MAX_S 0.5
#define DEVIATION_MAX_S 0.1
#define MEMORY "process_resident_memory_bytes"

const struct flag check_perf_flags[] = {
    {"auto-compact", 0, FLAG_BOOL, NULL, "compact the history afterwards"},
    {"auto-defrag", 0, FLAG_BOOL, NULL, "defragment the endpoints' stores afterwards"},
    {"load", 0, FLAG_STRING, "s",
     "how much load: s (small), m (medium), l (large) or xl (xLarge); they differ in the number of "
     "connections and in the rate that is wanted"},
    {"prefix", 0, FLAG_STRING, "/etcdctl-check-perf/", "what the keys that are written begin with"},
    {0}};
const struct flag check_datascale_flags[] = {
    {"auto-compact", 0, FLAG_BOOL, NULL, "compact the history afterwards"},
    {"auto-defrag", 0, FLAG_BOOL, NULL, "defragment the endpoints' stores afterwards"},
    {"load", 0, FLAG_STRING, "s", "how much load: s (small), m (medium), l (large) or xl (xLarge)"},
    {"prefix", 0, FLAG_STRING, "/etcdctl-check-datascale/",
     "what the keys that are written begin with"},
    {0}};

/* etcdctl's four models. */
struct model {
    const char *name, *long_name;
    uint32_t per_second; /* check perf */
    uint64_t n_keys;     /* check datascale */
    size_t n_clients;    /* both */
};
static const struct model models[] = {{"s", "small", 150, 10000, 50},
                                      {"m", "medium", 1000, 100000, 200},
                                      {"l", "large", 8000, 1000000, 500},
                                      {"xl", "xLarge", 15000, 3000000, LOAD_CLIENTS_MAX}};

static const struct model *model_of(const struct ctl *ctl)
{
    const char *name = flag_text(&ctl->flags, "load");
    for (size_t i = 0; i < ARRAY_LEN(models); i++) {
        if (strcmp(name, models[i].name) == 0 || strcmp(name, models[i].long_name) == 0) {
            return &models[i];
        }
    }
    ctl_fail(EXIT_BAD_FEATURE, "unknown load option %s", name);
}

/* ---- before and after ---- */

/* A descriptor to be read when SIGINT comes. */
static int catch_interrupt(void)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    ASSERT(fd >= 0);
    return fd;
}

/* The next SIGINT ends the program again. */
static void release_interrupt(int fd)
{
    struct signalfd_siginfo info;
    sigset_t set;
    while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
    }
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigprocmask(SIG_UNBLOCK, &set, NULL);
    (void)close(fd);
}

/* A connection is a descriptor, and the usual limit is as low as the largest model. */
static void raise_descriptor_limit(void)
{
    struct rlimit r;
    if (getrlimit(RLIMIT_NOFILE, &r) == 0) {
        r.rlim_cur = r.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &r); /* connections fail where it does not suffice */
    }
}

static void must_be_empty(struct ctl *ctl, const char *prefix, uint64_t timeout_s, bool quoted)
{
    struct key_range range = ctl_prefix_range(ctl->arena, slice_str(prefix));
    Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
    request.key = binary(range.key);
    request.range_end = binary(range.end);
    request.limit = 1;
    deadline_ns deadline = timeout_s == 0 ? 0 : now_ns() + timeout_s * NS_PER_S;
    Etcdserverpb__RangeResponse *r =
        ctl_call(ctl, "/etcdserverpb.KV/Range", &request.base, true,
                 &etcdserverpb__range_response__descriptor, deadline, EXIT_ERROR);
    if (r->n_kvs > 0) {
        struct bytes q = {0};
        text_quote(&q, slice_str(prefix));
        const char *mark = quoted ? "'" : "";
        ctl_fail(EXIT_BAD_INPUT, "prefix %.*s has keys. Delete with %s%s del --prefix %s%s first",
                 (int)q.len, (const char *)q.data, mark, ctl->program, prefix, mark);
    }
    etcdserverpb__range_response__free_unpacked(r, NULL);
}

static bool delete_all(struct ctl *ctl, const char *prefix, uint64_t timeout_s, int64_t *revision,
                       struct failure *f)
{
    struct key_range range = ctl_prefix_range(ctl->arena, slice_str(prefix));
    Etcdserverpb__DeleteRangeRequest request = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    request.key = binary(range.key);
    request.range_end = binary(range.end);
    Etcdserverpb__DeleteRangeResponse *r = NULL;
    if (!conn_call(ctl->conn, "/etcdserverpb.KV/DeleteRange", &request.base, false,
                   &etcdserverpb__delete_range_response__descriptor,
                   now_ns() + timeout_s * NS_PER_S, &r, f)) {
        return false;
    }
    *revision = r->header == NULL ? 0 : r->header->revision;
    etcdserverpb__delete_range_response__free_unpacked(r, NULL);
    return true;
}

static void compact(struct ctl *ctl, int64_t revision)
{
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    request.revision = revision;
    request.physical = true;
    (void)printf("Compacting with revision %lld\n", (long long)revision);
    (void)fflush(stdout);
    Etcdserverpb__CompactionResponse *r =
        ctl_call(ctl, "/etcdserverpb.KV/Compact", &request.base, false,
                 &etcdserverpb__compaction_response__descriptor, now_ns() + CLEANUP_S * NS_PER_S,
                 EXIT_ERROR);
    etcdserverpb__compaction_response__free_unpacked(r, NULL);
    (void)printf("Compacted with revision %lld\n", (long long)revision);
}

static void defragment_all(struct ctl *ctl)
{
    Etcdserverpb__DefragmentRequest request = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
    for (size_t i = 0; i < ctl->options.n_endpoints; i++) {
        struct conn_options o = ctl_options_for(ctl, &ctl->options.endpoints[i]);
        struct conn *c = ctl_open(&o);
        struct failure f;
        Etcdserverpb__DefragmentResponse *r = NULL;
        struct bytes q = {0};
        text_quote(&q, slice_str(ctl->options.endpoints[i]));
        (void)printf("Defragmenting %.*s\n", (int)q.len, (const char *)q.data);
        (void)fflush(stdout);
        if (!conn_call(c, "/etcdserverpb.Maintenance/Defragment", &request.base, false,
                       &etcdserverpb__defragment_response__descriptor,
                       now_ns() + CLEANUP_S * NS_PER_S, &r, &f)) {
            ctl_fail_with(EXIT_ERROR, &f);
        }
        (void)printf("Defragmented %.*s\n", (int)q.len, (const char *)q.data);
        etcdserverpb__defragment_response__free_unpacked(r, NULL);
        bytes_deinit(&q);
        conn_close(&c);
    }
}

static bool print_failures(const struct load_result *r)
{
    if (r->n_failures == 0) {
        return false;
    }
    (void)puts("FAIL: too many errors");
    for (size_t i = 0; i < r->n_failures; i++) {
        (void)printf("FAIL: ERROR(%s) -> %llu\n", r->failures[i].text,
                     (unsigned long long)r->failures[i].n);
    }
    return true;
}

/* ---- check perf ---- */

/* Throughput, the slowest answer and the spread: the whole verdict. */
static bool judge(const struct load_result *r, const struct model *m)
{
    bool good = !print_failures(r);
    double rate = r->total_s > 0 ? (double)r->n_done / r->total_s : 0;
    bool fast = rate / (double)m->per_second > LEAST_RATE;
    (void)printf(fast ? "PASS: Throughput is %lld writes/s\n"
                      : "FAIL: Throughput too low: %lld writes/s\n",
                 (long long)rate + 1);
    bool prompt = r->slowest_s <= SLOWEST_MAX_S;
    (void)printf(prompt ? "PASS: Slowest request took %fs\n"
                        : "Slowest request took too long: %fs\n",
                 r->slowest_s);
    bool even = isnan(r->deviation_s) || r->deviation_s <= DEVIATION_MAX_S;
    if (isnan(r->deviation_s)) {
        (void)puts("PASS: Stddev is NaNs"); /* of nothing at all; etcdctl's words */
    } else {
        (void)printf(even ? "PASS: Stddev is %fs\n" : "Stddev too high: %fs\n", r->deviation_s);
    }
    return good && fast && prompt && even;
}

int check_perf_run(struct ctl *ctl)
{
    const struct model *m = model_of(ctl);
    const char *prefix = flag_text(&ctl->flags, "prefix");
    raise_descriptor_limit();
    ctl_connect(ctl);
    must_be_empty(ctl, prefix, PERF_S, true);
    int interrupt = catch_interrupt();
    struct load_plan plan = {.prefix = prefix,
                             .key_bytes = 256,
                             .value_bytes = 1024,
                             .per_second = m->per_second,
                             .n_max = (uint64_t)m->per_second * PERF_S,
                             .duration_ns = PERF_S * NS_PER_S,
                             .stop = interrupt};
    struct load *l = load_create(&ctl->options, m->n_clients, ctl->arena);
    struct load_result *r = cli_alloc(ctl->arena, sizeof(*r));
    load_run(l, &plan, r);
    load_destroy(&l);
    release_interrupt(interrupt);
    struct failure f;
    int64_t revision = 0;
    if (!delete_all(ctl, prefix, CLEANUP_S, &revision, &f)) {
        char text[FAILURE_TEXT_MAX];
        failure_text(&f, text);
        (void)printf("FAIL: Cleanup failed during key deletion: ERROR(%s)\n", text);
    } else if (flag_yes(&ctl->flags, "auto-compact")) {
        compact(ctl, revision);
    }
    if (flag_yes(&ctl->flags, "auto-defrag")) {
        defragment_all(ctl);
    }
    bool good = judge(r, m);
    (void)puts(good ? "PASS" : "FAIL");
    return good ? 0 : EXIT_ERROR;
}

/* ---- check datascale ---- */

static size_t take_page(char *data, size_t size, size_t n, void *arg)
{
    struct bytes *page = arg;
    if (page->len + size * n > METRICS_MAX) {
        return 0; /* ends the transfer */
    }
    bytes_add(page, data, size * n);
    return size * n;
}

static CURLcode get_page(const struct ctl *ctl, const char *url, struct bytes *page)
{
    const struct client_tls *t = &ctl->options.client.tls;
    CURL *c = curl_easy_init();
    if (c == NULL) {
        return CURLE_OUT_OF_MEMORY;
    }
    (void)curl_easy_setopt(c, CURLOPT_URL, url);
    (void)curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT, METRICS_S);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_SSLCERT, t->cert_file);
    (void)curl_easy_setopt(c, CURLOPT_SSLKEY, t->key_file);
    if (t->ca_file != NULL) {
        (void)curl_easy_setopt(c, CURLOPT_CAINFO, t->ca_file);
    }
    if (t->insecure_skip_verify) {
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
        (void)curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    }
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take_page);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, page);
    CURLcode code = curl_easy_perform(c);
    curl_easy_cleanup(c);
    return code;
}

/* Bytes of memory that the first endpoint's process has; 0 with a line about why not. */
static double server_memory(struct ctl *ctl)
{
    const char *host = ctl->options.endpoints[0];
    bool whole = strncmp(host, "http://", 7) == 0 || strncmp(host, "https://", 8) == 0;
    struct bytes url = {0};
    struct bytes page = {0};
    bytes_printf(&url, "%s%s/metrics", whole ? "" : "http://", host);
    const char *text = cli_dup(ctl->arena, url.data, url.len);
    CURLcode code = get_page(ctl, text, &page);
    bytes_deinit(&url);
    double memory = 0;
    if (code != CURLE_OK) {
        (void)printf("fetch error: Get \"%s\": %s\n", text, curl_easy_strerror(code));
    } else {
        const char *at = cli_dup(ctl->arena, page.data, page.len);
        while (at != NULL && strncmp(at, MEMORY " ", strlen(MEMORY) + 1) != 0) {
            at = strchr(at, '\n');
            at = at == NULL ? NULL : at + 1;
        }
        memory = at == NULL ? 0 : strtod(at + strlen(MEMORY), NULL);
        if (at == NULL) {
            (void)puts("could not find: " MEMORY);
        }
    }
    bytes_deinit(&page);
    return memory;
}

static double must_have_memory(struct ctl *ctl, const char *when)
{
    double memory = server_memory(ctl);
    if (memory <= 0) {
        (void)printf("FAIL: Could not read " MEMORY " %s the put operations.\n", when);
        (void)fflush(stdout);
        exit(EXIT_ERROR);
    }
    return memory;
}

int check_datascale_run(struct ctl *ctl)
{
    const struct model *m = model_of(ctl);
    const char *prefix = flag_text(&ctl->flags, "prefix");
    raise_descriptor_limit();
    ctl_connect(ctl);
    must_be_empty(ctl, prefix, 0, false);
    double before = must_have_memory(ctl, "before");
    struct load_plan plan = {
        .prefix = prefix, .key_bytes = 512, .value_bytes = 512, .n_max = m->n_keys, .stop = -1};
    (void)printf("Start data scale check for work load [%llu key-value pairs, %zu bytes per "
                 "key-value, %zu concurrent clients].\n",
                 (unsigned long long)m->n_keys, plan.key_bytes + plan.value_bytes, m->n_clients);
    (void)fflush(stdout);
    struct load *l = load_create(&ctl->options, m->n_clients, ctl->arena);
    struct load_result *r = cli_alloc(ctl->arena, sizeof(*r));
    load_run(l, &plan, r);
    load_destroy(&l);
    double after = must_have_memory(ctl, "after");
    struct failure f;
    int64_t revision = 0;
    if (!delete_all(ctl, prefix, DATASCALE_CLEANUP_S, &revision, &f)) {
        ctl_fail_with(EXIT_ERROR, &f);
    }
    if (flag_yes(&ctl->flags, "auto-compact")) {
        compact(ctl, revision);
    }
    if (flag_yes(&ctl->flags, "auto-defrag")) {
        defragment_all(ctl);
    }
    if (print_failures(r)) {
        return EXIT_ERROR;
    }
    (void)printf("PASS: Approximate system memory used : %.2f MB.\n",
                 (after - before) / (1024.0 * 1024.0));
    return 0;
}
