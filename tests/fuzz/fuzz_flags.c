/* fuzz_flags.c - command lines, the ETCD_ environment, URL lists and --initial-cluster.
 *
 * The input is lines: words of the command line up to an empty line, then variables.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tools/pintle/cluster.h"
#include "tools/pintle/flag_table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LINES_MAX 200

static void heard(void *arg, const char *entry, bool known)
{
    (void)known;
    ASSERT(strncmp(entry, "ETCD_", 5) == 0);
    (*(size_t *)arg)++;
}

static void found(struct flag_set *s)
{
    struct founders f;
    struct err_ctx ec = {{0}};
    enum err e = founders_parse(flag_get(s, "initial-cluster")->text,
                                flag_get(s, "initial-cluster-token")->text, &f, &ec);
    if (e == OK) {
        ASSERT(f.n > 0);
        ASSERT(f.n <= FOUNDERS_MAX);
        char *text = founders_text(&f);
        ASSERT(text[0] != '\0');
        free(text);
        (void)founders_share_url(&f);
    } else {
        ASSERT(ec.text[0] != '\0');
    }
    founders_deinit(&f);
}

static void parse(int n_words, char **words, char **variables)
{
    struct flag_set s;
    struct err_ctx ec = {{0}};
    const char *rest = NULL;
    flag_set_init(&s, flag_table);
    enum flag_outcome outcome = flag_set_parse(&s, n_words, words, &rest, &ec);
    ASSERT((outcome == FLAGS_ERROR) == (ec.text[0] != '\0'));
    if (outcome == FLAGS_OK) {
        size_t n_heard = 0;
        enum err e = flag_set_environment(&s, variables, heard, &n_heard, &ec);
        ASSERT((e == OK) == (ec.text[0] == '\0'));
        if (e == OK) {
            found(&s);
        }
    }
    flag_set_deinit(&s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *lines[LINES_MAX + 2] = {0};
    char *text = xalloc(size + 1);
    if (size > 0) {
        memcpy(text, data, size);
    }
    text[size] = '\0';
    static char program[] = "pintle";
    lines[0] = program;
    int n = 1;
    int n_words = 0; /* 0: the empty line has not come yet */
    for (char *p = text; p != NULL && n < LINES_MAX;) {
        char *end = strchr(p, '\n');
        if (end != NULL) {
            *end = '\0';
        }
        if (*p == '\0' && n_words == 0) {
            n_words = n;
            n++; /* a NULL between words and variables */
        } else if (*p != '\0') {
            lines[n++] = p;
        }
        p = end == NULL ? NULL : end + 1;
    }
    if (n_words == 0) {
        parse(n, lines, lines + n);
    } else {
        parse(n_words, lines, lines + n_words + 1);
    }
    free(text);
    return 0;
}
