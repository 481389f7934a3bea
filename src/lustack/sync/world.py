# SPDX-License-Identifier: Apache-2.0
"""What the daemon and the commands work with: Swift, the memory, the clock; and the lock that keeps them apart."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from lustack.errors import ConfigurationError
from lustack.posix.errors import explain
from lustack.sync.clock import Clock
from lustack.sync.errors import StateError
from lustack.sync.reconcile import Tools, Watcher
from lustack.sync.settings import Settings
from lustack.sync.sinks import rings
from lustack.sync.sinks.protocol import Sink
from lustack.sync.sinks.rings import Policy
from lustack.sync.sinks.swift import SwiftSink
from lustack.sync.state import FILE, State
from lustack.sync.survey import Survey


def choose_policies(settings: Settings, found: Sequence[Policy]) -> tuple[Policy, ...]:
    """The storage policies to look after.

    Raises:
        ConfigurationError: one was named that is not ours.
    """
    known = {policy.name for policy in found}
    for name in settings.policies:
        if name not in known:
            raise ConfigurationError("[sync]", "policies", name, f"one of {', '.join(sorted(known))}")
    return tuple(policy for policy in found if not settings.policies or policy.name in settings.policies)


@dataclass
class World:
    """What the daemon and the commands work with.

    Attributes:
        settings: of the operator.
        policies: ours.
        sink: Swift.
        state: the memory.
        clock: stamps rows.
        executor: sends batches.
    """

    settings: Settings
    policies: tuple[Policy, ...]
    sink: Sink
    state: State
    clock: Clock
    executor: ThreadPoolExecutor

    @property
    def devices(self) -> list[str]:
        """The device roots."""
        return [os.path.join(self.settings.devices, policy.device) for policy in self.policies]

    def survey(self, watcher: Watcher) -> Survey:
        """Compares, and tells the watcher."""
        tools = Tools(self.sink, self.clock, self.executor, watcher)
        return Survey(self.settings, self.policies, self.state, tools)


@contextmanager
def opened(settings: Settings) -> Iterator[World]:
    """Everything ready to work.

    Raises:
        ConfigurationError: a setting is wrong.
        StateError: the memory cannot be used.
    """
    found = rings.load(settings.swift_dir)
    policies = choose_policies(settings, found.policies)
    with ExitStack() as stack:
        state = State(os.path.join(settings.state_dir, FILE))
        stack.callback(state.close)
        sink = SwiftSink(found)
        stack.callback(sink.close)
        executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="send"))
        yield World(settings, policies, sink, state, Clock(state), executor)


@contextmanager
def locked(state_dir: str, who: str) -> Iterator[None]:
    """Makes sure that at most one of a kind works with a state.

    Args:
        state_dir: the directory of the state; made if it is not there.
        who: `daemon` or `command`; each has jobs of its own.

    Raises:
        StateError: another one works with it.
    """
    path = os.path.join(state_dir, f"{who}.lock")
    try:
        os.makedirs(state_dir, mode=0o700, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StateError(path, explain(error)) from error
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateError(path, f"another {who} works with it: wait for it, or end it") from None
        yield
    finally:
        os.close(fd)
