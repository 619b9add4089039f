/* Messages: request JSON to the bytes that a service gets, and reply bytes to JSON, as etcd 3.7's gateway maps them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "api/gateway/base64.h"
#include "api/gateway/limits.h"
#include "api/gateway/message.h"
#include "api/proto/rpc.pb-c.h"
#include "base/assert.h"
#include "base/wire.h"

#define RANGE &etcdserverpb__range_request__descriptor
#define PUT &etcdserverpb__put_request__descriptor
#define TXN &etcdserverpb__txn_request__descriptor
#define COMPARE &etcdserverpb__compare__descriptor
#define WATCH &etcdserverpb__watch_request__descriptor
#define ALARM &etcdserverpb__alarm_request__descriptor
#define MEMBER_ADD &etcdserverpb__member_add_request__descriptor
#define GRANT &etcdserverpb__lease_grant_request__descriptor

static struct bytes unhex(const char *hex)
{
    struct bytes b = {0};
    for (; *hex != '\0'; hex++) {
        if (*hex != ' ') {
            char two[3] = {hex[0], hex[1], '\0'};
            uint8_t byte = (uint8_t)strtoul(two, NULL, 16);
            bytes_add(&b, &byte, 1);
            hex++;
        }
    }
    return b;
}

/* --- in -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *d;
    const char *json;
    const char *wire;  /* hexadecimal */
    const char *fault; /* instead of it */
} requests[] = {
    {"an empty object is an empty message", RANGE, "{}", "", NULL},
    {"bytes are base64", RANGE, "{\"key\":\"Zm9v\"}", "0a03666f6f", NULL},
    {"either alphabet, padded or not", PUT, "{\"key\":\"-_8\",\"value\":\"Zg\"}", "0a02fbff 120166", NULL},
    {"proto names and camel names", RANGE, "{\"range_end\":\"AA==\",\"sortOrder\":\"DESCEND\",\"sort_target\":\"MOD\"}", "120100 2802 3003", NULL},
    {"names that are neither", GRANT, "{\"TTL\":\"5\",\"ttl\":6,\"ID\":7,\"Id\":8}", "0805 1007", NULL},
    {"64-bit numbers as numbers", RANGE, "{\"limit\":9007199254740993}", "188180808080808010", NULL},
    {"64-bit numbers as strings", RANGE, "{\"limit\":\"9007199254740993\"}", "188180808080808010", NULL},
    {"negative numbers", RANGE, "{\"limit\":-1}", "18ffffffffffffffffff01", NULL},
    {"unsigned numbers above the signed ones", ALARM, "{\"memberID\":18446744073709551615}", "10ffffffffffffffffff01", NULL},
    {"whole numbers in other clothes", RANGE, "{\"limit\":1.0,\"revision\":\"2e3\"}", "1801 20d00f", NULL},
    {"zeroes are left out", RANGE, "{\"limit\":0,\"key\":\"\",\"serializable\":false,\"sort_order\":\"NONE\"}", "", NULL},
    {"null is absent", RANGE, "{\"limit\":null,\"key\":null}", "", NULL},
    {"booleans", RANGE, "{\"serializable\":true}", "3801", NULL},
    {"enums by number, known or not", RANGE, "{\"sort_order\":2,\"sort_target\":77}", "2802 304d", NULL},
    {"an unknown enum name is absent", RANGE, "{\"sort_order\":\"SIDEWAYS\",\"limit\":1}", "1801", NULL},
    {"unknown fields are skipped", RANGE, "{\"x\":{\"y\":[1,{\"z\":null}]},\"limit\":1,\"[a.b]\":2}", "1801", NULL},
    {"escapes in names", RANGE, "{\"\\u006cimit\":1}", "1801", NULL},
    {"what comes behind the first value is not read", RANGE, "{\"limit\":1} garbage", "1801", NULL},
    {"messages in lists", TXN, "{\"success\":[{\"request_put\":{\"key\":\"YQ==\"}},{\"requestRange\":{}}]}", "1205 1203 0a0161 1202 0a00", NULL},
    {"an empty list", TXN, "{\"success\":[]}", "", NULL},
    {"a oneof's zero is said", COMPARE, "{\"target\":\"VERSION\",\"result\":\"EQUAL\",\"key\":\"YQ==\",\"version\":\"0\"}", "1a0161 2000", NULL},
    {"a oneof's empty bytes are said", COMPARE, "{\"value\":\"\"}", "3a00", NULL},
    {"a oneof with null beside it", COMPARE, "{\"value\":null,\"version\":1}", "2001", NULL},
    {"lists of enums are packed", WATCH, "{\"create_request\":{\"filters\":[\"NOPUT\",1,\"WHAT\"]}}", "0a04 2a020001", NULL},
    {"lists of strings", MEMBER_ADD, "{\"peerURLs\":[\"a\",\"\"],\"isLearner\":true}", "0a0161 0a00 1001", NULL},
    {"no object", RANGE, "5", NULL, "proto: (line 1:1): syntax error: unexpected token instead of a message of etcdserverpb.RangeRequest"},
    {"no JSON", RANGE, "key=Zm9v", NULL, "invalid character 'k' looking for beginning of value"},
    {"an object that is cut", RANGE, "{\"key\":\"Zm9v\"", NULL, "unexpected EOF"},
    {"a number for bytes", RANGE, "{\"key\":5}", NULL, "proto: (line 1:8): invalid value for bytes field key: 5"},
    {"no base64", RANGE, "{\"key\":\"!!\"}", NULL, "proto: (line 1:8): invalid value for bytes field key: \"!!\""},
    {"the line is told", RANGE, "{\n\"limit\":\n  true}", NULL, "proto: (line 3:3): invalid value for int64 field limit: true"},
    {"no whole number", RANGE, "{\"limit\":1.5}", NULL, "proto: (line 1:10): invalid value for int64 field limit: 1.5"},
    {"too large a number", RANGE, "{\"limit\":9223372036854775808}", NULL, "proto: (line 1:10): invalid value for int64 field limit: 9223372036854775808"},
    {"spaces in a number's string", RANGE, "{\"limit\":\" 1\"}", NULL, "proto: (line 1:10): invalid value for int64 field limit: \" 1\""},
    {"an empty string for a number", RANGE, "{\"limit\":\"\"}", NULL, "proto: (line 1:10): invalid value for int64 field limit: \"\""},
    {"a negative number for an unsigned one", ALARM, "{\"memberID\":-1}", NULL, "proto: (line 1:13): invalid value for uint64 field memberID: -1"},
    {"an enum beyond 32 bits", RANGE, "{\"sort_order\":2147483648}", NULL, "proto: (line 1:15): invalid value for enum field sort_order: 2147483648"},
    {"a string for a boolean", RANGE, "{\"serializable\":\"true\"}", NULL, "proto: (line 1:17): invalid value for bool field serializable: \"true\""},
    {"a field twice", RANGE, "{\"limit\":1,\"limit\":1}", NULL, "proto: (line 1:12): duplicate field \"limit\""},
    {"a field under both of its names", RANGE, "{\"range_end\":\"\",\"rangeEnd\":\"\"}", NULL, "proto: (line 1:17): duplicate field \"range_end\""},
    {"two members of a oneof", COMPARE, "{\"version\":1,\"value\":\"\"}", NULL,
     "proto: (line 1:14): error parsing \"value\", its oneof of etcdserverpb.Compare is already set"},
    {"no list for a repeated field", TXN, "{\"success\":{}}", NULL, "proto: (line 1:12): syntax error: unexpected token for repeated field success"},
    {"null in a list", MEMBER_ADD, "{\"peerURLs\":[null]}", NULL, "proto: (line 1:14): invalid value for string field peerURLs: null"},
    {"no message in a list", TXN, "{\"success\":[5]}", NULL,
     "proto: (line 1:13): syntax error: unexpected token instead of a message of etcdserverpb.RequestOp"},
    {"a fault within what is skipped", RANGE, "{\"x\":[1 2]}", NULL, "invalid character '2' after array element"},
};

