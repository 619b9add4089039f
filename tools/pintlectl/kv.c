/* kv.c - get, put, del, compaction. */
#include "tools/pintlectl/kv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/mem.h"
#include "tools/cli/text.h"
#include "tools/pintlectl/commands.h"
#include "tools/pintlectl/print.h"

#define PAUSE_MS 2000u

const struct flag get_flags[] = {
    {"consistency", 0, FLAG_STRING, "l", "linearizable (l) or serializable (s)"},
    {"count-only", 0, FLAG_BOOL, NULL, "only the number of keys (with the fields format)"},
    {"from-key", 0, FLAG_BOOL, NULL, "all keys from the given one on"},
    {"keys-only", 0, FLAG_BOOL, NULL, "no values"},
    {"limit", 0, FLAG_INT64, NULL, "most keys to show"},
    {"max-create-rev", 0, FLAG_INT64, NULL, "highest revision of creation"},
    {"max-mod-rev", 0, FLAG_INT64, NULL, "highest revision of change"},
    {"min-create-rev", 0, FLAG_INT64, NULL, "lowest revision of creation"},
    {"min-mod-rev", 0, FLAG_INT64, NULL, "lowest revision of change"},
    {"order", 0, FLAG_STRING, NULL, "ASCEND or DESCEND"},
    {"prefix", 0, FLAG_BOOL, NULL, "all keys that begin with the given one"},
    {"print-value-only", 0, FLAG_BOOL, NULL, "only values (with the simple format)"},
    {"rev", 0, FLAG_INT64, NULL, "revision to look at"},
    {"sort-by", 0, FLAG_STRING, NULL, "CREATE, KEY, MODIFY, VALUE or VERSION"},
    {"stream", 0, FLAG_BOOL, NULL, "let the server send the answer in pieces"},
    {0}};
const struct flag put_flags[] = {
    {"ignore-lease", 0, FLAG_BOOL, NULL, "keep the lease that the key has"},
    {"ignore-value", 0, FLAG_BOOL, NULL, "keep the value that the key has"},
    {"lease", 0, FLAG_STRING, "0", "hexadecimal ID of the lease that the key shall have"},
    {"prev-kv", 0, FLAG_BOOL, NULL, "show what was there before"},
    {0}};
const struct flag del_flags[] = {
    {"from-key", 0, FLAG_BOOL, NULL, "all keys from the given one on"},
    {"prefix", 0, FLAG_BOOL, NULL, "all keys that begin with the given one"},
    {"prev-kv", 0, FLAG_BOOL, NULL, "show what was deleted"},
    {"range", 0, FLAG_BOOL, NULL, "delete a range without a pause to think"},
    {0}};
const struct flag compaction_flags[] = {
    {"physical", 0, FLAG_BOOL, NULL, "answer only when the old revisions are gone from the disk"},
    {0}};

static void not_both(const struct flag_set *f)
{
    if (flag_yes(f, "prefix") && flag_yes(f, "from-key")) {
        ctl_fail(EXIT_BAD_ARGS,
                 "`--prefix` and `--from-key` cannot be set at the same time, choose one");
    }
}

struct key_range kv_range(const struct flag_set *f)
{
    struct slice key = slice_str(f->args[0]);
    bool prefix = flag_yes(f, "prefix");
    bool from_key = flag_yes(f, "from-key");
    if (f->n_args > 1 && (prefix || from_key)) {
        ctl_fail(
            EXIT_BAD_ARGS,
            "too many arguments, only accept one argument when `--prefix` or `--from-key` is set");
    }
    if (prefix) {
        return ctl_prefix_range(f->arena, key);
    }
    if (from_key) {
        return ctl_from_range(key);
    }
    return (struct key_range){key, slice_str(f->n_args > 1 ? f->args[1] : "")};
}

/* ---- get ---- */

