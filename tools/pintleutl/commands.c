/* commands.c - the table of commands. */
#include <string.h>

#include "tools/pintleutl/utl.h"

const struct flag utl_global_flags[] = {
    {"timeout", '\0', FLAG_DURATION, "10s",
     "time to wait to obtain a file lock on db file, 0 to block indefinitely"},
    {"write-out", 'w', FLAG_STRING, "simple",
     "set the output format (fields, json, protobuf, simple, table)"},
    {.name = NULL},
};

/* help is answered in main.c. */
const struct utl_command utl_commands[] = {
    {.path = "completion",
     .use = "[bash|zsh|fish|powershell]",
     .text = "Generate completion script",
     .run = completion_run},
    {.path = "defrag",
     .use = "[flags]",
     .text = "Defragments the storage of the etcd",
     .flags = defrag_flags,
     .run = defrag_run,
     .required = "data-dir"},
    {.path = "hashkv",
     .use = "<filename> [flags]",
     .text = "Prints the KV history hash of a given file",
     .flags = hashkv_flags,
     .run = hashkv_run,
     .one_word = true},
    {.path = "help", .use = "[command] [flags]", .text = "Help about any command"},
    {.path = "migrate",
     .use = "[flags]",
     .text = "Migrates schema of etcd data dir files to make them compatible with different etcd "
             "version",
     .flags = migrate_flags,
     .run = migrate_run,
     .required = "data-dir",
     .required_too = "target-version"},
    {.path = "snapshot", .text = "Manages etcd node snapshots"},
    {.path = "snapshot restore",
     .use = "<filename> --data-dir {output dir} [options] [flags]",
     .text = "Restores an etcd member snapshot to an etcd directory",
     .flags = restore_flags,
     .run = restore_run},
    {.path = "snapshot status",
     .use = "<filename> [flags]",
     .text = "Gets backend snapshot status of a given file",
     .run = status_run},
    {.path = "version",
     .use = "[flags]",
     .text = "Prints the version of etcdutl",
     .run = version_run},
    {.path = NULL},
};

const char *utl_command_name(const struct utl_command *c)
{
    const char *blank = strrchr(c->path, ' ');
    return blank == NULL ? c->path : blank + 1;
}

bool utl_is_child(const struct utl_command *parent, const struct utl_command *c)
{
    const char *name = utl_command_name(c);
    if (parent == NULL) {
        return name == c->path;
    }
    size_t n = strlen(parent->path);
    return name == c->path + n + 1 && strncmp(c->path, parent->path, n) == 0;
}

const struct utl_command *utl_child(const struct utl_command *parent, const char *word)
{
    const struct utl_command *found = NULL;
    size_t n_found = 0;
    for (const struct utl_command *c = utl_commands; c->path != NULL; c++) {
        if (!utl_is_child(parent, c) || strncmp(utl_command_name(c), word, strlen(word)) != 0) {
            continue;
        }
        if (strcmp(utl_command_name(c), word) == 0) {
            return c;
        }
        found = c;
        n_found++;
    }
    return n_found == 1 && word[0] != '\0' ? found : NULL;
}

void utl_flags_of(const struct utl_command *c, struct arena *arena, struct flag_set *out)
{
    flags_init(out, arena);
    flags_add(out, utl_global_flags);
    out->n_inherited = out->n;
    flags_add(out, c == NULL ? NULL : c->flags);
}
