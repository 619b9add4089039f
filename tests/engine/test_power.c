/* test_power.c - the power goes at any moment of a store's life on LMDB.
 *
 * The calls with which LMDB and the backend change files are recorded: the functions of the C library that do it are
 * defined here, in front of the real ones. Behind each recorded call a power cut is played: what was synced is there for
 * sure; of the rest each sector is old or new, a file's length and a name too, but names change in order. The store must open, hold
 * a state that the log went through, no older than what the engine told the log it may forget up to and no newer than what
 * the log held; and go on from there to the same end.
 *
 * One life has in it: compactions that queue up, commits that wait for the log, a defragmentation, a snapshot that is installed.
 */
#include "install_support.h"

#include <dirent.h>
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SECTOR 512u
#define NAME_BYTES 64u
#define FILES_MAX 16u
#define OPS_MAX 4096u
#define MAP_BYTES (1ull << 30)
#define BATCH_LIMIT 7u /* of a compaction: passes take several commits */

/* --- what was done to the disk -------------------------------------------------------------------- */

enum op_kind { OP_CREATE, OP_WRITE, OP_WRITE_SYNCED, OP_TRUNCATE, OP_SYNC, OP_RENAME, OP_UNLINK, OP_SYNC_DIR };

struct op {
    enum op_kind kind;
    unsigned file;
    uint64_t at; /* WRITE; TRUNCATE: the new length */
    struct bytes data;
    char from[NAME_BYTES], to[NAME_BYTES]; /* CREATE and UNLINK: from alone */
};

/* What must hold after a power cut behind so many ops. */
struct rule {
    size_t n_ops;
    uint64_t floor; /* the log may have forgotten everything before */
    uint64_t ceiling;
    bool log_follows; /* the engine was told so */
};

struct recorder {
    bool on;
    char dir[64];
    struct {
        ino_t inode;
        bool alive; /* it has a name; numbers of dead files come again */
        char name[NAME_BYTES];
    } files[FILES_MAX];
    unsigned n_files;
    struct op ops[OPS_MAX];
    size_t n_ops;
    struct rule rules[OPS_MAX];
    size_t n_rules;
};
static struct recorder rec;

static bool is_lock(const char *name)
{
    size_t n = strlen(name);
    return n >= 5 && strcmp(name + n - 5, "-lock") == 0;
}

static struct op *add_op(enum op_kind kind, unsigned file)
{
    assert_true(rec.n_ops < OPS_MAX);
    struct op *o = &rec.ops[rec.n_ops++];
    *o = (struct op){.kind = kind, .file = file};
    return o;
}

/* The number of an open file, which is created when it was never seen. FILES_MAX: not one of the store. */
static unsigned file_of(int fd)
{
    struct stat st;
    char link[64];
    char path[256];
    if (!rec.on || fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        return FILES_MAX;
    }
    for (unsigned i = 0; i < rec.n_files; i++) {
        if (rec.files[i].alive && rec.files[i].inode == st.st_ino) {
            return i;
        }
    }
    (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof(path) - 1);
    path[n < 0 ? 0 : n] = 0;
    char *name = strrchr(path, '/');
    if (name == NULL || (size_t)(name - path) != strlen(rec.dir) || memcmp(path, rec.dir, strlen(rec.dir)) != 0 || is_lock(name) ||
        strstr(name, " (deleted)") != NULL) {
        return FILES_MAX;
    }
    assert_true(rec.n_files < FILES_MAX);
    unsigned id = rec.n_files++;
    rec.files[id].inode = st.st_ino;
    rec.files[id].alive = true;
    (void)snprintf(rec.files[id].name, NAME_BYTES, "%s", name + 1);
    (void)snprintf(add_op(OP_CREATE, id)->from, NAME_BYTES, "%s", name + 1);
    return id;
}

static void forget_name(const char *name)
{
    for (unsigned i = 0; i < rec.n_files; i++) {
        rec.files[i].alive = rec.files[i].alive && strcmp(rec.files[i].name, name) != 0;
    }
}

