/* format.h - the bytes of a segment: heads, records, batches.
 *
 * What        Encoding and checking of the three things a segment is made of. Pure functions on
 *             memory: no file is touched here. A check returns NULL, or the reason why the bytes
 *             are not valid.
 * Callers     wal/replay.c reads, wal/wal.c writes, tests build damaged segments.
 * Thread      any.
 * Format      byte by byte in docs/wal-format.md; all numbers are little-endian.
 */
#ifndef WAL_FORMAT_H
#define WAL_FORMAT_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "wal/wal.h"

#define WAL_MAGIC 0x474553454c544e50u /* "PNTLESEG" read as a little-endian number */
#define WAL_VERSION 1u

#define WAL_SEGMENT_HEAD_BYTES 4096u /* a page of its own: no later batch rewrites it */
#define WAL_RECORD_HEAD_BYTES 40u
#define WAL_BATCH_HEAD_BYTES 88u /* a record head and 48 bytes of payload */
#define WAL_HARD_STATE_BYTES 8u  /* payload: the vote */
#define WAL_ALIGN 8u

enum wal_kind {
    WAL_KIND_BATCH = 1,
    WAL_KIND_ENTRY = 2,
    WAL_KIND_HARD_STATE = 3,
    WAL_KIND_PAD = 4, /* zeroes up to the next page, in a mark */
};

struct wal_segment_head {
    uint64_t sequence;
    struct wal_identity id;
    uint64_t first_index;    /* of the next entry when the segment was begun */
    uint64_t previous_end;   /* where the records of segment sequence - 1 end; 0 when starts_over */
    uint64_t previous_chain; /* chain after the last record of the segment before */
    uint64_t chain_start;    /* computed by wal_segment_chain; doubles as the segment's identity */
    uint64_t last_term;      /* of entry first_index - 1; 0 when unknown */
    uint64_t last_chain;     /* chain after that entry */
    struct wal_hard_state hard_state;
    bool has_hard_state;
    bool starts_over; /* the log begins here: older segments are void */
};

struct wal_record {
    uint32_t length; /* head and payload, without padding */
    uint32_t payload_crc;
    uint16_t kind;
    uint16_t entry_type;
    uint64_t index; /* ENTRY: its index; BATCH: the log's last; HARD_STATE: the commit index */
    uint64_t term;
    uint64_t chain; /* after this record */
};

struct wal_batch_head {
    struct wal_record record;
    uint64_t segment; /* chain_start of the segment */
    uint64_t sequence;
    uint64_t offset; /* of this head in the segment */
    uint64_t bytes;  /* of the whole batch, this head included */
    uint64_t
        durable; /* everything before this offset was on stable storage when this was written */
    uint32_t n_records;
};

static inline void wal_put_u64(uint8_t *p, uint64_t v)
{
    v = htole64(v);
    memcpy(p, &v, sizeof v);
}

static inline void wal_put_u32(uint8_t *p, uint32_t v)
{
    v = htole32(v);
    memcpy(p, &v, sizeof v);
}

static inline uint64_t wal_get_u64(const uint8_t *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return le64toh(v);
}

static inline uint32_t wal_get_u32(const uint8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return le32toh(v);
}

/* `n` rounded up to the alignment of records. */
static inline uint64_t wal_align(uint64_t n)
{
    return (n + (WAL_ALIGN - 1)) & ~(uint64_t)(WAL_ALIGN - 1);
}

/* The value that the chain of this segment starts with: a hash over previous_chain, identity,
 * sequence, first_index and previous_end. */
uint64_t wal_segment_chain(const struct wal_segment_head *h);

void wal_segment_head_encode(const struct wal_segment_head *h, uint8_t out[WAL_SEGMENT_HEAD_BYTES]);

/* `*unsupported` is set when the head is sound but of another version. */
MUST_CHECK const char *wal_segment_head_decode(const uint8_t in[WAL_SEGMENT_HEAD_BYTES],
                                               struct wal_segment_head *out, bool *unsupported);

/* Write a record head for `r`, whose chain field is computed from the chain before it and set. */
void wal_record_encode(struct wal_record *r, uint64_t chain_before,
                       uint8_t out[WAL_RECORD_HEAD_BYTES]);

/* Check and read the head alone, of which `avail` bytes can be read; the chain is not looked at. */
MUST_CHECK const char *wal_record_head_check(const uint8_t *p, uint64_t avail,
                                             struct wal_record *out);

/* Check head, payload, padding and chain of the record at `p`, of which `avail` bytes can be
 * read. */
MUST_CHECK const char *wal_record_check(const uint8_t *p, uint64_t avail, uint64_t chain_before,
                                        struct wal_record *out);

void wal_batch_head_encode(struct wal_batch_head *b, uint64_t chain_before,
                           uint8_t out[WAL_BATCH_HEAD_BYTES]);

/* Is this the head of a batch that was written at exactly `offset` of exactly this segment? The
 * chain is not looked at, so that it can be asked behind damage. */
MUST_CHECK const char *wal_batch_head_check(const uint8_t p[WAL_BATCH_HEAD_BYTES],
                                            const struct wal_segment_head *segment, uint64_t offset,
                                            struct wal_batch_head *out);

#endif
