/* prefix.h - keys under a namespace: requests get the prefix, answers lose it.
 *
 * What        Rewrites encoded messages field by field from a table of where keys are; what is no key is copied as it came.
 * Callers     api/proxy.   Thread  pure.
 * Source      etcd's client/v3/namespace: an open end becomes the end of the prefix; a lease shows only keys under the prefix.
 */
#ifndef API_PROXY_PREFIX_H
#define API_PROXY_PREFIX_H

#include "base/err.h"
#include "base/slice.h"

enum prefix_message {
    PREFIX_RANGE, /* requests */
    PREFIX_PUT,
    PREFIX_DELETE,
    PREFIX_TXN,
    PREFIX_COMPARE,
    PREFIX_REQUEST_OP,
    PREFIX_WATCH,
    PREFIX_RANGE_REPLY, /* answers */
    PREFIX_PUT_REPLY,
    PREFIX_DELETE_REPLY,
    PREFIX_TXN_REPLY,
    PREFIX_RESPONSE_OP,
    PREFIX_WATCH_REPLY,
    PREFIX_EVENT,
    PREFIX_KEY_VALUE,
    PREFIX_LEASE_REPLY, /* LeaseTimeToLiveResponse */
    PREFIX_MESSAGES
};

/* Append the message as it is on the other side. ERR_EMPTY_KEY: a request without a key. ERR_INVALID: no such message, a key of an answer
 * without the prefix, or txns nested deeper than PROXY_NESTING_MAX. *out may have grown then. */
MUST_CHECK enum err prefix_rewrite(enum prefix_message kind, struct slice prefix, struct slice message, struct bytes *out);

/* The range of [key, end) under the prefix, appended to each. */
void prefix_range(struct slice prefix, struct slice key, struct slice end, struct bytes *key_out, struct bytes *end_out);

/* Call `fn` for each range that the txn might change or has compared, nested ones too. Same errors. */
MUST_CHECK enum err txn_each_range(struct slice txn, void (*fn)(void *arg, struct slice key, struct slice end), void *arg);

#endif
