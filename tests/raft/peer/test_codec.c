/* test_codec.c - messages against the bytes of etcd's raft library 3.6 (tests/interop/raftpb prints
 * them), other members' habits, and bytes that are no messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/peer/codec.h"
#include "tests/raft/peer/hex.h"

static struct raft_message *heartbeat(void)
{
    return raft_message_create(RAFT_MSG_HEARTBEAT, 0);
}

static void set_context(struct raft_message *m, const char *text)
{
    m->context_len = (uint8_t)strlen(text);
    memcpy(m->context, text, m->context_len);
}

static struct raft_message *vote(void)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_VOTE, 0);
    m->to = UINT64_C(0x8211f1d0f64f3269);
    m->from = UINT64_C(0x91bc3c398fb3c146);
    m->term = 7;
    m->log_term = 6;
    m->index = 300;
    set_context(m, "CampaignTransfer");
    return m;
}

static struct raft_message *append(void)
{
    static const uint8_t joint[] = {0, 1, 2};
    struct raft_message *m = raft_message_create(RAFT_MSG_APP, 4);
    m->to = 2;
    m->from = 1;
    m->term = 5;
    m->log_term = 4;
    m->index = 10;
    m->commit = 9;
    for (uint64_t i = 0; i < 4; i++) {
        m->entries[i] = (struct raft_entry){.index = 11 + i, .term = 5};
    }
    m->entries[1].data = buf_copy(slice_str("hello"));
    m->entries[2].type = RAFT_ENTRY_CONF_CHANGE;
    m->entries[2].data = buf_create(0);
    m->entries[3].type = RAFT_ENTRY_CONF_CHANGE_V2;
    m->entries[3].data = buf_copy(slice_of(joint, sizeof(joint)));
    return m;
}

static struct raft_message *reject(void)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_APP_RESP, 0);
    m->to = 1;
    m->from = 2;
    m->term = 5;
    m->log_term = 3;
    m->index = 10;
    m->reject = true;
    m->reject_hint = 8;
    m->commit = UINT64_C(1) << 40;
    return m;
}

static struct raft_message *read_index(void)
{
    static const uint8_t context[] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct raft_message *m = raft_message_create(RAFT_MSG_READ_INDEX, 1);
    m->to = 1;
    m->from = 2;
    m->entries[0].data = buf_copy(slice_of(context, sizeof(context)));
    return m;
}

static struct raft_message *snapshot_of(const struct raft_snapshot *s)
{
    struct raft_message *m = raft_message_create(RAFT_MSG_SNAP, 0);
    m->to = 3;
    m->from = 1;
    m->term = 5;
    m->snapshot = raft_snapshot_copy(s);
    return m;
}

static struct raft_message *snapshot(void)
{
    struct raft_snapshot s = {
        .index = 100,
        .term = 4,
        .conf = {.voters = {3, {1, 2, 300}},
                 .learners = {1, {4}},
                 .voters_outgoing = {2, {1, 2}},
                 .learners_next = {1, {2}},
                 .auto_leave = true},
        .data = buf_copy(slice_str("{}")),
    };
    struct raft_message *m = snapshot_of(&s);
    m->vote = 1;
    buf_unref(&s.data);
    return m;
}

static struct raft_message *snapshot_empty(void)
{
    const struct raft_snapshot s = {0};
    return snapshot_of(&s);
}

static const struct golden {
    const char *name;
    struct raft_message *(*make)(void);
    const char *hex;
} goldens[] = {
    {"the link's heartbeat is all zeros", heartbeat, "0808100018002000280030004000500058006800"},
    {"ids of 64 bits and a context", vote,
     "080510e9e4bcb28fbafc88820118c682cffd98878fde91012007280630ac02400050005800621043616d706169"
     "676e5472616e736665726800"},
    {"entries: data absent, some, and empty", append,
     "08031002180120052804300a3a0608001005180b3a0d08001005180c220568656c6c6f3a0808011005180d22003a"
     "0b08021005180e22030001024009500058006800"},
    {"a rejection with its hint", reject, "08041001180220052803300a40808080808020500158086800"},
    {"a read's context is the data of an entry", read_index,
     "080f100118022000280030003a10080010001800220801020304050607084000500058006800"},
    {"a snapshot with every part of a configuration", snapshot,
     "08071003180120052800300040004a1d0a027b7d12170a110801080208ac02100418011802200228011064180450"
     "0058006801"},
    {"an empty snapshot", snapshot_empty,
     "08071003180120052800300040004a0a12080a02280010001800500058006800"},
};

static void assert_same(const struct raft_message *m, const struct raft_message *want)
{
    struct bytes a = {0};
    struct bytes b = {0};
    peer_message_encode(m, &a);
    peer_message_encode(want, &b);
    assert_true(slice_eq(bytes_slice(&a), bytes_slice(&b)));
    assert_int_equal(m->n_entries, want->n_entries);
    assert_int_equal(m->snapshot == NULL, want->snapshot == NULL);
    bytes_deinit(&a);
    bytes_deinit(&b);
}

static struct raft_message *decoded(const char *hex)
{
    struct bytes in = {0};
    struct err_ctx ec = {{0}};
    struct raft_message *m = NULL;
    hex_add(&in, hex);
    if (peer_message_decode(bytes_slice(&in), &m, &ec) != OK) {
        print_error("%s\n", ec.text);
        fail();
    }
    bytes_deinit(&in);
    return m;
}

static void test_golden(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(goldens); i++) {
        struct bytes out = {0};
        struct raft_message *m = goldens[i].make();
        print_message("%s\n", goldens[i].name);
        peer_message_encode(m, &out);
        assert_int_equal(out.len, peer_message_bytes(m));
        assert_hex(bytes_slice(&out), goldens[i].hex);
        struct raft_message *back = decoded(goldens[i].hex);
        assert_same(back, m);
        assert_int_equal(back->type, m->type);
        assert_int_equal(back->from, m->from);
        assert_int_equal(back->commit, m->commit);
        raft_message_destroy(&back);
        raft_message_destroy(&m);
        bytes_deinit(&out);
    }
}

/* What other versions write, and what the standard allows. */
static const struct foreign {
    const char *name;
    const char *hex;
    struct raft_message *(*means)(void);
} foreigns[] = {
    {"3.7 leaves the zeros out", "0808", heartbeat},
    {"3.4 has an empty snapshot in every message",
     "080810001800200028003000 40004a0a12080a02280010001800 50005800", heartbeat},
    {"fields in another order", "5808 5001 4080808080802030 0a2803 2005 1802 1001 0804", reject},
    {"the last of two numbers counts", "0804 1005 1001 1802 2005 2803 300a 408080808080205001 5808",
     reject},
    {"unknown fields are skipped",
     "08041001180220052803300a4080808080802050015808 7801 820103616263 9506 01020304", reject},
    {"responses are skipped", "080472020808 1001180220052803300a4080808080802050015808", reject},
    {"packed, unordered and repeated ids",
     "0807 1003 1801 2005 6801 4a 1f 0a027b7d 1219 0a13 0a05 ac02010201 1004 1802 1801 2202 0202 "
     "2801"
     " 1064 1804",
     snapshot},
};

