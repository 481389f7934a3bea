# SPDX-License-Identifier: Apache-2.0
"""Bytes of a volume that no guest writes to, and that must be there in the end."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from tests.cinder import api
from tests.openstack.cloud import Cloud

MARK_MIB, MARK_AT_MIB = 4, 256
"""Bytes that no guest writes to, and where they are."""


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mark(cloud: Cloud, volume) -> str:
    """Write bytes into a volume that nobody uses; their checksum."""
    source = cloud.stand.site.root / "mark"
    source.write_bytes(os.urandom(MARK_MIB * (1 << 20)))
    command = f"write -s {source} {MARK_AT_MIB}M {MARK_MIB}M"
    api.io(cloud.active_path(volume), cloud.recorded_format(volume), command)
    return digest(source)


def find_mark(cloud: Cloud, volume) -> str:
    """The checksum of what is where `mark` has written."""
    copy = cloud.stand.site.root / "mark"
    place = [f"if={cloud.active_path(volume)}", f"of={copy}", "bs=1M", f"skip={MARK_AT_MIB}"]
    # It counts from the begin, not from what is skipped. Source: qemu 7.2, qemu-img.c, img_dd.
    command = ["qemu-img", "dd", "-U", "-f", cloud.recorded_format(volume), "-O", "raw", *place]
    subprocess.run([*command, f"count={MARK_AT_MIB + MARK_MIB}"], check=True, capture_output=True)
    return digest(copy)
