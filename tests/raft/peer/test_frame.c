/* test_frame.c - the streams: their bytes, however they are cut, and bytes that are none. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/peer/codec.h"
#include "raft/peer/frame.h"
#include "tests/raft/peer/hex.h"

#define LOCAL 1u
#define REMOTE 2u

#define BEAT "0808100018002000280030004000500058006800"

/* An append of `n` entries with one byte each behind `index`. */
static struct raft_message *append(uint64_t term, uint64_t log_term, uint64_t index, size_t n)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_APP, n);
    m->from = LOCAL;
    m->to = REMOTE;
    m->term = term;
    m->log_term = log_term;
    m->index = index;
    m->commit = index;
    for (size_t i = 0; i < n; i++) {
        m->entries[i].index = index + 1 + i;
        m->entries[i].term = term;
        m->entries[i].data = buf_copy(slice_str("x"));
    }
    return m;
}

static void encode(struct peer_encoder *e, struct raft_message *m, struct bytes *out)
{
    peer_encode(e, m, out);
    raft_message_destroy(&m);
}

static void test_append_bytes(void **state)
{
    (void)state;
    struct peer_encoder e;
    struct bytes out = {0};
    peer_encoder_init(&e, PEER_STREAM_APPEND, LOCAL, REMOTE);
    peer_encode_heartbeat(&e, &out);
    assert_hex(bytes_slice(&out), "00");
    bytes_reset(&out);
    encode(&e, append(3, 3, 7, 1), &out); /* the first one is whole: nothing is known yet */
    assert_hex(bytes_slice(&out),
               "02 000000000000001f 0803100218012003280330073a09080010031808220178"
               "40075000580068 00");
    bytes_reset(&out);
    encode(&e, append(3, 3, 8, 2), &out);
    assert_hex(bytes_slice(&out), "01 0000000000000002 0000000000000009 080010031809220178"
                                  "0000000000000009 08001003180a220178 0000000000000008");
    bytes_reset(&out);
    encode(&e, append(3, 3, 10, 0), &out); /* only the commit moves */
    assert_hex(bytes_slice(&out), "01 0000000000000000 000000000000000a");
    bytes_reset(&out);
    encode(&e, append(3, 3, 9, 1), &out); /* sent again: does not continue */
    assert_int_equal(out.data[0], 2);
    bytes_reset(&out);
    encode(&e, append(4, 3, 10, 1), &out); /* another term than the entry before */
    assert_int_equal(out.data[0], 2);
    bytes_reset(&out);
    encode(&e, append(4, 4, 11, 1), &out);
    assert_int_equal(out.data[0], 1);
    bytes_reset(&out);
    struct raft_message *m = append(4, 4, 12, 1);
    m->vote = 1; /* the short form has no place for it */
    encode(&e, m, &out);
    assert_int_equal(out.data[0], 2);
    bytes_deinit(&out);
}

static void test_message_bytes(void **state)
{
    (void)state;
    struct peer_encoder e;
    struct bytes out = {0};
    peer_encoder_init(&e, PEER_STREAM_MESSAGE, LOCAL, REMOTE);
    peer_encode_heartbeat(&e, &out);
    assert_hex(bytes_slice(&out), "0000000000000014" BEAT);
    bytes_reset(&out);
    peer_encode_extra(&e, 0x7fff, slice_str("hi"), &out);
    peer_encode_extra(&e, 1, slice_str(""), &out);
    assert_hex(bytes_slice(&out), "ffff000000000002 6869 8001000000000000");
    bytes_deinit(&out);
}

