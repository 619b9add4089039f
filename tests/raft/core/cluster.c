/* cluster.c - members, their logs and the network between them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tests/raft/core/cluster_internal.h"
#include "tests/raft/core/describe.h"

/* ---- output ---- */

bool cluster_quiet(const struct cluster *c)
{
    return c->level == CLUSTER_LEVEL_NONE;
}

void cluster_print(struct cluster *c, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    ASSERT(n >= 0 && (size_t)n < sizeof(text));
    if (!cluster_quiet(c)) {
        bytes_add_str(c->out, text);
    }
}

static void print_bytes(struct cluster *c, struct bytes *b)
{
    if (!cluster_quiet(c)) {
        bytes_add(c->out, b->data, b->len);
    }
    bytes_deinit(b);
}

void cluster_print_indented(struct cluster *c, const struct bytes *inner)
{
    for (size_t at = 0; at < inner->len;) {
        const uint8_t *line = inner->data + at;
        const uint8_t *end = memchr(line, '\n', inner->len - at);
        size_t len = end == NULL ? inner->len - at : (size_t)(end - line);
        bytes_add_str(c->out, "  ");
        bytes_add(c->out, line, len);
        bytes_add_str(c->out, "\n");
        at += len + 1;
    }
}

static void on_log(void *arg, enum raft_log_level level, const char *text)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR"};
    struct cluster *c = arg;
    if (c->level <= (int)level) {
        bytes_printf(c->out, "%s %s\n", names[level], text);
    }
}

static void print_message(struct cluster *c, const struct raft_message *m,
                          const struct message_queue *responses)
{
    struct bytes text = {0};
    describe_message(m, responses == NULL ? NULL : responses->m,
                     responses == NULL ? 0 : responses->n, &text);
    bytes_add_str(&text, "\n");
    print_bytes(c, &text);
}

static void print_entries(struct cluster *c, const char *title, const struct raft_entry *e,
                          size_t n)
{
    struct bytes text = {0};
    if (n > 0) {
        bytes_add_str(&text, title);
        describe_entries(e, n, &text);
    }
    print_bytes(c, &text);
}

/* ---- queues ---- */

void queue_add(struct message_queue *q, struct raft_message *m)
{
    ASSERT(q->n < CLUSTER_QUEUE_MAX);
    q->m[q->n++] = m;
}

static void queue_clear(struct message_queue *q)
{
    for (size_t i = 0; i < q->n; i++) {
        raft_message_destroy(&q->m[i]);
    }
    q->n = 0;
}

static void work_destroy(struct work *w)
{
    raft_message_destroy(&w->m);
    queue_clear(&w->responses);
    free(w);
}

static void work_add(struct work_queue *q, struct work *w)
{
    ASSERT(q->n < CLUSTER_QUEUE_MAX);
    q->w[q->n++] = w;
}

static struct work *work_take(struct work_queue *q)
{
    struct work *w = q->w[0];
    q->n--;
    memmove(&q->w[0], &q->w[1], q->n * sizeof(q->w[0]));
    return w;
}

/* ---- the durable log ---- */

static void log_cut(struct member *m, size_t keep)
{
    for (size_t i = keep; i < m->n_entries; i++) {
        buf_unref(&m->entries[i].data);
    }
    m->n_entries = keep;
}

static void log_append(struct member *m, const struct raft_entry *e, size_t n)
{
    if (n == 0) {
        return;
    }
    ASSERT(e[0].index > m->base_index && e[0].index <= m->base_index + m->n_entries + 1);
    log_cut(m, (size_t)(e[0].index - m->base_index - 1));
    for (size_t i = 0; i < n; i++) {
        ASSERT(m->n_entries < ARRAY_LEN(m->entries));
        m->entries[m->n_entries] = e[i];
        if (e[i].data != NULL) {
            (void)buf_ref(e[i].data);
        }
        m->n_entries++;
    }
}

static void log_install(struct member *m, const struct raft_snapshot *s)
{
    ASSERT(s->index > m->base_index);
    log_cut(m, 0);
    m->base_index = s->index;
    m->base_term = s->term;
}

