/* fuzz_membership.c - the JSON of membership rows and of the context of a membership change.
 *
 * The first byte chooses: a member, or raft's configuration. What is accepted must, written again,
 * read back as the same.
 */
#include <stdint.h>
#include <stdlib.h>

#include "base/assert.h"
#include "engine/membership.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char *text_at(const struct member_json *m, size_t offset)
{
    ASSERT(offset < m->text.len);
    return (char *)m->text.data + offset;
}

static void check_member(struct slice json)
{
    struct member_json m;
    if (member_json_decode(json, &m) != OK) {
        member_json_deinit(&m);
        return;
    }
    char *peer_urls[MEMBER_URLS_MAX + 1] = {0};
    char *client_urls[MEMBER_URLS_MAX + 1] = {0};
    for (size_t i = 0; i < m.n_peer_urls; i++) {
        peer_urls[i] = text_at(&m, m.peer_urls[i]);
    }
    for (size_t i = 0; i < m.n_client_urls; i++) {
        client_urls[i] = text_at(&m, m.client_urls[i]);
    }
    const struct member_info info = {.id = m.id,
                                     .name = text_at(&m, m.name),
                                     .peer_urls = peer_urls,
                                     .client_urls = client_urls,
                                     .is_learner = m.is_learner};
    struct bytes text = {0};
    struct member_json back;
    member_json_encode(&info, &text);
    enum err e = member_json_decode(bytes_slice(&text), &back);
    ASSERT(e == OK);
    ASSERT(m.id == back.id);
    ASSERT(m.is_learner == back.is_learner);
    ASSERT(strcmp(info.name, text_at(&back, back.name)) == 0);
    ASSERT(m.n_peer_urls == back.n_peer_urls);
    for (size_t i = 0; i < m.n_peer_urls; i++) {
        ASSERT(strcmp(peer_urls[i], text_at(&back, back.peer_urls[i])) == 0);
    }
    ASSERT(m.n_client_urls == back.n_client_urls);
    for (size_t i = 0; i < m.n_client_urls; i++) {
        ASSERT(strcmp(client_urls[i], text_at(&back, back.client_urls[i])) == 0);
    }
    member_json_deinit(&back);
    member_json_deinit(&m);
    bytes_deinit(&text);
}

static void check_conf(struct slice json)
{
    struct conf_state c = {0};
    if (conf_decode(json, &c) == OK) {
        struct conf_state back = {0};
        struct bytes text = {0};
        struct bytes again = {0};
        conf_encode(&c, &text);
        enum err e = conf_decode(bytes_slice(&text), &back);
        ASSERT(e == OK);
        conf_encode(&back, &again);
        ASSERT(slice_eq(bytes_slice(&text), bytes_slice(&again)));
        conf_deinit(&back);
        bytes_deinit(&text);
        bytes_deinit(&again);
    }
    conf_deinit(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct slice json = slice_of(data + 1, size - 1);
    if (data[0] % 2 == 0) {
        check_member(json);
    } else {
        check_conf(json);
    }
    return 0;
}
