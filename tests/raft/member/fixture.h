/* fixture.h - one member on a disk and a store in memory, with a port that collects answers.
 *
 * What        The disk and the store outlive the member, so that it can be closed and opened again. The clock is
 *             the machine's plus what a test added. A hook between engine and store makes commits fail.
 * Callers     the tests of this folder.
 * Thread      the test's own; the port and the callbacks run on the member's threads and take the lock.
 */
#ifndef TESTS_RAFT_MEMBER_FIXTURE_H
#define TESTS_RAFT_MEMBER_FIXTURE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "raft/member/member.h"
#include "wal/wal.h"

#define HEARTBEAT_MS 2u
#define ELECTION_MS 20u
#define DATA_DIR "data"
#define LOG_DIR "data/wal"
#define CLUSTER 0xc1u
#define MEMBER 0xa1u
#define OTHER_MEMBER 0xb2u

/* A store whose commits can be made to fail; closing it leaves what it holds. */
struct gate {
    struct backend base;
    struct backend *inner; /* owned by the fixture */
    struct vfs *power;     /* a fault disk: once it has failed, no commit succeeds; NULL: none */
    uint64_t power_at;
    _Atomic uint64_t n_commits;
    _Atomic uint64_t n_defrags;
    _Atomic uint64_t fail_at; /* this commit fails, and every later one; 0: none */
    pthread_mutex_t hold;     /* a commit takes it for a moment: a test that has it holds the store back */
};

struct fixture {
    struct vfs *disk;  /* in memory */
    struct vfs *fault; /* over `disk`; NULL: none */
    struct gate store;
    struct clock clock;
    _Atomic uint64_t clock_offset_ns;
    _Atomic uint64_t clock_frozen_ns; /* 0: it runs */
    struct metrics *metrics;
    struct member *m; /* NULL: closed */
    size_t n_initial;
    bool priority_requests; /* member_config's */
    const struct store_place *place; /* member_config's */
    const struct member_transport *transport; /* member_config's */
    uint32_t max_request_bytes; /* member_config's */
    uint64_t member_id;
    const struct member_port *ports[2];

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t news;
    struct member_port port;
    bool ready;
    unsigned n_failed;
    unsigned n_removed; /* told that it was removed */
    enum err failed;
    char failed_text[512];
    int64_t changed_revision;
    size_t n_changes;
};

/* One thing asked of the member. */
struct ask {
    struct member_op op;
    struct fixture *f;
    bool answered; /* guarded by the fixture's lock */
};

void fixture_init(struct fixture *f);
void fixture_deinit(struct fixture *f);
/* All later file calls of the member go by this plan. */
void fixture_set_fault(struct fixture *f, const struct vfs_fault_plan *plan);
void fixture_clear_fault(struct fixture *f);
enum err fixture_try_open(struct fixture *f, struct err_ctx *ec);
void fixture_open(struct fixture *f);  /* must succeed; not started */
void fixture_start(struct fixture *f); /* opens, starts, waits until it is ready */
void fixture_close(struct fixture *f); /* stops and closes */
void fixture_freeze(struct fixture *f); /* from now on only fixture_advance moves the clock */
void fixture_advance(struct fixture *f, uint64_t ms);
void fixture_turn(struct fixture *f); /* the member loop has gone around: what was submitted before is on its way */
bool fixture_wait_ready(struct fixture *f); /* false: failed instead */
bool fixture_has_failed(struct fixture *f);
void fixture_wait_failed(struct fixture *f);

/* Requests. */
enum err ask_submit(struct fixture *f, struct ask *a); /* kind and what belongs to it are filled in */
bool ask_answered(struct ask *a);
enum err ask_wait(struct ask *a); /* the answer */
bool ask_wait_or_failed(struct ask *a); /* false: the member failed first */
void ask_release(struct ask *a);
enum err ask_kind(struct fixture *f, enum member_op_kind kind); /* FLUSH, DEFRAG, READ_INDEX: submits and waits */

/* A kind of proposal and its arguments. */
struct proposal {
    enum { PROPOSE_PUT, PROPOSE_DELETE, PROPOSE_TXN, PROPOSE_COMPACT, PROPOSE_GRANT, PROPOSE_REVOKE } kind;
    const char *key;
    struct slice value;
    int64_t number; /* lease of a put, revision, lease id */
    int64_t ttl;
    bool physical;
};
struct buf *proposal_encode(const struct proposal *p, uint64_t request_id);
/* Submit; the answer comes by ask_wait. */
enum err propose_start(struct fixture *f, struct ask *a, const struct proposal *p);
enum err propose(struct fixture *f, const struct proposal *p); /* submits and waits */
enum err put(struct fixture *f, const char *key, const char *value);

struct hash_kv hash_kv(struct fixture *f);
size_t count_files(struct fixture *f, const char *dir);
void remove_log(struct fixture *f);

#endif
