/* check_search.c - is there an order of a key's operations that one register could have produced?
 *
 * Invocations and returns stand in one list by time. The search walks it: at an invocation it tries
 * to let the operation take effect now, which the register's state must allow; at a return of an
 * operation that has not yet taken effect it goes back to the last choice. A set of operations done
 * together with a state that was reached before is not entered again.
 *
 * Without an answer an operation may never have happened. A write that was seen did happen, before
 * the first sight of it returned. One that nobody saw can be left out without changing anybody's
 * result, unless there are deletions, whose answers tell present from absent and nothing more: then
 * it stays as an optional step, and so do deletions without an answer. Optional steps never return.
 */
#include "tests/cluster/check.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define NEVER UINT64_MAX

enum step_kind {
    STEP_WRITE,
    STEP_READ,    /* the state is `want` */
    STEP_SWAP,    /* the state is `want` and becomes `value` */
    STEP_REFUSED, /* the state is `value`, which is not `want` */
    STEP_DELETE,  /* there is a state, and it goes */
};

struct step {
    enum step_kind kind;
    uint64_t want;
    uint64_t value;
    uint64_t invoke_ns;
    uint64_t return_ns; /* NEVER: optional, at any time after its invocation */
};

/* A place in the list: an invocation has `match`, its return. */
struct node {
    struct node *next, *prev;
    struct node *match;
    size_t step;
    uint64_t at_ns;
};

struct visited {
    uint64_t *words; /* `width` words of done steps, then the state; owned */
    size_t *slots;   /* open addressing: position + 1 in words; owned */
    size_t n, cap, width;
};

struct search {
    struct step *steps;
    size_t n;
    struct node *nodes; /* head, then two for each step */
    uint64_t *done;     /* a bit for each step */
    struct visited visited;
};

/* ---- visited states ---- */

static uint64_t hash_words(const uint64_t *words, size_t n)
{
    uint64_t h = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i++) {
        h = (h ^ words[i]) * 0xbf58476d1ce4e5b9u;
        h ^= h >> 29;
    }
    return h;
}

static size_t find_slot(const struct visited *v, const uint64_t *entry)
{
    size_t at = hash_words(entry, v->width + 1) & (v->cap - 1);
    while (v->slots[at] != 0 && memcmp(v->words + (v->slots[at] - 1) * (v->width + 1), entry,
                                       (v->width + 1) * sizeof(uint64_t)) != 0) {
        at = (at + 1) & (v->cap - 1);
    }
    return at;
}

/* Remember (done, state); false when it is known already. */
static bool visit(struct visited *v, const uint64_t *done, uint64_t state)
{
    size_t entry = v->width + 1;
    if (v->n * 2 >= v->cap) {
        v->cap = v->cap == 0 ? 1024 : v->cap * 2;
        v->words = xrealloc(v->words, (v->cap / 2 + 1) * entry * sizeof(uint64_t));
        free(v->slots);
        v->slots = xcalloc(v->cap, sizeof(*v->slots));
        for (size_t i = 0; i < v->n; i++) {
            v->slots[find_slot(v, v->words + i * entry)] = i + 1;
        }
    }
    uint64_t *words = v->words + v->n * entry;
    memcpy(words, done, v->width * sizeof(uint64_t));
    words[v->width] = state;
    size_t slot = find_slot(v, words);
    if (v->slots[slot] != 0) {
        return false;
    }
    v->slots[slot] = ++v->n;
    return true;
}

/* ---- the search ---- */

static void unlink_node(struct node *n)
{
    n->prev->next = n->next;
    if (n->next != NULL) {
        n->next->prev = n->prev;
    }
}

static void relink_node(struct node *n)
{
    n->prev->next = n;
    if (n->next != NULL) {
        n->next->prev = n;
    }
}

static bool apply(const struct step *s, uint64_t *state)
{
    switch (s->kind) {
    case STEP_WRITE:
        *state = s->value;
        return true;
    case STEP_READ:
        return *state == s->want;
    case STEP_SWAP:
        if (*state != s->want) {
            return false;
        }
        *state = s->value;
        return true;
    case STEP_REFUSED:
        return *state == s->value && *state != s->want;
    case STEP_DELETE:
        if (*state == 0) {
            return false;
        }
        *state = 0;
        return true;
    }
    return false;
}

