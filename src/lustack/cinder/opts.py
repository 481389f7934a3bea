# SPDX-License-Identifier: Apache-2.0
"""The options of the driver and of the backup driver, as Cinder reads them from its configuration file."""

from __future__ import annotations

from typing import Any, Final

from oslo_config import cfg

VOLUME_OPTS: Final = [
    cfg.StrOpt(
        "lustre_shares_config",
        default="/etc/cinder/lustre_shares",
        help="File with the shares that hold volumes, one in a line: `MGSNID[:MGSNID]:/FSNAME[/DIRECTORY]`, optionally "
        "followed by `-o OPTIONS` for mount. Each is a pool. Not read when nas_host and nas_share_path are set.",
    ),
    cfg.BoolOpt(
        "lustre_sparsed_volumes",
        default=True,
        help="Make raw volumes as sparse files, which take room when they are written to. If false, room is reserved "
        "when a volume is made. The extra spec `provisioning:type` (thin or thick) of a volume type wins.",
    ),
    cfg.BoolOpt(
        "lustre_qcow2_volumes",
        default=False,
        help="Make volumes as qcow2 files rather than raw ones. The extra spec `lustre:format` of a volume type wins.",
    ),
    cfg.StrOpt(
        "lustre_mount_point_base",
        default="$state_path/mnt",
        help="Directory below which shares are mounted.",
    ),
    cfg.StrOpt(
        "lustre_mount_options",
        default="flock",
        help="Options of the mount command. `flock` is needed: qemu locks the files that it uses. "
        "nas_mount_options, when set, wins.",
    ),
    cfg.IntOpt(
        "lustre_mount_attempts",
        min=1,
        default=3,
        help="How often to try to mount a share before giving up.",
    ),
    cfg.IntOpt(
        "lustre_answer_timeout",
        min=1,
        default=10,
        help="Seconds that a mounted share may take to answer; after that it counts as hung, its pool is not offered, "
        "and operations on its volumes fail at once instead of blocking the service.",
    ),
]

BACKUP_OPTS: Final = [
    cfg.StrOpt(
        "backup_lustre_share",
        help="Share that holds backups: `MGSNID[:MGSNID]:/FSNAME[/DIRECTORY]`.",
    ),
    cfg.StrOpt(
        "backup_lustre_mount_point_base",
        default="$state_path/backup_mount",
        help="Directory below which the share of backups is mounted.",
    ),
    cfg.StrOpt(
        "backup_lustre_mount_options",
        default="flock",
        help="Options of the mount command for the share of backups.",
    ),
    cfg.IntOpt(
        "backup_lustre_mount_attempts",
        min=1,
        default=3,
        help="How often to try to mount the share of backups before giving up.",
    ),
]


def list_opts() -> list[tuple[str, list[Any]]]:
    """What `oslo-config-generator --namespace lustack.cinder` shows."""
    return [("backend_defaults", list(VOLUME_OPTS)), ("DEFAULT", list(BACKUP_OPTS))]
