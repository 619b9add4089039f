/* config_check.c - see config_check.h. */
#include "tools/pintle/config_check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "tools/pintle/tls.h"

#define ELECTION_MS_MAX 50000u
#define TRACING_RATE_MAX 1000000

/* --- URLs ----------------------------------------------------------------------------------------------------- */

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
static enum err check_bind(struct flag_set *f, const char *flag, struct err_ctx *ec)
{
    for (char **u = flag_get(f, flag)->urls; u != NULL && *u != NULL; u++) {
        if (is_unix(*u)) {
            continue;
        }
        size_t n = 0;
        const char *host = host_of(*u, &n);
        bool ip = n > 0 && (host[0] == '[' || strspn(host, "0123456789.") >= n);
        bool localhost = n == 9 && strncmp(host, "localhost", 9) == 0;
        if (!ip && !localhost) {
            return err_set(ec, ERR_INVALID, "expected IP in URL for binding (%s)", *u);
        }
        if (strlen(host + n) > 6 || atoi(host + n + 1) > UINT16_MAX) {
            return err_set(ec, ERR_INVALID, "listen tcp: address %s: invalid port", host + n + 1);
        }
    }
    return OK;
}

static enum err check_listeners(struct config *c, struct err_ctx *ec)
{
    static const char *const flags[] = {"listen-peer-urls", "listen-client-urls", "listen-client-http-urls", "listen-metrics-urls"};
    for (size_t i = 0; i < ARRAY_LEN(flags); i++) {
        enum err e = check_bind(&c->flags, flags[i], ec);
        if (e != OK) {
            return e;
        }
        char **http = flag_get(&c->flags, "listen-client-http-urls")->urls;
        if (i == 2 && (http == NULL || *http == NULL)) {
            log_msg(c->log, LOG_WARN, "Running http and grpc server on single port. This is not recommended for production.");
        }
    }
    return OK;
}

static enum err check_advertised(struct flag_set *f, const char *flag, const char *form, struct err_ctx *ec)
{
    const struct flag_value *v = flag_get(f, flag);
    for (char **u = v->urls; *u != NULL; u++) {
        size_t n = 0;
        if (!is_unix(*u) && (host_of(*u, &n), n == 0)) {
            return err_set(ec, ERR_INVALID, "--%s \"%s\" must be %s (unexpected empty host (%s))", flag, v->text, form, *u);
        }
    }
    return OK;
}

/* --- the cluster ------------------------------------------------------------------------------------------------ */

