/* url.c - see url.h. */
#include "tools/pintle/url.h"

#include <stdbool.h>
#include <string.h>

enum err url_check(const char *url, struct err_ctx *ec)
{
    const char *rest = strstr(url, "://");
    size_t scheme = rest == NULL ? 0 : (size_t)(rest - url);
    bool http = (scheme == 4 && strncmp(url, "http", 4) == 0) || (scheme == 5 && strncmp(url, "https", 5) == 0);
    bool local = (scheme == 4 && strncmp(url, "unix", 4) == 0) || (scheme == 5 && strncmp(url, "unixs", 5) == 0);
    if (!http && !local) {
        return err_set(ec, ERR_INVALID, "URL scheme must be http, https, unix, or unixs: %s", url);
    }
    if (local) {
        return OK;
    }
    const char *host = rest + 3;
    size_t n = strcspn(host, "/");
    const char *colon = NULL;
    for (size_t i = 0; i < n; i++) {
        colon = host[i] == ':' ? host + i : colon;
    }
    if (colon == NULL || (host[0] == '[' && colon > host && colon[-1] != ']')) {
        return err_set(ec, ERR_INVALID, "URL address does not have the form \"host:port\": %s", url);
    }
    if (strspn(colon + 1, "0123456789") < (size_t)(host + n - colon - 1)) {
        return err_set(ec, ERR_INVALID, "parse \"%s\": invalid port \"%.*s\" after host", url, (int)(host + n - colon), colon);
    }
    if (host[n] != '\0') {
        return err_set(ec, ERR_INVALID, "URL must not contain a path: %s", url);
    }
    return OK;
}
