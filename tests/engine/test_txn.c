/* test_txn.c - txns: checks, compares, order of execution, replies. */
#include "engine_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/wire.h"
#include "engine/describe.h"

/* --- building requests: everything lives in one arena
 * ------------------------------------------------ */

struct maker {
    struct arena *arena;
};

static void *zeroed(struct maker *m, size_t n)
{
    void *p = arena_calloc(m->arena, 1, n);
    assert_non_null(p);
    return p;
}

static Etcdserverpb__RequestOp *op_put(struct maker *m, const char *key, const char *value)
{
    Etcdserverpb__RequestOp *op = zeroed(m, sizeof(*op));
    etcdserverpb__request_op__init(op);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
    op->request_put = zeroed(m, sizeof(*op->request_put));
    etcdserverpb__put_request__init(op->request_put);
    op->request_put->key = fixture_bytes(key);
    op->request_put->value = fixture_bytes(value);
    return op;
}

static Etcdserverpb__RequestOp *op_delete(struct maker *m, const char *key, const char *end)
{
    Etcdserverpb__RequestOp *op = zeroed(m, sizeof(*op));
    etcdserverpb__request_op__init(op);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
    op->request_delete_range = zeroed(m, sizeof(*op->request_delete_range));
    etcdserverpb__delete_range_request__init(op->request_delete_range);
    op->request_delete_range->key = fixture_bytes(key);
    op->request_delete_range->range_end = fixture_bytes(end);
    op->request_delete_range->prev_kv = true;
    return op;
}

static Etcdserverpb__RequestOp *op_range(struct maker *m, const char *key, const char *end,
                                         int64_t revision)
{
    Etcdserverpb__RequestOp *op = zeroed(m, sizeof(*op));
    etcdserverpb__request_op__init(op);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
    op->request_range = zeroed(m, sizeof(*op->request_range));
    *op->request_range = fixture_range_request(key, end, revision);
    return op;
}

static Etcdserverpb__RequestOp *op_txn(struct maker *m, Etcdserverpb__TxnRequest *t)
{
    Etcdserverpb__RequestOp *op = zeroed(m, sizeof(*op));
    etcdserverpb__request_op__init(op);
    op->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
    op->request_txn = t;
    return op;
}

static Etcdserverpb__TxnRequest *txn(struct maker *m)
{
    Etcdserverpb__TxnRequest *t = zeroed(m, sizeof(*t));
    etcdserverpb__txn_request__init(t);
    t->compare = zeroed(m, 16 * sizeof(void *));
    t->success = zeroed(m, 16 * sizeof(void *));
    t->failure = zeroed(m, 16 * sizeof(void *));
    return t;
}

static void then(Etcdserverpb__TxnRequest *t, Etcdserverpb__RequestOp *op)
{
    t->success[t->n_success++] = op;
}

static void otherwise(Etcdserverpb__TxnRequest *t, Etcdserverpb__RequestOp *op)
{
    t->failure[t->n_failure++] = op;
}

static Etcdserverpb__Compare *when(struct maker *m, Etcdserverpb__TxnRequest *t, const char *key,
                                   const char *end, int target, int result)
{
    Etcdserverpb__Compare *c = zeroed(m, sizeof(*c));
    etcdserverpb__compare__init(c);
    c->key = fixture_bytes(key);
    c->range_end = fixture_bytes(end);
    c->target = (Etcdserverpb__Compare__CompareTarget)target;
    c->result = (Etcdserverpb__Compare__CompareResult)result;
    t->compare[t->n_compare++] = c;
    return c;
}

static int start(void **state)
{
    struct maker *m = xcalloc(1, sizeof(*m));
    m->arena = arena_create(4096, 1u << 20);
    *state = m;
    return 0;
}

static int stop(void **state)
{
    struct maker *m = *state;
    arena_destroy(&m->arena);
    free(m);
    return 0;
}

