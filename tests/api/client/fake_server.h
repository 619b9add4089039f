/* fake_server.h - a gRPC server with a few fixed behaviours, on a thread of its own.
 *
 * What        Serves one connection after another on a unix socket. The path of a call chooses:
 *               /t.T/Echo     replies with the request's bytes; as a stream, message by message,
 *                             and ends with OK after the client's half close
 *               /t.T/Fail     trailers only: status 5, text "no such \"thing\" 100%"
 *               /t.T/Never    no answer
 *               /t.T/Hangup   closes the connection
 *               /t.T/Flood    streams FLOOD_MESSAGES messages of FLOOD_BYTES, then OK
 *               /t.T/Token    replies with the value of the metadata "token"
 *               /t.T/Short    status OK and half a message
 * Thread      start and stop from the test's thread.
 */
#ifndef TESTS_API_CLIENT_FAKE_SERVER_H
#define TESTS_API_CLIENT_FAKE_SERVER_H

#include <stdint.h>

#define FLOOD_MESSAGES 200u
#define FLOOD_BYTES (100u * 1024u)

struct fake_server;

struct fake_server *fake_server_start(void);
const char *fake_server_target(const struct fake_server *f);
/* Bytes of flood messages written so far. */
uint64_t fake_server_flooded(const struct fake_server *f);
/* Streams that the client reset with CANCEL. */
uint64_t fake_server_canceled(const struct fake_server *f);
void fake_server_stop(struct fake_server **f);

#endif
