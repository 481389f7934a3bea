# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json

import pytest

from lustack.cli import main
from lustack.doctor import cinder, nova
from lustack.doctor.findings import Finding, Verdict

GOOD = Finding("qemu-img", Verdict.OK, "version 7.2")
BAD = Finding("registration", Verdict.BAD, "unknown to Nova", "set compute_driver")


@pytest.fixture
def findings(monkeypatch):
    found = [GOOD]
    monkeypatch.setattr(nova, "examine", lambda host, python, files: found)
    return found


def test_cinder_is_looked_at_as_the_user_who_runs_it(monkeypatch, capsys):
    asked = []
    monkeypatch.setattr(cinder, "examine", lambda host, *words: asked.append(words) or [GOOD])
    assert main.main(["doctor", "cinder", "--user", "cinder", "--config-file", "a", "--python", "p"]) == 0
    assert asked == [("p", ["a"], "cinder")]


def test_a_host_that_is_ready_ends_with_0(findings, capsys):
    assert main.main(["doctor", "nova"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "ready: 0 bad, 0 warnings, 1 checks"


def test_a_host_that_is_not_ready_ends_with_1(findings, capsys):
    findings.append(BAD)
    assert main.main(["doctor", "nova", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["ready"] is False


def test_a_real_look_at_this_machine_comes_to_an_end(capsys, tmp_path):
    code = main.main(["doctor", "nova", "--json", "--python", str(tmp_path / "no-python")])
    document = json.loads(capsys.readouterr().out)
    assert (code, document["ready"]) == (1, False)
    assert "interpreter" in {finding["check"] for finding in document["findings"]}


def test_the_help_has_examples(capsys):
    with pytest.raises(SystemExit) as ended:
        main.main(["doctor", "--help"])
    assert ended.value.code == 0
    assert "lustack doctor nova --config-file" in capsys.readouterr().out
