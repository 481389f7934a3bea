# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os

import pytest

from lustack.blobs import file_stamp, read_blobs, read_layer
from lustack.mapping.layout import FILE_ATTRIBUTES
from lustack.mapping.metadata import Blobs, Stamp
from lustack.posix.errors import CorruptAttributeError

SPLIT = b'{"system":true}'
WHOLE = b'{"headers":{}}'
PAIR = (FILE_ATTRIBUTES.data, FILE_ATTRIBUTES.data_system)


class Stored:
    """Stands for the attributes of a file; None: damaged. Counts what is read."""

    def __init__(self, **blobs):
        self._blobs = {getattr(FILE_ATTRIBUTES, layer): blob for layer, blob in blobs.items()}
        self.read_names = []

    def read(self, _fd, name):
        self.read_names.append(name)
        if self._blobs.get(name, b"") is None:
            raise CorruptAttributeError(name, "it is no reference")
        return self._blobs.get(name)


def test_a_stamp_is_what_stat_says_of_the_bytes(tmp_path):
    path = tmp_path / "f"
    path.write_bytes(b"12345")
    os.utime(path, ns=(0, 1_600_000_000_123_456_789))
    assert file_stamp(path.stat()) == Stamp(path.stat().st_ino, 5, 1_600_000_000_123_456_789)


def test_a_bare_file_has_no_blobs_and_no_problems():
    assert read_blobs(Stored(), -1, FILE_ATTRIBUTES, trusted=True) == (Blobs(), ())


@pytest.mark.parametrize(("trusted", "part"), [(True, b"secret"), (False, None)])
def test_the_systems_part_is_read_only_where_it_counts(trusted, part):
    stored = Stored(data=SPLIT, data_system=b"secret", meta=WHOLE, meta_system=b"old")
    assert read_blobs(stored, -1, FILE_ATTRIBUTES, trusted=trusted) == (Blobs(SPLIT, part, WHOLE, None), ())
    assert (FILE_ATTRIBUTES.data_system in stored.read_names) is trusted
    assert FILE_ATTRIBUTES.meta_system not in stored.read_names


@pytest.mark.parametrize("damaged", ["data", "data_system"])
def test_a_layer_with_a_damaged_part_does_not_count_and_the_other_one_does(damaged):
    stored = Stored(**{"data": SPLIT, "data_system": b"secret", "meta": WHOLE, damaged: None})
    blobs, problems = read_blobs(stored, -1, FILE_ATTRIBUTES, trusted=True)
    assert blobs == Blobs(meta=WHOLE)
    assert [getattr(FILE_ATTRIBUTES, damaged) in problem for problem in problems] == [True]
    with pytest.raises(CorruptAttributeError, match="it is no reference"):
        read_layer(stored, -1, PAIR, trusted=True)
