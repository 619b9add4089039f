/* yaml.c - see yaml.h. */
#include "tools/pintle/yaml.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/assert.h"
#include "base/mem.h"

#define WHOLE_MAX 9007199254740992.0 /* 2^53: every float above is whole */
#define PLAIN_MAX 1e21 /* whole numbers below are written without an exponent, as Go's JSON does */

const char *doc_kind_name(enum doc_kind kind)
{
    static const char *const names[] = {"null", "bool", "number", "string", "array", "object"};
    return names[(unsigned)kind];
}

void doc_deinit(struct doc_node *n)
{
    for (size_t i = 0; i < n->n; i++) {
        if (n->keys != NULL) {
            free(n->keys[i]);
        }
        doc_deinit(&n->children[i]);
    }
    free(n->keys);
    free(n->children);
    free(n->text);
    *n = (struct doc_node){0};
}

/* --- scalars -------------------------------------------------------------------------------------------------- */

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words != NULL; words++) {
        if (strcmp(text, *words) == 0) {
            return true;
        }
    }
    return false;
}

/* An integer of YAML 1.1, with bases and underscores. The caller frees; NULL: it is none. */
static char *integer_of(const char *text)
{
    char *plain = xstrdup(text);
    size_t n = 0;
    for (const char *p = text; *p != '\0'; p++) {
        if (*p != '_') {
            plain[n++] = *p;
        }
    }
    plain[n] = '\0';
    bool negative = plain[0] == '-';
    const char *digits = plain + (plain[0] == '-' || plain[0] == '+' ? 1 : 0);
    int base = 10;
    if (digits[0] == '0' && digits[1] != '\0') {
        base = digits[1] == 'x' ? 16 : digits[1] == 'b' ? 2 : 8;
        digits += digits[1] == 'x' || digits[1] == 'b' || digits[1] == 'o' ? 2 : 1;
    }
    char *end = NULL;
    errno = 0;
    uint64_t v = isxdigit((unsigned char)digits[0]) ? strtoull(digits, &end, base) : 0;
    bool whole = end != NULL && *end == '\0' && errno == 0 && (!negative || v <= (uint64_t)INT64_MAX + 1u);
    free(plain);
    return whole ? xasprintf("%s%" PRIu64, negative && v != 0 ? "-" : "", v) : NULL;
}

/* A decimal fraction or a number with an exponent, as JSON writes it. The caller frees; NULL: it is none. */
static char *float_of(const char *text)
{
    const char *p = text + (text[0] == '-' || text[0] == '+' ? 1 : 0);
    bool digit = isdigit((unsigned char)p[0]) || (p[0] == '.' && isdigit((unsigned char)p[1]));
    if (!digit || strspn(p, "0123456789.eE+-") != strlen(p)) {
        return NULL;
    }
    char *end = NULL;
    double v = strtod(text, &end);
    if (*end != '\0' || !isfinite(v)) {
        return NULL;
    }
    bool large = v < -WHOLE_MAX || v > WHOLE_MAX;
    bool whole = large || v == (double)(int64_t)v;
    return whole && v > -PLAIN_MAX && v < PLAIN_MAX ? xasprintf("%.0f", v) : xasprintf("%.17g", v);
}