static Etcdserverpb__TxnResponse *reply(struct apply_result *r)
{
    assert_int_equal(r->err, OK);
    Etcdserverpb__TxnResponse *resp = etcdserverpb__txn_response__unpack(
        NULL, r->body == NULL ? 0 : r->body->len, r->body == NULL ? NULL : r->body->data);
    assert_non_null(resp);
    buf_unref(&r->body);
    return resp;
}

/* --- execution
 * ----------------------------------------------------------------------------------------- */

static void operations_run_in_order_at_one_revision(void **state)
{
    struct maker *m = *state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "a", "old");
    fixture_flush(&f);
    Etcdserverpb__TxnRequest *t = txn(m);
    then(t, op_range(m, "a", "*", 0));
    then(t, op_delete(m, "nothing", ""));
    then(t, op_put(m, "b", "new"));
    then(t, op_range(m, "a", "*", 0));
    then(t, op_delete(m, "a", ""));
    then(t, op_range(m, "a", "*", 2));
    then(t, op_range(m, "a", "*", 0));
    struct apply_result r = fixture_txn(&f, t);
    assert_int_equal(r.revision, 3);
    Etcdserverpb__TxnResponse *resp = reply(&r);
    assert_true(resp->succeeded);
    assert_null(resp->header); /* the caller's part */
    assert_int_equal(resp->n_responses, 7);
    assert_int_equal(resp->responses[0]->response_range->header->revision, 2);
    assert_int_equal(resp->responses[0]->response_range->header->cluster_id, 0);
    assert_int_equal(resp->responses[0]->response_range->count, 1);
    assert_int_equal(resp->responses[1]->response_delete_range->header->revision, 2);
    assert_int_equal(resp->responses[1]->response_delete_range->deleted, 0);
    assert_int_equal(resp->responses[2]->response_put->header->revision, 3);
    assert_int_equal(resp->responses[3]->response_range->header->revision, 3);
    assert_int_equal(resp->responses[3]->response_range->count, 2);
    assert_int_equal(resp->responses[3]->response_range->kvs[1]->mod_revision, 3);
    assert_int_equal(resp->responses[4]->response_delete_range->deleted, 1);
    assert_memory_equal(resp->responses[4]->response_delete_range->prev_kvs[0]->value.data, "old",
                        3);
    assert_int_equal(resp->responses[5]->response_range->count, 1);
    assert_memory_equal(resp->responses[5]->response_range->kvs[0]->key.data, "a", 1);
    assert_int_equal(resp->responses[6]->response_range->count, 1);
    assert_memory_equal(resp->responses[6]->response_range->kvs[0]->key.data, "b", 1);
    etcdserverpb__txn_response__free_unpacked(resp, NULL);
    assert_int_equal(f.n_changes, 3);
    fixture_deinit(&f);
}

static void nested_compares_see_the_state_before(void **state)
{
    struct maker *m = *state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    Etcdserverpb__TxnRequest *inner = txn(m);
    when(m, inner, "k", "", ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE,
         ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL);
    then(inner, op_put(m, "absent-before", "1"));
    otherwise(inner, op_put(m, "there-before", "1"));
    Etcdserverpb__TxnRequest *t = txn(m);
    then(t, op_put(m, "k", "v"));
    then(t, op_txn(m, inner));
    struct apply_result r = fixture_txn(&f, t);
    Etcdserverpb__TxnResponse *resp = reply(&r);
    const Etcdserverpb__TxnResponse *nested = resp->responses[1]->response_txn;
    assert_true(nested->succeeded);
    assert_non_null(nested->header);
    assert_int_equal(nested->header->revision, 0);
    assert_int_equal(nested->responses[0]->response_put->header->revision, 2);
    etcdserverpb__txn_response__free_unpacked(resp, NULL);
    char got[256];
    fixture_dump(&f, "a", "*", 0, got, sizeof(got));
    assert_string_equal(got, "absent-before=1@2,2,1,0;k=v@2,2,1,0;");
    fixture_deinit(&f);
}

