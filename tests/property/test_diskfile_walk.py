# SPDX-License-Identifier: Apache-2.0
"""A random walk of clients and jobs over names that are in each other's way, beside a simple model.

At every step each name has the bytes and the metadata that the model says, no two names share a file, every file
is an object that the model knows, and nothing temporary is left.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test
from tests.objects import Files

from lustack.mapping import names
from lustack.swift.placement import Key, find, note_twins

LONG = "x" * 300
NAMES = (
    *("a", "a/", "a/b", "a/b/", "a/b/c", "a//b", "/a", "%", "a%file", "a%dir/b", ".", "a/..", "50%", "\0v"),
    *(LONG, LONG + "/b", LONG + "/"),
)
PATHS = ("a", "b", "a/b", "a/b/c", "b/c", "a/%", "a%file", "a%dir/b", "50%", "%2E", "%25")
# A directory in the place of a twin, too, would leave a PUT no place: that is refused, which the unit tests say.
DIRECTORIES = tuple(path for path in PATHS if path != "a%file")
META = "X-Object-Meta-A"
FOLDER = "application/directory"
END = 100


@dataclass(frozen=True)
class Expected:
    """An object of the model.

    Its bytes, what PUT said and when (None: a job made it), what POST said and when, whether a job wrote to it since,
    and what it hides: a job has put it before another one of the same name.
    """

    body: bytes
    said: str | None = None
    time: int | None = None
    post: tuple[int, str] | None = None
    is_changed: bool = False
    hidden: Expected | None = None

    @property
    def visible(self) -> str | None:
        """The metadata in force; a job's writing does not end a POST."""
        if self.post is not None and (self.time is None or self.post[0] > self.time):
            return self.post[1]
        return self.said


