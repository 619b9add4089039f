/* recover.c - from what is on disk to a member that may run.
 *
 * The log says what was decided, the store holds the state up to its applied index and remembers a witness: index, term and chain
 * hash of a log entry that was durable when it was applied. On open the two are checked against each other, always: a log that
 * ends before the store's applied index, or whose chain differs at the witness, has lost or changed acknowledged entries, and a
 * member must not run on it.
 */
#include "raft/member/internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "engine/lease.h"

struct replay {
    struct raft_entry *entries; /* contiguous; first index is base + 1 */
    size_t n, cap;
    bool any;
    uint64_t base;
    uint64_t keep_above; /* entries at or below are not kept: the store has them, and no follower will ask for them */
    uint64_t base_term;  /* term of the entry at `base` */
    struct wal_hard_state hs;
    uint64_t first_index;
    uint64_t witness_index, witness_chain;
    bool witness_seen, witness_differs;
    uint64_t installed_index, installed_term; /* the store came as a snapshot of these, and the log may not follow yet */
    bool installed_seen; /* the log holds that very entry */
};

static void drop_from(struct replay *r, uint64_t index)
{
    while (r->n > 0 && r->entries[r->n - 1].index >= index) {
        buf_unref(&r->entries[r->n - 1].data);
        r->n--;
    }
}

static enum err on_entry(void *arg, const struct wal_entry *e, uint64_t chain)
{
    struct replay *r = arg;
    if (!r->any) {
        r->any = true;
        r->first_index = e->index;
    }
    if (e->index == r->witness_index) {
        /* An overwritten entry shows up again later; the last one counts. */
        r->witness_seen = true;
        r->witness_differs = chain != r->witness_chain;
    }
    if (e->index <= r->installed_index) {
        r->installed_seen = e->index == r->installed_index && e->term == r->installed_term;
    }
    drop_from(r, e->index);
    if (e->index <= r->keep_above) {
        r->base = e->index;
        r->base_term = e->term;
        return OK;
    }
    if (r->n == r->cap) {
        r->cap = r->cap == 0 ? 1024 : 2 * r->cap;
        r->entries = xrealloc(r->entries, r->cap * sizeof(*r->entries));
    }
    r->entries[r->n++] = (struct raft_entry){.index = e->index, .term = e->term, .type = (enum raft_entry_type)e->type,
                                             .data = e->data == NULL ? NULL : buf_ref(e->data)};
    return OK;
}

static enum err on_hard_state(void *arg, const struct wal_hard_state *hs)
{
    ((struct replay *)arg)->hs = *hs;
    return OK;
}

/* --- a new cluster --------------------------------------------------------------------------------------- */

/* The member as etcd writes it into the context of the entry that adds it. */
static struct buf *founding_entry(const struct member_peer *p)
{
    struct bytes context = {0};
    change_context(&context, p->id, p->name, p->peer_urls, false, -1);
    struct buf *out = change_entry(RAFT_CONF_ADD_NODE, p->id, 0, bytes_slice(&context));
    bytes_deinit(&context);
    return out;
}

/* The founding members as entries 1..n of term 1, committed from the start: into an empty log. */
static enum err bootstrap(struct member *m, struct wal *w, struct err_ctx *ec)
{
    size_t n = m->cfg.n_initial;
    ASSERT(n > 0);
    struct wal_entry *entries = xcalloc(n, sizeof(*entries));
    for (size_t i = 0; i < n; i++) {
        entries[i] = (struct wal_entry){.index = i + 1, .term = 1, .type = RAFT_ENTRY_CONF_CHANGE,
                                        .data = founding_entry(&m->cfg.initial[i])};
    }
    struct wal_batch batch = {.has_hard_state = true, .hard_state = {.term = 1, .vote = 0, .commit = n}, .entries = entries, .n_entries = n};
    enum err e = wal_append(w, &batch, NULL, ec);
    for (size_t i = 0; i < n; i++) {
        buf_unref(&entries[i].data);
    }
    free(entries);
    return e;
}

