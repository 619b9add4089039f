/* config.c - see config.h. The table of flags is in flag_table.c. */
#include "tools/pintle/config.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/etcd/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/slice.h"
#include "tools/pintle/flag_table.h"
#include "tools/pintle/tls.h"

/* --- help and version --------------------------------------------------------------------------------------- */

static void print_usage(void)
{
    (void)fputs("Usage:\n\n"
                "  pintle [flags]\n    Start a server.\n\n"
                "  pintle --version\n    Show the version.\n\n"
                "  pintle -h | --help\n    Show this help.\n\n",
                stderr);
}

static void print_flags(void)
{
    const char *section = "";
    for (const struct flag *f = flag_table; f->name != NULL; f++) {
        const char *next = flag_section(f);
        if (next == NULL) {
            continue; /* accepted for compatibility, not shown */
        }
        if (strcmp(section, next) != 0) {
            section = next;
            printf("%s\n", section);
        }
        printf("  --%s '%s'\n    %s\n", f->name, f->fallback, f->help);
    }
}

static void print_version(void)
{
    printf("etcd Version: %s\nGit SHA: Not provided (pintle %s)\nGo Version: none (C)\nGo OS/Arch: linux/amd64\n", ETCD_VERSION, PINTLE_VERSION);
}

/* --- checks -------------------------------------------------------------------------------------------------- */

static const char *host_of(const char *url, size_t *len)
{
    const char *host = strstr(url, "://") + 3;
    const char *colon = strrchr(host, ':');
    *len = colon == NULL ? strlen(host) : (size_t)(colon - host);
    return host;
}

static bool is_unix(const char *url)
{
    return strncmp(url, "unix", 4) == 0;
}

/* A listener binds to an address, so its host must be one. */
static enum err check_bind(char *const *urls, struct err_ctx *ec)
{
    for (; urls != NULL && *urls != NULL; urls++) {
        if (is_unix(*urls)) {
            continue;
        }
        size_t n = 0;
        const char *host = host_of(*urls, &n);
        bool ip = n > 0 && (host[0] == '[' || strspn(host, "0123456789.") >= n);
        bool localhost = n == 9 && strncmp(host, "localhost", 9) == 0;
        if (!ip && !localhost) {
            return err_set(ec, ERR_INVALID, "expected IP in URL for binding (%s)", *urls);
        }
        if (strlen(host + n) > 6 || atoi(host + n + 1) > UINT16_MAX) {
            return err_set(ec, ERR_INVALID, "listen tcp: address %s: invalid port", host + n + 1);
        }
    }
    return OK;
}

static enum err check_advertised(const char *flag, const char *form, const struct flag_value *v, struct err_ctx *ec)
{
    for (char **u = v->urls; *u != NULL; u++) {
        size_t n = 0;
        if (!is_unix(*u) && (host_of(*u, &n), n == 0)) {
            return err_set(ec, ERR_INVALID, "--%s \"%s\" must be %s (unexpected empty host (%s))", flag, v->text, form, *u);
        }
    }
    return OK;
}

static enum err check_timing(uint64_t heartbeat, uint64_t election, struct err_ctx *ec)
{
    if (heartbeat == 0) {
        return err_set(ec, ERR_INVALID, "--heartbeat-interval must be >0 (set to 0ms)");
    }
    if (election == 0) {
        return err_set(ec, ERR_INVALID, "--election-timeout must be >0 (set to 0ms)");
    }
    if (election < 5 * heartbeat) {
        return err_set(ec, ERR_INVALID, "--election-timeout[%lums] should be at least as 5 times as --heartbeat-interval[%lums]",
                       (unsigned long)election, (unsigned long)heartbeat);
    }
    if (election > 50000) {
        return err_set(ec, ERR_INVALID, "--election-timeout[%lums] is too long, and should be set less than 50000ms", (unsigned long)election);
    }
    return OK;
}

