# SPDX-License-Identifier: Apache-2.0
"""The shape of the tests and of the exceptions from coverage, held by a test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "lustack"
UNIT = ROOT / "tests" / "unit"
PRAGMA = re.compile(r"#\s*pragma:\s*no (cover|branch)")
# Raise it only with a reason that a reviewer would accept for every one of them.
PRAGMAS_ALLOWED = 8


def is_trivial(module: Path) -> bool:
    """Tell whether a package's `__init__` holds nothing but its docstring, imports and plain names."""
    plain = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr)
    return module.name == "__init__.py" and all(
        isinstance(statement, plain) for statement in ast.parse(module.read_text()).body
    )


def name_test(module: Path) -> Path:
    stem = "init" if module.name == "__init__.py" else module.stem
    return module.relative_to(SOURCE).with_name(f"test_{stem}.py")


def find_pragmas() -> list[tuple[Path, int, list[str]]]:
    found = []
    for module in sorted(SOURCE.rglob("*.py")):
        lines = module.read_text().splitlines()
        found += [(module, index, lines) for index, line in enumerate(lines) if PRAGMA.search(line)]
    return found


def test_every_module_has_its_unit_test_and_every_unit_test_its_module():
    wanted = {name_test(module) for module in SOURCE.rglob("*.py") if not is_trivial(module)}
    present = {test.relative_to(UNIT) for test in UNIT.rglob("test_*.py")} - {Path("test_layout.py")}
    assert sorted(map(str, wanted - present)) == [], "modules without a unit test"
    assert sorted(map(str, present - wanted)) == [], "unit tests without a module"


def test_every_line_outside_coverage_says_why_on_the_line_above():
    silent = [
        f"{module.relative_to(ROOT)}:{index + 1}"
        for module, index, lines in find_pragmas()
        if index == 0 or not lines[index - 1].strip().startswith("#")
    ]
    assert silent == []


def test_lines_outside_coverage_are_few():
    assert len(find_pragmas()) <= PRAGMAS_ALLOWED
