/* yaml.h - a YAML document as a small tree of maps, lists and scalars.
 *
 * What        libyaml's parser with the meaning that etcd gives its configuration: YAML 1.1 scalars, the first document alone, aliases and
 *             merge keys resolved, map keys sorted, the last of equal keys kept. JSON is read as well.
 * Callers     tools/pintle/config_file.c, config_log.c.   Thread  any.
 * Invariants  A tree has at most DOC_NODES_MAX nodes, DOC_DEPTH_MAX deep, however its aliases multiply.
 */
#ifndef TOOLS_PINTLE_YAML_H
#define TOOLS_PINTLE_YAML_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/slice.h"

#define DOC_BYTES_MAX (1024u * 1024u) /* of a document; over: ERR_LIMIT */
#define DOC_NODES_MAX 4000u
#define DOC_DEPTH_MAX 64u

enum doc_kind { DOC_NULL, DOC_BOOL, DOC_NUMBER, DOC_STRING, DOC_LIST, DOC_MAP };

struct doc_node {
    enum doc_kind kind;
    char *text;                 /* owned; scalars: true, false, a number in decimal, or the string. NUL bytes end it. */
    char **keys;                /* owned; MAP: sorted */
    struct doc_node *children; /* owned; LIST, MAP */
    size_t n;
};

/* On OK *out is to be given to doc_deinit. ERR_INVALID with go-yaml's text, ERR_LIMIT. */
MUST_CHECK enum err doc_parse(struct slice text, struct doc_node *out, struct err_ctx *ec);
void doc_deinit(struct doc_node *n);
/* As JSON names it: null, bool, number, string, array, object. */
const char *doc_kind_name(enum doc_kind kind);

#endif
