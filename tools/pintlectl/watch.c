/* watch.c - events as they come, for one watcher from the command line or for many from lines of
 * input.
 *
 * All watchers share one stream. When it fails they are created anew on another, each from the
 * revision behind the last one it has
 * seen. Answers to creations come in the order of the requests.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cli/text.h"
#include "tools/pintlectl/child.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"

#define WATCHERS_MAX 4096u
#define WORDS_MAX 1024u /* of a line of input */
#define LINE_BYTES_MAX (1024u * 1024u)
#define READ_AT_ONCE 4096u
#define TICK_MS 1000 /* so that keepalive is looked after */
#define AGAIN_MS 100u

const struct flag watch_flags[] = {
    {"interactive", 'i', FLAG_BOOL, NULL, "read what to watch from standard input"},
    {"prefix", 0, FLAG_BOOL, NULL, "all keys that begin with the given one"},
    {"prev-kv", 0, FLAG_BOOL, NULL, "show what was there before"},
    {"progress-notify", 0, FLAG_BOOL, NULL, "let the server tell from time to time how far it is"},
    {"rev", 0, FLAG_INT64, NULL, "revision to begin at"},
    {0}};

struct watcher {
    struct key_range range;
    int64_t next_revision; /* 0: from now on */
    bool prev_kv, progress;
    const char *const *command; /* NULL: none */
    size_t n_command;
    bool created, over;
    int64_t id; /* while created */
};

struct watch {
    struct ctl *ctl;
    struct client_stream *stream; /* NULL: to be opened when there are watchers */
    unsigned generation;
    struct watcher *watchers; /* the arena's */
    size_t n;
    const char *env_key, *env_end;
    struct bytes input; /* read and not yet used */
};

/* ---- printing ---- */

static const char *type_name(const Mvccpb__Event *e)
{
    return e->type == MVCCPB__EVENT__EVENT_TYPE__DELETE ? "DELETE" : "PUT";
}

static void json_watch(const Etcdserverpb__WatchResponse *r)
{
    struct bytes out = {0};
    bytes_add_str(&out, "{\"Header\":");
    if (r->header != NULL) {
        json_message(&out, &r->header->base, false);
    } else {
        bytes_add_str(&out, "{}");
    }
    bytes_add_str(&out, ",\"Events\":");
    for (size_t i = 0; i < r->n_events; i++) {
        bytes_add_str(&out, i == 0 ? "[" : ",");
        json_message(&out, &r->events[i]->base, false);
    }
    bytes_printf(
        &out, "%s,\"CompactRevision\":%" PRId64 ",\"Canceled\":%s,\"Created\":%s,\"CancelReason\":",
        r->n_events == 0 ? "null" : "]", r->compact_revision, yes_no(r->canceled),
        yes_no(r->created));
    text_json(&out, slice_str(r->cancel_reason));
    bytes_add_str(&out, "}");
    print_json_line(&out);
}

static void protobuf_watch(const struct ctl *ctl, const Etcdserverpb__WatchResponse *r)
{
    Etcdserverpb__WatchResponse shown = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    shown.header = r->header;
    shown.n_events = r->n_events;
    shown.events = r->events;
    shown.compact_revision = r->compact_revision;
    shown.canceled = r->canceled;
    shown.created = r->created;
    (void)print_message(ctl, &shown.base);
}

static void print_events(const struct ctl *ctl, const Etcdserverpb__WatchResponse *r)
{
    bool fields = ctl->format == FORMAT_FIELDS;
    if (fields) {
        fields_header(ctl, r->header);
    }
    for (size_t i = 0; i < r->n_events; i++) {
        const Mvccpb__Event *e = r->events[i];
        static const Mvccpb__KeyValue none = MVCCPB__KEY_VALUE__INIT;
        const Mvccpb__KeyValue *kv = e->kv == NULL ? &none : e->kv;
        (void)printf(fields ? "\"Type\" : %s\n" : "%s\n", type_name(e));
        if (fields) {
            if (e->prev_kv != NULL) {
                fields_kv(ctl, "Prev", e->prev_kv);
            }
            fields_kv(ctl, "", kv);
        } else {
            if (e->prev_kv != NULL) {
                simple_kv(ctl, e->prev_kv);
            }
            simple_kv(ctl, kv);
        }
    }
    (void)fflush(stdout);
}

