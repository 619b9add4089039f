/* auth_tokens.c - see auth_tokens.h. */
#include "api/etcd/auth_tokens.h"

#include <pthread.h>
#include <stdlib.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include "api/etcd/auth_jwt.h"
#include "api/etcd/auth_token_simple.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mem.h"

#define JWT_TTL_S_DEFAULT 300
#define OPTIONS_MAX 16u /* in one value of --auth-token */

struct auth_tokens {
    enum auth_token_kind kind;
    const struct clock *clock; /* borrowed */
    struct jwt *jwt;           /* owned */
    struct bytes unknown;      /* with a NUL */
    pthread_mutex_t lock;      /* guards `simple` */
    struct simple_tokens *simple;
};

/* --- the option
 * ----------------------------------------------------------------------------------- */

struct option {
    char *name; /* both point into a copy of the text */
    char *value;
};
struct options {
    char *text; /* owned; the kind comes first */
    struct option v[OPTIONS_MAX];
    size_t n;
};

static enum err invalid(struct err_ctx *ec)
{
    return err_set(ec, ERR_INVALID, "auth: invalid auth options");
}

static const char *value_of(const struct options *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++) {
        if (strcmp(o->v[i].name, name) == 0) {
            return o->v[i].value;
        }
    }
    return "";
}

