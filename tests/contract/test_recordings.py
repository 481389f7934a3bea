# SPDX-License-Identifier: Apache-2.0
"""What a real Lustre recorded (lustre/recordings) means what we take it for, and the fake records the same."""

from __future__ import annotations

import itertools
import os
import re
from collections import defaultdict
from pathlib import Path

import pytest
from tests.recorded import LOGS, RECORDINGS, read_operations, read_raw, read_records

from lustack.lustre import fid
from lustack.lustre.changelog import Decoder, scan
from lustack.lustre.fake import FakeLustre
from lustack.sync.sources.changelog_window import Memory, Window

FOLDERS = ("full", "defmask")
FAKE = {
    "the records of operations": ("contract/test_recordings", "test_the_fake_records_what_a_real_lustre_recorded"),
    "an MDT for each record": ("unit/lustre/test_fake", "test_what_happens_is_recorded_where_it_happens"),
    "striped directories": ("unit/lustre/test_fake", "test_a_striped_directory_is_on_several_mdts"),
    "migration": ("unit/lustre/test_fake", "test_what_migrates_gets_another_identity"),
    "a close that is lost": ("unit/lustre/test_fake", "test_a_close_can_be_lost"),
    "garbage in a close": ("unit/lustre/test_fake", "test_the_parent_in_a_close_is_left_over_from_another_record"),
    "times that are not recorded": ("unit/lustre/test_fake", "test_new_times_are_recorded_only_after_a_purge_and_once"),
    "no user, no records": ("unit/lustre/test_fake_log", "test_without_users_nothing_is_recorded"),
    "masks": ("unit/lustre/test_fake_log", "test_a_mask_holds_back_only_what_nobody_wants"),
    "two readers": ("unit/lustre/test_fake_log", "test_two_readers_see_everything"),
    "the end of a log": ("unit/lustre/test_fake_log", "test_a_reader_at_the_end_stays_there"),
    "a reader below whom it is cleared": (
        "unit/lustre/test_fake_log",
        "test_a_reader_keeps_what_is_cleared_meanwhile_and_a_new_one_gets_nothing",
    ),
    "what is purged": ("unit/lustre/test_fake_log", "test_a_record_goes_away_when_all_have_cleared_it"),
    "gaps": ("unit/lustre/test_fake_log", "test_reading_begins_at_the_first_record_that_is_there"),
    "what may be cleared": ("unit/lustre/test_fake_log", "test_the_same_may_be_cleared_again_and_nothing_else"),
    "a user that goes": ("unit/lustre/test_fake_log", "test_with_the_last_user_everything_goes_and_numbers_go_on"),
    "who follows": ("unit/lustre/test_fake_log", "test_who_follows_waits_and_gets_what_comes"),
    "a crash of an MDT": ("unit/lustre/test_fake_log", "test_a_crash_ends_readers_and_gives_indices_again"),
}
"""What the fake does as the real one was seen to do it, and the test of each."""

FORMS = ("plain", "flags_nid_be")


def test_what_the_fake_does_as_a_real_one_has_its_tests():
    for module, name in FAKE.values():
        assert f"\ndef {name}(" in (Path(__file__).parents[1] / f"{module}.py").read_text(), (module, name)


def decode(raw):
    decoder = Decoder()
    records = list(decoder.feed(raw))
    decoder.finish()
    assert not decoder.unknown
    return records


def logs_of(folder, form="plain"):
    return [
        {record.index: record for record in decode(read_raw(f"{folder}/lustre-MDT000{mdt}", form))} for mdt in (0, 1)
    ]


def paths_of(operation):
    """Path, identity before and after, and the identity of its directory."""
    paths = [bytes.fromhex(each) for each in operation["paths_hex"]]
    keys = [
        [None if each is None else fid.parse(each).key for each in operation[field]]
        for field in ("fid_before", "fid_after", "parent_fid")
    ]
    return list(zip(paths, *keys, strict=True))


def records_of(operation, logs):
    return [
        logs[mdt][index]
        for mdt in (0, 1)
        for index in range(operation["index_before"][mdt] + 1, operation["index_after"][mdt] + 1)
        if index in logs[mdt]
    ]


APPEARED = {"CREAT", "MKDIR", "HLINK", "SLINK", "MKNOD"}
VANISHED = {"UNLNK", "RMDIR"}


