/* confchange.c - from one configuration to the next.
 *
 * A simple change touches at most one voter, so that old and new majorities overlap. Any other
 * change goes through a joint configuration (thesis, section 4.3): entering it copies the voters to
 * the outgoing half and applies the changes to the incoming one; leaving it drops the outgoing half
 * and with it the progress of who is in neither. A voter that becomes a learner stays a voter of
 * the outgoing half meanwhile and is noted in learners_next. Every function works on a copy, so
 * that a change that is not possible leaves no trace.
 */
#include "raft/core/internal.h"

#include <inttypes.h>
#include <stdlib.h>

static bool is_joint(const struct raft_conf_state *c)
{
    return c->voters_outgoing.n > 0;
}

static void drop_progress(struct raft_tracker *t, uint64_t id)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->p[i].id == id) {
            t->n--;
            memmove(&t->p[i], &t->p[i + 1], (t->n - i) * sizeof(t->p[0]));
            return;
        }
    }
}

static enum err add_progress(struct raft_tracker *t, const struct raft_progress *p,
                             struct err_ctx *ec)
{
    if (t->n == RAFT_MEMBERS_MAX) {
        return err_set(ec, ERR_LIMIT, "more than %u members", RAFT_MEMBERS_MAX);
    }
    size_t at = 0;
    while (at < t->n && t->p[at].id < p->id) {
        at++;
    }
    memmove(&t->p[at + 1], &t->p[at], (t->n - at) * sizeof(t->p[0]));
    t->p[at] = *p;
    t->n++;
    return OK;
}

static enum err init_progress(struct raft_tracker *t, uint64_t last_index, uint64_t id,
                              bool is_learner, struct err_ctx *ec)
{
    struct raft_progress p = {
        .id = id,
        .next = last_index > 1 ? last_index : 1,
        .is_learner = is_learner,
        /* Else the next quorum check could fail before the new member had a chance to speak. */
        .recent_active = true,
    };
    enum err e = add_progress(t, &p, ec);
    if (e == OK) {
        raft_ids_add(is_learner ? &t->conf.learners : &t->conf.voters, id);
    }
    return e;
}

static void remove_member(struct raft_tracker *t, uint64_t id)
{
    if (raft_tracker_find(t, id) == NULL) {
        return;
    }
    raft_ids_remove(&t->conf.voters, id);
    raft_ids_remove(&t->conf.learners, id);
    raft_ids_remove(&t->conf.learners_next, id);
    if (!raft_ids_has(&t->conf.voters_outgoing, id)) {
        drop_progress(t, id);
    }
}

static enum err make_voter(struct raft_tracker *t, uint64_t last_index, uint64_t id,
                           struct err_ctx *ec)
{
    struct raft_progress *p = raft_tracker_find(t, id);
    if (p == NULL) {
        return init_progress(t, last_index, id, false, ec);
    }
    p->is_learner = false;
    raft_ids_remove(&t->conf.learners, id);
    raft_ids_remove(&t->conf.learners_next, id);
    raft_ids_add(&t->conf.voters, id);
    return OK;
}

static enum err make_learner(struct raft_tracker *t, uint64_t last_index, uint64_t id,
                             struct err_ctx *ec)
{
    struct raft_progress *p = raft_tracker_find(t, id);
    if (p == NULL) {
        return init_progress(t, last_index, id, true, ec);
    }
    if (p->is_learner) {
        return OK;
    }
    raft_ids_remove(&t->conf.voters, id);
    raft_ids_remove(&t->conf.learners_next, id);
    if (raft_ids_has(&t->conf.voters_outgoing, id)) {
        raft_ids_add(&t->conf.learners_next, id);
    } else {
        p->is_learner = true;
        raft_ids_add(&t->conf.learners, id);
    }
    return OK;
}

static enum err apply_changes(struct raft_tracker *t, uint64_t last_index,
                              const struct raft_conf_change_single *c, size_t n, struct err_ctx *ec)
{
    for (size_t i = 0; i < n; i++) {
        enum err e = OK;
        if (c[i].node == RAFT_NONE) {
            continue;
        }
        switch (c[i].type) {
        case RAFT_CONF_ADD_NODE:
            e = make_voter(t, last_index, c[i].node, ec);
            break;
        case RAFT_CONF_ADD_LEARNER:
            e = make_learner(t, last_index, c[i].node, ec);
            break;
        case RAFT_CONF_REMOVE_NODE:
            remove_member(t, c[i].node);
            break;
        case RAFT_CONF_UPDATE_NODE:
            break;
        }
        if (e != OK) {
            return e;
        }
    }
    if (t->conf.voters.n == 0) {
        return err_set(ec, ERR_INVALID, "removed all voters");
    }
    return OK;
}

