/* main.c - the differential test: one random stream of requests to two servers that must agree.
 *
 *   oracle --oracle HOST:PORT --version 3.4|3.6|3.7 --subject HOST:PORT
 *          [--seed N] [--requests N] [--no-range-stream]
 *
 * Both servers must be fresh one-member clusters with the same name, token and advertised peer URL,
 * so that their ids agree. Requests that change something go one at a time, each to both servers at
 * once; between them many reads are outstanding together. The same seed gives the same requests.
 * Exit code 0: no difference; 1: a difference, reported on stderr; 2: bad usage or no connection;
 * 3: the oracle timed out or went away, which says nothing of the subject.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/clock.h"
#include "pair.h"
#include "stream.h"
#include "watch.h"

#define REQUESTS_DEFAULT 200000u
#define ARENA_BYTES_MAX (256u * 1024u * 1024u) /* requests of one round */
#define READS_MIN 5u                           /* per round */
#define READS_SPREAD 10u
#define ROUNDS_UNTIL_BARRIER 400u
#define SHORT_LEASE 77                /* granted and revoked at once */
#define SHORT_LEASE_MS 1500u          /* older ones may have expired */
#define TOO_LARGE (1600u * 1024u)     /* bytes; the limit is 1.5 MiB */
#define FAR_TOO_LARGE (2200u * 1024u) /* the transport's limit is 2 MiB */

struct test {
    struct world world;
    struct pair pair;
    struct watches *watches;
    struct keep_alive keep_alive;
    bool with_range_stream;
    uint64_t rounds_since_barrier;
};

struct options {
    const char *targets[N_SIDES];
    enum oracle_version version;
    uint64_t seed;
    uint64_t requests;
    bool with_range_stream;
};

static bool in(struct test *t, uint32_t permille)
{
    return random_in(&t->world.random, permille);
}

static uint32_t below(struct test *t, uint32_t n)
{
    return random_below(&t->world.random, n);
}

/* ---- reads ---- */

#define NEW(t, type, init)                                                                         \
    memcpy(arena_alloc((t)->world.arena, sizeof(type)), &(type)init, sizeof(type))

static struct step random_read(struct test *t)
{
    uint32_t kind = below(t, 100);
    if (kind < 72) {
        return step_of(M_RANGE, world_range(&t->world, false));
    }
    if (kind < 82) {
        return step_of(M_TXN, world_read_txn(&t->world));
    }
    if (kind < 87) {
        Etcdserverpb__LeaseTimeToLiveRequest *q =
            NEW(t, Etcdserverpb__LeaseTimeToLiveRequest,
                ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT);
        q->id = world_lease(&t->world);
        q->keys = in(t, 600);
        return step_of(M_TIME_TO_LIVE, q);
    }
    if (kind < 89) {
        return step_of(M_LEASES, NEW(t, Etcdserverpb__LeaseLeasesRequest,
                                     ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT));
    }
    if (kind < 97) {
        Etcdserverpb__HashKVRequest *q =
            NEW(t, Etcdserverpb__HashKVRequest, ETCDSERVERPB__HASH_KVREQUEST__INIT);
        q->revision = in(t, 300) ? 0 : world_revision(&t->world);
        return step_of(M_HASH_KV, q);
    }
    if (kind < 98) {
        return step_of(M_STATUS,
                       NEW(t, Etcdserverpb__StatusRequest, ETCDSERVERPB__STATUS_REQUEST__INIT));
    }
    if (kind < 99) {
        return step_of(M_ALARM,
                       NEW(t, Etcdserverpb__AlarmRequest, ETCDSERVERPB__ALARM_REQUEST__INIT));
    }
    Etcdserverpb__MemberListRequest *q =
        NEW(t, Etcdserverpb__MemberListRequest, ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT);
    q->linearizable = in(t, 500);
    return step_of(M_MEMBER_LIST, q);
}

static bool reads(struct test *t)
{
    struct step steps[READS_MIN + READS_SPREAD];
    size_t n = READS_MIN + below(t, READS_SPREAD);
    for (size_t i = 0; i < n; i++) {
        steps[i] = random_read(t);
    }
    bool same = pair_run(&t->pair, steps, n);
    pair_release(steps, n);
    if (!same || !t->with_range_stream || !in(t, 60)) {
        return same;
    }
    Etcdserverpb__RangeRequest *q = world_range(&t->world, false);
    q->sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE;
    q->sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY;
    q->min_mod_revision = q->max_mod_revision = 0;
    q->min_create_revision = q->max_create_revision = 0;
    return range_stream(&t->pair, q);
}

/* ---- writes ---- */

