# SPDX-License-Identifier: Apache-2.0
"""Several processes write the same objects at the same time, with times in any order: the newest wins."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from swift.common.exceptions import DiskFileDeleted
from tests.objects import Files, at

REPOSITORY = Path(__file__).parents[2]
RIVALS = 3
COUNT = 60


def run_rivals(files: Files, conf: Path, names: tuple[str, ...]) -> list[tuple[str, str, str | None]]:
    """What the rivals did, in no order."""
    command = [sys.executable, "-m", "tests.rivals", str(conf), str(files.root.parent)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    rivals = [
        subprocess.Popen([*command, str(seed), str(COUNT), *names], cwd=REPOSITORY, **pipes) for seed in range(RIVALS)
    ]
    outputs = []
    for rival in rivals:
        rival.stdin.write("\n")
        rival.stdin.flush()
    for rival in rivals:
        output, errors = rival.communicate(timeout=500)
        assert rival.returncode == 0, errors
        outputs += [json.loads(line) for line in output.splitlines()]
    return outputs


@pytest.mark.parametrize(
    "names",
    [("a", "a/b", "a/b/c"), ("d/", "d/e", "d", "d//e"), ("x/1", "x/2", "y/z/1", "y/z/2", "y")],
)
def test_the_newest_of_rivals_wins(files, swift_conf, names):
    done = run_rivals(files, swift_conf, names)
    for name in names:
        _, time, body = max((deed for deed in done if deed[0] == name), key=lambda deed: deed[1])
        if body is None:
            with pytest.raises(DiskFileDeleted) as caught:
                files.head(name)
            assert caught.value.timestamp.internal == time
        else:
            assert files.get(name).decode() == body
            assert files.head(name)["X-Object-Meta-Time"] == time
    assert files.temporary_files() == []
    for name in names:
        files.delete(name, at(10_000))
        assert not files.has(name)
    assert files.tree() == []
