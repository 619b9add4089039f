/* stream.h - keep-alives and streamed ranges, compared.
 *
 * What        LeaseKeepAlive on one long stream a side, and RangeStream merged into one reply,
 *             against RangeStream or, where the oracle has none, against Range.
 * Callers     the oracle test.   Thread  one.
 */
#ifndef TESTS_ORACLE_STREAM_H
#define TESTS_ORACLE_STREAM_H

#include "pair.h"

struct keep_alive {
    struct client_stream *streams[N_SIDES];
};

bool keep_alive_open(struct keep_alive *k, struct pair *p);
void keep_alive_close(struct keep_alive *k);
bool keep_alive_once(struct keep_alive *k, struct pair *p, int64_t lease);

/* `q` must be in key order and without revision bounds: others are refused by design. */
bool range_stream(struct pair *p, const Etcdserverpb__RangeRequest *q);

#endif
