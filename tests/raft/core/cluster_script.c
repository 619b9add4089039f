/* cluster_script.c - the commands of the interaction scripts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "raft/core/internal.h"
#include "tests/raft/core/cluster_internal.h"
#include "tests/raft/core/describe.h"

struct indexes {
    size_t n;
    size_t i[CLUSTER_MEMBERS_MAX];
};

static struct member *first_member(struct cluster *c, const struct script_case *s)
{
    uint64_t id = script_number(s->args[0].key);
    ASSERT(id >= 1 && id <= c->n);
    return c->members[id - 1];
}

static size_t first_index(const struct script_case *s)
{
    return (size_t)script_number(s->args[0].key) - 1;
}

static struct indexes named(const struct script_case *s)
{
    struct indexes out = {0};
    for (size_t i = 0; i < s->n_args; i++) {
        if (s->args[i].n_values == 0) {
            out.i[out.n++] = (size_t)script_number(s->args[i].key) - 1;
        }
    }
    return out;
}

static void indented(struct cluster *c, size_t i, void (*step)(struct cluster *, size_t))
{
    struct bytes inner = {0};
    struct bytes *outer = c->out;
    c->out = &inner;
    step(c, i);
    c->out = outer;
    cluster_print_indented(c, &inner);
    bytes_deinit(&inner);
}

/* Run a step with its output indented below a title. */
static void titled(struct cluster *c, size_t i, const char *what,
                   void (*step)(struct cluster *, size_t))
{
    cluster_print(c, "> %zu %s\n", i + 1, what);
    indented(c, i, step);
}

static void for_each_named(struct cluster *c, const struct script_case *s, const char *what,
                           void (*step)(struct cluster *, size_t))
{
    struct indexes named_here = named(s);
    for (size_t k = 0; k < named_here.n; k++) {
        if (named_here.n > 1) {
            titled(c, named_here.i[k], what, step);
        } else {
            step(c, named_here.i[k]);
        }
    }
}

/* ---- members ---- */

static void add_ids(struct raft_ids *ids, const struct script_arg *a)
{
    for (size_t i = 0; i < a->n_values; i++) {
        raft_ids_add(ids, script_number(a->values[i]));
    }
}

static void config_arg(struct raft_config *config, bool *in_background, const struct script_arg *a)
{
    const char *v = a->values[0];
    if (strcmp(a->key, "voters") == 0) {
        add_ids(&config->conf.voters, a);
    } else if (strcmp(a->key, "learners") == 0) {
        add_ids(&config->conf.learners, a);
    } else if (strcmp(a->key, "inflight") == 0) {
        config->max_inflight = (uint32_t)script_number(v);
    } else if (strcmp(a->key, "index") == 0) {
        config->snapshot_index = script_number(v);
        config->snapshot_term = 1;
        config->applied = config->snapshot_index;
    } else if (strcmp(a->key, "async-storage-writes") == 0) {
        *in_background = script_bool(v);
    } else if (strcmp(a->key, "prevote") == 0) {
        config->pre_vote = script_bool(v);
    } else if (strcmp(a->key, "checkquorum") == 0) {
        config->check_quorum = script_bool(v);
    } else if (strcmp(a->key, "max-committed-size-per-ready") == 0) {
        config->max_committed_bytes = script_number(v);
    } else if (strcmp(a->key, "disable-conf-change-validation") == 0) {
        config->no_conf_validation = script_bool(v);
    } else if (strcmp(a->key, "read-only") == 0) {
        config->lease_reads = strcmp(v, "lease-based") == 0;
    } else if (strcmp(a->key, "step-down-on-removal") == 0) {
        config->step_down_on_removal = script_bool(v);
    } else {
        ASSERT(strcmp(a->key, "content") == 0); /* of the first snapshot; never printed */
    }
}

static void add_nodes(struct cluster *c, const struct script_case *s)
{
    struct raft_config config = {
        .election_ticks = 3,
        .heartbeat_ticks = 1,
        .max_append_bytes = UINT64_MAX,
        .max_committed_bytes = UINT64_MAX,
        .max_inflight = INT32_MAX,
    };
    bool in_background = false;
    for (size_t i = 1; i < s->n_args; i++) {
        config_arg(&config, &in_background, &s->args[i]);
    }
    uint64_t n = script_number(s->args[0].key);
    for (uint64_t i = 0; i < n; i++) {
        cluster_add_member(c, &config, in_background);
    }
}

static void set_level(struct cluster *c, const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error", "fatal", "none"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(names[i], name) == 0) {
            c->level = (int)i;
            return;
        }
    }
    ASSERT(false);
}

/* ---- time and proposals ---- */

static void tick(struct cluster *c, const struct script_case *s, bool election)
{
    struct member *m = first_member(c, s);
    uint32_t n = election ? m->config.election_ticks : m->config.heartbeat_ticks;
    for (uint32_t i = 0; i < n; i++) {
        raft_tick(m->raft);
    }
}

