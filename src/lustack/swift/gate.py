# SPDX-License-Identifier: Apache-2.0
"""What a proxy knows about exports: which containers are some, and whether their directories are there.

Rule 1: a request for an object of an ordinary container costs a look-up in memory. The file system is asked at most
every `FRESH_S` seconds, in Swift's thread pool.
Rule 2: a file system that does not answer holds up nobody here: what was known stays, and the object server, which has
to ask it, says what is the matter.
Rule 3: one request asks; who comes meanwhile takes what was known. With many clients and little CPU every one of them
would find that it is time to ask, and wait for its turn.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any, TypeVar

from swift.common.concurrency import Event
from swift.common.storage_policy import POLICIES

from lustack.exports.errors import ExportMissingError
from lustack.exports.roots import open_export, opened_device
from lustack.exports.table import FRESH_S, Reader
from lustack.mapping.exports import Exports, ExportsDamagedError
from lustack.swift import faults
from lustack.swift.calls import Bounds, Calls, StalledError
from lustack.swift.policies import is_ours, root_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from lustack.mapping.exports import Export

_BOUNDS = Bounds(places=2, deadline_s=0.5, patience_s=0.2)
_UNKNOWN = "A device is out of reach, so nobody knows whether this account has exports. Try again later."
_Known = TypeVar("_Known")


class Gate:
    """The exports of all our storage policies. For one thread and its greenlets."""

    def __init__(
        self, devices: str, swift_dir: str, logger: Any, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        """Reads nothing yet.

        Args:
            devices: the directory that holds the device roots.
            swift_dir: the directory of the rings.
            logger: Swift's logger.
            monotonic_s: a clock that never goes back.
        """
        self._devices = devices
        self._swift_dir = swift_dir
        self._logger = logger
        self._monotonic_s = monotonic_s
        self._calls = Calls("exports", logger, _BOUNDS)
        self._roots: list[str] = []
        self._rooted_s = -FRESH_S
        self._known: dict[str, Exports] = {}
        self._seen: set[str] = set()
        self._asking: dict[str, Any] = {}
        self._readers: dict[str, Reader] = {}
        self._checked: dict[str, tuple[float, str]] = {}

    def find(self, account: str, container: str) -> Export | None:
        """The export that is this container, None if it is an ordinary one.

        Raises:
            HTTPException: nobody knows, because the table is damaged.
        """
        for exports in self._tables():
            found = exports.get(account, container)
            if found is not None:
                return found
        return None

    def has_exports(self, account: str) -> bool:
        """Whether containers of this account are exports.

        Raises:
            HTTPException: nobody knows: as `find`, and while the table of a device was never seen.
        """
        found = any(account in exports.accounts() for exports in self._tables())
        if not found and not self._seen.issuperset(self._our_roots()):
            raise faults.http_error("503 Service Unavailable", _UNKNOWN)
        return found

    def check(self, account: str, container: str) -> None:
        """Lets a request for an object pass unless its container is an export that is out of reach.

        Raises:
            HTTPException: 503: it is.
        """
        export = self.find(account, container)
        if export is None:
            return
        checked_s, problem = self._checked.get(export.mark, (-FRESH_S, ""))
        now_s = self._monotonic_s()
        if now_s - checked_s >= FRESH_S:
            self._checked[export.mark] = (now_s, problem)
            before, problem = problem, self._ask(problem, _problem, export)
            self._checked[export.mark] = (now_s, problem)
            if problem and problem != before:
                self._logger.error("/%s/%s: %s", account, container, problem)
        if problem:
            raise faults.out_of_reach()

    def _tables(self) -> list[Exports]:
        try:
            return [self._table(root) for root in self._our_roots()]
        except ExportsDamagedError as error:
            self._logger.error("%s", error)  # noqa: TRY400 - the sentence says it, no traceback
            raise faults.out_of_reach() from error

    def _our_roots(self) -> list[str]:
        """The device roots of our policies; rings are asked now and then, for each time they look at their file."""
        now_s = self._monotonic_s()
        if now_s - self._rooted_s >= FRESH_S:
            self._roots = [root_of(policy, self._devices, self._swift_dir) for policy in POLICIES if is_ours(policy)]
            self._rooted_s = now_s
        return self._roots

    def _table(self, root: str) -> Exports:
        reader = self._readers.get(root)
        if reader is None:
            reader = self._readers[root] = Reader(self._logger.warning, self._monotonic_s)
        found = reader.fresh()
        if found is not None:
            return found
        asking = self._asking.get(root)
        if asking is not None and root not in self._known:
            asking.wait(self._calls.deadline_s)
        if asking is not None and root in self._known:
            return self._known[root]
        return self._renew(root, reader)

    def _renew(self, root: str, reader: Reader) -> Exports:
        asking = self._asking[root] = Event()
        try:
            found = self._ask(None, _read, reader, root)
            if found is not None:
                self._seen.add(root)
            known = self._known[root] = self._known.get(root, Exports()) if found is None else found
        finally:
            self._asking.pop(root, None)
            asking.send()
        return known

    def _ask(self, known: _Known, call: Callable[..., _Known], *args: Any) -> _Known:
        """What a call says, or what was known when it does not answer."""
        try:
            return self._calls.line().run(call, *args)
        except StalledError:
            return known


def _read(reader: Reader, root: str) -> Exports | None:
    """The table of a device; None: it is out of reach, and the object server says what is the matter."""
    try:
        with opened_device(root) as root_fd:
            return reader.current(root_fd)
    except OSError:
        return None


def _problem(export: Export) -> str:
    """Why the directory of an export cannot be used, empty if it can."""
    try:
        os.close(open_export(export))
    except ExportMissingError as error:
        return str(error)
    return ""
