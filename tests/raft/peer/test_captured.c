/* test_captured.c - what leaders of three versions of etcd sent to a member that had just joined,
 * taken off the wire. All of it reads, to the same story in each version; and our encoder, given
 * what was read from 3.6, writes the very same bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/assert.h"
#include "raft/peer/codec.h"
#include "raft/peer/frame.h"
#include "tests/raft/peer/hex.h"

#define LEADER UINT64_C(0x2e1259d415f2a040)

static const struct captured {
    const char *version;
    enum peer_stream stream;
    uint64_t member; /* that the leader wrote to */
    bool same_bytes; /* this version writes what we write */
    const char *hex;
    const char *story;
} captured[] = {
    {"3.4.23", PEER_STREAM_APPEND, UINT64_C(0x20bf0ee24534b899), false,
     "02000000000000009108031099f1d2a9a4dcc3df2018c0c0caafc1ba96892e2002280230053a610801100218"
     "0622590886caa4c7eabfa8a0a00110001899f1d2a9a4dcc3df2022407b226964223a32333539363231303934"
     "3735313931303034312c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a32333830"
     "31225d7d40064a0a12080a022800100018005000580002000000000000009108031099f1d2a9a4dcc3df2018"
     "c0c0caafc1ba96892e2002280230053a6108011002180622590886caa4c7eabfa8a0a00110001899f1d2a9a4"
     "dcc3df2022407b226964223a323335393632313039343735313931303034312c227065657255524c73223a5b"
     "22687474703a2f2f3132372e302e302e313a3233383031225d7d40064a0a12080a0228001000180050005800"
     "010000000000000001000000000000001e080010021807221622060a0178120179a2060b0887caa4c7eabfa8"
     "a0a0010000000000000006000100000000000000000000000000000006010000000000000000000000000000"
     "0007010000000000000001000000000000001e080010021808221622060a017812017aa2060b0888caa4c7ea"
     "bfa8a0a001000000000000000701000000000000000000000000000000070100000000000000000000000000"
     "0000080000000000000000000000000000",
     "MsgApp t2 5/2 +6 c6; MsgApp t2 5/2 +6 c6; MsgApp t2 6/2 +7 c6; beat; MsgApp t2 7/2 c6; "
     "MsgApp t2 7/2 c7; MsgApp t2 7/2 +8 c7; MsgApp t2 8/2 c7; MsgApp t2 8/2 c8; beat; beat; beat; "
     "beat; beat; beat; beat; beat; beat; beat; beat; beat; beat; beat; "},
    {"3.4.23", PEER_STREAM_MESSAGE, UINT64_C(0x20bf0ee24534b899), false,
     "000000000000002e08081099f1d2a9a4dcc3df2018c0c0caafc1ba96892e20022800300040004a0a12080a02"
     "28001000180050005800000000000000002e08081099f1d2a9a4dcc3df2018c0c0caafc1ba96892e20022800"
     "300040064a0a12080a0228001000180050005800000000000000001e08081000180020002800300040004a0a"
     "12080a0228001000180050005800000000000000002e08081099f1d2a9a4dcc3df2018c0c0caafc1ba96892e"
     "20022800300040074a0a12080a0228001000180050005800",
     "MsgHeartbeat t2 0/0 c0; MsgHeartbeat t2 0/0 c6; beat; MsgHeartbeat t2 0/0 c7; "},
    {"3.6.16", PEER_STREAM_APPEND, UINT64_C(0x98b502db4e9900ae), true,
     "02000000000000008a080310ae81e4f4b4dbc0da980118c0c0caafc1ba96892e2002280230053a6308011002"
     "1806225b088482d3caeabfa8a0a001100018ae81e4f4b4dbc0da980122417b226964223a3131303033373034"
     "3430353438393431383431342c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a32"
     "33383031225d7d400650005800680002000000000000008a080310ae81e4f4b4dbc0da980118c0c0caafc1ba"
     "96892e2002280230053a63080110021806225b088482d3caeabfa8a0a001100018ae81e4f4b4dbc0da980122"
     "417b226964223a31313030333730343430353438393431383431342c227065657255524c73223a5b22687474"
     "703a2f2f3132372e302e302e313a3233383031225d7d40065000580068000100000000000000010000000000"
     "00001e080010021807221622060a0178120179a2060b088582d3caeabfa8a0a0010000000000000006000100"
     "0000000000000000000000000000060100000000000000000000000000000007010000000000000001000000"
     "000000001e080010021808221622060a017812017aa2060b088682d3caeabfa8a0a001000000000000000701"
     "0000000000000000000000000000000701000000000000000000000000000000080000000000000000000000"
     "000000",
     "MsgApp t2 5/2 +6 c6; MsgApp t2 5/2 +6 c6; MsgApp t2 6/2 +7 c6; beat; MsgApp t2 7/2 c6; "
     "MsgApp t2 7/2 c7; MsgApp t2 7/2 +8 c7; MsgApp t2 8/2 c7; MsgApp t2 8/2 c8; beat; beat; beat; "
     "beat; beat; beat; beat; beat; beat; beat; beat; beat; beat; beat; "},
    {"3.6.16", PEER_STREAM_MESSAGE, UINT64_C(0x98b502db4e9900ae), true,
     "0000000000000025080810ae81e4f4b4dbc0da980118c0c0caafc1ba96892e20022800300040005000580068"
     "000000000000000025080810ae81e4f4b4dbc0da980118c0c0caafc1ba96892e200228003000400650005800"
     "6800000000000000001408081000180020002800300040005000580068000000000000000025080810ae81e4"
     "f4b4dbc0da980118c0c0caafc1ba96892e2002280030004007500058006800",
     "MsgHeartbeat t2 0/0 c0; MsgHeartbeat t2 0/0 c6; beat; MsgHeartbeat t2 0/0 c7; "},
    {"3.7.1", PEER_STREAM_APPEND, UINT64_C(0xfed50529222135a8), false,
     "020000000000000084080310a8eb849192a5c1eafe0118c0c0caafc1ba96892e2002280230053a6308011002"
     "1806225b0884e6fbcdeabfa8a0a001100018a8eb849192a5c1eafe0122417b226964223a3138333632353838"
     "3732393839373436353235362c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a32"
     "33383031225d7d4006020000000000000084080310a8eb849192a5c1eafe0118c0c0caafc1ba96892e200228"
     "0230053a63080110021806225b0884e6fbcdeabfa8a0a001100018a8eb849192a5c1eafe0122417b22696422"
     "3a31383336323538383732393839373436353235362c227065657255524c73223a5b22687474703a2f2f3132"
     "372e302e302e313a3233383031225d7d4006010000000000000001000000000000001c10021807221622060a"
     "0178120179a2060b0885e6fbcdeabfa8a0a00100000000000000060001000000000000000000000000000000"
     "060100000000000000000000000000000007010000000000000001000000000000001c10021808221622060a"
     "017812017aa2060b0886e6fbcdeabfa8a0a00100000000000000070100000000000000000000000000000007"
     "01000000000000000000000000000000080000000000000000000000000000",
     "MsgApp t2 5/2 +6 c6; MsgApp t2 5/2 +6 c6; MsgApp t2 6/2 +7 c6; beat; MsgApp t2 7/2 c6; "
     "MsgApp t2 7/2 c7; MsgApp t2 7/2 +8 c7; MsgApp t2 8/2 c7; MsgApp t2 8/2 c8; beat; beat; beat; "
     "beat; beat; beat; beat; beat; beat; beat; beat; beat; beat; beat; "},
    {"3.7.1", PEER_STREAM_MESSAGE, UINT64_C(0xfed50529222135a8), false,
     "000000000000001b080810a8eb849192a5c1eafe0118c0c0caafc1ba96892e20024000000000000000001b08"
     "0810a8eb849192a5c1eafe0118c0c0caafc1ba96892e2002400600000000000000020808000000000000001b"
     "080810a8eb849192a5c1eafe0118c0c0caafc1ba96892e20024007",
     "MsgHeartbeat t2 0/0 c0; MsgHeartbeat t2 0/0 c6; beat; MsgHeartbeat t2 0/0 c7; "},
};