static void a_refused_txn_changes_nothing(void **state)
{
    struct maker *m = *state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    for (int i = 0; i < 5; i++) {
        fixture_put(&f, "k", "v"); /* revisions 2 to 6 */
    }
    assert_int_equal(fixture_compact(&f, 3), OK);
    static const struct {
        const char *name;
        int64_t revision; /* of a range; or 0 and the rest of a put */
        int64_t lease;
        bool ignore_value;
        enum err expected;
    } cases[] = {
        {"a range in the future", 7, 0, false, ERR_FUTURE_REV},
        {"a compacted range", 2, 0, false, ERR_COMPACTED},
        {"a negative revision is compared as it stands", -1, 0, false, ERR_COMPACTED},
        {"the compact revision itself", 3, 0, false, OK},
        {"an unknown lease", 0, 9, false, ERR_LEASE_NOT_FOUND},
        {"an absent key's value", 0, 0, true, ERR_KEY_NOT_FOUND},
    };
    int64_t live = 6;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Etcdserverpb__TxnRequest *t = txn(m);
        then(t, op_put(m, "first", "1"));
        if (cases[i].revision != 0) {
            then(t, op_range(m, "k", "", cases[i].revision));
        } else {
            Etcdserverpb__RequestOp *op = op_put(m, "absent", "");
            op->request_put->lease = cases[i].lease;
            op->request_put->ignore_value = cases[i].ignore_value;
            then(t, op);
        }
        otherwise(t, op_range(m, "k", "", 1000)); /* the branch not taken is not looked at */
        struct apply_result r = fixture_txn(&f, t);
        live += cases[i].expected == OK;
        if (r.err != cases[i].expected || r.revision != live) {
            fail_msg("%s: %s, revision %lld", cases[i].name, err_text(r.err),
                     (long long)r.revision);
        }
        buf_unref(&r.body);
    }
    fixture_deinit(&f);
}

enum { EQ, GT, LT, NE };
enum { VERSION, CREATE, MOD, VALUE, LEASE };

static const struct {
    const char *key, *end;
    int target, result;
    int64_t number;
    const char *text;
    bool other_member; /* of the oneof */
    bool expected;
} compare_cases[] = {
    {"a", "", VERSION, EQ, 2, NULL, false, true},
    {"a", "", CREATE, EQ, 2, NULL, false, true},
    {"a", "", MOD, GT, 4, NULL, false, true},
    {"a", "", MOD, LT, 5, NULL, false, false},
    {"a", "", VALUE, EQ, 0, "avocado", false, true},
    {"a", "", VALUE, GT, 0, "avocad", false, true},
    {"a", "", VALUE, NE, 0, "avocado", false, false},
    {"b", "", LEASE, EQ, 5, NULL, false, true},
    {"a", "", LEASE, EQ, 0, NULL, false, true},
    {"none", "", VALUE, NE, 0, "x", false, false},
    {"none", "", VALUE, EQ, 0, "", false, false},
    {"none", "", CREATE, EQ, 0, NULL, false, true},
    {"none", "", VERSION, GT, 0, NULL, false, false},
    {"none", "", LEASE, EQ, 0, NULL, false, true},
    {"a", "*", MOD, GT, 2, NULL, false, true},
    {"a", "*", MOD, GT, 3, NULL, false, false},
    {"b", "c", VALUE, EQ, 0, "berry", false, true},
    {"a", "c", VALUE, EQ, 0, "berry", false, false},
    {"z", "a", CREATE, EQ, 0, NULL, false, true},
    {"a", "", VERSION, EQ, 2, NULL, true, false},
    {"a", "", VERSION, GT, 2, NULL, true, true},
    {"a", "", VERSION, 17, 99, NULL, false, true},
    {"a", "", 17, EQ, 99, NULL, false, true},
    {"a", "", 17, NE, 99, NULL, false, false},
};

