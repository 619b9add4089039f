/* auth_jwt_claims.h - the two JSON parts of a token.
 *
 * What        Reads the header's algorithm and the claims that count; strict about everything that could be read in two ways.
 * Callers     api/etcd/auth_jwt.   Thread  any; values.
 */
#ifndef API_ETCD_AUTH_JWT_CLAIMS_H
#define API_ETCD_AUTH_JWT_CLAIMS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define JWT_ALG_BYTES 8u

/* The header's alg, which must be there once. Extensions that must be understood ("crit") are not: ERR_INVALID. */
MUST_CHECK enum err jwt_read_header(struct slice json, char alg[JWT_ALG_BYTES]);

struct jwt_claims {
    struct bytes user; /* with a NUL; to be released with bytes_deinit, also after an error */
    uint64_t revision;
    bool has_exp, has_nbf;
    double exp, nbf; /* seconds since 1970 */
};
/* username and revision must be there; a name twice, a number out of range or of another type: ERR_INVALID. */
MUST_CHECK enum err jwt_read_claims(struct slice json, struct jwt_claims *out);
void jwt_write_claims(struct bytes *out, const char *user, uint64_t revision, uint64_t exp_s);

#endif
