# SPDX-License-Identifier: Apache-2.0
"""Shows a qcow2 chain as a file of raw bytes, for reading and writing.

    service  --pipe-->  lustack-rawview (root)  -->  qemu-storage-daemon (the service's user) with a FUSE export
    /tmp/lustack-raw-XXXX/disk is the file; whoever reads it reads what the guest would.

Rule 1: nothing outlives the service. The pipe closes when the service ends, however it ends; then `lustack-rawview`
    stops the daemon, which flushes, unlocks the image and unmounts. An orphan would keep the lock of the volume. When
    `lustack-rawview` itself is killed, the kernel stops the daemon.
Rule 2: the format is said, never guessed: the image is qcow2 here, and its header names its backing files.
Rule 3: files of volumes are opened as the user who asks, with the right to mount and no other: a file system that
    squashes root lets nobody else. What he may not open is opened as root.
Rule 4: standard library only, since `lustack-rawview` is also a program.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import pwd
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Final

from lustack.brick.errors import RawViewError

DAEMON: Final = "qemu-storage-daemon"
OPEN_LIMIT_S: Final = 60.0
"""How long the daemon may take to show an image."""
CLOSE_LIMIT_S: Final = 600.0
"""How long it may take to flush what was written."""
_WITH_PARENT: Final = ("setpriv", "--pdeathsig", "TERM")
_PAUSE_S: Final = 0.02
_USAGE_CODE: Final = 2


@dataclass
class RawView:
    """An image that is being shown.

    Attributes:
        path: the file of raw bytes.
        image: what it shows.
    """

    path: str
    image: str
    _keeper: subprocess.Popen[bytes]
    _pipe: IO[bytes]
    _messages: IO[bytes]

    def has_ended(self) -> bool:
        """Whether nobody shows it any more."""
        return self._keeper.poll() is not None

    def close(self) -> None:
        """Stop showing it; what was written is in the image afterwards.

        Raises:
            RawViewError: the daemon failed.
        """
        self._pipe.close()
        is_over = _wait_until(self.has_ended, CLOSE_LIMIT_S)
        reason = _read_all(self._messages)
        self._messages.close()
        _remove_place(self.path)
        if not is_over:
            raise RawViewError(self.image, f"{DAEMON} did not stop within {CLOSE_LIMIT_S:g} s")
        if self._keeper.returncode:
            raise RawViewError(self.image, reason or f"exit code {self._keeper.returncode}")


def open_view(image: str, root_helper: str = "") -> RawView:
    """Show a qcow2 image, with what it is backed by, as raw bytes.

    Args:
        image: its path.
        root_helper: how to become root; not used by root.

    Raises:
        RawViewError: it cannot be shown; the reason says what is missing.
    """
    path = os.path.join(tempfile.mkdtemp(prefix="lustack-raw-"), "disk")
    try:
        view = _start([*_find_program(root_helper), image, path], path, image)
    except OSError as error:
        _remove_place(path)
        raise RawViewError(image, f"{error.filename}: {error.strerror}") from error
    _wait_until(lambda: view.has_ended() or _is_shown(path), OPEN_LIMIT_S)
    if view.has_ended() or not _is_shown(path):
        view.close()  # says why it ended
        raise RawViewError(image, f"{DAEMON} did not show it within {OPEN_LIMIT_S:g} s")
    return view


def _start(command: Sequence[str], path: str, image: str) -> RawView:
    """Start what shows an image at a file.

    Raises:
        OSError: it cannot be started.
    """
    with contextlib.ExitStack() as undone:
        with open(path, "xb"):
            pass
        messages = undone.enter_context(tempfile.TemporaryFile())
        reading, writing = os.pipe()
        pipe = undone.enter_context(open(writing, "wb", buffering=0))
        with open(reading, "rb", buffering=0) as far_end:
            keeper = subprocess.Popen(command, stdin=far_end, stdout=subprocess.DEVNULL, stderr=messages)
        undone.pop_all()  # closed with the view
    return RawView(path, image, keeper, pipe, messages)


def measure(image: str, image_format: str) -> int:
    """How many bytes a guest sees.

    Args:
        image: its path.
        image_format: raw or qcow2.

    Raises:
        RawViewError: it is no such image.
    """
    command = ["qemu-img", "info", "--force-share", "--output=json", "-f", image_format, image]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise RawViewError(image, done.stderr.decode(errors="replace").strip())
    return int(json.loads(done.stdout)["virtual-size"])


def main(arguments: Sequence[str] | None = None) -> int:
    """The program `lustack-rawview IMAGE FILE`: shows IMAGE at FILE until standard input ends.

    Returns:
        The exit code: 0 when everything that was written is in the image.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != _USAGE_CODE:
        _say("usage: lustack-rawview IMAGE FILE  (shows the qcow2 IMAGE as raw bytes until its input ends)")
        return _USAGE_CODE
    image, path = words
    if shutil.which(DAEMON) is None:
        _say(f"{DAEMON} is not installed (Debian, Ubuntu: qemu-system-common or qemu-block-extra)")
        return 1
    # A signal for the whole group of the service must not end this before the image is flushed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    daemon = _start_daemon(image, path)
    _wait_until(lambda: daemon.poll() is not None or _has_input_ended(), math.inf)
    if daemon.poll() is None:
        daemon.terminate()
        code = 0 if daemon.wait() in {0, -signal.SIGTERM} else 1
    else:
        code = daemon.returncode or 1
    if _is_mounted(path):
        # It was killed; or it is another user's, who needs fusermount3 to unmount, and that need not be there.
        subprocess.run(["umount", path], check=False)
    _remove_place(path)  # the service may be gone
    return code


