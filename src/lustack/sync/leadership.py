# SPDX-License-Identifier: Apache-2.0
"""One daemon works, the others stand by: leases, who holds them, and what happens when they are lost.

    stand by -> every lease is got -> work (a thread keeps the leases) -> one is lost, or it is time to stop -> release

Rule 1: who has lost a lease stops its work, and stands by again. That two work at the same time for a moment is
harmless: rows are idempotent, and positions only move on.
Rule 2: the state directory has a lease of its own: two daemons never work with one state.
Rule 3: a coordinator that is away is trouble of today: who stands by asks again, who works goes on for as long as the
lease may still be its own.
"""

from __future__ import annotations

import fcntl
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from lustack.errors import ConfigurationError
from lustack.posix.errors import explain
from lustack.sync.errors import StateError

LOCK_TIMEOUT_S = 4
"""A coordinator forgets who has not been heard of for so long: the next one takes over."""

_DEFAULTS = {"lock_timeout": str(LOCK_TIMEOUT_S), "membership_timeout": str(LOCK_TIMEOUT_S), "timeout": "3"}
_GRACE_S = 3.0
"""So long nobody else can have got a lease that could not be renewed; less than LOCK_TIMEOUT_S."""

_ANSWER_S = 1.0
"""So long an answer is waited for before something else is done."""

_LOOK_S = 0.25
_RENEW_S = 1.0
_TICK_S = 0.1


class Lease(Protocol):
    """Something that at most one daemon holds. For one thread at a time."""

    @property
    def trouble(self) -> str:
        """Why the last call could not know, empty if it could."""
        ...

    def try_acquire(self) -> bool:
        """Takes it, unless somebody else has it; does not wait for that. Idempotent.

        Raises:
            StateError: it can never be taken.
        """
        ...

    def renew(self) -> bool:
        """Keeps it; false if it is lost."""
        ...

    def release(self) -> None:
        """Gives it back; fine if it is not held."""
        ...


class FileLease:
    """A lock on a file of the state directory; the kernel gives it back when a process dies."""

    trouble = ""

    def __init__(self, state_dir: str) -> None:
        """Touches nothing yet.

        Args:
            state_dir: the directory of the state; made if it is not there.
        """
        self._path = os.path.join(state_dir, "daemon.lock")
        self._fd = -1

    def try_acquire(self) -> bool:
        """See `Lease`."""
        if self._fd >= 0:
            return True
        try:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StateError(self._path, explain(error)) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._fd = fd
        return True

    def renew(self) -> bool:
        """See `Lease`."""
        return self._fd >= 0

    def release(self) -> None:
        """See `Lease`."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class ToozLease:
    """Locks of a coordinator that tooz knows: etcd, redis, files on a shared file system."""

    def __init__(
        self, url: str, names: Sequence[str], member: str = "", monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: of the coordinator.
            names: of the locks.
            member: who this is; empty: host and process.
            monotonic_s: a clock that never goes back.

        Raises:
            ConfigurationError: nothing understands the URL.
        """
        known = sorted({entry.name for entry in entry_points(group="tooz.backends")})
        if urlsplit(url).scheme not in known:
            raise ConfigurationError("[sync]", "coordination_url", url, f"a URL that begins with {', '.join(known)}")
        # Here and not in a thread: it brings eventlet, and what others import at that moment would be patched.
        import_module("tooz.coordination")
        who = member or f"{socket.gethostname()}-{os.getpid()}"
        self._new_session: Callable[[], Session] = lambda: Session(with_timeouts(url), sorted(names), who)
        self._monotonic_s = monotonic_s
        self._session: Session | None = None
        self._caller: _Caller | None = None
        self._call: _Call | None = None
        self._is_held = False
        self._renewed_s = 0.0
        self.trouble = ""

    def try_acquire(self) -> bool:
        """See `Lease`."""
        if self._is_held:
            return True
        if self._session is None or self._caller is None:
            self._session, self._caller = self._new_session(), _Caller()
        asked_s = self._monotonic_s()
        self._is_held = self._ask(self._caller, self._session.acquire) is True
        if self.trouble and self._call is None:
            # It said no; a new connection may do better. One that says nothing is waited for.
            self.release()
        self._renewed_s = asked_s
        return self._is_held

    def renew(self) -> bool:
        """See `Lease`."""
        if not self._is_held or self._session is None or self._caller is None:
            return False
        asked_s = self._monotonic_s()
        answer = self._ask(self._caller, self._session.renew)
        if answer:
            self._renewed_s = asked_s
        return answer or (answer is None and self._monotonic_s() - self._renewed_s < _GRACE_S)

    def release(self) -> None:
        """See `Lease`."""
        session, self._session = self._session, None
        caller, self._caller = self._caller, None
        call, self._call = self._call, None
        self._is_held = False
        if session is not None and caller is not None:
            # What hangs is left to itself: what it gets is given back when it comes to its end.
            closing = caller.make(session.close)
            caller.end()
            if call is None or call.done.is_set():
                closing.done.wait(_ANSWER_S)

    def _ask(self, caller: _Caller, function: Callable[[], bool]) -> bool | None:
        """The answer of the coordinator, None if there is none (yet): then `trouble` says why."""
        self.trouble = ""
        if self._call is None:
            self._call = caller.make(function)
        if not self._call.done.wait(_ANSWER_S):
            self.trouble = "no answer yet"
            return None
        call, self._call = self._call, None
        self.trouble = call.trouble
        return call.answer


