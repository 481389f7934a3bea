# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace

import pytest
from tests.lustres import QUICK, Watched, read_all
from tests.waiting import LIMIT_S

from lustack.lustre import client
from lustack.lustre.changelog import read_record
from lustack.lustre.errors import ChangelogError, NotLustreError
from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeChanged
from lustack.sync.sources import changelogs
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.protocol import Rooted, SourceLostError, SourceUnavailableError
from lustack.sync.sources.roots import Root

MDTS = ("lustre-MDT0000", "lustre-MDT0001")


@pytest.fixture
def watched(tmp_path):
    watched = Watched(tmp_path, mdts=2)
    yield watched
    watched.close()


@pytest.fixture
def source(watched):
    source = ChangelogSources("changelog:d1", watched.lustre, watched.users, list(watched.roots.values()), QUICK)
    yield source
    source.close()


def paths_of(events):
    return {event.path for event in events}


def test_what_happens_on_every_mdt_is_reported(watched, source):
    source.open(None)
    watched.lustre.mkdir(b"device/far", 1)
    watched.lustre.write(b"device/far/f", b"x")
    watched.lustre.write(b"device/g", b"x")
    events, _ = read_all(source, 0.3)
    assert paths_of(events) == {b"far", b"far/f", b"g"}


def test_each_mdt_is_cleared_as_far_as_it_was_acknowledged(watched, source):
    source.open(None)
    watched.lustre.mkdir(b"device/far", 1)
    watched.lustre.write(b"device/g", b"x")
    _, last = read_all(source, 0.3)
    source.acknowledge(last.position)
    assert [watched.log(index).records for index in (0, 1)] == [{}, {}]
    source.close()
    source.acknowledge(last.position)
    source.acknowledge(json.dumps({"lustre-MDT0007": "1:1:00"}))


def test_after_a_restart_every_mdt_goes_on_where_it_was(watched, source):
    source.open(None)
    watched.lustre.mkdir(b"device/far", 1)
    _, first = read_all(source, 0.3)
    watched.lustre.write(b"device/far/f", b"x")
    watched.lustre.write(b"device/g", b"x")
    source.close()
    source.open(first.position)
    assert paths_of(read_all(source, 0.3)[0]) == {b"far/f", b"g"}


def test_a_directory_that_moved_on_another_mdt_is_where_it_is_now(watched, source):
    lustre = watched.lustre
    lustre.mkdir(b"device/far", 1)
    lustre.mkdir(b"device/a")
    source.open(None)
    lustre.write(b"device/a/f", b"x")
    read_all(source, 0.3)
    # Both records of the file are read together, or the second one is an event of its own.
    watched.log().is_stalled = True
    lustre.rename(b"device/a", b"device/far/a")
    lustre.write(b"device/far/a/g", b"x")
    watched.log().is_stalled = False
    events, _ = read_all(source, 0.3)
    assert NameChanged(RelPath(b"far/a/g"), is_new=True) in events
    assert paths_of(each for each in events if isinstance(each, TreeChanged)) <= {b"a", b"far/a"}


def test_a_loss_on_one_mdt_is_a_loss(watched, source):
    source.open(None)
    watched.lustre.write(b"device/f", b"x")
    read_all(source, 0.3)
    watched.log().last_index += 1
    watched.lustre.write(b"device/g", b"x")
    with pytest.raises(SourceLostError, match="after 2 comes 4"):
        read_all(source, 1.0)
    with pytest.raises(SourceLostError):
        source.read(0.0)


def test_an_mdt_more_or_less_is_a_loss(watched, source):
    source.open(None)
    watched.lustre.write(b"device/f", b"x")
    _, last = read_all(source, 0.3)
    position = json.loads(last.position)
    assert set(position) == set(MDTS)
    del position[MDTS[1]]
    with pytest.raises(SourceLostError, match=r"MDT0001.* now"):
        source.open(json.dumps(position))
    assert source.read(0.0) is None


def test_an_mdt_without_a_user_of_ours_is_refused_with_the_remedy(watched):
    users = {MDTS[0]: "cl1"}
    source = ChangelogSources("changelog:d1", watched.lustre, users, [])
    for attempt in (source.probe, lambda: source.open(None)):
        with pytest.raises(SourceUnavailableError, match="for lustre-MDT0001; `lustack sync register`"):
            attempt()


