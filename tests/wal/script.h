/* script.h - a random but repeatable life of a log, run on a disk that will fail, and the model
 * beside it.
 *
 * What        script_run creates a log and appends, replaces, rolls, releases, prepares, restarts
 *             and reopens it until the script ends or a call fails. script_verify then opens the
 *             log on the sound disk: it must hold what was acknowledged, or that and the one batch
 *             in flight (of which a restart may have happened alone).
 * Callers     test_crash, test_fault.   Thread  one test.
 */
#ifndef TESTS_WAL_SCRIPT_H
#define TESTS_WAL_SCRIPT_H

#include "tests/wal/support.h"

struct script {
    struct vfs *disk; /* what the log runs on; borrowed */
    uint64_t rng;
    bool created;
    struct history acknowledged;
    struct history in_flight; /* acknowledged and the batch being appended */
    struct history
        restarted; /* acknowledged and that batch without its entries, if it restarts the log */
    uint64_t released;
    uint64_t term;
    struct wal *wal;
};

/* ERR_IO or ERR_NO_DISK when the disk failed; the log is closed in any case. */
enum err script_run(struct script *s, unsigned n_steps);

/* Open the log on `disk`, made by vfs_mem_create, and compare; append, cut the power, open and
 * compare again. `what` names the case for messages. */
void script_verify(struct script *s, struct vfs *disk, const char *what, uint64_t seed, uint64_t n);
void script_deinit(struct script *s);

#endif
