/* ask.c - plain questions to other members: for the services, and for all members' versions. */
#include <stdio.h>
#include <stdlib.h>

#include "api/peer/internal.h"
#include "base/assert.h"
#include "base/mem.h"

#define ASK_HEADERS_MAX 3u /* cluster, content type, authorization */

struct ask {
    struct peer_transport *t;
    struct ask *next;
    struct ask **prev;
    struct net_call call;
    struct peer_question *q; /* lent until `answered` */
    uint32_t url;            /* the one that is tried */
    uint64_t deadline_ms;
    bool timed_out; /* at some address */
    bool too_long;
};

/* A question on its way to the loop. */
struct ask_post {
    struct loop_item item;
    struct peer_transport *t;
    struct peer_question *q;
};

struct version_round {
    struct peer_transport *t;
    size_t n_left;
    bool failed;
    bool any;
    struct peer_version lowest;
    struct peer_question questions[];
};

static void on_answer(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct peer_question *q = CONTAINER_OF(item, struct peer_question, item);
    q->answered(q);
}

static void answer(struct peer_question *q, enum err e)
{
    q->err = e;
    q->item.run = on_answer;
    loop_post(q->loop, &q->item);
}

static void ask_end(struct ask *a, enum err e)
{
    struct peer_question *q = a->q;
    *a->prev = a->next;
    if (a->next != NULL) {
        a->next->prev = a->prev;
    }
    a->t->n_asks--;
    net_cancel(&a->call);
    free(a);
    answer(q, e);
}

/* --- one question ------------------------------------------------------------------------------------------------ */

static bool on_data(struct net_call *c, struct slice piece)
{
    struct ask *a = CONTAINER_OF(c, struct ask, call);
    if (a->q->answer.len + piece.len > PEER_ASK_BODY_MAX) {
        a->too_long = true;
        return false;
    }
    bytes_add(&a->q->answer, piece.data, piece.len);
    return true;
}

static void try_next(struct ask *a);

static void on_ended(struct net_call *c, enum peer_outcome outcome, const char *reason)
{
    (void)reason;
    struct ask *a = CONTAINER_OF(c, struct ask, call);
    a->timed_out = a->timed_out || c->timed_out;
    if (outcome == PEER_OK) {
        a->q->status = c->status;
        ask_end(a, OK);
    } else if (a->too_long) {
        ask_end(a, ERR_LIMIT);
    } else {
        a->url++;
        try_next(a);
    }
}

static void try_next(struct ask *a)
{
    static const struct net_ops ops = {.data = on_data, .ended = on_ended};
    struct peer_question *q = a->q;
    const struct peer *p = peer_find(a->t, q->member);
    uint64_t now_ms = transport_now_ms(a->t);
    if (p == NULL || p->stranger || a->url >= p->n_urls || now_ms >= a->deadline_ms) {
        bool unknown = a->url == 0 && (p == NULL || p->stranger);
        bool late = a->timed_out || now_ms >= a->deadline_ms;
        ask_end(a, unknown ? ERR_MEMBER_NOT_FOUND : late ? ERR_TIMEOUT : ERR_IO);
        return;
    }
    char cluster[PEER_ID_TEXT_BYTES];
    peer_id_format(a->t->identity.cluster, cluster);
    /* Who answers at that address may belong to another cluster by now, whose hashes say nothing about ours: it refuses then. */
    struct peer_header headers[ASK_HEADERS_MAX] = {{PEER_HEADER_CLUSTER_ID, cluster}};
    struct net_request r = {.method = q->method, .url = p->urls[a->url], .path = q->path, .headers = headers, .n_headers = 1,
                            .body = bytes_slice(&q->body)};
    if (q->content_type != NULL) {
        headers[r.n_headers++] = (struct peer_header){"Content-Type", q->content_type};
    }
    if (q->authorization != NULL) {
        headers[r.n_headers++] = (struct peer_header){"Authorization", q->authorization};
    }
    /* An address that does not answer leaves time for the others. */
    r.timeout_ms = (uint32_t)((a->deadline_ms - now_ms) / (p->n_urls - a->url));
    r.timeout_ms = r.timeout_ms == 0 ? 1 : r.timeout_ms;
    bytes_reset(&q->answer);
    net_start(a->t->net, &a->call, &ops, &r);
}

