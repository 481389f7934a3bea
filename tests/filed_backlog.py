# SPDX-License-Identifier: Apache-2.0
"""A daemon that is far behind on one MDT: what it takes, and how late others are seen meanwhile.

How late is asked of the rows: their timestamps say when the daemon looked. A busy machine may look away for longer.
"""

from __future__ import annotations

import itertools
import json
import os
import sqlite3
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.filed_lustre import read_clears
from tests.filed_site import ACCOUNT, FiledSite, wait_for

from lustack.sync.budget import FLIGHT_BYTES

RECORDS_OF_A_FILE = 10
FILES_OF_A_FOLDER = 1000
BIG = ("big0", "big1", "big2")
LOOK_S = 0.2
MIB = 2**20


@dataclass
class Catching:
    """What is seen of a daemon that catches up.

    Attributes:
        site: where it works.
        pid: of it.
        goal: index up to which it is behind.
        started_s: when it was started.
        peak_bytes: of its memory.
        clears: when the log of the first MDT was seen to be cleared further, and up to where.
        made_s: when new files elsewhere were made, by name.
        seen_s: how late each was seen.
    """

    site: FiledSite
    pid: int
    goal: int
    started_s: float = field(default_factory=time.monotonic)
    peak_bytes: int = 0
    clears: list[tuple[float, int]] = field(default_factory=list)
    made_s: dict[str, float] = field(default_factory=dict)
    seen_s: dict[str, float] = field(default_factory=dict)

    def make(self):
        """Somebody makes a file in another container, whose records come last in the same log."""
        name = f"new{len(self.made_s):04}"
        self.site.add("small", name)
        self.made_s[name] = time.monotonic()

    def look(self):
        """Whether the log has been cleared."""
        now_s = time.monotonic()
        self.peak_bytes = peak_bytes(self.pid)
        index = self.site.filed.cleared(self.site.mdts[0])
        if not self.clears or index > self.clears[-1][1]:
            self.clears.append((now_s, index))
        for name in self.made_s.keys() & self.site.rows("small").keys():
            self.seen_s.setdefault(name, now_s - self.made_s[name])
        return index >= self.goal and len(self.seen_s) == len(self.made_s)

    def run(self):
        """Looks until the log has been cleared; whenever a new file was seen, somebody makes another."""
        self.make()
        while not self.look():
            time.sleep(LOOK_S)
            if len(self.seen_s) == len(self.made_s):
                self.make()

    def longest_stall_s(self):
        """For how long nothing was cleared."""
        times_s = [self.started_s, *(at_s for at_s, _ in self.clears)]
        return max(later - earlier for earlier, later in itertools.pairwise(times_s))


def peak_bytes(pid):
    """The most memory that a process ever had."""
    return 1024 * int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0])


def looked(site, container):
    """When the daemon looked at the files of a container, as text that sorts by time."""
    connection = sqlite3.connect(f"file:{site.database(container)}?mode=ro", uri=True)
    try:
        return [time for (time,) in connection.execute("SELECT timestamp FROM object")]
    finally:
        connection.close()


def make_backlog(site, files):
    """Jobs make files and write to them again and again while no daemon runs."""
    for number in range(files):
        container = BIG[number % len(BIG)]
        folder = f"{ACCOUNT}/{container}/run{number // len(BIG) // FILES_OF_A_FOLDER:04}".encode()
        if not os.path.isdir(site.real(folder)):
            site.mkdir(folder)
        key = site.lustre.create(folder + b"/result-%07d" % number)
        for _ in range(RECORDS_OF_A_FILE - 1):
            site.lustre.close(key, 2)
        if number % 5000 == 0:
            site.publisher.publish()
    site.publisher.publish()


class BacklogContract:
    """A subclass gives the fixture `site`; everything is on its first MDT."""

    files = 20_000
    # It is cleared about once a second, and a quick machine is soon through.
    least_clears = 1
    memory_bytes = MIB
    limit_s = 600.0

    def test_a_daemon_far_behind_keeps_to_its_memory_clears_the_log_and_lets_others_pass(self, site):
        for container in (*BIG, "small"):
            site.make(container, 0)
        site.make("elsewhere", 1)
        with site.daemon("one") as process:
            wait_for(lambda: site.is_running("one", process.pid))
            site.add_and_wait("small", "first")
            wait_for(lambda: site.is_settled("one"))
            idle_bytes = peak_bytes(process.pid)
        before = site.filed.cleared(site.mdts[0])
        make_backlog(site, self.files)
        site.add("elsewhere", "at-once")
        with site.daemon("one") as process:
            catching = Catching(site, process.pid, site.publisher.last[site.mdts[0]])
            catching.run()
            cleared_s = time.monotonic() - catching.started_s
            wait_for(lambda: sum(len(site.rows(container)) for container in BIG) == self.files, self.limit_s)
            listed_s = time.monotonic() - catching.started_s
            catching.look()
            assert [site.differences(container) for container in BIG] == [[]] * len(BIG)
            found = site.look("one")
        [at] = looked(site, "elsewhere")
        later = sum(each > at for container in BIG for each in looked(site, container))
        grown_bytes, new_s = catching.peak_bytes - idle_bytes, list(catching.seen_s.values())
        clears = [each for each in read_clears(site.files, site.mdts[0]) if each > before]
        figures = {
            "records": self.files * RECORDS_OF_A_FILE,
            "load": os.getloadavg()[0],
            "log cleared after s": round(cleared_s, 1),
            "all listed after s": round(listed_s, 1),
            "memory idle, grown by MiB": [idle_bytes // MIB, grown_bytes // MIB],
            "new files elsewhere seen after s": [round(new_s[0], 1), round(max(new_s), 1), len(new_s)],
            "part of all that came after a file on another MDT": round(later / self.files, 3),
            "clears, longest pause seen s": [len(clears), round(catching.longest_stall_s(), 1)],
        }
        print(json.dumps(figures))
        assert later > 0.5 * self.files
        assert (found.losses, found.comparisons) == (0, 0)
        assert grown_bytes < self.memory_bytes + FLIGHT_BYTES
        assert len(clears) >= self.least_clears