static void record_write(int fd, const struct iovec *iov, int n_iov, uint64_t at)
{
    unsigned f = file_of(fd);
    if (f < FILES_MAX) {
        bool synced = (fcntl(fd, F_GETFL) & O_DSYNC) != 0;
        struct op *o = add_op(synced ? OP_WRITE_SYNCED : OP_WRITE, f);
        o->at = at;
        for (int i = 0; i < n_iov; i++) {
            bytes_add(&o->data, iov[i].iov_base, iov[i].iov_len);
        }
    }
}

#define REAL(type, name, ...) ((type(*)(__VA_ARGS__))(uintptr_t)dlsym(RTLD_NEXT, name))

ssize_t pwrite(int fd, const void *data, size_t n, off_t at)
{
    const struct iovec iov = {(void *)(uintptr_t)data, n};
    record_write(fd, &iov, 1, (uint64_t)at);
    return REAL(ssize_t, "pwrite", int, const void *, size_t, off_t)(fd, data, n, at);
}

ssize_t writev(int fd, const struct iovec *iov, int n_iov)
{
    if (rec.on) {
        record_write(fd, iov, n_iov, (uint64_t)lseek(fd, 0, SEEK_CUR));
    }
    return REAL(ssize_t, "writev", int, const struct iovec *, int)(fd, iov, n_iov);
}

int ftruncate(int fd, off_t length)
{
    unsigned f = file_of(fd);
    if (f < FILES_MAX) {
        add_op(OP_TRUNCATE, f)->at = (uint64_t)length;
    }
    return REAL(int, "ftruncate", int, off_t)(fd, length);
}

/* The real syncs are left out: nothing here survives a real power cut, or has to. */
int fdatasync(int fd)
{
    unsigned f = file_of(fd);
    if (f < FILES_MAX) {
        (void)add_op(OP_SYNC, f);
    }
    return 0;
}

int fsync(int fd)
{
    struct stat st;
    if (rec.on && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode)) {
        (void)add_op(OP_SYNC_DIR, 0);
        return 0;
    }
    return fdatasync(fd);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    if (rec.on && !is_lock(from)) {
        forget_name(to);
        for (unsigned i = 0; i < rec.n_files; i++) {
            if (rec.files[i].alive && strcmp(rec.files[i].name, from) == 0) {
                (void)snprintf(rec.files[i].name, NAME_BYTES, "%s", to);
            }
        }
        struct op *o = add_op(OP_RENAME, 0);
        (void)snprintf(o->from, NAME_BYTES, "%s", from);
        (void)snprintf(o->to, NAME_BYTES, "%s", to);
    }
    return REAL(int, "renameat", int, const char *, int, const char *)(from_dir, from, to_dir, to);
}

int unlinkat(int dir, const char *name, int flags)
{
    int rc = REAL(int, "unlinkat", int, const char *, int)(dir, name, flags);
    if (rc == 0 && rec.on && !is_lock(name)) {
        forget_name(name);
        (void)snprintf(add_op(OP_UNLINK, 0)->from, NAME_BYTES, "%s", name);
    }
    return rc;
}

/* --- what a power cut leaves ------------------------------------------------------------------------ */

/* What lies on the disk for sure; ops from these on may or may not have reached it. */
struct disk {
    struct {
        struct bytes stable;
        size_t pending[OPS_MAX];
        size_t n_pending;
    } files[FILES_MAX];
    struct {
        char name[NAME_BYTES];
        unsigned file;
    } names[FILES_MAX];
    size_t n_names;
    size_t pending_names[OPS_MAX];
    size_t n_pending_names;
};

static uint32_t random_of(uint32_t *rng)
{
    *rng = *rng * 1664525u + 1013904223u;
    return *rng >> 8;
}

enum cut { CUT_NOTHING_MORE, CUT_EVERYTHING, CUT_SOME };
#define N_CUTS 8 /* the first two, and CUT_SOME several times */

static bool reaches(enum cut cut, uint32_t *rng)
{
    return cut == CUT_EVERYTHING || (cut == CUT_SOME && random_of(rng) % 2 == 0);
}

