/* completion.c - the command "completion", and what its scripts ask. */
#include <stdlib.h>

#include "base/mem.h"
#include "tools/cli/completion.h"
#include "tools/pintlectl/commands.h"

int completion_run(struct ctl *ctl)
{
    char *path = xasprintf("%s completion", ctl->program);
    char *why = completion_complaint(path, ctl->args, ctl->n_args);
    free(path);
    if (why == NULL) {
        return completion_script(ctl->args[0], ctl->program, stdout) ? 0 : EXIT_ERROR;
    }
    (void)fprintf(stderr, "Error: %s\n", why);
    free(why);
    help_usage(ctl->program, ctl->command, stderr);
    (void)fputs("\n", stderr);
    return EXIT_ERROR;
}

int completion_answer(const struct ctl *ctl, const struct command *at, const char *const *words,
                      size_t n, const char *partial)
{
    static const char *const consistencies[] = {"l", "s", NULL};
    static const char *const orders[] = {"ASCEND", "DESCEND", NULL};
    static const char *const targets[] = {"CREATE", "KEY", "MODIFY", "VALUE", "VERSION", NULL};
    static const char *const loads[] = {"small", "medium", "large", "xLarge", NULL};
    static const struct completion_values values[] = {{"write-out", completion_formats},
                                                      {"consistency", consistencies},
                                                      {"order", orders},
                                                      {"sort-by", targets},
                                                      {"load", loads},
                                                      {0}};
    struct completion c = {.partial = partial, .out = stdout};
    if (!completion_offer_values(&c, values, &ctl->flags, words, n) &&
        !completion_offer_flags(&c, &ctl->flags)) {
        for (const struct command *p = commands; p->path != NULL; p++) {
            if (command_is_child(at, p)) {
                completion_offer(&c, command_name(p), p->text);
            }
        }
        if (at != NULL && at->run == completion_run) {
            completion_offer_list(&c, completion_shells);
        }
    }
    completion_end(&c);
    return 0;
}
