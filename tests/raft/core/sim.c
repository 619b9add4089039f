/* sim.c - see the header. A shell as raft/member is one, with chance in place of the world. */
#include "tests/raft/core/sim.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "raft/core/internal.h"

#define SIM_READ_BYTES 16u

uint64_t sim_random(struct sim *s, uint64_t below)
{
    s->random += UINT64_C(0x9E3779B97F4A7C15);
    uint64_t z = s->random;
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return (z ^ (z >> 31)) % below;
}

static uint64_t mix(uint64_t sum, uint64_t v)
{
    uint64_t z = (sum ^ v) * UINT64_C(0xFF51AFD7ED558CCD);
    return (z ^ (z >> 33)) | 1u; /* never 0, which means unknown */
}

static uint64_t mix_entry(uint64_t sum, const struct raft_entry *e)
{
    sum = mix(mix(mix(sum, e->index), e->term), (uint64_t)e->type);
    struct slice data = buf_slice(e->data);
    for (size_t i = 0; i < data.len; i++) {
        sum = mix(sum, data.data[i]);
    }
    return sum;
}

/* ---- the durable log ---- */

static void cut_entries(struct sim_member *m, size_t keep)
{
    for (size_t i = keep; i < m->n_entries; i++) {
        buf_unref(&m->entries[i].data);
    }
    m->n_entries = keep;
}

static void push_entry(struct sim_member *m, const struct raft_entry *e)
{
    if (m->n_entries == m->cap_entries) {
        m->cap_entries = m->cap_entries == 0 ? 64 : m->cap_entries * 2;
        m->entries = xrealloc(m->entries, m->cap_entries * sizeof(*m->entries));
    }
    m->entries[m->n_entries] = *e;
    if (e->data != NULL) {
        (void)buf_ref(e->data);
    }
    m->n_entries++;
}

static void write_batch(struct sim_member *m, const struct sim_batch *b)
{
    if (b->hard_state_changed) {
        ASSERT(b->hard_state.term >= m->hard_state.term);
        ASSERT(b->hard_state.commit >= m->hard_state.commit);
        m->hard_state = b->hard_state;
    }
    if (b->snapshot != NULL) {
        cut_entries(m, 0);
        m->base_index = b->snapshot->index;
        m->base_term = b->snapshot->term;
    }
    if (b->n > 0) {
        ASSERT(b->entries[0].index > m->base_index);
        ASSERT(b->entries[0].index <= m->base_index + m->n_entries + 1);
        cut_entries(m, (size_t)(b->entries[0].index - m->base_index - 1));
        for (size_t i = 0; i < b->n; i++) {
            push_entry(m, &b->entries[i]);
        }
    }
}

static void free_batch(struct sim_batch *b)
{
    for (size_t i = 0; i < b->n; i++) {
        buf_unref(&b->entries[i].data);
    }
    free(b->entries);
    raft_snapshot_destroy(&b->snapshot);
    for (size_t i = 0; i < b->n_after; i++) {
        raft_message_destroy(&b->after[i]);
    }
    free(b->after);
}

static struct sim_batch take_batch(struct sim_member *m)
{
    struct sim_batch b = m->batches[0];
    m->n_batches--;
    memmove(&m->batches[0], &m->batches[1], m->n_batches * sizeof(b));
    return b;
}

/* ---- members ---- */

void sim_start(struct sim *s, struct sim_member *m)
{
    ASSERT(m->raft == NULL);
    struct raft_config config = {
        .id = m->id,
        .election_ticks = 10,
        .heartbeat_ticks = 1,
        .max_append_bytes = s->options.max_append_bytes,
        .max_committed_bytes = s->options.max_committed_bytes,
        .max_inflight = s->options.max_inflight,
        .max_inflight_bytes = s->options.max_inflight_bytes,
        .lease_reads = s->options.lease_reads,
        .no_forwarding = s->options.no_forwarding,
        .pre_vote = s->options.pre_vote,
        .check_quorum = s->options.check_quorum,
        .apply_before_durable = s->options.apply_before_durable,
        .step_down_on_removal = s->options.step_down_on_removal,
        .seed = sim_random(s, UINT64_MAX),
        .hard_state = m->hard_state,
        .snapshot_index = m->base_index,
        .snapshot_term = m->base_term,
        .conf = m->stored_conf,
        .applied = m->stored_applied,
        .entries = m->entries,
        .n_entries = m->n_entries,
    };
    struct err_ctx ec;
    enum err e = raft_create(&config, &m->raft, &ec);
    ASSERT(e == OK);
    if (m->lost_index != 0) {
        raft_suspect(m->raft, m->lost_term, m->lost_index);
    }
    m->applied = m->stored_applied;
    m->sum = m->stored_sum;
    m->conf = m->stored_conf;
}

