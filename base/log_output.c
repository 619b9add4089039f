/* log_output.c - see log_output.h. */
#include "base/log_output.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define MS_PER_S 1000u
#define NS_PER_MS 1000000u
#define S_PER_DAY 86400u
#define STAMP_BYTES 40u
#define ERRNO_BYTES 128u
#define OLD_FILES_MAX 4096u /* looked at in one pruning; those beyond wait for the next */
#define RENAME_TRIES 100u   /* of a name that is taken: rotations within one millisecond */

/* --- opening ------------------------------------------------------------------------------------------------ */

/* errno's text as Go has it: without the capital. */
static const char *go_errno_text(int errnum, char out[ERRNO_BYTES])
{
    (void)snprintf(out, ERRNO_BYTES, "%s", strerrordesc_np(errnum));
    out[0] = (char)tolower((unsigned char)out[0]);
    return out;
}

static int open_path(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static enum err open_journal(struct log_output *o, struct err_ctx *ec)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX, .sun_path = JOURNAL_SOCKET};
    o->kind = LOG_OUT_JOURNAL;
    o->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    o->owned = true;
    if (o->fd < 0 || connect(o->fd, (struct sockaddr *)&a, sizeof(a)) != 0) {
        int reason = errno;
        char text[ERRNO_BYTES];
        log_output_close(o);
        return err_set(ec, ERR_NOT_FOUND, "can't find journal (dial unixgram " JOURNAL_SOCKET ": connect: %s)", go_errno_text(reason, text));
    }
    return OK;
}

static enum err open_file(struct log_output *o, const char *path, const struct log_rotation *rotation, struct err_ctx *ec)
{
    o->fd = open_path(path);
    o->owned = true;
    struct stat st = {0};
    if (o->fd < 0 || fstat(o->fd, &st) != 0) {
        int reason = errno;
        char text[ERRNO_BYTES];
        log_output_close(o);
        return err_set(ec, ERR_IO, "open sink \"%s\": open %s: %s", path, path, go_errno_text(reason, text));
    }
    if (rotation != NULL) {
        o->kind = LOG_OUT_ROTATING;
        o->rotation = *rotation;
        o->path = xstrdup(path);
        o->size = (uint64_t)st.st_size;
        ASSERT(pthread_mutex_init(&o->lock, NULL) == 0);
    }
    return OK;
}

enum err log_output_open(struct log_output *o, const char *name, const struct log_rotation *rotation, struct err_ctx *ec)
{
    *o = (struct log_output){.kind = LOG_OUT_FD, .fd = -1};
    if (strcmp(name, "stdout") == 0) {
        o->fd = STDOUT_FILENO;
    } else if (strcmp(name, "stderr") == 0 || strcmp(name, "default") == 0) {
        o->fd = STDERR_FILENO;
    } else if (strcmp(name, "systemd/journal") == 0) {
        return open_journal(o, ec);
    } else {
        return open_file(o, name, rotation, ec);
    }
    return OK;
}

void log_output_close(struct log_output *o)
{
    if (o->owned && o->fd >= 0) {
        (void)close(o->fd);
    }
    if (o->kind == LOG_OUT_ROTATING) {
        (void)pthread_mutex_destroy(&o->lock);
        free(o->path);
    }
    *o = (struct log_output){.kind = LOG_OUT_FD, .fd = -1};
}

/* --- rotation ------------------------------------------------------------------------------------------------- */

/* The last dot of the name, or its end. */
static const char *extension(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *dot = strrchr(path, '.');
    return dot == NULL || (slash != NULL && dot < slash) ? path + strlen(path) : dot;
}

static void format_stamp(const struct log_output *o, uint64_t wall_ms, char out[STAMP_BYTES])
{
    time_t seconds = (time_t)(wall_ms / MS_PER_S);
    struct tm tm;
    ASSERT((o->rotation.local_time ? localtime_r(&seconds, &tm) : gmtime_r(&seconds, &tm)) != NULL);
    size_t n = strftime(out, STAMP_BYTES, "%Y-%m-%dT%H-%M-%S", &tm);
    (void)snprintf(out + n, STAMP_BYTES - n, ".%03u", (unsigned)(wall_ms % MS_PER_S));
}

