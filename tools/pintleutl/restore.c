/* restore.c - `snapshot restore`: a snapshot becomes a member of a new cluster.
 *
 * The member is built in DIR/member.restoring, on the disk where it is to stay, and gets its name
 * when all of it is durable; a separate log is built beside
 * its place and named just before. So DIR either has a whole member or, marked by the folder that
 * is left, none, and then no server starts on it.
 *
 *     what a new member of a cluster of n finds: a store at entry n of term 1, whose members and
 *     configuration are those of --initial-cluster, and a log
 *     that begins behind it. Members that are added later get the store as a snapshot, since no log
 *     has what the file had.
 */
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/assert.h"
#include "base/mem.h"
#include "engine/install.h"
#include "tools/cli/text.h"
#include "tools/pintle/advertised.h"
#include "tools/pintle/cluster.h"
#include "tools/pintle/dirs.h"
#include "tools/pintle/layout.h"
#include "tools/pintle/url.h"
#include "tools/pintleutl/source.h"
#include "tools/pintleutl/utl.h"
#include "wal/wal.h"

#define TREE_FOLDERS_OPEN 8
#define INITIAL_TERM 1u

const struct flag restore_flags[] = {
    {"bump-revision", '\0', FLAG_UINT, NULL,
     "How much to increase the latest revision after restore"},
    {"data-dir", '\0', FLAG_STRING, NULL, "Path to the output data directory"},
    {"initial-advertise-peer-urls", '\0', FLAG_STRING, "http://localhost:2380",
     "List of this member's peer URLs to advertise to the rest of the cluster"},
    {"initial-cluster", '\0', FLAG_STRING, "default=http://localhost:2380",
     "Initial cluster configuration for restore bootstrap"},
    {"initial-cluster-token", '\0', FLAG_STRING, "etcd-cluster",
     "Initial cluster token for the etcd cluster during restore bootstrap"},
    {"initial-memory-map-size", '\0', FLAG_UINT, "10737418240",
     "Initial memory map size of the database in bytes. It uses the default value if not defined "
     "or defined to 0"},
    {"mark-compacted", '\0', FLAG_BOOL, NULL,
     "Mark the latest revision after restore as the point of scheduled compaction (required if "
     "--bump-revision > 0, disallowed otherwise)"},
    {"name", '\0', FLAG_STRING, "default", "Human-readable name for this member"},
    {"skip-hash-check", '\0', FLAG_BOOL, NULL,
     "Ignore snapshot integrity hash value (required if copied from data directory)"},
    {"wal-dir", '\0', FLAG_STRING, NULL,
     "Path to the WAL directory (use --data-dir if none given)"},
    {.name = NULL},
};

struct restore {
    struct utl *u;
    struct source source;
    struct founders founders;
    const struct member_peer *own;        /* one of them */
    char *data_dir, *snap_dir, *wal_dir;  /* owned; where things go */
    char *stage, *stage_snap, *stage_wal; /* owned; where they are made */
    bool wal_apart;
    bool made_dir, has_stage;
    struct vfs_file *lock; /* owned */
};

/* --- flags
 * ------------------------------------------------------------------------------------------ */

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void free_urls(char **urls)
{
    for (size_t i = 0; urls[i] != NULL; i++) {
        free(urls[i]);
    }
    free(urls);
}

/* --initial-advertise-peer-urls, sorted; in any case to be freed. */
static enum err read_advertised(const char *text, char ***out, struct err_ctx *ec)
{
    size_t n_max = 1;
    for (const char *p = text; *p != '\0'; p++) {
        n_max += *p == ',' ? 1u : 0u;
    }
    char **urls = xcalloc(n_max + 1, sizeof(*urls));
    enum err e = OK;
    size_t n = 0;
    for (const char *p = text; e == OK && n < n_max; p += strlen(urls[n - 1]) + 1) {
        urls[n++] = xstrndup(p, strcspn(p, ","));
        e = url_check(urls[n - 1], ec);
    }
    qsort(urls, n, sizeof(*urls), compare_strings);
    *out = urls;
    return e;
}

