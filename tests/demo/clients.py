# SPDX-License-Identifier: Apache-2.0
"""The clients that people have: the `swift` command, boto3, curl and the shell. Each shows what a person would type."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config
from place import Served

LISTED_WITHIN_S = 30
COMMAND_S = 120


class UnexpectedError(AssertionError):
    """Something that did not hold: what was expected and what was found."""


def check(found: Any, expected: Any, what: str) -> None:
    """Compares, and says both sides where they differ."""
    if found != expected:
        message = f"{what}: expected {_short(expected)}, found {_short(found)}"
        raise UnexpectedError(message)


class Clients:
    """Commands against one served directory."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.shown: list[str] = []
        self._environment = served.environment()
        access = served.access
        self.s3 = boto3.client(
            "s3",
            endpoint_url=access["s3_endpoint"],
            aws_access_key_id=access["s3_access_key"],
            aws_secret_access_key=access["s3_secret_key"],
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def say(self, text: str) -> None:
        """A line that a person would type."""
        self.shown.append(text)

    def run(self, *command: str | Path, fails: bool = False) -> str:
        """Runs a command in the scratch directory, shows it, and gives its output."""
        words = [str(word) for word in command]
        self.say(
            shlex.join(
                word.replace(str(self.served.files), "DIR").replace(str(self.served.scratch), "/tmp") for word in words
            )
        )
        done = subprocess.run(
            words,
            cwd=self.served.scratch,
            env=self._environment,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        output = done.stdout.decode(errors="surrogateescape")
        if bool(done.returncode) != fails:
            complaint = done.stderr.decode(errors="replace")[-500:]
            message = f"`{shlex.join(words)}` ended with {done.returncode}: {output[-500:]}{complaint}"
            raise UnexpectedError(message)
        return output + done.stderr.decode(errors="replace") if fails else output

    def quietly(self, *command: str | Path) -> str:
        """`run`, without showing it."""
        output = self.run(*command)
        self.shown.pop()
        return output

    def listing(self, container: str) -> dict[str, dict[str, Any]]:
        """The objects of a container by name, from `swift list`."""
        return {row["name"]: row for row in json.loads(self.quietly("swift", "list", container, "--json"))}

    def wait_listed(self, container: str, root: Path, *other: str) -> float:
        """Waits until `swift list` says what is in a directory.

        Args:
            container: whose listing it is.
            root: the directory.
            other: objects whose length is another than that of their file.

        Returns:
            How many seconds it took.
        """
        began = time.monotonic()
        while True:
            expected = {name: size for name, size in sizes(root).items() if name not in other}
            found = {name: row["bytes"] for name, row in self.listing(container).items() if name not in other}
            passed = time.monotonic() - began
            if found == expected:
                self.say(f"swift list {container}   # {len(found) + len(other)} objects, true after {passed:.1f} s")
                return passed
            if passed > LISTED_WITHIN_S:
                check(found, expected, f"swift list {container} after {LISTED_WITHIN_S} s")
            time.sleep(0.2)

    def check_downloads(self, container: str, root: Path, *names: str) -> None:
        """Objects (all if none is named) come out of `swift download` and boto3 as the bytes that are on disk."""
        target = self.served.scratch / "downloads" / container
        self.quietly("rm", "-rf", target)
        self.run("swift", "--quiet", "download", container, *names, "--output-dir", target)
        self.say(f"boto3: s3.download_file({container!r}, ...)")
        for name in names or sizes(root):
            on_disk = (root / name).read_bytes()
            check((target / name).read_bytes() == on_disk, True, f"bytes of {name!r} by swift download")
            by_s3 = self.served.scratch / "by-s3"
            self.s3.download_file(container, name, str(by_s3))
            check(by_s3.read_bytes() == on_disk, True, f"bytes of {name!r} by boto3")

    def url(self, path: str) -> str:
        """The address of an object for curl."""
        return f"{self.served.access['storage_url']}/{path}"

    def token(self) -> str:
        """A token of the user."""
        lines = self.quietly("swift", "auth").splitlines()
        return next(line.partition("=")[2] for line in lines if "OS_AUTH_TOKEN" in line)


def sizes(root: Path) -> dict[str, int]:
    """The regular files below a directory by their relative names."""
    found = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return {str(path.relative_to(root)): path.stat().st_size for path in found if ".lustack.tmp." not in path.name}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 400 else text[:400] + "..."
