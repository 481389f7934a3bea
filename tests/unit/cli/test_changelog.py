# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import subprocess
import sys

import pytest
from tests.recorded import LOGS, RECORDINGS, read_raw, read_records

from lustack.cli import main


def decoded(capsys):
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("log", LOGS)
def test_every_record_of_a_recording_is_printed_as_another_program_read_it(log, capsys):
    path = RECORDINGS / f"{log}{'' if log.endswith('/') else '.'}plain.raw"
    assert main.main(["changelog", "decode", str(path)]) == 0
    wanted = read_records(log)["records"]
    found = decoded(capsys)
    assert len(found) == len(wanted)
    for record, other in zip(found, wanted, strict=True):
        assert record["index"] == other["index"]
        assert record["type"] == other["type"][2:]
        assert record["flags"] == int(other["flags"], 16)
        assert record["time_ns"] == other["time_s"] * 10**9 + other["time_ns"]
        assert (record["tfid"], record["pfid"]) == (other["tfid"], other["pfid"])
        name, _, old = bytes.fromhex(other["name_hex"]).partition(b"\0")
        assert (record["name_hex"], record.get("sname_hex", "")) == (name.hex(), old.hex())
        assert (record.get("sfid"), record.get("spfid")) == (other.get("sfid"), other.get("spfid"))
        assert (record["uid"], record["gid"]) == (other["uid"], other["gid"])
        assert record.get("open_mode") == (int(other["openflags"], 16) if "openflags" in other else None)
        assert record.get("xattr") == other.get("xattr")
        assert record["nid"] in ("0@lo", "0@<0:0>")


def test_a_pipe_is_read_too():
    raw = read_raw("hsm/")
    command = [sys.executable, "-m", "lustack.cli.main", "changelog", "decode", "-"]
    done = subprocess.run(command, input=raw, capture_output=True, check=True, timeout=60)
    assert len(done.stdout.splitlines()) == len(read_records("hsm/")["records"])


def test_who_has_seen_enough_may_leave(tmp_path):
    (tmp_path / "long.raw").write_bytes(read_raw("full/lustre-MDT0000") * 30)
    command = [sys.executable, "-m", "lustack.cli.main", "changelog", "decode", str(tmp_path / "long.raw")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_what_is_damaged_is_printed_up_to_there(tmp_path, capsys):
    raw = read_raw("hsm/")
    (tmp_path / "cut.raw").write_bytes(raw[:-1])
    assert main.main(["changelog", "decode", str(tmp_path / "cut.raw")]) == 1
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == len(read_records("hsm/")["records"]) - 1
    assert "it is cut off" in said.err


def test_what_nobody_knows_yet_is_counted(tmp_path, capsys):
    raw = bytearray(read_raw("hsm/"))
    raw[4] = 77
    (tmp_path / "new.raw").write_bytes(raw)
    assert main.main(["changelog", "decode", str(tmp_path / "new.raw")]) == 0
    assert capsys.readouterr().err == "lustack: 1 records with something unknown: TYPE77\n"


def test_what_cannot_be_read_is_yours_to_fix(tmp_path, capsys):
    assert main.main(["changelog", "decode", str(tmp_path / "absent")]) == 2
    assert "No such file" in capsys.readouterr().err
