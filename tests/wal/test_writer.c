/* test_writer.c - the log thread: order, batching, releases, failure, stop. */
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tests/wal/support.h"
#include "wal/writer.h"

#define REQUESTS_MAX 4096u

/* What the callbacks saw. Written by the log thread; read by the test after `news` or after the
 * stop. */
struct watcher {
    sem_t news;    /* posted once per callback */
    sem_t *hold;   /* not NULL: done waits for a post before it returns */
    uint64_t next; /* index that the next request must begin with */
    uint64_t n_done;
    uint64_t n_calls;
    uint64_t largest;
    _Atomic uint64_t n_failed;
    enum err error;
};

struct test_request {
    struct wal_request request;
    struct made_batch made;
};

static void on_done(void *arg, struct wal_request *first, struct wal_request *last, size_t n)
{
    struct watcher *s = arg;
    size_t seen = 0;
    for (struct qnode *q = &first->node; q != NULL; q = q->next) {
        struct wal_request *r = CONTAINER_OF(q, struct wal_request, node);
        if (r->n_entries > 0) {
            assert_true(r->entries[0].index == s->next);
            s->next = r->entries[r->n_entries - 1].index + 1;
            assert_true(r->last.term == r->entries[r->n_entries - 1].term);
        }
        assert_true(r->last.index + 1 == s->next);
        seen++;
        assert_true((q->next == NULL) == (r == last));
    }
    assert_true(seen == n);
    s->n_done += n;
    s->n_calls++;
    s->largest = n > s->largest ? n : s->largest;
    sem_post(&s->news);
    if (s->hold != NULL) {
        sem_wait(s->hold);
    }
}

static void on_failed(void *arg, enum err e, const struct err_ctx *ec)
{
    struct watcher *s = arg;
    s->error = e;
    assert_true(strlen(ec->text) > 0);
    atomic_fetch_add(&s->n_failed, 1);
    sem_post(&s->news);
}

static void watcher_init(struct watcher *s)
{
    *s = (struct watcher){.next = 1};
    assert_int_equal(sem_init(&s->news, 0, 0), 0);
}

static struct wal_writer *start(struct watcher *s, struct wal *w, struct histogram *fsyncs)
{
    struct wal_writer_config cfg = {
        .wal = w, .done = on_done, .failed = on_failed, .arg = s, .fsync_seconds = fsyncs};
    return wal_writer_start(&cfg);
}

static struct test_request *request_make(uint64_t first, size_t n, uint64_t term, size_t len)
{
    struct test_request *r = xcalloc(1, sizeof *r);
    batch_make(&r->made, first, n, term, len);
    r->request.entries = r->made.entries;
    r->request.n_entries = n;
    return r;
}

static void request_free(struct test_request **r)
{
    batch_deinit(&(*r)->made);
    free(*r);
    *r = NULL;
}