/* --- log and store against each other ---------------------------------------------------------------------- */

static enum err check(struct member *m, const struct replay *r, uint64_t applied, struct err_ctx *ec)
{
    const char *dir = m->cfg.wal_dir;
    uint64_t last = wal_last(m->wal).index;
    uint64_t first = r->any ? r->first_index : last + 1; /* a log may hold no entry, and yet know where it stands */
    if (first > applied + 1) {
        return err_set(ec, ERR_CORRUPT, "log in %s begins at entry %" PRIu64 ", but the store ends at entry %" PRIu64, dir, first, applied);
    }
    if (last < applied) {
        return err_set(ec, ERR_CORRUPT, "log in %s ends at entry %" PRIu64 ", but entry %" PRIu64 " was applied: acknowledged entries are lost",
                       dir, last, applied);
    }
    if (r->witness_seen && r->witness_differs) {
        return err_set(ec, ERR_CORRUPT, "log in %s differs at entry %" PRIu64 " from what was applied", dir, r->witness_index);
    }
    return OK;
}

static void copy_ids(struct raft_ids *out, const uint64_t *ids, size_t n)
{
    static_assert(ENGINE_CONF_MAX <= RAFT_MEMBERS_MAX, "every configuration of the engine fits into raft's");
    out->n = n;
    memcpy(out->id, ids, n * sizeof(*ids));
}

static void raft_conf_of(const struct engine_conf *c, struct raft_conf_state *out)
{
    copy_ids(&out->voters, c->voters, c->n_voters);
    copy_ids(&out->learners, c->learners, c->n_learners);
    copy_ids(&out->voters_outgoing, c->voters_outgoing, c->n_voters_outgoing);
    copy_ids(&out->learners_next, c->learners_next, c->n_learners_next);
    out->auto_leave = c->auto_leave;
}

static enum err create_raft(struct member *m, const struct replay *r, uint64_t applied, struct err_ctx *ec)
{
    /* What was applied was committed, though the log may know of an older commit index. */
    struct raft_hard_state hs = {r->hs.term, r->hs.vote, r->hs.commit < applied ? applied : r->hs.commit};
    /* A store that came as a snapshot may be of a later term than the log had heard of. */
    if (engine_applied_term(m->engine) > hs.term && applied > 0) {
        hs.term = engine_applied_term(m->engine);
        hs.vote = 0;
    }
    struct raft_config *rc = xcalloc(1, sizeof(*rc));
    rc->id = m->cfg.member_id;
    rc->heartbeat_ticks = 1;
    rc->election_ticks = m->cfg.election_ms / m->cfg.heartbeat_ms;
    rc->max_append_bytes = RAFT_APPEND_BYTES;
    rc->max_inflight = RAFT_INFLIGHT;
    rc->max_inflight_bytes = MEMBER_INFLIGHT_BYTES_MAX;
    rc->max_uncommitted_bytes = MEMBER_UNCOMMITTED_BYTES_MAX;
    rc->pre_vote = m->cfg.pre_vote;
    rc->check_quorum = true;
    rc->apply_before_durable = true; /* enough others hold it; engine_log_durable keeps the store behind the log */
    rc->seed = m->cfg.member_id ^ clock_wall_ns(m->cfg.clock);
    rc->hard_state = hs;
    rc->snapshot_index = r->base;
    rc->snapshot_term = r->base_term;
    rc->applied = applied;
    struct engine_conf *conf = xcalloc(1, sizeof(*conf));
    engine_conf(m->engine, conf);
    raft_conf_of(conf, &rc->conf);
    free(conf);
    rc->entries = r->entries;
    rc->n_entries = r->n;
    enum err e = raft_create(rc, &m->raft, ec);
    free(rc);
    return err_wrap(ec, e, "log in %s", m->cfg.wal_dir);
}

static void replay_deinit(struct replay *r)
{
    drop_from(r, 0);
    free(r->entries);
    *r = (struct replay){0};
}

