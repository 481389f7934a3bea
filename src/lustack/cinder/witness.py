# SPDX-License-Identifier: Apache-2.0
"""What Cinder's own interpreter sees of us: printed as one line of JSON for `lustack doctor cinder`.

    python -m lustack.cinder.witness [--config-file FILE ...]

Drivers are imported and options read as cinder-volume and cinder-backup do it; nothing is mounted or written.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from importlib import metadata
from typing import Any, Final

from cinder import objects, utils
from cinder.common import config
from cinder.volume import configuration
from cinder.volume.drivers import remotefs
from os_brick.initiator import connector as brick_connector
from oslo_config import cfg
from oslo_utils import importutils

from lustack import __version__
from lustack.brick.client import LustreClient
from lustack.brick.connector import PROTOCOL
from lustack.cinder.mounting import read_shares
from lustack.errors import LustackError

# By name, since Cinder's modules can be imported only after its objects are registered.
_OUR_DRIVER: Final = "lustack.cinder.driver.LustreDriver"
_OUR_BACKUP_DRIVER: Final = "lustack.cinder.backup.LustreBackupDriver"
_STOCK_BACKUP_MANAGER: Final = "cinder.backup.manager.BackupManager"
_CLUSTER_OPT: Final = cfg.StrOpt("cluster")
_DRIVER_OPT: Final = cfg.StrOpt("volume_driver", default="cinder.volume.drivers.lvm.LVMVolumeDriver")


def look(arguments: Sequence[str]) -> dict[str, Any]:
    """What there is.

    Args:
        arguments: `--config-file FILE`, as for cinder-volume.

    Returns:
        `lustack`, `cinder`, `os-brick` (versions), `registered` (the class behind our connections, or null),
        `root_helper`, `cluster`, `coordination`, `backends` (see `look_at_backend`), `backup` (see `look_at_backup`)
        and `has_account` (whether Cinder itself can ask Nova; from `auth_section` alone it takes none. Source: cinder
        29.0.0, compute/nova.py, novaclient).
    """
    objects.register_all()
    conf = config.CONF
    conf(list(arguments), project="cinder")
    conf.register_opt(_CLUSTER_OPT)  # as cinder-volume does
    for module in ("cinder.coordination", "cinder.backup.manager", "cinder.compute.nova"):
        importutils.import_module(module)  # registers its options
    return {
        "lustack": __version__,
        "cinder": metadata.version("cinder"),
        "os-brick": metadata.version("os-brick"),
        "backends": [look_at_backend(name) for name in conf.enabled_backends or ()],
        "backup": look_at_backup(conf),
        "registered": brick_connector._connector_mapping_linux.get(PROTOCOL.upper()),  # noqa: SLF001 - os-brick's table
        "root_helper": utils.get_root_helper(),
        "cluster": conf.cluster,
        "coordination": conf.coordination.backend_url,
        "has_account": bool(conf.nova.auth_type),
    }


def look_at_backend(name: str) -> dict[str, Any]:
    """One back end.

    Args:
        name: of its section.

    Returns:
        `name`, `driver`, `trouble` (why it cannot be used, or empty), `is_ours`; of ours also `mount_options`,
        `mount_point_base`, `operations` and `permissions` (of nas_secure_file_*), `shares` (each with `address` and
        `point`).
    """
    settings = configuration.Configuration([_DRIVER_OPT], config_group=name)
    found: dict[str, Any] = {"name": name, "driver": settings.volume_driver, "trouble": "", "is_ours": False}
    try:
        driver = importutils.import_class(settings.volume_driver)
    except ImportError as error:
        return found | {"trouble": _say(error)}
    if not issubclass(driver, importutils.import_class(_OUR_DRIVER)):
        return found
    settings.append_config_values([*driver.get_driver_options(), *remotefs.nas_opts])
    try:
        return found | {"is_ours": True} | _read_backend(settings)
    except (LustackError, cfg.Error, ValueError) as error:
        return found | {"is_ours": True, "trouble": str(error), "shares": []}


def _read_backend(settings: Any) -> dict[str, Any]:
    base = os.path.realpath(settings.lustre_mount_point_base)
    return {
        "mount_options": settings.nas_mount_options or settings.lustre_mount_options,
        "mount_point_base": base,
        "operations": settings.nas_secure_file_operations,
        "permissions": settings.nas_secure_file_permissions,
        "attempts": settings.lustre_mount_attempts,
        "shares": [{"address": address, "point": find_point(base, address)} for address in read_shares(settings)],
    }


def look_at_backup(conf: Any) -> dict[str, Any]:
    """The backup service: `manager`, `driver`, `trouble`, `is_ready` (it knows our connections), `share`, `point`."""
    manager, driver = conf.backup_manager, conf.backup_driver
    found = {"manager": manager, "driver": driver, "trouble": "", "is_ready": False, "share": None, "point": None}
    try:
        is_own_driver = issubclass(importutils.import_class(driver), importutils.import_class(_OUR_BACKUP_DRIVER))
        importutils.import_class(manager)
        if is_own_driver and conf.backup_lustre_share:
            base = os.path.realpath(conf.backup_lustre_mount_point_base)
            share = conf.backup_lustre_share
            found |= {"share": share, "point": find_point(base, share)}
    except (ImportError, LustackError) as error:
        return found | {"trouble": _say(error)}
    if is_own_driver and not conf.backup_lustre_share:
        return found | {"trouble": "backup_lustre_share is not set"}
    return found | {"is_ready": is_own_driver or manager != _STOCK_BACKUP_MANAGER}


def find_point(base: str, address: str) -> str:
    """Where a share is mounted, or would be.

    Raises:
        ShareSyntaxError: the address names no share.
    """
    return LustreClient("", base).get_mount_point(address)


def _say(error: Exception) -> str:
    return str(error).partition(" (['Traceback")[0]  # oslo's text has a whole traceback in it


if __name__ == "__main__":
    print(json.dumps(look(sys.argv[1:])))
