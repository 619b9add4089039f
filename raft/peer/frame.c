/* frame.c - see frame.h; all lengths and counts are 8 bytes, big-endian.
 *
 *   message stream   length, raftpb.Message. The link's heartbeat is a MsgHeartbeat from and to 0.
 *                    With the top bit of the length set: an extra message; bits 48 to 62 are its
 * kind, the rest is its length. append stream    0: the link's heartbeat 1, count, count times
 * (length, raftpb.Entry), commit: a MsgApp that continues the one before 2, length, raftpb.Message:
 * any other MsgApp; it sets term and index snapshot         length, raftpb.Message of type MsgSnap;
 * the database follows
 *
 * The decoder reads part by part, each of a known length. A part that lies whole in the input is
 * looked at where it is; only one that is cut is gathered first.
 */
#include "raft/peer/frame.h"

#include <assert.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/mem.h"
#include "raft/peer/codec.h"

#define TYPE_HEARTBEAT 0u
#define TYPE_ENTRIES 1u
#define TYPE_MESSAGE 2u

#define EXTRA_FLAG (UINT64_C(1) << 63)
#define EXTRA_KIND_SHIFT 48u
#define EXTRA_LENGTH_MASK ((UINT64_C(1) << EXTRA_KIND_SHIFT) - 1u)
#define ENTRIES_FIRST                                                                              \
    16u /* room for so many entries is taken at once, whatever count is announced */

static_assert(PEER_MESSAGE_BYTES_MAX < EXTRA_FLAG, "no message has the flag in its length");
static_assert(PEER_EXTRA_KINDS == 1u << (63u - EXTRA_KIND_SHIFT), "kinds fill their bits");

const char *peer_stream_name(enum peer_stream stream)
{
    switch (stream) {
    case PEER_STREAM_APPEND:
        return "stream MsgApp v2";
    case PEER_STREAM_MESSAGE:
        return "stream Message";
    case PEER_STREAM_SNAPSHOT:
        return "sendMsgSnap";
    }
    UNREACHABLE();
}

/* ---- writing ---- */

static void add_u8(struct bytes *out, uint8_t v)
{
    bytes_add(out, &v, 1);
}

static void add_u64(struct bytes *out, uint64_t v)
{
    uint8_t b[8];
    for (size_t i = 0; i < 8; i++) {
        b[i] = (uint8_t)(v >> (56u - 8u * i));
    }
    bytes_add(out, b, sizeof(b));
}

static void add_message(struct bytes *out, const struct raft_message *m)
{
    add_u64(out, peer_message_bytes(m));
    peer_message_encode(m, out);
}

void peer_encoder_init(struct peer_encoder *e, enum peer_stream stream, uint64_t local,
                       uint64_t remote)
{
    *e = (struct peer_encoder){.stream = stream, .local = local, .remote = remote};
}

/* Whether the other end can make up all that the compact form leaves out. */
static bool continues(const struct peer_encoder *e, const struct raft_message *m)
{
    bool bare = m->vote == 0 && !m->reject && m->reject_hint == 0 && m->context_len == 0 &&
                m->snapshot == NULL && m->from == e->local && m->to == e->remote;
    return bare && e->term != 0 && m->term == e->term && m->log_term == e->term &&
           m->index == e->index;
}

static void encode_append(struct peer_encoder *e, const struct raft_message *m, struct bytes *out)
{
    ASSERT(m->type == RAFT_MSG_APP);
    uint64_t last = m->n_entries == 0 ? m->index : m->entries[m->n_entries - 1].index;
    if (continues(e, m)) {
        add_u8(out, TYPE_ENTRIES);
        add_u64(out, m->n_entries);
        for (size_t i = 0; i < m->n_entries; i++) {
            add_u64(out, raft_entry_bytes(&m->entries[i]));
            peer_entry_encode(&m->entries[i], out);
        }
        add_u64(out, m->commit);
    } else {
        add_u8(out, TYPE_MESSAGE);
        add_message(out, m);
        e->term = m->term;
    }
    e->index = last;
}

