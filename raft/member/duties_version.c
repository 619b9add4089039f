/* duties_version.c - telling the others about this member, and deciding the cluster's version.
 *
 * A member publishes its name and client URLs once through the log. A leader compares all members' versions now and then, and proposes what follows.
 * Source: etcd-server.md 3.9.
 */
#include "raft/member/internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/wire.h"

#define VERSION_UNDECIDED "3.0.0" /* what etcd begins with when not every member can be asked */
#define PUBLISH_PATIENCE_MS 10000u  /* after the start; then the others are taken for members like this one */

/* --- publishing ----------------------------------------------------------------------------------------- */

static void on_published(struct member_op *op)
{
    struct member *m = duty_member(op);
    enum err e = op->err;
    duty_forget(op);
    m->publishing = false;
    if (e != OK) {
        m->duty_again_ms = m->now_ms + MEMBER_DUTY_RETRY_MS;
        return;
    }
    m->published = true;
    if (!m->ready_told) {
        m->ready_told = true;
        m->cfg.ready(m->cfg.arg);
    }
}

/* Members before 3.6 take what is about the cluster as requests of the long gone v2 API: a PUT at a path. */
static void propose_v2(struct member *m, const char *path, struct slice value, void (*done)(struct member_op *op))
{
    struct bytes v2 = {0};
    struct bytes whole = {0};
    struct bytes header = {0};
    uint64_t id = member_next_request_id(m);
    wire_add_uint(&v2, 1, id);
    wire_add_bytes(&v2, 2, slice_str("PUT"));
    wire_add_bytes(&v2, 3, slice_str(path));
    wire_add_bytes(&v2, 4, value);
    wire_add_uint(&header, 1, id);
    wire_add_message(&whole, 2, bytes_slice(&v2));
    wire_add_message(&whole, 100, bytes_slice(&header));
    struct buf *data = buf_create(whole.len);
    memcpy(data->data, whole.data, whole.len);
    duty_propose_bytes(m, data, id, done);
    bytes_deinit(&v2);
    bytes_deinit(&whole);
    bytes_deinit(&header);
}

static void publish_v2(struct member *m)
{
    struct bytes json = {0};
    char path[64];
    bytes_add_str(&json, "{\"name\":");
    json_add_string(&json, m->cfg.name);
    bytes_add_str(&json, ",\"clientURLs\":[");
    for (size_t i = 0; m->cfg.client_urls[i] != NULL; i++) {
        bytes_add_str(&json, i > 0 ? "," : "");
        json_add_string(&json, m->cfg.client_urls[i]);
    }
    bytes_add_str(&json, "]}");
    (void)snprintf(path, sizeof(path), "/0/members/%" PRIx64 "/attributes", m->cfg.member_id);
    m->publishing = true;
    propose_v2(m, path, bytes_slice(&json), on_published);
    bytes_deinit(&json);
}

static void publish_v3(struct member *m)
{
    size_t n = 0;
    while (m->cfg.client_urls[n] != NULL) {
        n++;
    }
    char **urls = xcalloc(n + 1, sizeof(*urls));
    for (size_t i = 0; i < n; i++) {
        urls[i] = (char *)(uintptr_t)m->cfg.client_urls[i];
    }
    Membershippb__Attributes attributes = MEMBERSHIPPB__ATTRIBUTES__INIT;
    attributes.name = (char *)(uintptr_t)m->cfg.name;
    attributes.n_client_urls = n;
    attributes.client_urls = urls;
    Membershippb__ClusterMemberAttrSetRequest set = MEMBERSHIPPB__CLUSTER_MEMBER_ATTR_SET_REQUEST__INIT;
    set.member_id = m->cfg.member_id;
    set.member_attributes = &attributes;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.cluster_member_attr_set = &set;
    m->publishing = true;
    duty_propose(m, &r, on_published);
    free(urls);
}

/* --- the cluster's version ------------------------------------------------------------------------------ */

struct version {
    unsigned major, minor;
};

static bool version_parse(const char *text, struct version *out)
{
    return sscanf(text, "%u.%u", &out->major, &out->minor) == 2;
}

static int version_cmp(struct version a, struct version b)
{
    if (a.major != b.major) {
        return a.major < b.major ? -1 : 1;
    }
    return (a.minor > b.minor) - (a.minor < b.minor);
}

static bool speaks_v2(struct member *m)
{
    char text[16];
    struct version now;
    engine_cluster_version(m->engine, text);
    return version_parse(text, &now) && version_cmp(now, (struct version){3, 6}) < 0 && strcmp(text, VERSION_UNDECIDED) != 0;
}

/* What the others understand is known once the cluster's version is; an etcd before 3.6 does not survive an entry that it does not know. An
 * undecided 3.0.0 says little: who joins waits a while for better, who founds takes the others for its equals. */
