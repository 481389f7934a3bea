# SPDX-License-Identifier: Apache-2.0
"""The tree that a job copies: a few hundred files, some of them with names that break careless programs."""

from __future__ import annotations

import os
import random
from pathlib import Path

# Around 64 KiB, because up to that a server reads a file to learn its MD5; empty; some megabytes.
_SIZES_BYTES = (0, 1, 17, 4096, 65535, 65536, 65537, 300_000, 3_000_000)

ODD_NAMES = (
    *(" leading blank", "trailing blank ", "two  blanks", "new\nline", "tab\there", "-rf", "--help", "'single'"),
    *('"double"', "back\\slash", "$HOME", "`id`", "$(id)", "a;b&c|d", "star*", "what?", "[a-z]", "#hash", "!bang"),
    *("50%.txt", "%2F", "%2e%2e", "100%", "+plus+", "equals=", "semi;colon", "comma,", "~tilde"),
    *("Grüße.txt", "日本語.txt", "emoji-\U0001f600", "e\u0301-decomposed", "\u00e9-composed", "Case", "case"),
    *(".hidden", "..two-dots", "...", "trailing-dot.", "del\x7f", "bell\x07", "n" * 255, "ü" * 127),
)


def write_tree(top: Path, seed: int = 2) -> dict[str, int]:
    """Write the files.

    Args:
        top: a directory that does not exist yet.
        seed: of the contents.

    Returns:
        Size in bytes by path relative to `top`.
    """
    chance = random.Random(seed)
    sizes = {name: len(name.encode()) for name in (*ODD_NAMES, *(f"odd/{name}/{name}" for name in ODD_NAMES))}
    sizes |= {f"sizes/{size}.bin": size for size in _SIZES_BYTES}
    for run in range(1, 13):
        sizes |= {f"runs/{run:02}/rank{rank}.dat": chance.randrange(2000) for rank in range(14)}
    sizes |= {f"deep{'/down' * depth}/here": depth for depth in range(1, 20)}
    for name, size in sizes.items():
        path = top / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(chance.randbytes(size))
    return sizes


def read_tree(top: Path) -> dict[str, bytes]:
    """Every regular file below a directory, by its path relative to it."""
    found = {}
    for directory, _, names in os.walk(top):
        for name in names:
            path = Path(directory, name)
            if path.is_symlink():
                continue  # no object
            found[path.relative_to(top).as_posix()] = path.read_bytes()
    return found
