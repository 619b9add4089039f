/* old_store.c - see old_store.h.
 *
 *     / ─┬─ 0 ─┬─ members ── <id, hex> ─┬─ raftAttributes   {"peerURLs":[...],"isLearner":true}
 *        │     │                        └─ attributes       {"name":"...","clientURLs":[...]}
 *        │     └─ version               3.6.0
 *        └─ 1
 */
#include "api/peer/old_store.h"

/* A JSON string; what is below a space, or special, by its number. */
static void add_string(struct bytes *out, const char *s)
{
    bytes_add_str(out, "\"");
    for (const uint8_t *p = (const uint8_t *)s; *p != 0; p++) {
        if (*p == '"' || *p == '\\' || *p < 0x20u) {
            bytes_printf(out, "\\u%04x", *p);
        } else {
            bytes_add(out, p, 1);
        }
    }
    bytes_add_str(out, "\"");
}

/* The start of a node; the caller adds value and children. */
static void begin_node(struct bytes *out, const char *path, uint64_t index)
{
    bytes_add_str(out, "{\"Path\":");
    add_string(out, path);
    bytes_printf(out, ",\"CreatedIndex\":%llu,\"ModifiedIndex\":%llu,\"ExpireTime\":\"0001-01-01T00:00:00Z\"", (unsigned long long)index,
                 (unsigned long long)index);
}

static void begin_folder(struct bytes *out, const char *path, uint64_t index)
{
    begin_node(out, path, index);
    bytes_add_str(out, ",\"Value\":\"\",\"Children\":{");
}

static void add_file(struct bytes *out, const char *path, const char *value, uint64_t index)
{
    begin_node(out, path, index);
    bytes_add_str(out, ",\"Value\":");
    add_string(out, value);
    bytes_add_str(out, ",\"Children\":null}");
}

static void add_urls(struct bytes *out, const char *name, char *const *urls)
{
    bytes_printf(out, "\"%s\":[", name);
    for (size_t i = 0; urls != NULL && urls[i] != NULL; i++) {
        bytes_add_str(out, i == 0 ? "" : ",");
        add_string(out, urls[i]);
    }
    bytes_add_str(out, "]");
}

static void add_member(struct bytes *out, const struct member_info *m, uint64_t index)
{
    struct bytes path = {0};
    struct bytes value = {0};
    bytes_printf(&path, "/0/members/%llx%c", (unsigned long long)m->id, 0);
    bytes_printf(out, "\"%llx\":", (unsigned long long)m->id);
    begin_folder(out, (const char *)path.data, index);
    path.len--;
    bytes_printf(&path, "/raftAttributes%c", 0);
    bytes_add_str(&value, "{");
    add_urls(&value, "peerURLs", m->peer_urls);
    bytes_printf(&value, "%s}%c", m->is_learner ? ",\"isLearner\":true" : "", 0);
    bytes_add_str(out, "\"raftAttributes\":");
    add_file(out, (const char *)path.data, (const char *)value.data, index);
    if (m->name != NULL && m->name[0] != '\0') {
        path.len -= sizeof("/raftAttributes");
        bytes_printf(&path, "/attributes%c", 0);
        bytes_reset(&value);
        bytes_add_str(&value, "{\"name\":");
        add_string(&value, m->name);
        bytes_add_str(&value, ",");
        add_urls(&value, "clientURLs", m->client_urls);
        bytes_printf(&value, "}%c", 0);
        bytes_add_str(out, ",\"attributes\":");
        add_file(out, (const char *)path.data, (const char *)value.data, index);
    }
    bytes_add_str(out, "}}");
    bytes_deinit(&path);
    bytes_deinit(&value);
}

void old_store_encode(const struct member_info *members, size_t n, const char *version, uint64_t index, struct bytes *out)
{
    bytes_add_str(out, "{\"Root\":");
    begin_folder(out, "/", 0);
    bytes_add_str(out, "\"0\":");
    begin_folder(out, "/0", 0);
    bytes_add_str(out, "\"members\":");
    begin_folder(out, "/0/members", 0);
    for (size_t i = 0; i < n; i++) {
        bytes_add_str(out, i == 0 ? "" : ",");
        add_member(out, &members[i], index);
    }
    bytes_add_str(out, "}}");
    if (version[0] != '\0') {
        bytes_add_str(out, ",\"version\":");
        add_file(out, "/0/version", version, index);
    }
    bytes_add_str(out, "}},\"1\":");
    begin_folder(out, "/1", 0);
    bytes_printf(out, "}}}},\"CurrentIndex\":%llu,\"CurrentVersion\":2}", (unsigned long long)index);
}