void sim_crash(struct sim *s, struct sim_member *m)
{
    if (m->raft == NULL) {
        return;
    }
    s->n_crashes++;
    /* Some of what was under way may have reached the disk; its promises were never sent. */
    uint64_t reached = sim_random(s, m->n_batches + 1);
    while (m->n_batches > 0) {
        struct sim_batch b = take_batch(m);
        /* A snapshot is installed with its state machine, or not at all. */
        reached = b.snapshot != NULL ? 0 : reached;
        if (reached > 0) {
            write_batch(m, &b);
            reached--;
        }
        free_batch(&b);
    }
    raft_destroy(&m->raft);
}

/* A crash after which the disk gives back less than was durable. Only where a majority keeps all of
 * its promises: in a larger cluster, and while no other member has lost something. */
static void crash_and_lose(struct sim *s, struct sim_member *m)
{
    bool may = m->conf.voters.n >= 3 && m->conf.voters_outgoing.n == 0;
    for (size_t i = 0; i < s->options.n_members; i++) {
        may = may && s->members[i].lost_index == 0;
    }
    if (!may) {
        return;
    }
    sim_crash(s, m);
    uint64_t last = m->base_index + m->n_entries;
    uint64_t keep = m->stored_applied > m->base_index ? m->stored_applied : m->base_index;
    if (keep >= last) {
        return;
    }
    m->lost_index = last;
    m->lost_term = m->entries[m->n_entries - 1].term;
    keep += sim_random(s, last - keep);
    cut_entries(m, (size_t)(keep - m->base_index));
    m->hard_state.commit = m->hard_state.commit < keep ? m->hard_state.commit : keep;
    s->n_losses++;
}

void sim_store(struct sim_member *m)
{
    /* Nothing is stored that the durable log could not confirm. */
    if (m->raft != NULL && m->applied <= m->hard_state.commit &&
        m->applied <= m->base_index + m->n_entries && m->applied >= m->stored_applied) {
        m->stored_applied = m->applied;
        m->stored_sum = m->sum;
        m->stored_conf = m->conf;
    }
}

static void found(struct sim *s, struct sim_member *m)
{
    m->hard_state = (struct raft_hard_state){.term = 1, .commit = s->options.n_voters};
    for (uint64_t id = 1; id <= s->options.n_voters; id++) {
        struct raft_conf_change cc = {
            .v1 = true, .n_changes = 1, .changes = {{RAFT_CONF_ADD_NODE, id}}};
        struct raft_entry e = {.index = id,
                               .term = 1,
                               .type = RAFT_ENTRY_CONF_CHANGE,
                               .data = raft_conf_change_encode(&cc)};
        push_entry(m, &e);
        buf_unref(&e.data);
    }
}

struct sim *sim_create(const struct sim_options *options)
{
    struct sim *s = xcalloc(1, sizeof(*s));
    s->options = *options;
    s->random = options->seed;
    for (size_t i = 0; i < options->n_members; i++) {
        struct sim_member *m = &s->members[i];
        m->id = i + 1;
        m->sum = 1;
        m->stored_sum = 1;
        if (i < options->n_voters) {
            found(s, m);
        }
        sim_start(s, m);
    }
    return s;
}

void sim_destroy(struct sim **sp)
{
    struct sim *s = *sp;
    for (size_t i = 0; i < s->options.n_members; i++) {
        sim_crash(s, &s->members[i]);
        cut_entries(&s->members[i], 0);
        free(s->members[i].entries);
    }
    for (size_t i = 0; i < s->n_network; i++) {
        raft_message_destroy(&s->network[i]);
    }
    free(s);
    *sp = NULL;
}

struct sim_member *sim_leader(struct sim *s)
{
    struct sim_member *leader = NULL;
    uint64_t term = 0;
    for (size_t i = 0; i < s->options.n_members; i++) {
        struct raft_status st;
        if (s->members[i].raft == NULL) {
            continue;
        }
        raft_status(s->members[i].raft, &st);
        if (st.role == RAFT_LEADER && st.hard_state.term > term) {
            leader = &s->members[i];
            term = st.hard_state.term;
        }
    }
    return leader;
}