static void file_write(struct bytes *b, uint64_t at, const uint8_t *data, size_t n)
{
    if (b->len < at + n) {
        size_t more = (size_t)(at + n - b->len);
        memset(bytes_reserve(b, more), 0, more);
        b->len += more;
    }
    memcpy(b->data + at, data, n);
}

static void file_truncate(struct bytes *b, uint64_t len)
{
    if (len > b->len) {
        file_write(b, len - 1, (const uint8_t *)"", 1);
    }
    b->len = (size_t)len;
}

static void file_op(struct bytes *b, const struct op *o, enum cut cut, uint32_t *rng)
{
    if (o->kind == OP_TRUNCATE) {
        if (reaches(cut, rng)) {
            file_truncate(b, o->at);
        }
        return;
    }
    for (size_t at = 0; at < o->data.len; at += SECTOR) {
        if (reaches(cut, rng)) {
            size_t left = o->data.len - at;
            file_write(b, o->at + at, o->data.data + at, left < SECTOR ? left : SECTOR);
        }
    }
}

static void name_remove(struct disk *d, const char *name)
{
    for (size_t i = 0; i < d->n_names; i++) {
        if (strcmp(d->names[i].name, name) == 0) {
            d->names[i] = d->names[--d->n_names];
            return;
        }
    }
}

static void name_op(struct disk *d, const struct op *o)
{
    unsigned file = o->file;
    if (o->kind == OP_RENAME) {
        size_t i = 0;
        while (i < d->n_names && strcmp(d->names[i].name, o->from) != 0) {
            i++;
        }
        assert_true(i < d->n_names);
        file = d->names[i].file;
        name_remove(d, o->to);
    }
    name_remove(d, o->from);
    if (o->kind != OP_UNLINK) {
        assert_true(d->n_names < FILES_MAX);
        (void)snprintf(d->names[d->n_names].name, NAME_BYTES, "%s", o->kind == OP_RENAME ? o->to : o->from);
        d->names[d->n_names++].file = file;
    }
}

/* Op `i` has been called. */
static void disk_take(struct disk *d, size_t i)
{
    const struct op *o = &rec.ops[i];
    switch (o->kind) {
    case OP_CREATE:
    case OP_RENAME:
    case OP_UNLINK:
        d->pending_names[d->n_pending_names++] = i;
        break;
    case OP_WRITE:
    case OP_TRUNCATE:
        d->files[o->file].pending[d->files[o->file].n_pending++] = i;
        break;
    case OP_WRITE_SYNCED:
        file_op(&d->files[o->file].stable, o, CUT_EVERYTHING, NULL);
        break;
    case OP_SYNC:
        for (size_t k = 0; k < d->files[o->file].n_pending; k++) {
            file_op(&d->files[o->file].stable, &rec.ops[d->files[o->file].pending[k]], CUT_EVERYTHING, NULL);
        }
        d->files[o->file].n_pending = 0;
        break;
    case OP_SYNC_DIR:
        for (size_t k = 0; k < d->n_pending_names; k++) {
            name_op(d, &rec.ops[d->pending_names[k]]);
        }
        d->n_pending_names = 0;
        break;
    }
}

static void disk_deinit(struct disk *d)
{
    for (size_t i = 0; i < FILES_MAX; i++) {
        bytes_deinit(&d->files[i].stable);
    }
    free(d);
}

