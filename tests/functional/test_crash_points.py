# SPDX-License-Identifier: Apache-2.0
"""A process that works on one object is killed at every place where that makes a difference.

For each of them: the object is as it was or as it was to become, whole, bytes and metadata of one piece; other objects
are untouched; nothing but temporary files is left over; the same request again succeeds; a later DELETE removes it for
good.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.functional import filesystem, kills, tree
from tests.functional.stored import ACCOUNT, Objects, Seen
from tests.objects import no_thread_pool

from lustack.mapping import layout

SYSTEM = "X-Object-Sysmeta-Test"
TRANSIENT = "X-Object-Transient-Sysmeta-Test"
DIRECTORY = "application/directory"
# More than the 4 KiB of ext4, which then puts it in a sidecar.
MANY = {f"X-Object-Meta-{number}": "m" * 200 for number in range(40)}

MEMORY = Path("/dev/shm")
RETRY_S, LATE_S, END_S = 1000, 1500, 2000


def meta(value: str) -> dict[str, str]:
    """Metadata of every kind that a PUT writes, all with one value."""
    return {"X-Object-Meta-Test": value, SYSTEM: value}


def new_meta(value: str) -> dict[str, str]:
    """Metadata of every kind that a POST writes."""
    return {"X-Object-Meta-Test": value, TRANSIENT: value}


@dataclass(frozen=True)
class Case:
    """One request and what was there before.

    Attributes:
        before: makes what was there.
        act: the request, at a time that is after everything in `before`.
        name: the object that it is about.
        others: objects that have nothing to do with it.
    """

    before: Callable[[Objects], object]
    act: Callable[[Objects, float], object]
    name: str
    others: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.others)


def nothing(objects: Objects) -> None:
    """Nothing was there."""


def old_object(objects: Objects) -> None:
    objects.put("o", 1, b"old bytes", meta("old"))
    objects.post("o", 2, new_meta("old post"))


def two_below(objects: Objects) -> None:
    objects.put("a/b", 1, b"below", meta("below"))
    objects.put("a/c/d", 1, b"deeper")


def file_and_twin(objects: Objects) -> None:
    objects.put("a/b", 1, b"below")
    objects.put("a", 2, b"the twin", meta("twin"))


def directory_twin(objects: Objects) -> None:
    objects.put("a", 1, b"a file", meta("file"))
    objects.put("a/b", 2, b"in the twin", meta("in the twin"))


def slash_marker(objects: Objects) -> None:
    objects.put("d/", 1, b"", meta("old"))
    objects.post("d/", 2, new_meta("old post"))


def plain_marker(objects: Objects) -> None:
    objects.put("d", 1, b"", {**meta("old"), "Content-Type": DIRECTORY})
    objects.put("d/x", 1, b"in it")


def linked(objects: Objects) -> None:
    old_object(objects)
    os.link(objects.directory / "o", objects.directory / "link")


def changed(objects: Objects) -> None:
    old_object(objects)
    path = objects.directory / "o"
    path.write_bytes(b"a job wrote this")
    os.utime(path, (1_700_000_001, 1_700_000_001))


def behind_a_file(objects: Objects) -> None:
    """What Swift wrote lies at its twin's place, and a job put a file into the better one."""
    objects.put("a", 1, b"in the way")
    objects.put("a/b", 2, b"old bytes", meta("old"))
    objects.post("a/b", 3, new_meta("old post"))
    objects.delete("a", 4)
    (objects.directory / "a").rename(objects.directory / "a%dir")
    write_as_a_job(objects.directory / "a" / "b")


def marker_behind_a_file(objects: Objects) -> None:
    slash_marker(objects)
    write_as_a_job(objects.directory / "d" / "%")


def write_as_a_job(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"a job wrote this")
    os.utime(path, (1_700_000_001, 1_700_000_001))


def much_metadata(objects: Objects) -> None:
    objects.put("o", 1, b"old bytes", {**MANY, **meta("old")})
    objects.post("o", 2, {**MANY, **new_meta("old post")})


def put(name: str, body: bytes = b"new bytes", **extra: str) -> Callable[[Objects, float], None]:
    headers = {key.replace("_", "-"): value for key, value in extra.items()}
    return lambda objects, time_s: objects.put(name, time_s, body, {**meta("new"), **headers})


def put_much(objects: Objects, time_s: float) -> None:
    objects.put("o", time_s, b"new bytes", {**MANY, **meta("new")})


