/* net.c - libcurl's multi interface with libuv's poll handles and the loop's timers.
 *
 * libcurl calls back from inside of curl_multi_socket_action, where no handle may be added or removed. What its callbacks see is therefore
 * only noted; settle() acts on it afterwards.
 */
#include "api/peer/net.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <uv.h>

#include "api/peer/limits.h"
#include "base/assert.h"
#include "base/mem.h"

struct net {
    struct loop *loop;
    const struct peer_tls *tls; /* borrowed */
    CURLM *multi;
    struct loop_timer timer;
    struct net_call *touched; /* oldest first */
    struct net_call **touched_last;
};

struct net_socket {
    uv_poll_t poll;
    struct net *net;
    curl_socket_t fd;
};

/* --- after libcurl has run ---------------------------------------------------------------------------------- */

static void touch(struct net_call *c)
{
    if (c->touched) {
        return;
    }
    c->touched = true;
    c->next_touched = NULL;
    *c->net->touched_last = c;
    c->net->touched_last = &c->next_touched;
}

static void untouch(struct net_call *c)
{
    if (!c->touched) {
        return;
    }
    struct net *n = c->net;
    struct net_call **at = &n->touched;
    while (*at != c) {
        at = &(*at)->next_touched;
    }
    *at = c->next_touched;
    if (n->touched_last == &c->next_touched) {
        n->touched_last = at;
    }
    c->touched = false;
}

static void note_fresh(struct net_call *c)
{
    c->fresh = true;
    touch(c);
}

static void release(struct net_call *c)
{
    if (c->easy != NULL) {
        (void)curl_multi_remove_handle(c->net->multi, c->easy); /* fails only for one that is not in it */
        curl_easy_cleanup(c->easy);
        c->easy = NULL;
    }
    curl_slist_free_all(c->headers);
    c->headers = NULL;
}

static bool nobody_listens(const struct net_call *c)
{
    long code = 0;
    if (c->result != CURLE_COULDNT_CONNECT || c->easy == NULL) {
        return false;
    }
    (void)curl_easy_getinfo(c->easy, CURLINFO_OS_ERRNO, &code);
    /* A socket file that is not there says the same as one that nobody has open. */
    return code == ECONNREFUSED || code == ENOENT;
}

static void finish(struct net_call *c)
{
    enum peer_outcome outcome = c->result == CURLE_OK    ? PEER_OK
                                : nobody_listens(c)      ? PEER_REFUSED_CONNECTION
                                                         : PEER_FAILED;
    c->timed_out = c->result == CURLE_OPERATION_TIMEDOUT;
    release(c);
    const char *reason = c->error[0] != '\0' ? c->error : curl_easy_strerror(c->result);
    c->ops->ended(c, outcome, reason);
}

static void settle(struct net *n)
{
    int left;
    CURLMsg *msg;
    while ((msg = curl_multi_info_read(n->multi, &left)) != NULL) {
        char *private = NULL;
        (void)curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, &private);
        struct net_call *c = (struct net_call *)(void *)private;
        c->done = true;
        c->result = msg->data.result;
        touch(c);
    }
    while (n->touched != NULL) {
        struct net_call *c = n->touched;
        untouch(c);
        if (c->fresh) {
            c->fresh = false;
            if (c->done) {
                touch(c); /* its turn to end comes, unless `settled` cancels it */
            }
            if (c->ops->settled != NULL) {
                c->ops->settled(c);
            }
        } else if (c->done) {
            finish(c);
        }
    }
}

static void arm(struct net *n, long ms)
{
    if (ms < 0) {
        loop_timer_clear(n->loop, &n->timer);
    } else {
        uv_update_time(loop_uv(n->loop));
        /* One more than asked for: libcurl does not ask again after a timer that came a moment early. */
        loop_timer_set(n->loop, &n->timer, loop_now_ms(n->loop) + (ms == 0 ? 0u : (uint64_t)ms + 1u));
    }
}

static void rearm(struct net *n)
{
    long ms = -1;
    (void)curl_multi_timeout(n->multi, &ms);
    if (n->touched != NULL) {
        ms = 0;
    }
    arm(n, ms);
}

static void drive(struct net *n, curl_socket_t fd, int events)
{
    int running;
    (void)curl_multi_socket_action(n->multi, fd, events, &running); /* what fails is told call by call */
    settle(n);
    rearm(n);
}

static void on_timer(struct loop *l, struct loop_timer *timer)
{
    (void)l;
    drive(CONTAINER_OF(timer, struct net, timer), CURL_SOCKET_TIMEOUT, 0);
}

static int timer_callback(CURLM *multi, long ms, void *arg)
{
    (void)multi;
    arm(arg, ms);
    return 0;
}

/* --- sockets ------------------------------------------------------------------------------------------------ */

static void on_poll(uv_poll_t *h, int status, int events)
{
    struct net_socket *s = h->data;
    int flags = 0;
    flags |= (events & UV_READABLE) != 0 ? CURL_CSELECT_IN : 0;
    flags |= (events & UV_WRITABLE) != 0 ? CURL_CSELECT_OUT : 0;
    flags |= status < 0 ? CURL_CSELECT_ERR : 0;
    drive(s->net, s->fd, flags);
}

