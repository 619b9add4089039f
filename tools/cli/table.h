/* table.h - tables in frames of lines, as etcd's tools print them.
 *
 * What        A head in capitals, centred, and rows under it, each column as wide as its widest
 *             text. Cells stand to the right.
 * Callers     `-w table` of pintlectl and pintleutl.   Thread  any.
 * Source      cli.md 5, 14.
 */
#ifndef TOOLS_CLI_TABLE_H
#define TOOLS_CLI_TABLE_H

#include <stdio.h>

#define TABLE_COLUMNS_MAX 32u

/* `head` has n_columns texts, `cells` n_rows times as many. The head is put into capitals, with
 * blanks for underlines. Cells are of one line. */
void table_print(const char *const *head, size_t n_columns, const char *const *cells, size_t n_rows,
                 FILE *out);

#endif
