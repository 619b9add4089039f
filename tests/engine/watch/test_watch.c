/* test_watch.c - the hub against a model of the feed.
 *
 * The feed's past (engine_history, engine_kv_at and the two revisions) is played by watch_model.c,
 * whose definitions the linker takes instead of the engine's.
 */
#include "watch_model.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/wire.h"

#define N_WATCHERS 40

/* --- a client that knows what must come
 * ----------------------------------------------------------------- */

struct fixture;

struct client {
    struct fixture *f;
    struct watcher *w; /* NULL: free slot */
    struct model_key key;
    struct model_key end;
    size_t end_len;
    bool endless;
    unsigned filters;
    bool prev_kv;
    int64_t start;
    int64_t at_revision; /* the next change to look at */
    size_t at_sub;
    bool refuse; /* say no to whatever comes */
    bool full;
    bool dead;
    size_t n_deliveries;
    size_t n_events;
};

struct fixture {
    struct engine *e;
    struct watch_hub *hub;
    int64_t fed;
    uint64_t rng;
    unsigned chaos; /* of 100 deliveries, how many are refused or do mischief */
    struct client clients[N_WATCHERS];
    size_t n_refused, n_compacted, n_events;
    struct metrics *metrics;
};

static bool wanted(const struct client *c, const struct change *x)
{
    if (c->filters & (x->deleted ? WATCH_NO_DELETE : WATCH_NO_PUT)) {
        return false;
    }
    struct slice from = slice_of(c->key.bytes, c->key.len);
    if (!c->endless && c->end_len == 0) {
        return slice_eq(x->key, from);
    }
    return slice_cmp(x->key, from) >= 0 &&
           (c->endless || slice_cmp(x->key, slice_of(c->end.bytes, c->end_len)) < 0);
}

/* The next change this client must get, if any up to `to`; the position moves to it. */
static const struct change *expected(struct client *c, int64_t to)
{
    while (c->at_revision <= to) {
        const struct event_batch *b = c->f->e->batches[c->at_revision];
        for (; c->at_sub < b->n; c->at_sub++) {
            if (wanted(c, &b->changes[c->at_sub])) {
                return &b->changes[c->at_sub];
            }
        }
        c->at_revision++;
        c->at_sub = 0;
    }
    return NULL;
}

static struct slice only_field(struct slice message, uint32_t number)
{
    struct wire_field f;
    assert_int_equal(wire_next(&message, &f), OK);
    assert_int_equal(f.number, number);
    assert_int_equal(f.type, WIRE_LEN);
    assert_int_equal(message.len, 0);
    return f.bytes;
}

static void check_event(struct client *c, struct slice encoded, const struct change *want)
{
    struct slice event = only_field(encoded, 11);
    struct wire_field f;
    if (want->deleted) {
        assert_int_equal(wire_next(&event, &f), OK);
        assert_int_equal(f.number, 1);
        assert_int_equal(f.value, 1);
    }
    assert_int_equal(wire_next(&event, &f), OK);
    assert_int_equal(f.number, 2);
    assert_true(slice_eq(f.bytes, buf_slice(want->kv)));
    struct engine *e = c->f->e;
    int64_t before = want->rev.main - 1;
    bool known = c->prev_kv && !want->created && before >= e->compact;
    struct buf *prev = known ? model_kv_at(e, want->key, before) : NULL;
    if (prev != NULL) {
        assert_int_equal(wire_next(&event, &f), OK);
        assert_int_equal(f.number, 3);
        assert_true(slice_eq(f.bytes, buf_slice(prev)));
    }
    assert_int_equal(event.len, 0);
}

static void add_client(struct fixture *f);
static void remove_client(struct client *c);

static struct client *random_client(struct fixture *f)
{
    return &f->clients[next_random(&f->rng) % N_WATCHERS];
}

