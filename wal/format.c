/* format.c - see format.h; the layout is drawn in docs/wal-format.md.
 *
 * Every record carries two CRC-32C sums (head, payload) against rot, and a 64-bit hash chained from
 * the record before it against bytes that are sound but in the wrong place: an older life of a
 * recycled file, another offset, another member.
 */
#include "wal/format.h"

#include <assert.h>

#include "base/hash.h"

/* Segment head. */
enum {
    AT_MAGIC = 0,
    AT_VERSION = 8,
    AT_FLAGS = 12,
    AT_SEQUENCE = 16,
    AT_CLUSTER = 24,
    AT_MEMBER = 32,
    AT_FIRST_INDEX = 40,
    AT_PREVIOUS_END = 48,
    AT_PREVIOUS_CHAIN = 56,
    AT_CHAIN_START = 64,
    AT_LAST_TERM = 72,
    AT_LAST_CHAIN = 80,
    AT_HS_TERM = 88,
    AT_HS_VOTE = 96,
    AT_HS_COMMIT = 104,
    AT_HEAD_CRC = WAL_SEGMENT_HEAD_BYTES - 4,
};
#define FLAG_STARTS_OVER 1u
#define FLAG_HARD_STATE 2u
#define FLAGS_KNOWN 3u

/* Record head. */
enum {
    REC_CRC = 0,
    REC_LENGTH = 4,
    REC_PAYLOAD_CRC = 8,
    REC_KINDS = 12, /* kind in the low half, entry type in the high half */
    REC_INDEX = 16,
    REC_TERM = 24,
    REC_CHAIN = 32,
};

/* Payload of a batch head. */
enum {
    BATCH_SEGMENT = 40,
    BATCH_SEQUENCE = 48,
    BATCH_OFFSET = 56,
    BATCH_BYTES = 64,
    BATCH_DURABLE = 72,
    BATCH_RECORDS = 80,
    BATCH_ZERO = 84,
};
static_assert(BATCH_ZERO + 4 == WAL_BATCH_HEAD_BYTES, "the last field ends the batch head");
static_assert(REC_CHAIN + 8 == WAL_RECORD_HEAD_BYTES, "the chain ends the record head");

uint64_t wal_segment_chain(const struct wal_segment_head *h)
{
    uint8_t seed[56];
    wal_put_u64(seed, WAL_MAGIC);
    wal_put_u64(seed + 8, h->previous_chain);
    wal_put_u64(seed + 16, h->id.cluster_id);
    wal_put_u64(seed + 24, h->id.member_id);
    wal_put_u64(seed + 32, h->sequence);
    wal_put_u64(seed + 40, h->first_index);
    wal_put_u64(seed + 48, h->previous_end);
    return hash64(seed, sizeof seed);
}

void wal_segment_head_encode(const struct wal_segment_head *h, uint8_t out[WAL_SEGMENT_HEAD_BYTES])
{
    memset(out, 0, WAL_SEGMENT_HEAD_BYTES);
    uint32_t flags =
        (h->starts_over ? FLAG_STARTS_OVER : 0u) | (h->has_hard_state ? FLAG_HARD_STATE : 0u);
    wal_put_u64(out + AT_MAGIC, WAL_MAGIC);
    wal_put_u32(out + AT_VERSION, WAL_VERSION);
    wal_put_u32(out + AT_FLAGS, flags);
    wal_put_u64(out + AT_SEQUENCE, h->sequence);
    wal_put_u64(out + AT_CLUSTER, h->id.cluster_id);
    wal_put_u64(out + AT_MEMBER, h->id.member_id);
    wal_put_u64(out + AT_FIRST_INDEX, h->first_index);
    wal_put_u64(out + AT_PREVIOUS_END, h->previous_end);
    wal_put_u64(out + AT_PREVIOUS_CHAIN, h->previous_chain);
    wal_put_u64(out + AT_CHAIN_START, h->chain_start);
    wal_put_u64(out + AT_LAST_TERM, h->last_term);
    wal_put_u64(out + AT_LAST_CHAIN, h->last_chain);
    wal_put_u64(out + AT_HS_TERM, h->hard_state.term);
    wal_put_u64(out + AT_HS_VOTE, h->hard_state.vote);
    wal_put_u64(out + AT_HS_COMMIT, h->hard_state.commit);
    wal_put_u32(out + AT_HEAD_CRC, crc32c(0, out, AT_HEAD_CRC));
}

