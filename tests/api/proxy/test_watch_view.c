/* What each receiver gets of one answer of a watch that it shares. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

#include "api/proxy/watch_view.h"
#include "base/assert.h"
#include "base/wire.h"

#define REVISION 20

static void add(struct bytes *out, uint32_t field, struct bytes inner)
{
    wire_add_message(out, field, bytes_slice(&inner));
    bytes_deinit(&inner);
}

static struct bytes answer_at(int64_t revision)
{
    struct bytes header = {0};
    struct bytes out = {0};
    wire_add_int(&header, 3, revision);
    add(&out, 1, header);
    wire_add_int(&out, 2, 77); /* the upstream id, which nobody gets to see */
    return out;
}

static void add_event(struct bytes *out, bool is_delete, int64_t revision, const char *before)
{
    struct bytes kv = {0};
    struct bytes event = {0};
    wire_add_bytes(&kv, 1, slice_str("k"));
    wire_add_int(&kv, 3, revision);
    wire_add_bool(&event, 1, is_delete);
    add(&event, 2, kv);
    if (before != NULL) {
        struct bytes old = {0};
        wire_add_bytes(&old, 5, slice_str(before));
        add(&event, 3, old);
    }
    add(out, 11, event);
}

/* "id: type revision (before) ..." as a receiver reads it. */
static void show(struct slice m, struct bytes *out)
{
    struct watch_view v;
    struct wire_field f;
    int64_t id = 0;
    for (struct slice rest = m; wire_next(&rest, &f) == OK;) {
        id = f.number == 2 ? (int64_t)f.value : id;
    }
    assert_int_equal(watch_view_read(m, &v), OK);
    bytes_printf(out, "%d@%d%s%s", (int)id, (int)v.header_revision, v.created ? " created" : "", v.canceled ? " canceled" : "");
    if (v.compact_revision > 0) {
        bytes_printf(out, " compacted %d", (int)v.compact_revision);
    }
    for (size_t i = 0; i < v.n_events; i++) {
        bytes_printf(out, " %s%d%s", v.events[i].is_delete ? "del" : "put", (int)v.events[i].revision, v.events[i].has_before ? "+" : "");
    }
    watch_view_deinit(&v);
}

static void expect(const struct watch_view *v, struct watch_want *w, const char *want, int64_t next)
{
    struct bytes b = {0};
    struct bytes shown = {0};
    if (watch_view_write(v, w, &b)) {
        show(bytes_slice(&b), &shown);
    } else {
        assert_int_equal(b.len, 0);
        bytes_add_str(&shown, "nothing");
    }
    if (!slice_eq(bytes_slice(&shown), slice_str(want))) {
        fail_msg("\"%.*s\" instead of \"%s\"", (int)shown.len, (const char *)shown.data, want);
    }
    assert_int_equal(w->next_revision, next);
    bytes_deinit(&b);
    bytes_deinit(&shown);
}

static void test_events(void **state)
{
    (void)state;
    static const struct {
        struct watch_want w;
        const char *want;
        int64_t next;
    } cases[] = {
        {{.id = 1, .next_revision = 5}, "1@20 put10 put10 del12", 13},
        {{.id = 2, .next_revision = 5, .before = true}, "2@20 put10 put10+ del12+", 13},
        {{.id = 3, .next_revision = 10}, "3@20 put10 put10 del12", 13},
        {{.id = 4, .next_revision = 11}, "4@20 del12", 13},
        {{.id = 4, .next_revision = 11, .before = true}, "4@20 del12+", 13},
        {{.id = 5, .next_revision = 13}, "nothing", 13},
        {{.id = 6, .next_revision = 5, .no_put = true}, "6@20 del12", 13},
        {{.id = 7, .next_revision = 5, .no_delete = true}, "7@20 put10 put10", 13},
        {{.id = 8, .next_revision = 5, .no_put = true, .no_delete = true}, "nothing", 13},
        {{.id = 9, .next_revision = 11, .no_delete = true}, "nothing", 13},
    };
    struct bytes m = answer_at(REVISION);
    add_event(&m, false, 10, NULL);
    add_event(&m, false, 10, "old");
    add_event(&m, true, 12, "old");
    struct watch_view v;
    assert_int_equal(watch_view_read(bytes_slice(&m), &v), OK);
    assert_false(watch_view_is_progress(&v));
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct watch_want w = cases[i].w;
        expect(&v, &w, cases[i].want, cases[i].next);
    }
    watch_view_deinit(&v);
    bytes_deinit(&m);
}

static void test_created(void **state)
{
    (void)state;
    struct bytes m = answer_at(REVISION);
    wire_add_bool(&m, 3, true);
    struct watch_view v;
    assert_int_equal(watch_view_read(bytes_slice(&m), &v), OK);
    struct watch_want now = {.id = 1};
    struct watch_want then = {.id = 2, .next_revision = 4};
    expect(&v, &now, "1@20 created", REVISION + 1);
    expect(&v, &then, "2@20 created", 4);
    watch_view_deinit(&v);
    bytes_deinit(&m);
}

static void test_progress(void **state)
{
    (void)state;
    struct bytes m = answer_at(REVISION);
    struct watch_view v;
    assert_int_equal(watch_view_read(bytes_slice(&m), &v), OK);
    assert_true(watch_view_is_progress(&v));
    struct watch_want asks = {.id = 1, .next_revision = 4, .progress = true};
    struct watch_want not = {.id = 2, .next_revision = 4};
    expect(&v, &asks, "1@20", 4);
    expect(&v, &not, "nothing", 4);
    watch_view_deinit(&v);
    bytes_deinit(&m);
}

static void test_canceled(void **state)
{
    (void)state;
    struct bytes m = answer_at(REVISION);
    wire_add_bool(&m, 4, true);
    wire_add_int(&m, 5, 9);
    wire_add_bytes(&m, 6, slice_str("why"));
    struct watch_view v;
    assert_int_equal(watch_view_read(bytes_slice(&m), &v), OK);
    struct watch_want w = {.id = 1, .next_revision = 4};
    assert_true(slice_eq(v.reason, slice_str("why")));
    expect(&v, &w, "1@20 canceled compacted 9", 4);
    watch_view_deinit(&v);
    bytes_deinit(&m);
}

static void test_malformed(void **state)
{
    (void)state;
    static const char *const bad[] = {"\x5a\x05\x12", "\x5a\x02\x12\x07", "\x0a\x01\x18", "\xff"};
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        struct watch_view v;
        assert_int_equal(watch_view_read(slice_str(bad[i]), &v), ERR_INVALID);
        watch_view_deinit(&v);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events),   cmocka_unit_test(test_created),   cmocka_unit_test(test_progress),
        cmocka_unit_test(test_canceled), cmocka_unit_test(test_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