static void tell(struct bytes *story, enum peer_frame frame, const struct raft_message *m)
{
    if (frame == PEER_FRAME_HEARTBEAT) {
        bytes_add_str(story, "beat; ");
        return;
    }
    assert_int_equal(frame, PEER_FRAME_MESSAGE);
    bytes_printf(story, "%s t%u %u/%u", raft_message_type_name(m->type), (unsigned)m->term,
                 (unsigned)m->index, (unsigned)m->log_term);
    for (size_t i = 0; i < m->n_entries; i++) {
        bytes_printf(story, " +%u", (unsigned)m->entries[i].index);
    }
    bytes_printf(story, " c%u; ", (unsigned)m->commit);
}

static void read_captured(const struct captured *c, struct bytes *story, struct bytes *again)
{
    struct peer_decoder d;
    struct peer_encoder e;
    struct bytes in = {0};
    struct err_ctx ec = {{0}};
    enum peer_frame frame = PEER_FRAME_NONE;
    hex_add(&in, c->hex);
    peer_decoder_init(&d, c->stream, c->member, LEADER, true);
    peer_encoder_init(&e, c->stream, LEADER, c->member);
    struct slice rest = bytes_slice(&in);
    do {
        struct raft_message *m = NULL;
        if (peer_decode(&d, &rest, &frame, &m, &ec) != OK) {
            print_error("%s\n", ec.text);
            fail();
        }
        if (frame == PEER_FRAME_NONE) {
            break;
        }
        tell(story, frame, m);
        if (frame == PEER_FRAME_HEARTBEAT) {
            peer_encode_heartbeat(&e, again);
        } else {
            assert_int_equal(m->to, c->member);
            assert_int_equal(m->from, LEADER);
            assert_null(m->snapshot);
            peer_encode(&e, m, again);
        }
        raft_message_destroy(&m);
    } while (frame != PEER_FRAME_NONE);
    assert_true(peer_decoder_at_boundary(&d));
    bytes_add(story, "", 1);
    peer_decoder_deinit(&d);
    bytes_deinit(&in);
}

static void test_captured(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(captured); i++) {
        const struct captured *c = &captured[i];
        struct bytes story = {0};
        struct bytes again = {0};
        print_message("%s, %s\n", c->version, peer_stream_name(c->stream));
        read_captured(c, &story, &again);
        assert_string_equal((const char *)story.data, c->story);
        if (c->same_bytes) {
            assert_hex(bytes_slice(&again), c->hex);
        }
        bytes_deinit(&story);
        bytes_deinit(&again);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_captured)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
