# SPDX-License-Identifier: Apache-2.0
"""Calls of the file system, off the event loop: bounded, with a deadline, and what comes back late is tidied up.

Swift serves all requests of a process by one thread. A call that waits for the file system there makes everybody wait,
the health check too. So every call runs in a thread of `lustack.swift.threads`.

Rule 1: a device has so many threads and no more: when it stalls, they hang, and the pool has others for other devices.
Rule 2: a request waits no longer than the deadline for a call that hangs; then it is told so, and the thread goes on by
itself: nothing can take it back from the kernel. Its place stays taken until it returns.
Rule 3: what a thread that was left alone uses (a descriptor) is given back by that thread and by nobody else before.
Rule 4: while all places are taken by calls that hang, newcomers are told at once: else they would fill the server until
nobody gets in.
Rule 5: what hangs is asked of the threads: an event loop that has too much to do is no file system that stalls. Where
nothing hangs a request waits for its turn as long as that takes.
Rule 6: places are given in the order of asking. Eventlet's semaphore gives one to whoever asks at the right moment, and
a download that asks again and again was served while others waited. Source: eventlet/semaphore.py (0.41.3), `acquire`.
"""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from swift.common.concurrency import Event, Timeout, sleep, spawn_n

from lustack.errors import LustackError
from lustack.swift.threads import POOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_LEFT, _DONE = "left", "done"
_TIDYING = 2
"""How many threads there are besides, for what tidies up."""

_WATCH_S = 0.05
"""How often somebody looks whether a thread that was given up is back."""

_LONG_PART = 0.5
"""Who waited for a place as long as the deadline goes on waiting, unless a call hangs for so much of it."""

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Bounds:
    """How much a device may hold up.

    Attributes:
        places: how many calls run at the same time.
        deadline_s: how long a request waits for one call, and for its turn while others hang.
        patience_s: how long every call may hang, with all places taken, before newcomers are sent away.
    """

    places: int
    deadline_s: float
    patience_s: float


class StalledError(LustackError):
    """The file system did not answer in time.

    Attributes:
        path: of the device.
        waited_s: how long this request waited.
    """

    retryable = True

    def __init__(self, path: str, waited_s: float) -> None:
        super().__init__(path, waited_s)
        self.path = path
        self.waited_s = waited_s

    def __str__(self) -> str:
        return f"{self.path}: the file system did not answer for {self.waited_s:.1f} s"


class Places:
    """So many, in the order of asking. For the event loop only.

    Attributes:
        free: how many nobody has.
    """

    def __init__(self, free: int) -> None:
        self.free = free
        self._turns: deque[Any] = deque()

    def take(self) -> bool:
        """Takes a free place, if there is one; then nobody waits for it."""
        if not self.free:
            return False
        self.free -= 1
        return True

    def ask(self) -> Any:
        """None is free: an event that is ready when one is given to whoever asked."""
        turn = Event()
        self._turns.append(turn)
        return turn

    def withdraw(self, turn: Any) -> None:
        """Who asked does not want a place any more."""
        if turn.ready():
            self.give()
        else:
            self._turns.remove(turn)

    def give(self) -> None:
        """A place is not needed any more; it goes to whoever waits longest."""
        if self._turns:
            self._turns.popleft().send()
        else:
            self.free += 1


class Calls:
    """The places of one device for calls of one kind. For the event loop only."""

    def __init__(self, path: str, logger: Any, bounds: Bounds) -> None:
        """Starts nothing.

        Args:
            path: of the device, for messages.
            logger: Swift's logger.
            bounds: which hold.
        """
        self.path = path
        self.deadline_s = bounds.deadline_s
        self._logger = logger
        self._patience_s = bounds.patience_s
        self._most = bounds.places
        self._places = Places(bounds.places)
        self._jobs: set[_Job] = set()
        self._late = 0
        POOL.make_room(bounds.places + _TIDYING)

    def line(self) -> Line:
        """A line for one request."""
        return Line(self)

    def enter(self) -> None:
        """Takes a place, waiting for it.

        Raises:
            StalledError: there is none, and a call hangs.
        """
        if self._places.take():
            return
        began_s = time.monotonic()
        if self._count_hanging(began_s - self._patience_s) == self._most:
            raise StalledError(self.path, 0.0)
        turn = self._places.ask()
        try:
            self._wait_for(turn, began_s)
        except BaseException:
            self._places.withdraw(turn)
            raise

    def _wait_for(self, turn: Any, began_s: float) -> None:
        while not turn.ready():
            turn.wait(self.deadline_s)
            now_s = time.monotonic()
            if not turn.ready() and self._count_hanging(now_s - self.deadline_s * _LONG_PART):
                raise StalledError(self.path, now_s - began_s)

    def _count_hanging(self, since_s: float) -> int:
        return sum(job.hangs_since(since_s) for job in self._jobs)

    def took(self, job: _Job) -> None:
        """A call has the place that `enter` took."""
        self._jobs.add(job)

    def leave(self, job: _Job) -> None:
        """A call returned, and gives its place back."""
        self._jobs.discard(job)
        self._places.give()

    def say_late(self) -> None:
        """A request gave up on a call."""
        if not self._late:
            self._logger.warning("%s: the file system does not answer", self.path)
        self._late += 1

    def say_back(self) -> None:
        """A call that was given up came back."""
        self._late -= 1
        if not self._late:
            self._logger.info("%s: the file system answers again", self.path)