static void mischief(struct fixture *f, struct client *c)
{
    struct client *other = random_client(f);
    switch (next_random(&f->rng) % 4) {
    case 0:
        remove_client(c);
        break;
    case 1:
        remove_client(other);
        break;
    case 2:
        add_client(f);
        break;
    default:
        if (other->w != NULL && other->full) {
            other->full = false;
            watch_resume(f->hub, other->w);
        }
        break;
    }
}

static bool on_deliver(void *arg, struct watcher *w, const struct watch_delivery *d)
{
    struct client *c = arg;
    struct fixture *f = c->f;
    assert_ptr_equal(c->w, w);
    assert_ptr_equal(watcher_arg(w), c);
    assert_false(c->full);
    assert_false(c->dead);
    assert_true(d->n_events > 0);
    assert_true(d->last_of_revision);
    assert_int_equal(d->header_revision, f->fed);
    if (c->refuse) {
        c->full = true;
        return false;
    }
    if (next_random(&f->rng) % 100 < f->chaos) {
        f->n_refused++;
        c->full = true;
        if (next_random(&f->rng) % 4 == 0) { /* room again at once */
            c->full = false;
            watch_resume(f->hub, w);
        }
        if (next_random(&f->rng) % 4 == 0) {
            mischief(f, c);
        }
        return false;
    }
    size_t bytes = 0;
    int64_t n_revisions = 0;
    int64_t last = 0;
    for (size_t i = 0; i < d->n_events; i++) {
        const struct change *want = expected(c, d->header_revision);
        assert_non_null(want);
        check_event(c, d->events[i], want);
        n_revisions += want->rev.main != last ? 1 : 0;
        last = want->rev.main;
        bytes += d->events[i].len;
        c->at_sub++;
    }
    assert_int_equal(bytes, d->bytes);
    assert_true(n_revisions <= WATCH_SLICE_REVISIONS);
    const struct change *after = expected(c, f->fed);
    assert_true(after == NULL || after->rev.main > last);
    c->n_deliveries++;
    c->n_events += d->n_events;
    f->n_events += d->n_events;
    if (next_random(&f->rng) % 100 < f->chaos / 2) {
        mischief(f, c);
    }
    return true;
}

static void on_compacted(void *arg, struct watcher *w, int64_t compact_revision)
{
    struct client *c = arg;
    assert_ptr_equal(c->w, w);
    assert_int_equal(compact_revision, c->f->e->compact);
    assert_true(c->at_revision < compact_revision || c->start < compact_revision);
    assert_false(c->dead);
    c->dead = true;
    c->f->n_compacted++;
    if (next_random(&c->f->rng) % 100 < c->f->chaos) {
        mischief(c->f, c);
    }
}

static const struct watch_owner owner = {on_deliver, on_compacted};

/* All but the slot itself is set by the caller. */
static void start_client(struct client *c)
{
    struct fixture *f = c->f;
    struct watch_spec spec = {
        .key = slice_of(c->key.bytes, c->key.len),
        .range_end = c->endless ? slice_of("", 1) : slice_of(c->end.bytes, c->end_len),
        .start_revision = c->start,
        .filters = c->filters,
        .prev_kv = c->prev_kv,
        .owner = &owner,
        .arg = c,
    };
    int64_t live = 0;
    c->w = watch_add(f->hub, &spec, &live);
    assert_int_equal(live, f->e->live);
    c->start = c->start == 0 ? live + 1 : c->start;
    c->at_revision = c->start;
}

static void add_client(struct fixture *f)
{
    struct client *c = random_client(f);
    if (c->w != NULL) {
        return;
    }
    uint64_t *rng = &f->rng;
    *c = (struct client){.f = f, .key = model_key((unsigned)(next_random(rng) % N_KEYS))};
    switch (next_random(rng) % 4) {
    case 0:
        break;
    case 1:
        c->endless = true;
        break;
    default:
        c->end = model_key((unsigned)(next_random(rng) % N_KEYS));
        c->end_len = c->end.len == 1 && c->end.bytes[0] == 0 ? 0 : c->end.len;
        break;
    }
    c->filters = next_random(rng) % 3 == 0 ? (unsigned)(next_random(rng) % 4) : 0;
    c->prev_kv = next_random(rng) % 2 == 0;
    c->start = next_random(rng) % 3 == 0
                   ? 0
                   : 2 + (int64_t)(next_random(rng) % (uint64_t)(f->e->live + 20));
    start_client(c);
}