def test_a_machine_without_changelogs_is_refused(watched):
    watched.lustre.logs.clear()
    with pytest.raises(SourceUnavailableError, match="no changelog on this machine"):
        ChangelogSources("changelog:d1", watched.lustre, {}, []).probe()


def test_trying_it_loses_nothing(watched, source):
    watched.lustre.write(b"device/f", b"x")
    source.probe()
    assert len(watched.log().records) == 2
    watched.log(1).faults.append(ChangelogError(MDTS[1], "busy"))
    with pytest.raises(SourceUnavailableError, match="busy"):
        source.probe()


def test_an_mdt_that_does_not_answer_leaves_nothing_open(watched, source):
    watched.log(1).faults.append(ChangelogError(MDTS[1], "busy"))
    with pytest.raises(SourceUnavailableError, match="busy"):
        source.open(None)
    assert source.read(0.0) is None


def test_a_root_that_is_gone_cannot_be_watched(watched, tmp_path):
    source = ChangelogSources("changelog:d1", watched.lustre, watched.users, [Root(str(tmp_path / "absent"))])
    with pytest.raises(SourceUnavailableError, match="No such file"):
        source.open(None)


def test_what_nobody_takes_waits_in_the_log(watched, source):
    source.open(None)
    for number in range(50):
        watched.lustre.write(b"device/%d" % number, b"x")
        time.sleep(0.002)
    assert len(source._waiting) <= 2
    assert len(paths_of(read_all(source, 0.3)[0])) == 50


def test_closing_ends_who_waits_and_who_hands_over(watched, source):
    source.open(None)
    found = []
    thread = threading.Thread(target=lambda: found.append(source.read(LIMIT_S)))
    thread.start()
    time.sleep(0.05)
    source.close()
    thread.join(LIMIT_S / 2)
    assert found == [None]
    source.open(None)
    for number in range(3):
        watched.lustre.write(b"device/%d" % number, b"x")
        time.sleep(0.05)
    source.close()


def test_a_directory_on_lustre_is_connected(watched, monkeypatch, tmp_path):
    roots = list(watched.roots.values())
    with pytest.raises(SourceUnavailableError, match="is not on a Lustre"):
        changelogs.connect("d1", {}, [Root("/proc")])
    monkeypatch.setattr(client, "connect", lambda path: watched.lustre)
    found = changelogs.connect("d1", watched.users, roots)
    assert found.name == "changelog:d1"
    assert found.guarantees.complete
    assert os.path.isdir(roots[0].path)
    monkeypatch.setattr(watched.lustre, "key_of", _refuse)
    with pytest.raises(SourceUnavailableError):
        changelogs.connect("d1", watched.users, roots)


def _refuse(fd):
    raise NotLustreError("x")


def test_exports_come_and_go_while_it_is_open(watched, source, tmp_path):
    watched.lustre.mkdir(b"exported")
    device = next(iter(watched.roots.values()))
    exported = Root(str(tmp_path / "lustre" / "exported"), RelPath(b"a/c"))
    source.watch([device, Root(str(tmp_path / "absent"), RelPath(b"a/d"))])
    source.open(None)
    assert isinstance(source, Rooted)
    source.watch([device, exported])
    watched.lustre.write(b"exported/f", b"x")
    watched.lustre.write(b"device/g", b"x")
    assert paths_of(read_all(source, 0.3)[0]) == {b"a/c/f", b"g"}
    assert source.guarantees.across_hosts


def test_what_was_not_handed_out_is_read_again_with_other_roots(watched, source):
    source.open(None)
    watched.lustre.write(b"device/g", b"x")
    source.watch(list(watched.roots.values()))
    assert paths_of(read_all(source, 0.3)[0]) == {b"g"}


@pytest.mark.expects_log(r"does not see what happens in \S+/lustre/exported: comparisons do")
def test_an_export_that_is_not_on_lustre_is_said_and_less_is_promised(watched, source, tmp_path, monkeypatch):
    def find_key(fd):
        if os.readlink(f"/proc/self/fd/{fd}").endswith("exported"):
            raise NotLustreError("exported")
        return key_of(fd)

    key_of = watched.lustre.key_of
    monkeypatch.setattr(watched.lustre, "key_of", find_key)
    watched.lustre.mkdir(b"exported")
    source.watch([*watched.roots.values(), Root(str(tmp_path / "lustre" / "exported"), RelPath(b"a/c"))])
    source.open(None)
    assert not source.guarantees.across_hosts


