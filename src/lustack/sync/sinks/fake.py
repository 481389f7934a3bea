# SPDX-License-Identifier: Apache-2.0
"""Listings in memory, which merge rows as Swift does and fail on demand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lustack.sync.errors import ContainerGoneError, SwiftRefusedError, SwiftUnavailableError
from lustack.sync.plan import NORMAL_LENGTH, ListedRow, SentRow, show
from lustack.sync.sinks.protocol import ContainerKey, ContainerState, Page, Presence


@dataclass
class FakeContainer:
    """A container and what it was told.

    Attributes:
        presence: whether it exists.
        policy_index: its storage policy.
        rows: what it holds, deleted rows too.
    """

    presence: Presence = Presence.EXISTS
    policy_index: int = 0
    rows: dict[str, SentRow] = field(default_factory=dict)

    def merge(self, row: SentRow) -> None:
        """Takes a row unless there is a later one; `last_modified` never goes back."""
        old = self.rows.get(row.name)
        if old is None:
            self.rows[row.name] = row
            return
        newest = max(row, old, key=lambda each: each.timestamp)
        modified = newest.modified
        if not newest.is_deleted:
            modified = max(row.modified, old.modified or old.timestamp[:NORMAL_LENGTH])
        self.rows[row.name] = newest._replace(modified=modified)

    def shown(self) -> dict[str, ListedRow]:
        """The listing."""
        found = {}
        for name, sent in self.rows.items():
            if not sent.is_deleted:
                content_type, size_bytes = show(sent)
                found[name] = ListedRow(name, size_bytes, content_type, sent.etag, sent.modified)
        return found


@dataclass
class FakeSink:
    """A Swift in memory.

    Attributes:
        accounts: those that exist.
        containers: those that exist or did.
        page_rows: rows of a page of a listing.
        failures: how many of the next requests fail.
        requests: how many rows each `send` carried.
    """

    accounts: set[str] = field(default_factory=set)
    containers: dict[ContainerKey, FakeContainer] = field(default_factory=dict)
    page_rows: int = 3
    failures: int = 0
    requests: list[int] = field(default_factory=list)

    def has_account(self, account: str) -> bool:
        """See `Sink`."""
        self._fail_on_demand("has_account")
        return account in self.accounts

    def list_containers(self, account: str, marker: str) -> Sequence[str]:
        """See `Sink`."""
        self._fail_on_demand("list_containers")
        existing = (Presence.EXISTS, Presence.DOOMED)
        found = [
            key.container
            for key, each in self.containers.items()
            if each.presence in existing and key.account == account
        ]
        return [name for name in sorted(found) if name > marker][: self.page_rows]

    def get_state(self, key: ContainerKey) -> ContainerState:
        """See `Sink`."""
        self._fail_on_demand("get_state")
        found = self.containers.get(key)
        if found is None:
            return ContainerState(Presence.UNKNOWN)
        return ContainerState(found.presence, found.policy_index, len(found.shown()))

    def create(self, key: ContainerKey, policy_index: int) -> None:
        """See `Sink`."""
        self._fail_on_demand("create")
        if key.account not in self.accounts:
            raise SwiftRefusedError(f"PUT {key}", 404)
        self.containers[key] = FakeContainer(policy_index=policy_index)

    def list_rows(self, key: ContainerKey, marker: str, prefix: str) -> Page:
        """See `Sink`."""
        self._fail_on_demand("list_rows")
        shown = self._existing(key, may_be_doomed=True).shown()
        rows = [shown[name] for name in sorted(shown) if name > marker and name.startswith(prefix)]
        return Page(rows[: self.page_rows], len(rows) < self.page_rows)

    def send(self, key: ContainerKey, rows: Sequence[SentRow]) -> None:
        """See `Sink`."""
        self._fail_on_demand("send")
        container = self._existing(key, may_be_doomed=all(row.is_deleted for row in rows))
        for row in rows:
            container.merge(row)
        self.requests.append(len(rows))

    def _existing(self, key: ContainerKey, *, may_be_doomed: bool) -> FakeContainer:
        allowed = (Presence.EXISTS, Presence.DOOMED) if may_be_doomed else (Presence.EXISTS,)
        found = self.containers.get(key)
        if found is None or found.presence not in allowed:
            raise ContainerGoneError(str(key))
        return found

    def _fail_on_demand(self, what: str) -> None:
        if self.failures:
            self.failures -= 1
            raise SwiftUnavailableError(what, ["a failure on demand"])
