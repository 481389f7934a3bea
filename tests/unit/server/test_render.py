# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser
import dataclasses
import json

import pytest

from lustack.errors import ConfigurationError
from lustack.server import render
from lustack.server.topology import Assigned, Host, Policy, Ports, User

PORTS = Ports(proxy=8080, account=1, container=2, object=3, memcached=4, metrics=5)
ASSIGNED = Assigned(PORTS, "salt", "pepper")
HOST = Host("/data", "/data.state")
TWO = (Policy(), Policy(1, "stock", "egg:swift#replication.fs", device="d1", root="/d1", default=False))


def read(host: Host, name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str
    parser.read_string(render.files(host, ASSIGNED)[name])
    return parser


def test_the_same_host_gives_the_same_files():
    assert render.files(HOST, ASSIGNED) == render.files(HOST, ASSIGNED)


def test_without_the_daemon_there_is_no_file_for_it():
    everything = set(render.files(HOST, ASSIGNED))
    assert everything - set(render.files(dataclasses.replace(HOST, sync=False), ASSIGNED)) == {"lustack.conf"}


def test_the_salt_and_the_policies_are_in_swift_conf():
    conf = read(dataclasses.replace(HOST, policies=TWO), "swift.conf")
    assert dict(conf["swift-hash"]) == {"swift_hash_path_prefix": "salt", "swift_hash_path_suffix": "pepper"}
    assert dict(conf["storage-policy:0"]) == {
        "name": "posix",
        "policy_type": "replication",
        "diskfile_module": "egg:lustack#posix",
        "default": "yes",
    }
    assert conf["storage-policy:1"]["default"] == "no"
    assert conf["swift-constraints"]["max_file_size"] == str(5 * 1024**4)


def test_every_server_listens_on_the_loopback_interface_in_one_process():
    for kind, port in (("proxy", "8080"), ("account", "1"), ("container", "2"), ("object", "3")):
        conf = read(HOST, f"{kind}-server.conf")["DEFAULT"]
        assert (conf["bind_ip"], conf["bind_port"], conf["workers"]) == ("127.0.0.1", port, "0")
        assert conf["swift_dir"] == "/data.state/etc"


def test_every_server_has_as_many_processes_as_wanted():
    host = dataclasses.replace(HOST, workers=4, memcached="/usr/bin/memcached")
    for kind in ("proxy", "account", "container", "object"):
        assert read(host, f"{kind}-server.conf")["DEFAULT"]["workers"] == "4"


def test_databases_objects_and_pending_updates_have_a_place_each():
    devices = {
        name: read(HOST, f"{name}.conf")["DEFAULT"]["devices"]
        for name in ("account-server", "container-server", "object-server", "object-updater")
    }
    assert devices == {
        "account-server": "/data.state/db",
        "container-server": "/data.state/db",
        "object-server": "/data.state/node",
        "object-updater": "/data.state/spool",
    }
    app = read(HOST, "object-server.conf")["app:object-server"]
    assert app["lustre_spool_dir"] == "/data.state/spool"
    assert app["replication_concurrency"] == "0"  # or Swift makes a semaphore in /dev/shm


def test_every_filter_of_the_pipeline_has_its_section_once():
    conf = read(HOST, "proxy-server.conf")
    *filters, app = conf["pipeline:main"]["pipeline"].split()
    assert app == "proxy-server"
    assert {f"filter:{name}" for name in filters} == {s for s in conf.sections() if s.startswith("filter:")}


def test_one_slow_answer_does_not_shut_out_the_only_device():
    for name in ("proxy-server.conf", "object-expirer.conf", "internal-client.conf"):
        assert read(HOST, name)["app:proxy-server"]["error_suppression_interval"] == "0"


def test_options_of_the_host_win():
    host = dataclasses.replace(
        HOST,
        filter_options={"s3api": {"s3_acl": "true"}, "tempauth": {"reseller_prefix": "AUTH, SERVICE"}},
        proxy_options={"node_timeout": "7"},
        object_options={"container_update_timeout": "9"},
    )
    conf = read(host, "proxy-server.conf")
    assert dict(conf["filter:s3api"])["s3_acl"] == "true"
    assert conf["filter:tempauth"]["reseller_prefix"] == "AUTH, SERVICE"
    assert conf["filter:tempauth"]["user_test_tester"] == "testing .admin"
    assert conf["app:proxy-server"]["node_timeout"] == "7"
    assert read(host, "object-server.conf")["app:object-server"]["container_update_timeout"] == "9"


def test_a_filter_that_nobody_knows_is_refused_unless_it_is_described():
    host = dataclasses.replace(HOST, pipeline=("mine",))
    with pytest.raises(ConfigurationError, match="mine"):
        render.files(host, ASSIGNED)
    described = dataclasses.replace(host, filter_options={"mine": {"use": "egg:mine#mine"}})
    assert read(described, "proxy-server.conf")["filter:mine"]["use"] == "egg:mine#mine"


def test_the_cache_is_memcached_where_there_is_one():
    without = read(HOST, "proxy-server.conf")["filter:cache"]
    assert without["paste.filter_factory"] == "lustack.server.cache:filter_factory"
    host = dataclasses.replace(HOST, memcached="/usr/bin/memcached")
    assert read(host, "proxy-server.conf")["filter:cache"]["memcache_servers"] == "127.0.0.1:4"


def test_users_whose_names_could_be_read_in_two_ways_are_encoded():
    host = dataclasses.replace(HOST, users=(User("my_team", "jo", "k%1", (".admin", "x")), User("t", "é", "k")))
    section = read(host, "proxy-server.conf")["filter:tempauth"]
    assert section["user64_bXlfdGVhbQ_am8"] == "k%1 .admin x"
    assert section["user64_dA_w6k"] == "k .admin"


def test_a_path_may_hold_what_starts_a_reference():
    host = dataclasses.replace(HOST, state="/50%(x)s $HOME")
    assert read(host, "object-server.conf")["DEFAULT"]["devices"] == "/50%(x)s $HOME/node"
    assert "devices = /50%(x)s $$HOME/node" in render.files(host, ASSIGNED)["lustack.conf"]


@pytest.mark.parametrize("level", ["INFO\nx = y", " INFO", "INFO\0"])
def test_what_no_configuration_file_can_hold_is_refused(level):
    with pytest.raises(ConfigurationError, match="log_level"):
        render.files(dataclasses.replace(HOST, log_level=level), ASSIGNED)


def test_the_daemon_learns_where_everything_is():
    assert dict(read(HOST, "lustack.conf")["sync"]) == {
        "swift_dir": "/data.state/etc",
        "devices": "/data.state/node",
        "state_dir": "/data.state/sync",
        "interval_s": "5",
        "metrics_port": "5",
    }


def test_each_policy_has_a_ring_and_its_device():
    wanted = json.loads(render.rings(dataclasses.replace(HOST, policies=TWO), ASSIGNED))
    assert wanted["ip"] == "127.0.0.1"
    assert wanted["rings"] == {
        "account": {"port": 1, "device": "files"},
        "container": {"port": 2, "device": "files"},
        "object": {"port": 3, "device": "files"},
        "object-1": {"port": 3, "device": "d1"},
    }


def test_the_proxy_and_what_asks_like_it_take_the_short_path_unless_told():
    files = ("proxy-server.conf", "object-expirer.conf", "internal-client.conf")
    for short_path, app in ((True, "egg:lustack#proxy"), (False, "egg:swift#proxy")):
        host = dataclasses.replace(HOST, short_path=short_path, policies=TWO)
        assert [read(host, name)["app:proxy-server"]["use"] for name in files] == [app] * 3


def test_without_a_policy_of_ours_the_proxy_is_swifts():
    host = dataclasses.replace(HOST, policies=(dataclasses.replace(TWO[1], index=0, default=True),))
    assert read(host, "proxy-server.conf")["app:proxy-server"]["use"] == "egg:swift#proxy"
