/* bolt_support.h - bbolt files in memory, for the tests of their writer and reader.
 *
 * Callers     tests/engine.   Thread  the test's.
 */
#ifndef TESTS_ENGINE_BOLT_SUPPORT_H
#define TESTS_ENGINE_BOLT_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/slice.h"
#include "engine/bolt.h"

/* What to write: pair `i` of a bucket; slices valid until the next call. false: there are no more.
 */
struct bolt_plan {
    const char *const *names; /* NULL-terminated, ascending */
    bool (*pair)(void *arg, size_t bucket, uint64_t i, struct slice *key, struct slice *value);
    void *arg;
};

/* Measure and write; the sizes agree. */
void bolt_write_plan(const struct bolt_plan *plan, struct bytes *out);
struct bolt_source bolt_source_of(const struct bytes *file);
/* Read everything and compare with the plan. */
void bolt_expect_plan(const struct bytes *file, const struct bolt_plan *plan);
/* What later writes of bbolt depend on and no reader notices: branches have two children at least,
 * and their keys are the first ones of the children; leaves below are not empty. */
void bolt_expect_sound_trees(const struct bytes *file);

#endif