static enum err check_bootstrap(struct config *c, struct err_ctx *ec)
{
    struct flag_set *f = &c->flags;
    const char *state = flag_get(f, "initial-cluster-state")->text;
    if (strcmp(state, "new") != 0 && strcmp(state, "existing") != 0) {
        return err_set(ec, ERR_INVALID, "unexpected clusterState \"%s\"", state);
    }
    char **endpoints = flag_get(f, "discovery-endpoints")->urls;
    bool discovers = endpoints != NULL && *endpoints != NULL;
    bool token = flag_get(f, "discovery-token")->text[0] != '\0';
    bool srv = flag_get(f, "discovery-srv")->text[0] != '\0';
    bool named = flag_is_set(f, "initial-cluster") && flag_get(f, "initial-cluster")->text[0] != '\0';
    if ((named ? 1 : 0) + (srv ? 1 : 0) + (discovers ? 1 : 0) > 1) {
        return err_set(ec, ERR_INVALID,
                       "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"");
    }
    if (discovers != token) {
        return err_set(ec, ERR_INVALID, "both --discovery-token and --discovery-endpoints must be set");
    }
    for (; discovers && *endpoints != NULL; endpoints++) {
        if (endpoints[0][0] == '\0') {
            return err_set(ec, ERR_INVALID, "--discovery-endpoints must not contain empty endpoints");
        }
    }
    return OK;
}

static enum err check_timing(struct flag_set *f, struct err_ctx *ec)
{
    uint64_t heartbeat = flag_get(f, "heartbeat-interval")->u;
    uint64_t election = flag_get(f, "election-timeout")->u;
    if (heartbeat == 0) {
        return err_set(ec, ERR_INVALID, "--heartbeat-interval must be >0 (set to 0ms)");
    }
    if (election == 0) {
        return err_set(ec, ERR_INVALID, "--election-timeout must be >0 (set to 0ms)");
    }
    if (election / 5 < heartbeat) {
        return err_set(ec, ERR_INVALID, "--election-timeout[%" PRIu64 "ms] should be at least as 5 times as --heartbeat-interval[%" PRIu64 "ms]", election,
                       heartbeat);
    }
    if (election > ELECTION_MS_MAX) {
        return err_set(ec, ERR_INVALID, "--election-timeout[%" PRIu64 "ms] is too long, and should be set less than %ums", election, ELECTION_MS_MAX);
    }
    return OK;
}

static enum err check_advertise_given(struct config *c, struct err_ctx *ec)
{
    bool missing = c->file == NULL && flag_is_set(&c->flags, "listen-client-urls") && !flag_is_set(&c->flags, "advertise-client-urls");
    return missing ? err_set(ec, ERR_INVALID, "--advertise-client-urls is required when --listen-client-urls is set explicitly") : OK;
}

/* --- features ------------------------------------------------------------------------------------------------------ */

static enum err check_features(struct config *c, struct err_ctx *ec)
{
    struct flag_set *f = &c->flags;
    const char *mode = flag_get(f, "auto-compaction-mode")->text;
    if (mode[0] == '\0') {
        return err_set(ec, ERR_INVALID, "undefined auto-compaction-mode");
    }
    if (strcmp(mode, "periodic") != 0 && strcmp(mode, "revision") != 0) {
        return err_set(ec, ERR_INVALID, "unknown auto-compaction-mode \"%s\"", mode);
    }
    int64_t rate = flag_get(f, "distributed-tracing-sampling-rate")->i;
    if (flag_get(f, "enable-distributed-tracing")->b && (rate < 0 || rate > TRACING_RATE_MAX)) {
        return err_set(ec, ERR_INVALID, "distributed tracing configurition is not valid: (tracing sampling rate must be %s)",
                       rate < 0 ? "positive" : "less than 1000000");
    }
    bool checkpoint = flag_gate(f, GATE_LEASE_CHECKPOINT);
    bool persist = flag_gate(f, GATE_LEASE_CHECKPOINT_PERSIST);
    if (persist && !checkpoint) {
        return err_set(ec, ERR_INVALID, "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint");
    }
    if (checkpoint && !persist) {
        log_warn(c->log, "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist",
                 F_STR("feature-gate", "LeaseCheckpoint"));
    }
    if (flag_get(f, "compact-hash-check-time")->i <= 0) {
        char text[32];
        go_duration_format(flag_get(f, "compact-hash-check-time")->i, text, sizeof(text));
        return err_set(ec, ERR_INVALID, "--compact-hash-check-time must be >0 (set to %s)", text);
    }
    if (strcmp(flag_get(f, "name")->text, "default") == 0) {
        log_warn(c->log,
                 "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members "
                 "have the same default name",
                 F_STR("name", "default"));
    }
    return OK;
}

enum err config_check(struct config *c, struct err_ctx *ec)
{
    enum err e = check_listeners(c, ec);
    if (e == OK) {
        e = check_advertised(&c->flags, "initial-advertise-peer-urls", "\"host:port\"", ec);
    }
    if (e == OK) {
        e = check_advertised(&c->flags, "advertise-client-urls", "in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\"",
                             ec);
    }
    if (e == OK) {
        e = check_bootstrap(c, ec);
    }
    if (e == OK) {
        e = check_timing(&c->flags, ec);
    }
    if (e == OK) {
        e = check_advertise_given(c, ec);
    }
    if (e == OK) {
        e = check_features(c, ec);
    }
    return e == OK ? tls_flags_check(&c->flags, ec) : e;
}

/* --- what this version does not do --------------------------------------------------------------------------------- */

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

static void explain_gates(struct config *c)
{
    for (size_t i = 0; i < FLAG_N_GATES; i++) {
        bool on = flag_gate(&c->flags, (enum flag_gate_id)i);
        if (on != flag_gates[i].fallback && !flag_gates[i].works) {
            log_warn(c->log, "feature gate is accepted and has no effect in this version", F_STR("feature-gate", flag_gates[i].name), F_BOOL("value", on));
        }
    }
}

enum err config_check_support(struct config *c, struct err_ctx *ec)
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
    explain_gates(c);
    explain_snapshot_count(c);
    if (flag_get(&c->flags, "max-learners")->i < 0) {
        return err_set(ec, ERR_UNSUPPORTED, "--max-learners below 0 is not supported by this version");
    }
    return OK;
}
