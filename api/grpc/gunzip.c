/* gunzip.c - request messages that come compressed.
 *
 * etcd takes gzip and nothing else, and so do we; answers go out as they are, which every client has to take. What comes out is bounded while it
 * comes, so that a small message does not become a large one first. Texts are grpc-go's (rpc_util.go decompress) around those of Go's compress/gzip.
 */
#include <stdio.h>
#include <string.h>
#include <zlib.h>

#include "api/grpc/call.h"
#include "base/assert.h"

#define GZIP_WINDOW_BITS (15 + 16) /* the largest window; 16: gzip's head and tail */
#define GUNZIP_STEP_BYTES 16384u

/* What Go says of it. */
static void describe(char *out, size_t room, const z_stream *z, int rc)
{
    static const char *const head[] = {"incorrect header check", "unknown compression method", "unknown header flags set", "header crc mismatch"};
    static const char *const tail[] = {"incorrect data check", "incorrect length check"};
    const char *why = z->msg == NULL ? "" : z->msg;
    if (rc != Z_DATA_ERROR) {
        (void)snprintf(out, room, "unexpected EOF");
        return;
    }
    for (size_t i = 0; i < ARRAY_LEN(head); i++) {
        if (strcmp(why, head[i]) == 0) {
            (void)snprintf(out, room, "gzip: invalid header");
            return;
        }
    }
    for (size_t i = 0; i < ARRAY_LEN(tail); i++) {
        if (strcmp(why, tail[i]) == 0) {
            (void)snprintf(out, room, "gzip: invalid checksum");
            return;
        }
    }
    (void)snprintf(out, room, "flate: corrupt input before offset %lu", z->total_in);
}

/* Z_STREAM_END: all members are whole. Z_OK: `out` has one byte more than `max`. Else it broke off. */
static int inflate_all(z_stream *z, struct bytes *out, size_t max)
{
    for (;;) {
        size_t room = max + 1 - out->len;
        room = room < GUNZIP_STEP_BYTES ? room : GUNZIP_STEP_BYTES;
        z->next_out = bytes_reserve(out, room);
        z->avail_out = (uInt)room;
        int rc = inflate(z, Z_NO_FLUSH);
        out->len += room - z->avail_out;
        if (rc == Z_STREAM_END && z->avail_in > 0) {
            rc = inflateReset(z); /* another member */
        }
        if (rc != Z_OK) {
            return rc; /* Z_BUF_ERROR: there should be more */
        }
        if (out->len > max) {
            return Z_OK;
        }
    }
}

bool call_gunzip(struct grpc_call *c, struct slice in, struct bytes *out)
{
    uint32_t max = server_config(c->home->server)->limits.recv_bytes_max;
    z_stream z = {.next_in = (Bytef *)(uintptr_t)in.data, .avail_in = (uInt)in.len}; /* a message's length has 32 bits */
    gz_header head = {0};
    char why[64];
    char text[128];
    if (in.len == 0) {
        grpc_finish(c, GRPC_INTERNAL, "grpc: failed to decompress the message: EOF");
        return false;
    }
    if (inflateInit2(&z, GZIP_WINDOW_BITS) != Z_OK) {
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, "etcdserver: too many requests");
        return false;
    }
    (void)inflateGetHeader(&z, &head);
    int rc = inflate_all(&z, out, max);
    if (rc != Z_STREAM_END && rc != Z_OK) {
        describe(why, sizeof(why), &z, rc);
        (void)snprintf(text, sizeof(text), "grpc: failed to %s: %s", head.done == 1 ? "read decompressed data" : "decompress the message", why);
        grpc_finish(c, GRPC_INTERNAL, text);
    } else if (out->len > max) {
        rc = Z_OK;
        (void)snprintf(text, sizeof(text), "grpc: received message after decompression larger than max %u", max);
        grpc_finish(c, GRPC_RESOURCE_EXHAUSTED, text);
    }
    (void)inflateEnd(&z);
    return rc == Z_STREAM_END;
}
