/* describe.c - see the header. */
#include "tests/raft/core/describe.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/assert.h"

static void quote(struct slice s, struct bytes *out)
{
    bytes_add_str(out, "\"");
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] == '"' || s.data[i] == '\\') {
            bytes_printf(out, "\\%c", s.data[i]);
        } else if (isprint(s.data[i])) {
            bytes_printf(out, "%c", s.data[i]);
        } else {
            bytes_printf(out, "\\x%02x", s.data[i]);
        }
    }
    bytes_add_str(out, "\"");
}

static const char letters[] = {
    [RAFT_CONF_ADD_NODE] = 'v',
    [RAFT_CONF_REMOVE_NODE] = 'r',
    [RAFT_CONF_UPDATE_NODE] = 'u',
    [RAFT_CONF_ADD_LEARNER] = 'l',
};

void describe_parse_changes(const char *text, struct raft_conf_change *cc)
{
    const char *p = text;
    while (*p != '\0') {
        if (*p == ' ' || *p == '\n') {
            p++;
            continue;
        }
        const char *letter = memchr(letters, *p, sizeof(letters));
        char *end = NULL;
        uint64_t node = strtoull(p + 1, &end, 10);
        ASSERT(letter != NULL && end != p + 1 && cc->n_changes < RAFT_MEMBERS_MAX);
        cc->changes[cc->n_changes++] =
            (struct raft_conf_change_single){(enum raft_conf_change_type)(letter - letters), node};
        p = end;
    }
}

static void changes(const struct raft_entry *e, struct bytes *out)
{
    struct raft_conf_change cc;
    if (raft_conf_change_decode(e->type, buf_slice(e->data), &cc) != OK) {
        bytes_add_str(out, " undecodable");
        return;
    }
    for (size_t i = 0; i < cc.n_changes; i++) {
        bytes_printf(out, " %c%" PRIu64, letters[cc.changes[i].type], cc.changes[i].node);
    }
}

void describe_entry(const struct raft_entry *e, struct bytes *out)
{
    bytes_printf(out, "%" PRIu64 "/%" PRIu64 " %s", e->term, e->index,
                 raft_entry_type_name(e->type));
    if (e->type == RAFT_ENTRY_NORMAL) {
        bytes_add_str(out, " ");
        quote(buf_slice(e->data), out);
    } else {
        changes(e, out);
    }
}

void describe_entries(const struct raft_entry *e, size_t n, struct bytes *out)
{
    for (size_t i = 0; i < n; i++) {
        describe_entry(&e[i], out);
        bytes_add_str(out, "\n");
    }
}

static void ids(const char *name, const struct raft_ids *s, struct bytes *out)
{
    bytes_printf(out, "%s:[", name);
    for (size_t i = 0; i < s->n; i++) {
        bytes_printf(out, "%s%" PRIu64, i == 0 ? "" : " ", s->id[i]);
    }
    bytes_add_str(out, "] ");
}

void describe_snapshot(const struct raft_snapshot *s, struct bytes *out)
{
    bytes_printf(out, "Index:%" PRIu64 " Term:%" PRIu64 " ConfState:", s->index, s->term);
    ids("Voters", &s->conf.voters, out);
    ids("VotersOutgoing", &s->conf.voters_outgoing, out);
    ids("Learners", &s->conf.learners, out);
    ids("LearnersNext", &s->conf.learners_next, out);
    bytes_printf(out, "AutoLeave:%s", s->conf.auto_leave ? "true" : "false");
}

static void target(uint64_t id, struct bytes *out)
{
    if (id == RAFT_NONE) {
        bytes_add_str(out, "None");
    } else if (id == RAFT_LOCAL_APPEND) {
        bytes_add_str(out, "AppendThread");
    } else if (id == RAFT_LOCAL_APPLY) {
        bytes_add_str(out, "ApplyThread");
    } else {
        bytes_printf(out, "%" PRIx64, id);
    }
}

static void message(const char *indent, const struct raft_message *m, struct bytes *out)
{
    bytes_add_str(out, indent);
    target(m->from, out);
    bytes_add_str(out, "->");
    target(m->to, out);
    bytes_printf(out, " %s Term:%" PRIu64 " Log:%" PRIu64 "/%" PRIu64,
                 raft_message_type_name(m->type), m->term, m->log_term, m->index);
    if (m->reject) {
        bytes_printf(out, " Rejected (Hint: %" PRIu64 ")", m->reject_hint);
    }
    if (m->commit != 0) {
        bytes_printf(out, " Commit:%" PRIu64, m->commit);
    }
    if (m->vote != 0) {
        bytes_printf(out, " Vote:%" PRIu64, m->vote);
    }
    if (m->n_entries == 1) {
        bytes_add_str(out, " Entries:[");
        describe_entry(&m->entries[0], out);
        bytes_add_str(out, "]");
    } else if (m->n_entries > 1) {
        bytes_add_str(out, " Entries:[");
        for (size_t i = 0; i < m->n_entries; i++) {
            bytes_printf(out, "\n%s  ", indent);
            describe_entry(&m->entries[i], out);
        }
        bytes_printf(out, "\n%s]", indent);
    }
    if (m->snapshot != NULL) {
        bytes_printf(out, "\n%s  Snapshot: ", indent);
        describe_snapshot(m->snapshot, out);
    }
}

void describe_message(const struct raft_message *m, struct raft_message *const *responses,
                      size_t n_responses, struct bytes *out)
{
    message("", m, out);
    if (n_responses > 0) {
        bytes_add_str(out, " Responses:[");
        for (size_t i = 0; i < n_responses; i++) {
            bytes_add_str(out, "\n");
            message("  ", responses[i], out);
        }
        bytes_add_str(out, "\n]");
    }
}
