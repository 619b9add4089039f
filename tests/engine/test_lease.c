/* test_lease.c - scripts of calls with the answer to each, then size, spreading and a random run
 * against a naive model. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/lease.h"

#define MIN_TTL_S 2
#define RETRY_MS 7000u

/* --- scripts ---------------------------------------------------------------------------------- */

enum op {
    END,
    GRANT,   /* id, n: TTL */
    RESTORE, /* id, n: TTL, n2: remaining */
    REVOKE,  /* id */
    ATTACH,  /* id, key */
    OWNER,   /* key */
    KEYS,    /* id */
    PROMOTE, /* n: extension in ms */
    DEMOTE,
    RENEW,      /* id */
    LOOKUP,     /* id */
    EXPIRED,    /* n: at most so many */
    CHECKPOINT, /* id, n: remaining */
    LIST,
};

struct step {
    enum op op;
    uint64_t now_ms;
    int64_t id;
    int64_t n;
    int64_t n2;
    const char *key;
    const char *want; /* NULL: no answer */
};

#define STEPS_MAX 24

struct script {
    const char *name;
    struct step steps[STEPS_MAX];
};

static const struct script scripts[] = {
    {"a TTL below the minimum is raised, above the maximum refused",
     {{GRANT, 0, 1, 1, .want = "ok 2"},
      {GRANT, 0, 2, 0, .want = "ok 2"},
      {GRANT, 0, 3, -5, .want = "ok 2"},
      {GRANT, 0, 4, 2, .want = "ok 2"},
      {GRANT, 0, 5, 3, .want = "ok 3"},
      {GRANT, 0, 6, LEASE_TTL_MAX_S, .want = "ok 9000000000"},
      {GRANT, 0, 7, LEASE_TTL_MAX_S + 1, .want = "ERR_LEASE_TTL"},
      {LOOKUP, 0, 7, .want = "ERR_LEASE_NOT_FOUND"}}},
    {"ids are any number but 0, and unique",
     {{GRANT, 0, -9, 10, .want = "ok 10"},
      {GRANT, 0, INT64_MIN, 10, .want = "ok 10"},
      {GRANT, 0, -9, 20, .want = "ERR_LEASE_EXISTS"},
      {LOOKUP, 0, -9, .want = "ttl 10 remaining 10 checkpoint 0 keys 0"},
      {GRANT, 0, 0, 20, .want = "ERR_LEASE_NOT_FOUND"},
      {GRANT, 0, -9, LEASE_TTL_MAX_S + 1, .want = "ERR_LEASE_TTL"},
      {LIST, 0, .want = "-9223372036854775808 -9"}}},
    {"a revoked lease is gone with its keys' bonds, and its id is free",
     {{GRANT, 0, 5, 10, .want = "ok 10"},
      {ATTACH, 0, 5, .key = "a"},
      {REVOKE, 0, 5, .want = "ok"},
      {REVOKE, 0, 5, .want = "ERR_LEASE_NOT_FOUND"},
      {OWNER, 0, .key = "a", .want = "0"},
      {KEYS, 0, 5, .want = ""},
      {GRANT, 0, 5, 20, .want = "ok 20"},
      {LOOKUP, 0, 5, .want = "ttl 20 remaining 20 checkpoint 0 keys 0"}}},
    {"a key hangs on one lease at most",
     {{GRANT, 0, 1, 10, .want = "ok 10"},
      {GRANT, 0, 2, 10, .want = "ok 10"},
      {ATTACH, 0, 1, .key = "k"},
      {ATTACH, 0, 1, .key = "k"},
      {OWNER, 0, .key = "k", .want = "1"},
      {ATTACH, 0, 2, .key = "k"},
      {OWNER, 0, .key = "k", .want = "2"},
      {KEYS, 0, 1, .want = ""},
      {KEYS, 0, 2, .want = "k"},
      {REVOKE, 0, 1, .want = "ok"},
      {OWNER, 0, .key = "k", .want = "2"},
      {ATTACH, 0, 0, .key = "k"},
      {OWNER, 0, .key = "k", .want = "0"},
      {ATTACH, 0, 0, .key = "k"},
      {LOOKUP, 0, 2, .want = "ttl 10 remaining 10 checkpoint 0 keys 0"}}},
    {"keys are listed in byte order",
     {{GRANT, 0, 1, 10, .want = "ok 10"},
      {ATTACH, 0, 1, .key = "b"},
      {ATTACH, 0, 1, .key = "\xff"},
      {ATTACH, 0, 1, .key = "aa"},
      {ATTACH, 0, 1, .key = "a"},
      {ATTACH, 0, 1, .key = "B"},
      {KEYS, 0, 1, .want = "B a aa b \xff"},
      {ATTACH, 0, 0, .key = "aa"},
      {KEYS, 0, 1, .want = "B a b \xff"},
      {LOOKUP, 0, 1, .want = "ttl 10 remaining 10 checkpoint 0 keys 4"}}},
    {"without promotion nothing expires and nothing is renewed",
     {{GRANT, 0, 1, 2, .want = "ok 2"},
      {EXPIRED, 1000000, .n = 10, .want = ""},
      {LOOKUP, 1000000, 1, .want = "ttl 2 remaining 2 checkpoint 0 keys 0"},
      {RENEW, 1000000, 1, .want = "ERR_NOT_LEADER"},
      {RENEW, 1000000, 2, .want = "ERR_NOT_LEADER"}}},
    {"a new leader gives everybody the whole TTL and the extension",
     {{GRANT, 0, 1, 5, .want = "ok 5"},
      {PROMOTE, 1000000, .n = 1500},
      {LOOKUP, 1000000, 1, .want = "ttl 5 remaining 6 checkpoint 0 keys 0"},
      {EXPIRED, 1006499, .n = 10, .want = ""},
      {EXPIRED, 1006500, .n = 10, .want = "1"}}},
    {"a lease granted by the leader runs from then on",
     {{PROMOTE, 1000, .n = 1500},
      {GRANT, 2000, 1, 5, .want = "ok 5"},
      {LOOKUP, 2001, 1, .want = "ttl 5 remaining 4 checkpoint 0 keys 0"},
      {EXPIRED, 6999, .n = 10, .want = ""},
      {EXPIRED, 7000, .n = 10, .want = "1"}}},
    {"renewal starts the TTL again, until it has expired",
     {{.op = PROMOTE, .now_ms = 0},
      {GRANT, 0, 1, 5, .want = "ok 5"},
      {RENEW, 4999, 1, .want = "ok 5"},
      {RENEW, 9998, 1, .want = "ok 5"},
      {LOOKUP, 9998, 1, .want = "ttl 5 remaining 5 checkpoint 0 keys 0"},
      {RENEW, 14998, 1, .want = "ERR_TIMEOUT"},
      {RENEW, 14998, 2, .want = "ERR_LEASE_NOT_FOUND"},
      {LOOKUP, 16998, 1, .want = "ttl 5 remaining -2 checkpoint 0 keys 0"},
      {LOOKUP, 15997, 1, .want = "ttl 5 remaining 0 checkpoint 0 keys 0"},
      {REVOKE, 0, 1, .want = "ok"},
      {RENEW, 14998, 1, .want = "ERR_LEASE_NOT_FOUND"}}},
    {"the soonest are reported first, and again only after the retry time",
     {{.op = PROMOTE, .now_ms = 0},
      {GRANT, 0, 1, 9, .want = "ok 9"},
      {GRANT, 0, 2, 5, .want = "ok 5"},
      {GRANT, 0, 3, 7, .want = "ok 7"},
      {GRANT, 0, 4, 7, .want = "ok 7"},
      {EXPIRED, 20000, .n = 2, .want = "2 3"},
      {EXPIRED, 20000, .n = 2, .want = "4 1"},
      {EXPIRED, 20000, .n = 2, .want = ""},
      {REVOKE, 0, 3, .want = "ok"},
      {EXPIRED, 26999, .n = 9, .want = ""},
      {EXPIRED, 27000, .n = 9, .want = "1 2 4"},
      {LIST, 27000, .want = "2 4 1"}}},
    {"a demoted member forgets all deadlines",
     {{.op = PROMOTE, .now_ms = 0},
      {GRANT, 0, 1, 5, .want = "ok 5"},
      {.op = DEMOTE, .now_ms = 0},
      {EXPIRED, 100000, .n = 9, .want = ""},
      {LOOKUP, 100000, 1, .want = "ttl 5 remaining 5 checkpoint 0 keys 0"},
      {GRANT, 100000, 2, 3, .want = "ok 3"},
      {.op = PROMOTE, .now_ms = 200000},
      {EXPIRED, 204999, .n = 9, .want = "2"},
      {EXPIRED, 205000, .n = 9, .want = "1"}}},
    {"a promotion while leading gives the whole time again",
     {{.op = PROMOTE, .now_ms = 0},
      {GRANT, 0, 1, 5, .want = "ok 5"},
      {EXPIRED, 6000, .n = 9, .want = "1"},
      {.op = PROMOTE, .now_ms = 6000},
      {EXPIRED, 10999, .n = 9, .want = ""},
      {EXPIRED, 11000, .n = 9, .want = "1"}}},
    {"a checkpoint counts from the next promotion on",
     {{.op = PROMOTE, .now_ms = 0},
      {GRANT, 0, 1, 1000, .want = "ok 1000"},
      {.op = CHECKPOINT, .id = 1, .n = 400},
      {.op = CHECKPOINT, .id = 2, .n = 400},
      {LOOKUP, 0, 1, .want = "ttl 1000 remaining 1000 checkpoint 400 keys 0"},
      {.op = DEMOTE, .now_ms = 0},
      {PROMOTE, 5000, .n = 1000},
      {LOOKUP, 5000, 1, .want = "ttl 1000 remaining 401 checkpoint 400 keys 0"},
      {RENEW, 6000, 1, .want = "ok 1000"},
      {LOOKUP, 6000, 1, .want = "ttl 1000 remaining 1000 checkpoint 0 keys 0"},
      {.op = CHECKPOINT, .id = 1, .n = 300},
      {.op = CHECKPOINT, .id = 1, .n = 0},
      {.op = PROMOTE, .now_ms = 7000},
      {LOOKUP, 7000, 1, .want = "ttl 1000 remaining 1000 checkpoint 0 keys 0"},
      {.op = CHECKPOINT, .id = 1, .n = -1},
      {LOOKUP, 7000, 1, .want = "ttl 1000 remaining 1000 checkpoint 0 keys 0"},
      {.op = CHECKPOINT, .id = 1, .n = INT64_MAX},
      {LOOKUP, 7000, 1, .want = "ttl 1000 remaining 1000 checkpoint 9000000000 keys 0"}}},
    {"what the store holds is brought within the bounds",
     {{.op = RESTORE, .id = 1, .n = 1, .n2 = 0},
      {.op = RESTORE, .id = 2, .n = INT64_MAX, .n2 = -4},
      {.op = RESTORE, .id = 3, .n = 100, .n2 = 40},
      {LOOKUP, 0, 1, .want = "ttl 2 remaining 2 checkpoint 0 keys 0"},
      {LOOKUP, 0, 2, .want = "ttl 9000000000 remaining 9000000000 checkpoint 0 keys 0"},
      {LOOKUP, 0, 3, .want = "ttl 100 remaining 100 checkpoint 40 keys 0"},
      {.op = PROMOTE, .now_ms = 0},
      {LOOKUP, 0, 3, .want = "ttl 100 remaining 40 checkpoint 40 keys 0"},
      {LIST, 0, .want = "1 3 2"}}},
    {"leases are listed by remaining time on the leader, elsewhere by id",
     {{GRANT, 0, 3, 10, .want = "ok 10"},
      {GRANT, 0, 1, 20, .want = "ok 20"},
      {GRANT, 0, -2, 30, .want = "ok 30"},
      {LIST, 0, .want = "-2 1 3"},
      {.op = PROMOTE, .now_ms = 0},
      {LIST, 0, .want = "3 1 -2"},
      {RENEW, 9000, 3, .want = "ok 10"},
      {LIST, 9000, .want = "3 1 -2"},
      {RENEW, 9500, 1, .want = "ok 20"},
      {RENEW, 9999, 3, .want = "ok 10"},
      {LIST, 9999, .want = "3 1 -2"},
      {REVOKE, 0, 1, .want = "ok"},
      {LIST, 9999, .want = "3 -2"},
      {.op = DEMOTE, .now_ms = 0},
      {LIST, 0, .want = "-2 3"}}},
};

