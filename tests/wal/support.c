/* support.c - see support.h. */
#include "tests/wal/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/mem.h"

/* ---- the model ---- */

void history_deinit(struct history *h)
{
    free(h->entries);
    *h = (struct history){0};
}

void history_copy(struct history *to, const struct history *from)
{
    history_deinit(to);
    *to = *from;
    to->entries = NULL;
    if (from->n > 0) {
        to->entries = xalloc(from->n * sizeof *to->entries);
        memcpy(to->entries, from->entries, from->n * sizeof *to->entries);
    }
}

uint64_t history_last(const struct history *h)
{
    return h->n == 0 ? 0 : h->entries[h->n - 1].index;
}

static void put(struct history *h, const struct wal_entry *e)
{
    while (h->n > 0 && history_last(h) >= e->index) {
        h->n--;
    }
    h->gap = h->gap || (h->n > 0 && history_last(h) + 1 != e->index);
    struct slice data = buf_slice(e->data);
    h->entries = xrealloc(h->entries, (h->n + 1) * sizeof *h->entries);
    h->entries[h->n++] =
        (struct seen){e->index, e->term, e->type, data.len, hash64(data.data, data.len)};
}

static void put_hard_state(struct history *h, const struct wal_hard_state *hs)
{
    h->has_hard_state = true;
    h->hard_state = *hs;
}

void history_apply(struct history *h, const struct wal_batch *b)
{
    if (b->restart_at != 0) {
        h->n = 0;
    }
    if (b->has_hard_state) {
        put_hard_state(h, &b->hard_state);
    }
    for (size_t i = 0; i < b->n_entries; i++) {
        put(h, &b->entries[i]);
    }
}

static const struct seen *find(const struct history *h, uint64_t index)
{
    if (h->n == 0 || index < h->entries[0].index || index > history_last(h)) {
        return NULL;
    }
    return &h->entries[index - h->entries[0].index];
}

bool history_matches(const struct history *a, const struct history *b, uint64_t need)
{
    if (a->gap || b->gap || a->has_hard_state != b->has_hard_state ||
        memcmp(&a->hard_state, &b->hard_state, sizeof a->hard_state) != 0) {
        return false;
    }
    if (history_last(b) >= need && history_last(a) != history_last(b)) {
        return false;
    }
    if (history_last(b) < need && history_last(a) >= need) {
        return false;
    }
    for (uint64_t i = need; i <= history_last(b); i++) {
        const struct seen *x = find(a, i);
        const struct seen *y = find(b, i);
        if (y != NULL && (x == NULL || memcmp(x, y, sizeof *x) != 0)) {
            return false;
        }
    }
    return true;
}

static enum err on_entry(void *arg, const struct wal_entry *e, uint64_t chain)
{
    (void)chain;
    put(arg, e);
    return OK;
}

static enum err on_hard_state(void *arg, const struct wal_hard_state *hs)
{
    put_hard_state(arg, hs);
    return OK;
}

struct wal_visitor history_visitor(struct history *h)
{
    return (struct wal_visitor){on_entry, on_hard_state, h};
}

/* ---- batches ---- */