static void compares(void **state)
{
    struct maker *m = *state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_grant(&f, 5, 100);
    fixture_put(&f, "a", "apple");                              /* 2 */
    fixture_put_full(&f, "b", "berry", 5, false, false, false); /* 3 */
    fixture_flush(&f);
    fixture_put(&f, "b2", "berry");  /* 4 */
    fixture_put(&f, "a", "avocado"); /* 5 */
    for (size_t i = 0; i < ARRAY_LEN(compare_cases); i++) {
        Etcdserverpb__TxnRequest *t = txn(m);
        Etcdserverpb__Compare *c = when(m, t, compare_cases[i].key, compare_cases[i].end,
                                        compare_cases[i].target, compare_cases[i].result);
        static const int members[] = {
            ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION,
            ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION,
            ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION,
            ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE,
            ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE,
        };
        if (compare_cases[i].text != NULL) {
            c->target_union_case = ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE;
            c->value = fixture_bytes(compare_cases[i].text);
        } else {
            int member = compare_cases[i].other_member ? LEASE
                         : compare_cases[i].target < 5 ? compare_cases[i].target
                                                       : VERSION;
            c->target_union_case = (Etcdserverpb__Compare__TargetUnionCase)members[member];
            c->version = compare_cases[i].number;
        }
        struct bytes body = {0};
        int64_t revision;
        assert_int_equal(engine_txn_read(f.e, t, 1, &body, &revision, NULL), OK);
        bool by_reader = body.len > 0;
        bytes_deinit(&body);
        struct apply_result r = fixture_txn(&f, t);
        Etcdserverpb__TxnResponse *resp = reply(&r);
        if (resp->succeeded != compare_cases[i].expected ||
            by_reader != compare_cases[i].expected) {
            fail_msg("case %zu: %d, by a reader %d", i, resp->succeeded, by_reader);
        }
        etcdserverpb__txn_response__free_unpacked(resp, NULL);
    }
    fixture_deinit(&f);
}

static void a_read_only_txn_of_a_reader(void **state)
{
    struct maker *m = *state;
    struct fixture f;
    fixture_init(&f, ON_MEMORY);
    fixture_put(&f, "a", "1");
    fixture_put(&f, "b", "2");
    Etcdserverpb__TxnRequest *t = txn(m);
    bool serializable;
    assert_true(engine_txn_is_read_only(t, &serializable));
    assert_true(serializable);
    then(t, op_range(m, "a", "*", 0));
    then(t, op_range(m, "a", "*", 2));
    assert_true(engine_txn_is_read_only(t, &serializable));
    assert_false(serializable);
    struct bytes body = {0};
    int64_t revision = 0;
    assert_int_equal(engine_txn_read(f.e, t, 1, &body, &revision, NULL), OK);
    assert_int_equal(revision, 3);
    Etcdserverpb__TxnResponse *resp = etcdserverpb__txn_response__unpack(NULL, body.len, body.data);
    assert_non_null(resp);
    assert_int_equal(resp->n_responses, 2);
    assert_int_equal(resp->responses[0]->response_range->n_kvs, 2);
    assert_int_equal(resp->responses[0]->response_range->header->revision, 3);
    assert_int_equal(resp->responses[1]->response_range->n_kvs, 1);
    etcdserverpb__txn_response__free_unpacked(resp, NULL);
    then(t, op_range(m, "a", "*", 4));
    body.len = 0;
    assert_int_equal(engine_txn_read(f.e, t, 1, &body, &revision, NULL), ERR_FUTURE_REV);
    assert_int_equal(body.len, 0);
    bytes_deinit(&body);
    otherwise(t, op_put(m, "a", "x"));
    assert_false(engine_txn_is_read_only(t, &serializable));
    fixture_deinit(&f);
}

/* --- checks without state
 * ------------------------------------------------------------------------------- */

