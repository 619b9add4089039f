/* log_output.c - see log_output.h. */
#include "base/log_output.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"

#define JOURNAL_SOCKET "/run/systemd/journal/socket"
#define NS_PER_MS 1000000u
#define ERRNO_BYTES 128u

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
        o->file_bytes_max = rotation->file_bytes_max;
        o->path = xstrdup(path);
        o->old = log_files_create(path, rotation);
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
        log_files_destroy(&o->old);
        (void)pthread_mutex_destroy(&o->lock);
        free(o->path);
    }
    *o = (struct log_output){.kind = LOG_OUT_FD, .fd = -1};
}

/* --- rotation ------------------------------------------------------------------------------------------------- */

/* The file gets the name of this moment and a new one begins. */
static void rotate(struct log_output *o, uint64_t wall_ms)
{
    char *name = log_files_name(o->old, wall_ms);
    int fd = rename(o->path, name) == 0 ? open_path(o->path) : -1;
    free(name);
    if (fd >= 0) {
        (void)close(o->fd);
        o->fd = fd;
        log_files_kick(o->old, wall_ms);
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
        if (o->size > 0 && o->size + line->len > o->file_bytes_max) {
            rotate(o, clock_wall_ns(clock) / NS_PER_MS);
        }
        write_all(o->fd, line);
        o->size += line->len;
        ASSERT(pthread_mutex_unlock(&o->lock) == 0);
        break;
    }
}