static void test_foreign(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(foreigns); i++) {
        print_message("%s\n", foreigns[i].name);
        struct raft_message *want = foreigns[i].means();
        struct raft_message *m = decoded(foreigns[i].hex);
        assert_same(m, want);
        raft_message_destroy(&m);
        raft_message_destroy(&want);
    }
}

static const struct bad {
    const char *name;
    const char *hex;
    enum err e;
} bads[] = {
    {"a number that is cut", "08", ERR_INVALID},
    {"a length beyond the end", "3a05 0800", ERR_INVALID},
    {"a number where bytes belong", "3800", ERR_INVALID},
    {"bytes where a number belongs", "1200", ERR_INVALID},
    {"field 0", "0000", ERR_INVALID},
    {"a group", "0b0c", ERR_INVALID},
    {"a varint of eleven bytes", "10ffffffffffffffffffff01", ERR_INVALID},
    {"a type of the future", "0818", ERR_UNSUPPORTED},
    {"a type that is huge", "08ffffffffffffffffff01", ERR_UNSUPPORTED},
    {"an entry type of the future", "0803 3a02 0803", ERR_INVALID},
    {"an entry of garbage", "0803 3a02 ffff", ERR_INVALID},
    {"data as a number", "0803 3a02 2000", ERR_INVALID},
    {"a snapshot of garbage", "0807 4a02 1208", ERR_INVALID},
    {"metadata as a number", "0807 4a02 1000", ERR_INVALID},
    {"a conf of garbage", "0807 4a05 1203 0a01 08", ERR_INVALID},
    {"a context that is too long",
     "0805 6241 "
     "00000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
     "00000000000000000000000000000000000000000000",
     ERR_LIMIT},
};

