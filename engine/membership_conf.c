/* membership_conf.c - raft's configuration as the row confState keeps it: lists of ids in ascending
 * order. */
#include <stdlib.h>

#include "engine/membership.h"

static size_t place_of(const struct id_list *l, uint64_t id)
{
    size_t i = 0;
    while (i < l->n && l->v[i] < id) {
        i++;
    }
    return i;
}

bool conf_contains(const struct id_list *l, uint64_t id)
{
    size_t i = place_of(l, id);
    return i < l->n && l->v[i] == id;
}

static void add(struct id_list *l, uint64_t id)
{
    size_t at = place_of(l, id);
    if (at < l->n && l->v[at] == id) {
        return;
    }
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 8 : l->cap * 2;
        l->v = xrealloc(l->v, l->cap * sizeof(*l->v));
    }
    memmove(&l->v[at + 1], &l->v[at], (l->n - at) * sizeof(*l->v));
    l->v[at] = id;
    l->n++;
}

static void drop(struct id_list *l, uint64_t id)
{
    size_t at = place_of(l, id);
    if (at < l->n && l->v[at] == id) {
        memmove(&l->v[at], &l->v[at + 1], (l->n - at - 1) * sizeof(*l->v));
        l->n--;
    }
}

void conf_deinit(struct conf_state *c)
{
    free(c->voters.v);
    free(c->learners.v);
    free(c->voters_outgoing.v);
    free(c->learners_next.v);
    *c = (struct conf_state){0};
}

void conf_add_voter(struct conf_state *c, uint64_t id)
{
    drop(&c->learners, id);
    drop(&c->learners_next, id);
    add(&c->voters, id);
}

/* Who still votes in the outgoing half of a joint configuration becomes a learner only when that is
 * left. */
void conf_add_learner(struct conf_state *c, uint64_t id)
{
    conf_remove(c, id);
    add(conf_contains(&c->voters_outgoing, id) ? &c->learners_next : &c->learners, id);
}

void conf_remove(struct conf_state *c, uint64_t id)
{
    drop(&c->voters, id);
    drop(&c->learners, id);
    drop(&c->learners_next, id);
}

void conf_enter_joint(struct conf_state *c, bool auto_leave)
{
    c->voters_outgoing.n = 0;
    for (size_t i = 0; i < c->voters.n; i++) {
        add(&c->voters_outgoing, c->voters.v[i]);
    }
    c->auto_leave = auto_leave;
}

void conf_leave_joint(struct conf_state *c)
{
    for (size_t i = 0; i < c->learners_next.n; i++) {
        add(&c->learners, c->learners_next.v[i]);
    }
    c->learners_next.n = 0;
    c->voters_outgoing.n = 0;
    c->auto_leave = false;
}

static void add_all(struct id_list *l, const uint64_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        add(l, ids[i]);
    }
}

void conf_take(struct conf_state *c, const struct engine_conf *in)
{
    add_all(&c->voters, in->voters, in->n_voters);
    add_all(&c->learners, in->learners, in->n_learners);
    add_all(&c->voters_outgoing, in->voters_outgoing, in->n_voters_outgoing);
    add_all(&c->learners_next, in->learners_next, in->n_learners_next);
    c->auto_leave = in->auto_leave;
}

static void add_list(struct bytes *out, const char *name, const struct id_list *l)
{
    if (l->n == 0) {
        return;
    }
    bytes_printf(out, "\"%s\":[", name);
    for (size_t i = 0; i < l->n; i++) {
        bytes_printf(out, "%s%llu", i == 0 ? "" : ",", (unsigned long long)l->v[i]);
    }
    bytes_add_str(out, "],");
}

void conf_encode(const struct conf_state *c, struct bytes *out)
{
    bytes_add_str(out, "{");
    add_list(out, "voters", &c->voters);
    add_list(out, "learners", &c->learners);
    add_list(out, "voters_outgoing", &c->voters_outgoing);
    add_list(out, "learners_next", &c->learners_next);
    bytes_printf(out, "\"auto_leave\":%s}", c->auto_leave ? "true" : "false");
}

static enum err id_item(void *arg, struct json *j)
{
    struct id_list *l = arg;
    uint64_t id = 0;
    enum err err = json_u64(j, &id);
    if (err == OK && l->n >= MEMBERS_MAX) {
        err = ERR_INVALID;
    }
    if (err == OK) {
        add(l, id);
    }
    return err;
}

static enum err conf_field(void *arg, const char *name, struct json *j)
{
    struct conf_state *c = arg;
    if (strcmp(name, "voters") == 0) {
        return json_array(j, id_item, &c->voters);
    }
    if (strcmp(name, "learners") == 0) {
        return json_array(j, id_item, &c->learners);
    }
    if (strcmp(name, "voters_outgoing") == 0) {
        return json_array(j, id_item, &c->voters_outgoing);
    }
    if (strcmp(name, "learners_next") == 0) {
        return json_array(j, id_item, &c->learners_next);
    }
    if (strcmp(name, "auto_leave") == 0) {
        return json_bool(j, &c->auto_leave);
    }
    return json_skip(j);
}

enum err conf_decode(struct slice json, struct conf_state *out)
{
    struct json j = {.rest = json};
    return json_object(&j, conf_field, out);
}
