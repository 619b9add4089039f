/* snapshot.c - a copy of one member's store, in a file that is there whole or not at all. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/failure_texts.h"
#include "tools/pintlectl/print.h"

#define SECTOR 512u
#define SUM_BYTES 32u /* SHA-256 at the end of the stream */
#define NS_PER_MS 1000000u
#define DURATION_BYTES 40u

struct save {
    struct ctl *ctl;
    const char *path;
    char *part; /* owned */
    int fd;
    uint64_t n;
    bool fetching; /* the first piece has come */
    char *version; /* the arena's; empty when the server does not say */
    deadline_ns deadline;
};

/* A line as etcd's own logger writes it: `fields` are members with a comma before each. */
static void log_line(const char *message, const struct bytes *fields)
{
    uint64_t now = clock_wall_ns(clock_real());
    time_t s = (time_t)(now / 1000000000u);
    struct tm t;
    char stamp[32];
    (void)gmtime_r(&s, &t);
    (void)strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &t);
    (void)fprintf(stderr,
                  "{\"level\":\"info\",\"ts\":\"%s.%06uZ\",\"caller\":\"snapshot/"
                  "snapshot.c\",\"msg\":\"%s\"%.*s}\n",
                  stamp, (unsigned)(now % 1000000000u / 1000), message, (int)fields->len,
                  fields->len == 0 ? "" : (const char *)fields->data);
}

static void log_text(const char *message, const char *name, const char *value)
{
    struct bytes b = {0};
    if (name != NULL) {
        bytes_printf(&b, ",\"%s\":", name);
        text_json(&b, slice_str(value));
    }
    log_line(message, &b);
    bytes_deinit(&b);
}

static _Noreturn void save_failed(struct save *s, const char *text)
{
    if (s->fd >= 0) {
        (void)close(s->fd);
        (void)unlink(s->part);
    }
    ctl_fail(EXIT_INTERRUPTED, "%s", text);
}

static _Noreturn void file_failed(struct save *s, const char *what, const char *operation)
{
    char *text =
        xasprintf("%s (%s %s: %s)", what, operation, s->part, ctl_errno(s->ctl->arena, errno));
    save_failed(s, text);
}

static void write_all(struct save *s, const uint8_t *data, size_t n)
{
    while (n > 0) {
        ssize_t w = write(s->fd, data, n);
        if (w < 0 && errno == EINTR) {
            continue;
        }
        if (w <= 0) {
            save_failed(s, xasprintf("could not write snapshot: write %s: %s", s->part,
                                     ctl_errno(s->ctl->arena, errno)));
        }
        data += w;
        n -= (size_t)w;
        s->n += (size_t)w;
    }
}

static void take_piece(struct save *s, const struct bytes *message)
{
    Etcdserverpb__SnapshotResponse *r =
        etcdserverpb__snapshot_response__unpack(NULL, message->len, message->data);
    if (r == NULL) {
        save_failed(s, "could not write snapshot: malformed message");
    }
    if (!s->fetching) {
        log_text("fetching snapshot", "endpoint", s->ctl->options.endpoints[0]);
        s->fetching = true;
    }
    if (*r->version != '\0') {
        s->version = cli_dup(s->ctl->arena, r->version, strlen(r->version));
    }
    write_all(s, r->blob.data, r->blob.len);
    etcdserverpb__snapshot_response__free_unpacked(r, NULL);
}

/* What comes instead of the first piece is shown as gRPC has it. */
static _Noreturn void stream_failed(struct save *s, const struct failure *f)
{
    char text[FAILURE_TEXT_MAX];
    if (!s->fetching) {
        (void)snprintf(text, sizeof(text), "rpc error: code = %s desc = %s",
                       failure_code_name(f->code), f->text);
        save_failed(s, text);
    }
    failure_text(f, text);
    save_failed(s, xasprintf("could not write snapshot: %s", text));
}