void peer_encode(struct peer_encoder *e, const struct raft_message *m, struct bytes *out)
{
    switch (e->stream) {
    case PEER_STREAM_APPEND:
        encode_append(e, m, out);
        return;
    case PEER_STREAM_MESSAGE:
        add_message(out, m);
        return;
    case PEER_STREAM_SNAPSHOT:
        ASSERT(m->type == RAFT_MSG_SNAP);
        add_message(out, m);
        return;
    }
    UNREACHABLE();
}

void peer_encode_heartbeat(struct peer_encoder *e, struct bytes *out)
{
    const struct raft_message beat = {.type = RAFT_MSG_HEARTBEAT};
    ASSERT(e->stream != PEER_STREAM_SNAPSHOT);
    if (e->stream == PEER_STREAM_APPEND) {
        add_u8(out, TYPE_HEARTBEAT);
    } else {
        add_message(out, &beat);
    }
}

void peer_encode_extra(struct peer_encoder *e, uint32_t kind, struct slice body, struct bytes *out)
{
    ASSERT(e->stream == PEER_STREAM_MESSAGE);
    ASSERT(kind < PEER_EXTRA_KINDS);
    ASSERT(body.len <= PEER_EXTRA_BYTES_MAX);
    add_u64(out, EXTRA_FLAG | (uint64_t)kind << EXTRA_KIND_SHIFT | body.len);
    bytes_add(out, body.data, body.len);
}

/* ---- reading ---- */

static void expect(struct peer_decoder *d, enum peer_decoder_state state, size_t need)
{
    d->state = state;
    d->need = need;
}

static void expect_frame(struct peer_decoder *d)
{
    if (d->stream == PEER_STREAM_APPEND) {
        expect(d, PEER_AT_TYPE, 1);
    } else {
        expect(d, PEER_AT_LENGTH, 8);
    }
}

void peer_decoder_init(struct peer_decoder *d, enum peer_stream stream, uint64_t local,
                       uint64_t remote, bool extras)
{
    *d = (struct peer_decoder){.stream = stream,
                               .local = local,
                               .remote = remote,
                               .extras = extras && stream == PEER_STREAM_MESSAGE};
    expect_frame(d);
}

static void drop_entries(struct peer_decoder *d)
{
    for (size_t i = 0; i < d->n_read; i++) {
        buf_unref(&d->entries[i].data);
    }
    free(d->entries);
    d->entries = NULL;
    d->n_read = 0;
    d->cap = 0;
}

void peer_decoder_deinit(struct peer_decoder *d)
{
    drop_entries(d);
    bytes_deinit(&d->part);
}

bool peer_decoder_at_boundary(const struct peer_decoder *d)
{
    bool empty = d->part_used || d->part.len == 0;
    return empty && (d->state == PEER_AT_DATABASE || d->state == PEER_AT_TYPE ||
                     (d->state == PEER_AT_LENGTH && d->stream != PEER_STREAM_APPEND));
}

/* Get the part of d->need bytes from what was gathered and the front of *in. */
static bool take_part(struct peer_decoder *d, struct slice *in, struct slice *part)
{
    if (d->part_used) {
        /* One large message does not keep its room for as long as the connection lives. */
        if (d->part.cap > RAFT_APPEND_BYTES) {
            bytes_deinit(&d->part);
        }
        bytes_reset(&d->part);
        d->part_used = false;
    }
    size_t want = d->need - d->part.len;
    size_t n = in->len < want ? in->len : want;
    if (d->part.len == 0 && n == want) {
        *part = (struct slice){in->data, n};
    } else {
        bytes_add(&d->part, in->data, n);
        *part = bytes_slice(&d->part);
        d->part_used = n == want;
    }
    if (n > 0) {
        *in = (struct slice){in->data + n, in->len - n};
    }
    return n == want;
}

static uint64_t read_u64(struct slice part)
{
    uint64_t v = 0;
    ASSERT(part.len == 8);
    for (size_t i = 0; i < 8; i++) {
        v = v << 8 | part.data[i];
    }
    return v;
}