bool duties_may_publish(struct member *m)
{
    const struct raft_conf_state *conf = raft_conf(m->raft);
    size_t n = conf->voters.n + conf->learners.n;
    if (n == 0) {
        return false; /* it joins, and has heard nothing yet */
    }
    if (m->cfg.transport == NULL || n == 1 || m->now_ms >= m->started_ms + PUBLISH_PATIENCE_MS) {
        return true;
    }
    char text[16];
    engine_cluster_version(m->engine, text);
    return text[0] != '\0' && !(m->cfg.joining && strcmp(text, VERSION_UNDECIDED) == 0);
}

void duties_publish(struct member *m)
{
    if (speaks_v2(m)) {
        publish_v2(m);
    } else {
        publish_v3(m);
    }
}

static void on_version_set(struct member_op *op)
{
    struct member *m = duty_member(op);
    m->version_proposed = false;
    m->version_at_ms = m->now_ms + (op->err == OK ? MEMBER_VERSION_MS : MEMBER_DUTY_RETRY_MS);
    duty_forget(op);
}

/* `oldest`: of all members that are known about, the lowest version. */
static void set_version(struct member *m, const char *version, struct version oldest)
{
    m->version_proposed = true;
    if (version_cmp(oldest, (struct version){3, 6}) < 0) {
        propose_v2(m, "/0/version", slice_str(version), on_version_set);
        return;
    }
    Membershippb__ClusterVersionSetRequest set = MEMBERSHIPPB__CLUSTER_VERSION_SET_REQUEST__INIT;
    set.ver = (char *)(uintptr_t)version;
    Etcdserverpb__InternalRaftRequest r = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    r.cluster_version_set = &set;
    duty_propose(m, &r, on_version_set);
}

/* What the cluster's version should be: the lowest of all members, never lower than it was, unless a downgrade is under way. `others` is the lowest
 * of those that answered. */
static void decide_version(struct member *m, const char *others, bool all)
{
    char now_text[16];
    char target[16];
    struct version low, other, now;
    engine_cluster_version(m->engine, now_text);
    bool decided = version_parse(now_text, &now);
    bool own_known = version_parse(m->cfg.version, &low);
    ASSERT(own_known);
    bool any = version_parse(others, &other);
    if (any && version_cmp(other, low) < 0) {
        low = other;
    }
    if (!all || !any) {
        if (!decided) {
            set_version(m, VERSION_UNDECIDED, low);
        }
        return;
    }
    struct version to = low;
    if (engine_downgrade(m->engine, target)) {
        if (!version_parse(target, &to) || !decided || version_cmp(now, to) == 0) {
            return;
        }
    } else if (decided && version_cmp(low, now) <= 0) {
        return;
    }
    char text[32];
    (void)snprintf(text, sizeof(text), "%u.%u.0", to.major, to.minor);
    log_info(m->cfg.log, decided ? "updating cluster version using v3 API" : "setting up initial cluster version using v3 API", F_STR("from", now_text),
             F_STR("to", text));
    set_version(m, text, low);
}

void duties_versions(struct member *m, const char *lowest, bool all)
{
    m->versions_asked = false;
    m->version_at_ms = m->now_ms + MEMBER_VERSION_MS;
    if (atomic_load_explicit(&m->is_leader, memory_order_relaxed) && !m->version_proposed) {
        decide_version(m, lowest, all);
    }
}

/* etcd's words to whoever waits for them in the log. */
void duties_note_version(struct member *m)
{
    char now[16];
    if (m->now_ms < m->version_look_ms) {
        return;
    }
    m->version_look_ms = m->now_ms + MEMBER_VERSION_LOOK_MS;
    engine_cluster_version(m->engine, now);
    if (strcmp(now, m->version_seen) == 0) {
        return;
    }
    struct version before;
    struct version after;
    bool first = !version_parse(m->version_seen, &before);
    bool lower = version_parse(now, &after) && !first && version_cmp(after, before) < 0;
    if (first) {
        log_info(m->cfg.log, "set initial cluster version", F_HEX("cluster-id", m->cfg.cluster_id), F_HEX("local-member-id", m->cfg.member_id),
                 F_STR("cluster-version", now));
    } else {
        log_info(m->cfg.log, "updated cluster version", F_HEX("cluster-id", m->cfg.cluster_id), F_HEX("local-member-id", m->cfg.member_id),
                 F_STR("from", m->version_seen), F_STR("to", now));
        log_info(m->cfg.log, "cluster version is updated", F_STR("cluster-version", now));
    }
    log_info(m->cfg.log, "enabled capabilities for version", F_STR("cluster-version", now));
    if (lower) { /* the store has nothing to be changed for it: databases are written for whoever asks for one */
        log_info(m->cfg.log, "The server is ready to downgrade", F_STR("target-version", now), F_STR("server-version", m->cfg.version));
    }
    memcpy(m->version_seen, now, sizeof(now));
}

void duties_mind_versions(struct member *m)
{
    if (m->now_ms < m->version_at_ms || m->version_proposed || m->versions_asked) {
        return;
    }
    const struct raft_conf_state *conf = raft_conf(m->raft);
    if (m->cfg.transport == NULL || conf->voters.n + conf->learners.n <= 1) {
        duties_versions(m, m->cfg.version, true);
        return;
    }
    m->versions_asked = true;
    m->cfg.transport->ask_versions(m->cfg.transport->arg);
}
