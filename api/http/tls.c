/* tls.c - files in, contexts out.
 *
 * A context is built from all files at once and never changes; a changed file means a new one. Connections that are there keep theirs. A file that
 * was written so lately that another write could leave the same times counts as changed until it has settled.
 */
#include "api/http/tls.h"

#include <openssl/err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "api/http/tls_internal.h"
#include "base/assert.h"
#include "base/mem.h"

#define FILES 4u
#define SETTLE_NS 20000000ll /* coarser than any file system's clock here */

/* As Go: no exchange without forward secrecy. */
static const char usual_ciphers[] = "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
                                    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:"
                                    "ECDHE-ECDSA-AES256-SHA:ECDHE-RSA-AES256-SHA";

struct stamp {
    bool there;
    bool young; /* may change again without showing it */
    dev_t dev;
    ino_t ino;
    off_t size;
    struct timespec mtime, ctime;
};

struct tls {
    struct tls_config cfg; /* with all it points to, but for the log: owned */
    BIO_METHOD *method;
    pthread_mutex_t lock; /* guards what follows */
    struct tls_material *material;
    struct stamp stamps[FILES]; /* of the last attempt, whether it succeeded or not */
    bool told;                  /* that it did not */
};

/* --- stamps --------------------------------------------------------------------------------------------- */

static const char *file_at(const struct tls_config *c, unsigned i)
{
    const char *const files[FILES] = {c->cert_file, c->key_file, c->ca_file, c->crl_file};
    return files[i];
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static struct stamp stamp_of(const char *file)
{
    struct stat st;
    struct timespec now;
    if (file == NULL || stat(file, &st) != 0) {
        return (struct stamp){.there = false};
    }
    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    int64_t age_ns = (int64_t)(now.tv_sec - st.st_ctim.tv_sec) * 1000000000 + (now.tv_nsec - st.st_ctim.tv_nsec);
    return (struct stamp){true, age_ns < SETTLE_NS, st.st_dev, st.st_ino, st.st_size, st.st_mtim, st.st_ctim};
}

static bool same_stamp(const struct stamp *a, const struct stamp *b)
{
    return a->there == b->there && !a->young && a->dev == b->dev && a->ino == b->ino && a->size == b->size && same_time(a->mtime, b->mtime) &&
           same_time(a->ctime, b->ctime);
}

/* Look at all files, and remember what was seen. */
static bool files_changed(struct tls *t)
{
    bool changed = false;
    for (unsigned i = 0; i < FILES; i++) {
        struct stamp now = stamp_of(file_at(&t->cfg, i));
        changed = changed || !same_stamp(&t->stamps[i], &now);
        t->stamps[i] = now;
    }
    return changed;
}

/* --- contexts --------------------------------------------------------------------------------------------- */

static enum err ssl_failed(struct err_ctx *ec, const char *what, const char *file)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = ERR_SYSTEM_ERROR(code) ? strerror(ERR_GET_REASON(code)) : ERR_reason_error_string(code);
    enum err e = err_set(ec, ERR_INVALID, "%s %s: %s", what, file, reason != NULL ? reason : "not usable");
    ERR_clear_error();
    return e;
}

/* A key that needs a password cannot be used: nobody is there to be asked. */
static int no_password(char *buf, int size, int writing, void *arg)
{
    (void)buf;
    (void)size;
    (void)writing;
    (void)arg;
    return 0;
}

static enum err check_size(const char *file, struct err_ctx *ec)
{
    struct stat st;
    if (stat(file, &st) != 0) {
        return err_set(ec, ERR_IO, "open %s: no such file or directory", file);
    }
    return st.st_size > (off_t)TLS_FILE_BYTES_MAX ? err_set(ec, ERR_LIMIT, "%s: longer than %u bytes", file, TLS_FILE_BYTES_MAX) : OK;
}