def _start_daemon(image: str, path: str) -> subprocess.Popen[bytes]:
    """Start what shows an image at a file, as who owns the file if he may open the image.

    Returns:
        It; it has ended if the image cannot be shown.
    """
    owner = os.stat(path)
    if owner.st_uid == os.geteuid():
        return _run_daemon([], image, path)
    daemon = _run_daemon(render_identity(owner.st_uid, owner.st_gid), image, path)
    if daemon.poll() is None:
        return daemon
    daemon = _run_daemon([], image, path)
    if daemon.poll() is None:
        os.chown(path, owner.st_uid, owner.st_gid)  # root shows it to the service
    return daemon


def _run_daemon(become: list[str], image: str, path: str) -> subprocess.Popen[bytes]:
    """Start it and wait until it shows the image, or has ended."""
    command = [*become, *_WITH_PARENT, *render_command(image, path)]
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    _wait_until(lambda: daemon.poll() is not None or _is_mounted(path), OPEN_LIMIT_S)
    return daemon


def render_identity(uid: int, gid: int) -> list[str]:
    """The beginning of a command that is run as another user with all his groups, who may mount.

    Source: setpriv(1); capabilities(7).
    """
    try:
        groups = os.getgrouplist(pwd.getpwuid(uid).pw_name, gid)
    except KeyError:
        groups = [gid]
    identity = [f"--reuid={uid}", f"--regid={gid}", f"--groups={','.join(map(str, groups))}"]
    return ["setpriv", *identity, "--inh-caps=+sys_admin", "--ambient-caps=+sys_admin"]


def render_command(image: str, path: str) -> list[str]:
    """The command that shows an image at a file. Source: qemu-storage-daemon(1), QEMU 6.0 or newer."""
    file = {"driver": "file", "node-name": "file", "filename": image}
    disk = {"driver": "qcow2", "node-name": "disk", "file": "file"}
    export = {
        "type": "fuse",
        "id": "raw",
        "node-name": "disk",
        "mountpoint": path,
        "writable": True,
        "allow-other": "auto",
    }
    words = [DAEMON]
    for option, value in (("--blockdev", file), ("--blockdev", disk), ("--export", export)):
        words += [option, json.dumps(value)]
    return words


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


def _find_program(root_helper: str) -> list[str]:
    if os.geteuid() == 0:
        return [sys.executable, "-P", "-m", "lustack.brick.rawview"]  # nothing of the working directory
    # By its bare name: that is what the filter for rootwrap matches.
    return [*shlex.split(root_helper), "lustack-rawview"]


def _has_input_ended() -> bool:
    """Wait a moment for standard input to end; whether it did."""
    readable, _, _ = select.select([sys.stdin.fileno()], [], [], _PAUSE_S * 10)
    return bool(readable) and not os.read(sys.stdin.fileno(), 1)


def _is_mounted(path: str) -> bool:
    with open("/proc/self/mounts") as lines:
        return any(line.split(" ", 2)[1] == path for line in lines)


def _is_shown(path: str) -> bool:
    """Whether a view is there and this process may use it."""
    return _is_mounted(path) and os.stat(path).st_uid == os.geteuid()


def _wait_until(is_done: Callable[[], bool], limit_s: float) -> bool:
    """Whether something came true within the limit, seconds."""
    end_s = time.monotonic() + limit_s
    while not is_done():
        if time.monotonic() > end_s:
            return False
        time.sleep(_PAUSE_S)
    return True


def _read_all(stream: IO[bytes]) -> str:
    stream.seek(0)
    return stream.read().decode(errors="replace").strip()


def _remove_place(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)
        os.rmdir(os.path.dirname(path))


if __name__ == "__main__":
    sys.exit(main())
