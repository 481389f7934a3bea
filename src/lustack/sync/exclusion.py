# SPDX-License-Identifier: Apache-2.0
"""Which files of jobs are left out of listings: temporary ones, by globs on the last component of their path.

Rule 1: only what jobs wrote is left out. An object that Swift wrote is listed whatever its name is, and a file that is
left out can still be read through Swift by whoever knows its name (doc/decisions: what is not listed).
Rule 2: one compiled expression for all globs; it matches whole names.
"""

from __future__ import annotations

import fnmatch
import re
from functools import lru_cache

from lustack.errors import ConfigurationError


@lru_cache(maxsize=16)
def compile_globs(globs: tuple[str, ...]) -> re.Pattern[bytes] | None:
    """One expression that matches the names that any glob matches; None if there are none.

    Args:
        globs: patterns of the shell: `*`, `?`, `[abc]`.

    Raises:
        ConfigurationError: a pattern is empty or has a slash.
    """
    for glob in globs:
        if not glob or "/" in glob:
            raise ConfigurationError("[sync]", "exclude", glob, "a pattern for the last component of a path")
    if not globs:
        return None
    # Translated as Latin-1, so that a `?` is one byte and every byte of a name can be matched.
    texts = [glob.encode().decode("latin-1") for glob in globs]
    return re.compile("|".join(fnmatch.translate(text) for text in texts).encode("latin-1"))
