/* gateway_tcp.h - `pintle gateway start`: TCP connections passed on to whichever server answers.
 *
 * What        Listens, and copies bytes between each client and one of the endpoints, chosen in turn. An endpoint that cannot be reached is
 *             left out until it can be dialled again.
 * Callers     tools/pintle/config.c, for the word `gateway`.
 * Thread      main, which runs one libuv loop until a signal ends the process.
 * Source      etcd-server.md 9.1.
 */
#ifndef TOOLS_PINTLE_GATEWAY_TCP_H
#define TOOLS_PINTLE_GATEWAY_TCP_H

/* argv[1] is "gateway". The exit status; when all is well it does not return. */
int gateway_main(int argc, char **argv);

#endif
