/* context.h - OpenSSL contexts, made by the same rules for whoever serves and whoever calls.
 *
 * What        Versions, suites, key pair and authorities from files into an SSL_CTX. Go's rules where it matters to others: TLS 1.2 at least and
 *             with ECDHE suites unless told otherwise; a certificate among the trusted ones is trusted whatever signed it; nothing is resumed.
 * Callers     api/http's listeners, api/client.
 * Thread      any; a context never changes once it is made.
 */
#ifndef API_TLS_CONTEXT_H
#define API_TLS_CONTEXT_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/err.h"

#define TLS_FILE_BYTES_MAX (16u << 20) /* of one file; a longer one is not read */

enum tls_version { TLS_ANY, TLS_1_2, TLS_1_3 };

struct tls_context_config {
    bool server;                      /* else it calls */
    const char *cert_file, *key_file; /* NULL: none */
    bool trust;                       /* load authorities: */
    const char *ca_file;              /* NULL: those that the system trusts */
    enum tls_version min, max;
    const char *ciphers; /* of TLS 1.2, as OpenSSL names them; NULL: the usual */
};

/* Everything is read once. Errors: ERR_INVALID, ERR_IO, ERR_LIMIT. */
MUST_CHECK enum err tls_context_create(const struct tls_context_config *c, SSL_CTX **out, struct err_ctx *ec);
/* The file is there and not too long. Errors: ERR_IO, ERR_LIMIT. */
MUST_CHECK enum err tls_file_check(const char *file, struct err_ctx *ec);
/* What went wrong in a handshake or after it, as OpenSSL's queue of errors has it, in the words that Go has for what happens often. */
void tls_reason(char *out, size_t n);

#endif
