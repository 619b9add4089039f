/* config_file.h - etcd's --config-file: YAML into the flags.
 *
 * What        Keys are the flags' names, with etcd's exceptions: durations are nanoseconds, TLS, discovery and socket options stand in maps, some
 *             flags have no key. Keys that nobody knows are ignored; letters count in either case.
 * Callers     tools/pintle/config.c.   Thread  main.
 * Source      etcd-server.md 1.6.
 */
#ifndef TOOLS_PINTLE_CONFIG_FILE_H
#define TOOLS_PINTLE_CONFIG_FILE_H

#include "base/slice.h"
#include "tools/pintle/flags.h"

/* Sets in `s` (fresh from flag_set_init) what the document says. ERR_INVALID with etcd's text; *is_url says that etcd prints it by itself
 * rather than in a log line. */
MUST_CHECK enum err config_file_apply(struct flag_set *s, struct slice text, bool *is_url, struct err_ctx *ec);

#endif
