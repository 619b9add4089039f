/* codec.c - raftpb by hand, because every append passes through here.
 *
 *   Message           1 type, 2 to, 3 from, 4 term, 5 logTerm, 6 index, 7 entries (repeated), 8
 * commit, 9 snapshot, 10 reject, 11 rejectHint, 12 context, 13 vote, 14 responses Entry 1 type, 2
 * term, 3 index, 4 data Snapshot          1 data, 2 metadata SnapshotMetadata  1 conf_state, 2
 * index, 3 term ConfState         1 voters, 2 learners, 3 voters_outgoing, 4 learners_next
 * (repeated), 5 auto_leave
 *
 * All tags take one byte. Sizes are summed up first, then everything is written in one go into room
 * that was reserved once. Responses never leave a member and are skipped.
 */
#include "raft/peer/codec.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/wire.h"

/* ---- writing ---- */

static size_t number_bytes(uint64_t v)
{
    return 1 + wire_varint_size(v);
}

static size_t run_bytes(size_t len)
{
    return 1 + wire_varint_size(len) + len;
}

static uint8_t *put_number(uint8_t *p, uint32_t field, uint64_t v)
{
    return wire_put_varint(wire_put_tag(p, field, WIRE_VARINT), v);
}

static uint8_t *put_head(uint8_t *p, uint32_t field, size_t len)
{
    return wire_put_varint(wire_put_tag(p, field, WIRE_LEN), len);
}

static uint8_t *put_run(uint8_t *p, uint32_t field, const void *data, size_t len)
{
    p = put_head(p, field, len);
    if (len > 0) {
        memcpy(p, data, len);
    }
    return p + len;
}

static size_t ids_bytes(const struct raft_ids *ids)
{
    size_t n = 0;
    for (size_t i = 0; i < ids->n; i++) {
        n += number_bytes(ids->id[i]);
    }
    return n;
}

static uint8_t *put_ids(uint8_t *p, uint32_t field, const struct raft_ids *ids)
{
    for (size_t i = 0; i < ids->n; i++) {
        p = put_number(p, field, ids->id[i]);
    }
    return p;
}

static size_t conf_bytes(const struct raft_conf_state *c)
{
    return ids_bytes(&c->voters) + ids_bytes(&c->learners) + ids_bytes(&c->voters_outgoing) +
           ids_bytes(&c->learners_next) + 2;
}

static size_t metadata_bytes(const struct raft_snapshot *s)
{
    return run_bytes(conf_bytes(&s->conf)) + number_bytes(s->index) + number_bytes(s->term);
}

size_t peer_snapshot_bytes(const struct raft_snapshot *s)
{
    size_t data = s->data == NULL ? 0 : run_bytes(s->data->len);
    return data + run_bytes(metadata_bytes(s));
}

static uint8_t *put_snapshot(uint8_t *p, const struct raft_snapshot *s)
{
    if (s->data != NULL) {
        p = put_run(p, 1, s->data->data, s->data->len);
    }
    p = put_head(p, 2, metadata_bytes(s));
    p = put_head(p, 1, conf_bytes(&s->conf));
    p = put_ids(p, 1, &s->conf.voters);
    p = put_ids(p, 2, &s->conf.learners);
    p = put_ids(p, 3, &s->conf.voters_outgoing);
    p = put_ids(p, 4, &s->conf.learners_next);
    p = put_number(p, 5, s->conf.auto_leave ? 1 : 0);
    p = put_number(p, 2, s->index);
    return put_number(p, 3, s->term);
}

static uint8_t *put_entry(uint8_t *p, const struct raft_entry *e)
{
    p = put_number(p, 1, (uint64_t)e->type);
    p = put_number(p, 2, e->term);
    p = put_number(p, 3, e->index);
    return e->data == NULL ? p : put_run(p, 4, e->data->data, e->data->len);
}

