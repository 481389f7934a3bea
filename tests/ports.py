# SPDX-License-Identifier: Apache-2.0
"""Ports of loopback for servers that cannot be told to take any."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

# Below it is what needs other rights or is well known.
FIRST = 10000


def find_ports(count: int) -> list[int]:
    """Ports that are free now, of those that the system gives to no client before a service listens there."""
    end = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        while len(found) < count:
            each = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                each.bind(("127.0.0.1", random.randrange(FIRST, end)))
                found.append(each.getsockname()[1])
    return found
