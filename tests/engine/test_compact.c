/* test_compact.c - compaction: what stays, its hash, its resumption; and etcd's hashes. */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/wire.h"

static size_t n_records(struct fixture *f)
{
    struct backend_read *r = NULL;
    struct backend_cursor *c = NULL;
    struct slice k;
    struct slice v;
    size_t n = 0;
    const struct backend_ops *ops = f->backend->ops;
    assert_int_equal(ops->read_begin(f->backend, &r, NULL), OK);
    assert_int_equal(ops->cursor_open(r, BUCKET_KEY, (struct slice){0}, &c, NULL), OK);
    while (ops->cursor_next(c, &k, &v) == OK) {
        n++;
    }
    ops->cursor_close(&c);
    ops->read_end(&r);
    return n;
}

static void errors_and_the_virgin_store(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(fixture_compact(&f, -1), ERR_COMPACTED);
    assert_int_equal(fixture_compact(&f, -7), ERR_COMPACTED);
    assert_int_equal(fixture_compact(&f, 2), ERR_FUTURE_REV);
    assert_int_equal(fixture_compact(&f, 0), OK);
    assert_int_equal(engine_compact_revision(f.e), 0);
    assert_int_equal(fixture_compact(&f, 0), ERR_COMPACTED);
    assert_int_equal(fixture_compact(&f, 1), OK);
    fixture_settle(&f);
    assert_int_equal(f.compacted, 1);
    fixture_deinit(&f);
}

static void what_stays(void **state)
{
    struct fixture f;
    fixture_init(&f, *(enum fixture_kind *)*state);
    fixture_put(&f, "a", "1");   /* 2 */
    fixture_put(&f, "b", "1");   /* 3 */
    fixture_put(&f, "a", "2");   /* 4 */
    fixture_delete(&f, "b", ""); /* 5 */
    fixture_put(&f, "c", "1");   /* 6 */
    fixture_delete(&f, "c", ""); /* 7 */
    fixture_put(&f, "a", "3");   /* 8 */
    fixture_put(&f, "c", "2");   /* 9 */
    fixture_flush(&f);
    assert_int_equal(n_records(&f), 8);
    struct apply_result r = fixture_compact_full(&f, 7, true);
    assert_int_equal(r.err, OK);
    assert_int_equal(r.compacting_to, 7);
    char got[256];
    fixture_dump(&f, "a", "*", 6, got, sizeof(got)); /* the errors come at once */
    assert_string_equal(got, "required revision has been compacted");
    r = fixture_compact_full(&f, 7, true);
    assert_int_equal(r.err, ERR_COMPACTED);
    assert_int_equal(r.compacting_to, 7);
    fixture_settle(&f);
    assert_int_equal(f.compacted, 7);
    assert_int_equal(n_records(&f), 4); /* a at 4, tombstone of c at 7, and what is above */
    r = fixture_compact_full(&f, 7, true);
    assert_int_equal(r.compacting_to, 0); /* nothing to wait for */
    fixture_dump(&f, "a", "*", 7, got, sizeof(got));
    assert_string_equal(got, "a=2@4,2,2,0;");
    fixture_reopen(&f);
    assert_int_equal(engine_compact_revision(f.e), 7);
    fixture_dump(&f, "a", "*", 7, got, sizeof(got));
    assert_string_equal(got, "a=2@4,2,2,0;");
    fixture_dump(&f, "a", "*", 0, got, sizeof(got));
    assert_string_equal(got, "a=3@8,2,3,0;c=2@9,9,1,0;");
    fixture_compact(&f, 8);
    fixture_settle(&f);
    assert_int_equal(n_records(&f), 2); /* the tombstone is now below */
    fixture_deinit(&f);
}

/* --- HashKV against a straight reading of the reference
 * ------------------------------------------------ */

struct rec {
    int64_t main, sub;
    bool tombstone;
    char key[8];
    uint8_t kv[64];
    size_t kv_len;
};

#define RECS_MAX 512
struct book {
    struct rec v[RECS_MAX];
    size_t n;
};

