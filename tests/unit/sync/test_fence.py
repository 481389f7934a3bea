# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest

from lustack.sync import fence

NONCE = b"0123456789abcdef" * 2


@pytest.fixture
def root(tmp_path):
    (tmp_path / ".lustack").mkdir(mode=0o700)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


def test_nonces_are_found_and_removed_and_nothing_else_is(root, tmp_path):
    fence.prepare(root)
    place = tmp_path / ".lustack" / "fence"
    nonce = NONCE.decode()
    (place / nonce).touch()
    (place / "README").touch()
    (place / ("f" * 32)).mkdir()
    (place / ("e" * 32)).symlink_to(place / "README")
    assert fence.pending(root) == [NONCE]
    fence.remove(root, [NONCE, b"1" * 32, b"e" * 32])
    assert fence.pending(root) == []
    assert sorted(each.name for each in place.iterdir()) == sorted(["README", "f" * 32, "e" * 32])


def test_everybody_may_make_one_and_nobody_sees_those_of_others(root, tmp_path):
    fence.prepare(root)
    fence.prepare(root)
    assert (tmp_path / ".lustack" / "fence").stat().st_mode & 0o7777 == 0o1733
    assert (tmp_path / ".lustack").stat().st_mode & 0o7777 == 0o711


def test_a_flood_is_looked_at_in_parts(root, tmp_path, monkeypatch):
    monkeypatch.setattr(fence, "MOST", 2)
    fence.prepare(root)
    for number in range(5):
        (tmp_path / ".lustack" / "fence" / f"{number:032x}").touch()
    seen = []
    while found := fence.pending(root):
        seen.append(len(found))
        fence.remove(root, found)
    assert seen == [2, 2, 1]


def test_a_device_without_fences_has_nobody_who_waits(tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        fence.prepare(fd)
        assert fence.pending(fd) == []
        fence.remove(fd, [NONCE])
        assert list(tmp_path.iterdir()) == []
    finally:
        os.close(fd)


@pytest.mark.parametrize(
    ("path", "nonce"),
    [
        (b".lustack/fence/" + NONCE, NONCE),
        (b".lustack/fence/" + NONCE + b"0", None),
        (b".lustack/fence/x", None),
        (b".lustack/fence", None),
        (b"a/.lustack/fence/" + NONCE, None),
    ],
)
def test_a_nonce_is_known_by_its_path(path, nonce):
    assert fence.nonce_of(path) == nonce
