/* world.c - see the header. The odds are chosen so that most requests are valid and change
 * something, while each kind of error comes up hundreds of times in a long run. */
#include "world.h"

#include "base/assert.h"
#include "base/slice.h"

/* Keys that are prefixes of each other, and neighbours under bytewise order. */
#define KEY(text)                                                                                  \
    {                                                                                              \
        (const uint8_t *)(text), sizeof(text) - 1                                                  \
    }
static const struct slice special_keys[] = {
    KEY("\0"),   KEY("\0\0"),      KEY("\x01"), KEY("a"),        KEY("a\0"), KEY("a\0\0"),
    KEY("a\0b"), KEY("a\xff"),     KEY("aa"),   KEY("aaa"),      KEY("ab"),  KEY("abc"),
    KEY("b"),    KEY("b\xff\xff"), KEY("c"),    KEY("c/"),       KEY("c/1"), KEY("c/2"),
    KEY("c0"),   KEY("\xfe\xff"),  KEY("\xff"), KEY("\xff\xff"),
};
#define PLAIN_KEYS 26u

static uint32_t below(struct world *w, uint32_t n)
{
    return random_below(&w->random, n);
}

static bool in(struct world *w, uint32_t permille)
{
    return random_in(&w->random, permille);
}

static void *take(struct world *w, size_t n, size_t size)
{
    void *p = arena_calloc(w->arena, n, size);
    ASSERT(p != NULL);
    return p;
}

#define NEW(w, type, init) new_message((w), &(type)init, sizeof(type))
static void *new_message(struct world *w, const void *initial, size_t size)
{
    void *p = take(w, 1, size);
    memcpy(p, initial, size);
    return p;
}

static ProtobufCBinaryData copy(struct world *w, const void *data, size_t len)
{
    uint8_t *p = take(w, len + 2, 1); /* room for the appended byte of range ends */
    if (len > 0) {
        memcpy(p, data, len);
    }
    return (ProtobufCBinaryData){.len = len, .data = p};
}

ProtobufCBinaryData world_key(struct world *w)
{
    uint32_t i = below(w, (uint32_t)ARRAY_LEN(special_keys) + PLAIN_KEYS);
    if (i < ARRAY_LEN(special_keys)) {
        return copy(w, special_keys[i].data, special_keys[i].len);
    }
    char key[4] = {'k', (char)('a' + (i - ARRAY_LEN(special_keys)) / 5), '/',
                   (char)('0' + (i - ARRAY_LEN(special_keys)) % 5)};
    return copy(w, key, sizeof(key));
}

static ProtobufCBinaryData key_or_none(struct world *w)
{
    return in(w, 5) ? copy(w, "", 0) : world_key(w);
}

/* The end of a range that begins at `key`: often none. */
static ProtobufCBinaryData range_end(struct world *w, ProtobufCBinaryData key)
{
    switch (below(w, 12)) {
    case 0:
        return copy(w, "\0", 1); /* to the last key */
    case 1:
    case 2:
        return world_key(w); /* half of these are inverted or empty */
    case 3:
    case 4: { /* the keys that begin with `key` */
        ProtobufCBinaryData end = copy(w, key.data, key.len);
        while (end.len > 0 && end.data[end.len - 1] == 0xff) {
            end.len--;
        }
        if (end.len == 0) {
            return copy(w, "\0", 1);
        }
        end.data[end.len - 1]++;
        return end;
    }
    case 5: { /* just that key, said as a range */
        ProtobufCBinaryData end = copy(w, key.data, key.len);
        end.data[end.len++] = 0;
        return end;
    }
    case 6:
        return in(w, 100) ? copy(w, key.data, key.len) : copy(w, "", 0);
    case 7:
        return copy(w, "l", 1); /* wide for most keys */
    default:
        return copy(w, "", 0);
    }
}

static ProtobufCBinaryData value(struct world *w)
{
    uint32_t n = in(w, 985) ? below(w, VALUE_SMALL)
                            : (in(w, 900) ? below(w, VALUE_MIDDLE) : below(w, VALUE_LARGE));
    uint8_t *p = take(w, (size_t)n + 1, 1);
    for (uint32_t i = 0; i < n; i++) {
        p[i] = (uint8_t)random_next(&w->random);
    }
    if (n > 0 && in(w, 700)) {
        p[0] = (uint8_t)('a' + below(w, 4)); /* so that sorting by value meets ties */
        n = in(w, 500) ? 1 : n;
    }
    return (ProtobufCBinaryData){.len = n, .data = p};
}

int64_t world_revision(struct world *w)
{
    int64_t span = w->revision - w->compacted;
    switch (below(w, 40)) {
    case 0:
        return w->revision + 1;
    case 1:
        return w->revision + 1 + below(w, 1000);
    case 2:
        return w->compacted;
    case 3:
        return w->compacted - 1;
    case 4:
        return -(int64_t)below(w, 5);
    case 5:
        return 1;
    case 6:
        return in(w, 500) ? INT64_MAX : INT64_MIN;
    case 7:
    case 8:
        return w->revision;
    case 9:
    case 10:
    case 11:
        return w->revision - below(w, 4);
    default:
        return w->compacted + 1 + (span <= 1 ? 0 : (int64_t)below(w, (uint32_t)span));
    }
}

