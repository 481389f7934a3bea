# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.mapping import layout
from lustack.mapping.names import RelPath
from lustack.sync.sources import roots
from lustack.sync.sources.roots import Root


def test_paths_below_the_root_of_the_device_have_no_prefix():
    base = Root("/srv/node/d1").base
    assert roots.child_base(base, b"a") == b"a/"
    assert roots.directory_path(base, b"a") == b"a"
    assert roots.own_path(base) is None


def test_paths_below_an_exported_directory_have_its_prefix():
    base = Root("/projects/cosmo", RelPath(b"AUTH_x/results")).base
    assert roots.own_path(base) == b"AUTH_x/results"
    assert roots.directory_path(base, b"a") == b"AUTH_x/results/a"
    assert roots.directory_path(base, b".lustack") == b"AUTH_x/results/.lustack"


@pytest.mark.parametrize("path", [layout.FENCE, layout.HIDDEN_CONTAINERS])
def test_what_is_worth_an_event_below_the_reserved_directory_has_one(path):
    assert roots.directory_path(roots.child_base(b"", b".lustack"), path.split(b"/")[1]) == path


@pytest.mark.parametrize("path", [layout.LOCKS, layout.TOMBSTONES, layout.SIDECARS])
def test_the_rest_of_the_reserved_directory_concerns_nobody(path):
    base = roots.child_base(b"", b".lustack")
    assert roots.own_path(base) is None
    assert roots.child_base(base, path.split(b"/")[1]) is None
    assert roots.is_ours(base, b"file")


def test_below_what_concerns_nobody_nothing_concerns_anybody():
    assert roots.child_base(None, b"a") is None


def test_temporary_files_are_ours_and_other_hidden_ones_are_not():
    assert roots.is_ours(b"a/c/", b".lustack.tmp.123")
    assert not roots.is_ours(b"a/c/", b".hidden")


def test_a_path_too_long_for_an_object_concerns_nobody():
    base = b""
    for _ in range(100):
        base = roots.child_base(base, b"n" * 200)
    assert base is None
