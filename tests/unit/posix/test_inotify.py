# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import resource

import pytest

from lustack.posix import inotify
from lustack.posix.inotify import Notice


@pytest.fixture
def instance():
    instance = inotify.start()
    yield instance
    os.close(instance)


def test_what_happens_in_a_directory_is_reported_in_order(folder, tmp_path, instance):
    watch = inotify.watch_directory(instance, folder)
    (tmp_path / "folder" / "a").write_bytes(b"content")
    os.rename(tmp_path / "folder" / "a", tmp_path / "folder" / "a-longer-name")
    (tmp_path / "folder" / "d").mkdir()
    found = inotify.parse(os.read(instance, 4096))
    cookie = found[3].cookie
    assert cookie
    assert found == [
        Notice(watch, inotify.CREATE, 0, b"a"),
        Notice(watch, inotify.MODIFY, 0, b"a"),
        Notice(watch, inotify.CLOSE_WRITE, 0, b"a"),
        Notice(watch, inotify.MOVED_FROM, cookie, b"a"),
        Notice(watch, inotify.MOVED_TO, cookie, b"a-longer-name"),
        Notice(watch, inotify.CREATE | inotify.ISDIR, 0, b"d"),
    ]


def test_a_directory_has_one_watch_whatever_its_name(folder, tmp_path, instance):
    watch = inotify.watch_directory(instance, folder)
    os.rename(tmp_path / "folder", tmp_path / "other")
    fd = os.open(tmp_path / "other", os.O_PATH)
    assert inotify.watch_directory(instance, fd) == watch
    os.close(fd)


def test_a_watch_ends_once(folder, instance):
    watch = inotify.watch_directory(instance, folder)
    assert inotify.forget_directory(instance, watch)
    assert not inotify.forget_directory(instance, watch)
    assert inotify.parse(os.read(instance, 4096)) == [Notice(watch, inotify.IGNORED, 0, b"")]


def test_what_is_no_directory_cannot_be_watched(tmp_path, instance):
    fd = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)
    with pytest.raises(NotADirectoryError):
        inotify.watch_directory(instance, fd)
    os.close(fd)


def test_an_instance_that_the_kernel_refuses_is_an_error():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        inotify.start()
    except OSError as caught:
        error = caught
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert error.filename == "inotify_init1"
