/* srv.c - see srv.h. */
#include "api/srv/srv.h"

#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <ctype.h>
#include <netdb.h>
#include <resolv.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/mem.h"

#define ANSWER_BYTES NS_MAXMSG
#define SRV_FIXED_BYTES 6u /* priority, weight, port */

/* --- asking ------------------------------------------------------------------------------------------------------ */

/* The server that is asked first, as Go's texts name it. */
static void server_text(const struct __res_state *state, char *out, size_t n)
{
    char address[INET_ADDRSTRLEN] = "";
    if (state->nscount > 0 && state->nsaddr_list[0].sin_family == AF_INET) {
        (void)inet_ntop(AF_INET, &state->nsaddr_list[0].sin_addr, address, sizeof(address));
        (void)snprintf(out, n, " on %s:%u", address, ntohs(state->nsaddr_list[0].sin_port));
    } else {
        out[0] = '\0';
    }
}

/* A host as it may stand in a URL. */
static bool is_host(const char *name)
{
    size_t n = strlen(name);
    for (size_t i = 0; i < n; i++) {
        if (!isalnum((unsigned char)name[i]) && strchr("-_.", name[i]) == NULL) {
            return false;
        }
    }
    return n > 0 && name[0] != '.';
}

static enum err take_record(ns_msg *message, const ns_rr *r, struct srv_list *out)
{
    char host[NS_MAXDNAME];
    const uint8_t *data = ns_rr_rdata(*r);
    if (ns_rr_rdlen(*r) <= SRV_FIXED_BYTES ||
        ns_name_uncompress(ns_msg_base(*message), ns_msg_end(*message), data + SRV_FIXED_BYTES, host, sizeof(host)) < 0) {
        return ERR_CORRUPT;
    }
    size_t n = strlen(host);
    if (n > 0 && host[n - 1] == '.') {
        host[n - 1] = '\0';
    }
    if (!is_host(host)) {
        return ERR_INVALID;
    }
    out->records = xrealloc(out->records, (out->n + 1) * sizeof(*out->records));
    out->records[out->n++] = (struct srv_record){.host = xstrdup(host),
                                                 .priority = (uint16_t)ns_get16(data),
                                                 .weight = (uint16_t)ns_get16(data + 2),
                                                 .port = (uint16_t)ns_get16(data + 4)};
    return OK;
}

static enum err parse(const uint8_t *answer, int len, struct srv_list *out)
{
    ns_msg message;
    if (ns_initparse(answer, len, &message) != 0) {
        return ERR_CORRUPT;
    }
    enum err e = OK;
    for (int i = 0; i < ns_msg_count(message, ns_s_an) && out->n < SRV_RECORDS_MAX && e == OK; i++) {
        ns_rr r;
        if (ns_parserr(&message, ns_s_an, i, &r) != 0) {
            e = ERR_CORRUPT;
        } else if (ns_rr_type(r) == ns_t_srv) {
            e = take_record(&message, &r, out);
        }
    }
    return e == OK && out->n == 0 ? ERR_NOT_FOUND : e;
}

/* --- order --------------------------------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
    const struct srv_record *x = a;
    const struct srv_record *y = b;
    return x->priority != y->priority ? (x->priority > y->priority) - (x->priority < y->priority) : (x->weight > y->weight) - (x->weight < y->weight);
}

static uint32_t below(uint32_t n)
{
    uint32_t r = 0;
    ssize_t got = getrandom(&r, sizeof(r), 0); /* cannot fail for so few bytes; 0 would do as well */
    return got == (ssize_t)sizeof(r) ? r % n : 0;
}

/* RFC 2782: one after the other is drawn, each by the share that its weight has in what is left. */
static void draw(struct srv_record *r, size_t n)
{
    for (; n > 1; r++, n--) {
        uint32_t sum = 0;
        for (size_t i = 0; i < n; i++) {
            sum += r[i].weight;
        }
        uint32_t at = below(sum + 1);
        size_t chosen = 0;
        uint32_t running = r[0].weight;
        while (running < at) {
            running += r[++chosen].weight;
        }
        struct srv_record first = r[chosen];
        memmove(r + 1, r, chosen * sizeof(*r));
        r[0] = first;
    }
}

