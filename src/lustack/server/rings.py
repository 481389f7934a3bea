# SPDX-License-Identifier: Apache-2.0
"""The program that writes the rings of a host: one device each, on this host.

    python -m lustack.server.rings DIRECTORY < rings.json

`lustack.server.render.rings` says what is read. Rings are made of Swift's own class, not of
`swift-ring-builder`: with one device there is nothing to balance.
"""

from __future__ import annotations

import array
import json
import os
import sys
from collections.abc import Mapping
from typing import Any, TextIO

from swift.common.ring import RingData


def write(directory: str, wanted: Mapping[str, Any]) -> None:
    """Write the rings, each whole or not at all.

    Args:
        directory: where, Swift's `swift_dir`.
        wanted: see `lustack.server.render.rings`.
    """
    for name, server in wanted["rings"].items():
        place = os.path.join(directory, f"{name}.ring.gz")
        make(wanted["ip"], wanted["part_power"], server).save(f"{place}.new")
        os.replace(f"{place}.new", place)


def make(ip: str, part_power: int, server: Mapping[str, Any]) -> Any:  # noqa: ANN401 (Swift has no types)
    """A ring of one replica that leads every partition to one device.

    Args:
        ip: address of its server.
        part_power: there are 2 to the power of this partitions.
        server: the `port` and `device` of the server.
    """
    address = {"ip": ip, "port": server["port"], "replication_ip": ip, "replication_port": server["port"]}
    device = {
        "id": 0,
        "region": 1,
        "zone": 1,
        "weight": 1.0,
        "meta": "",
        "device": server["device"],
        **address,
    }
    return RingData([array.array("H", [0]) * 2**part_power], [device], 32 - part_power)


def main(directory: str, source: TextIO) -> None:
    """Write what `source` asks for."""
    write(directory, json.load(source))


if __name__ == "__main__":
    main(sys.argv[1], sys.stdin)
