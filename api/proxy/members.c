/* members.c - Cluster: the proxies that stand for the cluster's members, and this one's place among them.
 *
 *   session:  grant a lease ──► put the key with it ──► keep alive, at a third of its time ──► (lost: a second later, from the start)
 *
 * Whoever asks for the members of a cluster wants to know where to connect, and that shall be the proxies. They are looked up when asked for, so
 * there is nothing to be kept up to date. A proxy's key is <prefix>/<url>, its value the JSON that etcd's naming package writes.
 */
#include <stdlib.h>

#include "api/gateway/json.h"
#include "api/proxy/internal.h"
#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

#define RETRY_MS 1000u /* one try a second, as etcd */
#define MS_PER_S 1000u

enum { GRANT_TTL = 1, GRANT_REPLY_ID = 2, KEEP_ID = 1, KEEP_REPLY_TTL = 3 };
enum { PUT_KEY = 1, PUT_VALUE = 2, PUT_LEASE = 3 };
enum { RANGE_KEY = 1, RANGE_END = 2, RANGE_SERIALIZABLE = 7, RANGE_KVS = 2, KV_VALUE = 5 };
enum { LIST_MEMBERS = 2, MEMBER_NAME = 2, MEMBER_CLIENT_URLS = 4 };

enum session { SESSION_NONE, SESSION_GRANT, SESSION_PUT, SESSION_KEEP };

struct members {
    struct proxy *proxy;
    enum session session;
    struct up_call up; /* of the session */
    struct loop_timer timer;
    int64_t lease;
};

/* --- JSON ------------------------------------------------------------------------------------------------------ */

static void add_json(struct bytes *b, struct slice s)
{
    bytes_add(b, "\"", 1);
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c == '"' || c == '\\') {
            bytes_printf(b, "\\%c", c);
        } else if (c < 0x20) {
            bytes_printf(b, "\\u%04x", c);
        } else {
            bytes_add(b, &c, 1);
        }
    }
    bytes_add(b, "\"", 1);
}

/* Copy the text member `name` of a JSON object. false: it has none, or is no object. */
static bool find_text(struct slice object, const char *name, struct bytes *out)
{
    struct gjson j;
    bool first = true;
    bool found = false;
    gjson_init(&j, object, NULL);
    enum err e = gjson_enter(&j, '{', &first);
    while (e == OK && (e = gjson_next(&j, '}', &first)) == OK) {
        struct slice s;
        e = gjson_name(&j, &s);
        bool this = e == OK && slice_eq(s, slice_str(name)) && gjson_peek(&j) == JSON_STRING;
        if (e == OK) {
            e = this ? gjson_string(&j, &s) : gjson_skip(&j);
        }
        if (e == OK && this) {
            bytes_reset(out);
            bytes_add(out, s.data, s.len);
            found = true;
        }
    }
    gjson_deinit(&j);
    return found && e == ERR_END;
}

/* --- the session ------------------------------------------------------------------------------------------------- */

static void at(struct members *m, uint64_t ms)
{
    struct loop *l = m->proxy->cfg.loop;
    loop_timer_set(l, &m->timer, loop_now_ms(l) + ms);
}

static void step(struct members *m, enum session next, const char *path, const struct bytes *request)
{
    const struct up_head head = {.path = path, .repeatable = next == SESSION_PUT};
    m->session = next;
    up_open(m->proxy->up, &m->up, &head, bytes_slice(request));
}

static void add_key(const struct proxy *p, const char *last, struct bytes *out)
{
    bytes_add(out, p->cfg.name_space, p->prefix.len);
    bytes_add_str(out, p->cfg.resolver_prefix);
    bytes_add_str(out, "/");
    bytes_add_str(out, last);
}

static void grant(struct members *m)
{
    struct bytes b = {0};
    wire_add_uint(&b, GRANT_TTL, m->proxy->cfg.resolver_ttl_s);
    step(m, SESSION_GRANT, "/etcdserverpb.Lease/LeaseGrant", &b);
    bytes_deinit(&b);
}

