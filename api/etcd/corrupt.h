/* corrupt.h - what the corruption checks have beside server.h.
 *
 * What        The body in which another member tells its hash.   Callers  api/etcd/corrupt.c, tests.   Thread  any.
 */
#ifndef API_ETCD_CORRUPT_H
#define API_ETCD_CORRUPT_H

#include "api/etcd/internal.h"

/* The answer to /members/hashkv; what it does not name is 0. ERR_INVALID. */
MUST_CHECK enum err hash_kv_answer_read(struct slice body, struct hash_kv *out);

#endif
