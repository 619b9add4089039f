/* child.c - posix_spawn and waitpid with Go's words for what goes wrong. */
#include "tools/pintlectl/child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n + 1) == 0;
}

/* The environment with the variables in it; where a name is twice one of them goes. */
static char **environment_with(const char *const *variables, size_t n_variables, bool ours_win)
{
    size_t n = 0;
    while (environ[n] != NULL) {
        n++;
    }
    char **all = xcalloc(n + n_variables + 1, sizeof(*all));
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        bool drop = false;
        for (size_t k = 0; ours_win && k < n_variables; k++) {
            drop = drop || same_name(variables[k], environ[i]);
        }
        if (!drop) {
            all[at++] = environ[i];
        }
    }
    for (size_t k = 0; k < n_variables; k++) {
        bool drop = false;
        for (size_t i = 0; !ours_win && i < n; i++) {
            drop = drop || same_name(variables[k], environ[i]);
        }
        if (!drop) {
            all[at++] = (char *)(uintptr_t)variables[k];
        }
    }
    return all;
}

static void start_failed(const char *program, int errnum, struct bytes *why)
{
    if (strchr(program, '/') == NULL) {
        bytes_printf(why, "exec: \"%s\": executable file not found in $PATH", program);
        return;
    }
    const char *text = strerror(errnum);
    bytes_printf(why, "fork/exec %s: %c%s", program,
                 *text >= 'A' && *text <= 'Z' ? *text - 'A' + 'a' : *text, text + 1);
}

bool child_start(const char *const *words, size_t n, const char *const *variables,
                 size_t n_variables, bool ours_win, pid_t *out, struct bytes *why)
{
    char **argv = xcalloc(n + 1, sizeof(*argv));
    for (size_t i = 0; i < n; i++) {
        argv[i] = (char *)(uintptr_t)words[i];
    }
    char **all = environment_with(variables, n_variables, ours_win);
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    (void)sigemptyset(&none);
    (void)posix_spawn_file_actions_init(&files);
    (void)posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawnattr_init(&attributes);
    (void)posix_spawnattr_setsigmask(&attributes, &none);
    (void)posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    (void)fflush(stdout);
    int failed = posix_spawnp(out, words[0], &files, &attributes, argv, all);
    (void)posix_spawn_file_actions_destroy(&files);
    (void)posix_spawnattr_destroy(&attributes);
    free((void *)all);
    free((void *)argv);
    if (failed != 0) {
        start_failed(words[0], failed, why);
    }
    return failed == 0;
}

int child_status(int status, struct bytes *why)
{
    if (WIFSIGNALED(status)) {
        const char *name = strsignal(WTERMSIG(status));
        bytes_printf(why, "signal: %c%s", *name >= 'A' && *name <= 'Z' ? *name - 'A' + 'a' : *name,
                     name + 1);
        return -1;
    }
    if (WEXITSTATUS(status) != 0) {
        bytes_printf(why, "exit status %d", WEXITSTATUS(status));
    }
    return WEXITSTATUS(status);
}

int child_wait(pid_t pid, struct bytes *why)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return child_status(status, why);
}