static void test_requests(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        struct err_ctx ec = {{0}};
        struct gjson j;
        struct bytes out = {0};
        bytes_add_str(&out, "x");
        gjson_init(&j, slice_str(requests[i].json), &ec);
        enum err e = message_from_json(&j, requests[i].d, &out);
        struct bytes want = unhex(requests[i].wire == NULL ? "" : requests[i].wire);
        if (e != (requests[i].fault == NULL ? OK : ERR_INVALID) || !slice_eq(slice_of(out.data + 1, out.len - 1), bytes_slice(&want)) ||
            (requests[i].fault != NULL && strcmp(ec.text, requests[i].fault) != 0)) {
            fail_msg("%s: %d \"%s\"", requests[i].name, (int)e, ec.text);
        }
        bytes_deinit(&want);
        bytes_deinit(&out);
        gjson_deinit(&j);
    }
}

static void test_many_values(void **state)
{
    (void)state;
    struct gjson j;
    struct bytes out = {0};
    gjson_init(&j, slice_str("{\"limit\":1}\n {\"limit\":2}{} x"), NULL);
    assert_int_equal(message_from_json(&j, RANGE, &out), OK);
    assert_int_equal(message_from_json(&j, RANGE, &out), OK);
    assert_int_equal(message_from_json(&j, RANGE, &out), OK);
    assert_int_equal(message_from_json(&j, RANGE, &out), ERR_INVALID);
    assert_int_equal(out.len, 4);
    gjson_deinit(&j);
    gjson_init(&j, slice_str(" \n"), NULL);
    assert_int_equal(message_from_json(&j, RANGE, &out), ERR_END);
    gjson_deinit(&j);
    bytes_deinit(&out);
}

