# SPDX-License-Identifier: Apache-2.0
"""What every test is held to: no unexpected log at WARNING or above, no leaked thread or descriptor."""

from __future__ import annotations

import gc
import http.client  # noqa: F401 (before Swift: while eventlet is imported, what is imported with it gets green sockets)
import importlib.util
import logging
import os
import re
import threading
import time
from collections.abc import Iterator

import pytest

# tests/lustre runs on machines that have pytest and little more.
if importlib.util.find_spec("hypothesis"):
    import hypothesis

    # The same examples in every run, so that a red build says something about the commit. To look for new ones:
    # HYPOTHESIS_PROFILE=search.
    hypothesis.settings.register_profile("fixed", deadline=None, derandomize=True, database=None)
    hypothesis.settings.register_profile("search", deadline=None, max_examples=2000)
    hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    """Our own options. Without pytest-timeout its option is known all the same, and does nothing."""
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "seconds that a test may take")
    parser.addini("thread_grace_s", "seconds that a thread may take to end after the test that made it", default="60")


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("timeout"):
        config.addinivalue_line("markers", "timeout(seconds): that a test may take")


# What needs a service has an environment of its own (tox -e cinder, nova); elsewhere it is not collected.
SERVICES = {
    "cinder": "cinder",
    "nova": "nova",
    "openstack": "keystone",
    "unit/brick": "os_brick",
    "unit/cinder": "cinder",
    "unit/nova": "nova",
}


def is_installed(service: str) -> bool:
    """Whether a service is there itself, and not only our package below its name (nova.virt.lustack_ext)."""
    spec = importlib.util.find_spec(service)
    return spec is not None and spec.origin is not None


collect_ignore = [folder for folder, service in SERVICES.items() if not is_installed(service)]

# What libraries open once and keep until the process ends: eventlet's hub, the sources of randomness.
KEPT_TARGETS = ("anon_inode:[eventpoll]", "/dev/random", "/dev/urandom")


class LogCollector(logging.Handler):
    """Keeps the records that a test must have expected."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(f"{record.levelname} {record.name}: {record.getMessage()}")


def find_expected_patterns(node: pytest.Item) -> list[str]:
    return [pattern for marker in node.iter_markers("expects_log") for pattern in marker.args]


@pytest.fixture(autouse=True)
def no_unexpected_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    collector = LogCollector()
    root = logging.getLogger()
    root.addHandler(collector)
    yield
    root.removeHandler(collector)
    patterns = find_expected_patterns(request.node)
    unexpected = [message for message in collector.messages if not any(re.search(p, message) for p in patterns)]
    missing = [p for p in patterns if not any(re.search(p, message) for message in collector.messages)]
    if unexpected:
        pytest.fail("unexpected log: " + "\n".join(unexpected), pytrace=False)
    if missing:
        pytest.fail(f"expected but never logged: {missing}", pytrace=False)


@pytest.fixture(autouse=True)
def no_leaked_threads(request: pytest.FixtureRequest) -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + float(request.config.getini("thread_grace_s"))
    for thread in set(threading.enumerate()) - before:
        thread.join(max(0.0, deadline - time.monotonic()))
    leaked = [thread.name for thread in set(threading.enumerate()) - before]
    if leaked:
        pytest.fail(f"leaked threads: {leaked}", pytrace=False)


def list_descriptors() -> set[tuple[int, str]]:
    """Return the open descriptors and what they point at, without those in KEPT_TARGETS."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
        if target not in KEPT_TARGETS:
            found.add((int(name), target))
    return found


@pytest.fixture(autouse=True)
def no_leaked_descriptors() -> Iterator[None]:
    before = list_descriptors()
    yield
    if list_descriptors() - before:
        gc.collect()  # slow, so only when something seems to be left over
    leaked = sorted(list_descriptors() - before)
    if leaked:
        pytest.fail(f"leaked descriptors: {leaked}", pytrace=False)
