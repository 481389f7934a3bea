# SPDX-License-Identifier: Apache-2.0
"""A reader of changelogs is killed by SIGKILL again and again while jobs work: no operation is lost.

Nothing is cleared before what was read is on disk.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time

from tests import filed_lustre
from tests.contract.test_lustre import FakeGround
from tests.lustre.test_walk import Worker, is_covered, snapshot
from tests.waiting import wait_for

from lustack.mapping.names import RelPath
from lustack.sync.events import NameChanged, TreeMoved
from lustack.sync.sources.changelog import parse_position

KILLS = 5


def start(directory):
    return subprocess.Popen([sys.executable, "-m", "tests.filed_lustre", str(directory)], cwd=os.getcwd())


def kill(process):
    process.kill()
    process.wait()


def indices(directory):
    found = json.loads(filed_lustre.read_position(directory))
    return {mdt: parse_position(each).index for mdt, each in found.items()}


def read_events(directory):
    with open(directory / "events") as file:
        for line in file:
            # A kill may have cut the last line that it wrote; then it was not acknowledged, and follows again.
            if not line.endswith("\n") or not line.startswith("["):
                continue
            is_name, paths = json.loads(line)
            found = [RelPath(bytes.fromhex(path)) for path in paths]
            yield NameChanged(found[0]) if is_name else TreeMoved(found[0], found[-1])


def test_a_reader_that_is_killed_loses_nothing_and_clears_nothing_too_early(tmp_path):
    (tmp_path / "tree").mkdir()
    ground = FakeGround(tmp_path / "tree")
    files = tmp_path / "files"
    publisher = filed_lustre.Publisher(ground.lustre, files)
    chance, worker = random.Random(7), Worker(ground, 7)
    positions = dict.fromkeys(ground.mdts, "0:0:" + bytes(16).hex())
    filed_lustre.replace_file(str(files / "position"), json.dumps(positions))
    process, ever = start(files), set()
    try:
        for _ in range(KILLS):
            before = indices(files)
            for _ in range(25):
                worker.step()
                publisher.publish()
            ever.update(os.fsencode(path) for path in snapshot(str(tmp_path / "tree" / "top")))
            wait_for(lambda before=before: indices(files) != before)
            time.sleep(chance.random() * 0.05)
            kill(process)
            process = start(files)
        wait_for(lambda: indices(files) == publisher.last)
    finally:
        kill(process)
        publisher.close()
    events = list(read_events(files))
    assert len(ever) > 10
    assert [path for path in ever if not is_covered(path, events)] == []
    assert filed_lustre.read_violations(files) == []
