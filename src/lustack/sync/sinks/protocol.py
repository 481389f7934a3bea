# SPDX-License-Identifier: Apache-2.0
"""What a place that holds listings can do.

Rule 1: rows go only to a container that exists at that moment, or they would bring a deleted one back to life.
Rule 2: sending the same rows twice changes nothing; among two rows of one name the later timestamp wins.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from lustack.sync.plan import ListedRow, SentRow


class ContainerKey(NamedTuple):
    """The name of a container.

    Attributes:
        account: account name.
        container: container name.
    """

    account: str
    container: str

    def __str__(self) -> str:
        return f"{self.account}/{self.container}"


class Presence(enum.Enum):
    """Whether there is a container."""

    EXISTS = "exists"
    DOOMED = "deleted, but rows that came late keep it visible"
    DELETED = "deleted"
    UNKNOWN = "never heard of"


@dataclass(frozen=True)
class ContainerState:
    """What is known about a container.

    Attributes:
        presence: whether it exists.
        policy_index: its storage policy, 0 unless it exists.
        object_count: rows in its listing, as far as its database has counted.
        is_sharded: whether its rows are spread over several databases.
    """

    presence: Presence
    policy_index: int = 0
    object_count: int = 0
    is_sharded: bool = False


class Page(NamedTuple):
    """A part of a listing.

    Attributes:
        rows: in byte order.
        is_last: whether it is known that no other follows; a page without rows is the last one too.
    """

    rows: Sequence[ListedRow]
    is_last: bool


class Sink(Protocol):
    """Holds listings. Every method blocks, is thread-safe and may raise `SwiftUnavailableError`."""

    def has_account(self, account: str) -> bool:
        """Whether an account exists."""
        ...

    def list_containers(self, account: str, marker: str) -> Sequence[str]:
        """The containers of an account after `marker` in the order of their bytes; none: that was the end.

        An account that does not exist has none.
        """
        ...

    def get_state(self, key: ContainerKey) -> ContainerState:
        """What is known about a container, asked now."""
        ...

    def create(self, key: ContainerKey, policy_index: int) -> None:
        """Makes a container that never existed.

        Raises:
            SwiftRefusedError: its account does not exist, or the name is not allowed.
        """
        ...

    def list_rows(self, key: ContainerKey, marker: str, prefix: str) -> Page:
        """Some rows after `marker` whose names begin with `prefix`.

        Raises:
            ContainerGoneError: there is no such container.
        """
        ...

    def send(self, key: ContainerKey, rows: Sequence[SentRow]) -> None:
        """Writes rows, durably when this returns. Any number, any order. Idempotent.

        Raises:
            ContainerGoneError: the container does not exist (any more), or it is doomed and rows would add objects.
            SwiftRefusedError: the rows are not what Swift takes.
        """
        ...
