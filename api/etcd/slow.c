/* slow.c - the word about unary calls that take long, with etcd's message and keys. What a request holds is left out: values do not belong in logs. */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "api/etcd/internal.h"

void etcd_server_slow(void *server, const struct grpc_call *c, const struct grpc_slow *how)
{
    struct etcd_server *s = server;
    uint64_t took_ns = how->took_ms * 1000000u;
    uint64_t began_ns = clock_wall_ns(s->cfg.clock) - took_ns;
    time_t seconds = (time_t)(began_ns / 1000000000u);
    struct tm tm;
    char start[48];
    char day[24];
    ASSERT(gmtime_r(&seconds, &tm) != NULL && strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &tm) > 0);
    (void)snprintf(start, sizeof(start), "%s.%06" PRIu64 "Z", day, began_ns % 1000000000u / 1000u);
    log_warn(s->cfg.log, "request stats", F_STR("start time", start), F_NS("time spent", took_ns), F_STR("response type", grpc_call_method(c)->path),
             F_INT("request count", 1), F_UINT("request size", how->received_bytes), F_INT("response count", how->sent_bytes > 0 ? 1 : 0),
             F_UINT("response size", how->sent_bytes), F_STR("request content", ""));
}
