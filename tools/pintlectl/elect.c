/* elect.c - stand for election, or watch who leads. */
#include <stdio.h>

#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"
#include "tools/pintlectl/session.h"

const struct flag elect_flags[] = {{"listen", 'l', FLAG_BOOL, NULL, "show who leads instead"}, {0}};

static int campaign(struct ctl *ctl, struct session *s)
{
    struct session_place p = session_enter(s, ctl->args[0], ctl->args[1]);
    if (!p.first && !session_wait_first(s, &p)) {
        session_delete(s, p.key);
        ctl_fail(EXIT_ERROR, "context canceled");
    }
    Etcdserverpb__RangeResponse *r = session_get(s, p.key);
    print_get(ctl, r);
    etcdserverpb__range_response__free_unpacked(r, NULL);
    session_hold(s, p.key, "elect: session expired");
    return 0;
}

/* ---- listening ---- */

static void print_leader(const struct ctl *ctl, const Etcdserverpb__ResponseHeader *h,
                         int64_t revision, Mvccpb__KeyValue *kv)
{
    Etcdserverpb__RangeResponse shown = ETCDSERVERPB__RANGE_RESPONSE__INIT;
    Etcdserverpb__ResponseHeader header = *h;
    header.revision = revision;
    shown.header = &header;
    shown.n_kvs = 1;
    shown.kvs = &kv;
    print_get(ctl, &shown);
}

static Etcdserverpb__RangeResponse *oldest(struct ctl *ctl, struct key_range range)
{
    Etcdserverpb__RangeRequest get = ETCDSERVERPB__RANGE_REQUEST__INIT;
    get.key = binary(range.key);
    get.range_end = binary(range.end);
    get.sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND;
    get.sort_target = ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE;
    get.limit = 1;
    return ctl_call(ctl, "/etcdserverpb.KV/Range", &get.base, true,
                    &etcdserverpb__range_response__descriptor, 0, EXIT_ERROR);
}

/* The next events. false: a signal came; a watch that cannot go on ends the program. */
static bool next_events(struct session *s, Etcdserverpb__WatchResponse **events)
{
    for (;;) {
        enum session_news news = session_wait(s, events);
        if (news == SESSION_EVENTS) {
            return true;
        }
        if (news == SESSION_SIGNAL) {
            return false;
        }
        if (news == SESSION_WATCH_LOST || news == SESSION_EXPIRED) {
            ctl_fail(EXIT_ERROR, "elect: observer lost");
        }
    }
}

/* Show the leader of one key until it is deleted. false: a signal came. */
static bool follow(struct ctl *ctl, struct session *s)
{
    for (;;) {
        Etcdserverpb__WatchResponse *r = NULL;
        if (!next_events(s, &r)) {
            return false;
        }
        bool gone = false;
        for (size_t i = 0; i < r->n_events && !gone; i++) {
            gone = r->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__DELETE;
            if (!gone) {
                print_leader(ctl, r->header, r->header->revision, r->events[i]->kv);
            }
        }
        etcdserverpb__watch_response__free_unpacked(r, NULL);
        if (gone) {
            return true;
        }
    }
}

/* Nobody leads: the first who puts a key does. The key goes to the arena; false: a signal came. */
static bool wait_first(struct ctl *ctl, struct session *s, struct slice *key, int64_t *revision)
{
    for (;;) {
        Etcdserverpb__WatchResponse *r = NULL;
        if (!next_events(s, &r)) {
            return false;
        }
        bool found = false;
        for (size_t i = 0; i < r->n_events && !found; i++) {
            Mvccpb__KeyValue *kv = r->events[i]->kv;
            found = r->events[i]->type == MVCCPB__EVENT__EVENT_TYPE__PUT && kv != NULL;
            if (found) {
                *revision = kv->mod_revision;
                *key = slice_of(cli_dup(ctl->arena, kv->key.data, kv->key.len), kv->key.len);
                print_leader(ctl, r->header, *revision, kv);
            }
        }
        etcdserverpb__watch_response__free_unpacked(r, NULL);
        if (found) {
            return true;
        }
    }
}

static int observe(struct ctl *ctl, struct session *s)
{
    struct key_range range = session_prefix(s, ctl->args[0]);
    for (bool go_on = true; go_on;) {
        struct slice key = {0};
        Etcdserverpb__RangeResponse *r = oldest(ctl, range);
        int64_t revision = r->header == NULL ? 0 : r->header->revision;
        if (r->n_kvs > 0 && r->header != NULL) {
            key = slice_of(cli_dup(ctl->arena, r->kvs[0]->key.data, r->kvs[0]->key.len),
                           r->kvs[0]->key.len);
            print_leader(ctl, r->header, revision, r->kvs[0]);
        }
        etcdserverpb__range_response__free_unpacked(r, NULL);
        if (key.len == 0) {
            session_watch(s, range, revision + 1);
            go_on = wait_first(ctl, s, &key, &revision);
        }
        if (go_on) {
            session_watch(s, (struct key_range){key, slice_str("")}, revision + 1);
            go_on = follow(ctl, s);
        }
    }
    return 0;
}

int elect_run(struct ctl *ctl)
{
    if (ctl->n_args != 1 && ctl->n_args != 2) {
        ctl_fail(EXIT_BAD_ARGS,
                 "elect takes one election name argument and an optional proposal argument");
    }
    bool listen = flag_yes(&ctl->flags, "listen");
    ctl_connect(ctl);
    if (ctl->n_args == 1 && !listen) {
        ctl_fail(EXIT_BAD_ARGS, "no proposal argument but -l not set");
    }
    if (ctl->n_args == 2 && listen) {
        ctl_fail(EXIT_BAD_ARGS, "proposal given but -l is set");
    }
    struct session s;
    session_start(&s, ctl, SESSION_TTL_S);
    int code = listen ? observe(ctl, &s) : campaign(ctl, &s);
    session_end(&s);
    return code;
}
