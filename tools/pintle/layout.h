/* layout.h - names in a data directory that both the server and pintleutl know.
 *
 * What        A restore builds the member beside its place and renames it when all is durable. A server does not start beside an unfinished one.
 * Callers     tools/pintle/datadir.c; tools/pintleutl.   Thread  any.
 */
#ifndef TOOLS_PINTLE_LAYOUT_H
#define TOOLS_PINTLE_LAYOUT_H

#define LAYOUT_LOCK "LOCK" /* held while a process works in the directory */
#define LAYOUT_MEMBER "member"
#define LAYOUT_RESTORING "member.restoring"

#endif
