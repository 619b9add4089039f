/* Tables, cell by cell as etcd's tools lay them out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/assert.h"
#include "tools/cli/table.h"

struct table {
    const char *claim;
    const char *head[2];
    const char *cells[4];
    size_t n_rows;
    const char *lines;
};

static void tables(void **state)
{
    (void)state;
    static const struct table rows[] = {
        {"heads are capitals in the middle, cells stand to the right",
         {"id", "is_leader"},
         {"8e9e05c52164694d", "true", "1", "false"},
         2,
         "┌──────────────────┬───────────┐\n"
         "│        ID        │ IS LEADER │\n"
         "├──────────────────┼───────────┤\n"
         "│ 8e9e05c52164694d │      true │\n"
         "│                1 │     false │\n"
         "└──────────────────┴───────────┘\n"},
        {"an odd blank stands behind a head",
         {"ab", "c"},
         {"12345", ""},
         1,
         "┌───────┬───┐\n"
         "│  AB   │ C │\n"
         "├───────┼───┤\n"
         "│ 12345 │   │\n"
         "└───────┴───┘\n"},
        {"no line divides the head from nothing",
         {"a", "b"},
         {NULL},
         0,
         "┌───┬───┐\n"
         "│ A │ B │\n"
         "└───┴───┘\n"},
        {"characters count, not bytes",
         {"name", "x"},
         {"m\u00e9l\u00e9e", "\u20ac"},
         1,
         "┌───────┬───┐\n"
         "│ NAME  │ X │\n"
         "├───────┼───┤\n"
         "│ m\u00e9l\u00e9e │ \u20ac │\n"
         "└───────┴───┘\n"},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        char *text = NULL;
        size_t n = 0;
        FILE *out = open_memstream(&text, &n);
        assert_non_null(out);
        table_print(rows[i].head, 2, rows[i].cells, rows[i].n_rows, out);
        (void)fclose(out);
        if (strcmp(text, rows[i].lines) != 0) {
            fail_msg("%s:\n%s", rows[i].claim, text);
        }
        free(text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
