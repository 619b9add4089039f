/* member.c - the part of member.h and step.h that any thread may call. */
#include "raft/member/internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

void member_fail(struct member *m, enum err e, const char *what)
{
    if (!atomic_exchange_explicit(&m->failed, true, memory_order_acq_rel)) {
        m->cfg.failed(m->cfg.arg, e, what);
    }
}

void member_post(struct member *m, struct news *n)
{
    queue_push_list(&m->inbox, &n->head.node, &n->head.node, 1);
}

struct engine *member_engine(struct member *m)
{
    return m->engine;
}

enum err member_submit(struct member *m, struct member_op *op)
{
    if (atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        return ERR_STOPPED;
    }
    if (op->kind == MEMBER_PROPOSE) {
        uint64_t committed = atomic_load_explicit(&m->committed_index, memory_order_acquire);
        /* A lease that ends makes work go away; etcd's gate lets it through for longer. */
        bool first = m->cfg.priority_requests && measure_is_priority(measure_kind(buf_slice(op->data)));
        if (committed > engine_applied_index(m->engine) + (first ? MEMBER_PRIORITY_LAG_MAX : MEMBER_APPLY_LAG_MAX)) {
            return ERR_TOO_MANY_REQUESTS;
        }
        if (op->data->len > m->cfg.max_request_bytes) {
            return ERR_REQUEST_TOO_LARGE;
        }
    }
    if (queue_push(&m->inbox, &op->node) == OK) {
        return OK;
    }
    /* The loop closes its inbox after `stopping` was set. */
    return atomic_load_explicit(&m->stopping, memory_order_acquire) ? ERR_STOPPED : ERR_TOO_MANY_REQUESTS;
}

void member_wait(struct member *m, uint64_t deadline_ns)
{
    queue_wait(&m->inbox, deadline_ns);
}

void member_log_done(void *member, struct wal_request *first, struct wal_request *last, size_t n)
{
    struct member *m = member;
    (void)last;
    struct qnode *head = NULL;
    struct qnode *tail = NULL;
    struct wal_request *r = first;
    for (size_t i = 0; i < n; i++) {
        struct wal_request *next = (struct wal_request *)(void *)r->node.next;
        struct log_batch *b = CONTAINER_OF(r, struct log_batch, request);
        b->news.node.next = NULL;
        if (tail != NULL) {
            tail->next = &b->news.node;
        } else {
            head = &b->news.node;
        }
        tail = &b->news.node;
        r = next;
    }
    queue_push_list(&m->inbox, head, tail, n);
}

/* --- from the links ------------------------------------------------------------------------------------- */

void member_receive(struct member *m, struct raft_message *message)
{
    if (atomic_fetch_add_explicit(&m->n_messages, 1, memory_order_relaxed) >= MEMBER_MESSAGES_MAX ||
        atomic_load_explicit(&m->stopping, memory_order_acquire)) {
        atomic_fetch_sub_explicit(&m->n_messages, 1, memory_order_relaxed);
        raft_message_destroy(&message);
        return;
    }
    struct news *n = xcalloc(1, sizeof(*n));
    n->head.kind = MEMBER_NEWS_MESSAGE;
    n->message = message;
    member_post(m, n);
}

void member_link_news(struct member *m, uint64_t id, enum link_news news)
{
    struct news *n = xcalloc(1, sizeof(*n));
    n->head.kind = MEMBER_NEWS_LINK;
    n->id = id;
    n->link = news;
    member_post(m, n);
}

void member_versions(struct member *m, const char *lowest, bool all)
{
    struct news *n = xcalloc(1, sizeof(*n));
    n->head.kind = MEMBER_NEWS_VERSIONS;
    (void)snprintf(n->version, sizeof(n->version), "%s", lowest);
    n->all = all;
    member_post(m, n);
}

/* The configuration's members in the form of engine_members. */
static struct member_info *initial_peers(const struct member_config *cfg, size_t *n)
{
    size_t urls = 0;
    for (size_t i = 0; i < cfg->n_initial; i++) {
        for (size_t k = 0; cfg->initial[i].peer_urls[k] != NULL; k++) {
            urls++;
        }
    }
    *n = cfg->n_initial;
    size_t pointers = urls + 2 * cfg->n_initial + 1;
    struct member_info *out = xcalloc(1, (cfg->n_initial + 1) * sizeof(*out) + pointers * sizeof(char *));
    char **at = (char **)(void *)(out + cfg->n_initial + 1);
    for (size_t i = 0; i < cfg->n_initial; i++) {
        const struct member_peer *p = &cfg->initial[i];
        out[i] = (struct member_info){.id = p->id, .name = (char *)(uintptr_t)p->name, .peer_urls = at};
        for (size_t k = 0; p->peer_urls[k] != NULL; k++) {
            *at++ = (char *)(uintptr_t)p->peer_urls[k];
        }
        out[i].client_urls = at; /* the end of the one list is the other one, empty */
        at++;
    }
    return out;
}

struct member_info *member_peers(struct member *m, size_t *n)
{
    struct member_info *members = engine_members(m->engine, n);
    if (*n > 0) {
        return members;
    }
    free(members);
    return initial_peers(&m->cfg, n);
}

/* --- looking at it --------------------------------------------------------------------------------------- */

uint64_t member_next_request_id(struct member *m)
{
    return atomic_fetch_add_explicit(&m->next_id, 1, memory_order_relaxed) + 1;
}

bool member_read_is_current(const struct member *m)
{
    return atomic_load_explicit(&m->current, memory_order_acquire);
}

struct member_status member_status(const struct member *m)
{
    struct member_status s = {
        .leader = atomic_load_explicit(&m->leader, memory_order_acquire),
        .term = engine_applied_term(m->engine),
        .applied_index = engine_applied_index(m->engine),
        .is_leader = atomic_load_explicit(&m->is_leader, memory_order_acquire),
        .is_learner = atomic_load_explicit(&m->is_learner, memory_order_acquire),
        .no_leader_since_ms = atomic_load_explicit(&m->no_leader_since_ms, memory_order_acquire),
    };
    uint64_t committed = atomic_load_explicit(&m->committed_index, memory_order_acquire);
    s.committed_index = committed > s.applied_index ? committed : s.applied_index;
    return s;
}

uint64_t member_id(const struct member *m)
{
    return m->cfg.member_id;
}

uint64_t member_cluster_id(const struct member *m)
{
    return m->cfg.cluster_id;
}

uint64_t member_request_timeout_ms(const struct member *m)
{
    return m->request_timeout_ms;
}

uint64_t member_now_ms(const struct member *m)
{
    return m->now_ms;
}

void member_answer(struct member *m, struct member_op *op, enum err e)
{
    member_complete(m, op, e);
}
