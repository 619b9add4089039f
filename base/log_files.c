/* log_files.c - see log_files.h. */
#include "base/log_files.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/assert.h"
#include "base/mem.h"

#define MS_PER_S 1000u
#define S_PER_DAY 86400u
#define STAMP_BYTES 40u
#define OLD_FILES_MAX 4096u /* looked at in one go; those beyond wait for the next */
#define RENAME_TRIES 100u   /* of a name that is taken: rotations within one millisecond */
#define PIECE_BYTES 16384u  /* compressed between two looks at whether to go on */

static const char gz[] = ".gz";
static const char form[] = "0000-00-00T00-00-00.000"; /* of a time in a name; it sorts as text */

struct log_files {
    struct log_rotation rotation;
    char *path;      /* owned */
    char *folder;    /* owned */
    char *prefix;    /* owned; of the names, up to the time */
    const char *ext; /* into path */
    /* With `compress`: the thread that does the work. `lock` guards due and wall_ms. */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool due;
    uint64_t wall_ms;
    atomic_bool ending;
};

/* The last dot of the name, or its end. */
static const char *extension(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(path, '.');
    return dot == NULL || (slash != NULL && dot < slash) ? path + strlen(path) : dot;
}

static void format_stamp(const struct log_files *f, uint64_t wall_ms, char out[STAMP_BYTES])
{
    time_t seconds = (time_t)(wall_ms / MS_PER_S);
    struct tm tm;
    ASSERT((f->rotation.local_time ? localtime_r(&seconds, &tm) : gmtime_r(&seconds, &tm)) != NULL);
    size_t n = strftime(out, STAMP_BYTES, "%Y-%m-%dT%H-%M-%S", &tm);
    (void)snprintf(out + n, STAMP_BYTES - n, ".%03u", (unsigned)(wall_ms % MS_PER_S));
}

char *log_files_name(const struct log_files *f, uint64_t wall_ms)
{
    char *name = NULL;
    for (uint64_t i = 0; i < RENAME_TRIES; i++) {
        char stamp[STAMP_BYTES];
        format_stamp(f, wall_ms + i, stamp);
        free(name);
        name = xasprintf("%s/%s%s%s%s", f->folder, f->prefix, stamp, f->ext, gz);
        bool taken = access(name, F_OK) == 0;
        name[strlen(name) - strlen(gz)] = '\0';
        if (!taken && access(name, F_OK) != 0) {
            break;
        }
    }
    return name;
}

/* ---- which there are ---- */

struct old_file {
    char *name; /* owned */
    bool compressed;
};

/* Is that one of ours: prefix, a time, extension, and .gz or not? */
static bool is_old_file(const struct log_files *f, const char *name, bool *compressed)
{
    size_t p = strlen(f->prefix);
    size_t whole = p + sizeof(form) - 1 + strlen(f->ext);
    size_t n = strlen(name);
    *compressed = n > whole;
    if (strncmp(name, f->prefix, p) != 0 || n < whole || strcmp(name + whole, *compressed ? gz : "") != 0 ||
        strncmp(name + p + sizeof(form) - 1, f->ext, strlen(f->ext)) != 0) {
        return false;
    }
    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        char c = name[p + i];
        if (form[i] == '0' ? c < '0' || c > '9' : c != form[i]) {
            return false;
        }
    }
    return true;
}

/* By time; a file and its .gz, half made, are the same. */
static int compare_logs(const struct old_file *a, const struct old_file *b)
{
    size_t n = strlen(a->name);
    size_t m = strlen(b->name);
    return strncmp(a->name, b->name, n < m ? n : m);
}

/* Newest first; a file comes right before its .gz. */
static int newest_first(const void *a, const void *b)
{
    const struct old_file *x = a;
    const struct old_file *y = b;
    int order = compare_logs(y, x);
    return order != 0 ? order : (int)x->compressed - (int)y->compressed;
}

static size_t list_old_files(const struct log_files *f, DIR *d, struct old_file *out)
{
    size_t n = 0;
    struct dirent *e;
    while (n < OLD_FILES_MAX && (e = readdir(d)) != NULL) {
        bool compressed;
        if (is_old_file(f, e->d_name, &compressed)) {
            out[n++] = (struct old_file){xstrdup(e->d_name), compressed};
        }
    }
    qsort(out, n, sizeof(*out), newest_first);
    return n;
}

/* ---- compressing ---- */

static bool copy_into(const struct log_files *f, int from, gzFile to)
{
    uint8_t piece[PIECE_BYTES];
    for (;;) {
        ssize_t n = read(from, piece, sizeof(piece));
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return n == 0;
        }
        if (atomic_load(&f->ending) || gzwrite(to, piece, (unsigned)n) != (int)n) {
            return false;
        }
    }
}

