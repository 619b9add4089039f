/* judge.c - what must hold after each step.
 *
 * All checks are incremental: an entry is compared once per member and life, a revision once per delivery. What is judged:
 *
 *   log          a log after a restart holds all that was reported durable, and terms and votes that were promised
 *   commit       members agree on every committed entry
 *   state        equal applied index, equal revision, compaction, members and configuration; equal hashes at equal revisions, and of equal compactions
 *   election     one leader per term, one vote per term, restarts included; a removed member does not lead
 *   ack          an acknowledged append is durable
 *   read, watch  what a client is given is what the model has
 */
#include "tests/sim/sim.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/wire.h"

#define REMOVED_LEADS_MAX (30000u * MS) /* a leader that was removed hands over, or stops, within this */

/* --- the judge's copy of a log --------------------------------------------------------------------------------------- */

static void shadow_cut(struct shadow *sh, uint64_t last)
{
    while (sh->n > 0 && sh->base + sh->n > last) {
        buf_unref(&sh->data[--sh->n]);
    }
    if (sh->n == 0 && sh->base > last) {
        sh->base = last;
    }
}

static void shadow_add(struct shadow *sh, uint64_t index, uint64_t term, uint32_t type, struct buf *data)
{
    if (sh->n == 0) {
        sh->base = index - 1;
    }
    shadow_cut(sh, index - 1);
    ASSERT(index == sh->base + sh->n + 1);
    if (sh->n == sh->cap) {
        sh->cap = sh->cap == 0 ? 256 : 2 * sh->cap;
        sh->term = xrealloc(sh->term, sh->cap * sizeof(*sh->term));
        sh->hash = xrealloc(sh->hash, sh->cap * sizeof(*sh->hash));
        sh->type = xrealloc(sh->type, sh->cap * sizeof(*sh->type));
        sh->data = xrealloc(sh->data, sh->cap * sizeof(struct buf *));
    }
    sh->term[sh->n] = term;
    sh->hash[sh->n] = model_entry_hash(term, type, data);
    sh->type[sh->n] = type;
    sh->data[sh->n++] = data == NULL ? NULL : buf_ref(data);
}

void shadow_deinit(struct shadow *sh)
{
    shadow_cut(sh, 0);
    free(sh->term);
    free(sh->hash);
    free(sh->type);
    free(sh->data);
    *sh = (struct shadow){0};
}

struct reading {
    struct shadow shadow;
    struct wal_hard_state hs;
};

static enum err on_entry(void *arg, const struct wal_entry *e, uint64_t chain)
{
    (void)chain;
    struct reading *r = arg;
    shadow_add(&r->shadow, e->index, e->term, e->type, e->data);
    return OK;
}

static enum err on_hard_state(void *arg, const struct wal_hard_state *hs)
{
    ((struct reading *)arg)->hs = *hs;
    return OK;
}

static void compare_logs(struct node *n, const struct reading *r)
{
    const struct shadow *old = &n->shadow;
    const struct shadow *new = &r->shadow;
    uint64_t old_last = old->base + old->n;
    uint64_t new_last = new->base + new->n;
    uint64_t free_from = n->maybe_valid ? n->maybe_from : UINT64_MAX;
    if (new_last < old_last && free_from > new_last + 1) {
        sim_violation(n->sim, "log", "%s: durable entries are lost: the log ended at %" PRIu64 ", now at %" PRIu64, n->name, old_last, new_last);
    }
    if (new->base > old_last && !n->maybe_valid) {
        sim_violation(n->sim, "log", "%s: the log begins at %" PRIu64 " and ended at %" PRIu64, n->name, new->base + 1, old_last);
    }
    uint64_t from = (old->base > new->base ? old->base : new->base) + 1;
    for (uint64_t i = from; i <= old_last && i <= new_last && i < free_from; i++) {
        if (old->hash[i - old->base - 1] != new->hash[i - new->base - 1]) {
            sim_violation(n->sim, "log", "%s: durable entry %" PRIu64 " changed over a restart", n->name, i);
            return;
        }
    }
    if (r->hs.term < n->promised_term) {
        sim_violation(n->sim, "log", "%s: term %" PRIu64 " after a restart, but %" PRIu64 " was promised", n->name, r->hs.term, n->promised_term);
    }
    if (n->vote_term != 0 && r->hs.term == n->vote_term && r->hs.vote != n->vote) {
        sim_violation(n->sim, "election", "%s: the vote of term %" PRIu64 " was for m%" PRIu64 " and is for m%" PRIu64 " after a restart", n->name,
                      n->vote_term, n->vote & 0xffffu, r->hs.vote & 0xffffu);
    }
}

