/* json.c - see json.h. */
#include "base/json.h"

#include <string.h>

#include "base/utf8.h"

/* Go escapes quotes, backslashes and control characters, and <, >, & and the two line separators as
 * well. */
void json_add_string(struct bytes *out, const char *s)
{
    bytes_add_str(out, "\"");
    for (const uint8_t *p = (const uint8_t *)s; *p != 0; p++) {
        if (*p == '"' || *p == '\\') {
            bytes_printf(out, "\\%c", *p);
        } else if (*p == '\n' || *p == '\r' || *p == '\t') {
            bytes_printf(out, "\\%c", *p == '\n' ? 'n' : *p == '\r' ? 'r' : 't');
        } else if (*p < 0x20u || *p == '<' || *p == '>' || *p == '&') {
            bytes_printf(out, "\\u%04x", *p);
        } else if (p[0] == 0xE2u && p[1] == 0x80u && (p[2] == 0xA8u || p[2] == 0xA9u)) {
            bytes_printf(out, "\\u20%02x", p[2] - 0x80u);
            p += 2;
        } else {
            bytes_add(out, p, 1);
        }
    }
    bytes_add_str(out, "\"");
}

/* --- reading ------------------------------------------------------------------------------------------------ */

static void skip_space(struct json *j)
{
    while (j->rest.len > 0 && (*j->rest.data == ' ' || *j->rest.data == '\t' ||
                               *j->rest.data == '\n' || *j->rest.data == '\r')) {
        j->rest = slice_of(j->rest.data + 1, j->rest.len - 1);
    }
}

static void advance(struct json *j, size_t n)
{
    j->rest = slice_of(j->rest.data + n, j->rest.len - n);
}

bool json_take(struct json *j, char c)
{
    skip_space(j);
    if (j->rest.len == 0 || *j->rest.data != (uint8_t)c) {
        return false;
    }
    advance(j, 1);
    return true;
}

bool json_ended(struct json *j)
{
    skip_space(j);
    return j->rest.len == 0;
}

static bool take_word(struct json *j, const char *word)
{
    skip_space(j);
    size_t n = strlen(word);
    if (j->rest.len < n || memcmp(j->rest.data, word, n) != 0) {
        return false;
    }
    advance(j, n);
    return true;
}

static enum err take_hex4(struct json *j, uint32_t *out)
{
    if (j->rest.len < 4) {
        return ERR_INVALID;
    }
    *out = 0;
    for (size_t i = 0; i < 4; i++) {
        uint8_t c = j->rest.data[i];
        uint32_t digit = c >= '0' && c <= '9'                   ? (uint32_t)c - '0'
                         : (c | 32u) >= 'a' && (c | 32u) <= 'f' ? (c | 32u) - 'a' + 10u
                                                                : 16u;
        if (digit == 16u) {
            return ERR_INVALID;
        }
        *out = *out << 4 | digit;
    }
    advance(j, 4);
    return OK;
}

static enum err take_unicode(struct json *j, struct bytes *out)
{
    uint32_t c;
    enum err err = take_hex4(j, &c);
    if (err == OK && c >= 0xD800u && c <= 0xDBFFu) {
        uint32_t low = 0;
        if (j->rest.len < 2 || j->rest.data[0] != '\\' || j->rest.data[1] != 'u') {
            return ERR_INVALID;
        }
        advance(j, 2);
        err = take_hex4(j, &low);
        if (err != OK || low < 0xDC00u || low > 0xDFFFu) {
            return ERR_INVALID;
        }
        c = 0x10000u + ((c - 0xD800u) << 10) + (low - 0xDC00u);
    }
    /* A NUL would end the C string early, and no name or URL holds one. */
    if (err != OK || c == 0 || (c >= 0xDC00u && c <= 0xDFFFu)) {
        return ERR_INVALID;
    }
    utf8_add(out, c);
    return OK;
}

static enum err take_escape(struct json *j, struct bytes *out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    if (j->rest.len == 0) {
        return ERR_INVALID;
    }
    char c = (char)*j->rest.data;
    advance(j, 1);
    if (c == 'u') {
        return take_unicode(j, out);
    }
    const char *at = c == 0 ? NULL : strchr(from, c);
    if (at == NULL) {
        return ERR_INVALID;
    }
    bytes_add(out, &to[at - from], 1);
    return OK;
}

