"""Ports for servers of tests: of those that the kernel never gives to an outgoing connection, so that a server that is down, or not up yet, finds its port free."""
import random
import socket

LOWEST, BELOW = 10240, 32768  # below what Linux has for outgoing connections, unless somebody changed it
given = set()


def free_port():
    """One that nobody listens on now, and that this process has not asked for before."""
    while True:
        port = random.SystemRandom().randrange(LOWEST, BELOW)
        if port in given:
            continue
        given.add(port)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def free_ports(n):
    return [free_port() for _ in range(n)]
