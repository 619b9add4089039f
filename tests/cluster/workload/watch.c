/* watch.c - a watcher of one member, resumed after each break behind the last revision it saw. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/wire.h"
#include "tests/cluster/workload/workload.h"

#define LOOK_MS 100u /* how often the end is looked for */

struct response {
    bool created;
    bool canceled;
    int64_t compact_rev;
    struct slice reason;
};

static void take_event(struct watcher *w, struct slice event)
{
    struct wire_field f;
    struct watch_event e = {.watcher = w->id, .type = 'p'};
    while (wire_next(&event, &f) == OK) {
        if (f.number == 1) {
            e.type = f.value == 0 ? 'p' : 'd';
        } else if (f.number == 2) {
            decode_kv(f.bytes, &e.key, &e.value, &e.rev);
        }
    }
    int64_t end = atomic_load(&w->session.shared->end_rev);
    if (end != 0 && e.rev > end) {
        return; /* a late write without an answer: not all watchers stay to see it */
    }
    if (w->n == w->cap) {
        w->cap = w->cap == 0 ? 1024 : w->cap * 2;
        w->events = xrealloc(w->events, w->cap * sizeof(*w->events));
    }
    w->events[w->n++] = e;
}

static void take_response(struct watcher *w, struct slice message, struct response *out)
{
    struct wire_field f;
    *out = (struct response){0};
    while (wire_next(&message, &f) == OK) {
        if (f.number == 3) {
            out->created = f.value != 0;
        } else if (f.number == 4) {
            out->canceled = f.value != 0;
        } else if (f.number == 5) {
            out->compact_rev = (int64_t)f.value;
        } else if (f.number == 6) {
            out->reason = f.bytes;
        } else if (f.number == 11) {
            take_event(w, f.bytes);
        }
    }
}

/* What the next watch begins with. Events of one revision come in one response, so the last one's
 * revision is complete. */
static int64_t next_rev(const struct watcher *w)
{
    return w->n == 0 ? w->run.start : w->events[w->n - 1].rev + 1;
}

static bool at_end(const struct watcher *w)
{
    const struct shared *shared = w->session.shared;
    int64_t end = atomic_load(&shared->end_rev);
    return end != 0 && next_rev(w) > end;
}

static bool timed_out(const struct watcher *w)
{
    uint64_t deadline = atomic_load(&w->session.shared->end_deadline_ns);
    return deadline != 0 && now_ns() > deadline;
}

/* Watch until the stream breaks, the end is reached or its time is over. */
static void watch_once(struct watcher *w)
{
    struct client_stream *stream = NULL;
    struct bytes message = {0};
    encode_watch(&message, next_rev(w));
    enum err e = client_stream_open(w->session.client, "/etcdserverpb.Watch/Watch", &stream);
    if (e == OK) {
        e = client_stream_send(stream, bytes_slice(&message));
    }
    while (e == OK && !at_end(w) && !timed_out(w)) {
        e = client_stream_recv(stream, LOOK_MS, &message);
        if (e == ERR_DEADLINE) {
            /* A server that says good-bye ends its streams; one that hangs is left by the end. */
            e = client_usable(w->session.client) ? OK : ERR_CLOSED;
            continue;
        }
        struct response r = {0};
        if (e == OK) {
            take_response(w, bytes_slice(&message), &r);
        }
        if (r.canceled) {
            (void)snprintf(w->canceled, sizeof(w->canceled), "compacted %lld, %.*s",
                           (long long)r.compact_rev, (int)r.reason.len,
                           (const char *)r.reason.data);
            e = ERR_END;
        }
    }
    w->n_breaks++;
    client_stream_close(&stream);
    bytes_deinit(&message);
    session_drop(&w->session);
}

void *watch_main(void *arg)
{
    struct watcher *w = arg;
    w->run.end = OPEN_END;
    while (!at_end(w) && !timed_out(w)) {
        if (session_connect(&w->session)) {
            watch_once(w);
        } else if (w->expendable && atomic_load(&w->session.shared->end_rev) != 0) {
            break;
        }
        sleep_ns(PAUSE_MS * 1000000u);
    }
    if (at_end(w)) {
        w->run.end = atomic_load(&w->session.shared->end_rev);
    }
    /* The end may have become known after the last events came. */
    while (w->n > 0 && w->run.end != OPEN_END && w->events[w->n - 1].rev > w->run.end) {
        w->n--;
    }
    session_deinit(&w->session);
    return NULL;
}
