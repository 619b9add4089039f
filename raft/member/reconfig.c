/* reconfig.c - see reconfig.h. */
#include "raft/member/reconfig.h"

#include "base/assert.h"

static size_t quorum(size_t voters)
{
    return voters / 2 + 1;
}

static enum err check_add(const struct census *c, bool learner)
{
    bool second = c->voters == 1 && c->started == 1;
    if (!learner && !second && c->started < quorum(c->voters + 1)) {
        return ERR_NOT_ENOUGH_STARTED;
    }
    return c->voters != 1 && c->active < quorum(c->voters + 1) ? ERR_UNHEALTHY : OK;
}

static enum err check_remove(const struct census *c)
{
    if (c->target_known && c->target_learner) {
        return OK;
    }
    size_t left = c->voters - (c->target_known ? 1u : 0u);
    size_t started = c->started - (c->target_known && c->target_started ? 1u : 0u);
    if (started < quorum(left)) {
        return ERR_NOT_ENOUGH_STARTED;
    }
    if (!c->target_is_self && !c->target_active) {
        return OK; /* it helps nobody to a quorum now */
    }
    return c->active < 2 + (c->voters - 1) / 2 ? ERR_UNHEALTHY : OK;
}

static enum err check_promote(const struct census *c)
{
    if (!c->leads) {
        return ERR_NOT_LEADER;
    }
    if (!c->target_known) {
        return ERR_MEMBER_NOT_FOUND;
    }
    if ((double)c->match < (double)c->own_match * 0.9) {
        return ERR_LEARNER_NOT_READY;
    }
    return c->strict && c->started + 1 < quorum(c->voters + 1) ? ERR_NOT_ENOUGH_STARTED : OK;
}

enum err reconfig_check(const struct census *c, enum member_change_kind kind)
{
    switch (kind) {
    case MEMBER_ADD:
        return c->strict ? check_add(c, false) : OK;
    case MEMBER_ADD_LEARNER:
        return c->strict ? check_add(c, true) : OK;
    case MEMBER_REMOVE:
        return c->strict ? check_remove(c) : OK;
    case MEMBER_UPDATE:
        return OK;
    case MEMBER_PROMOTE:
        return check_promote(c);
    }
    UNREACHABLE();
}