static void requests_come_back_in_order(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct history h = {0};
    struct watcher s;
    watcher_init(&s);
    struct metrics *m = metrics_create();
    struct wal_writer *w =
        start(&s, must_create(&cfg), metrics_histogram(m, "t", "t", NULL, 0.001, 2, 14));
    static struct test_request *requests[REQUESTS_MAX];
    uint64_t index = 1;
    for (unsigned i = 0; i < 2000; i++) {
        requests[i] = request_make(index, i % 4, 1 + i / 500, 10 + i % 300);
        index += i % 4;
        history_apply(&h, &requests[i]->made.batch);
        assert_int_equal(wal_writer_submit(w, &requests[i]->request), OK);
        if (i % 100 == 99) {
            wal_writer_release(w, index / 2);
        }
    }
    wal_writer_stop(&w);
    assert_null(w);
    assert_int_equal(s.n_done, 2000);
    assert_int_equal(s.next, index);
    assert_int_equal(s.n_failed, 0);
    struct wal *again = must_open(&cfg, &h, index / 2 + 1);
    assert_true(wal_stats(again).first_index > 1);
    wal_close(&again);
    for (unsigned i = 0; i < 2000; i++) {
        request_free(&requests[i]);
    }
    metrics_destroy(&m);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

/* Whatever is submitted while one batch is written becomes the next one. */
static void what_gathers_is_one_batch(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_DEFAULT);
    struct history h = {0};
    struct watcher s;
    watcher_init(&s);
    sem_t hold;
    assert_int_equal(sem_init(&hold, 0, 0), 0);
    s.hold = &hold;
    struct wal_writer *w = start(&s, must_create(&cfg), NULL);
    struct test_request *requests[101];
    for (unsigned i = 0; i < 101; i++) {
        requests[i] = request_make(i + 1, 1, 1, 20);
        if (i % 2 == 0) {
            requests[i]->request.has_hard_state = true;
            requests[i]->request.hard_state = (struct wal_hard_state){1, 2, i};
            requests[i]->made.batch.has_hard_state = true;
            requests[i]->made.batch.hard_state = requests[i]->request.hard_state;
        }
        history_apply(&h, &requests[i]->made.batch);
    }
    assert_int_equal(wal_writer_submit(w, &requests[0]->request), OK);
    sem_wait(&s.news); /* the log thread stands in done */
    for (unsigned i = 1; i < 101; i++) {
        assert_int_equal(wal_writer_submit(w, &requests[i]->request), OK);
    }
    sem_post(&hold);
    sem_wait(&s.news);
    sem_post(&hold);
    wal_writer_stop(&w);
    assert_int_equal(s.n_calls, 2);
    assert_int_equal(s.largest, 100);
    assert_int_equal(s.n_done, 101);
    struct wal *again = must_open(&cfg, &h, 1);
    wal_close(&again);
    for (unsigned i = 0; i < 101; i++) {
        request_free(&requests[i]);
    }
    sem_destroy(&hold);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

/* Too many bytes for one sync go in several; a suffix may be replaced and the log restarted in
 * between. */
static void large_and_odd_requests_keep_their_order(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_DEFAULT);
    struct history h = {0};
    struct watcher s;
    watcher_init(&s);
    sem_t hold;
    assert_int_equal(sem_init(&hold, 0, 0), 0);
    s.hold = &hold;
    struct wal_writer *w = start(&s, must_create(&cfg), NULL);
    struct test_request *requests[16];
    unsigned n = 0;
    requests[n++] = request_make(1, 1, 1, 10);
    for (unsigned i = 0; i < 12; i++) {
        requests[n++] = request_make(2 + i, 1, 1, 1500000);
    }
    requests[n++] = request_make(100, 2, 3, 10);
    requests[n - 1]->request.restart_at = 100;
    requests[n - 1]->made.batch.restart_at = 100;
    requests[n++] = request_make(102, 0, 3, 0);
    requests[n - 1]->request.has_hard_state = true;
    requests[n - 1]->request.hard_state = (struct wal_hard_state){3, 1, 99};
    requests[n - 1]->made.batch.has_hard_state = true;
    requests[n - 1]->made.batch.hard_state = requests[n - 1]->request.hard_state;
    assert_int_equal(wal_writer_submit(w, &requests[0]->request), OK);
    sem_wait(&s.news);
    for (unsigned i = 1; i < n; i++) {
        assert_int_equal(wal_writer_submit(w, &requests[i]->request), OK);
    }
    for (unsigned i = 0; i < n; i++) {
        history_apply(&h, &requests[i]->made.batch);
    }
    sem_post(&hold);
    for (unsigned batch = 0; batch < 3; batch++) { /* 5 x 1.5 MB, 5 x, 2 x; then the restart */
        sem_wait(&s.news);
        if (batch == 2) {
            s.next = 100; /* as done will see it after the restart */
        }
        sem_post(&hold);
    }
    sem_wait(&s.news);
    sem_post(&hold);
    wal_writer_stop(&w);
    assert_int_equal(s.n_calls, 5);
    assert_int_equal(s.n_done, n);
    struct wal *again = must_open(&cfg, &h, 100);
    assert_int_equal(wal_last(again).index, 101);
    wal_close(&again);
    for (unsigned i = 0; i < n; i++) {
        request_free(&requests[i]);
    }
    sem_destroy(&hold);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void a_failure_is_told_once(void **state)
{
    (void)state;
    struct vfs *disk = vfs_mem_create();
    struct wal_config cfg = test_config(disk, WAL_SEGMENT_BYTES_MIN);
    struct wal *log = must_create(&cfg);
    wal_close(&log);
    struct vfs_fault_plan plan = {.fail_at = 30, .writes_only = true, .with = ERR_NO_DISK};
    struct vfs *faulty = vfs_fault_create(disk, &plan);
    cfg.vfs = faulty;
    struct watcher s;
    watcher_init(&s);
    struct wal_writer *w = start(&s, must_open(&cfg, NULL, 0), NULL);
    static struct test_request *requests[300];
    for (unsigned i = 0; i < 300; i++) {
        requests[i] = request_make(i + 1, 1, 1, 3000);
        assert_int_equal(wal_writer_submit(w, &requests[i]->request), OK);
        if (s.n_failed == 0) {
            sem_wait(&s.news);
        }
    }
    wal_writer_release(w, 3);
    wal_writer_stop(&w);
    uint64_t kept = s.next - 1;
    if (s.n_failed > 0) { /* zeroes ahead may take the refusal, which is no failure */
        assert_int_equal(s.n_failed, 1);
        assert_true(s.error == ERR_NO_DISK);
        assert_true(s.n_done < 300);
    }
    cfg.vfs = disk;
    log = must_open(&cfg, NULL, 0);
    assert_true(wal_last(log).index >= kept);
    wal_close(&log);
    for (unsigned i = 0; i < 300; i++) {
        request_free(&requests[i]);
    }
    vfs_fault_destroy(&faulty);
    vfs_mem_destroy(&disk);
}

static void stops_when_nothing_was_asked(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct watcher s;
    watcher_init(&s);
    struct wal_writer *w = start(&s, must_create(&cfg), NULL);
    wal_writer_stop(&w);
    wal_writer_stop(&w); /* NULL is fine */
    assert_int_equal(s.n_calls, 0);
    vfs_mem_destroy(&v);
}

/* Several threads submit; entries need an order, hard states do not. */
struct submitter {
    pthread_t thread;
    struct wal_writer *writer;
    struct wal_request requests[500];
};

static void *submit_all(void *arg)
{
    struct submitter *t = arg;
    for (unsigned i = 0; i < 500; i++) {
        t->requests[i] = (struct wal_request){.has_hard_state = true, .hard_state = {1, 1, i}};
        if (wal_writer_submit(t->writer, &t->requests[i]) != OK) {
            abort();
        }
        if (i % 50 == 0) {
            wal_writer_release(t->writer, i);
        }
    }
    return NULL;
}

static void any_thread_may_submit(void **state)
{
    (void)state;
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct watcher s;
    watcher_init(&s);
    struct wal_writer *w = start(&s, must_create(&cfg), NULL);
    static struct submitter t[4];
    for (unsigned i = 0; i < 4; i++) {
        t[i].writer = w;
        assert_int_equal(pthread_create(&t[i].thread, NULL, submit_all, &t[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(pthread_join(t[i].thread, NULL), 0);
    }
    wal_writer_stop(&w);
    assert_int_equal(s.n_done, 2000);
    vfs_mem_destroy(&v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_come_back_in_order),
        cmocka_unit_test(what_gathers_is_one_batch),
        cmocka_unit_test(large_and_odd_requests_keep_their_order),
        cmocka_unit_test(a_failure_is_told_once),
        cmocka_unit_test(stops_when_nothing_was_asked),
        cmocka_unit_test(any_thread_may_submit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
