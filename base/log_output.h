/* log_output.h - where log lines go: descriptors, files, files that rotate, the journal.
 *
 * What        One struct for one item of etcd's --log-outputs. A rotating file is renamed to name-TIME.ext (UTC unless told otherwise) before
 *             the line that would make it grow past its limit; what becomes of old ones: base/log_files.h.
 * Callers     base/log.c.
 * Thread      any: a rotating file has a lock, which is held while a line is written; the others write with one call.
 * Source      etcd-server.md 8.2.
 */
#ifndef BASE_LOG_OUTPUT_H
#define BASE_LOG_OUTPUT_H

#include <pthread.h>

#include "base/log.h"
#include "base/log_files.h"
#include "base/slice.h"

enum log_output_kind { LOG_OUT_FD, LOG_OUT_JOURNAL, LOG_OUT_ROTATING };

struct log_output {
    enum log_output_kind kind;
    int fd;    /* -1: nothing is written */
    bool owned; /* the descriptor is closed at the end */
    /* ROTATING only. `lock` guards fd and size. */
    pthread_mutex_t lock;
    uint64_t file_bytes_max;
    char *path;            /* owned */
    struct log_files *old; /* owned */
    uint64_t size;
};

/* `name` is stdout, stderr, default, systemd/journal or a path. ERR_NOT_FOUND, ERR_IO with etcd's text. */
MUST_CHECK enum err log_output_open(struct log_output *o, const char *name, const struct log_rotation *rotation, struct err_ctx *ec);
void log_output_close(struct log_output *o);
/* A whole line. What cannot be written is dropped: there is nobody to tell. */
void log_output_write(struct log_output *o, enum log_level level, const struct clock *clock, const struct bytes *line);

#endif