/* How many of the applied entries stay in memory, for followers that are a little behind. */
static uint64_t catch_up(const struct member *m)
{
    struct engine_conf *c = xcalloc(1, sizeof(*c));
    engine_conf(m->engine, c);
    bool alone = c->n_voters + c->n_learners <= 1;
    free(c);
    return alone ? 0 : m->cfg.catch_up_entries;
}

/* Make *r begin at an entry whose term is known. */
static void find_base(struct member *m, struct replay *r, uint64_t applied)
{
    if (r->n > 0 && r->entries[0].index == r->base + 1 && (r->base_term != 0 || r->base == 0)) {
        return; /* at what was seen last, or at the log's very beginning */
    }
    if (r->n > 0 && r->entries[0].index <= applied) {
        r->base = r->entries[0].index; /* the oldest entry that is there */
        r->base_term = r->entries[0].term;
        buf_unref(&r->entries[0].data);
        memmove(r->entries, r->entries + 1, (r->n - 1) * sizeof(*r->entries));
        r->n--;
        return;
    }
    r->base = applied;
    r->base_term = applied == 0 ? 0 : engine_applied_term(m->engine);
}

/* Open the log and read it into *r. */
static enum err replay_log(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    uint64_t applied = engine_applied_index(m->engine);
    uint64_t keep = catch_up(m);
    *r = (struct replay){.keep_above = applied > keep ? applied - keep : 0};
    uint64_t witness_term = 0;
    engine_witness(m->engine, &r->witness_index, &witness_term, &r->witness_chain);
    (void)engine_installed(m->engine, &r->installed_index, &r->installed_term);
    struct wal_visitor v = {.entry = on_entry, .hard_state = on_hard_state, .arg = r};
    struct wal_identity id = {0, 0};
    enum err e = wal_open(wc, &v, &m->wal, &id, ec);
    if (e == OK && (id.cluster_id != m->cfg.cluster_id || id.member_id != m->cfg.member_id)) {
        e = err_set(ec, ERR_FOREIGN, "log in %s belongs to member %" PRIx64 " of cluster %" PRIx64, m->cfg.wal_dir, id.member_id, id.cluster_id);
    }
    return e;
}

static enum err replay_again(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    wal_close(&m->wal);
    replay_deinit(r);
    return replay_log(m, wc, r, ec);
}

static enum err create_log(struct member *m, const struct wal_config *wc, struct err_ctx *ec)
{
    struct wal *w = NULL;
    enum err e = wal_create(wc, (struct wal_identity){m->cfg.cluster_id, m->cfg.member_id}, 1, &w, ec);
    wal_close(&w);
    return e;
}

/* --- a snapshot was installed, and then the power went ------------------------------------------------------- */

static bool log_follows(const struct member *m, const struct replay *r)
{
    if (r->installed_index == 0 || r->installed_seen) {
        return true;
    }
    return r->any ? r->first_index == r->installed_index + 1 : wal_last(m->wal).index == r->installed_index;
}

static enum err let_log_follow(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    log_info(m->cfg.log, "starting the log again behind an installed snapshot", F_UINT("snapshot-index", r->installed_index));
    struct wal_batch batch = {.restart_at = r->installed_index + 1};
    enum err e = wal_append(m->wal, &batch, NULL, ec);
    return e == OK ? replay_again(m, wc, r, ec) : e;
}

/* --- --force-new-cluster ----------------------------------------------------------------------------------------- */

static void note_id(struct raft_ids *ids, uint64_t id, bool present)
{
    size_t at = 0;
    while (at < ids->n && ids->id[at] != id) {
        at++;
    }
    if (present && at == ids->n && ids->n < RAFT_MEMBERS_MAX) {
        ids->id[ids->n++] = id;
    } else if (!present && at < ids->n) {
        ids->id[at] = ids->id[--ids->n];
    }
}

