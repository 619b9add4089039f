/* err.h - one vocabulary of failure for the whole program.
 *
 * What        `enum err` names every way a call can fail that a caller may want to tell apart; the
 *             human text with its numbers travels beside it in `struct err_ctx`.
 * Callers     everything.
 * Thread      values; an err_ctx belongs to whoever declared it.
 * Invariants  OK is 0. The list is closed: a switch over it has no default, so that a new value
 *             shows every place that must decide. What a client sees for each value (gRPC code and
 *             etcd's exact text) stands in one table, api/etcd/status.c.
 */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdarg.h>
#include <stddef.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))

/* X(name, short English text). The first block is about this machine, the second is the state
 * machine's answers to requests, named after etcd's errors. */
#define ERR_LIST(X)                                                                                \
    X(OK, "ok")                                                                                    \
    X(ERR_IO, "input/output error")                                                                \
    X(ERR_NO_DISK, "no space left on device")                                                      \
    X(ERR_NO_MEM, "out of memory")                                                                 \
    X(ERR_CORRUPT, "corrupt data")                                                                 \
    X(ERR_FOREIGN, "not ours: made by another program, cluster or member")                         \
    X(ERR_LOCKED, "in use by another process")                                                     \
    X(ERR_NOT_FOUND, "not found")                                                                  \
    X(ERR_EXISTS, "exists already")                                                                \
    X(ERR_PERM, "operation not permitted")                                                         \
    X(ERR_INVALID, "invalid")                                                                      \
    X(ERR_LIMIT, "limit exceeded")                                                                 \
    X(ERR_BUSY, "busy: a bounded queue is full")                                                   \
    X(ERR_CLOSED, "closed")                                                                        \
    X(ERR_END, "end of data")                                                                      \
    X(ERR_UNSUPPORTED, "unsupported")                                                              \
    X(ERR_ADDR_IN_USE, "address already in use")                                                   \
    X(ERR_CANCELED, "canceled by the caller")                                                      \
    X(ERR_DEADLINE, "deadline exceeded")                                                           \
    X(ERR_EMPTY_KEY, "key is not provided")                                                        \
    X(ERR_KEY_NOT_FOUND, "key not found")                                                          \
    X(ERR_VALUE_PROVIDED, "value is provided")                                                     \
    X(ERR_LEASE_PROVIDED, "lease is provided")                                                     \
    X(ERR_TOO_MANY_OPS, "too many operations in txn request")                                      \
    X(ERR_DUPLICATE_KEY, "duplicate key given in txn request")                                     \
    X(ERR_SORT_OPTION, "invalid sort option")                                                      \
    X(ERR_COMPACTED, "required revision has been compacted")                                       \
    X(ERR_FUTURE_REV, "required revision is a future revision")                                    \
    X(ERR_NO_SPACE, "database space exceeded")                                                     \
    X(ERR_LEASE_NOT_FOUND, "requested lease not found")                                            \
    X(ERR_LEASE_EXISTS, "lease already exists")                                                    \
    X(ERR_LEASE_TTL, "too large lease TTL")                                                        \
    X(ERR_MEMBER_NOT_FOUND, "member not found")                                                    \
    X(ERR_REQUEST_TOO_LARGE, "request is too large")                                               \
    X(ERR_TOO_MANY_REQUESTS, "too many requests")                                                  \
    X(ERR_NO_LEADER, "no leader")                                                                  \
    X(ERR_NOT_LEADER, "not leader")                                                                \
    X(ERR_LEADER_CHANGED, "leader changed")                                                        \
    X(ERR_TIMEOUT, "request timed out")                                                            \
    X(ERR_STOPPED, "server stopped")                                                               \
    X(ERR_MEMBER_EXISTS, "member id exists already")                                               \
    X(ERR_PEER_URL_EXISTS, "peer URL exists already")                                              \
    X(ERR_NOT_ENOUGH_STARTED, "not enough started members")                                        \
    X(ERR_UNHEALTHY, "unhealthy cluster")                                                          \
    X(ERR_NOT_LEARNER_MEMBER, "member is not a learner")                                           \
    X(ERR_LEARNER_NOT_READY, "learner is behind the leader")                                       \
    X(ERR_TOO_MANY_LEARNERS, "too many learners")                                                  \
    X(ERR_LEARNER, "not served by a learner")                                                      \
    X(ERR_BAD_TRANSFEREE, "bad leader transferee")                                                 \
    X(ERR_TIMEOUT_LEADER, "request timed out, the leader had failed")                              \
    X(ERR_TIMEOUT_CONN, "request timed out, the connection was lost")                              \
    X(ERR_TIMEOUT_APPLIED, "request timed out, applying took too long")                            \
    X(ERR_TIMEOUT_TRANSFER, "leader transfer took too long")                                       \
    X(ERR_NOT_PRIMARY, "leadership not confirmed")                                                 \
    X(ERR_CORRUPT_CLUSTER, "corrupt cluster")                                                      \
    X(ERR_ROOT_USER_MISSING, "root user does not exist")                                           \
    X(ERR_ROOT_ROLE_MISSING, "root user does not have root role")                                  \
    X(ERR_USER_EXISTS, "user name exists already")                                                 \
    X(ERR_USER_EMPTY, "user name is empty")                                                        \
    X(ERR_USER_NOT_FOUND, "user name not found")                                                   \
    X(ERR_ROLE_EXISTS, "role name exists already")                                                 \
    X(ERR_ROLE_NOT_FOUND, "role name not found")                                                   \
    X(ERR_ROLE_EMPTY, "role name is empty")                                                        \
    X(ERR_AUTH_FAILED, "invalid user ID or password")                                              \
    X(ERR_PERMISSION_NOT_GIVEN, "permission not given")                                            \
    X(ERR_PERMISSION_DENIED, "permission denied")                                                  \
    X(ERR_ROLE_NOT_GRANTED, "role is not granted to the user")                                     \
    X(ERR_PERMISSION_NOT_GRANTED, "permission is not granted to the role")                         \
    X(ERR_AUTH_NOT_ENABLED, "authentication is not enabled")                                       \
    X(ERR_AUTH_TOKEN, "invalid auth token")                                                        \
    X(ERR_AUTH_MANAGEMENT, "invalid auth management")                                              \
    X(ERR_AUTH_OLD_REVISION, "revision in header is old")                                          \
    X(ERR_NO_PASSWORD_USER, "password was given for no password user")                             \
    X(ERR_PASSWORD_LENGTH, "password is longer than 72 bytes")                                     \
    X(ERR_AUTH_VERIFY_ONLY, "token signing attempted with verify-only key")

