# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.lustre import fid
from lustack.lustre.errors import FidSyntaxError
from lustack.lustre.fid import Fid


def test_a_fid_is_read_as_it_is_written():
    found = fid.parse("[0x200000402:0xf03:0x0]")
    assert found == Fid(0x200000402, 0xF03, 0) == fid.parse("0x200000402:0xf03:0x0")
    assert str(found) == "[0x200000402:0xf03:0x0]" == fid.render(found.key)
    assert fid.from_key(found.key) == found
    assert fid.from_big_endian(fid.to_big_endian(found)) == found


@pytest.mark.parametrize("text", ["", "0x1", "[1:2:3]", "0x1:0x2:0x123456789", "0x1:0x2:0x3\n"])
def test_what_is_no_fid_is_refused(text):
    with pytest.raises(FidSyntaxError, match="is no FID"):
        fid.parse(text)


def test_a_key_has_sixteen_bytes():
    with pytest.raises(FidSyntaxError):
        fid.from_key(b"short")


@pytest.mark.parametrize(
    ("text", "inode"),
    [
        ("[0x200000402:0xf03:0x0]", 144115205289283331),  # measured
        ("[0x240000402:0x2a:0x0]", 162129603798761514),  # measured, after lfs migrate -m
        ("[0x12345:0x9:0x0]", 0x12345),
        ("[0x0:0x0:0x0]", 0),
    ],
)
def test_a_fid_tells_the_inode_number(text, inode):
    assert fid.inode_of(fid.parse(text).key) == inode
