/* health.c - grpc.health.v1: the service "" serves as soon as the server does. */
#include "api/etcd/internal.h"

#include "api/proto/health.pb-c.h"

enum { SERVING = 1, SERVICE_UNKNOWN = 3 };

/* field 1, the status */
static void send_status(struct grpc_call *c, uint8_t status)
{
    grpc_send(c, (struct slice[]){{(const uint8_t[]){1u << 3 | WIRE_VARINT, status}, 2}}, 1);
}

static bool is_known(const Grpc__Health__V1__HealthCheckRequest *q)
{
    return q->service == NULL || q->service[0] == '\0';
}

static void on_check(struct grpc_call *c, struct slice bytes)
{
    Grpc__Health__V1__HealthCheckRequest *q = request_decode(c, &grpc__health__v1__health_check_request__descriptor, bytes);
    if (q == NULL) {
        return;
    }
    if (!is_known(q)) {
        grpc_finish(c, GRPC_NOT_FOUND, "unknown service");
        return;
    }
    send_status(c, SERVING);
    grpc_finish(c, GRPC_OK, NULL);
}

/* map<string, HealthCheckResponse> statuses = 1, one entry: "" -> SERVING */
static void on_list(struct grpc_call *c, struct slice bytes)
{
    (void)bytes;
    static const uint8_t reply[] = {0x0a, 0x06, 0x0a, 0x00, 0x12, 0x02, 0x08, SERVING};
    grpc_reply(c, (struct slice[]){{reply, sizeof(reply)}}, 1);
}

/* The status never changes while we serve; the stream ends with its connection. */
static void on_watch(struct grpc_call *c, struct slice bytes)
{
    Grpc__Health__V1__HealthCheckRequest *q = request_decode(c, &grpc__health__v1__health_check_request__descriptor, bytes);
    if (q != NULL) {
        send_status(c, is_known(q) ? SERVING : SERVICE_UNKNOWN);
    }
}

const struct grpc_method health_methods[] = {
    {.path = "/grpc.health.v1.Health/Check", .kind = GRPC_UNARY, .message = on_check},
    {.path = "/grpc.health.v1.Health/List", .kind = GRPC_UNARY, .message = on_list},
    {.path = "/grpc.health.v1.Health/Watch", .kind = GRPC_SERVER_STREAM, .message = on_watch},
    {.path = NULL},
};
