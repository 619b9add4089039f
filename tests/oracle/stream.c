/* stream.c - see the header. */
#include "stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "rules.h"

bool keep_alive_open(struct keep_alive *k, struct pair *p)
{
    for (int side = 0; side < N_SIDES; side++) {
        if (client_stream_open(p->clients[side], "/etcdserverpb.Lease/LeaseKeepAlive",
                               &k->streams[side]) != OK) {
            return false;
        }
    }
    return true;
}

void keep_alive_close(struct keep_alive *k)
{
    client_stream_close(&k->streams[ORACLE]);
    client_stream_close(&k->streams[SUBJECT]);
}

static bool keep_alive_report(const struct pair *p, int64_t lease, struct slice what)
{
    (void)fprintf(stderr,
                  "DIFFERENCE in request %" PRIu64 ", seed %" PRIu64 ", at revision %" PRId64
                  "\n  KEEP_ALIVE of lease %" PRId64 " (oracle | subject): %.*s\n",
                  p->n_requests, p->seed, p->world->revision, lease, (int)what.len,
                  (const char *)what.data);
    return false;
}

bool keep_alive_once(struct keep_alive *k, struct pair *p, int64_t lease)
{
    Etcdserverpb__LeaseKeepAliveRequest q = ETCDSERVERPB__LEASE_KEEP_ALIVE_REQUEST__INIT;
    q.id = lease;
    uint8_t packed[16];
    size_t n = etcdserverpb__lease_keep_alive_request__pack(&q, packed);
    p->n_requests++;
    struct bytes message = {0};
    Etcdserverpb__LeaseKeepAliveResponse *replies[N_SIDES] = {NULL, NULL};
    bool same = true;
    for (int side = 0; side < N_SIDES && same; side++) {
        same = client_stream_send(k->streams[side], slice_of(packed, n)) == OK;
    }
    for (int side = 0; side < N_SIDES && same; side++) {
        same = client_stream_recv(k->streams[side], CALL_MS, &message) == OK;
        if (same) {
            replies[side] =
                etcdserverpb__lease_keep_alive_response__unpack(NULL, message.len, message.data);
        }
    }
    if (!same || replies[ORACLE] == NULL || replies[SUBJECT] == NULL) {
        same = keep_alive_report(p, lease, slice_str("no reply"));
    } else {
        struct rules_context context = {p, NULL};
        bytes_reset(&message);
        same = diff_equal(&replies[ORACLE]->base, &replies[SUBJECT]->base, rules_allow_field,
                          &context, &message) ||
               keep_alive_report(p, lease, bytes_slice(&message));
    }
    for (int side = 0; side < N_SIDES; side++) {
        if (replies[side] != NULL) {
            etcdserverpb__lease_keep_alive_response__free_unpacked(replies[side], NULL);
        }
    }
    bytes_deinit(&message);
    return same;
}

/* Append a chunk to what came before. Only the last chunk may have a header. */
static const char *append(Etcdserverpb__RangeResponse **whole, struct slice message)
{
    if (*whole != NULL && (*whole)->header != NULL) {
        return "a chunk after the one with the header";
    }
    Etcdserverpb__RangeStreamResponse *chunk =
        etcdserverpb__range_stream_response__unpack(NULL, message.len, message.data);
    if (chunk == NULL || chunk->range_response == NULL) {
        etcdserverpb__range_stream_response__free_unpacked(chunk, NULL);
        return "a chunk without a reply";
    }
    Etcdserverpb__RangeResponse *next = chunk->range_response;
    chunk->range_response = NULL;
    etcdserverpb__range_stream_response__free_unpacked(chunk, NULL);
    if (*whole != NULL) {
        Etcdserverpb__RangeResponse *before = *whole;
        size_t n = before->n_kvs + next->n_kvs;
        Mvccpb__KeyValue **kvs = xalloc((n + 1) * sizeof(kvs[0]));
        for (size_t i = 0; i < n; i++) {
            kvs[i] = i < before->n_kvs ? before->kvs[i] : next->kvs[i - before->n_kvs];
        }
        free(next->kvs);
        next->kvs = kvs;
        next->n_kvs = n;
        before->n_kvs = 0;
        etcdserverpb__range_response__free_unpacked(before, NULL);
    }
    *whole = next;
    return NULL;
}

static void fail_here(struct outcome *o, const char *text)
{
    o->status = (struct client_status){.code = CLIENT_CODE_INTERNAL, .local = true};
    (void)snprintf(o->status.text, sizeof(o->status.text), "%s", text);
}

static void merged(struct client *client, struct slice request, struct outcome *o)
{
    struct client_stream *s = NULL;
    struct bytes message = {0};
    const char *wrong = NULL;
    Etcdserverpb__RangeResponse *whole = NULL;
    enum err e = client_stream_open(client, "/etcdserverpb.KV/RangeStream", &s);
    e = e != OK ? e : client_stream_send(s, request);
    e = e != OK ? e : client_stream_half_close(s);
    while (e == OK && wrong == NULL) {
        e = client_stream_recv(s, CALL_MS, &message);
        if (e == OK) {
            wrong = append(&whole, bytes_slice(&message));
        }
    }
    if (wrong != NULL || e != ERR_END) {
        fail_here(o, wrong != NULL ? wrong : err_text(e));
    } else {
        o->status = *client_stream_status(s);
    }
    if (o->status.code != CLIENT_CODE_OK && whole != NULL) {
        etcdserverpb__range_response__free_unpacked(whole, NULL);
        whole = NULL;
    }
    o->reply = whole == NULL ? NULL : &whole->base;
    client_stream_close(&s);
    bytes_deinit(&message);
}

static void unary(struct client *client, struct slice request, struct outcome *o)
{
    struct bytes reply = {0};
    enum err e =
        client_call(client, "/etcdserverpb.KV/Range", request, CALL_MS, &o->status, &reply);
    if (e != OK) {
        fail_here(o, err_text(e));
    } else if (o->status.code == CLIENT_CODE_OK) {
        Etcdserverpb__RangeResponse *r =
            etcdserverpb__range_response__unpack(NULL, reply.len, reply.data);
        o->reply = r == NULL ? NULL : &r->base;
    }
    bytes_deinit(&reply);
}

bool range_stream(struct pair *p, const Etcdserverpb__RangeRequest *q)
{
    struct step s = step_of(M_RANGE, q);
    s.number = ++p->n_requests;
    struct bytes request = {0};
    size_t n = etcdserverpb__range_request__get_packed_size(q);
    (void)etcdserverpb__range_request__pack(q, bytes_reserve(&request, n + 1));
    if (p->world->version == V37) {
        merged(p->clients[ORACLE], slice_of(request.data, n), &s.outcome[ORACLE]);
    } else {
        unary(p->clients[ORACLE], slice_of(request.data, n), &s.outcome[ORACLE]);
    }
    merged(p->clients[SUBJECT], slice_of(request.data, n), &s.outcome[SUBJECT]);
    bool same = pair_compare(p, &s);
    pair_release(&s, 1);
    bytes_deinit(&request);
    return same;
}
