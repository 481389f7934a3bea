# SPDX-License-Identifier: Apache-2.0
"""A configuration file as text.

Rule: a value is escaped here, nowhere else: a path may hold `%`, `$` and blanks.
"""

from __future__ import annotations

from collections.abc import Mapping

from lustack.errors import ConfigurationError

Sections = Mapping[str, Mapping[str, str]]
"""Section -> option -> value, in the order of the file."""


def render(sections: Sections, escape: str = "%") -> str:
    """The text of a file.

    Args:
        sections: what it says.
        escape: starts a reference for who reads it: `%` for configparser (Swift, paste.deploy), `$` for oslo.config.

    Raises:
        ConfigurationError: a value that no configuration file can hold.
    """
    blocks = []
    for section, options in sections.items():
        lines = [f"{option} = {_value(section, option, value, escape)}" for option, value in options.items()]
        blocks.append("\n".join((f"[{section}]", *lines, "")))
    return "\n".join(blocks)


def _value(section: str, option: str, value: str, escape: str) -> str:
    """A value as the parser of the file reads it back: what starts a reference is itself when it is doubled."""
    if value != value.strip() or not value.isprintable():
        allowed = "text without line breaks, control characters, and blanks at its ends"
        raise ConfigurationError(section, option, value, allowed)
    return value.replace(escape, escape * 2)