def post(name: str) -> Callable[[Objects, float], None]:
    return lambda objects, time_s: objects.post(name, time_s, new_meta("new"))


def post_much(objects: Objects, time_s: float) -> None:
    objects.post("o", time_s, {**MANY, **new_meta("new")})


def delete(name: str) -> Callable[[Objects, float], None]:
    return lambda objects, time_s: objects.delete(name, time_s)


def put_while_its_directory_moves(objects: Objects, time_s: float) -> None:
    body = b"new bytes" * 300_000  # what is short has no file before it is whole
    with objects.disk_file("a/b").create(size=len(body)) as writer:
        writer.write(body)
        moved = objects.directory / f"moved {time_s}"
        os.rename(objects.directory / "a", moved)
        objects.publish(writer, time_s, body, meta("new"))
        # What the job moved away is its own business, and in the way of nobody's comparison.
        shutil.rmtree(moved)


CASES = {
    "PUT of a new object": Case(nothing, put("o"), "o"),
    "PUT over an object": Case(old_object, put("o"), "o"),
    "PUT of nothing over an object": Case(old_object, put("o", b""), "o"),
    "PUT in new directories": Case(nothing, put("a/b/c"), "a/b/c"),
    "PUT of a twin file": Case(two_below, put("a"), "a", ("a/b", "a/c/d")),
    "PUT over a twin file": Case(file_and_twin, put("a"), "a", ("a/b",)),
    "PUT in a twin directory": Case(old_object, put("o/b"), "o/b", ("o",)),
    "PUT over an object in a twin directory": Case(directory_twin, put("a/b"), "a/b", ("a",)),
    "PUT of a slash marker": Case(nothing, put("d/", b""), "d/"),
    "PUT over a slash marker": Case(slash_marker, put("d/", b""), "d/"),
    "PUT of bytes over a slash marker": Case(slash_marker, put("d/"), "d/"),
    "PUT of a plain marker": Case(two_below, put("a", b"", Content_Type=DIRECTORY), "a", ("a/b", "a/c/d")),
    "PUT over a plain marker": Case(plain_marker, put("d", b"", Content_Type=DIRECTORY), "d", ("d/x",)),
    "PUT of bytes over a plain marker": Case(plain_marker, put("d"), "d", ("d/x",)),
    "PUT over what a job changed": Case(changed, put("o"), "o"),
    "PUT over one of two links": Case(linked, put("o"), "o", ("link",)),
    "PUT while its directory moves": Case(nothing, put_while_its_directory_moves, "a/b"),
    "PUT with much metadata": Case(much_metadata, put_much, "o"),
    "PUT over what hides an object": Case(behind_a_file, put("a/b"), "a/b"),
    "PUT over what hides a marker": Case(marker_behind_a_file, put("d/"), "d/"),
    "POST": Case(old_object, post("o"), "o"),
    "POST to a twin file": Case(file_and_twin, post("a"), "a", ("a/b",)),
    "POST to a slash marker": Case(slash_marker, post("d/"), "d/"),
    "POST to a plain marker": Case(plain_marker, post("d"), "d", ("d/x",)),
    "POST to what a job changed": Case(changed, post("o"), "o"),
    "POST of much metadata": Case(much_metadata, post_much, "o"),
    "POST of little after much": Case(much_metadata, post("o"), "o"),
    "DELETE": Case(old_object, delete("o"), "o"),
    "DELETE of nothing": Case(nothing, delete("o"), "o"),
    "DELETE of the last in its directories": Case(
        lambda objects: objects.put("a/b/c", 1, b"old bytes"), delete("a/b/c"), "a/b/c"
    ),
    "DELETE of what a twin file waits for": Case(
        lambda objects: (objects.put("a/b", 1, b"below"), objects.put("a", 2, b"twin")), delete("a/b"), "a/b", ("a",)
    ),
    "DELETE of what a twin directory waits for": Case(directory_twin, delete("a"), "a", ("a/b",)),
    "DELETE of a twin file": Case(file_and_twin, delete("a"), "a", ("a/b",)),
    "DELETE of a slash marker": Case(slash_marker, delete("d/"), "d/"),
    "DELETE of a plain marker": Case(plain_marker, delete("d"), "d", ("d/x",)),
    "DELETE of one of two links": Case(linked, delete("o"), "o", ("link",)),
    "DELETE of what hides an object": Case(behind_a_file, delete("a/b"), "a/b"),
    "DELETE of what hides a marker": Case(marker_behind_a_file, delete("d/"), "d/"),
    "DELETE of much metadata": Case(much_metadata, delete("o"), "o"),
}

