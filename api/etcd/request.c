/* request.c - decoding, handing over, answering: what every service does alike. */
#include "api/etcd/auth_prepare.h"
#include "api/etcd/caller.h"

#include <stdio.h>

#include "base/assert.h"
#include "base/utf8.h"
#include "base/wire.h"

#define MESSAGE_DEPTH_MAX (2u * ENGINE_TXN_DEPTH_MAX + 2u) /* a txn, its op, the txn in that, ..., a request and its fields */

/* --- decoding ------------------------------------------------------------------------------------------- */

static void *pb_alloc(void *data, size_t size)
{
    return arena_alloc(data, size);
}

static void pb_free(void *data, void *p)
{
    (void)data;
    (void)p; /* the arena goes as a whole */
}

/* proto3 wants UTF-8 in `string` fields (not in bytes). Only flat messages have any among ours. */
static bool strings_valid(const ProtobufCMessage *m)
{
    for (unsigned i = 0; i < m->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &m->descriptor->fields[i];
        if (f->type != PROTOBUF_C_TYPE_STRING) {
            continue;
        }
        const char *member = (const char *)m + f->offset;
        if (f->label == PROTOBUF_C_LABEL_REPEATED) {
            size_t n = *(const size_t *)(const void *)((const char *)m + f->quantifier_offset);
            char *const *list = *(char *const *const *)(const void *)member;
            for (size_t k = 0; k < n; k++) {
                if (!utf8_valid(slice_str(list[k]))) {
                    return false;
                }
            }
        } else {
            const char *s = *(char *const *)(const void *)member;
            if (s != NULL && !utf8_valid(slice_str(s))) {
                return false;
            }
        }
    }
    return true;
}

/* grpc-go has two words for it: unary calls are decoded by the server, messages of streams where they are received. */
static void refuse_message(struct grpc_call *c, const char *what)
{
    bool unary = grpc_call_method(c)->kind == GRPC_UNARY;
    char text[160];
    (void)snprintf(text, sizeof(text), "grpc: %s: %s", unary ? "error unmarshalling request" : "failed to unmarshal the received message", what);
    grpc_finish(c, GRPC_INTERNAL, text);
}

void request_refuse_bytes(struct grpc_call *c)
{
    refuse_message(c, "proto: cannot parse invalid wire-format data");
}

/* The decoder goes on behind bytes that are no field to others (number 0, a varint of too many bits), and recurses without a bound. A request goes to the
 * log as it is, so it must be the same to every reader: to our own, which look before it is decoded, to the decoder, and to etcd. */
static bool is_well_formed(const ProtobufCMessageDescriptor *d, struct slice message, unsigned depth)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&message, &f)) == OK) {
        const ProtobufCFieldDescriptor *fd = f.type == WIRE_LEN ? protobuf_c_message_descriptor_get_field(d, f.number) : NULL;
        if (fd != NULL && fd->type == PROTOBUF_C_TYPE_MESSAGE && (depth == 0 || !is_well_formed(fd->descriptor, f.bytes, depth - 1))) {
            return false;
        }
    }
    return e == ERR_END;
}

static void *decode(struct grpc_call *c, struct arena *arena, const ProtobufCMessageDescriptor *d, struct slice bytes)
{
    ProtobufCAllocator alloc = {.alloc = pb_alloc, .free = pb_free, .allocator_data = arena};
    ProtobufCMessage *m = is_well_formed(d, bytes, MESSAGE_DEPTH_MAX) ? protobuf_c_message_unpack(d, &alloc, bytes.len, bytes.data) : NULL;
    if (m == NULL) {
        request_refuse_bytes(c);
        return NULL;
    }
    if (!strings_valid(m)) {
        refuse_message(c, "string field contains invalid UTF-8");
        return NULL;
    }
    return m;
}

void *request_decode(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes)
{
    return decode(c, grpc_call_arena(c), d, bytes);
}

void *request_decode_stream(struct grpc_call *c, const ProtobufCMessageDescriptor *d, struct slice bytes)
{
    struct etcd_loop *l = loop_of(server_of(c), grpc_call_loop(c));
    arena_reset(l->message);
    return decode(c, l->message, d, bytes);
}

/* --- handing over ------------------------------------------------------------------------------------------ */

struct etcd_server *server_of(const struct grpc_call *c)
{
    return grpc_call_service(c);
}

struct etcd_loop *loop_of(const struct etcd_server *s, const struct loop *l)
{
    return &s->loops[loop_number(l)];
}

struct request *request_create(struct grpc_call *c, enum member_op_kind kind, void (*finish)(struct request *r))
{
    struct request *r = arena_calloc(grpc_call_arena(c), 1, sizeof(*r));
    if (r == NULL) {
        status_finish(c, ERR_TOO_MANY_REQUESTS);
        return NULL;
    }
    r->call = grpc_call_ref(c);
    r->finish = finish;
    r->op.kind = kind;
    return r;
}

void request_submit(struct request *r)
{
    request_submit_on(loop_of(server_of(r->call), grpc_call_loop(r->call)), r);
}

void request_submit_on(struct etcd_loop *l, struct request *r)
{
    r->op.port = &l->port;
    r->op.node.next = NULL;
    if (l->last != NULL) {
        l->last->node.next = &r->op.node;
    } else {
        l->first = &r->op;
    }
    l->last = &r->op;
}

