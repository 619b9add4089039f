/* bolt_support.c - bbolt files in memory. */
#include "bolt_support.h"

#include <string.h>

#include "engine/bolt_internal.h"

static enum err append(void *arg, struct slice bytes)
{
    bytes_add(arg, bytes.data, bytes.len);
    return OK;
}

static void feed(struct bolt_writer *w, const struct bolt_plan *plan, bool measuring,
                 struct bolt_layout *out)
{
    for (size_t b = 0; plan->names[b] != NULL; b++) {
        assert_int_equal(bolt_bucket(w, slice_str(plan->names[b])), OK);
        struct slice key;
        struct slice value;
        for (uint64_t i = 0; plan->pair(plan->arg, b, i, &key, &value); i++) {
            if (measuring) {
                value.data = NULL;
            }
            assert_int_equal(bolt_put(w, key, value), OK);
        }
    }
    assert_int_equal(bolt_finish(w, out), OK);
}

void bolt_write_plan(const struct bolt_plan *plan, struct bytes *out)
{
    struct bolt_layout layout;
    struct bolt_layout again;
    struct bolt_writer *w = bolt_measure_create();
    feed(w, plan, true, &layout);
    bolt_writer_destroy(&w);
    bytes_reset(out);
    w = bolt_writer_create(&layout, append, out);
    feed(w, plan, false, &again);
    bolt_writer_destroy(&w);
    assert_int_equal(again.n_pages, layout.n_pages);
    assert_int_equal(again.root, layout.root);
    assert_int_equal(out->len, layout.n_pages * BOLT_PAGE_BYTES);
}

static enum err read_memory(void *arg, uint64_t offset, uint8_t *dst, size_t n, struct err_ctx *ec)
{
    (void)ec;
    const struct bytes *file = arg;
    assert_true(offset <= file->len && n <= file->len - offset);
    memcpy(dst, file->data + offset, n);
    return OK;
}

struct bolt_source bolt_source_of(const struct bytes *file)
{
    return (struct bolt_source){read_memory, (void *)(uintptr_t)file, file->len};
}

void bolt_expect_plan(const struct bytes *file, const struct bolt_plan *plan)
{
    struct bolt_source src = bolt_source_of(file);
    struct bolt_reader *r = NULL;
    struct bolt_info info;
    struct slice name;
    struct slice key;
    struct slice value;
    struct slice want_key;
    struct slice want_value;
    assert_int_equal(bolt_open(&src, &r, &info, NULL), OK);
    assert_int_equal(info.page_bytes, BOLT_PAGE_BYTES);
    assert_int_equal(info.n_pages * BOLT_PAGE_BYTES, info.file_bytes);
    assert_false(info.has_freelist);
    for (size_t b = 0; plan->names[b] != NULL; b++) {
        assert_int_equal(bolt_next_bucket(r, &name, NULL), OK);
        assert_true(slice_eq(name, slice_str(plan->names[b])));
        for (uint64_t i = 0; plan->pair(plan->arg, b, i, &want_key, &want_value); i++) {
            assert_int_equal(bolt_next(r, &key, &value, NULL), OK);
            assert_true(slice_eq(key, want_key));
            assert_true(slice_eq(value, want_value));
        }
        assert_int_equal(bolt_next(r, &key, &value, NULL), ERR_END);
    }
    assert_int_equal(bolt_next_bucket(r, &name, NULL), ERR_END);
    bolt_close(&r);
    assert_int_equal(bolt_check(&src, &info, NULL), OK);
}

/* The first key of the tree at page `id`. */
static struct slice expect_sound(const struct bytes *file, uint64_t id, bool is_root)
{
    const uint8_t *p = file->data + id * BOLT_PAGE_BYTES;
    uint64_t n = le_get(p + BOLT_AT_COUNT, 2);
    bool is_leaf = le_get(p + BOLT_AT_KIND, 2) == BOLT_PAGE_LEAF;
    struct slice first = {NULL, 0};
    assert_true(n >= (is_leaf ? !is_root : 2));
    for (uint64_t i = 0; i < n; i++) {
        const uint8_t *h = p + BOLT_HEAD + i * BOLT_ELEMENT;
        struct slice key =
            is_leaf ? slice_of(h + le_get32(h + BOLT_LEAF_POS), le_get32(h + BOLT_LEAF_KEY))
                    : slice_of(h + le_get32(h + BOLT_BRANCH_POS), le_get32(h + BOLT_BRANCH_KEY));
        if (i == 0) {
            first = key;
        }
        if (!is_leaf) {
            assert_true(slice_eq(key, expect_sound(file, le_get(h + BOLT_BRANCH_CHILD, 8), false)));
        } else if (le_get32(h + BOLT_LEAF_FLAGS) == BOLT_FLAG_BUCKET &&
                   le_get(key.data + key.len, 8) != 0) {
            (void)expect_sound(file, le_get(key.data + key.len, 8), true);
        }
    }
    return first;
}

void bolt_expect_sound_trees(const struct bytes *file)
{
    (void)expect_sound(file, le_get(file->data + BOLT_HEAD + BOLT_META_ROOT, 8), true);
}
