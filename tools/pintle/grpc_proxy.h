/* grpc_proxy.h - `pintle grpc-proxy start`: clients' calls answered with the help of a cluster somewhere else.
 *
 * What        From flags to a listener with api/proxy behind it, and its HTTP pages.
 * Callers     tools/pintle/config.c, for the word `grpc-proxy`.
 * Thread      main, which runs one loop until a signal ends the process; libuv's workers dial and fetch.
 * Source      etcd-server.md 9.2.
 */
#ifndef TOOLS_PINTLE_GRPC_PROXY_H
#define TOOLS_PINTLE_GRPC_PROXY_H

/* argv[1] is "grpc-proxy". The exit status; when all is well it does not return. */
int grpc_proxy_main(int argc, char **argv);

#endif