static void on_socket_closed(uv_handle_t *h)
{
    free(h->data);
}

static int socket_callback(CURL *easy, curl_socket_t fd, int what, void *arg, void *socket)
{
    (void)easy;
    struct net *n = arg;
    struct net_socket *s = socket;
    if (what == CURL_POLL_REMOVE) {
        if (s != NULL) {
            (void)curl_multi_assign(n->multi, fd, NULL);
            (void)uv_poll_stop(&s->poll);
            uv_close((uv_handle_t *)&s->poll, on_socket_closed);
        }
        return 0;
    }
    if (s == NULL) {
        s = xcalloc(1, sizeof(*s));
        s->net = n;
        s->fd = fd;
        if (uv_poll_init(loop_uv(n->loop), &s->poll, fd) != 0) {
            free(s);
            return -1; /* the transfer ends with an error */
        }
        s->poll.data = s;
        (void)curl_multi_assign(n->multi, fd, s);
    }
    int events = 0;
    events |= (what & CURL_POLL_IN) != 0 ? UV_READABLE : 0;
    events |= (what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0;
    return uv_poll_start(&s->poll, events, on_poll) == 0 ? 0 : -1;
}

/* --- one transfer ------------------------------------------------------------------------------------------- */

static bool take_field(struct slice line, const char *name, char *out, size_t out_bytes)
{
    size_t len = strlen(name);
    if (line.len <= len || line.data[len] != ':' || strncasecmp((const char *)line.data, name, len) != 0) {
        return false;
    }
    const uint8_t *p = line.data + len + 1;
    const uint8_t *end = line.data + line.len;
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }
    while (end > p && (end[-1] == '\r' || end[-1] == '\n' || end[-1] == ' ')) {
        end--;
    }
    size_t n = (size_t)(end - p);
    n = n < out_bytes - 1 ? n : out_bytes - 1;
    memcpy(out, p, n);
    out[n] = '\0';
    return true;
}

static size_t header_callback(char *at, size_t size, size_t n_items, void *arg)
{
    struct net_call *c = arg;
    struct slice line = slice_of(at, size * n_items);
    if (line.len >= 5 && memcmp(line.data, "HTTP/", 5) == 0) {
        c->version[0] = c->cluster[0] = c->extras[0] = '\0';
    } else if (line.len <= 2) {
        long status = 0;
        (void)curl_easy_getinfo(c->easy, CURLINFO_RESPONSE_CODE, &status);
        if (status >= 200) {
            c->status = (unsigned)status;
            if (c->ops->head != NULL) {
                c->ops->head(c);
            }
            note_fresh(c);
        }
    } else {
        (void)(take_field(line, PEER_HEADER_VERSION, c->version, sizeof(c->version)) ||
               take_field(line, PEER_HEADER_CLUSTER_ID, c->cluster, sizeof(c->cluster)) ||
               take_field(line, PEER_HEADER_EXTRAS, c->extras, sizeof(c->extras)));
    }
    return line.len;
}

static size_t write_callback(char *at, size_t size, size_t n_items, void *arg)
{
    struct net_call *c = arg;
    note_fresh(c);
    return c->ops->data(c, slice_of(at, size * n_items)) ? size * n_items : CURL_WRITEFUNC_ERROR;
}

static size_t read_callback(char *at, size_t size, size_t n_items, void *arg)
{
    struct net_call *c = arg;
    note_fresh(c);
    size_t n = c->ops->pull(c, (uint8_t *)at, size * n_items);
    return n == 0 ? CURL_READFUNC_PAUSE : n;
}

static void set_connection(CURL *easy, const struct net_request *r)
{
    (void)curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L); /* closing does not wait for a name server */
    (void)curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, NET_NAMES_S);
    (void)curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPIDLE, NET_KEEPALIVE_S);
    (void)curl_easy_setopt(easy, CURLOPT_TCP_KEEPINTVL, NET_KEEPALIVE_S);
    (void)curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, 64L * 1024L);
    (void)curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, r->own_connection ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, r->own_connection ? 1L : 0L);
    (void)curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)r->timeout_ms);
}

/* false: no address of ours. */
static bool set_address(CURL *easy, const struct net_request *r)
{
    char url[PEER_URL_BYTES];
    size_t len = strlen(r->url);
    while (len > 0 && r->url[len - 1] == '/') {
        len--;
    }
    int n;
    bool sealed = strncmp(r->url, "unixs://", 8) == 0;
    if (sealed || strncmp(r->url, "unix://", 7) == 0) {
        const char *file = strstr(r->url, "://") + 3;
        char path[PEER_URL_BYTES];
        size_t host = strcspn(file, "/");
        if (host == 0 || host >= sizeof(path)) {
            return false; /* peers use the host part alone, as etcd's */
        }
        memcpy(path, file, host);
        path[host] = '\0';
        (void)curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, path);
        n = snprintf(url, sizeof(url), "%s://localhost%s", sealed ? "https" : "http", r->path);
    } else {
        n = snprintf(url, sizeof(url), "%.*s%s", (int)len, r->url, r->path);
    }
    if (n < 0 || (size_t)n >= sizeof(url)) {
        return false;
    }
    return curl_easy_setopt(easy, CURLOPT_URL, url) == CURLE_OK;
}

