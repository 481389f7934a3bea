# SPDX-License-Identifier: Apache-2.0
"""Writes contrib/lustack.conf: every option of the daemon with what it means and its default.

A test holds the file against this; run it when an option changes: python tools/sample_config.py
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path

from lustack.sync import opts

PATH = Path(__file__).parents[1] / "contrib" / "lustack.conf"
_WIDTH = 118

_HEAD = """\
# SPDX-License-Identifier: Apache-2.0
# The daemon of lustack: /etc/lustack/lustack.conf. Made by tools/sample_config.py; commented out are defaults.
# Options of the log (debug, log_file, use_json ...) are those of oslo.log, in [DEFAULT].
"""


def render() -> str:
    """The whole file."""
    lines = [_HEAD]
    for section, options in opts.list_opts():
        lines.append(f"[{section}]\n")
        for option in options:
            lines += [f"# {line}" for line in textwrap.wrap(option.help or "", _WIDTH)]
            lines.append(f"#{option.name} = {render_value(option.default)}".rstrip() + "\n")
    return "\n".join(lines).rstrip() + "\n"


def render_value(value: object) -> str:
    """A default as it is written in the file."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{key}:{each}" for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return ",".join(value)
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


if __name__ == "__main__":
    PATH.parent.mkdir(exist_ok=True)
    sys.exit(PATH.write_text(render()) == 0)
