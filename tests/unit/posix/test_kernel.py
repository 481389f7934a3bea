# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from lustack.posix import kernel


@pytest.fixture
def alarm() -> Iterator[None]:
    """SIGALRM interrupts calls; its handler is the test's."""
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_openat2_opens_what_is_there(folder, tmp_path):
    (tmp_path / "folder" / "a").write_bytes(b"content")
    fd = kernel.openat2(folder, b"a", os.O_RDONLY | os.O_CLOEXEC, 0, kernel.RESOLVE_BENEATH)
    assert os.read(fd, 10) == b"content"
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_openat2_fails_with_the_errno_of_the_kernel_and_the_path(folder):
    with pytest.raises(FileNotFoundError) as caught:
        kernel.openat2(folder, b"absent", os.O_RDONLY, 0, kernel.RESOLVE_BENEATH)
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == b"absent"


def test_only_an_entry_that_surely_has_none_is_said_to_have_no_attributes(folder, tmp_path):
    inside = tmp_path / "folder"
    (inside / "plain").touch()
    (inside / "marked").touch()
    os.setxattr(inside / "marked", "user.mark", b"1")
    (inside / "link").symlink_to("marked")
    is_known = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 13)
    assert kernel.may_have_attributes(folder, b"plain") is not is_known
    assert kernel.may_have_attributes(folder, b"marked")
    assert kernel.may_have_attributes(folder, b"link") is not is_known
    assert kernel.may_have_attributes(folder, b"absent")


def test_openat2_goes_on_after_a_signal(folder, tmp_path, alarm):
    fifo = tmp_path / "folder" / "fifo"
    os.mkfifo(fifo)
    ends = []
    # Opening the FIFO for both directions never blocks, and lets the open in the test end.
    signal.signal(signal.SIGALRM, lambda *_: ends.append(os.open(fifo, os.O_RDWR)))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    ends.append(kernel.openat2(folder, b"fifo", os.O_RDONLY, 0, 0))
    assert len(ends) == 2
    for fd in ends:
        os.close(fd)


def test_reserving_space_leaves_the_length(folder):
    fd = os.open(b"a", os.O_CREAT | os.O_RDWR, dir_fd=folder)
    kernel.fallocate_keep_size(fd, 1 << 20)
    status = os.fstat(fd)
    os.close(fd)
    assert status.st_size == 0
    assert status.st_blocks * 512 >= 1 << 20


def test_reserving_space_fails_with_the_errno_of_the_kernel(folder):
    with pytest.raises(OSError, match="Bad file descriptor"):
        kernel.fallocate_keep_size(-1, 1)


def test_a_file_system_has_a_type_that_an_o_path_descriptor_shows(tmp_path):
    fd = os.open("/proc", os.O_PATH)
    # Source: linux/magic.h, PROC_SUPER_MAGIC.
    assert kernel.filesystem_type(fd) == 0x9FA0
    os.close(fd)


def test_a_file_system_has_an_id_of_its_own(tmp_path):
    found = []
    for path in ("/", "/dev/shm", "/dev/shm"):
        fd = os.open(path, os.O_PATH)
        found.append(kernel.filesystem_id(fd))
        os.close(fd)
    assert found[1] == found[2] != found[0]
    assert {len(each) for each in found} == {8}


def test_an_interrupted_call_is_made_again():
    answers = [errno.EINTR, errno.EINTR, 0]

    def call():
        ctypes.set_errno(answers.pop(0))
        return -1 if ctypes.get_errno() else 0

    kernel.call_again_when_interrupted(call)
    assert answers == []


def test_a_failed_call_raises_what_it_left_in_errno():
    def call():
        ctypes.set_errno(errno.EDQUOT)
        return -1

    with pytest.raises(OSError, match="quota") as caught:
        kernel.call_again_when_interrupted(call)
    assert caught.value.errno == errno.EDQUOT


def test_the_disk_can_be_told_to_begin_and_nothing_depends_on_it(tmp_path):
    with (tmp_path / "file").open("w+b") as file:
        file.write(bytes(100_000))
        file.flush()
        kernel.start_writeback(file.fileno(), 0, 100_000)
        file.seek(0)
        assert file.read() == bytes(100_000)
    kernel.start_writeback(-1, 0, 1)


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


COUNT_FAULTS = """
import resource
from lustack.posix import kernel
kernel.keep_heap(8 << 20, 2 << 20)
def use():
    del [b"x" * (65536 + n) for n in range(16)][:]
use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def test_memory_that_is_free_and_needed_again_is_no_page_fault():
    # Without it there are 80 to 256 for each use, as the heap happens to lie.
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    counted = subprocess.run([sys.executable, "-c", COUNT_FAULTS], check=True, capture_output=True, env=environ)
    assert int(counted.stdout) < 20 * 20


def test_free_memory_between_used_memory_goes_back_to_the_kernel():
    pieces = [bytes(100_000) for _ in range(1000)]
    kept = pieces[::100]
    before = resident_bytes()
    pieces.clear()
    kernel.trim_heap()
    assert before - resident_bytes() > 50 * 1024 * 1024
    assert len(kept) == 10