static const char *const err_names[] = {
#define ERR_NAME(name, text) #name,
    ERR_LIST(ERR_NAME)
#undef ERR_NAME
};

static void add_key(void *arg, struct slice key)
{
    struct bytes *out = arg;
    bytes_add_str(out, out->len == 0 ? "" : " ");
    bytes_add(out, key.data, key.len);
}

static void add_id(void *arg, int64_t id)
{
    struct bytes *out = arg;
    bytes_printf(out, "%s%lld", out->len == 0 ? "" : " ", (long long)id);
}

static void answer_err(struct bytes *out, enum err e, const int64_t *n)
{
    if (e != OK) {
        bytes_add_str(out, err_names[e]);
    } else if (n != NULL) {
        bytes_printf(out, "ok %lld", (long long)*n);
    } else {
        bytes_add_str(out, "ok");
    }
}

static void answer_lookup(struct bytes *out, const struct lease_table *t, const struct step *s)
{
    struct lease_info info;
    enum err e = lease_lookup(t, s->id, s->now_ms, &info);
    assert_int_equal(lease_exists(t, s->id), e == OK);
    if (e != OK) {
        bytes_add_str(out, err_names[e]);
        return;
    }
    assert_int_equal(info.id, s->id);
    bytes_printf(out, "ttl %lld remaining %lld checkpoint %lld keys %zu", (long long)info.ttl_s,
                 (long long)info.remaining_s, (long long)info.checkpoint_s, info.n_keys);
}

