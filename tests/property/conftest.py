# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.listings import playground
from tests.objects import files, swift_conf

__all__ = ("files", "playground", "swift_conf")
