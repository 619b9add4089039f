/* urls.c - see urls.h. */
#include "tools/pintle/urls.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/mem.h"
#include "base/slice.h"

#define RETRY_MS 1000u

size_t urls_count(const char *const *urls)
{
    size_t n = 0;
    while (urls[n] != NULL) {
        n++;
    }
    return n;
}

char *urls_join(const char *const *urls, const char *prefix, const char *separator)
{
    struct bytes b = {0};
    for (size_t i = 0; urls[i] != NULL; i++) {
        bytes_printf(&b, "%s%s%s", i > 0 ? separator : "", prefix, urls[i]);
    }
    char *text = xstrndup((const char *)b.data, b.len);
    bytes_deinit(&b);
    return text;
}

/* "scheme://address:port" of a URL whose host is a name or an address in another spelling; the caller frees. NULL: it cannot be resolved now. */
static char *resolve_once(const char *url, const char **why)
{
    const char *host = strstr(url, "://") + 3;
    const char *colon = strrchr(host, ':');
    bool v6 = host[0] == '[';
    char *name = xstrndup(host + (v6 ? 1 : 0), (size_t)(colon - host) - (v6 ? 2u : 0u));
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    char address[NI_MAXHOST];
    char *out = NULL;
    int rc = getaddrinfo(name, colon + 1, &hints, &found);
    if (rc == 0) {
        rc = getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof(address), NULL, 0, NI_NUMERICHOST);
    }
    if (rc == 0) {
        v6 = found->ai_family == AF_INET6;
        out = xasprintf("%.*s%s%s%s%s", (int)(host - url), url, v6 ? "[" : "", address, v6 ? "]" : "", colon);
    }
    if (found != NULL) {
        freeaddrinfo(found);
    }
    free(name);
    *why = rc == 0 ? "" : gai_strerror(rc);
    return out;
}

static bool is_fixed(const char *url)
{
    const char *host = strstr(url, "://") + 3;
    return strncmp(url, "unix", 4) == 0 || strncmp(host, "localhost:", 10) == 0;
}

static enum err resolve(const char *url, uint64_t deadline_ms, struct logger *log, char **out, struct err_ctx *ec)
{
    if (is_fixed(url)) {
        *out = xstrdup(url);
        return OK;
    }
    for (;;) {
        const char *why = "";
        *out = resolve_once(url, &why);
        if (*out != NULL) {
            return OK;
        }
        log_warn(log, "failed to resolve URL Host", F_STR("url", url), F_STR("retry-interval", "1s"), F_STR("error", why));
        if (clock_now_ms(clock_real()) + RETRY_MS >= deadline_ms) {
            return err_set(ec, ERR_INVALID, "lookup of %s: %s", url, why);
        }
        (void)poll(NULL, 0, (int)RETRY_MS);
    }
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_list(char **list)
{
    for (size_t i = 0; list[i] != NULL; i++) {
        free(list[i]);
    }
    free(list);
}

/* The resolved list, sorted again; in any case one to be freed. */
static enum err resolve_all(const char *const *urls, uint64_t deadline_ms, struct logger *log, char ***out, struct err_ctx *ec)
{
    size_t n = urls_count(urls);
    char **list = xcalloc(n + 1, sizeof(*list));
    enum err e = OK;
    for (size_t i = 0; i < n && e == OK; i++) {
        e = resolve(urls[i], deadline_ms, log, &list[i], ec);
    }
    if (e == OK) {
        qsort(list, n, sizeof(*list), compare_strings);
    }
    *out = list;
    return e;
}

enum err urls_compare(const char *const *a, const char *const *b, uint64_t deadline_ms, struct logger *log, struct err_ctx *ec)
{
    size_t n = urls_count(a);
    if (n != urls_count(b)) {
        char *x = urls_join(a, "", " ");
        char *y = urls_join(b, "", " ");
        enum err e = err_set(ec, ERR_INVALID, "len([%s]) != len([%s])", x, y);
        free(x);
        free(y);
        return e;
    }
    size_t equal = 0;
    while (equal < n && strcmp(a[equal], b[equal]) == 0) {
        equal++;
    }
    if (equal == n) {
        return OK;
    }
    char **x = NULL;
    char **y = NULL;
    enum err e = resolve_all(a, deadline_ms, log, &x, ec);
    if (e == OK) {
        e = resolve_all(b, deadline_ms, log, &y, ec);
    }
    for (size_t i = 0; i < n && e == OK; i++) {
        if (strcmp(x[i], y[i]) != 0) {
            e = err_set(ec, ERR_INVALID, "resolved urls: \"%s\" != \"%s\"", x[i], y[i]);
        }
    }
    free_list(x);
    if (y != NULL) {
        free_list(y);
    }
    return e;
}

char *url_outer_address(const char *url)
{
    struct in_addr v4;
    struct in6_addr v6;
    const char *host = strstr(url, "://");
    host = host != NULL ? host + 3 : url;
    bool bracket = host[0] == '[';
    host += bracket ? 1 : 0;
    char *text = xstrndup(host, strcspn(host, bracket ? "]" : ":/"));
    bool outer = false;
    if (!bracket && inet_pton(AF_INET, text, &v4) == 1) {
        uint32_t a = ntohl(v4.s_addr);
        outer = a != INADDR_ANY && a >> 24 != IN_LOOPBACKNET;
    } else if (bracket && inet_pton(AF_INET6, text, &v6) == 1) {
        outer = !IN6_IS_ADDR_LOOPBACK(&v6) && !IN6_IS_ADDR_UNSPECIFIED(&v6);
    }
    if (!outer) {
        free(text);
        text = NULL;
    }
    return text;
}
