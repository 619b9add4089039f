/* config_log.c - see config_log.h. */
#include "tools/pintle/config_log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/assert.h"
#include "base/mem.h"
#include "base/slice.h"
#include "tools/pintle/yaml.h"

#define MEGABYTE (1024u * 1024u)
#define MEGABYTES_DEFAULT 100u
#define MEGABYTES_MAX (1024u * 1024u) /* a file of a terabyte; more is taken for that */

static bool is_file(const char *output)
{
    static const char *const others[] = {"default", "stderr", "stdout", "systemd/journal"};
    for (size_t i = 0; i < ARRAY_LEN(others); i++) {
        if (strcmp(output, others[i]) == 0) {
            return false;
        }
    }
    return true;
}

static enum err wrong_type(const struct doc_node *v, const char *key, const char *type, struct err_ctx *ec)
{
    bool number = v->kind == DOC_NUMBER && strcmp(type, "int") == 0;
    return err_set(ec, ERR_INVALID, "invalid log rotation config: json: cannot unmarshal %s%s%s into Go struct field logRotationConfig.Logger.%s of type %s",
                   doc_kind_name(v->kind), number ? " " : "", number ? v->text : "", key, type);
}

static enum err take_number(const struct doc_node *v, const char *key, uint32_t max, uint32_t *out, struct err_ctx *ec)
{
    char *end = NULL;
    errno = 0;
    long long n = v->kind == DOC_NUMBER ? strtoll(v->text, &end, 10) : 0;
    if (end == NULL || *end != '\0' || errno != 0) {
        return wrong_type(v, key, "int", ec);
    }
    *out = n <= 0 ? 0 : n > (long long)max ? max : (uint32_t)n;
    return OK;
}

static enum err take_key(struct log_rotation *r, const char *key, const struct doc_node *v, struct err_ctx *ec)
{
    uint32_t n = 0;
    enum err e = OK;
    if (strcasecmp(key, "maxsize") == 0) {
        e = take_number(v, "maxsize", MEGABYTES_MAX, &n, ec);
        r->file_bytes_max = (uint64_t)(n == 0 ? MEGABYTES_DEFAULT : n) * MEGABYTE;
    } else if (strcasecmp(key, "maxage") == 0) {
        e = take_number(v, "maxage", UINT32_MAX, &r->age_max_days, ec);
    } else if (strcasecmp(key, "maxbackups") == 0) {
        e = take_number(v, "maxbackups", UINT32_MAX, &r->backups_max, ec);
    } else if (strcasecmp(key, "localtime") == 0 || strcasecmp(key, "compress") == 0) {
        bool local = strcasecmp(key, "localtime") == 0;
        bool on = v->text != NULL && strcmp(v->text, "true") == 0;
        if (v->kind != DOC_BOOL) {
            return wrong_type(v, local ? "localtime" : "compress", "bool", ec);
        }
        *(local ? &r->local_time : &r->compress) = on;
    }
    return e;
}

static enum err parse_rotation(const char *json, struct log_rotation *r, struct err_ctx *ec)
{
    struct doc_node root = {0};
    struct err_ctx why = {{0}};
    *r = (struct log_rotation){.file_bytes_max = (uint64_t)MEGABYTES_DEFAULT * MEGABYTE};
    if (json[strspn(json, " \t\r\n")] == '\0' || doc_parse(slice_str(json), &root, &why) != OK) {
        return err_set(ec, ERR_INVALID, "improperly formatted log rotation config: %s", why.text[0] != '\0' ? why.text : "unexpected end of JSON input");
    }
    enum err e = OK;
    if (root.kind != DOC_MAP && root.kind != DOC_NULL) {
        e = err_set(ec, ERR_INVALID, "invalid log rotation config: json: cannot unmarshal %s into Go value of type embed.logRotationConfig",
                    doc_kind_name(root.kind));
    }
    for (size_t i = 0; i < root.n && e == OK; i++) {
        e = root.children[i].kind == DOC_NULL ? OK : take_key(r, root.keys[i], &root.children[i], ec);
    }
    doc_deinit(&root);
    return e;
}

static enum err check_outputs(char *const *outputs, struct err_ctx *ec)
{
    struct bytes all = {0};
    size_t n = 0;
    bool fallback = false;
    bool journal = false;
    for (; outputs[n] != NULL; n++) {
        fallback = fallback || strcmp(outputs[n], "default") == 0;
        journal = journal || strcmp(outputs[n], "systemd/journal") == 0;
        bytes_printf(&all, "%s\"%s\"", n > 0 ? " " : "", outputs[n]);
    }
    enum err e = OK;
    if (n > 1 && fallback) {
        e = err_set(ec, ERR_INVALID, "multi logoutput for \"default\" is not supported yet");
    } else if (n > 1 && journal) {
        e = err_set(ec, ERR_INVALID,
                    "running with systemd/journal but other '--log-outputs' values ([%.*s]) are configured with 'default'; override 'default' value "
                    "with something else",
                    (int)all.len, (const char *)all.data);
    }
    bytes_deinit(&all);
    return e;
}

static enum err check_rotation(struct flag_set *f, struct log_rotation *r, struct err_ctx *ec)
{
    size_t n_files = 0;
    for (char **o = flag_get(f, "log-outputs")->urls; *o != NULL; o++) {
        n_files += is_file(*o) ? 1u : 0u;
    }
    if (n_files != 1) {
        return err_set(ec, ERR_INVALID, "--log-outputs requires a single file path when --log-rotate-config-json is defined");
    }
    return parse_rotation(flag_get(f, "log-rotation-config-json")->text, r, ec);
}

enum err config_log_open(struct flag_set *f, struct logger **out, struct err_ctx *ec)
{
    const char *logger = flag_get(f, "logger")->text;
    const char *format = flag_get(f, "log-format")->text;
    char **outputs = flag_get(f, "log-outputs")->urls;
    bool rotate = flag_get(f, "enable-log-rotation")->b;
    struct log_rotation rotation;
    enum log_level level = LOG_INFO;
    if (strcmp(logger, "zap") != 0) {
        return strcmp(logger, "capnslog") == 0 ? err_set(ec, ERR_INVALID, "--logger=capnslog is removed in v3.5")
                                               : err_set(ec, ERR_INVALID, "unknown logger option \"%s\"", logger);
    }
    enum err e = check_outputs(outputs, ec);
    if (e == OK && rotate) {
        e = check_rotation(f, &rotation, ec);
    }
    const char *name = flag_get(f, "log-level")->text;
    if (e == OK && name[0] != '\0' && log_level_parse(name, &level) != OK) {
        e = err_set(ec, ERR_UNSUPPORTED, "unrecognized level: \"%s\"", name);
    }
    bool console = strcmp(format, "console") == 0;
    if (e == OK && !console && strcmp(format, "json") != 0 && format[0] != '\0') {
        e = err_set(ec, ERR_INVALID, "unknown log format: %s, supported values json, console", format);
    }
    if (e == OK) {
        e = log_open((const char *const *)outputs, rotate ? &rotation : NULL, level, console ? LOG_CONSOLE : LOG_JSON, clock_real(), out, ec);
    }
    return e;
}
