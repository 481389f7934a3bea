# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource
from functools import partial

import pytest

from lustack.errors import ConfigurationError
from lustack.sync.errors import DeviceMissingError
from lustack.sync.sources import choose
from lustack.sync.sources.changelog_window import Memory
from lustack.sync.sources.fake import FakeSource
from lustack.sync.sources.protocol import Guarantees, SourceUnavailableError
from lustack.sync.sources.roots import Root

ROOTS = [Root("/root"), Root("/exported")]


def refuse(task):
    raise SourceUnavailableError("first", "it is not allowed here")


def local(task):
    return FakeSource(guarantees=Guarantees(False, task.is_local, 0.02))


def on(**filesystems):
    return lambda path: filesystems.get(path.strip("/"))


KINDS = {"first": refuse, "second": local}


def test_auto_takes_the_first_that_works_and_says_why_not_the_others():
    found = choose.choose("auto", "d1", ROOTS, kinds=KINDS, shared=on())
    assert found.kind == "second"
    assert found.source.guarantees.across_hosts
    assert found.why == "changes are seen within 20 ms by second; it is not allowed here"


def test_without_any_that_works_everything_is_compared():
    found = choose.choose("auto", "d1", ROOTS, kinds={"first": refuse}, shared=on())
    assert (found.kind, found.source) == ("scan", None)
    assert found.why == "everything is compared again and again; it is not allowed here"


def test_scan_tries_nothing():
    assert choose.choose("scan", "d1", ROOTS, kinds=KINDS, shared=on()).why == "everything is compared again and again"


def test_a_source_of_this_machine_does_not_see_what_others_do_and_that_is_said():
    found = choose.choose("auto", "d1", ROOTS, kinds={"second": local}, shared=on(root="NFS"))
    assert not found.source.guarantees.across_hosts
    assert "not those that other machines make on NFS, so keep `interval_s` short" in found.why


def test_what_the_operator_names_is_taken_or_refused():
    assert choose.choose("second", "d1", ROOTS, kinds=KINDS, shared=on()).kind == "second"
    with pytest.raises(ConfigurationError, match=r"another one here \(it is not allowed here\)"):
        choose.choose("first", "d1", ROOTS, kinds=KINDS, shared=on())
    with pytest.raises(ConfigurationError, match="one of auto, first, second, scan"):
        choose.choose("third", "d1", ROOTS, kinds=KINDS, shared=on())


def test_a_root_that_is_not_there_is_missing(tmp_path):
    with pytest.raises(DeviceMissingError):
        choose.choose("auto", "d1", [Root(str(tmp_path / "absent"))])


def test_here_something_works(tmp_path):
    found = choose.choose("auto", "d1", [Root(str(tmp_path))])
    assert found.kind == ("fanotify" if os.geteuid() == 0 else "inotify")
    assert found.source.read(0) is None


def test_inotify_needs_no_rights_and_is_refused_when_there_is_none(tmp_path):
    roots = [Root(str(tmp_path))]
    found = choose.choose("inotify", "d1", roots)
    assert (found.kind, found.source.name) == ("inotify", "inotify:d1")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        choose.KINDS["inotify"](choose.Task("d1", tuple(roots), is_local=True))
    except SourceUnavailableError as caught:
        error = caught
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert "Too many open files" in error.why


def test_a_changelog_is_tried_first_and_only_where_files_are_on_lustre():
    kinds = {"changelog": refuse, "second": local}
    assert choose.choose("auto", "d1", ROOTS, kinds=kinds, shared=on()).why.endswith("by second")
    found = choose.choose("auto", "d1", ROOTS, kinds=kinds, shared=on(root="Lustre"))
    assert found.why.endswith("; it is not allowed here")


def test_with_less_memory_fewer_directories_are_remembered_elsewhere_too():
    kinds = [choose.all_kinds({}, partial(Memory, limit_bytes)) for limit_bytes in (1, 10**6, 10**9)]
    assert [each["fanotify"].keywords["directories"] for each in kinds] == [1000, 2500, 100_000]
    assert list(choose.all_kinds({})) == ["changelog", *choose.KINDS]


def test_a_changelog_needs_lustre():
    kinds = choose.all_kinds({})
    assert next(iter(kinds)) == "changelog"
    with pytest.raises(ConfigurationError, match="is not on a Lustre file system"):
        choose.choose("changelog", "d1", [Root("/proc")], kinds=kinds, shared=on())