uint64_t rng_next(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15u;
    uint64_t z = *state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

uint64_t rng_below(uint64_t *state, uint64_t n)
{
    return rng_next(state) % n;
}

void batch_make(struct made_batch *m, uint64_t first, size_t n, uint64_t term, size_t len)
{
    assert_true(n <= BATCH_ENTRIES_MAX);
    *m = (struct made_batch){0};
    for (size_t i = 0; i < n; i++) {
        struct buf *b = len == 0 ? NULL : buf_create(len);
        uint64_t seed = first + i + (term << 32);
        for (size_t at = 0; at < len; at++) {
            b->data[at] = (uint8_t)(rng_next(&seed) | 1u);
        }
        m->entries[i] = (struct wal_entry){
            .index = first + i, .term = term, .type = (uint32_t)(i % 3), .data = b};
    }
    m->batch.entries = m->entries;
    m->batch.n_entries = n;
    m->batch.positions = m->positions;
}

void batch_hard_state(struct made_batch *m, uint64_t term, uint64_t vote, uint64_t commit)
{
    m->batch.has_hard_state = true;
    m->batch.hard_state = (struct wal_hard_state){term, vote, commit};
}

void batch_deinit(struct made_batch *m)
{
    for (size_t i = 0; i < m->batch.n_entries; i++) {
        buf_unref(&m->entries[i].data);
    }
}

/* ---- logs ---- */

struct wal_config test_config(struct vfs *v, uint64_t segment_bytes)
{
    return (struct wal_config){.vfs = v, .dir = DIR_NAME, .segment_bytes = segment_bytes};
}

static void must(enum err e, const struct err_ctx *ec)
{
    if (e != OK) {
        fail_msg("%s", ec->text);
    }
}

struct wal *must_create(const struct wal_config *cfg)
{
    struct err_ctx ec;
    struct wal *w = NULL;
    must(wal_create(cfg, test_id, 1, &w, &ec), &ec);
    return w;
}

struct wal *must_open(const struct wal_config *cfg, const struct history *want, uint64_t need)
{
    struct err_ctx ec;
    struct wal *w = NULL;
    struct wal_identity id;
    struct history got = {0};
    struct wal_visitor visit = history_visitor(&got);
    must(wal_open(cfg, &visit, &w, &id, &ec), &ec);
    assert_int_equal(id.cluster_id, test_id.cluster_id);
    assert_int_equal(id.member_id, test_id.member_id);
    if (want != NULL) {
        assert_true(history_matches(&got, want, need));
    }
    history_deinit(&got);
    return w;
}

void must_append(struct wal *w, struct history *h, uint64_t first, size_t n, uint64_t term,
                 size_t len)
{
    struct err_ctx ec;
    struct made_batch m;
    struct wal_position last;
    batch_make(&m, first, n, term, len);
    batch_hard_state(&m, term, term % 3, first);
    must(wal_append(w, &m.batch, &last, &ec), &ec);
    history_apply(h, &m.batch);
    if (n > 0) {
        assert_int_equal(last.index, first + n - 1);
        assert_int_equal(last.term, term);
        assert_int_equal(last.chain, m.positions[n - 1].chain);
    }
    batch_deinit(&m);
}

/* ---- disks ---- */

static void on_name(void *arg, const char *name)
{
    struct image *im = arg;
    assert_true(im->n < sizeof im->files / sizeof im->files[0]);
    (void)snprintf(im->files[im->n++].name, sizeof im->files[0].name, "%s", name);
}

void image_take(struct image *im, struct vfs *v)
{
    struct err_ctx ec;
    *im = (struct image){0};
    must(v->ops->list(v, DIR_NAME, on_name, im, &ec), &ec);
    for (size_t i = 0; i < im->n; i++) {
        char path[128];
        (void)snprintf(path, sizeof path, DIR_NAME "/%s", im->files[i].name);
        must(vfs_read_file(v, path, 1u << 30, &im->files[i].content, &ec), &ec);
    }
}

void write_at(struct vfs *v, const char *name, uint64_t offset, const void *data, size_t len)
{
    struct err_ctx ec;
    char path[128];
    struct vfs_file *f;
    (void)snprintf(path, sizeof path, DIR_NAME "/%s", name);
    must(v->ops->open(v, path, VFS_CREATE, &f, &ec), &ec);
    if (len > 0) {
        struct iovec iov = {(void *)(uintptr_t)data, len};
        must(f->ops->pwritev(f, &iov, 1, offset, &ec), &ec);
    }
    must(f->ops->sync(f, &ec), &ec);
    f->ops->close(f);
}

struct vfs *image_disk(const struct image *im)
{
    struct err_ctx ec;
    struct vfs *v = vfs_mem_create();
    must(v->ops->mkdir(v, DIR_NAME, &ec), &ec);
    for (size_t i = 0; i < im->n; i++) {
        write_at(v, im->files[i].name, 0, im->files[i].content.data, im->files[i].content.len);
    }
    must(v->ops->sync_dir(v, DIR_NAME, &ec), &ec);
    must(v->ops->sync_dir(v, ".", &ec), &ec);
    return v;
}

struct bytes *image_file(struct image *im, const char *name)
{
    for (size_t i = 0; i < im->n; i++) {
        if (strcmp(im->files[i].name, name) == 0) {
            return &im->files[i].content;
        }
    }
    fail_msg("no file %s", name);
    return NULL;
}

void image_deinit(struct image *im)
{
    for (size_t i = 0; i < im->n; i++) {
        bytes_deinit(&im->files[i].content);
    }
    im->n = 0;
}

bool file_exists(struct vfs *v, const char *name)
{
    char path[128];
    struct vfs_stat st;
    (void)snprintf(path, sizeof path, DIR_NAME "/%s", name);
    return v->ops->stat(v, path, &st, NULL) == OK;
}
