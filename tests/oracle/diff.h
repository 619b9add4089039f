/* diff.h - two messages compared field by field, and a message as text, by reflection.
 *
 * What        Works on any message through its descriptor, so that no field is forgotten.
 * Callers     the oracle test.   Thread  any.
 */
#ifndef TESTS_ORACLE_DIFF_H
#define TESTS_ORACLE_DIFF_H

#include <protobuf-c/protobuf-c.h>

#include "base/slice.h"

/* One field's value in one of its two messages. */
struct field_value {
    bool present;       /* false: NULL message, or another member of its oneof */
    size_t count;       /* elements of a repeated field, else 1 */
    int64_t number;     /* all number types; unsigned ones keep their bits */
    struct slice bytes; /* strings and bytes */
    const ProtobufCMessage *message;
};

/* Asked at each difference, before the parts of a message are looked at: true passes over it. */
typedef bool (*diff_allow_fn)(void *arg, const ProtobufCMessageDescriptor *in,
                              const ProtobufCFieldDescriptor *field, const struct field_value *a,
                              const struct field_value *b);

/* True when equal. Otherwise `where` has the path of the first difference and both values. */
bool diff_equal(const ProtobufCMessage *a, const ProtobufCMessage *b, diff_allow_fn allow,
                void *arg, struct bytes *where);

/* Append "field: value" lines in one line of text; bytes are escaped, long ones cut. */
void diff_print(const ProtobufCMessage *m, struct bytes *out);

/* Append bytes with \xNN for what is not plain ASCII, cut after some dozens. */
void diff_print_bytes(struct slice s, struct bytes *out);

#endif
