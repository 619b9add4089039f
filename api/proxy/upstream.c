/* upstream.c - see upstream.h.
 *
 *   link:  IDLE ──► DIALLING ──► UP ──(broke, or the server says goodbye)──► IDLE, and again after a pause
 *   call:  waiting ──► on a link ──► ended            on a link ──(may be asked again)──► waiting
 *
 * Links are dialled whether or not somebody calls, so that a call does not wait for it. Clients are corked: what a turn of the loop queued goes
 * out at its end, in one write.
 */
#include "api/proxy/upstream.h"

#include <stdio.h>
#include <stdlib.h>
#include <uv.h>

#include "api/proxy/limits.h"
#include "base/assert.h"
#include "base/mem.h"

enum link_state { LINK_IDLE, LINK_DIALLING, LINK_UP };

struct up_link {
    struct upstream *up;
    struct up_link *next;
    char *endpoint; /* owned */
    enum link_state state;
    bool removed;    /* not in the list any more: no new calls, and gone with the last */
    bool complained; /* the log knows that it cannot be reached */
    struct client *client; /* owned; UP */
    struct up_call *calls;
    uv_poll_t *poll; /* owned, closed by libuv; UP */
    int events;
    struct loop_timer timer; /* to dial again, or to drive what could not wait */
    uint32_t pause_ms;
    /* Of the worker that dials. */
    uv_work_t work;
    struct client *dialled;
    enum err dial_result;
    struct err_ctx dial_error;
};

struct upstream {
    struct upstream_config cfg;
    struct up_link *links; /* in the order of the list */
    struct up_link *turn;  /* whose turn it is; NULL: the first's */
    struct up_call *waiting;
    struct up_call **waiting_last;
    size_t n_waiting;
    size_t held;
    struct loop_timer timer; /* for those that wait */
    struct loop_hook hook;
    char last_error[sizeof(((struct err_ctx *)0)->text)];
};

/* --- lists of calls ------------------------------------------------------------------------------------------ */

static void unlist(struct up_call *u)
{
    if (u->prev == NULL) {
        return;
    }
    struct upstream *up = u->up;
    if (u->waits) {
        u->waits = false;
        up->n_waiting--;
        if (u->next == NULL) {
            up->waiting_last = u->prev;
        }
    }
    *u->prev = u->next;
    if (u->next != NULL) {
        u->next->prev = u->prev;
    }
    u->next = NULL;
    u->prev = NULL;
}

static void list_first(struct up_call *u, struct up_call **head)
{
    u->next = *head;
    u->prev = head;
    if (u->next != NULL) {
        u->next->prev = &u->next;
    }
    *head = u;
}

/* Whoever is told may close any other of them. */
static void tell_all(struct up_call **head)
{
    while (*head != NULL) {
        struct up_call *u = *head;
        unlist(u);
        u->news(u);
    }
}

static void list_waiting(struct up_call *u)
{
    struct upstream *up = u->up;
    u->waits = true;
    u->next = NULL;
    u->prev = up->waiting_last;
    *up->waiting_last = u;
    up->waiting_last = &u->next;
    up->n_waiting++;
}

static void look_at_waiting(struct upstream *up, uint64_t at_ms)
{
    if (up->timer.heap_pos == 0 || at_ms < up->timer.at_ms) {
        loop_timer_set(up->cfg.loop, &up->timer, at_ms);
    }
}

/* --- the life of a call ------------------------------------------------------------------------------------------ */

static void end_here(struct up_call *u, uint32_t code, const char *text)
{
    u->ended = true;
    u->status.code = code;
    u->status.local = true;
    (void)snprintf(u->status.text, sizeof(u->status.text), "%s", text);
}

static void leave_link(struct up_call *u)
{
    unlist(u);
    client_stream_close(&u->stream);
}

