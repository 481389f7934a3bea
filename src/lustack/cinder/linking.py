# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that makes a volume of a snapshot without copying: both share the file that is frozen.

    volume-1 <- volume-1.aaaa          volume-2 <- volume-2.linked
    |_________ one file, two names ____|

Rule 1: a file with several names is never written to again. Only the bottom of a chain gets a second name, and only
    while a snapshot is on top of it; when that is deleted, its file stays in the chain instead of being merged.
Rule 2: every name in a chain is one of the volume's own files, so that each volume is deleted by itself, in any order.
"""

from __future__ import annotations

import os
from typing import Any

from oslo_concurrency import processutils
from oslo_log import log as logging

from lustack.cinder.chains import ChainMixin
from lustack.cinder.files import VolumeFiles
from lustack.cinder.record import LINKED, Record

LOG = logging.getLogger(__name__)


class LinkingMixin(ChainMixin):
    """Shares files between volumes; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    local_path: Any
    _make_overlay: Any
    _made_or_removed: Any

    def _is_shared(self, path: str) -> bool:
        """Whether a file has several names, so that nobody may write to it."""
        try:
            return os.stat(path).st_nlink > 1
        except PermissionError:
            out, _ = self._run("stat", "-c", "%h", path)
            return int(out) > 1

    def _try_to_link(self, volume: Any, source: Any, name: str) -> bool:
        """Make a volume of a frozen file of another one on the same share.

        Args:
            volume: the new one.
            source: the other one; no snapshot of it is deleted meanwhile.
            name: the file.

        Returns:
            Whether it is made; else the file must be copied: it is elsewhere, or not alone, or has no room for a name.
        """
        files = self._files(source)
        mine = VolumeFiles(
            self._get_mount_point_for_share(volume.provider_location), volume.name, None, files.find_format(name)
        )
        is_bottom = files.recorded.find_snapshot(name) is None
        if mine.directory != files.directory or not is_bottom:
            return False
        try:
            self._run("cp", "-l", "-f", "-T", files.path(name), mine.path(mine.name))
        except processutils.ProcessExecutionError as error:
            LOG.info("Volume %s is copied, since %s cannot have another name: %s", volume.id, name, error.stderr)
            return False
        overlay = f"{mine.name}.{LINKED}"
        with self._made_or_removed(volume):
            self._make_overlay(volume, mine, overlay)
            self._set_formats(volume, is_new=True, base_format=mine.bottom_format, format="qcow2")
            self._write_record(mine, Record(overlay, {LINKED: overlay}))
        return True
