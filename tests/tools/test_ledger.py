# SPDX-License-Identifier: Apache-2.0
"""The ledger of the torture beside real disk files, step by step: what it takes for right, and what for a loss."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest
from tests.objects import Files, files, swift_conf
from tests.torture.disk import Disk
from tests.torture.ledger import ANY, Floating, Ledger, State, WrongStateError

__all__ = ("files", "swift_conf")

NAME = "a/b/c"
FIRST, JOB = b"first", b"of a job"


class Stage:
    """A container whose ledger is told everything."""

    def __init__(self, files: Files) -> None:
        self.files = files
        files.directory.mkdir(parents=True)
        self.disk = Disk(files.directory)
        self.ledger = Ledger()
        self.clock = 0

    def put(self, name: str, body: bytes, color: str) -> None:
        self.clock += 1
        self.files.put(name, body, self.clock, X_Object_Meta_Color=color)
        self.ledger.put(name, State(self.md5(name), color))

    def md5(self, name: str) -> str:
        return self.disk.look()[name].md5

    def post(self, name: str, color: str) -> None:
        self.clock += 1
        seen = self.disk.look()
        self.ledger.blur(seen[name].identity, name, seen)
        self.files.post(name, self.clock, X_Object_Meta_Color=color)
        self.ledger.post(name, color)

    def delete(self, name: str) -> None:
        self.clock += 1
        self.files.delete(name, self.clock)
        self.ledger.put(name, None)

    def job(self, work, *, is_copy: bool = False) -> None:
        before = self.disk.look()
        self.ledger.see(before)
        work()
        self.ledger.see_job(before, self.disk.look(), is_copy=is_copy)

    def write(self, path: str, body: bytes = JOB) -> None:
        self.job(lambda: self.files.write(path, body))

    def unlink(self, path: str) -> None:
        self.job(lambda: os.unlink(self.files.directory / path))

    def check(self, name: str) -> set[State | None]:
        """The ledger believes the files, and knows exactly what a client sees."""
        self.ledger.see(self.disk.look())
        possible = self.ledger.possible(name)
        if self.files.has(name):
            color = self.files.head(name).get("X-Object-Meta-Color")
            assert possible & {State(self.md5(name), known) for known in (color, ANY)}
        else:
            assert None in possible
        return possible


@pytest.fixture
def stage(files) -> Stage:
    return Stage(files)


@pytest.fixture
def hiding(stage) -> Stage:
    """An object of Swift's that lies at its twin's place, hidden by the file of a job."""
    stage.put("a", b"file", "red")
    stage.put(NAME, FIRST, "green")
    stage.post(NAME, "blue")
    stage.unlink("a")
    stage.write(NAME)
    assert stage.check(NAME) == {State(stage.md5(NAME))}
    return stage


def test_an_object_that_shows_again_is_what_it_was(hiding):
    hiding.unlink(NAME)
    assert hiding.check(NAME) == {State(hiding.md5(NAME), "blue")}


def test_an_object_that_shows_again_without_its_metadata_is_a_loss(hiding):
    hidden = hiding.files.directory / "a%dir" / "b" / "c"
    for attribute in os.listxattr(hidden):
        os.removexattr(hidden, attribute)
    hiding.unlink(NAME)
    with pytest.raises(AssertionError):
        hiding.check(NAME)


@pytest.mark.parametrize("planted", [b"other", None])
def test_a_hidden_object_that_changes_or_goes_by_itself_is_a_loss(hiding, planted):
    hidden = hiding.files.directory / "a%dir" / "b" / "c"
    if planted is None:
        hidden.unlink()
    else:
        hidden.write_bytes(planted)
    with pytest.raises(WrongStateError):
        hiding.check(NAME)


def test_a_hidden_object_that_a_job_moves_takes_its_metadata_along(hiding):
    old, new = hiding.files.directory / "a%dir" / "b" / "c", hiding.files.directory / "moved"
    hiding.job(lambda: old.rename(new))
    assert hiding.check("moved") == {State(hiding.md5("moved"), "blue")}
    assert hiding.check(NAME) == {State(hiding.md5(NAME))}


def test_a_hidden_object_to_which_a_job_writes_keeps_its_metadata(hiding):
    hiding.write("a%dir/b/c", b"more")
    hiding.unlink(NAME)
    assert hiding.check(NAME) == {State(hiding.md5(NAME), "blue")}


def test_a_put_ends_what_is_hidden(hiding):
    hiding.put(NAME, b"second", "black")
    hiding.check(NAME)
    hiding.unlink(NAME)
    assert hiding.check(NAME) == {None}


def test_a_delete_ends_everything(hiding):
    hiding.delete(NAME)
    assert hiding.check(NAME) == {None}


def test_a_delete_that_was_killed_between_two_files_leaves_what_was_hidden(hiding):
    hiding.ledger.float(NAME, Floating(0.0))
    (hiding.files.directory / NAME).unlink()
    assert hiding.check(NAME) == {State(hiding.md5(NAME), "blue"), None}


def test_a_delete_that_nobody_remembers_may_have_removed_what_was_hidden(hiding):
    hiding.ledger.float(NAME, Floating(0.0))
    hiding.ledger.forget(1000.0)
    shutil.rmtree(hiding.files.directory / "a%dir")
    hiding.check(NAME)


def test_what_a_put_that_was_killed_left_behind_may_be_anything(stage):
    stage.put("a", b"file", "red")
    stage.put("a/b", FIRST, "green")
    stage.ledger.see(stage.disk.look())
    (stage.files.directory / "a").unlink()
    stage.ledger.put("a", None)
    stage.files.write("a/b", JOB)
    stage.ledger.put("a/b", State(stage.md5("a/b")))
    stage.ledger._hidden.clear()
    stage.check("a/b")
    stage.unlink("a/b")
    assert stage.check("a/b") == {State(stage.md5("a/b"), ANY)}


def test_a_post_by_another_name_of_a_hidden_file_changes_it_too(hiding):
    hiding.job(lambda: os.link(hiding.files.directory / "a%dir" / "b" / "c", hiding.files.directory / "link"))
    hiding.post("link", "white")
    hiding.unlink(NAME)
    assert hiding.check(NAME) == {State(hiding.md5(NAME), "white")}


def test_a_manifest_over_which_a_job_copied_the_same_one_is_a_file_of_the_job(stage):
    for name in ("x", "y"):
        stage.put(name, FIRST, name)
        stage.ledger.put(name, State("", name, "of the parts"))
    path = stage.files.directory
    stage.job(lambda: subprocess.run(["cp", "-a", path / "x", path / "y"], check=True), is_copy=True)
    assert "X-Object-Meta-Color" not in stage.files.head("y")
    assert State(stage.md5("y"), ANY) in stage.ledger.possible("y")
    assert stage.ledger.possible("x") == {State("", "x", "of the parts")}