class Line:
    """The calls of one request, one after the other."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._job: _Job | None = None
        self._is_stalled = False

    def run(self, call: Callable[..., _Result], *args: Any) -> _Result:
        """Runs a call in a thread and waits for what it returns or raises.

        Raises:
            StalledError: it takes too long. No more calls in this line, but `finish`.
        """
        self.wait()
        with self._noticing():
            self._calls.enter()
            job = self._job = _Job(self._calls, call, args, has_place=True)
            job.run_here()
        self._job = None
        result: _Result = job.result()
        return result

    def start(self, call: Callable[..., Any], *args: Any) -> None:
        """Starts a call without waiting for it, when the one before has ended.

        Raises:
            StalledError: no place is free; or what the call before raised.
        """
        self.wait()
        with self._noticing():
            self._calls.enter()
        self._job = _Job(self._calls, call, args, has_place=True)
        self._job.run_beside()

    def wait(self) -> Any:
        """What the call that was started last returns or raises; None if there is none.

        Raises:
            StalledError: it takes too long.
        """
        job = self._job
        if job is None:
            return None
        with self._noticing():
            job.wait()
        self._job = None
        return job.result()

    @contextmanager
    def _noticing(self) -> Iterator[None]:
        try:
            yield
        except StalledError:
            self._is_stalled = True
            raise

    def finish(self, tidy: Callable[..., Any], *args: Any) -> None:
        """The last call of a line: gives back what its calls used, when none of them uses it any more.

        It needs no place. It is waited for, unless the file system let this line wait already.

        Args:
            tidy: runs in a thread; raises nothing.
            args: for it.
        """
        job, self._job = self._job, None
        if job is not None and not job.settle():
            job.leave(lambda: tidy(*args))
            return
        last = _Job(self._calls, tidy, args)
        last.run_beside()
        if not self._is_stalled:
            last.settle()


class _Job:
    """One call, between the request that wants it and the thread that runs it."""

    def __init__(
        self, calls: Calls, call: Callable[..., Any], args: tuple[Any, ...], *, has_place: bool = False
    ) -> None:
        self._calls = calls
        self._has_place = has_place
        self._call = call
        self._args = args
        self._event: Any = None
        self._result: Any = None
        self._error: BaseException | None = None
        self._is_late = False
        self._tidy: Callable[[], Any] | None = None
        # Who writes here first leaves the rest to the other. Appending is atomic, also between threads.
        self._marks: list[str] = []
        self._begun_s: float | None = None
        if has_place:
            calls.took(self)

    def hangs_since(self, time_s: float) -> bool:
        """Whether a thread began with it before a time and has not come back."""
        return self._begun_s is not None and self._begun_s < time_s and _DONE not in self._marks

    def run_here(self) -> None:
        """Runs it and waits for it: the quick way, without another greenlet.

        Raises:
            StalledError: it takes too long.
        """
        limit = Timeout(self._calls.deadline_s)
        try:
            POOL.run(self._work)
        except BaseException as error:
            if error is not limit or _DONE not in self._marks:
                self._give_up()
                if error is limit:
                    raise StalledError(self._calls.path, self._calls.deadline_s) from None
                raise
        finally:
            limit.cancel()
        self._calls.leave(self)

    def _give_up(self) -> None:
        self._event = Event()
        self._is_late = True
        self._calls.say_late()
        spawn_n(self._watch)

    def _watch(self) -> None:
        """Nobody waits any more; notices that the thread is back."""
        while _DONE not in self._marks:
            sleep(_WATCH_S)
        self._end()

    def run_beside(self) -> None:
        """Runs it in the background."""
        self._event = Event()
        spawn_n(self._run)

    def _run(self) -> None:
        POOL.run(self._work)
        self._end()

    def _end(self) -> None:
        if self._has_place:
            self._calls.leave(self)
        if self._is_late:
            self._calls.say_back()
        self._event.send()

    def _work(self) -> None:
        """In a thread."""
        self._begun_s = time.monotonic()
        try:
            self._result = self._call(*self._args)
        except BaseException as error:  # noqa: BLE001 - raised again where the request waits
            self._error = error
        self._marks.append(_DONE)
        if self._marks[0] == _LEFT and self._tidy is not None:
            self._tidy()

    def settle(self) -> bool:
        """Waits for the end of the call, whatever it is; not again if somebody has waited too long before."""
        if not self._is_late:
            with suppress(StalledError):
                self.wait()
        return bool(self._event.ready())

    def wait(self) -> None:
        self._event.wait(self._calls.deadline_s)
        if _DONE in self._marks:
            # Only the event loop does not know it yet.
            self._event.wait()
        if self._event.ready():
            return
        if not self._is_late:
            self._is_late = True
            self._calls.say_late()
        raise StalledError(self._calls.path, self._calls.deadline_s)

    def result(self) -> Any:
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # the traceback would keep what the call used

    def leave(self, tidy: Callable[[], Any]) -> None:
        """The request is over; the thread tidies up, now or when it is done."""
        self._tidy = tidy
        self._marks.append(_LEFT)
        if self._marks[0] == _DONE:
            spawn_n(POOL.run, tidy)