enum err {
#define ERR_ENUM(name, text) name,
    ERR_LIST(ERR_ENUM)
#undef ERR_ENUM
        ERR_N
};

#define ERR_TEXT_MAX 512u /* bytes with the final NUL; longer text is cut */

/* The story of one failure, innermost clause last: "open log in data: segment 12: checksum". */
struct err_ctx {
    char text[ERR_TEXT_MAX];
};

/* Short English text of `e`, static. */
const char *err_text(enum err e);

/* Start the story (replacing what was there) and return `e`. `ec` may be NULL. */
enum err err_set(struct err_ctx *ec, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* Put one clause and ": " in front of the story and return `e`. With OK nothing happens. `ec` may
 * be NULL. An empty story first becomes err_text(e). */
enum err err_wrap(struct err_ctx *ec, enum err e, const char *fmt, ...) PRINTF_LIKE(3, 4);

/* The error for an errno value: ENOSPC and EDQUOT give ERR_NO_DISK, ENOENT ERR_NOT_FOUND, EEXIST
 * ERR_EXISTS, EACCES, EPERM and EROFS ERR_PERM, ENOMEM ERR_NO_MEM, EADDRINUSE ERR_ADDR_IN_USE,
 * everything else ERR_IO. */
enum err err_from_errno(int errnum);

#endif
