# SPDX-License-Identifier: Apache-2.0
"""A cache inside the proxy, for hosts without memcached: a paste filter that stands for Swift's `cache`.

Rule 1: it answers as `swift.common.memcached.MemcacheRing` does, so values come back as JSON gives them.
Rule 2: it is right for a proxy of one process only; that is what `lustack serve` runs.
Rule 3: bounded: what expires first goes first when there is no room.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

CAPACITY = 10_000
"""Entries; a token and an answer about a container take some hundred bytes each."""

# Longer times are dates for memcached, thus for its callers.
# Source: memcached doc/protocol.txt, "Expiration times".
_LONGEST_RELATIVE_S = 30 * 24 * 3600

_FOREVER = float("inf")

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class MemoryCache:
    """Keys and values of one process."""

    def __init__(self, capacity: int = CAPACITY, clock: Callable[[], float] = time.time) -> None:
        """Start empty.

        Args:
            capacity: how many entries there may be.
            clock: seconds since the epoch.
        """
        self._capacity = capacity
        self._clock = clock
        self._entries: dict[str, tuple[float, str]] = {}

    def get(self, key: str, **_options: object) -> Any:  # noqa: ANN401 (whatever was set)
        """The value of a key, None when there is none."""
        expires, text = self._entries.get(key, (_FOREVER, "null"))
        if expires <= self._clock():
            self._entries.pop(key, None)
            return None
        return json.loads(text)

    def set(self, key: str, value: object, time: float = 0, **_options: object) -> None:
        """Keep a value.

        Args:
            key: its key.
            value: anything that JSON can hold.
            time: seconds from now, or seconds since the epoch; 0: until there is no more room.
        """
        if key not in self._entries and len(self._entries) >= self._capacity:
            self._make_room()
        self._entries[key] = (self._expiry(time), json.dumps(value))

    def incr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Add to a number, which starts at 0 and never falls below it, and return it."""
        value = max(0, int(self.get(key) or 0) + int(delta))
        self.set(key, value, time=time)
        return value

    def decr(self, key: str, delta: int = 1, time: float = 0) -> int:
        """Take from a number, likewise."""
        return self.incr(key, delta=-int(delta), time=time)

    def delete(self, key: str, _server_key: str | None = None) -> None:
        """Forget a key."""
        self._entries.pop(key, None)

    def set_multi(self, mapping: Mapping[str, object], _server_key: str, **options: Any) -> None:  # noqa: ANN401
        """Keep several values."""
        for key, value in mapping.items():
            self.set(key, value, **options)

    def get_multi(self, keys: Iterable[str], _server_key: str) -> list[Any]:
        """The values of several keys."""
        return [self.get(key) for key in keys]

    def _expiry(self, time_s: float) -> float:
        if not time_s:
            return _FOREVER
        return time_s if time_s > _LONGEST_RELATIVE_S else self._clock() + time_s

    def _make_room(self) -> None:
        """Forget what expires first, an eighth of everything at once."""
        by_expiry = sorted(self._entries, key=lambda key: self._entries[key][0])
        for key in by_expiry[: max(1, self._capacity // 8)]:
            del self._entries[key]


def filter_factory(_global_conf: Mapping[str, str], **_local_conf: str) -> Callable[[Application], Application]:
    """What paste.deploy calls: each application it wraps gets a cache of its own."""

    def wrap(application: Application) -> Application:
        cache = MemoryCache()

        def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            environ["swift.cache"] = cache
            return application(environ, start_response)

        return call

    return wrap
