/* test_watch_engine.c - live feed and history of a real engine say the same.
 *
 * A watcher that was there all the time and one that comes late, over the same range, must get the
 * same bytes, whether the past lies in the engine's tail, in the backend, or in both.
 */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>

#define N_STEPS 1500
#define N_KINDS 6u /* of watchers; see kind_spec */
#define N_KEYS 25u

struct heard {
    struct bytes events; /* all events, one after the other */
    size_t *ends;        /* owned; after each delivery */
    size_t n_deliveries;
    bool dead;
};

struct world {
    struct engine *e;
    uint64_t index;
    struct watch_hub *hub;
    struct event_batch *inbox[8]; /* on the way from engine to hub */
    size_t n_inbox;
    uint64_t rng;
};

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void on_changed(void *arg, struct event_batch *batch)
{
    struct world *w = arg;
    assert_true(w->n_inbox < ARRAY_LEN(w->inbox));
    w->inbox[w->n_inbox++] = batch;
}

static void on_stored(void *arg, uint64_t index, uint64_t index_before)
{
    (void)arg;
    assert_true(index >= index_before);
}

static void on_compacted(void *arg, const struct compaction_report *report)
{
    (void)arg;
    assert_true(report->revision > 0);
}

static void on_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    (void)arg;
    (void)e;
    fail_msg("%s", ec->text);
}

static const struct engine_events events = {on_changed, on_stored, on_compacted, on_failed};

static void feed(struct world *w)
{
    for (size_t i = 0; i < w->n_inbox; i++) {
        watch_hub_feed(w->hub, w->inbox[i]);
    }
    w->n_inbox = 0;
}

static int set_up(void **state)
{
    struct world *w = xcalloc(1, sizeof(*w));
    struct err_ctx ec = {{0}};
    struct engine_config cfg = {
        .backend = backend_mem_create(),
        .cluster_id = 1,
        .member_id = 2,
        .quota_bytes = INT64_MAX,
        .min_lease_ttl_s = 2,
        .compaction_batch_limit = 100,
        .events = &events,
        .events_arg = w,
    };
    assert_int_equal(engine_open(&cfg, &w->e, &ec), OK);
    w->hub = watch_hub_create(w->e, NULL);
    w->rng = 99;
    *state = w;
    return 0;
}

static int tear_down(void **state)
{
    struct world *w = *state;
    feed(w);
    watch_hub_destroy(&w->hub);
    engine_close(&w->e);
    free(w);
    return 0;
}

static void apply(struct world *w, const Etcdserverpb__InternalRaftRequest *r)
{
    size_t len = etcdserverpb__internal_raft_request__get_packed_size(r);
    uint8_t *data = xalloc(len);
    (void)etcdserverpb__internal_raft_request__pack(r, data);
    struct apply_result result;
    engine_apply(w->e, ++w->index, 1, 0, slice_of(data, len), false, 1000, &result);
    assert_int_equal(result.err, OK);
    buf_unref(&result.body);
    free(data);
}

static ProtobufCBinaryData key_of(uint64_t i, char text[8])
{
    size_t len = (size_t)snprintf(text, 8, "k%02u", (unsigned)(i % N_KEYS));
    return (ProtobufCBinaryData){len, (uint8_t *)text};
}

static void write_something(struct world *w)
{
    char text[2][8];
    uint64_t r = next_random(&w->rng);
    Etcdserverpb__InternalRaftRequest all = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;
    Etcdserverpb__DeleteRangeRequest del = ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT;
    put.key = key_of(r >> 8, text[0]);
    put.value = (ProtobufCBinaryData){sizeof(r), (uint8_t *)&r};
    del.key = key_of(r >> 8, text[0]);
    if (r % 16 < 12) {
        all.put = &put;
    } else {
        if (r % 2 == 0) { /* perhaps several keys in one revision */
            del.range_end = key_of((r >> 8) % N_KEYS + 3, text[1]);
        }
        all.delete_range = &del;
    }
    apply(w, &all);
}

static bool on_deliver(void *arg, struct watcher *watcher, const struct watch_delivery *d)
{
    (void)watcher;
    struct heard *h = arg;
    for (size_t i = 0; i < d->n_events; i++) {
        bytes_add(&h->events, d->events[i].data, d->events[i].len);
    }
    h->ends = xrealloc(h->ends, (h->n_deliveries + 1) * sizeof(size_t));
    h->ends[h->n_deliveries++] = h->events.len;
    return true;
}

static void on_dead(void *arg, struct watcher *watcher, int64_t compact_revision)
{
    (void)watcher;
    assert_true(compact_revision > 0);
    ((struct heard *)arg)->dead = true;
}

static const struct watch_owner owner = {on_deliver, on_dead};