/* Everybody in the configuration once all that is committed is applied. */
static void known_ids(struct member *m, const struct replay *r, uint64_t commit, struct raft_ids *ids)
{
    struct engine_conf *c = xcalloc(1, sizeof(*c));
    struct raft_conf_change *cc = xcalloc(1, sizeof(*cc));
    engine_conf(m->engine, c);
    ids->n = 0;
    const struct {
        const uint64_t *v;
        size_t n;
    } lists[] = {{c->voters, c->n_voters}, {c->learners, c->n_learners}, {c->voters_outgoing, c->n_voters_outgoing}};
    for (size_t i = 0; i < ARRAY_LEN(lists); i++) {
        for (size_t k = 0; k < lists[i].n; k++) {
            note_id(ids, lists[i].v[k], true);
        }
    }
    for (size_t i = 0; i < r->n && r->entries[i].index <= commit; i++) {
        const struct raft_entry *e = &r->entries[i];
        if (e->type == RAFT_ENTRY_NORMAL || e->index <= engine_applied_index(m->engine) ||
            raft_conf_change_decode(e->type, buf_slice(e->data), cc) != OK) {
            continue;
        }
        for (size_t k = 0; k < cc->n_changes; k++) {
            note_id(ids, cc->changes[k].node, cc->changes[k].type != RAFT_CONF_REMOVE_NODE);
        }
    }
    free(cc);
    free(c);
}

/* Behind the log's end, as if all of it were committed: entries that remove every other member. etcd drops what it does not know to be
 * committed; here the log may know of an older commit index than was acknowledged (act.c), and what was acknowledged must not go. */
static enum err force_alone(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    uint64_t commit = wal_last(m->wal).index;
    uint64_t term = engine_applied_term(m->engine);
    term = r->hs.term > term ? r->hs.term : term;
    struct raft_ids ids;
    known_ids(m, r, commit, &ids);
    struct wal_entry entries[RAFT_MEMBERS_MAX + 1];
    size_t n = 0;
    bool listed = false;
    for (size_t i = 0; i < ids.n; i++) {
        listed = listed || ids.id[i] == m->cfg.member_id;
    }
    struct bytes context = {0};
    if (!listed) {
        change_context(&context, m->cfg.member_id, "", m->cfg.own_peer_urls, false, -1);
        entries[n++].data = change_entry(RAFT_CONF_ADD_NODE, m->cfg.member_id, 0, bytes_slice(&context));
    }
    for (size_t i = 0; i < ids.n; i++) {
        if (ids.id[i] != m->cfg.member_id) {
            entries[n++].data = change_entry(RAFT_CONF_REMOVE_NODE, ids.id[i], 0, (struct slice){NULL, 0});
        }
    }
    for (size_t i = 0; i < n; i++) {
        struct buf *data = entries[i].data;
        entries[i] = (struct wal_entry){.index = commit + 1 + i, .term = term, .type = RAFT_ENTRY_CONF_CHANGE, .data = data};
    }
    log_info(m->cfg.log, "forcing restart member", F_HEX("local-member-id", m->cfg.member_id), F_UINT("commit-index", commit), F_UINT("removed-members", n));
    struct wal_batch batch = {.has_hard_state = true, .hard_state = {term, term == r->hs.term ? r->hs.vote : 0, commit + n}, .entries = entries, .n_entries = n};
    enum err e = n == 0 ? OK : wal_append(m->wal, &batch, NULL, ec);
    for (size_t i = 0; i < n; i++) {
        buf_unref(&entries[i].data);
    }
    bytes_deinit(&context);
    return e == OK && n > 0 ? replay_again(m, wc, r, ec) : e;
}

/* --- opening --------------------------------------------------------------------------------------------------- */

/* A log that is there and empty, with nothing applied: the member was stopped before it was founded. One that joins stays empty
 * until the leader sends. */
static enum err found(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    if (m->cfg.joining || m->cfg.n_initial == 0) {
        return OK;
    }
    enum err e = bootstrap(m, m->wal, ec);
    return e == OK ? replay_again(m, wc, r, ec) : e;
}

