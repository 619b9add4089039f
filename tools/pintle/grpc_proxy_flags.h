/* grpc_proxy_flags.h - the command line of `grpc-proxy start`.
 *
 * What        Flags by the rules of the library that etcd uses for its sub-commands: two dashes, lists by comma, booleans with = or alone.
 * Callers     tools/pintle/grpc_proxy.c.   Thread  main.
 * Source      etcd-server.md 9.2.
 */
#ifndef TOOLS_PINTLE_GRPC_PROXY_FLAGS_H
#define TOOLS_PINTLE_GRPC_PROXY_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

#define PROXY_LIST_MAX 1024u /* words of a list; over: refused */

struct proxy_list {
    char *words[PROXY_LIST_MAX + 1]; /* owned, NULL-terminated */
    unsigned n;
    bool given; /* the default has given way */
};

struct proxy_options {
    bool start; /* the word was there */
    const char *listen, *advertise, *metrics, *name_space, *resolver_prefix, *data_dir, *discovery_srv, *discovery_srv_name, *leasing_prefix;
    const char *cert, *key, *ca;                        /* towards the cluster */
    const char *listen_cert, *listen_key, *listen_ca, *listen_crl, *tls_min, *tls_max;
    struct proxy_list endpoints, ciphers;
    int64_t sync_ns, dial_keepalive_ns, dial_keepalive_timeout_ns, min_ns, interval_ns, timeout_ns;
    int64_t resolver_ttl, send_bytes_max, recv_bytes_max, years, streams_max;
    bool skip_verify, auto_tls, permit_without_stream, pprof, ordering, log_calls, debug, insecure_discovery;
};

/* argv[1] is "grpc-proxy". The exit status when that was all, with the reason or the help printed; -1: go on. */
int proxy_options_parse(struct proxy_options *o, int argc, char **argv);
void proxy_options_deinit(struct proxy_options *o);
void proxy_options_usage(void);

#endif