static struct watcher *add_kind(struct world *w, unsigned kind, int64_t start, struct heard *h)
{
    static const struct {
        const char *key, *end;
        size_t end_len;
        unsigned filters;
        bool prev_kv;
    } kinds[N_KINDS] = {
        {"k03", "", 0, 0, true},
        {"k", "\0", 1, 0, true},
        {"k", "l", 1, 0, false},
        {"k10", "", 0, 0, false},
        {"k05", "k15", 3, WATCH_NO_PUT, true},
        {"k05", "k15", 3, WATCH_NO_DELETE, false},
    };
    struct watch_spec spec = {.key = slice_str(kinds[kind].key),
                              .range_end = slice_of(kinds[kind].end, kinds[kind].end_len),
                              .start_revision = start,
                              .filters = kinds[kind].filters,
                              .prev_kv = kinds[kind].prev_kv,
                              .owner = &owner,
                              .arg = h};
    int64_t live = 0;
    struct watcher *watcher = watch_add(w->hub, &spec, &live);
    assert_int_equal(live, engine_revision(w->e));
    return watcher;
}

static void catch_up(struct world *w)
{
    unsigned n = 0;
    while (watch_hub_step(w->hub)) {
        assert_true(++n < 1000);
    }
}

static void heard_deinit(struct heard *h)
{
    bytes_deinit(&h->events);
    free(h->ends);
}

/* Somebody who starts at `start` now hears what `live` heard from its `skip`-th byte on. */
static void assert_history(struct world *w, unsigned kind, int64_t start, const struct heard *live,
                           size_t skip)
{
    struct heard late = {0};
    struct watcher *watcher = add_kind(w, kind, start, &late);
    catch_up(w);
    assert_false(late.dead);
    assert_true(watcher_synced(w->hub, watcher));
    assert_int_equal(late.events.len, live->events.len - skip);
    assert_true(late.events.len == 0 ||
                memcmp(late.events.data, live->events.data + skip, late.events.len) == 0);
    watch_remove(w->hub, &watcher);
    heard_deinit(&late);
}

static void flush(struct world *w)
{
    bool more = true;
    struct err_ctx ec;
    for (unsigned n = 0; more && n < 100; n++) {
        assert_int_equal(engine_flush(w->e, true, &more, &ec), OK);
    }
}

static void history_repeats_the_live_feed(void **state)
{
    struct world *w = *state;
    struct heard live[N_KINDS] = {0};
    struct watcher *watchers[N_KINDS];
    for (unsigned k = 0; k < N_KINDS; k++) {
        watchers[k] = add_kind(w, k, 2, &live[k]);
    }
    for (unsigned step = 1; step <= N_STEPS; step++) {
        write_something(w);
        if (next_random(&w->rng) % 3 != 0 || w->n_inbox == ARRAY_LEN(w->inbox)) {
            feed(w);
        }
        if (next_random(&w->rng) % 100 == 0) {
            flush(w);
        }
        if (step % 250 == 0) {
            feed(w);
            for (unsigned k = 0; k < N_KINDS; k++) {
                assert_history(w, k, 2, &live[k], 0);
            }
        }
    }
    for (unsigned k = 0; k < N_KINDS; k++) {
        assert_true(live[k].n_deliveries > 10);
        watch_remove(w->hub, &watchers[k]);
        heard_deinit(&live[k]);
    }
}

static void compact(struct world *w, int64_t revision)
{
    Etcdserverpb__InternalRaftRequest all = ETCDSERVERPB__INTERNAL_RAFT_REQUEST__INIT;
    Etcdserverpb__CompactionRequest c = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    c.revision = revision;
    all.compaction = &c;
    apply(w, &all);
    while (engine_step(w->e)) {
    }
    flush(w);
}

/* Kind 2 is everything without previous values, one delivery a revision: history from the compact
 * revision on is whole. */
static void compaction_leaves_history_from_there_on(void **state)
{
    struct world *w = *state;
    struct heard live = {0};
    struct heard lost = {0};
    size_t *ends_at = xcalloc(N_STEPS + 2, sizeof(size_t));
    struct watcher *all = add_kind(w, 2, 2, &live);
    for (unsigned step = 1; step <= 300; step++) {
        int64_t before = engine_revision(w->e);
        write_something(w);
        feed(w);
        if (engine_revision(w->e) > before) {
            ends_at[before + 1] = live.events.len; /* where the next revision's begin */
        }
        if (step % 100 == 50) {
            flush(w);
        }
    }
    for (int64_t c = 40; c < engine_revision(w->e) - 40; c += 60) {
        compact(w, c);
        assert_int_equal(engine_compact_revision(w->e), c);
        assert_history(w, 2, c, &live, ends_at[c - 1]);
        assert_history(w, 2, c + 7, &live, ends_at[c + 6]);
        struct watcher *gone = add_kind(w, 2, c - 1, &lost);
        catch_up(w);
        assert_true(lost.dead);
        assert_int_equal(lost.events.len, 0);
        lost.dead = false;
        watch_remove(w->hub, &gone);
    }
    watch_remove(w->hub, &all);
    heard_deinit(&live);
    heard_deinit(&lost);
    free(ends_at);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(history_repeats_the_live_feed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(compaction_leaves_history_from_there_on, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
