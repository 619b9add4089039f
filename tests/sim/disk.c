/* disk.c - stores that outlive the process that uses them, and the planted bug of one that is installed in half. */
#include "tests/sim/sim.h"

#include <stdlib.h>

#include "base/assert.h"
#include "base/hash.h"
#include "base/mem.h"

/* A table over another one, which it remembers. */
struct half_ops {
    struct backend_ops ops;
    const struct backend_ops *inner;
};

/* Every eighth record does not arrive. */
static enum err put_half(struct backend *b, enum bucket k, struct slice key, struct slice v1, struct slice v2, bool append, struct err_ctx *ec)
{
    const struct half_ops *h = (const struct half_ops *)(const void *)b->ops;
    if (k == BUCKET_KEY && hash64(key.data, key.len) % 8u == 0) {
        return OK;
    }
    return h->inner->put(b, k, key, v1, v2, append, ec);
}

static enum err stage_half(const struct store_place *p, struct backend **out, struct err_ctx *ec)
{
    static struct half_ops half; /* the same for all: the tables below it are constants */
    struct store_place whole = store_place_mem(p->disk);
    enum err e = whole.stage(&whole, out, ec);
    if (e == OK) {
        half.inner = (*out)->ops;
        half.ops = *half.inner;
        half.ops.put = put_half;
        (*out)->ops = &half.ops;
    }
    return e;
}

struct store_place sim_store_place(struct node *n)
{
    struct store_place p = store_place_mem(n->store);
    if (n->sim->plant == PLANT_HALF_SNAPSHOT) {
        p.stage = stage_half;
    }
    return p;
}