static void answer_expired(struct bytes *out, struct lease_table *t, const struct step *s)
{
    int64_t ids[16];
    ASSERT(s->n <= (int64_t)ARRAY_LEN(ids));
    size_t n = lease_expired(t, s->now_ms, RETRY_MS, ids, (size_t)s->n);
    for (size_t i = 0; i < n; i++) {
        add_id(out, ids[i]);
    }
}

/* Do one step; what it answers is appended to `out`. */
static void do_step(struct lease_table *t, const struct step *s, struct bytes *out)
{
    int64_t n = 0;
    enum err e = OK;
    struct slice key = s->key == NULL ? slice_of(NULL, 0) : slice_str(s->key);
    switch (s->op) {
    case END:
        break;
    case GRANT:
        e = lease_grant(t, s->id, s->n, s->now_ms, &n);
        answer_err(out, e, &n);
        break;
    case RESTORE:
        lease_restore(t, s->id, s->n, s->n2);
        break;
    case REVOKE:
        answer_err(out, lease_revoke(t, s->id), NULL);
        break;
    case ATTACH:
        lease_attach(t, key, s->id);
        break;
    case OWNER:
        bytes_printf(out, "%lld", (long long)lease_of_key(t, key));
        break;
    case KEYS:
        lease_each_key(t, s->id, add_key, out);
        break;
    case PROMOTE:
        lease_promote(t, s->now_ms, (uint64_t)s->n);
        break;
    case DEMOTE:
        lease_demote(t);
        break;
    case RENEW:
        e = lease_renew(t, s->id, s->now_ms, &n);
        answer_err(out, e, &n);
        break;
    case LOOKUP:
        answer_lookup(out, t, s);
        break;
    case EXPIRED:
        answer_expired(out, t, s);
        break;
    case CHECKPOINT:
        lease_checkpoint(t, s->id, s->n, s->now_ms);
        break;
    case LIST:
        lease_each(t, add_id, out);
        break;
    }
}

