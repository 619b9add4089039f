/* config.c - see config.h. The table of flags is in flag_table.c. */
#include "tools/pintle/config.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/slice.h"
#include "raft/peer/limits.h"
#include "tools/pintle/config_check.h"
#include "tools/pintle/config_file.h"
#include "tools/pintle/config_log.h"
#include "tools/pintle/flag_table.h"
#include "tools/pintle/gateway_tcp.h"
#include "tools/pintle/grpc_proxy.h"
#include "tools/pintle/help.h"
#include "tools/pintle/urls.h"
#include "tools/pintle/yaml.h"
#include "wal/wal.h"

#define RAFT_TIMEOUT_MIN_NS INT64_C(5000000000)
#define READ_BYTES 65536u
#define REQUEST_BYTES_MAX (512u << 20) /* of --max-request-bytes */
static_assert(REQUEST_BYTES_MAX < WAL_RECORD_BYTES_MAX && PEER_MESSAGE_BYTES_MAX < WAL_RECORD_BYTES_MAX, "the log refuses no entry");

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
    bool srv = c->srv_domain[0] != '\0' || flag_get(f, "discovery-srv-name")->text[0] != '\0';
    if (((v->given || v->from_env) && !c->discovers) || srv) {
        c->initial_cluster = xstrdup(v->given || v->from_env ? v->text : "");
        return;
    }
    struct bytes b = {0};
    for (char **u = c->advertise_peer; *u != NULL; u++) {
        bytes_printf(&b, "%s%s=%s", b.len > 0 ? "," : "", c->name, *u);
    }
    c->initial_cluster = xstrndup((const char *)b.data, b.len);
    bytes_deinit(&b);
}

/* Peers are called from the first address among the advertised ones that others can see. */
static void fill_local_address(struct config *c)
{
    if (!flag_gate(&c->flags, GATE_SET_MEMBER_LOCAL_ADDR)) {
        return;
    }
    const char *const *urls = (const char *const *)c->advertise_peer;
    log_info(c->log, "searching for a suitable member local address in AdvertisePeerURLs", F_STRS("advertise-peer-urls", urls));
    for (; *urls != NULL && c->local_address == NULL; urls++) {
        c->local_address = url_outer_address(*urls);
    }
    if (c->local_address != NULL) {
        log_info(c->log, "setting member local address", F_STR("LocalAddr", c->local_address));
    } else {
        log_warn(c->log, "unable to set a member local address due to lack of suitable local addresses",
                 F_STRS("advertise-peer-urls", (const char *const *)c->advertise_peer));
    }
}

