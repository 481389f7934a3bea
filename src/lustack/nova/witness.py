# SPDX-License-Identifier: Apache-2.0
"""What Nova's own interpreter sees of us: printed as one line of JSON for `lustack doctor nova`.

    python -m lustack.nova.witness [--config-file FILE ...]

`compute_driver` is imported as nova-compute does it, and Nova's table is looked at afterwards.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from typing import Any

import nova.conf
from nova.virt.libvirt import driver

from lustack import __version__
from lustack.nova import opts
from lustack.nova.registration import PROTOCOL


def look(arguments: Sequence[str]) -> dict[str, Any]:
    """What there is.

    Args:
        arguments: `--config-file FILE`, as for nova-compute.

    Returns:
        `lustack`, `nova`, `os-brick` (versions), `compute_driver`, `trouble` (why that cannot be imported, or empty),
        `registered` (the class behind our kind of volumes, or null), `mount_point_base`, `mount_options`,
        `has_account` (whether Nova itself can ask Cinder).
    """
    conf = nova.conf.CONF
    conf(list(arguments), project="nova")
    opts.register(conf)
    trouble = find_trouble(conf.compute_driver)  # imports it: the table is looked at afterwards
    return {
        "lustack": __version__,
        "nova": metadata.version("nova"),
        "os-brick": metadata.version("os-brick"),
        "compute_driver": conf.compute_driver,
        "trouble": trouble,
        "registered": driver.VOLUME_DRIVERS.get(PROTOCOL),
        "mount_point_base": conf.libvirt.lustre_mount_point_base,
        "mount_options": conf.libvirt.lustre_mount_options,
        "has_account": bool(conf.cinder.auth_type or conf.cinder.auth_section),
    }


def find_trouble(compute_driver: str | None) -> str:
    """Why Nova cannot use a compute driver; empty: it can.

    Args:
        compute_driver: module and class below `nova.virt`.
    """
    module, _, name = (compute_driver or "").rpartition(".")
    if not module:
        return "it is not set"
    try:
        getattr(import_module(f"nova.virt.{module}"), name)
    except (ImportError, AttributeError) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1:])))
