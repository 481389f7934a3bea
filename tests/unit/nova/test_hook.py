# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import runpy
import subprocess
import sys
import sysconfig

import pytest

from lustack.nova import hook

ASK = """
import sys
from lustack.nova import hook
for _ in range({times}):
    hook.arm()
waiting = [type(finder).__name__ for finder in sys.meta_path].count("_Waiting")
from nova.virt.libvirt import driver
left = [type(finder).__name__ for finder in sys.meta_path].count("_Waiting")
print(driver.VOLUME_DRIVERS.get("lustre"), waiting, left)
"""


class FindsNothing:
    def find_spec(self, fullname, path, target=None):
        return None


@pytest.fixture
def site(tmp_path, monkeypatch):
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"purelib": str(tmp_path)})
    return tmp_path


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (0, "None 0 0"),
        (1, "lustack.nova.volume.LibvirtLustreVolumeDriver 1 0"),
        (2, "lustack.nova.volume.LibvirtLustreVolumeDriver 1 0"),
    ],
)
def test_an_armed_interpreter_registers_when_novas_driver_is_imported(times, said):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", ASK.format(times=times)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == said


def test_in_this_process_too(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.delitem(sys.modules, hook.WATCHED)
    package = sys.modules[hook.WATCHED.rpartition(".")[0]]
    monkeypatch.setattr(package, "driver", package.driver)
    hook.arm()
    from importlib import import_module

    assert import_module(hook.WATCHED).VOLUME_DRIVERS["lustre"] == "lustack.nova.volume.LibvirtLustreVolumeDriver"


def test_what_is_not_watched_is_left_to_others():
    assert hook._Waiting().find_spec("json", None) is None


def test_an_interpreter_without_nova_notices_nothing(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", [FindsNothing()])
    monkeypatch.delitem(sys.modules, hook.WATCHED)
    hook.arm()
    assert sys.meta_path[0].find_spec(hook.WATCHED, None) is None


def test_it_is_installed_and_removed_as_often_as_one_likes(site, capsys):
    assert hook.main(["status"]) == 1
    for _ in range(2):
        assert hook.main(["install"]) == 0
    assert (site / hook.FILE_NAME).read_text() == hook.LINE
    assert hook.main(["status"]) == 0
    for _ in range(2):
        assert hook.main(["remove"]) == 0
    assert list(site.iterdir()) == []
    said = capsys.readouterr().out.splitlines()
    assert [line.rpartition(": ")[2].partition(";")[0] for line in said] == [
        "not installed",
        "installed",
        "installed",
        "installed",
        "not installed",
        "not installed",
    ]


def test_the_line_is_one_that_python_runs(site):
    hook.main(["install"])
    code = f"import site; site.addsitedir({str(site)!r}); import sys; print(type(sys.meta_path[0]).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "_Waiting"


def test_a_wrong_word_is_answered_with_the_right_ones(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hook", "--help"])
    assert hook.main() == 2
    assert "install|remove|status" in capsys.readouterr().err


def test_a_directory_that_cannot_be_written_is_named(site, capsys, monkeypatch):
    monkeypatch.setattr(hook, "FILE_NAME", "no/such/directory.pth")
    assert hook.main(["install"]) == 1
    assert f"{site}/no/such/directory.pth: No such file or directory" in capsys.readouterr().err


def test_it_is_a_program(site, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["hook", "status"])
    monkeypatch.delitem(sys.modules, "lustack.nova.hook")
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("lustack.nova.hook", run_name="__main__")
    assert ended.value.code == 1
