# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.errors import ConfigurationError
from lustack.sync.exclusion import compile_globs
from lustack.sync.settings import Settings

DEFAULT = Settings().exclude


@pytest.mark.parametrize(
    "name", [b"a.tmp", b".x.swp", b"notes~", b".nfs000001", b"\xff.tmp", b"new\nline.tmp", "é~".encode()]
)
def test_what_is_temporary_by_custom_is_left_out(name):
    assert compile_globs(DEFAULT).match(name)


@pytest.mark.parametrize("name", [b"a", b"a.tmp.gz", b"~", b".tmp", b"tmp", b"nfs", b".profile.backup", b"a.tmp\n"])
def test_everything_else_is_not(name):
    assert not compile_globs(DEFAULT).match(name)


def test_globs_may_hold_any_characters():
    pattern = compile_globs(("é*", "[ab]?"))
    assert pattern.match("état".encode())
    assert pattern.match(b"bx")
    assert not pattern.match(b"cx")


def test_without_globs_nothing_is_left_out():
    assert compile_globs(()) is None


@pytest.mark.parametrize("glob", ["", "a/b"])
def test_what_is_no_pattern_for_a_component_is_refused(glob):
    with pytest.raises(ConfigurationError, match="last component"):
        compile_globs((glob,))
