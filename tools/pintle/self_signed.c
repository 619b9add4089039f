/* self_signed.c - see self_signed.h. */
#include "tools/pintle/self_signed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/slice.h"

/* The host part of a URL; the caller frees. */
static char *host_of(const char *url)
{
    const char *host = strstr(url, "://") + 3;
    if (host[0] == '[') {
        return xstrndup(host + 1, strcspn(host + 1, "]"));
    }
    return xstrndup(host, strcspn(host, ":/"));
}

/* "IP:127.0.0.1,DNS:localhost": OpenSSL's own form. Hosts are checked words without commas. */
static char *sans_of(char *const *urls)
{
    struct bytes b = {0};
    for (; *urls != NULL; urls++) {
        uint8_t ip[16];
        char *host = host_of(*urls);
        bool address = inet_pton(AF_INET, host, ip) == 1 || inet_pton(AF_INET6, host, ip) == 1;
        if (host[0] != '\0' && strcspn(host, ",") == strlen(host)) {
            bytes_printf(&b, "%s%s:%s", b.len > 0 ? "," : "", address ? "IP" : "DNS", host);
        }
        free(host);
    }
    bytes_add(&b, "", 1);
    return (char *)b.data;
}

static bool add_extension(X509 *x, int nid, const char *value)
{
    X509V3_CTX ctx;
    X509V3_set_ctx_nodb(&ctx);
    X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
    X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
    bool added = e != NULL && X509_add_ext(x, e, -1) == 1;
    X509_EXTENSION_free(e);
    return added;
}

static bool set_serial(X509 *x)
{
    uint8_t serial[16];
    if (RAND_bytes(serial, (int)sizeof(serial)) != 1) {
        return false;
    }
    serial[0] &= 0x7f; /* positive */
    BIGNUM *n = BN_bin2bn(serial, (int)sizeof(serial), NULL);
    bool set = n != NULL && BN_to_ASN1_INTEGER(n, X509_get_serialNumber(x)) != NULL;
    BN_free(n);
    return set;
}

static X509 *make_cert(EVP_PKEY *key, const struct self_signed *s)
{
    X509 *x = X509_new();
    char *sans = sans_of(s->hosts);
    X509_NAME *name = X509_get_subject_name(x);
    bool made = X509_set_version(x, X509_VERSION_3) == 1 && set_serial(x) &&
                X509_NAME_add_entry_by_txt(name, "O", MBSTRING_ASC, (const unsigned char *)"etcd", -1, -1, 0) == 1 &&
                X509_set_issuer_name(x, name) == 1 && X509_gmtime_adj(X509_getm_notBefore(x), 0) != NULL &&
                X509_time_adj_ex(X509_getm_notAfter(x), (int)s->years * 365, 0, NULL) != NULL && X509_set_pubkey(x, key) == 1 &&
                add_extension(x, NID_basic_constraints, "critical,CA:TRUE") &&
                add_extension(x, NID_key_usage, "critical,digitalSignature,keyEncipherment,keyCertSign") &&
                add_extension(x, NID_ext_key_usage, "serverAuth,clientAuth") && (sans[0] == '\0' || add_extension(x, NID_subject_alt_name, sans)) &&
                X509_sign(x, key, EVP_sha512()) > 0;
    free(sans);
    if (!made) {
        X509_free(x);
        return NULL;
    }
    return x;
}

static enum err write_pem(const char *file, mode_t mode, X509 *cert, EVP_PKEY *key, struct err_ctx *ec)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    FILE *f = fd < 0 ? NULL : fdopen(fd, "w");
    if (f == NULL) {
        int code = errno;
        if (fd >= 0) {
            (void)close(fd);
        }
        return err_set(ec, ERR_IO, "open %s: %s", file, strerror(code));
    }
    bool written = cert != NULL ? PEM_write_X509(f, cert) == 1 : PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL) == 1;
    written = fflush(f) == 0 && fsync(fd) == 0 && written;
    written = fclose(f) == 0 && written;
    return written ? OK : err_set(ec, ERR_IO, "write %s: %s", file, strerror(errno));
}

static enum err make_directories(const char *data_dir, const char *dir, struct err_ctx *ec)
{
    char *parent = xasprintf("%s/fixtures", data_dir);
    enum err e = OK;
    const char *const both[] = {parent, dir};
    for (size_t i = 0; i < 2 && e == OK; i++) {
        if (mkdir(both[i], 0700) != 0 && errno != EEXIST) {
            e = err_set(ec, ERR_IO, "mkdir %s: %s", both[i], strerror(errno));
        }
    }
    free(parent);
    return e;
}

enum err self_signed_make(const char *data_dir, const char *dir, const struct self_signed *s, bool *made, struct err_ctx *ec)
{
    char *cert_file = xasprintf("%s/cert.pem", dir);
    char *key_file = xasprintf("%s/key.pem", dir);
    *made = access(cert_file, F_OK) != 0 || access(key_file, F_OK) != 0;
    enum err e = *made ? make_directories(data_dir, dir, ec) : OK;
    if (*made && e == OK) {
        EVP_PKEY *key = EVP_EC_gen("P-521");
        X509 *cert = key == NULL ? NULL : make_cert(key, s);
        e = cert == NULL ? err_set(ec, ERR_IO, "cannot make a certificate in %s", dir) : OK;
        ERR_clear_error();
        if (e == OK) {
            e = write_pem(key_file, 0600, NULL, key, ec);
        }
        if (e == OK) {
            e = write_pem(cert_file, 0644, cert, NULL, ec);
        }
        X509_free(cert);
        EVP_PKEY_free(key);
    }
    free(cert_file);
    free(key_file);
    return e;
}
