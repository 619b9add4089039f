/* base64.h - bytes as JSON carries them.
 *
 * What        Writing with the standard alphabet and padding; reading as Go's protobuf JSON does.
 * Callers     api/gateway.   Thread  any.
 * Source      RFC 4648; what is tolerated on reading: etcd-v3-api.md 14.2.
 */
#ifndef API_GATEWAY_BASE64_H
#define API_GATEWAY_BASE64_H

#include "base/slice.h"

void base64_add(struct bytes *out, struct slice raw);

/* Append what `text` stands for. Either alphabet, not both; padded when its length is a multiple of four, else not; line breaks are skipped. False
 * (and `out` as it was) when it stands for nothing. */
bool base64_take(struct bytes *out, struct slice text);

#endif