/* What must hold of every configuration, whatever bytes it came from. */
static enum err check(const struct raft_tracker *t, struct err_ctx *ec)
{
    const struct raft_conf_state *c = &t->conf;
    for (size_t i = 0; i < c->learners_next.n; i++) {
        uint64_t id = c->learners_next.id[i];
        const struct raft_progress *p = raft_tracker_get(t, id);
        if (p == NULL || p->is_learner || !raft_ids_has(&c->voters_outgoing, id)) {
            return err_set(ec, ERR_INVALID, "%" PRIx64 " is in learners_next but no outgoing voter",
                           id);
        }
    }
    for (size_t i = 0; i < c->learners.n; i++) {
        uint64_t id = c->learners.id[i];
        const struct raft_progress *p = raft_tracker_get(t, id);
        if (p == NULL || !p->is_learner || raft_ids_has(&c->voters, id) ||
            raft_ids_has(&c->voters_outgoing, id)) {
            return err_set(ec, ERR_INVALID, "%" PRIx64 " is both learner and voter", id);
        }
    }
    struct raft_ids voters;
    if (!raft_ids_union(&c->voters, &c->voters_outgoing, &voters)) {
        return err_set(ec, ERR_LIMIT, "more than %u members", RAFT_MEMBERS_MAX);
    }
    for (size_t i = 0; i < voters.n; i++) {
        if (raft_tracker_get(t, voters.id[i]) == NULL) {
            return err_set(ec, ERR_INVALID, "no progress for %" PRIu64, voters.id[i]);
        }
    }
    if (!is_joint(c) && (c->learners_next.n > 0 || c->auto_leave)) {
        return err_set(ec, ERR_INVALID, "traces of a joint configuration outside one");
    }
    return OK;
}

static size_t symmetric_difference(const struct raft_ids *a, const struct raft_ids *b)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++) {
        n += !raft_ids_has(b, a->id[i]);
    }
    for (size_t i = 0; i < b->n; i++) {
        n += !raft_ids_has(a, b->id[i]);
    }
    return n;
}

enum err raft_conf_simple(const struct raft_tracker *t, uint64_t last_index,
                          const struct raft_conf_change_single *c, size_t n,
                          struct raft_tracker *out, struct err_ctx *ec)
{
    if (is_joint(&t->conf)) {
        return err_set(ec, ERR_INVALID, "can't apply simple config change in joint config");
    }
    struct raft_tracker next = *t;
    enum err e = apply_changes(&next, last_index, c, n, ec);
    if (e != OK) {
        return e;
    }
    if (symmetric_difference(&t->conf.voters, &next.conf.voters) > 1) {
        return err_set(ec, ERR_INVALID,
                       "more than one voter changed without entering joint config");
    }
    e = check(&next, ec);
    if (e == OK) {
        *out = next;
    }
    return e;
}

enum err raft_conf_enter_joint(const struct raft_tracker *t, uint64_t last_index, bool auto_leave,
                               const struct raft_conf_change_single *c, size_t n,
                               struct raft_tracker *out, struct err_ctx *ec)
{
    if (is_joint(&t->conf)) {
        return err_set(ec, ERR_INVALID, "config is already joint");
    }
    if (t->conf.voters.n == 0) {
        return err_set(ec, ERR_INVALID, "can't make a zero-voter config joint");
    }
    struct raft_tracker next = *t;
    next.conf.voters_outgoing = next.conf.voters;
    enum err e = apply_changes(&next, last_index, c, n, ec);
    if (e != OK) {
        return e;
    }
    next.conf.auto_leave = auto_leave;
    e = check(&next, ec);
    if (e == OK) {
        *out = next;
    }
    return e;
}

enum err raft_conf_leave_joint(const struct raft_tracker *t, struct raft_tracker *out,
                               struct err_ctx *ec)
{
    if (!is_joint(&t->conf)) {
        return err_set(ec, ERR_INVALID, "can't leave a non-joint config");
    }
    struct raft_tracker next = *t;
    struct raft_conf_state *c = &next.conf;
    for (size_t i = 0; i < c->learners_next.n; i++) {
        struct raft_progress *p = raft_tracker_find(&next, c->learners_next.id[i]);
        ASSERT(p != NULL); /* check() saw to it when the joint configuration was made */
        p->is_learner = true;
        raft_ids_add(&c->learners, p->id);
    }
    c->learners_next.n = 0;
    struct raft_ids outgoing = c->voters_outgoing;
    c->voters_outgoing.n = 0;
    c->auto_leave = false;
    for (size_t i = 0; i < outgoing.n; i++) {
        uint64_t id = outgoing.id[i];
        if (!raft_ids_has(&c->voters, id) && !raft_ids_has(&c->learners, id)) {
            drop_progress(&next, id);
        }
    }
    enum err e = check(&next, ec);
    if (e == OK) {
        *out = next;
    }
    return e;
}

/* Join the changes of `type` for all of `ids` to the end of `c`. */
static size_t add_changes(struct raft_conf_change_single *c, size_t n,
                          enum raft_conf_change_type type, const struct raft_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) {
        c[n++] = (struct raft_conf_change_single){type, ids->id[i]};
    }
    return n;
}

/* Build the old voters one by one, enter the joint configuration from there by removing them all
 * and adding what it holds: the same rules then check a restored configuration as a grown one. */
