# SPDX-License-Identifier: Apache-2.0
"""Threads that make calls for the event loop.

What Swift's `tpool` does, at about half of its cost (decision 0008): for a small request the way to a thread and back
is more work than what the thread does.

Rule 1: a thread is made when all others are busy, up to a bound; then calls wait in line.
Rule 2: the event loop is woken by one eventfd(2), which stays registered, and told by one queue of C.
Rule 3: a greenlet that does not wait any more is left alone.
"""

from __future__ import annotations

import os
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from swift.common.concurrency import getcurrent, hubs, patcher

if TYPE_CHECKING:
    from collections.abc import Callable

# The event loop's own versions of these are for greenlets.
_threading: Any = patcher.original("threading")
_queue: Any = patcher.original("queue")


class _Ticket:
    """A call on its way.

    Attributes:
        call: to be made in a thread.
        waiter: the greenlet that waits, None when it does not any more.
        error: what the call raised.
    """

    __slots__ = ("call", "error", "waiter")

    def __init__(self, call: Callable[[], object], waiter: Any) -> None:
        self.call = call
        self.waiter = waiter
        self.error: BaseException | None = None


class Pool:
    """Threads of one process. For the event loop only.

    Attributes:
        most: how many threads there may be; 0: calls are made in place.
    """

    def __init__(self, most: int) -> None:
        """Starts nothing: what is made before a fork would not be there after it."""
        self.most = most
        self._pid = 0

    def make_room(self, threads: int) -> None:
        """Allows more threads, unless calls are made in place."""
        if self.most:
            self.most += threads

    def run(self, call: Callable[[], object]) -> None:
        """Makes a call in a thread; the greenlet waits.

        Raises:
            BaseException: what the call raises, or what wakes the greenlet meanwhile; the call goes on then.
        """
        if not self.most:
            call()
            return
        if self._pid != os.getpid():
            self._set_up()
        ticket = _Ticket(call, getcurrent())
        self._busy += 1
        if self._busy > len(self._threads) < self.most:
            self._start_one()
        self._calls.put(ticket)
        try:
            hubs.get_hub().switch()
        finally:
            ticket.waiter = None
        if ticket.error is not None:
            raise ticket.error

    def close(self) -> None:
        """Ends the threads when they have done what there is to do. The pool can be used again."""
        if self._pid != os.getpid():
            return
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            thread.join()
        hubs.get_hub().remove(self._listener)
        os.close(self._wake_fd)
        self._pid = 0

    def _set_up(self) -> None:
        # After a fork: the parent's eventfd is left alone, its threads are not here.
        self._pid = os.getpid()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._calls = _queue.SimpleQueue()
        self._done: deque[_Ticket] = deque()
        self._threads: list[Any] = []
        self._busy = 0
        hub = hubs.get_hub()
        self._listener = hub.add(hub.READ, self._wake_fd, self._notice, _ignore, _ignore)

    def _start_one(self) -> None:
        thread = _threading.Thread(target=serve, args=(self._calls, self._done, self._wake_fd), daemon=True)
        thread.start()
        self._threads.append(thread)

    def _notice(self, fd: int) -> None:
        """In the event loop: some calls were made."""
        os.eventfd_read(fd)
        while self._done:
            self._busy -= 1
            # Not here: what a greenlet raises must not end this.
            hubs.get_hub().schedule_call_global(0, _resume, self._done.popleft())


def serve(calls: Any, done: deque[_Ticket], wake_fd: int) -> None:
    """What each thread does.

    Args:
        calls: a queue of tickets; None ends it.
        done: where they go.
        wake_fd: an eventfd, written to afterwards.
    """
    while (ticket := calls.get()) is not None:
        try:
            ticket.call()
        except BaseException as error:  # noqa: BLE001 - raised again where the greenlet waits
            ticket.error = error
        done.append(ticket)
        # While a thread waits for the next call it keeps nothing of this one.
        ticket = None
        os.eventfd_write(wake_fd, 1)


def _resume(ticket: _Ticket) -> None:
    if ticket.waiter is not None:
        ticket.waiter.switch()


def _ignore(*_: object) -> None:
    """Nobody closes the eventfd while it is registered."""


POOL: Final = Pool(4)
"""Of this process; whoever makes calls makes room for them."""
