/* hex.h - bytes written as hex in tests.
 *
 * What        Hex digits to bytes, ended by a failed test when they are none.
 * Callers     tests/raft/peer.   Thread  the test's.
 */
#ifndef TESTS_RAFT_PEER_HEX_H
#define TESTS_RAFT_PEER_HEX_H

#include <stddef.h>

#include "base/slice.h"

/* Append the bytes that `hex` names. */
void hex_add(struct bytes *out, const char *hex);

/* `b` is what `hex` names; a difference fails the test and shows both. */
void assert_hex(struct slice b, const char *hex);

#endif
