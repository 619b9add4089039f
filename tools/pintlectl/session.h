/* session.h - a lease that lives as long as this program, and what waits under its protection.
 *
 * What        Grants and renews a lease, waits for keys to vanish, for events and for signals, all
 *             at once.
 * Callers     lock.c, elect.c.
 * Thread      one.
 * Invariants  SIGINT, SIGTERM and SIGCHLD are blocked from session_start on and read from a
 *             descriptor.
 * Source      etcd's client/v3/concurrency: one key per waiter under a prefix, the oldest holds.
 */
#ifndef TOOLS_PINTLECTL_SESSION_H
#define TOOLS_PINTLECTL_SESSION_H

#include <sys/types.h>

#include "tools/pintlectl/ctl.h"
#include "tools/pintlectl/keepalive.h"

struct session {
    struct ctl *ctl; /* borrowed */
    struct keepalive keepalive;
    int64_t lease;
    int signals; /* signalfd */
    pid_t child; /* 0: none */
    int child_status;
    /* The watch, if one is wanted. */
    bool watching;
    struct key_range range;
    int64_t next_revision;
    struct client_stream *stream; /* NULL: to be opened */
    unsigned generation;
};

enum session_news {
    SESSION_NONE,
    SESSION_EVENTS,
    SESSION_SIGNAL,
    SESSION_CHILD,
    SESSION_EXPIRED,
    SESSION_WATCH_LOST
};

#define SESSION_TTL_S 60 /* in the place of a time to live that is none */
void session_start(struct session *s, struct ctl *ctl, int64_t ttl);
void session_end(struct session *s);
/* Watch from a revision on, in the place of what was watched. */
void session_watch(struct session *s, struct key_range range, int64_t revision);
void session_unwatch(struct session *s);
/* Wait for something. EVENTS gives the caller *events. */
MUST_CHECK enum session_news session_wait(struct session *s, Etcdserverpb__WatchResponse **events);

/* The key of this session among those that wait under "name/". */
struct session_place {
    const char *name, *key; /* the arena's */
    int64_t created, header_revision;
    bool first; /* nobody was there before */
};
const char *session_key(const struct session *s, const char *name);
/* Put the key unless it is there. */
struct session_place session_enter(struct session *s, const char *name, const char *value);
/* Wait until no key there is older. false: a signal came first. */
MUST_CHECK bool session_wait_first(struct session *s, const struct session_place *p);
void session_delete(struct session *s, const char *key);
/* Keep `key` until a signal comes, then delete it. The program ends with `expired` when the lease
 * is lost before that. Nothing is watched. */
void session_hold(struct session *s, const char *key, const char *expired);
Etcdserverpb__RangeResponse *session_get(struct session *s, const char *key);
/* The range of all keys under "name/". */
struct key_range session_prefix(const struct session *s, const char *name);

#endif