/* The original goes only when all of its .gz is on the disk. */
static void compress_file(const struct log_files *f, int dir, const char *name)
{
    char *target = xasprintf("%s%s", name, gz);
    struct stat st;
    int from = openat(dir, name, O_RDONLY | O_CLOEXEC);
    int to = from >= 0 && fstat(from, &st) == 0 ? openat(dir, target, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, st.st_mode & 0777) : -1;
    int kept = to >= 0 ? dup(to) : -1; /* for the sync behind gzclose */
    gzFile z = to >= 0 ? gzdopen(to, "wb") : NULL;
    bool good = false;
    if (z != NULL) {
        good = copy_into(f, from, z);
        good = gzclose(z) == Z_OK && good;
    } else if (to >= 0) {
        (void)close(to);
    }
    good = good && kept >= 0 && fsync(kept) == 0;
    if (to >= 0) {
        (void)unlinkat(dir, good ? name : target, 0);
    }
    if (kept >= 0) {
        (void)close(kept);
    }
    if (from >= 0) {
        (void)close(from);
    }
    free(target);
}

/* ---- the work ---- */

static void tend(const struct log_files *f, uint64_t wall_ms)
{
    const struct log_rotation *r = &f->rotation;
    DIR *d = opendir(f->folder);
    if (d == NULL) {
        return;
    }
    uint64_t age_ms = (uint64_t)r->age_max_days * S_PER_DAY * MS_PER_S;
    char oldest[STAMP_BYTES] = "";
    if (age_ms != 0 && age_ms < wall_ms) {
        format_stamp(f, wall_ms - age_ms, oldest);
    }
    struct old_file *files = xcalloc(OLD_FILES_MAX, sizeof(*files));
    size_t n = list_old_files(f, d, files);
    size_t place = 0; /* from the newest */
    for (size_t i = 0; i < n; i++) {
        place += i == 0 || compare_logs(&files[i - 1], &files[i]) != 0 ? 1 : 0;
        bool too_many = r->backups_max != 0 && place > r->backups_max;
        bool too_old = oldest[0] != '\0' && strncmp(files[i].name + strlen(f->prefix), oldest, strlen(oldest)) < 0;
        if (too_many || too_old) {
            (void)unlinkat(dirfd(d), files[i].name, 0);
        } else if (r->compress && !files[i].compressed && !atomic_load(&f->ending)) {
            compress_file(f, dirfd(d), files[i].name);
        }
    }
    for (size_t i = 0; i < n; i++) {
        free(files[i].name);
    }
    free(files);
    (void)closedir(d);
}

static void *run(void *arg)
{
    struct log_files *f = arg;
    ASSERT(pthread_mutex_lock(&f->lock) == 0);
    while (!atomic_load(&f->ending)) {
        if (!f->due) {
            ASSERT(pthread_cond_wait(&f->changed, &f->lock) == 0);
            continue;
        }
        uint64_t wall_ms = f->wall_ms;
        f->due = false;
        ASSERT(pthread_mutex_unlock(&f->lock) == 0);
        tend(f, wall_ms);
        ASSERT(pthread_mutex_lock(&f->lock) == 0);
    }
    ASSERT(pthread_mutex_unlock(&f->lock) == 0);
    return NULL;
}

void log_files_kick(struct log_files *f, uint64_t wall_ms)
{
    const struct log_rotation *r = &f->rotation;
    if (!r->compress) {
        if (r->backups_max != 0 || r->age_max_days != 0) {
            tend(f, wall_ms);
        }
        return;
    }
    ASSERT(pthread_mutex_lock(&f->lock) == 0);
    f->due = true;
    f->wall_ms = wall_ms;
    ASSERT(pthread_cond_signal(&f->changed) == 0);
    ASSERT(pthread_mutex_unlock(&f->lock) == 0);
}

/* No signal is handled on this thread. */
static void start_thread(struct log_files *f)
{
    sigset_t all;
    sigset_t before;
    (void)sigfillset(&all);
    ASSERT(pthread_mutex_init(&f->lock, NULL) == 0 && pthread_cond_init(&f->changed, NULL) == 0);
    ASSERT(pthread_sigmask(SIG_SETMASK, &all, &before) == 0);
    ASSERT(pthread_create(&f->thread, NULL, run, f) == 0);
    ASSERT(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    (void)pthread_setname_np(f->thread, "old logs");
}

struct log_files *log_files_create(const char *path, const struct log_rotation *rotation)
{
    struct log_files *f = xcalloc(1, sizeof(*f));
    f->rotation = *rotation;
    f->path = xstrdup(path);
    f->ext = extension(f->path);
    const char *slash = strrchr(path, '/');
    const char *name = slash == NULL ? f->path : f->path + (slash - path) + 1;
    f->folder = slash == NULL ? xstrdup(".") : xstrndup(path, slash == path ? 1 : (size_t)(slash - path));
    f->prefix = xasprintf("%.*s-", (int)(f->ext - name), name);
    if (rotation->compress) {
        start_thread(f);
    }
    return f;
}

void log_files_destroy(struct log_files **files)
{
    struct log_files *f = *files;
    if (f == NULL) {
        return;
    }
    if (f->rotation.compress) {
        ASSERT(pthread_mutex_lock(&f->lock) == 0);
        atomic_store(&f->ending, true);
        ASSERT(pthread_cond_signal(&f->changed) == 0);
        ASSERT(pthread_mutex_unlock(&f->lock) == 0);
        ASSERT(pthread_join(f->thread, NULL) == 0);
        (void)pthread_cond_destroy(&f->changed);
        (void)pthread_mutex_destroy(&f->lock);
    }
    free(f->prefix);
    free(f->folder);
    free(f->path);
    free(f);
    *files = NULL;
}
