/* completion.c - the command "completion", and what its scripts ask. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "tools/cli/completion.h"
#include "tools/pintleutl/utl.h"

int completion_run(struct utl *u)
{
    char *path = xasprintf("%s completion", u->program);
    char *why = completion_complaint(path, u->flags.args, u->flags.n_args);
    free(path);
    if (why == NULL) {
        return completion_script(u->flags.args[0], u->program, stdout) ? 0 : EXIT_ERROR;
    }
    (void)fprintf(stderr, "Error: %s\n", why);
    utl_usage(u->program, utl_child(NULL, "completion"), true, stderr);
    (void)fprintf(stderr, "\nError: %s\n", why);
    free(why);
    return EXIT_ERROR;
}

int complete_run(struct utl *u, struct arena *arena, const char *const *words, size_t n)
{
    static const struct completion_values values[] = {{"write-out", completion_formats}, {0}};
    const struct utl_command *at = NULL;
    struct completion c = {.partial = n == 0 ? "" : words[n - 1], .out = stdout};
    n = n == 0 ? 0 : n - 1;
    for (size_t i = 0; i < n; i++) {
        const struct utl_command *child = utl_child(at, words[i]);
        at = child == NULL ? at : child;
    }
    utl_flags_of(at, arena, &u->flags);
    if (!completion_offer_values(&c, values, &u->flags, words, n) &&
        !completion_offer_flags(&c, &u->flags)) {
        for (const struct utl_command *p = utl_commands; p->path != NULL; p++) {
            if (utl_is_child(at, p)) {
                completion_offer(&c, utl_command_name(p), p->text);
            }
        }
        if (at != NULL && at->run == completion_run) {
            completion_offer_list(&c, completion_shells);
        }
    }
    completion_end(&c);
    return 0;
}
