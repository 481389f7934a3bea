# SPDX-License-Identifier: Apache-2.0
"""What may be kept in memory: all of `memory_bytes` is divided here, and nowhere else.

Rule 1: what grows with the number of files that change is given a share in bytes, not a number of entries; what an
    entry takes is said beside its table, with its own bytes, its keys and its place in a dictionary, as measured by
    tests/unit/sync/test_budget.py.
Rule 2: a share may be so small that nothing works: each table keeps what one batch needs. These least sizes, what is on
    its way (`FLIGHT_BYTES`), and the program itself come on top.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_PARTS: Final = 16

FLIGHT_BYTES: Final = 48 * 2**20
"""What comes on top of `memory_bytes`, beside the program: batches that are read, looked at and sent, least sizes, and
what the allocators of Python and of the C library keep between them; for up to two MDTs. Source: measured, see
doc/lustre.md."""


@dataclass(frozen=True)
class Budget:
    """Shares in bytes.

    Attributes:
        names: what waits to be looked at; beyond it whole directories are compared.
        identities: which directory or file has which name, for all sources of one device; beyond it the file system is
            asked.
        rows: for which names rows were sent lately; beyond it all are taken to have been.
        hashing: objects that wait for their MD5; beyond it the next comparison finds them.
        left_out: temporary names that are not listed; beyond it a deletion is sent that changes nothing.
    """

    names: int
    identities: int
    rows: int
    hashing: int
    left_out: int


def divide(memory_bytes: int, devices: int = 1) -> Budget:
    """Divides the memory.

    Args:
        memory_bytes: all of it.
        devices: that have identities of their own.
    """
    part = memory_bytes // _PARTS
    return Budget(
        names=8 * part,
        identities=3 * part // max(1, devices),
        rows=2 * part,
        hashing=2 * part,
        left_out=part,
    )