/* Lay down in `dir` what a power cut leaves now. */
static void disk_cut(const struct disk *d, const char *dir, enum cut cut, uint32_t *rng)
{
    struct disk *names = xcalloc(1, sizeof(*names));
    memcpy(names->names, d->names, sizeof(d->names));
    names->n_names = d->n_names;
    for (size_t k = 0; k < d->n_pending_names && reaches(cut, rng); k++) {
        name_op(names, &rec.ops[d->pending_names[k]]);
    }
    for (size_t i = 0; i < names->n_names; i++) {
        struct bytes content = {0};
        unsigned f = names->names[i].file;
        bytes_add(&content, d->files[f].stable.data, d->files[f].stable.len);
        for (size_t k = 0; k < d->files[f].n_pending; k++) {
            file_op(&content, &rec.ops[d->files[f].pending[k]], cut, rng);
        }
        char *path = xasprintf("%s/%s", dir, names->names[i].name);
        int fd = open(path, O_CREAT | O_WRONLY | O_TRUNC | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, content.data == NULL ? (const uint8_t *)"" : content.data, content.len), content.len);
        assert_int_equal(close(fd), 0);
        free(path);
        bytes_deinit(&content);
    }
    disk_deinit(names);
}

/* --- the life -------------------------------------------------------------------------------------- */

struct known {
    int64_t revision, compact_revision;
    uint32_t hash;
};

/* Where the parts of the log end. */
struct parts {
    uint64_t filled, compacted, waited, defragmented, snapshot, end;
};

struct life {
    struct fixture source; /* has the log */
    struct bytes file;     /* of the snapshot */
    struct parts parts;
    struct known *known; /* by index */
    uint32_t content;    /* once all is compacted */
    struct engine_config cfg;
    struct rule now;
};

static void add_rule(struct life *l)
{
    assert_true(rec.n_rules < OPS_MAX);
    l->now.n_ops = rec.n_ops;
    rec.rules[rec.n_rules++] = l->now;
}

static void on_changed(void *arg, struct event_batch *batch)
{
    (void)arg;
    event_batch_unref(&batch);
}

static void on_stored(void *arg, uint64_t index, uint64_t index_before)
{
    struct life *l = arg;
    (void)index;
    l->now.floor = index_before;
    add_rule(l);
}

static const struct engine_events heard = {.changed = on_changed, .stored = on_stored};
static const struct engine_events deaf = {.changed = on_changed};

static struct known known_of(struct engine *e)
{
    struct hash_kv h;
    assert_int_equal(engine_hash_kv(e, 0, &h, NULL), OK);
    return (struct known){engine_revision(e), engine_compact_revision(e), h.hash};
}

static void expect_known(struct engine *e, const struct known *want, const char *what)
{
    struct known found = known_of(e);
    if (found.revision != want->revision || found.compact_revision != want->compact_revision || found.hash != want->hash) {
        fail_msg("%s: revision %lld, compacted %lld, hash %u", what, (long long)found.revision, (long long)found.compact_revision, found.hash);
    }
}

/* Every row of every bucket. */
static uint32_t content_of(struct engine *e)
{
    uint32_t hash;
    int64_t revision;
    assert_int_equal(engine_hash(e, &hash, &revision, NULL), OK);
    return hash;
}

static void apply_up_to(const struct life *l, struct engine *e, uint64_t index)
{
    for (uint64_t i = engine_applied_index(e); i < index; i++) {
        struct apply_result out;
        engine_apply(e, i + 1, 1, l->source.log[i].type, buf_slice(l->source.log[i].data), false, 1000, &out);
        buf_unref(&out.body);
    }
}

static void settle(struct engine *e)
{
    struct err_ctx ec = {{0}};
    bool more = true;
    while (more) {
        if (engine_flush(e, false, &more, &ec) != OK) {
            fail_msg("%s", ec.text);
        }
        while (engine_step(e)) {
        }
    }
}

static uint64_t put_some(struct fixture *f, int from, int n)
{
    for (int i = from; i < from + n; i++) {
        install_put(f, i % 13, 0);
    }
    return f->n_log;
}

