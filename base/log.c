/* log.c - lines as etcd's zap encoder makes them.
 *
 * json     {"level":"info","ts":"...","caller":"dir/file.c:12","msg":"...","key":value,...}
 * console  ts TAB level TAB caller TAB msg TAB {"key": value, ...}; no braces without fields
 *
 * Sampling counts per second in a fixed table: one slot for a level and a hash of the message. Two
 * messages that meet in a slot share a count, which only makes the logging of floods coarser.
 */
#include "base/log.h"

#include <errno.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/log_output.h"
#include "base/number.h"
#include "base/slice.h"
#include "base/utf8.h"

#define NS_PER_S UINT64_C(1000000000)
#define SAMPLE_FIRST 100u /* lines of one message within a second, before sampling begins */
#define SAMPLE_EACH 100u  /* then one in so many */
#define SAMPLE_SLOTS 1024u
#define STRING_BYTES_MAX 16384u /* of one text in a line; longer ones are cut */
#define LIST_ITEMS_MAX 1024u    /* of one list in a line; later items are left out */
#define N_LEVELS 7u

static const char *const level_names[N_LEVELS] = {"debug",  "info",  "warn", "error",
                                                  "dpanic", "panic", "fatal"};

struct logger {
    struct log_output outputs[LOG_OUTPUTS_MAX];
    size_t n_outputs;
    enum log_format format;
    const struct clock *clock;
    _Atomic int min;
    /* The monotonic second in the high half, the lines counted in it in the low half: one word, so
     * that no line is lost or counted twice when threads meet at the turn of a second. */
    _Atomic uint64_t slots[N_LEVELS][SAMPLE_SLOTS];
};

struct logger *log_create(int fd, enum log_level min, enum log_format format,
                          const struct clock *clock)
{
    struct logger *l = xcalloc(1, sizeof(*l));
    l->outputs[0] = (struct log_output){.kind = LOG_OUT_FD, .fd = fd};
    l->n_outputs = 1;
    l->format = format;
    l->clock = clock;
    atomic_init(&l->min, (int)min);
    return l;
}

enum err log_open(const char *const *outputs, const struct log_rotation *rotation, enum log_level min, enum log_format format,
                  const struct clock *clock, struct logger **out, struct err_ctx *ec)
{
    struct logger *l = log_create(-1, min, format, clock);
    l->n_outputs = 0;
    bool discard = false;
    enum err e = OK;
    for (size_t i = 0; outputs[i] != NULL && e == OK; i++) {
        discard = discard || strcmp(outputs[i], "/dev/null") == 0;
        if (l->n_outputs == LOG_OUTPUTS_MAX) {
            e = err_set(ec, ERR_LIMIT, "more than %u log outputs", LOG_OUTPUTS_MAX);
        } else {
            e = log_output_open(&l->outputs[l->n_outputs], outputs[i], rotation, ec);
            l->n_outputs += e == OK ? 1u : 0u;
        }
    }
    if (e != OK) {
        log_destroy(&l);
        return e;
    }
    l->n_outputs = discard ? 0 : l->n_outputs;
    *out = l;
    return OK;
}

void log_destroy(struct logger **l)
{
    for (size_t i = 0; *l != NULL && i < LOG_OUTPUTS_MAX; i++) {
        log_output_close(&(*l)->outputs[i]);
    }
    free(*l);
    *l = NULL;
}

void log_set_level(struct logger *l, enum log_level min)
{
    if (l != NULL) {
        atomic_store_explicit(&l->min, (int)min, memory_order_relaxed);
    }
}

bool log_enabled(const struct logger *l, enum log_level level)
{
    return l != NULL && (int)level >= atomic_load_explicit(&l->min, memory_order_relaxed);
}

enum err log_level_parse(const char *name, enum log_level *out)
{
    for (unsigned i = 0; i < N_LEVELS; i++) {
        if (strcasecmp(name, level_names[i]) == 0) {
            *out = (enum log_level)i;
            return OK;
        }
    }
    return ERR_INVALID;
}

