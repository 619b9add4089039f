/* terminal.c - what is read from the user: standard input whole, passwords without echo. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "tools/pintlectl/ctl.h"

#define READ_AT_ONCE (64u * 1024u)
#define PASSWORD_BYTES_MAX 1024u

void ctl_read_stdin(struct bytes *out)
{
    for (;;) {
        uint8_t *p = bytes_reserve(out, READ_AT_ONCE);
        ssize_t n = read(STDIN_FILENO, p, READ_AT_ONCE);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return;
        }
        out->len += (size_t)n;
        if (out->len > CTL_STDIN_MAX) {
            ctl_fail(EXIT_BAD_ARGS, "more than %u bytes of standard input", CTL_STDIN_MAX);
        }
    }
}

/* Byte by byte, so that what follows the line is left to the next reader. */
static size_t read_line(char line[PASSWORD_BYTES_MAX])
{
    size_t n = 0;
    char c = 0;
    while (n + 1 < PASSWORD_BYTES_MAX && read(STDIN_FILENO, &c, 1) == 1 && c != '\n') {
        line[n++] = c;
    }
    line[n] = '\0';
    return n;
}

const char *ctl_ask_password(struct ctl *ctl, const char *prompt)
{
    struct termios old;
    bool terminal = tcgetattr(STDIN_FILENO, &old) == 0;
    (void)fputs(prompt, stdout);
    (void)fflush(stdout);
    if (terminal) {
        struct termios quiet = old;
        quiet.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &quiet);
    }
    char line[PASSWORD_BYTES_MAX];
    size_t n = read_line(line);
    if (terminal) {
        (void)tcsetattr(STDIN_FILENO, TCSANOW, &old);
    }
    (void)fputs("\n", stdout);
    size_t start = strspn(line, " \t\r\n");
    while (n > start && strchr(" \t\r\n", line[n - 1]) != NULL) {
        n--;
    }
    return cli_dup(ctl->arena, line + start, n - start);
}

const char *ctl_read_word(struct ctl *ctl)
{
    char line[PASSWORD_BYTES_MAX];
    (void)read_line(line);
    size_t start = strspn(line, " \t\r");
    return cli_dup(ctl->arena, line + start, strcspn(line + start, " \t\r"));
}