/* The log, what the store is after each of its entries, and the snapshot. */
static void life_init(struct life *l)
{
    struct snapshot_info info;
    *l = (struct life){.now = {.ceiling = UINT64_MAX}};
    struct fixture *f = &l->source;
    fixture_init(f, ON_MEMORY);
    f->batch_limit = BATCH_LIMIT;
    fixture_flush(f);
    fixture_reopen(f);
    install_fill(f, 30);
    l->parts.filled = f->n_log;
    (void)put_some(f, 0, 3);
    assert_int_equal(fixture_compact(f, 12), OK);
    assert_int_equal(fixture_compact(f, 25), OK);
    l->parts.compacted = put_some(f, 3, 3);
    l->parts.waited = put_some(f, 6, 3);
    l->parts.defragmented = put_some(f, 9, 3);
    assert_int_equal(fixture_compact(f, 35), OK);
    l->parts.snapshot = put_some(f, 12, 3);
    fixture_flush(f); /* the last compaction has just begun */
    install_take(f->e, &l->file, &info);
    assert_int_equal(info.index, l->parts.snapshot);
    assert_int_equal(fixture_compact(f, 40), OK);
    l->parts.end = put_some(f, 15, 5);
    l->known = xcalloc(f->n_log + 1, sizeof(*l->known));
    struct engine_config cfg = {.backend = backend_mem_create(), .quota_bytes = INT64_MAX, .min_lease_ttl_s = 2, .events = &deaf};
    struct engine *e = NULL;
    assert_int_equal(engine_open(&cfg, &e, NULL), OK);
    for (uint64_t i = 0; i <= f->n_log; i++) {
        apply_up_to(l, e, i);
        l->known[i] = known_of(e);
    }
    settle(e);
    l->content = content_of(e);
    engine_close(&e);
    l->cfg = (struct engine_config){.quota_bytes = INT64_MAX, .min_lease_ttl_s = 2, .compaction_batch_limit = BATCH_LIMIT};
}

static void life_deinit(struct life *l)
{
    free(l->known);
    bytes_deinit(&l->file);
    fixture_deinit(&l->source);
}

static void log_holds(struct life *l, struct engine *e, uint64_t index)
{
    l->now.ceiling = index;
    add_rule(l);
    engine_log_durable(e, index);
}

static void apply_and_settle(struct life *l, struct engine *e, uint64_t index)
{
    log_holds(l, e, index);
    apply_up_to(l, e, index);
    settle(e);
}

static void defragment(struct life *l, struct engine *e)
{
    assert_int_equal(engine_defrag(e, NULL), OK);
    l->now.floor = engine_applied_index(e); /* the whole file was synced */
    add_rule(l);
}

static void install(struct life *l, struct engine *e, const struct store_place *place)
{
    struct err_ctx ec = {{0}};
    struct bolt_source src = bolt_source_of(&l->file);
    struct staged *s = NULL;
    enum err err = engine_stage(&l->cfg, place, &src, &s, &ec);
    if (err != OK) {
        fail_msg("%s", ec.text);
    }
    l->now.ceiling = l->parts.snapshot;
    add_rule(l);
    assert_int_equal(staged_install(s, &ec), OK);
    l->now.floor = l->parts.snapshot;
    add_rule(l);
    engine_adopt(e, &s);
    l->now.log_follows = true;
    add_rule(l);
    engine_log_follows(e);
}

/* Live once, with the recorder on. */
static void live(struct life *l)
{
    struct err_ctx ec = {{0}};
    struct engine *e = NULL;
    struct engine_config cfg = l->cfg;
    struct store_place place = store_place_lmdb(rec.dir, MAP_BYTES, false);
    bool more;
    rec.on = true;
    cfg.events = &heard;
    cfg.events_arg = l;
    assert_int_equal(backend_lmdb_open(rec.dir, MAP_BYTES, false, &cfg.backend, &ec), OK);
    assert_int_equal(engine_open(&cfg, &e, &ec), OK);
    apply_and_settle(l, e, l->parts.filled);
    apply_and_settle(l, e, l->parts.compacted);
    assert_int_equal(engine_physical_compact_revision(e), 25);
    /* More is applied than the log holds, twice. */
    apply_up_to(l, e, l->parts.waited - 1);
    assert_int_equal(engine_flush(e, true, &more, &ec), ERR_BUSY);
    apply_up_to(l, e, l->parts.waited);
    log_holds(l, e, l->parts.waited - 1);
    assert_int_equal(engine_flush(e, true, &more, &ec), OK);
    assert_int_equal(engine_flush(e, true, &more, &ec), ERR_BUSY);
    log_holds(l, e, l->parts.waited);
    settle(e);
    defragment(l, e);
    apply_and_settle(l, e, l->parts.defragmented);
    install(l, e, &place);
    apply_and_settle(l, e, l->parts.snapshot + 2);
    defragment(l, e);
    apply_and_settle(l, e, l->parts.end);
    assert_int_equal(engine_physical_compact_revision(e), 40);
    assert_int_equal(content_of(e), l->content);
    engine_close(&e);
    rec.on = false;
}