static void begin(struct peer_transport *t, struct peer_question *q)
{
    if (!t->started || t->stopping) {
        answer(q, ERR_STOPPED);
        return;
    }
    if (t->n_asks >= ASKS_MAX) {
        answer(q, ERR_LIMIT);
        return;
    }
    struct ask *a = xcalloc(1, sizeof(*a));
    a->t = t;
    a->q = q;
    a->deadline_ms = transport_now_ms(t) + q->timeout_ms;
    a->next = t->asks;
    a->prev = &t->asks;
    if (a->next != NULL) {
        a->next->prev = &a->next;
    }
    t->asks = a;
    t->n_asks++;
    try_next(a);
}

static void post_run(struct loop *l, struct loop_item *item)
{
    (void)l;
    struct ask_post *p = CONTAINER_OF(item, struct ask_post, item);
    begin(p->t, p->q);
    free(p);
}

void ask_post(struct peer_transport *t, struct peer_question *q)
{
    if (atomic_load_explicit(&t->closed, memory_order_acquire)) {
        answer(q, ERR_STOPPED);
        return;
    }
    struct ask_post *p = xcalloc(1, sizeof(*p));
    p->item.run = post_run;
    p->t = t;
    p->q = q;
    loop_post(t->cfg.loop, &p->item);
}

void ask_stop(struct peer_transport *t)
{
    while (t->asks != NULL) {
        ask_end(t->asks, ERR_STOPPED);
    }
}

/* --- everybody's version ------------------------------------------------------------------------------------------- */

/* The value of "etcdserver" in the answer to /version. */
static bool read_version(struct peer_question *q, struct peer_version *out)
{
    static const char name[] = "\"etcdserver\"";
    bytes_add(&q->answer, "", 1);
    const char *at = strstr((const char *)q->answer.data, name);
    if (at == NULL) {
        return false;
    }
    at += sizeof(name) - 1;
    at += strspn(at, " \t:");
    if (*at != '"') {
        return false;
    }
    at++;
    return peer_version_parse(slice_of(at, strcspn(at, "\"")), out) == OK;
}

static void end_round(struct version_round *r)
{
    struct peer_transport *t = r->t;
    char text[32] = "";
    if (!r->any && !r->failed) {
        r->lowest = t->identity.version; /* nobody else is there */
    }
    if (r->any || !r->failed) {
        (void)snprintf(text, sizeof(text), "%u.%u.0", r->lowest.major, r->lowest.minor);
    }
    if (!t->stopping) {
        member_versions(t->member, text, !r->failed);
    }
    t->round = NULL;
    free(r);
    transport_busy(t, -1);
}

static void on_version(struct peer_question *q)
{
    struct version_round *r = q->arg;
    struct peer_version v;
    if (q->err == OK && q->status == 200 && read_version(q, &v)) {
        r->lowest = !r->any || peer_version_cmp(v, r->lowest) < 0 ? v : r->lowest;
        r->any = true;
    } else {
        r->failed = true;
        log_warn(r->t->cfg.log, "failed to get version", F_HEX("remote-member-id", q->member),
                 F_STR("error", q->err != OK ? err_text(q->err) : "no version in the answer"));
    }
    bytes_deinit(&q->answer);
    r->n_left--;
    if (r->n_left == 0) {
        end_round(r);
    }
}

void ask_versions(struct peer_transport *t)
{
    if (t->round != NULL) {
        return; /* its answer serves this one too */
    }
    size_t n = 0;
    for (const struct peer *p = t->peers; p != NULL; p = p->next) {
        n += p->stranger ? 0u : 1u;
    }
    struct version_round *r = xcalloc(1, sizeof(*r) + n * sizeof(r->questions[0]));
    r->t = t;
    t->round = r;
    transport_busy(t, 1);
    for (const struct peer *p = t->peers; p != NULL; p = p->next) {
        if (p->stranger) {
            continue;
        }
        struct peer_question *q = &r->questions[r->n_left++];
        *q = (struct peer_question){
            .member = p->id,
            .method = "GET",
            .path = "/version",
            .timeout_ms = ASK_VERSION_MS,
            .loop = t->cfg.loop,
            .answered = on_version,
            .arg = r,
        };
        begin(t, q); /* never answers before this function has returned */
    }
    if (r->n_left == 0) {
        end_round(r);
    }
}
