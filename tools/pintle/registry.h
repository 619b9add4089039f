/* registry.h - the members that registered under a discovery token.
 *
 * What        Keys of the registry, and its members in the order in which they came; the first so many of them are the cluster. No I/O.
 * Callers     tools/pintle/discovery.c.   Thread  main.
 * Source      etcd-server.md 2.5.
 */
#ifndef TOOLS_PINTLE_REGISTRY_H
#define TOOLS_PINTLE_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/slice.h"

#define REGISTRY_MEMBERS_MAX 1024u /* that are looked at; those who came later are not among the first anyway */

struct registry {
    char *size_key, *members_key, *own_key; /* owned */
    struct registry_member {
        char *key, *text; /* owned; "name=url,name=url" */
        int64_t created;  /* revision */
    } members[REGISTRY_MEMBERS_MAX]; /* by `created` */
    size_t n;
};

struct registry *registry_create(const char *token, uint64_t member_id);
void registry_destroy(struct registry **r);
void registry_reset(struct registry *r);
/* A record as it was read. ERR_FOREIGN: no key of a member; ERR_INVALID: not "name=url"; ERR_EXISTS; ERR_LIMIT; all with a text for the log. */
MUST_CHECK enum err registry_add(struct registry *r, struct slice key, struct slice text, int64_t created, struct err_ctx *ec);
/* This member would not be, or is not, among the first `size`. */
bool registry_is_full(const struct registry *r, size_t size);
/* The first `size` members as --initial-cluster has them; the caller frees. */
char *registry_cluster(const struct registry *r, size_t size);

#endif