class Walk(RuleBasedStateMachine):
    """Clients and jobs; a subclass says where."""

    top: Path
    numbers = itertools.count(1)

    def __init__(self) -> None:
        super().__init__()
        self.files = Files(self.top / str(next(self.numbers)))
        self.files.directory.mkdir(parents=True)
        self.model: dict[str, Expected] = {}
        self.deleted: dict[str, int] = {}
        self.jobs = 0

    def teardown(self) -> None:
        with contextlib.closing(self.files):
            for name in {*NAMES, *self.model}:
                self.files.delete(name, END)
                assert not self.files.has(name)
            assert self.objects() == []
            # Jobs leave directories, and the sidecars of files that they remove are swept later.
            assert self.jobs or (self.files.tree(), self.files.sidecars()) == ([], [])
        shutil.rmtree(self.files.root.parent)

    def newest(self, name: str) -> int:
        known = self.model.get(name)
        return max(self.deleted.get(name, 0), (known.time if known and known.time else 0))

    @rule(name=st.sampled_from(NAMES), time=st.integers(1, 20), kind=st.sampled_from(["file", "empty", "folder"]))
    def put(self, name: str, time: int, kind: str) -> None:
        said = f"put {time}" + " long" * (900 if time % 7 == 0 else 0)
        body = f"{name} {time}".encode() if kind == "file" else b""
        content_type = FOLDER if kind == "folder" else "text/plain"
        self.files.put(name, body, time, **{META: said, "Content-Type": content_type})
        if self.newest(name) <= time:
            old = self.model.get(name)
            hidden = old.hidden if old else None
            if hidden and hidden.time is not None and hidden.time < time and not hidden.is_changed:
                hidden = None
            self.model[name] = Expected(body, said, time, old.post if old else None, hidden=hidden)

    @precondition(lambda self: any(known.hidden for known in self.model.values()))
    @rule(data=st.data(), time=st.integers(1, 20))
    def put_before_what_is_hidden(self, data: st.DataObject, time: int) -> None:
        names = sorted(name for name, known in self.model.items() if known.hidden)
        self.put(data.draw(st.sampled_from(names)), time, "file")

    @rule(name=st.sampled_from(NAMES))
    def give_up_a_put(self, name: str) -> None:
        with self.files.upload(name, b"given up"):
            pass

    @precondition(lambda self: self.model)
    @rule(data=st.data(), time=st.integers(1, 20))
    def post(self, data: st.DataObject, time: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.model)))
        said = f"post {time}" + " long" * (900 if time % 7 == 0 else 0)
        self.files.post(name, time, **{META: said})
        old = self.model[name]
        is_newer = old.time is None or time > old.time
        if is_newer and (old.post is None or time >= old.post[0]):
            self.model[name] = replace(old, post=(time, said))

    @rule(name=st.sampled_from(NAMES), time=st.integers(1, 20))
    def delete(self, name: str, time: int) -> None:
        self.files.delete(name, time)
        if self.newest(name) < time:
            self.deleted[name] = time
            self.model.pop(name, None)

    @rule(path=st.sampled_from(PATHS))
    def a_job_writes(self, path: str) -> None:
        here = self.files.directory / path
        name = names.decode(path.encode())
        if not self.is_possible(here) or (here.exists() and not self.is_visible(path)):
            return
        old = self.model.get(name)
        if old and not here.exists() and (old.hidden or names.encode(name) != path.encode()):
            return
        is_hiding = bool(old) and not here.exists()
        self.jobs += 1
        body = f"job {self.jobs}".encode()
        here.parent.mkdir(parents=True, exist_ok=True)
        os.utime(here) if here.exists() else here.touch()
        here.write_bytes(body)
        self.note_twins()
        if old and not is_hiding:
            self.model[name] = replace(old, body=body, is_changed=True)
        else:
            self.model[name] = Expected(body, hidden=old)

    @rule(path=st.sampled_from(DIRECTORIES))
    def a_job_makes_a_directory(self, path: str) -> None:
        here = self.files.directory / path
        if self.is_possible(here) and not here.exists():
            self.jobs += 1
            here.mkdir(parents=True)
            self.note_twins()

    @precondition(lambda self: self.objects())
    @rule(data=st.data())
    def a_job_removes(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(self.objects()))
        self.remove(path)

    @rule(path=st.sampled_from(("a/b", "a/b/c")), time=st.integers(1, 20))
    def a_job_hides_an_object(self, path: str, time: int) -> None:
        """It was written at its twin's place, because of a file that the job removes."""
        self.put("a", time, "file")
        self.put(path, time, "file")
        for above in Path(path).parents:
            if (self.files.directory / above).is_file():
                self.remove(str(above))
        self.a_job_writes(path)

    @precondition(lambda self: self.objects())
    @rule(data=st.data(), onto=st.sampled_from(PATHS), copy=st.booleans())
    def a_job_moves_or_copies(self, data: st.DataObject, onto: str, copy: bool) -> None:
        path = data.draw(st.sampled_from(self.objects()))
        source, here = self.files.directory / path, self.files.directory / onto
        old, new = (names.decode(os.fsencode(each)) for each in (path, onto))
        if source == here or not self.is_possible(here) or (new in self.model and not here.exists()):
            return
        if not self.is_visible(path) or (here.exists() and not self.is_visible(onto)):
            return
        self.jobs += 1
        here.parent.mkdir(parents=True, exist_ok=True)
        here.unlink(missing_ok=True)
        if copy:
            subprocess.run(["cp", "-a", source, here], check=True)
            self.model[new] = Expected(self.model[old].body, hidden=self.hidden(new))
        else:
            source.rename(here)
            moved = replace(self.model[old], hidden=self.hidden(new))
            self.reveal(old)
            self.model[new] = moved
        self.note_twins()

    def remove(self, path: str) -> None:
        if self.is_visible(path):
            self.jobs += 1
            (self.files.directory / path).unlink()
            self.reveal(names.decode(os.fsencode(path)))

    def hidden(self, name: str) -> Expected | None:
        return self.model[name].hidden if name in self.model else None

    def reveal(self, name: str) -> None:
        """What counted has gone; what it hid shows."""
        hidden = self.model.pop(name).hidden
        if hidden is not None:
            self.model[name] = hidden

    def is_visible(self, path: str) -> bool:
        """Whether the file at a path is what its name shows."""
        place = self.place(names.decode(os.fsencode(path)))
        return place is not None and place.endswith(b"a/c/" + os.fsencode(path))

    def is_possible(self, here: Path) -> bool:
        """Whether a file can be there: nothing above it is one, and it is no directory."""
        above = itertools.takewhile(lambda each: each != self.files.directory, here.parents)
        return not here.is_dir() and not any(each.is_file() for each in above)

    def note_twins(self) -> None:
        """What a reconciliation does after a job made what looks like a twin."""
        with self.files.device.home("a", "c") as home:
            note_twins(home)

    def objects(self) -> list[str]:
        """The files, by their paths."""
        return [path for path in self.files.tree() if not path.endswith("/")]

    def place(self, name: str) -> bytes | None:
        with self.files.device.home("a", "c") as home:
            found = find(home, Key("a", "c", name))
            if found is None:
                return None
            os.close(found.fd)
            return found.place.path + (found.place.attributes.data.encode() if found.place.is_marker else b"")

    @invariant()
    def every_name_is_what_the_model_says(self) -> None:
        for name in {*NAMES, *self.model}:
            expected = self.model.get(name)
            assert self.files.has(name) == (expected is not None), name
            if expected is not None:
                assert self.files.get(name) == expected.body, name
                assert self.files.head(name).get(META) == expected.visible, name

    @invariant()
    def no_two_names_share_a_file(self) -> None:
        places = [self.place(name) for name in self.model]
        assert None not in places
        assert len(set(places)) == len(places)

    @invariant()
    def every_file_is_an_object_or_hidden_by_one(self) -> None:
        for name, count in Counter(names.decode(os.fsencode(path)) for path in self.objects()).items():
            expected, known = self.model.get(name), 0
            while expected is not None:
                expected, known = expected.hidden, known + 1
            assert count <= known, name
        assert self.files.temporary_files() == []


@pytest.mark.timeout(600)
def test_files_and_objects_are_the_same_whatever_happens(swift_conf, tmp_path):
    class WalkHere(Walk):
        top = tmp_path

    walks = settings.default.max_examples * 2 // 5
    run_state_machine_as_test(WalkHere, settings=settings(settings.default, max_examples=walks, stateful_step_count=25))
