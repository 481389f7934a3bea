# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re

import pytest

from lustack.brick.errors import CommandError, NoAnswerError
from lustack.doctor.findings import Verdict
from lustack.doctor.host import Host, is_below, parse_version

MOUNTS = """\
proc /proc proc rw 0 0
mds@tcp:/lustre/volumes {point} lustre rw,{option},nouser_xattr 0 0
mds@tcp:/lustre /mnt/elsewhere lustre rw,noflock 0 0
"""


class Runner:
    """Answers with what it was given; really runs what was not."""

    def __init__(self, answer):
        self.answer = answer

    def run(self, command, *, key, limit_s, as_root=False):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def base(tmp_path):
    (tmp_path / "mnt" / "hash").mkdir(parents=True)
    return tmp_path / "mnt"


def host(base, option="flock", **others):
    lines = base.parent / "mounts"
    lines.write_text(MOUNTS.format(point=base / "hash", option=option))
    return Host(mounts=str(lines), **others)


def verdicts(findings):
    return {finding.check: finding.verdict for finding in findings}


@pytest.mark.parametrize(("kernel", "verdict"), [("nodev\tlustre\n", Verdict.OK), ("\text4\n", Verdict.WARNING)])
def test_the_client_is_looked_for(tmp_path, monkeypatch, kernel, verdict):
    monkeypatch.setenv("PATH", str(tmp_path))
    helper = tmp_path / "mount.lustre"
    helper.write_text("#!/bin/sh\n")
    helper.chmod(0o755)
    (tmp_path / "filesystems").write_text(f"nodev\tproc\n{kernel}\n")
    found = Host(filesystems=str(tmp_path / "filesystems")).look_at_client()
    assert verdicts(found) == {"mount helper": Verdict.OK, "kernel module": verdict}
    assert found[0].found == str(helper)


def test_a_missing_mount_helper_is_bad(tmp_path, monkeypatch):
    monkeypatch.setattr("lustack.doctor.host.shutil.which", lambda *_, **__: None)
    (tmp_path / "filesystems").write_text("")
    helper, _ = Host(filesystems=str(tmp_path / "filesystems")).look_at_client()
    assert (helper.verdict, "lustre-client-utils" in helper.remedy) == (Verdict.BAD, True)


@pytest.mark.parametrize(
    ("answer", "verdict", "found"),
    [
        ("qemu-img version 7.2.19 (Debian)\nCopyright\n", Verdict.OK, "version 7.2.19"),
        ("qemu-img version 6.1.0\n", Verdict.BAD, "qemu-img version 6.1.0"),
        ("what?\n", Verdict.BAD, "what?"),
        (CommandError("qemu-img --version", 127, "not found"), Verdict.BAD, "it cannot be run: .*127"),
        (FileNotFoundError(2, "No such file or directory"), Verdict.BAD, "it cannot be run: .*No such file"),
    ],
)
def test_programs_must_be_there_and_new_enough(answer, verdict, found):
    finding = Host(Runner(answer)).look_at_program("qemu-img", (6, 2, 0), "qemu-utils")
    assert finding.verdict is verdict
    assert re.search(found, finding.found)
    assert bool(finding.remedy) is (verdict is Verdict.BAD)


def test_locks_of_a_mounted_share_are_tried(base):
    (finding,) = host(base).look_at_mounts(str(base))
    assert (finding.check, finding.verdict) == ("locks", Verdict.OK)
    assert finding.found.endswith("hash: locks are exclusive")
    assert list((base / "hash").iterdir()) == []


def test_locks_that_do_not_exclude_are_bad(base):
    (finding,) = host(base, runner=Runner("not exclusive\n")).look_at_mounts(str(base))
    assert (finding.verdict, finding.remedy) == (Verdict.BAD, "mount with -o flock")


@pytest.mark.parametrize("option", ["noflock", "localflock", "ro"])
def test_options_that_make_volumes_impossible_are_bad(base, option):
    options, _ = host(base, option).look_at_mounts(str(base))
    assert (options.check, options.verdict) == ("mount options", Verdict.BAD)


def test_a_share_that_does_not_answer_is_bad_and_holds_nobody(base):
    (finding,) = host(base, runner=Runner(NoAnswerError("python", 10.0))).look_at_mounts(str(base))
    assert (finding.check, finding.verdict) == ("mount", Verdict.BAD)
    assert "no answer within 10 s" in finding.found


def test_a_share_that_cannot_be_used_is_said_by_the_last_words_of_who_tried(base):
    (base / "hash").rmdir()
    (finding,) = host(base).look_at_mounts(str(base))
    assert (finding.check, finding.verdict) == ("mount", Verdict.BAD)
    assert re.fullmatch(r".*hash: FileNotFoundError: .*No such file or directory.*", finding.found)


def test_where_nothing_is_mounted_nothing_is_wrong(tmp_path, base):
    (finding,) = host(base).look_at_mounts(str(tmp_path / "other"))
    assert (finding.check, finding.verdict) == ("mounts", Verdict.OK)


def test_a_sibling_with_the_same_beginning_is_not_below():
    assert is_below("/mnt/a", "/mnt/")
    assert not is_below("/mnt2/a", "/mnt")


def test_versions_have_two_or_three_parts():
    assert [parse_version(text) for text in ("v8.2 x", "10.0.1", "none")] == [(8, 2, 0), (10, 0, 1), (0, 0, 0)]


def test_a_share_where_everybody_may_write_is_bad(base):
    point = base / "hash"
    assert "rights" not in verdicts(host(base).look_at_share("mds@tcp:/lustre/volumes", str(point)))
    point.chmod(0o777)
    found = verdicts(host(base).look_at_share("mds@tcp:/lustre/volumes", str(point)))
    assert found["rights"] == Verdict.BAD
    assert found["locks"] == Verdict.OK