static void remove_client(struct client *c)
{
    if (c->w != NULL) {
        watch_remove(c->f->hub, &c->w);
        assert_null(c->w);
    }
}

static void feed_one(struct fixture *f)
{
    if (f->fed < f->e->live) {
        f->fed++;
        watch_hub_feed(f->hub, event_batch_ref(f->e->batches[f->fed]));
        assert_int_equal(watch_hub_revision(f->hub), f->fed);
    }
}

static void feed_all(struct fixture *f)
{
    while (f->fed < f->e->live) {
        feed_one(f);
    }
}

static void resume_all(struct fixture *f)
{
    for (size_t i = 0; i < N_WATCHERS; i++) {
        struct client *c = &f->clients[i];
        if (c->w != NULL && c->full) {
            c->full = false;
            watch_resume(f->hub, c->w);
        }
    }
}

/* Nobody refuses any more: everybody alive must have everything. */
static void assert_all_arrives(struct fixture *f)
{
    f->chaos = 0;
    feed_all(f);
    resume_all(f);
    size_t n = 0;
    while (watch_hub_step(f->hub)) {
        n++;
        assert_true(n < 10 * N_REVISIONS_MAX);
    }
    for (size_t i = 0; i < N_WATCHERS; i++) {
        struct client *c = &f->clients[i];
        if (c->w != NULL && !c->dead) {
            assert_null(expected(c, f->fed));
            assert_int_equal(watcher_synced(f->hub, c->w),
                             c->start <= f->fed || c->start == f->fed + 1);
        }
    }
}

static int set_up(void **state)
{
    struct fixture *f = xcalloc(1, sizeof(*f));
    f->e = model_create();
    f->metrics = metrics_create();
    f->hub = watch_hub_create(f->e, f->metrics);
    f->fed = 1;
    f->rng = 1;
    *state = f;
    return 0;
}

static double gauge_of(struct fixture *f, const char *name)
{
    return gauge_value(metrics_gauge(f->metrics, name, "", NULL));
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    watch_hub_destroy(&f->hub);
    assert_null(f->hub);
    assert_true(gauge_of(f, "etcd_debugging_mvcc_watcher_total") < 0.5);
    assert_true(gauge_of(f, "etcd_debugging_mvcc_slow_watcher_total") < 0.5);
    assert_int_equal(
        counter_value(metrics_counter(f->metrics, "etcd_debugging_mvcc_events_total", "", NULL)),
        f->n_events);
    metrics_destroy(&f->metrics);
    model_destroy(f->e);
    free(f);
    return 0;
}

static void write_n(struct fixture *f, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        model_write(f->e, &f->rng, 3);
    }
}

static struct client *client_on_all(struct fixture *f, size_t at, int64_t start)
{
    struct client *c = &f->clients[at];
    *c = (struct client){.f = f, .key = model_key(0), .endless = true, .start = start};
    start_client(c);
    return c;
}

/* --- tests
 * -------------------------------------------------------------------------------------------------
 */

/* A snapshot with `n` more revisions than the model has: the feed goes on behind them. What was
 * under way comes late. */
static void restore(struct fixture *f, unsigned n)
{
    int64_t from = f->fed;
    for (unsigned i = 0; i < n; i++) {
        model_write(f->e, &f->rng, 3);
    }
    f->fed = f->e->live;
    watch_hub_restored(f->hub, f->e->live);
    assert_int_equal(watch_hub_revision(f->hub), f->fed);
    for (int64_t r = from + 1; r <= f->fed && r <= from + 3; r++) {
        watch_hub_feed(f->hub, event_batch_ref(f->e->batches[r]));
    }
    assert_int_equal(watch_hub_revision(f->hub), f->fed);
}