static void set_headers(struct net_call *c, const struct net_request *r)
{
    struct curl_slist *list = curl_slist_append(NULL, "Expect:"); /* bodies are sent at once */
    for (size_t i = 0; i < r->n_headers; i++) {
        char *line = xasprintf("%s: %s", r->headers[i].name, r->headers[i].value);
        struct curl_slist *more = curl_slist_append(list, line);
        list = more != NULL ? more : list; /* without memory the other side refuses */
        free(line);
    }
    c->headers = list;
    (void)curl_easy_setopt(c->easy, CURLOPT_HTTPHEADER, list);
}

static void set_body(struct net_call *c, const struct net_request *r)
{
    bool post = strcmp(r->method, "POST") == 0;
    if (!post && r->body.len == 0) {
        return;
    }
    (void)curl_easy_setopt(c->easy, CURLOPT_POST, 1L);
    if (!post) { /* etcd asks for hashes by a GET with a body */
        (void)curl_easy_setopt(c->easy, CURLOPT_CUSTOMREQUEST, r->method);
    }
    if (c->ops->pull != NULL) {
        (void)curl_easy_setopt(c->easy, CURLOPT_READFUNCTION, read_callback);
        (void)curl_easy_setopt(c->easy, CURLOPT_READDATA, c);
        (void)curl_easy_setopt(c->easy, CURLOPT_UPLOAD_BUFFERSIZE, (long)SNAPSHOT_PIECE_BYTES);
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->pulled_bytes);
    } else {
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDS, r->body.len == 0 ? "" : (const char *)r->body.data);
        (void)curl_easy_setopt(c->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body.len);
    }
}

void net_start(struct net *n, struct net_call *c, const struct net_ops *ops, const struct net_request *r)
{
    *c = (struct net_call){.ops = ops, .net = n, .easy = curl_easy_init()};
    c->result = CURLE_FAILED_INIT;
    bool ready = c->easy != NULL;
    if (ready) {
        (void)curl_easy_setopt(c->easy, CURLOPT_PRIVATE, c);
        (void)curl_easy_setopt(c->easy, CURLOPT_ERRORBUFFER, c->error);
        (void)curl_easy_setopt(c->easy, CURLOPT_HEADERFUNCTION, header_callback);
        (void)curl_easy_setopt(c->easy, CURLOPT_HEADERDATA, c);
        (void)curl_easy_setopt(c->easy, CURLOPT_WRITEFUNCTION, write_callback);
        (void)curl_easy_setopt(c->easy, CURLOPT_WRITEDATA, c);
        set_connection(c->easy, r);
        peer_tls_apply(c->easy, n->tls);
        set_headers(c, r);
        set_body(c, r);
        ready = set_address(c->easy, r) && curl_multi_add_handle(n->multi, c->easy) == CURLM_OK;
        c->result = ready ? CURLE_OK : CURLE_URL_MALFORMAT;
    }
    if (!ready) {
        c->done = true;
        touch(c);
        arm(n, 0);
    }
}

void net_cancel(struct net_call *c)
{
    if (c->net == NULL) {
        return;
    }
    untouch(c);
    release(c);
    c->net = NULL;
}

void net_resume(struct net_call *c)
{
    if (c->easy != NULL && !c->done) {
        (void)curl_easy_pause(c->easy, CURLPAUSE_CONT); /* an error ends the transfer, which is told */
        rearm(c->net);
    }
}

/* --- life --------------------------------------------------------------------------------------------------- */

struct net *net_create(struct loop *l, const struct peer_tls *tls)
{
    struct net *n = xcalloc(1, sizeof(*n));
    n->tls = tls;
    n->loop = l;
    n->timer.fire = on_timer;
    n->touched_last = &n->touched;
    n->multi = curl_multi_init();
    ASSERT(n->multi != NULL);
    (void)curl_multi_setopt(n->multi, CURLMOPT_SOCKETFUNCTION, socket_callback);
    (void)curl_multi_setopt(n->multi, CURLMOPT_SOCKETDATA, n);
    (void)curl_multi_setopt(n->multi, CURLMOPT_TIMERFUNCTION, timer_callback);
    (void)curl_multi_setopt(n->multi, CURLMOPT_TIMERDATA, n);
    (void)curl_multi_setopt(n->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    (void)curl_multi_setopt(n->multi, CURLMOPT_MAXCONNECTS, NET_IDLE_CONNECTIONS);
    return n;
}

void net_destroy(struct net **np)
{
    struct net *n = *np;
    if (n == NULL) {
        return;
    }
    *np = NULL;
    ASSERT(n->touched == NULL);
    (void)curl_multi_cleanup(n->multi);
    loop_timer_clear(n->loop, &n->timer);
    free(n);
}
