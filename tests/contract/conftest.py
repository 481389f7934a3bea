# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from tests.mounts import mount
from tests.objects import files, swift_conf

__all__ = ("files", "mount", "swift_conf")
