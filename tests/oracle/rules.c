/* rules.c - the table of allowed differences. Each row is as narrow as its reason allows. */
#include "rules.h"

#include "base/assert.h"

#define TTL_TOLERANCE_S 60

static bool always(const struct rules_context *c, const struct field_value *oracle,
                   const struct field_value *subject)
{
    (void)c;
    (void)oracle;
    (void)subject;
    return true;
}

static bool oracle_lacks(const struct rules_context *c, const struct field_value *oracle,
                         const struct field_value *subject)
{
    (void)c;
    return (!oracle->present || (oracle->number == 0 && oracle->bytes.len == 0)) &&
           subject->present;
}

static bool not_raised_yet(const struct rules_context *c, const struct field_value *oracle,
                           const struct field_value *subject)
{
    (void)c;
    (void)subject;
    return slice_eq(oracle->bytes, slice_str("3.5.0"));
}

static bool nearly(const struct rules_context *c, const struct field_value *oracle,
                   const struct field_value *subject)
{
    (void)c;
    int64_t apart = oracle->number - subject->number;
    return oracle->number > TTL_TOLERANCE_S && apart < TTL_TOLERANCE_S && -apart < TTL_TOLERANCE_S;
}

static const struct step *step_is(const struct rules_context *c, enum method m)
{
    return c->step != NULL && c->step->method == m ? c->step : NULL;
}

static bool hash_of_unsettled_compaction(const struct rules_context *c,
                                         const struct field_value *oracle,
                                         const struct field_value *subject)
{
    (void)oracle;
    (void)subject;
    const struct step *s = step_is(c, M_HASH_KV);
    if (s == NULL) {
        return false;
    }
    const Etcdserverpb__HashKVRequest *q = (const void *)s->request[ORACLE];
    const struct world *w = c->pair->world;
    const struct compaction *at = world_compaction_at(w, q->revision);
    return at != NULL && (!at->clean || at->revision > w->settled);
}

static bool hash_of_a_compaction(const struct rules_context *c, const struct field_value *oracle,
                                 const struct field_value *subject)
{
    (void)oracle;
    (void)subject;
    const struct step *s = step_is(c, M_HASH_KV);
    if (s == NULL) {
        return false;
    }
    const Etcdserverpb__HashKVRequest *q = (const void *)s->request[ORACLE];
    /* Hashes are kept by the revision as it was asked for, so 0 finds that of a compaction at 0. */
    return world_compaction_at(c->pair->world, q->revision) != NULL;
}

static bool range_is_keys_only(const struct rules_context *c, const struct field_value *oracle,
                               const struct field_value *subject)
{
    /* In a txn some op or other may be a keys_only range; a wrong lease would show in a plain one.
     */
    if (oracle->number != 0 || subject->number == 0 || c->step == NULL) {
        return false;
    }
    if (c->step->method == M_TXN) {
        return true;
    }
    const Etcdserverpb__RangeRequest *q = (const void *)c->step->request[ORACLE];
    return c->step->method == M_RANGE && q->keys_only;
}

static bool chosen_by_the_server(const struct rules_context *c, const struct field_value *oracle,
                                 const struct field_value *subject)
{
    const struct step *s = step_is(c, M_GRANT);
    return s != NULL &&
           ((const Etcdserverpb__LeaseGrantRequest *)(const void *)s->request[ORACLE])->id == 0 &&
           oracle->number > 0 && subject->number > 0;
}

static const char lease_missing[] = "etcdserver: requested lease not found";
static const char key_missing[] = "etcdserver: key not found";
static const char rev_compacted[] = "etcdserver: mvcc: required revision has been compacted";

static bool txn_put_order(const struct pair *p, const struct step *s)
{
    (void)p;
    return s->method == M_TXN && strcmp(s->outcome[ORACLE].status.text, key_missing) == 0 &&
           strcmp(s->outcome[SUBJECT].status.text, lease_missing) == 0;
}

static const char rev_future[] = "etcdserver: mvcc: required revision is a future revision";