const struct compaction *world_compaction_at(const struct world *w, int64_t revision)
{
    size_t n = w->n_history < HISTORY_MAX ? w->n_history : HISTORY_MAX;
    for (size_t i = 0; i < n; i++) {
        if (w->history[i].revision == revision) {
            return &w->history[i];
        }
    }
    return NULL;
}

void world_compacted(struct world *w, int64_t revision, bool physical)
{
    w->history[w->n_history++ % HISTORY_MAX] =
        (struct compaction){revision, w->settled == w->compacted};
    w->compacted = revision;
    if (physical) {
        w->settled = revision;
    }
}

void world_lease_add(struct world *w, int64_t id)
{
    if (w->n_leases < LEASES_MAX) {
        w->leases[w->n_leases++] = id;
    }
}

void world_lease_remove(struct world *w, int64_t id)
{
    for (size_t i = 0; i < w->n_leases; i++) {
        if (w->leases[i] == id) {
            w->leases[i] = w->leases[--w->n_leases];
            return;
        }
    }
}

int64_t world_lease(struct world *w)
{
    if (w->n_leases == 0 || in(w, 60)) {
        return 1000 + (int64_t)below(w, 10); /* never granted */
    }
    return w->leases[below(w, (uint32_t)w->n_leases)];
}

static int64_t bound(struct world *w)
{
    if (in(w, 850)) {
        return 0;
    }
    return in(w, 950) ? w->revision - below(w, 200) : -1;
}

Etcdserverpb__RangeRequest *world_range(struct world *w, bool in_txn)
{
    Etcdserverpb__RangeRequest *q =
        NEW(w, Etcdserverpb__RangeRequest, ETCDSERVERPB__RANGE_REQUEST__INIT);
    static const int64_t limits[] = {0, 0, 0, 0, 1, 2, 3, 5, 1000, -1};
    q->key = key_or_none(w);
    q->range_end = range_end(w, q->key);
    q->limit = limits[below(w, (uint32_t)ARRAY_LEN(limits))];
    if (in(w, in_txn ? 120 : 500)) {
        q->revision = world_revision(w);
    }
    if (in(w, 350)) {
        q->sort_order = (Etcdserverpb__RangeRequest__SortOrder)below(w, 3);
        q->sort_target = (Etcdserverpb__RangeRequest__SortTarget)below(w, 5);
        /* 3.4 takes any number and dies of an unknown target. */
        if (w->version != V34 && in(w, 20)) {
            q->sort_order = (Etcdserverpb__RangeRequest__SortOrder)(3 + below(w, 2));
        }
        if (w->version != V34 && in(w, 20)) {
            q->sort_target = (Etcdserverpb__RangeRequest__SortTarget)(5 + below(w, 2));
        }
    }
    q->serializable = in(w, 500);
    q->keys_only = in(w, 150);
    q->count_only = in(w, 100);
    q->min_mod_revision = bound(w);
    q->max_mod_revision = bound(w);
    q->min_create_revision = bound(w);
    q->max_create_revision = bound(w);
    return q;
}

Etcdserverpb__PutRequest *world_put(struct world *w)
{
    Etcdserverpb__PutRequest *q = NEW(w, Etcdserverpb__PutRequest, ETCDSERVERPB__PUT_REQUEST__INIT);
    q->key = key_or_none(w);
    q->ignore_value = in(w, 50);
    q->ignore_lease = in(w, 50);
    if (!q->ignore_value || in(w, 100)) {
        q->value = value(w);
    }
    if (in(w, q->ignore_lease ? 100 : 250)) {
        q->lease = world_lease(w);
    }
    q->prev_kv = in(w, 400);
    return q;
}

Etcdserverpb__DeleteRangeRequest *world_delete(struct world *w)
{
    Etcdserverpb__DeleteRangeRequest *q =
        NEW(w, Etcdserverpb__DeleteRangeRequest, ETCDSERVERPB__DELETE_RANGE_REQUEST__INIT);
    q->key = key_or_none(w);
    /* Mostly single keys, so that some keys live long enough to have a history. */
    if (in(w, 150)) {
        q->range_end = range_end(w, q->key);
    }
    q->prev_kv = in(w, 500);
    return q;
}

static int64_t operand(struct world *w, Etcdserverpb__Compare__CompareTarget target)
{
    if (in(w, 250)) {
        return 0;
    }
    if (target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION) {
        return below(w, 4);
    }
    if (target == ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE) {
        return world_lease(w);
    }
    return w->revision - below(w, 150);
}

