# SPDX-License-Identifier: Apache-2.0
"""The test suites of the installed OpenStack packages, taken from their sdists (their wheels hold no tests).

Rule 1: the sdist is of exactly the version that is installed; another one would test something else.
Rule 2: only `test/` and `etc/` are unpacked, so that the suite runs against the installed package, not against a copy.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import subprocess
import sys
import tarfile
from pathlib import Path

WANTED = ("test", "etc")


class SdistError(Exception):
    """The sdist of an installed package could not be fetched."""


def _download(requirement: str, directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
    done = subprocess.run(
        [*command, "--dest", str(directory), requirement], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise SdistError(f"pip download {requirement}: {done.stderr}")
    (archive,) = directory.glob("*.tar.gz")
    return archive


def _unpack(archive: Path, directory: Path) -> None:
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            _, _, inside = member.name.partition("/")
            if inside.split("/")[0] in WANTED:
                member.name = inside
                tar.extract(member, directory, filter="data")


def tests_of(package: str, cache: Path) -> Path:
    """Return a directory with the tests of the installed version of `package`, fetched on first use.

    Args:
        package: the name of a distribution which is installed.
        cache: a directory which lives as long as the environment.

    Returns:
        a directory which holds `test/`, as in the sdist.

    Raises:
        SdistError: pip cannot get the sdist of that version.
        importlib.metadata.PackageNotFoundError: `package` is not installed.
    """
    version = importlib.metadata.version(package)
    directory = cache / f"{package}-{version}"
    directory.mkdir(parents=True, exist_ok=True)
    complete = directory / "complete"
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in several processes
        if not complete.exists():
            _unpack(_download(f"{package}=={version}", directory / "archive"), directory)
            complete.touch()
    return directory
