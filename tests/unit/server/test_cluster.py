# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser

import pytest
from tests.unit.server.test_site import SMALL

from lustack.server import cluster
from lustack.server.cluster import Salt
from lustack.server.site import SAMPLE, parse

SALT = Salt("salt", "pepper")
PROXY, OTHER_PROXY, DATABASE = "10.0.0.11", "10.0.0.12", "10.0.0.21"


def render(text: str = SAMPLE) -> dict[str, str]:
    return cluster.files(parse(text, "site.toml"), SALT)


def read(path: str, text: str = SAMPLE) -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.optionxform = str
    parser.read_string(render(text)[path])
    return parser


def test_each_node_has_the_files_of_what_it_does():
    paths = {path for path in render() if path.startswith((PROXY, DATABASE))}
    assert paths == {
        *(
            f"{PROXY}/etc/swift/{name}.conf"
            for name in (
                *("swift", "proxy-server", "object-server", "object-updater"),
                *("object-expirer", "internal-client"),
            )
        ),
        f"{PROXY}/etc/lustack/lustack.conf",
        *(
            f"{DATABASE}/etc/swift/{name}.conf"
            for name in ("swift", "account-server", "container-server", "internal-client")
        ),
    }


def test_every_node_has_the_same_swift_conf():
    texts = {text for path, text in render().items() if path.endswith("/swift.conf")}
    assert len(texts) == 1
    conf = read(f"{PROXY}/etc/swift/swift.conf")
    assert conf["swift-hash"]["swift_hash_path_suffix"] == "pepper"
    assert dict(conf["storage-policy:0"]) == {
        "name": "lustre",
        "policy_type": "replication",
        "diskfile_module": "egg:lustack#posix",
        "default": "yes",
    }


def test_what_asks_for_no_password_listens_where_only_nodes_are():
    asked = {
        f"{PROXY}/etc/swift/proxy-server.conf": "0.0.0.0",
        f"{PROXY}/etc/swift/object-server.conf": "127.0.0.1",
        f"{DATABASE}/etc/swift/account-server.conf": DATABASE,
        f"{DATABASE}/etc/swift/container-server.conf": DATABASE,
    }
    assert {path: read(path)["DEFAULT"]["bind_ip"] for path in asked} == asked


@pytest.mark.parametrize("name", ["proxy-server", "object-expirer", "internal-client"])
def test_everybody_who_asks_for_objects_takes_the_short_path(name):
    conf = read(f"{PROXY}/etc/swift/{name}.conf")
    assert conf["app:proxy-server"]["use"] == "egg:lustack#proxy"
    assert conf["app:proxy-server"]["lustre_object_server_conf"] == "/etc/swift/object-server.conf"
    assert conf["filter:cache"]["memcache_servers"] == "10.0.0.11:11211,10.0.0.12:11211"


def test_keystone_says_who_somebody_is():
    conf = read(f"{PROXY}/etc/swift/proxy-server.conf")
    names = conf["pipeline:main"]["pipeline"].split()
    assert "tempauth" not in names
    place = names.index("authtoken")
    assert names[place : place + 4] == ["authtoken", "s3api", "s3token", "keystoneauth"]
    assert names[-3:] == ["namespace", "proxy-logging", "proxy-server"]
    assert conf["filter:authtoken"]["delay_auth_decision"] == "true"
    assert conf["filter:s3token"]["auth_uri"] == "https://keystone.example.org:5000/v3"
    assert conf["filter:keystoneauth"]["operator_roles"] == "admin, member"


def test_tempauth_knows_its_users():
    text = SMALL.replace('["test:tester:testing"]', '["test:tester:test%ing", "a:b:c:reader:writer"]')
    conf = read("10.0.0.1/etc/swift/proxy-server.conf", text)
    assert conf["filter:tempauth"]["user_test_tester"] == "test%ing .admin"
    assert conf["filter:tempauth"]["user_a_b"] == "c reader writer"


def test_an_override_wins_and_may_add_a_section():
    assert read(f"{PROXY}/etc/swift/proxy-server.conf")["app:proxy-server"]["node_timeout"] == "30"
    text = SMALL + '[override."swift.conf"."storage-policy:1"]\nname = "disks"\n'
    assert read("10.0.0.1/etc/swift/swift.conf", text)["storage-policy:1"]["name"] == "disks"


def test_the_daemon_learns_where_everything_is():
    text = SAMPLE.replace('"/srv/node"', '"/srv/$node"')
    conf = render(text)[f"{PROXY}/etc/lustack/lustack.conf"]
    assert "devices = /srv/$$node\n" in conf
    assert "coordination_url = etcd3+http://10.0.0.21:2379\n" in conf
    assert "coordination_url" not in render(SMALL)["10.0.0.1/etc/lustack/lustack.conf"]


def test_what_would_do_the_same_work_twice_runs_once():
    sample = parse(SAMPLE, "site.toml")
    expirers = [node for node in sample.everybody if "swift-object-expirer" in cluster.services(sample, node)]
    assert expirers == [PROXY]
    assert "lustack sync run" in cluster.services(sample, OTHER_PROXY)
    assert cluster.services(sample, DATABASE)[:3] == (
        "swift-account-server",
        "swift-account-replicator",
        "swift-account-auditor",
    )


def test_objects_of_deleted_accounts_are_removed_where_databases_and_files_are():
    sample, small = parse(SAMPLE, "site.toml"), parse(SMALL, "site.toml")
    assert not any("swift-account-reaper" in cluster.services(sample, node) for node in sample.everybody)
    assert "swift-account-reaper" in cluster.services(small, "10.0.0.1")


def test_every_program_finds_its_section_and_writes_its_figures_where_the_cache_is():
    text = SMALL + '[places]\ncache = "/var/cache/other"\nswift_dir = "/etc/other"\n'
    files = [path for path in render(text) if path.endswith(("server.conf", "updater.conf", "expirer.conf"))]
    found = {name: dict(read(path, text)[name]) for path in files for name in read(path, text).sections()}
    programs = [
        name.removeprefix("swift-")
        for name in cluster.services(parse(text, "site.toml"), "10.0.0.1")
        if name.startswith("swift-") and not name.endswith("-server")
    ]
    assert len(programs) == 9
    assert {name: found[name]["recon_cache_path"] for name in programs} == dict.fromkeys(programs, "/var/cache/other")
    assert found["container-sharder"]["internal_client_conf_path"] == "/etc/other/internal-client.conf"


def test_an_address_of_version_6_stands_in_brackets_in_the_rings():
    text = SMALL.replace("10.0.0.1/d1", "::1/d1")
    assert "add account.builder r1z1-[::1]:6202/d1\n" in render(text)[cluster.RINGS]


def test_each_policy_has_a_ring_of_one_device():
    text = SMALL.replace("[auth]", '[[policies]]\nindex = 1\nname = "b"\ndevice = "second"\n[auth]')
    script = render(text)[cluster.RINGS]
    assert "add object.builder r1z1-127.0.0.1:6200/lustre\n" in script
    assert "add object-1.builder r1z1-127.0.0.1:6200/second\n" in script
