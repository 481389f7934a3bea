# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest
from swift.common import utils
from swift.common.ring import RingBuilder
from tests.objects import swift_conf

from lustack.errors import ConfigurationError
from lustack.sync.sinks import rings
from lustack.sync.sinks.http import Node
from lustack.sync.sinks.rings import Policy

__all__ = ("swift_conf",)

# While eventlet is imported, modules that are imported for the first time by it get its sockets.
LOOK_AT_SOCKETS = """
import http.client, socket, sys
from lustack.sync import service
from lustack.sync.sinks import rings
rings.load(sys.argv[1])
assert "eventlet" in sys.modules
assert http.client.socket is socket
"""


def build(directory, name, *devices):
    builder = RingBuilder(2, len(devices), 1)
    for number, device in enumerate(devices):
        builder.add_dev(
            {"region": 1, "zone": number, "ip": "127.0.0.1", "port": 6000 + number, "device": device, "weight": 1.0}
        )
    builder.rebalance()
    builder.get_ring().save(str(directory / f"{name}.ring.gz"))


@pytest.fixture
def swift_dir(tmp_path, swift_conf):
    directory = tmp_path / "swift"
    directory.mkdir()
    (directory / "swift.conf").write_text(swift_conf.read_text())
    for name in ("account", "container"):
        build(directory, name, "sda", "sdb", "sdc")
    build(directory, "object", "files")
    build(directory, "object-1", "sda")
    return directory


def test_the_rings_say_where_databases_are(swift_dir):
    found = rings.load(str(swift_dir))
    nodes = found.containers("a", "c")
    assert {node.device for node in nodes} == {"sda", "sdb", "sdc"}
    assert len({node.partition for node in nodes}) == 1
    assert isinstance(found.accounts("a")[0], Node)
    assert found.page_rows == 10_000


def test_the_daemon_keeps_sockets_that_block(swift_dir):
    command = [sys.executable, "-P", "-c", LOOK_AT_SOCKETS, str(swift_dir)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_ours_are_the_policies_with_our_disk_files(swift_dir):
    assert rings.load(str(swift_dir)).policies == (Policy(0, "gold", "files"),)


def test_the_default_policy_comes_first(swift_dir):
    (swift_dir / "swift.conf").write_text(
        "[swift-hash]\nswift_hash_path_suffix = x\n"
        "[storage-policy:0]\nname = gold\ndiskfile_module = egg:lustack#posix\n"
        "[storage-policy:1]\nname = silver\ndefault = yes\ndiskfile_module = egg:lustack#posix\n"
    )
    assert [policy.name for policy in rings.load(str(swift_dir)).policies] == ["silver", "gold"]


def test_the_salt_is_that_of_the_directory(swift_dir):
    rings.load(str(swift_dir))
    assert utils.HASH_PATH_SUFFIX == b"tests"
    before = rings.load(str(swift_dir)).containers("a", "c")[0].partition
    (swift_dir / "swift.conf").rename(swift_dir.parent / "swift.conf")
    places = {before}
    for number in range(8):
        other = swift_dir.parent / f"other{number}"
        other.mkdir()
        for ring in swift_dir.iterdir():
            (other / ring.name).write_bytes(ring.read_bytes())
        text = (swift_dir.parent / "swift.conf").read_text().replace("= tests", f"= other{number}")
        (other / "swift.conf").write_text(text)
        places.add(rings.load(str(other)).containers("a", "c")[0].partition)
    assert len(places) > 1


def test_a_directory_without_swift_is_named(tmp_path):
    with pytest.raises(ConfigurationError, match="swift_dir"):
        rings.load(str(tmp_path))


@pytest.mark.parametrize("ring", ["account", "container", "object"])
def test_a_missing_ring_is_named(swift_dir, ring):
    (swift_dir / f"{ring}.ring.gz").unlink()
    with pytest.raises(ConfigurationError, match="working Swift configuration"):
        rings.load(str(swift_dir))


def test_a_missing_salt_is_named(swift_dir):
    (swift_dir / "swift.conf").write_text("[storage-policy:0]\nname = gold\n")
    with pytest.raises(ConfigurationError, match="working Swift configuration"):
        rings.load(str(swift_dir))


def test_a_swift_without_our_policies_is_refused(swift_dir):
    (swift_dir / "swift.conf").write_text("[swift-hash]\nswift_hash_path_suffix = x\n[storage-policy:0]\nname = gold\n")
    with pytest.raises(ConfigurationError, match="diskfile_module"):
        rings.load(str(swift_dir))
