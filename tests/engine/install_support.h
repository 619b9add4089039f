/* install_support.h - engines with a state of every kind, and engines that take it over.
 *
 * Callers     tests/engine/test_install*.c.   Thread  the test's.
 */
#ifndef TESTS_ENGINE_INSTALL_SUPPORT_H
#define TESTS_ENGINE_INSTALL_SUPPORT_H

#include "engine_fixture.h"

#include "bolt_support.h"
#include "engine/install.h"

/* --- what snapshots are taken of: some of everything, and `n` keys */
void install_fill(struct fixture *f, int n);
void install_put(struct fixture *f, int i, int64_t lease);
void install_raise_alarm(struct fixture *f, uint64_t id, int type);
void install_take(struct engine *e, struct bytes *out, struct snapshot_info *info);

/* --- where they go */
struct target {
    char *dir; /* owned; NULL: on `disk` */
    struct backend_mem_disk *disk;
    struct store_place place;
    struct engine_config cfg;
    struct engine *e;
    int64_t changed;
};
void target_init(struct target *t, enum fixture_kind kind);
void target_deinit(struct target *t);
void target_open(struct target *t);
/* A power cut, and the start after it. */
void target_crash(struct target *t, bool undo_last);
void target_flush(struct target *t);
void target_put(struct target *t, const char *key, const char *value);
/* Apply what the source has applied and this one not yet. */
void target_follow(struct target *t, const struct fixture *f);
struct staged *target_stage(struct target *t, const struct bytes *file);
void target_install(struct target *t, const struct bytes *file);
/* Was it installed at `index`, term 1, and the log does not follow yet? */
bool target_is_installed(const struct target *t, uint64_t index);
bool target_has_file(const struct target *t, const char *name);

/* --- equal states */
uint32_t install_hash(struct engine *e);
void install_expect_same(struct engine *a, struct engine *b);
void install_command(const char *format, const char *a, const char *b);

#endif
