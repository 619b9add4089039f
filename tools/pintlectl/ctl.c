/* ctl.c - from flags and environment to a connection. */
#include "tools/pintlectl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/srv/srv.h"
#include "base/log.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/environment.h"

#define SEND_DEFAULT (2u * 1024u * 1024u)
#define RECEIVE_DEFAULT 2147483647u
#define NS_PER_MS 1000000

_Noreturn void ctl_fail(int code, const char *fmt, ...)
{
    (void)fflush(stdout);
    va_list args;
    va_start(args, fmt);
    (void)fputs("Error: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputs("\n", stderr);
    va_end(args);
    exit(code);
}

_Noreturn void ctl_fail_with(int code, const struct failure *f)
{
    char text[FAILURE_TEXT_MAX];
    failure_text(f, text);
    ctl_fail(code, "%s", text);
}

const char *ctl_errno(struct arena *a, int errnum)
{
    const char *text = strerror(errnum);
    char *copy = cli_dup(a, text, strlen(text));
    if (copy[0] >= 'A' && copy[0] <= 'Z' && !(copy[1] >= 'A' && copy[1] <= 'Z')) {
        copy[0] = (char)(copy[0] - 'A' + 'a');
    }
    return copy;
}

/* ---- endpoints ---- */

static const char *trimmed(struct arena *a, const char *s)
{
    static const char blanks[] = " \t\n\v\f\r";
    s += strspn(s, blanks);
    size_t n = strlen(s);
    while (n > 0 && strchr(blanks, s[n - 1]) != NULL) {
        n--;
    }
    return cli_dup(a, s, n);
}

/* Endpoints by SRV records; false: no domain is given, or nothing usable was found. */
static bool discover(struct ctl *ctl)
{
    const char *domain = flag_text(&ctl->flags, "discovery-srv");
    if (*domain == '\0') {
        return false;
    }
    struct srv_endpoints found = {0};
    struct err_ctx ec = {{0}};
    if (srv_clients(domain, flag_text(&ctl->flags, "discovery-srv-name"), &found, &ec) != OK) {
        ctl_fail(EXIT_ERROR, "%s", ec.text);
    }
    const char **list = cli_alloc(ctl->arena, (found.records.n + 1) * sizeof(*list));
    size_t n = 0;
    for (size_t i = 0; found.texts[i] != NULL && i < found.records.n; i++) {
        if (!flag_yes(&ctl->flags, "insecure-discovery") &&
            strncmp(found.texts[i], "http://", 7) == 0) {
            (void)fprintf(stderr, "ignoring discovered insecure endpoint \"%s\"\n", found.texts[i]);
            continue;
        }
        list[n++] = cli_dup(ctl->arena, found.texts[i], strlen(found.texts[i]));
    }
    srv_endpoints_deinit(&found);
    ctl->options.endpoints = list;
    ctl->options.n_endpoints = n;
    return n > 0;
}

static void set_endpoints(struct ctl *ctl)
{
    if (discover(ctl)) {
        return;
    }
    const struct flag_value *v = flag(&ctl->flags, "endpoints");
    const char **list = cli_alloc(ctl->arena, (v->n_list + 1) * sizeof(*list));
    for (size_t i = 0; i < v->n_list; i++) {
        list[i] = trimmed(ctl->arena, v->list[i]);
    }
    ctl->options.endpoints = list;
    ctl->options.n_endpoints = v->n_list;
}

/* ---- security ---- */

static const char *file_flag(const struct ctl *ctl, const char *name)
{
    const struct flag_value *v = flag(&ctl->flags, name);
    if (v->changed && *v->text == '\0') {
        ctl_fail(EXIT_BAD_ARGS, "empty string is passed to --%s option", name);
    }
    return *v->text == '\0' ? NULL : v->text;
}

static void set_tls_flags(struct ctl *ctl)
{
    struct client_tls *t = &ctl->options.client.tls;
    t->cert_file = file_flag(ctl, "cert");
    t->key_file = file_flag(ctl, "key");
    t->ca_file = file_flag(ctl, "cacert");
    t->insecure_skip_verify = flag_yes(&ctl->flags, "insecure-skip-tls-verify");
}

static void must_read(struct ctl *ctl, const char *file)
{
    if (file == NULL) {
        return;
    }
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        ctl_fail(EXIT_BAD_ARGS, "open %s: %s", file, ctl_errno(ctl->arena, errno));
    }
    (void)close(fd);
}

