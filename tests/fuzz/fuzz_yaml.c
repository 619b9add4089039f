/* fuzz_yaml.c - the configuration file: YAML, the types of its keys, the flags that it sets. */
#include <stdint.h>

#include "base/assert.h"
#include "tools/pintle/config_file.h"
#include "tools/pintle/flag_table.h"
#include "tools/pintle/yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t count(const struct doc_node *n, unsigned depth)
{
    size_t total = 1;
    ASSERT(depth <= DOC_DEPTH_MAX);
    bool nested = n->kind == DOC_LIST || n->kind == DOC_MAP;
    ASSERT(nested || n->n == 0);
    ASSERT(nested || n->text != NULL || n->kind == DOC_NULL);
    for (size_t i = 0; i < n->n; i++) {
        ASSERT(n->kind != DOC_MAP || i == 0 || strcmp(n->keys[i - 1], n->keys[i]) < 0);
        total += count(&n->children[i], depth + 1);
    }
    return total;
}

static void heard(void *arg, const char *old, const char *instead)
{
    (void)arg;
    ASSERT(old != NULL);
    ASSERT(instead != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct doc_node tree = {0};
    struct err_ctx ec = {{0}};
    struct slice text = {data, size};
    if (doc_parse(text, &tree, &ec) == OK) {
        ASSERT(count(&tree, 1) <= DOC_NODES_MAX + 1);
        doc_deinit(&tree);
    } else {
        ASSERT(ec.text[0] != '\0');
    }
    struct flag_set s;
    bool is_url = false;
    struct err_ctx why = {{0}};
    flag_set_init(&s, flag_table);
    enum err e = config_file_apply(&s, text, &is_url, &why);
    if (e == OK) {
        e = flag_set_modernize(&s, heard, NULL, &why);
    }
    ASSERT((e == OK) == (why.text[0] == '\0'));
    ASSERT(e != OK || !is_url);
    flag_set_deinit(&s);
    return 0;
}
