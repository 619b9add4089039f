/* utl.h - the commands of pintleutl, which work on files of members that do not run.
 *
 * What        One run of one command: its flags and words. Each command prints what etcdutl would
 *             print, and returns the exit code.
 * Callers     main.c, the commands.   Thread  one.
 * Source      cli.md 14.
 */
#ifndef TOOLS_PINTLEUTL_UTL_H
#define TOOLS_PINTLEUTL_UTL_H

#include <stdio.h>

#include "base/log.h"
#include "tools/cli/flags.h"

#define ETCD_VERSION "3.7.1" /* whose tool this stands for */
#define ETCD_API_VERSION "3.7"

#define EXIT_ERROR 1
#define EXIT_LOCKED 2
#define EXIT_BAD_FEATURE 4
#define EXIT_BAD_ARGS 128

enum utl_format { FORMAT_SIMPLE, FORMAT_FIELDS, FORMAT_JSON, FORMAT_TABLE };

struct utl {
    const char *program; /* its name in usage and errors */
    struct flag_set flags;
    struct logger *log; /* to standard error */
};

struct utl_command {
    const char *path; /* "snapshot status" */
    const char *use;  /* the usage line behind the path */
    const char *text; /* one line of help */
    const struct flag *flags;
    int (*run)(struct utl *u); /* NULL: a group */
    const char *required;      /* a flag that has to be given, or NULL */
    const char *required_too;
    bool one_word; /* exactly one word, else usage */
};

extern const struct utl_command utl_commands[]; /* ended by one without a path */
extern const struct flag utl_global_flags[];
const char *utl_command_name(const struct utl_command *c); /* the last word of its path */
bool utl_is_child(const struct utl_command *parent,
                  const struct utl_command *c); /* parent NULL: of the program itself */
/* The child that `word`, or a beginning of it, names. NULL: none, or several. */
const struct utl_command *utl_child(const struct utl_command *parent, const char *word);
/* Its flags with the inherited ones. */
void utl_flags_of(const struct utl_command *c, struct arena *arena, struct flag_set *out);

/* usage_page.c */
void utl_usage(const char *program, const struct utl_command *c, bool with_help, FILE *out);

/* "Error: ..." on standard error; returns `code`. */
int utl_fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* What Go says of a file that cannot be looked at: "stat x: no such file or directory". OK: it
 * is there. */
MUST_CHECK enum err utl_stat(const char *path, struct err_ctx *why);
/* -w, for commands that look at it. 0, or the exit code. */
int utl_format(struct utl *u, enum utl_format *out);

/* One thing's fields, in each of the formats. */
struct utl_field {
    const char *title;  /* "Revision", for fields */
    const char *column; /* "revision", for the table's head */
    const char *json;   /* "revision" */
    char shown[64];     /* in columns */
    char plain[64];     /* in fields and json */
    bool quoted;        /* json: a string */
};
void utl_print(enum utl_format format, const struct utl_field *fields, size_t n);

int status_run(struct utl *u);
int restore_run(struct utl *u);
int hashkv_run(struct utl *u);
int defrag_run(struct utl *u);
int migrate_run(struct utl *u);
int version_run(struct utl *u);
int completion_run(struct utl *u);
/* What the scripts ask. */
int complete_run(struct utl *u, struct arena *arena, const char *const *words, size_t n);
extern const struct flag restore_flags[], hashkv_flags[], defrag_flags[], migrate_flags[];

#endif