void judge_log(struct node *n)
{
    struct reading r = {0};
    struct wal_visitor v = {on_entry, on_hard_state, &r};
    struct wal_config wc = {.vfs = n->vfs, .dir = "wal", .segment_bytes = WAL_SEGMENT_BYTES_MIN};
    struct wal *w = NULL;
    struct wal_identity id;
    struct err_ctx ec = {{0}};
    enum err e = wal_open(&wc, &v, &w, &id, &ec);
    if (e != OK) {
        shadow_deinit(&r.shadow);
        if (!n->fault_armed) {
            sim_violation(n->sim, "log", "%s: its log cannot be read: %s", n->name, ec.text);
        }
        return;
    }
    if (r.shadow.n == 0) {
        r.shadow.base = wal_last(w).index;
    }
    wal_close(&w);
    if (n->booted) {
        compare_logs(n, &r);
    }
    n->booted = true;
    n->maybe_valid = false;
    shadow_deinit(&n->shadow);
    n->shadow = r.shadow;
    n->judged = r.shadow.base;
    n->durable_term = r.hs.term;
}

void judge_opened(struct node *n)
{
    uint64_t last = wal_last(n->wal).index;
    if (last != n->shadow.base + n->shadow.n) {
        if (last != engine_applied_index(member_engine(n->m))) {
            sim_violation(n->sim, "log", "%s: recovery moved the end of the log to %" PRIu64, n->name, last);
        }
        shadow_cut(&n->shadow, 0);
        n->shadow.base = last;
        n->judged = last;
    }
}

void judge_appended(struct node *n, const struct wal_request *r)
{
    struct shadow *sh = &n->shadow;
    if (r->has_hard_state) {
        n->durable_term = r->hard_state.term;
    }
    if (r->restart_at != 0) {
        shadow_cut(sh, 0);
        sh->base = r->restart_at - 1;
        n->judged = sh->base;
    }
    for (size_t i = 0; i < r->n_entries; i++) {
        const struct wal_entry *e = &r->entries[i];
        if (sh->n == 0 && e->index > sh->base + 1) {
            sim_violation(n->sim, "log", "%s: entry %" PRIu64 " is written behind %" PRIu64, n->name, e->index, sh->base);
            return;
        }
        if (e->index > sh->base + sh->n + 1) {
            sim_violation(n->sim, "log", "%s: entry %" PRIu64 " is written behind %" PRIu64, n->name, e->index, sh->base + (uint64_t)sh->n);
            return;
        }
        shadow_add(sh, e->index, e->term, e->type, e->data);
        n->judged = n->judged >= e->index ? e->index - 1 : n->judged;
    }
}

/* --- elections and promises ------------------------------------------------------------------------------------------------ */

static void judge_leader(struct node *n, const struct raft_message *m)
{
    struct sim *s = n->sim;
    if (m->term >= sizeof(s->model.leader_of_term) / sizeof(s->model.leader_of_term[0])) {
        return;
    }
    uint64_t *leader = &s->model.leader_of_term[m->term];
    if (*leader == 0) {
        *leader = n->id;
        s->stats.elections++;
        sim_note(s, n, m->term, "leads in term %" PRIu64, m->term);
    } else if (*leader != n->id) {
        sim_violation(s, "election", "two leaders in term %" PRIu64 ": m%" PRIu64 " and %s", m->term, *leader & 0xffffu, n->name);
    }
    n->lead_term = m->term;
    if (n->removed_at != 0 && s->now - n->removed_at > REMOVED_LEADS_MAX) {
        sim_violation(s, "membership", "%s leads long after it was removed", n->name);
    }
}