static enum err load_pair(SSL_CTX *ctx, const struct tls_config *c, struct err_ctx *ec)
{
    enum err e = check_size(c->cert_file, ec);
    if (e == OK) {
        e = check_size(c->key_file, ec);
    }
    if (e != OK) {
        return e;
    }
    if (SSL_CTX_use_certificate_chain_file(ctx, c->cert_file) != 1) {
        return ssl_failed(ec, "certificate", c->cert_file);
    }
    if (SSL_CTX_use_PrivateKey_file(ctx, c->key_file, SSL_FILETYPE_PEM) != 1 || SSL_CTX_check_private_key(ctx) != 1) {
        return ssl_failed(ec, "private key", c->key_file);
    }
    return OK;
}

static enum err load_authorities(SSL_CTX *ctx, const struct tls_config *c, struct err_ctx *ec)
{
    if (c->ca_file == NULL) {
        return SSL_CTX_set_default_verify_paths(ctx) == 1 ? OK : ssl_failed(ec, "authorities of", "the system");
    }
    enum err e = check_size(c->ca_file, ec);
    if (e != OK) {
        return e;
    }
    STACK_OF(X509_NAME) *names = SSL_load_client_CA_file(c->ca_file);
    if (names == NULL || SSL_CTX_load_verify_file(ctx, c->ca_file) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return ssl_failed(ec, "authorities in", c->ca_file);
    }
    SSL_CTX_set_client_CA_list(ctx, names);
    return OK;
}

static void set_rules(SSL_CTX *ctx, const struct tls_config *c)
{
    static const int versions[] = {[TLS_ANY] = 0, [TLS_1_2] = TLS1_2_VERSION, [TLS_1_3] = TLS1_3_VERSION};
    bool demand = c->client_auth || c->ca_file != NULL;
    ASSERT(SSL_CTX_set_min_proto_version(ctx, versions[c->min] == 0 ? TLS1_2_VERSION : versions[c->min]) == 1);
    ASSERT(SSL_CTX_set_max_proto_version(ctx, versions[c->max]) == 1);
    /* Nothing is resumed: every connection proves its certificate anew, and none is remembered. */
    (void)SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_num_tickets(ctx, 0);
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_max_cert_list(ctx, (long)TLS_PEER_CHAIN_BYTES);
    SSL_CTX_set_default_passwd_cb(ctx, no_password);
    (void)X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    tls_session_rules(ctx, demand);
}

static enum err material_load(const struct tls_config *c, struct tls_material **out, struct err_ctx *ec)
{
    struct tls_material *m = xcalloc(1, sizeof(*m));
    atomic_init(&m->refs, 1);
    m->cfg = c;
    m->ctx = SSL_CTX_new(TLS_server_method());
    ASSERT(m->ctx != NULL);
    set_rules(m->ctx, c);
    enum err e = OK;
    if (SSL_CTX_set_cipher_list(m->ctx, c->ciphers != NULL ? c->ciphers : usual_ciphers) != 1) {
        e = ssl_failed(ec, "cipher suites", c->ciphers != NULL ? c->ciphers : usual_ciphers);
    }
    if (e == OK) {
        e = load_pair(m->ctx, c, ec);
    }
    if (e == OK && (c->client_auth || c->ca_file != NULL)) {
        e = load_authorities(m->ctx, c, ec);
    }
    if (e == OK && c->crl_file != NULL) {
        e = check_size(c->crl_file, ec);
        if (e == OK) {
            e = tls_revoked_load(c->crl_file, &m->revoked, ec);
        }
    }
    if (e != OK) {
        tls_material_unref(&m);
        return e;
    }
    *out = m;
    return OK;
}

void tls_material_unref(struct tls_material **mp)
{
    struct tls_material *m = *mp;
    *mp = NULL;
    if (m == NULL || atomic_fetch_sub_explicit(&m->refs, 1, memory_order_acq_rel) > 1) {
        return;
    }
    SSL_CTX_free(m->ctx);
    tls_revoked_deinit(&m->revoked);
    free(m);
}