/* --- after the cut --------------------------------------------------------------------------------- */

static void check(const struct life *l, const char *dir, const struct rule *rule, size_t n_ops, int cut)
{
    struct err_ctx ec = {{0}};
    struct engine *e = NULL;
    struct engine_config cfg = l->cfg;
    uint64_t index;
    uint64_t term;
    cfg.events = &deaf;
    if (backend_lmdb_open(dir, MAP_BYTES, true, &cfg.backend, &ec) != OK || engine_open(&cfg, &e, &ec) != OK) {
        fail_msg("cut %d behind %zu calls: %s", cut, n_ops, ec.text);
    }
    uint64_t applied = engine_applied_index(e);
    char *what = xasprintf("cut %d behind %zu calls: entry %llu", cut, n_ops, (unsigned long long)applied);
    if (applied < rule->floor || applied > rule->ceiling || applied > l->parts.end) {
        fail_msg("%s, not %llu to %llu", what, (unsigned long long)rule->floor, (unsigned long long)rule->ceiling);
    }
    expect_known(e, &l->known[applied], what);
    if (applied >= l->parts.snapshot && !rule->log_follows) {
        assert_true(engine_installed(e, &index, &term));
        assert_int_equal(index, l->parts.snapshot);
    }
    engine_log_follows(e);
    apply_up_to(l, e, l->parts.end);
    settle(e);
    expect_known(e, &l->known[l->parts.end], what);
    assert_int_equal(engine_physical_compact_revision(e), 40);
    assert_int_equal(content_of(e), l->content);
    assert_int_equal(engine_defrag(e, &ec), OK);
    engine_close(&e);
    free(what);
}

static void empty(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) {
        if (e->d_name[0] != '.') {
            assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
        }
    }
    (void)closedir(d);
}

static void a_power_cut_undoes_no_more_than_a_commit(void **state)
{
    (void)state;
    struct life *l = xcalloc(1, sizeof(*l));
    char crashed[] = "/tmp/pintle-power-XXXXXX";
    uint32_t rng = 1;
    (void)snprintf(rec.dir, sizeof(rec.dir), "/tmp/pintle-power-XXXXXX");
    assert_non_null(mkdtemp(rec.dir));
    assert_non_null(mkdtemp(crashed));
    life_init(l);
    live(l);
    print_message("%zu calls\n", rec.n_ops);
    assert_true(rec.n_ops > 60);
    struct disk *d = xcalloc(1, sizeof(*d));
    struct rule rule = {.ceiling = UINT64_MAX};
    size_t next_rule = 0;
    for (size_t n = 0; n <= rec.n_ops; n++) {
        for (; next_rule < rec.n_rules && rec.rules[next_rule].n_ops <= n; next_rule++) {
            rule = rec.rules[next_rule];
        }
        for (int cut = 0; cut < N_CUTS; cut++) {
            disk_cut(d, crashed, cut < CUT_SOME ? (enum cut)cut : CUT_SOME, &rng);
            check(l, crashed, &rule, n, cut);
            empty(crashed);
        }
        if (n < rec.n_ops) {
            disk_take(d, n);
        }
    }
    disk_deinit(d);
    for (size_t i = 0; i < rec.n_ops; i++) {
        bytes_deinit(&rec.ops[i].data);
    }
    install_command("rm -rf", rec.dir, crashed);
    life_deinit(l);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_power_cut_undoes_no_more_than_a_commit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