static void judge_vote(struct node *n, uint64_t term, uint64_t vote)
{
    if (term == n->vote_term && vote != n->vote) {
        sim_violation(n->sim, "election", "%s votes twice in term %" PRIu64 ": for m%" PRIu64 " and m%" PRIu64, n->name, term, n->vote & 0xffffu,
                      vote & 0xffffu);
    }
    if (term > n->vote_term) {
        n->vote_term = term;
        n->vote = vote;
    }
}

static void promise(struct node *n, uint64_t term)
{
    n->promised_term = term > n->promised_term ? term : n->promised_term;
}

void judge_send(struct node *n, const struct raft_message *m)
{
    bool leads = m->type == RAFT_MSG_APP || m->type == RAFT_MSG_HEARTBEAT || m->type == RAFT_MSG_SNAP || m->type == RAFT_MSG_TIMEOUT_NOW;
    if (leads) {
        judge_leader(n, m);
    } else if (m->type == RAFT_MSG_VOTE_RESP && !m->reject) { /* a candidate's vote for itself counts only once it is durable: MsgVote promises nothing */
        judge_vote(n, m->term, m->to);
        promise(n, m->term);
    } else if (m->type == RAFT_MSG_APP_RESP && !m->reject) {
        uint64_t last = n->shadow.base + n->shadow.n;
        uint64_t applied = engine_applied_index(member_engine(n->m));
        last = applied > last ? applied : last;
        /* A late word about a term that is over is as if it had been sent before the next term's entries replaced what it is about. */
        if (m->index > last && m->term >= n->durable_term) {
            sim_violation(n->sim, "ack", "%s acknowledges entry %" PRIu64 ", and its durable log ends at %" PRIu64, n->name, m->index, last);
        }
        promise(n, m->term);
    }
    sim_note(n->sim, n, (uint64_t)m->type << 48 ^ m->index << 16 ^ m->term, "sends %s to m%" PRIu64 ", term %" PRIu64 ", index %" PRIu64 ", commit %" PRIu64 ", %zu entries%s",
             raft_message_type_name(m->type), m->to & 0xffffu, m->term, m->index, m->commit, m->n_entries, m->reject ? ", reject" : "");
}

/* A leader whose disk does nothing serves nobody. It has to notice and make room for another one. */
void judge_hung(struct node *n)
{
    struct sim *s = n->sim;
    uint64_t election = (uint64_t)s->set.heartbeat_ms * s->set.election_ticks * MS;
    if (!n->disk_hung || !n->led_then || n->state != NODE_UP || n->paused_to > s->now || n->n_items == 0) {
        return;
    }
    struct engine_conf c;
    engine_conf(member_engine(n->m), &c);
    if (c.n_voters == 1 || s->now - n->hung_since <= 8u * election || s->now - n->up_since <= 8u * election) {
        return;
    }
    s->stats.hung_leaders++;
    if (member_status(n->m).is_leader) {
        sim_violation(s, "leader", "%s still leads, and its disk has done nothing for %.0f ms", n->name, (double)(s->now - n->hung_since) / 1e6);
    }
}

/* --- commits and state ---------------------------------------------------------------------------------------------------------- */

/* Something is on its way to the log that may replace what the judge's copy holds. */
static uint64_t settled(const struct node *n, uint64_t to)
{
    for (size_t i = 0; i < n->n_items; i++) {
        const struct wal_request *r = n->items[i].request;
        if (r != NULL && r->restart_at != 0) {
            return 0;
        }
        if (r != NULL && r->n_entries > 0 && r->entries[0].index <= to) {
            to = r->entries[0].index - 1;
        }
    }
    return to;
}

