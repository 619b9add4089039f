/* completion.c - scripts for shells, which ask the program itself what may come next.
 *
 * The scripts call `PROGRAM __complete WORDS... PARTIAL`; it prints a candidate a line, with its
 * text behind a tab, and `:4` or `:0` at the end: whether
 * names of files are no answer, or one.
 */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tools/pintleutl/utl.h"

static const char *const shells[] = {"bash", "zsh", "fish", "powershell"};

/* % stands for the program's name. */
static const char *const scripts[] = {
    "_%_complete() {\n"
    "    local line words=(\"${COMP_WORDS[@]:1:COMP_CWORD}\")\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case \"$line\" in\n"
    "            :0) [ ${#COMPREPLY[@]} -eq 0 ] && compopt -o default ;;\n"
    "            :*) ;;\n"
    "            *) COMPREPLY+=(\"${line%%$'\\t'*}\") ;;\n"
    "        esac\n"
    "    done < <(\"${COMP_WORDS[0]}\" __complete \"${words[@]}\" 2>/dev/null)\n"
    "}\n"
    "complete -F _%_complete %\n",
    "#compdef %\n"
    "_%() {\n"
    "    local -a found\n"
    "    local line files=0\n"
    "    while IFS= read -r line; do\n"
    "        case \"$line\" in\n"
    "            :0) files=1 ;;\n"
    "            :*) ;;\n"
    "            *) found+=(\"${line/$'\\t'/:}\") ;;\n"
    "        esac\n"
    "    done < <(\"${words[1]}\" __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)\n"
    "    if (( ${#found} )); then _describe % found; elif (( files )); then _files; fi\n"
    "}\n"
    "compdef _% %\n",
    "function __%_complete\n"
    "    set -l words (commandline -opc) (commandline -ct)\n"
    "    command $words[1] __complete $words[2..-1] 2>/dev/null | string match -v -r '^:'\n"
    "end\n"
    "complete -c % -a '(__%_complete)'\n",
    "Register-ArgumentCompleter -Native -CommandName '%' -ScriptBlock {\n"
    "    param($word, $ast, $at)\n"
    "    $words = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { $_.ToString() "
    "})\n"
    "    if ($word -eq '') { $words += '\"\"' }\n"
    "    & % __complete @words 2>$null | Where-Object { $_ -notmatch '^:' } | ForEach-Object {\n"
    "        $name, $text = $_ -split \"`t\", 2\n"
    "        [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', "
    "$(if ($text) { $text } else { $name }))\n"
    "    }\n"
    "}\n",
};
static_assert(sizeof(shells) == sizeof(scripts), "a script for each shell");

int completion_run(struct utl *u)
{
    const char *wrong = u->flags.n_args == 1 ? u->flags.args[0] : NULL;
    for (size_t i = 0; wrong != NULL && i < ARRAY_LEN(shells); i++) {
        if (strcmp(wrong, shells[i]) != 0) {
            continue;
        }
        for (const char *p = scripts[i]; *p != '\0'; p++) {
            if (p[0] == '%' && p[1] == '%') {
                (void)fputs("%%", stdout);
                p++;
            } else if (*p == '%') {
                (void)fputs(u->program, stdout);
            } else {
                (void)fputc(*p, stdout);
            }
        }
        return 0;
    }
    char *why = wrong == NULL
                    ? xasprintf("accepts 1 arg(s), received %zu", u->flags.n_args)
                    : xasprintf("invalid argument \"%s\" for \"%s completion\"", wrong, u->program);
    const struct utl_command *c = utl_child(NULL, "completion");
    (void)fprintf(stderr, "Error: %s\n", why);
    utl_usage(u->program, c, true, stderr);
    (void)fprintf(stderr, "\nError: %s\n", why);
    free(why);
    return EXIT_ERROR;
}

static bool begins(const char *s, const char *with)
{
    return strncmp(s, with, strlen(with)) == 0;
}

static void offer_flags(const struct flag *flags, const char *partial)
{
    for (const struct flag *f = flags; f != NULL && f->name != NULL; f++) {
        if (begins(f->name, partial)) {
            (void)printf("--%s\t%s\n", f->name, f->text);
        }
    }
}

int complete_run(struct utl *u, const char *const *words, size_t n)
{
    static const char *const formats[] = {"fields", "json", "protobuf", "simple", "table"};
    (void)u;
    const char *partial = n == 0 ? "" : words[n - 1];
    const char *before = n < 2 ? "" : words[n - 2];
    const struct utl_command *at = NULL;
    for (size_t i = 0; i + 1 < n; i++) {
        const struct utl_command *child = utl_child(at, words[i]);
        at = child == NULL ? at : child;
    }
    if (strcmp(before, "-w") == 0 || strcmp(before, "--write-out") == 0) {
        for (size_t i = 0; i < ARRAY_LEN(formats); i++) {
            if (begins(formats[i], partial)) {
                (void)puts(formats[i]);
            }
        }
        (void)puts(":4");
        return 0;
    }
    if (partial[0] == '-') {
        offer_flags(at == NULL ? NULL : at->flags, partial + strspn(partial, "-"));
        offer_flags(utl_global_flags, partial + strspn(partial, "-"));
        (void)puts(":4");
        return 0;
    }
    bool any = false;
    for (const struct utl_command *c = utl_commands; c->path != NULL; c++) {
        if (utl_is_child(at, c) && begins(utl_command_name(c), partial)) {
            (void)printf("%s\t%s\n", utl_command_name(c), c->text);
            any = true;
        }
    }
    bool shell = at != NULL && strcmp(at->path, "completion") == 0;
    for (size_t i = 0; shell && i < ARRAY_LEN(shells); i++) {
        if (begins(shells[i], partial)) {
            (void)puts(shells[i]);
        }
    }
    (void)puts(any || shell ? ":4" : ":0");
    return 0;
}
