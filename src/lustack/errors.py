# SPDX-License-Identifier: Apache-2.0
"""The root of every error that lustack raises on purpose.

Rule 1: classes take facts, `__str__` makes the sentence.
Rule 2: what an operator can mend is a `ConfigurationError` and says how; everything else says what failed.
Rule 3: whether it is worth trying again is answered by the error (`retryable`), never by the one who catches it.
"""

from __future__ import annotations


class LustackError(Exception):
    """Something that lustack knows how to name.

    Attributes:
        retryable: true when the same call may succeed later without anybody changing anything.
    """

    retryable = False


class ConfigurationError(LustackError):
    """A setting must change before the program can work.

    Attributes:
        where: the file or section that holds the setting.
        option: the name of the setting.
        value: what was found there.
        allowed: what would be accepted, as the end of the sentence "... must be".
    """

    def __init__(self, where: str, option: str, value: object, allowed: str) -> None:
        super().__init__(where, option, value, allowed)
        self.where = where
        self.option = option
        self.value = value
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.where}: {self.option} = {self.value!r}, but it must be {self.allowed}"