enum err raft_conf_restore(const struct raft_tracker *t, uint64_t last_index,
                           const struct raft_conf_state *conf, struct raft_tracker *out,
                           struct err_ctx *ec)
{
    struct raft_conf_change_single in[4 * RAFT_MEMBERS_MAX];
    size_t n = add_changes(in, 0, RAFT_CONF_REMOVE_NODE, &conf->voters_outgoing);
    n = add_changes(in, n, RAFT_CONF_ADD_NODE, &conf->voters);
    n = add_changes(in, n, RAFT_CONF_ADD_LEARNER, &conf->learners);
    n = add_changes(in, n, RAFT_CONF_ADD_LEARNER, &conf->learners_next);

    struct raft_tracker next = {.max_inflight = t->max_inflight,
                                .max_inflight_bytes = t->max_inflight_bytes};
    enum err e = OK;
    if (conf->voters_outgoing.n == 0) {
        for (size_t i = 0; e == OK && i < n; i++) {
            e = raft_conf_simple(&next, last_index, &in[i], 1, &next, ec);
        }
    } else {
        for (size_t i = 0; e == OK && i < conf->voters_outgoing.n; i++) {
            struct raft_conf_change_single add = {RAFT_CONF_ADD_NODE, conf->voters_outgoing.id[i]};
            e = raft_conf_simple(&next, last_index, &add, 1, &next, ec);
        }
        if (e == OK) {
            e = raft_conf_enter_joint(&next, last_index, conf->auto_leave, in, n, &next, ec);
        }
    }
    if (e != OK) {
        return e;
    }
    *out = next;
    return OK;
}

void raft_tracker_replace(struct raft_tracker *t, const struct raft_tracker *next)
{
    for (size_t i = 0; i < t->n; i++) {
        struct raft_inflight *ring = t->p[i].window.ring;
        bool kept = false;
        for (size_t k = 0; k < next->n; k++) {
            kept = kept || (ring != NULL && next->p[k].window.ring == ring);
        }
        if (!kept) {
            free(ring);
        }
    }
    *t = *next;
}

bool raft_conf_leaves_joint(const struct raft_conf_change *cc)
{
    return !cc->v1 && cc->transition == RAFT_TRANSITION_AUTO && cc->n_changes == 0;
}

bool raft_conf_enters_joint(const struct raft_conf_change *cc, bool *auto_leave)
{
    *auto_leave = cc->transition != RAFT_TRANSITION_JOINT_EXPLICIT;
    return !cc->v1 && (cc->transition != RAFT_TRANSITION_AUTO || cc->n_changes > 1);
}

/* ---- text, in etcd's form ---- */

static void add_ids(struct bytes *out, const struct raft_ids *s)
{
    bytes_add_str(out, "(");
    for (size_t i = 0; i < s->n; i++) {
        bytes_printf(out, "%s%" PRIx64, i == 0 ? "" : " ", s->id[i]);
    }
    bytes_add_str(out, ")");
}

void raft_conf_text(const struct raft_conf_state *c, struct bytes *out)
{
    bytes_add_str(out, "voters=");
    add_ids(out, &c->voters);
    if (c->voters_outgoing.n > 0) {
        bytes_add_str(out, "&&");
        add_ids(out, &c->voters_outgoing);
    }
    if (c->learners.n > 0) {
        bytes_add_str(out, " learners=");
        add_ids(out, &c->learners);
    }
    if (c->learners_next.n > 0) {
        bytes_add_str(out, " learners_next=");
        add_ids(out, &c->learners_next);
    }
    if (c->auto_leave) {
        bytes_add_str(out, " autoleave");
    }
}

static const char *change_name(enum raft_conf_change_type type)
{
    switch (type) {
    case RAFT_CONF_ADD_NODE:
        return "ConfChangeAddNode";
    case RAFT_CONF_REMOVE_NODE:
        return "ConfChangeRemoveNode";
    case RAFT_CONF_UPDATE_NODE:
        return "ConfChangeUpdateNode";
    case RAFT_CONF_ADD_LEARNER:
        return "ConfChangeAddLearnerNode";
    }
    UNREACHABLE();
}

static const char *transition_name(enum raft_conf_transition t)
{
    switch (t) {
    case RAFT_TRANSITION_AUTO:
        return "ConfChangeTransitionAuto";
    case RAFT_TRANSITION_JOINT_IMPLICIT:
        return "ConfChangeTransitionJointImplicit";
    case RAFT_TRANSITION_JOINT_EXPLICIT:
        return "ConfChangeTransitionJointExplicit";
    }
    UNREACHABLE();
}

void raft_conf_change_text(const struct raft_conf_change *cc, struct bytes *out)
{
    bytes_printf(out, "transition:%s", transition_name(cc->transition));
    for (size_t i = 0; i < cc->n_changes; i++) {
        bytes_printf(out, " changes:{type:%s node_id:%" PRIu64 "}",
                     change_name(cc->changes[i].type), cc->changes[i].node);
    }
    if (cc->context.len > 0) {
        bytes_printf(out, " context:%zu bytes", cc->context.len);
    }
}
