# SPDX-License-Identifier: Apache-2.0
"""The patch series in upstream/: written from what lies there, applied to the released sources, tested.

Usage: upstream.py render
       upstream.py check [--cache DIRECTORY] [PROJECT ...]

    upstream/series.toml                      the releases, and what is run
    upstream/PROJECT/N-NAME/message.txt       what the commit says
                            tree/             new files, as they are in the project
                            edits.diff        changes of files that the project has
    upstream/PROJECT/NNNN-SUBJECT.patch       made of these by `render`, in the form of `git format-patch`

`check` needs the projects and their test tools in the environment that it runs in (tox -e upstream), git, and pip's
way to a package index. It exits 1 at the first thing that fails.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SERIES = ROOT / "upstream"
AUTHOR = "lustack maintainers <maintainers@users.noreply.r-seed-0b86f8da.example>"
DATE = "Wed, 25 Nov 2026 12:00:00 +0000"
_NO_COMMIT = "0" * 40
_MAX_SUBJECT = 52


@dataclass(frozen=True)
class Project:
    """A project that the series changes.

    Attributes:
        name: of its distribution.
        release: which the patches are for.
        after: projects whose patches it needs.
        flake8: arguments that its checker needs here.
        commands: arguments of Python: checkers and tests; what they change in the sources is an error.
    """

    name: str
    release: str
    after: Sequence[str]
    flake8: Sequence[str]
    commands: Sequence[Sequence[str]]


class StepError(Exception):
    """A step of the check failed."""


def read_projects(series: Path = SERIES) -> list[Project]:
    """The projects, in an order in which their needs come first."""
    found = tomllib.loads((series / "series.toml").read_text(encoding="utf-8"))
    return [Project(name, **each) for name, each in found.items()]


# Writing the patches.


def render_series(directory: Path) -> dict[str, str]:
    """The patches of a project by file name, from the directories `N-NAME` in its directory."""
    parts = sorted(path for path in directory.iterdir() if path.is_dir())
    found = {}
    for number, part in enumerate(parts, start=1):
        message = (part / "message.txt").read_text(encoding="utf-8").strip()
        subject, _, body = message.partition("\n\n")
        name = re.sub(r"[^A-Za-z0-9]+", "-", subject).strip("-")[:_MAX_SUBJECT].strip("-")
        head = f"From {_NO_COMMIT} Mon Sep 17 00:00:00 2001\nFrom: {AUTHOR}\nDate: {DATE}\n"
        head += f"Subject: [PATCH {number}/{len(parts)}] {subject}\n\n{body}\n---\n"
        found[f"{number:04}-{name}.patch"] = head + "".join(render_diffs(part)) + f"-- \n{directory.name}\n"
    return found


def render_diffs(part: Path) -> Iterator[str]:
    """The changes of one patch: of files that exist, then new ones in the order of their names."""
    edits = part / "edits.diff"
    if edits.exists():
        yield edits.read_text(encoding="utf-8")
    tree = part / "tree"
    for path in sorted(tree.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield render_new_file(str(path.relative_to(tree)), path.read_bytes())


def render_new_file(name: str, content: bytes) -> str:
    """A new file as git shows it."""
    blob = hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()
    lines = content.decode().splitlines(keepends=True)
    head = (
        f"diff --git a/{name} b/{name}\nnew file mode 100644\nindex 0000000..{blob[:7]}\n--- /dev/null\n+++ b/{name}\n"
    )
    return f"{head}@@ -0,0 +1,{len(lines)} @@\n" + "".join(f"+{line}" for line in lines)


def write_series(series: Path = SERIES) -> list[Path]:
    """Write all patches anew; returns where they are."""
    written = []
    for project in read_projects(series):
        directory = series / project.name
        for old in directory.glob("*.patch"):
            old.unlink()
        for name, text in render_series(directory).items():
            (directory / name).write_text(text, encoding="utf-8")
            written.append(directory / name)
    return written


# Checking them.


def run(command: Sequence[str], cwd: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command and show what it says.

    Raises:
        StepError: it failed.
    """
    print("$", " ".join(command), flush=True)
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **(environment or {})}, check=False)
    if done.returncode:
        raise StepError(f"exit code {done.returncode}: {' '.join(command)}")


def fetch(project: Project, cache: Path) -> Path:
    """The released sources of a project, fetched on first use.

    Raises:
        StepError: pip cannot get them.
    """
    directory = cache / f"{project.name}-{project.release}"
    archives = list(directory.glob("*.tar.gz"))
    if not archives:
        directory.mkdir(parents=True, exist_ok=True)
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:"]
        run([*pip, "--dest", ".", f"{project.name}=={project.release}"], directory)
        archives = list(directory.glob("*.tar.gz"))
    return archives[0]


def unpack(archive: Path, directory: Path) -> None:
    """Make a git repository of a release in a fresh directory.

    Raises:
        StepError: git failed.
    """
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            _, _, member.name = member.name.partition("/")
            if member.name:
                tar.extract(member, directory, filter="data")
    git = ["git", "-c", "user.name=release", "-c", "user.email=release@localhost"]
    run([*git, "init", "--quiet"], directory)
    run([*git, "add", "--all", "--force"], directory)
    run([*git, "commit", "--quiet", "--message", archive.name], directory)


def find_changed(directory: Path) -> list[str]:
    """The Python files that the patches changed or made."""
    patches = len(list((SERIES / directory.name).glob("*.patch")))
    command = ["git", "diff", "--name-only", "--diff-filter=AM", f"HEAD~{patches}", "--", "*.py"]
    done = subprocess.run(command, cwd=directory, check=True, capture_output=True, text=True)
    return done.stdout.split()


def check(project: Project, cache: Path) -> None:
    """Apply the patches of a project to its release, and run its checkers and tests.

    Raises:
        StepError: something failed.
    """
    tree = cache / "trees" / project.name
    unpack(fetch(project, cache), tree)
    git = ["git", "-c", "user.name=lustack", "-c", "user.email=lustack@localhost"]
    run([*git, "am", "--quiet", *map(str, sorted((SERIES / project.name).glob("*.patch")))], tree)
    run([sys.executable, "-m", "flake8", *project.flake8, *find_changed(tree)], tree)
    # The sources come before what is installed, and so do the patched ones of what this project uses.
    paths = [str(tree), *(str(cache / "trees" / name) for name in project.after)]
    environment = {
        "PYTHONPATH": os.pathsep.join(paths),
        "OS_NOVA_DISABLE_EVENTLET_PATCHING": "True",
        "PYTHONWARNINGS": "ignore",
    }
    for command in project.commands:
        run([sys.executable, *(word.replace("{series}", str(SERIES)) for word in command)], tree, environment)
        run(["git", "diff", "--exit-code"], tree)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit code."""
    parser = argparse.ArgumentParser(description="The patch series in upstream/.")
    parser.add_argument("what", choices=["render", "check"])
    parser.add_argument("--cache", type=Path, default=ROOT / ".tox" / "upstream-sources")
    parser.add_argument("projects", nargs="*", metavar="PROJECT")
    # The projects may come after the options.
    options = parser.parse_intermixed_args(arguments)
    if options.what == "render":
        for path in write_series():
            print(path.relative_to(ROOT))
        return 0
    for project in read_projects():
        if not options.projects or project.name in options.projects:
            start_s = time.monotonic()
            try:
                check(project, options.cache.absolute())
            except StepError as error:
                print(f"{project.name}: FAILED after {time.monotonic() - start_s:.0f} s: {error}")
                return 1
            print(f"{project.name} {project.release}: passed in {time.monotonic() - start_s:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