static bool has_option(const struct options *o, const char *name)
{
    for (size_t i = 0; i < o->n; i++) {
        if (strcmp(o->v[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* "kind,name=value,...": each name once, one equals sign in each. */
static enum err split_options(const char *option, struct options *o, struct err_ctx *ec)
{
    *o = (struct options){.text = xstrdup(option)};
    char *rest = strchr(o->text, ',');
    while (rest != NULL) {
        *rest++ = 0;
        char *name = rest;
        rest = strchr(name, ',');
        char *equals = strchr(name, '=');
        if (equals == NULL || (rest != NULL && equals > rest) || o->n == OPTIONS_MAX) {
            return invalid(ec);
        }
        *equals = 0;
        char *more = strchr(equals + 1, '=');
        if ((more != NULL && (rest == NULL || more < rest)) || has_option(o, name)) {
            return invalid(ec);
        }
        o->v[o->n++] = (struct option){name, equals + 1};
    }
    return OK;
}

static enum err read_key(const struct options *o, const char *name, struct vfs *vfs,
                         struct bytes *out, struct err_ctx *ec)
{
    const char *path = value_of(o, name);
    struct err_ctx why = {{0}};
    if (path[0] == 0) {
        return OK;
    }
    enum err err = vfs_read_file(vfs, path, AUTH_KEY_FILE_BYTES_MAX, out, &why);
    return err == OK ? OK : err_set(ec, ERR_INVALID, "auth: invalid auth options: %s", why.text);
}

static void wipe(struct bytes *b)
{
    if (b->data != NULL) {
        OPENSSL_cleanse(b->data, b->cap);
    }
    bytes_deinit(b);
}

static void note_unknown(struct auth_tokens *t, const struct options *o)
{
    static const char *const known[] = {"sign-method", "pub-key", "priv-key", "ttl"};
    for (size_t i = 0; i < o->n; i++) {
        bool found = false;
        for (size_t k = 0; k < ARRAY_LEN(known); k++) {
            found = found || strcmp(known[k], o->v[i].name) == 0;
        }
        if (!found) {
            bytes_add_str(&t->unknown, t->unknown.len == 0 ? "" : ",");
            bytes_add_str(&t->unknown, o->v[i].name);
        }
    }
}

static enum err create_jwt(struct auth_tokens *t, const struct options *o, struct vfs *vfs,
                           struct err_ctx *ec)
{
    int64_t ttl_ns = INT64_C(1000000000) * JWT_TTL_S_DEFAULT;
    const char *ttl = value_of(o, "ttl");
    struct bytes public = {0};
    struct bytes private = {0};
    if (ttl[0] != 0 && go_duration_parse(ttl, &ttl_ns) != OK) {
        return invalid(ec);
    }
    enum err err = read_key(o, "pub-key", vfs, &public, ec);
    if (err == OK) {
        err = read_key(o, "priv-key", vfs, &private, ec);
    }
    if (err == OK) {
        uint64_t ttl_s = ttl_ns < 0 ? 0 : (uint64_t)ttl_ns / 1000000000u;
        err = jwt_create(value_of(o, "sign-method"), bytes_slice(&public), bytes_slice(&private),
                         ttl_s, &t->jwt, ec);
    }
    note_unknown(t, o);
    wipe(&public);
    wipe(&private);
    return err;
}

enum err auth_tokens_create(const char *option, uint64_t simple_ttl_s, struct vfs *vfs,
                            const struct clock *clock, struct auth_tokens **out, struct err_ctx *ec)
{
    struct options o;
    struct auth_tokens *t = xcalloc(1, sizeof(*t));
    int rc = pthread_mutex_init(&t->lock, NULL);
    ASSERT(rc == 0);
    t->clock = clock;
    enum err err = split_options(option, &o, ec);
    if (err == OK && strcmp(o.text, "simple") == 0) {
        t->kind = AUTH_TOKENS_SIMPLE;
        t->simple = simple_tokens_create(
            1000u * (simple_ttl_s == 0 ? AUTH_TOKEN_TTL_S_DEFAULT : simple_ttl_s));
    } else if (err == OK && strcmp(o.text, "jwt") == 0) {
        t->kind = AUTH_TOKENS_JWT;
        err = create_jwt(t, &o, vfs, ec);
    } else if (err == OK && o.text[0] != 0) {
        err = invalid(ec);
    }
    bytes_add(&t->unknown, "", 1);
    free(o.text);
    if (err != OK) {
        auth_tokens_destroy(&t);
        return err;
    }
    *out = t;
    return OK;
}

void auth_tokens_destroy(struct auth_tokens **tp)
{
    struct auth_tokens *t = *tp;
    if (t == NULL) {
        return;
    }
    simple_tokens_destroy(&t->simple);
    jwt_destroy(&t->jwt);
    bytes_deinit(&t->unknown);
    (void)pthread_mutex_destroy(&t->lock);
    free(t);
    *tp = NULL;
}

enum auth_token_kind auth_tokens_kind(const struct auth_tokens *t)
{
    return t->kind;
}

const char *auth_tokens_unknown_options(const struct auth_tokens *t)
{
    return (const char *)t->unknown.data;
}

/* --- what was applied
 * ----------------------------------------------------------------------------- */

static void lock(struct auth_tokens *t)
{
    int rc = pthread_mutex_lock(&t->lock);
    ASSERT(rc == 0);
}

static void unlock(struct auth_tokens *t)
{
    int rc = pthread_mutex_unlock(&t->lock);
    ASSERT(rc == 0);
}

static void on_token(void *arg, const char *user, const char *token)
{
    struct auth_tokens *t = arg;
    if (t->kind == AUTH_TOKENS_SIMPLE) {
        lock(t);
        simple_tokens_add(t->simple, token, user, clock_now_ms(t->clock));
        unlock(t);
    }
}

static void on_user_changed(void *arg, const char *user)
{
    struct auth_tokens *t = arg;
    if (t->kind == AUTH_TOKENS_SIMPLE) {
        lock(t);
        simple_tokens_drop_user(t->simple, user);
        unlock(t);
    }
}

static void on_all_changed(void *arg)
{
    struct auth_tokens *t = arg;
    if (t->kind == AUTH_TOKENS_SIMPLE) {
        lock(t);
        simple_tokens_clear(t->simple);
        unlock(t);
    }
}

const struct auth_events auth_tokens_events = {on_token, on_user_changed, on_all_changed};

/* --- logging in, and looking up
 * ------------------------------------------------------------------- */

enum err auth_tokens_letters(struct auth_tokens *t, char out[AUTH_TOKEN_LETTERS_BYTES])
{
    static_assert(AUTH_TOKEN_LETTERS_BYTES == SIMPLE_TOKEN_LETTERS + 1, "the letters and a NUL");
    uint8_t random[SIMPLE_TOKEN_RANDOM_BYTES];
    if (t->kind == AUTH_TOKENS_NONE) {
        return ERR_AUTH_FAILED;
    }
    out[0] = 0;
    if (t->kind == AUTH_TOKENS_SIMPLE) {
        if (RAND_bytes(random, sizeof(random)) != 1) {
            return ERR_IO;
        }
        simple_token_letters(random, out);
    }
    return OK;
}

enum err auth_tokens_sign(struct auth_tokens *t, const char *user, uint64_t revision,
                          struct bytes *out)
{
    if (t->kind != AUTH_TOKENS_JWT) {
        return ERR_AUTH_FAILED;
    }
    return jwt_sign(t->jwt, user, revision, clock_wall_ns(t->clock) / 1000000000u, out);
}

static enum err look_up_simple(struct auth_tokens *t, struct slice token, uint64_t applied_index,
                               struct bytes *user, uint64_t *wait_index, struct err_ctx *ec)
{
    uint64_t index;
    if (!simple_token_index(token, &index)) {
        return err_set(ec, ERR_AUTH_TOKEN, "no simple token");
    }
    if (index > applied_index) {
        *wait_index = index;
        return ERR_BUSY;
    }
    lock(t);
    const char *owner = simple_tokens_use(t->simple, token, clock_now_ms(t->clock));
    if (owner != NULL) {
        bytes_add(user, owner, strlen(owner) + 1);
    }
    unlock(t);
    return owner != NULL ? OK : err_set(ec, ERR_AUTH_TOKEN, "unknown or expired");
}

enum err auth_tokens_look_up(struct auth_tokens *t, struct slice token, uint64_t applied_index,
                             uint64_t revision_now, struct bytes *user, uint64_t *revision,
                             uint64_t *wait_index, struct err_ctx *ec)
{
    switch (t->kind) {
    case AUTH_TOKENS_SIMPLE: {
        enum err err = look_up_simple(t, token, applied_index, user, wait_index, ec);
        *revision = err == OK ? revision_now : *revision;
        return err;
    }
    case AUTH_TOKENS_JWT:
        return jwt_verify(t->jwt, token, clock_wall_ns(t->clock) / 1000000000u, user, revision, ec);
    case AUTH_TOKENS_NONE:
        return err_set(ec, ERR_AUTH_TOKEN, "this server has no tokens");
    }
    UNREACHABLE();
}
