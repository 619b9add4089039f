/* script.c - read, run and compare scripts. */
#include "tests/raft/core/script.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"

const struct script_arg *script_find(const struct script_case *c, const char *key)
{
    for (size_t i = 0; i < c->n_args; i++) {
        if (strcmp(c->args[i].key, key) == 0) {
            return &c->args[i];
        }
    }
    return NULL;
}

uint64_t script_number(const char *text)
{
    char *end = NULL;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    ASSERT(errno == 0 && end != text && *end == '\0');
    return v;
}

bool script_bool(const char *text)
{
    ASSERT(strcmp(text, "true") == 0 || strcmp(text, "false") == 0);
    return strcmp(text, "true") == 0;
}

/* ---- the command line ---- */

static const char *skip_space(const char *p)
{
    while (*p == ' ' || *p == '\t') {
        p++;
    }
    return p;
}

static const char *take_word(const char *p, const char *stop, char out[SCRIPT_WORD_MAX])
{
    size_t n = 0;
    while (*p != '\0' && strchr(stop, *p) == NULL) {
        ASSERT(n + 1 < SCRIPT_WORD_MAX);
        out[n++] = *p++;
    }
    out[n] = '\0';
    return p;
}

static const char *take_values(const char *p, struct script_arg *a)
{
    bool list = *p == '(';
    p += list;
    for (;;) {
        ASSERT(a->n_values < SCRIPT_VALUES_MAX);
        p = take_word(skip_space(p), list ? ", )" : " \t", a->values[a->n_values]);
        a->n_values++;
        p = skip_space(p);
        if (!list) {
            return p;
        }
        if (*p == ')') {
            return p + 1;
        }
        ASSERT(*p == ',');
        p++;
    }
}

static void parse_command(const char *line, struct script_case *c)
{
    const char *p = take_word(skip_space(line), " \t", c->command);
    for (p = skip_space(p); *p != '\0'; p = skip_space(p)) {
        ASSERT(c->n_args < SCRIPT_ARGS_MAX);
        struct script_arg *a = &c->args[c->n_args++];
        *a = (struct script_arg){0};
        p = take_word(p, " \t=", a->key);
        if (*p == '=') {
            p = take_values(p + 1, a);
        }
    }
}

/* ---- the file ---- */

struct reader {
    FILE *f;
    size_t line;
    char text[4096];
};

static bool next_line(struct reader *r)
{
    if (fgets(r->text, sizeof(r->text), r->f) == NULL) {
        return false;
    }
    size_t len = strlen(r->text);
    ASSERT(len > 0 && (r->text[len - 1] == '\n' || feof(r->f)));
    if (r->text[len - 1] == '\n') {
        r->text[len - 1] = '\0';
    }
    r->line++;
    return true;
}

static void add_line(struct bytes *b, const char *line)
{
    ASSERT(b->len < SCRIPT_CASE_MAX);
    bytes_add_str(b, line);
    bytes_add_str(b, "\n");
}

static void terminate(struct bytes *b)
{
    *bytes_reserve(b, 1) = '\0';
}

static bool next_case(struct reader *r, struct script_case *c)
{
    c->n_args = 0;
    bytes_reset(&c->input);
    bytes_reset(&c->expected);
    do {
        if (!next_line(r)) {
            return false;
        }
    } while (r->text[0] == '#' || *skip_space(r->text) == '\0');
    c->line = r->line;
    parse_command(r->text, c);
    bool more = next_line(r);
    while (more && strcmp(r->text, "----") != 0) {
        add_line(&c->input, r->text);
        more = next_line(r);
    }
    ASSERT(more);
    while (next_line(r) && r->text[0] != '\0') {
        add_line(&c->expected, r->text);
    }
    terminate(&c->input);
    terminate(&c->expected);
    return true;
}

static void report(const char *path, const struct script_case *c, const struct bytes *got)
{
    (void)fprintf(stderr, "%s:%zu: %s differs\n--- expected\n%s--- got\n%s---\n", path, c->line,
                  c->command, (const char *)c->expected.data, (const char *)got->data);
}

bool script_run(const char *path, script_handler *handler, void *arg)
{
    struct reader *r = xcalloc(1, sizeof(*r));
    struct script_case *c = xcalloc(1, sizeof(*c));
    struct bytes got = {0};
    bool equal = true;
    r->f = fopen(path, "r");
    ASSERT(r->f != NULL);
    while (equal && next_case(r, c)) {
        bytes_reset(&got);
        handler(arg, c, &got);
        if (got.len == 0 || got.data[got.len - 1] != '\n') {
            bytes_add_str(&got, "\n");
        }
        terminate(&got);
        equal = strcmp((const char *)got.data, (const char *)c->expected.data) == 0;
        if (!equal) {
            report(path, c, &got);
        }
    }
    (void)fclose(r->f);
    bytes_deinit(&got);
    bytes_deinit(&c->input);
    bytes_deinit(&c->expected);
    free(c);
    free(r);
    return equal;
}

/* ---- folders ---- */

static int is_script(const struct dirent *d)
{
    size_t len = strlen(d->d_name);
    return len > 4 && strcmp(d->d_name + len - 4, ".txt") == 0;
}

static const char *reason_to_skip(const struct script_suite *suite, const char *name)
{
    for (size_t i = 0; suite->skip != NULL && suite->skip[i][0] != NULL; i++) {
        if (strcmp(suite->skip[i][0], name) == 0) {
            return suite->skip[i][1];
        }
    }
    return NULL;
}

size_t script_run_dir(const char *dir, const struct script_suite *suite, size_t *n_files)
{
    struct dirent **names = NULL;
    int n = scandir(dir, &names, is_script, alphasort);
    size_t differ = 0;
    ASSERT(n >= 0);
    for (int i = 0; i < n; i++) {
        const char *why = reason_to_skip(suite, names[i]->d_name);
        if (why != NULL) {
            (void)fprintf(stderr, "left out: %s: %s\n", names[i]->d_name, why);
        } else {
            char *path = xasprintf("%s/%s", dir, names[i]->d_name);
            void *arg = suite->begin();
            differ += !script_run(path, suite->handler, arg);
            suite->end(arg);
            free(path);
        }
        free(names[i]);
    }
    free(names);
    *n_files = (size_t)n;
    return differ;
}

bool script_vectors(const char *sub, char *out, size_t out_bytes)
{
    const char *dir = getenv("PINTLE_RAFT_TESTDATA");
    const char *source = getenv("PINTLE_SOURCE_DIR");
    int n = dir != NULL ? snprintf(out, out_bytes, "%s/%s", dir, sub)
                        : snprintf(out, out_bytes, "%s/../shared/raft-testdata/%s",
                                   source == NULL ? "." : source, sub);
    ASSERT(n > 0 && (size_t)n < out_bytes);
    DIR *d = opendir(out);
    if (d == NULL) {
        (void)fprintf(stderr, "skipped: no raft test vectors in %s (set PINTLE_RAFT_TESTDATA)\n",
                      out);
        return false;
    }
    (void)closedir(d);
    return true;
}