static bool txn_puts_first(const struct pair *p, const struct step *s)
{
    (void)p;
    const char *oracle = s->outcome[ORACLE].status.text;
    const char *subject = s->outcome[SUBJECT].status.text;
    return s->method == M_TXN &&
           (strcmp(oracle, key_missing) == 0 || strcmp(oracle, lease_missing) == 0) &&
           (strcmp(subject, rev_compacted) == 0 || strcmp(subject, rev_future) == 0);
}

static bool old_hash_refused(const struct pair *p, const struct step *s)
{
    if (s->method != M_HASH_KV) {
        return false;
    }
    const Etcdserverpb__HashKVRequest *q = (const void *)s->request[ORACLE];
    return world_compaction_at(p->world, q->revision) != NULL &&
           strcmp(s->outcome[ORACLE].status.text, rev_compacted) == 0;
}

static bool hash_may_be_lost(const struct pair *p, const struct step *s)
{
    if (s->method != M_HASH_KV) {
        return false;
    }
    const Etcdserverpb__HashKVRequest *q = (const void *)s->request[ORACLE];
    const struct compaction *at = world_compaction_at(p->world, q->revision);
    const struct client_status *a = &s->outcome[ORACLE].status;
    const struct client_status *b = &s->outcome[SUBJECT].status;
    const char *refusal = a->code == CLIENT_CODE_OK ? b->text : a->text;
    return at != NULL && (!at->clean || at->revision > p->world->settled) &&
           (a->code == CLIENT_CODE_OK) != (b->code == CLIENT_CODE_OK) &&
           strcmp(refusal, rev_compacted) == 0;
}

static bool unknown_to_the_oracle(const struct pair *p, const struct step *s)
{
    (void)p;
    return s->method == M_DOWNGRADE && s->outcome[ORACLE].status.code == 12;
}

static bool membership_is_fixed(const struct pair *p, const struct step *s)
{
    (void)p;
    bool changes = s->method == M_MEMBER_ADD || s->method == M_MEMBER_UPDATE ||
                   s->method == M_MEMBER_PROMOTE || s->method == M_DOWNGRADE;
    return changes && s->outcome[SUBJECT].status.code == 12 &&
           strncmp(s->outcome[SUBJECT].status.text, "unknown method ", 15) == 0;
}

static bool old_tombstone(const struct world *w, const Mvccpb__Event *event, int64_t start,
                          int64_t compacted)
{
    (void)w;
    return event->type == MVCCPB__EVENT__EVENT_TYPE__DELETE && start == compacted &&
           event->kv->mod_revision == compacted;
}

/* Exactly one of the three checks is set; message and field belong to the first. */
struct rule {
    unsigned versions; /* of the oracle */
    const char *reason;
    const char *message, *field;
    bool (*on_field)(const struct rules_context *, const struct field_value *,
                     const struct field_value *);
    bool (*on_status)(const struct pair *, const struct step *);
    bool (*on_event)(const struct world *, const Mvccpb__Event *, int64_t, int64_t);
};

#define ON_FIELD(message, field, check) message, field, check, NULL, NULL
#define ON_STATUS(check) NULL, NULL, NULL, check, NULL
#define ON_EVENT(check) NULL, NULL, NULL, NULL, check

