/* lease.c - grant, revoke, timetolive, list, keep-alive. */
#include <inttypes.h>
#include <stdio.h>

#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/keepalive.h"
#include "tools/pintlectl/print.h"

const struct flag lease_timetolive_flags[] = {
    {"keys", 0, FLAG_BOOL, NULL, "show the keys that have this lease"}, {0}};
const struct flag lease_keepalive_flags[] = {{"once", 0, FLAG_BOOL, NULL, "renew once and end"},
                                             {0}};

/* Formats that have one shape for all leases' answers. true: printed. */
static bool print_lease(const struct ctl *ctl, const Etcdserverpb__ResponseHeader *h,
                        const struct bytes *members)
{
    struct bytes json = {0};
    switch (ctl->format) {
    case FORMAT_JSON:
        bytes_add_str(&json, "{");
        json_header_members(&json, h);
        bytes_add(&json, members->data, members->len);
        bytes_add_str(&json, "}");
        print_json_line(&json);
        return true;
    case FORMAT_PROTOBUF: /* etcdctl shows nothing but the header */
    case FORMAT_TABLE:
        return print_message(ctl, &h->base);
    case FORMAT_FIELDS:
        fields_header(ctl, h);
        return false;
    case FORMAT_SIMPLE:
        return false;
    }
    return false;
}

static void print_done(struct bytes *members)
{
    bytes_deinit(members);
    (void)fflush(stdout);
}

int lease_grant_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "lease grant command needs TTL argument");
    }
    Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
    struct err_ctx why;
    if (text_int(ctl->args[0], 10, &request.ttl, &why) != OK) {
        ctl_fail(EXIT_BAD_ARGS, "bad TTL (%s)", why.text);
    }
    ctl_connect(ctl);
    struct failure f;
    Etcdserverpb__LeaseGrantResponse *r = NULL;
    if (!conn_call(ctl->conn, "/etcdserverpb.Lease/LeaseGrant", &request.base, true,
                   &etcdserverpb__lease_grant_response__descriptor, ctl_deadline(ctl), &r, &f)) {
        char text[FAILURE_TEXT_MAX];
        failure_text(&f, text);
        ctl_fail(EXIT_ERROR, "failed to grant lease (%s)", text);
    }
    struct bytes members = {0};
    bytes_printf(&members, "\"ID\":%" PRId64 ",\"TTL\":%" PRId64 ",\"Error\":", r->id, r->ttl);
    text_json(&members, slice_str(r->error));
    if (!print_lease(ctl, r->header, &members)) {
        if (ctl->format == FORMAT_FIELDS) {
            fields_lease(ctl, "ID", r->id);
            (void)printf("\"TTL\" : %" PRId64 "\n", r->ttl);
        } else {
            (void)printf("lease %016" PRIx64 " granted with TTL(%" PRId64 "s)\n", r->id, r->ttl);
        }
    }
    print_done(&members);
    etcdserverpb__lease_grant_response__free_unpacked(r, NULL);
    return 0;
}

int lease_revoke_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "lease revoke command needs 1 argument");
    }
    Etcdserverpb__LeaseRevokeRequest request = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
    request.id = ctl_lease_id(ctl->args[0]);
    ctl_connect(ctl);
    struct failure f;
    Etcdserverpb__LeaseRevokeResponse *r = NULL;
    if (!conn_call(ctl->conn, "/etcdserverpb.Lease/LeaseRevoke", &request.base, true,
                   &etcdserverpb__lease_revoke_response__descriptor, ctl_deadline(ctl), &r, &f)) {
        char text[FAILURE_TEXT_MAX];
        failure_text(&f, text);
        ctl_fail(EXIT_ERROR, "failed to revoke lease (%s)", text);
    }
    if (ctl->format == FORMAT_PROTOBUF) {
        ctl_fail(EXIT_BAD_FEATURE, "marshal unsupported for type *clientv3.LeaseRevokeResponse");
    }
    if (!print_bare(ctl, &r->base, r->header)) {
        (void)printf("lease %016" PRIx64 " revoked\n", request.id);
    }
    etcdserverpb__lease_revoke_response__free_unpacked(r, NULL);
    return 0;
}

/* ---- timetolive ---- */

static void simple_timetolive(const Etcdserverpb__LeaseTimeToLiveResponse *r, bool keys)
{
    if (r->grantedttl == 0 && r->ttl == -1) {
        (void)printf("lease %016" PRIx64 " already expired\n", r->id);
        return;
    }
    (void)printf("lease %016" PRIx64 " granted with TTL(%" PRId64 "s), remaining(%" PRId64 "s)",
                 r->id, r->grantedttl, r->ttl);
    if (keys) {
        (void)fputs(", attached keys([", stdout);
        for (size_t i = 0; i < r->n_keys; i++) {
            (void)fputs(i == 0 ? "" : " ", stdout);
            (void)fwrite(r->keys[i].data, 1, r->keys[i].len, stdout);
        }
        (void)fputs("])", stdout);
    }
    (void)puts("");
}

