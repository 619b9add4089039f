/* remote.c - see remote.h. */
#include "tools/pintle/remote.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/membership.h"
#include "raft/peer/headers.h"

struct answer {
    struct bytes body;
    long status;
    uint64_t cluster_id; /* of the header; 0: none */
};

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
    struct answer *a = arg;
    if (a->body.len + size * n > REMOTE_BODY_MAX) {
        return 0; /* ends the transfer with an error */
    }
    bytes_add(&a->body, data, size * n);
    return size * n;
}

static size_t on_header(char *data, size_t size, size_t n, void *arg)
{
    static const char name[] = PEER_HEADER_CLUSTER_ID ":";
    struct answer *a = arg;
    struct slice line = slice_of(data, size * n);
    if (line.len > sizeof(name) - 1 && strncasecmp(data, name, sizeof(name) - 1) == 0) {
        line.data += sizeof(name) - 1;
        line.len -= sizeof(name) - 1;
        while (line.len > 0 && line.data[0] == ' ') {
            line.data++;
            line.len--;
        }
        while (line.len > 0 && (line.data[line.len - 1] == '\r' || line.data[line.len - 1] == '\n')) {
            line.len--;
        }
        if (peer_id_parse(line, &a->cluster_id) != OK) {
            a->cluster_id = 0;
        }
    }
    return size * n;
}

/* The answer to a GET, whatever its status. ERR_IO with curl's reason. */
static enum err get(const struct peer_tls *tls, const char *url, const char *path, uint64_t timeout_ms, struct answer *out, struct err_ctx *ec)
{
    CURL *c = curl_easy_init();
    ASSERT(c != NULL);
    char *full = NULL;
    *out = (struct answer){.status = 0};
    if (strncmp(url, "unix", 4) == 0) {
        const char *host = strstr(url, "://") + 3;
        char *file = xstrndup(host, strcspn(host, "/"));
        (void)curl_easy_setopt(c, CURLOPT_UNIX_SOCKET_PATH, file); /* copied */
        free(file);
        full = xasprintf("%s://localhost%s", strncmp(url, "unixs", 5) == 0 ? "https" : "http", path);
    } else {
        full = xasprintf("%s%s", url, path);
    }
    (void)curl_easy_setopt(c, CURLOPT_URL, full);
    (void)curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    (void)curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(c, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    peer_tls_apply(c, tls);
    (void)curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    (void)curl_easy_setopt(c, CURLOPT_WRITEDATA, out);
    (void)curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    (void)curl_easy_setopt(c, CURLOPT_HEADERDATA, out);
    CURLcode rc = curl_easy_perform(c);
    (void)curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &out->status);
    curl_easy_cleanup(c);
    enum err e = rc == CURLE_OK ? OK : err_set(ec, ERR_IO, "Get \"%s\": %s", full, curl_easy_strerror(rc));
    free(full);
    if (e != OK) {
        bytes_deinit(&out->body);
    }
    return e;
}

/* --- members ------------------------------------------------------------------------------------------------------- */

