/* ctl.h - what every command of pintlectl works with.
 *
 * What        One run of one command: its flags and words, the format of its output, its
 *             connection. Failures end the program with etcdctl's text and exit code.
 * Callers     main.c and the commands.
 * Thread      one.
 * Source      cli.md 2 to 4.
 */
#ifndef TOOLS_PINTLECTL_CTL_H
#define TOOLS_PINTLECTL_CTL_H

#include "base/assert.h"
#include "base/slice.h"
#include "tools/cli/flags.h"
#include "tools/pintlectl/conn.h"

/* Exit codes. */
#define EXIT_ERROR 1
#define EXIT_BAD_CONNECTION 2
#define EXIT_BAD_INPUT 3
#define EXIT_BAD_FEATURE 4
#define EXIT_INTERRUPTED 5
#define EXIT_BAD_ARGS 128

enum format { FORMAT_SIMPLE, FORMAT_FIELDS, FORMAT_JSON, FORMAT_PROTOBUF, FORMAT_TABLE };

struct command;

struct ctl {
    const char *program; /* its name in usage and errors */
    const struct command *command;
    struct arena *arena; /* owned: lives as long as the run */
    struct flag_set flags;
    const char **args;
    size_t n_args;
    enum format format;
    bool hex;
    bool value_only;             /* simple: no keys */
    struct conn_options options; /* from ctl_configure on */
    struct conn *conn;           /* owned; from ctl_connect on */
};

/* Print "Error: ..." and end. */
_Noreturn void ctl_fail(int code, const char *fmt, ...) PRINTF_LIKE(2, 3);
_Noreturn void ctl_fail_with(int code, const struct failure *f);

/* Environment, endpoints, TLS, user and format from the flags. Ends the program when they are
 * wrong. */
void ctl_configure(struct ctl *ctl);
/* The same, and the connection. */
void ctl_connect(struct ctl *ctl);
/* Options for one of the endpoints alone. */
struct conn_options ctl_options_for(const struct ctl *ctl, const char *const *endpoint);
/* Time and size limits alone, for a connection to somebody else. */
struct conn_options ctl_base_options(const struct ctl *ctl);
struct conn *ctl_open(const struct conn_options *o);
/* User and password from their flags, asking for a password that is missing. */
void ctl_split_user(struct ctl *ctl, const char *user, const char *password, const char *prompt,
                    struct conn_options *o);
/* The files are usable; what makes endpoints without a scheme use TLS. */
void ctl_check_tls(struct ctl *ctl, struct client_options *o, bool insecure_transport);
/* When a command that begins now has to be over. */
deadline_ns ctl_deadline(const struct ctl *ctl);

/* A unary call that ends the program when it fails. */
void *ctl_call(struct ctl *ctl, const char *path, const ProtobufCMessage *request, bool repeatable,
               const ProtobufCMessageDescriptor *answer, deadline_ns deadline, int code);

/* What protobuf-c's structs want of borrowed bytes and texts. */
static inline ProtobufCBinaryData binary(struct slice s)
{
    return (ProtobufCBinaryData){s.len, (uint8_t *)(uintptr_t)s.data};
}
static inline struct slice slice_of_binary(ProtobufCBinaryData b)
{
    return slice_of(b.data, b.len);
}
static inline char *text_field(const char *s)
{
    return (char *)(uintptr_t)s;
}

/* Hex numbers of leases and members; ends with `what`'s error. */
int64_t ctl_lease_id(const char *text);
uint64_t ctl_member_id(const char *text);

/* All of standard input; at most CTL_STDIN_MAX bytes. */
#define CTL_STDIN_MAX (512u * 1024u * 1024u)
void ctl_read_stdin(struct bytes *out);
/* Ask for a password on the terminal, or take a line of what stands in its place. The arena's. */
const char *ctl_ask_password(struct ctl *ctl, const char *prompt);

/* The first word of the next line of standard input; empty when there is none. The arena's. */
const char *ctl_read_word(struct ctl *ctl);

/* Text of an errno as Go has it. */
const char *ctl_errno(struct arena *a, int errnum);

/* The keys of a range: `end` is empty for one key. */
struct key_range {
    struct slice key, end;
};
/* The end of all keys that begin with `prefix`, in the arena. */
struct slice ctl_prefix_end(struct arena *a, struct slice prefix);
/* A whole key space for an empty prefix. */
struct key_range ctl_prefix_range(struct arena *a, struct slice prefix);
struct key_range ctl_from_range(struct slice key);

#endif
