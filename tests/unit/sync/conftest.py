# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.listings import playground
from tests.mounts import mount

__all__ = ("mount", "playground")
