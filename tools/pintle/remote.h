/* remote.h - what other members say before this one is a member that can be talked to.
 *
 * What        GET /members, /version and /downgrade/enabled on peer URLs, one after the other.
 * Callers     tools/pintle/bootstrap.c.
 * Thread      main; waits, bounded by the timeouts given.
 * Source      etcd-server.md 2.3, 2.4.
 */
#ifndef TOOLS_PINTLE_REMOTE_H
#define TOOLS_PINTLE_REMOTE_H

#include "api/peer/secure.h"
#include "base/err.h"
#include "base/log.h"
#include "engine/engine.h"

#define REMOTE_BODY_MAX (8u << 20) /* of an answer; a longer one is none */

struct remote_cluster {
    uint64_t id;
    struct member_info *members; /* owned, each with all it holds; as the answer lists them */
    size_t n;
};

/* The first usable answer of the URLs (NULL-terminated), `timeout_ms` for each. ERR_NOT_FOUND with etcd's text. */
MUST_CHECK enum err remote_members(const struct peer_tls *tls, const char *const *urls, uint64_t timeout_ms, struct logger *log, struct remote_cluster *out, struct err_ctx *ec);
void remote_cluster_deinit(struct remote_cluster *c);
/* etcd's way of printing it; the caller frees. */
char *remote_cluster_text(const struct remote_cluster *c);

#define REMOTE_VERSION_BYTES 32u
/* What one member says that the cluster's version is ("3.7.0", "not_decided"). false: none of its URLs gave an answer. */
bool remote_cluster_version(const struct peer_tls *tls, const char *const *urls, uint64_t timeout_ms, char out[REMOTE_VERSION_BYTES]);
/* Does it say that a downgrade is under way? */
bool remote_downgrade_enabled(const struct peer_tls *tls, const char *const *urls, uint64_t timeout_ms);

#endif
