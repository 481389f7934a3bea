# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.server.cache import MemoryCache, filter_factory


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000_000.0

    def __call__(self) -> float:
        return self.now


def test_a_value_comes_back_as_json_gives_it():
    cache = MemoryCache()
    cache.set("token", (1, ["a"]), time=60, serialize=True, min_compress_len=0)
    assert cache.get("token", raise_on_error=True) == [1, ["a"]]


def test_an_unknown_key_is_none():
    assert MemoryCache().get("nothing") is None


def test_a_value_goes_when_its_time_is_over():
    clock = Clock()
    cache = MemoryCache(clock=clock)
    cache.set("soon", 1, time=10)
    cache.set("at", 2, time=clock.now + 20)
    cache.set("never", 3)
    clock.now += 15
    assert cache.get_multi(["soon", "at", "never"], "x") == [None, 2, 3]
    clock.now += 15
    assert cache.get_multi(["soon", "at", "never"], "x") == [None, None, 3]


def test_numbers_start_at_zero_and_never_fall_below():
    cache = MemoryCache()
    assert cache.incr("n") == 1
    assert cache.incr("n", delta=5, time=10) == 6
    assert cache.decr("n", delta=2) == 4
    assert cache.decr("n", delta=9) == 0


def test_a_deleted_key_is_gone_and_may_be_deleted_again():
    cache = MemoryCache()
    cache.set_multi({"a": 1, "b": 2}, "x", time=9)
    cache.delete("a", "x")
    cache.delete("a")
    assert cache.get_multi(["a", "b"], "x") == [None, 2]


def test_what_expires_first_makes_room():
    cache = MemoryCache(capacity=8)
    for number in range(8):
        cache.set(str(number), number, time=100 - number)
    cache.set("7", "again", time=5)
    assert cache.get("6") == 6
    cache.set("new", 1)
    assert cache.get("7") is None
    assert [cache.get(str(number)) for number in range(7)] == list(range(7))


def test_each_application_gets_a_cache_of_its_own():
    seen = []

    def application(environ, start_response):
        seen.append((environ["swift.cache"], start_response))
        return [b"ok"]

    for _ in range(2):
        wrapped = filter_factory({}, use="x")(application)
        assert wrapped({}, None) == [b"ok"]
        assert wrapped({}, None) == [b"ok"]
    caches = [cache for cache, _ in seen]
    assert caches[0] is caches[1]
    assert caches[0] is not caches[2]
