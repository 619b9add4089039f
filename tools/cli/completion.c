/* completion.c - four small scripts, and the lines that they read. */
#include "tools/cli/completion.h"

#include <assert.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

const char *const completion_formats[] = {"fields", "json", "protobuf", "simple", "table", NULL};
const char *const completion_shells[] = {"bash", "zsh", "fish", "powershell", NULL};

/* % stands for the program's name, %% for itself. */
static const char *const scripts[] = {
    "_%_complete() {\n"
    "    local line words=(\"${COMP_WORDS[@]:1:COMP_CWORD}\")\n"
    "    COMPREPLY=()\n"
    "    while IFS= read -r line; do\n"
    "        case \"$line\" in\n"
    "            :0) [ ${#COMPREPLY[@]} -eq 0 ] && compopt -o default ;;\n"
    "            :*) ;;\n"
    "            *) COMPREPLY+=(\"${line%%%%$'\\t'*}\") ;;\n"
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
    "    set -l lines (command $words[1] __complete $words[2..-1] 2>/dev/null)\n"
    "    string match -v -r '^:' -- $lines\n"
    "    test \"$lines\" = :0; and __fish_complete_path (commandline -ct)\n"
    "end\n"
    "complete -c % -f -a '(__%_complete)'\n",
    "Register-ArgumentCompleter -Native -CommandName '%' -ScriptBlock {\n"
    "    param($word, $ast, $at)\n"
    "    $words = @($ast.CommandElements | Select-Object -Skip 1 | ForEach-Object { "
    "$_.ToString() })\n"
    "    if ($word -eq '') { $words += '\"\"' }\n"
    "    & % __complete @words 2>$null | Where-Object { $_ -notmatch '^:' } | ForEach-Object {\n"
    "        $name, $text = $_ -split \"`t\", 2\n"
    "        if (-not $text) { $text = $name }\n"
    "        [System.Management.Automation.CompletionResult]::new($name, $name, 'ParameterValue', "
    "$text)\n"
    "    }\n"
    "}\n",
};
static_assert(sizeof(completion_shells) / sizeof(*completion_shells) ==
                  sizeof(scripts) / sizeof(*scripts) + 1,
              "a script for each shell");

bool completion_script(const char *shell, const char *program, FILE *out)
{
    const char *script = NULL;
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        if (strcmp(shell, completion_shells[i]) == 0) {
            script = scripts[i];
        }
    }
    for (const char *p = script; p != NULL && *p != '\0'; p++) {
        if (p[0] == '%' && p[1] != '%') {
            (void)fputs(program, out);
        } else {
            p += *p == '%' ? 1 : 0;
            (void)fputc(*p, out);
        }
    }
    return script != NULL;
}

char *completion_complaint(const char *path, const char *const *words, size_t n)
{
    if (n != 1) {
        return xasprintf("accepts 1 arg(s), received %zu", n);
    }
    for (size_t i = 0; completion_shells[i] != NULL; i++) {
        if (strcmp(words[0], completion_shells[i]) == 0) {
            return NULL;
        }
    }
    return xasprintf("invalid argument \"%s\" for \"%s\"", words[0], path);
}

/* ---- candidates ---- */

/* The part of the word that is looked for: what stands behind "--flag=" in a value. */
static const char *looked_for(const struct completion *c)
{
    const char *equals = strncmp(c->partial, "--", 2) == 0 ? strchr(c->partial, '=') : NULL;
    return equals != NULL ? equals + 1 : c->partial;
}

void completion_offer(struct completion *c, const char *name, const char *text)
{
    const char *begun = looked_for(c);
    if (strncmp(name, begun, strlen(begun)) != 0) {
        return;
    }
    /* The shell replaces the whole word, with the flag in front of its value. */
    (void)fprintf(c->out, "%.*s%s%s%s\n", (int)(begun - c->partial), c->partial, name,
                  text == NULL ? "" : "\t", text == NULL ? "" : text);
    c->any = true;
}

void completion_offer_list(struct completion *c, const char *const *names)
{
    for (size_t i = 0; names[i] != NULL; i++) {
        completion_offer(c, names[i], NULL);
    }
}

bool completion_offer_flags(struct completion *c, const struct flag_set *set)
{
    if (c->partial[0] != '-') {
        return false;
    }
    const char *begun = c->partial + strspn(c->partial, "-");
    for (size_t i = 0; i < set->n; i++) {
        if (strncmp(set->flags[i]->name, begun, strlen(begun)) == 0) {
            (void)fprintf(c->out, "--%s\t%s\n", set->flags[i]->name, set->flags[i]->text);
        }
    }
    if (strncmp("help", begun, strlen(begun)) == 0) {
        (void)fputs("--help\thow to use it\n", c->out);
    }
    c->any = true; /* names of files are no answer */
    return true;
}

/* The flag that a word as "--name", "-n", "--name=partial" names. */
static const struct flag *flag_named(const struct flag_set *set, const char *word)
{
    size_t n = strcspn(word, "=");
    for (size_t i = 0; i < set->n; i++) {
        const struct flag *f = set->flags[i];
        bool same = n > 2 && strncmp(word, "--", 2) == 0 && strlen(f->name) == n - 2 &&
                    strncmp(f->name, word + 2, n - 2) == 0;
        if (same || (n == 2 && word[0] == '-' && f->letter == word[1])) {
            return f;
        }
    }
    return NULL;
}

bool completion_offer_values(struct completion *c, const struct completion_values *known,
                             const struct flag_set *set, const char *const *words, size_t n)
{
    /* bash takes "--flag=value" for three words. */
    bool equals = strcmp(c->partial, "=") == 0;
    if (!equals && n > 0 && strcmp(words[n - 1], "=") == 0) {
        n--;
    }
    const char *word = looked_for(c) != c->partial ? c->partial : n > 0 ? words[n - 1] : "";
    const struct flag *f = flag_named(set, word);
    for (; f != NULL && known->flag != NULL; known++) {
        if (strcmp(known->flag, f->name) == 0) {
            struct completion values = {.partial = equals ? "" : c->partial, .out = c->out};
            completion_offer_list(&values, known->values);
            c->any = true;
            return true;
        }
    }
    return false;
}

void completion_end(const struct completion *c)
{
    (void)fputs(c->any ? ":4\n" : ":0\n", c->out);
}
