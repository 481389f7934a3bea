# SPDX-License-Identifier: Apache-2.0
"""How the small programs of this package are run: those that touch files of volumes as who may touch them."""

from __future__ import annotations

import os
import sys


def render_command(program: str, module: str, *words: str, is_for_root: bool) -> list[str]:
    """The command that runs one of our programs.

    Args:
        program: its name, as the filters for rootwrap know it.
        module: where it is.
        words: its arguments.
        is_for_root: whether it is run through the root helper.
    """
    # By its bare name through the helper: that is what the filter for rootwrap matches.
    needs_helper = is_for_root and os.geteuid() != 0
    start = [program] if needs_helper else [sys.executable, "-P", "-m", module]
    return [*start, *words]
