/* alarm.h - which members raised which alarms, and what follows from it.
 *
 * What        Applies alarm requests to the list of active alarms and its rows, and loads it at
 * start. Callers     engine/apply, engine/engine_restore. Thread      member loop for changes;
 * reading as engine.h says.
 */
#ifndef ENGINE_ALARM_H
#define ENGINE_ALARM_H

#include "engine/engine_internal.h"

#define ALARM_NOSPACE 1
#define ALARM_CORRUPT 2

/* Apply a request; the AlarmResponse's fields behind the header are appended to `body`, which may
 * be NULL. ERR_LIMIT: too many alarms. */
MUST_CHECK enum err alarm_apply(struct engine *e, const Etcdserverpb__AlarmRequest *r,
                                struct bytes *body);
/* A row of the store. ERR_CORRUPT. */
MUST_CHECK enum err alarm_restore(struct engine *e, struct slice key);

#endif
