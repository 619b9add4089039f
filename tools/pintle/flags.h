/* flags.h - command lines by Go's rules, and their ETCD_ environment.
 *
 * What        A table of flags with types and defaults; parsing of argv and environment into values, with the texts of Go's flag package.
 * Callers     tools/pintle/config.c.   Thread  main.
 * Source      etcd-server.md 1.1, 1.2.
 */
#ifndef TOOLS_PINTLE_FLAGS_H
#define TOOLS_PINTLE_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum flag_type {
    FLAG_STRING,
    FLAG_BOOL,
    FLAG_UINT,     /* 64 bits */
    FLAG_UINT32,
    FLAG_INT,      /* 64 bits, signed */
    FLAG_DURATION, /* nanoseconds */
    FLAG_URLS,     /* a list of URLs, sorted, each once */
    FLAG_ORIGINS,  /* the same, or "*" alone */
    FLAG_NAMES,    /* a list of any words, sorted, each once */
    FLAG_ENUM,     /* one of `choices` */
    FLAG_ENUMS,    /* a list of them */
    FLAG_GATES,    /* feature gates; several such flags add up */
    FLAG_IGNORED   /* accepted like a boolean, means nothing */
};

enum flag_support {
    FLAG_WORKS,
    FLAG_ACCEPTED, /* parsed and checked; has no effect in this version, which the log says when it is set */
    FLAG_REFUSED   /* parsed; ignoring it would be unsafe or misleading, so that the server does not start with it set */
};

struct flag {
    const char *name;
    enum flag_type type;
    const char *fallback; /* the default, as text */
    enum flag_support support;
    const char *choices; /* ENUM, ENUMS: comma list */
    const char *help;
};

struct flag_value {
    const char *text; /* as given, or the default; owned by the set when given */
    bool given;       /* on the command line */
    bool from_env;
    bool b;
    uint64_t u; /* UINT, UINT32; GATES: those that are on */
    int64_t i;  /* INT, DURATION; GATES: those that were named */
    char **urls; /* URLS, ORIGINS, NAMES: NULL-terminated, owned */
};

struct flag_set {
    const struct flag *flags; /* ends with name NULL */
    struct flag_value *values; /* owned, one per flag */
    size_t n;
    char **texts; /* owned; of flag_set_assign */
    size_t n_texts;
};

/* By name, in the order of the alphabet. */
enum flag_gate_id {
    GATE_COMPACT_HASH_CHECK,
    GATE_FAST_LEASE_KEEP_ALIVE,
    GATE_INITIAL_CORRUPT_CHECK,
    GATE_LEASE_CHECKPOINT,
    GATE_LEASE_CHECKPOINT_PERSIST,
    GATE_PRIORITY_REQUEST,
    GATE_SET_MEMBER_LOCAL_ADDR,
    GATE_STOP_GRPC_ON_DEFRAG,
    GATE_TXN_SHARED_BUFFER,
    FLAG_N_GATES
};
struct flag_gate {
    const char *name;
    bool alpha; /* else beta */
    bool fallback;
    bool works; /* has its effect here; else the log says so when it is set to something else than its default */
};
extern const struct flag_gate flag_gates[FLAG_N_GATES];

void flag_set_init(struct flag_set *s, const struct flag *flags);
void flag_set_deinit(struct flag_set *s);
struct flag_value *flag_get(struct flag_set *s, const char *name); /* the flag exists */

bool flag_is_set(struct flag_set *s, const char *name);            /* on the command line or in the environment */
bool flag_gate(struct flag_set *s, enum flag_gate_id id);          /* that gate is on */
bool flag_gate_stage(struct flag_set *s, bool alpha);              /* AllAlpha or AllBeta was said, and true */

/* Set a flag as if the command line said so; the text is copied. ERR_INVALID with Go's reason. */
MUST_CHECK enum err flag_set_assign(struct flag_set *s, const char *name, const char *text, struct err_ctx *ec);

/* The same for an element of a closed list, without looking whether it is one. */
void flag_set_unchecked(struct flag_set *s, const char *name, const char *text);

/* Hand what was set under names of etcd 3.4 to 3.6 on to today's. `each` hears of every one, with what to use instead
 * (NULL: nothing). ERR_INVALID with etcd's text when both names were used. */
MUST_CHECK enum err flag_set_modernize(struct flag_set *s, void (*each)(void *arg, const char *old, const char *instead), void *arg, struct err_ctx *ec);

/* Go's literals. */
bool flag_bool_parse(const char *text, bool *out);
/* Add "Name=bool,..." to a value of type GATES; all or nothing. */
MUST_CHECK enum err flag_gates_parse(struct flag_value *v, const char *text, struct err_ctx *ec);
void flag_gates_reset(struct flag_value *v);

enum flag_outcome { FLAGS_OK, FLAGS_HELP, FLAGS_ERROR };
/* Parse argv[1..]. *rest is the first word that is no flag, or NULL. On FLAGS_ERROR `ec` holds Go's line. */
enum flag_outcome flag_set_parse(struct flag_set *s, int argc, char **argv, const char **rest, struct err_ctx *ec);

/* Take ETCD_* variables. `each` is called for every one: `known` says whether there is such a flag; a variable that a flag of
 * the command line shadows gives ERR_EXISTS with the variable's name in `ec`; a bad value ERR_INVALID with etcd's line. */
MUST_CHECK enum err flag_set_environment(struct flag_set *s, char **environ_list, void (*each)(void *arg, const char *entry, bool known), void *arg,
                                         struct err_ctx *ec);

#endif
