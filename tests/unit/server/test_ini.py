# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import configparser

import pytest

from lustack.errors import ConfigurationError
from lustack.server import ini


def test_what_is_written_is_read_back():
    sections = {"DEFAULT": {"a": "1"}, "b:c": {"path": "/50%(x)s $HOME"}, "empty": {}}
    parser = configparser.ConfigParser()
    parser.read_string(ini.render(sections))
    assert parser["b:c"]["path"] == "/50%(x)s $HOME"
    assert parser["empty"]["a"] == "1"


def test_another_reader_has_another_escape():
    assert ini.render({"a": {"b": "$x %y"}}, "$") == "[a]\nb = $$x %y\n"


@pytest.mark.parametrize("value", [" x", "x\n[y]", "\0"])
def test_what_no_file_can_hold_is_refused(value):
    with pytest.raises(ConfigurationError, match="option"):
        ini.render({"section": {"option": value}})
