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

static void print_head(const char *const *cells, const size_t *widths, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        size_t free = widths[i] - width_of(cells[i]);
        (void)fputs("│ ", out);
        spaces(free / 2, out);
        for (const char *p = cells[i]; *p != '\0'; p++) {
            (void)fputc(*p == '_' ? ' ' : toupper((unsigned char)*p), out);
        }
        spaces(free - free / 2 + 1, out);
    }
    (void)fputs("│\n", out);
}

static void print_row(const char *const *cells, const size_t *widths, size_t n, FILE *out)
{
    for (size_t i = 0; i < n; i++) {
        (void)fputs("│ ", out);
        spaces(widths[i] - width_of(cells[i]), out);
        (void)fprintf(out, "%s ", cells[i]);
    }
    (void)fputs("│\n", out);
}

static void widen(size_t *widths, const char *const *cells, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t w = width_of(cells[i]);
        widths[i] = w > widths[i] ? w : widths[i];
    }
}

void table_print(const char *const *head, size_t n_columns, const char *const *cells, size_t n_rows,
                 FILE *out)
{
    size_t widths[TABLE_COLUMNS_MAX] = {0};
    ASSERT(n_columns <= TABLE_COLUMNS_MAX);
    widen(widths, head, n_columns);
    for (size_t r = 0; r < n_rows; r++) {
        widen(widths, cells + r * n_columns, n_columns);
    }
    line(widths, n_columns, "┌", "┬", "┐", out);
    print_head(head, widths, n_columns, out);
    if (n_rows > 0) {
        line(widths, n_columns, "├", "┼", "┤", out);
    }
    for (size_t r = 0; r < n_rows; r++) {
        print_row(cells + r * n_columns, widths, n_columns, out);
    }
    line(widths, n_columns, "└", "┴", "┘", out);
}
