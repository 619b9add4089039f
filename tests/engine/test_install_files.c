/* test_install_files.c - snapshot files that are damaged, cut, of another writer, or not what their
 * message says.
 */
#include "install_support.h"

#include <stdio.h>
#include <string.h>

/* --- files that are not what they should be
 * ----------------------------------------------------------- */

static enum err try_to_install(struct target *t, const struct bytes *file)
{
    struct err_ctx ec = {{0}};
    struct bolt_source src = bolt_source_of(file);
    struct staged *s = NULL;
    enum err err = engine_stage(&t->cfg, &t->place, &src, &s, &ec);
    if (err != OK) {
        assert_null(s);
        assert_true(ec.text[0] != 0);
        return err;
    }
    assert_int_equal(staged_install(s, NULL), OK);
    engine_adopt(t->e, &s);
    return OK;
}

static void damage_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct target t;
    struct bytes file = {0};
    struct snapshot_info info;
    size_t n_refused = 0;
    size_t n_taken = 0;
    fixture_init(&f, ON_MEMORY);
    install_fill(&f, 60);
    fixture_flush(&f);
    install_take(f.e, &file, &info);
    target_init(&t, ON_MEMORY);
    target_put(&t, "old", "state");
    uint32_t old = install_hash(t.e);
    uint32_t new = install_hash(f.e);
    bool is_new = false;
    for (size_t at = 0; at < file.len; at++) {
        static const uint8_t masks[] = {0x01, 0xff};
        uint8_t mask = masks[at % 2];
        file.data[at] ^= mask;
        enum err err = try_to_install(&t, &file);
        file.data[at] ^= mask;
        assert_true(err == OK || err == ERR_CORRUPT || err == ERR_UNSUPPORTED);
        is_new = is_new || err == OK;
        assert_int_equal(install_hash(t.e), is_new ? new : old);
        n_refused += err != OK;
        n_taken += err == OK;
    }
    /* Everything before the page of the sum, and the sum. */
    assert_true(n_refused >= file.len - 4096);
    assert_true(n_taken > 4000);
    for (size_t len = 0; len < file.len; len += len < 20000 ? 411 : 4096) {
        struct bytes cut = {.data = file.data, .len = len};
        assert_int_not_equal(try_to_install(&t, &cut), OK);
    }
    install_expect_same(f.e, t.e);
    bytes_deinit(&file);
    target_deinit(&t);
    fixture_deinit(&f);
}

/* Files of another writer, without the sum: well-formed, and wrong in what they say. */
struct rows_of {
    struct slice keys[N_BUCKETS][6];
    struct slice values[N_BUCKETS][6];
    size_t n[N_BUCKETS];
};

static bool row_pair(void *arg, size_t bucket, uint64_t i, struct slice *key, struct slice *value)
{
    const struct rows_of *r = arg;
    if (i >= r->n[bucket]) {
        return false;
    }
    *key = r->keys[bucket][i];
    *value = r->values[bucket][i];
    return true;
}

static const uint8_t number_5[8] = {0, 0, 0, 0, 0, 0, 0, 5};
static const uint8_t number_0[8] = {0};
static const uint8_t number_1[8] = {0, 0, 0, 0, 0, 0, 0, 1};

