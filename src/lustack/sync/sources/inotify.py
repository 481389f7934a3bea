# SPDX-License-Identifier: Apache-2.0
"""Events by inotify(7), for who may not use fanotify: a watch for every directory. For small trees.

Rule 1: trees that cannot be watched are said once, tried again, and reported as changed every `rescan_s`. Of too many
of them nothing is reported, and it is not promised that everything is seen.
Rule 2: what looks like a loss is one: an overflow, a root that is another directory now, a file system that was
unmounted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Final

from oslo_log import log

from lustack.posix import inotify
from lustack.sync.events import Event, TreeChanged
from lustack.sync.sources.notices import NoticeTranslator
from lustack.sync.sources.polled import PolledSource, Reading, is_missing
from lustack.sync.sources.protocol import Guarantees
from lustack.sync.sources.roots import Root
from lustack.sync.sources.watches import Kernel, LinuxKernel, Watches

LOG = log.getLogger(__name__)

GATHER_S: Final = 0.01
RESCAN_S: Final = 30.0

_READ_BYTES: Final = 64 * 1024
# The largest event. Source: inotify(7), sizeof(struct inotify_event) + NAME_MAX + 1.
_EVENT_BYTES: Final = 16 + 256


class _Watching:
    """See `polled.Watching`."""

    def __init__(self, name: str, kernel: Kernel, roots: Sequence[Root], rescan_s: float) -> None:
        self._name = name
        self._rescan_s = rescan_s
        self._rescanned_s = time.monotonic()
        self._has_warned = False
        self._identities = {root.path: _identity(root.path) for root in roots if not root.prefix}
        self._watches = Watches(kernel)
        self._translator = NoticeTranslator(self._watches)
        try:
            self.unseen = self.update(roots)
        except BaseException:
            self.close()
            raise

    def update(self, roots: Sequence[Root]) -> list[str]:
        unseen = []
        self._watches.keep_roots(roots)
        for root in roots:
            try:
                self._watches.add_root(root)
            except OSError as error:
                if not root.prefix:
                    raise
                if not is_missing(error):
                    unseen.append(f"{root.path} ({error.strerror})")
        self._warn()
        return unseen

    @property
    def fd(self) -> int:
        return self._watches.instance

    def read(self) -> Reading:
        buffer = os.read(self.fd, _READ_BYTES)
        notices = inotify.parse(buffer)
        masks = 0
        for notice in notices:
            masks |= notice.mask
        if masks & inotify.Q_OVERFLOW:
            return Reading([], lost="the queue of the kernel ran over")
        if masks & inotify.UNMOUNT:
            return Reading([], lost="a file system was unmounted")
        events = [*self._translator.translate(notices), *self._rescan()]
        return Reading(events, len(buffer) > _READ_BYTES - _EVENT_BYTES)

    @property
    def has_gaps(self) -> bool:
        return self._watches.is_crowded

    def overdue(self) -> list[Event]:
        return [*self._translator.overdue(), *self._rescan()]

    def why_lost(self) -> str | None:
        for path, identity in self._identities.items():
            try:
                if _identity(path) != identity:
                    return f"{path} is another directory now"
            except OSError as error:
                return f"{path} cannot be opened any more: {error.strerror}"
        return None

    def close(self) -> None:
        self._watches.close()

    def _rescan(self) -> list[Event]:
        """Now and then, the trees without watches."""
        now_s = time.monotonic()
        if not self._watches.unwatched or now_s - self._rescanned_s < self._rescan_s:
            return []
        self._rescanned_s = now_s
        self._warn()
        return [TreeChanged(path) for path in self._watches.retry()]

    def _warn(self) -> None:
        if self._watches.unwatched and not self._has_warned:
            self._has_warned = True
            path, unwatched = next(iter(self._watches.unwatched.items()))
            LOG.warning(
                "%s: %d directories are watched, but not %r (%s) and perhaps others: they are compared every %.0f s, "
                "or with everything else if there are many. fs.inotify.max_user_watches limits how many can be watched",
                *(self._name, len(self._watches), path, unwatched.why, self._rescan_s),
            )


class InotifySource(PolledSource):
    """See `Source`, and the top of this file."""

    def __init__(
        self,
        name: str,
        roots: Sequence[Root],
        *,
        is_local: bool,
        gather_s: float = GATHER_S,
        rescan_s: float = RESCAN_S,
        kernel: Kernel | None = None,
    ) -> None:
        """Opens nothing yet.

        Args:
            name: of the source.
            roots: what to watch, the root of the device first; none of them twice.
            is_local: no other host can change the file system of the device.
            gather_s: how long to wait for more when something happened.
            rescan_s: how often trees that cannot be watched are reported as changed.
            kernel: None: the real one.
        """
        guarantees = Guarantees(complete=False, across_hosts=is_local, latency_s=2 * gather_s)
        asked = kernel or LinuxKernel()
        super().__init__(name, guarantees, gather_s, roots, lambda wanted: _Watching(name, asked, wanted, rescan_s))


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino
