/* test_format.c - the bytes on disk: golden files, and checks that no damaged byte passes.
 *
 * The golden file is a dump of a segment. A new version of the format gets a file of its own, and
 * the old one stays readable. `test_format --update` writes it anew.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "tests/wal/support.h"
#include "wal/format.h"

#define ROW 16u
#define GOLDEN "tests/wal/golden/segment-v1.txt"
#define SEGMENT "0000000000000001.seg"

static bool update;

static void golden_path(char out[512])
{
    const char *root = getenv("PINTLE_SOURCE_DIR");
    (void)snprintf(out, 512, "%s/" GOLDEN, root == NULL ? "." : root);
}

/* Rows of 16 bytes that are not all zero, as "offset: hex". */
static void dump(const struct bytes *file, struct bytes *out)
{
    static const uint8_t zero[ROW];
    for (size_t at = 0; at + ROW <= file->len; at += ROW) {
        if (memcmp(file->data + at, zero, ROW) == 0) {
            continue;
        }
        bytes_printf(out, "%06zx:", at);
        for (size_t i = 0; i < ROW; i++) {
            bytes_printf(out, " %02x", file->data[at + i]);
        }
        bytes_add_str(out, "\n");
    }
}

static struct wal_entry golden_entry(uint64_t index, uint64_t term, uint32_t type, const char *text)
{
    return (struct wal_entry){index, term, type,
                              text[0] == '\0' ? NULL : buf_copy(slice_str(text))};
}

/* The log of the golden file. */
static struct vfs *golden_log(struct history *h)
{
    struct vfs *v = vfs_mem_create();
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct err_ctx ec;
    struct wal *w = must_create(&cfg);
    struct wal_entry first[] = {golden_entry(1, 1, 2, "hello, pintle"), golden_entry(2, 1, 0, "")};
    struct wal_entry second[] = {golden_entry(2, 3, 0, "12345678")};
    struct wal_batch batches[] = {
        {.has_hard_state = true,
         .hard_state = {1, 0x99aabbccddeeff00u, 0},
         .entries = first,
         .n_entries = 2},
        {.entries = second, .n_entries = 1},
        {.has_hard_state = true, .hard_state = {3, 7, 2}},
    };
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        assert_int_equal(wal_append(w, &batches[i], NULL, &ec), OK);
        history_apply(h, &batches[i]);
    }
    buf_unref(&first[0].data);
    buf_unref(&second[0].data);
    wal_close(&w);
    return v;
}