/* Lengths of one, two and three bytes, which are put before what was written already. */
static void test_lengths(void **state)
{
    (void)state;
    static const size_t lengths[] = {1, 127, 128, 16383, 16384, 100000};
    for (size_t i = 0; i < ARRAY_LEN(lengths); i++) {
        size_t n = lengths[i];
        struct bytes text = {0}, out = {0}, want = {0};
        uint8_t *name = calloc(n, 1);
        assert_non_null(name);
        memset(name, 'n', n);
        bytes_add_str(&text, "{\"success\":[{\"request_range\":{\"key\":\"YQ==\",\"range_end\":\"");
        base64_add(&text, slice_of(name, n));
        bytes_add_str(&text, "\"}}]}");
        struct bytes range = {0}, op = {0};
        wire_add_bytes(&range, 1, slice_str("a"));
        wire_add_bytes(&range, 2, slice_of(name, n));
        wire_add_message(&op, 1, bytes_slice(&range));
        wire_add_message(&want, 2, bytes_slice(&op));
        struct gjson j;
        gjson_init(&j, bytes_slice(&text), NULL);
        assert_int_equal(message_from_json(&j, TXN, &out), OK);
        assert_true(slice_eq(bytes_slice(&out), bytes_slice(&want)));
        gjson_deinit(&j);
        bytes_deinit(&text);
        bytes_deinit(&out);
        bytes_deinit(&want);
        bytes_deinit(&range);
        bytes_deinit(&op);
        free(name);
    }
}

static void test_depth(void **state)
{
    (void)state;
    /* A txn in a txn in a txn: three levels of JSON each. */
    for (unsigned over = 0; over < 2; over++) {
        struct bytes text = {0}, out = {0};
        unsigned n = (JSON_DEPTH_MAX - 1) / 3 + over;
        for (unsigned i = 0; i < n; i++) {
            bytes_add_str(&text, "{\"success\":[{\"request_txn\":");
        }
        bytes_add_str(&text, "{}");
        for (unsigned i = 0; i < n; i++) {
            bytes_add_str(&text, "}]}");
        }
        struct gjson j;
        gjson_init(&j, bytes_slice(&text), NULL);
        assert_int_equal(message_from_json(&j, TXN, &out), over == 0 ? OK : ERR_INVALID);
        gjson_deinit(&j);
        bytes_deinit(&text);
        bytes_deinit(&out);
    }
}

/* --- out ----------------------------------------------------------------------------------------------------------- */

#define RANGE_REPLY &etcdserverpb__range_response__descriptor
#define STATUS &etcdserverpb__status_response__descriptor
#define WATCH_REPLY &etcdserverpb__watch_response__descriptor
#define TXN_REPLY &etcdserverpb__txn_response__descriptor
#define ALARM_REPLY &etcdserverpb__alarm_response__descriptor
#define HASH &etcdserverpb__hash_response__descriptor

