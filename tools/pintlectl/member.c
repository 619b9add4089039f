/* member.c - add, remove, update, list, promote. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "tools/cli/table.h"
#include "tools/cli/text.h"
#include "tools/pintle/url.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"

#define MEMBER_COLUMNS 6u

const struct flag member_add_flags[] = {
    {"learner", 0, FLAG_BOOL, NULL, "the new member shall not vote yet"},
    {"peer-urls", 0, FLAG_STRING, NULL,
     "URLs of the new member for its peers, separated by commas"},
    {0}};
const struct flag member_update_flags[] = {
    {"peer-urls", 0, FLAG_STRING, NULL, "URLs of the member for its peers, separated by commas"},
    {0}};
const struct flag member_list_flags[] = {
    {"consistency", 0, FLAG_STRING, "l", "linearizable (l) or serializable (s)"}, {0}};

/* JSON of members has a shape of its own with --hex; fields knows only lists. true: printed. */
static bool print_members(const struct ctl *ctl, const ProtobufCMessage *m)
{
    if (ctl->format == FORMAT_FIELDS || ctl->format == FORMAT_TABLE) {
        print_unsupported(ctl->format);
    }
    if (ctl->format == FORMAT_JSON && ctl->hex) {
        struct bytes json = {0};
        json_message(&json, m, true);
        print_json_line(&json);
        return true;
    }
    return print_message(ctl, m);
}

/* Split at commas, as it stands. */
static char **split_urls(struct ctl *ctl, const char *text, size_t *n)
{
    char **list = cli_alloc(ctl->arena, (strlen(text) + 1) * sizeof(*list));
    *n = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        list[(*n)++] = cli_dup(ctl->arena, p, len);
        p += len;
        if (*p == '\0') {
            return list;
        }
    }
}

static const char *peer_urls(struct ctl *ctl)
{
    const char *urls = flag_text(&ctl->flags, "peer-urls");
    if (*urls == '\0') {
        ctl_fail(EXIT_BAD_ARGS, "member peer urls not provided");
    }
    return urls;
}

static void check_urls(char *const *urls, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct err_ctx why = {{0}};
        if (url_check(urls[i] + strspn(urls[i], " \t"), &why) != OK) {
            ctl_fail(EXIT_ERROR, "%s", why.text);
        }
    }
}

static void add_arguments_failed(const struct ctl *ctl)
{
    struct bytes text = {0};
    bytes_add_str(&text, "too many arguments");
    for (size_t i = 0; i < ctl->n_args; i++) {
        if (strncasecmp(ctl->args[i], "http", 4) == 0) {
            bytes_printf(&text, ", did you mean --peer-urls=%s", ctl->args[i]);
        }
    }
    ctl_fail(EXIT_BAD_ARGS, "%.*s", (int)text.len, (const char *)text.data);
}

static void quoted_line(const char *name, struct slice value)
{
    struct bytes q = {0};
    text_quote(&q, value);
    (void)printf("%s=%.*s\n", name, (int)q.len, (const char *)q.data);
    bytes_deinit(&q);
}

/* The environment that the new member is started with. */
static void print_environment(const Etcdserverpb__MemberAddResponse *r, const char *name,
                              const char *urls)
{
    struct bytes cluster = {0};
    for (size_t i = 0; i < r->n_members; i++) {
        const Etcdserverpb__Member *m = r->members[i];
        for (size_t k = 0; k < m->n_peerurls; k++) {
            bytes_printf(&cluster, "%s%s=%s", cluster.len == 0 ? "" : ",",
                         m->id == r->member->id ? name : m->name, m->peerurls[k]);
        }
    }
    (void)puts("");
    quoted_line("ETCD_NAME", slice_str(name));
    quoted_line("ETCD_INITIAL_CLUSTER", bytes_slice(&cluster));
    quoted_line("ETCD_INITIAL_ADVERTISE_PEER_URLS", slice_str(urls));
    (void)puts("ETCD_INITIAL_CLUSTER_STATE=\"existing\"");
    bytes_deinit(&cluster);
}

int member_add_run(struct ctl *ctl)
{
    if (ctl->n_args < 1) {
        ctl_fail(EXIT_BAD_ARGS, "member name not provided");
    }
    if (ctl->n_args > 1) {
        add_arguments_failed(ctl);
    }
    const char *urls = peer_urls(ctl);
    Etcdserverpb__MemberAddRequest request = ETCDSERVERPB__MEMBER_ADD_REQUEST__INIT;
    request.peerurls = split_urls(ctl, urls, &request.n_peerurls);
    request.islearner = flag_yes(&ctl->flags, "learner");
    ctl_connect(ctl);
    check_urls(request.peerurls, request.n_peerurls);
    Etcdserverpb__MemberAddResponse *r =
        ctl_call(ctl, "/etcdserverpb.Cluster/MemberAdd", &request.base, false,
                 &etcdserverpb__member_add_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    if (!print_members(ctl, &r->base) && r->member != NULL && r->header != NULL) {
        (void)printf("Member %16" PRIx64 " added%sto cluster %16" PRIx64 "\n", r->member->id,
                     r->member->islearner ? " as learner " : " ", r->header->cluster_id);
        print_environment(r, ctl->args[0], urls);
    }
    etcdserverpb__member_add_response__free_unpacked(r, NULL);
    return 0;
}

static uint64_t member_id(const struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "member ID is not provided");
    }
    return ctl_member_id(ctl->args[0]);
}

static void print_done(const struct ctl *ctl, const ProtobufCMessage *m, uint64_t id,
                       const char *what, const Etcdserverpb__ResponseHeader *h)
{
    if (!print_members(ctl, m)) {
        (void)printf("Member %16" PRIx64 " %s cluster %16" PRIx64 "\n", id, what,
                     h == NULL ? 0 : h->cluster_id);
    }
}

