# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.mapping import content_types


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.txt", "text/plain"),
        ("a/b.c/photo.JPG", "image/jpeg"),
        ("movie.part.mp4", "video/mp4"),
        ("a.no-such-suffix", "application/octet-stream"),
        ("no-suffix", "application/octet-stream"),
        ("a.txt/no-suffix", "application/octet-stream"),
        (".txt", "application/octet-stream"),
        ("txt", "application/octet-stream"),
        ("a.", "application/octet-stream"),
        ("", "application/octet-stream"),
    ],
)
def test_the_suffix_says_the_type(name, expected):
    assert content_types.guess(name) == expected