static enum err check(struct config *c, struct err_ctx *ec)
{
    struct flag_set *f = &c->flags;
    enum err e = check_bind(flag_get(f, "listen-peer-urls")->urls, ec);
    if (e == OK) {
        e = check_bind(flag_get(f, "listen-client-urls")->urls, ec);
    }
    if (e == OK) {
        e = check_bind(flag_get(f, "listen-client-http-urls")->urls, ec);
    }
    if (e == OK) {
        e = check_bind(flag_get(f, "listen-metrics-urls")->urls, ec);
    }
    if (e == OK) {
        e = check_advertised("initial-advertise-peer-urls", "\"host:port\"", flag_get(f, "initial-advertise-peer-urls"), ec);
    }
    if (e == OK) {
        e = check_advertised("advertise-client-urls", "in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\"",
                             flag_get(f, "advertise-client-urls"), ec);
    }
    if (e == OK) {
        e = check_timing(flag_get(f, "heartbeat-interval")->u, flag_get(f, "election-timeout")->u, ec);
    }
    struct flag_value *listen = flag_get(f, "listen-client-urls");
    struct flag_value *advertise = flag_get(f, "advertise-client-urls");
    if (e == OK && (listen->given || listen->from_env) && !advertise->given && !advertise->from_env) {
        e = err_set(ec, ERR_INVALID, "--advertise-client-urls is required when --listen-client-urls is set explicitly");
    }
    if (e == OK) {
        e = tls_flags_check(f, ec);
    }
    return e;
}

/* Of a flag that had another name before etcd 3.6: whichever was set. */
static const struct flag_value *new_or_old(struct flag_set *f, const char *name, const char *old)
{
    const struct flag_value *v = flag_get(f, old);
    return v->given || v->from_env ? v : flag_get(f, name);
}

/* --- filling ------------------------------------------------------------------------------------------------------ */

static uint64_t duration_ms(struct flag_set *f, const char *name, uint64_t fallback_ms)
{
    int64_t ns = flag_get(f, name)->i;
    return ns <= 0 ? fallback_ms : (uint64_t)ns / 1000000u;
}

static uint32_t bounded(uint64_t v, uint32_t max)
{
    return v > max ? max : (uint32_t)v;
}

static unsigned default_loops(void)
{
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores <= 2 ? 1u : cores >= 16 ? 8u : (unsigned)cores / 2u;
}

static void fill_paths(struct config *c)
{
    struct flag_set *f = &c->flags;
    const char *dir = flag_get(f, "data-dir")->text;
    const char *wal = flag_get(f, "wal-dir")->text;
    c->name = flag_get(f, "name")->text;
    c->data_dir = dir[0] != '\0' ? xstrdup(dir) : xasprintf("%s.etcd", c->name);
    c->wal_dir = wal[0] != '\0' ? xstrdup(wal) : xasprintf("%s/member/wal", c->data_dir);
    c->snap_dir = xasprintf("%s/member/snap", c->data_dir);
    if (dir[0] == '\0') {
        log_warn(c->log, "'data-dir' was empty; using default", F_STR("data-dir", c->data_dir));
    }
}

/* Left at its default, the initial cluster is this member alone at its advertised URLs. */
static void fill_cluster(struct config *c)
{
    struct flag_set *f = &c->flags;
    struct flag_value *v = flag_get(f, "initial-cluster");
    if (v->given || v->from_env) {
        c->initial_cluster = xstrdup(v->text);
        return;
    }
    struct bytes b = {0};
    for (char **u = c->advertise_peer; *u != NULL; u++) {
        bytes_printf(&b, "%s%s=%s", b.len > 0 ? "," : "", c->name, *u);
    }
    c->initial_cluster = xstrndup((const char *)b.data, b.len);
    bytes_deinit(&b);
}