/* What a decoder made of its input, as text: H, S, X<kind>:<bytes>, M<index>+<entries>@<commit>. */
static void describe(struct bytes *out, const struct peer_decoder *d, enum peer_frame frame,
                     struct raft_message *m)
{
    switch (frame) {
    case PEER_FRAME_NONE:
        break;
    case PEER_FRAME_HEARTBEAT:
        bytes_add_str(out, "H ");
        break;
    case PEER_FRAME_SKIPPED:
        bytes_add_str(out, "S ");
        break;
    case PEER_FRAME_EXTRA:
        bytes_printf(out, "X%u:%.*s ", d->extra_kind, (int)d->extra.len,
                     (const char *)d->extra.data);
        break;
    case PEER_FRAME_MESSAGE:
        bytes_printf(out, "%s %u>%u t%u/%u %u+%zu", raft_message_type_name(m->type),
                     (unsigned)m->from, (unsigned)m->to, (unsigned)m->term, (unsigned)m->log_term,
                     (unsigned)m->index, m->n_entries);
        for (size_t i = 0; i < m->n_entries; i++) {
            bytes_printf(out, ",%u:%.*s", (unsigned)m->entries[i].index,
                         (int)buf_slice(m->entries[i].data).len,
                         (const char *)buf_slice(m->entries[i].data).data);
        }
        bytes_printf(out, " c%u ", (unsigned)m->commit);
        raft_message_destroy(&m);
        break;
    }
}

/* Feed pieces of `step` bytes, the first one shorter by `first`. */
static enum err read_all(struct peer_decoder *d, struct slice in, size_t first, size_t step,
                         struct bytes *out)
{
    size_t at = 0;
    size_t n = first;
    while (at < in.len) {
        n = n > in.len - at ? in.len - at : n;
        struct slice piece = {in.data + at, n};
        enum peer_frame frame;
        do {
            struct raft_message *m = NULL;
            enum err e = peer_decode(d, &piece, &frame, &m, NULL);
            if (e != OK) {
                assert_null(m);
                return e;
            }
            describe(out, d, frame, m);
        } while (frame != PEER_FRAME_NONE);
        assert_int_equal(piece.len, 0);
        at += n;
        n = step;
    }
    return OK;
}

static void add_stream(struct bytes *in, enum peer_stream stream)
{
    struct peer_encoder e;
    peer_encoder_init(&e, stream, LOCAL, REMOTE);
    peer_encode_heartbeat(&e, in);
    encode(&e, append(3, 3, 7, 1), in);
    encode(&e, append(3, 3, 8, 3), in);
    encode(&e, append(3, 3, 11, 0), in);
    peer_encode_heartbeat(&e, in);
    encode(&e, append(4, 3, 11, 2), in);
    if (stream == PEER_STREAM_MESSAGE) {
        peer_encode_extra(&e, 5, slice_str("extra"), in);
        hex_add(in, "0000000000000002 0863"); /* a type of the future */
    }
    encode(&e, append(4, 4, 13, 1), in);
}

#define APPENDS                                                                                    \
    "H MsgApp 1>2 t3/3 7+1,8:x c7 MsgApp 1>2 t3/3 8+3,9:x,10:x,11:x c8 MsgApp 1>2 t3/3 11+0 c11 "  \
    "H MsgApp 1>2 t4/3 11+2,12:x,13:x c11 "

static void test_pieces(void **state)
{
    (void)state;
    static const char *const want[] = {
        [PEER_STREAM_APPEND] = APPENDS "MsgApp 1>2 t4/4 13+1,14:x c13 ",
        [PEER_STREAM_MESSAGE] = APPENDS "X5:extra S MsgApp 1>2 t4/4 13+1,14:x c13 ",
    };
    for (size_t stream = 0; stream < ARRAY_LEN(want); stream++) {
        struct bytes in = {0};
        add_stream(&in, (enum peer_stream)stream);
        for (size_t step = 1; step <= in.len; step += step < 12 ? 1 : 7) {
            for (size_t first = 1; first < 24; first += 3) {
                struct bytes out = {0};
                struct peer_decoder d;
                peer_decoder_init(&d, (enum peer_stream)stream, REMOTE, LOCAL, true);
                assert_int_equal(read_all(&d, bytes_slice(&in), first, step, &out), OK);
                bytes_add(&out, "", 1);
                assert_string_equal((const char *)out.data, want[stream]);
                assert_true(peer_decoder_at_boundary(&d));
                peer_decoder_deinit(&d);
                bytes_deinit(&out);
            }
        }
        bytes_deinit(&in);
    }
}