static void wait_again(struct up_call *u, uint64_t pause_ms)
{
    struct upstream *up = u->up;
    uint64_t now = loop_now_ms(up->cfg.loop);
    u->not_before_ms = now + pause_ms;
    u->give_up_ms = now + PROXY_WAIT_MS;
    list_waiting(u);
    look_at_waiting(up, u->not_before_ms);
}

/* The call ended on its link without an answer: may it be tried anew? */
static bool try_anew(struct up_call *u)
{
    struct slice message;
    bool again = u->status.code == CLIENT_CODE_UNAVAILABLE && !u->stays_open && u->tries < PROXY_RETRIES_MAX &&
                 !client_stream_front(u->stream, &message) &&
                 (u->repeatable || client_stream_untouched(u->stream) || client_stream_unsent(u->stream) > 0);
    if (!again || u->up->n_waiting >= PROXY_WAITING_MAX) {
        return false;
    }
    /* One that was lost with its connection goes to another at once; one that was refused might be so again. */
    uint64_t pause = u->status.local ? 0 : PROXY_RETRY_MS;
    u->tries++;
    leave_link(u);
    wait_again(u, pause);
    return true;
}

static void on_stream_news(void *arg)
{
    struct up_call *u = arg;
    const struct client_status *status = client_stream_status(u->stream);
    if (status != NULL && !u->ended) {
        u->status = *status;
        if (try_anew(u)) {
            return;
        }
        u->ended = true;
    }
    u->news(u);
}

static struct up_link *pick(struct upstream *up)
{
    struct up_link *l = up->turn != NULL ? up->turn : up->links;
    struct up_link *first = l;
    if (l == NULL) {
        return NULL;
    }
    do {
        struct up_link *next = l->next != NULL ? l->next : up->links;
        if (l->state == LINK_UP && !l->removed && client_usable(l->client)) {
            up->turn = next;
            return l;
        }
        l = next;
    } while (l != first);
    return NULL;
}

static bool start_on(struct up_call *u, struct up_link *l)
{
    struct client_pair pairs[2];
    size_t n = 0;
    if (u->token.len > 0) {
        pairs[n++] = (struct client_pair){"token", bytes_slice(&u->token)};
    }
    if (u->has_leader) {
        pairs[n++] = (struct client_pair){"hasleader", slice_str("true")};
    }
    if (client_stream_open_with(l->client, u->path, pairs, n, &u->stream) != OK) {
        return false;
    }
    client_stream_on_news(u->stream, on_stream_news, u);
    if (client_stream_send(u->stream, bytes_slice(&u->request)) != OK ||
        (!u->stays_open && client_stream_half_close(u->stream) != OK)) {
        client_stream_close(&u->stream);
        return false;
    }
    list_first(u, &l->calls);
    return true;
}

/* Calls that wait: to a link if there is one, or to their end. */
static void serve_waiting(struct upstream *up)
{
    uint64_t now = loop_now_ms(up->cfg.loop);
    uint64_t next_ms = UINT64_MAX;
    struct up_call *over = NULL;
    size_t left = up->n_waiting; /* one that could not be begun waits again, behind all others */
    for (struct up_call *u = up->waiting, *after; left > 0; u = after, left--) {
        after = u->next;
        if (u->not_before_ms <= now) {
            struct up_link *l = pick(up);
            if (l != NULL) {
                unlist(u);
                if (start_on(u, l)) {
                    continue;
                }
                list_waiting(u);
            }
        }
        if (u->give_up_ms <= now) {
            unlist(u);
            end_here(u, CLIENT_CODE_UNAVAILABLE, up->last_error);
            list_first(u, &over);
            continue;
        }
        uint64_t at = u->not_before_ms > now ? u->not_before_ms : u->give_up_ms;
        next_ms = at < next_ms ? at : next_ms;
    }
    if (next_ms != UINT64_MAX) {
        loop_timer_set(up->cfg.loop, &up->timer, next_ms);
    }
    tell_all(&over);
}

static void on_waiting_timer(struct loop *loop, struct loop_timer *t)
{
    (void)loop;
    serve_waiting(CONTAINER_OF(t, struct upstream, timer));
}

