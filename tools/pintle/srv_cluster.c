/* srv_cluster.c - see srv_cluster.h. */
#include "tools/pintle/srv_cluster.h"

#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "api/srv/srv.h"
#include "base/mem.h"
#include "base/slice.h"
#include "tools/pintle/urls.h"

/* One service's members, as "name=url" each. */
struct part {
    char **texts; /* owned, NULL-terminated */
    size_t n;
};

static void part_deinit(struct part *p)
{
    for (size_t i = 0; i < p->n; i++) {
        free(p->texts[i]);
    }
    free(p->texts);
}

static void part_add(struct part *p, char *text)
{
    p->texts = xrealloc(p->texts, (p->n + 2) * sizeof(*p->texts));
    p->texts[p->n++] = text;
    p->texts[p->n] = NULL;
}

/* "ip:port" of a host, as one of them stands for all; IPv4 if there is one. NULL: nobody knows it. The caller frees. */
static char *address_of(const char *host, const char *port, struct err_ctx *ec)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found = NULL;
    int rc = getaddrinfo(host, port, &hints, &found);
    if (rc != 0) {
        (void)err_set(ec, ERR_NOT_FOUND, "lookup %s: %s", host, rc == EAI_NONAME ? "no such host" : gai_strerror(rc));
        return NULL;
    }
    const struct addrinfo *a = found;
    while (a->ai_family != AF_INET && a->ai_next != NULL) {
        a = a->ai_next;
    }
    a = a->ai_family == AF_INET ? a : found;
    char ip[NI_MAXHOST] = "";
    rc = getnameinfo(a->ai_addr, a->ai_addrlen, ip, sizeof(ip), NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    return rc == 0 ? xasprintf("%s:%s", ip, port) : NULL;
}

/* The addresses of our own URLs, one each. */
static enum err own_addresses(const struct config *c, char **out, struct err_ctx *ec)
{
    for (size_t i = 0; c->advertise_peer[i] != NULL; i++) {
        const char *rest = strstr(c->advertise_peer[i], "://");
        rest = rest != NULL ? rest + 3 : c->advertise_peer[i];
        const char *colon = strrchr(rest, ':');
        if (colon == NULL) {
            return err_set(ec, ERR_INVALID, "address %s: missing port in address", rest);
        }
        bool v6 = rest[0] == '[' && colon > rest + 1 && colon[-1] == ']';
        char *host = v6 ? xstrndup(rest + 1, (size_t)(colon - rest) - 2) : xstrndup(rest, (size_t)(colon - rest));
        out[i] = address_of(host, colon + 1, ec);
        free(host);
        if (out[i] == NULL) {
            return ERR_NOT_FOUND;
        }
    }
    return OK;
}

/* A record's member; what cannot be resolved, or contradicts our own URL, is left out and told in `ec`. */
static void take(const struct config *c, char *const *own, const char *scheme, const char *service, const struct srv_record *r, unsigned *n_others,
                 struct part *out, struct err_ctx *ec)
{
    char *port = xasprintf("%u", r->port);
    char *address = address_of(r->host, port, ec);
    size_t i = 0;
    while (address != NULL && own[i] != NULL && strcmp(own[i], address) != 0) {
        i++;
    }
    const char *ours = address != NULL && own[i] != NULL ? c->advertise_peer[i] : NULL;
    size_t n_scheme = strlen(scheme);
    if (ours != NULL && (strncmp(ours, scheme, n_scheme) != 0 || ours[n_scheme] != ':')) {
        (void)err_set(ec, ERR_INVALID, "bootstrap at %s://%s:%s from DNS for %s has scheme mismatch with expected peer %s", scheme, r->host, port,
                      service, ours);
    } else if (ours != NULL) {
        part_add(out, xasprintf("%s=%s://%s:%s", c->name, scheme, r->host, port));
    } else if (address != NULL) {
        part_add(out, xasprintf("%u=%s://%s:%s", (*n_others)++, scheme, r->host, port));
    }
    free(address);
    free(port);
}

/* One of the two services. */
static enum err look_up(struct config *c, char *const *own, const char *scheme, const char *service, struct part *out, struct err_ctx *ec)
{
    struct srv_list found = {0};
    struct err_ctx why = {{0}};
    unsigned n_others = 0; /* numbered from 0 for each service, as by etcd */
    enum err e = srv_lookup(service, c->srv_domain, &found, &why);
    for (size_t i = 0; i < found.n; i++) {
        take(c, own, scheme, service, &found.records[i], &n_others, out, &why);
    }
    if (e == OK && out->n == 0) {
        e = ERR_NOT_FOUND;
    }
    srv_list_deinit(&found);
    if (e != OK) {
        e = err_set(ec, e, "error querying DNS SRV records for _%s %s", service, why.text);
    }
    log_info(c->log, strcmp(scheme, "https") == 0 ? "get cluster for etcd-server-ssl SRV" : "get cluster for etcd-server SRV",
             F_STR("service-scheme", scheme), F_STR("service-name", service), F_STR("server-name", c->name), F_STR("discovery-srv", c->srv_domain),
             F_STRS("advertise-peer-urls", (const char *const *)c->advertise_peer),
             F_STRS("found-cluster", out->texts != NULL ? (const char *const *)out->texts : (const char *const[]){NULL}),
             F_STR("error", e == OK ? "" : ec->text));
    return e;
}

enum err srv_cluster(struct config *c, char **cluster, struct err_ctx *ec)
{
    static const char *const schemes[] = {"https", "http"};
    const char *suffix = flag_get(&c->flags, "discovery-srv-name")->text;
    size_t n_own = urls_count((const char *const *)c->advertise_peer);
    char **own = xcalloc(n_own + 1, sizeof(*own));
    struct bytes all = {0};
    struct err_ctx why[2] = {{{0}}, {{0}}};
    enum err e = own_addresses(c, own, ec);
    for (unsigned i = 0; i < 2 && e == OK; i++) {
        struct part p = {0};
        char *service = xasprintf("etcd-server%s%s%s", i == 0 ? "-ssl" : "", suffix[0] != '\0' ? "-" : "", suffix);
        (void)look_up(c, own, schemes[i], service, &p, &why[i]); /* told below when both fail */
        for (size_t k = 0; k < p.n; k++) {
            log_info(c->log, "got bootstrap from DNS for etcd-server", F_STR("node", p.texts[k]));
            bytes_printf(&all, "%s%s", all.len > 0 ? "," : "", p.texts[k]);
        }
        part_deinit(&p);
        free(service);
    }
    if (e == OK && why[0].text[0] != '\0' && why[1].text[0] != '\0') {
        log_warn(c->log, "failed to resolve during SRV discovery", F_STR("error", why[0].text));
    }
    if (e == OK && all.len == 0) {
        e = err_set(ec, ERR_NOT_FOUND, "%s\n%s", why[0].text, why[1].text);
    }
    if (e == OK) {
        *cluster = xstrndup((const char *)all.data, all.len);
    }
    for (size_t i = 0; i < n_own; i++) {
        free(own[i]);
    }
    free(own);
    bytes_deinit(&all);
    return e;
}
