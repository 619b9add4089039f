/* describe.h - raft's values as the text that etcd-io/raft's traces show.
 *
 * What        One function per value; each appends to `out`.
 * Callers     tests of raft/core.   Thread  any.
 */
#ifndef TESTS_RAFT_CORE_DESCRIBE_H
#define TESTS_RAFT_CORE_DESCRIBE_H

#include "raft/core/raft.h"

void describe_entry(const struct raft_entry *e, struct bytes *out);
void describe_entries(const struct raft_entry *e, size_t n, struct bytes *out); /* one a line */
void describe_snapshot(const struct raft_snapshot *s, struct bytes *out);

/* A message and, indented below it, the ones that answer it. */
void describe_message(const struct raft_message *m, struct raft_message *const *responses,
                      size_t n_responses, struct bytes *out);

/* The other way: "v1 l2 r3 u4" added to the changes of `cc`. Anything else ends the test. */
void describe_parse_changes(const char *text, struct raft_conf_change *cc);

#endif