/* ---- doing what raft says ---- */

static void apply(struct sim *s, struct sim_member *m, const struct raft_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ASSERT(e[i].index == m->applied + 1 && e[i].index < SIM_INDEX_MAX);
        m->applied = e[i].index;
        m->sum = mix_entry(m->sum, &e[i]);
        if (s->chain[m->applied] == 0) {
            s->chain[m->applied] = m->sum;
        }
        ASSERT(s->chain[m->applied] == m->sum); /* everybody applies the same */
        s->max_applied = m->applied > s->max_applied ? m->applied : s->max_applied;
    }
}

/* The arrays of the actions end with the first call into raft, so conf changes come last. */
static void apply_committed(struct sim *s, struct sim_member *m, const struct raft_actions *a)
{
    if (a->n_committed == 0) {
        return;
    }
    size_t n = a->n_committed;
    struct raft_entry *e = xcalloc(n, sizeof(*e));
    for (size_t i = 0; i < n; i++) {
        e[i] = a->committed[i];
        e[i].data = e[i].data == NULL ? NULL : buf_ref(e[i].data);
    }
    apply(s, m, e, n);
    for (size_t i = 0; i < n; i++) {
        struct raft_conf_change cc;
        if (e[i].type != RAFT_ENTRY_NORMAL) {
            enum err err = raft_conf_change_decode(e[i].type, buf_slice(e[i].data), &cc);
            ASSERT(err == OK);
            err = raft_apply_conf_change(m->raft, &cc, &m->conf, NULL);
            ASSERT(err == OK || err == ERR_INVALID); /* the same at every member */
            s->n_conf_changes++;
        }
        buf_unref(&e[i].data);
    }
    free(e);
    raft_applied(m->raft, m->applied);
}

static void post(struct sim *s, struct raft_message *m)
{
    bool lost = s->n_network >= SIM_NETWORK_MAX && m->type != RAFT_MSG_SNAP;
    if (lost || m->to == RAFT_NONE || m->to > s->options.n_members) {
        raft_message_destroy(&m);
        return;
    }
    ASSERT(s->n_network < ARRAY_LEN(s->network));
    s->network[s->n_network++] = m;
}

static void send(struct sim *s, struct sim_member *from, struct raft_message *m)
{
    if (m->type == RAFT_MSG_SNAP) {
        ASSERT(m->snapshot->index == from->applied);
        m->snapshot->data = buf_copy(slice_of(&from->sum, sizeof(from->sum)));
        s->n_snapshots++;
    }
    post(s, m);
}

static void check_role(struct sim *s, const struct sim_member *m, const struct raft_actions *a)
{
    if (a->role != RAFT_LEADER) {
        return;
    }
    ASSERT(a->term < SIM_INDEX_MAX);
    if (s->leader_of_term[a->term] == 0) {
        s->leader_of_term[a->term] = m->id;
        s->n_elections++;
    }
    ASSERT(s->leader_of_term[a->term] == m->id); /* one leader a term */
}

static void check_reads(struct sim *s, struct sim_member *m, const struct raft_actions *a)
{
    for (size_t i = 0; i < a->n_reads; i++) {
        uint64_t asked[2];
        ASSERT(a->reads[i].context_len == SIM_READ_BYTES);
        memcpy(asked, a->reads[i].context, sizeof(asked));
        ASSERT(asked[0] == m->id);
        ASSERT(a->reads[i].index >= asked[1]); /* all that was applied anywhere by then */
        m->n_reads_answered++;
        s->n_read_answers++;
    }
}

static void queue_batch(struct sim_member *m, const struct raft_actions *a)
{
    ASSERT(m->n_batches < SIM_BATCHES_MAX);
    struct sim_batch *b = &m->batches[m->n_batches++];
    *b = (struct sim_batch){
        .hard_state_changed = a->hard_state_changed,
        .hard_state = a->hard_state,
        .n = a->n_append,
        .entries = xcalloc(a->n_append + 1, sizeof(*b->entries)),
        .snapshot = raft_snapshot_copy(a->snapshot),
        .n_after = a->n_after,
        .after = xcalloc(a->n_after + 1, sizeof(struct raft_message *)),
    };
    for (size_t i = 0; i < a->n_append; i++) {
        b->entries[i] = a->append[i];
        if (b->entries[i].data != NULL) {
            (void)buf_ref(b->entries[i].data);
        }
    }
    for (size_t i = 0; i < a->n_after; i++) {
        b->after[i] = a->after[i];
    }
}

