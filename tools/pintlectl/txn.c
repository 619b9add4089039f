/* txn.c - a transaction from standard input: three lists, each ended by an empty line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/kv.h"
#include "tools/pintlectl/print.h"
#include "tools/pintlectl/txn_text.h"

#define TXN_LINES_MAX 65536u /* of one list; more than any server takes */
#define TXN_WORDS_MAX 1024u  /* of one line */

const struct flag txn_flags[] = {{"interactive", 'i', FLAG_BOOL, NULL, "say which list is read"},
                                 {0}};

struct list {
    void **items;
    size_t n;
};

/* The next line without the blanks around it; ends the program at the end of input. */
static char *next_line(struct ctl *ctl)
{
    char *line = NULL;
    size_t cap = 0;
    ssize_t n = getline(&line, &cap, stdin);
    if (n <= 0 || line[n - 1] != '\n') {
        ctl_fail(EXIT_BAD_INPUT, "EOF");
    }
    const char *start = line + strspn(line, " \t\r\n\v\f");
    size_t len = (size_t)(line + n - start);
    while (len > 0 && strchr(" \t\r\n\v\f", start[len - 1]) != NULL) {
        len--;
    }
    char *copy = cli_dup(ctl->arena, start, len);
    free(line);
    return copy;
}

static void add(struct ctl *ctl, struct list *l, void *item)
{
    if (l->items == NULL) {
        l->items = cli_alloc(ctl->arena, TXN_LINES_MAX * sizeof(*l->items));
    }
    if (l->n == TXN_LINES_MAX) {
        ctl_fail(EXIT_BAD_INPUT, "more than %u lines", TXN_LINES_MAX);
    }
    l->items[l->n++] = item;
}

static void read_compares(struct ctl *ctl, struct list *out)
{
    for (char *line = next_line(ctl); *line != '\0'; line = next_line(ctl)) {
        Etcdserverpb__Compare *c = cli_alloc(ctl->arena, sizeof(*c));
        struct bytes why = {0};
        if (txn_compare(ctl->arena, line, c, &why) != OK) {
            ctl_fail(EXIT_BAD_INPUT, "%.*s", (int)why.len, (const char *)why.data);
        }
        add(ctl, out, c);
    }
}

struct words {
    struct arena *arena;
    const char *words[TXN_WORDS_MAX];
    size_t n;
};

static void add_word(void *arg, struct slice w)
{
    struct words *to = arg;
    if (to->n == TXN_WORDS_MAX) {
        ctl_fail(EXIT_BAD_INPUT, "more than %u words", TXN_WORDS_MAX);
    }
    to->words[to->n++] = cli_dup(to->arena, w.data, w.len);
}

/* The command that the first word which is no flag names, taken out of the words. */
static const struct command *take_command(struct words *w)
{
    static const char *const names[] = {"get", "put", "del"};
    size_t at = 0;
    while (at < w->n && w->words[at][0] == '-') {
        at++;
    }
    for (size_t i = 0; at < w->n && i < ARRAY_LEN(names); i++) {
        if (w->words[at][0] != '\0' && strncmp(names[i], w->words[at], strlen(w->words[at])) == 0) {
            memmove(&w->words[at], &w->words[at + 1], (w->n - at - 1) * sizeof(w->words[0]));
            w->n--;
            return command_child(NULL, names[i]);
        }
    }
    return NULL;
}

static void set_operation(const struct command *c, const struct flag_set *f,
                          Etcdserverpb__RequestOp *op)
{
    etcdserverpb__request_op__init(op);
    if (c->run == get_run) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        op->request_range = cli_alloc(f->arena, sizeof(*op->request_range));
        kv_get_request(f, op->request_range);
    } else if (c->run == put_run) {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        op->request_put = cli_alloc(f->arena, sizeof(*op->request_put));
        kv_put_request(f, op->request_put);
    } else {
        op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        op->request_delete_range = cli_alloc(f->arena, sizeof(*op->request_delete_range));
        kv_del_request(f, op->request_delete_range);
    }
}

static Etcdserverpb__RequestOp *parse_operation(struct ctl *ctl, const char *line)
{
    struct words *w = cli_alloc(ctl->arena, sizeof(*w));
    struct err_ctx why = {{0}};
    w->arena = ctl->arena;
    if (text_words(line, add_word, w, &why) != OK) {
        ctl_fail(EXIT_BAD_INPUT, "%s", why.text);
    }
    if (w->n < 2) {
        ctl_fail(EXIT_BAD_INPUT, "invalid txn compare request: %s", line);
    }
    const struct command *c = take_command(w);
    if (c == NULL) {
        ctl_fail(EXIT_BAD_INPUT, "invalid txn request: %s", line);
    }
    struct flag_set *f = cli_alloc(ctl->arena, sizeof(*f));
    flags_init(f, ctl->arena);
    flags_add(f, c->flags);
    if (flags_parse(f, w->words, w->n, &why) != OK) {
        help_usage("", c, stderr);
        (void)fputs("\n", stderr);
        ctl_fail(EXIT_BAD_INPUT, "invalid txn request: %s", line);
    }
    Etcdserverpb__RequestOp *op = cli_alloc(ctl->arena, sizeof(*op));
    set_operation(c, f, op);
    return op;
}

static void read_operations(struct ctl *ctl, struct list *out)
{
    for (char *line = next_line(ctl); *line != '\0'; line = next_line(ctl)) {
        add(ctl, out, parse_operation(ctl, line));
    }
}

static void prompt(const struct ctl *ctl, const char *what)
{
    if (flag_yes(&ctl->flags, "interactive")) {
        (void)puts(what);
        (void)fflush(stdout);
    }
}

int txn_run(struct ctl *ctl)
{
    if (ctl->n_args != 0) {
        ctl_fail(EXIT_BAD_ARGS, "txn command does not accept argument");
    }
    ctl_connect(ctl);
    struct list compares = {0};
    struct list success = {0};
    struct list failure = {0};
    prompt(ctl, "compares:");
    read_compares(ctl, &compares);
    prompt(ctl, "success requests (get, put, del):");
    read_operations(ctl, &success);
    prompt(ctl, "failure requests (get, put, del):");
    read_operations(ctl, &failure);
    Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
    bool writes = false;
    for (size_t i = 0; i < success.n + failure.n; i++) {
        const Etcdserverpb__RequestOp *op =
            i < success.n ? success.items[i] : failure.items[i - success.n];
        writes = writes || op->request_case != ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    }
    request.n_compare = compares.n;
    request.compare = (Etcdserverpb__Compare **)compares.items;
    request.n_success = success.n;
    request.success = (Etcdserverpb__RequestOp **)success.items;
    request.n_failure = failure.n;
    request.failure = (Etcdserverpb__RequestOp **)failure.items;
    Etcdserverpb__TxnResponse *reply =
        ctl_call(ctl, "/etcdserverpb.KV/Txn", &request.base, !writes,
                 &etcdserverpb__txn_response__descriptor, 0, EXIT_ERROR);
    print_txn(ctl, reply);
    etcdserverpb__txn_response__free_unpacked(reply, NULL);
    return 0;
}
