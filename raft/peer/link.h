/* link.h - the state of everything between this member and one other.
 *
 * What        Which way a message takes, when to dial, when to give up, what raft has to hear about
 * it, and whether the other one counts as active. A pure state machine: events go in with the time
 * inside, a bounded list of actions comes out. Bytes, sockets, addresses and the encoders (frame.h,
 * headers.h) are the shell's; the simulator needs none of them. Callers     the transport, the
 * simulator. One struct link per other member. Thread      its owner's. Invariants  A message that
 * goes in is sent, or dropped with a report to raft, and a snapshot's fate is reported exactly
 * once. At most one connection per stream and direction. No event about a connection has an effect
 * after its LINK_CLOSE. Source      etcd's rafthttp, with these differences: posts and snapshots
 * that make no progress are given up; dials are quicker right after a loss and slower after many
 * failures; LINK_GONE. docs/peer-protocol.md
 *
 * Four ways lead out. The two streams are dialled by the other member, who reads what this one
 * writes; this one dials two in the other direction.
 *
 *     MsgSnap                           a post to /raft/snapshot
 *     MsgApp, its stream is attached    the append stream
 *     the message stream is attached    the message stream
 *     else                              a post to /raft (the pipeline)
 */
#ifndef RAFT_PEER_LINK_H
#define RAFT_PEER_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "raft/core/raft.h"
#include "raft/peer/frame.h"
#include "raft/peer/headers.h"
#include "raft/peer/limits.h"

enum link_path {
    LINK_PATH_APPEND = PEER_STREAM_APPEND,
    LINK_PATH_MESSAGE = PEER_STREAM_MESSAGE,
    LINK_PATH_PIPELINE,
    LINK_PATH_SNAPSHOT,
};
#define LINK_STREAMS 2u /* append and message */

/* etcd's "streamMsgAppV2", "streamMsg", "pipeline", "sendMsgSnap". Static. */
const char *link_path_name(enum link_path path);

struct link_config {
    uint64_t peer;            /* the other member */
    uint32_t n_urls;          /* 1 to LINK_URLS_MAX; the shell knows them by their place */
    uint32_t dial_timeout_ms; /* etcd: 1000 + the election timeout */
    bool pipeline_only; /* the other one is known from a request alone and in no configuration yet:
                           only posts, and what does not fit is dropped silently */
    uint64_t now_ms;
};

struct link; /* opaque */

struct link *link_create(const struct link_config *config);
void link_destroy(struct link **l); /* LINK_EV_STOP first, when there are connections */

/* ---- events ---- */

enum link_event_kind {
    LINK_EV_TICK,     /* time has passed; due at wake_at_ms of the last actions */
    LINK_EV_SEND,     /* message, taken */
    LINK_EV_ATTACHED, /* stream, conn (from link_new_conn): the other one dialled it and was
                         accepted */
    LINK_EV_PROGRESS, /* conn, drained: bytes of an attached stream or a snapshot went out. Has to
                         come after what was taken or beaten was written: else the stream counts as
                         stuck */
    LINK_EV_DETACHED, /* conn, clean, reason: an attached stream ended. The shell watches those
                         connections for their end even though nothing is read from them */
    LINK_EV_DIALED,   /* conn, outcome, reason: how LINK_DIAL went */
    LINK_EV_RECEIVED, /* conn: bytes came on a stream that this member reads */
    LINK_EV_LOST,   /* conn, clean, reason: such a stream ended, or brought something unreadable */
    LINK_EV_POSTED, /* conn, outcome, reason: how LINK_POST or LINK_POST_SNAPSHOT went */
    LINK_EV_URLS,   /* n_urls: the other one has new addresses */
    LINK_EV_STOP,   /* the other one was removed, or this member stops. What follows
                         has no effect; messages are freed, connections closed */
};

struct link_event {
    enum link_event_kind kind;
    uint64_t now_ms; /* monotonic; a smaller one than before counts as the same */
    struct raft_message *message;
    enum peer_stream stream;
    uint64_t conn;
    enum peer_outcome outcome;
    bool drained; /* PROGRESS: nothing waits to be written any more */
    bool clean;   /* ended by the other side between two frames */
    uint32_t n_urls;
    const char *reason; /* for the log; NULL: the outcome's text */
};

/* ---- actions ---- */

enum link_action_kind {
    LINK_DIAL,  /* stream, conn, url: ask for it; answer with LINK_EV_DIALED */
    LINK_CLOSE, /* conn: close it, whatever it is; no event is expected */
    LINK_WRITE, /* stream, conn: link_take has something; go on until it has not, or stop when
                   the socket is full and go on when it drains */
    LINK_BEAT,  /* stream, conn: write the link's heartbeat */
    LINK_POST,  /* conn, url, message (the caller's): POST it; answer with LINK_EV_POSTED */
    LINK_POST_SNAPSHOT, /* the same, with the database behind it */
    LINK_UNREACHABLE,   /* raft_report_unreachable */
    LINK_SNAPSHOT_DONE, /* raft_report_snapshot, delivered */
    LINK_REMOVED,       /* the other one says that this member was removed: etcd stops then */
    LINK_GONE, /* the other member's process is gone: all connections that were up ended, and
                  its machine refuses new ones at every address. Once until it is back */
    /* For the log and the metrics only. */
    LINK_DROPPED,     /* path, type: no room */
    LINK_ACTIVE,      /* "peer became active" */
    LINK_INACTIVE,    /* "peer became inactive (message send to peer failed)"; text is the error */
    LINK_STREAM_UP,   /* stream, writer: "established TCP streaming connection with remote peer" */
    LINK_STREAM_DOWN, /* stream, writer: "lost TCP streaming connection with remote peer" */
    LINK_REFUSED,     /* path, outcome: the other one answered, and not with yes */
};

struct link_action {
    enum link_action_kind kind;
    enum link_path path; /* of a stream it equals the enum peer_stream */
    uint64_t conn;
    uint32_t url;
    struct raft_message *message;
    enum raft_message_type type;
    enum peer_outcome outcome;
    bool delivered;
    bool writer;
};

struct link_actions {
    size_t n;
    struct link_action at[LINK_ACTIONS_MAX]; /* to be done in this order */
    uint64_t wake_at_ms;                     /* a TICK no later than this; UINT64_MAX: not needed */
    char text[LINK_REASON_BYTES];            /* of LINK_INACTIVE, of which there is at most one */
};

/* One event; *out is overwritten. */
void link_step(struct link *l, const struct link_event *event, struct link_actions *out);

/* A number for a connection that the other one opened; numbers are never used twice. */
uint64_t link_new_conn(struct link *l);

/* The next message for an attached stream; the caller's. NULL: there is none, or `conn` is no
 * longer attached; the next LINK_WRITE says when to ask again. */
struct raft_message *link_take(struct link *l, enum peer_stream stream, uint64_t conn);

/* ---- looking inside ---- */

struct link_info {
    bool active;
    uint64_t active_since_ms; /* of an active one */
    bool attached[LINK_STREAMS];
    bool reading[LINK_STREAMS];
    uint32_t n_waiting[LINK_STREAMS];
    uint32_t n_pipeline; /* waiting for a post */
    uint32_t n_posts;    /* under way */
    bool snapshot;       /* under way */
};
void link_info(const struct link *l, struct link_info *out);

#endif