void sim_act(struct sim *s, struct sim_member *m)
{
    if (m->raft == NULL || !raft_has_actions(m->raft) || m->n_batches == SIM_BATCHES_MAX) {
        return;
    }
    struct raft_actions a;
    raft_actions(m->raft, &a);
    check_role(s, m, &a);
    check_reads(s, m, &a);
    ASSERT(a.log_batch || (a.n_after == 0 && a.n_append == 0 && !a.hard_state_changed));
    for (size_t i = 0; i < a.n_send; i++) {
        send(s, m, a.send[i]);
    }
    if (a.log_batch) {
        queue_batch(m, &a);
    }
    apply_committed(s, m, &a);
}

static void install(struct sim *s, struct sim_member *m, const struct raft_snapshot *snapshot)
{
    ASSERT(snapshot->data->len == sizeof(m->sum));
    memcpy(&m->sum, snapshot->data->data, sizeof(m->sum));
    m->applied = snapshot->index;
    m->conf = snapshot->conf;
    ASSERT(s->chain[m->applied] == m->sum);
}

void sim_complete(struct sim *s, struct sim_member *m)
{
    if (m->raft == NULL || m->n_batches == 0) {
        return;
    }
    struct sim_batch b = take_batch(m);
    write_batch(m, &b);
    if (b.snapshot != NULL) {
        install(s, m, b.snapshot);
        m->stored_applied = m->applied;
        m->stored_sum = m->sum;
        m->stored_conf = m->conf;
    }
    for (size_t i = 0; i < b.n_after; i++) {
        struct raft_message *after = b.after[i];
        b.after[i] = NULL;
        if (after->to == m->id) {
            enum err e = raft_receive(m->raft, after);
            /* A member that was removed meanwhile is no peer of its own any more. */
            ASSERT(e == OK || e == ERR_NOT_FOUND);
            raft_message_destroy(&after);
        } else {
            post(s, after);
        }
    }
    free_batch(&b);
    struct raft_status st;
    raft_status(m->raft, &st);
    if (!st.suspect) {
        m->lost_index = 0;
        m->lost_term = 0;
    }
}

void sim_complete_all(struct sim *s, struct sim_member *m)
{
    while (m->raft != NULL && (m->n_batches > 0 || raft_has_actions(m->raft))) {
        sim_act(s, m);
        sim_complete(s, m);
    }
}

/* ---- chance ---- */

enum err sim_propose(struct sim *s, struct sim_member *m)
{
    struct raft_entry e[3] = {0};
    size_t n = 1 + (size_t)sim_random(s, 3);
    for (size_t i = 0; i < n; i++) {
        uint8_t data[32] = {0};
        s->n_proposed++;
        memcpy(data, &s->n_proposed, sizeof(s->n_proposed));
        e[i].data = buf_copy(slice_of(data, 8 + (size_t)sim_random(s, 24)));
    }
    enum err err = raft_propose(m->raft, e, n);
    for (size_t i = 0; i < n; i++) {
        buf_unref(&e[i].data);
    }
    return err;
}

enum err sim_read(struct sim *s, struct sim_member *m)
{
    uint64_t context[2] = {m->id, s->max_applied};
    return raft_read_index(m->raft, slice_of(context, sizeof(context)));
}

static void random_conf_change(struct sim *s, struct sim_member *m)
{
    struct raft_conf_change cc = {0};
    static const enum raft_conf_change_type types[] = {
        RAFT_CONF_ADD_NODE, RAFT_CONF_ADD_NODE, RAFT_CONF_REMOVE_NODE, RAFT_CONF_ADD_LEARNER};
    cc.v1 = sim_random(s, 2) == 0;
    cc.n_changes = cc.v1 ? 1 : (size_t)sim_random(s, 4);
    cc.transition = cc.v1 ? RAFT_TRANSITION_AUTO : (enum raft_conf_transition)sim_random(s, 3);
    for (size_t i = 0; i < cc.n_changes; i++) {
        cc.changes[i].type = types[sim_random(s, ARRAY_LEN(types))];
        cc.changes[i].node = 1 + sim_random(s, s->options.n_members);
    }
    struct raft_entry e = {
        .type = cc.v1 ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_CONF_CHANGE_V2,
        .data = raft_conf_change_encode(&cc),
    };
    enum err err = raft_propose(m->raft, &e, 1);
    ASSERT(err != ERR_INVALID); /* all other refusals are part of the game */
    buf_unref(&e.data);
}