static void random_step(struct fixture *f)
{
    switch (next_random(&f->rng) % 13) {
    case 12:
        if (next_random(&f->rng) % 10 == 0) {
            restore(f, (unsigned)(next_random(&f->rng) % 20));
        }
        break;
    case 0:
    case 1:
    case 2:
        model_write(f->e, &f->rng, 6);
        break;
    case 3:
    case 4:
    case 5:
        feed_one(f);
        break;
    case 6:
    case 7:
        (void)watch_hub_step(f->hub);
        break;
    case 8:
        add_client(f);
        break;
    case 9:
        if (next_random(&f->rng) % 4 == 0) {
            remove_client(random_client(f));
        }
        break;
    case 10:
        if (next_random(&f->rng) % 20 == 0) {
            int64_t c = 1 + (int64_t)(next_random(&f->rng) % (uint64_t)f->e->live);
            f->e->compact = c > f->e->compact ? c : f->e->compact;
        }
        break;
    default:
        resume_all(f);
        break;
    }
}

static void everybody_gets_what_the_model_says(void **state)
{
    static const struct {
        const char *name;
        unsigned chaos;
        unsigned steps;
    } rows[] = {{"patient clients", 0, 8000}, {"some are slow", 10, 8000}, {"mayhem", 60, 12000}};
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        for (uint64_t seed = 1; seed <= 4; seed++) {
            assert_int_equal(set_up(state), 0);
            struct fixture *f = *state;
            f->rng = seed * 7919;
            f->chaos = rows[i].chaos;
            for (unsigned n = 0; n < rows[i].steps; n++) {
                random_step(f);
            }
            assert_all_arrives(f);
            print_message("%s, seed %llu: %zu events, %zu refused, %zu compacted\n", rows[i].name,
                          (unsigned long long)seed, f->n_events, f->n_refused, f->n_compacted);
            assert_true(f->n_events > 0);
            assert_int_equal(tear_down(state), 0);
        }
    }
}

static void start_zero_skips_what_is_still_on_its_way(void **state)
{
    struct fixture *f = *state;
    write_n(f, 5);
    feed_one(f);
    feed_one(f);
    struct client *c = client_on_all(f, 0, 0);
    assert_false(watcher_synced(f->hub, c->w)); /* the hub is behind its creation */
    feed_all(f);
    assert_int_equal(c->n_events, 0);
    assert_true(watcher_synced(f->hub, c->w));
    write_n(f, 1);
    feed_all(f);
    assert_int_equal(c->n_deliveries, 1);
    assert_false(watch_hub_step(f->hub));
}

static void a_future_start_waits(void **state)
{
    struct fixture *f = *state;
    write_n(f, 3);
    feed_all(f);
    struct client *c = client_on_all(f, 0, 10);
    write_n(f, 5); /* up to 9 */
    feed_all(f);
    assert_int_equal(c->n_deliveries, 0);
    assert_false(watcher_synced(f->hub, c->w));
    write_n(f, 2);
    feed_all(f);
    assert_int_equal(c->n_deliveries, 2);
    assert_true(watcher_synced(f->hub, c->w));
    assert_false(watch_hub_step(f->hub));
}

static void history_comes_in_bounded_slices(void **state)
{
    struct fixture *f = *state;
    write_n(f, 3500);
    feed_all(f);
    struct client *a = client_on_all(f, 0, 2);
    struct client *b = client_on_all(f, 1, 2000);
    assert_true(gauge_of(f, "etcd_debugging_mvcc_slow_watcher_total") > 1.5);
    size_t n = 1;
    while (watch_hub_step(f->hub)) {
        n++;
    }
    assert_in_range(n, 4, 6);
    assert_in_range(a->n_deliveries, 4, 5);
    assert_in_range(b->n_deliveries, 2, 3);
    assert_null(expected(a, f->fed));
    assert_null(expected(b, f->fed));
    assert_true(watcher_synced(f->hub, a->w));
    assert_true(gauge_of(f, "etcd_debugging_mvcc_slow_watcher_total") < 0.5);
    assert_true(gauge_of(f, "etcd_debugging_mvcc_watcher_total") > 1.5);
}