/* What makes endpoints without a scheme use TLS; its files have to be usable in any case. */
void ctl_check_tls(struct ctl *ctl, struct client_options *o, bool insecure_transport)
{
    const struct client_tls *t = &o->tls;
    bool any = t->cert_file != NULL || t->key_file != NULL || t->ca_file != NULL;
    if ((t->cert_file == NULL) != (t->key_file == NULL)) {
        ctl_fail(EXIT_BAD_ARGS, "KeyFile and CertFile must both be present[key: %s, cert: %s]",
                 t->key_file == NULL ? "" : t->key_file, t->cert_file == NULL ? "" : t->cert_file);
    }
    must_read(ctl, t->cert_file);
    must_read(ctl, t->key_file);
    must_read(ctl, t->ca_file);
    if (any) {
        SSL_CTX *trial = NULL;
        struct err_ctx ec = {{0}};
        const struct tls_context_config c = {.cert_file = t->cert_file,
                                             .key_file = t->key_file,
                                             .trust = true,
                                             .ca_file = t->ca_file,
                                             .min = t->min,
                                             .max = t->max};
        if (tls_context_create(&c, &trial, &ec) != OK) {
            ctl_fail(EXIT_BAD_ARGS, "%s", ec.text);
        }
        SSL_CTX_free(trial);
    }
    o->secure = any || !insecure_transport || t->insecure_skip_verify;
}

void ctl_split_user(struct ctl *ctl, const char *user, const char *password, const char *prompt,
                    struct conn_options *o)
{
    const char *colon = strchr(user, ':');
    if (*user == '\0') {
        return;
    }
    if (*password != '\0') {
        o->user = user;
        o->password = password;
    } else if (colon == NULL) {
        o->user = user;
        o->password = ctl_ask_password(ctl, prompt);
    } else {
        o->user = cli_dup(ctl->arena, user, (size_t)(colon - user));
        o->password = colon + 1;
    }
    /* Without a name or a password nobody logs in. */
    if (*o->user == '\0' || *o->password == '\0') {
        o->user = NULL;
    }
}

/* ---- the rest ---- */

static void set_format(struct ctl *ctl)
{
    static const char *const names[] = {[FORMAT_SIMPLE] = "simple",
                                        [FORMAT_FIELDS] = "fields",
                                        [FORMAT_JSON] = "json",
                                        [FORMAT_PROTOBUF] = "protobuf",
                                        [FORMAT_TABLE] = "table"};
    ctl->hex = flag_yes(&ctl->flags, "hex");
    for (enum format f = FORMAT_SIMPLE; f <= FORMAT_TABLE; f++) {
        if (strcmp(names[f], flag_text(&ctl->flags, "write-out")) == 0) {
            ctl->format = f;
            return;
        }
    }
    ctl_fail(EXIT_BAD_FEATURE, "unsupported output format");
}

static uint32_t keepalive_ms(const struct ctl *ctl, const char *name)
{
    int64_t ns = flag_number(&ctl->flags, name);
    return ns <= 0                        ? 0
           : ns / NS_PER_MS >= UINT32_MAX ? UINT32_MAX
                                          : (uint32_t)((ns + NS_PER_MS - 1) / NS_PER_MS);
}

static void set_limits(const struct ctl *ctl, struct conn_options *o)
{
    int64_t send = flag_number(&ctl->flags, "max-request-bytes");
    int64_t receive = flag_number(&ctl->flags, "max-recv-bytes");
    int64_t dial = flag_number(&ctl->flags, "dial-timeout");
    o->send_given = send > 0;
    o->max_send_bytes = send > 0 ? (uint64_t)send : SEND_DEFAULT;
    o->max_receive_bytes = receive > 0 ? (uint64_t)receive : RECEIVE_DEFAULT;
    o->dial_timeout_ns = dial > 0 ? (uint64_t)dial : UINT64_MAX / 2;
    o->client.keepalive_ms = keepalive_ms(ctl, "keepalive-time");
    if (o->client.keepalive_ms > 0 && o->client.keepalive_ms < CLIENT_KEEPALIVE_MIN_MS) {
        o->client.keepalive_ms = CLIENT_KEEPALIVE_MIN_MS;
    }
    o->client.keepalive_timeout_ms = keepalive_ms(ctl, "keepalive-timeout");
}