def says(record, parent, name, key, types):
    """Whether a record says that a name came (or went) with this identity."""
    if record.type_name == "MIGRT":
        # The directory migrates too: either of its identities may be the parent.
        return (record.name, record.target if types is APPEARED else record.source) == (name, key)
    if record.type_name == "RENME":
        if types is APPEARED:
            return (record.name, record.source, record.parent) == (name, key, parent)
        return (record.source_name, record.source) == (name, key) or (record.name, record.target) == (name, key)
    return record.type_name in types and (record.name, record.target) == (name, key)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_every_name_that_came_or_went_is_in_the_records_of_its_operation(folder, form):
    logs = logs_of(folder, form)
    checked = 0
    for operation in read_operations(folder):
        found = records_of(operation, logs)
        for path, before, after, parent in paths_of(operation):
            name = path.rpartition(b"/")[2]
            if before == after:
                continue
            checked += 1
            if after is not None:
                assert any(says(record, parent, name, after, APPEARED) for record in found), operation["op"]
            if before is not None:
                assert any(says(record, parent, name, before, VANISHED) for record in found), operation["op"]
    assert checked > 100


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_rename_is_recorded_once_and_says_both_names(folder):
    logs = logs_of(folder)
    renames = 0
    for operation in read_operations(folder):
        if not operation["op"].startswith("rename") or operation.get("error") or len(operation["paths"]) != 2:
            continue
        (old, moved, _, old_parent), (new, victim, after, parent) = paths_of(operation)
        found = [record for record in records_of(operation, logs) if record.type_name == "RENME"]
        if victim in (moved, after):
            assert found == []
            continue
        (record,) = found
        renames += 1
        assert (record.source, record.target) == (moved, victim or fid.NO_FID)
        assert (record.parent, record.source_parent) == (parent, old_parent)
        assert (record.name, record.source_name) == (new.rpartition(b"/")[2], old.rpartition(b"/")[2])
    assert renames > 10


@pytest.mark.parametrize("log", LOGS)
def test_the_quick_way_reads_what_the_long_way_reads(log):
    raw = read_raw(log)
    records = decode(raw)
    quick = list(scan(raw))
    assert [(each[0], each[2], each[4]) for each in quick] == [(r.kind, r.index, r.target) for r in records]
    assert [record.index for record in records] == [other["index"] for other in read_records(log)["records"]]


# What changes the content, the name or the time of a file; everything else concerns no listing.
CHANGES = (
    "create",
    "open O_WRONLY",
    "open O_RDWR",
    "truncate",
    "ftruncate",
    "mmap",
    "write",
    "utimes",
    "rename",
    "unlink",
)


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_window_over_a_recording_holds_every_name_that_changed(folder):
    window = Window(Memory())
    for mdt in (0, 1):
        window.feed(read_raw(f"{folder}/lustre-MDT000{mdt}"))
    seen = {(parent, name) for parent, name in window.names}
    names_of_moves = {each for move in window.moves + window.unclear for each in (move.old, move.new)}
    renamed = {key for key, _ in names_of_moves}
    checked = 0
    for operation in read_operations(folder):
        if operation.get("error") or not operation["op"].startswith(CHANGES):
            continue
        if "no-op" in operation["op"] or "itself" in operation["op"]:
            continue
        for path, before, after, parent in paths_of(operation):
            name = (parent, path.rpartition(b"/")[2])
            key = after or before
            checked += 1
            assert name in seen or name in names_of_moves or key in window.keys or parent in renamed, operation["op"]
    assert checked > 60


def test_a_release_by_hsm_is_no_more_than_a_hint_for_one_name():
    window = Window(Memory())
    window.feed(read_raw("hsm/"))
    files = {name for _, name in window.names}
    assert {b"f", b"g", b"g2"} <= files
    assert window.keys == {}


# -- the fake --------------------------------------------------------------------------------------------------------


def write(lustre, path):
    lustre.write(path, b"content")


def mkdir_far(lustre, path):
    lustre.mkdir(path, 1)


