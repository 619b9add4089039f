/* lock.c - hold a lock until a signal comes, or while a program runs. */
#include <inttypes.h>
#include <stdio.h>

#include "tools/pintlectl/child.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"
#include "tools/pintlectl/session.h"

const struct flag lock_flags[] = {
    {"ttl", 0, FLAG_INT, "10", "seconds that the lock outlives its holder"}, {0}};

/* Wait for the program to end; the lease is renewed meanwhile. Signals are the program's own
 * matter. */
static int wait_child(struct session *s, struct bytes *why)
{
    for (;;) {
        Etcdserverpb__WatchResponse *none = NULL;
        enum session_news news = session_wait(s, &none);
        if (news == SESSION_CHILD) {
            return child_status(s->child_status, why);
        }
        if (news == SESSION_EXPIRED) {
            return child_wait(s->child, why);
        }
    }
}

static int run_locked(struct ctl *ctl, struct session *s, const struct session_place *p)
{
    struct bytes key = {0};
    struct bytes revision = {0};
    struct bytes why = {0};
    bytes_printf(&key, "ETCD_LOCK_KEY=%s", p->key);
    bytes_add(&key, "", 1);
    bytes_printf(&revision, "ETCD_LOCK_REV=%" PRId64, p->header_revision);
    bytes_add(&revision, "", 1);
    const char *const variables[] = {(const char *)key.data, (const char *)revision.data};
    bool started = child_start(ctl->args + 1, ctl->n_args - 1, variables, ARRAY_LEN(variables),
                               false, &s->child, &why);
    int code = started ? wait_child(s, &why) : EXIT_ERROR;
    session_delete(s, p->key);
    if (code != 0) {
        ctl_fail(code, "%.*s", (int)why.len, (const char *)why.data);
    }
    bytes_deinit(&key);
    bytes_deinit(&revision);
    bytes_deinit(&why);
    return 0;
}

static int hold(struct ctl *ctl, struct session *s, const struct session_place *p)
{
    Etcdserverpb__RangeResponse *r = session_get(s, p->key);
    if (r->n_kvs == 0) {
        ctl_fail(EXIT_ERROR, "lock lost on init");
    }
    print_get(ctl, r);
    etcdserverpb__range_response__free_unpacked(r, NULL);
    session_hold(s, p->key, "session expired");
    return 0;
}

int lock_run(struct ctl *ctl)
{
    if (ctl->n_args == 0) {
        ctl_fail(EXIT_BAD_ARGS,
                 "lock takes a lock name argument and an optional command to execute");
    }
    ctl_connect(ctl);
    struct session s;
    session_start(&s, ctl, flag_number(&ctl->flags, "ttl"));
    struct session_place p = session_enter(&s, ctl->args[0], "");
    if (!p.first && !session_wait_first(&s, &p)) {
        session_delete(&s, p.key);
        ctl_fail(EXIT_ERROR, "context canceled");
    }
    if (!p.first) { /* the lease may have run out while we waited */
        Etcdserverpb__RangeResponse *r = session_get(&s, p.key);
        if (r->n_kvs == 0) {
            ctl_fail(EXIT_ERROR, "mutex: session is expired");
        }
        p.header_revision = r->header == NULL ? 0 : r->header->revision;
        etcdserverpb__range_response__free_unpacked(r, NULL);
    }
    int code = ctl->n_args > 1 ? run_locked(ctl, &s, &p) : hold(ctl, &s, &p);
    session_end(&s);
    return code;
}
