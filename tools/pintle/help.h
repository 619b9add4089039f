/* help.h - what --help and --version print.
 *
 * What        The usage on stderr, the flags on stdout, the version.   Callers  tools/pintle/config.c.   Thread  main.
 * Source      etcd-server.md 10.
 */
#ifndef TOOLS_PINTLE_HELP_H
#define TOOLS_PINTLE_HELP_H

void help_usage(void);
void help_flags(void);
void help_version(void);

#endif
