/* auth_method.c - see auth_method.h. */
#include "api/etcd/auth_method.h"

#include "base/assert.h"

#define AUTH_METHOD_PATH(id, path, need) const char auth_path_##id[] = path;
AUTH_METHODS(AUTH_METHOD_PATH)
#undef AUTH_METHOD_PATH

static const struct {
    const char *path;
    enum auth_need need;
} table[] = {
#define AUTH_METHOD_ROW(id, path, need) {path, need},
    AUTH_METHODS(AUTH_METHOD_ROW)
#undef AUTH_METHOD_ROW
};

bool auth_method_need(const char *path, enum auth_need *out)
{
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        if (strcmp(table[i].path, path) == 0) {
            *out = table[i].need;
            return true;
        }
    }
    return false;
}

enum err auth_method_admit(const char *path, struct auth *a, const struct auth_identity *id)
{
    enum auth_need need;
    if (!auth_enabled(a)) {
        return OK;
    }
    if (!auth_method_need(path, &need)) {
        return ERR_PERMISSION_DENIED;
    }
    switch (need) {
    case AUTH_NEED_KNOWN:
    case AUTH_NEED_LEASE:
        return auth_check_known(a, id);
    case AUTH_NEED_ROOT:
        return auth_check_root(a, id);
    case AUTH_NEED_NOTHING:
    case AUTH_NEED_ALARM:
    case AUTH_NEED_DEMANDS:
    case AUTH_NEED_APPLIED:
    case AUTH_NEED_CALLS:
        return OK;
    }
    UNREACHABLE();
}

enum err auth_alarm_admit(const Etcdserverpb__AlarmRequest *r, struct auth *a,
                          const struct auth_identity *id)
{
    return r->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET ? auth_check_known(a, id)
                                                                       : auth_check_root(a, id);
}
