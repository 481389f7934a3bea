# SPDX-License-Identifier: Apache-2.0
"""The options of the volume driver: section `[libvirt]` of nova.conf, beside those of Nova's own drivers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from oslo_config import cfg

GROUP: Final = "libvirt"

OPTIONS: Final[tuple[cfg.Opt, ...]] = (
    cfg.StrOpt(
        "lustre_mount_point_base",
        default="$state_path/mnt",
        help="Directory below which the shares of volumes are mounted on this compute node. For live migration, "
        "libvirt must know it as shared: `shared_filesystems` in /etc/libvirt/qemu.conf.",
    ),
    cfg.StrOpt(
        "lustre_mount_options",
        default="flock",
        help="Options of the mount command for shares of volumes. `flock` is needed: qemu locks the files it uses.",
    ),
    cfg.IntOpt(
        "lustre_answer_timeout",
        min=1,
        default=10,
        help="Seconds that a mounted share may take to answer before a volume on it is attached; after that attaching "
        "fails at once instead of blocking the service.",
    ),
)


def register(conf: cfg.ConfigOpts) -> None:
    """Make the options known to a configuration; may be called again."""
    conf.register_opts(OPTIONS, GROUP)


def list_opts() -> list[tuple[str, Sequence[Any]]]:
    """What `oslo-config-generator --namespace lustack.nova` shows."""
    return [(GROUP, OPTIONS)]