/* --- links ---------------------------------------------------------------------------------------------------------- */

static void dial(struct up_link *l);

static void free_poll(uv_handle_t *h)
{
    free(h);
}

static void free_link(struct up_link *l)
{
    struct upstream *up = l->up;
    ASSERT(l->state == LINK_IDLE && l->calls == NULL);
    loop_timer_clear(up->cfg.loop, &l->timer);
    struct up_link **p = &up->links;
    while (*p != l) {
        p = &(*p)->next;
    }
    *p = l->next;
    if (up->turn == l) {
        up->turn = l->next;
    }
    free(l->endpoint);
    free(l);
}

/* What a link's calls have to know before its connection is gone; they hear of it when that is done. */
static void cut_calls(struct up_link *l, struct up_call **cut)
{
    struct slice unread;
    while (l->calls != NULL) {
        struct up_call *u = l->calls;
        if (!u->ended) {
            const struct client_status *status = client_stream_status(u->stream);
            end_here(u, CLIENT_CODE_UNAVAILABLE, "transport is closing");
            u->status = status != NULL ? *status : u->status;
            if (try_anew(u)) {
                u->ended = false;
                continue;
            }
        } else if (client_stream_front(u->stream, &unread)) {
            end_here(u, CLIENT_CODE_UNAVAILABLE, "transport is closing"); /* it ended well, but not all of it was taken */
        }
        leave_link(u);
        list_first(u, cut);
    }
}

static void go_down(struct up_link *l)
{
    struct upstream *up = l->up;
    uv_close((uv_handle_t *)l->poll, free_poll); /* stops it at once: the descriptor may be closed then */
    l->poll = NULL;
    struct up_call *cut = NULL;
    cut_calls(l, &cut);
    client_close(&l->client);
    l->state = LINK_IDLE;
    if (l->removed) {
        free_link(l);
    } else {
        loop_timer_set(up->cfg.loop, &l->timer, loop_now_ms(up->cfg.loop) + l->pause_ms);
    }
    tell_all(&cut);
}

static void drive(struct up_link *l)
{
    bool again = false;
    if (client_drive(l->client, &again) != OK) {
        log_warn(l->up->cfg.log, "lost the connection to an endpoint", F_STR("endpoint", l->endpoint));
        go_down(l);
    } else if (again) {
        loop_timer_set(l->up->cfg.loop, &l->timer, 0);
    } else if (l->up->cfg.look_ms > 0 && l->timer.heap_pos == 0) {
        loop_timer_set(l->up->cfg.loop, &l->timer, loop_now_ms(l->up->cfg.loop) + l->up->cfg.look_ms);
    }
}

static void on_poll(uv_poll_t *p, int status, int events)
{
    (void)status; /* an error on the socket is met again when it is read */
    (void)events;
    drive(p->data);
}

static void on_link_timer(struct loop *loop, struct loop_timer *t)
{
    (void)loop;
    struct up_link *l = CONTAINER_OF(t, struct up_link, timer);
    if (l->state == LINK_UP) {
        drive(l);
    } else if (l->state == LINK_IDLE) {
        dial(l);
    }
}

static void come_up(struct up_link *l)
{
    struct upstream *up = l->up;
    l->client = l->dialled;
    l->dialled = NULL;
    l->state = LINK_UP;
    l->pause_ms = PROXY_REDIAL_MIN_MS;
    l->complained = false;
    client_cork(l->client);
    client_hold_max(l->client, PROXY_HELD_BYTES_MAX);
    l->poll = xcalloc(1, sizeof(*l->poll));
    l->poll->data = l;
    ASSERT(uv_poll_init(loop_uv(up->cfg.loop), l->poll, client_fd(l->client)) == 0);
    l->events = UV_READABLE;
    ASSERT(uv_poll_start(l->poll, l->events, on_poll) == 0);
    log_info(up->cfg.log, "connected to an endpoint", F_STR("endpoint", l->endpoint));
    serve_waiting(up);
    drive(l);
}