struct choice {
    struct node *node;
    uint64_t state; /* before it */
};

static void set_done(struct search *s, size_t step, bool on)
{
    uint64_t bit = (uint64_t)1 << (step % 64);
    s->done[step / 64] = on ? s->done[step / 64] | bit : s->done[step / 64] & ~bit;
}

/* Every return has a time, except of optional steps, which have no return in the list: the search
 * is over when no return is left. `*gave_up`: the bound was reached. */
static bool search_run(struct search *s, bool *gave_up)
{
    struct choice *stack = xcalloc(s->n + 1, sizeof(*stack));
    size_t depth = 0;
    size_t returns = 0;
    for (size_t i = 0; i < s->n; i++) {
        returns += s->steps[i].return_ns != NEVER;
    }
    uint64_t state = 0;
    struct node *at = s->nodes[0].next;
    bool found = true;
    while (returns > 0) {
        const struct step *step = &s->steps[at->step];
        bool invocation = at->at_ns == step->invoke_ns && at == &s->nodes[1 + 2 * at->step];
        if (invocation) {
            uint64_t after = state;
            bool moved = apply(step, &after);
            if (moved) {
                set_done(s, at->step, true);
                moved = visit(&s->visited, s->done, after);
                set_done(s, at->step, moved);
            }
            if (!moved) {
                at = at->next;
                ASSERT(at != NULL); /* a return is left, and the search goes back there */
                continue;
            }
            stack[depth++] = (struct choice){at, state};
            state = after;
            unlink_node(at);
            if (at->match != NULL) {
                unlink_node(at->match);
                returns--;
            }
            at = s->nodes[0].next;
            continue;
        }
        if (depth == 0 || s->visited.n > SEARCH_STATES_MAX) {
            *gave_up = depth > 0;
            found = false;
            break;
        }
        struct choice last = stack[--depth];
        state = last.state;
        set_done(s, last.node->step, false);
        if (last.node->match != NULL) {
            relink_node(last.node->match);
            returns++;
        }
        relink_node(last.node);
        at = last.node->next;
    }
    free(stack);
    return found;
}

static int by_moment(const void *a, const void *b)
{
    const struct node *x = *(struct node *const *)a;
    const struct node *y = *(struct node *const *)b;
    if (x->at_ns != y->at_ns) {
        return x->at_ns < y->at_ns ? -1 : 1;
    }
    /* At one moment, invocations first. */
    return (int)(y->match != NULL) - (int)(x->match != NULL);
}

static bool search_steps(struct step *steps, size_t n, bool *gave_up)
{
    struct search s = {.steps = steps, .n = n};
    s.nodes = xcalloc(2 * n + 1, sizeof(*s.nodes));
    s.visited.width = n / 64 + 1;
    s.done = xcalloc(s.visited.width, sizeof(uint64_t));
    struct node **order = xcalloc(2 * n + 1, sizeof(struct node *));
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        struct node *begin = &s.nodes[1 + 2 * i];
        *begin = (struct node){.step = i, .at_ns = steps[i].invoke_ns};
        order[m++] = begin;
        if (steps[i].return_ns != NEVER) {
            begin->match = begin + 1;
            *begin->match = (struct node){.step = i, .at_ns = steps[i].return_ns};
            order[m++] = begin->match;
        }
    }
    qsort(order, m, sizeof(struct node *), by_moment);
    struct node *last = &s.nodes[0];
    for (size_t i = 0; i < m; i++) {
        last->next = order[i];
        order[i]->prev = last;
        last = order[i];
    }
    bool found = search_run(&s, gave_up);
    free(order);
    free(s.nodes);
    free(s.done);
    free(s.visited.words);
    free(s.visited.slots);
    return found;
}

/* ---- from operations to steps ---- */

/* The value that stands at mod revision `mod`; 0 for absent, NEVER for one that nobody knows. */
static uint64_t value_of(const struct key_log *log, uint32_t key, int64_t mod)
{
    if (mod == 0) {
        return 0;
    }
    const struct log_entry *e = log_at(log, key, mod);
    return e != NULL && e->rev == mod && e->value != 0 ? e->value : NEVER;
}

