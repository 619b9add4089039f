/* peer_url.c - see peer_url.h. */
#include "api/etcd/peer_url.h"

#include <inttypes.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "api/etcd/internal.h"
#include "base/assert.h"

static bool is_letter(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* What Go's parser lets stand in a host; a zone's percent sign only inside of brackets. Bytes above ASCII would be written with percent signs,
 * which no address of a member needs: they are refused. */
static bool host_is_valid(const char *host, size_t n)
{
    bool bracket = n > 0 && host[0] == '[';
    for (size_t i = 0; i < n; i++) {
        char c = host[i];
        if (!is_letter(c) && !is_digit(c) && (c == '\0' || strchr("-_.~!$&'()*+,;=:[]<>\"", c) == NULL) && !(c == '%' && bracket)) {
            return false;
        }
    }
    return true;
}

/* "host:port": one colon outside of brackets, digits or nothing behind it. */
static bool has_port(const char *host, size_t n)
{
    size_t colon = n;
    while (colon > 0 && host[colon - 1] != ':') {
        colon--;
    }
    if (colon == 0) {
        return false;
    }
    for (size_t i = colon; i < n; i++) {
        if (!is_digit(host[i])) {
            return false;
        }
    }
    size_t name = colon - 1;
    if (name > 0 && host[0] == '[') {
        return host[name - 1] == ']' && memchr(host + 1, '[', name - 1) == NULL && memchr(host, ']', name - 1) == NULL;
    }
    return memchr(host, ':', name) == NULL && memchr(host, '[', name) == NULL && memchr(host, ']', name) == NULL;
}

static bool is_network(const char *scheme)
{
    return strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0;
}

/* `rest` is what stands behind the scheme's colon. */
static bool network_is_valid(const char *rest)
{
    if (strncmp(rest, "//", 2) != 0) {
        return false;
    }
    const char *host = rest + 2;
    size_t n = strcspn(host, "/?#");
    if (host[n] == '/') {
        return false; /* a path, be it as short as it can be */
    }
    const char *at = memrchr(host, '@', n);
    if (at != NULL) {
        n -= (size_t)(at + 1 - host);
        host = at + 1;
    }
    return host_is_valid(host, n) && has_port(host, n);
}

bool peer_url_clean(const char *url, char *out)
{
    url += strspn(url, " \t\n\v\f\r");
    size_t n = strlen(url);
    while (n > 0 && strchr(" \t\n\v\f\r", url[n - 1]) != NULL) {
        n--;
    }
    memcpy(out, url, n);
    out[n] = '\0';
    for (size_t i = 0; i < n; i++) {
        if ((unsigned char)out[i] <= ' ' || out[i] == 0x7f) {
            return false;
        }
    }
    size_t scheme = strcspn(out, ":");
    if (scheme == n) {
        return false;
    }
    for (size_t i = 0; i < scheme; i++) {
        out[i] = is_letter(out[i]) ? (char)(out[i] | 0x20) : out[i];
    }
    out[scheme] = '\0';
    bool network = is_network(out);
    bool local = strcmp(out, "unix") == 0 || strcmp(out, "unixs") == 0;
    out[scheme] = ':';
    return local || (network && network_is_valid(out + scheme + 1));
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char *const *peer_urls_sorted(char *const *urls, size_t n, struct arena *a)
{
    const char **list = arena_calloc(a, n + 1, sizeof(*list));
    if (list != NULL && n > 0) {
        memcpy((void *)(uintptr_t)list, urls, n * sizeof(*list));
        qsort((void *)(uintptr_t)list, n, sizeof(*list), compare_strings);
    }
    return list;
}

enum err peer_urls_clean(char *const *urls, size_t n, struct arena *a, const char *const **out)
{
    if (n == 0 || n > MEMBER_URLS_ASKED_MAX) {
        return ERR_INVALID;
    }
    char *clean[MEMBER_URLS_ASKED_MAX];
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(urls[i]);
        if (len > MEMBER_URL_BYTES_MAX) {
            return ERR_INVALID;
        }
        clean[i] = arena_alloc(a, len + 1);
        if (clean[i] == NULL) {
            return ERR_NO_MEM;
        }
        if (!peer_url_clean(urls[i], clean[i])) {
            return ERR_INVALID;
        }
    }
    *out = peer_urls_sorted(clean, n, a);
    return *out == NULL ? ERR_NO_MEM : OK;
}

uint64_t member_id_compute(const char *const *sorted_urls, uint64_t unix_seconds)
{
    struct bytes b = {0};
    for (size_t i = 0; sorted_urls[i] != NULL; i++) {
        bytes_add_str(&b, sorted_urls[i]);
    }
    bytes_printf(&b, "%" PRIu64, unix_seconds);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    int ok = EVP_Digest(b.data, b.len, digest, &len, EVP_sha1(), NULL);
    ASSERT(ok == 1);
    ASSERT(len >= 8);
    bytes_deinit(&b);
    uint64_t id = 0;
    for (unsigned i = 0; i < 8; i++) {
        id = id << 8 | digest[i];
    }
    return id;
}
