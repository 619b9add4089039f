/* log_files.h - the old files of a rotating log: their names, which of them go, which become .gz.
 *
 * What        An old file is name-TIME.ext, or the same with .gz behind it. With `compress` a thread does the work, so that no line waits for it.
 * Callers     base/log_output.c.
 * Thread      log_files_kick from any one at a time; the work of a kick on the caller's thread, or on the own thread with `compress`.
 * Source      etcd-server.md 8.2.
 */
#ifndef BASE_LOG_FILES_H
#define BASE_LOG_FILES_H

#include "base/log.h"

struct log_files; /* opaque */

/* `path` is the file that is being written; it is copied. */
struct log_files *log_files_create(const char *path, const struct log_rotation *rotation);
/* A compression that is under way is given up: its original stays, for the next time. */
void log_files_destroy(struct log_files **f);

/* The name for an old file that ends at `wall_ms`, or soon after when that one is taken. The caller frees it. */
char *log_files_name(const struct log_files *f, uint64_t wall_ms);

/* Remove old files beyond the number and the age that are kept, and compress the others when asked to. What fails is tried again at the next kick. */
void log_files_kick(struct log_files *f, uint64_t wall_ms);

#endif