static void run_script(void **state)
{
    const struct script *script = *state;
    struct lease_table *t = lease_table_create(MIN_TTL_S);
    struct bytes out = {0};
    for (size_t i = 0; i < STEPS_MAX && script->steps[i].op != END; i++) {
        bytes_reset(&out);
        do_step(t, &script->steps[i], &out);
        bytes_add(&out, "", 1);
        const char *want = script->steps[i].want == NULL ? "" : script->steps[i].want;
        if (strcmp((const char *)out.data, want) != 0) {
            print_error("step %zu answers: %s\n", i, (const char *)out.data);
        }
        assert_string_equal((const char *)out.data, want);
    }
    bytes_deinit(&out);
    lease_table_destroy(&t);
    assert_null(t);
    lease_table_destroy(&t);
}

/* --- size ------------------------------------------------------------------------------------- */

#define N_KEYS 100000u

struct listing {
    struct lease_table *t; /* keys are detached as they come, when set */
    uint64_t n;
    char last[16];
};

static void in_order(void *arg, struct slice key)
{
    struct listing *l = arg;
    assert_int_equal(key.len, 10);
    assert_true(slice_cmp(slice_str(l->last), key) < 0);
    memcpy(l->last, key.data, key.len);
    l->last[key.len] = '\0';
    l->n++;
    if (l->t != NULL) {
        lease_attach(l->t, slice_str(l->last), 0);
    }
}

