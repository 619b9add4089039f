/* srv_clients.c - see srv_clients.h. */
#include "tools/pintle/srv_clients.h"

#include <stdlib.h>
#include <string.h>

#include "api/client/client.h"
#include "base/slice.h"

#define DIAL_MS 5000u

/* Is this the domain's own server, by its certificate? What is wrong with it is added to `story`. */
static bool is_secure(const struct srv_wanted *w, const char *endpoint, struct bytes *story)
{
    const char *comma = story->len > 0 ? "," : "";
    if (strncmp(endpoint, "https://", 8) != 0) {
        bytes_printf(story, "%s\"%s\" is insecure", comma, endpoint);
        return false;
    }
    struct client_options o = {.tls = {.server_name = w->domain}};
    o.tls.ca_file = w->ca_file != NULL && w->ca_file[0] != '\0' ? w->ca_file : NULL;
    struct client *c = NULL;
    struct err_ctx why = {{0}};
    enum err e = client_connect_with(endpoint, &o, DIAL_MS, &c, &why);
    if (e != OK) {
        bytes_printf(story, "%s\"%s\" failed to dial (%s)", comma, endpoint, why.text);
    }
    client_close(&c);
    return e == OK;
}

/* Keep the secure ones. */
static void sift(const struct srv_wanted *w, struct srv_endpoints *s, struct bytes *story)
{
    size_t kept = 0;
    for (size_t i = 0; i < s->records.n; i++) {
        if (is_secure(w, s->texts[i], story)) {
            s->texts[kept] = s->texts[i];
            s->records.records[kept++] = s->records.records[i];
        } else {
            free(s->texts[i]);
            free(s->records.records[i].host);
        }
    }
    s->records.n = kept;
    s->texts[kept] = NULL;
}

enum err srv_clients_find(const struct srv_wanted *w, struct logger *log, struct srv_endpoints *out, struct err_ctx *ec)
{
    *out = (struct srv_endpoints){0};
    if (w->domain[0] == '\0') {
        return OK;
    }
    enum err e = srv_clients(w->domain, w->name, out, ec);
    if (e != OK) {
        return e;
    }
    log_info(log, "discovered cluster from SRV", F_STR("srv-server", w->domain), F_STRS("endpoints", (const char *const *)out->texts));
    if (w->insecure) {
        return OK;
    }
    struct bytes story = {0};
    log_info(log, "validating discovered SRV endpoints", F_STR("srv-server", w->domain), F_STRS("endpoints", (const char *const *)out->texts));
    sift(w, out, &story);
    if (story.len > 0) {
        bytes_printf(&story, "%c", '\0');
        log_warn(log, "failed to validate discovered endpoints", F_STR("srv-server", w->domain), F_STRS("endpoints", (const char *const *)out->texts),
                 F_STR("error", (const char *)story.data));
    } else {
        log_info(log, "using validated discovered SRV endpoints", F_STR("srv-server", w->domain),
                 F_STRS("endpoints", (const char *const *)out->texts));
    }
    bytes_deinit(&story);
    return OK;
}
