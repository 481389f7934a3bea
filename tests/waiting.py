# SPDX-License-Identifier: Apache-2.0
"""Waiting for what will happen. How long that takes says how busy the machine is, and nothing about the product."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

LIMIT_S = 120.0
"""When whoever waits for what ends by itself gives up."""


def wait_for(
    condition: Callable[[], object], limit_s: float = LIMIT_S, sleep: Callable[[float], object] = time.sleep
) -> float:
    """Wait until it holds; return how long that took, in seconds. `sleep` is Swift's for greenlets."""
    began_s = time.monotonic()
    while not condition():
        assert time.monotonic() - began_s < limit_s, "it never happened"
        sleep(0.01)
    return time.monotonic() - began_s


def wait_for_port(port: int) -> None:
    """Wait until somebody listens on a port of loopback."""
    until_s = time.monotonic() + LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT_S).close()
            return
        except ConnectionRefusedError:
            assert time.monotonic() < until_s, f"nobody listens on port {port}"
            time.sleep(0.1)