/* Whether this line of its second is to be written. */
static bool sample(struct logger *l, enum log_level level, const char *msg)
{
    uint64_t hash = hash64(msg, strlen(msg));
    _Atomic uint64_t *slot = &l->slots[(unsigned)level][hash % SAMPLE_SLOTS];
    uint64_t second = clock_now_ns(l->clock) / NS_PER_S << 32;
    uint64_t seen = atomic_load_explicit(slot, memory_order_relaxed);
    uint64_t counted;
    do {
        uint64_t n_before = (seen & ~(uint64_t)UINT32_MAX) == second ? seen & UINT32_MAX : 0;
        counted = second | (n_before + (n_before < UINT32_MAX ? 1u : 0u));
    } while (!atomic_compare_exchange_weak_explicit(slot, &seen, counted, memory_order_relaxed,
                                                    memory_order_relaxed));
    uint64_t n = counted & UINT32_MAX;
    return n <= SAMPLE_FIRST || (n - SAMPLE_FIRST) % SAMPLE_EACH == 0;
}

static void add_char(struct bytes *b, char c)
{
    bytes_add(b, &c, 1);
}

static void add_ascii_escaped(struct bytes *b, char c)
{
    switch (c) {
    case '"':
    case '\\':
        add_char(b, '\\');
        add_char(b, c);
        break;
    case '\n':
        bytes_add_str(b, "\\n");
        break;
    case '\r':
        bytes_add_str(b, "\\r");
        break;
    case '\t':
        bytes_add_str(b, "\\t");
        break;
    default:
        if ((unsigned char)c < 0x20u) {
            bytes_printf(b, "\\u%04x", (unsigned)(unsigned char)c);
        } else {
            add_char(b, c);
        }
    }
}

static void add_escaped(struct bytes *b, const char *text)
{
    const uint8_t *s = (const uint8_t *)text;
    size_t len = strnlen(text, STRING_BYTES_MAX);
    for (size_t i = 0; i < len;) {
        if (s[i] < 0x80u) {
            add_ascii_escaped(b, (char)s[i]);
            i++;
            continue;
        }
        uint32_t code;
        size_t n = utf8_first(slice_of(s + i, len - i), &code);
        if (n == 0) {
            bytes_add_str(b, "\\ufffd");
            i++;
        } else {
            bytes_add(b, s + i, n);
            i += n;
        }
    }
}

static void add_string(struct bytes *b, const char *text)
{
    add_char(b, '"');
    add_escaped(b, text == NULL ? "" : text);
    add_char(b, '"');
}

static void add_strings(struct bytes *b, const char *const *list, const char *comma)
{
    add_char(b, '[');
    for (size_t i = 0; list != NULL && list[i] != NULL && i < LIST_ITEMS_MAX; i++) {
        if (i > 0) {
            bytes_add_str(b, comma);
        }
        add_string(b, list[i]);
    }
    add_char(b, ']');
}

static void add_double(struct bytes *b, double d)
{
    char text[NUMBER_F_BYTES];
    number_format_f(d, text);
    bytes_printf(b, isfinite(d) ? "%s" : "\"%s\"", text);
}

static void add_duration(struct bytes *b, uint64_t ns)
{
    char text[32];
    go_duration_format((int64_t)ns, text, sizeof(text));
    bytes_printf(b, "\"%s\"", text);
}

static void add_value(struct bytes *b, const struct log_field *f, const char *comma)
{
    switch (f->kind) {
    case LOG_K_STR:
        add_string(b, f->v.s);
        break;
    case LOG_K_INT:
        bytes_printf(b, "%lld", (long long)f->v.i);
        break;
    case LOG_K_UINT:
        bytes_printf(b, "%llu", (unsigned long long)f->v.u);
        break;
    case LOG_K_BOOL:
        bytes_add_str(b, f->v.b ? "true" : "false");
        break;
    case LOG_K_DOUBLE:
        add_double(b, f->v.d);
        break;
    case LOG_K_HEX:
        bytes_printf(b, "\"%llx\"", (unsigned long long)f->v.u);
        break;
    case LOG_K_NS:
        add_duration(b, f->v.u);
        break;
    case LOG_K_STRS:
        add_strings(b, f->v.ss, comma);
        break;
    }
}

