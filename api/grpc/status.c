/* status.c - codes, and text as it travels in grpc-message.
 *
 * Source: gRPC over HTTP/2, "Percent-Encoded"; code names as grpc-go's codes.Code.String.
 */
#include <assert.h>

#include "api/grpc/call.h"
#include "base/assert.h"

static const struct {
    const char *name;
    const char *digits;
} codes[] = {
    [GRPC_OK] = {"OK", "0"},
    [GRPC_CANCELED] = {"Canceled", "1"},
    [GRPC_UNKNOWN] = {"Unknown", "2"},
    [GRPC_INVALID_ARGUMENT] = {"InvalidArgument", "3"},
    [GRPC_DEADLINE_EXCEEDED] = {"DeadlineExceeded", "4"},
    [GRPC_NOT_FOUND] = {"NotFound", "5"},
    [GRPC_ALREADY_EXISTS] = {"AlreadyExists", "6"},
    [GRPC_PERMISSION_DENIED] = {"PermissionDenied", "7"},
    [GRPC_RESOURCE_EXHAUSTED] = {"ResourceExhausted", "8"},
    [GRPC_FAILED_PRECONDITION] = {"FailedPrecondition", "9"},
    [GRPC_ABORTED] = {"Aborted", "10"},
    [GRPC_OUT_OF_RANGE] = {"OutOfRange", "11"},
    [GRPC_UNIMPLEMENTED] = {"Unimplemented", "12"},
    [GRPC_INTERNAL] = {"Internal", "13"},
    [GRPC_UNAVAILABLE] = {"Unavailable", "14"},
    [GRPC_DATA_LOSS] = {"DataLoss", "15"},
    [GRPC_UNAUTHENTICATED] = {"Unauthenticated", "16"},
};
static_assert(ARRAY_LEN(codes) == GRPC_CODE_N, "a row for every code");

const char *grpc_code_name(enum grpc_code code)
{
    ASSERT((unsigned)code < GRPC_CODE_N);
    return codes[code].name;
}

const char *grpc_code_digits(enum grpc_code code)
{
    ASSERT((unsigned)code < GRPC_CODE_N);
    return codes[code].digits;
}

void grpc_text_encode(struct bytes *out, struct slice text)
{
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < text.len; i++) {
        uint8_t b = text.data[i];
        if (b >= 0x20 && b <= 0x7e && b != '%') {
            bytes_add(out, &b, 1);
        } else {
            const char escaped[] = {'%', hex[b >> 4], hex[b & 15]};
            bytes_add(out, escaped, sizeof(escaped));
        }
    }
}

void grpc_quote(struct bytes *out, struct slice text)
{
    bytes_add_str(out, "\"");
    for (size_t i = 0; i < text.len; i++) {
        uint8_t b = text.data[i];
        if (b == '"' || b == '\\') {
            bytes_add_str(out, "\\");
            bytes_add(out, &b, 1);
        } else if (b >= 0x20 && b != 0x7f) {
            bytes_add(out, &b, 1);
        } else {
            bytes_printf(out, "\\x%02x", b);
        }
    }
    bytes_add_str(out, "\"");
}
