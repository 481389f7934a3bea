# SPDX-License-Identifier: Apache-2.0
"""`make openstack`: a whole OpenStack to try volumes on Lustre with; ends with Ctrl-C and leaves nothing behind.

python tests/openstack/run.py DIRECTORY
"""

from __future__ import annotations

import os
import shutil
import signal
import stat
import sys
import time
from pathlib import Path

# As a script, only its own directory is known, and that is named as the library that it needs.
sys.path[0] = str(Path(__file__).parents[2])

from tests.openstack import cloud, stand  # noqa: E402 (the line above)

WORDS = """
An OpenStack runs, with volumes on a stand-in for Lustre. In another terminal:

    . {root}/openrc && export PATH={programs}:$PATH
    openstack volume create --type raw --size 1 --image guest disk      # or --type qcow2
    openstack server create --flavor tiny --volume disk --network none --wait server
    openstack console log show server

Logs: {root}/log/*.out, {root}/*.log    Files of volumes: {files}/lfs    It took {seconds:.0f} s to start.
Ctrl-C stops it and removes {root}.
"""


def find_closed(directory: Path) -> Path | None:
    """A directory on the way to `directory` that not every user may pass: guests, who have no rights, would not."""
    for parent in reversed(directory.resolve().parents):
        if parent.exists() and not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def stop_once(number: int, frame: object) -> None:
    """End the program; asked again, go on clearing up."""
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> int:
    root = Path(sys.argv[1]).resolve()
    if os.geteuid() != 0:
        print("root is needed: it mounts file systems and starts guests", file=sys.stderr)
        return 2
    if closed := find_closed(root):
        print(
            f"{closed} is closed to other users, and guests run as one; name another: STAND=/var/tmp/x", file=sys.stderr
        )
        return 2
    started_s = time.monotonic()
    root.mkdir(mode=0o755)  # fails when it is there: everything below is removed in the end
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, stop_once)
    try:
        with stand.running(root) as running:
            cloud.Cloud(running).close()
            seconds = time.monotonic() - started_s
            print(
                WORDS.format(root=root, programs=stand.PROGRAMS, files=running.cinder.files, seconds=seconds),
                flush=True,
            )
            while True:
                time.sleep(5)
                running.check()
    except KeyboardInterrupt:
        print("stopped", flush=True)
        return 0
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    sys.exit(main())