static void propose(struct cluster *c, const struct script_case *s)
{
    struct raft_entry e = {.data = buf_copy(slice_str(s->args[1].key))};
    enum err err = raft_propose(first_member(c, s)->raft, &e, 1);
    buf_unref(&e.data);
    if (err != OK) {
        cluster_print(c, "%s", cluster_error(err));
    }
}

static void propose_conf_change(struct cluster *c, const struct script_case *s)
{
    struct raft_conf_change cc = {0};
    const struct script_arg *v1 = script_find(s, "v1");
    const struct script_arg *transition = script_find(s, "transition");
    cc.v1 = v1 != NULL && script_bool(v1->values[0]);
    if (transition != NULL && strcmp(transition->values[0], "implicit") == 0) {
        cc.transition = RAFT_TRANSITION_JOINT_IMPLICIT;
    } else if (transition != NULL && strcmp(transition->values[0], "explicit") == 0) {
        cc.transition = RAFT_TRANSITION_JOINT_EXPLICIT;
    }
    describe_parse_changes((const char *)s->input.data, &cc);
    struct raft_entry e = {
        .type = cc.v1 ? RAFT_ENTRY_CONF_CHANGE : RAFT_ENTRY_CONF_CHANGE_V2,
        .data = raft_conf_change_encode(&cc),
    };
    enum err err = raft_propose(first_member(c, s)->raft, &e, 1);
    buf_unref(&e.data);
    if (err != OK) {
        cluster_print(c, "%s", cluster_error(err));
    }
}

static void transfer(struct cluster *c, const struct script_case *s)
{
    uint64_t from = script_number(script_find(s, "from")->values[0]);
    uint64_t to = script_number(script_find(s, "to")->values[0]);
    raft_transfer_leader(c->members[from - 1]->raft, to);
}

/* ---- delivery ---- */

static int message_type(const char *name)
{
    for (int i = 0; i <= RAFT_MSG_FORGET_LEADER; i++) {
        if (strcmp(raft_message_type_name((enum raft_message_type)i), name) == 0) {
            return i;
        }
    }
    UNREACHABLE();
}

static void deliver(struct cluster *c, const struct script_case *s)
{
    const struct script_arg *type_arg = script_find(s, "type");
    int type = type_arg == NULL ? -1 : message_type(type_arg->values[0]);
    size_t n = 0;
    for (size_t i = 0; i < s->n_args; i++) {
        const struct script_arg *a = &s->args[i];
        if (a->n_values == 0) {
            n += cluster_deliver(c, script_number(a->key), type, false);
        } else if (strcmp(a->key, "drop") == 0) {
            for (size_t k = 0; k < a->n_values; k++) {
                n += cluster_deliver(c, script_number(a->values[k]), type, true);
            }
        }
    }
    if (n == 0) {
        cluster_print(c, "no messages\n");
    }
}

static void receive_all(struct cluster *c, size_t i)
{
    (void)cluster_deliver(c, i + 1, -1, false);
}

static bool finish(struct cluster *c, size_t i, const struct work_queue *q, const char *what,
                   void (*step)(struct cluster *, size_t))
{
    if (q->n == 0) {
        return false;
    }
    cluster_print(c, "> %zu %s\n", i + 1, what);
    while (q->n > 0) {
        indented(c, i, step);
    }
    return true;
}

static bool stabilize_once(struct cluster *c, const struct indexes *who)
{
    bool busy = false;
    for (size_t k = 0; k < who->n; k++) {
        if (raft_has_actions(c->members[who->i[k]]->raft)) {
            titled(c, who->i[k], "handling Ready", cluster_turn);
            busy = true;
        }
    }
    for (size_t k = 0; k < who->n; k++) {
        if (cluster_waiting(c, who->i[k] + 1, -1, false) > 0) {
            titled(c, who->i[k], "receiving messages", receive_all);
            busy = true;
        }
    }
    for (size_t k = 0; k < who->n; k++) {
        busy |= finish(c, who->i[k], &c->members[who->i[k]]->append_work,
                       "processing append thread", cluster_append_work);
    }
    for (size_t k = 0; k < who->n; k++) {
        busy |= finish(c, who->i[k], &c->members[who->i[k]]->apply_work, "processing apply thread",
                       cluster_apply_work);
    }
    return busy;
}

static void stabilize(struct cluster *c, const struct script_case *s)
{
    struct indexes who = named(s);
    const struct script_arg *level = script_find(s, "log-level");
    int old = c->level;
    if (level != NULL) {
        set_level(c, level->values[0]);
    }
    if (who.n == 0) {
        for (size_t i = 0; i < c->n; i++) {
            who.i[who.n++] = i;
        }
    }
    size_t rounds = 0;
    while (stabilize_once(c, &who)) {
        ASSERT(rounds++ < 1000);
    }
    c->level = old;
}