/* Any cut of a stream leaves a decoder that can be dropped, and only whole frames end at a
 * boundary. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t stream = 0; stream <= PEER_STREAM_MESSAGE; stream++) {
        struct bytes in = {0};
        size_t n_boundaries = 0;
        add_stream(&in, (enum peer_stream)stream);
        for (size_t len = 1; len <= in.len; len++) {
            struct bytes out = {0};
            struct peer_decoder d;
            peer_decoder_init(&d, (enum peer_stream)stream, REMOTE, LOCAL, true);
            assert_int_equal(read_all(&d, slice_of(in.data, len), len, len, &out), OK);
            n_boundaries += peer_decoder_at_boundary(&d);
            peer_decoder_deinit(&d);
            bytes_deinit(&out);
        }
        assert_int_equal(n_boundaries, stream == PEER_STREAM_APPEND ? 7 : 9);
        bytes_deinit(&in);
    }
}

static const struct bad {
    const char *name;
    enum peer_stream stream;
    bool extras;
    const char *hex;
    enum err e;
} bads[] = {
    {"an unknown type", PEER_STREAM_APPEND, false, "03", ERR_INVALID},
    {"entries before any append", PEER_STREAM_APPEND, false, "01 0000000000000000", ERR_INVALID},
    {"too many entries", PEER_STREAM_APPEND, false,
     "02 0000000000000006 080320013001 01 0000000000040001", ERR_LIMIT},
    {"a huge count", PEER_STREAM_APPEND, false,
     "02 0000000000000006 080320013001 01 ffffffffffffffff", ERR_LIMIT},
    {"a huge entry", PEER_STREAM_APPEND, false,
     "02 0000000000000006 080320013001 01 0000000000000001 ffffffffffffffff", ERR_LIMIT},
    {"an entry that leaves a gap", PEER_STREAM_APPEND, false,
     "02 0000000000000006 080320013001 01 0000000000000001 0000000000000004 10011803", ERR_INVALID},
    {"an entry of garbage behind a good one", PEER_STREAM_APPEND, false,
     "02 0000000000000006 080320013001 01 0000000000000002 0000000000000007 10011802220161"
     "0000000000000002 2200 0000000000000000",
     ERR_INVALID},
    {"a vote in the append stream", PEER_STREAM_APPEND, false, "02 0000000000000002 0805",
     ERR_INVALID},
    {"a type of the future in the append stream", PEER_STREAM_APPEND, false,
     "02 0000000000000002 0863", ERR_UNSUPPORTED},
    {"a huge message", PEER_STREAM_MESSAGE, false, "0000000020000001", ERR_LIMIT},
    {"garbage", PEER_STREAM_MESSAGE, false, "0000000000000002 ffff", ERR_INVALID},
    {"an extra message that nobody agreed on", PEER_STREAM_MESSAGE, false, "8001000000000000",
     ERR_LIMIT},
    {"a huge extra message", PEER_STREAM_MESSAGE, true, "8001000001000001", ERR_LIMIT},
    {"no snapshot at the head", PEER_STREAM_SNAPSHOT, false, "0000000000000002 0803",
     ERR_UNSUPPORTED},
    {"a MsgSnap without one", PEER_STREAM_SNAPSHOT, false, "0000000000000002 0807", ERR_INVALID},
    {"a huge head", PEER_STREAM_SNAPSHOT, false, "0000000004000001", ERR_LIMIT},
    {"an extra message at the head", PEER_STREAM_SNAPSHOT, true, "8001000000000000", ERR_LIMIT},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bads); i++) {
        struct bytes in = {0};
        struct bytes out = {0};
        struct peer_decoder d;
        print_message("%s\n", bads[i].name);
        hex_add(&in, bads[i].hex);
        for (size_t step = 1; step <= in.len; step += in.len > 1 ? in.len - 1 : 1) {
            peer_decoder_init(&d, bads[i].stream, REMOTE, LOCAL, bads[i].extras);
            assert_int_equal(read_all(&d, bytes_slice(&in), step, step, &out), bads[i].e);
            assert_int_equal(read_all(&d, bytes_slice(&in), step, step, &out), ERR_CLOSED);
            assert_false(peer_decoder_at_boundary(&d));
            peer_decoder_deinit(&d);
        }
        bytes_deinit(&in);
        bytes_deinit(&out);
    }
}

static void test_snapshot_head(void **state)
{
    (void)state;
    struct bytes body = {0};
    struct peer_encoder e;
    struct raft_snapshot s = {.index = 9, .term = 2, .conf.voters = {1, {1}}};
    struct raft_message *m = raft_message_create(RAFT_MSG_SNAP, 0);
    m->snapshot = raft_snapshot_copy(&s);
    peer_encoder_init(&e, PEER_STREAM_SNAPSHOT, LOCAL, REMOTE);
    encode(&e, m, &body);
    size_t head = body.len;
    bytes_add_str(&body, "database");
    for (size_t first = 1; first <= body.len; first++) {
        struct peer_decoder d;
        enum peer_frame frame = PEER_FRAME_NONE;
        struct raft_message *got = NULL;
        struct slice in = slice_of(body.data, first);
        peer_decoder_init(&d, PEER_STREAM_SNAPSHOT, REMOTE, LOCAL, false);
        assert_int_equal(peer_decode(&d, &in, &frame, &got, NULL), OK);
        if (first < head) {
            assert_int_equal(frame, PEER_FRAME_NONE);
            assert_int_equal(in.len, 0);
            in = slice_of(body.data + first, body.len - first);
            assert_int_equal(peer_decode(&d, &in, &frame, &got, NULL), OK);
        }
        assert_int_equal(frame, PEER_FRAME_MESSAGE);
        assert_int_equal(got->snapshot->index, 9);
        raft_message_destroy(&got);
        const uint8_t *at = in.data;
        assert_ptr_equal(at, body.data + head);
        assert_int_equal(peer_decode(&d, &in, &frame, &got, NULL), OK);
        assert_int_equal(frame, PEER_FRAME_NONE);
        assert_ptr_equal(in.data, at);
        peer_decoder_deinit(&d);
    }
    bytes_deinit(&body);
}

/* A length alone takes no memory: the room grows with what arrives. */
static void test_slow_giant(void **state)
{
    (void)state;
    struct peer_decoder d;
    struct bytes in = {0};
    struct bytes out = {0};
    hex_add(&in, "0000000020000000 0803 0803");
    peer_decoder_init(&d, PEER_STREAM_MESSAGE, REMOTE, LOCAL, false);
    assert_int_equal(read_all(&d, bytes_slice(&in), 9, 1, &out), OK);
    assert_true(d.part.cap < 4096);
    peer_decoder_deinit(&d);
    bytes_deinit(&in);
    bytes_deinit(&out);
}

