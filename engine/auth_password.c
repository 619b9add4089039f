/* auth_password.c - see auth_password.h.
 *
 * Go writes $2a$ for the correct algorithm. libcrypt's $2a$ answers some passwords differently (its
 * guard against hashes of a broken implementation), while its $2b$ is the correct one for all; so
 * the letter is exchanged on the way in and out.
 */
#include "engine/auth_password.h"

#include <crypt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "base/mem.h"

#define TEXT_LEN (PASSWORD_TEXT_BYTES - 1u)
#define HEAD_LEN 7u                    /* "$2b$10$" */
#define SETTING_BYTES (HEAD_LEN + 23u) /* with the salt and a NUL */
#define LETTER_AT 2u

void password_wipe(void *data, size_t len)
{
    volatile uint8_t *p = data;
    for (size_t i = 0; i < len; i++) {
        p[i] = 0;
    }
}

/* bcrypt's own order of the 64 characters. */
static void encode_salt(const uint8_t salt[PASSWORD_SALT_BYTES], char out[22])
{
    static const char alphabet[] =
        "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    uint32_t bits = 0;
    unsigned n_bits = 0;
    size_t n = 0;
    for (size_t i = 0; i < PASSWORD_SALT_BYTES; i++) {
        bits = bits << 8 | salt[i];
        n_bits += 8;
        while (n_bits >= 6) {
            n_bits -= 6;
            out[n++] = alphabet[bits >> n_bits & 63u];
        }
    }
    out[n++] = alphabet[bits << (6 - n_bits) & 63u];
    ASSERT(n == 22);
}

/* The text with letter 'b' for this password and setting; false when libcrypt refuses the setting.
 */
static bool run(const char *password, const char *setting, char out[PASSWORD_TEXT_BYTES])
{
    struct crypt_data *scratch = xcalloc(1, sizeof(*scratch)); /* 32 KiB: too much for a stack */
    const char *text = crypt_r(password, setting, scratch);
    bool sound = text != NULL && strlen(text) == TEXT_LEN && text[0] == '$';
    if (sound) {
        memcpy(out, text, PASSWORD_TEXT_BYTES);
    }
    password_wipe(scratch, sizeof(*scratch)); /* it keeps a copy of the password */
    free(scratch);
    return sound;
}

enum err password_hash(const char *password, unsigned cost, const uint8_t salt[PASSWORD_SALT_BYTES],
                       char out[PASSWORD_TEXT_BYTES])
{
    char setting[SETTING_BYTES];
    if (strlen(password) > PASSWORD_BYTES_MAX) {
        return ERR_PASSWORD_LENGTH;
    }
    if (cost < PASSWORD_COST_MIN || cost > PASSWORD_COST_MAX) {
        return ERR_INVALID;
    }
    int n = snprintf(setting, sizeof(setting), "$2b$%02u$", cost);
    ASSERT(n == (int)HEAD_LEN);
    encode_salt(salt, setting + HEAD_LEN);
    setting[SETTING_BYTES - 1] = 0;
    if (!run(password, setting, out)) {
        return ERR_INVALID;
    }
    out[LETTER_AT] = 'a';
    return OK;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool password_verify(const char *password, const char *hash)
{
    char expected[PASSWORD_TEXT_BYTES];
    char found[PASSWORD_TEXT_BYTES];
    char cut[PASSWORD_BYTES_MAX + 1];
    if (strlen(hash) != TEXT_LEN || strncmp(hash, "$2", 2) != 0 ||
        strchr("abxy", hash[LETTER_AT]) == NULL || hash[3] != '$' || !is_digit(hash[4]) ||
        !is_digit(hash[5]) || hash[6] != '$') {
        return false;
    }
    memcpy(expected, hash, PASSWORD_TEXT_BYTES);
    expected[LETTER_AT] = 'b';
    size_t len = strnlen(password, PASSWORD_BYTES_MAX);
    memcpy(cut, password, len);
    cut[len] = 0;
    bool sound = run(cut, expected, found);
    password_wipe(cut, sizeof(cut));
    unsigned differs = 0;
    for (size_t i = 0; sound && i < TEXT_LEN; i++) { /* in a time that tells nothing */
        differs |= (unsigned)(found[i] ^ expected[i]);
    }
    return sound && differs == 0;
}
