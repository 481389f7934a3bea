# SPDX-License-Identifier: Apache-2.0
"""Refuse modules and functions that grew too big to be understood in one reading.

Ruff has no rule for the length of a module or of a function body, nor for nesting.

Usage: check_size.py [DIRECTORY_OR_FILE ...]        default: src/lustack
Prints one line for each breach; exits 1 if there was any.

A signature that somebody else decides may have more parameters; a comment at its `def` says whose it is:
    def get_diskfile(  # signature given by swift.obj.diskfile
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections.abc import Iterator
from pathlib import Path

MAX_MODULE_LINES = 400
MAX_BODY_LINES = 40
MAX_NESTING = 3
MAX_PARAMETERS = 6
GIVEN_SIGNATURE = "# signature given by "

Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = Function | ast.ClassDef | ast.Lambda
Nesting = ast.If | ast.For | ast.AsyncFor | ast.While | ast.With | ast.AsyncWith | ast.Try | ast.TryStar | ast.Match


def count_body_lines(function: Function) -> int:
    """Return the lines from the first statement after the docstring to the last one, blank ones included."""
    has_docstring = ast.get_docstring(function, clean=False) is not None
    body = function.body[1:] if has_docstring else function.body
    if not body:
        return 0
    return (body[-1].end_lineno or body[-1].lineno) - body[0].lineno + 1


def count_parameters(function: Function) -> int:
    """Return how many parameters a caller can give: `self` and `cls` are not among them."""
    arguments = function.args
    named = [*arguments.posonlyargs, *arguments.args]
    if named and named[0].arg in {"self", "cls"}:
        named = named[1:]
    stars = [star for star in (arguments.vararg, arguments.kwarg) if star is not None]
    return len(named) + len(arguments.kwonlyargs) + len(stars)


def measure_nesting(node: ast.AST) -> int:
    """Return how many blocks lie inside one another below `node`.

    An `elif` adds none; an inner function or class is measured on its own.
    """
    deepest = 0
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Scope):
            continue
        is_elif = isinstance(node, ast.If) and isinstance(child, ast.If) and node.orelse == [child]
        adds = isinstance(child, Nesting) and not is_elif
        deepest = max(deepest, measure_nesting(child) + adds)
    return deepest


def find_breaches(source: str) -> Iterator[tuple[int, str]]:
    """Yield (line number, what is too big) for one module.

    Args:
        source: the text of the module.
    """
    lines = source.splitlines()
    if len(lines) > MAX_MODULE_LINES:
        yield 1, f"module has {len(lines)} lines, at most {MAX_MODULE_LINES}"
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, Function):
            continue
        is_given = GIVEN_SIGNATURE in lines[node.lineno - 1]
        measures = (
            ("lines in its body", count_body_lines(node), MAX_BODY_LINES),
            ("levels of nesting", measure_nesting(node), MAX_NESTING),
            ("parameters", 0 if is_given else count_parameters(node), MAX_PARAMETERS),
        )
        for what, found, allowed in measures:
            if found > allowed:
                yield node.lineno, f"{node.name} has {found} {what}, at most {allowed}"


def find_modules(paths: list[Path]) -> Iterator[Path]:
    """Yield the Python files among and below the paths, in a fixed order."""
    for path in paths:
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        else:
            yield path


def main(arguments: list[str] | None = None) -> int:
    """Check what the command line names; return the exit code."""
    parser = argparse.ArgumentParser(description="Refuse modules and functions that grew too big.")
    parser.add_argument("paths", nargs="*", type=Path, default=[Path("src/lustack")])
    breaches = 0
    for module in find_modules(parser.parse_args(arguments).paths):
        for line, sentence in find_breaches(module.read_text(encoding="utf-8")):
            print(f"{module}:{line}: {sentence}")
            breaches += 1
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