static void one_scan_serves_all_who_catch_up(void **state)
{
    struct fixture *f = *state;
    write_n(f, 5000);
    feed_all(f);
    for (size_t i = 0; i < N_WATCHERS; i++) {
        (void)client_on_all(f, i, 2 + (int64_t)i);
    }
    while (watch_hub_step(f->hub)) {
    }
    assert_in_range(f->e->n_history_calls, 5, 8);
    for (size_t i = 0; i < N_WATCHERS; i++) {
        assert_null(expected(&f->clients[i], f->fed));
    }
}

/* Others keep joining at the beginning; whoever is near the end, and whoever is in the middle,
 * arrives all the same. */
static void late_joiners_hold_nobody_back(void **state)
{
    struct fixture *f = *state;
    write_n(f, 9000);
    feed_all(f);
    struct client *middle = client_on_all(f, 0, 3000);
    struct client *near = client_on_all(f, 1, 8990);
    size_t n_near = 0;
    size_t n_middle = 0;
    for (size_t n = 1; n <= 30; n++) {
        size_t at = 2 + n % 30;
        remove_client(&f->clients[at]);
        (void)client_on_all(f, at, 2);
        assert_true(watch_hub_step(f->hub));
        n_near = n_near == 0 && watcher_synced(f->hub, near->w) ? n : n_near;
        n_middle = n_middle == 0 && watcher_synced(f->hub, middle->w) ? n : n_middle;
    }
    assert_in_range(n_near, 1, 2);
    assert_in_range(n_middle, 6, 20);
    assert_all_arrives(f);
}

static void a_full_stream_keeps_its_place(void **state)
{
    struct fixture *f = *state;
    struct client *slow = client_on_all(f, 0, 0);
    struct client *quick = client_on_all(f, 1, 0);
    write_n(f, 3);
    feed_all(f);
    slow->refuse = true;
    write_n(f, 50);
    feed_all(f);
    assert_true(slow->full);
    assert_int_equal(slow->n_deliveries, 3);
    assert_int_equal(quick->n_deliveries, 53);
    assert_false(watcher_synced(f->hub, slow->w));
    assert_false(watch_hub_step(f->hub)); /* it waits and costs nothing */
    slow->full = false;
    watch_resume(f->hub, slow->w);
    assert_false(watch_hub_step(f->hub)); /* refused again, from history */
    assert_true(slow->full);
    slow->refuse = false;
    slow->full = false;
    watch_resume(f->hub, slow->w);
    watch_resume(f->hub, quick->w); /* no harm when it is not waiting */
    assert_false(watch_hub_step(f->hub));
    assert_int_equal(slow->n_deliveries, 4);
    assert_int_equal(slow->n_events, quick->n_events);
    assert_true(watcher_synced(f->hub, slow->w));
    assert_all_arrives(f);
}

static void compaction_ends_only_who_needs_the_past(void **state)
{
    struct fixture *f = *state;
    write_n(f, 100);
    feed_all(f);
    f->e->compact = 50;
    struct client *lost = client_on_all(f, 0, 49);
    struct client *just = client_on_all(f, 1, 50);
    just->prev_kv = false;
    struct client *live = client_on_all(f, 2, 0);
    assert_all_arrives(f);
    assert_true(lost->dead);
    assert_int_equal(lost->n_events, 0);
    assert_false(just->dead);
    assert_true(just->n_events > 0);
    write_n(f, 1);
    feed_all(f);
    assert_int_equal(live->n_deliveries, 1);
    assert_false(watcher_synced(f->hub, lost->w));
    watch_resume(f->hub, lost->w); /* dead is dead */
    assert_false(watch_hub_step(f->hub));
    remove_client(lost);
}

