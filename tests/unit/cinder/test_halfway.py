# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.cinder.halfway import Place, Row, choose_formats, find_bottom, is_swapped

HERE, THERE, OTHER_HOST = "here@lustre#fs/a", "here@lustre#fs/b", "there@lustre#fs/a"
RAW, QCOW2 = {"format": "raw"}, {"format": "qcow2"}
LINKED = {"format": "qcow2", "base_format": "raw"}
PULLED = {"format": "qcow2", "base_format": "qcow2"}
EMPTY = Place(exists=False)
PLAIN = Place(exists=True)
FORGED = Place(exists=True, may_be_qcow2=True)
CHAIN = Place(exists=True, has_overlay=True)


# Each: the volume's name, host and pool; the copy's name, host and pool.
@pytest.mark.parametrize(
    ("volume", "copy", "expected"),
    [
        (("v", HERE, "fs/a"), ("c", THERE, "fs/a"), False),  # the copy is being made, or step 1 is done
        (("v", HERE, "fs/a"), ("c", THERE, ""), False),
        (("v", HERE, "fs/a"), ("c", THERE, "fs/b"), False),
        (("v", HERE, "fs/b"), ("v", THERE, "fs/a"), True),  # step 2
        (("v", THERE, "fs/b"), ("v", THERE, "fs/a"), True),  # step 3
        (("v", HERE, "fs/a"), ("c", HERE, "fs/a"), False),  # all in one pool
        (("v", HERE, "fs/a"), ("c", HERE, ""), False),
        (("c", HERE, "fs/a"), ("v", HERE, "fs/a"), True),
        (("v", HERE, "fs/a"), ("c", OTHER_HOST, "fs/a"), False),  # two hosts with one pool
        (("c", HERE, "fs/a"), ("v", OTHER_HOST, "fs/a"), True),
        (("earlier", HERE, "fs/a"), ("c", THERE, "fs/b"), False),  # it was moved before
        (("c", HERE, "fs/b"), ("earlier", THERE, "fs/a"), True),
    ],
)
def test_the_location_of_a_volume_says_whether_it_is_the_copy(volume, copy, expected: bool):
    assert is_swapped(Row("v", *volume), Row("c", *copy)) is expected


@pytest.mark.parametrize(
    ("mine", "others", "here", "there", "expected"),
    [
        (RAW, RAW, PLAIN, PLAIN, RAW),
        (QCOW2, RAW, FORGED, EMPTY, QCOW2),  # nothing can have been swapped
        (RAW, QCOW2, PLAIN, FORGED, RAW),
        (RAW, QCOW2, FORGED, PLAIN, QCOW2),
        (RAW, QCOW2, FORGED, FORGED, None),  # a guest wrote that
        (RAW, QCOW2, PLAIN, PLAIN, None),  # neither can be qcow2
        (LINKED, RAW, CHAIN, PLAIN, LINKED),
        (LINKED, RAW, PLAIN, CHAIN, RAW),
        (LINKED, QCOW2, FORGED, CHAIN, QCOW2),
        ({}, RAW, PLAIN, PLAIN, None),
        (PULLED, QCOW2, FORGED, FORGED, PULLED),  # both say the same
    ],
)
def test_which_of_two_formats_is_whose_follows_from_what_cannot_be(mine, others, here, there, expected):
    assert choose_formats(mine, others, here, there) == expected


def test_a_chain_has_the_format_of_its_bottom():
    assert [find_bottom(each) for each in (RAW, QCOW2, LINKED, {})] == ["raw", "qcow2", "raw", None]
