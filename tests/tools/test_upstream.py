# SPDX-License-Identifier: Apache-2.0
"""The patch series in upstream/: the patches are what lies beside them, and git understands them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SERIES = ROOT / "upstream"
PARTS = sorted(path.parent for path in SERIES.glob("*/*/message.txt"))
TREES = sorted(path for part in PARTS for path in (part / "tree").rglob("*.py") if path.is_file())


@pytest.fixture(scope="module")
def upstream():
    spec = importlib.util.spec_from_file_location("upstream", ROOT / "tools" / "upstream.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules["upstream"] = found  # for its dataclass
    spec.loader.exec_module(found)
    yield found
    del sys.modules["upstream"]


def git(directory, *arguments, text=None):
    command = ["git", "-c", "user.name=somebody", "-c", "user.email=somebody@localhost", *arguments]
    done = subprocess.run(command, cwd=directory, input=text, check=True, capture_output=True, text=True)
    return done.stdout


def read_tree(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and ".git" not in path.parts
    }


@pytest.fixture
def part(tmp_path):
    """A project with one patch, of a new file and a change, and the sources that it is for."""
    part = tmp_path / "series" / "project" / "1-first"
    (part / "tree" / "deep").mkdir(parents=True)
    (part / "message.txt").write_text("Say more\n\nIt said too little.\n")
    (part / "tree" / "deep" / "new.txt").write_text("one\n\ntwo\n")
    sources = tmp_path / "sources"
    sources.mkdir()
    (sources / "old.txt").write_text("before\n")
    git(sources, "init", "--quiet")
    git(sources, "add", "--all")
    git(sources, "commit", "--quiet", "--message", "release")
    (sources / "old.txt").write_text("after\n")
    (part / "edits.diff").write_text(git(sources, "diff"))
    git(sources, "checkout", "--quiet", "old.txt")
    return part


def test_there_are_patches_for_each_project(upstream):
    assert {part.parent.name for part in PARTS} == {project.name for project in upstream.read_projects()}


def test_the_patches_are_what_lies_beside_them(upstream):
    for project in upstream.read_projects():
        directory = SERIES / project.name
        found = {path.name: path.read_text() for path in directory.glob("*.patch")}
        assert found == upstream.render_series(directory), "run python tools/upstream.py render"


def test_a_project_comes_after_what_it_needs(upstream):
    seen = set()
    for project in upstream.read_projects():
        assert set(project.after) <= seen
        seen.add(project.name)


@pytest.mark.parametrize("path", TREES, ids=lambda path: path.name)
def test_new_modules_carry_the_licence_and_need_nothing_of_ours(path):
    text = path.read_text()
    assert text.startswith("#    Licensed under the Apache License, Version 2.0")
    assert "import lustack" not in text
    assert "from lustack" not in text


@pytest.mark.parametrize("part", PARTS, ids=lambda part: f"{part.parent.name}-{part.name}")
def test_each_patch_comes_with_a_release_note(part):
    notes = list((part / "tree" / "releasenotes" / "notes").glob("*.yaml"))
    assert len(notes) == 1


def test_git_makes_of_a_patch_what_it_was_made_of(upstream, part, tmp_path):
    ((name, text),) = upstream.render_series(part.parent).items()
    git(tmp_path / "sources", "am", "--quiet", text=text)
    assert name == "0001-Say-more.patch"
    assert read_tree(tmp_path / "sources") == {"deep/new.txt": b"one\n\ntwo\n", "old.txt": b"after\n"}
    assert git(tmp_path / "sources", "log", "-1", "--format=%B").strip() == "Say more\n\nIt said too little."


def test_patches_that_are_no_more_are_removed(upstream, part):
    (part.parent / "0009-old.patch").write_text("")
    (part.parents[1] / "series.toml").write_text('[project]\nrelease = "1"\nafter = []\nflake8 = []\ncommands = []\n')
    (written,) = upstream.write_series(part.parents[1])
    assert sorted(part.parent.glob("*.patch")) == [written]


def test_a_step_that_fails_says_what_it_was(upstream, tmp_path):
    with pytest.raises(upstream.StepError, match=r"exit code 3: .*raise SystemExit\(3\)"):
        upstream.run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_a_project_can_be_named_after_the_options(upstream, tmp_path, monkeypatch, capsys):
    checked = []
    monkeypatch.setattr(upstream, "check", lambda project, cache: checked.append((project.name, cache)))
    assert upstream.main(["check", "--cache", str(tmp_path), "cinder"]) == 0
    assert checked == [("cinder", tmp_path)]
    assert capsys.readouterr().out.startswith("cinder 29.0.0: passed in ")


def test_the_first_failure_ends_the_check(upstream, tmp_path, monkeypatch, capsys):
    def fail(project, cache):
        raise upstream.StepError("no way")

    monkeypatch.setattr(upstream, "check", fail)
    assert upstream.main(["check", "--cache", str(tmp_path)]) == 1
    assert "os-brick: FAILED" in capsys.readouterr().out
