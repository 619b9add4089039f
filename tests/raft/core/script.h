/* script.h - text scripts with expected output: the form of etcd-io/raft's test vectors.
 *
 * What        A file is a list of cases: a command line, further input lines, "----", the expected
 *             output up to an empty line. "#" begins a comment line. Arguments of a command are
 *             words, key=value, or key=(value, value).
 * Callers     the vector tests of raft/core.
 * Thread      values.
 */
#ifndef TESTS_RAFT_CORE_SCRIPT_H
#define TESTS_RAFT_CORE_SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

#define SCRIPT_ARGS_MAX 16u
#define SCRIPT_VALUES_MAX 16u
#define SCRIPT_WORD_MAX 48u
#define SCRIPT_CASE_MAX 65536u /* bytes of input or of expected output */

struct script_arg {
    char key[SCRIPT_WORD_MAX];
    size_t n_values; /* 0: a bare word */
    char values[SCRIPT_VALUES_MAX][SCRIPT_WORD_MAX];
};

struct script_case {
    size_t line; /* of the command, from 1 */
    char command[SCRIPT_WORD_MAX];
    size_t n_args;
    struct script_arg args[SCRIPT_ARGS_MAX];
    struct bytes input;    /* with a final newline if there is any; NUL behind the end */
    struct bytes expected; /* the same */
};

/* Appends what the command prints to `out`. */
typedef void script_handler(void *arg, const struct script_case *c, struct bytes *out);

const struct script_arg *script_find(const struct script_case *c, const char *key); /* or NULL */
uint64_t script_number(const char *text); /* fails the test when it is none */
bool script_bool(const char *text);

/* Run every case of the file; prints the first difference. True when all are equal. */
bool script_run(const char *path, script_handler *handler, void *arg);

/* Run every *.txt in `dir` by name, with `begin` and `end` around each file. Returns the number of
 * files that differ; *n_files counts all. Files named in `skip` (NULL-terminated pairs of name and
 * reason) are printed with their reason instead. */
struct script_suite {
    void *(*begin)(void);
    void (*end)(void *arg);
    script_handler *handler;
    const char *const (*skip)[2];
};
size_t script_run_dir(const char *dir, const struct script_suite *suite, size_t *n_files);

/* The folder of the vectors plus `sub` in `out`; false when it is not there, which is printed. */
bool script_vectors(const char *sub, char *out, size_t out_bytes);

#endif
