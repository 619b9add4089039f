/* membership_json.c - reading and writing the JSON of membership rows. */
#include <stdlib.h>

#include "engine/membership.h"

/* --- members
 * ----------------------------------------------------------------------------------------- */

struct url_list {
    struct bytes *text;
    size_t *v;
    size_t *n;
};

static enum err take_text(struct json *j, struct bytes *text, size_t *at)
{
    *at = text->len;
    enum err err = json_string(j, text);
    bytes_add(text, "", 1);
    return err;
}

static enum err url_item(void *arg, struct json *j)
{
    struct url_list *l = arg;
    if (*l->n == MEMBER_URLS_MAX) {
        return ERR_INVALID;
    }
    return take_text(j, l->text, &l->v[(*l->n)++]);
}

static enum err member_field(void *arg, const char *name, struct json *j)
{
    struct member_json *m = arg;
    if (strcmp(name, "id") == 0) {
        return json_u64(j, &m->id);
    }
    if (strcmp(name, "name") == 0) {
        return take_text(j, &m->text, &m->name);
    }
    if (strcmp(name, "isLearner") == 0) {
        return json_bool(j, &m->is_learner);
    }
    if (strcmp(name, "isPromote") == 0) {
        return json_bool(j, &m->is_promote);
    }
    if (strcmp(name, "peerURLs") == 0) {
        struct url_list l = {&m->text, m->peer_urls, &m->n_peer_urls};
        return json_array(j, url_item, &l);
    }
    if (strcmp(name, "clientURLs") == 0) {
        struct url_list l = {&m->text, m->client_urls, &m->n_client_urls};
        return json_array(j, url_item, &l);
    }
    return json_skip(j);
}

enum err member_json_decode(struct slice text, struct member_json *out)
{
    *out = (struct member_json){0};
    bytes_add(&out->text, "", 1); /* the empty name, at offset 0 */
    struct json j = {.rest = text};
    enum err err = json_object(&j, member_field, out);
    return err == OK && json_ended(&j) ? OK : ERR_INVALID;
}

void member_json_deinit(struct member_json *m)
{
    bytes_deinit(&m->text);
}

static void add_urls(struct bytes *out, const char *name, char *const *urls)
{
    bytes_printf(out, ",\"%s\":[", name);
    for (size_t i = 0; urls[i] != NULL; i++) {
        bytes_add_str(out, i == 0 ? "" : ",");
        json_add_string(out, urls[i]);
    }
    bytes_add_str(out, "]");
}

void member_json_encode(const struct member_info *m, struct bytes *out)
{
    bytes_printf(out, "{\"id\":%llu", (unsigned long long)m->id);
    add_urls(out, "peerURLs", m->peer_urls);
    if (m->is_learner) {
        bytes_add_str(out, ",\"isLearner\":true");
    }
    if (m->name[0] != 0) {
        bytes_add_str(out, ",\"name\":");
        json_add_string(out, m->name);
    }
    if (m->client_urls[0] != NULL) {
        add_urls(out, "clientURLs", m->client_urls);
    }
    bytes_add_str(out, "}");
}