static void note(void *arg, const struct change *c)
{
    struct book *b = arg;
    assert_true(b->n < RECS_MAX);
    struct rec *r = &b->v[b->n++];
    *r = (struct rec){.main = c->rev.main, .sub = c->rev.sub, .tombstone = c->deleted};
    assert_true(c->key.len < sizeof(r->key));
    memcpy(r->key, c->key.data, c->key.len);
    if (c->deleted) {
        struct kv_view only_key = {.key = c->key};
        r->kv_len = (size_t)(kv_encode(r->kv, &only_key) - r->kv);
    } else {
        assert_true(c->kv->len <= sizeof(r->kv));
        memcpy(r->kv, c->kv->data, c->kv->len);
        r->kv_len = c->kv->len;
    }
}

/* The newest record of the key with main <= at. */
static const struct rec *newest(const struct book *b, const char *key, int64_t at)
{
    const struct rec *found = NULL;
    for (size_t i = 0; i < b->n; i++) {
        if (b->v[i].main <= at && strcmp(b->v[i].key, key) == 0) {
            found = &b->v[i];
        }
    }
    return found;
}

static uint32_t reference_hash(const struct book *b, int64_t compacted, int64_t revision,
                               bool of_compaction)
{
    uint32_t crc = crc32c(0, "key", 3);
    bool keep_any = false;
    for (size_t i = 0; i < b->n; i++) {
        const struct rec *r = newest(b, b->v[i].key, revision);
        keep_any =
            keep_any || (r != NULL && (!r->tombstone || (of_compaction && r->main == revision)));
    }
    for (size_t i = 0; i < b->n; i++) {
        const struct rec *r = &b->v[i];
        bool kept = newest(b, r->key, revision) == r &&
                    (!r->tombstone || (of_compaction && r->main == revision));
        bool stays = newest(b, r->key, compacted) == r && !r->tombstone;
        if (r->main > revision || (r->main <= compacted && keep_any && !kept) ||
            (r->main <= compacted && !keep_any && !stays) ||
            (r->main == compacted && r->tombstone)) {
            continue;
        }
        uint8_t key[RECORD_KEY_BYTES_MAX];
        size_t len = record_key_encode(key, (struct rev){r->main, r->sub}, r->tombstone);
        crc = crc32c(crc32c(crc, key, len), r->kv, r->kv_len);
    }
    return crc;
}

static uint32_t next_random(uint32_t *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void hashes_agree_with_the_reference(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 30; seed++) {
        struct fixture f;
        uint32_t rng = seed;
        static struct book book;
        book.n = 0;
        fixture_init(&f, ON_MEMORY);
        f.batch_limit = 3;
        fixture_reopen(&f);
        int64_t compacted = -1;
        for (int round = 0; round < 4; round++) {
            for (int i = 0; i < 25; i++) {
                char key[8];
                snprintf(key, sizeof(key), "k%u", next_random(&rng) % 7);
                if (next_random(&rng) % 3 == 0) {
                    fixture_delete(&f, key, next_random(&rng) % 4 == 0 ? "l" : "");
                } else {
                    fixture_put(&f, key, "v");
                }
                if (next_random(&rng) % 10 == 0) {
                    fixture_flush(&f);
                }
            }
            int64_t live = engine_revision(f.e);
            int64_t next;
            int64_t from = book.n == 0 ? 1 : book.v[book.n - 1].main + 1;
            assert_int_equal(
                engine_history(f.e, from, live, 1000, 1u << 20, note, &book, &next, NULL), OK);
            assert_int_equal(next, live + 1);
            for (int64_t r = compacted < 0 ? 1 : compacted + 1; r <= live; r++) {
                assert_int_equal(fixture_hash_kv(&f, r),
                                 reference_hash(&book, compacted, r, false));
            }
            int64_t to = (compacted < 1 ? 1 : compacted) + 1 + (int64_t)(next_random(&rng) % 20);
            to = to > live ? live : to;
            if (to <= compacted) {
                continue;
            }
            assert_int_equal(fixture_compact(&f, to), OK);
            fixture_settle(&f);
            struct hash_kv h;
            assert_int_equal(engine_hash_kv(f.e, to, &h, NULL), OK);
            assert_int_equal(h.compact_revision, compacted);
            assert_int_equal(h.hash_revision, to);
            assert_int_equal(h.hash, reference_hash(&book, compacted, to, true));
            compacted = to;
        }
        struct hash_kv h;
        assert_int_equal(engine_hash_kv(f.e, engine_revision(f.e) + 1, &h, NULL), ERR_FUTURE_REV);
        assert_int_equal(engine_hash_kv(f.e, -4, &h, NULL), OK);
        assert_int_equal(h.hash, crc32c(0, "key", 3));
        fixture_deinit(&f);
    }
}

