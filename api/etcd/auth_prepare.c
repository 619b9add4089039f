/* auth_prepare.c - see auth_prepare.h. */
#include "api/etcd/auth_prepare.h"

#include "base/wire.h"
#include "engine/auth_base64.h"

/* Field numbers; api/proto has the messages. */
enum { USER_ADD_NAME = 1, USER_ADD_OPTIONS = 3, USER_ADD_HASHED = 4, OPTIONS_NO_PASSWORD = 1 };
enum { CHANGE_NAME = 1, CHANGE_HASHED = 3 };
enum { AUTHENTICATE_NAME = 1, AUTHENTICATE_TOKEN = 3 };
enum { ENTRY_HEADER = 100, HEADER_ID = 1, HEADER_USER = 2, HEADER_REVISION = 3 };

/* Every request's default is one empty text for all, which must not be written to. */
static void wipe(char *text)
{
    if (text != NULL && text[0] != 0) {
        password_wipe(text, strlen(text));
    }
}

static enum err add_hash(struct bytes *out, uint32_t field, const char *password, unsigned cost,
                         const uint8_t salt[PASSWORD_SALT_BYTES])
{
    char hash[PASSWORD_TEXT_BYTES];
    struct bytes text = {0};
    enum err err = password_hash(password, cost, salt, hash);
    if (err == OK) {
        base64_encode(slice_str(hash), &text);
        wire_add_bytes(out, field, bytes_slice(&text));
    }
    bytes_deinit(&text);
    return err;
}

enum err auth_prepare_user_add(Etcdserverpb__AuthUserAddRequest *r, unsigned cost,
                               const uint8_t salt[PASSWORD_SALT_BYTES], struct bytes *out)
{
    bool no_password = r->options != NULL && r->options->no_password;
    enum err err = OK;
    wire_add_bytes(out, USER_ADD_NAME, slice_str(r->name));
    if (r->options != NULL) {
        struct bytes options = {0};
        wire_add_bool(&options, OPTIONS_NO_PASSWORD, no_password);
        wire_add_message(out, USER_ADD_OPTIONS, bytes_slice(&options));
        bytes_deinit(&options);
    }
    if (no_password) {
        wire_add_bytes(out, USER_ADD_HASHED, slice_str(r->hashedpassword));
    } else {
        err = add_hash(out, USER_ADD_HASHED, r->password, cost, salt);
    }
    wipe(r->password);
    return err;
}

/* Without a password the client may send a hash of its own making. */
enum err auth_prepare_change_password(Etcdserverpb__AuthUserChangePasswordRequest *r, unsigned cost,
                                      const uint8_t salt[PASSWORD_SALT_BYTES], struct bytes *out)
{
    enum err err = OK;
    wire_add_bytes(out, CHANGE_NAME, slice_str(r->name));
    if (r->password[0] != 0) {
        err = add_hash(out, CHANGE_HASHED, r->password, cost, salt);
    } else {
        wire_add_bytes(out, CHANGE_HASHED, slice_str(r->hashedpassword));
    }
    wipe(r->password);
    return err;
}

void auth_prepare_authenticate(const char *user, const char *letters, struct bytes *out)
{
    wire_add_bytes(out, AUTHENTICATE_NAME, slice_str(user));
    wire_add_bytes(out, AUTHENTICATE_TOKEN, slice_str(letters));
}

void auth_add_entry_header(struct bytes *out, uint64_t id, const struct auth_identity *who)
{
    struct bytes header = {0};
    wire_add_uint(&header, HEADER_ID, id);
    wire_add_bytes(&header, HEADER_USER, slice_str(who->user));
    wire_add_uint(&header, HEADER_REVISION, who->revision);
    wire_add_message(out, ENTRY_HEADER, bytes_slice(&header));
    bytes_deinit(&header);
}
