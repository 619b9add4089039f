/* access.c - see access.h. */
#include "api/gateway/access.h"

#include <string.h>

static bool listed(const char *const *list, struct slice name)
{
    bool empty = true;
    for (; list != NULL && *list != NULL; list++) {
        empty = false;
        if (strcmp(*list, "*") == 0 || slice_eq(slice_str(*list), name)) {
            return true;
        }
    }
    return empty;
}

bool access_allows(const char *const *list, const char *name)
{
    return listed(list, slice_str(name));
}

void access_cors(const char *const *list, const char *origin, struct bytes *headers)
{
    const char *allowed = access_allows(list, "*") ? "*" : access_allows(list, origin) ? origin : NULL;
    if (allowed != NULL) {
        bytes_printf(headers,
                     "Access-Control-Allow-Methods: POST, GET, OPTIONS, PUT, DELETE\r\n"
                     "Access-Control-Allow-Origin: %s\r\n"
                     "Access-Control-Allow-Headers: accept, content-type, authorization\r\n",
                     allowed);
    }
}

/* As etcd does: what is no host with a port is taken as it stands. */
struct slice access_host(const char *header)
{
    size_t n = strlen(header);
    const char *colon = strrchr(header, ':');
    if (colon == NULL) {
        return slice_of(header, n);
    }
    size_t host = (size_t)(colon - header);
    if (header[0] == '[') {
        bool bracketed = host >= 2 && header[host - 1] == ']' && memchr(header + 1, ']', host - 2) == NULL;
        return bracketed ? slice_of(header + 1, host - 2) : slice_of(header, n);
    }
    bool plain = memchr(header, ':', host) == NULL && strpbrk(header, "[]") == NULL;
    return plain ? slice_of(header, host) : slice_of(header, n);
}

bool access_host_allowed(const char *const *list, const char *header)
{
    return listed(list, access_host(header));
}

/* In quotes as Go's %q has them, for the ASCII that a host may be; anything else is shown as it is in hexadecimal. */
static void add_quoted(struct bytes *b, struct slice s)
{
    bytes_add(b, "\"", 1);
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.data[i];
        if (c == '"' || c == '\\') {
            bytes_printf(b, "\\%c", c);
        } else if (c < 0x20 || c >= 0x7f) {
            bytes_printf(b, "\\x%02x", c);
        } else {
            bytes_add(b, &c, 1);
        }
    }
    bytes_add(b, "\"", 1);
}

void access_host_refusal(const char *header, struct bytes *body)
{
    bytes_add_str(body, "\n"
                        "etcd received your request, but the Host header was unrecognized.\n"
                        "\n"
                        "To let it through, do one of these:\n"
                        "- Serve over TLS; the header is not looked at then.\n"
                        "- Name the host in the list of those that are allowed,\n"
                        "  for example: etcd --host-whitelist ");
    add_quoted(body, access_host(header));
    bytes_add_str(body, "\n"
                        "\n"
                        "Unknown hosts are refused because of attacks by \"DNS rebinding\" (CVE-2018-5702).\n"
                        "\n");
}