size_t peer_message_bytes(const struct raft_message *m)
{
    size_t n = number_bytes((uint64_t)m->type) + number_bytes(m->to) + number_bytes(m->from) +
               number_bytes(m->term) + number_bytes(m->log_term) + number_bytes(m->index) +
               number_bytes(m->commit) + 2 + number_bytes(m->reject_hint) + number_bytes(m->vote);
    for (size_t i = 0; i < m->n_entries; i++) {
        n += run_bytes(raft_entry_bytes(&m->entries[i]));
    }
    if (m->snapshot != NULL) {
        n += run_bytes(peer_snapshot_bytes(m->snapshot));
    }
    return m->context_len == 0 ? n : n + run_bytes(m->context_len);
}

static uint8_t *put_message(uint8_t *p, const struct raft_message *m)
{
    p = put_number(p, 1, (uint64_t)m->type);
    p = put_number(p, 2, m->to);
    p = put_number(p, 3, m->from);
    p = put_number(p, 4, m->term);
    p = put_number(p, 5, m->log_term);
    p = put_number(p, 6, m->index);
    for (size_t i = 0; i < m->n_entries; i++) {
        p = put_head(p, 7, raft_entry_bytes(&m->entries[i]));
        p = put_entry(p, &m->entries[i]);
    }
    p = put_number(p, 8, m->commit);
    if (m->snapshot != NULL) {
        p = put_head(p, 9, peer_snapshot_bytes(m->snapshot));
        p = put_snapshot(p, m->snapshot);
    }
    p = put_number(p, 10, m->reject ? 1 : 0);
    p = put_number(p, 11, m->reject_hint);
    if (m->context_len > 0) {
        p = put_run(p, 12, m->context, m->context_len);
    }
    return put_number(p, 13, m->vote);
}

static void grown(struct bytes *out, size_t len, const uint8_t *end)
{
    out->len += len;
    ASSERT(end == out->data + out->len);
}

void peer_message_encode(const struct raft_message *m, struct bytes *out)
{
    ASSERT(m->context_len <= RAFT_CONTEXT_BYTES_MAX);
    size_t len = peer_message_bytes(m);
    grown(out, len, put_message(bytes_reserve(out, len), m));
}

void peer_entry_encode(const struct raft_entry *e, struct bytes *out)
{
    size_t len = raft_entry_bytes(e);
    grown(out, len, put_entry(bytes_reserve(out, len), e));
}

void peer_snapshot_encode(const struct raft_snapshot *s, struct bytes *out)
{
    size_t len = peer_snapshot_bytes(s);
    grown(out, len, put_snapshot(bytes_reserve(out, len), s));
}

/* ---- reading ---- */

static enum err want(const struct wire_field *f, enum wire_type type)
{
    return f->type == type ? OK : ERR_INVALID;
}

static struct buf *take_data(struct buf *old, struct slice data)
{
    buf_unref(&old);
    return buf_copy(data);
}

static enum err read_entry(struct slice in, struct raft_entry *e)
{
    struct wire_field f;
    enum err err;
    while ((err = wire_next(&in, &f)) == OK) {
        if (f.number > 4) {
            continue;
        }
        if (want(&f, f.number == 4 ? WIRE_LEN : WIRE_VARINT) != OK) {
            return ERR_INVALID;
        }
        if (f.number == 1) {
            if (f.value > RAFT_ENTRY_CONF_CHANGE_V2) {
                return ERR_INVALID;
            }
            e->type = (enum raft_entry_type)f.value;
        } else if (f.number == 2) {
            e->term = f.value;
        } else if (f.number == 3) {
            e->index = f.value;
        } else {
            e->data = take_data(e->data, f.bytes);
        }
    }
    return err == ERR_END ? OK : err;
}

