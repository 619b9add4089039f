/* environment.c - a variable that is set and a flag that is given contradict each other; unknown
 * variables only deserve a warning. */
#include "tools/pintlectl/environment.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"

#define PREFIX "ETCDCTL_"
#define NAME_BYTES 64u
#define NS_PER_S UINT64_C(1000000000)
#define STAMP_BYTES 40u

static void variable_name(const char *flag_name, char out[NAME_BYTES])
{
    int n = snprintf(out, NAME_BYTES, PREFIX "%s", flag_name);
    ASSERT(n > 0 && (size_t)n < NAME_BYTES);
    for (char *p = out; *p != '\0'; p++) {
        *p = *p == '-' ? '_' : (char)toupper(*p);
    }
}

static void stamp(char out[STAMP_BYTES])
{
    uint64_t now = clock_wall_ns(clock_real());
    time_t s = (time_t)(now / NS_PER_S);
    struct tm t;
    (void)gmtime_r(&s, &t);
    size_t n = strftime(out, STAMP_BYTES, "%Y-%m-%dT%H:%M:%S", &t);
    (void)snprintf(out + n, STAMP_BYTES - n, ".%06uZ", (unsigned)(now % NS_PER_S / 1000));
}

static void log_variable(const char *level, const char *caller, const char *message,
                         const char *variable)
{
    char when[STAMP_BYTES];
    stamp(when);
    struct bytes text = {0};
    text_json(&text, slice_str(variable));
    (void)fprintf(stderr,
                  "{\"level\":\"%s\",\"ts\":\"%s\",\"caller\":\"%s\",\"msg\":\"%s\",\"environment-"
                  "variable\":%.*s}\n",
                  level, when, caller, message, (int)text.len, (const char *)text.data);
    bytes_deinit(&text);
}

/* Variables that are none of ours but are no mistake either. */
static bool tolerated(const struct ctl *ctl, const char *variable)
{
    bool watch = strcmp(ctl->command->path, "watch") == 0;
    return strcmp(variable, "ETCDCTL_API=3") == 0 ||
           (watch && (strncmp(variable, "ETCDCTL_WATCH_KEY=", 18) == 0 ||
                      strncmp(variable, "ETCDCTL_WATCH_RANGE_END=", 24) == 0));
}

/* The inherited flag that a "NAME=value" stands for. */
static bool flag_of(const struct ctl *ctl, const char *variable, size_t *i)
{
    for (size_t k = 0; k < ctl->flags.n_inherited; k++) {
        char name[NAME_BYTES];
        variable_name(ctl->flags.flags[k]->name, name);
        size_t n = strlen(name);
        if (strncmp(variable, name, n) == 0 && variable[n] == '=') {
            *i = k;
            return true;
        }
    }
    return false;
}

static void verify(const struct ctl *ctl, const char *variable)
{
    size_t i = 0;
    bool known = flag_of(ctl, variable, &i);
    if (known && ctl->flags.values[i].given) {
        char name[NAME_BYTES];
        variable_name(ctl->flags.flags[i]->name, name);
        log_variable("fatal", "flags/flag.go:86",
                     "conflicting environment variable is shadowed by corresponding command-line "
                     "flag (either unset environment variable "
                     "or disable flag))",
                     name);
        exit(EXIT_ERROR);
    }
    bool used = known && strchr(variable, '=')[1] != '\0';
    if (!used && !tolerated(ctl, variable)) {
        log_variable("warn", "flags/flag.go:94", "unrecognized environment variable", variable);
    }
}

static void print_value(const struct flag *f, const struct flag_value *v)
{
    char duration[64];
    switch (f->kind) {
    case FLAG_BOOL:
        (void)fprintf(stderr, "%s\n", v->yes ? "true" : "false");
        break;
    case FLAG_INT:
    case FLAG_INT64:
    case FLAG_UINT:
        (void)fprintf(stderr, "%lld\n", (long long)v->number);
        break;
    case FLAG_STRING:
        (void)fprintf(stderr, "%s\n", v->text);
        break;
    case FLAG_STRINGS:
        (void)fputs("[", stderr);
        for (size_t i = 0; i < v->n_list; i++) {
            (void)fprintf(stderr, "%s%s", i == 0 ? "" : ",", v->list[i]);
        }
        (void)fputs("]\n", stderr);
        break;
    case FLAG_DURATION:
        go_duration_format(v->number, duration, sizeof(duration));
        (void)fprintf(stderr, "%s\n", duration);
        break;
    }
}

void environment_apply(struct ctl *ctl)
{
    for (size_t i = 0; i < ctl->flags.n_inherited; i++) {
        char name[NAME_BYTES];
        variable_name(ctl->flags.flags[i]->name, name);
        const char *value = getenv(name);
        if (!ctl->flags.values[i].given && value != NULL && *value != '\0') {
            enum err e = flags_set(&ctl->flags, i, value, NULL);
            (void)e; /* an unusable value leaves the default, as with etcdctl */
        }
    }
    for (char **p = environ; *p != NULL; p++) {
        if (strncmp(*p, PREFIX, strlen(PREFIX)) == 0) {
            verify(ctl, *p);
        }
    }
    for (size_t i = 0; flag_yes(&ctl->flags, "debug") && i < ctl->flags.n_inherited; i++) {
        char name[NAME_BYTES];
        variable_name(ctl->flags.flags[i]->name, name);
        (void)fprintf(stderr, "%s=", name);
        print_value(ctl->flags.flags[i], &ctl->flags.values[i]);
    }
}
