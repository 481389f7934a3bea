# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno

import pytest

from lustack.cli import exits
from lustack.errors import ConfigurationError, LustackError


class LaterError(LustackError):
    retryable = True


def failing(error):
    def command():
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (ConfigurationError("f", "o", 1, "two"), 2, "o = 1, but it must be two"),
        (LaterError("busy"), 3, "busy"),
        (LustackError("broken"), 1, "broken"),
        (KeyboardInterrupt(), 1, "interrupted"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "/x: Permission denied: ask as root"),
        (OSError(errno.EROFS, "Read-only file system", b"/\xff\n"), 1, "/\\udcff\\n: Read-only file system: mount"),
        (ModuleNotFoundError("x", name="oslo_config.cfg"), 2, "pip install 'lustack[sync]'"),
        (ModuleNotFoundError("x", name="swift"), 2, "pip install 'lustack[server]'"),
    ],
)
def test_an_error_becomes_a_sentence_and_a_code(error, code, words, capsys):
    assert exits.run(failing(error)) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("lustack: ")
    assert words in said.err


@pytest.mark.parametrize(
    "error",
    [
        ValueError("why"),
        PermissionError(errno.EACCES, "why"),
        PermissionError(errno.EACCES, "why", 3),
        OSError(errno.EBADF, "why", "/x"),
        ModuleNotFoundError("why", name="lustack.typo"),
        ModuleNotFoundError("why"),
    ],
)
def test_what_nobody_explained_is_shown_whole(error):
    with pytest.raises(type(error), match="why"):
        exits.run(failing(error))


def test_what_works_says_nothing(capsys):
    assert exits.run(lambda: exits.DONE) == 0
    assert capsys.readouterr() == ("", "")
