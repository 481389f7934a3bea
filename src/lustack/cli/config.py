# SPDX-License-Identifier: Apache-2.0
"""`lustack config`: the arguments, and what people are told."""

from __future__ import annotations

import argparse
import difflib
import json

from lustack.cli import arguments, exits
from lustack.errors import ConfigurationError
from lustack.server import cluster, handout
from lustack.server.site import SAMPLE, Site, parse

_RENDER = """\
Writes the configuration of every node of a Swift cluster whose objects are files, from one small description. The files
of a node are below DIRECTORY/NODE, as they belong below / there. Nothing is installed, started or sent. Done again, it
changes only what differs, and never the salt of Swift's hashes."""

_EPILOG = """\
examples:
  lustack config sample > site.toml           then change it
  lustack config render site.toml rendered    then, in rendered: ./make-rings.sh
  rsync -a rendered/10.0.0.11/ root@10.0.0.11:/
  lustack config render site.toml rendered --dry-run
                                              what would change, as a diff; 1 if anything would"""

_NO_REAPER = """\
Nothing removes the objects of deleted accounts: swift-account-reaper needs a node with both databases and files."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to the command line."""
    parser = subparsers.add_parser("config", help="make the configuration of a cluster")
    verbs = parser.add_subparsers(metavar="COMMAND", required=True)
    verb = arguments.add_command(verbs, "render", "write it from a description", description=_RENDER, epilog=_EPILOG)
    verb.add_argument("site", metavar="SITE", help="the description (TOML)")
    verb.add_argument("directory", metavar="DIRECTORY", help="where to write; made if it is not there")
    verb.add_argument("--dry-run", action="store_true", help="write nothing, print the differences")
    verb.add_argument("--json", action="store_true", help="print one line of JSON: files, and what runs on each node")
    verb.set_defaults(run=render)
    verb = verbs.add_parser("sample", help="print a description with every key explained")
    verb.set_defaults(run=sample)


def sample(_wanted: argparse.Namespace) -> int:
    """Print a description.

    Returns:
        The exit code.
    """
    print(SAMPLE, end="")
    return exits.DONE


def render(wanted: argparse.Namespace) -> int:
    """Write the files.

    Returns:
        The exit code.

    Raises:
        ConfigurationError: the description is wrong, or the files cannot be written.
    """
    site = parse(_read(wanted.site), wanted.site)
    salt = handout.choose_salt(site, wanted.directory)
    files = cluster.files(site, salt)
    if wanted.dry_run:
        return _print_differences(wanted.directory, files)
    written = dict(handout.write(wanted.directory, salt, files))
    print(_render_json(site, written) if wanted.json else _render_text(site, wanted.directory, written))
    return exits.DONE


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError("lustack config render", "SITE", path, f"a file of text ({error})") from error


def _print_differences(directory: str, files: dict[str, str]) -> int:
    is_same = True
    for path, text in files.items():
        before = handout.read(directory, path).splitlines(keepends=True)
        lines = list(difflib.unified_diff(before, text.splitlines(keepends=True), f"{directory}/{path}", path))
        print("".join(lines), end="")
        is_same = is_same and not lines
    return exits.DONE if is_same else exits.FAILED


def _render_json(site: Site, written: dict[str, bool]) -> str:
    services = {node: cluster.services(site, node) for node in site.everybody}
    return json.dumps({"written": written, "services": services})


def _render_text(site: Site, directory: str, written: dict[str, bool]) -> str:
    lines = [f"{'written' if is_new else 'as it was'}  {directory}/{path}" for path, is_new in written.items()]
    lines += ["", f"Next: {directory}/{cluster.RINGS}, then copy each node's files. What runs there:"]
    lines += [f"  {node}: {', '.join(cluster.services(site, node))}" for node in site.everybody]
    if not any("swift-account-reaper" in cluster.services(site, node) for node in site.everybody):
        lines += [_NO_REAPER]
    return "\n".join(lines)
