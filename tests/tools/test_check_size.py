# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "check_size.py"


def load_tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_size", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_size = load_tool()


def find(source):
    return [sentence for _line, sentence in check_size.find_breaches(source)]


def test_a_module_of_400_lines_passes_and_one_more_is_too_long():
    assert find("x = 1\n" * 400) == []
    assert find("x = 1\n" * 401) == ["module has 401 lines, at most 400"]


def test_a_body_of_40_lines_passes_whatever_the_docstring_says():
    docstring = '    """Say.\n' + "    more\n" * 50 + '    """\n'
    assert find("def f():\n" + docstring + "    x = 1\n" * 40) == []
    assert find("def f():\n" + docstring + "    x = 1\n" * 41) == ["f has 41 lines in its body, at most 40"]


def test_a_body_of_a_docstring_alone_has_no_lines():
    assert find('def f():\n    """Say."""\n') == []


def nest(depth):
    lines = ["async def f():"]
    lines += ["    " * (level + 1) + "async with x:" for level in range(depth)]
    return "\n".join([*lines, "    " * (depth + 1) + "pass"]) + "\n"


def test_three_levels_of_nesting_pass_and_a_fourth_does_not():
    assert find(nest(3)) == []
    assert find(nest(4)) == ["f has 4 levels of nesting, at most 3"]


def test_elif_is_no_deeper_than_its_if():
    chain = "def f():\n    if a:\n        pass\n" + "    elif b:\n        pass\n" * 5
    assert find(chain) == []


def test_an_inner_function_starts_its_own_count():
    inner = "\n".join("        " + line for line in nest(3).splitlines())
    assert find("def g():\n    if a:\n" + inner + "\n") == []


@pytest.mark.parametrize("first", ["", "self, ", "cls, "])
def test_six_parameters_beside_self_pass(first):
    assert find(f"def f({first}a, b, c, /, d, *, e, f): pass\n") == []


def test_stars_count_as_parameters():
    assert find("def f(a, b, c, d, e, *f, **g): pass\n") == ["f has 7 parameters, at most 6"]


def test_a_signature_given_by_somebody_else_may_have_more_parameters():
    signature = "def f(  # signature given by swift.obj.diskfile\n    a, b, c, d, e, f, g\n): pass\n"
    assert find(signature) == []


def test_the_command_names_file_and_line_and_fails(tmp_path, capsys):
    (tmp_path / "good.py").write_text("x = 1\n")
    bad = tmp_path / "bad.py"
    bad.write_text("\ndef f(a, b, c, d, e, f, g): pass\n")
    assert check_size.main([str(tmp_path)]) == 1
    assert capsys.readouterr().out == f"{bad}:2: f has 7 parameters, at most 6\n"


def test_the_command_is_content_with_small_modules(tmp_path, capsys):
    good = tmp_path / "good.py"
    good.write_text("x = 1\n")
    assert check_size.main([str(good)]) == 0
    assert capsys.readouterr().out == ""