static void fill(struct config *c)
{
    struct flag_set *f = &c->flags;
    fill_paths(c);
    c->listen_client = flag_get(f, "listen-client-urls")->urls;
    c->advertise_client = flag_get(f, "advertise-client-urls")->urls;
    c->listen_peer = flag_get(f, "listen-peer-urls")->urls;
    c->advertise_peer = flag_get(f, "initial-advertise-peer-urls")->urls;
    char **endpoints = flag_get(f, "discovery-endpoints")->urls;
    fill_local_address(c);
    c->srv_domain = flag_get(f, "discovery-srv")->text;
    c->discovers = endpoints != NULL && endpoints[0] != NULL;
    c->cluster_token = flag_get(f, c->discovers ? "discovery-token" : "initial-cluster-token")->text;
    fill_cluster(c);
    c->heartbeat_ms = bounded(flag_get(f, "heartbeat-interval")->u, 50000);
    c->election_ms = bounded(flag_get(f, "election-timeout")->u, 50000);
    c->quota_flag = flag_get(f, "quota-backend-bytes")->i;
    c->max_request_bytes = bounded(flag_get(f, "max-request-bytes")->u, REQUEST_BYTES_MAX);
    c->max_txn_ops = bounded(flag_get(f, "max-txn-ops")->u, UINT32_MAX);
    c->max_streams = bounded(flag_get(f, "max-concurrent-streams")->u, UINT32_MAX);
    uint64_t progress = duration_ms(f, "watch-progress-notify-interval", 600000);
    c->progress_interval_ms = progress < 100 ? 100 : progress;
    c->keepalive_min_ms = duration_ms(f, "grpc-keepalive-min-time", 300000);
    c->keepalive_interval_ms = duration_ms(f, "grpc-keepalive-interval", 0);
    c->keepalive_timeout_ms = duration_ms(f, "grpc-keepalive-timeout", 20000);
    int64_t batch = flag_get(f, "compaction-batch-limit")->i;
    c->compaction_pause_ms = duration_ms(f, "compaction-sleep-interval", 0);
    c->compaction_batch_limit = batch <= 0 ? 1000 : bounded((uint64_t)batch, 1000000);
    uint64_t catch_up = flag_get(f, "snapshot-catchup-entries")->u;
    c->catch_up_entries = catch_up == 0 ? 5000 : catch_up;
    int64_t learners = flag_get(f, "max-learners")->i;
    c->max_learners = bounded((uint64_t)learners, UINT32_MAX - 1); /* checked: not negative */
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

static void on_old_name(void *arg, const char *old, const char *instead)
{
    struct config *c = arg;
    char *text = xasprintf("--%s is a flag of etcd 3.4 to 3.6, which 3.7 has no more. Use '%s' instead.", old, instead);
    log_msg(c->log, LOG_WARN, text);
    free(text);
}

/* What etcd says of flags that it will not have for long. */
static void warn_deprecated(struct config *c)
{
    if (flag_is_set(&c->flags, "max-snapshots")) {
        log_msg(c->log, LOG_WARN, "--max-snapshots is deprecated in 3.6 and will be decommissioned in 3.8.");
    }
    if (flag_is_set(&c->flags, "v2-deprecation")) {
        log_msg(c->log, LOG_WARN, "--v2-deprecation is deprecated and scheduled for removal in v3.8. The default value is enforced, ignoring user input.");
    }
}

/* Links to other members wait five seconds at least. */
static void raise_timeout(struct config *c, const char *flag)
{
    if (flag_get(&c->flags, flag)->i < RAFT_TIMEOUT_MIN_NS) {
        char *text = xasprintf("%s increased to minimum value: 5s", flag);
        log_msg(c->log, LOG_INFO, text);
        free(text);
    }
}

/* --- where the flags come from --------------------------------------------------------------------------------------- */

static enum err read_file(struct config *c, const char *path, bool *is_url, struct err_ctx *ec)
{
    struct bytes text = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : 1;
    while (n > 0 && text.len <= DOC_BYTES_MAX) {
        n = read(fd, bytes_reserve(&text, READ_BYTES), READ_BYTES);
        text.len += n > 0 ? (size_t)n : 0;
    }
    enum err e = OK;
    if (n < 0) {
        char why[128];
        (void)snprintf(why, sizeof(why), "%s", strerror(errno));
        why[0] = (char)tolower((unsigned char)why[0]);
        e = err_set(ec, ERR_INVALID, "%s %s: %s", fd < 0 ? "open" : "read", path, why);
    } else {
        e = config_file_apply(&c->flags, bytes_slice(&text), is_url, ec);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    bytes_deinit(&text);
    return e;
}

/* All of the configuration is in a file: what command line and environment say does not count. */
static enum err from_file(struct config *c, const char *path, bool *is_url, struct err_ctx *ec)
{
    char *copy = xstrdup(path);
    flag_set_deinit(&c->flags);
    flag_set_init(&c->flags, flag_table);
    enum err e = read_file(c, copy, is_url, ec);
    if (e == OK) {
        e = flag_set_modernize(&c->flags, on_old_name, c, ec);
    }
    c->file = copy;
    return e;
}

static enum err from_flags(struct config *c, char **environ_list, struct err_ctx *ec)
{
    warn_deprecated(c);
    enum err e = flag_set_environment(&c->flags, environ_list, on_variable, c, ec);
    if (e == OK) {
        e = flag_set_modernize(&c->flags, on_old_name, c, ec);
    }
    if (e == OK) {
        raise_timeout(c, "raft-read-timeout");
        raise_timeout(c, "raft-write-timeout");
    }
    if (e == OK && strcmp(flag_get(&c->flags, "discovery-fallback")->text, "proxy") == 0) {
        e = err_set(ec, ERR_INVALID, "v2 proxy is deprecated, and --discovery-fallback can't be configured as \"proxy\"");
    }
    return e;
}

static const char *file_of(struct config *c, char **environ_list)
{
    const char *path = flag_get(&c->flags, "config-file")->text;
    for (char **p = environ_list; path[0] == '\0' && *p != NULL; p++) {
        path = strncmp(*p, "ETCD_CONFIG_FILE=", 17) == 0 ? *p + 17 : path;
    }
    return path;
}

/* The logger of the flags takes the place of that of the start. */
static enum err open_log(struct config *c, struct err_ctx *ec)
{
    struct logger *log = NULL;
    enum err e = config_log_open(&c->flags, &log, ec);
    if (e == OK) {
        log_destroy(&c->log);
        c->log = log;
    }
    return e;
}

static int load(struct config *c, char **environ_list)
{
    struct err_ctx ec = {{0}};
    bool is_url = false;
    c->log = log_create(STDERR_FILENO, LOG_INFO, LOG_JSON, clock_real());
    const char *path = file_of(c, environ_list);
    enum err e = path[0] != '\0' ? from_file(c, path, &is_url, &ec) : from_flags(c, environ_list, &ec);
    if (e == ERR_EXISTS) {
        log_fatal(c->log,
                  "conflicting environment variable is shadowed by corresponding command-line flag (either unset environment variable or "
                  "disable flag))",
                  F_STR("environment-variable", ec.text));
        return 1;
    }
    if (is_url) {
        (void)fprintf(stderr, "%s\n", ec.text);
        return 1;
    }
    if (e == OK) {
        e = open_log(c, &ec);
        if (e == ERR_UNSUPPORTED) {
            (void)fprintf(stderr, "panic: %s\n", ec.text);
            return 2;
        }
    }
    if (e == OK) {
        e = config_check(c, &ec);
    }
    if (e == OK && c->file != NULL) {
        log_info(c->log, "loaded server configuration, other configuration command line flags and environment variables will be ignored if provided",
                 F_STR("path", c->file));
    }
    if (e == OK) {
        e = config_check_support(c, &ec);
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
    if (argc > 1 && strcmp(argv[1], "gateway") == 0) {
        return gateway_main(argc, argv);
    }
    if (argc > 1 && strcmp(argv[1], "grpc-proxy") == 0) {
        return grpc_proxy_main(argc, argv);
    }
    flag_set_init(&c->flags, flag_table);
    switch (flag_set_parse(&c->flags, argc, argv, &rest, &ec)) {
    case FLAGS_OK:
        break;
    case FLAGS_HELP:
        help_usage();
        help_flags();
        return 0;
    case FLAGS_ERROR:
        (void)fprintf(stderr, "%s\n", ec.text);
        help_usage();
        return 2;
    }
    if (rest != NULL) {
        char *text = xasprintf("\"%s\" is not a valid flag", rest);
        c->log = log_create(STDERR_FILENO, LOG_INFO, LOG_JSON, clock_real());
        log_warn(c->log, "failed to verify flags", F_STR("error", text));
        free(text);
        return 1;
    }
    if (flag_get(&c->flags, "version")->b) {
        help_version();
        return 0;
    }
    return load(c, environ_list);
}

void config_deinit(struct config *c)
{
    free(c->file);
    free(c->data_dir);
    free(c->wal_dir);
    free(c->snap_dir);
    free(c->initial_cluster);
    free(c->local_address);
    log_destroy(&c->log);
    flag_set_deinit(&c->flags);
}