void cluster_compact(struct cluster *c, size_t i, uint64_t index)
{
    struct member *m = c->members[i];
    ASSERT(index > m->base_index && index <= m->base_index + m->n_entries);
    size_t n = (size_t)(index - m->base_index);
    m->base_term = m->entries[n - 1].term;
    m->base_index = index;
    for (size_t k = 0; k < n; k++) {
        buf_unref(&m->entries[k].data);
    }
    m->n_entries -= n;
    memmove(&m->entries[0], &m->entries[n], m->n_entries * sizeof(m->entries[0]));
    raft_compact(m->raft, index);
    cluster_print_log(c, i);
}

void cluster_print_log(struct cluster *c, size_t i)
{
    const struct member *m = c->members[i];
    if (m->n_entries == 0) {
        cluster_print(c, "log is empty: first index=%" PRIu64 ", last index=%" PRIu64,
                      m->base_index + 1, m->base_index);
        return;
    }
    print_entries(c, "", m->entries, m->n_entries);
}

/* ---- members ---- */

void cluster_add_member(struct cluster *c, const struct raft_config *config, bool in_background)
{
    ASSERT(c->n < CLUSTER_MEMBERS_MAX);
    struct member *m = xcalloc(1, sizeof(*m));
    struct err_ctx ec = {0};
    m->cluster = c;
    m->config = *config;
    m->config.id = c->n + 1;
    m->config.seed = 1;
    m->config.log = on_log;
    m->config.log_arg = c;
    m->in_background = in_background;
    m->config.apply_before_durable = !in_background;
    m->base_index = config->snapshot_index;
    m->base_term = config->snapshot_term;
    c->members[c->n++] = m;
    enum err e = raft_create(&m->config, &m->raft, &ec);
    if (e != OK) {
        (void)fprintf(stderr, "%s\n", ec.text);
    }
    ASSERT(e == OK);
}

struct cluster *cluster_create(void)
{
    return xcalloc(1, sizeof(struct cluster));
}

void cluster_destroy(struct cluster **cp)
{
    struct cluster *c = *cp;
    for (size_t i = 0; i < c->n; i++) {
        struct member *m = c->members[i];
        log_cut(m, 0);
        while (m->append_work.n > 0) {
            work_destroy(work_take(&m->append_work));
        }
        while (m->apply_work.n > 0) {
            work_destroy(work_take(&m->apply_work));
        }
        raft_destroy(&m->raft);
        free(m);
    }
    queue_clear(&c->network);
    free(c);
    *cp = NULL;
}

static void apply(struct member *m, const struct raft_entry *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct raft_conf_change cc;
        if (e[i].type == RAFT_ENTRY_NORMAL) {
            continue;
        }
        enum err err = raft_conf_change_decode(e[i].type, buf_slice(e[i].data), &cc);
        ASSERT(err == OK);
        err = raft_apply_conf_change(m->raft, &cc, NULL, NULL);
        ASSERT(err == OK);
    }
}

/* ---- a turn ---- */

static void fill_entries(struct raft_message *m, const struct raft_entry *e)
{
    for (size_t i = 0; i < m->n_entries; i++) {
        m->entries[i] = e[i];
        if (e[i].data != NULL) {
            (void)buf_ref(e[i].data);
        }
    }
}

static struct work *append_work(const struct member *m, const struct raft_actions *a)
{
    struct work *w = xcalloc(1, sizeof(*w));
    w->m = raft_message_create(RAFT_MSG_STORAGE_APPEND, a->n_append);
    w->m->to = RAFT_LOCAL_APPEND;
    w->m->from = m->config.id;
    fill_entries(w->m, a->append);
    if (a->hard_state_changed) {
        w->m->term = a->hard_state.term;
        w->m->vote = a->hard_state.vote;
        w->m->commit = a->hard_state.commit;
    }
    w->m->snapshot = raft_snapshot_copy(a->snapshot);
    for (size_t i = 0; i < a->n_after; i++) {
        queue_add(&w->responses, a->after[i]);
    }
    return w;
}

static struct work *apply_work(const struct member *m, const struct raft_actions *a)
{
    struct work *w = xcalloc(1, sizeof(*w));
    w->m = raft_message_create(RAFT_MSG_STORAGE_APPLY, a->n_committed);
    w->m->to = RAFT_LOCAL_APPLY;
    w->m->from = m->config.id;
    fill_entries(w->m, a->committed);
    struct raft_message *resp = raft_message_create(RAFT_MSG_STORAGE_APPLY_RESP, a->n_committed);
    resp->to = m->config.id;
    resp->from = RAFT_LOCAL_APPLY;
    fill_entries(resp, a->committed);
    queue_add(&w->responses, resp);
    return w;
}