static void add_time(struct bytes *b, uint64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / NS_PER_S);
    struct tm tm;
    ASSERT(localtime_r(&seconds, &tm) != NULL);
    bytes_printf(b, "%04d-%02d-%02dT%02d:%02d:%02d.%06u", tm.tm_year + 1900, tm.tm_mon + 1,
                 tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                 (unsigned)(wall_ns % NS_PER_S / 1000));
    long minutes = tm.tm_gmtoff / 60;
    if (minutes == 0) {
        add_char(b, 'Z');
        return;
    }
    long size = labs(minutes);
    bytes_printf(b, "%c%02ld%02ld", minutes < 0 ? '-' : '+', size / 60, size % 60);
}

/* The last two parts of a path, as etcd shows a caller. */
static const char *last_two(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        return path;
    }
    const char *before = memrchr(path, '/', (size_t)(slash - path));
    return before == NULL ? path : before + 1;
}

static void encode_json(struct bytes *b, const char *level, uint64_t wall_ns, const char *file,
                        int line, const char *msg, const struct log_field *fields, size_t n_fields)
{
    bytes_printf(b, "{\"level\":\"%s\",\"ts\":\"", level);
    add_time(b, wall_ns);
    bytes_add_str(b, "\",\"caller\":\"");
    add_escaped(b, last_two(file));
    bytes_printf(b, ":%d\",\"msg\":", line);
    add_string(b, msg);
    for (size_t i = 0; i < n_fields; i++) {
        add_char(b, ',');
        add_string(b, fields[i].key);
        add_char(b, ':');
        add_value(b, &fields[i], ",");
    }
    bytes_add_str(b, "}\n");
}

static void encode_console(struct bytes *b, const char *level, uint64_t wall_ns, const char *file,
                           int line, const char *msg, const struct log_field *fields,
                           size_t n_fields)
{
    add_time(b, wall_ns);
    bytes_printf(b, "\t%s\t%s:%d\t", level, last_two(file), line);
    bytes_add(b, msg, strnlen(msg, STRING_BYTES_MAX));
    for (size_t i = 0; i < n_fields; i++) {
        bytes_add_str(b, i == 0 ? "\t{" : ", ");
        add_string(b, fields[i].key);
        bytes_add_str(b, ": ");
        add_value(b, &fields[i], ", ");
    }
    bytes_add_str(b, n_fields == 0 ? "\n" : "}\n");
}

bool log_take(struct logger *l, enum log_level level, const char *msg)
{
    return log_enabled(l, level) && sample(l, level, msg);
}

void log_write(struct logger *l, enum log_level level, const char *file, int line, const char *msg, const struct log_field *fields, size_t n_fields)
{
    int errnum = errno; /* a log line between a call and its error must not change the error */
    struct bytes b = {0};
    const char *name = level_names[(unsigned)level];
    uint64_t wall_ns = clock_wall_ns(l->clock);
    switch (l->format) {
    case LOG_JSON:
        encode_json(&b, name, wall_ns, file, line, msg, fields, n_fields);
        break;
    case LOG_CONSOLE:
        encode_console(&b, name, wall_ns, file, line, msg, fields, n_fields);
        break;
    }
    for (size_t i = 0; i < l->n_outputs; i++) {
        log_output_write(&l->outputs[i], level, l->clock, &b);
    }
    bytes_deinit(&b);
    errno = errnum;
}

void log_emit(struct logger *l, enum log_level level, const char *file, int line, const char *msg,
              const struct log_field *fields, size_t n_fields)
{
    if (log_take(l, level, msg)) {
        log_write(l, level, file, line, msg, fields, n_fields);
    }
}