static enum err read_founders(struct restore *r, struct err_ctx *ec)
{
    const struct flag_set *f = &r->u->flags;
    char **advertised = NULL;
    enum err e = read_advertised(flag_text(f, "initial-advertise-peer-urls"), &advertised, ec);
    if (e == OK) {
        e = founders_parse(flag_text(f, "initial-cluster"), flag_text(f, "initial-cluster-token"),
                           &r->founders, ec);
    }
    if (e == OK) {
        r->own = founders_named(&r->founders, flag_text(f, "name"));
        e = r->own != NULL
                ? OK
                : err_set(ec, ERR_INVALID,
                          "couldn't find local name \"%s\" in the initial cluster configuration",
                          flag_text(f, "name"));
    }
    if (e == OK) {
        e = advertised_check(r->own, (const char *const *)advertised, r->u->log, ec);
    }
    if (e == OK && founders_share_url(&r->founders)) {
        char *text = founders_text(&r->founders);
        e = err_set(ec, ERR_INVALID, "initial cluster %s has duplicate url", text);
        free(text);
    }
    free_urls(advertised);
    return e;
}

/* A trailing slash would make the log's stage a folder inside its place. */
static char *path_of(const char *text)
{
    size_t n = strlen(text);
    while (n > 1 && text[n - 1] == '/') {
        n--;
    }
    return xstrndup(text, n);
}

static void name_paths(struct restore *r)
{
    const struct flag_set *f = &r->u->flags;
    const char *data_dir = flag_text(f, "data-dir");
    const char *wal_dir = flag_text(f, "wal-dir");
    r->data_dir =
        data_dir[0] != '\0' ? path_of(data_dir) : xasprintf("%s.etcd", flag_text(f, "name"));
    r->snap_dir = xasprintf("%s/" LAYOUT_MEMBER "/snap", r->data_dir);
    r->wal_apart = wal_dir[0] != '\0';
    r->wal_dir =
        r->wal_apart ? path_of(wal_dir) : xasprintf("%s/" LAYOUT_MEMBER "/wal", r->data_dir);
    r->stage = xasprintf("%s/" LAYOUT_RESTORING, r->data_dir);
    r->stage_snap = xasprintf("%s/snap", r->stage);
    r->stage_wal =
        r->wal_apart ? xasprintf("%s.restoring", r->wal_dir) : xasprintf("%s/wal", r->stage);
}

/* --- folders
 * ------------------------------------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

static void remove_tree(const char *path)
{
    (void)nftw(path, remove_one, TREE_FOLDERS_OPEN,
               FTW_DEPTH |
                   FTW_PHYS); /* what stays is in the way of the next restore, which then says so */
}

static void look(void *arg, const char *name)
{
    bool *in_use = arg;
    *in_use = *in_use || (strcmp(name, LAYOUT_LOCK) != 0 && strcmp(name, LAYOUT_RESTORING) != 0);
}

static enum err refuse(struct err_ctx *ec, const char *what, const char *path, const char *why)
{
    struct bytes q = {0};
    text_quote(&q, slice_str(path));
    enum err e = err_set(ec, ERR_EXISTS, "%s %.*s %s", what, (int)q.len, (const char *)q.data, why);
    bytes_deinit(&q);
    return e;
}

/* Nothing is there but what an interrupted restore has left. */
static enum err check_free(const struct restore *r, struct err_ctx *ec)
{
    struct vfs *v = vfs_real();
    struct vfs_stat st;
    struct err_ctx ignored = {{0}};
    bool in_use = false;
    if (v->ops->stat(v, r->data_dir, &st, &ignored) == OK &&
        (v->ops->list(v, r->data_dir, look, &in_use, &ignored) != OK || in_use)) {
        return refuse(ec, "data-dir", r->data_dir, "not empty or could not be read");
    }
    return r->wal_apart && v->ops->stat(v, r->wal_dir, &st, &ignored) == OK
               ? refuse(ec, "wal-dir", r->wal_dir, "exists")
               : OK;
}

