# SPDX-License-Identifier: Apache-2.0
"""What README, guides and units of systemd name exists: commands with their options, targets, files, metrics."""

from __future__ import annotations

import argparse
import re
import shlex
from dataclasses import fields
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from lustack.cli.main import NOUNS, build_parser
from lustack.swift.settings import Settings
from lustack.sync import textfile
from lustack.sync.journal import Progress
from lustack.sync.metrics import Metrics
from lustack.sync.opts import OPTIONS

ROOT = Path(__file__).parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *ROOT.glob("doc/**/*.md"),
    ROOT / "bench" / "README.md",
    ROOT / "tests" / "openstack" / "README.md",
    *ROOT.glob("contrib/**/*.service"),
)
COMMAND = re.compile(rf"(?:^|[\s/])lustack ((?:{'|'.join(NOUNS)})(?![\w:-]).*)")
END = re.compile(r"\s(?:#|\||;|&&|\|\||>|<|\\$)|[;)]$")
OURS = re.compile(r"(?<![\w/.-])((?:bench|contrib|doc|tests|tools)/[\w./-]*\w)")


def codes(text: str) -> list[str]:
    """What is between backticks, indented by four, or in a fenced block."""
    found = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL))
    for block in re.findall(r"^```[^\n]*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        found += block.splitlines()
    return found + re.findall(r"^(?: {4}|ExecStart=)(.*)$", text, flags=re.MULTILINE)


def commands(text: str) -> list[list[str]]:
    """The words of each command of ours, without what comes before and behind it."""
    found = [match[1] for code in codes(text) for match in COMMAND.finditer(code)]
    return [shlex.split(END.split(each)[0], comments=True) for each in found]


def choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    return {}


def complaint(words: list[str]) -> str:
    """What is wrong with a command; empty: nothing. One that only names its noun or verb is fine."""
    noun, *rest = words
    parser = choices(build_parser(noun))[noun]
    verbs = choices(parser)
    if verbs and rest:
        verb, *rest = rest
        if verb not in verbs:
            return f"{noun} has no {verb}"
        parser = verbs[verb]
    unknown = [word for word in rest if word.startswith("-") and word not in parser._option_string_actions]
    return f"{' '.join(words)}: {unknown}" if unknown else ""


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def test_what_is_wrong_is_found():
    text = """`lustack sync wait --timeout 3` or `lustack fsck`

    lustack fsck --mend | jq .

```
lustack sync go # now
```
"""
    found = [complaint(words) for words in commands(text)]
    assert sorted(found) == ["", "", "fsck --mend: ['--mend']", "sync has no go"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_exists_with_its_options(page):
    assert [each for each in map(complaint, commands(page.read_text())) if each] == []


def test_every_example_in_the_help_is_understood():
    for noun in NOUNS:
        top = choices(build_parser(noun))[noun]
        for parser in (top, *choices(top).values()):
            # What an example is for stands behind it, after several blanks.
            examples = re.findall(r"^ +(lustack .*?)(?:   .*)?$", parser.epilog or "", flags=re.MULTILINE)
            for words in commands("\n".join(f"    {each}" for each in examples)):
                wanted = build_parser(noun).parse_args(words)
                assert callable(wanted.run), words


def test_every_target_exists():
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = {
        (name(page), target)
        for page in PAGES
        for code in codes(page.read_text())
        for target in re.findall(r"^make ([a-z][a-z-]*)", code)
    }
    assert len(named) > len(targets)
    assert [each for each in sorted(named) if each[1] not in targets] == []


def test_every_file_of_ours_exists():
    named = {(name(page), path) for page in PAGES for path in OURS.findall(page.read_text())}
    assert named
    assert [each for each in sorted(named) if not (ROOT / each[1]).exists()] == []


def test_every_option_of_swift_cinder_and_nova_exists():
    source = "".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    # In the settings of Swift they stand without what they begin with.
    known = {option for field in fields(Settings) for option in (f"lustre_{field.name}",)}
    known.update(re.findall(r"\"((?:backup_)?lustre_[a-z0-9_]+)\"", source))
    named = {
        (name(page), option)
        for page in PAGES
        for option in re.findall(r"(?<![/\w])(?:backup_)?lustre_[a-z0-9_]+", page.read_text())
    }
    assert named
    assert [each for each in sorted(named) if each[1] not in known] == []


def test_every_option_of_the_daemon_exists():
    blocks = [
        (name(page), block)
        for page in PAGES
        for block in re.findall(r"^ *\[sync\]\n((?: *[\w#].*\n)*)", page.read_text(), flags=re.MULTILINE)
    ]
    named = {(page, option) for page, block in blocks for option in re.findall(r"^ *#?(\w+) *=", block, re.MULTILINE)}
    assert named
    assert [each for each in sorted(named) if each[1] not in {option.name for option in OPTIONS}] == []


def test_every_metric_exists(tmp_path):
    textfile.write(str(tmp_path / "fsck.prom"), Progress(), 0.0)
    known = set(re.findall(r"^(lustack_\w+)", (tmp_path / "fsck.prom").read_text(), flags=re.MULTILINE))
    registry: CollectorRegistry = Metrics().registry
    known.update(name for names in registry._collector_to_names.values() for name in names)
    named = {
        (name(page), metric) for page in PAGES for metric in re.findall(r"lustack_(?:sync|fsck)_\w+", page.read_text())
    }
    assert named
    assert [each for each in sorted(named) if each[1] not in known] == []


def test_every_decision_has_a_number_of_its_own():
    numbers = [page.name.partition("-")[0] for page in sorted((ROOT / "doc" / "decisions").glob("*.md"))]
    assert numbers == [f"{number:04}" for number in range(len(numbers))]


def test_every_link_between_pages_leads_somewhere():
    links = {
        (name(page), target) for page in PAGES for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text())
    }
    assert links
    assert [each for each in sorted(links) if not (ROOT / each[0]).parent.joinpath(each[1]).exists()] == []