static void set_sort(const struct flag_set *f, Etcdserverpb__RangeRequest *out)
{
    const char *order = flag_text(f, "order");
    const char *target = flag_text(f, "sort-by");
    static const char *const targets[] = {
        [ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY] = "KEY",
        [ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VERSION] = "VERSION",
        [ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__CREATE] = "CREATE",
        [ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__MOD] = "MODIFY",
        [ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__VALUE] = "VALUE"};
    if (strcasecmp(order, "ASCEND") == 0) {
        out->sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND;
    } else if (strcasecmp(order, "DESCEND") == 0) {
        out->sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__DESCEND;
    } else if (*order != '\0') {
        ctl_fail(EXIT_BAD_FEATURE, "bad sort order %s", order);
    }
    bool known = *target == '\0';
    for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
        if (strcasecmp(target, targets[i]) == 0) {
            out->sort_target = (Etcdserverpb__RangeRequest__SortTarget)i;
            known = true;
        }
    }
    if (!known) {
        ctl_fail(EXIT_BAD_FEATURE, "bad sort target %s", target);
    }
    /* Keys come in ascending order anyway. */
    if (out->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY &&
        out->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND) {
        out->sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE;
    }
}

/* A bound counts when it is above zero. */
static void set_bounds(const struct flag_set *f, const char *what, const char *shown, int64_t *min,
                       int64_t *max)
{
    char name[32];
    (void)snprintf(name, sizeof(name), "min-%s-rev", what);
    int64_t low = flag_number(f, name);
    (void)snprintf(name, sizeof(name), "max-%s-rev", what);
    int64_t high = flag_number(f, name);
    *min = low > 0 ? low : 0;
    *max = high > 0 ? high : 0;
    if (high > 0 && low > high) {
        ctl_fail(EXIT_BAD_FEATURE, "getMin%sRev(=%" PRId64 ") > getMax%sRev(=%" PRId64 ")", shown,
                 low, shown, high);
    }
}

void kv_get_request(const struct flag_set *f, Etcdserverpb__RangeRequest *out)
{
    etcdserverpb__range_request__init(out);
    if (f->n_args == 0) {
        ctl_fail(EXIT_BAD_ARGS,
                 "get command needs one argument as key and an optional argument as range_end");
    }
    not_both(f);
    out->keys_only = flag_yes(f, "keys-only");
    out->count_only = flag_yes(f, "count-only");
    if (out->keys_only && out->count_only) {
        ctl_fail(EXIT_BAD_ARGS,
                 "`--keys-only` and `--count-only` cannot be set at the same time, choose one");
    }
    const char *consistency = flag_text(f, "consistency");
    out->serializable = strcmp(consistency, "s") == 0;
    if (!out->serializable && strcmp(consistency, "l") != 0) {
        struct bytes q = {0};
        text_quote(&q, slice_str(consistency));
        ctl_fail(EXIT_BAD_FEATURE, "unknown consistency flag %.*s", (int)q.len,
                 (const char *)q.data);
    }
    struct key_range range = kv_range(f);
    out->key = binary(range.key);
    out->range_end = binary(range.end);
    out->limit = flag_number(f, "limit");
    out->revision = flag_number(f, "rev") > 0 ? flag_number(f, "rev") : 0;
    set_sort(f, out);
    set_bounds(f, "create", "Create", &out->min_create_revision, &out->max_create_revision);
    set_bounds(f, "mod", "Mod", &out->min_mod_revision, &out->max_mod_revision);
}

/* Take over what a chunk holds: all its keys, and the rest when it is set. */
static void merge_chunk(Etcdserverpb__RangeResponse *all, Etcdserverpb__RangeResponse *chunk)
{
    size_t n = all->n_kvs + chunk->n_kvs;
    if (chunk->n_kvs > 0) {
        all->kvs = xrealloc(all->kvs, n * sizeof(*all->kvs));
        memcpy(all->kvs + all->n_kvs, chunk->kvs, chunk->n_kvs * sizeof(*all->kvs));
        all->n_kvs = n;
        chunk->n_kvs = 0;
    }
    if (chunk->header != NULL) {
        if (all->header != NULL) {
            etcdserverpb__response_header__free_unpacked(all->header, NULL);
        }
        all->header = chunk->header;
        chunk->header = NULL;
    }
    all->more = all->more || chunk->more;
    all->count = chunk->count != 0 ? chunk->count : all->count;
}