static enum err on_type(struct peer_decoder *d, uint8_t type, enum peer_frame *frame,
                        struct err_ctx *ec)
{
    if (type == TYPE_HEARTBEAT) {
        *frame = PEER_FRAME_HEARTBEAT;
    } else if (type == TYPE_MESSAGE) {
        expect(d, PEER_AT_LENGTH, 8);
    } else if (type == TYPE_ENTRIES && d->term != 0) {
        expect(d, PEER_AT_COUNT, 8);
    } else if (type == TYPE_ENTRIES) {
        return err_set(ec, ERR_INVALID, "entries before the append they continue");
    } else {
        return err_set(ec, ERR_INVALID, "unknown type %u in the append stream", type);
    }
    return OK;
}

static enum err on_length(struct peer_decoder *d, uint64_t v, struct err_ctx *ec)
{
    if (d->extras && (v & EXTRA_FLAG) != 0) {
        uint64_t len = v & EXTRA_LENGTH_MASK;
        d->extra_kind = (uint32_t)(v >> EXTRA_KIND_SHIFT) & (PEER_EXTRA_KINDS - 1u);
        if (len > PEER_EXTRA_BYTES_MAX) {
            return err_set(ec, ERR_LIMIT, "extra message of kind %u announces %llu bytes",
                           d->extra_kind, (unsigned long long)len);
        }
        expect(d, PEER_AT_EXTRA, (size_t)len);
        return OK;
    }
    uint64_t max =
        d->stream == PEER_STREAM_SNAPSHOT ? PEER_SNAPSHOT_HEAD_BYTES_MAX : PEER_MESSAGE_BYTES_MAX;
    if (v > max) {
        return err_set(ec, ERR_LIMIT, "message announces %llu bytes", (unsigned long long)v);
    }
    expect(d, PEER_AT_BODY, (size_t)v);
    return OK;
}

static enum err check_kind(const struct peer_decoder *d, const struct raft_message *m,
                           struct err_ctx *ec)
{
    const char *name = raft_message_type_name(m->type);
    if (d->stream == PEER_STREAM_APPEND && m->type != RAFT_MSG_APP) {
        return err_set(ec, ERR_INVALID, "%s in the append stream", name);
    }
    if (d->stream == PEER_STREAM_SNAPSHOT && m->type != RAFT_MSG_SNAP) {
        return err_set(ec, ERR_UNSUPPORTED, "%s at the head of a snapshot", name);
    }
    if (d->stream == PEER_STREAM_SNAPSHOT && m->snapshot == NULL) {
        return err_set(ec, ERR_INVALID, "%s without a snapshot", name);
    }
    return OK;
}

static enum err on_body(struct peer_decoder *d, struct slice part, enum peer_frame *frame,
                        struct raft_message **message, struct err_ctx *ec)
{
    struct raft_message *m = NULL;
    enum err e = peer_message_decode(part, &m, ec);
    if (e == ERR_UNSUPPORTED && d->stream == PEER_STREAM_MESSAGE) {
        *frame = PEER_FRAME_SKIPPED;
        return OK;
    }
    if (e == OK) {
        e = check_kind(d, m, ec);
    }
    if (e != OK) {
        raft_message_destroy(&m);
        return e;
    }
    if (m->type == RAFT_MSG_HEARTBEAT && m->from == 0 && m->to == 0) {
        raft_message_destroy(&m);
        *frame = PEER_FRAME_HEARTBEAT;
        return OK;
    }
    if (d->stream == PEER_STREAM_APPEND) {
        d->term = m->term;
        d->index = m->n_entries == 0 ? m->index : m->entries[m->n_entries - 1].index;
    }
    *frame = PEER_FRAME_MESSAGE;
    *message = m;
    return OK;
}

static void expect_entry(struct peer_decoder *d)
{
    if (d->n_read < d->n_entries) {
        expect(d, PEER_AT_ENTRY_LENGTH, 8);
    } else {
        expect(d, PEER_AT_COMMIT, 8);
    }
}