static void order(struct srv_list *l)
{
    qsort(l->records, l->n, sizeof(*l->records), compare);
    for (size_t i = 0; i < l->n;) {
        size_t end = i;
        while (end < l->n && l->records[end].priority == l->records[i].priority) {
            end++;
        }
        draw(l->records + i, end - i);
        i = end;
    }
}

/* --- public ---------------------------------------------------------------------------------------------------------- */

enum err srv_lookup(const char *service, const char *domain, struct srv_list *out, struct err_ctx *ec)
{
    struct __res_state state = {0};
    struct srv_list found = {0};
    char server[64] = "";
    if (res_ninit(&state) != 0) {
        return err_set(ec, ERR_IO, "lookup _%s._tcp.%s: no name servers", service, domain);
    }
    server_text(&state, server, sizeof(server));
    char *name = xasprintf("_%s._tcp.%s", service, domain);
    uint8_t *answer = xalloc(ANSWER_BYTES);
    int len = res_nsearch(&state, name, ns_c_in, ns_t_srv, answer, ANSWER_BYTES);
    bool gone = len < 0 && (state.res_h_errno == HOST_NOT_FOUND || state.res_h_errno == NO_DATA);
    enum err e = len >= 0 ? parse(answer, len < ANSWER_BYTES ? len : ANSWER_BYTES, &found) : gone ? ERR_NOT_FOUND : ERR_IO;
    res_nclose(&state);
    free(answer);
    if (e == OK) {
        order(&found);
        *out = found;
    } else {
        srv_list_deinit(&found);
        e = err_set(ec, e, "lookup %s%s: %s", name, server,
                    e == ERR_NOT_FOUND ? "no such host" : e == ERR_IO ? "server misbehaving" : "SRV response contained invalid names");
    }
    free(name);
    return e;
}

void srv_list_deinit(struct srv_list *l)
{
    for (size_t i = 0; i < l->n; i++) {
        free(l->records[i].host);
    }
    free(l->records);
    *l = (struct srv_list){0};
}

/* All of `from` goes to `to`. */
static void append(struct srv_endpoints *to, const char *scheme, struct srv_list *from)
{
    size_t n = to->records.n;
    to->texts = xrealloc(to->texts, (n + from->n + 1) * sizeof(*to->texts));
    to->records.records = xrealloc(to->records.records, (n + from->n + 1) * sizeof(*to->records.records));
    for (size_t i = 0; i < from->n; i++) {
        to->texts[n + i] = xasprintf("%s://%s:%u", scheme, from->records[i].host, from->records[i].port);
        to->records.records[n + i] = from->records[i];
    }
    to->records.n = n + from->n;
    to->texts[to->records.n] = NULL;
    free(from->records);
    *from = (struct srv_list){0};
}

enum err srv_clients(const char *domain, const char *name, struct srv_endpoints *out, struct err_ctx *ec)
{
    struct err_ctx why[2] = {{{0}}, {{0}}};
    struct srv_list found[2] = {{0}};
    bool any = false;
    *out = (struct srv_endpoints){0};
    for (unsigned i = 0; i < 2; i++) {
        char *service = xasprintf("etcd-client%s%s%s", i == 0 ? "-ssl" : "", name[0] != '\0' ? "-" : "", name);
        any |= srv_lookup(service, domain, &found[i], &why[i]) == OK;
        free(service);
    }
    if (!any) {
        return err_set(ec, ERR_NOT_FOUND, "dns lookup errors: %s and %s", why[0].text, why[1].text);
    }
    append(out, "https", &found[0]);
    append(out, "http", &found[1]);
    return OK;
}

void srv_endpoints_deinit(struct srv_endpoints *e)
{
    for (size_t i = 0; e->texts != NULL && e->texts[i] != NULL; i++) {
        free(e->texts[i]);
    }
    free(e->texts);
    srv_list_deinit(&e->records);
    e->texts = NULL;
}
