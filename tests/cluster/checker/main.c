/* main.c - cluster-check HISTORY...: judge histories that the workload wrote.
 *
 * Prints the violations and one line of counts. Exit code 0: none; 1: some; 2: no such history.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "tests/cluster/check.h"

static int check_file(const char *path)
{
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        (void)fprintf(stderr, "cluster-check: %s: %s\n", path, strerror(errno));
        return 2;
    }
    struct history h = {0};
    struct err_ctx ec = {{0}};
    enum err e = history_read(f, &h, &ec);
    (void)fclose(f);
    if (e != OK) {
        (void)fprintf(stderr, "cluster-check: %s: %s\n", path, ec.text);
        return 2;
    }
    struct check_report report = {.out = stdout};
    check_history(&h, &report);
    (void)printf("operations=%zu reads=%zu writes=%zu events=%zu watchers=%zu leases=%zu"
                 " undecided=%zu violations=%zu\n",
                 h.n_ops, report.n_reads, report.n_writes, h.n_events, h.n_watches, h.n_leases,
                 report.n_undecided, report.n_found);
    history_deinit(&h);
    return report.n_found > 0 ? 1 : 0;
}

int main(int argc, char **argv)
{
    int worst = argc > 1 ? 0 : 2;
    if (argc < 2) {
        (void)fputs("usage: cluster-check HISTORY...\n", stderr);
    }
    for (int i = 1; i < argc; i++) {
        int code = check_file(argv[i]);
        worst = code > worst ? code : worst;
    }
    return worst;
}
