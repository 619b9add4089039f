/* kv.c - a client that reads, writes and compares. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"
#include "tests/cluster/workload/workload.h"

void op_list_add(struct op_list *l, const struct op *o)
{
    if (l->n == l->cap) {
        l->cap = l->cap == 0 ? 1024 : l->cap * 2;
        l->ops = xrealloc(l->ops, l->cap * sizeof(*l->ops));
    }
    l->ops[l->n++] = *o;
}

void kv_init(struct kv_client *c, const struct shared *shared, uint32_t number)
{
    *c = (struct kv_client){.number = number};
    session_init(&c->session, shared, number, false, shared->seed * 1000003u + number);
}

void kv_deinit(struct kv_client *c)
{
    session_deinit(&c->session);
    free(c->ops.ops);
}

static const char *encode(struct kv_client *c, struct op *o, struct bytes *b)
{
    unsigned value_bytes = c->session.shared->value_bytes;
    switch (o->kind) {
    case OP_PUT:
        encode_put(b, o->key, o->value, value_bytes, 0);
        return "/etcdserverpb.KV/Put";
    case OP_PAIR:
        encode_pair(b, o->key, o->key2, o->value, value_bytes);
        return "/etcdserverpb.KV/Txn";
    case OP_CAS:
        o->expect = o->key < KEYS_MAX ? c->mods[o->key] : 0;
        encode_cas(b, o->key, o->expect, o->value, value_bytes);
        return "/etcdserverpb.KV/Txn";
    case OP_DELETE:
        encode_delete(b, o->key);
        return "/etcdserverpb.KV/DeleteRange";
    case OP_READ:
    case OP_STALE:
        encode_range(b, o->key, o->kind == OP_STALE);
        return "/etcdserverpb.KV/Range";
    }
    return NULL;
}

static void answered(struct kv_client *c, struct op *o, struct slice message)
{
    struct reply r;
    decode_reply(message, &r);
    o->result = RESULT_OK;
    o->rev = r.rev;
    bool reads = o->kind == OP_READ || o->kind == OP_STALE;
    o->done = o->kind == OP_CAS ? r.succeeded : o->kind == OP_DELETE && r.deleted > 0;
    if (reads || (o->kind == OP_CAS && !o->done)) {
        o->seen_mod = r.mod;
        o->seen_value = r.value;
    }
    if (o->key < KEYS_MAX) {
        c->mods[o->key] = reads || (o->kind == OP_CAS && !o->done) ? r.mod
                          : o->kind == OP_DELETE                   ? 0
                                                                   : r.rev;
    }
}

/* One attempt, recorded: each has a value of its own, so that what became of it can be told. */
static enum outcome attempt(struct kv_client *c, enum op_kind kind, uint32_t key, uint32_t key2,
                            int64_t *rev)
{
    struct op o = {.kind = kind, .client = c->number, .key = key, .key2 = key2};
    bool writes = kind != OP_READ && kind != OP_STALE;
    if (writes && kind != OP_DELETE) {
        o.value = (c->number + 1) * VALUES_PER_CLIENT + ++c->values;
    }
    struct bytes request = {0};
    struct bytes reply = {0};
    const char *path = encode(c, &o, &request);
    o.invoke_ns = now_ns();
    enum outcome result = session_call(&c->session, path, bytes_slice(&request), &reply);
    o.return_ns = now_ns();
    if (result == ANSWERED) {
        answered(c, &o, bytes_slice(&reply));
        *rev = o.rev;
    } else {
        o.result = result == UNKNOWN ? RESULT_UNKNOWN : RESULT_FAILED;
    }
    if (result == UNKNOWN && writes && c->n_unknown++ == 0) {
        (void)snprintf(c->first_unknown, sizeof(c->first_unknown), "%s", c->session.last_error);
    }
    if (result == ANSWERED || (writes && result != NOT_SENT)) {
        op_list_add(&c->ops, &o);
    }
    bytes_deinit(&request);
    bytes_deinit(&reply);
    return result;
}

bool kv_request(struct kv_client *c, enum op_kind kind, uint32_t key, uint32_t key2,
                uint64_t limit_ms, int64_t *rev)
{
    uint64_t begin = now_ns();
    enum outcome result;
    c->n_requests++;
    for (;;) {
        result = attempt(c, kind, key, key2, rev);
        if (result == ANSWERED || result == REFUSED || now_ns() - begin > limit_ms * 1000000u) {
            break;
        }
        sleep_ns(PAUSE_MS * 1000000u);
    }
    uint64_t took = now_ns() - begin;
    c->worst_ns = took > c->worst_ns ? took : c->worst_ns;
    if (result == ANSWERED) {
        c->n_ok++;
        return true;
    }
    if (c->n_failed++ == 0) {
        (void)snprintf(c->first_failure, sizeof(c->first_failure), "%s", c->session.last_error);
    }
    return false;
}

static enum op_kind pick(uint64_t random)
{
    static const struct {
        unsigned below;
        enum op_kind kind;
    } mix[] = {{40, OP_PUT},    {48, OP_PAIR}, {63, OP_CAS},
               {67, OP_DELETE}, {92, OP_READ}, {100, OP_STALE}};
    unsigned n = (unsigned)(random % 100);
    size_t i = 0;
    while (n >= mix[i].below) {
        i++;
    }
    return mix[i].kind;
}

void *kv_main(void *arg)
{
    struct kv_client *c = arg;
    const struct shared *shared = c->session.shared;
    uint64_t period = 1000000000u * (uint64_t)shared->n_clients / shared->rate;
    uint64_t due = now_ns() + next_random(&c->session.random) % period;
    int64_t rev;
    while (!atomic_load(&shared->stop)) {
        uint64_t now = now_ns();
        if (now < due) {
            uint64_t left = due - now;
            sleep_ns(left < 50000000u ? left : 50000000u); /* to see `stop` soon */
            continue;
        }
        due = (now > due + period * 4 ? now : due) + period; /* what was missed is not made up */
        uint64_t r = next_random(&c->session.random);
        uint32_t key = (uint32_t)(r >> 8) % shared->n_keys;
        uint32_t key2 = (key + 1 + (uint32_t)(r >> 40) % (shared->n_keys - 1)) % shared->n_keys;
        if ((r >> 60) == 0) {
            session_drop(&c->session); /* now and then elsewhere, without need */
        }
        (void)kv_request(c, pick(r), key, key2, REQUEST_MS, &rev);
    }
    return NULL;
}

void reader_init(struct kv_client *c, const struct shared *shared, uint32_t endpoint)
{
    *c = (struct kv_client){.number = READERS_FROM + endpoint};
    session_init(&c->session, shared, endpoint, true, shared->seed * 7919u + endpoint);
    c->session.call_ms = READER_CALL_MS;
}

void *reader_main(void *arg)
{
    struct kv_client *c = arg;
    const struct shared *shared = c->session.shared;
    int64_t rev;
    while (!atomic_load(&shared->stop)) {
        uint64_t r = next_random(&c->session.random);
        enum op_kind kind = r % 4 == 0 ? OP_STALE : OP_READ;
        (void)attempt(c, kind, (uint32_t)(r >> 8) % shared->n_keys, 0, &rev);
        sleep_ns(READER_PERIOD_NS);
    }
    return NULL;
}
