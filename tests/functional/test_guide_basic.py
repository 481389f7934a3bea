# SPDX-License-Identifier: Apache-2.0
"""The commands of doc/swift-basic.md, run one after the other as root on a machine of their own."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
from pathlib import Path

import pytest
from tests.functional import guide

PAGE = Path(__file__).parents[2] / "doc" / "swift-basic.md"
# Every directory in which the guide writes, and the machine's own /etc, is one of ours inside the namespace.
PRIVATE = ("etc", "srv", "opt", "mnt", "run", "var/cache", "var/log")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# The shell of the guide lives in its own mount, process and network namespaces: whatever it mounts, starts or binds
# is gone with it. `TEST_ONLINE` is the prefix for the few commands that need the package index.
MACHINE = """
set -eu
cp -a /etc/. "$TEST_HOME/etc"
for kept in /opt/*/; do  # what is there already may hold the package index
    [ -d "$kept" ] || continue
    mkdir "$TEST_HOME$kept"
    mount --bind "$kept" "$TEST_HOME$kept"
done
for directory in $TEST_PRIVATE; do mount --rbind "$TEST_HOME/$directory" "/$directory"; done
python3 -c 'import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sh22x", b"lo", 0x49))  # SIOCSIFFLAGS: up, loopback, running'
exec bash "$TEST_HOME/guide.sh"
"""


def look_at(*names: str) -> dict[str, list[str] | None]:
    return {name: sorted(os.listdir(name)) if os.path.isdir(name) else None for name in names}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for directory in (*PRIVATE, "tmp"):
        (tmp_path / directory).mkdir(parents=True)
    tmp_path.joinpath("tmp").chmod(0o1777)
    image = tmp_path / "lustre.img"
    with image.open("wb") as file:
        file.truncate(4 << 30)
    subprocess.run(["mkfs.xfs", "-q", image], check=True)
    return tmp_path


def run_guide(home: Path, script: str, online: int) -> subprocess.CompletedProcess[str]:
    """Run `script` on the machine of its own; `online` is a descriptor of the network namespace with a network."""
    home.joinpath("guide.sh").write_text(script)
    environment = {
        "PATH": SYSTEM_PATH,
        "HOME": os.environ["HOME"],
        "LANG": "C.UTF-8",
        "TMPDIR": str(home / "tmp"),
        "TEST_HOME": str(home),
        "TEST_PRIVATE": " ".join(PRIVATE),
        "TEST_IMAGE": str(home / "lustre.img"),
        "TEST_ONLINE": f"nsenter --net=/dev/fd/{online}",
        "TEST_SWIFT": importlib.metadata.version("swift"),
        **{name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")},
    }
    namespaces = ("--mount", "--propagation=private", "--net", "--pid", "--fork", "--mount-proc", "--kill-child")
    return subprocess.run(
        ["unshare", *namespaces, "bash", "-c", MACHINE],
        check=False,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        pass_fds=(online,),
    )


@pytest.mark.timeout(900)
def test_every_command_of_the_basic_guide_works_and_nothing_of_it_stays_on_the_machine(home: Path) -> None:
    seen = ("/", "/etc", "/etc/swift", "/srv", "/opt", "/mnt", "/run/swift", "/var/cache")
    before = look_at(*seen)
    online = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        done = run_guide(home, guide.render(guide.parse(PAGE.read_text())), online)
    finally:
        os.close(online)
    said = f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    assert done.returncode == 0, said
    assert " passed" in done.stdout, said
    assert " failed" not in done.stdout, said
    assert look_at(*seen) == before
    assert str(home) not in Path("/proc/self/mounts").read_text()


def test_a_replacement_that_fits_no_line_is_an_error() -> None:
    page = '```bash\nmount a b\n```\n<!-- test: replace "mount a" with "true" -->\n'
    with pytest.raises(guide.GuideError, match="no line 'mount a'"):
        guide.parse(page)


def test_a_replacement_concerns_the_block_before_it() -> None:
    page = '```bash\none\ntwo\n```\n<!-- test: replace "two" with "three" -->\n```text\nno\n```\n'
    assert guide.parse(page) == [guide.Block(2, ("one", "three"))]


@pytest.mark.parametrize("page", ["```console\n$ ls\n```\n", "```bash\nls\n"])
def test_a_block_that_would_not_be_run_as_it_stands_is_an_error(page: str) -> None:
    with pytest.raises(guide.GuideError):
        guide.parse(page)
