# SPDX-License-Identifier: Apache-2.0
"""Renames the files of a volume that is no longer what its name says, so that nobody takes it for what it was.

    volume-1 <- volume-1.linked          volume-9 <- volume-9.linked
    volume-1.info                        volume-9.info

Rule 1: a file gets its new name beside the old one, and loses that when all have theirs and all of them, record and
    backing files, say so. Cut off anywhere, both read right, and asking again finishes.
Rule 2: no name that exists is taken: a link fails where a rename would replace.
Rule 3: the bytes that a guest sees stay; nobody has the files open.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable
from typing import Final

from lustack.cinder import recorder
from lustack.cinder.files import VolumeFiles
from lustack.cinder.images import Image, Images
from lustack.cinder.record import SUFFIX, Record, is_own_file

_PURPOSE: Final = "retired"


def name_id_of(copy_id: str) -> str:
    """What the files are named after from then on: the same whenever it is asked.

    Args:
        copy_id: the volume that Cinder keeps to have them deleted.
    """
    return str(uuid.uuid5(uuid.UUID(copy_id), _PURPOSE))


def rename(files: VolumeFiles, name: str, run: Callable[..., tuple[str, str]]) -> None:
    """Rename all files of a volume, durably.

    Args:
        files: what they are.
        name: of the volume, from now on.
        run: how commands are run.

    Raises:
        FileExistsError: another file has one of the names.
        PermissionError: somebody else must do it.
        ProcessExecutionError: a file of its chain is no image.
    """
    names = _list_own(files)
    if not names:
        return
    # The record is written anew; what a kill left of an earlier one goes.
    renamed = {each: name + each[len(files.name) :] for each in names if not each.startswith(files.name + SUFFIX)}
    for old, new in renamed.items():
        _link(files.path(old), files.path(new))
    if files.record is not None:
        recorded = _rename_record(files.record, files.name, name)
        _rebase(VolumeFiles(files.directory, name, recorded, files.bottom_format), files.name, renamed.values(), run)
        _write_record(files, files.path(name + SUFFIX), recorded)
    recorder.sync(os.fsencode(files.path(name)))
    # What a server would open goes first, and the record last: as long as it is there, it says what was what.
    for each in sorted(sorted(names, reverse=True), key=lambda each: each not in renamed):
        os.unlink(files.path(each))
    recorder.sync(os.fsencode(files.path(name)))


def _list_own(files: VolumeFiles) -> list[str]:
    with os.scandir(files.directory) as entries:
        return sorted(
            each.name for each in entries if is_own_file(each.name, files.name) and each.is_file(follow_symlinks=False)
        )


def _link(path: str, target: str) -> None:
    try:
        os.link(path, target, follow_symlinks=False)
    except FileExistsError:
        # It was done, and cut off afterwards.
        if not os.path.samestat(os.lstat(path), os.lstat(target)):
            raise


def _rename_record(old: Record, name: str, new_name: str) -> Record:
    start = len(name)
    return Record(new_name + old.active[start:], {key: new_name + each[start:] for key, each in old.snapshots.items()})


def _rebase(files: VolumeFiles, name: str, renamed: Iterable[str], run: Callable[..., tuple[str, str]]) -> None:
    """Let what is backed by another file name that by its new name; it is the same file.

    Args:
        files: as they are named from now on.
        name: how the volume was named.
        renamed: the files that exist.
        run: how commands are run.
    """
    for each in sorted(set(files.recorded.snapshots.values()).intersection(renamed)):
        out, _ = run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", files.path(each))
        backing = os.path.basename(json.loads(out).get("backing-filename") or "")
        if is_own_file(backing, name):
            below = files.image(files.name + backing[len(name) :])
            Images(run).rebase(Image(files.path(each), "qcow2"), below)


def _write_record(files: VolumeFiles, path: str, new: Record) -> None:
    """Write the record that the volume has from now on, as accessible as the one that it had."""
    was = os.stat(files.record_path)
    recorder.replace(os.fsencode(path), new.render().encode(), was.st_mode & 0o777)
    os.chown(path, was.st_uid, was.st_gid)