static void one_lease_with_many_keys(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_create(MIN_TTL_S);
    int64_t ttl;
    assert_int_equal(lease_grant(t, 7, 60, 0, &ttl), OK);
    assert_int_equal(lease_grant(t, 8, 60, 0, &ttl), OK);
    for (uint32_t i = 0; i < N_KEYS; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "k%09u", (uint32_t)((uint64_t)i * 77773u % N_KEYS));
        lease_attach(t, slice_str(key), 7);
    }
    struct listing all = {0};
    lease_each_key(t, 7, in_order, &all);
    assert_int_equal(all.n, N_KEYS);
    lease_attach(t, slice_str("k000000500"), 8);
    assert_int_equal(lease_revoke(t, 7), OK);
    assert_int_equal(lease_of_key(t, slice_str("k000000501")), 0);
    assert_int_equal(lease_of_key(t, slice_str("k000000500")), 8);
    struct listing detaching = {.t = t};
    lease_each_key(t, 8, in_order, &detaching);
    assert_int_equal(detaching.n, 1);
    assert_int_equal(lease_of_key(t, slice_str("k000000500")), 0);
    lease_table_destroy(&t);
}

/* --- spreading -------------------------------------------------------------------------------- */

struct spread {
    const char *name;
    size_t n;
    int64_t ttl_s;
    int64_t ttl_step; /* each lease has a TTL larger by this ... */
    size_t per_step;  /* ... after so many leases */
    uint64_t last_ms; /* deadline of the last */
    size_t most_a_second;
};

static const struct spread spreads[] = {
    {"999 leases expire as they like", 999, 10, 0, 1, 10000, 999},
    {"1000 leases take two seconds", 1000, 10, 0, 1, 11000, 750},
    {"1500 leases take two seconds", 1500, 10, 0, 1, 11000, 750},
    {"1501 leases take three seconds", 1501, 10, 0, 1, 12000, 750},
    {"ten thousand leases", 10000, 10, 0, 1, 23000, 750},
    {"leases that are spread already stay", 5000, 10, 1, 500, 19000, 500},
    {"a crowd pushes those behind it", 3000, 10, 1, 1000, 13000, 750},
    {"a crowd leaves the rest alone after a while", 2001, 10, 100, 1000, 210000, 750},
};

static void promotion_spreads(void **state)
{
    const struct spread *s = *state;
    struct lease_table *t = lease_table_create(MIN_TTL_S);
    for (size_t i = 0; i < s->n; i++) {
        int64_t ttl;
        assert_int_equal(lease_grant(t, (int64_t)i + 1,
                                     s->ttl_s + s->ttl_step * (int64_t)(i / s->per_step), 0, &ttl),
                         OK);
    }
    lease_promote(t, 0, 0);
    int64_t *ids = xalloc(s->n * sizeof *ids);
    size_t total = 0;
    size_t most = 0;
    for (uint64_t now = 999; now < s->last_ms; now += 1000) {
        size_t n = lease_expired(t, now, 1u << 30, ids, s->n);
        most = n > most ? n : most;
        total += n;
    }
    assert_true(total < s->n);
    size_t n = lease_expired(t, s->last_ms, 1u << 30, ids, s->n);
    most = n > most ? n : most;
    assert_int_equal(total + n, s->n);
    assert_int_equal(most, s->most_a_second);
    free(ids);
    lease_table_destroy(&t);
}

/* --- random run ------------------------------------------------------------------------------- */

#define MODEL_LEASES 200u
#define MODEL_KEYS 500u
#define MODEL_OPS 300000u

struct model {
    bool exists[MODEL_LEASES]; /* id = index + 1 */
    int64_t ttl_s[MODEL_LEASES];
    uint64_t deadline_ms[MODEL_LEASES];
    uint64_t due_ms[MODEL_LEASES];
    int64_t owner[MODEL_KEYS];
    bool promoted;
};

