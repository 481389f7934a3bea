# SPDX-License-Identifier: Apache-2.0
"""How often Python looks for cycles of garbage: seldom, in a process that makes a tuple for each file and few cycles.

The default, once for every 700 objects made, took a tenth of the daemon's CPU under load (measured: perf, Python 3.11).
What was loaded at the start stays forever, and is not looked at again.
"""

from __future__ import annotations

import gc

OBJECTS = 50_000
"""So many more objects than before are worth a look at the young ones; a few MB."""


def collect_seldom() -> None:
    """For the rest of this process."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