enum err peer_entry_decode(struct slice in, struct raft_entry *out, struct err_ctx *ec)
{
    struct raft_entry e = {0};
    if (in.len > PEER_MESSAGE_BYTES_MAX) {
        return err_set(ec, ERR_LIMIT, "entry of %zu bytes", in.len);
    }
    enum err err = read_entry(in, &e);
    if (err != OK) {
        buf_unref(&e.data);
        return err_set(ec, err, "entry of %zu bytes: not a raftpb.Entry", in.len);
    }
    *out = e;
    return OK;
}

/* Keeps the ids ascending and each once, whatever order they come in. */
static enum err insert_id(struct raft_ids *ids, uint64_t id)
{
    size_t at = ids->n;
    while (at > 0 && ids->id[at - 1] >= id) {
        at--;
    }
    if (at < ids->n && ids->id[at] == id) {
        return OK;
    }
    if (ids->n == RAFT_MEMBERS_MAX) {
        return ERR_LIMIT;
    }
    memmove(&ids->id[at + 1], &ids->id[at], (ids->n - at) * sizeof(ids->id[0]));
    ids->id[at] = id;
    ids->n++;
    return OK;
}

/* A number by itself, or many of them packed into one field. */
static enum err read_ids(const struct wire_field *f, struct raft_ids *ids)
{
    if (f->type == WIRE_VARINT) {
        return insert_id(ids, f->value);
    }
    struct slice rest = f->bytes;
    enum err e = want(f, WIRE_LEN);
    while (e == OK && rest.len > 0) {
        uint64_t id = 0;
        e = wire_take_varint(&rest, &id);
        if (e == OK) {
            e = insert_id(ids, id);
        }
    }
    return e;
}