/* What etcd 3.4.23 answered to endpoint hashkv after the same requests. */
static void hashes_agree_with_etcd(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    static const struct {
        const char *key, *value, *range_end; /* value NULL: a deletion */
    } requests[] = {
        {"a", "v1", ""},   {"a", "v2", ""}, {"a", "v3", ""},  {"a", "v4", ""},
        {"a", "v5", ""},   {"b", "x", ""},  {"c", "y", ""},   {"b", NULL, ""},
        {"a", "last", ""}, {"d", "1", ""},  {"a", NULL, "d"}, {"e", "z", ""},
    };
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        if (requests[i].value != NULL) {
            fixture_put(&f, requests[i].key, requests[i].value);
        } else {
            fixture_delete(&f, requests[i].key, requests[i].range_end);
        }
    }
    assert_int_equal(fixture_hash_kv(&f, 0), 4228785769u);
    assert_int_equal(fixture_hash_kv(&f, 3), 3922960181u);
    assert_int_equal(fixture_hash_kv(&f, 8), 937836905u);
    assert_int_equal(fixture_hash_kv(&f, 11), 1942909050u);
    assert_int_equal(fixture_compact(&f, 7), OK);
    assert_int_equal(fixture_hash_kv(&f, 0), 2630792781u);
    fixture_settle(&f);
    assert_int_equal(fixture_hash_kv(&f, 0), 2630792781u);
    assert_int_equal(fixture_hash_kv(&f, 10), 249307717u);
    fixture_deinit(&f);
}

static void a_pass_is_resumed_after_a_restart(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    f.batch_limit = 10;
    fixture_flush(&f);
    fixture_reopen(&f);
    for (int i = 0; i < 100; i++) {
        fixture_put(&f, "k", "v");
    }
    fixture_flush(&f);
    uint32_t hash = fixture_hash_kv(&f, 90);
    assert_int_equal(fixture_compact(&f, 80), OK);
    fixture_flush(&f); /* the wish is durable, and a step */
    fixture_flush(&f);
    assert_int_equal(n_records(&f), 80);
    fixture_reopen(&f);
    assert_int_equal(engine_compact_revision(f.e), 80);
    assert_int_equal(f.compacted, -1);
    char got[64];
    fixture_dump(&f, "k", "", 79, got, sizeof(got));
    assert_string_equal(got, "required revision has been compacted");
    uint32_t half = fixture_hash_kv(&f, 90);
    fixture_settle(&f);
    assert_int_equal(f.compacted, 80);
    assert_int_equal(n_records(&f), 22);
    assert_int_equal(fixture_hash_kv(&f, 90), half); /* how far the pass is cannot be seen */
    assert_int_not_equal(hash, half);
    struct hash_kv h;
    assert_int_equal(engine_hash_kv(f.e, 80, &h, NULL), OK);
    assert_int_equal(h.compact_revision, 80); /* no hash of the interrupted pass is kept */
    fixture_deinit(&f);
}

/* A store may be compacted to 0, which etcd then takes for the live revision until ten others have followed. */
static void a_hash_at_0_is_not_that_of_the_live_revision(void **state)
{
    (void)state;
    struct fixture f;
    struct hash_kv h;
    fixture_init(&f, ON_MEMORY);
    assert_int_equal(fixture_compact(&f, 0), OK);
    fixture_settle(&f);
    fixture_put(&f, "k", "v");
    uint32_t first = fixture_hash_kv(&f, 0);
    fixture_put(&f, "k", "w");
    assert_int_equal(engine_hash_kv(f.e, 0, &h, NULL), OK);
    assert_int_equal(h.hash_revision, 3);
    assert_int_not_equal(h.hash, first);
    fixture_deinit(&f);
}

