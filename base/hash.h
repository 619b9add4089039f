/* hash.h - the two checksums of the program.
 *
 * What        CRC-32C (Castagnoli): log records and etcd's Hash and HashKV. XXH3-64 (libxxhash):
 *             record checksums of the store, hash tables.
 * Callers     wal, engine.   Thread  any.
 */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* CRC-32C of `len` bytes following bytes whose CRC is `crc` (0 at the start). SSE4.2 where the
 * processor has it, tables elsewhere; both give the same result. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The portable one, for the test that compares them. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

uint64_t hash64(const void *data, size_t len);

#endif