static void download(struct save *s)
{
    struct failure f = {0};
    struct client_stream *stream = NULL;
    Etcdserverpb__SnapshotRequest request = ETCDSERVERPB__SNAPSHOT_REQUEST__INIT;
    char text[FAILURE_TEXT_MAX];
    if (!conn_stream(s->ctl->conn, "/etcdserverpb.Maintenance/Snapshot", &request.base, false,
                     s->deadline, &stream, &f)) {
        failure_text(&f, text);
        save_failed(s, text);
    }
    log_text("opened snapshot stream; downloading", NULL, NULL);
    struct bytes message = {0};
    enum err e = client_stream_half_close(stream);
    while (e == OK || e == ERR_DEADLINE) {
        uint64_t now = now_ns();
        if (s->deadline != 0 && now >= s->deadline) {
            failure_deadline(&f);
            stream_failed(s, &f);
        }
        uint64_t left = s->deadline == 0 ? UINT32_MAX : (s->deadline - now) / NS_PER_MS + 1;
        e = client_stream_recv(stream, left < UINT32_MAX ? (uint32_t)left : UINT32_MAX, &message);
        if (e == OK) {
            take_piece(s, &message);
        }
    }
    bytes_deinit(&message);
    const struct client_status *status = client_stream_status(stream);
    if (status == NULL || status->code != CLIENT_CODE_OK) {
        f.code = CLIENT_CODE_UNAVAILABLE;
        if (status != NULL) {
            failure_from(&f, status);
        }
        stream_failed(s, &f);
    }
    client_stream_close(&stream);
    log_text("completed snapshot read; closing", NULL, NULL);
}

static void finish(struct save *s, uint64_t start)
{
    struct bytes b = {0};
    char size[TEXT_SIZE_BYTES];
    char took[DURATION_BYTES];
    if (fsync(s->fd) != 0) {
        file_failed(s, "could not sync snapshot", "sync");
    }
    if (s->n % SECTOR != SUM_BYTES) {
        save_failed(s, xasprintf("sha256 checksum not found [bytes: %" PRIu64 "]", s->n));
    }
    text_size(s->n, size);
    go_duration_format((int64_t)(now_ns() - start), took, sizeof(took));
    bytes_add_str(&b, ",\"endpoint\":");
    text_json(&b, slice_str(s->ctl->options.endpoints[0]));
    bytes_printf(&b, ",\"size\":\"%s\",\"took\":\"%s\",\"etcd-version\":", size, took);
    text_json(&b, slice_str(s->version));
    log_line("fetched snapshot", &b);
    bytes_deinit(&b);
    if (rename(s->part, s->path) != 0) {
        save_failed(s, xasprintf("could not rename %s to %s (rename %s %s: %s)", s->part, s->path,
                                 s->part, s->path, ctl_errno(s->ctl->arena, errno)));
    }
    (void)close(s->fd);
    log_text("saved", "path", s->path);
}

int snapshot_save_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "snapshot save expects one argument <filename>");
    }
    struct save s = {.ctl = ctl, .path = ctl->args[0], .fd = -1, .version = text_field("")};
    ctl_configure(ctl);
    if (ctl->options.n_endpoints != 1) {
        struct bytes all = {0};
        for (size_t i = 0; i < ctl->options.n_endpoints; i++) {
            bytes_printf(&all, "%s%s", i == 0 ? "" : " ", ctl->options.endpoints[i]);
        }
        ctl_fail(EXIT_INTERRUPTED,
                 "snapshot must be requested to one selected node, not multiple [%.*s]",
                 (int)all.len, all.len == 0 ? "" : (const char *)all.data);
    }
    if (flag(&ctl->flags, "command-timeout")->changed) {
        s.deadline = ctl_deadline(ctl);
    }
    struct failure f = {0};
    if (!conn_open(&ctl->options, &ctl->conn, &f)) {
        ctl_fail_with(EXIT_INTERRUPTED, &f);
    }
    s.part = xasprintf("%s.part", s.path);
    s.fd = open(s.part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (s.fd < 0) {
        ctl_fail(EXIT_INTERRUPTED, "could not open %s (open %s: %s)", s.part, s.part,
                 ctl_errno(ctl->arena, errno));
    }
    log_text("created temporary db file", "path", s.part);
    uint64_t start = now_ns();
    download(&s);
    finish(&s, start);
    (void)printf("Snapshot saved at %s\n", s.path);
    if (*s.version != '\0') {
        (void)printf("Server version %s\n", s.version);
    }
    free(s.part);
    return 0;
}
