/* rules.h - where the subject may differ from which oracle, and why: one table, in rules.c.
 *
 * What        Decides on a difference in the status of a call, in one field of a reply, or on an
 *             event that the oracle's watch did not deliver.
 * Callers     the oracle test.   Thread  any.
 */
#ifndef TESTS_ORACLE_RULES_H
#define TESTS_ORACLE_RULES_H

#include "diff.h"
#include "pair.h"

bool rules_allow_status(const struct pair *p, const struct step *s);

struct rules_context { /* the argument of rules_allow_field */
    struct pair *pair;
    const struct step *step; /* NULL inside watch responses */
};

/* A diff_allow_fn. */
bool rules_allow_field(void *context, const ProtobufCMessageDescriptor *in,
                       const ProtobufCFieldDescriptor *field, const struct field_value *oracle,
                       const struct field_value *subject);

/* The subject delivered `event` to a watcher that began at `start_revision`, when the store was
 * compacted to `compacted`, and the oracle did not. */
bool rules_allow_missing_event(const struct world *w, const Mvccpb__Event *event,
                               int64_t start_revision, int64_t compacted);

#endif