static void put(struct members *m)
{
    const struct proxy_config *cfg = &m->proxy->cfg;
    struct bytes b = {0};
    struct bytes key = {0};
    struct bytes value = {0};
    struct bytes meta = {0};
    add_key(m->proxy, cfg->advertise_url, &key);
    bytes_add_str(&meta, "{\"name\":");
    add_json(&meta, slice_str(cfg->host_name));
    bytes_add_str(&meta, "}");
    bytes_add_str(&value, "{\"Op\":0,\"Addr\":");
    add_json(&value, slice_str(cfg->advertise_url));
    bytes_add_str(&value, ",\"Metadata\":");
    add_json(&value, bytes_slice(&meta));
    bytes_add_str(&value, "}");
    wire_add_bytes(&b, PUT_KEY, bytes_slice(&key));
    wire_add_bytes(&b, PUT_VALUE, bytes_slice(&value));
    wire_add_int(&b, PUT_LEASE, m->lease);
    step(m, SESSION_PUT, "/etcdserverpb.KV/Put", &b);
    bytes_deinit(&b);
    bytes_deinit(&key);
    bytes_deinit(&value);
    bytes_deinit(&meta);
}

static void keep_alive(struct members *m)
{
    struct bytes b = {0};
    wire_add_int(&b, KEEP_ID, m->lease);
    step(m, SESSION_KEEP, "/etcdserverpb.Lease/LeaseKeepAlive", &b);
    bytes_deinit(&b);
}

static int64_t number_in(struct slice message, uint32_t number)
{
    struct wire_field f;
    while (wire_next(&message, &f) == OK) {
        if (f.number == number && f.type == WIRE_VARINT) {
            return (int64_t)f.value;
        }
    }
    return 0;
}

static void begin_anew(struct members *m)
{
    m->session = SESSION_NONE;
    at(m, RETRY_MS);
}

static void on_answer(struct members *m, struct slice reply)
{
    const struct proxy_config *cfg = &m->proxy->cfg;
    switch (m->session) {
    case SESSION_NONE:
        return;
    case SESSION_GRANT:
        m->lease = number_in(reply, GRANT_REPLY_ID);
        up_close(&m->up);
        put(m);
        return;
    case SESSION_PUT:
        up_close(&m->up);
        log_info(cfg->log, "registered session with lease", F_STR("addr", cfg->advertise_url), F_INT("lease-ttl", cfg->resolver_ttl_s));
        break;
    case SESSION_KEEP: {
        int64_t ttl = number_in(reply, KEEP_REPLY_TTL);
        up_close(&m->up);
        if (ttl <= 0) {
            log_msg(cfg->log, LOG_WARN, "session expired; possible network partition or server restart");
            log_msg(cfg->log, LOG_WARN, "creating a new session to rejoin");
            begin_anew(m);
            return;
        }
        break;
    }
    }
    m->session = SESSION_KEEP;
    at(m, (uint64_t)cfg->resolver_ttl_s * MS_PER_S / 3);
}

static void on_news(struct up_call *u)
{
    struct members *m = CONTAINER_OF(u, struct members, up);
    const struct client_status *status = up_status(u);
    struct slice reply;
    if (status == NULL) {
        return;
    }
    if (status->code == CLIENT_CODE_OK && up_front(u, &reply)) {
        on_answer(m, reply);
        return;
    }
    if (m->session == SESSION_KEEP) {
        at(m, RETRY_MS); /* the lease may well live: its next renewal tells */
    } else {
        log_warn(m->proxy->cfg.log, "failed to create a session", F_STR("error", status->text));
        begin_anew(m);
    }
    up_close(u);
}

static void on_timer(struct loop *l, struct loop_timer *t)
{
    (void)l;
    struct members *m = CONTAINER_OF(t, struct members, timer);
    if (m->session == SESSION_KEEP) {
        keep_alive(m);
    } else {
        grant(m);
    }
}

struct members *members_create(struct proxy *p)
{
    struct members *m = xcalloc(1, sizeof(*m));
    m->proxy = p;
    m->up.news = on_news;
    m->timer.fire = on_timer;
    return m;
}

