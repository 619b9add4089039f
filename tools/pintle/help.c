/* help.c - see help.h. */
#include "tools/pintle/help.h"

#include <stdio.h>
#include <string.h>

#include "api/etcd/server.h"
#include "tools/pintle/flag_table.h"

void help_usage(void)
{
    (void)fputs("Usage:\n\n"
                "  pintle [flags]\n    Start a server.\n\n"
                "  pintle --version\n    Show the version.\n\n"
                "  pintle -h | --help\n    Show this help.\n\n"
                "  pintle --config-file\n    Path of a file with the configuration. All other flags and the environment are then ignored.\n\n"
                "  pintle gateway\n    Forward TCP connections to servers, without looking into them.\n\n"
                "  pintle grpc-proxy\n    Answer clients with the help of a cluster: reads are cached, watches and keep-alives merged.\n\n",
                stderr);
}

static void print_gates(void)
{
    printf("    AllAlpha=true|false (ALPHA - default=false)\n    AllBeta=true|false (BETA - default=false)\n");
    for (size_t i = 0; i < FLAG_N_GATES; i++) {
        const struct flag_gate *g = &flag_gates[i];
        printf("    %s=true|false (%s - default=%s)\n", g->name, g->alpha ? "ALPHA" : "BETA", g->fallback ? "true" : "false");
    }
}

void help_flags(void)
{
    const char *section = "";
    for (const struct flag *f = flag_table; f->name != NULL; f++) {
        const char *next = flag_section(f);
        if (next == NULL) {
            continue; /* accepted for compatibility, not shown */
        }
        if (strcmp(section, next) != 0) {
            printf("%s%s\n", section[0] != '\0' ? "\n" : "", next);
            section = next;
        }
        printf("  --%s '%s'\n    %s%s\n", f->name, f->fallback, f->help,
               f->support == FLAG_ACCEPTED ? " (accepted without effect)" : f->support == FLAG_REFUSED ? " (not in this version)" : "");
        if (f->type == FLAG_GATES) {
            print_gates();
        }
    }
    printf("\nCAUTIOUS with unsafe flags: they break what the server promises about your data.\n");
}

void help_version(void)
{
#if defined(__x86_64__)
    static const char arch[] = "amd64";
#elif defined(__aarch64__)
    static const char arch[] = "arm64";
#else
    static const char arch[] = "other";
#endif
    printf("etcd Version: %s\nGit SHA: Not provided (pintle %s)\nGo Version: none (C)\nGo OS/Arch: linux/%s\n", ETCD_VERSION, PINTLE_VERSION, arch);
}
