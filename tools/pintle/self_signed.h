/* self_signed.h - a certificate that nobody but itself vouches for.
 *
 * What        --auto-tls and --peer-auto-tls: made once and used again at every start, even when it has expired or the hosts are others.
 * Callers     tools/pintle/tls.c.   Thread  main.
 * Source      etcd-server.md 7.2: P-521, O=etcd, a CA of its own, the hosts of the listeners as SANs.
 */
#ifndef TOOLS_PINTLE_SELF_SIGNED_H
#define TOOLS_PINTLE_SELF_SIGNED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct self_signed {
    char *const *hosts; /* URLs, NULL-terminated */
    uint32_t years;     /* of 365 days */
};

/* cert.pem and key.pem in `dir`, which is two levels below `data_dir`. *made: they were not there. ERR_IO. */
MUST_CHECK enum err self_signed_make(const char *data_dir, const char *dir, const struct self_signed *s, bool *made, struct err_ctx *ec);

#endif