const char *wal_segment_head_decode(const uint8_t in[WAL_SEGMENT_HEAD_BYTES],
                                    struct wal_segment_head *out, bool *unsupported)
{
    *unsupported = false;
    if (wal_get_u64(in + AT_MAGIC) != WAL_MAGIC) {
        return "segment head: wrong magic number";
    }
    if (wal_get_u32(in + AT_HEAD_CRC) != crc32c(0, in, AT_HEAD_CRC)) {
        return "segment head: checksum mismatch";
    }
    uint32_t flags = wal_get_u32(in + AT_FLAGS);
    if (wal_get_u32(in + AT_VERSION) != WAL_VERSION || (flags & ~FLAGS_KNOWN) != 0) {
        *unsupported = true;
        return "segment head: written by a newer version";
    }
    struct wal_segment_head h = {
        .sequence = wal_get_u64(in + AT_SEQUENCE),
        .id = {wal_get_u64(in + AT_CLUSTER), wal_get_u64(in + AT_MEMBER)},
        .first_index = wal_get_u64(in + AT_FIRST_INDEX),
        .previous_end = wal_get_u64(in + AT_PREVIOUS_END),
        .previous_chain = wal_get_u64(in + AT_PREVIOUS_CHAIN),
        .chain_start = wal_get_u64(in + AT_CHAIN_START),
        .last_term = wal_get_u64(in + AT_LAST_TERM),
        .last_chain = wal_get_u64(in + AT_LAST_CHAIN),
        .hard_state = {wal_get_u64(in + AT_HS_TERM), wal_get_u64(in + AT_HS_VOTE),
                       wal_get_u64(in + AT_HS_COMMIT)},
        .has_hard_state = (flags & FLAG_HARD_STATE) != 0,
        .starts_over = (flags & FLAG_STARTS_OVER) != 0,
    };
    if (h.chain_start != wal_segment_chain(&h)) {
        return "segment head: chain start does not fit its seed";
    }
    if (h.first_index == 0) {
        return "segment head: first index is 0";
    }
    if (!h.starts_over &&
        (h.previous_end < WAL_SEGMENT_HEAD_BYTES || h.previous_end % WAL_ALIGN != 0)) {
        return "segment head: impossible end of the segment before";
    }
    *out = h;
    return NULL;
}

/* The chain after the record whose head is `head`: length, payload sum, kinds, index and term. */
static uint64_t chain_after(uint64_t before, const uint8_t *head)
{
    uint8_t link[8 + REC_CHAIN - REC_LENGTH];
    wal_put_u64(link, before);
    memcpy(link + 8, head + REC_LENGTH, REC_CHAIN - REC_LENGTH);
    return hash64(link, sizeof link);
}

void wal_record_encode(struct wal_record *r, uint64_t chain_before,
                       uint8_t out[WAL_RECORD_HEAD_BYTES])
{
    wal_put_u32(out + REC_LENGTH, r->length);
    wal_put_u32(out + REC_PAYLOAD_CRC, r->payload_crc);
    wal_put_u32(out + REC_KINDS, (uint32_t)r->kind | (uint32_t)r->entry_type << 16);
    wal_put_u64(out + REC_INDEX, r->index);
    wal_put_u64(out + REC_TERM, r->term);
    r->chain = chain_after(chain_before, out);
    wal_put_u64(out + REC_CHAIN, r->chain);
    wal_put_u32(out + REC_CRC, crc32c(0, out + REC_LENGTH, WAL_RECORD_HEAD_BYTES - REC_LENGTH));
}

const char *wal_record_head_check(const uint8_t *p, uint64_t avail, struct wal_record *out)
{
    if (avail < WAL_RECORD_HEAD_BYTES) {
        return "record head: cut short";
    }
    uint32_t kinds = wal_get_u32(p + REC_KINDS);
    *out = (struct wal_record){
        .length = wal_get_u32(p + REC_LENGTH),
        .payload_crc = wal_get_u32(p + REC_PAYLOAD_CRC),
        .kind = (uint16_t)(kinds & 0xffffu),
        .entry_type = (uint16_t)(kinds >> 16),
        .index = wal_get_u64(p + REC_INDEX),
        .term = wal_get_u64(p + REC_TERM),
        .chain = wal_get_u64(p + REC_CHAIN),
    };
    if (out->length == 0) {
        return "record head: length is 0";
    }
    if (wal_get_u32(p + REC_CRC) != crc32c(0, p + REC_LENGTH, WAL_RECORD_HEAD_BYTES - REC_LENGTH)) {
        return "record head: checksum mismatch";
    }
    if (out->length < WAL_RECORD_HEAD_BYTES || out->length > WAL_RECORD_BYTES_MAX) {
        return "record head: impossible length";
    }
    return NULL;
}