static void fill(struct config *c)
{
    struct flag_set *f = &c->flags;
    fill_paths(c);
    c->listen_client = flag_get(f, "listen-client-urls")->urls;
    c->advertise_client = flag_get(f, "advertise-client-urls")->urls;
    c->listen_peer = flag_get(f, "listen-peer-urls")->urls;
    c->advertise_peer = flag_get(f, "initial-advertise-peer-urls")->urls;
    fill_cluster(c);
    c->cluster_token = flag_get(f, "initial-cluster-token")->text;
    c->heartbeat_ms = bounded(flag_get(f, "heartbeat-interval")->u, 50000);
    c->election_ms = bounded(flag_get(f, "election-timeout")->u, 50000);
    c->quota_flag = flag_get(f, "quota-backend-bytes")->i;
    c->max_request_bytes = bounded(flag_get(f, "max-request-bytes")->u, 512u << 20);
    c->max_txn_ops = bounded(flag_get(f, "max-txn-ops")->u, UINT32_MAX);
    c->max_streams = bounded(flag_get(f, "max-concurrent-streams")->u, UINT32_MAX);
    uint64_t progress = duration_ms(f, "watch-progress-notify-interval", 600000);
    c->progress_interval_ms = progress < 100 ? 100 : progress;
    c->keepalive_min_ms = duration_ms(f, "grpc-keepalive-min-time", 300000);
    c->keepalive_interval_ms = duration_ms(f, "grpc-keepalive-interval", 0);
    c->keepalive_timeout_ms = duration_ms(f, "grpc-keepalive-timeout", 20000);
    uint64_t batch = flag_get(f, "compaction-batch-limit")->u;
    c->compaction_batch_limit = batch == 0 ? 1000 : bounded(batch, 1000000);
    uint64_t catch_up = new_or_old(f, "snapshot-catchup-entries", "experimental-snapshot-catchup-entries")->u;
    c->catch_up_entries = catch_up == 0 ? 5000 : catch_up;
    int64_t learners = new_or_old(f, "max-learners", "experimental-max-learners")->i;
    c->max_learners = bounded((uint64_t)learners, UINT32_MAX); /* checked: positive */
    c->existing_cluster = strcmp(flag_get(f, "initial-cluster-state")->text, "existing") == 0;
    c->force_new_cluster = flag_get(f, "force-new-cluster")->b;
    c->strict_reconfig = flag_get(f, "strict-reconfig-check")->b;
    c->fast_forward = flag_get(f, "initial-election-tick-advance")->b;
    c->pre_vote = flag_get(f, "pre-vote")->b;
    c->no_sync = flag_get(f, "unsafe-no-fsync")->b;
    uint64_t loops = flag_get(f, "io-loops")->u;
    c->n_loops = loops == 0 ? default_loops() : bounded(loops, 64);
}

static void on_variable(void *arg, const char *entry, bool known)
{
    struct config *c = arg;
    if (strncmp(entry, "ETCD_VERSION=", 13) == 0) {
        log_warn(c->log, "cannot set special environment variable", F_STR("key", "ETCD_VERSION"));
    } else if (!known) {
        log_warn(c->log, "unrecognized environment variable", F_STR("environment-variable", entry));
    } else {
        char *name = xstrndup(entry, strcspn(entry, "="));
        log_info(c->log, "recognized and used environment variable", F_STR("variable-name", name), F_STR("variable-value", strchr(entry, '=') + 1));
        free(name);
    }
}

/* Flags under the names that they had before etcd 3.6, and what cannot be honoured. */
static enum err check_cluster_flags(struct config *c, struct err_ctx *ec)
{
    static const char *const pairs[][2] = {{"experimental-max-learners", "max-learners"},
                                           {"experimental-snapshot-catchup-entries", "snapshot-catchup-entries"}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        const struct flag_value *old = flag_get(&c->flags, pairs[i][0]);
        const struct flag_value *now = flag_get(&c->flags, pairs[i][1]);
        if (!old->given && !old->from_env) {
            continue;
        }
        if (now->given || now->from_env) {
            return err_set(ec, ERR_INVALID, "cannot set --%s and --%s at the same time, please use --%s only", pairs[i][0], pairs[i][1],
                           pairs[i][1]);
        }
        log_warn(c->log, "flag has a new name", F_STR("flag", pairs[i][0]), F_STR("new-name", pairs[i][1]));
    }
    if (new_or_old(&c->flags, "max-learners", "experimental-max-learners")->i < 1) {
        return err_set(ec, ERR_UNSUPPORTED, "--max-learners below 1 is not supported by this version");
    }
    return OK;
}

