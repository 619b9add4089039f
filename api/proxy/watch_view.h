/* watch_view.h - one answer of an upstream watch, cut up for its many receivers.
 *
 * What        Finds the header, the flags and the events of an encoded WatchResponse, and writes it anew for one receiver: with that receiver's id,
 *             without the events it has had, does not want, or wants without the value before.
 * Callers     api/proxy/watch.c.   Thread  pure.
 * Invariants  Events of one answer ascend by revision, as etcd sends them.
 * Source      etcd's rpc.proto; server/proxy/grpcproxy/watcher.go for what a receiver gets.
 */
#ifndef API_PROXY_WATCH_VIEW_H
#define API_PROXY_WATCH_VIEW_H

#include "base/err.h"
#include "base/slice.h"

struct watch_event {
    struct slice whole; /* the encoded Event */
    struct slice kv;    /* its key-value */
    int64_t revision;
    bool is_delete;
    bool has_before; /* prev_kv */
};

struct watch_view {
    struct slice header; /* encoded ResponseHeader */
    int64_t header_revision, compact_revision;
    bool created, canceled;
    struct slice reason;
    struct watch_event *events; /* owned */
    size_t n_events;
    struct bytes all, all_bare; /* owned; all events as fields of an answer; without prev_kv */
};

/* What a receiver is like. */
struct watch_want {
    int64_t id;
    int64_t next_revision; /* of the first event that it has not had; 0: whatever comes after now */
    bool progress, before; /* wants notifications of progress; values before */
    bool no_put, no_delete;
};

/* Borrows `message`. ERR_INVALID. Free with watch_view_deinit, on errors too. */
MUST_CHECK enum err watch_view_read(struct slice message, struct watch_view *out);
void watch_view_deinit(struct watch_view *v);
bool watch_view_is_progress(const struct watch_view *v);
/* Append the receiver's answer to `out`, and move it on. false: there is none for it. */
bool watch_view_write(const struct watch_view *v, struct watch_want *w, struct bytes *out);

#endif
