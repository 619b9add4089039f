/* local.h - calls that are made inside the process.
 *
 * What        The same methods, admission, limits, deadlines and statuses as for calls over HTTP/2, without the stream: the maker hands over request
 *             messages and takes the bytes of the answer when it has room for them, so that back-pressure reaches the service as it does from
 *             a socket. The JSON gateway is such a maker; services that act on their caller's behalf (Lock, Election) are another.
 * Callers     api/gateway, api/etcd.
 * Thread      one loop; a call made on a loop stays on it.
 * Lifetime    The maker embeds a struct grpc_local and keeps it until grpc_local_close. `ready` comes at the end of a turn, never from within a
 *             function of this header, so that a maker is never called while it calls.
 */
#ifndef API_GRPC_LOCAL_H
#define API_GRPC_LOCAL_H

#include "api/grpc/server.h"

struct grpc_local {
    /* There are bytes to take, or the call has ended, or both. Set by the maker. */
    void (*ready)(struct grpc_local *l);
    /* Private. */
    struct grpc_call *call;                  /* NULL: not open */
    struct grpc_local *next, **prev;         /* all of the loop */
    struct grpc_local *next_ready, **prev_ready; /* prev_ready NULL: not listed */
};

/* What a request's headers would say. */
struct grpc_local_head {
    const char *path; /* "/etcdserverpb.KV/Put" */
    struct slice token, authorization, hasleader, client_api_version; /* NULL data: absent */
    struct slice common_name; /* of a certificate that speaks for this call: grpc_call_common_name of the call it is part of */
    bool from_gateway; /* a certificate's name is then no identity: grpcgateway-accept is set */
    bool inner;        /* a step of a call that was admitted and counted already */
    uint64_t timeout_ms; /* UINT64_MAX: none */
};

/* Open a call. Streams start at once. false: the loop serves no calls (any more). A head that is refused is an answer like any other. */
MUST_CHECK bool grpc_local_open(struct grpc_local *l, struct grpc_server *s, struct loop *loop, const struct grpc_local_head *head);
bool grpc_local_is_open(const struct grpc_local *l);
/* A request message, borrowed. Dropped when the call has ended. */
void grpc_local_send(struct grpc_local *l, struct slice message);
void grpc_local_half_close(struct grpc_local *l);
/* Up to `room` bytes of the answer: messages, each behind five bytes of flag and length. 0: none now. */
size_t grpc_local_take(struct grpc_local *l, uint8_t *dst, size_t room);
/* The call has ended and everything was taken: its status, plain text borrowed until the close. */
bool grpc_local_ended(const struct grpc_local *l, enum grpc_code *code, struct slice *text);
/* The server goes down: let the service end what would not end by itself. */
void grpc_local_drain(struct grpc_local *l);
/* The end; cancels the call when it has not ended. May be called when it is not open. */
void grpc_local_close(struct grpc_local *l);

#endif
