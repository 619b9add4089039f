/* print_table.c - boxes of light lines, headings in the middle, cells to the right.
 *
 * Width is counted in characters, not bytes.
 */
#include <ctype.h>
#include <string.h>

#include "tools/pintlectl/print.h"

static size_t width_of(const char *s)
{
    size_t n = 0;
    for (; *s != '\0'; s++) {
        n += ((uint8_t)*s & 0xc0) != 0x80;
    }
    return n;
}

static void repeat(const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)fputs(s, stdout);
    }
}

static void line(const char *left, const char *cross, const char *right, const size_t *widths,
                 size_t n)
{
    for (size_t i = 0; i < n; i++) {
        (void)fputs(i == 0 ? left : cross, stdout);
        repeat("─", widths[i] + 2);
    }
    (void)printf("%s\n", right);
}

static void heading(const char *s, size_t width)
{
    size_t pad = width - width_of(s);
    repeat(" ", 1 + pad / 2);
    for (; *s != '\0'; s++) {
        (void)putchar(*s == '_' ? ' ' : toupper((unsigned char)*s));
    }
    repeat(" ", pad - pad / 2 + 1);
}

void print_table(const char *const *head, size_t n, const char *const *cells, size_t n_rows)
{
    size_t widths[PRINT_CELL_COLUMNS_MAX] = {0};
    ASSERT(n <= PRINT_CELL_COLUMNS_MAX);
    for (size_t i = 0; i < n; i++) {
        widths[i] = width_of(head[i]);
        for (size_t r = 0; r < n_rows; r++) {
            size_t w = width_of(cells[r * n + i]);
            widths[i] = w > widths[i] ? w : widths[i];
        }
    }
    line("┌", "┬", "┐", widths, n);
    for (size_t i = 0; i < n; i++) {
        (void)fputs("│", stdout);
        heading(head[i], widths[i]);
    }
    (void)puts("│");
    if (n_rows > 0) {
        line("├", "┼", "┤", widths, n);
    }
    for (size_t r = 0; r < n_rows; r++) {
        for (size_t i = 0; i < n; i++) {
            const char *cell = cells[r * n + i];
            (void)fputs("│ ", stdout);
            repeat(" ", widths[i] - width_of(cell));
            (void)printf("%s ", cell);
        }
        (void)puts("│");
    }
    line("└", "┴", "┘", widths, n);
    (void)fflush(stdout);
}
