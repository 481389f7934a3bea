# SPDX-License-Identifier: Apache-2.0
"""The fixtures of `tests/conftest.py` catch what they are there to catch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULE = """
import logging, os, threading, time, warnings, pytest

def test_log(): logging.getLogger("x").warning("surprise")

@pytest.mark.expects_log("never")
def test_silence(): pass

def test_descriptor(): os.open("/dev/null", os.O_RDONLY)

def test_thread(): threading.Thread(target=time.sleep, args=(3600,), daemon=True, name="idle").start()

def test_warning(): warnings.warn("old")

def test_file(): open("/dev/null")

@pytest.mark.expects_log("^ERROR x: sur")
def test_tidy():
    logging.getLogger("x").error("surprise")
    threading.Thread(target=time.sleep, args=(0.2,)).start()
    with open("/dev/null"):
        pass
"""


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    directory = tmp_path_factory.mktemp("breaches")
    module = directory / "test_it.py"
    module.write_text(MODULE)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", "pyproject.toml", "-rA"]
    finished = subprocess.run(
        [*command, f"--rootdir={directory}", "-p", "no:cacheprovider", "-o", "thread_grace_s=5", str(module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return finished.stdout


@pytest.mark.parametrize(
    ("test", "sentence"),
    [
        ("test_log", "unexpected log: WARNING x: surprise"),
        ("test_silence", "expected but never logged: ['never']"),
        ("test_descriptor", "leaked descriptors: ["),
        ("test_thread", "leaked threads: ['idle']"),
        ("test_warning", "UserWarning: old"),
        ("test_file", "ResourceWarning: unclosed file"),
    ],
)
def test_what_a_test_leaves_behind_fails_it(report, test, sentence):
    assert sentence in report
    assert re.search(rf"^(ERROR|FAILED) \S*::{test}\b", report, re.MULTILINE)


def test_an_expected_log_and_a_thread_that_ends_pass(report):
    assert re.findall(r"^([A-Z]+) \S*::test_tidy$", report, re.MULTILINE) == ["PASSED"]