/* --- the order of passes
 * --------------------------------------------------------------------------------- */

/* One round of the same changes for everybody. */
static void change(struct fixture *f, uint32_t *rng)
{
    for (int i = 0; i < 12; i++) {
        char key[8];
        snprintf(key, sizeof(key), "k%u", next_random(rng) % 5);
        if (next_random(rng) % 3 == 0) {
            fixture_delete(f, key, next_random(rng) % 5 == 0 ? "l" : "");
        } else {
            fixture_put(f, key, "v");
        }
    }
}

static void assert_same_hashes(struct fixture *a, struct fixture *b)
{
    struct hash_kv of_a[16];
    struct hash_kv of_b[16];
    size_t n = engine_compaction_hashes(a->e, of_a, ARRAY_LEN(of_a));
    assert_int_equal(engine_compaction_hashes(b->e, of_b, ARRAY_LEN(of_b)), n);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(of_a[i].hash_revision, of_b[i].hash_revision);
        assert_int_equal(of_a[i].compact_revision, of_b[i].compact_revision);
        assert_int_equal(of_a[i].hash, of_b[i].hash);
    }
}

static void hashes_do_not_depend_on_when_passes_run(void **state)
{
    (void)state;
    for (uint32_t seed = 1; seed <= 40; seed++) {
        enum { EAGER, LAZY, STEPPING, N_MEMBERS };
        struct fixture f[N_MEMBERS];
        uint32_t pace = seed;
        for (int m = 0; m < N_MEMBERS; m++) {
            fixture_init(&f[m], ON_MEMORY);
            f[m].batch_limit = m == EAGER ? 1000 : 2;
            fixture_reopen(&f[m]);
        }
        for (uint32_t round = 0; round < 8; round++) {
            for (int m = 0; m < N_MEMBERS; m++) {
                uint32_t rng = seed * 1000u + round;
                change(&f[m], &rng);
                int64_t to = engine_revision(f[m].e) - next_random(&rng) % 6;
                enum err err = fixture_compact(&f[m], to);
                assert_true(err == OK || err == ERR_COMPACTED);
            }
            fixture_settle(&f[EAGER]);
            for (uint32_t i = next_random(&pace) % 4; i > 0; i--) {
                fixture_flush(&f[STEPPING]);
                assert_int_equal(engine_defrag(f[STEPPING].e, NULL), OK);
            }
            for (int64_t at = engine_compact_revision(f[LAZY].e) + 1; at <= engine_revision(f[LAZY].e); at++) {
                assert_int_equal(fixture_hash_kv(&f[LAZY], at), fixture_hash_kv(&f[EAGER], at));
                assert_int_equal(fixture_hash_kv(&f[STEPPING], at), fixture_hash_kv(&f[EAGER], at));
            }
        }
        for (int m = LAZY; m < N_MEMBERS; m++) {
            fixture_settle(&f[m]);
            assert_int_equal(f[m].n_passes, f[EAGER].n_passes);
            assert_same_hashes(&f[m], &f[EAGER]);
            assert_int_equal(n_records(&f[m]), n_records(&f[EAGER]));
        }
        for (int m = 0; m < N_MEMBERS; m++) {
            fixture_deinit(&f[m]);
        }
    }
}

static void a_pass_begins_with_the_flush_that_makes_it_durable(void **state)
{
    struct fixture f;
    fixture_init(&f, *(enum fixture_kind *)*state);
    for (int i = 0; i < 20; i++) {
        fixture_put(&f, "k", "v");
    }
    assert_int_equal(fixture_compact(&f, 11), OK);
    assert_int_equal(fixture_compact(&f, 16), OK);
    fixture_flush(&f);
    assert_int_equal(f.n_passes, 2);
    assert_int_equal(f.compacted, 16);
    struct hash_kv h;
    assert_int_equal(engine_hash_kv(f.e, 16, &h, NULL), OK);
    assert_int_equal(h.compact_revision, 11);
    fixture_deinit(&f);
}

