/* engine.c - opening and closing, counters, pins. */
#include <stdlib.h>

#include "engine/auth.h"
#include "engine/engine_internal.h"
#include "engine/membership.h"

/* --- pins
 * ------------------------------------------------------------------------------------------- */

void pins_init(struct pins *p)
{
    int rc = pthread_mutex_init(&p->lock, NULL);
    ASSERT(rc == 0);
    p->first = NULL;
    p->n = 0;
}

void pins_deinit(struct pins *p)
{
    ASSERT(p->n == 0);
    pthread_mutex_destroy(&p->lock);
}

bool pins_add(struct pins *p, struct pin *pin, int64_t revision, uint64_t now_ms)
{
    atomic_init(&pin->lost, false);
    pin->revision = revision;
    pin->since_ms = now_ms;
    pin->prev = NULL;
    pthread_mutex_lock(&p->lock);
    bool room = p->n < ENGINE_PINS_MAX;
    if (room) {
        pin->next = p->first;
        if (p->first != NULL) {
            p->first->prev = pin;
        }
        p->first = pin;
        p->n++;
    }
    pthread_mutex_unlock(&p->lock);
    return room;
}

void pins_remove(struct pins *p, struct pin *pin)
{
    pthread_mutex_lock(&p->lock);
    if (pin->prev != NULL) {
        pin->prev->next = pin->next;
    } else {
        p->first = pin->next;
    }
    if (pin->next != NULL) {
        pin->next->prev = pin->prev;
    }
    p->n--;
    pthread_mutex_unlock(&p->lock);
}

bool pins_clear(struct pins *p, int64_t revision, uint64_t now_ms)
{
    bool clear = true;
    pthread_mutex_lock(&p->lock);
    for (struct pin *pin = p->first; pin != NULL; pin = pin->next) {
        if (pin->revision >= revision ||
            atomic_load_explicit(&pin->lost, memory_order_relaxed)) {
            continue;
        }
        if (now_ms > pin->since_ms && now_ms - pin->since_ms > ENGINE_PIN_MS_MAX) {
            atomic_store_explicit(&pin->lost, true, memory_order_release);
        } else {
            clear = false;
        }
    }
    pthread_mutex_unlock(&p->lock);
    return clear;
}

void pins_lose(struct pins *p)
{
    pthread_mutex_lock(&p->lock);
    for (struct pin *pin = p->first; pin != NULL; pin = pin->next) {
        atomic_store_explicit(&pin->lost, true, memory_order_release);
    }
    pthread_mutex_unlock(&p->lock);
}

void engine_note_time(struct engine *e, uint64_t now_ms)
{
    uint64_t known = atomic_load_explicit(&e->now_ms, memory_order_relaxed);
    while (known < now_ms &&
           !atomic_compare_exchange_weak_explicit(&e->now_ms, &known, now_ms, memory_order_relaxed,
                                                  memory_order_relaxed)) {
    }
}

/* --- metrics
 * ------------------------------------------------------------------------------------------ */

static double value_file_bytes(void *arg)
{
    return (double)engine_backend_stats(arg).file_bytes;
}

static double value_in_use_bytes(void *arg)
{
    return (double)engine_backend_stats(arg).in_use_bytes;
}

static double value_open_reads(void *arg)
{
    return (double)engine_backend_stats(arg).open_reads;
}

static double value_keys(void *arg)
{
    const struct engine *e = arg;
    lock_read(e);
    int64_t n = index_live_keys(e->index);
    unlock(e);
    return (double)n;
}

static double value_revision(void *arg)
{
    return (double)engine_revision(arg);
}

static double value_compact_revision(void *arg)
{
    return (double)engine_compact_revision(arg);
}

static void create_callbacks(struct engine *e, struct metrics *m)
{
    static const struct {
        const char *name;
        const char *help;
        double (*value)(void *arg);
    } gauges[] = {
        {"etcd_mvcc_db_total_size_in_bytes",
         "Total size of the underlying database physically allocated in bytes.", value_file_bytes},
        {"etcd_mvcc_db_total_size_in_use_in_bytes",
         "Total size of the underlying database logically in use in bytes.", value_in_use_bytes},
        {"etcd_mvcc_db_open_read_transactions", "The number of currently open read transactions",
         value_open_reads},
        {"etcd_debugging_mvcc_keys_total", "Total number of keys.", value_keys},
        {"etcd_debugging_mvcc_current_revision", "The current revision of store.", value_revision},
        {"etcd_debugging_mvcc_compact_revision", "The revision of the last compaction in store.",
         value_compact_revision},
    };
    for (size_t i = 0; i < ARRAY_LEN(gauges); i++) {
        metrics_callback(m, gauges[i].name, gauges[i].help, NULL, 0, gauges[i].value, e);
    }
}

