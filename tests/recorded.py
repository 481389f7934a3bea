# SPDX-License-Identifier: Apache-2.0
"""What was recorded on a real Lustre; see lustre/recordings/README.md."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

RECORDINGS = Path(__file__).parent / "lustre" / "recordings"

LOGS = (
    "full/lustre-MDT0000",
    "full/lustre-MDT0001",
    "defmask/lustre-MDT0000",
    "defmask/lustre-MDT0001",
    "hsm/",
)


def read_raw(log: str, form: str = "plain") -> bytes:
    return (RECORDINGS / f"{log}{'' if log.endswith('/') else '.'}{form}.raw").read_bytes()


def read_json(name: str):
    return json.loads(gzip.decompress((RECORDINGS / f"{name}.json.gz").read_bytes()))


def read_records(log: str):
    """The records as another program read them."""
    return read_json(f"{log}{'' if log.endswith('/') else '.'}plain")


def read_operations(folder: str):
    return read_json(f"{folder}/ops")["ops"]