void members_start(struct members *m)
{
    if (m->proxy->cfg.resolver_prefix[0] != '\0') {
        grant(m);
    }
}

/* --- MemberList ------------------------------------------------------------------------------------------------------- */

static void add_member(struct bytes *reply, struct slice name, struct slice url)
{
    struct bytes member = {0};
    wire_add_bytes(&member, MEMBER_NAME, name);
    wire_add_bytes(&member, MEMBER_CLIENT_URLS, url);
    wire_add_message(reply, LIST_MEMBERS, bytes_slice(&member));
    bytes_deinit(&member);
}

static void add_registered(struct bytes *reply, struct slice kv, struct bytes scratch[3])
{
    struct wire_field f;
    while (wire_next(&kv, &f) == OK) {
        if (f.number != KV_VALUE || f.type != WIRE_LEN) {
            continue;
        }
        bytes_reset(&scratch[2]);
        if (find_text(f.bytes, "Addr", &scratch[0]) && find_text(f.bytes, "Metadata", &scratch[1]) &&
            find_text(bytes_slice(&scratch[1]), "name", &scratch[2])) {
            add_member(reply, bytes_slice(&scratch[2]), bytes_slice(&scratch[0]));
        }
    }
}

static void reply_with(struct forward *f, struct slice kvs)
{
    const struct proxy_config *cfg = &f->proxy->cfg;
    struct bytes reply = {0};
    struct bytes scratch[3] = {{0}, {0}, {0}};
    struct wire_field field;
    size_t n = 0;
    while (wire_next(&kvs, &field) == OK && n < PROXY_MEMBERS_MAX) {
        if (field.number == RANGE_KVS && field.type == WIRE_LEN) {
            add_registered(&reply, field.bytes, scratch);
            n++;
        }
    }
    if (reply.len == 0) {
        add_member(&reply, slice_str(cfg->host_name), slice_str(cfg->advertise_url));
    }
    struct slice piece = bytes_slice(&reply);
    grpc_reply(f->call, &piece, 1);
    bytes_deinit(&reply);
    for (size_t i = 0; i < ARRAY_LEN(scratch); i++) {
        bytes_deinit(&scratch[i]);
    }
}

static void on_registered(struct up_call *u)
{
    struct forward *f = CONTAINER_OF(u, struct forward, up);
    const struct client_status *status = up_status(u);
    struct slice kvs = {NULL, 0};
    if (status == NULL) {
        return;
    }
    if (status->code == CLIENT_CODE_OK) {
        (void)up_front(u, &kvs); /* without it nobody is registered */
    }
    reply_with(f, kvs);
    up_close(u);
}

static bool before_list(struct forward *f, struct slice request)
{
    const struct proxy *p = f->proxy;
    (void)request;
    if (p->cfg.advertise_url[0] == '\0') {
        return false;
    }
    if (p->cfg.resolver_prefix[0] == '\0') {
        reply_with(f, (struct slice){NULL, 0});
        return true;
    }
    struct bytes key = {0};
    struct bytes b = {0};
    add_key(p, "", &key);
    wire_add_bytes(&b, RANGE_KEY, bytes_slice(&key));
    key.data[key.len - 1]++; /* behind '/' */
    wire_add_bytes(&b, RANGE_END, bytes_slice(&key));
    wire_add_bool(&b, RANGE_SERIALIZABLE, true);
    const struct up_head head = {.path = "/etcdserverpb.KV/Range", .repeatable = true};
    f->up.news = on_registered;
    up_open(p->up, &f->up, &head, bytes_slice(&b));
    bytes_deinit(&key);
    bytes_deinit(&b);
    return true;
}

const struct route cluster_routes[] = {
    {.path = "/etcdserverpb.Cluster/MemberAdd"},
    {.path = "/etcdserverpb.Cluster/MemberRemove"},
    {.path = "/etcdserverpb.Cluster/MemberUpdate"},
    {.path = "/etcdserverpb.Cluster/MemberList", .repeatable = true, .before = before_list},
    {.path = "/etcdserverpb.Cluster/MemberPromote"},
    {.path = NULL},
};