static bool write_kv(struct test *t)
{
    uint32_t kind = below(t, 100);
    if (kind < 50) {
        return pair_one(&t->pair, M_PUT, world_put(&t->world));
    }
    if (kind < 65) {
        return pair_one(&t->pair, M_DELETE, world_delete(&t->world));
    }
    return pair_one(&t->pair, M_TXN, world_txn(&t->world));
}

static bool grant(struct test *t)
{
    const Etcdserverpb__LeaseGrantRequest *q = world_grant(&t->world);
    struct step s = step_of(M_GRANT, q);
    bool same = pair_run(&t->pair, &s, 1);
    if (same && s.outcome[ORACLE].reply != NULL) {
        world_lease_add(&t->world, q->id);
    }
    pair_release(&s, 1);
    return same;
}

static bool revoke(struct test *t, int64_t id)
{
    Etcdserverpb__LeaseRevokeRequest q = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    q.id = id;
    world_lease_remove(&t->world, id);
    return pair_one(&t->pair, M_REVOKE, &q);
}

/* TTLs that are raised to the minimum. The lease must be gone before that little time is over. */
static bool short_lease(struct test *t)
{
    Etcdserverpb__LeaseGrantRequest q = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    static const int64_t ttls[] = {0, 1, -5, 2, INT64_MIN};
    q.id = SHORT_LEASE;
    q.ttl = ttls[below(t, (uint32_t)ARRAY_LEN(ttls))];
    uint64_t start_ms = clock_now_ms(clock_real());
    struct step s = step_of(M_GRANT, &q);
    bool same = pair_run(&t->pair, &s, 1);
    pair_release(&s, 1);
    Etcdserverpb__LeaseRevokeRequest r = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    r.id = SHORT_LEASE;
    s = step_of(M_REVOKE, &r);
    bool revoked = same && pair_run(&t->pair, &s, 1);
    pair_release(&s, 1);
    return same && (revoked || clock_now_ms(clock_real()) - start_ms > SHORT_LEASE_MS);
}

/* Ids that the servers choose differ, so each gets its own back. */
static bool chosen_lease(struct test *t)
{
    Etcdserverpb__LeaseGrantRequest q = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    Etcdserverpb__LeaseRevokeRequest r[N_SIDES] = {ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT,
                                                   ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT};
    q.ttl = 5000;
    struct step s = step_of(M_GRANT, &q);
    bool same = pair_run(&t->pair, &s, 1);
    for (int side = 0; same && side < N_SIDES; side++) {
        const Etcdserverpb__LeaseGrantResponse *reply = (void *)s.outcome[side].reply;
        r[side].id = reply == NULL ? 0 : reply->id;
        same = reply == NULL || reply->id > 0;
    }
    pair_release(&s, 1);
    if (!same || r[ORACLE].id == 0) {
        return same;
    }
    s = (struct step){.method = M_REVOKE, .request = {&r[ORACLE].base, &r[SUBJECT].base}};
    same = pair_run(&t->pair, &s, 1);
    pair_release(&s, 1);
    return same;
}

static bool barrier(struct test *t)
{
    t->rounds_since_barrier = 0;
    return watches_barrier(t->watches);
}

static bool compact(struct test *t)
{
    if (!barrier(t)) {
        return false;
    }
    const Etcdserverpb__CompactionRequest *q = world_compaction(&t->world);
    struct step s = step_of(M_COMPACT, q);
    bool same = pair_run(&t->pair, &s, 1);
    if (same && s.outcome[ORACLE].reply != NULL) {
        world_compacted(&t->world, q->revision, q->physical);
    }
    pair_release(&s, 1);
    return same;
}

static bool alarm_call(struct test *t, Etcdserverpb__AlarmRequest__AlarmAction action,
                       uint64_t member, Etcdserverpb__AlarmType type)
{
    Etcdserverpb__AlarmRequest q = ETCDSERVERPB__ALARM_REQUEST__INIT;
    q.action = action;
    q.memberid = member;
    q.alarm = type;
    return pair_one(&t->pair, M_ALARM, &q);
}

/* An alarm goes up, a few writes meet it, and it comes down again. Sentinels would meet it too, so
 * there is no barrier meanwhile. */
static bool alarms(struct test *t)
{
    /* 3.4 records even an alarm of type NONE; later releases do not. */
    uint32_t lowest = t->world.version == V34 ? 1 : 0;
    Etcdserverpb__AlarmType type = (Etcdserverpb__AlarmType)(lowest + below(t, 3 - lowest));
    uint64_t member = in(t, 500) ? t->world.member_id : 7;
    bool same = alarm_call(t, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE, member, type) &&
                alarm_call(t, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE, member, type);
    /* Before 3.7.1 puts inside nested txns passed a NOSPACE alarm. */
    t->world.no_nested = t->world.version != V37;
    for (uint32_t i = below(t, 8); i > 0 && same; i--) {
        same = write_kv(t) && reads(t);
    }
    t->world.no_nested = false;
    same = same && grant(t) && revoke(t, world_lease(&t->world));
    same = same && alarm_call(t, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET, 0,
                              (Etcdserverpb__AlarmType)below(t, 3));
    same = same && alarm_call(t, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE, 99, type);
    same =
        same && alarm_call(t, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE, member, type);
    return same && alarm_call(t, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET, 0,
                              ETCDSERVERPB__ALARM_TYPE__NONE);
}

