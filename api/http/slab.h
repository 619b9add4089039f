/* slab.h - memory for one loop's HTTP/2 sessions.
 *
 * What        nghttp2 allocates about ten small blocks for each request. They come from free lists
 * by size, without locks or searching; large blocks go to malloc. Callers     h2.c, through
 * nghttp2's allocator hooks. Thread      one loop's. Invariants  What is kept free is at most
 * SLAB_FREE_BYTES_MAX.
 */
#ifndef API_HTTP_SLAB_H
#define API_HTTP_SLAB_H

#include <nghttp2/nghttp2.h>
#include <stddef.h>

#define SLAB_STEP 64u    /* bytes between size classes */
#define SLAB_CLASSES 16u /* the largest pooled block has SLAB_STEP * SLAB_CLASSES bytes */
#define SLAB_FREE_BYTES_MAX (8u * 1024u * 1024u) /* beyond: given back to malloc */

struct slab_block;

struct slab {
    struct slab_block *free[SLAB_CLASSES];
    size_t free_bytes;
    nghttp2_mem mem; /* for nghttp2_session_server_new3 */
};

void slab_init(struct slab *s);
void slab_deinit(struct slab *s); /* its blocks were freed */

#endif