/* ---- looking ---- */

static void status(struct cluster *c, const struct script_case *s)
{
    const struct raft *r = first_member(c, s)->raft;
    for (size_t i = 0; r->role == RAFT_LEADER && i < r->tracker.n; i++) {
        char text[RAFT_PROGRESS_TEXT_MAX];
        cluster_print(c, "%" PRIu64 ": %s\n", r->tracker.p[i].id,
                      raft_progress_text(&r->tracker, &r->tracker.p[i], text));
    }
}

static void states(struct cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        struct raft_status st;
        struct raft_conf_state conf;
        raft_status(c->members[i]->raft, &st);
        conf = *raft_conf(c->members[i]->raft);
        bool voter =
            raft_ids_has(&conf.voters, st.id) || raft_ids_has(&conf.voters_outgoing, st.id);
        cluster_print(c, "%" PRIu64 ": %s %s Term:%" PRIu64 " Lead:%" PRIu64 "\n", st.id,
                      raft_role_name(st.role), voter ? "(Voter)" : "(Non-Voter)",
                      st.hard_state.term, st.leader);
    }
}

static void send_snapshot(struct cluster *c, const struct script_case *s)
{
    const struct raft *r = first_member(c, s)->raft;
    struct raft_status st;
    raft_status(r, &st);
    struct raft_snapshot snapshot = {.index = st.applied, .term = raft_term_of(r, st.applied)};
    snapshot.conf = *raft_conf(r);
    struct raft_message *m = raft_message_create(RAFT_MSG_SNAP, 0);
    m->term = st.hard_state.term;
    m->from = st.id;
    m->to = script_number(s->args[1].key);
    m->snapshot = raft_snapshot_copy(&snapshot);
    struct bytes text = {0};
    describe_message(m, NULL, 0, &text);
    cluster_print(c, "%.*s", (int)text.len, (const char *)text.data);
    bytes_deinit(&text);
    queue_add(&c->network, m);
}

/* ---- the table ---- */

static void run(struct cluster *c, const struct script_case *s)
{
    const char *cmd = s->command;
    if (strcmp(cmd, "add-nodes") == 0) {
        add_nodes(c, s);
    } else if (strcmp(cmd, "campaign") == 0) {
        raft_campaign(first_member(c, s)->raft);
    } else if (strcmp(cmd, "compact") == 0) {
        cluster_compact(c, first_index(s), script_number(s->args[1].key));
    } else if (strcmp(cmd, "deliver-msgs") == 0) {
        deliver(c, s);
    } else if (strcmp(cmd, "process-ready") == 0) {
        for_each_named(c, s, "handling Ready", cluster_turn);
    } else if (strcmp(cmd, "process-append-thread") == 0) {
        for_each_named(c, s, "processing append thread", cluster_append_work);
    } else if (strcmp(cmd, "process-apply-thread") == 0) {
        for_each_named(c, s, "processing apply thread", cluster_apply_work);
    } else if (strcmp(cmd, "log-level") == 0) {
        set_level(c, s->args[0].key);
    } else if (strcmp(cmd, "raft-log") == 0) {
        cluster_print_log(c, first_index(s));
    } else if (strcmp(cmd, "raft-state") == 0) {
        states(c);
    } else if (strcmp(cmd, "set-randomized-election-timeout") == 0) {
        raft_set_election_timeout(first_member(c, s)->raft,
                                  (uint32_t)script_number(script_find(s, "timeout")->values[0]));
    } else if (strcmp(cmd, "stabilize") == 0) {
        stabilize(c, s);
    } else if (strcmp(cmd, "status") == 0) {
        status(c, s);
    } else if (strcmp(cmd, "tick-election") == 0) {
        tick(c, s, true);
    } else if (strcmp(cmd, "tick-heartbeat") == 0) {
        tick(c, s, false);
    } else if (strcmp(cmd, "transfer-leadership") == 0) {
        transfer(c, s);
    } else if (strcmp(cmd, "forget-leader") == 0) {
        raft_forget_leader(first_member(c, s)->raft);
    } else if (strcmp(cmd, "send-snapshot") == 0) {
        send_snapshot(c, s);
    } else if (strcmp(cmd, "propose") == 0) {
        propose(c, s);
    } else if (strcmp(cmd, "propose-conf-change") == 0) {
        propose_conf_change(c, s);
    } else if (strcmp(cmd, "report-unreachable") == 0) {
        raft_report_unreachable(first_member(c, s)->raft, script_number(s->args[1].key));
    } else {
        bytes_printf(c->out, "unknown command %s", cmd);
    }
}

void cluster_handle(struct cluster *c, const struct script_case *s, struct bytes *out)
{
    c->out = out;
    run(c, s);
    if (out->len == 0) {
        bytes_add_str(out, "ok");
    }
    c->out = NULL;
}