static void bytes_are_the_golden_ones(void **state)
{
    (void)state;
    struct history h = {0};
    struct vfs *v = golden_log(&h);
    struct image im;
    image_take(&im, v);
    struct bytes text = {0};
    dump(image_file(&im, SEGMENT), &text);
    char path[512];
    golden_path(path);
    struct err_ctx ec;
    if (update) {
        assert_int_equal(vfs_write_file(vfs_real(), path, bytes_slice(&text), &ec), OK);
    }
    struct bytes want = {0};
    assert_int_equal(vfs_read_file(vfs_real(), path, 1u << 20, &want, &ec), OK);
    assert_true(slice_eq(bytes_slice(&text), bytes_slice(&want)));
    bytes_deinit(&want);
    bytes_deinit(&text);
    image_deinit(&im);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void the_golden_file_reads(void **state)
{
    (void)state;
    struct history h = {0};
    struct vfs *v = golden_log(&h);
    vfs_mem_destroy(&v);
    char path[512];
    golden_path(path);
    struct bytes text = {0};
    struct err_ctx ec;
    assert_int_equal(vfs_read_file(vfs_real(), path, 1u << 20, &text, &ec), OK);
    bytes_add(&text, "", 1);
    uint8_t *file = calloc(1, WAL_SEGMENT_BYTES_MIN);
    for (char *line = (char *)text.data; *line != '\0';) {
        size_t at = strtoul(line, &line, 16);
        line++; /* the colon */
        for (size_t i = 0; i < ROW; i++) {
            file[at + i] = (uint8_t)strtoul(line, &line, 16);
        }
        line++; /* the end of the line */
    }
    struct image none = {0};
    v = image_disk(&none);
    write_at(v, SEGMENT, 0, file, WAL_SEGMENT_BYTES_MIN);
    struct wal_config cfg = test_config(v, WAL_SEGMENT_BYTES_MIN);
    struct wal *w = must_open(&cfg, &h, 1);
    wal_close(&w);
    free(file);
    bytes_deinit(&text);
    history_deinit(&h);
    vfs_mem_destroy(&v);
}

static void no_flipped_bit_passes(void **state)
{
    (void)state;
    uint8_t bytes[96] = {0};
    struct wal_record r = {
        .length = WAL_RECORD_HEAD_BYTES + 13, .kind = WAL_KIND_ENTRY, .index = 5, .term = 2};
    memcpy(bytes + WAL_RECORD_HEAD_BYTES, "thirteen byte", 13);
    r.payload_crc = crc32c(0, bytes + WAL_RECORD_HEAD_BYTES, 13);
    wal_record_encode(&r, 77, bytes);
    struct wal_record out;
    assert_null(wal_record_check(bytes, sizeof bytes, 77, &out));
    assert_int_equal(out.index, 5);
    assert_int_equal(out.chain, r.chain);
    assert_non_null(wal_record_check(bytes, sizeof bytes, 78, &out));
    assert_non_null(wal_record_check(bytes, 55, 77, &out));
    for (size_t bit = 0; bit < 8 * wal_align(r.length); bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(wal_record_check(bytes, sizeof bytes, 77, &out));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_null(wal_record_check(bytes, 56, 77, &out));
}

static void a_batch_head_counts_only_where_it_was_written(void **state)
{
    (void)state;
    struct wal_segment_head seg = {
        .sequence = 9, .id = test_id, .first_index = 4, .previous_end = 8192, .previous_chain = 5};
    seg.chain_start = wal_segment_chain(&seg);
    struct wal_batch_head b = {
        .segment = seg.chain_start, .sequence = 9, .offset = 4096, .bytes = 88, .durable = 4096};
    uint8_t bytes[WAL_BATCH_HEAD_BYTES];
    wal_batch_head_encode(&b, 1, bytes);
    struct wal_batch_head out;
    assert_null(wal_batch_head_check(bytes, &seg, 4096, &out));
    assert_int_equal(out.durable, 4096);
    assert_non_null(wal_batch_head_check(bytes, &seg, 4104, &out));
    struct wal_segment_head other = seg;
    other.id.member_id++;
    other.chain_start = wal_segment_chain(&other);
    assert_non_null(wal_batch_head_check(bytes, &other, 4096, &out));
    for (size_t bit = 0; bit < 8 * sizeof bytes; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(wal_batch_head_check(bytes, &seg, 4096, &out));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    b.durable = 4104; /* nothing behind itself can have been durable */
    wal_batch_head_encode(&b, 1, bytes);
    assert_non_null(wal_batch_head_check(bytes, &seg, 4096, &out));
}

static void a_segment_head_reads_back(void **state)
{
    (void)state;
    struct wal_segment_head h = {
        .sequence = 0x1234,
        .id = test_id,
        .first_index = 100,
        .previous_end = 60000,
        .previous_chain = 0xfeed,
        .last_term = 7,
        .last_chain = 0xbeef,
        .hard_state = {8, 9, 10},
        .has_hard_state = true,
    };
    h.chain_start = wal_segment_chain(&h);
    uint8_t page[WAL_SEGMENT_HEAD_BYTES];
    wal_segment_head_encode(&h, page);
    struct wal_segment_head out;
    bool unsupported;
    memset(&out, 0, sizeof out);
    assert_null(wal_segment_head_decode(page, &out, &unsupported));
    assert_int_equal(out.sequence, h.sequence);
    assert_int_equal(out.previous_end, h.previous_end);
    assert_int_equal(out.last_chain, h.last_chain);
    assert_int_equal(out.hard_state.commit, 10);
    assert_true(out.has_hard_state);
    assert_false(out.starts_over);
    for (size_t bit = 0; bit < 8 * sizeof page; bit += 7) {
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_non_null(wal_segment_head_decode(page, &out, &unsupported));
        assert_false(unsupported);
        page[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

int main(int argc, char **argv)
{
    update = argc > 1 && strcmp(argv[1], "--update") == 0;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_are_the_golden_ones),
        cmocka_unit_test(the_golden_file_reads),
        cmocka_unit_test(no_flipped_bit_passes),
        cmocka_unit_test(a_batch_head_counts_only_where_it_was_written),
        cmocka_unit_test(a_segment_head_reads_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
