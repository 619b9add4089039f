/* backend.c - what all backends share: the buckets' names. */
#include "engine/backend.h"

#include "base/assert.h"

static const char *const names[N_BUCKETS] = {
    [BUCKET_ALARM] = "alarm",
    [BUCKET_AUTH] = "auth",
    [BUCKET_AUTH_ROLES] = "authRoles",
    [BUCKET_AUTH_USERS] = "authUsers",
    [BUCKET_CLUSTER] = "cluster",
    [BUCKET_KEY] = "key",
    [BUCKET_LEASE] = "lease",
    [BUCKET_MEMBERS] = "members",
    [BUCKET_MEMBERS_REMOVED] = "members_removed",
    [BUCKET_META] = "meta",
    [BUCKET_PINTLE] = "pintle",
};

const char *bucket_name(enum bucket b)
{
    ASSERT((unsigned)b < (unsigned)N_BUCKETS);
    return names[b];
}