/* Entry `index` as this member has it: on its way to the log, or in it. false: it is neither, or not known. */
static bool entry_of(const struct node *n, uint64_t index, struct wal_entry *out)
{
    for (size_t i = n->n_items; i > 0; i--) {
        const struct wal_request *r = n->items[i - 1].request;
        if (r != NULL && r->n_entries > 0 && index >= r->entries[0].index && index - r->entries[0].index < r->n_entries) {
            *out = r->entries[index - r->entries[0].index];
            return true;
        }
        if (r != NULL && r->restart_at != 0) {
            return false;
        }
    }
    const struct shadow *sh = &n->shadow;
    if (index <= sh->base || index > sh->base + sh->n) {
        return false;
    }
    size_t at = (size_t)(index - sh->base - 1);
    *out = (struct wal_entry){.index = index, .term = sh->term[at], .type = sh->type[at], .data = sh->data[at]};
    return true;
}

static bool holds(const struct node *n, uint64_t index, uint64_t hash)
{
    const struct shadow *sh = &n->shadow;
    return index > sh->base && index <= sh->base + sh->n && sh->hash[index - sh->base - 1] == hash;
}

/* More than half of those who vote, or voted before the last change of membership, have it in their logs. */
static bool quorum_holds(struct sim *s, uint64_t index, uint64_t hash, bool before)
{
    size_t n = 0;
    size_t have = 0;
    for (size_t i = 0; i < s->model.n_members; i++) {
        const struct model_member *m = &s->model.members[i];
        if (before ? m->voted : m->voter && !m->gone) {
            const struct node *node = sim_node_of(s, m->id);
            n++;
            have += node != NULL && holds(node, index, hash) ? 1u : 0u;
        }
    }
    return have > n / 2;
}

/* What is applied is committed. It may not be durable here yet, but it is elsewhere. */
static void judge_committed(struct node *n, uint64_t applied)
{
    struct sim *s = n->sim;
    if (n->judged < n->shadow.base) {
        n->judged = n->shadow.base;
    }
    struct wal_entry e;
    for (uint64_t i = n->judged + 1; i <= applied && !s->violated && entry_of(n, i, &e); i++) {
        uint64_t hash = model_entry_hash(e.term, e.type, e.data);
        if (i > s->model.n + 1) {
            sim_violation(s, "commit", "%s holds entry %" PRIu64 " as committed, but nobody holds %zu", n->name, i, s->model.n + 1);
        } else if (i == s->model.n + 1 && i > s->set.n_founders && !quorum_holds(s, i, hash, false) && !quorum_holds(s, i, hash, true)) {
            sim_violation(s, "commit", "%s applied entry %" PRIu64 ", which no quorum holds", n->name, i);
        } else if (i == s->model.n + 1) {
            model_commit(s, e.term, e.type, e.data, hash);
        } else if (s->model.log[i].hash != hash) {
            sim_violation(s, "commit", "entry %" PRIu64 " is committed twice: of term %" PRIu64 ", and on %s of term %" PRIu64, i, s->model.log[i].term,
                          n->name, e.term);
        }
        n->judged = i;
    }
}

/* A leader counts copies of entries of its own term only; older ones are committed by what follows them (section 5.4.2 of the Raft paper). */
static void judge_counting(struct node *n, const struct member_status *st)
{
    const struct shadow *sh = &n->shadow;
    uint64_t index = st->committed_index;
    bool went_on = n->lead_before && st->is_leader && n->lead_term_before == n->lead_term && index > n->committed_before;
    if (went_on && index > sh->base && index <= sh->base + sh->n && settled(n, index) == index && sh->term[index - sh->base - 1] < n->lead_term) {
        sim_violation(n->sim, "commit", "%s, leader of term %" PRIu64 ", commits entry %" PRIu64 " of term %" PRIu64 " by counting", n->name, n->lead_term,
                      index, sh->term[index - sh->base - 1]);
    }
    n->lead_before = st->is_leader;
    n->lead_term_before = n->lead_term;
    n->committed_before = index;
}

