/* fuzz_install.c - bytes become a snapshot file from elsewhere: staging refuses it or builds an
 * engine whose state can be read, hashed, written on and taken as a snapshot again, with the same
 * hash. The engine that runs meanwhile keeps its state unless it adopts.
 *
 * The first byte chooses the form of the rest: RAW, the whole file; ROWS, pairs for the buckets:
 * bucket, lengths of key and value, then these; a pair that is out of order is left out. In ROWS
 * the rows that must be there are added unless bit 4 is set, and keys of records come in a short
 * form (main, sub, tombstone), so that most of them are revisions.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "engine/bolt.h"
#include "engine/install.h"

#define INPUT_MAX (64u * 1024u)
#define PAIRS_MAX 512u
#define BARE 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err read_memory(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    (void)ec;
    const struct bytes *file = arg;
    ASSERT(offset <= file->len && n <= file->len - offset);
    memcpy(dst, file->data + offset, n);
    return OK;
}

static enum err append(void *arg, struct slice bytes)
{
    bytes_add(arg, bytes.data, bytes.len);
    return OK;
}

/* --- rows
 * ------------------------------------------------------------------------------------------------- */

struct input {
    struct slice rest;
};

static uint8_t take_byte(struct input *in)
{
    if (in->rest.len == 0) {
        return 0;
    }
    uint8_t b = in->rest.data[0];
    in->rest = slice_of(in->rest.data + 1, in->rest.len - 1);
    return b;
}

static struct slice take(struct input *in, size_t n)
{
    n = n < in->rest.len ? n : in->rest.len;
    struct slice s = slice_of(in->rest.data, n);
    in->rest = slice_of(in->rest.data + n, in->rest.len - n);
    return s;
}

static void put(struct bolt_writer *w, struct slice key, struct slice value)
{
    enum err e = bolt_put(w, key, value);
    ASSERT(e == OK || e == ERR_INVALID || e == ERR_LIMIT);
}

static void feed_needed(struct bolt_writer *w)
{
    static const uint8_t five[8] = {0, 0, 0, 0, 0, 0, 0, 5};
    put(w, slice_str("confState"), slice_str("{\"voters\":[1],\"auto_leave\":false}"));
    put(w, slice_str("consistent_index"), slice_of(five, sizeof(five)));
    put(w, slice_str("term"), slice_of(five, sizeof(five)));
}

static void feed(struct bolt_writer *w, struct slice data, bool bare)
{
    struct input in = {data};
    size_t n_pairs = 0;
    for (int b = 0; b < BUCKET_PINTLE; b++) {
        ASSERT(bolt_bucket(w, slice_str(bucket_name((enum bucket)b))) == OK);
        if (b == BUCKET_META && !bare) {
            feed_needed(w);
        }
        while (in.rest.len > 0 && n_pairs++ < PAIRS_MAX) {
            uint8_t head = take_byte(&in);
            if (head == 255) {
                break; /* the next bucket */
            }
            uint8_t short_key[RECORD_KEY_BYTES_MAX];
            struct slice key = take(&in, head % 32u);
            if (b == BUCKET_KEY && head < 128) {
                struct rev rev = {key.len > 0 ? key.data[0] : 1, key.len > 1 ? key.data[1] % 4 : 0};
                key = slice_of(short_key, record_key_encode(short_key, rev, head % 5 == 0));
            }
            put(w, key, take(&in, take_byte(&in)));
        }
    }
}

static void make_file(struct slice data, bool bare, struct bytes *out)
{
    struct bolt_layout layout;
    struct bolt_writer *w = bolt_measure_create();
    feed(w, data, bare);
    ASSERT(bolt_finish(w, &layout) == OK);
    bolt_writer_destroy(&w);
    w = bolt_writer_create(&layout, append, out);
    feed(w, data, bare);
    ASSERT(bolt_finish(w, &layout) == OK);
    bolt_writer_destroy(&w);
}

/* --- what is done with it
 * --------------------------------------------------------------------------------- */

static uint32_t hash_of(struct engine *e)
{
    struct hash_kv h;
    ASSERT(engine_hash_kv(e, 0, &h, NULL) == OK);
    return h.hash;
}

static void take_snapshot(struct engine *e, struct bytes *out)
{
    struct engine_snapshot *s = NULL;
    struct snapshot_info info;
    ASSERT(engine_snapshot_open(e, &s, &info, NULL) == OK);
    bytes_reset(out);
    uint8_t *dst = bytes_reserve(out, (size_t)info.bytes);
    ASSERT(engine_snapshot_read(s, dst, (size_t)info.bytes, &out->len, NULL) == OK);
    ASSERT(out->len == info.bytes);
    engine_snapshot_close(&s);
}

static void write_on(struct engine *e)
{
    static const uint8_t put_request[] = {0x22, 6, 0x0a, 1, 'k', 0x12, 1, 'v'};
    struct apply_result r;
    bool more = true;
    int64_t revision = engine_revision(e);
    engine_apply(e, engine_applied_index(e) + 1, engine_applied_term(e), 0,
                 slice_of(put_request, sizeof(put_request)), true, 1, &r);
    ASSERT(r.err != OK || engine_revision(e) == revision + 1);
    buf_unref(&r.body);
    engine_log_follows(e);
    for (int i = 0; more && i < 100; i++) {
        ASSERT(engine_flush(e, false, &more, NULL) == OK);
        while (engine_step(e)) {
        }
    }
}

static void install(struct bytes *file)
{
    struct backend_mem_disk *disk = backend_mem_disk_create();
    struct store_place place = store_place_mem(disk);
    struct engine_config cfg = {.backend = backend_mem_disk_open(disk),
                                .quota_bytes = INT64_MAX,
                                .min_lease_ttl_s = 2,
                                .compaction_batch_limit = 1000};
    struct bolt_source src = {read_memory, file, file->len};
    struct engine *e = NULL;
    struct staged *s = NULL;
    struct err_ctx ec = {{0}};
    ASSERT(engine_open(&cfg, &e, NULL) == OK);
    if (engine_stage(&cfg, &place, &src, &s, &ec) == OK) {
        struct bytes again = {0};
        ASSERT(staged_install(s, NULL) == OK);
        engine_adopt(e, &s);
        uint32_t hash = hash_of(e);
        take_snapshot(e, &again);
        src = (struct bolt_source){read_memory, &again, again.len};
        ASSERT(engine_stage(&cfg, &place, &src, &s, &ec) == OK);
        ASSERT(staged_install(s, NULL) == OK);
        engine_adopt(e, &s);
        ASSERT(hash_of(e) == hash);
        write_on(e);
        bytes_deinit(&again);
    } else {
        ASSERT(ec.text[0] != 0);
        ASSERT(engine_applied_index(e) == 0);
    }
    engine_close(&e);
    backend_mem_disk_destroy(&disk);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX) {
        return 0;
    }
    struct bytes file = {0};
    if (data[0] % 2 == 0) {
        bytes_add(&file, data + 1, size - 1);
    } else {
        make_file(slice_of(data + 1, size - 1), (data[0] & BARE) != 0, &file);
    }
    install(&file);
    bytes_deinit(&file);
    return 0;
}
