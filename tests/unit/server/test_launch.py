# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from lustack.server import launch

SWIFT_CONF = """\
[swift-hash]
swift_hash_path_prefix = from-here
[storage-policy:0]
name = policy-from-here
[swift-constraints]
max_file_size = 4711
"""

# What a script of Swift sees. Its help ends it before it does anything.
READ_SETTINGS = """
import sys
from lustack.server import launch
try:
    launch.run_swift(sys.argv[1], ["swift-get-nodes", "--help"])
except SystemExit as end:
    assert not end.code, end
from swift.common import constraints, storage_policy, utils
utils.validate_hash_conf()
print([p.name for p in storage_policy.POLICIES], utils.HASH_PATH_PREFIX, constraints.MAX_FILE_SIZE, sys.argv[0])
try:
    launch.run_swift(sys.argv[1], ["swift-get-nodes", "--help"])
except RuntimeError as error:
    print(error)
"""

# A child asks which signal it gets when its parent ends: PR_GET_PDEATHSIG is 2 (linux/prctl.h:10).
ASK_CHILD = """
import ctypes, os, sys
from lustack.server import launch
options = ["--parent", str(os.getppid()), "--swift-conf", "/x", "prog", "-a"]
launch.main(options, become=lambda *what: print(what, flush=True))  # or the child writes the buffer a second time
pid = os.fork()
if not pid:
    answer = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(answer))
    sys.exit(answer.value)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run(*arguments):
    done = subprocess.run([sys.executable, "-P", *arguments], capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def swift_conf(tmp_path):
    (tmp_path / "swift.conf").write_text(SWIFT_CONF)
    return str(tmp_path / "swift.conf")


def test_swift_reads_the_policies_the_salt_and_the_limits_from_the_file_that_was_named(swift_conf):
    code, out, err = run("-c", READ_SETTINGS, swift_conf)
    assert (code, out.splitlines()[-2:]) == (
        0,
        [
            "['policy-from-here'] b'from-here' 4711 swift-get-nodes",
            "swift.common.storage_policy was imported before swift.conf was chosen",
        ],
    ), err


def test_a_program_of_swift_runs_in_the_process(swift_conf):
    options = ("--parent", str(os.getpid()), "--swift-conf", swift_conf)
    code, out, err = run("-m", "lustack.server.launch", *options, "swift-get-nodes", "--help")
    assert (code, "ring" in out) == (0, True), err


def test_whatever_it_becomes_it_and_its_children_die_with_their_parents():
    code, out, err = run("-c", ASK_CHILD)
    assert (code, out) == (0, "('prog', ['prog', '-a'])\n9\n"), err


def test_who_has_lost_the_parent_already_ends():
    kills = []
    launch.die_with(os.getppid() + 1, lambda *call: 0, lambda *kill: kills.append(kill))
    assert kills == [(os.getpid(), signal.SIGKILL)]


def test_a_kernel_that_refuses_is_not_ignored():
    with pytest.raises(OSError, match="PR_SET_PDEATHSIG"):
        launch.die_with(os.getppid(), lambda *call: -1)


def test_a_program_that_swift_does_not_have_is_named():
    with pytest.raises(LookupError, match="swift-nonsense"):
        launch.find_script("swift-nonsense")


def test_an_orphan_of_the_command_line_ends_at_once():
    options = ("--parent", "1", "--swift-conf", "/x")
    assert run("-m", "lustack.server.launch", *options, "sleep", "60")[0] == -signal.SIGKILL
