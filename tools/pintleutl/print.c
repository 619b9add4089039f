/* print.c - errors and results as etcdutl words them. */
#include <stdarg.h>
#include <string.h>

#include "base/assert.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/vfs.h"
#include "tools/cli/table.h"
#include "tools/pintleutl/utl.h"

#define FIELDS_MAX 8u

int utl_fail(int code, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    (void)fputs("Error: ", stderr);
    (void)vfprintf(stderr, fmt, args);
    (void)fputs("\n", stderr);
    va_end(args);
    return code;
}

enum err utl_stat(const char *path, struct err_ctx *why)
{
    struct vfs_stat st;
    struct err_ctx said = {{0}};
    enum err e = vfs_real()->ops->stat(vfs_real(), path, &st, &said);
    if (e == ERR_NOT_FOUND) {
        return err_set(why, e, "stat %s: no such file or directory", path);
    }
    return e == OK ? OK : err_set(why, e, "%s", said.text);
}

int utl_format(struct utl *u, enum utl_format *out)
{
    static const char *const names[] = {[FORMAT_SIMPLE] = "simple",
                                        [FORMAT_FIELDS] = "fields",
                                        [FORMAT_JSON] = "json",
                                        [FORMAT_TABLE] = "table"};
    const char *wanted = flag_text(&u->flags, "write-out");
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (strcmp(wanted, names[i]) == 0) {
            *out = (enum utl_format)i;
            return 0;
        }
    }
    return utl_fail(EXIT_BAD_FEATURE, strcmp(wanted, "protobuf") == 0
                                          ? "protobuf not supported as output format"
                                          : "unsupported output format");
}

static void print_json(const struct utl_field *fields, size_t n)
{
    struct bytes out = {0};
    for (size_t i = 0; i < n; i++) {
        bytes_printf(&out, "%s\"%s\":", i == 0 ? "{" : ",", fields[i].json);
        if (fields[i].quoted) {
            json_add_string(&out, fields[i].plain);
        } else {
            bytes_add_str(&out, fields[i].plain);
        }
    }
    bytes_add_str(&out, "}\n");
    (void)fwrite(out.data, 1, out.len, stdout);
    bytes_deinit(&out);
}

static void print_table(const struct utl_field *fields, size_t n)
{
    const char *head[FIELDS_MAX];
    const char *cells[FIELDS_MAX];
    ASSERT(n <= FIELDS_MAX);
    for (size_t i = 0; i < n; i++) {
        head[i] = fields[i].column;
        cells[i] = fields[i].shown;
    }
    table_print(head, n, cells, 1, stdout);
}

void utl_print(enum utl_format format, const struct utl_field *fields, size_t n)
{
    switch (format) {
    case FORMAT_SIMPLE:
        for (size_t i = 0; i < n; i++) {
            (void)printf("%s%s", i == 0 ? "" : ", ", fields[i].shown);
        }
        (void)puts("");
        break;
    case FORMAT_FIELDS:
        for (size_t i = 0; i < n; i++) {
            (void)printf("\"%s\" : %s\n", fields[i].title, fields[i].plain);
        }
        break;
    case FORMAT_JSON:
        print_json(fields, n);
        break;
    case FORMAT_TABLE:
        print_table(fields, n);
        break;
    }
}
