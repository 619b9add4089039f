/* tls_cipher.c - Go's names for cipher suites, in OpenSSL's words. */
#include <openssl/ssl.h>
#include <string.h>

#include "api/http/tls.h"
#include "base/slice.h"
#include "base/mem.h"

/* What Go 1.2x knows, insecure ones included. Those of TLS 1.3 cannot be chosen, and are taken and passed over as Go does. A suite without a
 * second name is not in OpenSSL 3 as it is built today. */
static const struct {
    const char *go;
    const char *openssl;
} suites[] = {
    {"TLS_AES_128_GCM_SHA256", NULL},
    {"TLS_AES_256_GCM_SHA384", NULL},
    {"TLS_CHACHA20_POLY1305_SHA256", NULL},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {"TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "ECDHE-RSA-CHACHA20-POLY1305"},
    {"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {"TLS_RSA_WITH_RC4_128_SHA", NULL},
    {"TLS_RSA_WITH_3DES_EDE_CBC_SHA", NULL},
    {"TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    {"TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
    {"TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    {"TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    {"TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
    {"TLS_ECDHE_ECDSA_WITH_RC4_128_SHA", NULL},
    {"TLS_ECDHE_RSA_WITH_RC4_128_SHA", NULL},
    {"TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA", NULL},
    {"TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {"TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
};

enum err tls_ciphers(const char *const *names, char **out, struct err_ctx *ec)
{
    struct bytes list = {0};
    for (; *names != NULL; names++) {
        size_t i = 0;
        while (i < sizeof(suites) / sizeof(suites[0]) && strcmp(suites[i].go, *names) != 0) {
            i++;
        }
        if (i == sizeof(suites) / sizeof(suites[0])) {
            bytes_deinit(&list);
            return err_set(ec, ERR_INVALID, "unexpected TLS cipher suite \"%s\"", *names);
        }
        if (suites[i].openssl != NULL) {
            bytes_printf(&list, "%s%s", list.len > 0 ? ":" : "", suites[i].openssl);
        }
    }
    if (list.len == 0) {
        return err_set(ec, ERR_UNSUPPORTED, "none of the cipher suites can be used here");
    }
    *out = xstrndup((const char *)list.data, list.len);
    bytes_deinit(&list);
    return OK;
}
