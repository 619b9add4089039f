/* fuzz_bolt.c - bytes become a bbolt file: the reader must answer without crashing or hanging, and
 * what it accepts must be readable a second time with the same result.
 *
 * The first byte chooses the form of the rest: RAW, the whole file; PAGES, the pages behind two
 * sound metas of 1024-byte pages, whose root and freelist the next two bytes choose, with the
 * pages' ids put right, so that links and lengths are what is wrong; WRITE, keys and values for the
 * writer, whose file must then read as they were.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "engine/bolt.h"
#include "engine/bolt_internal.h"

#define INPUT_MAX (64u * 1024u)
#define PAGE 1024u
#define PAIRS_MAX 4096u

enum { FORM_RAW, FORM_PAGES, FORM_WRITE, FORM_N };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static enum err read_memory(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    (void)ec;
    const struct bytes *file = arg;
    ASSERT(offset <= file->len && n <= file->len - offset);
    memcpy(dst, file->data + offset, n);
    return OK;
}

/* Everything that is in the file, as one sum; *e says how reading ended. */
static uint32_t read_all(struct bytes *file, enum err *e)
{
    struct bolt_source src = {read_memory, file, file->len};
    struct bolt_reader *r = NULL;
    struct bolt_info info;
    struct err_ctx ec;
    struct slice name;
    struct slice key;
    struct slice value;
    uint32_t crc = 0;
    *e = bolt_open(&src, &r, &info, &ec);
    while (*e == OK && (*e = bolt_next_bucket(r, &name, &ec)) == OK) {
        crc = crc32c(crc, name.data, name.len);
        struct bytes last = {0};
        while ((*e = bolt_next(r, &key, &value, &ec)) == OK) {
            ASSERT(slice_cmp(bytes_slice(&last), key) < 0);
            bytes_reset(&last);
            bytes_add(&last, key.data, key.len);
            crc = crc32c(crc, key.data, key.len);
            crc = crc32c(crc, value.data, value.len);
        }
        bytes_deinit(&last);
        *e = *e == ERR_END ? OK : *e;
    }
    bolt_close(&r);
    return crc;
}

static void check_file(struct bytes *file)
{
    struct bolt_source src = {read_memory, file, file->len};
    struct bolt_info info;
    enum err first;
    enum err second;
    uint32_t a = read_all(file, &first);
    uint32_t b = read_all(file, &second);
    ASSERT(first == second && a == b);
    enum err e = bolt_check(&src, &info, NULL);
    ASSERT(e != OK || first == ERR_END);
}

static void put_meta(uint8_t *page, uint64_t id, uint64_t n_pages, uint8_t root, uint8_t freelist)
{
    uint8_t *m = page + BOLT_HEAD;
    memset(page, 0, PAGE);
    le_put(page + BOLT_AT_ID, id, 8);
    le_put(page + BOLT_AT_KIND, BOLT_PAGE_META, 2);
    le_put(m + BOLT_META_MAGIC, BOLT_MAGIC, 4);
    le_put(m + BOLT_META_VERSION, BOLT_VERSION, 4);
    le_put(m + BOLT_META_PAGE_BYTES, PAGE, 4);
    le_put(m + BOLT_META_ROOT, root, 8);
    le_put(m + BOLT_META_FREELIST, freelist == 0 ? BOLT_NO_FREELIST : freelist, 8);
    le_put(m + BOLT_META_PAGES, n_pages, 8);
    le_put(m + BOLT_META_TXID, 2 - id, 8);
    le_put(m + BOLT_META_SUM, bolt_meta_sum(m), 8);
}

static void fuzz_pages(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return;
    }
    struct bytes file = {0};
    uint64_t n_pages = 2 + (size - 2 + PAGE - 1) / PAGE;
    uint8_t *p = bytes_reserve(&file, (size_t)n_pages * PAGE);
    memset(p, 0, (size_t)n_pages * PAGE);
    memcpy(p + 2u * PAGE, data + 2, size - 2);
    for (uint64_t id = 0; id < n_pages; id++) {
        if (id < 2) {
            put_meta(p + id * PAGE, id, n_pages, data[0], data[1]);
        } else {
            le_put(p + id * PAGE + BOLT_AT_ID, id, 8);
        }
    }
    file.len = (size_t)n_pages * PAGE;
    check_file(&file);
    bytes_deinit(&file);
}

static enum err append(void *arg, struct slice bytes)
{
    bytes_add(arg, bytes.data, bytes.len);
    return OK;
}

/* Three bytes a pair: how much longer the key is than a counter, and the value's length; a length
 * of 255 ends the bucket. Returns the sum that reading must give. */
static uint32_t write_pairs(struct bolt_writer *w, struct slice in, struct bolt_layout *layout)
{
    static const uint8_t zeros[8192];
    uint8_t key[4 + 256 * 16] = {0};
    uint32_t crc = 0;
    bool in_bucket = false;
    for (uint32_t i = 0; in.len >= 3 && i < PAIRS_MAX; i++) {
        for (uint32_t b = 0; b < 4; b++) {
            key[b] = (uint8_t)(i >> (24 - 8 * b));
        }
        if (!in_bucket || in.data[0] == 255) {
            ASSERT(bolt_bucket(w, slice_of(key, 4)) == OK);
            crc = crc32c(crc, key, 4);
            in_bucket = true;
        }
        size_t key_len = 4 + 16 * (size_t)in.data[0];
        size_t value_len = in.data[1] + 256 * (size_t)(in.data[2] % 32);
        ASSERT(bolt_put(w, slice_of(key, key_len), slice_of(zeros, value_len)) == OK);
        crc = crc32c(crc, key, key_len);
        crc = crc32c(crc, zeros, value_len);
        in = slice_of(in.data + 3, in.len - 3);
    }
    ASSERT(bolt_finish(w, layout) == OK);
    return crc;
}

static void fuzz_write(const uint8_t *data, size_t size)
{
    struct bytes file = {0};
    struct bolt_layout layout;
    struct bolt_layout again;
    struct bolt_info info;
    struct bolt_writer *w = bolt_measure_create();
    size_t len = size < 300 ? size : 300;
    uint32_t want = write_pairs(w, slice_of(data, len), &layout);
    bolt_writer_destroy(&w);
    w = bolt_writer_create(&layout, append, &file);
    (void)write_pairs(w, slice_of(data, len), &again);
    bolt_writer_destroy(&w);
    ASSERT(file.len == layout.n_pages * BOLT_PAGE_BYTES);
    enum err e;
    ASSERT(read_all(&file, &e) == want);
    ASSERT(e == ERR_END);
    struct bolt_source src = {read_memory, &file, file.len};
    ASSERT(bolt_check(&src, &info, NULL) == OK);
    bytes_deinit(&file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size > INPUT_MAX) {
        return 0;
    }
    struct bytes file = {0};
    switch (data[0] % FORM_N) {
    case FORM_RAW:
        bytes_add(&file, data + 1, size - 1);
        check_file(&file);
        bytes_deinit(&file);
        break;
    case FORM_PAGES:
        fuzz_pages(data + 1, size - 1);
        break;
    default:
        fuzz_write(data + 1, size - 1);
        break;
    }
    return 0;
}
