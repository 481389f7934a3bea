# SPDX-License-Identifier: Apache-2.0
"""The whole daemon, with its threads, on the changelogs of a fake Lustre.

`LOSSES` says where each way in which changelogs lose something is tested.
"""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.listings import KEY, POLICY, playground
from tests.lustres import QUICK
from tests.waiting import wait_for

from lustack.lustre.fake import FakeLustre
from lustack.sync.metrics import Metrics
from lustack.sync.service import Daemon
from lustack.sync.sources.changelogs import ChangelogSources
from lustack.sync.sources.choose import Choice
from lustack.sync.world import World

__all__ = ("playground",)

HERE, SOURCE, TAIL, SOURCES = "", "changelog", "changelog_tail", "changelogs"
LOSSES = {
    "the MDT removes our user: idle, far behind, its disk is full, or somebody deregisters it": [
        (HERE, "test_when_an_mdt_loses_our_user_everything_is_compared"),
        (SOURCE, "test_a_user_that_is_gone_is_a_loss"),
        (SOURCE, "test_without_a_user_of_ours_the_source_cannot_be_used"),
    ],
    "a quiet MDT takes us for idle": [(SOURCE, "test_a_quiet_mdt_is_told_that_we_are_here")],
    "a lower index is cleared, or 0": [
        (SOURCE, "test_zero_is_never_cleared"),
        (SOURCE, "test_an_older_position_is_never_cleared"),
    ],
    "a nodemap with audit_mode=0 records nothing; the record of a close is lost with its MDT": [
        (HERE, "test_what_no_record_tells_is_found_by_the_next_comparison"),
    ],
    "a second touch is not recorded": [(HERE, "test_a_touch_that_is_not_recorded_is_found_by_the_next_comparison")],
    "an MDT crashed and gives indices again": [
        (HERE, "test_when_an_mdt_gives_indices_again_everything_is_compared"),
        (TAIL, "test_an_index_that_was_given_again_is_a_loss"),
        (TAIL, "test_an_index_that_was_given_again_is_noticed_without_an_error_too"),
        (TAIL, "test_a_log_that_ends_before_what_was_read_is_a_loss"),
        (TAIL, "test_after_a_silence_it_is_looked_from_further_back"),
        (SOURCE, "test_an_mdt_that_lost_what_we_cleared_is_a_loss"),
    ],
    "records are missing: purged, or never written because the MDT was full": [
        (HERE, "test_when_records_are_missing_everything_is_compared"),
        (TAIL, "test_a_gap_is_a_loss"),
        (TAIL, "test_a_gap_between_records_that_come_together_is_a_loss"),
    ],
    "only the last close of a user is recorded": [(HERE, "test_the_last_close_tells_of_all_that_was_written_before")],
    "the parent in a close is garbage": [
        (HERE, "test_the_last_close_tells_of_all_that_was_written_before"),
        ("changelog_window", "test_a_file_that_was_made_and_closed_is_one_new_name"),
    ],
    "we may not read the log, or the MDT is away": [
        (SOURCE, "test_an_mdt_that_does_not_answer_cannot_be_used_now"),
        (SOURCES, "test_an_mdt_that_does_not_answer_leaves_nothing_open"),
    ],
    "the MDT restarts below a reader": [
        (TAIL, "test_a_restart_of_the_mdt_that_lost_nothing_is_survived"),
        (SOURCE, "test_an_error_of_the_log_is_said_once_and_loses_nothing"),
    ],
    "a reader that came to the end sees nothing more; one waits for ever": [
        (TAIL, "test_records_come_once_and_in_order"),
        (TAIL, "test_a_log_that_does_not_even_end_is_an_error"),
    ],
    "logs of several MDTs have no order": [
        (SOURCES, "test_a_directory_that_moved_on_another_mdt_is_where_it_is_now"),
        (SOURCES, "test_a_nonce_is_reported_after_what_was_done_before_it_on_every_mdt"),
    ],
    "an MDT has no user of ours, or was added": [
        (SOURCES, "test_an_mdt_without_a_user_of_ours_is_refused_with_the_remedy"),
        (SOURCES, "test_an_mdt_more_or_less_is_a_loss"),
    ],
    "a directory is gone before anybody knew where it was": [
        (SOURCE, "test_names_in_a_lost_directory_hold_back_until_its_removal_is_read"),
        (SOURCE, "test_names_in_a_directory_that_stays_lost_cost_a_comparison"),
    ],
    "bytes that are no records": [(SOURCE, "test_damaged_records_are_a_loss")],
}
"""Each way in which changelogs lose something or mislead, and the tests of what the daemon does then."""