static void duplicate_keys(void **state)
{
    struct maker *m = *state;
    Etcdserverpb__TxnRequest *t = txn(m);
    then(t, op_put(m, "a", ""));
    then(t, op_put(m, "a", ""));
    assert_int_equal(engine_check_txn(t, 128), ERR_DUPLICATE_KEY);

    t = txn(m);
    then(t, op_put(m, "b", ""));
    then(t, op_delete(m, "a", "c"));
    assert_int_equal(engine_check_txn(t, 128), ERR_DUPLICATE_KEY);

    t = txn(
        m); /* one hole of etcd's rule: a deletion to the end of the keys conflicts with nothing */
    then(t, op_delete(m, "a", "*"));
    then(t, op_put(m, "b", ""));
    then(t, op_delete(m, "a", "*"));
    assert_int_equal(engine_check_txn(t, 128), OK);

    t = txn(m);
    then(t, op_delete(m, "a", "c"));
    then(t, op_delete(m, "b", "d"));
    then(t, op_put(m, "d", ""));
    otherwise(t, op_put(m, "d", ""));
    assert_int_equal(engine_check_txn(t, 128), OK);

    Etcdserverpb__TxnRequest *both = txn(m);
    then(both, op_put(m, "k", ""));
    otherwise(both, op_put(m, "k", ""));
    t = txn(m);
    then(t, op_txn(m, both));
    assert_int_equal(engine_check_txn(t, 128), OK);
    then(t, op_txn(m, both)); /* now another nested txn puts it too */
    assert_int_equal(engine_check_txn(t, 128), ERR_DUPLICATE_KEY);

    Etcdserverpb__TxnRequest *deletes = txn(m);
    otherwise(deletes, op_delete(m, "k", ""));
    t = txn(m); /* the other hole: put, then deleted by a later sibling */
    then(t, op_txn(m, both));
    then(t, op_txn(m, deletes));
    assert_int_equal(engine_check_txn(t, 128), OK);
    t = txn(m);
    then(t, op_txn(m, deletes));
    then(t, op_txn(m, both));
    assert_int_equal(engine_check_txn(t, 128), ERR_DUPLICATE_KEY);
    t = txn(m);
    then(t, op_put(m, "k", ""));
    then(t, op_txn(m, deletes));
    assert_int_equal(engine_check_txn(t, 128), ERR_DUPLICATE_KEY);
}

static void checks_come_in_etcds_order(void **state)
{
    struct maker *m = *state;
    Etcdserverpb__TxnRequest *t = txn(m);
    when(m, t, "", "", CREATE, EQ);
    then(t, op_put(m, "a", ""));
    then(t, op_put(m, "a", ""));
    assert_int_equal(engine_check_txn(t, 1), ERR_TOO_MANY_OPS);
    assert_int_equal(engine_check_txn(t, 2), ERR_EMPTY_KEY);
    t->n_compare = 0;
    assert_int_equal(engine_check_txn(t, 2), ERR_DUPLICATE_KEY);
    Etcdserverpb__RequestOp *empty = zeroed(m, sizeof(*empty));
    etcdserverpb__request_op__init(empty);
    then(t, empty);
    assert_int_equal(engine_check_txn(t, 3), ERR_KEY_NOT_FOUND);
    t->success[2] = op_range(m, "k", "", 0);
    t->success[2]->request_range->sort_order = (Etcdserverpb__RangeRequest__SortOrder)3;
    assert_int_equal(engine_check_txn(t, 3), ERR_SORT_OPTION);
    t->success[2] = op_range(m, "", "", 0);
    assert_int_equal(engine_check_txn(t, 3), ERR_EMPTY_KEY);

    /* A nested txn has what its parent leaves. */
    Etcdserverpb__TxnRequest *inner = txn(m);
    then(inner, op_put(m, "a", ""));
    then(inner, op_put(m, "b", ""));
    t = txn(m);
    then(t, op_txn(m, inner));
    assert_int_equal(engine_check_txn(t, 3), OK);
    assert_int_equal(engine_check_txn(t, 2), ERR_TOO_MANY_OPS);
    assert_int_equal(engine_txn_cost(t), 2 * 257);
}