static void test_bad(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(bads); i++) {
        struct bytes in = {0};
        struct err_ctx ec = {{0}};
        struct raft_message *m = NULL;
        print_message("%s\n", bads[i].name);
        hex_add(&in, bads[i].hex);
        assert_int_equal(peer_message_decode(bytes_slice(&in), &m, &ec), bads[i].e);
        assert_null(m);
        assert_true(ec.text[0] != '\0');
        bytes_deinit(&in);
    }
}

/* Every prefix of every message either reads or is refused, and nothing is lost or leaked. */
static void test_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(goldens); i++) {
        struct bytes in = {0};
        hex_add(&in, goldens[i].hex);
        for (size_t len = 0; len < in.len; len++) {
            struct raft_message *m = NULL;
            enum err e = peer_message_decode(slice_of(in.data, len), &m, NULL);
            assert_true(e == OK || e == ERR_INVALID);
            raft_message_destroy(&m);
        }
        bytes_deinit(&in);
    }
}

static void test_too_many(void **state)
{
    (void)state;
    struct bytes in = {0};
    struct raft_message *m = NULL;
    hex_add(&in, "0803");
    for (size_t i = 0; i < PEER_ENTRIES_MAX; i++) {
        hex_add(&in, "3a00");
    }
    assert_int_equal(peer_message_decode(bytes_slice(&in), &m, NULL), OK);
    assert_int_equal(m->n_entries, PEER_ENTRIES_MAX);
    raft_message_destroy(&m);
    hex_add(&in, "3a00");
    assert_int_equal(peer_message_decode(bytes_slice(&in), &m, NULL), ERR_LIMIT);
    bytes_reset(&in);
    for (unsigned i = 0; i <= RAFT_MEMBERS_MAX; i++) {
        bytes_printf(&in, "%c%c", 0x08, (int)(i + 1));
    }
    struct bytes snap = {0};
    uint8_t conf_len = (uint8_t)in.len;
    /* metadata (field 2) holding a conf_state (field 1) of more than 127 bytes. */
    const uint8_t nested[] = {0x12, (uint8_t)((conf_len + 3) | 0x80), 0x01,
                              0x0a, (uint8_t)(conf_len | 0x80),       0x01};
    bytes_add(&snap, nested, sizeof(nested));
    bytes_add(&snap, in.data, in.len);
    struct raft_snapshot *s = NULL;
    assert_int_equal(peer_snapshot_decode(bytes_slice(&snap), &s, NULL), ERR_LIMIT);
    bytes_deinit(&snap);
    bytes_deinit(&in);
}

static void test_entry(void **state)
{
    (void)state;
    struct raft_entry e = {.index = RAFT_NUMBER_MAX - 1, .term = UINT64_C(1) << 35};
    e.data = buf_copy(slice_str("k"));
    struct bytes out = {0};
    peer_entry_encode(&e, &out);
    assert_hex(bytes_slice(&out), "08001080808080800118ffffffffffffffff3f22016b");
    struct raft_entry back = {0};
    assert_int_equal(peer_entry_decode(bytes_slice(&out), &back, NULL), OK);
    assert_int_equal(back.index, e.index);
    assert_int_equal(back.term, e.term);
    assert_true(slice_eq(buf_slice(back.data), slice_str("k")));
    buf_unref(&back.data);
    buf_unref(&e.data);
    bytes_reset(&out);
    peer_entry_encode(&(struct raft_entry){.index = 1, .term = 1}, &out);
    assert_hex(bytes_slice(&out), "080010011801");
    assert_int_equal(peer_entry_decode(bytes_slice(&out), &back, NULL), OK);
    assert_null(back.data);
    bytes_deinit(&out);
}

static void test_snapshot(void **state)
{
    (void)state;
    struct raft_message *m = snapshot();
    struct bytes out = {0};
    struct raft_snapshot *s = NULL;
    peer_snapshot_encode(m->snapshot, &out);
    assert_hex(bytes_slice(&out), "0a027b7d12170a110801080208ac02100418011802200228011064 1804");
    assert_int_equal(peer_snapshot_decode(bytes_slice(&out), &s, NULL), OK);
    assert_int_equal(s->index, 100);
    assert_int_equal(s->conf.voters.id[2], 300);
    assert_true(s->conf.auto_leave);
    assert_true(slice_eq(buf_slice(s->data), slice_str("{}")));
    raft_snapshot_destroy(&s);
    raft_message_destroy(&m);
    bytes_deinit(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),   cmocka_unit_test(test_foreign),
        cmocka_unit_test(test_bad),      cmocka_unit_test(test_cut),
        cmocka_unit_test(test_too_many), cmocka_unit_test(test_entry),
        cmocka_unit_test(test_snapshot),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