static void print_watch(const struct ctl *ctl, const Etcdserverpb__WatchResponse *r)
{
    switch (ctl->format) {
    case FORMAT_SIMPLE:
    case FORMAT_FIELDS:
        print_events(ctl, r);
        break;
    case FORMAT_JSON:
        json_watch(r);
        break;
    case FORMAT_PROTOBUF:
        protobuf_watch(ctl, r);
        break;
    case FORMAT_TABLE:
        print_unsupported(FORMAT_TABLE);
    }
}

/* ---- commands to run ---- */

static char *variable(const char *name, struct slice value)
{
    struct bytes b = {0};
    bytes_printf(&b, "%s=", name);
    text_quote(&b, value);
    bytes_add(&b, "", 1);
    return (char *)b.data;
}

static void run_command(const struct watcher *w, const Mvccpb__Event *e, int64_t revision)
{
    struct bytes why = {0};
    struct bytes rev = {0};
    bytes_printf(&rev, "ETCD_WATCH_REVISION=%" PRId64, revision);
    bytes_add(&rev, "", 1);
    char *type = variable("ETCD_WATCH_EVENT_TYPE", slice_str(type_name(e)));
    char *key =
        variable("ETCD_WATCH_KEY", e->kv == NULL ? slice_str("") : slice_of_binary(e->kv->key));
    char *value =
        variable("ETCD_WATCH_VALUE", e->kv == NULL ? slice_str("") : slice_of_binary(e->kv->value));
    const char *const variables[] = {(const char *)rev.data, type, key, value};
    pid_t pid = 0;
    bool started =
        child_start(w->command, w->n_command, variables, ARRAY_LEN(variables), true, &pid, &why);
    if (!started || child_wait(pid, &why) != 0) {
        struct bytes words = {0};
        for (size_t i = 0; i < w->n_command; i++) {
            bytes_add_str(&words, i == 0 ? "" : " ");
            text_quote(&words, slice_str(w->command[i]));
        }
        (void)fprintf(stderr, "command [%.*s] error (%.*s)\n", (int)words.len,
                      (const char *)words.data, (int)why.len, (const char *)why.data);
        exit(EXIT_ERROR);
    }
    bytes_deinit(&why);
    bytes_deinit(&rev);
    free(type);
    free(key);
    free(value);
}

/* ---- the stream ---- */

static struct client_stream *live_stream(struct watch *s)
{
    if (s->stream != NULL && s->generation != conn_generation(s->ctl->conn)) {
        s->stream = NULL;
    }
    return s->stream;
}

static bool send_create(struct watch *s, struct watcher *w)
{
    Etcdserverpb__WatchCreateRequest c = ETCDSERVERPB__WATCH_CREATE_REQUEST__INIT;
    Etcdserverpb__WatchRequest r = ETCDSERVERPB__WATCH_REQUEST__INIT;
    c.key = binary(w->range.key);
    c.range_end = binary(w->range.end);
    c.start_revision = w->next_revision;
    c.progress_notify = w->progress;
    c.prev_kv = w->prev_kv;
    r.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_CREATE_REQUEST;
    r.create_request = &c;
    w->created = false;
    struct failure f;
    if (live_stream(s) != NULL) {
        return conn_send(s->stream, &r.base);
    }
    if (!conn_stream(s->ctl->conn, "/etcdserverpb.Watch/Watch", &r.base, true, 0, &s->stream, &f)) {
        ctl_fail_with(EXIT_ERROR, &f);
    }
    s->generation = conn_generation(s->ctl->conn);
    return true;
}

/* Create all watchers on a stream of their own; one that fails meanwhile is noticed at the next
 * read. */
static void create_all(struct watch *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (!s->watchers[i].over && !send_create(s, &s->watchers[i])) {
            return;
        }
    }
}

static void deliver(struct watch *s, struct watcher *w, const Etcdserverpb__WatchResponse *r)
{
    int64_t revision = r->header == NULL ? 0 : r->header->revision;
    if (r->n_events == 0 && !r->canceled && !r->created && r->compact_revision == 0 &&
        revision != 0) {
        (void)printf("progress notify: %" PRId64 "\n", revision);
    }
    print_watch(s->ctl, r);
    for (size_t i = 0; w->command != NULL && i < r->n_events; i++) {
        run_command(w, r->events[i], revision);
    }
    if (r->n_events > 0 && r->events[r->n_events - 1]->kv != NULL) {
        w->next_revision = r->events[r->n_events - 1]->kv->mod_revision + 1;
    } else if (revision >= w->next_revision) {
        w->next_revision = revision + 1;
    }
}

