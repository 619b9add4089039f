/* table.h - tables in frames of lines, as etcd's tools print them.
 *
 * What        A head in capitals, centred, and rows under it, each column as wide as its widest
 *             text.
 * Callers     `-w table` of pintlectl and pintleutl.   Thread  any.
 * Source      cli.md 5, 14.
 */
#ifndef TOOLS_CLI_TABLE_H
#define TOOLS_CLI_TABLE_H

#include <stdbool.h>
#include <stdio.h>

#define TABLE_COLUMNS_MAX 32u

/* `cells` has n_columns texts of the head and then n_rows times as many. The head is put into
 * capitals. Cells are of one line. */
void table_print(const char *const *cells, size_t n_columns, size_t n_rows, bool right, FILE *out);

#endif
