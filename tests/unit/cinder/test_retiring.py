# SPDX-License-Identifier: Apache-2.0
"""Real files and qemu-img; it is cut off before each step."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.unit.cinder.bench import CutError, run

from lustack.cinder import recorder, retiring
from lustack.cinder.files import VolumeFiles
from lustack.cinder.looking import find_active, read_record
from lustack.cinder.record import LINKED, Record
from lustack.cinder.retiring import name_id_of, rename

OLD, NEW = 0x41, 0x42


class Steps:
    """What fails instead of the step with a number."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: int | None = None
        for module, name in ((os, "link"), (os, "unlink"), (recorder, "replace"), (recorder, "sync")):
            monkeypatch.setattr(module, name, self.counted(getattr(module, name)))
        self.run = self.counted(run)

    def counted(self, call: Any) -> Any:
        def step(*args: Any, **kwargs: Any) -> Any:
            if self.left is not None:
                self.left -= 1
                if self.left < 0:
                    raise CutError(call)
            return call(*args, **kwargs)

        return step


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    return Steps(monkeypatch)


def find(directory: Path, name: str, bottom_format: str = "raw") -> VolumeFiles:
    return VolumeFiles(str(directory), name, read_record(str(directory), name), bottom_format)


def make_chain(directory: Path, name: str) -> None:
    """Two files on top of a raw one, each with bytes of its own, their record, and a file that was left over."""
    names = [name, f"{name}.{LINKED}", f"{name}.kept"]
    run("truncate", "-s", "1M", directory / name)
    for below, above, image_format in zip(names, names[1:], ("raw", "qcow2"), strict=False):
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", below, "-F", image_format, directory / above)
    run("qemu-io", "-f", "raw", "-c", f"write -P {OLD} 0 64k", directory / name)
    run("qemu-io", "-f", "qcow2", "-c", f"write -P {NEW} 64k 64k", directory / names[2])
    (directory / f"{name}.info").write_text(Record(names[2], {LINKED: names[1], "kept-1": names[2]}).render())
    (directory / f"{name}.info").chmod(0o640)
    (directory / f"{name}.info.new").write_text("cut off")
    (directory / f"{name}0").write_text("another volume's")


def is_whole(directory: Path, name: str) -> bool:
    """Whether a guest would read all that it wrote, if there is what it would open."""
    path = directory / find_active(str(directory), name)
    read = ("qemu-io", "-f", "qcow2", "-c", f"read -P {OLD} 0 64k", "-c", f"read -P {NEW} 64k 64k", path)
    return path.exists() and "verification failed" not in run(*read)[0]


def test_a_volume_is_renamed_with_its_chain_and_record_and_asked_again_after_a_kill(tmp_path: Path, steps: Steps):
    cuts = 0
    while True:
        directory = tmp_path / str(cuts)
        directory.mkdir()
        make_chain(directory, "v")
        steps.left = cuts
        try:
            rename(find(directory, "v"), "w", steps.run)
        except CutError:
            steps.left = None
            assert is_whole(directory, "v") or is_whole(directory, "w")
            rename(find(directory, "v"), "w", steps.run)
        names = sorted(path.name for path in directory.iterdir())
        assert names == ["v0", "w", "w.info", "w.kept", "w.linked"]
        assert is_whole(directory, "w")
        assert (directory / "w.info").stat().st_mode & 0o777 == 0o640
        if steps.left is not None:
            break
        cuts += 1
    # Three links, two looks, two changes, the record, five removals, and twice: make it durable.
    assert cuts == 15


def test_a_volume_of_one_file_that_has_another_name(tmp_path: Path):
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "v.pulled", "1M")
    (tmp_path / "v.info").write_text(Record("v.pulled").render())
    rename(find(tmp_path, "v", "qcow2"), "w", run)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["w.info", "w.pulled"]
    assert find_active(str(tmp_path), "w") == "w.pulled"


def test_what_is_not_there_was_renamed(tmp_path: Path):
    rename(find(tmp_path, "v"), "w", run)
    assert list(tmp_path.iterdir()) == []


def test_another_file_keeps_its_name(tmp_path: Path):
    (tmp_path / "v").write_text("mine")
    (tmp_path / "w").write_text("another's")
    with pytest.raises(FileExistsError):
        rename(find(tmp_path, "v"), "w", run)
    assert [(tmp_path / name).read_text() for name in "vw"] == ["mine", "another's"]


def test_a_file_that_is_backed_by_none_of_its_own_stays_so(tmp_path: Path):
    run("qemu-img", "create", "-q", "-f", "qcow2", tmp_path / "v.linked", "1M")
    (tmp_path / "v.info").write_text(Record("v.linked", {LINKED: "v.linked"}).render())
    rename(find(tmp_path, "v"), "w", run)
    assert "backing" not in run("qemu-img", "info", tmp_path / "w.linked")[0]


def test_the_name_is_the_same_whenever_it_is_asked_and_of_each_copy_another():
    ids = [str(uuid.uuid4()), str(uuid.uuid4())]
    assert len({*map(name_id_of, ids), *map(retiring.name_id_of, ids), *ids}) == 4
