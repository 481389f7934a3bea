# SPDX-License-Identifier: Apache-2.0
"""Users of changelogs: how one is registered on a metadata server, and what the server says of them.

Rule 1: nothing is run here. Only `lctl`, as root on the server that has the MDT, can register.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lustack.lustre.errors import LustreError

# "lustre-MDT0000: Registered changelog userid 'cl7-lustackd'". Source: recorded.
_REGISTERED: Final = re.compile(r"([^\s:]+-MDT[0-9a-f]{4}): Registered changelog userid '(cl\d+)(?:-[^']*)?'")
# "cl7-lustackd   916 (0) mask=MARK,CREAT". Source: recorded, mdd.*.changelog_users.
_USER: Final = re.compile(r"^(cl\d+)(?:-(\S+))?\s+(\d+)\s+\((\d+)\)(?:\s+mask=(\S+))?$", re.MULTILINE)
_CURRENT: Final = re.compile(r"^current_index: (\d+)$", re.MULTILINE)


class RegistrationError(LustreError):
    """A user could not be registered.

    Attributes:
        command: what was run.
        why: what it said.
    """

    def __init__(self, command: str, why: str) -> None:
        super().__init__(command, why)
        self.command = command
        self.why = why

    def __str__(self) -> str:
        return f"`{self.command}` did not register a user: {self.why}"


@dataclass(frozen=True)
class User:
    """A user of a changelog, as its MDT knows it.

    Attributes:
        user: as `cl7`: what a clear names.
        name: that it was registered with; empty: none.
        index: up to which it has cleared.
        idle_s: since it cleared last.
        mask: types that it wants; empty: the default.
    """

    user: str
    name: str
    index: int
    idle_s: int
    mask: tuple[str, ...]


def register_command(mdt: str, name: str, mask: Sequence[str]) -> list[str]:
    """What registers a user, as root on the server that has the MDT.

    Args:
        mdt: as `lustre-MDT0000`.
        name: for people, who see it in `changelog_users`.
        mask: types of records. Source: lctl(8), Lustre 2.15 and later.
    """
    return ["lctl", "--device", mdt, "changelog_register", "--user", name, "--mask", ",".join(mask)]


def parse_registered(output: str) -> tuple[str, str]:
    """The MDT and the user in what that command says.

    Raises:
        ValueError: it did not register one.
    """
    found = _REGISTERED.search(output)
    if found is None:
        raise ValueError(output)
    return found[1], found[2]


def parse_users(text: str) -> tuple[int, list[User]]:
    """The index of the last record and the users in the parameter `mdd.*.changelog_users`.

    Raises:
        ValueError: it is something else.
    """
    current = _CURRENT.search(text)
    if current is None:
        raise ValueError(text)
    users = [
        User(user, name or "", int(index), int(idle), tuple((mask or "").split(",")) if mask else ())
        for user, name, index, idle, mask in _USER.findall(text)
    ]
    return int(current[1]), users
