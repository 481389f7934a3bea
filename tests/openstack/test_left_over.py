# SPDX-License-Identifier: Apache-2.0
"""What is asserted of a stand that was stopped, that nothing of it is left, is seen when it is not so."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests import mounts
from tests.cinder.stand import wait_for, write_program
from tests.functional import filesystem
from tests.openstack.stand import find_left_over, list_rules


@contextlib.contextmanager
def sleeping(*words: str, **environment: str) -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)", *words], env=environment)
    try:
        # Until then it is a copy of this process.
        wait_for(lambda: b"time.sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes(), "the program has begun")
        yield
    finally:
        process.kill()
        process.wait()


def test_a_mount_and_its_loop_device_are_left(tmp_path: Path):
    mounts.needs_root()
    with filesystem.in_a_file(tmp_path, "ext4", 0.05):
        assert find_left_over(tmp_path) == [f"mount {tmp_path}/ext4", f"loop device of {tmp_path}/ext4.img"]
    wait_for(lambda: find_left_over(tmp_path) == [], "both are gone")


def test_a_process_is_left_that_names_the_stand_in_its_arguments_or_in_its_environment_only(tmp_path: Path):
    mounts.needs_root()
    with sleeping(f"{tmp_path}/etc/x.conf"):
        (found,) = find_left_over(tmp_path)
        assert found.startswith("process ")
        assert "x.conf" in found
    with sleeping(HOME=f"{tmp_path}/broker"):
        assert len(find_left_over(tmp_path)) == 1
    with sleeping(HOME=f"{tmp_path}-of-another/broker"):
        assert find_left_over(tmp_path) == []


def test_a_rule_is_left_whatever_packets_were_counted_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    rules = tmp_path / "rules"
    write_program(tmp_path / "iptables-save", f"#!/bin/sh\ncat {rules}\n")
    rules.write_text("# of Monday\n:INPUT ACCEPT [1:60]\n")
    before = list_rules()
    rules.write_text("# of Tuesday\n:INPUT ACCEPT [7:420]\n")
    assert list_rules() == before
    rules.write_text(":INPUT ACCEPT [7:420]\n-A INPUT -p tcp --dport 5900 -j DROP\n")
    assert list_rules() != before