/* An entry larger than any usual append comes in pieces; its room is given back afterwards. */
static void test_large(void **state)
{
    (void)state;
    struct bytes in = {0};
    struct bytes out = {0};
    struct bytes data = {0};
    struct peer_encoder e;
    struct peer_decoder d;
    memset(bytes_reserve(&data, 3u << 20), 'y', 3u << 20);
    data.len = 3u << 20;
    peer_encoder_init(&e, PEER_STREAM_APPEND, LOCAL, REMOTE);
    encode(&e, append(3, 3, 7, 0), &in);
    struct raft_message *m = append(3, 3, 7, 1);
    buf_unref(&m->entries[0].data);
    m->entries[0].data = buf_copy(bytes_slice(&data));
    encode(&e, m, &in);
    peer_encode_heartbeat(&e, &in);
    peer_decoder_init(&d, PEER_STREAM_APPEND, REMOTE, LOCAL, false);
    assert_int_equal(read_all(&d, bytes_slice(&in), 1, 65536, &out), OK);
    assert_true(out.len > data.len);
    assert_true(d.part.cap < 4096);
    assert_string_equal(peer_stream_name(d.stream), "stream MsgApp v2");
    peer_decoder_deinit(&d);
    bytes_deinit(&data);
    bytes_deinit(&in);
    bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_bytes), cmocka_unit_test(test_message_bytes),
        cmocka_unit_test(test_pieces),       cmocka_unit_test(test_cut),
        cmocka_unit_test(test_bad),          cmocka_unit_test(test_snapshot_head),
        cmocka_unit_test(test_slow_giant),   cmocka_unit_test(test_large),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