static void depth_is_bounded(void **state)
{
    struct maker *m = *state;
    for (unsigned depth = ENGINE_TXN_DEPTH_MAX - 1; depth <= ENGINE_TXN_DEPTH_MAX + 1; depth++) {
        Etcdserverpb__TxnRequest *t = txn(m);
        for (unsigned i = 1; i < depth; i++) {
            Etcdserverpb__TxnRequest *outer = txn(m);
            then(outer, op_txn(m, t));
            t = outer;
        }
        bool fits = depth <= ENGINE_TXN_DEPTH_MAX;
        assert_int_equal(engine_check_txn(t, 1000), fits ? OK : ERR_TOO_MANY_OPS);
        size_t len = etcdserverpb__txn_request__get_packed_size(t);
        uint8_t *packed = zeroed(m, len);
        etcdserverpb__txn_request__pack(t, packed);
        assert_int_equal(engine_txn_depth(slice_of(packed, len)), fits ? OK : ERR_TOO_MANY_OPS);
        struct fixture f;
        fixture_init(&f, ON_MEMORY);
        struct apply_result r = fixture_txn(&f, t);
        assert_int_equal(r.err, fits ? OK : ERR_TOO_MANY_OPS);
        buf_unref(&r.body);
        fixture_deinit(&f);
    }
}

/* So deep that decoding it would take more than the stack, behind a field that our reader does not take and the decoder does. */
static void what_is_not_well_formed_is_not_decoded(void **state)
{
    (void)state;
    enum { LEVELS = 100000, LEVEL_BYTES = 10 };
    static const uint8_t overlong[] = {0x78, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f};
    static const uint32_t fields[] = {4, 2}; /* the txn of an op, the op of a txn */
    uint8_t *room = xalloc(LEVELS * LEVEL_BYTES);
    uint8_t *at = room + LEVELS * LEVEL_BYTES;
    const uint8_t *end = at;
    for (unsigned i = 0; i < 2 * LEVELS; i++) {
        uint8_t head[16];
        size_t n = (size_t)(wire_put_varint(wire_put_tag(head, fields[i % 2], WIRE_LEN), (uint64_t)(end - at)) - head);
        assert_true((size_t)(at - room) >= n + sizeof(overlong));
        at -= n;
        memcpy(at, head, n);
    }
    for (unsigned row = 0; row < 2; row++) {
        struct bytes entry = {0};
        struct bytes text = {0};
        struct fixture f;
        if (row == 1) {
            at -= sizeof(overlong);
            memcpy(at, overlong, sizeof(overlong));
        }
        enum err want = row == 0 ? ERR_TOO_MANY_OPS : ERR_INVALID;
        assert_int_equal(engine_txn_depth(slice_of(at, (size_t)(end - at))), want);
        wire_add_message(&entry, 6, slice_of(at, (size_t)(end - at)));
        fixture_init(&f, ON_MEMORY);
        struct apply_result r = fixture_apply(&f, 0, bytes_slice(&entry), false);
        assert_int_equal(r.err, want);
        assert_int_equal(engine_applied_index(f.e), 1);
        describe_entry(bytes_slice(&entry), &text); /* for the log: it was refused */
        assert_string_equal((const char *)text.data, "");
        bytes_deinit(&text);
        bytes_deinit(&entry);
        fixture_deinit(&f);
    }
    free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operations_run_in_order_at_one_revision, start, stop),
        cmocka_unit_test_setup_teardown(nested_compares_see_the_state_before, start, stop),
        cmocka_unit_test_setup_teardown(a_refused_txn_changes_nothing, start, stop),
        cmocka_unit_test_setup_teardown(compares, start, stop),
        cmocka_unit_test_setup_teardown(a_read_only_txn_of_a_reader, start, stop),
        cmocka_unit_test_setup_teardown(duplicate_keys, start, stop),
        cmocka_unit_test_setup_teardown(checks_come_in_etcds_order, start, stop),
        cmocka_unit_test_setup_teardown(depth_is_bounded, start, stop),
        cmocka_unit_test(what_is_not_well_formed_is_not_decoded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
