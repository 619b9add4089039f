/* membership_old.c - membership entries as etcd 3.4 and 3.5 write them.
 *
 * Their members publish names, client URLs and the cluster's version as requests of the v2 API,
 * which in the log are bare messages: 1 ID, 2 method, 3 path, 4 value (and others that are of no
 * use here). Two requests mean something to the v3 state:
 *
 *     PUT /0/members/<hex id>/attributes   {"name":"...","clientURLs":[...]}
 *     PUT /0/version                       3.5.0
 */
#include <stdlib.h>

#include "base/wire.h"
#include "engine/membership.h"

enum { OLD_ID = 1, OLD_METHOD = 2, OLD_PATH = 3, OLD_VALUE = 4 };

#define MEMBERS_PATH "/0/members/"
#define ATTRIBUTES_PATH "/attributes"
#define VERSION_PATH "/0/version"
#define HEX_ID_MAX 16u

struct old_request {
    uint64_t id;
    struct slice method, path, value;
};

static enum err decode(struct slice message, struct old_request *out)
{
    struct wire_field f;
    enum err err;
    *out = (struct old_request){0};
    while ((err = wire_next(&message, &f)) == OK) {
        if (f.number == OLD_ID && f.type == WIRE_VARINT) {
            out->id = f.value;
        } else if (f.number == OLD_METHOD && f.type == WIRE_LEN) {
            out->method = f.bytes;
        } else if (f.number == OLD_PATH && f.type == WIRE_LEN) {
            out->path = f.bytes;
        } else if (f.number == OLD_VALUE && f.type == WIRE_LEN) {
            out->value = f.bytes;
        }
    }
    return err == ERR_END ? OK : ERR_INVALID;
}

static bool take_prefix(struct slice *s, const char *prefix)
{
    size_t n = strlen(prefix);
    if (s->len < n || memcmp(s->data, prefix, n) != 0) {
        return false;
    }
    *s = slice_of(s->data + n, s->len - n);
    return true;
}

/* /0/members/<id>/attributes; etcd takes ids in both cases of letters. */
static bool parse_attributes_path(struct slice path, uint64_t *id)
{
    if (!take_prefix(&path, MEMBERS_PATH)) {
        return false;
    }
    size_t n = 0;
    *id = 0;
    for (; n < path.len && path.data[n] != '/'; n++) {
        uint8_t c = path.data[n];
        uint8_t low = c | 0x20u;
        if (n == HEX_ID_MAX ||
            !((c >= '0' && c <= '9') || (low >= 'a' && low <= 'f'))) {
            return false;
        }
        *id = *id << 4 | (uint64_t)(c <= '9' ? c - '0' : low - 'a' + 10);
    }
    return n > 0 && slice_eq(slice_of(path.data + n, path.len - n), slice_str(ATTRIBUTES_PATH));
}

static enum err set_attributes(struct engine *e, uint64_t id, struct slice value)
{
    struct member_json j;
    char *urls[MEMBER_URLS_MAX];
    enum err err = member_json_decode(value, &j);
    if (err == OK) {
        char *text = (char *)j.text.data;
        Membershippb__Attributes a = MEMBERSHIPPB__ATTRIBUTES__INIT;
        a.name = text + j.name;
        a.client_urls = urls;
        a.n_client_urls = j.n_client_urls;
        for (size_t i = 0; i < j.n_client_urls; i++) {
            urls[i] = text + j.client_urls[i];
        }
        membership_set_attributes(e, id, &a);
    }
    member_json_deinit(&j);
    return err;
}

enum err membership_apply_old(struct engine *e, struct slice message, uint64_t *id)
{
    struct old_request r;
    uint64_t member_id;
    enum err err = decode(message, &r);
    if (err != OK) {
        return err;
    }
    *id = r.id;
    if (!slice_eq(r.method, slice_str("PUT"))) {
        return ERR_UNSUPPORTED;
    }
    if (parse_attributes_path(r.path, &member_id)) {
        return set_attributes(e, member_id, r.value);
    }
    if (slice_eq(r.path, slice_str(VERSION_PATH))) {
        if (r.value.len == 0) {
            return ERR_INVALID; /* there may be no bytes to copy from */
        }
        char *version = xstrndup((const char *)r.value.data, r.value.len);
        err = membership_set_version(e, version);
        free(version);
        return err;
    }
    return ERR_UNSUPPORTED;
}