static void resolve_plain(struct doc_node *n)
{
    static const char *const nothing[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const yes[] = {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON", "true", "True", "TRUE", NULL};
    static const char *const no[] = {"n", "N", "no", "No", "NO", "off", "Off", "OFF", "false", "False", "FALSE", NULL};
    char *number = NULL;
    if (is_one_of(n->text, nothing)) {
        n->kind = DOC_NULL;
    } else if (is_one_of(n->text, yes) || is_one_of(n->text, no)) {
        n->kind = DOC_BOOL;
        char *word = xstrdup(is_one_of(n->text, yes) ? "true" : "false");
        free(n->text);
        n->text = word;
    } else if ((number = integer_of(n->text)) != NULL || (number = float_of(n->text)) != NULL) {
        n->kind = DOC_NUMBER;
        free(n->text);
        n->text = number;
    }
}

/* --- the tree ---------------------------------------------------------------------------------------------------- */

struct build {
    yaml_document_t *doc;
    size_t n_nodes;
    struct err_ctx *ec;
};

static enum err build_node(struct build *b, int id, unsigned depth, struct doc_node *out);

static enum err build_list(struct build *b, const yaml_node_t *y, unsigned depth, struct doc_node *out)
{
    out->kind = DOC_LIST;
    size_t n = (size_t)(y->data.sequence.items.top - y->data.sequence.items.start);
    out->children = xcalloc(n + 1, sizeof(*out->children));
    for (size_t i = 0; i < n; i++) {
        enum err e = build_node(b, y->data.sequence.items.start[i], depth + 1, &out->children[i]);
        out->n = i + 1;
        if (e != OK) {
            return e;
        }
    }
    return OK;
}

static size_t find_key(const struct doc_node *map, const char *key)
{
    size_t i = 0;
    while (i < map->n && strcmp(map->keys[i], key) != 0) {
        i++;
    }
    return i;
}

/* Takes key and value. An equal key gets the new value, or with `keep` stays. */
static void put(struct doc_node *map, char *key, struct doc_node *value, bool keep)
{
    size_t i = find_key(map, key);
    if (i < map->n) {
        free(key);
        if (keep) {
            doc_deinit(value);
        } else {
            doc_deinit(&map->children[i]);
            map->children[i] = *value;
        }
    } else {
        map->keys = xrealloc(map->keys, (map->n + 1) * sizeof(*map->keys));
        map->children = xrealloc(map->children, (map->n + 1) * sizeof(*map->children));
        map->keys[map->n] = key;
        map->children[map->n++] = *value;
    }
    *value = (struct doc_node){0};
}

/* What a merge key brings: the entries of a map, or of a list of maps, that the map does not have itself. */
static enum err merge(struct build *b, struct doc_node *map, struct doc_node *value)
{
    struct doc_node *maps = value->kind == DOC_LIST ? value->children : value;
    size_t n = value->kind == DOC_LIST ? value->n : 1;
    for (size_t k = 0; k < n; k++) {
        if (maps[k].kind != DOC_MAP) {
            return err_set(b->ec, ERR_INVALID, "error converting YAML to JSON: yaml: map merge requires map or sequence of maps as the value");
        }
        for (size_t i = 0; i < maps[k].n; i++) {
            put(map, xstrdup(maps[k].keys[i]), &maps[k].children[i], true);
        }
    }
    return OK;
}

static void sort_map(struct doc_node *map)
{
    for (size_t i = 1; i < map->n; i++) {
        for (size_t k = i; k > 0 && strcmp(map->keys[k - 1], map->keys[k]) > 0; k--) {
            char *key = map->keys[k];
            struct doc_node child = map->children[k];
            map->keys[k] = map->keys[k - 1];
            map->children[k] = map->children[k - 1];
            map->keys[k - 1] = key;
            map->children[k - 1] = child;
        }
    }
}

static enum err build_pair(struct build *b, const yaml_node_pair_t *pair, unsigned depth, bool merges, struct doc_node *out)
{
    struct doc_node key = {0};
    struct doc_node value = {0};
    const yaml_node_t *y = yaml_document_get_node(b->doc, pair->key);
    bool is_merge = y != NULL && y->type == YAML_SCALAR_NODE && y->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
                    y->data.scalar.length == 2 && memcmp(y->data.scalar.value, "<<", 2) == 0;
    if (is_merge != merges) {
        return OK;
    }
    enum err e = build_node(b, pair->key, depth + 1, &key);
    if (e == OK && (key.kind == DOC_LIST || key.kind == DOC_MAP)) {
        e = err_set(b->ec, ERR_INVALID, "error converting YAML to JSON: yaml: invalid map key");
    }
    if (e == OK) {
        e = build_node(b, pair->value, depth + 1, &value);
    }
    if (e == OK && is_merge) {
        e = merge(b, out, &value);
    } else if (e == OK) {
        put(out, key.text, &value, false);
        key.text = NULL;
    }
    doc_deinit(&key);
    doc_deinit(&value);
    return e;
}

static enum err build_map(struct build *b, const yaml_node_t *y, unsigned depth, struct doc_node *out)
{
    out->kind = DOC_MAP;
    for (int merges = 0; merges < 2; merges++) {
        for (const yaml_node_pair_t *p = y->data.mapping.pairs.start; p < y->data.mapping.pairs.top; p++) {
            enum err e = build_pair(b, p, depth, merges == 1, out);
            if (e != OK) {
                return e;
            }
        }
    }
    sort_map(out);
    return OK;
}

static enum err build_node(struct build *b, int id, unsigned depth, struct doc_node *out)
{
    if (++b->n_nodes > DOC_NODES_MAX || depth > DOC_DEPTH_MAX) {
        return err_set(b->ec, ERR_LIMIT, "error converting YAML to JSON: yaml: document contains excessive aliasing or nesting");
    }
    const yaml_node_t *y = yaml_document_get_node(b->doc, id);
    ASSERT(y != NULL);
    *out = (struct doc_node){0};
    if (y->type == YAML_SEQUENCE_NODE) {
        return build_list(b, y, depth, out);
    }
    if (y->type == YAML_MAPPING_NODE) {
        return build_map(b, y, depth, out);
    }
    ASSERT(y->type == YAML_SCALAR_NODE);
    out->kind = DOC_STRING;
    out->text = xstrndup((const char *)y->data.scalar.value, y->data.scalar.length);
    if (y->data.scalar.style == YAML_PLAIN_SCALAR_STYLE) {
        resolve_plain(out);
    }
    return OK;
}

/* --- the document --------------------------------------------------------------------------------------------------- */

/* The line that go-yaml names, which is one less than one would think unless the scanner found the fault. */
static enum err explain(const yaml_parser_t *p, struct slice text, struct err_ctx *ec)
{
    const char *problem = p->problem != NULL ? p->problem : "unknown problem parsing YAML content";
    size_t line = p->problem_mark.line != 0 ? p->problem_mark.line : p->context_mark.line;
    if (p->error == YAML_COMPOSER_ERROR && strcmp(problem, "found undefined alias") == 0) {
        size_t from = p->problem_mark.index + 1;
        size_t to = from;
        while (to < text.len && (isalnum(text.data[to]) || text.data[to] == '_' || text.data[to] == '-')) {
            to++;
        }
        from = from > to ? to : from;
        return err_set(ec, ERR_INVALID, "error converting YAML to JSON: yaml: unknown anchor '%.*s' referenced", (int)(to - from),
                       (const char *)text.data + (from > text.len ? 0 : from));
    }
    if (line == 0) {
        return err_set(ec, ERR_INVALID, "error converting YAML to JSON: yaml: %s", problem);
    }
    line += p->error == YAML_SCANNER_ERROR ? 1u : 0u;
    return err_set(ec, ERR_INVALID, "error converting YAML to JSON: yaml: line %zu: %s", line, problem);
}

enum err doc_parse(struct slice text, struct doc_node *out, struct err_ctx *ec)
{
    static const uint8_t empty[1];
    if (text.len > DOC_BYTES_MAX) {
        return err_set(ec, ERR_LIMIT, "error converting YAML to JSON: yaml: more than %u bytes", DOC_BYTES_MAX);
    }
    yaml_parser_t parser;
    yaml_document_t doc;
    if (yaml_parser_initialize(&parser) == 0) {
        return err_set(ec, ERR_LIMIT, "no memory for a YAML parser");
    }
    yaml_parser_set_input_string(&parser, text.len == 0 ? empty : text.data, text.len);
    if (yaml_parser_load(&parser, &doc) == 0) {
        enum err e = explain(&parser, text, ec);
        yaml_parser_delete(&parser);
        return e;
    }
    struct build b = {.doc = &doc, .ec = ec};
    struct doc_node tree = {0};
    enum err e = yaml_document_get_root_node(&doc) == NULL ? OK : build_node(&b, 1, 1, &tree);
    yaml_document_delete(&doc);
    yaml_parser_delete(&parser);
    if (e != OK) {
        doc_deinit(&tree);
        return e;
    }
    *out = tree;
    return OK;
}
