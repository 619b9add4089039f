/* conf_codec.c - raftpb.ConfChange and ConfChangeV2 from and to bytes.
 *
 *   ConfChange        1 id, 2 type, 3 node_id, 4 context
 *   ConfChangeSingle  1 type, 2 node_id
 *   ConfChangeV2      1 transition, 2 changes (repeated), 3 context
 *
 * Fields that are absent are 0 and unknown ones are skipped, as protobuf has it. Empty data is an
 * empty ConfChangeV2: the wish to leave a joint configuration.
 */
#include "base/wire.h"
#include "raft/core/internal.h"

static enum err take_type(uint64_t v, enum raft_conf_change_type *out)
{
    if (v > RAFT_CONF_ADD_LEARNER) {
        return ERR_INVALID;
    }
    *out = (enum raft_conf_change_type)v;
    return OK;
}

static enum err expect(const struct wire_field *f, enum wire_type type)
{
    return f->type == type ? OK : ERR_INVALID;
}

static enum err decode_v1(struct slice rest, struct raft_conf_change *cc)
{
    struct wire_field f;
    enum err e;
    cc->v1 = true;
    cc->n_changes = 1;
    while ((e = wire_next(&rest, &f)) == OK) {
        switch (f.number) {
        case 1:
            e = expect(&f, WIRE_VARINT);
            cc->id = f.value;
            break;
        case 2:
            e = expect(&f, WIRE_VARINT);
            if (e == OK) {
                e = take_type(f.value, &cc->changes[0].type);
            }
            break;
        case 3:
            e = expect(&f, WIRE_VARINT);
            cc->changes[0].node = f.value;
            break;
        case 4:
            e = expect(&f, WIRE_LEN);
            cc->context = f.bytes;
            break;
        default:
            break;
        }
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err decode_single(struct slice rest, struct raft_conf_change_single *c)
{
    struct wire_field f;
    enum err e;
    while ((e = wire_next(&rest, &f)) == OK) {
        if (f.number != 1 && f.number != 2) {
            continue;
        }
        e = expect(&f, WIRE_VARINT);
        if (e == OK && f.number == 1) {
            e = take_type(f.value, &c->type);
        } else if (e == OK) {
            c->node = f.value;
        }
        if (e != OK) {
            return e;
        }
    }
    return e == ERR_END ? OK : e;
}

static enum err decode_v2_field(const struct wire_field *f, struct raft_conf_change *cc)
{
    enum err e = OK;
    switch (f->number) {
    case 1:
        if (f->type != WIRE_VARINT || f->value > RAFT_TRANSITION_JOINT_EXPLICIT) {
            return ERR_INVALID;
        }
        cc->transition = (enum raft_conf_transition)f->value;
        return OK;
    case 2:
        e = expect(f, WIRE_LEN);
        if (e != OK) {
            return e;
        }
        if (cc->n_changes == RAFT_MEMBERS_MAX) {
            return ERR_LIMIT;
        }
        return decode_single(f->bytes, &cc->changes[cc->n_changes++]);
    case 3:
        cc->context = f->bytes;
        return expect(f, WIRE_LEN);
    default:
        return OK;
    }
}

enum err raft_conf_change_decode(enum raft_entry_type type, struct slice data,
                                 struct raft_conf_change *out)
{
    struct raft_conf_change cc = {0};
    enum err e = OK;
    switch (type) {
    case RAFT_ENTRY_NORMAL:
        return ERR_INVALID;
    case RAFT_ENTRY_CONF_CHANGE:
        e = decode_v1(data, &cc);
        break;
    case RAFT_ENTRY_CONF_CHANGE_V2: {
        struct wire_field f;
        while (e == OK && (e = wire_next(&data, &f)) == OK) {
            e = decode_v2_field(&f, &cc);
        }
        e = e == ERR_END ? OK : e;
        break;
    }
    }
    if (e == OK) {
        *out = cc;
    }
    return e;
}

/* wire_add_uint leaves zeros out; etcd's encoder has always written them here. */
static void add_number(struct bytes *b, uint32_t field, uint64_t v)
{
    uint8_t *start = bytes_reserve(b, 2u * WIRE_VARINT_MAX);
    uint8_t *end = wire_put_varint(wire_put_tag(start, field, WIRE_VARINT), v);
    b->len += (size_t)(end - start);
}

struct buf *raft_conf_change_encode(const struct raft_conf_change *cc)
{
    struct bytes b = {0};
    if (cc->v1) {
        ASSERT(cc->n_changes == 1);
        add_number(&b, 1, cc->id);
        add_number(&b, 2, cc->changes[0].type);
        add_number(&b, 3, cc->changes[0].node);
        wire_add_bytes(&b, 4, cc->context);
    } else {
        add_number(&b, 1, cc->transition);
        for (size_t i = 0; i < cc->n_changes; i++) {
            struct bytes one = {0};
            add_number(&one, 1, cc->changes[i].type);
            add_number(&one, 2, cc->changes[i].node);
            wire_add_message(&b, 2, bytes_slice(&one));
            bytes_deinit(&one);
        }
        wire_add_bytes(&b, 3, cc->context);
    }
    struct buf *data = buf_copy(bytes_slice(&b));
    bytes_deinit(&b);
    return data;
}