/* `why` is what is said; the answer itself may be empty. */
static void cancel(struct watch *s, struct watcher *w, const char *why,
                   const Etcdserverpb__WatchResponse *r)
{
    static const Etcdserverpb__WatchResponse init = ETCDSERVERPB__WATCH_RESPONSE__INIT;
    Etcdserverpb__WatchResponse none = init;
    none.canceled = true;
    (void)fflush(stdout);
    (void)fprintf(stderr, "watch was canceled (%s)\n", why);
    print_watch(s->ctl, r == NULL ? &none : r);
    w->over = true;
}

static void canceled(struct watch *s, struct watcher *w, const Etcdserverpb__WatchResponse *r)
{
    if (r->compact_revision != 0) {
        cancel(s, w, "etcdserver: mvcc: required revision has been compacted", r);
        return;
    }
    if (r->created && *r->cancel_reason != '\0') {
        cancel(s, w, r->cancel_reason, NULL);
        return;
    }
    struct failure f = {.code = 9};
    char text[FAILURE_TEXT_MAX];
    (void)snprintf(f.text, sizeof(f.text), "%s", r->cancel_reason);
    failure_text(&f, text);
    cancel(s, w,
           *r->cancel_reason == '\0' ? "etcdserver: mvcc: required revision is a future revision"
                                     : text,
           r);
}

static struct watcher *find(struct watch *s, const Etcdserverpb__WatchResponse *r)
{
    for (size_t i = 0; i < s->n; i++) {
        struct watcher *w = &s->watchers[i];
        if (!w->over && (r->created ? !w->created : w->created && w->id == r->watch_id)) {
            return w;
        }
    }
    return NULL;
}

static void take(struct watch *s, const Etcdserverpb__WatchResponse *r)
{
    if (r->watch_id == -1 && !r->created && !r->canceled) { /* progress of all */
        for (size_t i = 0; i < s->n; i++) {
            if (!s->watchers[i].over && s->watchers[i].created) {
                deliver(s, &s->watchers[i], r);
            }
        }
        return;
    }
    struct watcher *w = find(s, r);
    if (w == NULL) {
        return;
    }
    if (r->canceled) {
        canceled(s, w, r);
        return;
    }
    if (r->created) {
        w->created = true;
        w->id = r->watch_id;
        if (w->next_revision == 0 && r->header != NULL) {
            w->next_revision = r->header->revision + 1;
        }
        return;
    }
    deliver(s, w, r);
}

/* The stream is over: watchers end with it, or go on with another. */
static void stream_ended(struct watch *s)
{
    struct failure f = {.code = CLIENT_CODE_UNAVAILABLE};
    const struct client_status *status =
        live_stream(s) == NULL ? NULL : client_stream_status(s->stream);
    if (status != NULL) {
        failure_from(&f, status);
    }
    if (live_stream(s) != NULL) {
        client_stream_close(&s->stream);
    }
    bool again = f.code == CLIENT_CODE_UNAVAILABLE || f.code == CLIENT_CODE_INTERNAL ||
                 f.code == CLIENT_CODE_OK;
    if (failure_is(&f, "etcdserver: no leader") || (!conn_renew(s->ctl->conn, &f, 0) && !again)) {
        char text[FAILURE_TEXT_MAX];
        failure_text(&f, text);
        for (size_t i = 0; i < s->n; i++) {
            if (!s->watchers[i].over) {
                cancel(s, &s->watchers[i], text, NULL);
            }
        }
        return;
    }
    sleep_ms(AGAIN_MS);
    create_all(s);
}

/* Take what has come. */
static void receive(struct watch *s)
{
    struct bytes message = {0};
    enum err e = OK;
    while (e == OK && live_stream(s) != NULL) {
        e = client_stream_recv(s->stream, 0, &message);
        Etcdserverpb__WatchResponse *r =
            e == OK ? etcdserverpb__watch_response__unpack(NULL, message.len, message.data) : NULL;
        if (r != NULL) {
            take(s, r);
            etcdserverpb__watch_response__free_unpacked(r, NULL);
        }
    }
    bytes_deinit(&message);
    bool lost = s->n > 0 && live_stream(s) == NULL;
    if (lost || (e != OK && e != ERR_DEADLINE)) {
        stream_ended(s);
    }
}

static bool all_over(const struct watch *s)
{
    for (size_t i = 0; i < s->n; i++) {
        if (!s->watchers[i].over) {
            return false;
        }
    }
    return true;
}

