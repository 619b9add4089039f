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

static enum err material_load(const struct tls_config *c, struct tls_material **out, struct err_ctx *ec)
{
    struct tls_material *m = xcalloc(1, sizeof(*m));
    atomic_init(&m->refs, 1);
    m->cfg = c;
    bool demand = c->client_auth || c->ca_file != NULL;
    const struct tls_context_config rules = {.server = true,
                                             .cert_file = c->cert_file,
                                             .key_file = c->key_file,
                                             .trust = demand,
                                             .ca_file = c->ca_file,
                                             .min = c->min,
                                             .max = c->max,
                                             .ciphers = c->ciphers};
    enum err e = tls_context_create(&rules, &m->ctx, ec);
    if (e == OK) {
        tls_session_rules(m->ctx, demand);
    }
    if (e == OK && c->crl_file != NULL) {
        e = tls_file_check(c->crl_file, ec);
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
