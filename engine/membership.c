/* membership.c - members in memory and their rows. */
#include "engine/membership.h"

#include <stdio.h>
#include <stdlib.h>

#define HEX_ID_BYTES 20u

/* --- members in memory
 * ------------------------------------------------------------------------------- */

static size_t place_of(const struct members *m, uint64_t id)
{
    size_t i = 0;
    while (i < m->n && m->v[i].id < id) {
        i++;
    }
    return i;
}

static struct member_info *find(struct members *m, uint64_t id)
{
    size_t i = place_of(m, id);
    return i < m->n && m->v[i].id == id ? &m->v[i] : NULL;
}

static void free_urls(char **urls)
{
    for (size_t i = 0; urls != NULL && urls[i] != NULL; i++) {
        free(urls[i]);
    }
    free(urls);
}

static void member_free(struct member_info *m)
{
    free(m->name);
    free_urls(m->peer_urls);
    free_urls(m->client_urls);
    *m = (struct member_info){0};
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static char **copy_urls(const char *const *urls, size_t n, bool sort)
{
    char **out = xcalloc(n + 1, sizeof(*out));
    for (size_t i = 0; i < n; i++) {
        out[i] = xstrdup(urls[i]);
    }
    if (sort && n > 1) {
        qsort(out, n, sizeof(*out), by_text);
    }
    return out;
}

static char **urls_of_json(const struct member_json *m, const size_t *offsets, size_t n, bool sort)
{
    const char *urls[MEMBER_URLS_MAX];
    for (size_t i = 0; i < n; i++) {
        urls[i] = (const char *)m->text.data + offsets[i];
    }
    return copy_urls(urls, n, sort);
}

static struct member_info member_of_json(uint64_t id, const struct member_json *m)
{
    return (struct member_info){
        .id = id,
        .name = xstrdup((const char *)m->text.data + m->name),
        .peer_urls = urls_of_json(m, m->peer_urls, m->n_peer_urls, true),
        .client_urls = urls_of_json(m, m->client_urls, m->n_client_urls, false),
        .is_learner = m->is_learner,
    };
}

/* Takes the member's strings. */
static void insert(struct engine *e, struct member_info m)
{
    struct members *all = &e->members;
    size_t at = place_of(all, m.id);
    lock_write(e);
    if (all->n == all->cap) {
        all->cap = all->cap == 0 ? 8 : all->cap * 2;
        all->v = xrealloc(all->v, all->cap * sizeof(*all->v));
    }
    memmove(&all->v[at + 1], &all->v[at], (all->n - at) * sizeof(*all->v));
    all->v[at] = m;
    all->n++;
    unlock(e);
}

static void add_removed(struct engine *e, uint64_t id)
{
    struct members *all = &e->members;
    lock_write(e);
    all->removed = xrealloc(all->removed, (all->n_removed + 1) * sizeof(*all->removed));
    all->removed[all->n_removed++] = id;
    unlock(e);
}

/* --- rows
 * ---------------------------------------------------------------------------------------------- */

static struct slice hex_id(char out[HEX_ID_BYTES], uint64_t id)
{
    int n = snprintf(out, HEX_ID_BYTES, "%llx", (unsigned long long)id);
    ASSERT(n > 0);
    return slice_of(out, (size_t)n);
}

static enum err parse_hex_id(struct slice key, uint64_t *id)
{
    *id = 0;
    if (key.len == 0 || key.len > 16) {
        return ERR_CORRUPT;
    }
    for (size_t i = 0; i < key.len; i++) {
        uint8_t c = key.data[i];
        if (c >= '0' && c <= '9') {
            *id = *id << 4 | (uint64_t)(c - '0');
        } else if (c >= 'a' && c <= 'f') {
            *id = *id << 4 | (uint64_t)(c - 'a' + 10);
        } else {
            return ERR_CORRUPT;
        }
    }
    return OK;
}

static void save(struct engine *e, const struct member_info *m)
{
    char key[HEX_ID_BYTES];
    struct bytes json = {0};
    member_json_encode(m, &json);
    rows_add(&e->entry_rows, BUCKET_MEMBERS, hex_id(key, m->id), bytes_slice(&json));
    bytes_deinit(&json);
}

static void save_conf(struct engine *e)
{
    struct bytes json = {0};
    conf_encode(&e->conf, &json);
    rows_add(&e->entry_rows, BUCKET_META, slice_str(ROW_CONF_STATE), bytes_slice(&json));
    bytes_deinit(&json);
}

/* --- single changes
 * ------------------------------------------------------------------------------------ */

static bool url_in_use(const struct engine *e, const char *url, uint64_t but)
{
    for (size_t i = 0; i < e->members.n; i++) {
        const struct member_info *m = &e->members.v[i];
        for (size_t k = 0; m->id != but && m->peer_urls[k] != NULL; k++) {
            if (strcmp(m->peer_urls[k], url) == 0) {
                return true;
            }
        }
    }
    return false;
}

static enum err check_urls(const struct engine *e, const struct member_json *j, uint64_t but)
{
    for (size_t i = 0; i < j->n_peer_urls; i++) {
        if (url_in_use(e, (const char *)j->text.data + j->peer_urls[i], but)) {
            return ERR_PEER_URL_EXISTS;
        }
    }
    return OK;
}

static size_t count_learners(const struct members *m)
{
    size_t n = 0;
    for (size_t i = 0; i < m->n; i++) {
        n += m->v[i].is_learner;
    }
    return n;
}

/* In etcd's order, because all members must refuse for the same reason. */
static enum err add_member(struct engine *e, int type, uint64_t id, const struct member_json *j)
{
    if (find(&e->members, id) != NULL) {
        return ERR_MEMBER_EXISTS;
    }
    enum err err = check_urls(e, j, 0);
    if (err != OK) {
        return err;
    }
    bool learner = j->is_learner && type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddLearnerNode;
    bool enough = e->learners_max > 0 && count_learners(&e->members) >= e->learners_max;
    if (learner && (enough || e->learners_max == ENGINE_NO_LEARNERS)) {
        return ERR_TOO_MANY_LEARNERS;
    }
    if (e->members.n >= MEMBERS_MAX) {
        return ERR_LIMIT;
    }
    insert(e, member_of_json(id, j));
    save(e, find(&e->members, id));
    return OK;
}

static enum err promote_member(struct engine *e, uint64_t id)
{
    struct member_info *m = find(&e->members, id);
    if (m == NULL) {
        return ERR_MEMBER_NOT_FOUND;
    }
    if (!m->is_learner) {
        return ERR_NOT_LEARNER_MEMBER;
    }
    lock_write(e);
    m->is_learner = false;
    unlock(e);
    save(e, m);
    return OK;
}

static enum err update_member(struct engine *e, uint64_t id, const struct member_json *j)
{
    struct member_info *m = find(&e->members, id);
    if (m == NULL) {
        return ERR_MEMBER_NOT_FOUND;
    }
    enum err err = check_urls(e, j, id);
    if (err != OK) {
        return err;
    }
    char **urls = urls_of_json(j, j->peer_urls, j->n_peer_urls, true);
    lock_write(e);
    char **old = m->peer_urls;
    m->peer_urls = urls;
    unlock(e);
    free_urls(old);
    save(e, m);
    return OK;
}

static enum err remove_member(struct engine *e, uint64_t id)
{
    struct members *all = &e->members;
    struct member_info *m = find(all, id);
    if (m == NULL) {
        return ERR_MEMBER_NOT_FOUND;
    }
    if (e->conf.voters.n == 1 && conf_contains(&e->conf.voters, id)) {
        return ERR_INVALID; /* nobody would be left to decide anything; raft says the same */
    }
    size_t at = (size_t)(m - all->v);
    char key[HEX_ID_BYTES];
    lock_write(e);
    member_free(m);
    memmove(&all->v[at], &all->v[at + 1], (all->n - at - 1) * sizeof(*all->v));
    all->n--;
    unlock(e);
    add_removed(e, id);
    rows_add_delete(&e->entry_rows, BUCKET_MEMBERS, hex_id(key, id));
    rows_add(&e->entry_rows, BUCKET_MEMBERS_REMOVED, hex_id(key, id), slice_str("removed"));
    return OK;
}

/* The rows of one change; raft's configuration is the caller's. */
static enum err change_member(struct engine *e, int type, uint64_t id, struct slice context)
{
    if (membership_was_removed(&e->members, id)) {
        return ERR_MEMBER_NOT_FOUND;
    }
    if (type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeRemoveNode) {
        return remove_member(e, id);
    }
    struct member_json j;
    enum err err = member_json_decode(context, &j);
    if (err == OK) {
        switch (type) {
        case RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddNode:
        case RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddLearnerNode:
            err = j.is_promote ? promote_member(e, id) : add_member(e, type, id, &j);
            break;
        case RAFTPB__CONF_CHANGE_TYPE__ConfChangeUpdateNode:
            err = update_member(e, id, &j);
            break;
        default: /* a type we do not know */
            err = ERR_INVALID;
            break;
        }
    }
    member_json_deinit(&j);
    return err;
}

static void change_conf(struct conf_state *c, int type, uint64_t id)
{
    if (type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddNode) {
        conf_add_voter(c, id);
    } else if (type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddLearnerNode) {
        conf_add_learner(c, id);
    } else if (type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeRemoveNode) {
        conf_remove(c, id);
    }
}

enum err membership_apply_v1(struct engine *e, const Raftpb__ConfChange *cc)
{
    if (cc->node_id == 0) {
        return OK; /* a change that was refused when it was proposed: raft knows it as no change */
    }
    enum err err = change_member(e, (int)cc->type, cc->node_id, slice_pb(cc->context));
    if (err == OK) {
        lock_write(e);
        change_conf(&e->conf, (int)cc->type, cc->node_id);
        unlock(e);
        save_conf(e);
    }
    return err;
}

/* Etcd proposes only changes of one member. Of a V2 entry with several, those that take members out
 * or promote them need no context; one that adds a member takes the entry's. */
enum err membership_apply_v2(struct engine *e, const Raftpb__ConfChangeV2 *cc)
{
    int transition = (int)cc->transition;
    bool joint =
        cc->n_changes > 1 || transition != RAFTPB__CONF_CHANGE_TRANSITION__ConfChangeTransitionAuto;
    if (cc->n_changes == 1 && !joint) {
        Raftpb__ConfChange one = RAFTPB__CONF_CHANGE__INIT;
        one.type = cc->changes[0]->type;
        one.node_id = cc->changes[0]->node_id;
        one.context = cc->context;
        return membership_apply_v1(e, &one);
    }
    for (size_t i = 0; i < cc->n_changes; i++) {
        const Raftpb__ConfChangeSingle *c = cc->changes[i];
        const struct member_info *m = find(&e->members, c->node_id);
        bool removes = c->type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeRemoveNode;
        bool promotes =
            c->type == RAFTPB__CONF_CHANGE_TYPE__ConfChangeAddNode && m != NULL && m->is_learner;
        enum err err = OK;
        if (promotes) {
            err = promote_member(e, c->node_id);
        } else if (removes ? m != NULL : m == NULL && c->node_id != 0) {
            err = change_member(e, (int)c->type, c->node_id, slice_pb(cc->context));
        }
        if (err != OK && i == 0) {
            return err;
        }
    }
    lock_write(e);
    if (cc->n_changes == 0 && !joint) {
        conf_leave_joint(&e->conf);
    } else {
        conf_enter_joint(&e->conf,
                         transition !=
                             RAFTPB__CONF_CHANGE_TRANSITION__ConfChangeTransitionJointExplicit);
    }
    for (size_t i = 0; i < cc->n_changes; i++) {
        change_conf(&e->conf, (int)cc->changes[i]->type, cc->changes[i]->node_id);
    }
    unlock(e);
    save_conf(e);
    return OK;
}

void membership_set_attributes(struct engine *e, uint64_t id, const Membershippb__Attributes *a)
{
    struct member_info *m = find(&e->members, id);
    if (m == NULL || a == NULL) {
        return; /* removed meanwhile */
    }
    char *name = xstrdup(a->name);
    char **urls = copy_urls((const char *const *)a->client_urls, a->n_client_urls, false);
    lock_write(e);
    char *old_name = m->name;
    char **old_urls = m->client_urls;
    m->name = name;
    m->client_urls = urls;
    unlock(e);
    free(old_name);
    free_urls(old_urls);
    save(e, m);
}

static bool is_version(const char *s, size_t n)
{
    size_t dots = 0;
    for (size_t i = 0; i < n; i++) {
        if (s[i] == '.') {
            dots++;
        } else if (s[i] < '0' || s[i] > '9') {
            return false;
        }
    }
    return dots == 2 && n >= 5 && n < ENGINE_VERSION_BYTES;
}

static enum err set_version(struct engine *e, const char *s, size_t n)
{
    if (!is_version(s, n)) {
        return ERR_INVALID;
    }
    lock_write(e);
    memcpy(e->cluster_version, s, n);
    e->cluster_version[n] = 0;
    unlock(e);
    return OK;
}

enum err membership_set_version(struct engine *e, const char *version)
{
    enum err err = set_version(e, version, strlen(version));
    if (err == OK) {
        rows_add(&e->entry_rows, BUCKET_CLUSTER, slice_str(ROW_CLUSTER_VERSION),
                 slice_str(version));
    }
    return err;
}

static void note_downgrade(struct engine *e, bool enabled, const char *target)
{
    size_t n = enabled ? strlen(target) : 0;
    n = n < ENGINE_VERSION_BYTES ? n : ENGINE_VERSION_BYTES - 1;
    lock_write(e);
    e->downgrading = enabled;
    memcpy(e->downgrade_target, target, n);
    e->downgrade_target[n] = 0;
    unlock(e);
}

void membership_set_downgrade(struct engine *e, bool enabled, const char *target)
{
    struct bytes json = {0};
    note_downgrade(e, enabled, target);
    bytes_add_str(&json, "{\"target-version\":");
    json_add_string(&json, enabled ? target : "");
    bytes_printf(&json, ",\"enabled\":%s}", enabled ? "true" : "false");
    rows_add(&e->entry_rows, BUCKET_CLUSTER, slice_str(ROW_DOWNGRADE), bytes_slice(&json));
    bytes_deinit(&json);
}

/* --- at start
 * -------------------------------------------------------------------------------------------- */

enum err membership_restore_member(struct engine *e, struct slice key, struct slice value)
{
    uint64_t id;
    struct member_json j;
    enum err err = parse_hex_id(key, &id);
    if (err != OK || e->members.n >= MEMBERS_MAX) {
        return ERR_CORRUPT;
    }
    err = member_json_decode(value, &j);
    if (err == OK) {
        insert(e, member_of_json(id, &j));
    }
    member_json_deinit(&j);
    return err == OK ? OK : ERR_CORRUPT;
}

enum err membership_restore_removed(struct engine *e, struct slice key)
{
    uint64_t id;
    enum err err = parse_hex_id(key, &id);
    if (err == OK) {
        add_removed(e, id);
    }
    return err;
}

enum err membership_restore_version(struct engine *e, struct slice value)
{
    return set_version(e, (const char *)value.data, value.len) == OK ? OK : ERR_CORRUPT;
}

struct downgrade_row {
    struct bytes target;
    bool enabled;
};

static enum err downgrade_field(void *arg, const char *name, struct json *j)
{
    struct downgrade_row *row = arg;
    if (strcmp(name, "target-version") == 0) {
        bytes_reset(&row->target);
        return json_string(j, &row->target);
    }
    return strcmp(name, "enabled") == 0 ? json_bool(j, &row->enabled) : json_skip(j);
}

enum err membership_restore_downgrade(struct engine *e, struct slice value)
{
    struct downgrade_row row = {0};
    struct json j = {.rest = value};
    enum err err = json_object(&j, downgrade_field, &row);
    bytes_add(&row.target, "", 1);
    if (err == OK) {
        note_downgrade(e, row.enabled, (const char *)row.target.data);
    }
    bytes_deinit(&row.target);
    return err == OK ? OK : ERR_CORRUPT;
}

enum err membership_restore_conf(struct engine *e, struct slice value)
{
    return conf_decode(value, &e->conf) == OK ? OK : ERR_CORRUPT;
}

void membership_deinit(struct engine *e)
{
    for (size_t i = 0; i < e->members.n; i++) {
        member_free(&e->members.v[i]);
    }
    free(e->members.v);
    free(e->members.removed);
    e->members = (struct members){0};
    conf_deinit(&e->conf);
}
