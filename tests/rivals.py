# SPDX-License-Identifier: Apache-2.0
"""One of several processes that write the same objects: python -m tests.rivals SWIFT_CONF DEVICES SEED COUNT NAME ...

It waits for a line on its standard input, writes and deletes objects with random times, and prints what it did as
JSON lines: [name, time, body or null]. The times of two rivals are never the same.
"""

from __future__ import annotations

import contextlib
import json
import random
import sys
from pathlib import Path

from swift.common import storage_policy, utils
from swift.common.utils import Timestamp
from tests.objects import START_S, Files, no_thread_pool

RIVALS = 100
"""More than there are: the last digits of a time say whose it is."""


def act(files: Files, name: str, time: Timestamp, dice: random.Random) -> str | None:
    """Write or delete an object; return what was written."""
    if dice.random() < 0.3:
        files.delete(name, time)
        return None
    body = f"{name} {time.internal} ".ljust(dice.choice((10, 5000)), "x")
    files.put(name, body.encode(), time, X_Object_Meta_Time=time.internal)
    return body


def main(conf: str, devices: str, seed: str, count: str, *names: str) -> None:
    utils.SWIFT_CONF_FILE, utils.HASH_PATH_SUFFIX = conf, b"tests"
    storage_policy.reload_storage_policies()
    dice = random.Random(int(seed))
    with contextlib.closing(Files(Path(devices))) as files, no_thread_pool():
        sys.stdin.readline()
        for _ in range(int(count)):
            name = dice.choice(names)
            time = Timestamp(START_S + dice.randrange(1000) + int(seed) / RIVALS)
            print(json.dumps([name, time.internal, act(files, name, time, dice)]))


if __name__ == "__main__":
    main(*sys.argv[1:])