static bool too_large(struct test *t)
{
    Etcdserverpb__PutRequest q = ETCDSERVERPB__PUT_REQUEST__INIT;
    q.key = world_key(&t->world);
    q.value.len = in(t, 500) ? TOO_LARGE : FAR_TOO_LARGE;
    q.value.data = arena_calloc(t->world.arena, 1, q.value.len);
    ASSERT(q.value.data != NULL);
    return pair_one(&t->pair, M_PUT, &q);
}

/* Cluster and maintenance calls that must fail, or that change nothing. */
static bool administer(struct test *t)
{
    Etcdserverpb__MemberAddRequest add = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    Etcdserverpb__MemberUpdateRequest update = ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    Etcdserverpb__MemberPromoteRequest promote = ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;
    Etcdserverpb__MoveLeaderRequest move = ETCDSERVERPB__MOVE_LEADER_REQUEST__INIT;
    Etcdserverpb__DefragmentRequest defragment = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
    Etcdserverpb__DowngradeRequest downgrade = ETCDSERVERPB__DOWNGRADE_REQUEST__INIT;
    static const char *const urls[] = {"", "host", "http://", "http://a:1/path", "ftp://a:1"};
    char *url = (char *)(uintptr_t)urls[below(t, (uint32_t)ARRAY_LEN(urls))];
    switch (below(t, 7)) {
    case 0:
        add.n_peerurls = in(t, 800);
        add.peerurls = &url;
        return pair_one(&t->pair, M_MEMBER_ADD, &add);
    case 1:
        update.id = 42;
        return pair_one(&t->pair, M_MEMBER_UPDATE, &update);
    case 2:
        promote.id = in(t, 500) ? 42 : t->world.member_id;
        return pair_one(&t->pair, M_MEMBER_PROMOTE, &promote);
    case 3:
        move.targetid = in(t, 500) ? 42 : t->world.member_id;
        return pair_one(&t->pair, M_MOVE_LEADER, &move);
    case 4:
        return pair_one(&t->pair, M_DEFRAGMENT, &defragment);
    default:
        downgrade.version = (char *)(uintptr_t)(in(t, 500) ? "x.y" : "2.9.0");
        return pair_one(&t->pair, M_DOWNGRADE, &downgrade);
    }
}

static bool random_write(struct test *t)
{
    uint32_t kind = below(t, 10000);
    if (kind < 8300) {
        return write_kv(t);
    }
    if (kind < 8700) {
        return grant(t);
    }
    if (kind < 9000) {
        return revoke(t, world_lease(&t->world));
    }
    if (kind < 9150) {
        return keep_alive_once(&t->keep_alive, &t->pair, world_lease(&t->world));
    }
    if (kind < 9180) {
        return short_lease(t) && chosen_lease(t);
    }
    if (kind < 9210) {
        return alarms(t);
    }
    if (kind < 9225) {
        return administer(t);
    }
    if (kind < 9235) {
        return too_large(t);
    }
    if (kind < 9305) {
        return compact(t);
    }
    return watches_random(t->watches);
}

/* ---- the run ---- */

static bool start(struct test *t)
{
    Etcdserverpb__StatusRequest status = ETCDSERVERPB__STATUS_REQUEST__INIT;
    struct step s = step_of(M_STATUS, &status);
    if (!pair_run(&t->pair, &s, 1)) {
        (void)fprintf(stderr, "the two servers do not begin alike\n");
        return false;
    }
    const Etcdserverpb__StatusResponse *r = (void *)s.outcome[ORACLE].reply;
    t->world.member_id = r->header->member_id;
    t->world.revision = r->header->revision;
    pair_release(&s, 1);
    t->watches = watches_create(&t->pair);
    return t->watches != NULL && keep_alive_open(&t->keep_alive, &t->pair);
}

static bool run(struct test *t, uint64_t requests)
{
    uint64_t next_line = requests / 10;
    bool same = start(t);
    while (same && t->pair.n_requests < requests) {
        arena_reset(t->world.arena);
        same = random_write(t) && watches_drain(t->watches) && reads(t);
        if (same && ++t->rounds_since_barrier >= ROUNDS_UNTIL_BARRIER) {
            same = barrier(t);
        }
        if (t->pair.n_requests >= next_line) {
            (void)printf("%" PRIu64 " requests, revision %" PRId64 "\n", t->pair.n_requests,
                         t->world.revision);
            (void)fflush(stdout);
            next_line += requests / 10;
        }
    }
    return same && barrier(t);
}