/* Wait for the server or, with `input`, for the user; true: there is input. */
static bool wait_for(struct watch *s, bool input)
{
    struct failure f;
    struct client *client = NULL;
    struct pollfd fds[2] = {{.fd = input ? STDIN_FILENO : -1, .events = POLLIN}, {.fd = -1}};
    if (live_stream(s) != NULL && conn_client(s->ctl->conn, 0, &client, &f) &&
        live_stream(s) != NULL) {
        fds[1].fd = client_fd(client);
        fds[1].events = client_wants_write(client) ? POLLIN | POLLOUT : POLLIN;
    }
    (void)poll(fds, 2, TICK_MS);
    return input && fds[0].revents != 0;
}

/* ---- words ---- */

/* Append a watcher; the reason when its words are wrong, else NULL. */
static const char *add_watcher(struct watch *s, const struct flag_set *f, const char *const *keys,
                               size_t n, const char *const *command, size_t n_command)
{
    bool prefix = flag_yes(f, "prefix");
    if (n < 1) {
        return "bad number of arguments";
    }
    if (n == 2 && prefix) {
        return "`range_end` and `--prefix` are mutually exclusive";
    }
    ASSERT(s->n < WATCHERS_MAX);
    struct watcher *w = &s->watchers[s->n++];
    struct slice key = slice_str(keys[0]);
    if (prefix) {
        w->range = ctl_prefix_range(s->ctl->arena, key);
    } else {
        w->range = (struct key_range){key.len == 0 ? slice_of("\0", 1) : key,
                                      slice_str(n == 2 ? keys[1] : "")};
    }
    w->next_revision = flag_number(f, "rev");
    w->prev_kv = flag_yes(f, "prev-kv");
    w->progress = flag_yes(f, "progress-notify");
    w->command = command;
    w->n_command = n_command;
    return NULL;
}

/* Keys and command of the words; the reason when they do not go together, else NULL. */
static const char *split_words(const struct watch *s, const struct flag_set *f, const char ***keys,
                               size_t *n_keys, const char *const **command, size_t *n_command)
{
    bool separated = f->n_before != SIZE_MAX;
    size_t n = separated ? f->n_before : f->n_args;
    bool env = *s->env_key != '\0';
    *command = separated ? f->args + n : NULL;
    *n_command = separated ? f->n_args - n : 0;
    if (separated && *n_command == 0) {
        return "bad number of arguments (found separator --, but no commands)";
    }
    if (n == 0 && !env) {
        return "bad number of arguments";
    }
    if (n > 0 && env) {
        return "bad number of arguments (found conflicting environment key)";
    }
    *keys = f->args;
    *n_keys = n;
    if (env) {
        *keys = cli_alloc(f->arena, 2 * sizeof(**keys));
        (*keys)[0] = s->env_key;
        (*keys)[1] = s->env_end;
        *n_keys = *s->env_end == '\0' ? 1 : 2;
    }
    return NULL;
}

struct words {
    struct arena *arena;
    const char *words[WORDS_MAX];
    size_t n;
};

static void add_word(void *arg, struct slice w)
{
    struct words *to = arg;
    if (to->n < WORDS_MAX) {
        to->words[to->n++] = cli_dup(to->arena, w.data, w.len);
    }
}

/* "watch ..." in a line of input. */
static void line_watch(struct watch *s, const char *line, const struct words *w)
{
    const char **keys = NULL;
    const char *const *command = NULL;
    size_t n_keys = 0;
    size_t n_command = 0;
    struct err_ctx why = {{0}};
    if (w->n < 2 && *s->env_key == '\0') {
        (void)fprintf(stderr, "Invalid command %s (command type or key is not provided)\n", line);
        return;
    }
    struct flag_set *f = cli_alloc(s->ctl->arena, sizeof(*f));
    flags_init(f, s->ctl->arena);
    flags_add(f, watch_flags);
    if (strcmp(w->words[w->n - 1], "--") == 0) {
        ctl_fail(EXIT_BAD_ARGS, "bad number of arguments (found separator --, but no commands)");
    }
    if (flags_parse(f, w->words + 1, w->n - 1, &why) != OK) {
        ctl_fail(EXIT_BAD_ARGS, "%s", why.text[0] == '\0' ? "pflag: help requested" : why.text);
    }
    const char *wrong = split_words(s, f, &keys, &n_keys, &command, &n_command);
    if (wrong != NULL) {
        ctl_fail(EXIT_BAD_ARGS, "%s", wrong);
    }
    wrong = s->n == WATCHERS_MAX ? "too many watchers"
                                 : add_watcher(s, f, keys, n_keys, command, n_command);
    if (wrong != NULL) {
        (void)fprintf(stderr, "Invalid command %s (%s)\n", line, wrong);
        return;
    }
    /* A stream that fails here is found out when it is read. */
    (void)send_create(s, &s->watchers[s->n - 1]);
}