class Session:
    """A connection to a coordinator. Every call blocks for as long as its library pleases."""

    def __init__(self, url: str, names: Sequence[str], member: str) -> None:
        """Connects to nothing yet.

        Args:
            url: of the coordinator.
            names: of the locks.
            member: who this is.
        """
        self._url = url
        self._names = names
        self._member = member.encode()
        self._coordinator: Any = None
        self._locks: list[Any] = []

    def acquire(self) -> bool:
        """Takes all locks or none."""
        if self._coordinator is None:
            coordinator = import_module("tooz.coordination").get_coordinator(self._url, self._member)
            coordinator.start()
            self._coordinator = coordinator
        for name in self._names:
            lock = self._coordinator.get_lock(name.encode())
            if not lock.acquire(blocking=False):
                self._give_back()
                return False
            self._locks.append(lock)
        return True

    def renew(self) -> bool:
        """Whether all locks are still held, which they are for a while after that."""
        is_held = all(lock.is_still_owner() for lock in self._locks)
        if is_held:
            self._coordinator.heartbeat()
        return is_held

    def close(self) -> bool:
        """Gives the locks back, and ends the connection."""
        self._give_back()
        coordinator, self._coordinator = self._coordinator, None
        if coordinator is not None:
            # The driver for redis forgets its client without closing its connections. Source: tooz 9.1.0.
            pool = getattr(getattr(coordinator, "_client", None), "connection_pool", None)
            with suppress(import_module("tooz").ToozError):
                coordinator.stop()
            if pool is not None:
                pool.disconnect()
        return True

    def _give_back(self) -> None:
        locks, self._locks = self._locks, []
        for lock in locks:
            # What cannot be given back ends by itself.
            with suppress(import_module("tooz").ToozError):
                lock.release()


class _Call:
    """A call that is to be made, and what came of it."""

    def __init__(self, function: Callable[[], bool]) -> None:
        self.function = function
        self.done = threading.Event()
        self.answer: bool | None = None
        self.trouble = ""


class _Caller:
    """Makes calls one after the other, in a thread of its own: nobody knows how long they take.

    Nobody waits for a thread that hangs, not even the end of the process.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, name="coordinator", daemon=True).start()

    def make(self, function: Callable[[], bool]) -> _Call:
        """Makes a call after those before."""
        call = _Call(function)
        self._calls.put(call)
        return call

    def end(self) -> None:
        """Ends the thread after the calls before."""
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            try:
                call.answer = call.function()
            except Exception as error:  # noqa: BLE001 (each driver has errors of its own, and none may end the daemon)
                call.trouble = str(error) or type(error).__name__
            call.done.set()


class Leadership:
    """Works while it holds every lease."""

    def __init__(
        self,
        leases: Sequence[Lease],
        stop: threading.Event,
        warn: Callable[[str], None],
        pulse: Callable[[], None] = lambda: None,
        renew_s: float = _RENEW_S,
    ) -> None:
        """Takes nothing yet.

        Args:
            leases: in the order in which they are taken.
            stop: ends it.
            warn: takes a sentence about trouble.
            pulse: called about once a second, as long as all is well here.
            renew_s: how often leases are renewed.
        """
        self._leases = leases
        self._stop = stop
        self._warn = warn
        self._pulse = pulse
        self._renew_s = renew_s

    def lead(self, work: Callable[[threading.Event], None], on_standby: Callable[[int], None]) -> None:
        """Works whenever it may, until it is time to stop.

        Args:
            work: is given an event that ends it: it is time to stop, or a lease is lost.
            on_standby: told again and again, while others work, how many of the leases are held here.

        Raises:
            StateError: a lease can never be taken.
            LustackError: of the work.
        """
        try:
            while self._wait(on_standby):
                self._work(work)
                self._release()
        finally:
            self._release()

    def _wait(self, on_standby: Callable[[int], None]) -> bool:
        """Whether every lease is held; else it is time to stop."""
        while not self._stop.is_set():
            held = self._acquire()
            if held == len(self._leases):
                return True
            on_standby(held)
            self._pulse()
            self._stop.wait(_LOOK_S)
        return False

    def _acquire(self) -> int:
        for held, lease in enumerate(self._leases):
            if not lease.try_acquire():
                if lease.trouble:
                    self._warn(f"the coordinator does not answer: {lease.trouble}")
                return held
        return len(self._leases)

    def _work(self, work: Callable[[threading.Event], None]) -> None:
        until, done = threading.Event(), threading.Event()
        keeper = threading.Thread(target=self._keep, args=(until, done), name="leases")
        keeper.start()
        try:
            work(until)
        finally:
            done.set()
            keeper.join()

    def _keep(self, until: threading.Event, done: threading.Event) -> None:
        """Renews the leases until the work is done; ends the work when one is lost, or it is time to stop."""
        renewed_s = time.monotonic()
        while not done.wait(_TICK_S):
            if self._stop.is_set():
                until.set()
            if time.monotonic() - renewed_s < self._renew_s or until.is_set():
                continue
            renewed_s = time.monotonic()
            self._pulse()
            for lease in self._leases:
                is_held = lease.renew()
                if lease.trouble:
                    self._warn(f"the coordinator does not answer: {lease.trouble}")
                if not is_held:
                    self._warn("the lease is lost: another daemon may work; standing by")
                    until.set()

    def _release(self) -> None:
        for lease in reversed(self._leases):
            lease.release()


def with_timeouts(url: str) -> str:
    """A URL that says how long a lock lasts whose holder is not heard of; what it says itself stays."""
    parts = urlsplit(url)
    query = {**_DEFAULTS, **dict(parse_qsl(parts.query, keep_blank_values=True))}
    return urlunsplit(parts._replace(query=urlencode(query)))
