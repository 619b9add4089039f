/* print.h - answers on standard output, in the format of the run.
 *
 * What        One function per kind of answer for the formats that differ by kind (simple, fields);
 *             JSON and protobuf come from the
 *             messages' own descriptors.
 * Callers     commands.
 * Thread      one.
 * Invariants  Everything printed is flushed before the function returns.
 * Source      cli.md 5.
 */
#ifndef TOOLS_PINTLECTL_PRINT_H
#define TOOLS_PINTLECTL_PRINT_H

#include <stdio.h>

#include "api/proto/kv.pb-c.h"
#include "api/proto/rpc.pb-c.h"
#include "tools/pintlectl/ctl.h"

/* JSON and protobuf: print the message, true. Simple and fields: false, it is the caller's turn.
 * Table ends the program: it has no form for this. */
bool print_message(const struct ctl *ctl, const ProtobufCMessage *m);
/* The answer has nothing but its header in the fields format: print all formats but simple. */
bool print_bare(const struct ctl *ctl, const ProtobufCMessage *m,
                const Etcdserverpb__ResponseHeader *h);
_Noreturn void print_unsupported(enum format f);

void print_get(const struct ctl *ctl, const Etcdserverpb__RangeResponse *r);
void print_put(const struct ctl *ctl, const Etcdserverpb__PutResponse *r);
void print_del(const struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *r);
void print_txn(const struct ctl *ctl, const Etcdserverpb__TxnResponse *r);

/* print_simple.c */
void simple_kv(const struct ctl *ctl, const Mvccpb__KeyValue *kv);
void simple_get(const struct ctl *ctl, const Etcdserverpb__RangeResponse *r);
void simple_put(const struct ctl *ctl, const Etcdserverpb__PutResponse *r);
void simple_del(const struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *r);
void simple_txn(const struct ctl *ctl, const Etcdserverpb__TxnResponse *r);
void simple_bytes(const struct ctl *ctl, ProtobufCBinaryData b); /* and a newline */

/* print_fields.c */
void fields_header(const struct ctl *ctl, const Etcdserverpb__ResponseHeader *h);
void fields_id(const struct ctl *ctl, const char *name, uint64_t id);
void fields_lease(const struct ctl *ctl, const char *name, int64_t id);
void fields_text(const char *name, struct slice text);                 /* quoted */
void fields_text_list(const char *name, char *const *texts, size_t n); /* quoted, on one line */
void fields_kv(const struct ctl *ctl, const char *prefix, const Mvccpb__KeyValue *kv);
void fields_get(const struct ctl *ctl, const Etcdserverpb__RangeResponse *r);
void fields_put(const struct ctl *ctl, const Etcdserverpb__PutResponse *r);
void fields_del(const struct ctl *ctl, const Etcdserverpb__DeleteRangeResponse *r);
void fields_txn(const struct ctl *ctl, const Etcdserverpb__TxnResponse *r);

/* print_json.c */
/* As encoding/json writes etcd's structs: fields of value zero are left out. `hex`: headers and
 * members as --hex has them. */
void json_message(struct bytes *out, const ProtobufCMessage *m, bool hex);
/* The members of the object without its braces, with a comma behind unless there are none. */
void json_header_members(struct bytes *out, const Etcdserverpb__ResponseHeader *h);
void print_json_line(struct bytes *json); /* with a newline; frees */

/* The rows of a table in the simple format: cells joined with ", ". */
void print_rows(const char *const *cells, size_t n_columns, size_t n_rows);

static inline const char *yes_no(bool b)
{
    return b ? "true" : "false";
}

#endif