static void a_full_queue_merges_its_newest(void **state)
{
    (void)state;
    struct fixture f;
    struct fixture slow;
    fixture_init(&f, ON_MEMORY);
    fixture_init(&slow, ON_MEMORY);
    for (int i = 0; i < 200; i++) {
        fixture_put(&f, "k", "v");
        fixture_put(&slow, "k", "v");
    }
    for (int64_t at = 1; at <= 150; at++) {
        assert_int_equal(fixture_compact(&f, at), OK);
        fixture_settle(&f);
        assert_int_equal(fixture_compact(&slow, at), OK);
    }
    fixture_settle(&slow);
    assert_int_equal(f.n_passes, 150);
    assert_true(slow.n_passes > 10 && slow.n_passes < 100);
    for (size_t i = 0; i < slow.n_passes; i++) {
        bool last = i + 1 == slow.n_passes;
        assert_int_equal(slow.passes[i].revision, last ? 150 : i + 1);
        assert_int_equal(slow.passes[i].before, i == 0 ? -1 : (int64_t)i);
        assert_int_equal(slow.passes[i].hashed, !last);
        assert_true(last || slow.passes[i].hash == f.passes[i].hash);
    }
    struct hash_kv h;
    assert_int_equal(engine_hash_kv(slow.e, 150, &h, NULL), OK);
    assert_int_equal(h.compact_revision, 150); /* not one to be compared */
    assert_int_equal(fixture_compact(&f, 160), OK);
    assert_int_equal(fixture_compact(&slow, 160), OK);
    fixture_settle(&f);
    fixture_settle(&slow);
    assert_int_equal(engine_hash_kv(slow.e, 160, &h, NULL), OK);
    assert_int_equal(h.compact_revision, 150);
    assert_int_equal(h.hash, fixture_hash_kv(&f, 160));
    fixture_deinit(&f);
    fixture_deinit(&slow);
}

static void a_restart_leaves_one_pass_to_the_last(void **state)
{
    struct fixture f;
    fixture_init(&f, *(enum fixture_kind *)*state);
    f.batch_limit = 5;
    fixture_flush(&f);
    fixture_reopen(&f);
    for (int i = 0; i < 60; i++) {
        fixture_put(&f, "k", "v");
    }
    assert_int_equal(fixture_compact(&f, 20), OK);
    assert_int_equal(fixture_compact(&f, 40), OK);
    fixture_flush(&f); /* both are durable, and the first has begun */
    assert_int_equal(f.n_passes, 0);
    fixture_reopen(&f);
    assert_int_equal(fixture_compact(&f, 50), OK);
    fixture_settle(&f);
    assert_int_equal(f.n_passes, 2);
    assert_int_equal(f.passes[0].revision, 40);
    assert_int_equal(f.passes[0].before, -1);
    assert_false(f.passes[0].hashed);
    assert_int_equal(f.passes[1].revision, 50);
    assert_int_equal(f.passes[1].before, 40);
    assert_true(f.passes[1].hashed);
    fixture_deinit(&f);
}

/* A compaction that the store had not heard of when the process ended comes again with the log. */
static void a_pass_that_was_not_durable_is_hashed_after_a_crash(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    for (int i = 0; i < 30; i++) {
        fixture_put(&f, "k", "v");
    }
    fixture_flush(&f);
    assert_int_equal(fixture_compact(&f, 10), OK);
    assert_int_equal(fixture_compact(&f, 20), OK);
    fixture_crash(&f, false);
    fixture_settle(&f);
    assert_int_equal(f.n_passes, 2);
    assert_true(f.passes[0].hashed && f.passes[1].hashed);
    uint32_t hash = f.passes[1].hash;
    fixture_crash(&f, true); /* and the commit that ended the last pass is lost */
    fixture_settle(&f);
    assert_int_equal(f.n_passes, 3);
    assert_int_equal(f.passes[2].revision, 20);
    assert_true(!f.passes[2].hashed || f.passes[2].hash == hash);
    fixture_deinit(&f);
}