SCRIPT = {
    "create+write 5 bytes+close": write,
    "truncate(path, 2)": lambda lustre, path: lustre.truncate(path, 2),
    "mkdir": lambda lustre, path: lustre.mkdir(path),
    "mkdir nested": lambda lustre, path: lustre.mkdir(path),
    "create in nested": write,
    "rename file same dir": lambda lustre, *paths: lustre.rename(*paths),
    "rename file to other dir": lambda lustre, *paths: lustre.rename(*paths),
    "create victim": write,
    "rename file over an existing file (last link)": lambda lustre, *paths: lustre.rename(*paths),
    "create victim2": write,
    "link victim2": lambda lustre, *paths: lustre.link(*paths),
    "rename file over an existing file (not last link)": lambda lustre, *paths: lustre.rename(*paths),
    "rename onto itself": lambda lustre, *paths: lustre.rename(*paths),
    "rename directory same parent": lambda lustre, *paths: lustre.rename(*paths),
    "rename directory to other parent": lambda lustre, *paths: lustre.rename(*paths),
    "chmod": lambda lustre, path: lustre.chmod(path, 0o640),
    "mkdir on MDT1 (lfs mkdir -i 1)": mkdir_far,
    "create in MDT1 dir": write,
    "mkdir in MDT1 dir": lambda lustre, path: lustre.mkdir(path),
    "hardlink across MDTs": lambda lustre, *paths: lustre.link(*paths),
    "unlink cross-MDT link": lambda lustre, path: lustre.unlink(path),
}


class Sides:
    """Identities on both sides, paired as they appear."""

    def __init__(self):
        self.pairs = {fid.NO_FID: fid.NO_FID}

    def match(self, recorded, faked):
        return self.pairs.setdefault(recorded, faked) == faked


def test_the_data_version_of_a_file_goes_back_when_hsm_restores_it():
    """So it proves nothing about bytes: doc/decisions/0016."""
    text = (RECORDINGS / "hsm" / "ops.txt").read_text()
    versions = [int(each) for each in re.findall(r"state: f: .* dv: (\d+)", text)]
    versions = [version for version in versions if version]
    assert versions[:2] == [4294967511, 4294967593]
    assert any(later < earlier for earlier, later in itertools.pairwise(versions))


def test_the_fake_records_what_a_real_lustre_recorded(tmp_path):
    (tmp_path / "defmask").mkdir()
    lustre = FakeLustre(os.fsencode(tmp_path), mdts=2)
    for log in lustre.logs.values():
        log.register()
    logs, sides, done = logs_of("defmask"), Sides(), 0
    for operation in read_operations("defmask"):
        paths = [bytes.fromhex(each) for each in operation["paths_hex"]]
        if operation["op"] not in SCRIPT or not can_run(lustre, operation, paths):
            continue
        before = {mdt: log.last_index for mdt, log in lustre.logs.items()}
        SCRIPT[operation["op"]](lustre, *paths)
        faked = new_records(lustre, before)
        wanted = defaultdict(list)
        for index, mdt in enumerate(lustre.mdts()):
            span = range(operation["index_before"][index] + 1, operation["index_after"][index] + 1)
            wanted[mdt] = [logs[index][each] for each in span]
        compare(operation["op"], wanted, faked, sides)
        done += 1
    assert done >= 15


def can_run(lustre, operation, paths):
    """The script is a part of the operations: not all that they need is there."""
    if operation["op"].startswith(("create", "mkdir")):
        return os.path.isdir(os.path.join(lustre.root, os.path.dirname(paths[0])))
    return os.path.lexists(os.path.join(lustre.root, paths[0]))


def new_records(lustre, before):
    return {
        mdt: list(Decoder().feed(b"".join(raw for _, raw in log.find(before[mdt] + 1))))
        for mdt, log in lustre.logs.items()
    }


def compare(what, wanted, faked, sides):
    for mdt, records in faked.items():
        # A real CLOSE may come late, after the operation.
        real = [record for record in wanted[mdt] if record.type_name != "CLOSE"]
        ours = [record for record in records if record.type_name != "CLOSE"]
        assert [r.type_name for r in ours] == [r.type_name for r in real], (what, mdt)
        for mine, other in zip(ours, real, strict=True):
            assert (mine.name, mine.source_name) == (other.name, other.source_name), what
            assert mine.flags & 1 == other.flags & 1, what
            assert sides.match(other.target, mine.target), what
            if other.name:
                assert sides.match(other.parent, mine.parent), what
            if other.source is not None:
                assert sides.match(other.source, mine.source), what
                assert sides.match(other.source_parent, mine.source_parent), what