static uint64_t mix(uint64_t h, uint64_t v)
{
    uint64_t both[2] = {h, v};
    return hash64(both, sizeof(both));
}

static uint64_t mix_text(uint64_t h, const char *text)
{
    return mix(h, hash64(text, strlen(text)));
}

static uint64_t members_hash(struct engine *e)
{
    struct engine_conf c;
    engine_conf(e, &c);
    uint64_t h = c.auto_leave;
    const uint64_t *lists[] = {c.voters, c.learners, c.voters_outgoing, c.learners_next};
    size_t counts[] = {c.n_voters, c.n_learners, c.n_voters_outgoing, c.n_learners_next};
    for (size_t i = 0; i < 4; i++) {
        h = mix(h, counts[i]);
        for (size_t j = 0; j < counts[i]; j++) {
            h = mix(h, lists[i][j]);
        }
    }
    size_t n = 0;
    struct member_info *v = engine_members(e, &n);
    for (size_t i = 0; i < n; i++) {
        h = mix(mix(h, v[i].id), v[i].is_learner);
        h = mix_text(h, v[i].name);
        for (char **u = v[i].peer_urls; *u != NULL; u++) {
            h = mix_text(h, *u);
        }
    }
    free(v);
    return h | 1u;
}

static struct hashes_seen *seen_at(struct model *m, int64_t revision)
{
    size_t at = (size_t)revision;
    if (at >= m->cap_hashes) {
        size_t cap = 2 * at + 64;
        m->hashes = xrealloc(m->hashes, cap * sizeof(*m->hashes));
        memset(m->hashes + m->cap_hashes, 0, (cap - m->cap_hashes) * sizeof(*m->hashes));
        m->cap_hashes = cap;
    }
    return &m->hashes[at];
}

/* The check for corruption raises an alarm when two members remember different hashes of one compaction: they must not, whatever passes, restarts and
 * snapshots lie between. A revision is compacted to once, so what was compacted before is the same for all, too. */
static void judge_compactions(struct node *n)
{
    struct hash_kv v[16];
    size_t n_stored = engine_compaction_hashes(member_engine(n->m), v, ARRAY_LEN(v));
    for (size_t i = 0; i < n_stored; i++) {
        struct hash_seen *seen = &seen_at(&n->sim->model, v[i].hash_revision)->stored;
        if (seen->any && (seen->compacted != v[i].compact_revision || seen->hash != v[i].hash)) {
            sim_violation(n->sim, "state", "%s remembers hash %08x of the compaction from %" PRId64 " to %" PRId64 ", another has %08x (from %" PRId64 ")",
                          n->name, v[i].hash, v[i].compact_revision, v[i].hash_revision, seen->hash, seen->compacted);
        }
        *seen = (struct hash_seen){v[i].compact_revision, v[i].hash, true};
    }
}

static void judge_hash(struct node *n)
{
    struct sim *s = n->sim;
    judge_compactions(n);
    struct hash_kv h;
    struct err_ctx ec = {{0}};
    enum err e = engine_hash_kv(member_engine(n->m), 0, &h, &ec);
    if (e != OK) {
        sim_violation(s, "state", "%s cannot hash its keys: %s", n->name, ec.text);
        return;
    }
    struct hash_seen *seen = &seen_at(&s->model, h.hash_revision)->walked;
    if (seen->any && seen->compacted == h.compact_revision && seen->hash != h.hash) {
        sim_violation(s, "state", "%s has another hash of the keys at revision %" PRId64 " (compacted at %" PRId64 ")", n->name, h.hash_revision,
                      h.compact_revision);
    }
    *seen = (struct hash_seen){h.compact_revision, h.hash, true};
}

