# SPDX-License-Identifier: Apache-2.0
"""How much uploads gather, and when memory goes back to the kernel."""

from __future__ import annotations

import pytest
from swift.common.concurrency import sleep
from tests.objects import no_thread_pool

from lustack.swift import crowd
from lustack.swift.crowd import BLOCK_BYTES, LEAST_BYTES, MANY, MOST_BYTES, Crowd


@pytest.mark.parametrize(
    ("uploads", "block_bytes"),
    [
        (0, BLOCK_BYTES),
        (1, BLOCK_BYTES),
        (MOST_BYTES // BLOCK_BYTES, BLOCK_BYTES),
        (4 * MOST_BYTES // BLOCK_BYTES, BLOCK_BYTES // 4),
        (10_000, LEAST_BYTES),
    ],
)
def test_the_more_uploads_there_are_the_less_each_gathers(uploads, block_bytes):
    here = Crowd()
    for _ in range(uploads):
        here.come()
    assert here.block_bytes == block_bytes


def test_when_the_last_one_of_many_has_gone_memory_goes_back():
    trims: list[str] = []
    here = Crowd(lambda: trims.append("trim"))
    for uploads, expected in ((MANY - 1, 0), (MANY, 1), (1, 1), (MANY, 2)):
        for _ in range(uploads):
            here.come()
        for _ in range(uploads):
            here.go()
        assert len(trims) == expected


@pytest.mark.parametrize("word", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"])
def test_the_blocks_of_a_few_stay_unless_the_operator_wants_something_else(word):
    told: list[tuple[int, int]] = []
    crowd.keep_blocks({"PATH": "/bin"}, lambda *sizes: told.append(sizes))
    assert told == [(8 * BLOCK_BYTES, 2 * BLOCK_BYTES)]
    crowd.keep_blocks({word: "1"}, lambda *sizes: told.append(sizes))
    assert len(told) == 1


def test_nobody_waits_for_it(monkeypatch):
    trims: list[int] = []
    monkeypatch.setattr(crowd, "trim_heap", lambda: trims.append(1))
    with no_thread_pool():
        here = Crowd()
        for _ in range(MANY):
            here.come()
        for _ in range(MANY):
            here.go()
        assert trims == []
        sleep(0.01)
    assert trims == [1]