static void a_damaged_past_holds_back_and_loses_nothing(void **state)
{
    struct fixture *f = *state;
    write_n(f, 10);
    feed_all(f);
    struct client *c = client_on_all(f, 0, 2);
    f->e->broken = true;
    assert_false(watch_hub_step(f->hub));
    assert_int_equal(c->n_events, 0);
    assert_false(watcher_synced(f->hub, c->w));
    f->e->broken = false;
    assert_all_arrives(f);
    assert_true(c->n_events >= 10);
}

static void batches_from_before_the_hub_are_ignored(void **state)
{
    struct fixture *f = *state;
    write_n(f, 4);
    watch_hub_destroy(&f->hub);
    f->hub = watch_hub_create(f->e, f->metrics);
    f->fed = f->e->live;
    struct client *c = client_on_all(f, 0, 3);
    watch_hub_feed(f->hub, event_batch_ref(f->e->batches[3]));
    assert_int_equal(watch_hub_revision(f->hub), f->e->live);
    assert_all_arrives(f);
    assert_true(c->n_events >= 3);
}

static void a_snapshot_is_caught_up_with(void **state)
{
    struct fixture *f = *state;
    struct client *live = client_on_all(f, 0, 0);
    struct client *later = client_on_all(f, 1, 1000);
    struct client *slow = client_on_all(f, 2, 0);
    write_n(f, 5);
    feed_all(f);
    slow->refuse = true;
    write_n(f, 1);
    feed_all(f);
    slow->refuse = false;
    assert_int_equal(live->n_deliveries, 6);
    restore(f, 0); /* nothing new: nobody is disturbed */
    assert_true(watcher_synced(f->hub, live->w));
    restore(f, 40);
    assert_false(watcher_synced(f->hub, live->w));
    assert_int_equal(live->n_deliveries, 6);
    write_n(f, 2); /* the feed goes on before it has caught up */
    feed_all(f);
    assert_int_equal(live->n_deliveries, 6);
    assert_all_arrives(f);
    assert_true(watcher_synced(f->hub, live->w));
    assert_int_equal(live->n_deliveries, 7);
    assert_int_equal(live->n_events, slow->n_events);
    assert_int_equal(later->n_events, 0);
    watch_hub_restored(f->hub, 3); /* long known */
    assert_true(watcher_synced(f->hub, live->w));
}

static void a_snapshot_that_is_compacted_ends_who_needs_more(void **state)
{
    struct fixture *f = *state;
    struct client *behind = client_on_all(f, 0, 0);
    write_n(f, 10);
    feed_all(f);
    struct client *at_end = NULL;
    restore(f, 30);
    f->e->compact = f->e->live;
    at_end = client_on_all(f, 1, f->e->live);
    at_end->prev_kv = false;
    assert_int_equal(behind->n_deliveries, 10);
    behind->start = 0; /* what it still needs is below */
    assert_all_arrives(f);
    assert_true(behind->dead);
    assert_int_equal(behind->n_deliveries, 10);
    assert_false(at_end->dead);
    assert_int_equal(at_end->n_deliveries, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everybody_gets_what_the_model_says),
        TEST(start_zero_skips_what_is_still_on_its_way),
        TEST(a_future_start_waits),
        TEST(history_comes_in_bounded_slices),
        TEST(one_scan_serves_all_who_catch_up),
        TEST(late_joiners_hold_nobody_back),
        TEST(a_full_stream_keeps_its_place),
        TEST(compaction_ends_only_who_needs_the_past),
        TEST(a_damaged_past_holds_back_and_loses_nothing),
        TEST(batches_from_before_the_hub_are_ignored),
        TEST(a_snapshot_is_caught_up_with),
        TEST(a_snapshot_that_is_compacted_ends_who_needs_more),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