static void summary(const struct test *t, bool same, double seconds)
{
    (void)printf("%s: %" PRIu64 " requests in %.0f s, %" PRIu64 " errors alike, %" PRIu64
                 " watch events, %zu compactions, revision %" PRId64 ", %" PRIu64
                 " known differences\n",
                 same ? "agreed" : "DIFFERED", t->pair.n_requests, seconds, t->pair.n_errors,
                 t->watches == NULL ? 0 : watches_events(t->watches), t->world.n_history,
                 t->world.revision, t->pair.n_allowed);
    for (int m = 0; m < N_METHODS; m++) {
        (void)printf("%s%s %" PRIu64, m == 0 ? "  " : ", ", method_name((enum method)m),
                     t->pair.n_by_method[m]);
    }
    (void)printf("\n");
}

static bool parse_number(const char *s, uint64_t *out)
{
    char *end = NULL;
    *out = strtoull(s, &end, 10);
    return end != s && *end == '\0';
}

static bool parse_version(const char *s, enum oracle_version *out)
{
    *out = strncmp(s, "3.4", 3) == 0 ? V34 : strncmp(s, "3.6", 3) == 0 ? V36 : V37;
    return *out != V37 || strncmp(s, "3.7", 3) == 0;
}

static bool parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        {"oracle", required_argument, NULL, 'o'},
        {"subject", required_argument, NULL, 's'},
        {"version", required_argument, NULL, 'v'},
        {"seed", required_argument, NULL, 'n'},
        {"requests", required_argument, NULL, 'r'},
        {"no-range-stream", no_argument, NULL, 'x'},
        {NULL, 0, NULL, 0},
    };
    *o = (struct options){.seed = clock_wall_ns(clock_real()) % 1000000000u,
                          .requests = REQUESTS_DEFAULT,
                          .with_range_stream = true};
    bool good = true;
    int c = 0;
    while (good && (c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (c == 'o') {
            o->targets[ORACLE] = optarg;
        } else if (c == 's') {
            o->targets[SUBJECT] = optarg;
        } else if (c == 'v') {
            good = parse_version(optarg, &o->version);
        } else if (c == 'n') {
            good = parse_number(optarg, &o->seed);
        } else if (c == 'r') {
            good = parse_number(optarg, &o->requests);
        } else {
            good = c == 'x';
            o->with_range_stream = false;
        }
    }
    return good && optind == argc && o->targets[ORACLE] != NULL && o->targets[SUBJECT] != NULL &&
           o->version != 0;
}

int main(int argc, char **argv)
{
    struct options o;
    if (!parse(argc, argv, &o)) {
        (void)fprintf(stderr, "usage: oracle --oracle HOST:PORT --version 3.4|3.6|3.7 --subject "
                              "HOST:PORT [--seed N] [--requests N] [--no-range-stream]\n");
        return 2;
    }
    struct test t = {.with_range_stream = o.with_range_stream};
    t.world = (struct world){.random = {o.seed},
                             .version = o.version,
                             .compacted = -1,
                             .settled = -1,
                             .arena = arena_create(1024u * 1024u, ARENA_BYTES_MAX)};
    t.pair = (struct pair){.world = &t.world, .seed = o.seed, .names = {"oracle", "subject"}};
    bool connected = true;
    for (int side = 0; side < N_SIDES && connected; side++) {
        struct err_ctx ec = {{0}};
        connected = client_connect(o.targets[side], 5000, &t.pair.clients[side], &ec) == OK;
        if (!connected) {
            (void)fprintf(stderr, "%s: %s\n", t.pair.names[side], ec.text);
        }
    }
    (void)printf("oracle test with seed %" PRIu64 "\n", o.seed);
    (void)fflush(stdout);
    uint64_t start_ms = clock_now_ms(clock_real());
    bool same = connected && run(&t, o.requests);
    if (connected) {
        summary(&t, same, (double)(clock_now_ms(clock_real()) - start_ms) / 1000.0);
    }
    if (t.pair.clients[ORACLE] != NULL && t.pair.clients[SUBJECT] != NULL) {
        watches_destroy(&t.watches);
        keep_alive_close(&t.keep_alive);
    }
    client_close(&t.pair.clients[ORACLE]);
    client_close(&t.pair.clients[SUBJECT]);
    arena_destroy(&t.world.arena);
    return !connected ? 2 : same ? 0 : t.pair.gave_up ? 3 : 1;
}