/* False when nobody was there to take it. */
static bool deliver(struct sim *s, const struct raft_message *m)
{
    struct sim_member *to = &s->members[m->to - 1];
    if (to->raft == NULL || ((s->cut >> (m->from - 1)) & 1u) != ((s->cut >> (m->to - 1)) & 1u)) {
        return false;
    }
    enum err e = raft_receive(to->raft, m);
    ASSERT(e != ERR_CORRUPT && e != ERR_INVALID && e != ERR_PERM);
    return true;
}

/* What the links of a shell tell raft: the fate of every snapshot, and of appends when it is bad.
 */
static void deliver_and_report(struct sim *s, const struct raft_message *m, bool lose)
{
    bool delivered = !lose && deliver(s, m);
    struct raft *from = s->members[m->from - 1].raft;
    if (from == NULL) {
        return;
    }
    if (m->type == RAFT_MSG_SNAP) {
        raft_report_snapshot(from, m->to, delivered);
    } else if (!delivered && m->type == RAFT_MSG_APP) {
        raft_report_unreachable(from, m->to);
    }
}

/* A message from near the front, so that most arrive in order and some do not. */
static void deliver_random(struct sim *s, uint64_t loss_percent)
{
    if (s->n_network == 0) {
        return;
    }
    uint64_t reach = s->n_network < 4 || sim_random(s, 4) == 0 ? s->n_network : 4;
    size_t at = (size_t)sim_random(s, reach);
    struct raft_message *m = s->network[at];
    bool twice = sim_random(s, 50) == 0;
    if (!twice) {
        s->n_network--;
        memmove(&s->network[at], &s->network[at + 1], (s->n_network - at) * sizeof(s->network[0]));
    }
    deliver_and_report(s, m, sim_random(s, 100) < loss_percent);
    if (!twice) {
        raft_message_destroy(&m);
    }
}

static void rare(struct sim *s, struct sim_member *m)
{
    uint64_t who = 1 + sim_random(s, s->options.n_members);
    switch (sim_random(s, 9)) {
    case 0:
        sim_crash(s, m);
        break;
    case 8:
        crash_and_lose(s, m);
        break;
    case 1:
        s->cut = sim_random(s, 3) == 0 ? 0 : sim_random(s, UINT64_C(1) << s->options.n_members);
        break;
    case 2:
        raft_transfer_leader(m->raft, who);
        break;
    case 3:
        raft_forget_leader(m->raft);
        break;
    case 4:
        raft_campaign(m->raft);
        break;
    case 5:
        /* As raft/member does: no further than the stored state machine, so that a restart finds
         * every entry that it has to apply. */
        raft_compact(m->raft, m->stored_applied);
        break;
    default:
        random_conf_change(s, m);
        break;
    }
}

void sim_step(struct sim *s)
{
    /* Up to which of 1000: deliver, act, complete, tick, propose, read, store; the rest is rare. */
    static const uint64_t calm[] = {450, 650, 800, 880, 940, 970, 990};
    static const uint64_t stormy[] = {350, 550, 640, 860, 890, 930, 940};
    struct sim_member *m = &s->members[sim_random(s, s->options.n_members)];
    uint64_t dice = sim_random(s, 1000);
    if (m->raft == NULL) {
        if (dice < (s->options.stormy ? 300 : 100)) {
            sim_start(s, m);
        }
        return;
    }
    const uint64_t *w = s->options.stormy ? stormy : calm;
    if (dice < w[0]) {
        deliver_random(s, 5);
    } else if (dice < w[1]) {
        sim_act(s, m);
    } else if (dice < w[2]) {
        sim_complete(s, m);
    } else if (dice < w[3]) {
        raft_tick(m->raft);
    } else if (dice < w[4]) {
        (void)sim_propose(s, m);
    } else if (dice < w[5]) {
        (void)sim_read(s, m);
    } else if (dice < w[6]) {
        sim_store(m);
    } else {
        rare(s, m);
    }
}