Picture = dict[str, Seen | None]


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An ext4, whose files have room for 4 KiB of attributes; in memory where there is such, as it is synced a lot."""
    parent = MEMORY if os.access(MEMORY, os.W_OK) else tmp_path_factory.getbasetemp()
    with (
        tempfile.TemporaryDirectory(dir=parent) as place,
        filesystem.in_a_file(Path(place), "ext4", size_gib=1) as mount_point,
        no_thread_pool(),
    ):
        root = mount_point / "files"
        # The first request on a device makes what it needs; that takes long, and is not what is tested.
        kills.run(lambda: Objects(root).put("o", 1))
        clean(root)
        yield root


def clean(root: Path) -> None:
    """Remove all objects, and what is remembered about them."""
    for place in (ACCOUNT, os.fsdecode(layout.TOMBSTONES), os.fsdecode(layout.SIDECARS)):
        shutil.rmtree(root / place, ignore_errors=True)


def picture(objects: Objects, names: tuple[str, ...]) -> Picture:
    return {name: objects.see(name) for name in names}


def timeless(seen: Picture) -> Picture:
    return {name: each and each.without_times() for name, each in seen.items()}


@contextmanager
def stage(directory: Path, case: Case) -> Iterator[Objects]:
    """A device with what was there before the request."""
    objects = Objects(directory)
    try:
        kills.run(lambda: case.before(objects))
        yield objects
    finally:
        clean(directory)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_kill_at_any_moment_leaves_the_old_or_the_new_object_whole(directory: Path, case: Case) -> None:
    with stage(directory, case) as objects:
        before = picture(objects, case.names)
        kills.run(lambda: case.act(objects, RETRY_S))
        after = picture(objects, case.names)
        check_rest(objects, after)
    assert {name: after[name] for name in case.others} == {name: before[name] for name in case.others}
    is_killed, changes = True, 0
    while is_killed:
        with stage(directory, case) as objects:
            is_killed = kill(objects, case, changes)
            check(objects, case, before, after)
        changes += 1
    assert changes > 1


PLAIN = {"a/b": "a/b", "d/": "d/%"}
REPLACING = ["PUT over what hides an object", "PUT over what hides a marker", "PUT of bytes over a slash marker"]


@pytest.mark.parametrize("what", REPLACING)
def test_what_was_replaced_does_not_show_again_after_a_kill_when_a_job_removes_what_replaced_it(
    directory: Path, what: str
) -> None:
    case = CASES[what]
    is_killed, changes, replaced = True, 0, 0
    while is_killed:
        with stage(directory, case) as objects:
            before = objects.see(case.name)
            is_killed = kill(objects, case, changes)
            is_replaced = objects.see(case.name) != before
            (objects.directory / PLAIN[case.name]).unlink(missing_ok=True)
            seen = objects.see(case.name)
            # It may have replaced the file of the job only, at the twin's place; then it is what shows.
            assert not is_replaced or seen is None or seen.body == b"new bytes", changes
            replaced += is_replaced
        changes += 1
    assert replaced > 1


def kill(objects: Objects, case: Case, changes: int) -> bool:
    return kills.kill_after(lambda: case.act(objects, RETRY_S), changes, lambda: tree.digest(objects.root))


def check(objects: Objects, case: Case, before: Picture, after: Picture) -> None:
    """What must hold after a kill."""
    found = picture(objects, case.names)
    assert timeless(found) in (timeless(before), timeless(after))
    check_rest(objects, found)
    kills.run(lambda: case.act(objects, LATE_S))
    again = picture(objects, case.names)
    assert timeless(again) == timeless(after)
    check_rest(objects, again)
    kills.run(lambda: remove(objects, case.names))
    assert tree.objects(objects.directory) == {}


def remove(objects: Objects, names: tuple[str, ...]) -> None:
    """Remove everything, and bring it back too late."""
    for name in names:
        objects.delete(name, END_S)
        objects.put(name, LATE_S, b"too late")


def check_rest(objects: Objects, seen: Picture) -> None:
    """What can be listed is what can be read, and nothing else lies about but temporary files."""
    listed = tree.objects(objects.directory)
    assert set(listed) == {name for name, each in seen.items() if each is not None}
    places = {place for each in listed.values() for place in each}
    temporary = set(tree.temporary_files(objects.directory))
    files = {path for path, status in tree.entries(objects.directory) if not stat.S_ISDIR(status.st_mode)}
    assert files <= places | temporary