static enum err sync_parent(const char *path, struct err_ctx *ec)
{
    const char *slash = strrchr(path, '/');
    char *parent = slash == NULL   ? xstrdup(".")
                   : slash == path ? xstrdup("/")
                                   : xstrndup(path, (size_t)(slash - path));
    enum err e = vfs_real()->ops->sync_dir(vfs_real(), parent, ec);
    free(parent);
    return e;
}

/* From here on nobody else works in the directory, and no server starts in it. */
static enum err take_dir(struct restore *r, struct err_ctx *ec)
{
    struct vfs *v = vfs_real();
    bool made = false;
    enum err e = dirs_make(vfs_real(), r->data_dir, &r->made_dir, ec);
    char *path = xasprintf("%s/" LAYOUT_LOCK, r->data_dir);
    if (e == OK) {
        e = v->ops->open(v, path, VFS_CREATE, &r->lock, ec);
    }
    free(path);
    if (e == OK) {
        e = r->lock->ops->lock(r->lock, ec);
    }
    e = e == OK ? check_free(r, ec) : e;
    if (e != OK) {
        return e;
    }
    r->has_stage = true;
    remove_tree(r->stage);
    remove_tree(r->stage_wal);
    e = dirs_make(vfs_real(), r->stage_snap, &made, ec);
    e = e == OK ? dirs_make(vfs_real(), r->stage_wal, &made, ec) : e;
    return e == OK ? v->ops->sync_dir(v, r->data_dir, ec) : e;
}

static void give_up(struct restore *r)
{
    if (r->has_stage) {
        remove_tree(r->stage_wal);
        remove_tree(r->stage);
    }
    if (r->made_dir) {
        remove_tree(r->data_dir);
    }
}

/* --- store and log
 * -------------------------------------------------------------------------------------- */

static struct member_info *infos_of(const struct founders *f)
{
    static char *const none[] = {NULL};
    struct member_info *v = xcalloc(f->n, sizeof(*v));
    for (size_t i = 0; i < f->n; i++) {
        const struct member_peer *p = &f->peers[i];
        v[i] = (struct member_info){.id = p->id,
                                    .name = (char *)(uintptr_t)p->name,
                                    .peer_urls = (char **)(uintptr_t)p->peer_urls,
                                    .client_urls = (char **)(uintptr_t)none};
    }
    return v;
}

static void tell_members(const struct restore *r)
{
    char cluster[20];
    (void)snprintf(cluster, sizeof(cluster), "%llx", (unsigned long long)r->founders.cluster_id);
    for (size_t i = 0; i < r->founders.n; i++) {
        const struct member_peer *p = &r->founders.peers[i];
        log_info(r->u->log, "added member", F_STR("cluster-id", cluster),
                 F_STR("local-member-id", "0"), F_HEX("added-peer-id", p->id),
                 F_STRS("added-peer-peer-urls", p->peer_urls),
                 F_BOOL("added-peer-is-learner", false));
    }
}

static enum err make_store(struct restore *r, struct err_ctx *ec)
{
    uint64_t bump = (uint64_t)flag_number(&r->u->flags, "bump-revision");
    struct store_place place = store_place_lmdb(r->stage_snap, BACKEND_MAP_BYTES_DEFAULT, false);
    struct engine_config cfg = {.quota_bytes = INT64_MAX};
    struct member_info *members = infos_of(&r->founders);
    struct snapshot_founding founding = {.members = members, .n = r->founders.n, .bump = bump};
    struct staged *staged = NULL;
    enum err e = engine_stage_founding(&cfg, &place, &r->source.bolt, &founding, &staged, ec);
    if (e == OK) {
        e = staged_install(staged, ec);
    }
    staged_discard(&staged);
    free(members);
    if (e == OK && bump > 0) {
        log_info(r->u->log, "bumping latest revision", F_INT("latest-revision", founding.revision),
                 F_UINT("bump-amount", bump),
                 F_INT("new-latest-revision", founding.revision + (int64_t)bump));
        log_info(r->u->log, "marking revision compacted",
                 F_INT("revision", founding.revision + (int64_t)bump));
    }
    return e;
}

