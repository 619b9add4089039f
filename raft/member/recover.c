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

#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

struct replay {
    struct raft_entry *entries; /* contiguous; first index is base + 1 */
    size_t n, cap;
    bool any;
    uint64_t base;
    uint64_t keep_above; /* entries at or below are in the store and not kept */
    uint64_t base_term;  /* term of the entry at `base` */
    struct wal_hard_state hs;
    uint64_t first_index;
    uint64_t witness_index, witness_chain;
    bool witness_seen, witness_differs;
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

static void json_string(struct bytes *b, const char *s)
{
    bytes_add_str(b, "\"");
    for (; *s != '\0'; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\') {
            bytes_printf(b, "\\%c", c);
        } else if (c < 0x20 || c == '<' || c == '>' || c == '&') {
            bytes_printf(b, "\\u%04x", c);
        } else {
            bytes_add(b, s, 1);
        }
    }
    bytes_add_str(b, "\"");
}

/* The member as etcd writes it into the context of the entry that adds it. */
static struct buf *founding_entry(const struct member_peer *p)
{
    struct bytes json = {0};
    bytes_printf(&json, "{\"id\":%" PRIu64 ",\"peerURLs\":[", p->id);
    for (size_t i = 0; p->peer_urls[i] != NULL; i++) {
        if (i > 0) {
            bytes_add_str(&json, ",");
        }
        json_string(&json, p->peer_urls[i]);
    }
    bytes_add_str(&json, "]");
    if (p->name[0] != '\0') {
        bytes_add_str(&json, ",\"name\":");
        json_string(&json, p->name);
    }
    bytes_add_str(&json, "}");
    struct raft_conf_change *cc = xcalloc(1, sizeof(*cc));
    cc->v1 = true;
    cc->n_changes = 1;
    cc->changes[0] = (struct raft_conf_change_single){RAFT_CONF_ADD_NODE, p->id};
    cc->context = bytes_slice(&json);
    struct buf *out = raft_conf_change_encode(cc);
    free(cc);
    bytes_deinit(&json);
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

static enum err create_raft(struct member *m, const struct replay *r, uint64_t applied, struct err_ctx *ec)
{
    /* What was applied was committed, though the log may know of an older commit index. */
    struct raft_hard_state hs = {r->hs.term, r->hs.vote, r->hs.commit < applied ? applied : r->hs.commit};
    struct raft_config *rc = xcalloc(1, sizeof(*rc));
    rc->id = m->cfg.member_id;
    rc->heartbeat_ticks = 1;
    rc->election_ticks = m->cfg.election_ms / m->cfg.heartbeat_ms;
    rc->max_append_bytes = RAFT_APPEND_BYTES;
    rc->max_inflight = RAFT_INFLIGHT;
    rc->max_uncommitted_bytes = MEMBER_UNCOMMITTED_BYTES_MAX;
    rc->pre_vote = m->cfg.pre_vote;
    rc->check_quorum = true;
    rc->seed = m->cfg.member_id ^ clock_wall_ns(m->cfg.clock);
    rc->hard_state = hs;
    rc->snapshot_index = applied;
    rc->snapshot_term = applied == 0 ? 0 : engine_applied_term(m->engine);
    rc->applied = applied;
    engine_conf_voters(m->engine, rc->conf.voters.id, &rc->conf.voters.n, rc->conf.learners.id, &rc->conf.learners.n, RAFT_MEMBERS_MAX);
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

/* Open the log and read it into *r. */
static enum err replay_log(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    *r = (struct replay){.keep_above = engine_applied_index(m->engine)};
    uint64_t witness_term = 0;
    engine_witness(m->engine, &r->witness_index, &witness_term, &r->witness_chain);
    struct wal_visitor v = {.entry = on_entry, .hard_state = on_hard_state, .arg = r};
    struct wal_identity id = {0, 0};
    enum err e = wal_open(wc, &v, &m->wal, &id, ec);
    if (e == OK && (id.cluster_id != m->cfg.cluster_id || id.member_id != m->cfg.member_id)) {
        e = err_set(ec, ERR_FOREIGN, "log in %s belongs to member %" PRIx64 " of cluster %" PRIx64, m->cfg.wal_dir, id.member_id, id.cluster_id);
    }
    return e;
}

static enum err create_log(struct member *m, const struct wal_config *wc, struct err_ctx *ec)
{
    struct wal *w = NULL;
    enum err e = wal_create(wc, (struct wal_identity){m->cfg.cluster_id, m->cfg.member_id}, 1, &w, ec);
    wal_close(&w);
    return e;
}

/* A log that is there and empty, with nothing applied: the member was stopped before it was founded. */
static enum err found(struct member *m, const struct wal_config *wc, struct replay *r, struct err_ctx *ec)
{
    enum err e = bootstrap(m, m->wal, ec);
    if (e != OK) {
        return e;
    }
    wal_close(&m->wal);
    replay_deinit(r);
    return replay_log(m, wc, r, ec);
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
    if (e == OK) {
        e = check(m, &r, applied, ec);
    }
    if (e == OK) {
        m->durable = wal_last(m->wal);
        e = create_raft(m, &r, applied, ec);
    }
    replay_deinit(&r);
    return e;
}

static void create_metrics(struct member *m)
{
    struct metrics *x = m->cfg.metrics;
    m->proposals_failed = metrics_counter(x, "etcd_server_proposals_failed_total", "The total number of failed proposals seen.", NULL);
    m->leader_changes = metrics_counter(x, "etcd_server_leader_changes_seen_total", "The number of leader changes seen.", NULL);
    m->proposals_pending = metrics_gauge(x, "etcd_server_proposals_pending", "The current number of pending proposals to commit.", NULL);
    m->lease_expired = metrics_counter(x, "etcd_debugging_server_lease_expired_total", "The total number of expired leases.", NULL);
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
    uint32_t election_ticks = cfg->election_ms / cfg->heartbeat_ms;
    uint64_t min_ttl_ms = (uint64_t)(3u * election_ticks / 2u) * cfg->heartbeat_ms;
    struct engine_config engine = {
        .backend = cfg->backend,
        .cluster_id = cfg->cluster_id,
        .member_id = cfg->member_id,
        .quota_bytes = cfg->quota_bytes,
        .min_lease_ttl_s = (int64_t)((min_ttl_ms + 999u) / 1000u),
        .compaction_batch_limit = cfg->compaction_batch_limit * COMPACTION_BATCHES_PER_COMMIT,
        .metrics = cfg->metrics,
        .events = &member_engine_events,
        .events_arg = m,
        .clock = cfg->clock,
    };
    enum err e = engine_open(&engine, &m->engine, ec);
    if (e == OK) {
        m->compacted_to = engine_physical_compact_revision(m->engine);
        e = open_log(m, ec);
    }
    if (e != OK) {
        member_close(&m);
        return e;
    }
    *out = m;
    return OK;
}

static void log_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    member_fail(arg, e, ec->text);
}

void member_start(struct member *m)
{
    ASSERT(!m->started);
    m->started = true;
    struct wal_writer_config wc = {
        .wal = m->wal,
        .done = member_log_done,
        .failed = log_failed,
        .arg = m,
        .fsync_seconds = metrics_histogram(m->cfg.metrics, "etcd_disk_wal_fsync_duration_seconds",
                                           "The latency distributions of fsync called by WAL.", NULL, 0.001, 2, 14),
    };
    m->wal = NULL;
    m->writer = wal_writer_start(&wc);
    store_thread_start(&m->store, m);
    int rc = pthread_create(&m->thread, NULL, member_loop_main, m);
    ASSERT(rc == 0);
    (void)pthread_setname_np(m->thread, "member");
}

void member_stop(struct member *m)
{
    if (!m->started) {
        return;
    }
    atomic_store_explicit(&m->stopping, true, memory_order_release);
    struct store_news *wake = xcalloc(1, sizeof(*wake));
    wake->news.kind = MEMBER_NEWS_COMPACTED;
    queue_push_list(&m->inbox, &wake->news.node, &wake->news.node, 1);
    pthread_join(m->thread, NULL);
    wal_writer_stop(&m->writer);
    store_thread_stop(&m->store);
    m->started = false;
}

/* What the threads left in the inbox after the loop had ended. */
static void drain(struct member *m)
{
    struct qnode *node = queue_take_all(&m->inbox);
    while (node != NULL) {
        struct qnode *next = node->next;
        struct inbox_head *head = (struct inbox_head *)(void *)node;
        if (head->kind == MEMBER_NEWS_STORED || head->kind == MEMBER_NEWS_COMPACTED) {
            free(CONTAINER_OF(head, struct store_news, news));
        }
        node = next;
    }
}

void member_close(struct member **mp)
{
    struct member *m = *mp;
    if (m == NULL) {
        return;
    }
    *mp = NULL;
    ASSERT(!m->started);
    drain(m);
    while (m->first_batch != NULL) { /* durable too late to be heard of, or never */
        struct log_batch *b = m->first_batch;
        m->first_batch = b->next;
        member_log_batch_free(b);
    }
    raft_destroy(&m->raft);
    wal_close(&m->wal);
    engine_close(&m->engine);
    queue_deinit(&m->inbox);
    free(m->batch);
    free(m->batch_ops);
    free(m->turn_batches);
    free(m);
}