static void steps_keep_their_pause_and_flushes_do_not_wait_for_it(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    f.batch_limit = 10;
    f.pause_ms = 5000;
    fixture_flush(&f);
    fixture_reopen(&f);
    for (int i = 0; i < 40; i++) {
        fixture_put(&f, "k", "v");
    }
    assert_int_equal(fixture_compact(&f, 32), OK);
    size_t n = 40;
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 3; j++) {
            fixture_flush(&f);
            assert_int_equal(f.stored_index, f.index);
            assert_int_equal(n_records(&f), n - (i < 3 ? 10 : 0));
            fixture_put(&f, "k", "v");
            n++;
        }
        n -= i < 3 ? 10 : 0;
        f.now_ms += 5000;
        engine_note_time(f.e, f.now_ms);
    }
    assert_int_equal(f.n_passes, 1);
    fixture_deinit(&f);
}

static void a_slow_reader_holds_compaction_back_for_a_while(void **state)
{
    (void)state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    char key[16];
    for (int i = 0; i < 2000; i++) {
        snprintf(key, sizeof(key), "k%04d", i);
        fixture_put(&f, key, "first");
    }
    Etcdserverpb__RangeRequest r = fixture_range_request("k", "*", 0);
    for (int late = 0; late < 2; late++) {
        struct range_read *rr = NULL;
        struct range_info info;
        assert_int_equal(engine_range_open(f.e, &r, f.now_ms, &rr, &info, NULL), OK);
        assert_int_equal(info.n_kvs, 2000);
        uint8_t *all = xalloc(info.kvs_bytes);
        enum err err;
        size_t n = engine_range_pull(rr, all, 100, &err);
        assert_int_equal(n, 100);
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof(key), "k%04d", i);
            fixture_put(&f, key, "second");
        }
        assert_int_equal(fixture_compact(&f, engine_revision(f.e)), OK);
        for (int i = 0; i < 20; i++) {
            fixture_flush(&f);
            while (engine_step(f.e)) {
            }
        }
        if (late == 0) {
            n += engine_range_pull(rr, all + n, info.kvs_bytes - n, &err);
            assert_int_equal(err, OK);
            assert_int_equal(n, info.kvs_bytes);
            assert_memory_equal(memmem(all, n, "second", 6) == NULL ? "none" : "some", "none", 4);
        } else {
            f.now_ms += ENGINE_PIN_MS_MAX + 1;
            engine_note_time(f.e, f.now_ms);
            fixture_settle(&f);
            n = engine_range_pull(rr, all, info.kvs_bytes, &err);
            assert_int_equal(n, 0);
            assert_int_equal(err, ERR_COMPACTED);
        }
        engine_range_close(&rr);
        free(all);
        fixture_settle(&f);
        assert_int_equal(n_records(&f), 2000);
        for (int i = 0; i < 2000; i++) {
            snprintf(key, sizeof(key), "k%04d", i);
            fixture_put(&f, key, "first");
        }
    }
    fixture_deinit(&f);
}

int main(void)
{
    static enum fixture_kind memory = ON_MEMORY;
    static enum fixture_kind lmdb = ON_LMDB;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_and_the_virgin_store),
        cmocka_unit_test_prestate(what_stays, &memory),
        cmocka_unit_test_prestate(what_stays, &lmdb),
        cmocka_unit_test(hashes_agree_with_the_reference),
        cmocka_unit_test(hashes_agree_with_etcd),
        cmocka_unit_test(a_hash_at_0_is_not_that_of_the_live_revision),
        cmocka_unit_test(a_pass_is_resumed_after_a_restart),
        cmocka_unit_test(hashes_do_not_depend_on_when_passes_run),
        cmocka_unit_test_prestate(a_pass_begins_with_the_flush_that_makes_it_durable, &memory),
        cmocka_unit_test_prestate(a_pass_begins_with_the_flush_that_makes_it_durable, &lmdb),
        cmocka_unit_test(a_full_queue_merges_its_newest),
        cmocka_unit_test_prestate(a_restart_leaves_one_pass_to_the_last, &memory),
        cmocka_unit_test_prestate(a_restart_leaves_one_pass_to_the_last, &lmdb),
        cmocka_unit_test(a_pass_that_was_not_durable_is_hashed_after_a_crash),
        cmocka_unit_test(steps_keep_their_pause_and_flushes_do_not_wait_for_it),
        cmocka_unit_test(a_slow_reader_holds_compaction_back_for_a_while),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