enum err json_string(struct json *j, struct bytes *out)
{
    if (!json_take(j, '"')) {
        return ERR_INVALID;
    }
    while (j->rest.len > 0) {
        uint8_t c = *j->rest.data;
        advance(j, 1);
        if (c == '"') {
            return OK;
        }
        if (c < 0x20u) {
            return ERR_INVALID;
        }
        if (c != '\\') {
            bytes_add(out, &c, 1);
            continue;
        }
        enum err err = take_escape(j, out);
        if (err != OK) {
            return err;
        }
    }
    return ERR_INVALID;
}

enum err json_u64(struct json *j, uint64_t *out)
{
    skip_space(j);
    size_t n = 0;
    uint64_t v = 0;
    while (n < j->rest.len && j->rest.data[n] >= '0' && j->rest.data[n] <= '9') {
        if (__builtin_mul_overflow(v, 10u, &v) ||
            __builtin_add_overflow(v, (uint64_t)(j->rest.data[n] - '0'), &v)) {
            return ERR_INVALID;
        }
        n++;
    }
    if (n == 0) {
        return ERR_INVALID;
    }
    advance(j, n);
    *out = v;
    return OK;
}

enum err json_bool(struct json *j, bool *out)
{
    *out = take_word(j, "true");
    return *out || take_word(j, "false") ? OK : ERR_INVALID;
}

static enum err skip_field(void *arg, const char *name, struct json *j)
{
    (void)arg;
    (void)name;
    return json_skip(j);
}

static enum err skip_item(void *arg, struct json *j)
{
    (void)arg;
    return json_skip(j);
}

enum err json_skip(struct json *j)
{
    skip_space(j);
    if (j->rest.len == 0) {
        return ERR_INVALID;
    }
    char c = (char)*j->rest.data;
    if (c == '{') {
        return json_object(j, skip_field, NULL);
    }
    if (c == '[') {
        return json_array(j, skip_item, NULL);
    }
    if (c == '"') {
        struct bytes ignored = {0};
        enum err err = json_string(j, &ignored);
        bytes_deinit(&ignored);
        return err;
    }
    if (take_word(j, "true") || take_word(j, "false") || take_word(j, "null")) {
        return OK;
    }
    size_t n = 0;
    while (n < j->rest.len && j->rest.data[n] != 0 &&
           strchr("+-.0123456789eE", j->rest.data[n]) != NULL) {
        n++;
    }
    advance(j, n);
    return n > 0 ? OK : ERR_INVALID;
}

enum err json_object(struct json *j, enum err (*field)(void *arg, const char *name, struct json *j),
                     void *arg)
{
    if (!json_take(j, '{') || j->depth >= JSON_DEPTH_MAX) {
        return ERR_INVALID;
    }
    j->depth++;
    struct bytes name = {0};
    enum err err = OK;
    bool ended = json_take(j, '}');
    while (err == OK && !ended) {
        bytes_reset(&name);
        err = json_string(j, &name);
        if (err == OK && !json_take(j, ':')) {
            err = ERR_INVALID;
        }
        if (err == OK) {
            bytes_add(&name, "", 1);
            err = field(arg, (const char *)name.data, j);
        }
        ended = err == OK && json_take(j, '}');
        if (err == OK && !ended && !json_take(j, ',')) {
            err = ERR_INVALID;
        }
    }
    bytes_deinit(&name);
    j->depth--;
    return err;
}

enum err json_array(struct json *j, enum err (*item)(void *arg, struct json *j), void *arg)
{
    if (take_word(j, "null")) {
        return OK;
    }
    if (!json_take(j, '[') || j->depth >= JSON_DEPTH_MAX) {
        return ERR_INVALID;
    }
    j->depth++;
    enum err err = OK;
    bool ended = json_take(j, ']');
    while (err == OK && !ended) {
        err = item(arg, j);
        ended = err == OK && json_take(j, ']');
        if (err == OK && !ended && !json_take(j, ',')) {
            err = ERR_INVALID;
        }
    }
    j->depth--;
    return err;
}
