/* hex.c - see hex.h. */
#include "tests/raft/peer/hex.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static uint8_t digit(char c)
{
    if (c >= '0' && c <= '9') {
        return (uint8_t)(c - '0');
    }
    assert_in_range(c, 'a', 'f');
    return (uint8_t)(c - 'a' + 10);
}

void hex_add(struct bytes *out, const char *hex)
{
    for (const char *p = hex; *p != '\0'; p++) {
        if (*p == ' ') {
            continue;
        }
        uint8_t v = (uint8_t)(digit(p[0]) << 4 | digit(p[1]));
        bytes_add(out, &v, 1);
        p++;
    }
}

void assert_hex(struct slice b, const char *hex)
{
    struct bytes want = {0};
    hex_add(&want, hex);
    if (!slice_eq(b, bytes_slice(&want))) {
        struct bytes got = {0};
        for (size_t i = 0; i < b.len; i++) {
            bytes_printf(&got, "%02x", b.data[i]);
        }
        bytes_add(&got, "", 1);
        print_error("got  %s\nwant %s\n", (const char *)got.data, hex);
        bytes_deinit(&got);
        fail();
    }
    bytes_deinit(&want);
}
