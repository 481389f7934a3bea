# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import threading

import pytest
from tests.unit.sync.test_waiting import device, let_pass, nonces
from tests.waiting import wait_for

from lustack.cli import main, wait
from lustack.sync.waiting import NoFenceError

__all__ = ("device",)


def test_it_returns_when_the_daemon_has_listed_everything(device, capsys):
    def daemon():
        wait_for(lambda: nonces(device))
        let_pass(device)

    thread = threading.Thread(target=daemon)
    thread.start()
    assert main.main(["sync", "wait", str(device)]) == 0
    thread.join()


def test_time_that_is_over_is_worth_another_try(device, capsys):
    assert main.main(["sync", "wait", str(device), "--timeout", "0"]) == 3
    assert "not everything was listed within 0 s" in capsys.readouterr().err


def test_a_place_without_a_daemon_is_an_error(tmp_path, capsys):
    conf = tmp_path / "lustack.conf"
    conf.write_text(f"[sync]\ndevices = {tmp_path}/none\n")
    assert main.main(["sync", "wait", str(tmp_path), "--config-file", str(conf)]) == 1
    assert "no daemon looks after this" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "soon", "nan"])
def test_the_time_is_checked(device, capsys, text):
    with pytest.raises(SystemExit):
        main.main(["sync", "wait", str(device), "--timeout", text])
    assert "argument --timeout" in capsys.readouterr().err


def test_where_nothing_is_above_the_configuration_says_which_devices_there_are(device, tmp_path, monkeypatch):
    conf = tmp_path / "lustack.conf"
    conf.write_text(f"[sync]\ndevices = {tmp_path}\n")
    monkeypatch.chdir(tmp_path)
    assert wait.find_devices("", [str(conf)]) == [str(device)]
    monkeypatch.chdir(device)
    assert wait.find_devices("", []) == [os.path.realpath(device)]
    with pytest.raises(NoFenceError):
        wait.find_devices(str(tmp_path), [str(tmp_path / "missing.conf")])