static void print_state(struct cluster *c, const struct raft_actions *a)
{
    cluster_print(c, "Ready MustSync=%s:\n", a->must_sync ? "true" : "false");
    if (a->soft_state_changed) {
        cluster_print(c, "Lead:%" PRIu64 " State:%s\n", a->leader, raft_role_name(a->role));
    }
    if (a->hard_state_changed) {
        cluster_print(c, "HardState Term:%" PRIu64, a->hard_state.term);
        if (a->hard_state.vote != 0) {
            cluster_print(c, " Vote:%" PRIu64, a->hard_state.vote);
        }
        cluster_print(c, " Commit:%" PRIu64 "\n", a->hard_state.commit);
    }
    print_entries(c, "Entries:\n", a->append, a->n_append);
    if (a->snapshot != NULL) {
        struct bytes text = {0};
        bytes_add_str(&text, "Snapshot ");
        describe_snapshot(a->snapshot, &text);
        bytes_add_str(&text, "\n");
        print_bytes(c, &text);
    }
    print_entries(c, "CommittedEntries:\n", a->committed, a->n_committed);
}

static void title_once(struct cluster *c, bool *titled)
{
    if (!*titled) {
        cluster_print(c, "Messages:\n");
        *titled = true;
    }
}

/* A member that works in the background: everything becomes a message or a piece of work. */
static void turn_in_background(struct cluster *c, struct member *m, const struct raft_actions *a)
{
    bool titled = false;
    for (size_t i = 0; i < a->n_send; i++) {
        title_once(c, &titled);
        print_message(c, a->send[i], NULL);
        queue_add(&c->network, a->send[i]);
    }
    if (a->log_batch) {
        struct work *w = append_work(m, a);
        title_once(c, &titled);
        print_message(c, w->m, &w->responses);
        work_add(&m->append_work, w);
    }
    if (a->n_committed > 0) {
        struct work *w = apply_work(m, a);
        title_once(c, &titled);
        print_message(c, w->m, &w->responses);
        work_add(&m->apply_work, w);
    }
}

/* A member whose log is durable and whose entries are applied before the turn ends. */
static void turn_at_once(struct cluster *c, struct member *m, const struct raft_actions *a)
{
    bool titled = false;
    struct message_queue own = {0};
    for (size_t i = 0; i < a->n_send; i++) {
        title_once(c, &titled);
        print_message(c, a->send[i], NULL);
    }
    for (size_t i = 0; i < a->n_after; i++) {
        if (a->after[i]->to == m->config.id) {
            queue_add(&own, a->after[i]);
        } else {
            title_once(c, &titled);
            print_message(c, a->after[i], NULL);
        }
    }
    for (size_t i = 0; i < a->n_send; i++) {
        queue_add(&c->network, a->send[i]);
    }
    for (size_t i = 0; i < a->n_after; i++) {
        if (a->after[i]->to != m->config.id) {
            queue_add(&c->network, a->after[i]);
        }
    }
    if (a->snapshot != NULL) {
        log_install(m, a->snapshot);
    }
    log_append(m, a->append, a->n_append);
    /* The arrays of the actions end with the next call into raft. */
    struct work *applied = a->n_committed > 0 ? apply_work(m, a) : NULL;
    if (applied != NULL) {
        apply(m, applied->m->entries, applied->m->n_entries);
    }
    for (size_t i = 0; i < own.n; i++) {
        enum err e = raft_receive(m->raft, own.m[i]);
        ASSERT(e == OK);
    }
    queue_clear(&own);
    if (applied != NULL) {
        raft_applied(m->raft, applied->m->entries[applied->m->n_entries - 1].index);
        work_destroy(applied);
    }
}

static bool prints_nothing(const struct member *m, const struct raft_actions *a)
{
    bool messages = a->n_send > 0;
    for (size_t i = 0; i < a->n_after; i++) {
        messages = messages || m->in_background || a->after[i]->to != m->config.id;
    }
    return !messages && !a->soft_state_changed && !a->hard_state_changed && a->n_append == 0 &&
           a->snapshot == NULL && a->n_committed == 0 && (!m->in_background || !a->log_batch);
}