static Etcdserverpb__Compare *compare(struct world *w)
{
    Etcdserverpb__Compare *c = NEW(w, Etcdserverpb__Compare, ETCDSERVERPB__COMPARE__INIT);
    static const Etcdserverpb__Compare__TargetUnionCase members[] = {
        ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION,
        ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION,
        ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION,
        ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE,
        ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE,
        ETCDSERVERPB__COMPARE__TARGET_UNION__NOT_SET,
    };
    c->key = key_or_none(w);
    c->result = (Etcdserverpb__Compare__CompareResult)below(w, in(w, 10) ? 6 : 4);
    uint32_t target = below(w, in(w, 10) ? 7 : 5);
    c->target = (Etcdserverpb__Compare__CompareTarget)target;
    uint32_t member = in(w, 950) && target < 5 ? target : below(w, (uint32_t)ARRAY_LEN(members));
    c->target_union_case = members[member];
    if (members[member] == ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE) {
        c->value = value(w);
    } else if (members[member] != ETCDSERVERPB__COMPARE__TARGET_UNION__NOT_SET) {
        c->version = operand(w, c->target); /* all numbers share one place in the union */
    }
    if (in(w, 150)) {
        c->range_end = range_end(w, c->key);
    }
    return c;
}

/* What may appear in one transaction. An ignore flag on a key that the same transaction deletes by
 * an undetected path makes upstream servers stop, so a transaction has one of the two. */
struct txn_style {
    bool ignores;
    bool reads_only;
    uint32_t depth;
};

static Etcdserverpb__TxnRequest *txn(struct world *w, struct txn_style style);

static Etcdserverpb__RequestOp *op(struct world *w, struct txn_style style)
{
    Etcdserverpb__RequestOp *o = NEW(w, Etcdserverpb__RequestOp, ETCDSERVERPB__REQUEST_OP__INIT);
    uint32_t kind = style.reads_only ? 0 : below(w, 100);
    if (kind < 25) {
        o->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        o->request_range = world_range(w, true);
    } else if (kind < 70 || (kind < 85 && style.ignores)) {
        o->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
        o->request_put = world_put(w);
        if (!style.ignores) {
            o->request_put->ignore_value = o->request_put->ignore_lease = 0;
        }
    } else if (kind < 85) {
        o->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
        o->request_delete_range = world_delete(w);
    } else if (kind < 98 && style.depth < 3 && !w->no_nested) {
        style.depth++;
        o->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_TXN;
        o->request_txn = txn(w, style);
    } else if (kind < 98) {
        o->request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
        o->request_range = world_range(w, true);
    } else if (in(w, 900)) {
        return op(w, style); /* an op of no kind is seldom worth it: it fails the whole txn */
    }
    return o;
}

static Etcdserverpb__RequestOp **ops(struct world *w, struct txn_style style, size_t *n)
{
    *n = below(w, style.depth == 0 ? 5 : 3);
    if (style.depth == 0 && in(w, 6)) {
        *n = 126 + below(w, 5); /* about the limit */
        style.reads_only = true;
    }
    ASSERT(*n <= OPS_MAX);
    Etcdserverpb__RequestOp **list = take(w, *n + 1, sizeof(list[0]));
    for (size_t i = 0; i < *n; i++) {
        list[i] = op(w, style);
    }
    return list;
}

static Etcdserverpb__TxnRequest *txn(struct world *w, struct txn_style style)
{
    Etcdserverpb__TxnRequest *q = NEW(w, Etcdserverpb__TxnRequest, ETCDSERVERPB__TXN_REQUEST__INIT);
    q->n_compare = in(w, 5) ? 127 + below(w, 4) : below(w, 3);
    q->compare = take(w, q->n_compare + 1, sizeof(q->compare[0]));
    for (size_t i = 0; i < q->n_compare; i++) {
        q->compare[i] = compare(w);
    }
    q->success = ops(w, style, &q->n_success);
    q->failure = ops(w, style, &q->n_failure);
    return q;
}

Etcdserverpb__TxnRequest *world_txn(struct world *w)
{
    return txn(w, (struct txn_style){.ignores = in(w, 300)});
}

Etcdserverpb__TxnRequest *world_read_txn(struct world *w)
{
    return txn(w, (struct txn_style){.reads_only = true, .depth = 1});
}

Etcdserverpb__CompactionRequest *world_compaction(struct world *w)
{
    Etcdserverpb__CompactionRequest *q =
        NEW(w, Etcdserverpb__CompactionRequest, ETCDSERVERPB__COMPACTION_REQUEST__INIT);
    q->physical = in(w, 600);
    switch (below(w, 10)) {
    case 0:
        q->revision = w->revision + 1;
        break;
    case 1:
        q->revision = w->compacted;
        break;
    case 2:
        q->revision = -(int64_t)below(w, 3);
        break;
    case 3:
        q->revision = w->revision;
        break;
    default: /* somewhere in the newer half of the history */
        q->revision = w->revision - below(w, 1 + (uint32_t)(w->revision - w->compacted) / 2);
        break;
    }
    return q;
}

Etcdserverpb__LeaseGrantRequest *world_grant(struct world *w)
{
    Etcdserverpb__LeaseGrantRequest *q =
        NEW(w, Etcdserverpb__LeaseGrantRequest, ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT);
    q->id = in(w, 900) ? 1 + (int64_t)below(w, LEASES_MAX - 4) : -1 - (int64_t)below(w, 3);
    q->ttl = in(w, 970) ? 100000 + (int64_t)below(w, 100000) : 9000000000 + (int64_t)below(w, 3);
    return q;
}
