/* net.h - this member's own HTTP/1.1 requests, over libcurl, on its loop. Internal to api/peer.
 *
 * What        A call is embedded in its owner's object. Its answer comes in pieces (streams never end); its body may be pulled in
 *             pieces (databases).
 * Callers     api/peer.   Thread  the loop's.
 * Invariants  head, data and pull run inside libcurl and must not call net_*; settled and ended run outside and may do anything,
 *             free the call included. `ended` is called exactly once, and never within net_start, unless net_cancel came first.
 */
#ifndef API_PEER_NET_H
#define API_PEER_NET_H

#include <curl/curl.h>

#include "api/http/loop.h"
#include "api/peer/secure.h"
#include "base/slice.h"
#include "raft/peer/headers.h"

struct net; /* opaque */
struct net_call;

struct net_ops {
    void (*head)(struct net_call *c);                     /* the answer's head is there; may be NULL */
    bool (*data)(struct net_call *c, struct slice piece); /* of the answer's body; false: give up, then `settled` */
    size_t (*pull)(struct net_call *c, uint8_t *dst, size_t room); /* bytes of the body; 0: none now, net_resume when there are */
    void (*settled)(struct net_call *c);                           /* after any of those; may be NULL */
    /* PEER_OK: an answer with `status` came, complete. Else PEER_REFUSED_CONNECTION or PEER_FAILED, and why. */
    void (*ended)(struct net_call *c, enum peer_outcome outcome, const char *reason);
};

struct net_request {
    const char *method; /* "GET" or "POST" */
    const char *url;    /* of a member: http://HOST:PORT or unix://HOST:PORT, with or without an s */
    const char *path;
    const struct peer_header *headers; /* copied */
    size_t n_headers;
    bool own_connection;   /* neither shared nor kept */
    struct slice body;     /* POST: borrowed until the end; ... */
    uint64_t pulled_bytes; /* ... or so many from `pull` */
    uint32_t timeout_ms;   /* for everything; 0: none */
};

/* The first block is the owner's to read. */
struct net_call {
    unsigned status;
    bool timed_out;
    char version[32];                 /* X-Server-Version */
    char cluster[PEER_ID_TEXT_BYTES]; /* X-Etcd-Cluster-ID */
    char extras[8];                   /* X-Pintle-Extras */

    const struct net_ops *ops;
    struct net *net;
    CURL *easy;
    struct curl_slist *headers;
    struct net_call *next_touched;
    bool touched;
    bool fresh; /* `settled` is due */
    bool done;  /* `ended` is due */
    CURLcode result;
    char error[CURL_ERROR_SIZE];
};

/* `tls` is borrowed until the end; NULL: as peer_tls_apply has it. */
struct net *net_create(struct loop *l, const struct peer_tls *tls);
/* Every call has ended or was canceled. Before the loop's last turn, which closes the handles. */
void net_destroy(struct net **n);

/* Zeroes *c first. */
void net_start(struct net *n, struct net_call *c, const struct net_ops *ops, const struct net_request *r);
/* Close it; nothing is called any more. Does nothing to a call that was never started or has ended. */
void net_cancel(struct net_call *c);
/* `pull` has something again. */
void net_resume(struct net_call *c);

#endif
