/* maintenance.c - alarm, defrag, move-leader, downgrade. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/endpoints.h"
#include "tools/pintlectl/print.h"

#define DURATION_BYTES 40u

const struct flag defrag_flags[] = {{"cluster", 0, FLAG_BOOL, NULL, "all members of the cluster"},
                                    {0}};

/* ---- alarm ---- */

static const char *alarm_name(Etcdserverpb__AlarmType t)
{
    const ProtobufCEnumValue *v =
        protobuf_c_enum_descriptor_get_value(&etcdserverpb__alarm_type__descriptor, (int)t);
    return v == NULL ? "UNKNOWN" : v->name;
}

static void print_alarms(const struct ctl *ctl, const Etcdserverpb__AlarmResponse *r)
{
    if (print_message(ctl, &r->base)) {
        return;
    }
    if (ctl->format == FORMAT_FIELDS) {
        fields_header(ctl, r->header);
    }
    for (size_t i = 0; i < r->n_alarms; i++) {
        const Etcdserverpb__AlarmMember *a = r->alarms[i];
        if (ctl->format == FORMAT_FIELDS) {
            fields_id(ctl, "MemberID", a->memberid);
            (void)printf("\"AlarmType\" : %s\n\n", alarm_name(a->alarm));
        } else {
            (void)printf("memberID:%" PRIu64 " alarm:%s\n", a->memberid, alarm_name(a->alarm));
        }
    }
}

static Etcdserverpb__AlarmResponse *call_alarm(struct ctl *ctl,
                                               Etcdserverpb__AlarmRequest__AlarmAction action,
                                               const Etcdserverpb__AlarmMember *m,
                                               deadline_ns deadline)
{
    Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
    request.action = action;
    if (m != NULL) {
        request.memberid = m->memberid;
        request.alarm = m->alarm;
    }
    return ctl_call(ctl, "/etcdserverpb.Maintenance/Alarm", &request.base, m == NULL,
                    &etcdserverpb__alarm_response__descriptor, deadline, EXIT_ERROR);
}

static Etcdserverpb__AlarmResponse *connect_and_list(struct ctl *ctl, deadline_ns *deadline)
{
    if (ctl->n_args != 0) {
        ctl_fail(EXIT_BAD_ARGS, "%s command accepts no arguments", ctl->command->path);
    }
    ctl_connect(ctl);
    *deadline = ctl_deadline(ctl);
    return call_alarm(ctl, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__GET, NULL, *deadline);
}

int alarm_list_run(struct ctl *ctl)
{
    deadline_ns deadline = 0;
    Etcdserverpb__AlarmResponse *r = connect_and_list(ctl, &deadline);
    print_alarms(ctl, r);
    etcdserverpb__alarm_response__free_unpacked(r, NULL);
    return 0;
}

/* One call for each alarm; what is shown is put together from the answers. */
int alarm_disarm_run(struct ctl *ctl)
{
    deadline_ns deadline = 0;
    Etcdserverpb__AlarmResponse *list = connect_and_list(ctl, &deadline);
    Etcdserverpb__AlarmResponse all = ETCDSERVERPB__ALARM_RESPONSE__INIT;
    all.alarms = cli_alloc(ctl->arena, (list->n_alarms + 1) * sizeof(*all.alarms));
    for (size_t i = 0; i < list->n_alarms; i++) {
        Etcdserverpb__AlarmResponse *r = call_alarm(
            ctl, ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE, list->alarms[i], deadline);
        if (r->n_alarms > 0) {
            all.alarms[all.n_alarms++] = list->alarms[i];
        }
        etcdserverpb__alarm_response__free_unpacked(r, NULL);
    }
    print_alarms(ctl, &all);
    etcdserverpb__alarm_response__free_unpacked(list, NULL);
    return 0;
}

/* ---- defrag ---- */

int defrag_run(struct ctl *ctl)
{
    Etcdserverpb__DefragmentRequest request = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
    ctl_configure(ctl);
    struct endpoint_list e = endpoints_of(ctl);
    bool failed = false;
    for (size_t i = 0; i < e.n; i++) {
        struct conn_options o = ctl_options_for(ctl, &e.texts[i]);
        struct conn *c = ctl_open(&o);
        struct failure f;
        Etcdserverpb__DefragmentResponse *r = NULL;
        char took[DURATION_BYTES];
        uint64_t start = now_ns();
        bool done =
            conn_call(c, "/etcdserverpb.Maintenance/Defragment", &request.base, false,
                      &etcdserverpb__defragment_response__descriptor, ctl_deadline(ctl), &r, &f);
        go_duration_format((int64_t)(now_ns() - start), took, sizeof(took));
        if (done) {
            (void)printf("Finished defragmenting etcd member[%s]. took %s\n", e.texts[i], took);
            (void)fflush(stdout);
            etcdserverpb__defragment_response__free_unpacked(r, NULL);
        } else {
            char text[FAILURE_TEXT_MAX];
            failure_text(&f, text);
            (void)fprintf(stderr, "Failed to defragment etcd member[%s]. took %s. (%s)\n",
                          e.texts[i], took, text);
            failed = true;
        }
        conn_close(&c);
    }
    return failed ? EXIT_ERROR : 0;
}

