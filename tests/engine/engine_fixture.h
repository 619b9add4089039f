/* engine_fixture.h - an engine under test: a backend, a log of entries, and what the engine told.
 *
 * Callers     tests/engine.   Thread  the test's.
 */
#ifndef TESTS_ENGINE_ENGINE_FIXTURE_H
#define TESTS_ENGINE_ENGINE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "api/proto/raft.pb-c.h"
#include "base/assert.h"
#include "base/mem.h"
#include "engine/engine.h"
#include "engine/lease.h"
#include "engine/watch.h"

struct logged {
    uint32_t type;
    struct buf *data;
};

struct fixture {
    struct backend *backend; /* the engine's */
    char *dir;               /* owned; of an LMDB backend */
    struct engine *e;
    uint64_t index;
    uint64_t now_ms;
    struct logged *log; /* every entry, from index 1 */
    size_t n_log;
    /* Heard from the engine. */
    int64_t changed_revision;
    size_t n_changes;
    uint64_t stored_index;
    uint64_t stored_before;
    int64_t compacted;
    struct compaction_report passes[256]; /* those that ended; a ring */
    size_t n_passes;
    int n_failed;
    uint32_t batch_limit;
    uint64_t pause_ms; /* between steps of a compaction */
    struct backend_ops kept_ops;
};

enum fixture_kind { ON_MEMORY, ON_LMDB };
void fixture_init(struct fixture *f, enum fixture_kind kind);
void fixture_deinit(struct fixture *f);
/* Close and open on the same store; what was not flushed is applied again from the log. */
void fixture_reopen(struct fixture *f);
/* Only in memory: crash, open, and apply again from the log what the store lacks. */
void fixture_crash(struct fixture *f, bool undo_last);
/* Close the engine, keep its backend open. */
void fixture_release(struct fixture *f);

/* Append to the log and apply. The body is the caller's. */
struct apply_result fixture_apply(struct fixture *f, uint32_t type, struct slice data,
                                  bool want_reply);
struct apply_result fixture_request(struct fixture *f, const Etcdserverpb__InternalRaftRequest *r);
void fixture_flush(struct fixture *f);
/* Flush and step until nothing is left to do. */
void fixture_settle(struct fixture *f);

/* Shorthands. Strings are C strings; "\0" as range_end is written "*". */
int64_t fixture_put(struct fixture *f, const char *key, const char *value);
struct apply_result fixture_put_full(struct fixture *f, const char *key, const char *value,
                                     int64_t lease, bool prev_kv, bool ignore_value,
                                     bool ignore_lease);
int64_t fixture_delete(struct fixture *f, const char *key, const char *range_end);
enum err fixture_compact(struct fixture *f, int64_t revision);
struct apply_result fixture_compact_full(struct fixture *f, int64_t revision, bool physical);
enum err fixture_grant(struct fixture *f, int64_t id, int64_t ttl);
enum err fixture_revoke(struct fixture *f, int64_t id);
struct apply_result fixture_txn(struct fixture *f, Etcdserverpb__TxnRequest *t);

/* A ConfChange of one member; its context is text or NULL. */
enum err fixture_conf_change(struct fixture *f, int type, uint64_t id, const char *context);
/* An entry that puts one value to `n_keys` keys, "g" and `group`, "/" and a number, encoded. */
#define FIXTURE_GROUP_KEYS_MAX 64u
void fixture_group_entry(unsigned group, unsigned n_keys, const char *value, struct bytes *out);

/* A whole range, put together from its parts; header absent. To be freed with
 * etcdserverpb__range_response__free_unpacked. Checks that counts and sizes promised at open are
 * kept. NULL with *err. */
Etcdserverpb__RangeResponse *fixture_range(struct fixture *f, const Etcdserverpb__RangeRequest *r,
                                           enum err *err);
Etcdserverpb__RangeRequest fixture_range_request(const char *key, const char *range_end,
                                                 int64_t revision);
/* "key=value@mod,create,version,lease;..." of a range, into a static-sized buffer of the caller. */
void fixture_dump(struct fixture *f, const char *key, const char *range_end, int64_t revision,
                  char *out, size_t out_bytes);
ProtobufCBinaryData fixture_bytes(const char *s);
uint32_t fixture_hash_kv(struct fixture *f, int64_t revision);

#endif
