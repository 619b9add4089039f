/* auth_token_simple.c - a hash table with chains, and a list from the one used longest ago to the
 * latest. */
#include "api/etcd/auth_token_simple.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

#define BUCKETS_FIRST 64u

struct token {
    struct token *chain;
    struct token *older;
    struct token *newer;
    uint64_t hash;
    uint64_t expires_ms;
    char *user; /* owned */
    size_t len;
    char text[];
};

struct simple_tokens {
    uint64_t ttl_ms;
    struct token **buckets; /* owned; n_buckets is a power of two */
    size_t n_buckets;
    size_t n;
    struct token *oldest;
    struct token *newest;
};

struct simple_tokens *simple_tokens_create(uint64_t ttl_ms)
{
    struct simple_tokens *t = xcalloc(1, sizeof(*t));
    t->ttl_ms = ttl_ms;
    t->n_buckets = BUCKETS_FIRST;
    t->buckets = xcalloc(t->n_buckets, sizeof(struct token *));
    return t;
}

void simple_tokens_destroy(struct simple_tokens **tp)
{
    if (*tp == NULL) {
        return;
    }
    simple_tokens_clear(*tp);
    free((*tp)->buckets);
    free(*tp);
    *tp = NULL;
}

void simple_token_letters(const uint8_t random[SIMPLE_TOKEN_RANDOM_BYTES],
                          char out[SIMPLE_TOKEN_LETTERS + 1])
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    for (size_t i = 0; i < SIMPLE_TOKEN_LETTERS; i++) {
        uint32_t v; /* 32 bits a letter: no letter is noticeably likelier than another */
        memcpy(&v, random + 4 * i, sizeof(v));
        out[i] = letters[v % (sizeof(letters) - 1)];
    }
    out[SIMPLE_TOKEN_LETTERS] = 0;
}

bool simple_token_index(struct slice token, uint64_t *index)
{
    size_t i = 0;
    uint64_t v = 0;
    while (i < token.len && token.data[i] != '.') {
        i++;
    }
    if (i + 1 >= token.len) {
        return false;
    }
    for (i++; i < token.len; i++) {
        uint8_t c = token.data[i];
        if (c < '0' || c > '9' || __builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(c - '0'), &v)) {
            return false;
        }
    }
    *index = v;
    return true;
}

/* --- table and list
 * ---------------------------------------------------------------------------- */

static struct token **place_of(const struct simple_tokens *t, uint64_t hash, struct slice text)
{
    struct token **at = &t->buckets[hash & (t->n_buckets - 1)];
    while (*at != NULL &&
           !((*at)->hash == hash && slice_eq(slice_of((*at)->text, (*at)->len), text))) {
        at = &(*at)->chain;
    }
    return at;
}

static void unlink_token(struct simple_tokens *t, struct token *k)
{
    *(k->older == NULL ? &t->oldest : &k->older->newer) = k->newer;
    *(k->newer == NULL ? &t->newest : &k->newer->older) = k->older;
}

static void link_newest(struct simple_tokens *t, struct token *k)
{
    k->older = t->newest;
    k->newer = NULL;
    *(t->newest == NULL ? &t->oldest : &t->newest->newer) = k;
    t->newest = k;
}

static void drop(struct simple_tokens *t, struct token *k)
{
    struct token **at = place_of(t, k->hash, slice_of(k->text, k->len));
    ASSERT(*at == k);
    *at = k->chain;
    unlink_token(t, k);
    t->n--;
    free(k->user);
    free(k);
}

static void expire(struct simple_tokens *t, uint64_t now_ms)
{
    while (t->oldest != NULL && now_ms > t->oldest->expires_ms) {
        drop(t, t->oldest);
    }
}

static void grow(struct simple_tokens *t)
{
    struct token **old = t->buckets;
    t->n_buckets *= 2;
    t->buckets = xcalloc(t->n_buckets, sizeof(struct token *));
    for (struct token *k = t->oldest; k != NULL; k = k->newer) {
        struct token **head = &t->buckets[k->hash & (t->n_buckets - 1)];
        k->chain = *head;
        *head = k;
    }
    free(old);
}

void simple_tokens_add(struct simple_tokens *t, const char *token, const char *user,
                       uint64_t now_ms)
{
    size_t len = strlen(token);
    uint64_t hash = hash64(token, len);
    expire(t, now_ms);
    struct token **at = place_of(t, hash, slice_of(token, len));
    if (*at != NULL) {
        drop(t, *at);
    }
    if (t->n >= SIMPLE_TOKENS_MAX) {
        drop(t, t->oldest);
    }
    if (t->n >= t->n_buckets) {
        grow(t);
    }
    struct token *k = xcalloc(1, sizeof(*k) + len);
    struct token **head = &t->buckets[hash & (t->n_buckets - 1)];
    k->hash = hash;
    k->len = len;
    memcpy(k->text, token, len);
    k->user = xstrdup(user);
    k->expires_ms = now_ms + t->ttl_ms;
    k->chain = *head;
    *head = k;
    link_newest(t, k);
    t->n++;
}

const char *simple_tokens_use(struct simple_tokens *t, struct slice token, uint64_t now_ms)
{
    expire(t, now_ms);
    struct token *k = *place_of(t, hash64(token.data, token.len), token);
    if (k == NULL) {
        return NULL;
    }
    unlink_token(t, k);
    link_newest(t, k);
    k->expires_ms = now_ms + t->ttl_ms;
    return k->user;
}

void simple_tokens_drop_user(struct simple_tokens *t, const char *user)
{
    struct token *k = t->oldest;
    while (k != NULL) {
        struct token *newer = k->newer;
        if (strcmp(k->user, user) == 0) {
            drop(t, k);
        }
        k = newer;
    }
}

void simple_tokens_clear(struct simple_tokens *t)
{
    while (t->oldest != NULL) {
        drop(t, t->oldest);
    }
}

size_t simple_tokens_count(const struct simple_tokens *t)
{
    return t->n;
}