static enum err read_conf(struct slice in, struct raft_conf_state *c)
{
    struct raft_ids *const lists[] = {&c->voters, &c->learners, &c->voters_outgoing,
                                      &c->learners_next};
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&in, &f)) == OK) {
        if (f.number <= ARRAY_LEN(lists)) {
            e = read_ids(&f, lists[f.number - 1]);
        } else if (f.number == 5) {
            e = want(&f, WIRE_VARINT);
            c->auto_leave = f.value != 0;
        }
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err read_metadata(struct slice in, struct raft_snapshot *s)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&in, &f)) == OK) {
        if (f.number > 3) {
            continue;
        }
        e = want(&f, f.number == 1 ? WIRE_LEN : WIRE_VARINT);
        if (e == OK && f.number == 1) {
            s->conf = (struct raft_conf_state){0};
            e = read_conf(f.bytes, &s->conf);
        } else if (f.number == 2) {
            s->index = f.value;
        } else if (f.number == 3) {
            s->term = f.value;
        }
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err read_snapshot(struct slice in, struct raft_snapshot *s)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&in, &f)) == OK) {
        if (f.number > 2) {
            continue;
        }
        e = want(&f, WIRE_LEN);
        if (e == OK && f.number == 1) {
            s->data = take_data(s->data, f.bytes);
        } else if (e == OK) {
            e = read_metadata(f.bytes, s);
        }
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

enum err peer_snapshot_decode(struct slice in, struct raft_snapshot **out, struct err_ctx *ec)
{
    if (in.len > PEER_MESSAGE_BYTES_MAX) {
        return err_set(ec, ERR_LIMIT, "snapshot message of %zu bytes", in.len);
    }
    struct raft_snapshot *s = xcalloc(1, sizeof(*s));
    enum err e = read_snapshot(in, s);
    if (e != OK) {
        raft_snapshot_destroy(&s);
        return err_set(ec, e, "snapshot message of %zu bytes: %s", in.len,
                       e == ERR_LIMIT ? "too many members" : "not a raftpb.Snapshot");
    }
    *out = s;
    return OK;
}

/* How many entries the message has and of which type it is: what has to be known to allocate it. */
static enum err survey(struct slice in, uint64_t *type, size_t *n_entries)
{
    struct wire_field f;
    enum err e;
    *type = RAFT_MSG_HUP;
    *n_entries = 0;
    while ((e = wire_next(&in, &f)) == OK) {
        if (f.number == 7) {
            e = want(&f, WIRE_LEN);
            ++*n_entries;
        } else if (f.number == 1) {
            e = want(&f, WIRE_VARINT);
            *type = f.value;
        }
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

static void set_number(struct raft_message *m, uint32_t field, uint64_t v)
{
    switch (field) {
    case 2:
        m->to = v;
        break;
    case 3:
        m->from = v;
        break;
    case 4:
        m->term = v;
        break;
    case 5:
        m->log_term = v;
        break;
    case 6:
        m->index = v;
        break;
    case 8:
        m->commit = v;
        break;
    case 10:
        m->reject = v != 0;
        break;
    case 11:
        m->reject_hint = v;
        break;
    case 13:
        m->vote = v;
        break;
    default:
        break; /* 1 was read before; others are not known here */
    }
}

static enum err read_nested(struct raft_message *m, const struct wire_field *f, size_t *n_read)
{
    if (f->number == 7) {
        return read_entry(f->bytes, &m->entries[(*n_read)++]);
    }
    if (f->number == 9) {
        raft_snapshot_destroy(&m->snapshot);
        m->snapshot = xcalloc(1, sizeof(*m->snapshot));
        return read_snapshot(f->bytes, m->snapshot);
    }
    if (f->bytes.len > RAFT_CONTEXT_BYTES_MAX) {
        return ERR_LIMIT;
    }
    m->context_len = (uint8_t)f->bytes.len;
    if (f->bytes.len > 0) {
        memcpy(m->context, f->bytes.data, f->bytes.len);
    }
    return OK;
}

static enum err read_message(struct slice in, struct raft_message *m)
{
    struct wire_field f;
    size_t n_read = 0;
    enum err e;
    while ((e = wire_next(&in, &f)) == OK) {
        if (f.number > 13) {
            continue;
        }
        bool nested = f.number == 7 || f.number == 9 || f.number == 12;
        e = want(&f, nested ? WIRE_LEN : WIRE_VARINT);
        if (e == OK && nested) {
            e = read_nested(m, &f, &n_read);
        } else if (e == OK) {
            set_number(m, f.number, f.value);
        }
        if (e != OK) {
            return e;
        }
    }
    ASSERT(e != ERR_END || n_read == m->n_entries);
    return e == ERR_END ? OK : e;
}

/* Older members write the snapshot of no index into every message. */
static void drop_empty_snapshot(struct raft_message *m)
{
    if (m->type != RAFT_MSG_SNAP && m->snapshot != NULL && m->snapshot->index == 0 &&
        m->snapshot->term == 0) {
        raft_snapshot_destroy(&m->snapshot);
    }
}

enum err peer_message_decode(struct slice in, struct raft_message **out, struct err_ctx *ec)
{
    uint64_t type = 0;
    size_t n_entries = 0;
    if (in.len > PEER_MESSAGE_BYTES_MAX) {
        return err_set(ec, ERR_LIMIT, "message of %zu bytes", in.len);
    }
    enum err e = survey(in, &type, &n_entries);
    if (e != OK) {
        return err_set(ec, e, "message of %zu bytes: not a raftpb.Message", in.len);
    }
    if (type > RAFT_MSG_FORGET_LEADER) {
        return err_set(ec, ERR_UNSUPPORTED, "message of type %llu", (unsigned long long)type);
    }
    if (n_entries > PEER_ENTRIES_MAX) {
        return err_set(ec, ERR_LIMIT, "message of %zu entries", n_entries);
    }
    struct raft_message *m = raft_message_create((enum raft_message_type)type, n_entries);
    e = read_message(in, m);
    if (e != OK) {
        raft_message_destroy(&m);
        return err_set(ec, e, "message of %zu bytes: %s", in.len,
                       e == ERR_LIMIT ? "too long a context or too many members"
                                      : "not a raftpb.Message");
    }
    drop_empty_snapshot(m);
    *out = m;
    return OK;
}
