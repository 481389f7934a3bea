# SPDX-License-Identifier: Apache-2.0
"""One namespace for OpenStack and POSIX: a Swift object is a file, a file is a Swift object."""

from __future__ import annotations

__version__ = "0.1.0.dev0"
