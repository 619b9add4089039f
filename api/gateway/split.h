/* split.h - where the values of a text end that is still coming.
 *
 * What        Finds the end of an object by its brackets and strings alone, each byte looked at once, so that a text which comes in small pieces costs
 *             no more than one that comes whole. Whether it is an object is the reader's business (json.h).
 * Callers     api/gateway and its tests.
 * Thread      values.
 * Invariants  What it calls an end is one for every text that is JSON. Of what is none it may wait for more, or hand on a beginning that the reader
 *             refuses.
 */
#ifndef API_GATEWAY_SPLIT_H
#define API_GATEWAY_SPLIT_H

#include "base/slice.h"

struct gjson_split {
    size_t seen;  /* bytes of the text that were looked at */
    size_t depth; /* of brackets */
    bool string;
    bool escape; /* the byte before was a backslash, within a string */
};

/* How many bytes of `text` make its first value; 0: not all of it is there. `text` is what was there in the last call that gave 0, and perhaps more.
 * What begins like no object is handed on as far as it is there. */
size_t gjson_split(struct gjson_split *s, struct slice text);

#endif