static void what_must_be_there(void **state)
{
    (void)state;
    static const char *const names[] = {"alarm", "auth", "authRoles", "authUsers",
                                        "cluster", "extra", "key", "lease",
                                        "members", "members_removed", "meta", NULL};
    enum { KEY = 6, META = 10 };
    static const struct {
        const char *name;
        const char *conf; /* NULL: no row */
        const uint8_t *index;
        const uint8_t *term;
        const char *record; /* key of 17 bytes */
        bool good;
    } rows[] = {
        {"everything", "{\"voters\":[1],\"auto_leave\":false}", number_5, number_1, NULL, true},
        {"no configuration", NULL, number_5, number_1, NULL, false},
        {"a configuration without voters", "{\"auto_leave\":false}", number_5, number_1, NULL,
         false},
        {"a configuration that does not decode", "{\"voters\":", number_5, number_1, NULL, false},
        {"no index", "{\"voters\":[1]}", NULL, number_1, NULL, false},
        {"index 0", "{\"voters\":[1]}", number_0, number_1, NULL, false},
        {"no term", "{\"voters\":[1]}", number_5, NULL, NULL, false},
        {"a record that is none", "{\"voters\":[1]}", number_5, number_1, "not a revision....", false},
    };
    struct target t;
    target_init(&t, ON_MEMORY);
    target_put(&t, "old", "state");
    uint32_t old = install_hash(t.e);
    for (size_t i = ARRAY_LEN(rows); i > 0; i--) { /* the good one last */
        struct rows_of r = {.n = {0}};
        struct bytes file = {0};
        size_t n = 0;
        print_message("%s\n", rows[i - 1].name);
        if (rows[i - 1].conf != NULL) {
            r.keys[0][n] = slice_str("confState");
            r.values[0][n++] = slice_str(rows[i - 1].conf);
        }
        if (rows[i - 1].index != NULL) {
            r.keys[0][n] = slice_str("consistent_index");
            r.values[0][n++] = slice_of(rows[i - 1].index, 8);
        }
        if (rows[i - 1].term != NULL) {
            r.keys[0][n] = slice_str("term");
            r.values[0][n++] = slice_of(rows[i - 1].term, 8);
        }
        /* bucket numbers of the plan */
        memcpy(r.keys[META], r.keys[0], sizeof(r.keys[0]));
        memcpy(r.values[META], r.values[0], sizeof(r.values[0]));
        r.n[META] = n;
        r.keys[5][0] = slice_str("unknown");
        r.values[5][0] = slice_str("ignored");
        r.n[5] = 1;
        if (rows[i - 1].record != NULL) {
            r.keys[KEY][0] = slice_of(rows[i - 1].record, 17);
            r.values[KEY][0] = slice_str("x");
            r.n[KEY] = 1;
        }
        struct bolt_plan plan = {names, row_pair, &r};
        bolt_write_plan(&plan, &file);
        assert_int_equal(try_to_install(&t, &file), rows[i - 1].good ? OK : ERR_CORRUPT);
        if (!rows[i - 1].good) {
            assert_int_equal(install_hash(t.e), old);
            assert_int_equal(engine_applied_index(t.e), 1);
        }
        bytes_deinit(&file);
    }
    assert_int_equal(engine_applied_index(t.e), 5);
    assert_int_equal(engine_revision(t.e), 1);
    target_put(&t, "new", "state");
    target_flush(&t);
    target_crash(&t, false);
    assert_int_equal(engine_revision(t.e), 2);
    target_deinit(&t);
}

/* A file of etcd 3.4 names neither term nor configuration; the message with which it comes does. */
static void what_the_message_says(void **state)
{
    (void)state;
    static const char *const names[] = {"key", "meta", NULL};
    static const struct {
        const char *name;
        uint64_t index, term, voter;
        bool good;
    } rows[] = {
        {"the file is ahead", 4, 1, 9, false},
        {"nobody votes", 5, 1, 0, false},
        {"a message without a term", 5, 0, 9, false},
        {"the file's index", 5, 1, 9, true},
        {"a later index", 6, 1, 9, true},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        struct target t;
        struct rows_of r = {.n = {0}};
        struct bytes file = {0};
        struct err_ctx ec = {{0}};
        struct staged *s = NULL;
        struct snapshot_origin o = {.index = rows[i].index, .term = rows[i].term};
        print_message("%s\n", rows[i].name);
        o.conf.n_voters = rows[i].voter != 0;
        o.conf.voters[0] = rows[i].voter;
        r.keys[1][0] = slice_str("consistent_index");
        r.values[1][0] = slice_of(number_5, 8);
        r.n[1] = 1;
        struct bolt_plan plan = {names, row_pair, &r};
        bolt_write_plan(&plan, &file);
        struct bolt_source src = bolt_source_of(&file);
        target_init(&t, ON_LMDB);
        assert_int_equal(engine_stage(&t.cfg, &t.place, &src, &s, &ec), ERR_CORRUPT);
        enum err err = engine_stage_of(&t.cfg, &t.place, &src, &o, &s, &ec);
        assert_int_equal(err, rows[i].good ? OK : ERR_CORRUPT);
        assert_int_equal(target_has_file(&t, "store.mdb.incoming"), rows[i].good);
        if (rows[i].good) {
            struct engine_conf conf;
            assert_int_equal(staged_index(s), rows[i].index);
            assert_int_equal(staged_term(s), 1);
            assert_int_equal(staged_install(s, NULL), OK);
            engine_adopt(t.e, &s);
            target_crash(&t, false);
            assert_int_equal(engine_applied_index(t.e), rows[i].index);
            assert_true(target_is_installed(&t, rows[i].index));
            engine_conf(t.e, &conf);
            assert_int_equal(conf.n_voters, 1);
            assert_int_equal(conf.voters[0], 9);
        }
        target_deinit(&t);
        bytes_deinit(&file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(what_must_be_there),
        cmocka_unit_test(what_the_message_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