static bool take_chunk(Etcdserverpb__RangeResponse *all, const struct bytes *message)
{
    Etcdserverpb__RangeStreamResponse *m =
        etcdserverpb__range_stream_response__unpack(NULL, message->len, message->data);
    if (m == NULL) {
        return false;
    }
    if (m->range_response != NULL) {
        merge_chunk(all, m->range_response);
    }
    etcdserverpb__range_stream_response__free_unpacked(m, NULL);
    return true;
}

/* RangeStream, merged into one answer. */
static Etcdserverpb__RangeResponse *
get_stream(struct ctl *ctl, const Etcdserverpb__RangeRequest *request, deadline_ns deadline)
{
    struct failure f = {0};
    struct client_stream *s = NULL;
    if (!conn_stream(ctl->conn, "/etcdserverpb.KV/RangeStream", &request->base, false, deadline, &s,
                     &f)) {
        ctl_fail_with(EXIT_ERROR, &f);
    }
    enum err e = client_stream_half_close(s);
    Etcdserverpb__RangeResponse *all = xcalloc(1, sizeof(*all));
    etcdserverpb__range_response__init(all);
    struct bytes message = {0};
    while (e == OK) {
        uint64_t now = now_ns();
        if (now >= deadline) {
            e = ERR_DEADLINE;
            break;
        }
        uint64_t ms = (deadline - now) / 1000000 + 1;
        e = client_stream_recv(s, ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms, &message);
        if (e == OK && !take_chunk(all, &message)) {
            e = ERR_CORRUPT;
        }
    }
    bytes_deinit(&message);
    const struct client_status *status = client_stream_status(s);
    if (e == ERR_DEADLINE || status == NULL) {
        failure_deadline(&f);
        ctl_fail_with(EXIT_ERROR, &f);
    }
    if (status->code != CLIENT_CODE_OK) {
        failure_from(&f, status);
        ctl_fail_with(EXIT_ERROR, &f);
    }
    client_stream_close(&s);
    return all;
}

int get_run(struct ctl *ctl)
{
    Etcdserverpb__RangeRequest request;
    kv_get_request(&ctl->flags, &request);
    ctl_connect(ctl);
    deadline_ns deadline = ctl_deadline(ctl);
    Etcdserverpb__RangeResponse *reply =
        flag_yes(&ctl->flags, "stream")
            ? get_stream(ctl, &request, deadline)
            : ctl_call(ctl, "/etcdserverpb.KV/Range", &request.base, true,
                       &etcdserverpb__range_response__descriptor, deadline, EXIT_ERROR);
    if (request.count_only && ctl->format != FORMAT_FIELDS) {
        ctl_fail(EXIT_BAD_ARGS, "--count-only is only for `--write-out=fields`");
    }
    ctl->value_only = flag_yes(&ctl->flags, "print-value-only");
    if (ctl->value_only && ctl->format != FORMAT_SIMPLE) {
        ctl_fail(EXIT_BAD_ARGS, "print-value-only is only for `--write-out=simple`");
    }
    print_get(ctl, reply);
    etcdserverpb__range_response__free_unpacked(reply, NULL);
    return 0;
}

/* ---- put ---- */

static int64_t put_lease(const struct flag_set *f)
{
    int64_t id = 0;
    struct err_ctx why;
    if (text_int(flag_text(f, "lease"), 16, &id, &why) != OK) {
        ctl_fail(EXIT_BAD_ARGS, "bad lease ID (%s), expecting ID in Hex", why.text);
    }
    return id;
}