int member_remove_run(struct ctl *ctl)
{
    Etcdserverpb__MemberRemoveRequest request = ETCDSERVERPB__MEMBER_REMOVE_REQUEST__INIT;
    request.id = member_id(ctl);
    ctl_connect(ctl);
    Etcdserverpb__MemberRemoveResponse *r =
        ctl_call(ctl, "/etcdserverpb.Cluster/MemberRemove", &request.base, false,
                 &etcdserverpb__member_remove_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    print_done(ctl, &r->base, request.id, "removed from", r->header);
    etcdserverpb__member_remove_response__free_unpacked(r, NULL);
    return 0;
}

int member_update_run(struct ctl *ctl)
{
    Etcdserverpb__MemberUpdateRequest request = ETCDSERVERPB__MEMBER_UPDATE_REQUEST__INIT;
    request.id = member_id(ctl);
    request.peerurls = split_urls(ctl, peer_urls(ctl), &request.n_peerurls);
    ctl_connect(ctl);
    check_urls(request.peerurls, request.n_peerurls);
    Etcdserverpb__MemberUpdateResponse *r =
        ctl_call(ctl, "/etcdserverpb.Cluster/MemberUpdate", &request.base, false,
                 &etcdserverpb__member_update_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    print_done(ctl, &r->base, request.id, "updated in", r->header);
    etcdserverpb__member_update_response__free_unpacked(r, NULL);
    return 0;
}

int member_promote_run(struct ctl *ctl)
{
    Etcdserverpb__MemberPromoteRequest request = ETCDSERVERPB__MEMBER_PROMOTE_REQUEST__INIT;
    request.id = member_id(ctl);
    ctl_connect(ctl);
    Etcdserverpb__MemberPromoteResponse *r =
        ctl_call(ctl, "/etcdserverpb.Cluster/MemberPromote", &request.base, false,
                 &etcdserverpb__member_promote_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    print_done(ctl, &r->base, request.id, "promoted in", r->header);
    etcdserverpb__member_promote_response__free_unpacked(r, NULL);
    return 0;
}

/* ---- list ---- */

static const char *joined(struct ctl *ctl, char *const *texts, size_t n)
{
    struct bytes b = {0};
    for (size_t i = 0; i < n; i++) {
        bytes_printf(&b, "%s%s", i == 0 ? "" : ",", texts[i]);
    }
    const char *out = cli_dup(ctl->arena, b.data, b.len);
    bytes_deinit(&b);
    return out;
}

static void list_rows(struct ctl *ctl, const Etcdserverpb__MemberListResponse *r)
{
    static const char *const head[MEMBER_COLUMNS] = {"ID",         "Status",       "Name",
                                                     "Peer Addrs", "Client Addrs", "Is Learner"};
    const char **cells =
        cli_alloc(ctl->arena, (r->n_members * MEMBER_COLUMNS + 1) * sizeof(*cells));
    for (size_t i = 0; i < r->n_members; i++) {
        const Etcdserverpb__Member *m = r->members[i];
        const char **row = cells + i * MEMBER_COLUMNS;
        char id[24];
        (void)snprintf(id, sizeof(id), "%" PRIx64, m->id);
        row[0] = cli_dup(ctl->arena, id, strlen(id));
        row[1] = *m->name == '\0' ? "unstarted" : "started";
        row[2] = m->name;
        row[3] = joined(ctl, m->peerurls, m->n_peerurls);
        row[4] = joined(ctl, m->clienturls, m->n_clienturls);
        row[5] = yes_no(m->islearner);
    }
    if (ctl->format == FORMAT_TABLE) {
        table_print(head, MEMBER_COLUMNS, cells, r->n_members, stdout);
        return;
    }
    print_rows(cells, MEMBER_COLUMNS, r->n_members);
}

static void list_fields(const struct ctl *ctl, const Etcdserverpb__MemberListResponse *r)
{
    fields_header(ctl, r->header);
    for (size_t i = 0; i < r->n_members; i++) {
        const Etcdserverpb__Member *m = r->members[i];
        fields_id(ctl, "ID", m->id);
        fields_text("Name", slice_str(m->name));
        for (size_t k = 0; k < m->n_peerurls; k++) {
            fields_text("PeerURL", slice_str(m->peerurls[k]));
        }
        for (size_t k = 0; k < m->n_clienturls; k++) {
            fields_text("ClientURL", slice_str(m->clienturls[k]));
        }
        (void)printf("\"IsLearner\" : %s\n\n", yes_no(m->islearner));
    }
}

int member_list_run(struct ctl *ctl)
{
    const char *consistency = flag_text(&ctl->flags, "consistency");
    Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
    request.linearizable = strcmp(consistency, "s") != 0;
    if (request.linearizable && strcmp(consistency, "l") != 0) {
        ctl_fail(EXIT_BAD_FEATURE, "unknown consistency flag \"%s\"", consistency);
    }
    ctl_connect(ctl);
    Etcdserverpb__MemberListResponse *r =
        ctl_call(ctl, "/etcdserverpb.Cluster/MemberList", &request.base, true,
                 &etcdserverpb__member_list_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    switch (ctl->format) {
    case FORMAT_SIMPLE:
    case FORMAT_TABLE:
        list_rows(ctl, r);
        break;
    case FORMAT_FIELDS:
        list_fields(ctl, r);
        break;
    case FORMAT_JSON:
    case FORMAT_PROTOBUF:
        (void)print_members(ctl, &r->base);
        break;
    }
    etcdserverpb__member_list_response__free_unpacked(r, NULL);
    return 0;
}
