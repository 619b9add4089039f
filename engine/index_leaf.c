/* index_leaf.c - the bytes of one leaf and of the side table.
 *
 * A leaf stores the common prefix of its keys once. A slot holds the next four bytes of its key as
 * a number, so that a binary search mostly stays within the slot array; the rest of the suffix and
 * the packed version stand in an entry at the end of the leaf. Entries are found by their distance
 * from the end, so a leaf grows by copying two runs of bytes. Whatever changes the prefix takes the
 * leaf apart into items and packs them anew.
 */
#include "engine/index_internal.h"

/* Keys without the bytes that slot and prefix hold, as they are compared. */
struct suffix {
    const uint8_t *data;
    size_t len;
};

static struct long_key *entry_long_key(const uint8_t *entry)
{
    struct long_key *k;
    memcpy(&k, entry, POINTER_BYTES);
    return k;
}

/* Order of slot `s` against a key whose suffix is `key` with the given head. */
static int slot_cmp(const struct leaf *l, const struct slot *s, uint32_t head, struct suffix key)
{
    if (s->head != head) {
        return s->head < head ? -1 : 1;
    }
    const uint8_t *rest = leaf_entry(l, s);
    size_t len = s->bits & SLOT_LEN_MASK;
    if ((s->bits & SLOT_LONG) != 0) {
        const struct long_key *k = entry_long_key(rest);
        len = k->len - l->prefix_len;
        rest = k->data + l->prefix_len + HEAD_BYTES;
    }
    size_t n = len < key.len ? len : key.len;
    /* With equal heads a suffix of at most four bytes is a prefix of the other, for the padding is
     * zeros. */
    int c = n <= HEAD_BYTES ? 0 : memcmp(rest, key.data + HEAD_BYTES, n - HEAD_BYTES);
    return c != 0 ? c : (len > key.len) - (len < key.len);
}

