/* txn_compare.c - the conditions of a txn (etcd-v3-api.md 3.6.4). */
#include "engine/txn.h"

/* The fields of one KeyValue that compares look at; all zero for a key that is not there. */
struct subject {
    int64_t version;
    int64_t create_revision;
    int64_t mod_revision;
    int64_t lease;
    struct slice value;
};

static int compare_numbers(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

/* An operand of another kind than the target counts as 0 or empty. */
static int compare_to_operand(const Etcdserverpb__Compare *c, const struct subject *s)
{
    int set = (int)c->target_union_case;
    switch ((int)c->target) {
    case ETCDSERVERPB__COMPARE__COMPARE_TARGET__VERSION:
        return compare_numbers(s->version,
                               set == ETCDSERVERPB__COMPARE__TARGET_UNION_VERSION ? c->version : 0);
    case ETCDSERVERPB__COMPARE__COMPARE_TARGET__CREATE:
        return compare_numbers(
            s->create_revision,
            set == ETCDSERVERPB__COMPARE__TARGET_UNION_CREATE_REVISION ? c->create_revision : 0);
    case ETCDSERVERPB__COMPARE__COMPARE_TARGET__MOD:
        return compare_numbers(
            s->mod_revision,
            set == ETCDSERVERPB__COMPARE__TARGET_UNION_MOD_REVISION ? c->mod_revision : 0);
    case ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE:
        return compare_numbers(s->lease,
                               set == ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE ? c->lease : 0);
    case ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE:
        return slice_cmp(s->value, set == ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE
                                       ? slice_pb(c->value)
                                       : (struct slice){0});
    default: /* a target we do not know counts as equal, as in etcd */
        return 0;
    }
}

static bool holds_for(const Etcdserverpb__Compare *c, const struct subject *s)
{
    int order = compare_to_operand(c, s);
    switch ((int)c->result) {
    case ETCDSERVERPB__COMPARE__COMPARE_RESULT__EQUAL:
        return order == 0;
    case ETCDSERVERPB__COMPARE__COMPARE_RESULT__GREATER:
        return order > 0;
    case ETCDSERVERPB__COMPARE__COMPARE_RESULT__LESS:
        return order < 0;
    case ETCDSERVERPB__COMPARE__COMPARE_RESULT__NOT_EQUAL:
        return order != 0;
    default: /* a result we do not know holds, as in etcd */
        return true;
    }
}

static bool is_target(const Etcdserverpb__Compare *c, Etcdserverpb__Compare__CompareTarget target)
{
    return c->target == target;
}

/* Whether the record itself is needed; the index knows the rest. */
static bool needs_record(const Etcdserverpb__Compare *c)
{
    return is_target(c, ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE) ||
           is_target(c, ETCDSERVERPB__COMPARE__COMPARE_TARGET__LEASE);
}

/* The keys of one step. */
struct step {
    size_t n;
    bool ended;
    struct key_version versions[FETCH_MAX];
    struct fetch fetch;
};

/* The lock is held. */
static void gather(const struct view *v, const struct span *s, struct index_cursor *cursor,
                   struct step *st)
{
    st->n = 0;
    if (s->single) {
        st->ended = true;
        st->n = index_get(v->e->index, s->from, v->at, &st->versions[0]);
        return;
    }
    struct slice key;
    while (st->n < FETCH_MAX) {
        if (!index_cursor_next(cursor, &key, &st->versions[st->n])) {
            st->ended = true;
            return;
        }
        st->n++;
    }
}

static enum err read_step(const struct view *v, const Etcdserverpb__Compare *c,
                          const struct span *s, struct index_cursor *cursor, bool first,
                          struct step *st, struct err_ctx *ec)
{
    fetch_init(&st->fetch, v->e);
    st->n = 0;
    st->ended = false;
    lock_read(v->e);
    enum err err = view_valid(v);
    if (err != OK) {
        err = err_set(ec, err, "the state that was compared is gone");
    } else {
        if (!s->single && first) {
            index_cursor_init(cursor, v->e->index, s->from, s->to, v->at);
        } else if (!s->single) {
            index_cursor_resume(cursor);
        }
        gather(v, s, cursor, st);
        for (size_t i = 0; needs_record(c) && i < st->n; i++) {
            fetch_add(&st->fetch, st->versions[i].mod);
        }
        err = fetch_hold(&st->fetch, ec);
    }
    unlock(v->e);
    if (err == OK) {
        err = fetch_read(&st->fetch, ec);
    }
    if (err == ERR_NOT_FOUND) {
        err = view_valid(v) != OK ? view_valid(v) : ERR_CORRUPT;
    }
    return err;
}

static bool step_holds(const Etcdserverpb__Compare *c, const struct step *st)
{
    for (size_t i = 0; i < st->n; i++) {
        const struct key_version *k = &st->versions[i];
        struct subject s = {.version = k->version,
                            .create_revision = k->create_revision,
                            .mod_revision = k->mod.main};
        if (needs_record(c)) {
            struct kv_view kv;
            enum err err = kv_decode(st->fetch.kvs[i], &kv);
            ASSERT(err == OK); /* its checksum was right */
            s.lease = kv.lease;
            s.value = kv.value;
        }
        if (!holds_for(c, &s)) {
            return false;
        }
    }
    return true;
}

static enum err compare_one(const struct view *v, const Etcdserverpb__Compare *c, bool *holds,
                            struct err_ctx *ec)
{
    struct span s = span_of(c->key, c->range_end);
    struct index_cursor cursor = {0};
    struct step st;
    size_t n_keys = 0;
    bool first = true;
    enum err err = OK;
    *holds = true;
    st.ended = s.empty;
    while (err == OK && *holds && !st.ended) {
        err = read_step(v, c, &s, &cursor, first, &st, ec);
        first = false;
        if (err == OK) {
            *holds = step_holds(c, &st);
            n_keys += st.n;
        }
        fetch_release(&st.fetch);
    }
    if (!s.single && !first) {
        index_cursor_deinit(&cursor);
    }
    if (err == OK && n_keys == 0) {
        struct subject nothing = {0};
        *holds =
            !is_target(c, ETCDSERVERPB__COMPARE__COMPARE_TARGET__VALUE) && holds_for(c, &nothing);
    }
    return err;
}

enum err compare_all(const struct view *v, Etcdserverpb__Compare *const *c, size_t n, bool *holds,
                     struct err_ctx *ec)
{
    *holds = true;
    for (size_t i = 0; i < n && *holds; i++) {
        enum err err = compare_one(v, c[i], holds, ec);
        if (err != OK) {
            return err;
        }
    }
    return OK;
}