const char *wal_record_check(const uint8_t *p, uint64_t avail, uint64_t chain_before,
                             struct wal_record *out)
{
    struct wal_record r;
    const char *reason = wal_record_head_check(p, avail, &r);
    if (reason != NULL) {
        return reason;
    }
    if (wal_align(r.length) > avail) {
        return "record: runs past the end";
    }
    if (r.chain != chain_after(chain_before, p)) {
        return "record head: chain mismatch";
    }
    size_t payload = r.length - WAL_RECORD_HEAD_BYTES;
    if (crc32c(0, p + WAL_RECORD_HEAD_BYTES, payload) != r.payload_crc) {
        return "record payload: checksum mismatch";
    }
    for (size_t i = r.length; i < wal_align(r.length); i++) {
        if (p[i] != 0) {
            return "record padding: not zero";
        }
    }
    *out = r;
    return NULL;
}

void wal_batch_head_encode(struct wal_batch_head *b, uint64_t chain_before,
                           uint8_t out[WAL_BATCH_HEAD_BYTES])
{
    wal_put_u64(out + BATCH_SEGMENT, b->segment);
    wal_put_u64(out + BATCH_SEQUENCE, b->sequence);
    wal_put_u64(out + BATCH_OFFSET, b->offset);
    wal_put_u64(out + BATCH_BYTES, b->bytes);
    wal_put_u64(out + BATCH_DURABLE, b->durable);
    wal_put_u32(out + BATCH_RECORDS, b->n_records);
    wal_put_u32(out + BATCH_ZERO, 0);
    b->record.length = WAL_BATCH_HEAD_BYTES;
    b->record.kind = WAL_KIND_BATCH;
    b->record.entry_type = 0;
    b->record.payload_crc =
        crc32c(0, out + WAL_RECORD_HEAD_BYTES, WAL_BATCH_HEAD_BYTES - WAL_RECORD_HEAD_BYTES);
    wal_record_encode(&b->record, chain_before, out);
}

const char *wal_batch_head_check(const uint8_t p[WAL_BATCH_HEAD_BYTES],
                                 const struct wal_segment_head *segment, uint64_t offset,
                                 struct wal_batch_head *out)
{
    struct wal_batch_head b;
    const char *reason = wal_record_head_check(p, WAL_BATCH_HEAD_BYTES, &b.record);
    if (reason != NULL) {
        return reason;
    }
    if (b.record.kind != WAL_KIND_BATCH || b.record.length != WAL_BATCH_HEAD_BYTES) {
        return "not a batch head";
    }
    if (b.record.payload_crc !=
        crc32c(0, p + WAL_RECORD_HEAD_BYTES, WAL_BATCH_HEAD_BYTES - WAL_RECORD_HEAD_BYTES)) {
        return "batch head: checksum mismatch";
    }
    b.segment = wal_get_u64(p + BATCH_SEGMENT);
    b.sequence = wal_get_u64(p + BATCH_SEQUENCE);
    b.offset = wal_get_u64(p + BATCH_OFFSET);
    b.bytes = wal_get_u64(p + BATCH_BYTES);
    b.durable = wal_get_u64(p + BATCH_DURABLE);
    b.n_records = wal_get_u32(p + BATCH_RECORDS);
    if (b.segment != segment->chain_start || b.sequence != segment->sequence ||
        b.offset != offset) {
        return "batch head: from another segment or offset";
    }
    if (b.bytes < WAL_BATCH_HEAD_BYTES || b.bytes % WAL_ALIGN != 0 || b.bytes > UINT64_MAX / 2 ||
        b.durable > offset) {
        return "batch head: impossible numbers";
    }
    *out = b;
    return NULL;
}
