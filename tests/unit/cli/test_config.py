# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest
from tests.unit.server.test_site import SMALL

from lustack.cli import exits, main


@pytest.fixture
def site(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text(SMALL)
    return path


def run(site, tmp_path, *options):
    return main.main(["config", "render", str(site), str(tmp_path / "out"), *options])


def test_the_sample_can_be_rendered(tmp_path, capsys):
    assert main.main(["config", "sample"]) == exits.DONE
    site = tmp_path / "sample.toml"
    site.write_text(capsys.readouterr().out)
    assert run(site, tmp_path) == exits.DONE
    said = capsys.readouterr().out
    assert f"written  {tmp_path}/out/10.0.0.11/etc/swift/proxy-server.conf\n" in said
    assert "  10.0.0.12: swift-proxy-server, swift-object-server, swift-object-updater, lustack sync run\n" in said
    assert "swift-account-reaper needs a node" in said


def test_rendering_again_changes_nothing_and_says_so(site, tmp_path, capsys):
    assert run(site, tmp_path) == exits.DONE
    capsys.readouterr()
    assert run(site, tmp_path) == exits.DONE
    said = capsys.readouterr().out
    assert f"as it was  {tmp_path}/out/make-rings.sh\n" in said
    assert "written" not in said
    assert "reaper needs" not in said


def test_for_programs_there_is_json(site, tmp_path, capsys):
    assert run(site, tmp_path, "--json") == exits.DONE
    said = json.loads(capsys.readouterr().out)
    assert said["written"]["10.0.0.1/etc/swift/swift.conf"] is True
    assert "swift-account-reaper" in said["services"]["10.0.0.1"]


def test_a_dry_run_shows_what_would_change_and_changes_nothing(site, tmp_path, capsys):
    assert run(site, tmp_path, "--dry-run") == exits.FAILED
    assert not (tmp_path / "out").exists()
    assert run(site, tmp_path) == exits.DONE
    capsys.readouterr()
    assert run(site, tmp_path, "--dry-run") == exits.DONE
    assert capsys.readouterr().out == ""
    site.write_text(SMALL.replace("test:tester:testing", "test:tester:secret"))
    assert run(site, tmp_path, "--dry-run") == exits.FAILED
    said = capsys.readouterr().out
    assert "-user_test_tester = testing .admin\n+user_test_tester = secret .admin\n" in said


def test_a_site_that_cannot_be_read_is_yours_to_fix(tmp_path, capsys):
    assert run(tmp_path / "missing.toml", tmp_path) == exits.YOURS_TO_FIX
    assert "missing.toml" in capsys.readouterr().err