def test_a_file_system_that_fails_when_other_roots_are_wanted_is_a_loss(watched, source):
    source.open(None)
    roots = list(watched.roots.values())
    source.watch([replace(roots[0], path=roots[0].path + ".gone")])
    with pytest.raises(SourceLostError, match="No such file"):
        source.read(0)


def nonce(number):
    return b"%032x" % number


def path_of_nonce(number):
    return b".lustack/fence/" + nonce(number)


@pytest.fixture
def fenced(watched, source):
    """A device on which a nonce can be made; all of it on the first MDT, but for `far`."""
    watched.lustre.mkdir(b"device/.lustack")
    watched.lustre.mkdir(b"device/.lustack/fence")
    watched.lustre.mkdir(b"device/far", 1)
    source.open(None)
    return watched.lustre


def test_a_nonce_is_reported_after_what_was_done_before_it_on_every_mdt(watched, source, fenced):
    for number in range(5):
        # The log of the other MDT says nothing for a while.
        watched.log(0).is_stalled = watched.log(1).is_stalled = True
        fenced.write(b"device/far/%d" % number, b"x")
        fenced.write(b"device/" + path_of_nonce(number), b"")
        fenced.write(b"device/near", b"x")
        watched.log(0).is_stalled = False
        before, _ = read_all(source, 0.1)
        assert paths_of(before) == {b"near"}
        watched.log(1).is_stalled = False
        after = [event.path for event in read_all(source, 0.3)[0]]
        # Two events of one name, if its records were not read together.
        assert list(dict.fromkeys(after)) == [b"far/%d" % number, path_of_nonce(number)]


def test_a_nonce_does_not_wait_in_a_log_that_is_dear_to_open(watched, fenced):
    pace = replace(QUICK, dear=-1.0, longest=10 * LIMIT_S)
    source = ChangelogSources("changelog:d1", fenced, watched.users, list(watched.roots.values()), pace)
    source.open(None)
    fenced.write(b"device/far/f", b"x")
    read_all(source, 0.3)
    fenced.write(b"device/" + path_of_nonce(1), b"")
    batch = source.read(LIMIT_S)
    while batch is not None and paths_of(batch.events) != {path_of_nonce(1)}:
        batch = source.read(LIMIT_S)
    assert batch is not None
    source.close()


def test_a_nonce_whose_record_was_acknowledged_already_is_reported_after_a_restart(watched, source, fenced):
    watched.log(1).is_stalled = True
    fenced.write(b"device/" + path_of_nonce(1), b"")
    _, last = read_all(source, 0.1)
    source.acknowledge(last.position)
    source.close()
    watched.log(1).is_stalled = False
    assert not watched.log().records
    source.open(last.position)
    assert paths_of(read_all(source, 0.3)[0]) == {path_of_nonce(1)}


def test_a_nonce_waits_for_names_that_are_held_back(watched, fenced):
    source = ChangelogSources(
        "changelog:d1", fenced, watched.users, list(watched.roots.values()), replace(QUICK, patience=30.0)
    )
    fenced.mkdir(b"device/a")
    fenced.write(b"device/a/f", b"x")
    source.open(None)
    log = watched.log()
    log.is_stalled = True
    fenced.unlink(b"device/a/f")
    fenced.rmdir(b"device/a")
    removal = log.records.pop(log.last_index)
    log.last_index -= 1
    fenced.write(b"device/" + path_of_nonce(1), b"")
    log.is_stalled = False
    assert path_of_nonce(1) not in paths_of(read_all(source, 0.2)[0])
    log.append(read_record(removal, 0, len(removal)))
    events = [event.path for event in read_all(source, 0.3)[0]]
    assert events.index(b"a") < events.index(path_of_nonce(1))
    source.close()


def test_after_closing_no_nonce_is_reported(watched, source, fenced):
    watched.log(1).is_stalled = True
    fenced.write(b"device/" + path_of_nonce(1), b"")
    read_all(source, 0.1)
    source.close()
    source._let_pass(MDTS[1], time.monotonic())
    assert source.read(0.0) is None