void kv_put_request(const struct flag_set *f, Etcdserverpb__PutRequest *out)
{
    etcdserverpb__put_request__init(out);
    bool ignore_value = flag_yes(f, "ignore-value");
    if (f->n_args == 0) {
        ctl_fail(EXIT_BAD_ARGS, "put command needs 1 argument and input from stdin or 2 arguments");
    }
    if (ignore_value && f->n_args > 1) {
        ctl_fail(EXIT_BAD_ARGS, "put command needs only 1 argument when 'ignore-value' is set");
    }
    out->key = binary(slice_str(f->args[0]));
    if (!ignore_value && f->n_args > 1) {
        out->value = binary(slice_str(f->args[1]));
    } else if (!ignore_value) {
        struct bytes input = {0};
        ctl_read_stdin(&input);
        if (input.len == 0) {
            ctl_fail(EXIT_BAD_ARGS,
                     "put command needs 1 argument and input from stdin or 2 arguments");
        }
        out->value = binary(slice_of(cli_dup(f->arena, input.data, input.len), input.len));
        bytes_deinit(&input);
    }
    out->lease = put_lease(f);
    out->prev_kv = flag_yes(f, "prev-kv");
    out->ignore_value = ignore_value;
    out->ignore_lease = flag_yes(f, "ignore-lease");
}

int put_run(struct ctl *ctl)
{
    Etcdserverpb__PutRequest request;
    kv_put_request(&ctl->flags, &request);
    ctl_connect(ctl);
    Etcdserverpb__PutResponse *reply =
        ctl_call(ctl, "/etcdserverpb.KV/Put", &request.base, false,
                 &etcdserverpb__put_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    print_put(ctl, reply);
    etcdserverpb__put_response__free_unpacked(reply, NULL);
    return 0;
}

/* ---- del ---- */

static void think_again(const struct flag_set *f)
{
    struct bytes key = {0};
    struct bytes end = {0};
    text_quote(&key, slice_str(f->args[0]));
    text_quote(&end, slice_str(f->args[1]));
    (void)fprintf(stderr,
                  "Warning: Keys between %.*s and %.*s will be deleted. Please interrupt the "
                  "command within next 2 seconds to cancel. "
                  "You can provide `--range` flag to avoid the delay.\n",
                  (int)key.len, (const char *)key.data, (int)end.len, (const char *)end.data);
    bytes_deinit(&key);
    bytes_deinit(&end);
    sleep_ms(PAUSE_MS);
}

void kv_del_request(const struct flag_set *f, Etcdserverpb__DeleteRangeRequest *out)
{
    etcdserverpb__delete_range_request__init(out);
    if (f->n_args == 0 || f->n_args > 2) {
        ctl_fail(EXIT_BAD_ARGS,
                 "del command needs one argument as key and an optional argument as range_end");
    }
    not_both(f);
    struct key_range range = kv_range(f);
    if (f->n_args > 1 && !flag_yes(f, "range")) {
        think_again(f);
    }
    out->key = binary(range.key);
    out->range_end = binary(range.end);
    out->prev_kv = flag_yes(f, "prev-kv");
}

int del_run(struct ctl *ctl)
{
    Etcdserverpb__DeleteRangeRequest request;
    kv_del_request(&ctl->flags, &request);
    ctl_connect(ctl);
    Etcdserverpb__DeleteRangeResponse *reply =
        ctl_call(ctl, "/etcdserverpb.KV/DeleteRange", &request.base, false,
                 &etcdserverpb__delete_range_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    print_del(ctl, reply);
    etcdserverpb__delete_range_response__free_unpacked(reply, NULL);
    return 0;
}

/* ---- compaction ---- */

int compaction_run(struct ctl *ctl)
{
    if (ctl->n_args != 1) {
        ctl_fail(EXIT_BAD_ARGS, "compaction command needs 1 argument");
    }
    Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
    struct err_ctx why;
    if (text_int(ctl->args[0], 10, &request.revision, &why) != OK) {
        ctl_fail(EXIT_ERROR, "%s", why.text);
    }
    request.physical = flag_yes(&ctl->flags, "physical");
    ctl_connect(ctl);
    Etcdserverpb__CompactionResponse *reply =
        ctl_call(ctl, "/etcdserverpb.KV/Compact", &request.base, false,
                 &etcdserverpb__compaction_response__descriptor, ctl_deadline(ctl), EXIT_ERROR);
    (void)printf("compacted revision %" PRId64 "\n", request.revision);
    etcdserverpb__compaction_response__free_unpacked(reply, NULL);
    return 0;
}
