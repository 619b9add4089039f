/* Any bytes as a request's JSON, and any bytes as a reply's wire form. The first byte chooses the route, and in which pieces a reply comes.
 * What is taken must come back the same from its own JSON. */
#include "api/gateway/access.h"
#include "api/gateway/message.h"
#include "api/gateway/routes.h"
#include "api/gateway/split.h"
#include "base/assert.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t n_routes(void)
{
    size_t n = 0;
    while (gateway_routes[n].path != NULL) {
        n++;
    }
    return n;
}

/* JSON to bytes to JSON to bytes: the second bytes are the first. */
static void check_request(const struct route *r, struct slice text)
{
    struct err_ctx ec = {{0}};
    struct gjson j;
    struct bytes wire = {0};
    gjson_init(&j, text, &ec);
    while (message_from_json(&j, r->request, &wire) == OK) {
        struct bytes again = {0}, back = {0};
        struct gjson k;
        ASSERT(message_to_json(r->request, bytes_slice(&wire), &again) == OK);
        gjson_init(&k, bytes_slice(&again), NULL);
        enum err e = message_from_json(&k, r->request, &back);
        /* A string that was no UTF-8 has become one, and may be longer; everything else is exact. */
        ASSERT(e == OK);
        ASSERT(back.len >= wire.len);
        ASSERT(back.len > wire.len || slice_eq(bytes_slice(&back), bytes_slice(&wire)));
        gjson_deinit(&k);
        bytes_deinit(&again);
        bytes_deinit(&back);
        bytes_reset(&wire);
    }
    ASSERT(wire.len == 0);
    gjson_deinit(&j);
    bytes_deinit(&wire);
}

/* In pieces the same comes out as at once, or neither does. */
static void check_reply(const struct route *r, struct slice wire, size_t piece)
{
    struct bytes whole = {0}, out = {0}, all = {0};
    struct gjson_writer w;
    enum err at_once = message_to_json(r->response, wire, &whole);
    enum err e = OK;
    size_t have = 0, from = 0;
    gjson_writer_begin(&w, r->response, &all);
    while (e == OK && from < wire.len) {
        size_t used = 0, before = have;
        uint64_t want = 0;
        have = wire.len - have < piece ? wire.len : have + piece;
        e = gjson_writer_feed(&w, slice_of(wire.data + from, have - from), 64, &out, &used, &want);
        from += used;
        bytes_add(&all, out.data, out.len);
        bool stuck = used == 0 && have == before && out.len == 0;
        bytes_reset(&out);
        if (stuck) {
            break;
        }
    }
    if (e == OK && from == wire.len) {
        gjson_writer_end(&w, &all);
        ASSERT(at_once == OK && slice_eq(bytes_slice(&all), bytes_slice(&whole)));
        struct gjson j;
        gjson_init(&j, bytes_slice(&all), NULL);
        ASSERT(gjson_skip(&j) == OK && gjson_peek(&j) == JSON_END);
        gjson_deinit(&j);
    } else {
        ASSERT(at_once != OK);
    }
    bytes_deinit(&whole);
    bytes_deinit(&out);
    bytes_deinit(&all);
}

/* What the reader takes for an object ends where the splitter says, however it comes. */
static void check_split(struct slice text, size_t piece)
{
    struct gjson j;
    struct gjson_split s = {0};
    size_t given = 0, n = 0;
    while (n == 0 && given < text.len) {
        given = text.len - given < piece ? text.len : given + piece;
        n = gjson_split(&s, slice_of(text.data, given));
        ASSERT(n <= given);
    }
    gjson_init(&j, text, NULL);
    if (gjson_peek(&j) == JSON_OBJECT && gjson_skip(&j) == OK) {
        ASSERT(n == (size_t)(j.at - j.start));
    }
    gjson_deinit(&j);
}

static void check_access(struct slice s)
{
    char name[256];
    size_t n = s.len < sizeof(name) ? s.len : sizeof(name) - 1;
    memcpy(name, s.data, n);
    name[n] = '\0';
    struct slice host = access_host(name);
    ASSERT(host.data >= (const uint8_t *)name && host.data + host.len <= (const uint8_t *)name + strlen(name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    const struct route *r = &gateway_routes[data[0] % n_routes()];
    struct slice rest = slice_of(data + 2, size - 2);
    check_request(r, rest);
    check_reply(r, rest, data[1] + 1u);
    check_access(rest);
    check_split(rest, data[1] + 1u);
    return 0;
}
