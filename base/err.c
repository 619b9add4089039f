/* err.c - the texts, and the story that grows at its front as an error travels up. */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *const texts[ERR_N] = {
#define ERR_TEXT(name, text) [name] = text,
    ERR_LIST(ERR_TEXT)
#undef ERR_TEXT
};

const char *err_text(enum err e)
{
    unsigned i = (unsigned)e;
    return i < (unsigned)ERR_N ? texts[i] : "unknown error";
}

enum err err_set(struct err_ctx *ec, enum err e, const char *fmt, ...)
{
    if (ec == NULL) {
        return e;
    }
    /* An argument may point into the old story, so the new one is made beside it. */
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    memcpy(ec->text, text, sizeof(text));
    return e;
}

/* Fill `out` with `clause`, ": " and `rest`, cut at the end of the room. */
static void join(char out[ERR_TEXT_MAX], size_t clause_len, const char *rest)
{
    size_t at = clause_len < ERR_TEXT_MAX - 1u ? clause_len : ERR_TEXT_MAX - 1u;
    const char *const parts[] = {": ", rest};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        size_t len = strlen(parts[i]);
        size_t room = ERR_TEXT_MAX - 1u - at;
        size_t n = len < room ? len : room;
        memcpy(out + at, parts[i], n);
        at += n;
    }
    out[at] = '\0';
}

enum err err_wrap(struct err_ctx *ec, enum err e, const char *fmt, ...)
{
    if (ec == NULL || e == OK) {
        return e;
    }
    char text[ERR_TEXT_MAX];
    va_list args;
    va_start(args, fmt);
    int len = vsnprintf(text, sizeof(text), fmt, args);
    va_end(args);
    join(text, len < 0 ? 0 : (size_t)len, ec->text[0] == '\0' ? err_text(e) : ec->text);
    memcpy(ec->text, text, sizeof(text));
    return e;
}

enum err err_from_errno(int errnum)
{
    switch (errnum) {
    case ENOSPC:
    case EDQUOT:
        return ERR_NO_DISK;
    case ENOENT:
        return ERR_NOT_FOUND;
    case EEXIST:
        return ERR_EXISTS;
    case EACCES:
    case EPERM:
    case EROFS:
        return ERR_PERM;
    case ENOMEM:
        return ERR_NO_MEM;
    case EADDRINUSE:
        return ERR_ADDR_IN_USE;
    default: /* an errno is no enum of ours: everything else is one kind of failure */
        return ERR_IO;
    }
}