static char **copy_urls(const struct member_json *m, const size_t *offsets, size_t n)
{
    char **urls = xcalloc(n + 1, sizeof(*urls));
    for (size_t i = 0; i < n; i++) {
        urls[i] = xstrdup((const char *)m->text.data + offsets[i]);
    }
    return urls;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum err add_member(void *arg, struct json *j)
{
    struct remote_cluster *c = arg;
    struct slice text = j->rest;
    enum err e = json_skip(j);
    if (e != OK) {
        return e;
    }
    text.len -= j->rest.len;
    struct member_json m;
    e = c->n < MEMBERS_MAX ? member_json_decode(text, &m) : ERR_LIMIT;
    if (e == ERR_LIMIT) {
        return e;
    }
    if (e == OK) {
        c->members = xrealloc(c->members, (c->n + 1) * sizeof(*c->members));
        struct member_info *info = &c->members[c->n++];
        *info = (struct member_info){
            .id = m.id,
            .name = xstrdup((const char *)m.text.data + m.name),
            .peer_urls = copy_urls(&m, m.peer_urls, m.n_peer_urls),
            .client_urls = copy_urls(&m, m.client_urls, m.n_client_urls),
            .is_learner = m.is_learner,
        };
        qsort(info->peer_urls, m.n_peer_urls, sizeof(char *), compare_strings);
    }
    member_json_deinit(&m);
    return e;
}

enum err remote_members(const struct peer_tls *tls, const char *const *urls, uint64_t timeout_ms, struct logger *log, struct remote_cluster *out, struct err_ctx *ec)
{
    for (; *urls != NULL; urls++) {
        struct answer a;
        struct err_ctx why = {{0}};
        if (get(tls, *urls, "/members", timeout_ms, &a, &why) != OK) {
            log_warn(log, "failed to get cluster response", F_STR("address", *urls), F_STR("error", why.text));
            continue;
        }
        struct remote_cluster c = {.id = a.cluster_id};
        struct json j = {.rest = bytes_slice(&a.body)};
        enum err e = a.status == 200 ? json_array(&j, add_member, &c) : ERR_INVALID;
        bytes_deinit(&a.body);
        if (e != OK || c.id == 0) {
            log_warn(log, "failed to read the cluster's members", F_STR("address", *urls), F_INT("status", a.status));
            remote_cluster_deinit(&c);
            continue;
        }
        if (c.n == 0) {
            return err_set(ec, ERR_NOT_FOUND, "failed to get raft cluster member(s) from the given URLs");
        }
        *out = c;
        return OK;
    }
    return err_set(ec, ERR_NOT_FOUND, "could not retrieve cluster information from the given URLs");
}

static void free_urls(char **urls)
{
    for (size_t i = 0; urls[i] != NULL; i++) {
        free(urls[i]);
    }
    free(urls);
}

void remote_cluster_deinit(struct remote_cluster *c)
{
    for (size_t i = 0; i < c->n; i++) {
        free(c->members[i].name);
        free_urls(c->members[i].peer_urls);
        free_urls(c->members[i].client_urls);
    }
    free(c->members);
    *c = (struct remote_cluster){0};
}

static void print_urls(struct bytes *b, char *const *urls)
{
    for (size_t i = 0; urls[i] != NULL; i++) {
        bytes_printf(b, "%s%s", i > 0 ? " " : "", urls[i]);
    }
}

char *remote_cluster_text(const struct remote_cluster *c)
{
    struct bytes b = {0};
    bytes_printf(&b, "{ClusterID:%" PRIx64 " Members:[", c->id);
    for (size_t i = 0; i < c->n; i++) {
        const struct member_info *m = &c->members[i];
        bytes_printf(&b, "%s&{ID:%" PRIx64 " RaftAttributes:{PeerURLs:[", i > 0 ? " " : "", m->id);
        print_urls(&b, m->peer_urls);
        bytes_printf(&b, "] IsLearner:%s} Attributes:{Name:%s ClientURLs:[", m->is_learner ? "true" : "false", m->name);
        print_urls(&b, m->client_urls);
        bytes_add_str(&b, "]}}");
    }
    bytes_add_str(&b, "] RemovedMemberIDs:[]}");
    char *text = xstrndup((const char *)b.data, b.len);
    bytes_deinit(&b);
    return text;
}

/* --- versions -------------------------------------------------------------------------------------------------------- */

static enum err version_field(void *arg, const char *name, struct json *j)
{
    if (strcmp(name, "etcdcluster") != 0) {
        return json_skip(j);
    }
    struct bytes text = {0};
    enum err e = json_string(j, &text);
    if (e == OK && text.len >= REMOTE_VERSION_BYTES) {
        e = ERR_INVALID;
    }
    if (e == OK) {
        char *out = arg;
        memset(out, 0, REMOTE_VERSION_BYTES);
        memcpy(out, text.data != NULL ? (const char *)text.data : "", text.len);
    }
    bytes_deinit(&text);
    return e;
}

bool remote_cluster_version(const struct peer_tls *tls, const char *const *urls, uint64_t timeout_ms, char out[REMOTE_VERSION_BYTES])
{
    for (; *urls != NULL; urls++) {
        struct answer a;
        if (get(tls, *urls, "/version", timeout_ms, &a, NULL) != OK) {
            continue;
        }
        struct json j = {.rest = bytes_slice(&a.body)};
        out[0] = '\0';
        enum err e = a.status == 200 ? json_object(&j, version_field, out) : ERR_INVALID;
        bytes_deinit(&a.body);
        if (e == OK) {
            return true;
        }
    }
    return false;
}

bool remote_downgrade_enabled(const struct peer_tls *tls, const char *const *urls, uint64_t timeout_ms)
{
    for (; *urls != NULL; urls++) {
        struct answer a;
        if (get(tls, *urls, "/downgrade/enabled", timeout_ms, &a, NULL) == OK) {
            bool enabled = a.status == 200 && a.body.len >= 4 && memcmp(a.body.data, "true", 4) == 0;
            bytes_deinit(&a.body);
            return enabled;
        }
    }
    return false;
}
