# SPDX-License-Identifier: Apache-2.0
"""Second act: a file is an object. What jobs do with cp, mv and rm is what clients list and download."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import trees
from show import Show, UnexpectedError, expect
from stage import LISTED_LIMIT_S, LOOK_S, Stage

_MIB = 1024**2
_DOWNLOADS_AT_A_TIME = 8


def play(show: Show, stage: Stage) -> None:
    """Copy a tree in, change it, remove it."""
    sizes = trees.write_tree(stage.scratch / "tree")
    show.head(f"A file is an object: a tree of {len(sizes)} files, with blanks, line breaks, quotes, % and - in names")
    with show.step("cp -r tree $DATA/files") as step:
        stage.run("cp -r tree $DATA/files")
        step.remark = f"in swift list after {stage.wait_listed('files', sizes):.1f} s"
    download_all(show, stage)
    show.head("Jobs go on working, and the listing follows")
    doings = plan_doings(sizes)
    run_all(show, stage, doings)
    with show.step("swift list files") as step:
        for doing in doings:
            sizes |= doing.changes
        now = {name: size for name, size in sizes.items() if size is not None}
        stage.wait_listed("files", now)
        step.remark = f"{len(now)} names and sizes, none missing, none too many"
    download_all(show, stage)
    with show.step("rm -r $DATA/files/*") as step:
        stage.run("rm -r $DATA/files/* $DATA/files/.[!.]* $DATA/files/..?*")
        step.remark = f"gone from swift list after {stage.wait_listed('files', {}):.1f} s"


@dataclass(frozen=True)
class Doing:
    """What a job does.

    Attributes:
        command: how.
        changes: size in bytes of each file that it makes or changes, None for what is gone.
    """

    command: str
    changes: Mapping[str, int | None]

    def is_listed(self, listed: Mapping[str, int]) -> bool:
        """Whether a listing shows it."""
        return all(listed.get(name) == size for name, size in self.changes.items())


def plan_doings(sizes: Mapping[str, int]) -> tuple[Doing, ...]:
    """Everything that jobs do to the tree."""
    moved = [name for name in sizes if name.startswith("runs/01/")]
    removed = [name for name in sizes if name.startswith("runs/03/")]
    copied = [name for name in sizes if name.startswith("odd/")]
    return (
        Doing("mv $DATA/files/runs/02/rank0.dat $DATA/files/rank0", _renamed(sizes, ["runs/02/rank0.dat"], "rank0")),
        Doing("mv $DATA/files/runs/01 $DATA/files/moved", _renamed(sizes, moved, "moved/", "runs/01/")),
        Doing("dd if=/dev/urandom of=$DATA/files/sizes/300000.bin bs=1M count=1", {"sizes/300000.bin": _MIB}),
        Doing("truncate -s 70000 $DATA/files/sizes/3000000.bin", {"sizes/3000000.bin": 70000}),
        Doing("printf more >> $DATA/files/sizes/17.bin", {"sizes/17.bin": 21}),
        Doing("echo replaced > new; mv new $DATA/files/sizes/4096.bin", {"sizes/4096.bin": 9}),
        Doing("rm -r $DATA/files/runs/03", dict.fromkeys(removed)),
        Doing("cp -a $DATA/files/odd $DATA/files/copied", {f"copied/{name[4:]}": sizes[name] for name in copied}),
        Doing("ln $DATA/files/sizes/1.bin $DATA/files/linked", {"linked": 1}),
        Doing("mkdir $DATA/files/directory", {"directory": None, "directory/": None}),
        Doing("ln -s /etc/passwd $DATA/files/symlink", {"symlink": None}),
    )


def _renamed(sizes: Mapping[str, int], names: list[str], new: str, old: str | None = None) -> dict[str, int | None]:
    """The changes when `names` begin with `new` instead of `old` (None: the whole name)."""
    found: dict[str, int | None] = dict.fromkeys(names)
    return found | {new + name.removeprefix(name if old is None else old): sizes[name] for name in names}


def run_all(show: Show, stage: Stage, doings: tuple[Doing, ...]) -> None:
    """Do everything one after the other, then say for each when the listing showed it."""
    done_s = []
    for doing in doings:
        stage.run(doing.command)
        done_s.append(time.monotonic())
    listed_s: dict[str, float] = {}
    while len(listed_s) < len(doings) and time.monotonic() - done_s[0] < LISTED_LIMIT_S:
        listed = stage.list("files")
        for doing in doings:
            if doing.is_listed(listed):
                listed_s.setdefault(doing.command, time.monotonic())
        time.sleep(LOOK_S)
    for doing, done in zip(doings, done_s, strict=True):
        with show.step(doing.command) as step:
            if doing.command not in listed_s:
                raise UnexpectedError(doing.changes, {name: stage.list("files").get(name) for name in doing.changes})
            is_there = any(size is not None for size in doing.changes.values())
            step.remark = f"in swift list after {listed_s[doing.command] - done:.1f} s" if is_there else "no object"
            if doing.command.startswith("rm "):
                step.remark = f"gone from swift list after {listed_s[doing.command] - done:.1f} s"


def download_all(show: Show, stage: Stage) -> None:
    """Every object comes back as it is in the file system, with either client."""
    with show.step("swift download files --output-dir by-swift; diff -r by-swift $DATA/files"):
        stage.run("rm -rf by-swift; swift download files --output-dir by-swift")
        compare(stage, trees.read_tree(stage.scratch / "by-swift"))
    with show.step('s3.download_file("files", name, ...) for all of s3.list_objects_v2(Bucket="files")'):
        compare(stage, download_by_s3(stage))


def download_by_s3(stage: Stage) -> dict[str, bytes]:
    """Every object of the container, by name."""
    pages = stage.s3.get_paginator("list_objects_v2").paginate(Bucket="files")
    names = [row["Key"] for page in pages for row in page["Contents"]]

    def fetch(number: int) -> bytes:
        path = Path(top, str(number))
        stage.s3.download_file("files", names[number], str(path))
        return path.read_bytes()

    with tempfile.TemporaryDirectory(dir=stage.scratch) as top, ThreadPoolExecutor(_DOWNLOADS_AT_A_TIME) as pool:
        return dict(zip(names, pool.map(fetch, range(len(names))), strict=True))


def compare(stage: Stage, found: Mapping[str, bytes]) -> None:
    """Hold what was downloaded against the files.

    Raises:
        UnexpectedError: they differ.
    """
    expected = trees.read_tree(stage.data / "files")
    expect([], sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)))