/* Is that one of ours: prefix, a time, extension? The time sorts as text. */
static bool is_old_file(const char *name, const char *prefix, const char *ext)
{
    static const char form[] = "0000-00-00T00-00-00.000";
    size_t p = strlen(prefix);
    if (strncmp(name, prefix, p) != 0 || strlen(name) != p + sizeof(form) - 1 + strlen(ext) || strcmp(name + p + sizeof(form) - 1, ext) != 0) {
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

static int newest_first(const void *a, const void *b)
{
    return strcmp(*(char *const *)b, *(char *const *)a);
}

static size_t list_old_files(DIR *d, const char *prefix, const char *ext, char **out)
{
    size_t n = 0;
    struct dirent *e;
    while (n < OLD_FILES_MAX && (e = readdir(d)) != NULL) {
        if (is_old_file(e->d_name, prefix, ext)) {
            out[n++] = xstrdup(e->d_name);
        }
    }
    qsort(out, n, sizeof(*out), newest_first);
    return n;
}

/* Remove old files beyond the number and the age that are kept. */
static void prune(const struct log_output *o, uint64_t wall_ms)
{
    const struct log_rotation *r = &o->rotation;
    if (r->backups_max == 0 && r->age_max_days == 0) {
        return;
    }
    const char *slash = strrchr(o->path, '/');
    const char *name = slash == NULL ? o->path : slash + 1;
    char *folder = slash == NULL ? xstrdup(".") : xstrndup(o->path, slash == o->path ? 1 : (size_t)(slash - o->path));
    char *prefix = xasprintf("%.*s-", (int)(extension(o->path) - name), name);
    uint64_t age_ms = (uint64_t)r->age_max_days * S_PER_DAY * MS_PER_S;
    char oldest[STAMP_BYTES] = "";
    if (age_ms != 0 && age_ms < wall_ms) {
        format_stamp(o, wall_ms - age_ms, oldest);
    }
    DIR *d = opendir(folder);
    char **files = xcalloc(OLD_FILES_MAX, sizeof(*files));
    size_t n = d == NULL ? 0 : list_old_files(d, prefix, extension(o->path), files);
    for (size_t i = 0; i < n; i++) {
        bool too_many = r->backups_max != 0 && i >= r->backups_max;
        bool too_old = oldest[0] != '\0' && strncmp(files[i] + strlen(prefix), oldest, strlen(oldest)) < 0;
        if (too_many || too_old) {
            (void)unlinkat(dirfd(d), files[i], 0); /* tried again at the next rotation */
        }
        free(files[i]);
    }
    free(files);
    if (d != NULL) {
        (void)closedir(d);
    }
    free(prefix);
    free(folder);
}

/* The file gets the name of this moment, or of one soon after when that is taken, and a new one begins. */
static void rotate(struct log_output *o, uint64_t wall_ms)
{
    const char *ext = extension(o->path);
    char *name = NULL;
    for (uint64_t i = 0; i < RENAME_TRIES; i++) {
        char stamp[STAMP_BYTES];
        format_stamp(o, wall_ms + i, stamp);
        free(name);
        name = xasprintf("%.*s-%s%s", (int)(ext - o->path), o->path, stamp, ext);
        if (access(name, F_OK) != 0) {
            break;
        }
    }
    int fd = rename(o->path, name) == 0 ? open_path(o->path) : -1;
    free(name);
    if (fd >= 0) {
        (void)close(o->fd);
        o->fd = fd;
        prune(o, wall_ms);
    }
    o->size = 0; /* when it failed: tried again only after as many bytes more */
}

/* --- writing ---------------------------------------------------------------------------------------------------- */

static void write_all(int fd, const struct bytes *line)
{
    for (size_t done = 0; fd >= 0 && done < line->len;) {
        ssize_t n = write(fd, line->data + done, line->len - done);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        done += (size_t)n;
    }
}

/* Journald's native protocol; a field whose text has line breaks would need a length, and a line of ours has none but its end. */
static void write_journal(int fd, enum log_level level, const struct bytes *line)
{
    static const unsigned priorities[] = {7, 6, 4, 3, 2, 2, 2}; /* of debug ... fatal, as syslog numbers them */
    struct bytes b = {0};
    bytes_printf(&b, "PRIORITY=%u\nSYSLOG_IDENTIFIER=%s\nMESSAGE=", priorities[(unsigned)level], program_invocation_short_name);
    bytes_add(&b, line->data, line->len);
    if (send(fd, b.data, b.len, MSG_NOSIGNAL) < 0) {
        write_all(STDERR_FILENO, line);
    }
    bytes_deinit(&b);
}

void log_output_write(struct log_output *o, enum log_level level, const struct clock *clock, const struct bytes *line)
{
    switch (o->kind) {
    case LOG_OUT_FD:
        write_all(o->fd, line);
        break;
    case LOG_OUT_JOURNAL:
        write_journal(o->fd, level, line);
        break;
    case LOG_OUT_ROTATING:
        ASSERT(pthread_mutex_lock(&o->lock) == 0);
        if (o->size > 0 && o->size + line->len > o->rotation.file_bytes_max) {
            rotate(o, clock_wall_ns(clock) / NS_PER_MS);
        }
        write_all(o->fd, line);
        o->size += line->len;
        ASSERT(pthread_mutex_unlock(&o->lock) == 0);
        break;
    }
}
