/* log.h - JSON lines in etcd's shape.
 *
 * What        One line an event: level, ts, caller, msg, then fields in call order, as etcd's zap
 *             encoder writes them (etcd-server.md 8.1); `console` format as well. Sampling as
 *             etcd: per second and (level, message) the first 100, then each 100th.
 * Callers     shells; cores and libraries do not log, they return.
 * Thread      any; a line is written with one write(2).
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_DPANIC, LOG_PANIC, LOG_FATAL };
enum log_format { LOG_JSON, LOG_CONSOLE };

enum log_kind { LOG_K_STR, LOG_K_INT, LOG_K_UINT, LOG_K_BOOL, LOG_K_DOUBLE, LOG_K_HEX, LOG_K_NS, LOG_K_STRS };

struct log_field {
    const char *key;
    enum log_kind kind;
    union {
        const char *s;         /* STR; NULL prints "" */
        int64_t i;             /* INT */
        uint64_t u;            /* UINT; HEX: a string of lower-case hex; NS: a Go duration string */
        bool b;
        double d;
        const char *const *ss; /* STRS: a NULL-terminated list, printed as an array */
    } v;
};

#define F_STR(k, x) {.key = (k), .kind = LOG_K_STR, .v.s = (x)}
#define F_INT(k, x) {.key = (k), .kind = LOG_K_INT, .v.i = (int64_t)(x)}
#define F_UINT(k, x) {.key = (k), .kind = LOG_K_UINT, .v.u = (uint64_t)(x)}
#define F_BOOL(k, x) {.key = (k), .kind = LOG_K_BOOL, .v.b = (x)}
#define F_DOUBLE(k, x) {.key = (k), .kind = LOG_K_DOUBLE, .v.d = (x)}
#define F_HEX(k, x) {.key = (k), .kind = LOG_K_HEX, .v.u = (uint64_t)(x)}
#define F_NS(k, x) {.key = (k), .kind = LOG_K_NS, .v.u = (uint64_t)(x)}
#define F_STRS(k, x) {.key = (k), .kind = LOG_K_STRS, .v.ss = (x)}

struct logger;

/* Writes to `fd` (borrowed): a pipe, a terminal, or a file opened with O_APPEND, else lines of several
 * threads may overwrite each other. */
struct logger *log_create(int fd, enum log_level min, enum log_format format, const struct clock *clock);
/* The same to several places: `outputs` are items of etcd's --log-outputs, NULL-terminated, at most LOG_OUTPUTS_MAX (else ERR_LIMIT). With /dev/null among
 * them nothing is written. `rotation` (NULL: none) is for files. On OK the caller owns *out. ERR_NOT_FOUND, ERR_IO with etcd's text. */
#define LOG_OUTPUTS_MAX 16u
struct log_rotation {
    uint64_t file_bytes_max;
    uint32_t age_max_days, backups_max; /* 0: kept */
    bool local_time;                    /* in the names of old files; else UTC */
    bool compress;                      /* old files become .gz */
};
MUST_CHECK enum err log_open(const char *const *outputs, const struct log_rotation *rotation, enum log_level min, enum log_format format,
                             const struct clock *clock, struct logger **out, struct err_ctx *ec);
void log_destroy(struct logger **l);
void log_set_level(struct logger *l, enum log_level min); /* at run time, any thread */
bool log_enabled(const struct logger *l, enum log_level level);

/* For lines that are dear to make: log_take counts a line of this message and says whether it is to be written; if so log_write writes it, without
 * counting again. log_emit is both. `l` may be NULL. */
bool log_take(struct logger *l, enum log_level level, const char *msg);
void log_write(struct logger *l, enum log_level level, const char *file, int line, const char *msg, const struct log_field *fields, size_t n_fields);

/* `l` may be NULL: nothing is written. LOG_FATAL does not end the process: the caller does. */
void log_emit(struct logger *l, enum log_level level, const char *file, int line, const char *msg,
              const struct log_field *fields, size_t n_fields);

#define LOG_AT(l, level, msg, ...)                                                                 \
    log_emit((l), (level), __FILE__, __LINE__, (msg), (const struct log_field[]){__VA_ARGS__},    \
             sizeof((const struct log_field[]){__VA_ARGS__}) / sizeof(struct log_field))
/* At least one field is needed; log_msg is for lines without any. */
#define log_debug(l, msg, ...) LOG_AT(l, LOG_DEBUG, msg, __VA_ARGS__)
#define log_info(l, msg, ...) LOG_AT(l, LOG_INFO, msg, __VA_ARGS__)
#define log_warn(l, msg, ...) LOG_AT(l, LOG_WARN, msg, __VA_ARGS__)
#define log_error(l, msg, ...) LOG_AT(l, LOG_ERROR, msg, __VA_ARGS__)
#define log_fatal(l, msg, ...) LOG_AT(l, LOG_FATAL, msg, __VA_ARGS__)
#define log_msg(l, level, msg) log_emit((l), (level), __FILE__, __LINE__, (msg), NULL, 0)

/* Parse a level's name (debug ... fatal, either case). */
MUST_CHECK enum err log_level_parse(const char *name, enum log_level *out);

/* Go's time.Duration.String() of `ns` into `out` (at least 32 bytes): 1.860214ms, 2h0m0s, 0s. */
void go_duration_format(int64_t ns, char *out, size_t out_bytes);
/* Go's time.ParseDuration: 300ms, 1.5s, 2h45m, -1h, 0. ERR_INVALID. */
MUST_CHECK enum err go_duration_parse(const char *text, int64_t *ns);

#endif
