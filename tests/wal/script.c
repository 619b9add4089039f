/* script.c - see script.h. */
#include "tests/wal/script.h"

#define SEGMENT WAL_SEGMENT_BYTES_MIN

static enum err append(struct script *s, struct made_batch *m)
{
    struct err_ctx ec;
    history_copy(&s->in_flight, &s->acknowledged);
    history_apply(&s->in_flight, &m->batch);
    history_copy(&s->restarted, &s->acknowledged);
    if (m->batch.restart_at != 0) {
        struct wal_batch bare = m->batch;
        bare.n_entries = 0;
        history_apply(&s->restarted, &bare);
    }
    enum err e = wal_append(s->wal, &m->batch, NULL, &ec);
    if (e == OK) {
        history_copy(&s->acknowledged, &s->in_flight);
    }
    batch_deinit(m);
    return e;
}

static enum err step_append(struct script *s)
{
    struct made_batch m;
    uint64_t last = wal_last(s->wal).index;
    uint64_t first = last + 1;
    if (rng_below(&s->rng, 5) == 0 && last > s->released) { /* replace a suffix */
        first = s->released + 1 + rng_below(&s->rng, last - s->released);
        s->term++;
    }
    static const size_t lens[] = {0, 7, 200, 900, 2500, 9000};
    size_t len = lens[rng_below(&s->rng, sizeof lens / sizeof lens[0])];
    batch_make(&m, first, 1 + rng_below(&s->rng, 6), s->term, len);
    if (rng_below(&s->rng, 3) == 0) {
        batch_hard_state(&m, s->term, 1 + s->term % 3, s->released);
    }
    return append(s, &m);
}

static enum err step_restart(struct script *s)
{
    struct made_batch m;
    uint64_t at = wal_last(s->wal).index + 1 + rng_below(&s->rng, 100);
    batch_make(&m, at, rng_below(&s->rng, 3), s->term, 50);
    m.batch.restart_at = at;
    if (rng_below(&s->rng, 2) == 0) {
        batch_hard_state(&m, s->term, 1, at - 1);
    }
    enum err e = append(s, &m);
    if (e == OK) {
        s->released = at - 1;
    }
    return e;
}

static enum err step_release(struct script *s)
{
    struct err_ctx ec;
    uint64_t last = wal_last(s->wal).index;
    if (last > s->released) {
        s->released += 1 + rng_below(&s->rng, last - s->released);
    }
    return wal_release(s->wal, s->released, &ec);
}

static enum err step_prepare(struct script *s)
{
    struct err_ctx ec;
    enum err e = wal_prepare_wanted(s->wal) ? wal_prepare(s->wal, &ec) : OK;
    return e == ERR_NO_DISK ? OK : e; /* the log says that it lives on */
}

static enum err step_reopen(struct script *s)
{
    struct err_ctx ec;
    struct wal_config cfg = test_config(s->disk, SEGMENT);
    wal_close(&s->wal);
    return wal_open(&cfg, NULL, &s->wal, NULL, &ec);
}

static enum err step(struct script *s)
{
    switch (rng_below(&s->rng, 16)) {
    case 0:
        return step_release(s);
    case 1:
    case 2:
    case 3:
        return step_prepare(s);
    case 4:
        return step_reopen(s);
    case 5:
        return rng_below(&s->rng, 4) == 0 ? step_restart(s) : step_append(s);
    default:
        return step_append(s);
    }
}

enum err script_run(struct script *s, unsigned n_steps)
{
    struct err_ctx ec;
    struct wal_config cfg = test_config(s->disk, SEGMENT);
    s->term = 1;
    enum err e = wal_create(&cfg, test_id, 1, &s->wal, &ec);
    s->created = e == OK;
    for (unsigned i = 0; i < n_steps && e == OK; i++) {
        e = step(s);
    }
    wal_close(&s->wal);
    return e;
}

static void verify_once(struct script *s, struct vfs *disk, const char *what, uint64_t seed,
                        uint64_t n)
{
    struct err_ctx ec;
    struct wal_config cfg = test_config(disk, SEGMENT);
    struct history got = {0};
    struct wal_visitor visit = history_visitor(&got);
    bool exists;
    assert_int_equal(wal_exists(disk, DIR_NAME, &exists, &ec), OK);
    if (!exists) {
        assert_false(s->created);
        assert_int_equal(wal_create(&cfg, test_id, 1, &s->wal, &ec), OK);
    } else if (wal_open(&cfg, &visit, &s->wal, NULL, &ec) != OK) {
        fail_msg("%s, seed %llu, call %llu: %s", what, (unsigned long long)seed,
                 (unsigned long long)n, ec.text);
    }
    if (history_matches(&got, &s->acknowledged, s->released + 1)) {
        history_copy(&s->in_flight, &s->acknowledged);
    } else if (history_matches(&got, &s->in_flight, s->released + 1)) {
        history_copy(&s->acknowledged, &s->in_flight);
    } else if (history_matches(&got, &s->restarted, s->released + 1)) {
        history_copy(&s->acknowledged, &s->restarted);
    } else {
        fail_msg("%s, seed %llu, call %llu: the log holds up to %llu, not %llu or %llu", what,
                 (unsigned long long)seed, (unsigned long long)n,
                 (unsigned long long)history_last(&got),
                 (unsigned long long)history_last(&s->acknowledged),
                 (unsigned long long)history_last(&s->in_flight));
    }
    history_deinit(&got);
}

void script_verify(struct script *s, struct vfs *disk, const char *what, uint64_t seed, uint64_t n)
{
    for (unsigned round = 0; round < 2; round++) {
        verify_once(s, disk, what, seed, n);
        struct made_batch m;
        batch_make(&m, wal_last(s->wal).index + 1, 2, s->term, 700);
        assert_int_equal(append(s, &m), OK);
        if (round == 0) { /* what was found and what was added must both have been made durable */
            vfs_mem_crash(disk, seed * 31 + n);
        }
        wal_close(&s->wal);
    }
}

void script_deinit(struct script *s)
{
    history_deinit(&s->acknowledged);
    history_deinit(&s->in_flight);
    history_deinit(&s->restarted);
}
