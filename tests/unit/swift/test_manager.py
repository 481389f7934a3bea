# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import contextlib
import errno
import os
import pickle
import shutil
from collections.abc import Iterator

import pytest
from swift.common import storage_policy
from swift.common.exceptions import DiskFileDeviceUnavailable, DiskFileNotExist
from swift.common.swob import Request
from swift.common.utils import hash_path
from swift.obj.diskfile import DiskFileRouter
from swift.obj.updater import ObjectUpdater
from tests.objects import Server, SwiftLog, at

from lustack.errors import ConfigurationError
from lustack.swift.device import Device
from lustack.swift.manager import PosixDiskFileManager


class FailingDevice(Device):
    """A device whose disk is broken."""

    @contextlib.contextmanager
    def root(self) -> Iterator[int]:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
        yield


class TestChosen:
    def test_swift_finds_it_by_the_entry_point_that_swift_conf_names(self, swift_conf, tmp_path):
        router = DiskFileRouter({"devices": str(tmp_path), "mount_check": "false"}, SwiftLog())
        assert type(router[storage_policy.POLICIES[0]]) is PosixDiskFileManager
        assert type(router[storage_policy.POLICIES[1]]) is not PosixDiskFileManager

    def test_an_unknown_option_of_ours_keeps_the_server_from_starting(self, swift_conf):
        with pytest.raises(ConfigurationError, match="lustre_spool = '/x', but it must be removed"):
            PosixDiskFileManager({"lustre_spool": "/x"}, SwiftLog())

    def test_options_of_swift_and_ours_are_read(self, swift_conf):
        conf = {"disk_chunk_size": "123", "lustre_small_hash_bytes": "7", "mb_per_sync": "2"}
        manager = PosixDiskFileManager(conf, SwiftLog())
        assert manager.settings.small_hash_bytes == 7
        assert (manager.disk_chunk_size, manager.bytes_per_sync) == (123, 2 * 1024 * 1024)


class TestDevices:
    def test_one_that_is_not_there_is_unavailable(self, files):
        shutil.rmtree(files.root)
        with pytest.raises(DiskFileDeviceUnavailable):
            files.get("o")
        for method in ("PUT", "GET", "HEAD", "POST", "DELETE"):
            assert Server(files).call(method, "o", 1, b"x" if method == "PUT" else None).status_int == 507

    def test_one_that_is_not_mounted_is_unavailable(self, files):
        files.manager.mount_check = True
        with pytest.raises(DiskFileDeviceUnavailable):
            files.get("o")

    def test_every_object_of_one_shares_it(self, files):
        assert files.disk_file("o").device is files.disk_file("p").device

    @pytest.mark.expects_log(r"^ERROR swift.tests: /a/c/o: the file system failed: \[Errno 5\]")
    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "POST", "DELETE"])
    def test_a_broken_one_is_500_without_a_traceback(self, files, method):
        files.manager._devices[str(files.root)] = FailingDevice(str(files.root))
        response = Server(files).call(method, "o", 1, b"x" if method == "PUT" else None)
        assert response.status == "500 Internal Error"
        assert response.body == b"The file system failed.\n"


class TestUpdates:
    @pytest.fixture
    def updater(self, files) -> ObjectUpdater:
        return ObjectUpdater({"devices": str(files.root.parent), "mount_check": "false"}, logger=SwiftLog())

    def keep(self, files, name: str, time: float) -> None:
        policy = storage_policy.POLICIES[0]
        update = {"op": "PUT", "account": "a", "container": "c", "obj": name, "headers": {"x-size": "1"}}
        files.manager.pickle_async_update("d", "a", "c", name, update, at(time), policy)

    def test_swifts_own_updater_finds_what_is_kept(self, files, updater):
        self.keep(files, "o", 1)
        [found] = updater._iter_async_pendings(str(files.root))
        assert found["obj_hash"] == hash_path("a", "c", "o")
        assert found["timestamp"] == at(1).internal
        assert found["policy"] == storage_policy.POLICIES[0]
        assert (found["update"]["obj"], found["update"]["op"]) == ("o", "PUT")
        assert files.log.counted == ["async_pendings"]

    def test_of_two_updates_of_one_object_the_newer_is_sent(self, files, updater):
        self.keep(files, "o", 1)
        self.keep(files, "o", 2)
        [found] = updater._iter_async_pendings(str(files.root))
        assert found["timestamp"] == at(2).internal

    def test_they_lie_in_the_spool_and_not_among_the_objects(self, swift_conf, tmp_path):
        conf = {"devices": str(tmp_path), "mount_check": "false", "lustre_spool_dir": str(tmp_path / "spool")}
        manager = PosixDiskFileManager(conf, SwiftLog())
        manager.pickle_async_update("d", "a", "c", "o", {}, at(1), storage_policy.POLICIES[1])
        [found] = (tmp_path / "spool").rglob("*-*.*")
        assert found.relative_to(tmp_path / "spool").parts[:2] == ("d", "async_pending-1")
        assert not (tmp_path / "d").exists()


class TestSwitchedOff:
    """What walks Swift's own tree of hashes has nothing to do here."""

    def test_there_are_no_hashes(self, files):
        policy = storage_policy.POLICIES[0]
        assert files.manager.get_hashes("d", "0", [], policy, skip_rehash=True) == {}
        assert list(files.manager.yield_hashes("d", "0", policy)) == []
        assert list(files.manager.yield_suffixes("d", "0", policy)) == []

    def test_the_auditor_sees_nothing(self, files):
        files.put("o", b"x", 1)
        policy = storage_policy.POLICIES[0]
        assert list(files.manager.object_audit_location_generator(policy, device_dirs=["d"])) == []
        assert files.manager.clear_auditor_status(policy, "ALL") is None
        assert sorted(os.listdir(files.root)) == [".lustack", "a"]

    def test_nothing_is_found_by_its_hash(self, files):
        files.put("o", b"x", 1)
        digest = hash_path("a", "c", "o")
        for find in (files.manager.get_diskfile_from_hash, files.manager.get_diskfile_and_filenames_from_hash):
            with pytest.raises(DiskFileNotExist):
                find("d", "0", digest, storage_policy.POLICIES[0])

    def test_a_replicator_that_asks_gets_no_hashes(self, files):
        request = Request.blank("/d/0/suffixes", method="REPLICATE")
        assert pickle.loads(request.get_response(Server(files).app).body) == {}
