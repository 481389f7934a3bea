# SPDX-License-Identifier: Apache-2.0
"""Both ways of opening agree on everything; directories behave as a model of them."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lustack.posix import tree
from lustack.posix.stepwise import open_by_components

NAMES = [b"a", b"b", b"file", b"link", b"up", b"loop", b"fifo", b"absent", b"x" * 256, b"..", b".", b"", b"..a"]
FLAGS = [
    0,
    os.O_CREAT,
    os.O_EXCL,
    os.O_TRUNC,
    os.O_APPEND,
    os.O_DIRECTORY,
    os.O_NOFOLLOW,
    os.O_PATH,
    os.O_CLOEXEC,
    os.O_WRONLY,
    os.O_RDWR,
]
paths = st.lists(st.sampled_from(NAMES), max_size=5).map(b"/".join)
# O_NONBLOCK always: nothing may wait for the other end of the FIFO. O_CREAT with O_DIRECTORY is what kernels differ in.
flag_sets = (
    st.sets(st.sampled_from(FLAGS), max_size=4)
    .map(lambda flags: os.O_NONBLOCK | sum(flags))
    .filter(lambda flags: not (flags & os.O_CREAT and flags & os.O_DIRECTORY and not flags & os.O_PATH))
    .filter(lambda flags: flags & os.O_ACCMODE != os.O_ACCMODE)
)


@contextlib.contextmanager
def held(path: str) -> Iterator[int]:
    fd = tree.open_root(path)
    try:
        yield fd
    finally:
        os.close(fd)


def furnish(top: Path) -> None:
    (top / "a" / "b" / "a").mkdir(parents=True)
    (top / "b").mkdir()
    for place in (top, top / "a", top / "a/b"):
        (place / "file").write_bytes(b"content")
        (place / "link").symlink_to("file")
        (place / "up").symlink_to("..")
        (place / "loop").symlink_to("loop")
        os.mkfifo(place / "fifo")


def answer(opener: Callable, root: int, path: bytes, flags: int) -> tuple:
    try:
        fd = opener(root, path, flags, 0o600)
    except (OSError, ValueError) as err:
        return type(err).__name__, getattr(err, "errno", None)
    try:
        status = os.fstat(fd)
        place = os.readlink(f"/proc/self/fd/{fd}").removeprefix(os.readlink(f"/proc/self/fd/{root}"))
        return place, status.st_mode, status.st_size, os.get_inheritable(fd)
    finally:
        os.close(fd)


@settings(max_examples=250, suppress_health_check=[HealthCheck.too_slow])
@given(path=paths, flags=flag_sets)
def test_both_ways_of_opening_give_the_same_answer(path: bytes, flags: int):
    # That what ends in a slash cannot be created is sure, which error says so is not.
    assume(not (flags & os.O_CREAT and path.endswith((b"/", b"/."))))
    answers = []
    for opener in (tree.open_with_openat2, open_by_components):
        with tempfile.TemporaryDirectory() as top, held(top) as root:
            furnish(Path(top))
            answers.append((answer(opener, root, path, flags), sorted(place.name for place in Path(top).rglob("*"))))
    assert answers[0] == answers[1]


deep = st.lists(st.sampled_from([b"a", b"b", b"c"]), min_size=1, max_size=5).map(b"/".join)
steps = st.lists(st.tuples(st.sampled_from(["make", "remove", "file", "mkdir"]), deep), max_size=30)


class Model:
    """A tree of directories as a set of paths; `ours` are those that `make_directories` made."""

    def __init__(self) -> None:
        self.directories = {b""}
        self.ours: set[bytes] = set()
        self.files: set[bytes] = set()

    def make(self, path: bytes) -> list[bytes]:
        parts = path.split(b"/")
        wanted = [b"/".join(parts[: depth + 1]) for depth in range(len(parts))]
        new = [directory for directory in wanted if directory not in self.directories]
        self.directories.update(new)
        return new

    def is_empty(self, path: bytes) -> bool:
        below = path + b"/"
        return not any(other.startswith(below) for other in self.directories | self.files)

    def remove(self, path: bytes) -> int:
        count = 0
        while path in self.directories & self.ours and self.is_empty(path):
            self.directories.remove(path)
            self.ours.remove(path)
            count += 1
            path = path.rpartition(b"/")[0]
        return count


@given(steps=steps)
def test_directories_come_and_go_as_in_the_model(steps: list[tuple[str, bytes]]):
    model = Model()
    with tempfile.TemporaryDirectory() as top, held(top) as root:
        for action, path in steps:
            made: list[bytes] = []
            if action == "remove":
                removed = tree.remove_directories(root, path, lambda fd: relative(fd, top) in model.ours)
                assert removed == model.remove(path)
                continue
            on_created = lambda fd, made=made: made.append(relative(fd, top))  # noqa: E731
            folder = tree.make_directories(root, path, on_created)
            assert relative(folder, top) == path
            if action == "file":
                os.close(os.open(b"file", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
                model.files.add(path + b"/file")
            os.close(folder)
            assert made == model.make(path)
            if action != "mkdir":
                model.ours.update(made)
        found = {bytes(place.relative_to(top)) for place in Path(top).rglob("*") if place.is_dir()}
        assert found == model.directories - {b""}


def relative(fd: int, top: str) -> bytes:
    return os.fsencode(os.readlink(tree.proc_path(fd))).removeprefix(os.fsencode(top) + b"/")


@given(path=st.binary(max_size=40), flags=flag_sets)
def test_any_bytes_are_answered_alike_and_only_by_known_errors(path: bytes, flags: int):
    flags &= ~os.O_CREAT
    with tempfile.TemporaryDirectory() as top, held(top) as root:
        answers = [answer(opener, root, path, flags) for opener in (tree.open_with_openat2, open_by_components)]
    assert answers[0] == answers[1]
    assert answers[0][0] != "OSError" or answers[0][1] in {errno.EXDEV, errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL}
