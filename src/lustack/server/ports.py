# SPDX-License-Identifier: Apache-2.0
"""Ports of the loopback interface: the ones of last time where they are free, others where not.

Rule 1: the proxy's port is the user's choice and is never changed silently; the inner ones are ours.
"""

from __future__ import annotations

import errno
import random
import socket
import time
from collections.abc import Callable, Iterator, Mapping

from lustack.errors import ConfigurationError
from lustack.server.topology import LOOPBACK, PORT_NAMES, Ports

# Below the range from which the kernel takes the ports of outgoing connections (32768-60999, ip(7)
# `ip_local_port_range`): there a port that is free now could be somebody's for a while at the next start.
_LOWEST, _HIGHEST = 20000, 32767

# How long a port may still be held by servers of ours that were killed a moment ago.
PATIENCE_S = 3.0
_PAUSE_S = 0.1


def is_free(port: int, make: Callable[[], socket.socket] = socket.socket) -> bool:
    """Whether a server could listen on a port of the loopback interface now.

    Args:
        port: the port.
        make: makes a TCP socket.
    """
    with make() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen(1)
        except OSError as err:
            if err.errno in {errno.EADDRINUSE, errno.EACCES}:
                return False
            raise
    return True


def draw() -> Iterator[int]:
    """Ports to try, without end."""
    while True:
        yield random.randint(_LOWEST, _HIGHEST)  # noqa: S311 (nothing secret)


def settle(
    port: int,
    stored: Mapping[str, int],
    free: Callable[[int], bool] = is_free,
    candidates: Iterator[int] | None = None,
    pause: Callable[[float], object] = time.sleep,
) -> Ports:
    """Choose a port for every server.

    Args:
        port: of the proxy, 0: any, best the one of last time.
        stored: the ports of last time, by name; may be empty.
        free: tells whether a port can be used.
        candidates: ports to try.
        pause: waits for a number of seconds.

    Raises:
        ConfigurationError: the proxy's port is somebody else's.
    """
    fresh = draw() if candidates is None else candidates
    wanted = {**stored, "proxy": port or stored.get("proxy", 0)}
    chosen: dict[str, int] = {}
    if port and not _becomes_free(port, free, pause):
        allowed = "a port on which nobody listens and that you may use (0: any)"
        raise ConfigurationError("lustack serve", "--port", port, allowed)
    for name in PORT_NAMES:
        taken = {port, *chosen.values()} if name != "proxy" else set()
        number = wanted.get(name, 0)
        if not number or number in taken or not free(number):
            number = next(other for other in fresh if other not in taken and free(other))
        chosen[name] = number
    return Ports(**chosen)


def _becomes_free(port: int, free: Callable[[int], bool], pause: Callable[[float], object]) -> bool:
    for _ in range(round(PATIENCE_S / _PAUSE_S)):
        if free(port):
            return True
        pause(_PAUSE_S)
    return False