MD5_OF_X = hashlib.md5(b"x", usedforsecurity=False).hexdigest()


class Site:
    """A device on Lustre, and daemons that come and go."""

    def __init__(self, playground):
        self.playground = playground
        self.running = []
        self.lustre = FakeLustre(os.fsencode(playground.base / "node"), mdts=2)
        self.users = {mdt: log.register() for mdt, log in self.lustre.logs.items()}
        self.top = os.fsencode(os.path.relpath(playground.container, playground.base / "node")) + b"/"
        self.settings = replace(playground.settings, settle_s=0.0, interval_s=3600.0, quiet_s=0.2)

    def choose(self, wanted, device, roots):
        source = ChangelogSources(f"changelog:{device}", self.lustre, self.users, roots, QUICK)
        return Choice("changelog", source, "for tests")

    def start(self):
        ground = self.playground
        executor = ThreadPoolExecutor(1)
        world = World(self.settings, (POLICY,), ground.sink, ground.state, ground.clock, executor)
        daemon = Daemon(world, threading.Event(), Metrics(), self.choose)
        thread = threading.Thread(target=daemon.run)
        thread.start()
        self.running.append((daemon, thread, executor))
        return self.running[-1]

    def stop(self, daemon, thread, executor):
        daemon.stop.set()
        thread.join()
        executor.shutdown()


@pytest.fixture
def site(playground):
    site = Site(playground)
    try:
        yield site
    finally:
        for running in site.running:
            site.stop(*running)


def is_settled(daemon):
    """Whether everything was compared since its source was opened."""
    readers = daemon.engine.readers
    return daemon.cycles and not any(reader.why_down for reader in readers) and not daemon.engine.wants_tree()


def all_acknowledged(site):
    return all(not log.records for log in site.lustre.logs.values())


def test_what_jobs_do_on_any_mdt_is_listed_and_the_logs_are_cleared(site):
    running = site.start()
    lustre, top, listed = site.lustre, site.top, site.playground.listed
    wait_for(lambda: is_settled(running[0]))
    lustre.mkdir(top + b"far", 1)
    lustre.write(top + b"far/f", b"x")
    lustre.write(top + b"g", b"x")
    wait_for(lambda: listed() == ["far/f", "g"])
    lustre.rename(top + b"far", top + b"near")
    lustre.unlink(top + b"g")
    wait_for(lambda: listed() == ["near/f"])
    lustre.write(top + b"near/f", b"longer")
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["near/f"].size_bytes == 6)
    wait_for(lambda: all_acknowledged(site))
    site.stop(*running)


def test_who_comes_after_a_daemon_goes_on_where_it_was(site):
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    site.lustre.mkdir(site.top + b"far", 1)
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    wait_for(lambda: all_acknowledged(site))
    site.stop(*running)
    site.lustre.write(site.top + b"far/g", b"x")
    site.lustre.unlink(site.top + b"f")
    running = site.start()
    wait_for(lambda: site.playground.listed() == ["far/g"])
    assert running[0].cycles == 0, "nothing had to be compared"
    site.stop(*running)


@pytest.mark.expects_log("has lost events")
def test_when_an_mdt_loses_our_user_everything_is_compared(site):
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    (mdt, other) = site.lustre.mdts()
    log = site.lustre.logs[mdt]
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    wait_for(lambda: all_acknowledged(site))
    log.deregister(site.users[mdt])
    site.lustre.write(site.top + b"unseen", b"x")
    # The administrator registers again, under the name that is configured.
    site.users[mdt] = log.register()
    running[0].engine.readers[0].source._users.update(site.users)
    running[0].engine.readers[0].source._sources[mdt]._beat_s = 0.0
    running[0].engine.readers[0].source._sources[mdt]._is_clear_due = True
    wait_for(lambda: site.playground.listed() == ["f", "unseen"])
    assert running[0].engine.readers[0].losses == 1
    assert other in site.users
    site.stop(*running)