static enum err open_log(struct member *m, struct err_ctx *ec)
{
    struct wal_config wc = {.vfs = m->cfg.vfs, .dir = m->cfg.wal_dir, .segment_bytes = m->cfg.segment_bytes, .no_sync = m->cfg.no_sync};
    uint64_t applied = engine_applied_index(m->engine);
    bool exists = false;
    enum err e = wal_exists(m->cfg.vfs, m->cfg.wal_dir, &exists, ec);
    if (e == OK && !exists) {
        if (applied > 0) {
            return err_set(ec, ERR_CORRUPT, "no log in %s, but the store has applied entry %" PRIu64 ": the log is lost", m->cfg.wal_dir, applied);
        }
        e = create_log(m, &wc, ec);
    }
    if (e != OK) {
        return e;
    }
    struct replay r;
    e = replay_log(m, &wc, &r, ec);
    if (e == OK && !r.any && applied == 0 && wal_last(m->wal).index == 0) {
        e = found(m, &wc, &r, ec);
    }
    if (e == OK && !log_follows(m, &r)) {
        e = let_log_follow(m, &wc, &r, ec);
    }
    if (e == OK) {
        e = check(m, &r, applied, ec);
    }
    if (e == OK && m->cfg.force_new_cluster) {
        e = force_alone(m, &wc, &r, ec);
    }
    if (e == OK) {
        if (r.installed_index != 0) {
            engine_log_follows(m->engine);
        }
        m->positions[0] = wal_last(m->wal);
        m->durable_index = m->positions[0].index;
        engine_log_durable(m->engine, m->durable_index);
        m->n_positions = m->positions[0].term != 0 ? 1 : 0;
        find_base(m, &r, applied);
        e = create_raft(m, &r, applied, ec);
    }
    replay_deinit(&r);
    return e;
}

static void create_metrics(struct member *m)
{
    struct metrics *x = m->cfg.metrics;
    m->measure = measure_create(x);
    m->proposals_failed = metrics_counter(x, "etcd_server_proposals_failed_total", "The total number of failed proposals seen.", NULL);
    m->leader_changes = metrics_counter(x, "etcd_server_leader_changes_seen_total", "The number of leader changes seen.", NULL);
    m->proposals_pending = metrics_gauge(x, "etcd_server_proposals_pending", "The current number of pending proposals to commit.", NULL);
    m->heartbeat_failures = metrics_counter(x, "etcd_server_heartbeat_send_failures_total",
                                            "The total number of leader heartbeat send failures (likely overloaded from slow disk).", NULL);
    m->slow_reads = metrics_counter(x, "etcd_server_slow_read_indexes_total",
                                    "The total number of pending read indexes not in sync with leader's or timed out read index requests.", NULL);
    m->lease_expired = metrics_counter(x, "etcd_debugging_server_lease_expired_total", "The total number of expired leases.", NULL);
}

/* Contexts of reads are never used again, not after a restart either: a late answer to a question of the life before must not
 * answer one of this. So they begin at a place that depends on everything that differs. */
static uint64_t first_read_context(const struct member *m)
{
    struct raft_status rs;
    raft_status(m->raft, &rs);
    const uint64_t parts[] = {clock_wall_ns(m->cfg.clock), clock_now_ns(m->cfg.clock), m->cfg.member_id, rs.last_index, rs.hard_state.term};
    return (m->cfg.member_id & 0xffffu) << 48 | (hash64(parts, sizeof(parts)) & 0xffffff000000u);
}

