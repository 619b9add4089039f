/* bootstrap.c - see bootstrap.h. */
#include "tools/pintle/bootstrap.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "api/etcd/server.h"
#include "base/assert.h"
#include "base/mem.h"
#include "raft/peer/headers.h"
#include "tools/pintle/advertised.h"
#include "tools/pintle/discovery.h"
#include "tools/pintle/remote.h"
#include "tools/pintle/srv_cluster.h"
#include "tools/pintle/urls.h"
#include "wal/wal.h"

#define FOUNDING_ASK_MS 1000u /* for the answer of one peer URL */
#define JOINING_ASK_MS 10000u

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The peer URLs of all members but the one of that name, sorted; the array alone is the caller's. */
static const char **urls_of_others(const struct founders *f, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++) {
        n += urls_count(f->peers[i].peer_urls);
    }
    const char **urls = xcalloc(n + 1, sizeof(*urls));
    n = 0;
    for (size_t i = 0; i < f->n; i++) {
        for (size_t k = 0; strcmp(f->peers[i].name, name) != 0 && f->peers[i].peer_urls[k] != NULL; k++) {
            urls[n++] = f->peers[i].peer_urls[k];
        }
    }
    qsort(urls, n, sizeof(*urls), compare_strings);
    return urls;
}

/* --- checks of the flags ------------------------------------------------------------------------------------------- */

static enum err check_names(const struct config *c, const struct founders *f, struct err_ctx *ec)
{
    const struct member_peer *own = founders_named(f, c->name);
    if (own == NULL) {
        return err_set(ec, ERR_INVALID, "couldn't find local name \"%s\" in the initial cluster configuration", c->name);
    }
    enum err e = c->existing_cluster ? OK : advertised_check(own, (const char *const *)c->advertise_peer, c->log, ec); /* who joins was announced when it was added */
    if (e == OK && founders_share_url(f)) {
        char *text = founders_text(f);
        e = err_set(ec, ERR_INVALID, "initial cluster %s has duplicate url", text);
        free(text);
    }
    return e;
}

/* --- founding -------------------------------------------------------------------------------------------------------- */

/* A founder that has lost its disk must not begin again as if nothing had been: it may have voted and acknowledged. */
static enum err check_not_founded(const struct config *c, const struct founders *f, uint64_t own_id, struct err_ctx *ec)
{
    const char **urls = urls_of_others(f, c->name);
    struct remote_cluster remote = {0};
    enum err e = OK;
    if (remote_members(&c->dial, urls, FOUNDING_ASK_MS, NULL, &remote, NULL) == OK) {
        for (size_t i = 0; i < remote.n; i++) {
            if (remote.members[i].id == own_id && remote.members[i].client_urls[0] != NULL) {
                e = err_set(ec, ERR_EXISTS, "member %" PRIx64 " has already been bootstrapped", own_id);
            }
        }
        remote_cluster_deinit(&remote);
    }
    free(urls);
    return e;
}

/* --- joining ---------------------------------------------------------------------------------------------------------- */

/* Every member of the running cluster is one that the flags name, by its peer URLs; that one gets its id. */
static enum err match_members(const struct config *c, const struct remote_cluster *remote, struct founders *f, struct err_ctx *ec)
{
    if (remote->n != f->n) {
        return err_set(ec, ERR_INVALID, "member count is unequal");
    }
    uint64_t deadline_ms = clock_now_ms(clock_real()) + URLS_RESOLVE_MS;
    for (size_t i = 0; i < remote->n; i++) {
        const char *const *urls = (const char *const *)remote->members[i].peer_urls;
        struct err_ctx why = {{0}};
        size_t k = 0;
        while (k < f->n && urls_compare(urls, f->peers[k].peer_urls, deadline_ms, c->log, &why) != OK) {
            k++;
        }
        if (k == f->n) {
            char *text = urls_join(urls, "", " ");
            enum err e = err_set(ec, ERR_INVALID, "PeerURLs: no match found for existing member (%" PRIx64 ", [%s]), last resolver error (%s)",
                                 remote->members[i].id, text, why.text);
            free(text);
            return e;
        }
        f->peers[k].id = remote->members[i].id;
    }
    f->cluster_id = remote->id;
    return OK;
}