/* On a worker. */
static void on_dial(uv_work_t *w)
{
    struct up_link *l = w->data;
    const struct upstream_config *cfg = &l->up->cfg;
    l->dial_result = cfg->dial(cfg->dial_arg, l->endpoint, PROXY_DIAL_MS, &l->dialled, &l->dial_error);
}

static void on_dialled(uv_work_t *w, int status)
{
    (void)status; /* nobody cancels it */
    struct up_link *l = w->data;
    struct upstream *up = l->up;
    l->state = LINK_IDLE;
    if (l->removed) {
        client_close(&l->dialled);
        free_link(l);
        return;
    }
    if (l->dial_result == OK) {
        come_up(l);
        return;
    }
    (void)snprintf(up->last_error, sizeof(up->last_error), "connection error: %.*s", 400, l->dial_error.text);
    if (!l->complained) {
        l->complained = true;
        log_warn(up->cfg.log, "an endpoint cannot be reached", F_STR("endpoint", l->endpoint), F_STR("error", l->dial_error.text));
    }
    loop_timer_set(up->cfg.loop, &l->timer, loop_now_ms(up->cfg.loop) + l->pause_ms);
    l->pause_ms = l->pause_ms * 2 > PROXY_REDIAL_MAX_MS ? PROXY_REDIAL_MAX_MS : l->pause_ms * 2;
}

static void dial(struct up_link *l)
{
    l->state = LINK_DIALLING;
    l->work.data = l;
    ASSERT(uv_queue_work(loop_uv(l->up->cfg.loop), &l->work, on_dial, on_dialled) == 0);
}

static struct up_link *add(struct upstream *up, const char *endpoint);

/* The server said goodbye, or the connection has numbered all the streams that it can; what runs on it may run for ever. */
static void replace(struct up_link *l)
{
    struct upstream *up = l->up;
    l->removed = true;
    loop_timer_set(up->cfg.loop, &add(up, l->endpoint)->timer, loop_now_ms(up->cfg.loop) + PROXY_REDIAL_MIN_MS);
}

/* At the end of each turn: what it queued goes out; a link that takes no calls any more, or nobody wants, ends when it is idle. */
static void on_turn_end(struct loop *loop, void *arg)
{
    struct upstream *up = arg;
    for (struct up_link *l = up->links, *next; l != NULL; l = next) {
        next = l->next;
        if (l->state != LINK_UP) {
            continue;
        }
        if (l->calls == NULL && (l->removed || !client_usable(l->client))) {
            go_down(l);
            loop_again(loop); /* who heard of it may have asked for something, of any link */
            return;
        }
        if (!l->removed && !client_usable(l->client)) {
            replace(l);
        }
        if (client_flush(l->client) != OK) {
            loop_timer_set(up->cfg.loop, &l->timer, 0); /* its calls hear of it in a turn of their own */
            continue;
        }
        int events = UV_READABLE | (client_wants_write(l->client) ? UV_WRITABLE : 0);
        if (events != l->events) {
            l->events = events;
            ASSERT(uv_poll_start(l->poll, events, on_poll) == 0);
        }
    }
}

/* --- public ---------------------------------------------------------------------------------------------------------- */

struct upstream *upstream_create(const struct upstream_config *cfg)
{
    struct upstream *up = xcalloc(1, sizeof(*up));
    up->cfg = *cfg;
    up->waiting_last = &up->waiting;
    up->timer.fire = on_waiting_timer;
    (void)snprintf(up->last_error, sizeof(up->last_error), "no endpoint is connected");
    return up;
}

static struct up_link *find(struct upstream *up, const char *endpoint)
{
    struct up_link *l = up->links;
    while (l != NULL && (l->removed || strcmp(l->endpoint, endpoint) != 0)) {
        l = l->next;
    }
    return l;
}

