/* install.h - a snapshot that came from elsewhere takes the place of all state.
 *
 * What        Two steps. Staging, slow, beside a running engine: a bbolt file is checked, copied record by record into a fresh
 *             backend, and an engine is opened on that. Installing, quick: one rename puts the new store in the place of the
 *             old one, and engine_adopt swaps what is in memory.
 * Callers     raft/member (stage, install, adopt), tests/sim (with stores in memory).
 * Thread      stage on a worker; install on the store thread with no write under way; adopt on the member loop.
 * Crash       Before the rename the old store is whole; after it the new one. The new store says in its own bucket that the log has to begin
 *             behind its index (engine_installed); the row goes with the first commit after engine_log_follows.
 */
#ifndef ENGINE_INSTALL_H
#define ENGINE_INSTALL_H

#include "engine/bolt.h"
#include "engine/engine.h"

/* Where stores lie. LMDB: a folder (store_place_lmdb). In memory: tests. */
struct store_place {
    /* A fresh, empty backend beside the one in use; leftovers of an earlier one are removed. */
    enum err (*stage)(const struct store_place *p, struct backend **out, struct err_ctx *ec);
    /* Until then commits to a staged backend are not durable; from then on they are, and so is everything before. */
    enum err (*finish)(const struct store_place *p, struct backend *staged, struct err_ctx *ec);
    /* What `staged` has committed durably takes the place of the store in use. The old backend stays readable until it is closed. */
    enum err (*install)(const struct store_place *p, struct backend *staged, struct err_ctx *ec);
    /* Close it and, unless it was installed, remove its files. */
    void (*discard)(const struct store_place *p, struct backend **staged);
    /* Private to the implementation. */
    const char *dir;
    uint64_t map_bytes;
    bool no_sync;
    struct backend_mem_disk *disk;
};
/* Over the folder that backend_lmdb_open got. `dir` is borrowed. */
struct store_place store_place_lmdb(const char *dir, uint64_t map_bytes, bool no_sync);

struct staged; /* opaque: a store that is built and not yet in use, and an engine over it */

/* Check `src` (bolt_check, every record readable, consistent index and confState present) and build. `cfg` is the running engine's, its
 * backend is not looked at. Gauges in cfg->metrics are left alone until adopt. Errors: ERR_CORRUPT, with the reason; ERR_IO, ERR_NO_DISK. */
MUST_CHECK enum err engine_stage(const struct engine_config *cfg, const struct store_place *place, const struct bolt_source *src, struct staged **out,
                                 struct err_ctx *ec);
/* What the message says that came with a file. */
struct snapshot_origin {
    uint64_t index, term;
    struct engine_conf conf;
};
/* As engine_stage, for a file that may be of an older etcd: before 3.5 it names neither term nor configuration, and its index may be behind by entries that
 * changed nothing. The staged state is then of `origin` in all three. ERR_CORRUPT also when the file is ahead of it. */
MUST_CHECK enum err engine_stage_of(const struct engine_config *cfg, const struct store_place *place, const struct bolt_source *src,
                                    const struct snapshot_origin *origin, struct staged **out, struct err_ctx *ec);
/* A file that a new cluster begins with (`etcdutl snapshot restore`): its members are these, and what the file says of others goes. */
struct snapshot_founding {
    const struct member_info *members; /* by ascending id; all vote, each was added by an entry of term 1 */
    size_t n;
    uint64_t bump; /* not 0: the revision is raised by so much, and everything up to there is compacted */
    /* Told on OK. */
    int64_t revision; /* before it was raised */
};
/* As engine_stage; the log of such a store begins behind entry `n` of term 1, and engine_installed is false. ERR_INVALID: there are no revisions so high. */
MUST_CHECK enum err engine_stage_founding(const struct engine_config *cfg, const struct store_place *place, const struct bolt_source *src,
                                          struct snapshot_founding *founding, struct staged **out, struct err_ctx *ec);

uint64_t staged_index(const struct staged *s); /* applied */
uint64_t staged_term(const struct staged *s);
void staged_discard(struct staged **s); /* also after an install that failed */

/* Put it in the place of the store in use. An error is as final as one of engine_flush: it may be known only after a restart which store is there. [store] */
MUST_CHECK enum err staged_install(struct staged *s, struct err_ctx *ec);
/* All of `e` is what was staged, from now on; *s is gone. Open stepped reads of the old state end with ERR_LEADER_CHANGED at their next step; the old backend is
 * closed when the last of them is. Leases start again as after a restart (demoted). No events.changed is made: the shell tells the watch hubs. [member] */
void engine_adopt(struct engine *e, struct staged **s);

/* The store was installed from a snapshot of (*index, *term) and the log did not follow yet: it has to begin behind that index. false: no such thing. */
bool engine_installed(const struct engine *e, uint64_t *index, uint64_t *term);
/* The log follows durably: forget the fact with the next commit. [member] */
void engine_log_follows(struct engine *e);

/* --- in memory, for simulation and tests ------------------------------------------------------------------- */

/* A simulated disk that holds one store. Backends of it are closed like others, and the store stays; it is opened again, as after a restart. Installing is one
 * moment: a crash before staged_install leaves the old store, one after it the new store, all of it. Used by one member at a time. */
struct backend_mem_disk;
struct backend_mem_disk *backend_mem_disk_create(void);
void backend_mem_disk_destroy(struct backend_mem_disk **d); /* every backend of it is closed */
/* The store, which is not open. */
struct backend *backend_mem_disk_open(struct backend_mem_disk *d);
/* A power cut; every backend of it was closed before (engine_close, staged_discard), which writes nothing. What was not committed is gone and, with
 * `undo_last`, the last commit too (but never the state that was installed). */
void backend_mem_disk_crash(struct backend_mem_disk *d, bool undo_last);
struct store_place store_place_mem(struct backend_mem_disk *d);

#endif