/* Whether the operation shows that `value` had been written to `key`. */
static bool shows(const struct op *o, const struct key_log *log, uint32_t key, uint64_t value)
{
    if (o->result != RESULT_OK || o->key != key) {
        return false;
    }
    if (o->kind == OP_CAS && o->done) {
        return value_of(log, key, o->expect) == value;
    }
    return o->seen_value == value;
}

/* When an unanswered write had happened for certain; NEVER when nobody saw it. */
static uint64_t first_sight(const struct history *h, const struct key_log *log, const struct op *o,
                            uint32_t key)
{
    uint64_t first = NEVER;
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *other = &h->ops[i];
        if (other->return_ns < first && shows(other, log, key, o->value)) {
            first = other->return_ns;
        }
    }
    return first;
}

static bool key_has_deletions(const struct history *h, uint32_t key)
{
    for (size_t i = 0; i < h->n_ops; i++) {
        if (h->ops[i].kind == OP_DELETE && h->ops[i].key == key) {
            return true;
        }
    }
    return false;
}

/* A write that no read showed is in the log when a watcher saw it. One that no watcher saw either
 * left no trace at all: it is taken for one that did not happen. */
static bool in_log(const struct key_log *log, const struct op *o, uint32_t key)
{
    for (size_t i = 0; i < log->n; i++) {
        if (log->entries[i].op == o && log->entries[i].key == key) {
            return true;
        }
    }
    return false;
}

/* The step of operation `o` at `key`; false when it says nothing. */
static bool make_step(const struct history *h, const struct key_log *log, const struct op *o,
                      uint32_t key, struct step *out)
{
    *out = (struct step){.invoke_ns = o->invoke_ns, .return_ns = o->return_ns, .value = o->value};
    bool unknown = o->result == RESULT_UNKNOWN;
    switch (o->kind) {
    case OP_READ:
        out->kind = STEP_READ;
        out->want = o->seen_value;
        return !unknown;
    case OP_STALE:
        return false; /* it may be old: no step of the register */
    case OP_PUT:
    case OP_PAIR:
        out->kind = STEP_WRITE;
        break;
    case OP_CAS:
        out->kind = o->done || unknown ? STEP_SWAP : STEP_REFUSED;
        out->want = value_of(log, key, o->expect);
        if (out->kind == STEP_REFUSED) {
            out->value = o->seen_value;
        }
        break;
    case OP_DELETE:
        out->kind = unknown ? STEP_WRITE : o->done ? STEP_DELETE : STEP_READ;
        out->value = 0;
        out->return_ns = unknown ? NEVER : o->return_ns;
        return true;
    }
    if (unknown) {
        out->return_ns = first_sight(h, log, o, key);
        if (out->return_ns == NEVER) {
            return key_has_deletions(h, key) && in_log(log, o, key);
        }
        /* Seen before it began: the step is left out, and whoever saw it finds no order. */
        return out->return_ns >= out->invoke_ns;
    }
    return true;
}

static void search_key(const struct history *h, const struct key_log *log, uint32_t key,
                       struct check_report *report)
{
    struct step *steps = xcalloc(h->n_ops + 1, sizeof(*steps));
    size_t n = 0;
    for (size_t i = 0; i < h->n_ops; i++) {
        const struct op *o = &h->ops[i];
        bool here = o->key == key || (o->kind == OP_PAIR && o->key2 == key);
        if (here && o->result != RESULT_FAILED && make_step(h, log, o, key, &steps[n])) {
            n++;
        }
    }
    bool gave_up = false;
    if (!search_steps(steps, n, &gave_up)) {
        if (gave_up) {
            report->n_undecided++;
        } else {
            check_violated(report, NO_ORDER, "key %" PRIu32 " (%zu operations)", key, n);
        }
    }
    free(steps);
}

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a;
    uint32_t y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

void check_search(const struct history *h, const struct key_log *log, struct check_report *report)
{
    uint32_t *keys = xcalloc(h->n_ops * 2 + 1, sizeof(*keys));
    size_t n = 0;
    for (size_t i = 0; i < h->n_ops; i++) {
        keys[n++] = h->ops[i].key;
        if (h->ops[i].kind == OP_PAIR) {
            keys[n++] = h->ops[i].key2;
        }
    }
    qsort(keys, n, sizeof(*keys), by_number);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || keys[i] != keys[i - 1]) {
            search_key(h, log, keys[i], report);
        }
    }
    free(keys);
}