static void create_compaction_metrics(struct engine_metrics *x, struct metrics *m)
{
    x->compacted_keys = metrics_counter(m, "etcd_debugging_mvcc_db_compaction_keys_total",
                                        "Total number of db keys compacted.", NULL);
    x->compact_last = metrics_gauge(m, "etcd_debugging_mvcc_db_compaction_last",
                                    "The unix time of the last db compaction. Resets to 0 on start.", NULL);
    x->compact_pause =
        metrics_histogram(m, "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                          "Bucketed histogram of db compaction pause duration.", NULL, 1, 2, 13);
    x->compact_total =
        metrics_histogram(m, "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                          "Bucketed histogram of db compaction total duration.", NULL, 100, 2, 14);
    x->index_pause = metrics_histogram(
        m, "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
        "Bucketed histogram of index compaction pause duration.", NULL, 0.5, 2, 14);
}

static void create_metrics(struct engine *e, struct metrics *m)
{
    struct engine_metrics *x = &e->metrics;
    if (m == NULL) {
        return;
    }
    x->ranges = metrics_counter(m, "etcd_mvcc_range_total",
                                "Total number of ranges seen by this member.", NULL);
    x->puts = metrics_counter(m, "etcd_mvcc_put_total", "Total number of puts seen by this member.",
                              NULL);
    x->deletes = metrics_counter(m, "etcd_mvcc_delete_total",
                                 "Total number of deletes seen by this member.", NULL);
    x->txns = metrics_counter(m, "etcd_mvcc_txn_total", "Total number of txns seen by this member.",
                              NULL);
    x->put_bytes = metrics_gauge(m, "etcd_debugging_mvcc_total_put_size_in_bytes",
                                 "The total size of put kv pairs seen by this member.", NULL);
    x->leases_granted = metrics_counter(m, "etcd_debugging_lease_granted_total",
                                        "The total number of granted leases.", NULL);
    x->leases_revoked = metrics_counter(m, "etcd_debugging_lease_revoked_total",
                                        "The total number of revoked leases.", NULL);
    x->lease_ttl = metrics_histogram(m, "etcd_debugging_lease_ttl_total",
                                     "Bucketed histogram of lease TTLs.", NULL, 1, 2, 24);
    x->commit = metrics_histogram(m, "etcd_disk_backend_commit_duration_seconds",
                                  "The latency distributions of commit called by backend.", NULL,
                                  0.001, 2, 14);
    x->defrag =
        metrics_histogram(m, "etcd_disk_backend_defrag_duration_seconds",
                          "The latency distribution of backend defragmentation.", NULL, 0.1, 2, 13);
    x->hash =
        metrics_histogram(m, "etcd_mvcc_hash_duration_seconds",
                          "The latency distribution of storage hash operation.", NULL, 0.01, 2, 15);
    x->hash_rev = metrics_histogram(
        m, "etcd_mvcc_hash_rev_duration_seconds",
        "The latency distribution of storage hash by revision operation.", NULL, 0.01, 2, 15);
    x->defrag_inflight = metrics_gauge(
        m, "etcd_disk_defrag_inflight",
        "Whether or not defrag is active on the member. 1 means active, 0 means not.", NULL);
    create_compaction_metrics(x, m);
    create_callbacks(e, m);
}

/* --- opening
 * -------------------------------------------------------------------------------------------- */

static struct engine *create(const struct engine_config *cfg, struct home *home)
{
    struct engine *e = xcalloc(1, sizeof(*e));
    e->durable_index = UINT64_MAX;
    pthread_rwlockattr_t attr;
    int rc = pthread_rwlockattr_init(&attr);
    ASSERT(rc == 0);
    /* Readers come in a steady stream; the member loop must get in between them. */
    rc = pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    ASSERT(rc == 0);
    rc = pthread_rwlock_init(&e->lock, &attr);
    ASSERT(rc == 0);
    pthread_rwlockattr_destroy(&attr);
    pins_init(&e->pins);
    hashes_init(&e->hashes);
    e->home = home_ref(home);
    e->quota_bytes = cfg->quota_bytes;
    e->compaction_batch_limit =
        cfg->compaction_batch_limit > 0 ? cfg->compaction_batch_limit : 1000;
    e->compaction_pause_ms = cfg->compaction_pause_ms;
    e->events = cfg->events;
    e->events_arg = cfg->events_arg;
    e->clock = cfg->clock;
    e->index = index_create();
    e->leases = lease_table_create(cfg->min_lease_ttl_s);
    e->auth = auth_create();
    e->scratch = arena_create(ENGINE_SCRATCH_FIRST, ENGINE_SCRATCH_MAX);
    atomic_init(&e->revision, 1);
    atomic_init(&e->compact_revision, -1);
    atomic_init(&e->compact_finished, -1);
    atomic_init(&e->compact_passing, -1);
    atomic_init(&e->n_snapshots, 0);
    atomic_init(&e->generation, 0);
    e->index_target = -1;
    return e;
}

enum err engine_open_on(const struct engine_config *cfg, struct home *home, struct engine **out,
                        struct err_ctx *ec)
{
    ASSERT(cfg->quota_bytes > 0);
    struct engine *e = create(cfg, home);
    enum err err = engine_restore(e, ec);
    if (err != OK) {
        engine_close(&e);
        return err_wrap(ec, err, "load the store");
    }
    atomic_store_explicit(&e->file_bytes, engine_backend_stats(e).file_bytes, memory_order_relaxed);
    create_metrics(e, cfg->metrics);
    *out = e;
    return OK;
}

enum err engine_open(const struct engine_config *cfg, struct engine **out, struct err_ctx *ec)
{
    ASSERT(cfg->backend != NULL);
    struct home *home = home_create(cfg->backend);
    enum err err = engine_open_on(cfg, home, out, ec);
    home_unref(&home); /* the engine has its own */
    return err;
}

void engine_close(struct engine **ep)
{
    struct engine *e = *ep;
    *ep = NULL;
    if (e == NULL) {
        return;
    }
    tail_deinit(&e->tail);
    rows_deinit(&e->rows);
    seal_deinit(&e->seal);
    rows_deinit(&e->entry_rows);
    for (size_t i = 0; i < e->n_changes; i++) {
        buf_unref(&e->changes[i].kv);
    }
    free(e->changes);
    membership_deinit(e);
    index_destroy(&e->index);
    lease_table_destroy(&e->leases);
    auth_destroy(&e->auth);
    arena_destroy(&e->scratch);
    ASSERT(atomic_load(&e->n_snapshots) == 0);
    home_unref(&e->home);
    engine_close(&e->replaced);
    pins_deinit(&e->pins);
    hashes_deinit(&e->hashes);
    pthread_rwlock_destroy(&e->lock);
    free(e);
}

/* --- small questions
 * -------------------------------------------------------------------------------------- */

void engine_set_witness(struct engine *e, uint64_t index, uint64_t term, uint64_t chain)
{
    lock_write(e);
    ASSERT(index <= e->mark.index);
    e->mark.witness = (struct witness){index, term, chain};
    unlock(e);
}

void engine_log_durable(struct engine *e, uint64_t index)
{
    atomic_store(&e->durable_index, index);
}

void engine_witness(const struct engine *e, uint64_t *index, uint64_t *term, uint64_t *chain)
{
    *index = e->witness_at_open.index;
    *term = e->witness_at_open.term;
    *chain = e->witness_at_open.chain;
}

struct lease_table *engine_leases(struct engine *e)
{
    return e->leases;
}

struct auth *engine_auth(struct engine *e)
{
    return e->auth;
}

size_t engine_pending_bytes(const struct engine *e)
{
    return atomic_load_explicit(&e->pending_bytes, memory_order_relaxed);
}

int64_t engine_revision(const struct engine *e)
{
    return atomic_load_explicit(&e->revision, memory_order_acquire);
}

int64_t engine_physical_compact_revision(const struct engine *e)
{
    return atomic_load_explicit(&e->compact_finished, memory_order_acquire);
}

int64_t engine_compact_revision(const struct engine *e)
{
    return atomic_load_explicit(&e->compact_revision, memory_order_acquire);
}

uint64_t engine_applied_index(const struct engine *e)
{
    return atomic_load_explicit(&e->applied_index, memory_order_acquire);
}

uint64_t engine_applied_term(const struct engine *e)
{
    return atomic_load_explicit(&e->applied_term, memory_order_acquire);
}

struct backend_stats engine_backend_stats(const struct engine *e)
{
    lock_read(e);
    struct backend *b = e->home->backend;
    struct backend_stats stats = b->ops->stats(b);
    unlock(e);
    return stats;
}

int64_t engine_quota_bytes(const struct engine *e)
{
    return e->quota_bytes;
}

/* An empty store has 36 KiB here and 20 KiB in etcd, whose small buckets lie inside the page that names them: the difference does not count
 * towards the quota, so that one of a few pages holds as much. What is pending counts too: it will be in the file in a moment. */
#define EMPTY_EXTRA_BYTES (16 << 10)

bool engine_quota_fits(const struct engine *e, int64_t cost)
{
    if (cost == 0 || e->quota_bytes == INT64_MAX) {
        return true;
    }
    int64_t stored = atomic_load_explicit(&e->file_bytes, memory_order_relaxed) - EMPTY_EXTRA_BYTES;
    int64_t size = (stored > 0 ? stored : 0) + (int64_t)engine_pending_bytes(e);
    return size < e->quota_bytes && cost < e->quota_bytes - size;
}
