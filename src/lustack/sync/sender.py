# SPDX-License-Identifier: Apache-2.0
"""Dirty names -> rows in Swift: looks at the names of one container, and sends what was found with one request.

Rule 1: one request at a time for each container; several containers at once, one for each thread.
Rule 2: what could not be sent is looked at again, a while later. What Swift does not take is left to a job.
Rule 3: without the right file system nothing is sent: what is missing may be on the other one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lustack.errors import LustackError
from lustack.sync.address import OWNER, prefix_of
from lustack.sync.board import Board
from lustack.sync.book import CONTAINER
from lustack.sync.budget import divide
from lustack.sync.clock import Clock
from lustack.sync.device import Device, open_device
from lustack.sync.dirty import Batch, Container
from lustack.sync.errors import ContainerGoneError, DeviceMissingError, SwiftRefusedError
from lustack.sync.exclusion import compile_globs
from lustack.sync.look import LeftOut, look
from lustack.sync.recent import RecentSink
from lustack.sync.settings import Settings
from lustack.sync.sinks.protocol import ContainerKey, Presence
from lustack.sync.sinks.rings import Policy
from lustack.sync.state import Job, Scope, State

RETRY = "retry"

_CHECK_S = 10.0
"""How long what Swift said of a container's storage policy is believed: one that is made again may have another."""


@dataclass
class Identities:
    """Whether a device is the one that it was.

    Attributes:
        state: remembers.
    """

    state: State
    _known: dict[int, int] = field(default_factory=dict)

    def check(self, policy_index: int, device: Device) -> bool:
        """Whether rows may be deleted: the file system is known.

        Raises:
            DeviceMissingError: another file system is there.
        """
        known = self._known.get(policy_index)
        if known is None:
            known = self.state.device(policy_index)
            if known is None:
                return False
            self._known[policy_index] = known
        if device.mark != known:
            self._known.pop(policy_index)
            raise DeviceMissingError(device.path, "another file system is mounted there")
        return True


@dataclass
class Sender:
    """Works off the dirty names of a board; `run` may run in several threads.

    Attributes:
        board: has the names.
        settings: of the daemon.
        policies: whose devices to look at.
        sink: gets the rows.
        clock: stamps them.
        identities: of devices.
        on_unhashed: is told of objects without a known MD5.
        on_trouble: is told what went wrong.
    """

    board: Board
    settings: Settings
    policies: Sequence[Policy]
    sink: RecentSink
    clock: Clock
    identities: Identities
    on_unhashed: Callable[[ContainerKey, Sequence[str]], None]
    on_trouble: Callable[[Exception], None]

    def __post_init__(self) -> None:
        self._left_out = LeftOut(divide(self.settings.memory_bytes).left_out)
        self._paths = {policy.index: os.path.join(self.settings.devices, policy.device) for policy in self.policies}

    def run(self) -> None:
        """Works until the board is stopped."""
        while (taken := self.board.next_batch()) is not None:
            self.work(*taken)

    def work(self, container: Container, batch: Batch) -> None:
        """Looks at a batch and sends it."""
        trouble: Exception | None = None
        is_done = True
        try:
            self._send(container, batch)
        except ContainerGoneError:
            self.board.give_up(container, CONTAINER)
        except SwiftRefusedError as error:
            # It would be refused again; what can be done about it is done by whoever reads the warning.
            trouble = error
        except (LustackError, OSError) as error:
            trouble, is_done = error, False
        self.board.settle(container, is_done=is_done)
        if trouble is not None:
            # Not above: oslo.log repeats an exception that is being handled.
            self.on_trouble(trouble)

    def _send(self, container: Container, batch: Batch) -> None:
        key = container.key
        with open_device(self._paths[container.policy_index], compile_globs(self.settings.exclude)) as device:
            may_delete = self.identities.check(container.policy_index, device)
            looked = look(device, key, batch, self.clock.now_ns, self.sink.is_untouched, self._left_out)
        self.board.looked(container, self_events=looked.self_events, short_lived=looked.short_lived)
        rows = looked.rows if may_delete else [row for row in looked.rows if not row.is_deleted]
        if rows and self._is_of_policy(container):
            self.clock.remember()
            self.sink.send(key, rows)
        again = looked.unseen if may_delete else [*looked.unseen, b""]
        self._ask_again(key, again)
        if looked.unhashed:
            self.on_unhashed(key, looked.unhashed)

    def _is_of_policy(self, container: Container) -> bool:
        """Whether the container is not one of another storage policy, whose objects are elsewhere."""
        now_s = self.board.monotonic_s()
        if now_s - container.checked_s > _CHECK_S:
            state = self.sink.get_state(container.key)
            is_other = state.presence is Presence.EXISTS and state.policy_index != container.policy_index
            container.is_other, container.checked_s = is_other, now_s
        return not container.is_other

    def _ask_again(self, key: ContainerKey, unseen: Sequence[bytes]) -> None:
        """What could not be looked at is compared."""
        prefixes = {prefix_of(rest.rpartition(b"/")[0]) for rest in unseen}
        if prefixes:
            self.board.ask(Job(Scope(*key, prefix, OWNER), RETRY) for prefix in sorted(prefixes))
