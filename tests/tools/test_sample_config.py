# SPDX-License-Identifier: Apache-2.0
"""What is in contrib/ for administrators: the sample of the configuration, units of systemd."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lustack.sync import opts
from lustack.sync.settings import Settings

ROOT = Path(__file__).parents[2]
UNITS = sorted((ROOT / "contrib" / "systemd").glob("*.service"))


@pytest.fixture(scope="module")
def sample_config():
    spec = importlib.util.spec_from_file_location("sample_config", ROOT / "tools" / "sample_config.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_the_sample_is_what_the_options_say(sample_config):
    assert sample_config.PATH.read_text() == sample_config.render(), "run python tools/sample_config.py"


def test_the_sample_with_nothing_commented_out_is_the_default(sample_config, tmp_path):
    path = tmp_path / "lustack.conf"
    path.write_text(re.sub(r"^#([a-z])", r"\1", sample_config.render(), flags=re.MULTILINE))
    assert opts.read(opts.configure([str(path)])) == Settings()


def test_values_are_written_as_they_are_read(sample_config):
    assert sample_config.render_value({"a": 1, "b": 2}) == "a:1,b:2"
    assert sample_config.render_value(True) == "true"
    assert sample_config.render_value(0.5) == "0.5"


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_understands_the_units(unit, tmp_path):
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd is not installed")
    text = re.sub(r"/usr/local/bin/lustack", sys.executable, unit.read_text())
    assert text != unit.read_text()
    copy = tmp_path / unit.name.replace("@.", "@data-objects.")
    copy.write_text(text)
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True, check=False)
    assert (done.returncode, [line for line in done.stderr.splitlines() if "lustack" in line]) == (0, [])


def test_the_unit_of_the_daemon_hides_no_changelog_from_it():
    # The changelogs of Lustre are devices. A /dev of its own lacks them, and a device that is named is the only one
    # that may be opened then; protecting the clock names one. Source: systemd.exec(5), systemd.resource-control(5).
    [unit] = [unit for unit in UNITS if unit.name == "lustack-sync.service"]
    keys = {line.partition("=")[0] for line in unit.read_text().splitlines()}
    assert keys.isdisjoint({"PrivateDevices", "DevicePolicy", "DeviceAllow", "ProtectClock"})