static const struct {
    const char *name;
    const ProtobufCMessageDescriptor *d;
    const char *wire;
    const char *json; /* NULL: no message */
} replies[] = {
    {"nothing", RANGE_REPLY, "", "{}"},
    {"numbers as strings", RANGE_REPLY, "0a0d 08ffffffffffffffffff01 1801 1801 2002",
     "{\"header\":{\"cluster_id\":\"18446744073709551615\",\"revision\":\"1\"},\"more\":true,\"count\":\"2\"}"},
    {"negative numbers", RANGE_REPLY, "20ffffffffffffffffff01", "{\"count\":\"-1\"}"},
    {"zeroes that were written are left out", RANGE_REPLY, "1800 2000", "{}"},
    {"a message that is there and empty", RANGE_REPLY, "0a00", "{\"header\":{}}"},
    {"lists of messages, bytes in base64", RANGE_REPLY, "1206 0a0161 2a0162 1200", "{\"kvs\":[{\"key\":\"YQ==\",\"value\":\"Yg==\"},{}]}"},
    {"32-bit numbers as numbers", HASH, "1005", "{\"hash\":5}"},
    {"names as they are in the proto files", STATUS, "1201 33 1807", "{\"version\":\"3\",\"dbSize\":\"7\"}"},
    {"strings with what must be escaped", STATUS, "120a 225c0a0d09080c017f3c", "{\"version\":\"\\\"\\\\\\n\\r\\t\\b\\f\\u0001\x7f<\"}"},
    {"strings that are no UTF-8", STATUS, "1205 61ffc3a980", "{\"version\":\"a\xef\xbf\xbd\xc3\xa9\xef\xbf\xbd\"}"},
    {"lists of strings", STATUS, "420161 420162", "{\"errors\":[\"a\",\"b\"]}"},
    {"enums by name", ALARM_REPLY, "1204 08051002", "{\"alarms\":[{\"memberID\":\"5\",\"alarm\":\"CORRUPT\"}]}"},
    {"enums without a name", ALARM_REPLY, "1202 1063", "{\"alarms\":[{\"alarm\":99}]}"},
    {"fields of a newer member", RANGE_REPLY, "2002 f80701 fa0703666f6f", "{\"count\":\"2\"}"},
    {"a watch's events", WATCH_REPLY, "1801 5a02 0801", "{\"created\":true,\"events\":[{\"type\":\"DELETE\"}]}"},
    {"a oneof's message", TXN_REPLY, "1a02 1200", "{\"responses\":[{\"response_put\":{}}]}"},
    {"a field that is cut", RANGE_REPLY, "0a05 08", NULL},
    {"a number in place of a message", RANGE_REPLY, "0805", NULL},
    {"a message in place of a number", RANGE_REPLY, "2200", NULL},
    {"a field twice", RANGE_REPLY, "2001 2002", NULL},
    {"a list that is torn", RANGE_REPLY, "1200 2001 1200", NULL},
    {"a group", RANGE_REPLY, "0b0c", NULL},
    {"field 0", RANGE_REPLY, "0001", NULL},
    {"an overlong number", RANGE_REPLY, "20ffffffffffffffffffffff01", NULL},
};

static void test_replies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct bytes wire = unhex(replies[i].wire), out = {0};
        enum err e = message_to_json(replies[i].d, bytes_slice(&wire), &out);
        if (e != (replies[i].json == NULL ? ERR_INVALID : OK) || (e == OK && !slice_eq(bytes_slice(&out), slice_str(replies[i].json)))) {
            fail_msg("%s: %d %.*s", replies[i].name, (int)e, (int)out.len, (const char *)out.data);
        }
        bytes_deinit(&wire);
        bytes_deinit(&out);
    }
}

/* However the bytes are cut, and however small the pieces of output, the same comes out. */
static void test_pieces(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(replies); i++) {
        struct bytes wire = unhex(replies[i].wire);
        for (size_t piece = 1; replies[i].json != NULL && piece < wire.len + 2; piece++) {
            struct gjson_writer w;
            struct bytes in = {0}, out = {0}, all = {0};
            gjson_writer_begin(&w, replies[i].d, &all);
            for (size_t at = 0; at < wire.len || in.len > 0;) {
                size_t used = 0, n = wire.len - at < piece ? wire.len - at : piece;
                uint64_t want = 0;
                bytes_add(&in, wire.data + at, n);
                at += n;
                assert_int_equal(gjson_writer_feed(&w, bytes_slice(&in), 8, &out, &used, &want), OK);
                memmove(in.data, in.data + used, in.len - used);
                in.len -= used;
                assert_true(used > 0 || n > 0 || out.len >= 8);
                bytes_add(&all, out.data, out.len);
                bytes_reset(&out);
            }
            gjson_writer_end(&w, &all);
            if (!slice_eq(bytes_slice(&all), slice_str(replies[i].json))) {
                fail_msg("%s in pieces of %zu: %.*s", replies[i].name, piece, (int)all.len, (const char *)all.data);
            }
            bytes_deinit(&in);
            bytes_deinit(&out);
            bytes_deinit(&all);
        }
        bytes_deinit(&wire);
    }
}

/* What goes out may come in again. */
static void test_round_trip(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(requests); i++) {
        if (requests[i].wire == NULL) {
            continue;
        }
        struct bytes wire = unhex(requests[i].wire), text = {0}, back = {0};
        struct gjson j;
        assert_int_equal(message_to_json(requests[i].d, bytes_slice(&wire), &text), OK);
        gjson_init(&j, bytes_slice(&text), NULL);
        assert_int_equal(message_from_json(&j, requests[i].d, &back), OK);
        assert_true(slice_eq(bytes_slice(&back), bytes_slice(&wire)));
        gjson_deinit(&j);
        bytes_deinit(&wire);
        bytes_deinit(&text);
        bytes_deinit(&back);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_requests), cmocka_unit_test(test_many_values), cmocka_unit_test(test_lengths), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_replies),  cmocka_unit_test(test_pieces),      cmocka_unit_test(test_round_trip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
