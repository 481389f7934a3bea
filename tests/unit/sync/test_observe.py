# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os

import pytest
from tests.listings import KEY, START_NS

from lustack.blobs import file_stamp
from lustack.mapping import content_types, layout
from lustack.mapping.metadata import Blobs, DataLayer, Stamp
from lustack.mapping.view import Defaults, describe
from lustack.posix.errors import XattrUnsupportedError
from lustack.posix.xattrs import REFERENCE_PREFIX
from lustack.sync import plan
from lustack.sync.device import open_device
from lustack.sync.exclusion import compile_globs
from lustack.sync.observe import Directory, Observer, Place, list_attributes, want_bare
from lustack.sync.walk import Walk

NOW_NS = START_NS + 10**17


def observe(playground, name, *places):
    with playground.device() as device, playground.directory() as directory:
        found = [Place(directory, place) if isinstance(place, bytes) else Place(directory, *place) for place in places]
        return device.observer.observe(name, found, NOW_NS)


@pytest.mark.parametrize(("name", "body", "at_s"), [("a.txt", b"abc", 5000), ("b", b"", None), ("c.tar.gz", b"x", 0)])
def test_the_quick_look_says_what_the_thorough_one_says(playground, name, body, at_s):
    status = playground.write(name, body, at_s=at_s).stat()
    defaults = Defaults(NOW_NS, content_types.guess(name))
    thorough = plan.want(describe(file_stamp(status), status.st_ctime_ns, Blobs(), defaults))
    assert want_bare(name, status, NOW_NS) == thorough._replace(floor="")
    assert observe(playground, name, name.encode()) == thorough._replace(floor="")


def test_an_object_of_swift_is_what_put_said(playground):
    playground.put("o", b"body", "1500000000.00000")
    wanted = observe(playground, "o", b"o")
    assert (wanted.size_bytes, wanted.content_type, wanted.modified) == (4, "text/plain", "1500000000.00000")
    assert wanted.is_hashed


def test_attributes_of_others_make_no_difference(playground):
    os.setxattr(playground.write("o"), "user.somebody", b"1")
    assert not observe(playground, "o", b"o").is_hashed


@pytest.mark.parametrize("path", [b"gone", b"gone/o", b"file/o", b"link", b"fifo", b"directory", b"x" * 300])
def test_where_no_regular_file_is_is_no_object(playground, path):
    playground.write("file")
    (playground.container / "link").symlink_to("file")
    os.mkfifo(playground.container / "fifo")
    (playground.container / "directory").mkdir()
    assert observe(playground, "o", path) is None


def test_a_directory_with_the_attribute_of_a_file_is_no_object(playground):
    path = playground.container / "directory"
    path.mkdir()
    playground.mark(path, layout.FILE_ATTRIBUTES.data)
    with playground.device() as device, playground.directory() as directory:
        fd = os.open(path, os.O_PATH)
        assert device.observer.view("o", fd, layout.FILE_ATTRIBUTES, NOW_NS) is None
        os.close(fd)
        assert list_attributes(directory.proc + b"directory") == [layout.FILE_ATTRIBUTES.data]


def test_the_first_place_that_holds_counts(playground):
    playground.write("second", b"22")
    playground.write("third", b"333")
    assert observe(playground, "o", b"first", b"second", b"third").size_bytes == 2


def test_a_marker_is_an_object_of_its_directory_alone(playground):
    path = playground.container / "directory"
    path.mkdir()
    assert observe(playground, "o", (b"directory", layout.PLAIN_ATTRIBUTES)) is None
    playground.mark(path, layout.PLAIN_ATTRIBUTES.data)
    wanted = observe(playground, "o", (b"directory", layout.PLAIN_ATTRIBUTES))
    assert (wanted.size_bytes, wanted.content_type) == (0, "application/directory")
    copy = playground.container / "copy"
    copy.mkdir()
    os.setxattr(copy, layout.PLAIN_ATTRIBUTES.data, os.getxattr(path, layout.PLAIN_ATTRIBUTES.data))
    assert observe(playground, "o", (b"copy", layout.PLAIN_ATTRIBUTES)) is None
    os.setxattr(path, layout.PLAIN_ATTRIBUTES.data, b"garbage")
    assert observe(playground, "o", (b"directory", layout.PLAIN_ATTRIBUTES)) is None


