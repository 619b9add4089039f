/* cluster.c - see cluster.h. */
#include "tools/pintle/cluster.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/slice.h"
#include "tools/pintle/url.h"

static uint64_t sha1_head(struct slice s)
{
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    ASSERT(EVP_Digest(s.data, s.len, digest, &len, EVP_sha1(), NULL) == 1);
    uint64_t id = 0;
    for (unsigned i = 0; i < 8; i++) {
        id = id << 8 | digest[i];
    }
    return id;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_peers(const void *a, const void *b)
{
    uint64_t x = ((const struct member_peer *)a)->id;
    uint64_t y = ((const struct member_peer *)b)->id;
    return (x > y) - (x < y);
}

static size_t count_urls(const struct member_peer *p)
{
    size_t n = 0;
    while (p->peer_urls != NULL && p->peer_urls[n] != NULL) {
        n++;
    }
    return n;
}

/* Add a URL to the member of that name, making it when it is new. */
static enum err add(struct founders *f, const char *name, size_t name_len, const char *url, size_t url_len, struct err_ctx *ec)
{
    struct member_peer *p = NULL;
    for (size_t i = 0; i < f->n; i++) {
        if (strlen(f->peers[i].name) == name_len && strncmp(f->peers[i].name, name, name_len) == 0) {
            p = &f->peers[i];
        }
    }
    if (p == NULL) {
        if (f->n == FOUNDERS_MAX) {
            return err_set(ec, ERR_LIMIT, "--initial-cluster has more than %u members", FOUNDERS_MAX);
        }
        p = &f->peers[f->n++];
        p->name = xstrndup(name, name_len);
    }
    size_t n = count_urls(p);
    char **urls = xcalloc(n + 2, sizeof(*urls));
    if (n > 0) {
        memcpy(urls, p->peer_urls, n * sizeof(*urls));
    }
    urls[n] = xstrndup(url, url_len);
    enum err e = url_check(urls[n], ec);
    qsort(urls, n + 1, sizeof(*urls), compare_strings);
    free((void *)(uintptr_t)p->peer_urls);
    p->peer_urls = (const char *const *)urls;
    return err_wrap(ec, e, "error setting up initial cluster");
}

static enum err parse(const char *text, struct founders *f, struct err_ctx *ec)
{
    while (*text != '\0') {
        size_t len = strcspn(text, ",");
        const char *equals = memchr(text, '=', len);
        if (len > 0 && equals == NULL) {
            return err_set(ec, ERR_INVALID, "--initial-cluster: \"%.*s\" is not of the form name=url", (int)len, text);
        }
        if (len > 0) {
            enum err e = add(f, text, (size_t)(equals - text), equals + 1, len - (size_t)(equals + 1 - text), ec);
            if (e != OK) {
                return e;
            }
        }
        text += len;
        text += *text == ',' ? 1 : 0;
    }
    return f->n > 0 ? OK : err_set(ec, ERR_INVALID, "initial cluster unset and no discovery endpoints found");
}

static void compute_ids(struct founders *f, const char *token)
{
    struct bytes b = {0};
    for (size_t i = 0; i < f->n; i++) {
        bytes_reset(&b);
        for (size_t k = 0; f->peers[i].peer_urls[k] != NULL; k++) {
            bytes_add_str(&b, f->peers[i].peer_urls[k]);
        }
        bytes_add_str(&b, token);
        f->peers[i].id = sha1_head(bytes_slice(&b));
    }
    founders_sort(f);
    bytes_reset(&b);
    for (size_t i = 0; i < f->n; i++) {
        uint8_t be[8];
        for (unsigned k = 0; k < 8; k++) {
            be[k] = (uint8_t)(f->peers[i].id >> (56 - 8 * k));
        }
        bytes_add(&b, be, sizeof(be));
    }
    f->cluster_id = sha1_head(bytes_slice(&b));
    bytes_deinit(&b);
}

enum err founders_parse(const char *initial_cluster, const char *token, struct founders *out, struct err_ctx *ec)
{
    memset(out, 0, sizeof(*out));
    enum err e = parse(initial_cluster, out, ec);
    if (e == OK) {
        compute_ids(out, token);
    }
    return e;
}

void founders_deinit(struct founders *f)
{
    for (size_t i = 0; i < f->n; i++) {
        for (size_t k = 0; f->peers[i].peer_urls[k] != NULL; k++) {
            free((void *)(uintptr_t)f->peers[i].peer_urls[k]);
        }
        free((void *)(uintptr_t)f->peers[i].peer_urls);
        free((void *)(uintptr_t)f->peers[i].name);
    }
    f->n = 0;
}

const struct member_peer *founders_named(const struct founders *f, const char *name)
{
    for (size_t i = 0; i < f->n; i++) {
        if (strcmp(f->peers[i].name, name) == 0) {
            return &f->peers[i];
        }
    }
    return NULL;
}

/* All of them, "name=url" or "url", sorted; the strings and the array are the caller's. */
static char **list_urls(const struct founders *f, bool with_name, size_t *n)
{
    *n = 0;
    for (size_t i = 0; i < f->n; i++) {
        *n += count_urls(&f->peers[i]);
    }
    char **list = xcalloc(*n + 1, sizeof(*list));
    size_t at = 0;
    for (size_t i = 0; i < f->n; i++) {
        for (size_t k = 0; f->peers[i].peer_urls[k] != NULL; k++) {
            const struct member_peer *p = &f->peers[i];
            list[at++] = with_name ? xasprintf("%s=%s", p->name, p->peer_urls[k]) : xstrdup(p->peer_urls[k]);
        }
    }
    qsort(list, *n, sizeof(*list), compare_strings);
    return list;
}

static void free_list(char **list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        free(list[i]);
    }
    free(list);
}

char *founders_text(const struct founders *f)
{
    size_t n = 0;
    char **list = list_urls(f, true, &n);
    struct bytes b = {0};
    for (size_t i = 0; i < n; i++) {
        bytes_printf(&b, "%s%s", i > 0 ? "," : "", list[i]);
    }
    char *text = xstrndup((const char *)b.data, b.len);
    bytes_deinit(&b);
    free_list(list, n);
    return text;
}

bool founders_share_url(const struct founders *f)
{
    size_t n = 0;
    bool twice = false;
    char **list = list_urls(f, false, &n);
    for (size_t i = 1; i < n; i++) {
        twice = twice || strcmp(list[i - 1], list[i]) == 0;
    }
    free_list(list, n);
    return twice;
}

void founders_sort(struct founders *f)
{
    qsort(f->peers, f->n, sizeof(f->peers[0]), compare_peers);
}
