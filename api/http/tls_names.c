/* tls_names.c - see tls_names.h. */
#include "api/http/tls_names.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/assert.h"
#include "base/mem.h"

struct tls_ask {
    uv_work_t work;
    unsigned *n_running;
    char address[TLS_ADDRESS_BYTES];
    struct tls_sans sans;
    void (*answered)(void *owner, bool right, const char *reason);
    void *owner; /* NULL: forgotten */
    bool right;
    char why[128];
};

/* The address's own name. */
static bool reverse(struct tls_ask *a)
{
    const struct addrinfo numeric = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM};
    struct addrinfo *at = NULL;
    char host[NI_MAXHOST] = "";
    bool right = false;
    if (getaddrinfo(a->address, NULL, &numeric, &at) != 0) {
        return false;
    }
    if (getnameinfo(at->ai_addr, at->ai_addrlen, host, sizeof(host), NULL, 0, NI_NAMEREQD) == 0) {
        right = tls_names_cover(a->sans.names, host);
    }
    freeaddrinfo(at);
    return right;
}

static bool resolves_to(struct tls_ask *a, const char *name)
{
    const struct addrinfo stream = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    int rc = getaddrinfo(name, NULL, &stream, &list);
    if (rc != 0) {
        (void)snprintf(a->why, sizeof(a->why), "lookup %.80s: %s", name, gai_strerror(rc));
        return false;
    }
    bool right = false;
    for (const struct addrinfo *i = list; i != NULL && !right; i = i->ai_next) {
        char text[NI_MAXHOST] = "";
        right = getnameinfo(i->ai_addr, i->ai_addrlen, text, sizeof(text), NULL, 0, NI_NUMERICHOST) == 0 && strcmp(text, a->address) == 0;
    }
    freeaddrinfo(list);
    return right;
}

static void on_pool(uv_work_t *w)
{
    struct tls_ask *a = w->data;
    a->right = reverse(a);
    for (size_t i = 0; a->sans.names[i] != NULL && !a->right; i++) {
        if (a->sans.names[i][0] != '*') {
            a->right = resolves_to(a, a->sans.names[i]);
        }
    }
}

static void on_loop(uv_work_t *w, int status)
{
    struct tls_ask *a = w->data;
    (*a->n_running)--;
    if (a->owner != NULL) {
        char reason[TLS_REASON_BYTES];
        tls_place_reason(&a->sans, a->address, a->why, reason);
        a->answered(a->owner, status == 0 && a->right, reason);
    }
    tls_sans_deinit(&a->sans);
    free(a);
}

struct tls_ask *tls_ask_start(struct loop *l, unsigned *n_running, const char *address, struct tls_sans *sans,
                              void (*answered)(void *owner, bool right, const char *reason), void *owner)
{
    struct tls_ask *a = xcalloc(1, sizeof(*a));
    a->work.data = a;
    a->n_running = n_running;
    (void)snprintf(a->address, sizeof(a->address), "%s", address);
    a->sans = *sans;
    memset(sans, 0, sizeof(*sans));
    a->answered = answered;
    a->owner = owner;
    (*n_running)++;
    ASSERT(uv_queue_work(loop_uv(l), &a->work, on_pool, on_loop) == 0);
    return a;
}

void tls_ask_forget(struct tls_ask *a)
{
    a->owner = NULL;
}