static struct up_link *add(struct upstream *up, const char *endpoint)
{
    struct up_link *l = xcalloc(1, sizeof(*l));
    l->up = up;
    l->endpoint = xstrdup(endpoint);
    l->pause_ms = PROXY_REDIAL_MIN_MS;
    l->timer.fire = on_link_timer;
    struct up_link **last = &up->links;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = l;
    return l;
}

void upstream_set_endpoints(struct upstream *up, const char *const *endpoints, size_t n)
{
    n = n > PROXY_ENDPOINTS_MAX ? PROXY_ENDPOINTS_MAX : n;
    if (up->hook.run == NULL) {
        /* Behind the server's own, whose drain callbacks ask for things, too. */
        up->hook = (struct loop_hook){.run = on_turn_end, .arg = up};
        loop_hook_add_last(up->cfg.loop, &up->hook);
    }
    for (struct up_link *l = up->links, *next; l != NULL; l = next) {
        next = l->next;
        bool stays = false;
        for (size_t i = 0; i < n && !stays; i++) {
            stays = strcmp(endpoints[i], l->endpoint) == 0;
        }
        l->removed = l->removed || !stays;
        if (l->removed && l->state == LINK_IDLE) {
            free_link(l);
        }
    }
    for (size_t i = 0; i < n; i++) {
        if (find(up, endpoints[i]) == NULL) {
            dial(add(up, endpoints[i]));
        }
    }
}

size_t upstream_endpoints(const struct upstream *up, const char **out, size_t max)
{
    size_t n = 0;
    for (const struct up_link *l = up->links; l != NULL && n < max; l = l->next) {
        if (!l->removed) {
            out[n++] = l->endpoint;
        }
    }
    return n;
}

void up_open(struct upstream *up, struct up_call *u, const struct up_head *head, struct slice request)
{
    void (*news)(struct up_call *) = u->news;
    *u = (struct up_call){
        .news = news,
        .up = up,
        .path = head->path,
        .has_leader = head->has_leader,
        .stays_open = head->stays_open,
        .repeatable = head->repeatable,
    };
    ASSERT(news != NULL);
    if (request.len > 0) {
        bytes_add(&u->request, request.data, request.len);
    }
    if (head->token.len > 0) {
        bytes_add(&u->token, head->token.data, head->token.len);
    }
    u->held = request.len + head->token.len;
    up->held += u->held;
    struct up_link *l = pick(up);
    if (l == NULL || !start_on(u, l)) {
        wait_again(u, 0);
        if (up->n_waiting > PROXY_WAITING_MAX) {
            u->give_up_ms = 0; /* and that is told from the timer, not from here */
        }
    }
}

bool up_is_open(const struct up_call *u)
{
    return u->up != NULL;
}

bool up_send(struct up_call *u, struct slice request)
{
    return u->stream != NULL && !u->ended && client_stream_send(u->stream, request) == OK;
}

bool up_has_link(const struct up_call *u)
{
    return u->stream != NULL && !u->ended;
}

size_t up_unsent(const struct up_call *u)
{
    return u->stream == NULL ? 0 : client_stream_unsent(u->stream);
}

bool up_front(const struct up_call *u, struct slice *message)
{
    return u->stream != NULL && client_stream_front(u->stream, message);
}

void up_drop(struct up_call *u)
{
    client_stream_drop(u->stream);
}

const struct client_status *up_status(const struct up_call *u)
{
    return u->ended ? &u->status : NULL;
}

void up_close(struct up_call *u)
{
    if (u->up == NULL) {
        return;
    }
    unlist(u);
    client_stream_close(&u->stream);
    bytes_deinit(&u->request);
    bytes_deinit(&u->token);
    u->up->held -= u->held;
    u->up = NULL;
}

void upstream_hold(struct upstream *up, size_t bytes)
{
    up->held += bytes;
}

void upstream_release(struct upstream *up, size_t bytes)
{
    ASSERT(bytes <= up->held);
    up->held -= bytes;
}

bool upstream_is_full(const struct upstream *up)
{
    return up->held > PROXY_HELD_BYTES_MAX;
}