static enum err make_log(struct restore *r, struct err_ctx *ec)
{
    uint64_t n = r->founders.n;
    struct wal_config wc = {
        .vfs = vfs_real(), .dir = r->stage_wal, .segment_bytes = WAL_SEGMENT_BYTES_DEFAULT};
    struct wal *w = NULL;
    enum err e =
        wal_create(&wc, (struct wal_identity){r->founders.cluster_id, r->own->id}, n + 1, &w, ec);
    if (e == OK) {
        struct wal_batch batch = {.has_hard_state = true,
                                  .hard_state = {.term = INITIAL_TERM, .vote = 0, .commit = n}};
        e = wal_append(w, &batch, NULL, ec);
    }
    wal_close(&w);
    return e;
}

/* Everything is durable under the names of the stage. */
static enum err put_in_place(struct restore *r, struct err_ctx *ec)
{
    struct vfs *v = vfs_real();
    char *member = xasprintf("%s/" LAYOUT_MEMBER, r->data_dir);
    enum err e = v->ops->sync_dir(v, r->stage, ec);
    if (e == OK && r->wal_apart) {
        e = v->ops->rename(v, r->stage_wal, r->wal_dir, ec);
        e = e == OK ? sync_parent(r->wal_dir, ec) : e;
    }
    e = e == OK ? v->ops->rename(v, r->stage, member, ec) : e;
    r->has_stage = e != OK;
    r->made_dir = r->made_dir && e != OK;
    e = e == OK ? v->ops->sync_dir(v, r->data_dir, ec) : e;
    e = e == OK ? sync_parent(r->data_dir, ec) : e;
    free(member);
    return e;
}

/* --- the command
 * -------------------------------------------------------------------------------------------- */

static void tell(const struct restore *r, const char *what)
{
    log_info(
        r->u->log, what, F_STR("path", r->u->flags.args[0]), F_STR("wal-dir", r->wal_dir),
        F_STR("data-dir", r->data_dir), F_STR("snap-dir", r->snap_dir),
        F_UINT("initial-memory-map-size", flag_number(&r->u->flags, "initial-memory-map-size")));
}

static enum err restore(struct restore *r, struct err_ctx *ec)
{
    enum err e = read_founders(r, ec);
    name_paths(r);
    e = e == OK ? check_free(r, ec) : e;
    if (e != OK) {
        return e;
    }
    tell(r, "restoring snapshot");
    e = source_open(r->u->flags.args[0], &r->source, ec);
    if (e == OK && !flag_yes(&r->u->flags, "skip-hash-check")) {
        e = source_verify(&r->source, ec);
    }
    e = e == OK ? take_dir(r, ec) : e;
    e = e == OK ? make_store(r, ec) : e;
    e = e == OK ? make_log(r, ec) : e;
    e = e == OK ? put_in_place(r, ec) : e;
    if (e != OK) {
        give_up(r);
        return e;
    }
    tell_members(r);
    tell(r, "restored snapshot");
    return OK;
}

static void restore_deinit(struct restore *r)
{
    char *const owned[] = {r->data_dir, r->snap_dir,   r->wal_dir,
                           r->stage,    r->stage_snap, r->stage_wal};
    for (size_t i = 0; i < ARRAY_LEN(owned); i++) {
        free(owned[i]);
    }
    if (r->lock != NULL) {
        r->lock->ops->close(r->lock);
    }
    source_close(&r->source);
    founders_deinit(&r->founders);
}

int restore_run(struct utl *u)
{
    if (u->flags.n_args != 1) {
        return utl_fail(EXIT_BAD_ARGS, "snapshot restore requires exactly one argument");
    }
    if ((flag_number(&u->flags, "bump-revision") != 0) != flag_yes(&u->flags, "mark-compacted")) {
        return utl_fail(EXIT_BAD_ARGS, "--mark-compacted required if --revision-bump > 0");
    }
    struct restore *r = xcalloc(1, sizeof(*r));
    struct err_ctx why = {{0}};
    r->u = u;
    enum err e = restore(r, &why);
    restore_deinit(r);
    free(r);
    return e == OK ? 0 : utl_fail(EXIT_ERROR, "%s", why.text[0] != '\0' ? why.text : err_text(e));
}
