/* watch_view.c - see watch_view.h. Most receivers want all events: those are written once and copied. */
#include "api/proxy/watch_view.h"

#include <stdlib.h>

#include "base/mem.h"
#include "base/wire.h"

enum { HEADER = 1, WATCH_ID, CREATED, CANCELED, COMPACT_REVISION, CANCEL_REASON, EVENTS = 11 }; /* of WatchResponse */
enum { TYPE = 1, KV, PREV_KV };                                                               /* of Event */
enum { REVISION = 3 }; /* of ResponseHeader; mod_revision of KeyValue */

static enum err find_number(struct slice message, uint32_t number, int64_t *out)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&message, &f)) == OK) {
        if (f.number == number && f.type == WIRE_VARINT) {
            *out = (int64_t)f.value;
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err read_event(struct slice message, struct watch_event *out)
{
    struct wire_field f;
    enum err e;
    *out = (struct watch_event){.whole = message};
    while ((e = wire_next(&message, &f)) == OK) {
        if (f.number == TYPE && f.type == WIRE_VARINT) {
            out->is_delete = f.value == 1;
        } else if (f.number == KV && f.type == WIRE_LEN) {
            out->kv = f.bytes;
        } else if (f.number == PREV_KV) {
            out->has_before = true;
        }
    }
    return e == ERR_END ? find_number(out->kv, REVISION, &out->revision) : e;
}

static void add_event(struct bytes *out, const struct watch_event *e, bool before)
{
    if (before || !e->has_before) {
        wire_add_message(out, EVENTS, e->whole);
        return;
    }
    size_t n_type = e->is_delete ? 2 : 0; /* tag and 1 */
    wire_add_message_head(out, EVENTS, n_type + wire_tag_size(KV) + wire_varint_size(e->kv.len) + e->kv.len);
    wire_add_uint(out, TYPE, e->is_delete ? 1 : 0);
    wire_add_message(out, KV, e->kv);
}

static enum err count_events(struct slice message, size_t *n)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&message, &f)) == OK) {
        *n += f.number == EVENTS && f.type == WIRE_LEN;
    }
    return e == ERR_END ? OK : e;
}

static enum err read_field(struct watch_view *v, const struct wire_field *f)
{
    if (f->number == HEADER && f->type == WIRE_LEN) {
        v->header = f->bytes;
        return find_number(f->bytes, REVISION, &v->header_revision);
    }
    if (f->number == EVENTS && f->type == WIRE_LEN) {
        struct watch_event *e = &v->events[v->n_events++];
        enum err err = read_event(f->bytes, e);
        if (err == OK) {
            add_event(&v->all, e, true);
            add_event(&v->all_bare, e, false);
        }
        return err;
    }
    if (f->number == CANCEL_REASON && f->type == WIRE_LEN) {
        v->reason = f->bytes;
    } else if (f->number == CREATED) {
        v->created = f->value != 0;
    } else if (f->number == CANCELED) {
        v->canceled = f->value != 0;
    } else if (f->number == COMPACT_REVISION) {
        v->compact_revision = (int64_t)f->value;
    }
    return OK;
}

enum err watch_view_read(struct slice message, struct watch_view *v)
{
    *v = (struct watch_view){0};
    size_t n = 0;
    enum err e = count_events(message, &n);
    if (e != OK) {
        return e;
    }
    v->events = xcalloc(n == 0 ? 1 : n, sizeof(*v->events));
    struct wire_field f;
    while (e == OK && wire_next(&message, &f) == OK) {
        e = read_field(v, &f);
    }
    return e;
}

void watch_view_deinit(struct watch_view *v)
{
    free(v->events);
    bytes_deinit(&v->all);
    bytes_deinit(&v->all_bare);
    *v = (struct watch_view){0};
}

bool watch_view_is_progress(const struct watch_view *v)
{
    return v->n_events == 0 && !v->created && !v->canceled && v->compact_revision == 0;
}

static bool is_wanted(const struct watch_want *w, const struct watch_event *e)
{
    return e->revision >= w->next_revision && !(e->is_delete ? w->no_delete : w->no_put);
}

/* false: none of the events is for it. */
static bool add_events(const struct watch_view *v, const struct watch_want *w, struct bytes *out)
{
    if (v->n_events > 0 && v->events[0].revision >= w->next_revision && !w->no_put && !w->no_delete) {
        const struct bytes *all = w->before ? &v->all : &v->all_bare;
        bytes_add(out, all->data, all->len);
        return true;
    }
    bool any = false;
    for (size_t i = 0; i < v->n_events; i++) {
        if (is_wanted(w, &v->events[i])) {
            add_event(out, &v->events[i], w->before);
            any = true;
        }
    }
    return any;
}

bool watch_view_write(const struct watch_view *v, struct watch_want *w, struct bytes *out)
{
    if (watch_view_is_progress(v) && !w->progress) {
        return false;
    }
    if (w->next_revision == 0) {
        w->next_revision = v->header_revision + 1;
        if (v->n_events > 0 && v->events[0].revision < w->next_revision) {
            w->next_revision = v->events[0].revision; /* it was never told where now is: all of these are after it */
        }
    }
    size_t before = out->len;
    wire_add_message(out, HEADER, v->header);
    wire_add_int(out, WATCH_ID, w->id);
    wire_add_bool(out, CREATED, v->created);
    wire_add_bool(out, CANCELED, v->canceled);
    wire_add_int(out, COMPACT_REVISION, v->compact_revision);
    wire_add_bytes(out, CANCEL_REASON, v->reason);
    bool any = add_events(v, w, out);
    if (v->n_events > 0 && v->events[v->n_events - 1].revision >= w->next_revision) {
        w->next_revision = v->events[v->n_events - 1].revision + 1;
    }
    if (!any && v->n_events > 0 && !v->created && !v->canceled) {
        out->len = before;
        return false;
    }
    return true;
}
