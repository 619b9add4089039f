/* advertised.c - see advertised.h. */
#include "tools/pintle/advertised.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "tools/pintle/urls.h"

/* The members of `urls` that are not in `in`, as "NAME=url,..."; NULL: there are none. The caller frees. */
static char *missing_from(const char *const *urls, const char *const *in, const char *prefix)
{
    const char **missing = xcalloc(urls_count(urls) + 1, sizeof(*missing));
    size_t n = 0;
    for (size_t i = 0; urls[i] != NULL; i++) {
        size_t k = 0;
        while (in[k] != NULL && strcmp(in[k], urls[i]) != 0) {
            k++;
        }
        if (in[k] == NULL) {
            missing[n++] = urls[i];
        }
    }
    char *text = n == 0 ? NULL : urls_join(missing, prefix, ",");
    free(missing);
    return text;
}

enum err advertised_check(const struct member_peer *own, const char *const *advertised, struct logger *log, struct err_ctx *ec)
{
    struct err_ctx why = {{0}};
    if (urls_compare(advertised, own->peer_urls, clock_now_ms(clock_real()) + URLS_RESOLVE_MS, log, &why) == OK) {
        return OK;
    }
    char *prefix = xasprintf("%s=", own->name);
    char *all = urls_join(advertised, "", ",");
    char *named = urls_join(own->peer_urls, prefix, ",");
    char *missing = missing_from(own->peer_urls, advertised, prefix);
    enum err e;
    if (missing != NULL) {
        e = err_set(ec, ERR_INVALID, "--initial-cluster has %s but missing from --initial-advertise-peer-urls=%s (%s)", missing, all, why.text);
    } else if ((missing = missing_from(advertised, own->peer_urls, "")) != NULL) {
        e = err_set(ec, ERR_INVALID, "--initial-advertise-peer-urls has %s but missing from --initial-cluster=%s", missing, named);
    } else {
        e = err_set(ec, ERR_INVALID, "failed to resolve %s to match --initial-cluster=%s (%s)", all, named, why.text);
    }
    free(missing);
    free(named);
    free(all);
    free(prefix);
    return e;
}