/* ---- move-leader ---- */

/* The first of the endpoints that is the leader's, connected; NULL: none. */
static struct conn *find_leader(struct ctl *ctl, deadline_ns deadline, uint64_t *leader)
{
    Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
    for (size_t i = 0; i < ctl->options.n_endpoints; i++) {
        struct failure f;
        struct conn_options o = ctl_options_for(ctl, &ctl->options.endpoints[i]);
        struct conn *c = ctl_open(&o);
        Etcdserverpb__StatusResponse *r = NULL;
        if (!conn_call(c, "/etcdserverpb.Maintenance/Status", &request.base, true,
                       &etcdserverpb__status_response__descriptor, deadline, &r, &f)) {
            ctl_fail_with(EXIT_ERROR, &f);
        }
        bool found = r->header != NULL && r->header->member_id == r->leader;
        *leader = r->leader;
        etcdserverpb__status_response__free_unpacked(r, NULL);
        if (found) {
            return c;
        }
        conn_close(&c);
    }
    return NULL;
}

int move_leader_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "move-leader command needs 1 argument");
    }
    Etcdserverpb__MoveLeaderRequest request = ETCDSERVERPB__MOVE_LEADER_REQUEST__INIT;
    struct err_ctx why;
    if (text_uint(ctl->args[0], 16, &request.targetid, &why) != OK) {
        ctl_fail(EXIT_BAD_ARGS, "%s", why.text);
    }
    ctl_connect(ctl);
    conn_close(&ctl->conn);
    deadline_ns deadline = ctl_deadline(ctl);
    uint64_t leader = 0;
    ctl->conn = find_leader(ctl, deadline, &leader);
    if (ctl->conn == NULL) {
        struct bytes all = {0};
        for (size_t i = 0; i < ctl->options.n_endpoints; i++) {
            bytes_printf(&all, "%s%s", i == 0 ? "" : " ", ctl->options.endpoints[i]);
        }
        ctl_fail(EXIT_BAD_ARGS, "no leader endpoint given at [%.*s]", (int)all.len,
                 (const char *)all.data);
    }
    Etcdserverpb__MoveLeaderResponse *r =
        ctl_call(ctl, "/etcdserverpb.Maintenance/MoveLeader", &request.base, false,
                 &etcdserverpb__move_leader_response__descriptor, deadline, EXIT_ERROR);
    if (ctl->format == FORMAT_FIELDS) {
        print_unsupported(FORMAT_FIELDS);
    }
    if (!print_message(ctl, &r->base)) {
        (void)printf("Leadership transferred from %" PRIx64 " to %" PRIx64 "\n", leader,
                     request.targetid);
    }
    etcdserverpb__move_leader_response__free_unpacked(r, NULL);
    return 0;
}

/* ---- downgrade ---- */

static int downgrade(struct ctl *ctl, Etcdserverpb__DowngradeRequest__DowngradeAction action,
                     const char *version, const char *name)
{
    Etcdserverpb__DowngradeRequest request = ETCDSERVERPB__DOWNGRADE_REQUEST__INIT;
    request.action = action;
    request.version = text_field(version);
    ctl_connect(ctl);
    Etcdserverpb__DowngradeResponse *r =
        ctl_call(ctl, "/etcdserverpb.Maintenance/Downgrade", &request.base, false,
                 &etcdserverpb__downgrade_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    if (ctl->format == FORMAT_FIELDS) {
        print_unsupported(FORMAT_FIELDS);
    }
    if (!print_message(ctl, &r->base)) {
        (void)printf("Downgrade %s success, cluster version %s\n", name, r->version);
    }
    etcdserverpb__downgrade_response__free_unpacked(r, NULL);
    return 0;
}

static const char *target_version(const struct ctl *ctl)
{
    if (ctl->n_args < 1) {
        ctl_fail(EXIT_BAD_ARGS, "TARGET_VERSION not provided");
    }
    if (ctl->n_args > 1) {
        ctl_fail(EXIT_BAD_ARGS, "too many arguments");
    }
    if (*ctl->args[0] == '\0') {
        ctl_fail(EXIT_BAD_ARGS, "target version not provided");
    }
    return ctl->args[0];
}

int downgrade_validate_run(struct ctl *ctl)
{
    return downgrade(ctl, ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__VALIDATE,
                     target_version(ctl), "validate");
}

int downgrade_enable_run(struct ctl *ctl)
{
    return downgrade(ctl, ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__ENABLE,
                     target_version(ctl), "enable");
}

int downgrade_cancel_run(struct ctl *ctl)
{
    return downgrade(ctl, ETCDSERVERPB__DOWNGRADE_REQUEST__DOWNGRADE_ACTION__CANCEL, "", "cancel");
}