static void judge_members(struct node *n, uint64_t applied)
{
    struct sim *s = n->sim;
    n->conf_checked = applied;
    uint64_t h = members_hash(member_engine(n->m));
    struct canon_entry *c = &s->model.log[applied];
    if (c->members_hash == 0) {
        c->members_hash = h;
    } else if (c->members_hash != h) {
        sim_violation(s, "membership", "%s has other members or another configuration at entry %" PRIu64, n->name, applied);
    }
}

void judge_turn(struct node *n)
{
    struct sim *s = n->sim;
    struct engine *e = member_engine(n->m);
    struct member_status st = member_status(n->m);
    judge_committed(n, st.applied_index);
    judge_counting(n, &st);
    if (s->violated || st.applied_index == n->checked_applied) {
        return;
    }
    if (st.applied_index > s->model.n) {
        sim_violation(s, "commit", "%s applied entry %" PRIu64 ", and only %zu are committed", n->name, st.applied_index, s->model.n);
        return;
    }
    if (st.applied_index < n->checked_applied) {
        sim_violation(s, "state", "%s: applied goes back from %" PRIu64 " to %" PRIu64, n->name, n->checked_applied, st.applied_index);
        return;
    }
    const struct canon_entry *c = &s->model.log[st.applied_index];
    if (engine_revision(e) != c->revision || engine_compact_revision(e) != c->compacted) {
        sim_violation(s, "state", "%s at entry %" PRIu64 ": revision %" PRId64 " (compacted %" PRId64 "), the model has %" PRId64 " (%" PRId64 ")", n->name,
                      st.applied_index, engine_revision(e), engine_compact_revision(e), c->revision, c->compacted);
        return;
    }
    if (st.applied_index >= n->conf_checked + 8 || s->model.log[st.applied_index].members_hash != 0) {
        judge_members(n, st.applied_index);
    }
    if (rng_chance(&s->rng, 8)) {
        judge_hash(n);
    }
    if (n->removed_at == 0 && engine_member_removed(e, n->id)) {
        n->removed_at = s->now;
    }
    n->checked_applied = st.applied_index;
}

/* --- what clients are given -------------------------------------------------------------------------------------------------------- */

static bool in_range(uint32_t key, const Etcdserverpb__RangeRequest *r)
{
    char name[8];
    model_key_name(key, name);
    struct slice from = slice_of(r->key.data, r->key.len);
    if (r->range_end.len == 0) {
        return slice_eq(slice_str(name), from);
    }
    return slice_cmp(slice_str(name), from) >= 0 && slice_cmp(slice_str(name), slice_of(r->range_end.data, r->range_end.len)) < 0;
}

static bool same_kv(const Mvccpb__KeyValue *kv, const struct model_event *e)
{
    return model_key(slice_of(kv->key.data, kv->key.len)) == (int)e->key && kv->create_revision == e->create && kv->mod_revision == e->revision &&
           kv->version == e->version && kv->lease == e->lease && model_value_is(slice_of(kv->value.data, kv->value.len), e->value, e->value_len);
}

void judge_range(struct node *n, const Etcdserverpb__RangeRequest *r, const struct range_info *info, struct slice kvs, const char *what)
{
    struct sim *s = n->sim;
    int64_t revision = r->revision != 0 ? r->revision : info->header_revision;
    if (info->header_revision > s->model.revision) {
        sim_violation(s, what, "%s answers at revision %" PRId64 ", which is not committed", n->name, info->header_revision);
        return;
    }
    Etcdserverpb__RangeResponse *rr = etcdserverpb__range_response__unpack(NULL, kvs.len, kvs.data);
    if (rr == NULL || kvs.len != info->kvs_bytes) {
        sim_violation(s, what, "%s answers with bytes that are no reply", n->name);
        return;
    }
    s->stats.reads++;
    size_t i = 0;
    for (uint32_t k = 0; k < SIM_KEYS; k++) {
        const struct model_event *e = in_range(k, r) ? model_at(&s->model, k, revision) : NULL;
        if (e == NULL) {
            continue;
        }
        if (i >= rr->n_kvs || !same_kv(rr->kvs[i], e)) {
            sim_violation(s, what, "%s at revision %" PRId64 ": k%02u is wrong: %s, the model has revision %" PRId64, n->name, revision, k,
                          i >= rr->n_kvs ? "missing" : "another value", e->revision);
            break;
        }
        i++;
    }
    if (!s->violated && (i != rr->n_kvs || info->count != (int64_t)i)) {
        sim_violation(s, what, "%s at revision %" PRId64 ": %zu keys, count %" PRId64 ", the model has %zu", n->name, revision, rr->n_kvs, info->count, i);
    }
    etcdserverpb__range_response__free_unpacked(rr, NULL);
}

