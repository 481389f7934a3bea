# SPDX-License-Identifier: Apache-2.0
"""What a look at a host can find, and how it is told."""

from __future__ import annotations

import enum
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass


class Verdict(enum.StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        check: a short name, for programs.
        verdict: how bad it is.
        found: what there is.
        remedy: what to do about it; empty where there is nothing to do.
    """

    check: str
    verdict: Verdict
    found: str
    remedy: str = ""


def judge(check: str, found: str, *, is_good: bool, remedy: str, otherwise: Verdict = Verdict.BAD) -> Finding:
    """A finding that is good or not.

    Args:
        check: see `Finding`.
        found: see `Finding`.
        is_good: whether there is nothing to do.
        remedy: what to do if it is not good.
        otherwise: how bad it is then.
    """
    return Finding(check, Verdict.OK, found) if is_good else Finding(check, otherwise, found, remedy)


def is_ready(findings: Iterable[Finding]) -> bool:
    """Whether nothing is bad; warnings do not count."""
    return all(finding.verdict is not Verdict.BAD for finding in findings)


def render_json(findings: Sequence[Finding]) -> str:
    """Findings as one line for programs."""
    return json.dumps({"ready": is_ready(findings), "findings": [asdict(finding) for finding in findings]})


def render_text(findings: Sequence[Finding]) -> str:
    """Findings for people: a line each, what to do below it."""
    lines = []
    for finding in findings:
        lines.append(f"{finding.verdict.upper():8}{finding.check}: {finding.found}")
        if finding.remedy:
            lines.append(f"        -> {finding.remedy}")
    bad = sum(finding.verdict is Verdict.BAD for finding in findings)
    warnings = sum(finding.verdict is Verdict.WARNING for finding in findings)
    lines.append(f"{'not ready' if bad else 'ready'}: {bad} bad, {warnings} warnings, {len(findings)} checks")
    return "\n".join(lines)