/* There are no snapshot files whose number could matter: the store itself is committed all the time, and the log kept back to it. */
static void explain_snapshot_count(struct config *c)
{
    const struct flag_value *v = flag_get(&c->flags, "snapshot-count");
    if ((v->given || v->from_env) && v->u != 0) {
        log_info(c->log, "snapshot-count is not needed: every commit of the store is a snapshot, and snapshot-catchup-entries says what is kept "
                         "for slow followers",
                 F_UINT("snapshot-count", v->u));
    }
}

/* What this version does not do is said aloud, and refused where ignoring it would leave the user less safe than they think. */
static enum err check_support(struct config *c, struct err_ctx *ec)
{
    for (size_t i = 0; i < c->flags.n; i++) {
        const struct flag *f = &c->flags.flags[i];
        const struct flag_value *v = &c->flags.values[i];
        if (f->support == FLAG_WORKS || (!v->given && !v->from_env) || strcmp(v->text, f->fallback) == 0) {
            continue;
        }
        if (f->support == FLAG_REFUSED) {
            return err_set(ec, ERR_UNSUPPORTED, "--%s is not supported by this version", f->name);
        }
        log_warn(c->log, "flag is accepted and has no effect in this version", F_STR("flag", f->name), F_STR("value", v->text));
    }
    explain_snapshot_count(c);
    return check_cluster_flags(c, ec);
}

static int load(struct config *c, char **environ_list)
{
    struct err_ctx ec = {{0}};
    enum log_level level = LOG_INFO;
    c->log = log_create(STDERR_FILENO, LOG_INFO, LOG_JSON, clock_real());
    enum err e = flag_set_environment(&c->flags, environ_list, on_variable, c, &ec);
    if (e == ERR_EXISTS) {
        log_fatal(c->log,
                  "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or "
                  "disable flag))",
                  F_STR("environment-variable", ec.text));
        return 1;
    }
    if (e == OK && log_level_parse(flag_get(&c->flags, "log-level")->text, &level) != OK) {
        (void)fprintf(stderr, "panic: unrecognized level: \"%s\"\n", flag_get(&c->flags, "log-level")->text);
        return 2;
    }
    if (e == OK) {
        log_destroy(&c->log);
        bool console = strcmp(flag_get(&c->flags, "log-format")->text, "console") == 0;
        int fd = strcmp(flag_get(&c->flags, "log-outputs")->text, "stdout") == 0 ? STDOUT_FILENO : STDERR_FILENO;
        c->log = log_create(fd, level, console ? LOG_CONSOLE : LOG_JSON, clock_real());
        e = check(c, &ec);
    }
    if (e == OK) {
        e = check_support(c, &ec);
    }
    if (e != OK) {
        log_warn(c->log, "failed to verify flags", F_STR("error", ec.text));
        return 1;
    }
    fill(c);
    return -1;
}

int config_load(struct config *c, int argc, char **argv, char **environ_list)
{
    struct err_ctx ec = {{0}};
    const char *rest = NULL;
    memset(c, 0, sizeof(*c));
    flag_set_init(&c->flags, flag_table);
    switch (flag_set_parse(&c->flags, argc, argv, &rest, &ec)) {
    case FLAGS_OK:
        break;
    case FLAGS_HELP:
        print_usage();
        print_flags();
        return 0;
    case FLAGS_ERROR:
        (void)fprintf(stderr, "%s\n", ec.text);
        print_usage();
        return 2;
    }
    if (rest != NULL) {
        (void)fprintf(stderr, "\"%s\" is not a valid flag\n", rest);
        return 1;
    }
    if (flag_get(&c->flags, "version")->b) {
        print_version();
        return 0;
    }
    return load(c, environ_list);
}

void config_deinit(struct config *c)
{
    free(c->data_dir);
    free(c->wal_dir);
    free(c->snap_dir);
    free(c->initial_cluster);
    log_destroy(&c->log);
    flag_set_deinit(&c->flags);
}
