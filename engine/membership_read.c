/* membership_read.c - members, configuration and versions, copied out for whoever asks. */
#include "engine/membership.h"

#include <stdlib.h>

bool membership_was_removed(const struct members *m, uint64_t id)
{
    for (size_t i = 0; i < m->n_removed; i++) {
        if (m->removed[i] == id) {
            return true;
        }
    }
    return false;
}

/* Room for one block of structs, pointers and texts: first measured, then filled. */
struct block {
    char **pointers;
    char *text;
    size_t n_pointers;
    size_t text_bytes;
};

static char *put_text(struct block *b, const char *s)
{
    size_t n = strlen(s) + 1;
    char *at = NULL;
    if (b->text != NULL) {
        at = b->text + b->text_bytes;
        memcpy(at, s, n);
    }
    b->text_bytes += n;
    return at;
}

static char **put_urls(struct block *b, char *const *urls)
{
    char **list = b->pointers == NULL ? NULL : b->pointers + b->n_pointers;
    size_t n = 0;
    for (; urls[n] != NULL; n++) {
        char *at = put_text(b, urls[n]);
        if (list != NULL) {
            list[n] = at;
        }
    }
    if (list != NULL) {
        list[n] = NULL;
    }
    b->n_pointers += n + 1;
    return list;
}

static void put_member(struct block *b, const struct member_info *m, struct member_info *out)
{
    struct member_info copy = {
        .id = m->id,
        .name = put_text(b, m->name),
        .peer_urls = put_urls(b, m->peer_urls),
        .client_urls = put_urls(b, m->client_urls),
        .is_learner = m->is_learner,
    };
    if (out != NULL) {
        *out = copy;
    }
}

struct member_info *engine_members(const struct engine *e, size_t *n)
{
    lock_read(e);
    struct block b = {0};
    for (size_t i = 0; i < e->members.n; i++) {
        put_member(&b, &e->members.v[i], NULL);
    }
    size_t structs = e->members.n * sizeof(struct member_info);
    struct member_info *out = xalloc(structs + b.n_pointers * sizeof(char *) + b.text_bytes + 1);
    b = (struct block){.pointers = (char **)(void *)((char *)out + structs),
                       .text = (char *)out + structs + b.n_pointers * sizeof(char *)};
    for (size_t i = 0; i < e->members.n; i++) {
        put_member(&b, &e->members.v[i], &out[i]);
    }
    *n = e->members.n;
    unlock(e);
    return out;
}

static size_t copy_ids(const struct id_list *l, uint64_t *out, size_t n_max)
{
    size_t n = l->n < n_max ? l->n : n_max;
    for (size_t i = 0; i < n; i++) {
        out[i] = l->v[i];
    }
    return n;
}

void engine_cluster_version(const struct engine *e, char *out)
{
    lock_read(e);
    memcpy(out, e->cluster_version, ENGINE_VERSION_BYTES);
    unlock(e);
}

bool engine_member_removed(const struct engine *e, uint64_t id)
{
    lock_read(e);
    bool removed = membership_was_removed(&e->members, id);
    unlock(e);
    return removed;
}

void engine_set_max_learners(struct engine *e, uint32_t n)
{
    e->learners_max = n;
}

static_assert(MEMBERS_MAX <= ENGINE_CONF_MAX, "a configuration that was applied can be told");

void conf_tell(const struct conf_state *c, struct engine_conf *out)
{
    *out = (struct engine_conf){.auto_leave = c->auto_leave};
    out->n_voters = copy_ids(&c->voters, out->voters, ENGINE_CONF_MAX);
    out->n_learners = copy_ids(&c->learners, out->learners, ENGINE_CONF_MAX);
    out->n_voters_outgoing = copy_ids(&c->voters_outgoing, out->voters_outgoing, ENGINE_CONF_MAX);
    out->n_learners_next = copy_ids(&c->learners_next, out->learners_next, ENGINE_CONF_MAX);
}

void engine_conf(const struct engine *e, struct engine_conf *out)
{
    lock_read(e);
    conf_tell(&e->conf, out);
    unlock(e);
}

bool engine_downgrade(const struct engine *e, char *target)
{
    lock_read(e);
    memcpy(target, e->downgrade_target, ENGINE_VERSION_BYTES);
    bool enabled = e->downgrading;
    unlock(e);
    return enabled;
}
