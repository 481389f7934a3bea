# SPDX-License-Identifier: Apache-2.0
"""What only this implementation has; what both have is in test_tree.py, that they agree in tests/property."""

from __future__ import annotations

import os
import threading

import pytest

from lustack.posix.stepwise import open_by_components


def test_creating_and_opening_survive_somebody_who_removes_the_file_all_the_time(root, top):
    stop = threading.Event()

    def remove():
        while not stop.is_set():
            (top / "a").unlink(missing_ok=True)

    thread = threading.Thread(target=remove)
    thread.start()
    try:
        for _ in range(300):
            os.close(open_by_components(root, b"a", os.O_CREAT | os.O_WRONLY, 0o600))
    finally:
        stop.set()
        thread.join()


def test_a_socket_cannot_be_opened_but_can_be_held(root, top):
    os.mknod(top / "socket", 0o140600)
    with pytest.raises(OSError, match="No such device or address"):
        open_by_components(root, b"socket", os.O_RDONLY)
    os.close(open_by_components(root, b"socket", os.O_PATH))