static void line_progress(struct watch *s)
{
    Etcdserverpb__WatchProgressRequest p = ETCDSERVERPB__WATCH_PROGRESS_REQUEST__INIT;
    Etcdserverpb__WatchRequest r = ETCDSERVERPB__WATCH_REQUEST__INIT;
    r.request_union_case = ETCDSERVERPB__WATCH_REQUEST__REQUEST_UNION_PROGRESS_REQUEST;
    r.progress_request = &p;
    if (live_stream(s) != NULL && !conn_send(s->stream, &r.base)) {
        stream_ended(s);
    }
}

static void take_line(struct watch *s, const char *line)
{
    struct words *w = cli_alloc(s->ctl->arena, sizeof(*w));
    struct err_ctx why = {{0}};
    w->arena = s->ctl->arena;
    if (text_words(line, add_word, w, &why) != OK) {
        ctl_fail(EXIT_BAD_INPUT, "%s", why.text);
    }
    if (w->n == 0) {
        (void)fprintf(stderr, "Invalid command: %s (watch and progress supported)\n", line);
    } else if (strcmp(w->words[0], "watch") == 0) {
        line_watch(s, line, w);
    } else if (strcmp(w->words[0], "progress") == 0) {
        line_progress(s);
    } else {
        (void)fprintf(stderr, "Invalid command %s (only support watch)\n", line);
    }
}

/* Read once, and take the lines that are whole. */
static void take_input(struct watch *s)
{
    uint8_t *p = bytes_reserve(&s->input, READ_AT_ONCE);
    ssize_t n = read(STDIN_FILENO, p, READ_AT_ONCE);
    if (n == 0 || (n < 0 && errno != EINTR && errno != EAGAIN)) {
        ctl_fail(EXIT_BAD_INPUT, "error reading watch request line: EOF");
    }
    s->input.len += n > 0 ? (size_t)n : 0;
    size_t start = 0;
    for (size_t i = 0; i < s->input.len; i++) {
        if (s->input.data[i] == '\n') {
            take_line(s, cli_dup(s->ctl->arena, s->input.data + start, i - start));
            start = i + 1;
        }
    }
    memmove(s->input.data, s->input.data + start, s->input.len - start);
    s->input.len -= start;
    if (s->input.len > LINE_BYTES_MAX) {
        ctl_fail(EXIT_BAD_INPUT, "error reading watch request line: more than %u bytes",
                 LINE_BYTES_MAX);
    }
}

static _Noreturn void interactive(struct watch *s)
{
    ctl_connect(s->ctl);
    for (;;) {
        bool input = wait_for(s, true);
        receive(s);
        if (input) {
            take_input(s);
        }
    }
}

int watch_run(struct ctl *ctl)
{
    const char *key = getenv("ETCDCTL_WATCH_KEY");
    const char *end = getenv("ETCDCTL_WATCH_RANGE_END");
    struct watch s = {
        .ctl = ctl, .env_key = key == NULL ? "" : key, .env_end = end == NULL ? "" : end};
    s.watchers = cli_alloc(ctl->arena, WATCHERS_MAX * sizeof(*s.watchers));
    if (*s.env_key == '\0' && *s.env_end != '\0') {
        struct bytes q = {0};
        text_quote(&q, slice_str(s.env_end));
        ctl_fail(EXIT_BAD_ARGS, "ETCDCTL_WATCH_KEY is empty but got ETCDCTL_WATCH_RANGE_END=%.*s",
                 (int)q.len, (const char *)q.data);
    }
    if (flag_yes(&ctl->flags, "interactive")) {
        interactive(&s);
    }
    const char **keys = NULL;
    const char *const *command = NULL;
    size_t n_keys = 0;
    size_t n_command = 0;
    const char *wrong = split_words(&s, &ctl->flags, &keys, &n_keys, &command, &n_command);
    if (wrong != NULL) {
        ctl_fail(EXIT_BAD_ARGS, "%s", wrong);
    }
    ctl_connect(ctl);
    wrong = add_watcher(&s, &ctl->flags, keys, n_keys, command, n_command);
    if (wrong != NULL) {
        ctl_fail(EXIT_BAD_ARGS, "%s", wrong);
    }
    create_all(&s);
    while (!all_over(&s)) {
        (void)wait_for(&s, false);
        receive(&s);
    }
    ctl_fail(EXIT_INTERRUPTED, "watch is canceled by the server");
}
