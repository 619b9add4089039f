/* alarm.c - a small sorted list, stored as encoded AlarmMembers that are keys without values. */
#include "engine/alarm.h"

#include "base/wire.h"

#define RESPONSE_ALARMS 2u
#define MEMBER_ID 1u
#define MEMBER_ALARM 2u
#define ALARM_TYPES_MAX                                                                            \
    32 /* bits of engine.alarm_types; a higher type is listed but blocks nothing */

static int alarm_cmp(struct alarm a, struct alarm b)
{
    return a.type != b.type ? (a.type > b.type) - (a.type < b.type)
                            : (a.member_id > b.member_id) - (a.member_id < b.member_id);
}

/* Where the alarm is or belongs. */
static size_t place_of(const struct engine *e, struct alarm a, bool *found)
{
    size_t i = 0;
    while (i < e->n_alarms && alarm_cmp(e->alarms[i], a) < 0) {
        i++;
    }
    *found = i < e->n_alarms && alarm_cmp(e->alarms[i], a) == 0;
    return i;
}

static void update_types(struct engine *e)
{
    unsigned types = 0;
    for (size_t i = 0; i < e->n_alarms; i++) {
        if (e->alarms[i].type >= 0 && e->alarms[i].type < ALARM_TYPES_MAX) {
            types |= 1u << e->alarms[i].type;
        }
    }
    atomic_store_explicit(&e->alarm_types, types, memory_order_release);
}

static bool insert(struct engine *e, struct alarm a)
{
    bool found;
    size_t at = place_of(e, a, &found);
    if (found) {
        return true;
    }
    if (e->n_alarms == ENGINE_ALARMS_MAX) {
        return false;
    }
    lock_write(e);
    memmove(&e->alarms[at + 1], &e->alarms[at], (e->n_alarms - at) * sizeof(e->alarms[0]));
    e->alarms[at] = a;
    e->n_alarms++;
    update_types(e);
    unlock(e);
    return true;
}

static bool take_out(struct engine *e, struct alarm a)
{
    bool found;
    size_t at = place_of(e, a, &found);
    if (!found) {
        return false;
    }
    lock_write(e);
    memmove(&e->alarms[at], &e->alarms[at + 1], (e->n_alarms - at - 1) * sizeof(e->alarms[0]));
    e->n_alarms--;
    update_types(e);
    unlock(e);
    return true;
}

static void encode(struct alarm a, struct bytes *out)
{
    wire_add_uint(out, MEMBER_ID, a.member_id);
    wire_add_int(out, MEMBER_ALARM, a.type);
}

static void add_to(struct bytes *body, struct alarm a)
{
    if (body != NULL) {
        struct bytes one = {0};
        encode(a, &one);
        wire_add_message(body, RESPONSE_ALARMS, bytes_slice(&one));
        bytes_deinit(&one);
    }
}

enum err alarm_apply(struct engine *e, const Etcdserverpb__AlarmRequest *r, struct bytes *body)
{
    struct alarm a = {r->memberid, (int)r->alarm};
    struct bytes row = {0};
    enum err err = OK;
    switch ((int)r->action) {
    case ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET:
        for (size_t i = 0; i < e->n_alarms; i++) {
            if (a.type == 0 || e->alarms[i].type == a.type) {
                add_to(body, e->alarms[i]);
            }
        }
        break;
    case ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE:
        if (a.type == 0) {
            break;
        }
        if (!insert(e, a)) {
            err = ERR_LIMIT;
            break;
        }
        encode(a, &row);
        rows_add(&e->entry_rows, BUCKET_ALARM, bytes_slice(&row), (struct slice){0});
        add_to(body, a);
        break;
    case ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE:
        if (take_out(e, a)) {
            encode(a, &row);
            rows_add_delete(&e->entry_rows, BUCKET_ALARM, bytes_slice(&row));
            add_to(body, a);
        }
        break;
    default: /* an action we do not know does nothing */
        break;
    }
    bytes_deinit(&row);
    return err;
}

enum err alarm_restore(struct engine *e, struct slice key)
{
    struct alarm a = {0};
    struct wire_field f;
    enum err err;
    while ((err = wire_next(&key, &f)) == OK) {
        if (f.number == MEMBER_ID && f.type == WIRE_VARINT) {
            a.member_id = f.value;
        } else if (f.number == MEMBER_ALARM && f.type == WIRE_VARINT) {
            a.type = (int)f.value;
        }
    }
    return err == ERR_END && insert(e, a) ? OK : ERR_CORRUPT;
}

size_t engine_alarms(const struct engine *e, struct alarm *out, size_t n_max)
{
    lock_read(e);
    size_t n = e->n_alarms;
    memcpy(out, e->alarms, (n < n_max ? n : n_max) * sizeof(*out));
    unlock(e);
    return n;
}

bool engine_alarm_active(const struct engine *e, int type)
{
    ASSERT(type >= 0 && type < ALARM_TYPES_MAX);
    return (atomic_load_explicit(&e->alarm_types, memory_order_acquire) >> type & 1u) != 0;
}