void cluster_turn(struct cluster *c, size_t i)
{
    struct member *m = c->members[i];
    struct raft_actions a;
    raft_actions(m->raft, &a);
    if (prints_nothing(m, &a)) {
        cluster_print(c, "<empty Ready>");
    } else {
        print_state(c, &a);
    }
    if (m->in_background) {
        turn_in_background(c, m, &a);
    } else {
        turn_at_once(c, m, &a);
    }
}

/* ---- work in the background ---- */

static void finish_work(struct cluster *c, struct work *w)
{
    cluster_print(c, "Responses:\n");
    for (size_t i = 0; i < w->responses.n; i++) {
        print_message(c, w->responses.m[i], NULL);
        queue_add(&c->network, w->responses.m[i]);
    }
    w->responses.n = 0;
    work_destroy(w);
}

void cluster_append_work(struct cluster *c, size_t i)
{
    struct member *m = c->members[i];
    if (m->append_work.n == 0) {
        cluster_print(c, "no append work to perform");
        return;
    }
    struct work *w = work_take(&m->append_work);
    cluster_print(c, "Processing:\n");
    print_message(c, w->m, NULL);
    if (w->m->snapshot != NULL) {
        log_install(m, w->m->snapshot);
    }
    log_append(m, w->m->entries, w->m->n_entries);
    finish_work(c, w);
}

void cluster_apply_work(struct cluster *c, size_t i)
{
    struct member *m = c->members[i];
    if (m->apply_work.n == 0) {
        cluster_print(c, "no apply work to perform");
        return;
    }
    struct work *w = work_take(&m->apply_work);
    cluster_print(c, "Processing:\n");
    print_message(c, w->m, NULL);
    apply(m, w->m->entries, w->m->n_entries);
    finish_work(c, w);
}

/* ---- the network ---- */

static bool is_local(const struct raft_message *m)
{
    return m->from == m->to || m->from >= RAFT_LOCAL_APPLY || m->to >= RAFT_LOCAL_APPLY;
}

static bool selected(const struct raft_message *m, uint64_t id, int type, bool drop)
{
    return m->to == id && !(drop && is_local(m)) && (type < 0 || (int)m->type == type);
}

size_t cluster_waiting(const struct cluster *c, uint64_t id, int type, bool drop)
{
    size_t n = 0;
    for (size_t i = 0; i < c->network.n; i++) {
        n += selected(c->network.m[i], id, type, drop);
    }
    return n;
}

const char *cluster_error(enum err e)
{
    return e == ERR_PERM        ? "raft: cannot step raft local message"
           : e == ERR_NOT_FOUND ? "raft: cannot step as peer not found"
                                : "raft proposal dropped";
}

static void deliver_one(struct cluster *c, struct raft_message *m)
{
    struct raft *r = c->members[m->to - 1]->raft;
    if (m->type == RAFT_MSG_STORAGE_APPLY_RESP) {
        raft_applied(r, m->entries[m->n_entries - 1].index);
        return;
    }
    enum err e = raft_receive(r, m);
    bool dropped = e == ERR_PERM || e == ERR_NOT_FOUND || m->type == RAFT_MSG_PROP;
    ASSERT(e == OK || dropped);
    if (e != OK) {
        cluster_print(c, "%s\n", cluster_error(e));
    }
}

size_t cluster_deliver(struct cluster *c, uint64_t id, int type, bool drop)
{
    struct message_queue taken = {0};
    size_t kept = 0;
    for (size_t i = 0; i < c->network.n; i++) {
        struct raft_message *m = c->network.m[i];
        if (selected(m, id, type, drop)) {
            queue_add(&taken, m);
        } else {
            c->network.m[kept++] = m;
        }
    }
    c->network.n = kept;
    for (size_t i = 0; i < taken.n; i++) {
        cluster_print(c, "%s", drop ? "dropped: " : "");
        print_message(c, taken.m[i], NULL);
        if (!drop) {
            deliver_one(c, taken.m[i]);
        }
    }
    size_t n = taken.n;
    queue_clear(&taken);
    return n;
}