static bool matches(const struct watching *w, const struct model_event *e)
{
    return w->whole || w->key == e->key;
}

static bool same_event(const Mvccpb__Event *got, const struct model_event *e)
{
    if (got->kv == NULL || (got->type == MVCCPB__EVENT__EVENT_TYPE__DELETE) != e->deleted) {
        return false;
    }
    if (!e->deleted) {
        return same_kv(got->kv, e);
    }
    return model_key(slice_of(got->kv->key.data, got->kv->key.len)) == (int)e->key && got->kv->mod_revision == e->revision;
}

static void judge_event(struct watching *w, struct slice field)
{
    struct sim *s = w->sim;
    const struct model *m = &s->model;
    struct wire_field f;
    enum err e = wire_next(&field, &f);
    Mvccpb__Event *got = e == OK ? mvccpb__event__unpack(NULL, f.bytes.len, f.bytes.data) : NULL;
    if (got == NULL || got->kv == NULL) {
        sim_violation(s, "watch", "%s sends bytes that are no event", w->node->name);
        return;
    }
    while (w->cursor < m->n_events && !matches(w, &m->events[w->cursor])) {
        w->cursor++;
    }
    if (w->cursor == m->n_events || !same_event(got, &m->events[w->cursor])) {
        sim_violation(s, "watch", "%s: event of revision %" PRId64 " comes where the model has %" PRId64, w->node->name, got->kv->mod_revision,
                      w->cursor == m->n_events ? -1 : m->events[w->cursor].revision);
    } else {
        w->next = m->events[w->cursor].revision + 1;
        w->cursor++;
    }
    s->stats.watch_events++;
    mvccpb__event__free_unpacked(got, NULL);
}

bool judge_delivery(struct watching *w, const struct watch_delivery *d)
{
    for (size_t i = 0; i < d->n_events && !w->sim->violated; i++) {
        judge_event(w, d->events[i]);
    }
    /* Of one revision all, or nothing. */
    const struct model *m = &w->sim->model;
    for (size_t i = w->cursor; i < m->n_events && m->events[i].revision < w->next && !w->sim->violated; i++) {
        if (matches(w, &m->events[i])) {
            sim_violation(w->sim, "watch", "%s: revision %" PRId64 " is delivered in part", w->node->name, m->events[i].revision);
        }
    }
    return true;
}

void judge_content(struct node *n)
{
    Etcdserverpb__RangeRequest r = ETCDSERVERPB__RANGE_REQUEST__INIT;
    uint8_t from[1] = {'a'};
    uint8_t to[1] = {'z'};
    r.key = (ProtobufCBinaryData){1, from};
    r.range_end = (ProtobufCBinaryData){1, to};
    struct range_read *rr = NULL;
    struct range_info info;
    struct err_ctx ec = {{0}};
    enum err e = engine_range_open(member_engine(n->m), &r, node_local_ns(n, n->sim->now) / MS, &rr, &info, &ec);
    if (e != OK) {
        sim_violation(n->sim, "content", "%s cannot be read: %s", n->name, ec.text);
        return;
    }
    struct bytes b = {0};
    size_t got = engine_range_pull(rr, bytes_reserve(&b, info.kvs_bytes + 1), info.kvs_bytes, &e);
    engine_range_close(&rr);
    judge_range(n, &r, &info, slice_of(b.data, got), "content");
    bytes_deinit(&b);
    judge_hash(n);
}