/* What this version can live with: clusters of its own minor version and older; while one is being downgraded, exactly the next newer. */
static enum err check_versions(const struct config *c, const struct founders *f, uint64_t own_id, struct err_ctx *ec)
{
    uint64_t timeout_ms = 5000u + 2u * c->election_ms;
    struct peer_version own = {0};
    struct peer_version min = {0};
    ASSERT(peer_version_parse(slice_str(ETCD_VERSION), &own) == OK);
    ASSERT(peer_version_parse(slice_str(PEER_MIN_CLUSTER_VERSION), &min) == OK);
    struct peer_version max = own;
    char text[FOUNDERS_MAX][REMOTE_VERSION_BYTES];
    bool heard[FOUNDERS_MAX] = {false};
    bool downgrade = false;
    for (size_t i = 0; i < f->n; i++) {
        heard[i] = f->peers[i].id != own_id && remote_cluster_version(&c->dial, f->peers[i].peer_urls, timeout_ms, text[i]);
        downgrade = downgrade || (heard[i] && remote_downgrade_enabled(&c->dial, f->peers[i].peer_urls, timeout_ms));
    }
    if (downgrade) {
        max.minor++;
        min = max;
    }
    bool fits = false;
    for (size_t i = 0; i < f->n; i++) {
        struct peer_version v;
        if (!heard[i]) {
            continue;
        }
        if (peer_version_parse(slice_str(text[i]), &v) != OK) {
            log_warn(c->log, "failed to parse cluster version of remote member", F_HEX("remote-member-id", f->peers[i].id),
                     F_STR("remote-member-cluster-version", text[i]));
            continue;
        }
        bool low = peer_version_cmp(v, min) < 0;
        if (low || peer_version_cmp(v, max) > 0) {
            log_warn(c->log, low ? "cluster version of remote member is not compatible; too low"
                                 : "cluster version of remote member is not compatible; too high",
                     F_HEX("remote-member-id", f->peers[i].id), F_STR("remote-member-cluster-version", text[i]));
            return err_set(ec, ERR_INVALID, "incompatible with current running cluster");
        }
        fits = true;
    }
    return fits ? OK : err_set(ec, ERR_INVALID, "incompatible with current running cluster");
}

static enum err check_learners(const struct config *c, const struct remote_cluster *remote, struct err_ctx *ec)
{
    size_t n = 0;
    for (size_t i = 0; i < remote->n; i++) {
        n += remote->members[i].is_learner ? 1 : 0;
    }
    return n <= c->max_learners ? OK : err_set(ec, ERR_TOO_MANY_LEARNERS, "membership: too many learner members in cluster");
}

static enum err join(const struct config *c, struct founders *f, char **story, struct err_ctx *ec)
{
    const char **urls = urls_of_others(f, c->name);
    struct remote_cluster remote = {0};
    enum err e = remote_members(&c->dial, urls, JOINING_ASK_MS, c->log, &remote, ec);
    free(urls);
    if (e != OK) {
        return err_wrap(ec, e, "cannot fetch cluster info from peer urls");
    }
    e = match_members(c, &remote, f, ec);
    if (e != OK) {
        char *text = remote_cluster_text(&remote);
        *story = xasprintf("error validating peerURLs %s: %s", text, ec->text);
        free(text);
    }
    if (e == OK) {
        e = check_versions(c, f, founders_named(f, c->name)->id, ec);
    }
    if (e == OK) {
        e = check_learners(c, &remote, ec);
    }
    founders_sort(f);
    remote_cluster_deinit(&remote);
    return e;
}

/* --- discovery -------------------------------------------------------------------------------------------------------- */