enum err member_open(const struct member_config *cfg, struct member **out, struct err_ctx *ec)
{
    struct member *m = xcalloc(1, sizeof(*m));
    m->cfg = *cfg;
    m->request_timeout_ms = MEMBER_REQUEST_BASE_MS + 2u * cfg->election_ms;
    create_metrics(m);
    queue_init(&m->inbox, MEMBER_INBOX_MAX, NULL, NULL);
    m->now_ms = clock_now_ms(cfg->clock);
    uint64_t wall_ms = clock_wall_ns(cfg->clock) / 1000000u;
    atomic_store(&m->next_id, (cfg->member_id & 0xffffu) << 48 | (wall_ms & 0xffffffffffu) << 8);
    atomic_store(&m->no_leader_since_ms, m->now_ms);
    uint32_t election_ticks = cfg->election_ms / cfg->heartbeat_ms;
    uint64_t min_ttl_ms = (uint64_t)(3u * election_ticks / 2u) * cfg->heartbeat_ms;
    m->engine_cfg = (struct engine_config){
        .backend = cfg->backend,
        .cluster_id = cfg->cluster_id,
        .member_id = cfg->member_id,
        .quota_bytes = cfg->quota_bytes,
        .min_lease_ttl_s = (int64_t)((min_ttl_ms + 999u) / 1000u),
        .compaction_batch_limit = cfg->compaction_batch_limit * (cfg->compaction_pause_ms == 0 ? COMPACTION_BATCHES_PER_COMMIT : 1u),
        .compaction_pause_ms = cfg->compaction_pause_ms,
        .metrics = cfg->metrics,
        .events = &member_engine_events,
        .events_arg = m,
        .clock = cfg->clock,
    };
    enum err e = engine_open(&m->engine_cfg, &m->engine, ec);
    m->engine_cfg.backend = NULL;
    if (e == OK) {
        engine_set_max_learners(m->engine, cfg->max_learners);
        m->compacted_to = engine_physical_compact_revision(m->engine);
        e = open_log(m, ec);
    }
    if (e != OK) {
        member_close(&m);
        return e;
    }
    m->read_last_ctx = first_read_context(m);
    *out = m;
    return OK;
}

void member_connect(struct member *m, const struct member_log *log, const struct member_store *store)
{
    m->log = *log;
    m->store = *store;
}

struct wal *member_take_wal(struct member *m)
{
    struct wal *w = m->wal;
    ASSERT(w != NULL);
    m->wal = NULL;
    return w;
}

/* What others left in the inbox after the last turn. */
static void drain(struct member *m)
{
    struct qnode *node = queue_take_all(&m->inbox);
    while (node != NULL) {
        struct qnode *next = node->next;
        struct inbox_head *head = (struct inbox_head *)(void *)node;
        if (head->kind > MEMBER_NEWS_LOG) {
            struct news *n = CONTAINER_OF(head, struct news, head);
            if (n->message != NULL) {
                raft_message_destroy(&n->message);
            }
            free(n);
        }
        node = next;
    }
}

static void free_waiting(struct member *m)
{
    while (m->first_batch != NULL) { /* durable too late to be heard of, or never */
        struct log_batch *b = m->first_batch;
        m->first_batch = b->next;
        log_batch_free(b);
    }
    if (m->install_batch != NULL) {
        log_batch_free(m->install_batch);
    }
    if (m->install != NULL) { /* put in place or not, it was not answered */
        member_stage_discard(m, &m->install->staged);
        raft_message_destroy(&m->install->message);
    }
    apply_drop(m, UINT64_MAX);
    for (size_t i = 0; i < m->n_out; i++) {
        raft_message_destroy(&m->out[i]);
    }
    for (size_t i = 0; i < m->n_held_proposals; i++) {
        raft_message_destroy(&m->held_proposals[i].message);
    }
}

void member_close(struct member **mp)
{
    struct member *m = *mp;
    if (m == NULL) {
        return;
    }
    *mp = NULL;
    ASSERT(m->threads == NULL);
    drain(m);
    free_waiting(m);
    raft_destroy(&m->raft);
    wal_close(&m->wal);
    engine_close(&m->engine);
    queue_deinit(&m->inbox);
    free(m->apply.v);
    free(m->out);
    free(m->held_proposals);
    free(m->batch);
    free(m->batch_ops);
    free(m->turn_batches);
    auto_compact_deinit(&m->auto_compact);
    measure_destroy(&m->measure);
    free(m);
}
