# SPDX-License-Identifier: Apache-2.0
"""Adds, removes and shows exports: what `lustack export` does, between the tables of the devices and Swift.

    add:     directory bound -> every node knows -> container made -> its files listed
    remove:  directory let go -> every node knows -> rows deleted -> forgotten

Each arrow may be cut by a crash; the same command goes on. The last step of both is a comparison, which the daemon does
as well (`lustack.sync.importing`).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lustack.errors import ConfigurationError
from lustack.exports import binding, table
from lustack.exports.binding import Wish
from lustack.exports.errors import ExportMissingError
from lustack.exports.roots import open_export, opened_device
from lustack.mapping.exports import Export, Stage
from lustack.sync.sinks.protocol import ContainerKey, Presence, Sink
from lustack.sync.sinks.rings import Policy

_WHERE = "lustack export"

SPREAD_S = 2 * table.FRESH_S
"""After so many seconds every process on every node knows a table that was written."""


@dataclass(frozen=True)
class Bound:
    """An export and where it is written.

    Attributes:
        policy: whose device has the table.
        export: the export.
    """

    policy: Policy
    export: Export


@dataclass(frozen=True)
class Shown:
    """An export for people.

    Attributes:
        bound: the export.
        problem: why its directory cannot be used, empty if it can.
        objects: rows of its listing, as far as its database has counted.
    """

    bound: Bound
    problem: str
    objects: int


@dataclass(frozen=True)
class Exporting:
    """The exports of some storage policies.

    Attributes:
        devices: the directory that holds the devices.
        policies: the default one first.
        sink: Swift.
        sleep: waits so many seconds.
    """

    devices: str
    policies: Sequence[Policy]
    sink: Sink
    sleep: Callable[[float], None] = time.sleep

    def add(self, wish: Wish, policy_name: str = "") -> Bound:
        """Makes a directory a container; its listing is still to be made.

        Args:
            wish: what to bind to what.
            policy_name: of the storage policy; empty: the container's, or the default one.

        Raises:
            ConfigurationError: this cannot be an export.
            ExportsDamagedError, SwiftUnavailableError, SwiftRefusedError, OSError: something failed; the same call
                goes on where this one ended.
        """
        key = ContainerKey(wish.account, wish.container)
        _refuse_names(key)
        if not self.sink.has_account(wish.account):
            raise ConfigurationError(
                _WHERE, "ACCOUNT", wish.account, "an account that exists in Swift: `swift post` by its user makes it"
            )
        policy = self._choose(key, policy_name)
        paths = [self._path(policy), *(self._path(each) for each in self.policies if each != policy)]
        bound = Bound(policy, binding.bind(paths, wish))
        if bound.export.stage is Stage.IMPORTING:
            self.sleep(SPREAD_S)
            if self.sink.get_state(key).presence is not Presence.EXISTS:
                self.sink.create(key, policy.index)
            self._refuse_hidden(paths[0], key)
        return bound

    def remove(self, account: str, container: str) -> Bound:
        """Lets a directory go; its listing is still to be emptied.

        Raises:
            ConfigurationError: this container is no export.
            ExportsDamagedError, SwiftUnavailableError, OSError: something failed; try again.
        """
        policy = self.find(account, container).policy
        path = self._path(policy)
        bound = Bound(policy, binding.release(path, account, container))
        self.sleep(SPREAD_S)
        if not self._is_listed(ContainerKey(account, container)):
            with opened_device(path) as root_fd:
                table.finish(root_fd, bound.export)
        return bound

    def find(self, account: str, container: str) -> Bound:
        """The export of a container, also one that is leaving.

        Raises:
            ConfigurationError: this container is no export.
            ExportsDamagedError, OSError: as `list`.
        """
        for bound in self.list():
            if bound.export.key == (account, container):
                return bound
        allowed = "an export; `lustack export list` shows all"
        raise ConfigurationError(_WHERE, "CONTAINER", f"{account}/{container}", allowed)

    def list(self) -> list[Bound]:
        """Every export, also those that are leaving, in order.

        Raises:
            ExportsDamagedError: a table is damaged.
            OSError: a device cannot be read.
        """
        found = []
        for policy in self.policies:
            with opened_device(self._path(policy)) as root_fd:
                found += [Bound(policy, export) for export in table.load(root_fd)]
        return sorted(found, key=lambda each: each.export.key)

    def show(self, bound: Bound) -> Shown:
        """An export with what can be said about it now.

        Raises:
            SwiftUnavailableError: too few servers answer.
        """
        objects = self.sink.get_state(ContainerKey(*bound.export.key)).object_count
        try:
            os.close(open_export(bound.export))
        except ExportMissingError as error:
            return Shown(bound, error.why, objects)
        return Shown(bound, "", objects)

    def is_settled(self, bound: Bound) -> bool:
        """Whether the listing has caught up with an export that came or left, or somebody changed it meanwhile."""
        with opened_device(self._path(bound.policy)) as root_fd:
            return bound.export not in table.load(root_fd) or bound.export.stage is Stage.READY

    def _path(self, policy: Policy) -> str:
        return os.path.join(self.devices, policy.device)

    def _choose(self, key: ContainerKey, name: str) -> Policy:
        state = self.sink.get_state(key)
        ours = {policy.index: policy for policy in self.policies}
        wanted = next((policy for policy in self.policies if name in ("", policy.name)), None)
        if wanted is None:
            names = ", ".join(policy.name for policy in self.policies)
            raise ConfigurationError(_WHERE, "--policy", name, f"one of {names}")
        if state.presence is not Presence.EXISTS:
            return wanted
        found = ours.get(state.policy_index)
        if found is None or (name and found != wanted):
            allowed = f"a container of the storage policy {wanted.name}"
            raise ConfigurationError(_WHERE, "CONTAINER", key.container, allowed)
        return found

    def _refuse_hidden(self, path: str, key: ContainerKey) -> None:
        """What came into the container's own directory just before every node knew of the export."""
        hidden = binding.find_file(path, *key)
        if hidden is not None:
            where = os.path.join(path, os.fsdecode(hidden))
            allowed = f"a container that nobody writes to just now; move {where} into the exported directory"
            raise ConfigurationError(_WHERE, "CONTAINER", key.container, allowed)

    def _is_listed(self, key: ContainerKey) -> bool:
        if not self.sink.has_account(key.account):
            return False
        return self.sink.get_state(key).presence in (Presence.EXISTS, Presence.DOOMED)


def _refuse_names(key: ContainerKey) -> None:
    """What no client could ask for, or Swift keeps for itself."""
    if not key.account or "/" in key.account or key.account.startswith("."):
        raise ConfigurationError(_WHERE, "ACCOUNT", key.account, "the name of an account")
    if not key.container or "/" in key.container or key.container.startswith("\0"):
        raise ConfigurationError(_WHERE, "CONTAINER", key.container, "the name of a container, without `/`")