/* The members are those of the registry, not this one alone. */
static enum err discover(struct config *c, struct origin *out, struct err_ctx *ec)
{
    uint64_t own_id = founders_named(&out->members, c->name)->id;
    char *own = founders_text(&out->members);
    char *cluster = NULL;
    struct err_ctx why = {{0}};
    log_msg(c->log, LOG_INFO, "Bootstrapping cluster using v3 discovery.");
    enum err e = discovery_join(&c->flags, c->log, own_id, own, &cluster, &why);
    free(own);
    if (e != OK) {
        out->undiscovered = true;
        return err_set(ec, e, "failed to join discovery cluster (%s)", why.text);
    }
    founders_deinit(&out->members);
    e = founders_parse(cluster, c->cluster_token, &out->members, ec);
    free(cluster);
    const struct member_peer *self = e == OK ? founders_named(&out->members, c->name) : NULL;
    if (e == OK && (founders_share_url(&out->members) || self == NULL || self->id != own_id)) {
        char *text = founders_text(&out->members);
        e = err_set(ec, ERR_INVALID, "discovery cluster %s has duplicate %s", text, founders_share_url(&out->members) ? "url" : "name");
        free(text);
    }
    return e;
}

/* --- all the ways ------------------------------------------------------------------------------------------------------- */

/* The members by the flags, or by the name servers when the flags say so. */
static enum err read_members(struct config *c, struct founders *out, struct err_ctx *ec)
{
    if (c->srv_domain[0] == '\0') {
        return founders_parse(c->initial_cluster, c->cluster_token, out, ec);
    }
    char *cluster = NULL;
    enum err e = srv_cluster(c, &cluster, ec);
    if (e == OK) {
        e = founders_parse(cluster, c->cluster_token, out, ec);
    }
    if (e == OK && founders_named(out, c->name) == NULL) {
        e = err_set(ec, ERR_INVALID, "cannot find local etcd member \"%s\" in SRV records", c->name);
    }
    free(cluster);
    return err_wrap(ec, e, "error setting up initial cluster");
}

static enum err from_flags(struct config *c, struct origin *out, struct err_ctx *ec)
{
    enum err e = read_members(c, &out->members, ec);
    if (e == OK) {
        e = check_names(c, &out->members, ec);
    }
    if (e == OK && c->existing_cluster && c->discovers) {
        e = err_set(ec, ERR_INVALID, "discovery URL should not be set when joining existing initial cluster");
    }
    if (e == OK) {
        e = c->existing_cluster ? join(c, &out->members, &out->story, ec)
                                : check_not_founded(c, &out->members, founders_named(&out->members, c->name)->id, ec);
    }
    if (e == OK && c->discovers) {
        e = discover(c, out, ec);
    }
    if (e != OK) {
        return e;
    }
    out->joining = c->existing_cluster;
    out->cluster_id = out->members.cluster_id;
    out->member_id = founders_named(&out->members, c->name)->id;
    return OK;
}

enum err origin_find(struct config *c, struct vfs *v, struct origin *out, struct err_ctx *ec)
{
    *out = (struct origin){0};
    struct wal_identity id = {0};
    bool exists = false;
    bool has_entries = false;
    enum err e = wal_exists(v, c->wal_dir, &exists, ec);
    if (e == OK && exists) {
        e = wal_identity_of(v, c->wal_dir, &id, &has_entries, ec);
    }
    if (e != OK) {
        return e;
    }
    /* An empty log was made by a start that ended before the member was founded or heard of the cluster: the flags still count. */
    if (!has_entries) {
        e = from_flags(c, out, ec);
        if (e == OK || !exists || !c->existing_cluster) {
            return e;
        }
        /* It was let in once. Members that begin anew may know less than they did, and answer with what they had long ago: the leader finds this one. */
        log_warn(c->log, "could not ask the cluster again; waiting for its leader", F_HEX("local-member-id", id.member_id), F_HEX("cluster-id", id.cluster_id),
                 F_STR("error", out->story != NULL ? out->story : ec->text));
        origin_deinit(out);
        *out = (struct origin){.joining = true};
        *ec = (struct err_ctx){{0}};
    }
    if (has_entries && c->discovers) {
        log_warn(c->log, "discovery token is ignored since cluster already initialized; valid logs are found", F_STR("wal-dir", c->wal_dir));
    }
    out->cluster_id = id.cluster_id;
    out->member_id = id.member_id;
    out->restarting = true;
    return OK;
}

void origin_deinit(struct origin *o)
{
    founders_deinit(&o->members);
    free(o->story);
}