/* `request` and the header behind it. */
static void set_data(struct request *r, struct slice head, struct slice body, const struct auth_identity *who)
{
    struct etcd_server *s = server_of(r->call);
    struct bytes *header = &loop_of(s, grpc_call_loop(r->call))->scratch;
    uint64_t id = member_next_request_id(s->member);
    bytes_reset(header);
    auth_add_entry_header(header, id, who);
    struct buf *b = buf_create(head.len + body.len + header->len);
    memcpy(b->data, head.data, head.len);
    if (body.len > 0) {
        memcpy(b->data + head.len, body.data, body.len);
    }
    memcpy(b->data + head.len + body.len, header->data, header->len);
    bytes_reset(header);
    r->op.data = b;
    r->op.request_id = id;
    r->auth_revision = who->revision;
    if (who->revision != 0) {
        r->proposed = buf_ref(b);
        r->n_proposed = head.len + body.len;
    }
    request_submit(r);
}

static void propose(struct request *r, uint32_t number, struct slice encoded, const struct auth_identity *who)
{
    uint8_t head[2 * WIRE_VARINT_MAX];
    uint8_t *p = wire_put_varint(wire_put_tag(head, number, WIRE_LEN), encoded.len);
    set_data(r, slice_of(head, (size_t)(p - head)), encoded, who);
}

void request_propose(struct request *r, uint32_t number, struct slice encoded)
{
    struct auth_who who;
    r->refused = caller_identify(r->call, &who);
    if (r->refused != OK) {
        request_submit(r);
        return;
    }
    const struct auth_identity id = auth_identity_of(&who);
    propose(r, number, encoded, &id);
}

void request_propose_as_nobody(struct request *r, uint32_t number, struct slice encoded)
{
    const struct auth_identity nobody = {.user = ""};
    propose(r, number, encoded, &nobody);
}

/* An entry that is refused for its auth revision has done nothing. A token that is good at any revision is worth another try; one that carries its own
 * will never be newer. */
bool request_goes_again(struct request *r)
{
    struct buf *old = r->proposed;
    struct auth_who who;
    r->proposed = NULL;
    bool again = old != NULL && r->op.err == ERR_AUTH_OLD_REVISION && r->tries < CALLER_TRIES_MAX && !grpc_call_ended(r->call) &&
                 caller_identify(r->call, &who) == OK && who.revision > r->auth_revision;
    if (again) {
        const struct auth_identity id = auth_identity_of(&who);
        buf_unref(&r->op.result.body);
        r->tries++;
        r->op = (struct member_op){.kind = MEMBER_PROPOSE};
        set_data(r, slice_of(old->data, r->n_proposed), (struct slice){NULL, 0}, &id);
    }
    buf_unref(&old);
    return again;
}

/* --- answering ------------------------------------------------------------------------------------------------- */

size_t reply_header(const struct etcd_server *s, int64_t revision, uint8_t out[REPLY_HEADER_MAX])
{
    uint64_t fields[4] = {member_cluster_id(s->member), member_id(s->member), (uint64_t)revision, engine_applied_term(s->engine)};
    uint8_t *p = out + 2;
    for (uint32_t i = 0; i < 4; i++) {
        if (fields[i] != 0) {
            p = wire_put_tag(p, i + 1, WIRE_VARINT);
            p = wire_put_varint(p, fields[i]);
        }
    }
    static_assert(2 + 4 * (1 + WIRE_VARINT_MAX) <= REPLY_HEADER_MAX, "the longest header fits, its length in one byte");
    out[0] = 1u << 3 | WIRE_LEN;
    out[1] = (uint8_t)(p - out - 2);
    return (size_t)(p - out);
}

void reply_send(struct grpc_call *c, int64_t revision, struct slice body)
{
    uint8_t header[REPLY_HEADER_MAX];
    size_t n = reply_header(server_of(c), revision, header);
    grpc_reply(c, (struct slice[]){{header, n}, body}, 2);
}

void request_finish_proposal(struct request *r)
{
    if (r->op.err != OK) {
        status_finish(r->call, r->op.err);
    } else if (r->op.result.over_quota) {
        status_finish(r->call, ERR_NO_SPACE);
    } else {
        reply_send(r->call, r->op.result.revision, buf_slice(r->op.result.body));
    }
    buf_unref(&r->op.result.body);
}

static bool call_raise(struct member *m, struct member_op *op)
{
    member_raise_nospace(m);
    op->err = OK;
    return true;
}

static void finish_raise(struct request *r)
{
    status_finish(r->call, ERR_NO_SPACE);
}

void reply_raise_nospace(struct grpc_call *c)
{
    struct request *r = request_create(c, MEMBER_CALL, finish_raise);
    if (r != NULL) {
        r->op.call = call_raise;
        request_submit(r);
    }
}

/* --- linearizable reads ---------------------------------------------------------------------------------------------- */


static void finish_barrier(struct request *r)
{
    struct etcd_server *s = server_of(r->call);
    if (r->op.err != OK) {
        counter_add(s->read_indexes_failed, 1);
        status_finish(r->call, r->op.err);
        return;
    }
    if (!grpc_call_ended(r->call)) {
        r->next(r->call, r->message);
    }
}

void request_read_barrier(struct grpc_call *c, void *message, void (*next)(struct grpc_call *c, void *message))
{
    if (member_read_is_current(server_of(c)->member)) {
        next(c, message);
        return;
    }
    struct request *r = request_create(c, MEMBER_READ_INDEX, finish_barrier);
    if (r != NULL) {
        r->message = message;
        r->next = next;
        request_submit(r);
    }
}
