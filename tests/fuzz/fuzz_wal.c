/* fuzz_wal.c - bytes become a segment file: wal_open must answer without crashing or hanging, and a
 * log that it accepts must take an append and open again with it.
 *
 * The first byte chooses the form of the rest: RAW, the whole file; RECORDS, what stands behind a
 * sound segment head; SOUND_SUMS, the same with checksums, chain and places put right, so that
 * lengths, kinds and indexes are what is wrong.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"
#include "base/vfs.h"
#include "wal/format.h"

#define DIR_NAME "log"
#define SEGMENT DIR_NAME "/0000000000000001.seg"
#define INPUT_MAX (256u * 1024u)
#define RECORD_MAX 4096u /* longer ones add nothing */

enum { FORM_RAW, FORM_RECORDS, FORM_SOUND_SUMS, FORM_N };

/* Offsets of fields that the input chooses (docs/wal-format.md). */
enum {
    AT_LENGTH = 4,
    AT_KINDS = 12,
    AT_INDEX = 16,
    AT_TERM = 24,
    AT_BYTES = 64,
    AT_DURABLE = 72,
    AT_RECORDS = 80
};

static struct wal_segment_head sound_head(void)
{
    struct wal_segment_head h = {
        .sequence = 1, .id = {1, 2}, .first_index = 1, .starts_over = true};
    h.chain_start = wal_segment_chain(&h);
    return h;
}

/* Put one record right; returns the bytes it takes, 0 at the end of the file. */
static uint64_t mend_record(uint8_t *p, uint64_t left, uint64_t *chain)
{
    if (left < WAL_RECORD_HEAD_BYTES) {
        return 0;
    }
    struct wal_record r = {
        .length = WAL_RECORD_HEAD_BYTES + wal_get_u32(p + AT_LENGTH) % RECORD_MAX,
        .kind = (uint16_t)(wal_get_u32(p + AT_KINDS) & 7u),
        .entry_type = (uint16_t)(wal_get_u32(p + AT_KINDS) >> 16),
        .index = wal_get_u64(p + AT_INDEX),
        .term = wal_get_u64(p + AT_TERM),
    };
    if (wal_align(r.length) > left) {
        return 0;
    }
    r.payload_crc = crc32c(0, p + WAL_RECORD_HEAD_BYTES, r.length - WAL_RECORD_HEAD_BYTES);
    memset(p + r.length, 0, (size_t)(wal_align(r.length) - r.length));
    wal_record_encode(&r, *chain, p);
    *chain = r.chain;
    return wal_align(r.length);
}

/* Put one batch right; returns the bytes it takes, 0 at the end of the file. */
static uint64_t mend_batch(uint8_t *p, uint64_t left, uint64_t offset, uint64_t *chain)
{
    if (left < WAL_BATCH_HEAD_BYTES) {
        return 0;
    }
    struct wal_batch_head b = {
        .record = {.index = wal_get_u64(p + AT_INDEX), .term = wal_get_u64(p + AT_TERM)},
        .segment = sound_head().chain_start,
        .sequence = 1,
        .offset = offset,
        .bytes = wal_get_u64(p + AT_BYTES),
        .durable = wal_get_u64(p + AT_DURABLE),
        .n_records = wal_get_u32(p + AT_RECORDS),
    };
    uint64_t head_chain = *chain;
    wal_batch_head_encode(&b, head_chain, p);
    *chain = b.record.chain;
    uint64_t at = WAL_BATCH_HEAD_BYTES;
    for (uint32_t i = 0; i < b.n_records; i++) {
        uint64_t n = mend_record(p + at, left - at, chain);
        if (n == 0) {
            break;
        }
        at += n;
    }
    return at;
}

static void mend(struct bytes *file)
{
    uint64_t chain = sound_head().chain_start;
    for (uint64_t at = WAL_SEGMENT_HEAD_BYTES; at < file->len;) {
        uint64_t n = mend_batch(file->data + at, file->len - at, at, &chain);
        if (n == 0) {
            return;
        }
        at += n;
    }
}

static void make_file(struct bytes *file, const uint8_t *data, size_t size)
{
    unsigned form = data[0] % FORM_N;
    if (form != FORM_RAW) {
        struct wal_segment_head h = sound_head();
        wal_segment_head_encode(&h, bytes_reserve(file, WAL_SEGMENT_HEAD_BYTES));
        file->len = WAL_SEGMENT_HEAD_BYTES;
    }
    bytes_add(file, data + 1, size - 1);
    if (form == FORM_SOUND_SUMS) {
        mend(file);
    }
}

static void put_file(struct vfs *v, const struct bytes *file)
{
    struct vfs_file *f;
    struct iovec iov = {file->data, file->len};
    ASSERT(v->ops->mkdir(v, DIR_NAME, NULL) == OK);
    ASSERT(v->ops->open(v, SEGMENT, VFS_CREATE, &f, NULL) == OK);
    ASSERT(file->len == 0 || f->ops->pwritev(f, &iov, 1, 0, NULL) == OK);
    f->ops->close(f);
}

static enum err on_entry(void *arg, const struct wal_entry *e, uint64_t chain)
{
    uint64_t *sum = arg;
    *sum += chain + buf_slice(e->data).len;
    return OK;
}

static void open_and_use(struct vfs *v)
{
    struct wal_config cfg = {.vfs = v, .dir = DIR_NAME, .segment_bytes = WAL_SEGMENT_BYTES_MIN};
    uint64_t sum = 0;
    struct wal_visitor visit = {.entry = on_entry, .arg = &sum};
    struct err_ctx ec;
    struct wal *w = NULL;
    enum err e = wal_open(&cfg, &visit, &w, NULL, &ec);
    if (e != OK) {
        ASSERT(e == ERR_CORRUPT || e == ERR_UNSUPPORTED);
        ASSERT(ec.text[0] != '\0');
        return;
    }
    struct wal_position last = wal_last(w);
    if (last.index < UINT64_MAX) {
        struct wal_entry entry = {.index = last.index + 1, .term = last.term};
        struct wal_batch batch = {.entries = &entry, .n_entries = 1};
        ASSERT(wal_append(w, &batch, &last, &ec) == OK);
    }
    wal_close(&w);
    ASSERT(wal_open(&cfg, NULL, &w, NULL, &ec) == OK);
    ASSERT(wal_last(w).index == last.index && wal_last(w).chain == last.chain);
    wal_close(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX) {
        return 0;
    }
    struct bytes file = {0};
    struct vfs *v = vfs_mem_create();
    make_file(&file, data, size);
    put_file(v, &file);
    open_and_use(v);
    vfs_mem_destroy(&v);
    bytes_deinit(&file);
    return 0;
}
