/* registry.c - see registry.h. */
#include "tools/pintle/registry.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

/* "/_etcd/registry/TOKEN" as etcd cleans paths: without empty parts and ".", and ".." takes the part before it away. */
static void add_root(struct bytes *out, const char *token)
{
    bytes_add_str(out, "/_etcd/registry");
    while (*token != '\0') {
        size_t n = strcspn(token, "/");
        if (n == 2 && memcmp(token, "..", 2) == 0) {
            while (out->len > 0 && out->data[--out->len] != '/') {
            }
        } else if (n > 0 && !(n == 1 && token[0] == '.')) {
            bytes_printf(out, "/%.*s", (int)n, token);
        }
        token += n + (token[n] == '/' ? 1 : 0);
    }
}

static char *make_key(const char *root, const char *rest)
{
    return xasprintf("%s/%s", root, rest);
}

struct registry *registry_create(const char *token, uint64_t member_id)
{
    struct registry *r = xcalloc(1, sizeof(*r));
    struct bytes b = {0};
    add_root(&b, token);
    char *root = xstrndup((const char *)b.data, b.len);
    bytes_deinit(&b);
    r->size_key = make_key(root, "_config/size");
    r->members_key = make_key(root, "members");
    r->own_key = xasprintf("%s/%" PRIx64, r->members_key, member_id);
    free(root);
    return r;
}

void registry_reset(struct registry *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->members[i].key);
        free(r->members[i].text);
    }
    r->n = 0;
}

void registry_destroy(struct registry **rp)
{
    struct registry *r = *rp;
    *rp = NULL;
    if (r == NULL) {
        return;
    }
    registry_reset(r);
    free(r->size_key);
    free(r->members_key);
    free(r->own_key);
    free(r);
}

/* Without spaces around it. */
static struct slice trim(struct slice s)
{
    static const char spaces[] = " \t\n\v\f\r";
    while (s.len > 0 && memchr(spaces, s.data[0], sizeof(spaces) - 1) != NULL) {
        s = slice_of(s.data + 1, s.len - 1);
    }
    while (s.len > 0 && memchr(spaces, s.data[s.len - 1], sizeof(spaces) - 1) != NULL) {
        s.len--;
    }
    return s;
}

enum err registry_add(struct registry *r, struct slice key, struct slice text, int64_t created, struct err_ctx *ec)
{
    size_t n_prefix = strlen(r->members_key);
    key = trim(key);
    text = trim(text);
    if (key.len < n_prefix || memcmp(key.data, r->members_key, n_prefix) != 0) {
        return err_set(ec, ERR_FOREIGN, "invalid peer registry key");
    }
    if (text.len == 0 || memchr(text.data, '=', text.len) == NULL) {
        return err_set(ec, ERR_INVALID, "invalid peer info returned from discovery service");
    }
    size_t at = r->n;
    for (size_t i = 0; i < r->n; i++) {
        if (slice_eq(slice_str(r->members[i].key), key)) {
            return err_set(ec, ERR_EXISTS, "found duplicate peer from discovery service");
        }
    }
    if (r->n == REGISTRY_MEMBERS_MAX) {
        return err_set(ec, ERR_LIMIT, "too many peers in discovery service");
    }
    while (at > 0 && r->members[at - 1].created > created) {
        at--;
    }
    memmove(&r->members[at + 1], &r->members[at], (r->n - at) * sizeof(r->members[0]));
    r->members[at] = (struct registry_member){xstrndup((const char *)key.data, key.len), xstrndup((const char *)text.data, text.len), created};
    r->n++;
    return OK;
}

bool registry_is_full(const struct registry *r, size_t size)
{
    for (size_t i = 0; i < r->n && i < size; i++) {
        if (strcmp(r->members[i].key, r->own_key) == 0) {
            return false;
        }
    }
    return r->n >= size;
}

char *registry_cluster(const struct registry *r, size_t size)
{
    struct bytes b = {0};
    for (size_t i = 0; i < r->n && i < size; i++) {
        bytes_printf(&b, "%s%s", i > 0 ? "," : "", r->members[i].text);
    }
    char *text = xstrndup(b.len > 0 ? (const char *)b.data : "", b.len);
    bytes_deinit(&b);
    return text;
}