static enum err on_count(struct peer_decoder *d, uint64_t n, struct err_ctx *ec)
{
    if (n > PEER_ENTRIES_MAX) {
        return err_set(ec, ERR_LIMIT, "append of %llu entries", (unsigned long long)n);
    }
    d->n_entries = n;
    expect_entry(d);
    return OK;
}

static enum err on_entry(struct peer_decoder *d, struct slice part, struct err_ctx *ec)
{
    struct raft_entry e = {0};
    enum err err = peer_entry_decode(part, &e, ec);
    if (err != OK) {
        return err;
    }
    uint64_t expected = d->index + d->n_read + 1;
    if (e.index != expected) {
        buf_unref(&e.data);
        return err_set(ec, ERR_INVALID, "entry %llu where %llu continues the append",
                       (unsigned long long)e.index, (unsigned long long)expected);
    }
    if (d->n_read == d->cap) {
        d->cap = d->cap == 0 ? ENTRIES_FIRST : d->cap * 2;
        d->entries = xrealloc(d->entries, d->cap * sizeof(d->entries[0]));
    }
    d->entries[d->n_read++] = e;
    expect_entry(d);
    return OK;
}

static struct raft_message *on_commit(struct peer_decoder *d, uint64_t commit)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_APP, d->n_read);
    m->from = d->remote;
    m->to = d->local;
    m->term = d->term;
    m->log_term = d->term;
    m->index = d->index;
    m->commit = commit;
    if (d->n_read > 0) {
        memcpy(m->entries, d->entries, d->n_read * sizeof(d->entries[0]));
    }
    d->index += d->n_read;
    d->n_read = 0; /* the references went along */
    drop_entries(d);
    return m;
}

/* A part has come whole; `state` says what it is. A frame ends where *frame is set. */
static enum err on_part(struct peer_decoder *d, struct slice part, enum peer_frame *frame,
                        struct raft_message **message, struct err_ctx *ec)
{
    switch (d->state) {
    case PEER_AT_TYPE:
        return on_type(d, part.data[0], frame, ec);
    case PEER_AT_LENGTH:
        return on_length(d, read_u64(part), ec);
    case PEER_AT_BODY:
        return on_body(d, part, frame, message, ec);
    case PEER_AT_EXTRA:
        d->extra = part;
        *frame = PEER_FRAME_EXTRA;
        return OK;
    case PEER_AT_COUNT:
        return on_count(d, read_u64(part), ec);
    case PEER_AT_ENTRY_LENGTH: {
        uint64_t len = read_u64(part);
        if (len > PEER_MESSAGE_BYTES_MAX) {
            return err_set(ec, ERR_LIMIT, "entry announces %llu bytes", (unsigned long long)len);
        }
        expect(d, PEER_AT_ENTRY, (size_t)len);
        return OK;
    }
    case PEER_AT_ENTRY:
        return on_entry(d, part, ec);
    case PEER_AT_COMMIT:
        *message = on_commit(d, read_u64(part));
        *frame = PEER_FRAME_MESSAGE;
        return OK;
    case PEER_AT_DATABASE:
    case PEER_BROKEN:
        break;
    }
    UNREACHABLE();
}

enum err peer_decode(struct peer_decoder *d, struct slice *in, enum peer_frame *frame,
                     struct raft_message **message, struct err_ctx *ec)
{
    enum peer_frame found = PEER_FRAME_NONE;
    struct slice part;
    if (d->state == PEER_BROKEN) {
        return err_set(ec, ERR_CLOSED, "the stream was broken before");
    }
    while (found == PEER_FRAME_NONE && d->state != PEER_AT_DATABASE && take_part(d, in, &part)) {
        enum err e = on_part(d, part, &found, message, ec);
        if (e != OK) {
            drop_entries(d);
            d->state = PEER_BROKEN;
            return e;
        }
    }
    if (found != PEER_FRAME_NONE && d->stream == PEER_STREAM_SNAPSHOT) {
        expect(d, PEER_AT_DATABASE, 0);
    } else if (found != PEER_FRAME_NONE) {
        expect_frame(d);
    }
    *frame = found;
    return OK;
}