struct tls_material *tls_material_get(struct tls *t)
{
    (void)pthread_mutex_lock(&t->lock);
    if (files_changed(t)) {
        struct tls_material *m = NULL;
        struct err_ctx ec = {{0}};
        if (material_load(&t->cfg, &m, &ec) == OK) {
            tls_material_unref(&t->material);
            t->material = m;
            t->told = false;
        } else if (!t->told) {
            t->told = true;
            log_warn(t->cfg.log, "failed to read TLS files; what was read before stays in force", F_STR("error", ec.text),
                     F_STR("cert-file", t->cfg.cert_file), F_STR("key-file", t->cfg.key_file));
        }
    }
    struct tls_material *m = t->material;
    (void)atomic_fetch_add_explicit(&m->refs, 1, memory_order_relaxed);
    (void)pthread_mutex_unlock(&t->lock);
    return m;
}

/* --- life --------------------------------------------------------------------------------------------------- */

static const char *copy_text(const char *s)
{
    return s == NULL || s[0] == '\0' ? NULL : xstrdup(s);
}

static const char *const *copy_list(const char *const *list)
{
    size_t n = 0;
    while (list != NULL && list[n] != NULL) {
        n++;
    }
    char **copy = xcalloc(n + 1, sizeof(*copy));
    for (size_t i = 0; i < n; i++) {
        copy[i] = xstrdup(list[i]);
    }
    return (const char *const *)copy;
}

static void free_list(const char *const *list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        free((void *)(uintptr_t)list[i]);
    }
    free((void *)(uintptr_t)list);
}

static void free_config(struct tls_config *c)
{
    const char *const texts[] = {c->cert_file, c->key_file, c->ca_file, c->crl_file, c->ciphers, c->rejected};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        free((void *)(uintptr_t)texts[i]);
    }
    free_list(c->allowed_names);
    free_list(c->allowed_hosts);
}

static BIO_METHOD *make_method(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "connection");
    ASSERT(m != NULL);
    ASSERT(BIO_meth_set_read(m, tls_bio_read) == 1);
    ASSERT(BIO_meth_set_write(m, tls_bio_write) == 1);
    ASSERT(BIO_meth_set_ctrl(m, tls_bio_ctrl) == 1);
    return m;
}

enum err tls_create(const struct tls_config *cfg, struct tls **out, struct err_ctx *ec)
{
    struct tls *t = xcalloc(1, sizeof(*t));
    t->cfg = *cfg;
    t->cfg.cert_file = copy_text(cfg->cert_file);
    t->cfg.key_file = copy_text(cfg->key_file);
    t->cfg.ca_file = copy_text(cfg->ca_file);
    t->cfg.crl_file = copy_text(cfg->crl_file);
    t->cfg.ciphers = copy_text(cfg->ciphers);
    t->cfg.rejected = copy_text(cfg->rejected != NULL ? cfg->rejected : "rejected connection");
    t->cfg.allowed_names = copy_list(cfg->allowed_names);
    t->cfg.allowed_hosts = copy_list(cfg->allowed_hosts);
    ASSERT(pthread_mutex_init(&t->lock, NULL) == 0);
    t->method = make_method();
    enum err e = OK;
    if (t->cfg.cert_file == NULL || t->cfg.key_file == NULL) {
        e = err_set(ec, ERR_INVALID, "KeyFile and CertFile must both be present[key: %s, cert: %s]", t->cfg.key_file != NULL ? t->cfg.key_file : "",
                    t->cfg.cert_file != NULL ? t->cfg.cert_file : "");
    }
    if (e == OK) {
        (void)files_changed(t);
        e = material_load(&t->cfg, &t->material, ec);
    }
    if (e != OK) {
        tls_destroy(&t);
        return e;
    }
    *out = t;
    return OK;
}

void tls_destroy(struct tls **tp)
{
    struct tls *t = *tp;
    if (t == NULL) {
        return;
    }
    *tp = NULL;
    tls_material_unref(&t->material);
    BIO_meth_free(t->method);
    (void)pthread_mutex_destroy(&t->lock);
    free_config(&t->cfg);
    free(t);
}

const struct tls_config *tls_config_of(const struct tls *t)
{
    return &t->cfg;
}

const BIO_METHOD *tls_bio_method(const struct tls *t)
{
    return t->method;
}
