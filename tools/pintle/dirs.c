/* dirs.c - see dirs.h. */
#include "tools/pintle/dirs.h"

#include <stdlib.h>

#include "base/mem.h"

enum err dirs_make(struct vfs *v, const char *path, bool *made, struct err_ctx *ec)
{
    char *part = xstrdup(path);
    enum err e = OK;
    bool last_made = false;
    for (size_t i = 1; e == OK && part[0] != '\0'; i++) {
        if (part[i] != '/' && part[i] != '\0') {
            continue;
        }
        char end = part[i];
        part[i] = '\0';
        e = v->ops->mkdir(v, part, ec);
        last_made = e == OK;
        e = e == ERR_EXISTS ? OK : e;
        part[i] = end;
        if (end == '\0') {
            break;
        }
    }
    free(part);
    if (made != NULL) {
        *made = last_made;
    }
    return e;
}
