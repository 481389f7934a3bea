# SPDX-License-Identifier: Apache-2.0
"""A RabbitMQ of our own on loopback, with a directory of its own and ports that nobody else uses."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.ports import find_ports

START_LIMIT_S = 300.0
STOP_LIMIT_S = 120.0


def can_connect(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextlib.contextmanager
def running(directory: Path) -> Iterator[str]:
    """Run a broker.

    Args:
        directory: an existing directory for its state.

    Yields:
        The URL for `transport_url`.
    """
    port, between, mapper = find_ports(3)
    (directory / "plugins").write_text("[].")
    (directory / "rabbitmq.conf").write_text("disk_free_limit.absolute = 50MB\nlog.console = false\n")
    programs = max(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    environment = os.environ | {
        "HOME": str(directory),
        "RABBITMQ_NODENAME": f"lustack{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(between),
        "ERL_EPMD_PORT": str(mapper),
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
        "RABBITMQ_LOG_BASE": str(directory / "log"),
        "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1} +sbwt none",
    }
    with (directory / "broker.out").open("wb") as out:
        process = subprocess.Popen(
            [programs / "rabbitmq-server"],
            cwd=directory,
            env=environment,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait(lambda: can_connect(port), START_LIMIT_S, process)
        yield f"rabbit://guest:guest@127.0.0.1:{port}/"
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            stop = [programs / "rabbitmqctl", "stop"]
            subprocess.run(stop, env=environment, capture_output=True, check=False, timeout=STOP_LIMIT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_LIMIT_S)
        # Whatever is left of it; it is a session of its own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        subprocess.run(["epmd", "-port", str(mapper), "-kill"], env=environment, capture_output=True, check=False)


def _wait(is_done, limit_s: float, process: subprocess.Popen) -> None:
    end_s = time.monotonic() + limit_s
    while not is_done():
        assert process.poll() is None, "the broker ended"
        assert time.monotonic() < end_s, f"the broker did not start within {limit_s:g} s"
        time.sleep(0.2)