uint32_t leaf_find(const struct leaf *l, struct slice key, bool *found)
{
    *found = false;
    size_t common = key.len < l->prefix_len ? key.len : l->prefix_len;
    int c = bytes_cmp(leaf_prefix(l), key.data, common);
    if (c != 0 || key.len < l->prefix_len) {
        return c >= 0 ? 0 : l->n;
    }
    if (l->n == 0) {
        return 0;
    }
    struct suffix suffix = {key.data == NULL ? NULL : key.data + common, key.len - common};
    uint32_t head = head_of(suffix.data, suffix.len);
    const struct slot *slots = leaf_slots(l);
    uint32_t lo = 0;
    uint32_t hi = l->n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        c = slot_cmp(l, &slots[mid], head, suffix);
        if (c == 0) {
            *found = true;
            return mid;
        }
        if (c < 0) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void leaf_key(const struct leaf *l, uint32_t i, bool have_prefix, struct bytes *out)
{
    const struct slot *s = &leaf_slots(l)[i];
    const uint8_t *entry = leaf_entry(l, s);
    if ((s->bits & SLOT_LONG) != 0) {
        const struct long_key *k = entry_long_key(entry);
        out->len = 0;
        bytes_add(out, k->data, k->len);
        return;
    }
    size_t len = s->bits & SLOT_LEN_MASK;
    out->len = 0;
    /* A whole head is written even when the suffix is shorter. */
    size_t need = l->prefix_len + len + HEAD_BYTES;
    uint8_t *p = out->cap >= need ? out->data : bytes_reserve(out, need);
    if (!have_prefix) {
        bytes_copy(p, leaf_prefix(l), l->prefix_len);
    }
    uint32_t head = __builtin_bswap32(s->head);
    memcpy(p + l->prefix_len, &head, HEAD_BYTES);
    if (len > HEAD_BYTES) {
        memcpy(p + l->prefix_len + HEAD_BYTES, entry, len - HEAD_BYTES);
    }
    out->len = l->prefix_len + len;
}

/* --- allocation ------------------------------------------------------------------------------- */

static uint16_t cap_for(size_t used)
{
    size_t cap = (used + LEAF_BYTES_STEP - 1) / LEAF_BYTES_STEP * LEAF_BYTES_STEP;
    ASSERT(cap <= LEAF_BYTES_MAX);
    return (uint16_t)cap;
}

struct leaf *leaf_create(struct index *x, size_t used)
{
    uint16_t cap = cap_for(used);
    struct leaf *l = take(x, cap);
    memset(l, 0, sizeof *l);
    l->cap = cap;
    return l;
}

void leaf_release(struct index *x, struct leaf *l)
{
    give(x, l, l->cap);
}

void leaf_free_deep(struct index *x, struct leaf *l)
{
    const struct slot *slots = leaf_slots(l);
    for (uint32_t i = 0; i < l->n; i++) {
        const struct slot *s = &slots[i];
        const uint8_t *payload = leaf_payload(l, s);
        payload_free_wide(x, s->bits, payload);
        if ((s->bits & SLOT_HIST) != 0) {
            history_free(x, payload_history(payload));
        }
        if ((s->bits & SLOT_LONG) != 0) {
            struct long_key *k = entry_long_key(leaf_entry(l, s));
            give(x, k, sizeof *k + k->len);
        }
    }
    leaf_release(x, l);
}

struct leaf *leaf_copy(struct index *x, const struct leaf *l, size_t used)
{
    struct leaf *g = leaf_create(x, used);
    uint16_t cap = g->cap;
    ASSERT(cap >= leaf_used(l));
    memcpy(g, l, (size_t)((const uint8_t *)(leaf_slots(l) + l->n) - (const uint8_t *)l));
    g->cap = cap;
    g->garbage = 0;
    if (l->garbage == 0) {
        memcpy((uint8_t *)g + cap - l->heap, (const uint8_t *)l + l->cap - l->heap, l->heap);
        return g;
    }
    g->heap = 0;
    struct slot *slots = leaf_slots(g);
    for (uint32_t i = 0; i < g->n; i++) {
        const uint8_t *entry = leaf_entry(l, &slots[i]);
        g->heap = (uint16_t)(g->heap + entry_bytes(slots[i].bits));
        slots[i].tail = g->heap;
        memcpy(leaf_entry(g, &slots[i]), entry, entry_bytes(slots[i].bits));
    }
    return g;
}

/* --- taking apart and putting together -------------------------------------------------------- */

uint8_t *leaf_unpack(const struct leaf *l, struct item *items, uint8_t *scratch)
{
    const struct slot *slots = leaf_slots(l);
    for (uint32_t i = 0; i < l->n; i++) {
        const struct slot *s = &slots[i];
        struct item *it = &items[i];
        it->flags = s->bits & SLOT_FLAGS;
        memcpy(it->payload, leaf_payload(l, s), payload_bytes(s->bits));
        if ((s->bits & SLOT_LONG) != 0) {
            it->long_key = entry_long_key(leaf_entry(l, s));
            it->key = slice_of(it->long_key->data, it->long_key->len);
            continue;
        }
        size_t len = s->bits & SLOT_LEN_MASK;
        it->long_key = NULL;
        it->key = slice_of(scratch, l->prefix_len + len);
        bytes_copy(scratch, leaf_prefix(l), l->prefix_len);
        uint32_t head = __builtin_bswap32(s->head);
        memcpy(scratch + l->prefix_len, &head, len < HEAD_BYTES ? len : HEAD_BYTES);
        if (len > HEAD_BYTES) {
            memcpy(scratch + l->prefix_len + HEAD_BYTES, leaf_entry(l, s), len - HEAD_BYTES);
        }
        scratch += it->key.len;
    }
    return scratch;
}

static size_t items_prefix(const struct item *items, size_t n)
{
    size_t common = n == 0 ? 0 : common_prefix(items[0].key, items[n - 1].key);
    /* A single key keeps a head's worth of suffix, so that its neighbours find room beside it. */
    if (n == 1) {
        common = common > HEAD_BYTES ? common - HEAD_BYTES : 0;
    }
    return common < PREFIX_BYTES_MAX ? common : PREFIX_BYTES_MAX;
}

static uint16_t item_bits(const struct item *it, size_t prefix)
{
    if (it->long_key != NULL) {
        return (uint16_t)(it->flags | SLOT_LONG);
    }
    return (uint16_t)((it->flags & ~SLOT_LONG) | (it->key.len - prefix));
}

size_t item_bytes(const struct item *it, size_t prefix)
{
    return sizeof(struct slot) + entry_bytes(item_bits(it, prefix));
}

size_t items_bytes(const struct item *items, size_t n)
{
    size_t prefix = items_prefix(items, n);
    size_t bytes = sizeof(struct leaf) + ((prefix + 7u) & ~7u);
    for (size_t i = 0; i < n; i++) {
        bytes += item_bytes(&items[i], prefix);
    }
    return bytes;
}

void leaf_insert(struct leaf *l, uint32_t i, const struct item *it)
{
    struct slot *slots = leaf_slots(l);
    struct slot s = {.bits = item_bits(it, l->prefix_len)};
    const uint8_t *suffix = it->key.data == NULL ? NULL : it->key.data + l->prefix_len;
    size_t rest = slot_rest_bytes(s.bits);
    l->heap = (uint16_t)(l->heap + rest + payload_bytes(s.bits));
    s.head = head_of(suffix, it->key.len - l->prefix_len);
    s.tail = l->heap;
    memmove(&slots[i + 1], &slots[i], (l->n - i) * sizeof *slots);
    slots[i] = s;
    uint8_t *entry = leaf_entry(l, &s);
    if (it->long_key != NULL) {
        memcpy(entry, &it->long_key, POINTER_BYTES);
    } else if (rest > 0) {
        memcpy(entry, suffix + HEAD_BYTES, rest);
    }
    memcpy(entry + rest, it->payload, payload_bytes(s.bits));
    l->n++;
    l->live = (uint16_t)(l->live + ((s.bits & SLOT_TOMB) == 0));
    l->marked = (uint16_t)(l->marked + slot_marked(s.bits));
}

struct leaf *leaf_pack(struct index *x, const struct item *items, size_t n)
{
    struct leaf *l = leaf_create(x, items_bytes(items, n));
    l->prefix_len = (uint16_t)items_prefix(items, n);
    if (n > 0) {
        bytes_copy(leaf_prefix(l), items[0].key.data, l->prefix_len);
    }
    for (size_t i = 0; i < n; i++) {
        leaf_insert(l, l->n, &items[i]);
    }
    return l;
}

void leaf_remove(struct leaf *l, uint32_t i)
{
    struct slot *slots = leaf_slots(l);
    uint16_t bits = slots[i].bits;
    l->garbage = (uint16_t)(l->garbage + entry_bytes(bits));
    l->live = (uint16_t)(l->live - ((bits & SLOT_TOMB) == 0));
    l->marked = (uint16_t)(l->marked - slot_marked(bits));
    memmove(&slots[i], &slots[i + 1], (l->n - i - 1u) * sizeof *slots);
    l->n--;
}

/* Make room for a history pointer behind the version of slot i: everything below it moves down. */
static void add_pointer_room(struct leaf *l, uint32_t i)
{
    struct slot *slots = leaf_slots(l);
    uint16_t tail = slots[i].tail;
    uint8_t *start = (uint8_t *)l + l->cap - l->heap;
    uint8_t *behind = leaf_payload(l, &slots[i]) + VERSION_BYTES;
    memmove(start - POINTER_BYTES, start, (size_t)(behind - start));
    for (uint32_t k = 0; k < l->n; k++) {
        slots[k].tail = (uint16_t)(slots[k].tail + (slots[k].tail >= tail ? POINTER_BYTES : 0));
    }
    l->heap = (uint16_t)(l->heap + POINTER_BYTES);
    slots[i].bits |= SLOT_ROOM;
}

bool leaf_set_payload(struct leaf *l, uint32_t i, uint16_t flags, const uint8_t *payload)
{
    struct slot *s = &leaf_slots(l)[i];
    if ((flags & SLOT_ROOM) != 0 && (s->bits & SLOT_ROOM) == 0) {
        if (leaf_room(l) < POINTER_BYTES) {
            return false;
        }
        add_pointer_room(l, i);
    }
    uint16_t old = s->bits;
    uint16_t bits = (uint16_t)((old & (SLOT_LEN_MASK | SLOT_LONG | SLOT_ROOM)) | flags);
    memcpy(leaf_payload(l, s), payload, payload_bytes(bits));
    s->bits = bits;
    l->live = (uint16_t)(l->live + ((bits & SLOT_TOMB) == 0) - ((old & SLOT_TOMB) == 0));
    l->marked = (uint16_t)(l->marked + slot_marked(bits) - slot_marked(old));
    return true;
}

/* --- versions --------------------------------------------------------------------------------- */

uint16_t payload_pack(struct index *x, const struct key_version *v, struct history *h,
                      uint8_t *payload)
{
    ASSERT(v->mod.sub >= 0 && v->mod.sub <= INDEX_SUB_MAX);
    struct packed p = {.main = v->mod.main, .sub = (uint32_t)v->mod.sub};
    uint16_t flags = v->tombstone ? SLOT_TOMB : 0;
    if (!v->tombstone) {
        p.kv_bytes = v->kv_bytes;
        uint64_t before = (uint64_t)v->mod.main - (uint64_t)v->create_revision;
        if (before <= UINT32_MAX && v->version >= 0 && v->version <= UINT32_MAX) {
            p.u.narrow.created_before = (uint32_t)before;
            p.u.narrow.version = (uint32_t)v->version;
        } else {
            p.u.wide = take(x, sizeof *p.u.wide);
            *p.u.wide = (struct wide){v->create_revision, v->version};
            flags |= SLOT_WIDE;
        }
    }
    memcpy(payload, &p, sizeof p);
    memcpy(payload + VERSION_BYTES, &h, POINTER_BYTES);
    if (h != NULL) {
        flags |= SLOT_HIST | SLOT_ROOM;
    }
    return flags;
}

void payload_free_wide(struct index *x, uint16_t bits, const uint8_t *payload)
{
    if ((bits & SLOT_WIDE) != 0) {
        give(x, payload_wide(payload), sizeof(struct wide));
    }
}

/* --- the side table --------------------------------------------------------------------------- */

static size_t history_bytes(uint32_t cap)
{
    return sizeof(struct history) + cap * sizeof(struct old_version);
}

static struct history *history_resize(struct index *x, struct history *h, uint32_t cap)
{
    x->bytes += history_bytes(cap);
    x->bytes -= h == NULL ? 0 : history_bytes(h->cap);
    bool fresh = h == NULL;
    h = xrealloc(h, history_bytes(cap));
    h->cap = cap;
    if (fresh) {
        h->n = 0;
    }
    return h;
}

struct history *history_push(struct index *x, struct history *h, const struct key_version *v)
{
    if (h == NULL || h->n == h->cap) {
        ASSERT(h == NULL || h->cap <= UINT32_MAX / 2);
        h = history_resize(x, h, h == NULL ? 1 : 2 * h->cap);
    }
    h->v[h->n++] = (struct old_version){
        .main = v->mod.main,
        .create_revision = v->create_revision,
        .version = v->version,
        .sub = (uint32_t)v->mod.sub,
        .kv_bytes = v->tombstone ? OLD_TOMBSTONE : v->kv_bytes,
    };
    x->old_versions++;
    return h;
}

void history_free(struct index *x, struct history *h)
{
    x->old_versions -= h->n;
    give(x, h, history_bytes(h->cap));
}

struct history *history_trim(struct index *x, struct history *h, uint32_t n_drop)
{
    if (n_drop == h->n) {
        history_free(x, h);
        return NULL;
    }
    memmove(&h->v[0], &h->v[n_drop], (h->n - n_drop) * sizeof h->v[0]);
    h->n -= n_drop;
    x->old_versions -= n_drop;
    return h->n <= h->cap / 4 ? history_resize(x, h, h->n) : h;
}

uint32_t history_until(const struct history *h, int64_t at)
{
    uint32_t lo = 0;
    uint32_t hi = h->n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (h->v[mid].main <= at) {
            lo = mid + 1;
        } else {
            hi = mid;
        }
    }
    return lo;
}

void history_version(const struct history *h, uint32_t i, struct key_version *out)
{
    const struct old_version *v = &h->v[i];
    *out = (struct key_version){
        .mod = {v->main, v->sub},
        .create_revision = v->create_revision,
        .version = v->version,
        .kv_bytes = v->kv_bytes == OLD_TOMBSTONE ? 0 : v->kv_bytes,
        .tombstone = v->kv_bytes == OLD_TOMBSTONE,
    };
}

bool leaf_old_version_at(const struct leaf *l, const struct slot *s, int64_t at,
                         struct key_version *out)
{
    const struct history *h = payload_history(leaf_payload(l, s));
    uint32_t n = history_until(h, at);
    if (n == 0) {
        return false;
    }
    history_version(h, n - 1, out);
    return true;
}
