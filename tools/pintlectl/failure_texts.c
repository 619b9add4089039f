/* failure_texts.c - tables of texts. */
#include "tools/pintlectl/failure_texts.h"

#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define PREFIX "etcdserver: "

/* etcd's texts behind the prefix. */
static const char *const known[] = {
    "key is not provided",
    "key not found",
    "value is provided",
    "lease is provided",
    "too many operations in txn request",
    "duplicate key given in txn request",
    "invalid client api version",
    "invalid sort option",
    "mvcc: required revision has been compacted",
    "mvcc: required revision is a future revision",
    "mvcc: database space exceeded",
    "requested lease not found",
    "lease already exists",
    "too large lease TTL",
    "member ID already exist",
    "Peer URLs already exists",
    "re-configuration failed due to not enough started members",
    "given member URLs are invalid",
    "member not found",
    "can only promote a learner member",
    "can only promote a learner member which is in sync with leader",
    "too many learner members in cluster",
    "cluster ID mismatch",
    "request is too large",
    "too many requests",
    "root user does not exist",
    "root user does not have root role",
    "user name already exists",
    "user name is empty",
    "user name not found",
    "role name already exists",
    "role name not found",
    "role name is empty",
    "authentication failed, invalid user ID or password",
    "authentication failed, password was given for no password user",
    "permission not given",
    "permission denied",
    "role is not granted to the user",
    "permission is not granted to the role",
    "authentication is not enabled",
    "invalid auth token",
    "invalid auth management",
    "revision of auth store is old",
    "no leader",
    "not leader",
    "leader changed",
    "not capable",
    "server stopped",
    "request timed out",
    "request timed out, possibly due to previous leader failure",
    "request timed out, possibly due to connection lost",
    "request timed out, waiting for the applied index took too long",
    "unhealthy cluster",
    "corrupt cluster",
    "rpc not supported for learner",
    "bad leader transferee",
    "cluster version not found during downgrade",
    "wrong downgrade target version format",
    "invalid downgrade target version",
    "cluster has a downgrade job in progress",
    "no inflight downgrade job",
    "request canceled",
    "request timed out, leader transfer took too long"};

bool failure_text_known(const char *text)
{
    if (strncmp(text, PREFIX, strlen(PREFIX)) != 0) {
        return false;
    }
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (strcmp(text + strlen(PREFIX), known[i]) == 0) {
            return true;
        }
    }
    return false;
}

const char *failure_code_name(uint32_t code)
{
    static const char *const names[] = {
        "OK",       "Canceled",       "Unknown",          "InvalidArgument",   "DeadlineExceeded",
        "NotFound", "AlreadyExists",  "PermissionDenied", "ResourceExhausted", "FailedPrecondition",
        "Aborted",  "OutOfRange",     "Unimplemented",    "Internal",          "Unavailable",
        "DataLoss", "Unauthenticated"};
    return code < ARRAY_LEN(names) ? names[code] : "Code";
}

static bool starts(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

char *conn_target(const char *first, const char *endpoint, bool secure)
{
    bool tls = !starts(first, "http://") &&
               (starts(first, "https://") || starts(first, "unixs:") || secure);
    bool socket = starts(endpoint, "unix:") || starts(endpoint, "unixs:");
    if (socket) {
        const char *path = strchr(endpoint, ':') + 1;
        return xasprintf("%s:%s", tls ? "unixs" : "unix", starts(path, "//") ? path + 2 : path);
    }
    const char *host = strstr(endpoint, "://");
    if (host != NULL && !starts(endpoint, "http://") && !starts(endpoint, "https://")) {
        return xstrdup(endpoint); /* a host that nobody finds */
    }
    host = host == NULL ? endpoint : host + 3;
    return xasprintf("%s://%.*s", tls ? "https" : "http", (int)strcspn(host, "/?"), host);
}