static void timetolive_members(const Etcdserverpb__LeaseTimeToLiveResponse *r, struct bytes *out)
{
    bytes_printf(
        out, "\"id\":%" PRId64 ",\"ttl\":%" PRId64 ",\"granted-ttl\":%" PRId64 ",\"keys\":", r->id,
        r->ttl, r->grantedttl);
    for (size_t i = 0; i < r->n_keys; i++) {
        bytes_add_str(out, i == 0 ? "[\"" : ",\"");
        text_base64(out, slice_of_binary(r->keys[i]));
        bytes_add_str(out, "\"");
    }
    bytes_add_str(out, r->n_keys == 0 ? "null" : "]");
}

int lease_timetolive_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "lease timetolive command needs lease ID as argument");
    }
    Etcdserverpb__LeaseTimeToLiveRequest request = ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT;
    request.keys = flag_yes(&ctl->flags, "keys");
    ctl_connect(ctl);
    request.id = ctl_lease_id(ctl->args[0]);
    Etcdserverpb__LeaseTimeToLiveResponse *r =
        ctl_call(ctl, "/etcdserverpb.Lease/LeaseTimeToLive", &request.base, true,
                 &etcdserverpb__lease_time_to_live_response__descriptor, 0, EXIT_BAD_CONNECTION);
    struct bytes members = {0};
    timetolive_members(r, &members);
    if (!print_lease(ctl, r->header, &members)) {
        if (ctl->format == FORMAT_FIELDS) {
            fields_lease(ctl, "ID", r->id);
            (void)printf("\"TTL\" : %" PRId64 "\n\"GrantedTTL\" : %" PRId64 "\n", r->ttl,
                         r->grantedttl);
            for (size_t i = 0; i < r->n_keys; i++) {
                fields_text("Key", slice_of_binary(r->keys[i]));
            }
        } else {
            simple_timetolive(r, request.keys);
        }
    }
    print_done(&members);
    etcdserverpb__lease_time_to_live_response__free_unpacked(r, NULL);
    return 0;
}

/* ---- list ---- */

int lease_list_run(struct ctl *ctl)
{
    Etcdserverpb__LeaseLeasesRequest request = ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT;
    ctl_connect(ctl);
    Etcdserverpb__LeaseLeasesResponse *r =
        ctl_call(ctl, "/etcdserverpb.Lease/LeaseLeases", &request.base, true,
                 &etcdserverpb__lease_leases_response__descriptor, 0, EXIT_BAD_CONNECTION);
    struct bytes members = {0};
    bytes_add_str(&members, "\"leases\":[");
    for (size_t i = 0; i < r->n_leases; i++) {
        bytes_printf(&members, "%s{\"id\":%" PRId64 "}", i == 0 ? "" : ",", r->leases[i]->id);
    }
    bytes_add_str(&members, "]");
    if (!print_lease(ctl, r->header, &members)) {
        if (ctl->format == FORMAT_SIMPLE) {
            (void)printf("found %zu leases\n", r->n_leases);
        }
        for (size_t i = 0; i < r->n_leases; i++) {
            if (ctl->format == FORMAT_FIELDS) {
                fields_lease(ctl, "ID", r->leases[i]->id);
            } else {
                (void)printf("%016" PRIx64 "\n", r->leases[i]->id);
            }
        }
    }
    print_done(&members);
    etcdserverpb__lease_leases_response__free_unpacked(r, NULL);
    return 0;
}

/* ---- keep-alive ---- */

static void print_keepalive(const struct ctl *ctl, const Etcdserverpb__LeaseKeepAliveResponse *r)
{
    struct bytes members = {0};
    bytes_printf(&members, "\"ID\":%" PRId64 ",\"TTL\":%" PRId64, r->id, r->ttl);
    if (!print_lease(ctl, r->header, &members)) {
        if (ctl->format == FORMAT_FIELDS) {
            fields_lease(ctl, "ID", r->id);
            (void)printf("\"TTL\" : %" PRId64 "\n", r->ttl);
        } else {
            (void)printf("lease %016" PRIx64 " keepalived with TTL(%" PRId64 ")\n", r->id, r->ttl);
        }
    }
    print_done(&members);
}

int lease_keepalive_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "lease keep-alive command needs lease ID as argument");
    }
    struct failure f;
    bool once = flag_yes(&ctl->flags, "once");
    int64_t id = ctl_lease_id(ctl->args[0]);
    ctl_connect(ctl);
    struct keepalive k;
    keepalive_init(&k, ctl->conn, id, 0);
    for (;;) {
        Etcdserverpb__LeaseKeepAliveResponse *r = NULL;
        enum keepalive_news news = keepalive_wait(&k, UINT32_MAX, &r, &f);
        if (news == KEEPALIVE_FAILED) {
            ctl_fail_with(EXIT_BAD_CONNECTION, &f);
        }
        if (news == KEEPALIVE_EXPIRED) {
            break;
        }
        if (news == KEEPALIVE_RENEWED) {
            print_keepalive(ctl, r);
            etcdserverpb__lease_keep_alive_response__free_unpacked(r, NULL);
        }
        if (news == KEEPALIVE_RENEWED && once) {
            keepalive_deinit(&k);
            return 0;
        }
    }
    keepalive_deinit(&k);
    if (once) {
        ctl_fail(EXIT_BAD_CONNECTION, "etcdserver: requested lease not found");
    }
    if (ctl->format == FORMAT_SIMPLE) {
        (void)printf("lease %016" PRIx64 " expired or revoked.\n", id);
    }
    return 0;
}