static bool settled(struct sim *s)
{
    struct sim_member *leader = sim_leader(s);
    if (leader == NULL || leader->applied < s->max_applied) {
        return false;
    }
    struct raft_status st;
    raft_status(leader->raft, &st);
    const struct raft_conf_state *c = &leader->conf;
    if (st.last_index != leader->applied || c->voters_outgoing.n > 0) {
        return false;
    }
    for (size_t i = 0; i < c->voters.n + c->learners.n; i++) {
        uint64_t id = i < c->voters.n ? c->voters.id[i] : c->learners.id[i - c->voters.n];
        if (s->members[id - 1].applied != leader->applied) {
            return false;
        }
    }
    return true;
}

/* An explicit joint configuration is left by a proposal of its own. */
static void leave_joint(struct sim_member *leader)
{
    if (leader != NULL && leader->conf.voters_outgoing.n > 0 && !leader->conf.auto_leave) {
        struct raft_entry e = {.type = RAFT_ENTRY_CONF_CHANGE_V2};
        enum err err = raft_propose(leader->raft, &e, 1);
        ASSERT(err != ERR_INVALID); /* any other refusal: tried again in the next round */
    }
}

bool sim_settle(struct sim *s, size_t rounds)
{
    s->cut = 0;
    for (size_t i = 0; i < s->options.n_members; i++) {
        if (s->members[i].raft == NULL) {
            sim_start(s, &s->members[i]);
        }
    }
    for (size_t round = 0; round < rounds; round++) {
        for (size_t i = 0; i < s->options.n_members; i++) {
            raft_tick(s->members[i].raft);
            sim_complete_all(s, &s->members[i]);
        }
        for (size_t n = s->n_network; n > 0; n--) {
            struct raft_message *m = s->network[0];
            s->n_network--;
            memmove(&s->network[0], &s->network[1], s->n_network * sizeof(s->network[0]));
            deliver_and_report(s, m, false);
            raft_message_destroy(&m);
        }
        for (size_t i = 0; i < s->options.n_members; i++) {
            sim_complete_all(s, &s->members[i]);
        }
        leave_joint(sim_leader(s));
        if (settled(s)) {
            return true;
        }
    }
    return false;
}

bool sim_trapped(struct sim *s)
{
    /* The furthest log, as term and index, of those who cannot lead, and of those who can. */
    uint64_t term[2] = {0, 0};
    uint64_t index[2] = {0, 0};
    bool lost = false;
    for (size_t i = 0; i < s->options.n_members; i++) {
        const struct sim_member *m = &s->members[i];
        struct raft_status st;
        raft_status(m->raft, &st);
        lost = lost || st.suspect;
        bool can_lead =
            raft_ids_has(&m->conf.voters, m->id) || raft_ids_has(&m->conf.voters_outgoing, m->id);
        if (st.last_term > term[can_lead] ||
            (st.last_term == term[can_lead] && st.last_index > index[can_lead])) {
            term[can_lead] = st.last_term;
            index[can_lead] = st.last_index;
        }
    }
    return sim_leader(s) == NULL &&
           (lost || term[0] > term[1] || (term[0] == term[1] && index[0] > index[1]));
}

void sim_print(const struct sim *s)
{
    for (size_t i = 0; i < s->options.n_members; i++) {
        const struct sim_member *m = &s->members[i];
        struct raft_status st;
        struct bytes conf = {0};
        if (m->raft == NULL) {
            (void)fprintf(stderr, "%" PRIu64 ": down\n", m->id);
            continue;
        }
        raft_status(m->raft, &st);
        raft_conf_text(&m->conf, &conf);
        (void)fprintf(stderr,
                      "%" PRIu64 ": %s term %" PRIu64 " leader %" PRIu64 " last %" PRIu64
                      "/%" PRIu64 " commit %" PRIu64 " applied %" PRIu64 " %.*s\n",
                      m->id, raft_role_name(st.role), st.hard_state.term, st.leader, st.last_term,
                      st.last_index, st.hard_state.commit, m->applied, (int)conf.len,
                      (const char *)conf.data);
        for (size_t k = 0; st.role == RAFT_LEADER && k < m->raft->tracker.n; k++) {
            char text[RAFT_PROGRESS_TEXT_MAX];
            const struct raft_progress *p = &m->raft->tracker.p[k];
            (void)fprintf(stderr, "   %" PRIu64 ": %s\n", p->id,
                          raft_progress_text(&m->raft->tracker, p, text));
        }
        bytes_deinit(&conf);
    }
}
