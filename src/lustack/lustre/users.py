# SPDX-License-Identifier: Apache-2.0
"""Users of changelogs: how one is registered on a metadata server.

Rule 1: nothing is run here. Only `lctl`, as root on the server that has the MDT, can register.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from lustack.lustre.errors import LustreError

# "lustre-MDT0000: Registered changelog userid 'cl7-lustackd'". Source: recorded.
_REGISTERED: Final = re.compile(r"([^\s:]+-MDT[0-9a-f]{4}): Registered changelog userid '(cl\d+)(?:-[^']*)?'")


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