static uint64_t next(uint64_t *s)
{
    *s += 0x9e3779b97f4a7c15u;
    uint64_t z = *s;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void model_step(struct lease_table *t, struct model *m, uint64_t *seed, uint64_t now)
{
    size_t i = next(seed) % MODEL_LEASES;
    size_t k = next(seed) % MODEL_KEYS;
    int64_t id = (int64_t)i + 1;
    int64_t ttl = 2 + (int64_t)(next(seed) % 30);
    char key[16];
    (void)snprintf(key, sizeof key, "%zu", k);
    switch (next(seed) % 6) {
    case 0:
        assert_int_equal(lease_grant(t, id, ttl, now, &ttl), m->exists[i] ? ERR_LEASE_EXISTS : OK);
        if (!m->exists[i]) {
            m->exists[i] = true;
            m->ttl_s[i] = ttl;
            m->deadline_ms[i] = m->due_ms[i] = now + (uint64_t)ttl * 1000;
        }
        break;
    case 1:
        if (next(seed) % 4 == 0) {
            assert_int_equal(lease_revoke(t, id), m->exists[i] ? OK : ERR_LEASE_NOT_FOUND);
            m->exists[i] = false;
            for (k = 0; k < MODEL_KEYS; k++) {
                m->owner[k] = m->owner[k] == id ? 0 : m->owner[k];
            }
        }
        break;
    case 2:
        if (m->exists[i] || next(seed) % 2 == 0) {
            m->owner[k] = m->exists[i] ? id : 0;
            lease_attach(t, slice_str(key), m->owner[k]);
        }
        break;
    case 3:
        assert_int_equal(lease_of_key(t, slice_str(key)), m->owner[k]);
        break;
    default: {
        bool runs = m->exists[i] && m->deadline_ms[i] > now;
        enum err want = !m->promoted    ? ERR_NOT_LEADER
                        : !m->exists[i] ? ERR_LEASE_NOT_FOUND
                        : runs          ? OK
                                        : ERR_TIMEOUT;
        assert_int_equal(lease_renew(t, id, now, &ttl), want);
        if (want == OK) {
            assert_int_equal(ttl, m->ttl_s[i]);
            m->deadline_ms[i] = m->due_ms[i] = now + (uint64_t)ttl * 1000;
        }
        break;
    }
    }
}

/* Up to five reports, each the one that is due longest. */
static void model_expire(struct lease_table *t, struct model *m, uint64_t now)
{
    int64_t got[5];
    size_t n = lease_expired(t, now, RETRY_MS, got, ARRAY_LEN(got));
    for (size_t g = 0;; g++) {
        size_t best = MODEL_LEASES;
        for (size_t i = 0; m->promoted && i < MODEL_LEASES; i++) {
            if (m->exists[i] && m->due_ms[i] <= now &&
                (best == MODEL_LEASES || m->due_ms[i] < m->due_ms[best])) {
                best = i;
            }
        }
        if (g == ARRAY_LEN(got) || best == MODEL_LEASES) {
            assert_int_equal(n, g);
            return;
        }
        assert_true(g < n);
        assert_int_equal(got[g], (int64_t)best + 1);
        m->due_ms[best] = now + RETRY_MS;
    }
}

static void random_calls(void **state)
{
    (void)state;
    struct lease_table *t = lease_table_create(MIN_TTL_S);
    struct model m = {0};
    uint64_t seed = 7;
    uint64_t now = 1000;
    for (size_t op = 0; op < MODEL_OPS; op++) {
        now += next(&seed) % 100;
        if (op % 5000 == 100) {
            m.promoted = !m.promoted;
            if (m.promoted) {
                lease_promote(t, now, 1000);
            } else {
                lease_demote(t);
            }
            for (size_t i = 0; i < MODEL_LEASES; i++) {
                m.deadline_ms[i] = m.due_ms[i] = now + 1000 + (uint64_t)m.ttl_s[i] * 1000;
            }
        }
        model_step(t, &m, &seed, now);
        if (op % 10 == 0) {
            model_expire(t, &m, now);
        }
    }
    size_t n = 0;
    for (size_t i = 0; i < MODEL_LEASES; i++) {
        n += m.exists[i];
    }
    assert_int_equal(lease_count(t), n);
    lease_table_destroy(&t);
}

int main(void)
{
    struct CMUnitTest tests[ARRAY_LEN(scripts) + ARRAY_LEN(spreads) + 2];
    size_t n = 0;
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        tests[n++] = (struct CMUnitTest){scripts[i].name, run_script, NULL, NULL,
                                         (void *)(uintptr_t)&scripts[i]};
    }
    for (size_t i = 0; i < ARRAY_LEN(spreads); i++) {
        tests[n++] = (struct CMUnitTest){spreads[i].name, promotion_spreads, NULL, NULL,
                                         (void *)(uintptr_t)&spreads[i]};
    }
    tests[n++] = (struct CMUnitTest){"one lease with 100000 keys", one_lease_with_many_keys, NULL,
                                     NULL, NULL};
    tests[n++] = (struct CMUnitTest){"random calls", random_calls, NULL, NULL, NULL};
    return cmocka_run_group_tests_name("leases", tests, NULL, NULL);
}