def test_a_cut_name_is_looked_at_below_its_directories_and_no_link_is_followed(playground):
    playground.write("inner/o", b"22")
    (playground.container / "link").symlink_to("inner")
    assert observe(playground, "o", b"inner/o").size_bytes == 2
    assert observe(playground, "o", b"link/o") is None


def test_what_refers_to_a_lost_sidecar_is_a_bare_file(playground):
    path = playground.write("o", b"22")
    os.setxattr(path, layout.FILE_ATTRIBUTES.data, REFERENCE_PREFIX + b"0" * 32)
    wanted = observe(playground, "o", b"o")
    assert wanted.size_bytes == 2
    assert not wanted.is_hashed


def test_a_layer_that_is_damaged_leaves_the_other_one_as_it_is(playground):
    path = playground.put("o", b"body", "1500000000.00000")
    os.setxattr(path, layout.FILE_ATTRIBUTES.meta, REFERENCE_PREFIX + b"0" * 32)
    wanted = observe(playground, "o", b"o")
    assert (wanted.content_type, wanted.is_hashed) == ("text/plain", True)


def test_a_file_system_without_attributes_is_no_damage():
    class Nothing:
        def read(self, _fd, name):
            raise XattrUnsupportedError(name)

    assert Observer(Nothing(), True).blobs(-1, layout.FILE_ATTRIBUTES) == (Blobs(), ())


def test_an_error_of_the_file_system_is_no_absence(playground):
    with playground.device() as device:
        closed = Directory(os.open(playground.root, os.O_RDONLY), 0)
        closed.close()
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            device.observer.observe("o", [Place(closed, b"o")], NOW_NS)
        assert caught.value.errno == errno.EBADF


def test_a_file_on_another_mount_is_no_object_here(playground):
    playground.write("o")
    with playground.device() as device, playground.directory() as directory:
        elsewhere = Directory(directory.fd, directory.device + 1)
        assert device.observer.observe("o", [Place(elsewhere, b"o")], NOW_NS) is None


def test_file_systems_without_attributes_have_none(monkeypatch):
    # procfs has none: listxattr(2) answers EOPNOTSUPP or nothing.
    assert list_attributes(b"/proc/self/status") == []
    with pytest.raises(FileNotFoundError):
        list_attributes(b"/proc/self/nothing")

    def refuse(*_, **__):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(os, "listxattr", refuse)
    assert list_attributes(b"/") == []


def test_temporary_files_of_jobs_are_no_objects_but_those_of_swift_are(playground):
    playground.write("job.tmp", b"x")
    hashed = playground.put("hashed.tmp", b"x", "1600000000.00000")
    status = hashed.stat()
    layer = DataLayer(Stamp(status.st_ino, status.st_size, status.st_mtime_ns), {"ETag": "0" * 32})
    playground.set_data(hashed, layer, layout.FILE_ATTRIBUTES.data)
    playground.put("swift.tmp", b"x", "1600000000.00000")
    playground.write("dir.tmp/file", b"x")
    playground.mark(playground.container / "dir.tmp", layout.SLASH_ATTRIBUTES.data)
    with open_device(str(playground.root), compile_globs(("*.tmp",))) as device:
        directory = device.open_container(*KEY)
        with contextlib.closing(directory):
            found = [name for name, places in Walk(directory) if device.observer.observe(name, places, START_NS)]
    assert found == ["dir.tmp/", "dir.tmp/file", "swift.tmp"]
