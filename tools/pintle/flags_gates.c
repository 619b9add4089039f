/* flags_gates.c - --feature-gates: a set of Name=bool. See flags.h.
 *
 * A value holds two masks: which gates are on (flag_value.u) and which were named (flag_value.i). A gate that is named
 * keeps what it was told, whatever AllAlpha and AllBeta say about the rest of their stage.
 */
#include "tools/pintle/flags.h"

#include <assert.h>
#include <ctype.h>
#include <string.h>

#include "base/mem.h"
#include "base/slice.h"

#define GATE_NAME_MAX 64u
#define ALL_ALPHA "AllAlpha"
#define ALL_BETA "AllBeta"
/* In the mask of what is on, above the gates' own bits. */
#define ALL_ALPHA_BIT (UINT64_C(1) << 63)
#define ALL_BETA_BIT (UINT64_C(1) << 62)
static_assert(FLAG_N_GATES < 62, "the bits of the stages are free");

const struct flag_gate flag_gates[FLAG_N_GATES] = {
    [GATE_COMPACT_HASH_CHECK] = {"CompactHashCheck", true, false, true},
    [GATE_FAST_LEASE_KEEP_ALIVE] = {"FastLeaseKeepAlive", false, true, false},
    [GATE_INITIAL_CORRUPT_CHECK] = {"InitialCorruptCheck", true, false, true},
    [GATE_LEASE_CHECKPOINT] = {"LeaseCheckpoint", true, false, false},
    [GATE_LEASE_CHECKPOINT_PERSIST] = {"LeaseCheckpointPersist", true, false, false},
    [GATE_PRIORITY_REQUEST] = {"PriorityRequest", true, false, true},
    [GATE_SET_MEMBER_LOCAL_ADDR] = {"SetMemberLocalAddr", true, false, true},
    [GATE_STOP_GRPC_ON_DEFRAG] = {"StopGRPCServiceOnDefrag", true, false, false},
    [GATE_TXN_SHARED_BUFFER] = {"TxnModeWriteWithSharedBuffer", false, true, false},
};

static uint64_t bit(size_t i)
{
    return UINT64_C(1) << i;
}

void flag_gates_reset(struct flag_value *v)
{
    v->u = 0;
    v->i = 0;
    for (size_t i = 0; i < FLAG_N_GATES; i++) {
        v->u |= flag_gates[i].fallback ? bit(i) : 0;
    }
}

bool flag_gate(struct flag_set *s, enum flag_gate_id id)
{
    return (flag_get(s, "feature-gates")->u & bit((size_t)id)) != 0;
}

bool flag_gate_stage(struct flag_set *s, bool alpha)
{
    return (flag_get(s, "feature-gates")->u & (alpha ? ALL_ALPHA_BIT : ALL_BETA_BIT)) != 0;
}

static struct slice trim(struct slice s)
{
    while (s.len > 0 && isspace((unsigned char)s.data[0])) {
        s.data++;
        s.len--;
    }
    while (s.len > 0 && isspace((unsigned char)s.data[s.len - 1])) {
        s.len--;
    }
    return s;
}

/* A whole stage, but for those that were named. */
static void set_stage(struct flag_value *v, bool alpha, bool on)
{
    uint64_t all = alpha ? ALL_ALPHA_BIT : ALL_BETA_BIT;
    v->u = on ? v->u | all : v->u & ~all;
    for (size_t i = 0; i < FLAG_N_GATES; i++) {
        if (flag_gates[i].alpha == alpha && ((uint64_t)v->i & bit(i)) == 0) {
            v->u = on ? v->u | bit(i) : v->u & ~bit(i);
        }
    }
}

static enum err set_named(struct flag_value *v, struct slice name, bool on, struct err_ctx *ec)
{
    for (size_t i = 0; i < FLAG_N_GATES; i++) {
        if (slice_eq(name, slice_str(flag_gates[i].name))) {
            v->u = on ? v->u | bit(i) : v->u & ~bit(i);
            v->i = (int64_t)((uint64_t)v->i | bit(i));
            return OK;
        }
    }
    return err_set(ec, ERR_INVALID, "unrecognized feature gate: %.*s", (int)name.len, (const char *)name.data);
}

/* One of "Name=bool". `stages` says which of the two passes this is: names come before stages, so that their order does not matter. */
static enum err parse_one(struct flag_value *v, struct slice item, bool stages, struct err_ctx *ec)
{
    const uint8_t *equals = memchr(item.data, '=', item.len);
    struct slice name = trim((struct slice){item.data, equals == NULL ? item.len : (size_t)(equals - item.data)});
    if (equals == NULL) {
        return err_set(ec, ERR_INVALID, "missing bool value for %.*s", (int)name.len, (const char *)name.data);
    }
    struct slice text = trim((struct slice){equals + 1, item.len - (size_t)(equals + 1 - item.data)});
    char word[GATE_NAME_MAX] = "";
    bool on = false;
    memcpy(word, text.data, text.len < sizeof(word) ? text.len : 0);
    if (text.len >= sizeof(word) || !flag_bool_parse(word, &on)) {
        return err_set(ec, ERR_INVALID, "invalid value of %.*s=%.*s, err: strconv.ParseBool: parsing \"%.*s\": invalid syntax", (int)name.len,
                       (const char *)name.data, (int)text.len, (const char *)text.data, (int)text.len, (const char *)text.data);
    }
    bool alpha = slice_eq(name, slice_str(ALL_ALPHA));
    bool stage = alpha || slice_eq(name, slice_str(ALL_BETA));
    if (stage && stages) {
        set_stage(v, alpha, on);
    }
    return stage || stages ? OK : set_named(v, name, on, ec);
}

enum err flag_gates_parse(struct flag_value *v, const char *text, struct err_ctx *ec)
{
    struct flag_value next = *v;
    for (int stages = 0; stages < 2; stages++) {
        for (const char *p = text; *p != '\0';) {
            size_t len = strcspn(p, ",");
            struct slice item = trim((struct slice){(const uint8_t *)p, len});
            enum err e = item.len == 0 ? OK : parse_one(&next, item, stages == 1, ec);
            if (e != OK) {
                return e;
            }
            p += len + (p[len] == ',' ? 1u : 0u);
        }
    }
    v->u = next.u;
    v->i = next.i;
    return OK;
}