def test_what_no_record_tells_is_found_by_the_next_comparison(site):
    site.settings = replace(site.settings, check_interval_s=0.5)
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    # The MDT crashed before the close of an old file was on its disk; a nodemap without audit records nothing at all.
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    site.lustre.write(site.top + b"f", b"longer", is_close_lost=True)
    (site.playground.container / "unrecorded").write_bytes(b"x")
    wait_for(lambda: site.playground.listed() == ["f", "unrecorded"])
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["f"].size_bytes == 6)
    site.stop(*running)


@pytest.mark.expects_log("has lost events")
def test_when_an_mdt_gives_indices_again_everything_is_compared(site):
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    mdt = site.lustre.mdts()[0]
    log, reader = site.lustre.logs[mdt], running[0].engine.readers[0]
    # Another user keeps the records, as a second consumer of the changelog does.
    log.register()
    for number in range(5):
        site.lustre.write(site.top + b"f%d" % number, b"x")
    wait_for(lambda: len(site.playground.listed()) == 5)
    log.users[site.users[mdt]] = 0
    log.restart(lost=3)
    site.lustre.unlink(site.top + b"f0")
    for number in range(5, 9):
        site.lustre.write(site.top + b"f%d" % number, b"x")
    wait_for(lambda: reader.losses == 1)
    wait_for(lambda: site.playground.listed() == [f"f{number}" for number in range(1, 9)])
    site.stop(*running)


def test_a_release_by_hsm_reads_no_data(site):
    hashed = []
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    site.lustre.write(site.top + b"f", b"x")
    # Listed, and its MD5 is known.
    wait_for(lambda: site.playground.sink.containers[KEY].shown().get("f") is not None)
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["f"].etag == MD5_OF_X)
    wait_for(lambda: all_acknowledged(site))
    running[0].backlog.add = lambda item, *_: hashed.append(item)
    running[0].backlog.add_all = lambda _key, names, *_: hashed.extend(names)
    site.lustre.release(site.top + b"f")
    wait_for(lambda: all_acknowledged(site))
    site.stop(*running)
    assert site.playground.sink.containers[KEY].shown()["f"].etag == MD5_OF_X
    assert hashed == []


def test_every_way_to_lose_something_has_its_tests():
    for tests in LOSSES.values():
        for module, name in tests:
            path = Path(__file__)
            if module != HERE:
                path = path.parents[1] / "unit" / "sync" / "sources" / f"test_{module}.py"
            assert f"\ndef {name}(" in path.read_text(), (module, name)


def test_a_touch_that_is_not_recorded_is_found_by_the_next_comparison(site):
    site.settings = replace(site.settings, check_interval_s=0.5)
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    # Another user, who is late, so that nothing is purged.
    site.lustre.logs[site.lustre.mdts()[0]].register()
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    before = site.lustre.logs[site.lustre.mdts()[0]].last_index
    site.lustre.utime(site.top + b"f", 1_999_999_999 * 10**9)
    assert site.lustre.logs[site.lustre.mdts()[0]].last_index == before
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["f"].modified.startswith("1999999999"))
    site.stop(*running)


@pytest.mark.expects_log("has lost events")
def test_when_records_are_missing_everything_is_compared(site):
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    log, reader = site.lustre.logs[site.lustre.mdts()[0]], running[0].engine.readers[0]
    site.lustre.write(site.top + b"f", b"x")
    wait_for(lambda: site.playground.listed() == ["f"])
    log.last_index += 7
    (site.playground.container / "unrecorded").write_bytes(b"x")
    site.lustre.write(site.top + b"g", b"x")
    wait_for(lambda: site.playground.listed() == ["f", "g"] or "unrecorded" in site.playground.listed())
    wait_for(lambda: site.playground.listed() == ["f", "g", "unrecorded"])
    assert reader.losses == 1
    site.stop(*running)


def test_the_last_close_tells_of_all_that_was_written_before(site):
    running = site.start()
    wait_for(lambda: is_settled(running[0]))
    for name in (b"f", b"other"):
        site.lustre.write(site.top + name, b"x")
    wait_for(lambda: site.playground.listed() == ["f", "other"])
    # Two writers of one user; the first close is not recorded.
    site.lustre.write(site.top + b"f", b"longer", is_close_lost=True)
    site.lustre.write(site.top + b"other", b"x")
    site.lustre.close(site.lustre.key_at(site.top + b"f"), flags=2)
    wait_for(lambda: site.playground.sink.containers[KEY].shown()["f"].size_bytes == 6)
    site.stop(*running)
