/* table.c - see table.h. */
#include "tools/cli/table.h"

#include <ctype.h>
#include <string.h>

#include "base/assert.h"
#include "tools/cli/text.h"

/* How many characters a terminal shows; what is no UTF-8 counts by bytes. */
static size_t width_of(const char *s)
{
    struct slice rest = slice_str(s);
    size_t n = 0;
    while (rest.len > 0) {
        uint32_t rune = 0;
        size_t len = 0;
        (void)text_rune(rest, &rune, &len);
        rest = slice_of(rest.data + len, rest.len - len);
        n++;
    }
    return n;
}

static void spaces(size_t n, FILE *out)
{
    (void)fprintf(out, "%*s", (int)n, "");
}

static void line(const size_t *widths, size_t n, const char *left, const char *between,
                 const char *right, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        (void)fputs(i == 0 ? left : between, out);
        for (size_t k = 0; k < widths[i] + 2; k++) {
            (void)fputs("─", out);
        }
    }
    (void)fprintf(out, "%s\n", right);
}

static void head(const char *const *cells, const size_t *widths, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t free = widths[i] - width_of(cells[i]);
        (void)fputs("│ ", out);
        spaces(free / 2, out);
        for (const char *p = cells[i]; *p != '\0'; p++) {
            (void)fputc(toupper((unsigned char)*p), out);
        }
        spaces(free - free / 2 + 1, out);
    }
    (void)fputs("│\n", out);
}

static void row(const char *const *cells, const size_t *widths, size_t n, bool right, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t free = widths[i] - width_of(cells[i]);
        (void)fputs("│ ", out);
        spaces(right ? free : 0, out);
        (void)fputs(cells[i], out);
        spaces(right ? 1 : free + 1, out);
    }
    (void)fputs("│\n", out);
}

void table_print(const char *const *cells, size_t n_columns, size_t n_rows, bool right, FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    ASSERT(n_columns <= TABLE_COLUMNS_MAX);
    for (size_t i = 0; i < n_columns * (n_rows + 1); i++) {
        size_t w = width_of(cells[i]);
        widths[i % n_columns] = w > widths[i % n_columns] ? w : widths[i % n_columns];
    }
    line(widths, n_columns, "┌", "┬", "┐", out);
    head(cells, widths, n_columns, out);
    line(widths, n_columns, "├", "┼", "┤", out);
    for (size_t r = 1; r <= n_rows; r++) {
        row(cells + r * n_columns, widths, n_columns, right, out);
    }
    line(widths, n_columns, "└", "┴", "┘", out);
}
