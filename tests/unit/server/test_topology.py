# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import dataclasses

from lustack.server import topology
from lustack.server.topology import Assigned, Host, Policy, Ports, User

PORTS = Ports(proxy=8080, account=1, container=2, object=3, memcached=4, metrics=5)
ASSIGNED = Assigned(PORTS, "salt", "pepper")
HOST = Host("/data", "/data.state")


def names(host: Host) -> list[str]:
    return [program.name for program in topology.programs(host, ASSIGNED, "python3")]


def test_everything_that_swift_needs_runs_and_the_daemon_too():
    assert names(HOST) == [
        "proxy-server",
        "object-server",
        "container-server",
        "account-server",
        "object-updater",
        "container-updater",
        "object-expirer",
        "sync",
    ]


def test_the_daemon_can_be_left_out():
    assert "sync" not in names(dataclasses.replace(HOST, sync=False))


def test_memcached_runs_first_where_there_is_one_as_the_user_who_runs_the_rest():
    host = dataclasses.replace(HOST, memcached="/usr/bin/memcached", user="jo")
    first = topology.programs(host, ASSIGNED, "python3")[0]
    assert first.name == "memcached"
    assert first.first
    assert first.command[-2:] == ("-u", "jo")
    assert first.command[:5] == ("/usr/bin/memcached", "-l", "127.0.0.1", "-p", "4")


def test_only_servers_are_waited_for_and_only_servers_answer():
    programs = topology.programs(HOST, ASSIGNED, "python3")
    assert [(p.name, p.port) for p in programs if p.first] == [
        ("proxy-server", 8080),
        ("object-server", 3),
        ("container-server", 2),
        ("account-server", 1),
    ]
    assert [p.port for p in programs if not p.first] == [None] * 4


def test_the_container_updater_shares_the_file_of_its_server():
    by_name = {p.name: p for p in topology.programs(HOST, ASSIGNED, "python3")}
    updater = by_name["container-updater"].command
    assert updater == ("swift-container-updater", "/data.state/etc/container-server.conf", "verbose")
    assert by_name["object-updater"].command[1] == "/data.state/etc/object-updater.conf"


def test_access_is_that_of_the_first_user():
    host = dataclasses.replace(HOST, users=(User("a", "u", "k"), User("b", "v", "l")))
    assert topology.access(host, ASSIGNED) == topology.Access(
        auth_url="http://127.0.0.1:8080/auth/v1.0",
        storage_url="http://127.0.0.1:8080/v1/AUTH_a",
        user="a:u",
        key="k",
        s3_endpoint="http://127.0.0.1:8080",
        s3_access_key="a:u",
        s3_secret_key="k",
    )


def test_every_tutorial_finds_its_user():
    assert [(u.login, u.key, u.groups) for u in HOST.users] == [("test:tester", "testing", (".admin",))]


def test_nothing_but_objects_lies_in_the_served_directory():
    places = (HOST.etc, HOST.node, HOST.databases, HOST.spool, HOST.memory, HOST.cache, HOST.logs)
    assert len(set(places)) == len(places)
    assert all(place.startswith("/data.state/") for place in places)


def test_a_policy_has_a_ring_a_root_and_a_spool_of_its_own():
    ours, stock = (
        Policy(),
        Policy(1, "stock", "egg:swift#replication.fs", device="d1", root="/d1", default=False),
    )
    host = dataclasses.replace(HOST, policies=(stock, ours))
    assert (ours.ring, stock.ring) == ("object", "object-1")
    assert (host.root_of(ours), host.root_of(stock)) == ("/data", "/d1")
    assert (ours.has_own_spool, stock.has_own_spool) == (True, False)
    assert host.device == "files"
