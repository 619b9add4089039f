/* message.c - messages and snapshots as values, and the names of raftpb's numbers. */
#include <stdlib.h>

#include "base/mem.h"
#include "base/wire.h"
#include "raft/core/internal.h"

struct raft_message *raft_message_create(enum raft_message_type type, size_t n_entries)
{
    struct raft_message *m = xcalloc(1, sizeof(*m) + n_entries * sizeof(struct raft_entry));
    m->type = type;
    m->n_entries = n_entries;
    m->entries = n_entries == 0 ? NULL : (struct raft_entry *)(void *)(m + 1);
    return m;
}

struct raft_message *raft_message_copy(const struct raft_message *m)
{
    struct raft_message *copy = raft_message_create(m->type, m->n_entries);
    struct raft_entry *entries = copy->entries;
    *copy = *m;
    copy->entries = entries;
    for (size_t i = 0; i < m->n_entries; i++) {
        entries[i] = m->entries[i];
        entries[i].data = m->entries[i].data == NULL ? NULL : buf_ref(m->entries[i].data);
    }
    copy->snapshot = raft_snapshot_copy(m->snapshot);
    return copy;
}

void raft_message_destroy(struct raft_message **m)
{
    if (*m == NULL) {
        return;
    }
    for (size_t i = 0; i < (*m)->n_entries; i++) {
        buf_unref(&(*m)->entries[i].data);
    }
    raft_snapshot_destroy(&(*m)->snapshot);
    free(*m);
    *m = NULL;
}

struct raft_snapshot *raft_snapshot_copy(const struct raft_snapshot *s)
{
    if (s == NULL) {
        return NULL;
    }
    struct raft_snapshot *copy = xalloc(sizeof(*copy));
    *copy = *s;
    copy->data = s->data == NULL ? NULL : buf_ref(s->data);
    return copy;
}

void raft_snapshot_destroy(struct raft_snapshot **s)
{
    if (*s != NULL) {
        buf_unref(&(*s)->data);
        free(*s);
        *s = NULL;
    }
}

static const char *const message_names[] = {
    [RAFT_MSG_HUP] = "MsgHup",
    [RAFT_MSG_BEAT] = "MsgBeat",
    [RAFT_MSG_PROP] = "MsgProp",
    [RAFT_MSG_APP] = "MsgApp",
    [RAFT_MSG_APP_RESP] = "MsgAppResp",
    [RAFT_MSG_VOTE] = "MsgVote",
    [RAFT_MSG_VOTE_RESP] = "MsgVoteResp",
    [RAFT_MSG_SNAP] = "MsgSnap",
    [RAFT_MSG_HEARTBEAT] = "MsgHeartbeat",
    [RAFT_MSG_HEARTBEAT_RESP] = "MsgHeartbeatResp",
    [RAFT_MSG_UNREACHABLE] = "MsgUnreachable",
    [RAFT_MSG_SNAP_STATUS] = "MsgSnapStatus",
    [RAFT_MSG_CHECK_QUORUM] = "MsgCheckQuorum",
    [RAFT_MSG_TRANSFER_LEADER] = "MsgTransferLeader",
    [RAFT_MSG_TIMEOUT_NOW] = "MsgTimeoutNow",
    [RAFT_MSG_READ_INDEX] = "MsgReadIndex",
    [RAFT_MSG_READ_INDEX_RESP] = "MsgReadIndexResp",
    [RAFT_MSG_PRE_VOTE] = "MsgPreVote",
    [RAFT_MSG_PRE_VOTE_RESP] = "MsgPreVoteResp",
    [RAFT_MSG_STORAGE_APPEND] = "MsgStorageAppend",
    [RAFT_MSG_STORAGE_APPEND_RESP] = "MsgStorageAppendResp",
    [RAFT_MSG_STORAGE_APPLY] = "MsgStorageApply",
    [RAFT_MSG_STORAGE_APPLY_RESP] = "MsgStorageApplyResp",
    [RAFT_MSG_FORGET_LEADER] = "MsgForgetLeader",
};

const char *raft_message_type_name(enum raft_message_type type)
{
    return (size_t)type < ARRAY_LEN(message_names) ? message_names[type] : NULL;
}

static const char *const entry_names[] = {
    [RAFT_ENTRY_NORMAL] = "EntryNormal",
    [RAFT_ENTRY_CONF_CHANGE] = "EntryConfChange",
    [RAFT_ENTRY_CONF_CHANGE_V2] = "EntryConfChangeV2",
};

const char *raft_entry_type_name(enum raft_entry_type type)
{
    return (size_t)type < ARRAY_LEN(entry_names) ? entry_names[type] : NULL;
}

static const char *const role_names[] = {
    [RAFT_FOLLOWER] = "StateFollower",
    [RAFT_CANDIDATE] = "StateCandidate",
    [RAFT_LEADER] = "StateLeader",
    [RAFT_PRE_CANDIDATE] = "StatePreCandidate",
};

const char *raft_role_name(enum raft_role role)
{
    return (size_t)role < ARRAY_LEN(role_names) ? role_names[role] : NULL;
}

/* Type, term and index are always written, each with a tag of one byte; data when there is any. */
size_t raft_entry_bytes(const struct raft_entry *e)
{
    size_t n = 3 + wire_varint_size((uint64_t)e->type) + wire_varint_size(e->term) +
               wire_varint_size(e->index);
    if (e->data != NULL) {
        n += 1 + wire_varint_size(e->data->len) + e->data->len;
    }
    return n;
}