static const struct rule rules[] = {
    {V_ALL, "each server has its own history of elections",
     ON_FIELD("ResponseHeader", "raft_term", always)},
    {V_ALL, "time passes between two answers", ON_FIELD("LeaseTimeToLiveResponse", "TTL", nearly)},
    {V_ALL, "lease ids are made from time",
     ON_FIELD("LeaseGrantResponse", "ID", chosen_by_the_server)},
    {V_ALL, "a member's own figures", ON_FIELD("StatusResponse", "version", always)},
    {V_ALL, "a member's own figures", ON_FIELD("StatusResponse", "dbSize", always)},
    {V_ALL, "a member's own figures", ON_FIELD("StatusResponse", "dbSizeInUse", always)},
    {V_ALL, "a member's own figures", ON_FIELD("StatusResponse", "raftIndex", always)},
    {V_ALL, "a member's own figures", ON_FIELD("StatusResponse", "raftTerm", always)},
    {V_ALL, "a member's own figures", ON_FIELD("StatusResponse", "raftAppliedIndex", always)},
    {V36, "names the oracle's release", ON_FIELD("StatusResponse", "storageVersion", always)},
    {V37, "raised by a periodic task some seconds after the start",
     ON_FIELD("StatusResponse", "storageVersion", not_raised_yet)},
    {V34, "since 3.6", ON_FIELD("StatusResponse", "storageVersion", oracle_lacks)},
    {V34, "since 3.6", ON_FIELD("StatusResponse", "dbSizeQuota", oracle_lacks)},
    {V34, "since 3.6", ON_FIELD("StatusResponse", "downgradeInfo", oracle_lacks)},
    {V34, "the header came with 3.5", ON_FIELD("AlarmResponse", "header", oracle_lacks)},
    {V34, "since 3.6", ON_FIELD("HashKVResponse", "hash_revision", oracle_lacks)},
    {V34, "compactions leave their hash behind since 3.6",
     ON_FIELD("HashKVResponse", "hash", hash_of_a_compaction)},
    {V34, "compactions leave their hash behind since 3.6",
     ON_FIELD("HashKVResponse", "compact_revision", hash_of_a_compaction)},
    {V34, "compactions leave their hash behind since 3.6", ON_STATUS(old_hash_refused)},
    {V36 | V37, "a compaction leaves its hash when its background part and the one before are over",
     ON_FIELD("HashKVResponse", "hash", hash_of_unsettled_compaction)},
    {V36 | V37, "a compaction leaves its hash when its background part and the one before are over",
     ON_FIELD("HashKVResponse", "compact_revision", hash_of_unsettled_compaction)},
    {V36 | V37, "a compaction leaves its hash when its background part and the one before are over",
     ON_STATUS(hash_may_be_lost)},
    {V34 | V36, "inside a txn the lease is looked up before the key since 3.7",
     ON_STATUS(txn_put_order)},
    {V34, "a txn's puts are checked before its ranges, whatever their order, until 3.4",
     ON_STATUS(txn_puts_first)},
    {V37, "3.7.1 leaves the lease out of keys_only replies, other releases do not",
     ON_FIELD("KeyValue", "lease", range_is_keys_only)},
    {V34, "since 3.5", ON_STATUS(unknown_to_the_oracle)},
    {V_ALL, "Pintle's membership is fixed so far: these calls are not served",
     ON_STATUS(membership_is_fixed)},
    {V34, "compaction kept no tombstone at the compacted revision before 3.5.16",
     ON_EVENT(old_tombstone)},
};

bool rules_allow_status(const struct pair *p, const struct step *s)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *r = &rules[i];
        if (r->on_status != NULL && (r->versions & p->world->version) != 0 && r->on_status(p, s)) {
            return true;
        }
    }
    return false;
}

bool rules_allow_field(void *context, const ProtobufCMessageDescriptor *in,
                       const ProtobufCFieldDescriptor *field, const struct field_value *oracle,
                       const struct field_value *subject)
{
    struct rules_context *c = context;
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *r = &rules[i];
        if (r->on_field != NULL && (r->versions & c->pair->world->version) != 0 &&
            strcmp(r->message, in->short_name) == 0 && strcmp(r->field, field->name) == 0 &&
            r->on_field(c, oracle, subject)) {
            c->pair->n_allowed += r->on_field != always;
            return true;
        }
    }
    return false;
}

bool rules_allow_missing_event(const struct world *w, const Mvccpb__Event *event,
                               int64_t start_revision, int64_t compacted)
{
    for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
        const struct rule *r = &rules[i];
        if (r->on_event != NULL && (r->versions & w->version) != 0 &&
            r->on_event(w, event, start_revision, compacted)) {
            return true;
        }
    }
    return false;
}
