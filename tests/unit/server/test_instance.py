# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses
import threading
import time

import pytest

from lustack.server import instance, pipeline, topology
from lustack.server.errors import NotReadyError, StartError, StoppedError
from lustack.server.fake import FakeLauncher
from lustack.server.supervise import Launcher, Supervisor
from lustack.server.topology import Assigned, Host, Policy, Ports

STOCK = Policy(disk_file="egg:swift#replication.fs")


class World:
    """An instance whose processes are fakes, and whose servers answer when told."""

    def __init__(self, tmp_path, missing):
        self.launch = FakeLauncher()
        self.said = []
        self.missing = missing
        self.served = instance.Instance(
            Host("/data", "/data.state"),
            Assigned(Ports(1, 2, 3, 4, 5, 6), "x", "y"),
            Supervisor(self.launch),
            Launcher("/swift.conf", str(tmp_path)),
            self.said.append,
            lambda programs, access: next(self.missing),
        )


def test_the_daemons_are_started_when_the_servers_answer(tmp_path):
    world = World(tmp_path, iter(["the login", "the account", None]))
    world.served.start(threading.Event())
    assert list(world.launch.started) == [
        program.name for program in topology.programs(world.served.host, world.served.assigned, "python3")
    ]
    assert world.said == ["starting proxy-server, object-server, container-server, account-server"]
    assert world.served.access.s3_endpoint == "http://127.0.0.1:1"


def test_a_server_that_ends_is_shown_with_the_end_of_its_log(tmp_path):
    (tmp_path / "object-server.log").write_text("\n".join(map(str, range(30))) + "\nboom\n")
    world = World(tmp_path, iter(["x", "x"]))
    world.served.supervisor.start([topology.Program("object-server", ())])
    world.launch.started["object-server"][0].code = 7
    with pytest.raises(StartError, match="object-server ended with 7") as caught:
        world.served._wait([], threading.Event(), 10)
    assert caught.value.tail.splitlines()[0] == "11"
    assert caught.value.tail.splitlines()[-1] == "boom"


def test_who_takes_too_long_is_told_what_is_missing(tmp_path):
    world = World(tmp_path, iter(["the login", "the login"]))
    with pytest.raises(NotReadyError, match="the login"):
        world.served.start(threading.Event(), limit_s=0)


def test_a_start_can_be_given_up(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        World(tmp_path, iter(["the login"])).served.start(stop)


class EventAfter(threading.Event):
    """Is set after so many looks."""

    def __init__(self, looks):
        super().__init__()
        self.looks = looks

    def wait(self, timeout=None):
        self.looks -= 1
        return self.looks < 0


def test_what_ends_later_is_reported_and_started_again(tmp_path):
    world = World(tmp_path, iter([None]))
    world.served.start(threading.Event())
    world.launch.started["sync"][0].code = -9
    world.served.keep(EventAfter(2))
    assert world.said[1:] == [f"sync ended (-9); starting it again in 0.5 s (log: {tmp_path}/sync.log)"]


def test_a_real_swift_serves_and_leaves_nothing_running(tmp_path):
    names = tuple(name for name in pipeline.DEFAULT if name != "namespace")
    host = Host(str(tmp_path / "data"), str(tmp_path / "state"), port=0, policies=(STOCK,), pipeline=names, sync=False)
    said = []
    with instance.running(host, said.append) as served:
        pids = served.supervisor.pids()
        assert set(pids) >= {"proxy-server", "object-expirer"}
        assert served.supervisor.tick() == []
    assert len(said) == 1
    for pid in pids.values():
        with pytest.raises(FileNotFoundError):
            open(f"/proc/{pid}/stat").close()


def test_a_real_server_that_cannot_start_says_why(tmp_path):
    broken = dataclasses.replace(STOCK, disk_file="egg:swift#nonsense")
    host = Host(str(tmp_path / "data"), str(tmp_path / "state"), port=0, policies=(broken,), sync=False)
    started_s = time.monotonic()
    with pytest.raises(StartError, match="nonsense"), instance.running(host, stop=threading.Event()):
        pass
    assert time.monotonic() - started_s < instance.LIMIT_S