struct conn_options ctl_base_options(const struct ctl *ctl)
{
    struct conn_options o = {0};
    set_limits(ctl, &o);
    return o;
}

void ctl_configure(struct ctl *ctl)
{
    environment_apply(ctl);
    set_endpoints(ctl);
    set_limits(ctl, &ctl->options);
    set_tls_flags(ctl);
    const char *token = flag_text(&ctl->flags, "auth-jwt-token");
    if (*token != '\0') {
        ctl->options.token = token;
    } else {
        ctl_split_user(ctl, flag_text(&ctl->flags, "user"), flag_text(&ctl->flags, "password"),
                       "Password: ", &ctl->options);
    }
    set_format(ctl);
    /* Who wants secure servers of a domain alone wants TLS with those of --endpoints, too, which
     * are asked when the domain has none. */
    bool secure_discovery = !flag_yes(&ctl->flags, "insecure-discovery") &&
                            *flag_text(&ctl->flags, "discovery-srv") != '\0';
    ctl_check_tls(ctl, &ctl->options.client,
                  flag_yes(&ctl->flags, "insecure-transport") && !secure_discovery);
}

struct conn *ctl_open(const struct conn_options *o)
{
    struct failure f = {0};
    struct conn *c = NULL;
    if (o->n_endpoints == 0) {
        ctl_fail(EXIT_BAD_CONNECTION, "etcdclient: no available endpoints");
    }
    if (o->send_given && o->max_receive_bytes < o->max_send_bytes) {
        ctl_fail(
            EXIT_BAD_CONNECTION,
            "gRPC message recv limit (%llu bytes) must be greater than send limit (%llu bytes)",
            (unsigned long long)o->max_receive_bytes, (unsigned long long)o->max_send_bytes);
    }
    if (!conn_open(o, &c, &f)) {
        ctl_fail_with(EXIT_BAD_CONNECTION, &f);
    }
    return c;
}

void ctl_connect(struct ctl *ctl)
{
    ctl_configure(ctl);
    ctl->conn = ctl_open(&ctl->options);
}

struct conn_options ctl_options_for(const struct ctl *ctl, const char *const *endpoint)
{
    struct conn_options o = ctl->options;
    o.endpoints = endpoint;
    o.n_endpoints = 1;
    return o;
}

deadline_ns ctl_deadline(const struct ctl *ctl)
{
    int64_t ns = flag_number(&ctl->flags, "command-timeout");
    return now_ns() + (ns > 0 ? (uint64_t)ns : 0);
}

void *ctl_call(struct ctl *ctl, const char *path, const ProtobufCMessage *request, bool repeatable,
               const ProtobufCMessageDescriptor *answer, deadline_ns deadline, int code)
{
    struct failure f;
    void *reply = NULL;
    if (!conn_call(ctl->conn, path, request, repeatable, answer, deadline, &reply, &f)) {
        ctl_fail_with(code, &f);
    }
    return reply;
}

int64_t ctl_lease_id(const char *text)
{
    int64_t id = 0;
    struct err_ctx why;
    if (text_int(text, 16, &id, &why) != OK) {
        ctl_fail(EXIT_BAD_ARGS, "bad lease ID arg (%s), expecting ID in Hex", why.text);
    }
    return id;
}

uint64_t ctl_member_id(const char *text)
{
    uint64_t id = 0;
    struct err_ctx why;
    if (text_uint(text, 16, &id, &why) != OK) {
        ctl_fail(EXIT_BAD_ARGS, "bad member ID arg (%s), expecting ID in Hex", why.text);
    }
    return id;
}

struct slice ctl_prefix_end(struct arena *a, struct slice prefix)
{
    uint8_t *end = cli_alloc(a, prefix.len + 1);
    if (prefix.len > 0) {
        memcpy(end, prefix.data, prefix.len);
    }
    for (size_t n = prefix.len; n > 0; n--) {
        if (end[n - 1] < 0xff) {
            end[n - 1]++;
            return slice_of(end, n);
        }
    }
    return slice_of("\0", 1);
}

struct key_range ctl_prefix_range(struct arena *a, struct slice prefix)
{
    return prefix.len == 0 ? ctl_from_range(prefix)
                           : (struct key_range){prefix, ctl_prefix_end(a, prefix)};
}

struct key_range ctl_from_range(struct slice key)
{
    return (struct key_range){key.len == 0 ? slice_of("\0", 1) : key, slice_of("\0", 1)};
}
