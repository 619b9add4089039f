/* main.c - pintle-bench: a load tool for anything that speaks etcd's API.
 *
 * Each command does one measurement and prints one line of name=value pairs; bench/compare runs
 * whole series. Exit code 0 only when every call succeeded.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/assert.h"
#include "bench/crowd.h"

static const char usage_text[] =
    "usage: pintle-bench COMMAND [options]\n"
    "  put      puts one after another           --requests --keys --key-bytes --value-bytes\n"
    "  paced    puts at a fixed rate             --rate --seconds --keys ...\n"
    "  load     many puts outstanding            --requests --keys --depth --batch ...\n"
    "  compact  compact up to --revision (0: live)   --physical\n"
    "  range    ranges one after another         --requests --limit (1: a get, 0: all) --keys\n"
    "                                            --spread --serializable\n"
    "  wait     until a linearizable read answers    --seconds --keys (0: need not find one)\n"
    "  frame    write a request body for h2load  --path put|range --file --limit --serializable\n"
    "  call     send such a body once            --path /service/Method --file\n"
    "  memory   what /proc says of               --pid\n"
    "  probe    a put, a get, a put ...          --seconds\n"
    "  floor    what this machine itself costs: how late a timer is, and a small write's sync\n"
    "           below --path DIR (none: timers alone)   --rate --seconds\n"
    "  crowd    clients that no server wants, until standard input ends   --path SCENE\n"
    "                                            --connections --seconds (at most)\n"
    "  failover kill the leader --pid, put through --endpoint HOST:PORT,... --seconds until one "
    "is\n"
    "           acknowledged\n"
    "all: --endpoint HOST:PORT (127.0.0.1:2379), --first N the number of the first key\n";

struct command {
    const char *name;
    int (*run)(const struct options *);
};

static const struct command commands[] = {
    {"put", bench_put},           {"paced", bench_paced}, {"load", bench_load},
    {"compact", bench_compact},   {"range", bench_range}, {"wait", bench_wait},
    {"frame", bench_frame},       {"call", bench_call},   {"memory", bench_memory},
    {"failover", bench_failover}, {"probe", bench_probe}, {"crowd", bench_crowd},
    {"floor", bench_floor},
};

enum option_id {
    ENDPOINT = 1,
    REQUESTS,
    KEYS,
    KEY_BYTES,
    VALUE_BYTES,
    DEPTH,
    BATCH,
    RATE,
    SECONDS,
    LIMIT,
    REVISION,
    FIRST,
    PID,
    CONNECTIONS,
    SERIALIZABLE,
    PHYSICAL,
    SPREAD,
    PATH,
    OUT_FILE
};

static const struct option longs[] = {
    {"endpoint", required_argument, NULL, ENDPOINT},
    {"requests", required_argument, NULL, REQUESTS},
    {"keys", required_argument, NULL, KEYS},
    {"key-bytes", required_argument, NULL, KEY_BYTES},
    {"value-bytes", required_argument, NULL, VALUE_BYTES},
    {"depth", required_argument, NULL, DEPTH},
    {"batch", required_argument, NULL, BATCH},
    {"rate", required_argument, NULL, RATE},
    {"seconds", required_argument, NULL, SECONDS},
    {"limit", required_argument, NULL, LIMIT},
    {"revision", required_argument, NULL, REVISION},
    {"first", required_argument, NULL, FIRST},
    {"pid", required_argument, NULL, PID},
    {"connections", required_argument, NULL, CONNECTIONS},
    {"serializable", no_argument, NULL, SERIALIZABLE},
    {"physical", no_argument, NULL, PHYSICAL},
    {"spread", no_argument, NULL, SPREAD},
    {"path", required_argument, NULL, PATH},
    {"file", required_argument, NULL, OUT_FILE},
    {NULL, 0, NULL, 0},
};

/* A decimal from `least` to `most`; anything else ends the program with a message. */
static uint64_t number(const char *text, uint64_t least, uint64_t most)
{
    char *end = NULL;
    uint64_t v = strtoull(text, &end, 10);
    if (end == text || *end != '\0' || v < least || v > most) {
        (void)fprintf(stderr, "pintle-bench: \"%s\" is not a number from %llu to %llu\n", text,
                      (unsigned long long)least, (unsigned long long)most);
        exit(2);
    }
    return v;
}

static void set_switch(struct options *o, int id)
{
    o->serializable |= id == SERIALIZABLE;
    o->physical |= id == PHYSICAL;
    o->spread |= id == SPREAD;
}

static void set_text(struct options *o, int id, const char *text)
{
    const char **where = id == ENDPOINT ? &o->endpoint : id == PATH ? &o->path : &o->file;
    *where = text;
}

static bool set_number(struct options *o, int id, const char *text)
{
    if (id == REQUESTS) {
        o->requests = number(text, 1, 1u << 31);
    } else if (id == KEYS) {
        o->keys = number(text, 0, 1u << 31);
    } else if (id == KEY_BYTES) {
        o->key_bytes = (uint32_t)number(text, 20, KEY_BYTES_MAX);
    } else if (id == VALUE_BYTES) {
        o->value_bytes = (uint32_t)number(text, 0, VALUE_BYTES_MAX);
    } else if (id == DEPTH) {
        o->depth = (uint32_t)number(text, 1, DEPTH_MAX);
    } else if (id == BATCH) {
        o->batch = (uint32_t)number(text, 1, BATCH_MAX);
    } else if (id == RATE) {
        o->rate = (uint32_t)number(text, 1, 1000000);
    } else if (id == SECONDS) {
        o->seconds = (uint32_t)number(text, 1, 86400);
    } else if (id == LIMIT) {
        o->limit = (int64_t)number(text, 0, 1u << 31);
    } else if (id == REVISION) {
        o->revision = (int64_t)number(text, 0, INT64_MAX);
    } else if (id == FIRST) {
        o->first = number(text, 0, 1u << 31);
    } else if (id == PID) {
        o->pid = (int)number(text, 1, INT32_MAX);
    } else if (id == CONNECTIONS) {
        o->connections = (uint32_t)number(text, 1, CROWD_MAX);
    } else {
        return false;
    }
    return true;
}

static bool parse(int argc, char **argv, struct options *o)
{
    *o = (struct options){.endpoint = "127.0.0.1:2379",
                          .requests = 1000,
                          .keys = 1000,
                          .key_bytes = 40,
                          .value_bytes = 256,
                          .depth = 256,
                          .batch = 1,
                          .rate = 1000,
                          .seconds = 60,
                          .connections = 100,
                          .limit = 1,
                          .path = "",
                          .file = ""};
    int id = 0;
    while ((id = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        if (id == SERIALIZABLE || id == PHYSICAL || id == SPREAD) {
            set_switch(o, id);
        } else if (id == ENDPOINT || id == PATH || id == OUT_FILE) {
            set_text(o, id, optarg);
        } else if (!set_number(o, id, optarg)) {
            return false;
        }
    }
    return optind + 1 == argc;
}

int main(int argc, char **argv)
{
    struct options o;
    if (parse(argc, argv, &o)) {
        for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
            if (strcmp(argv[optind], commands[i].name) == 0) {
                bool divides_by_keys = commands[i].run != bench_wait;
                if (divides_by_keys && o.keys == 0) {
                    break;
                }
                return commands[i].run(&o);
            }
        }
    }
    (void)fputs(usage_text, stderr);
    return 2;
}
