/* message.h - messages between JSON and protobuf's wire form, by their descriptors.
 *
 * What        The mapping that grpc-gateway v2 uses with etcd's options: proto names out, either name in, unknown fields and unknown enum names
 *             ignored, 64-bit integers as strings out and as either in, zero values left out.
 * Callers     api/gateway and its tests.
 * Thread      values.
 * Source      etcd-v3-api.md 14.2; protobuf.dev, "ProtoJSON format".
 */
#ifndef API_GATEWAY_MESSAGE_H
#define API_GATEWAY_MESSAGE_H

#include <protobuf-c/protobuf-c.h>

#include "api/gateway/json.h"

/* Take one object off the text and append its wire form. Bytes behind it stay unread. Errors: ERR_INVALID with the words for the client in the
 * reader's context; ERR_END when there is nothing but space. `out` is then as it was. */
MUST_CHECK enum err message_from_json(struct gjson *j, const ProtobufCMessageDescriptor *d, struct bytes *out);

/* A message on its way to JSON, whose bytes come in pieces. Its fields may come in any order; those of one repeated field stand together, as
 * every encoder writes them. */
struct gjson_writer {
    const ProtobufCMessageDescriptor *d;
    uint64_t seen;      /* by index in the descriptor */
    unsigned list;      /* index of the repeated field that is open, plus 1 */
    bool any;           /* a field was written */
    unsigned depth;
};
void gjson_writer_begin(struct gjson_writer *w, const ProtobufCMessageDescriptor *d, struct bytes *out);
/* Write what is whole at the front of `in`: *used bytes of it. *want is how many bytes the next field takes, as far as that is known, 0 at the end
 * of `in`. Stops when `out` has `out_max`. ERR_INVALID: no such message. */
MUST_CHECK enum err gjson_writer_feed(struct gjson_writer *w, struct slice in, size_t out_max, struct bytes *out, size_t *used, uint64_t *want);
void gjson_writer_end(struct gjson_writer *w, struct bytes *out);

/* A whole message. */
MUST_CHECK enum err message_to_json(const ProtobufCMessageDescriptor *d, struct slice message, struct bytes *out);

/* In quotes, escaped as protobuf's JSON does. Bytes that are no UTF-8 become U+FFFD. */
void gjson_add_string(struct bytes *out, struct slice s);

#endif
