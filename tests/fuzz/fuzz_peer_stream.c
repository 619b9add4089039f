/* fuzz_peer_stream.c - bytes as a stream from another member, read at once and in pieces: both ways
 * must give the same frames and the same end.
 *
 * The first byte is the stream (bits 0 and 1) and whether extra messages were agreed on (bit 2),
 * the second one the length of the pieces.
 */
#include <stdint.h>

#include "base/assert.h"
#include "raft/peer/codec.h"
#include "raft/peer/frame.h"

#define LOCAL 1u
#define REMOTE 2u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What came of an input: all frames, one behind the other, and how it ended. */
struct trace {
    struct bytes frames;
    enum err end;
    bool at_boundary;
};

static void record(struct trace *t, const struct peer_decoder *d, enum peer_frame frame,
                   struct raft_message *m)
{
    uint8_t kind = (uint8_t)frame;
    if (frame == PEER_FRAME_NONE) {
        return;
    }
    bytes_add(&t->frames, &kind, 1);
    if (frame == PEER_FRAME_EXTRA) {
        bytes_add(&t->frames, &d->extra_kind, sizeof(d->extra_kind));
        bytes_add(&t->frames, d->extra.data, d->extra.len);
    } else if (frame == PEER_FRAME_MESSAGE) {
        ASSERT(m != NULL);
        ASSERT(d->stream != PEER_STREAM_APPEND || m->type == RAFT_MSG_APP);
        peer_message_encode(m, &t->frames);
        raft_message_destroy(&m);
    }
}

static void read_pieces(const uint8_t *data, size_t size, uint8_t flags, size_t step,
                        struct trace *t)
{
    struct peer_decoder d;
    enum peer_stream stream = (enum peer_stream)((flags & 3u) % 3u);
    peer_decoder_init(&d, stream, LOCAL, REMOTE, (flags & 4u) != 0);
    for (size_t at = 0; at < size && t->end == OK; at += step) {
        struct slice piece = slice_of(data + at, size - at < step ? size - at : step);
        enum peer_frame frame = PEER_FRAME_NONE;
        do {
            struct raft_message *m = NULL;
            t->end = peer_decode(&d, &piece, &frame, &m, NULL);
            if (t->end == OK) {
                record(t, &d, frame, m);
            } else {
                ASSERT(m == NULL);
            }
        } while (t->end == OK && frame != PEER_FRAME_NONE);
        ASSERT(t->end != OK || piece.len == 0 || d.state == PEER_AT_DATABASE);
    }
    t->at_boundary = peer_decoder_at_boundary(&d);
    peer_decoder_deinit(&d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct trace whole = {.end = OK};
    struct trace pieces = {.end = OK};
    read_pieces(data + 2, size - 2, data[0], size, &whole);
    read_pieces(data + 2, size - 2, data[0], data[1] == 0 ? 1 : data[1], &pieces);
    ASSERT(whole.end == pieces.end);
    ASSERT(whole.at_boundary == pieces.at_boundary);
    ASSERT(slice_eq(bytes_slice(&whole.frames), bytes_slice(&pieces.frames)));
    bytes_deinit(&whole.frames);
    bytes_deinit(&pieces.frames);
    return 0;
}
