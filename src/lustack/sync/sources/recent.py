# SPDX-License-Identifier: Apache-2.0
"""A dictionary that forgets what nobody asked for lately, so that it stays small.

Two dictionaries, a young and an old one. What is put or asked for is in the young one; when that is full it becomes the
old one, and what was old is forgotten. Costs one look-up where a list of uses would cost several.
"""

from __future__ import annotations

from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """From bytes to values."""

    def __init__(self, limit: int) -> None:
        """Empty.

        Args:
            limit: the most entries.
        """
        self._half = max(1, limit // 2)
        self._young: dict[bytes, Value] = {}
        self._old: dict[bytes, Value] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: bytes) -> Value | None:
        """The value of a key, which is remembered longer for that; None if there is none."""
        found = self._young.get(key)
        if found is None:
            found = self._old.pop(key, None)
            if found is not None:
                self.put(key, found)
        return found

    def put(self, key: bytes, value: Value) -> bool:
        """Remembers a value.

        Returns:
            whether others were forgotten for it.
        """
        self._old.pop(key, None)
        forgets = len(self._young) >= self._half and key not in self._young and bool(self._old)
        if len(self._young) >= self._half and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value
        return forgets

    def pop(self, key: bytes) -> Value | None:
        """Forgets a key.

        Returns:
            its value, None if it had none.
        """
        found = self._young.pop(key, None)
        return self._old.pop(key, None) if found is None else found

    def clear(self) -> None:
        """Forgets everything."""
        self._young.clear()
        self._old.clear()
