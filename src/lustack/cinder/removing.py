# SPDX-License-Identifier: Apache-2.0
"""The part of the driver that removes volumes.

Rule 1: a file that another volume is, or that nobody gave to Cinder for good, stays: what is left over can be removed
    later, what was removed is gone.
Rule 2: nothing is left of a volume that could not be made.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Final

from cinder.objects import volume as volume_objects
from oslo_concurrency import processutils
from oslo_log import log as logging

from lustack.cinder.chains import MANAGED, ChainMixin
from lustack.cinder.errors import UnknownShareError
from lustack.cinder.record import SUFFIX
from lustack.errors import LustackError

LOG = logging.getLogger(__name__)
_NEVER_MANAGED: Final = "error_managing_deleting"


class RemovalMixin(ChainMixin):
    """Removes volumes; a part of `LustreDriver`."""

    # What the other parts of the driver provide.
    _ensure_share_mounted: Any
    _find_configured: Any
    _find_share: Any
    # How the database is asked.
    _list_volumes: Any = staticmethod(volume_objects.VolumeList.get_all)

    def _remove(self, volume: Any) -> None:
        """Remove all files of a volume, recorded or not."""
        if volume.status == _NEVER_MANAGED or self._is_being_managed(volume):
            LOG.warning("Volume %s was to be made of a file that was there: it stays", volume.id)
            return
        taken = self._find_taken(volume)
        for share in self._find_places(volume):
            if share in taken:
                LOG.warning("The files of volume %s on %s are another volume's now: they stay", volume.id, share)
                continue
            self._remove_from(share, volume)

    def _remove_from(self, share: str, volume: Any) -> None:
        self._ensure_share_mounted(share)
        directory = self._get_mount_point_for_share(share)
        names = self._list_own_files(directory, volume.name)
        # The record goes last: as long as it is there, it says what was what.
        ordered = sorted(names, key=lambda name: name.endswith(SUFFIX))
        self._images.remove([os.path.join(directory, name) for name in ordered])

    @contextlib.contextmanager
    def _made_or_removed(self, volume: Any) -> Iterator[None]:
        """Have nothing left of a volume that could not be made, where it would lie.

        Cinder takes its host from it then and has it made elsewhere; what there is where it was begun nobody finds any
        more. Source: cinder 29.0.0, flows/manager/create_volume.py, OnFailureRescheduleTask; volume/api.py, delete.
        """
        with contextlib.ExitStack() as undone:
            undone.callback(self._remove_unmade, volume)
            yield
            undone.pop_all()

    def _remove_unmade(self, volume: Any) -> None:
        try:
            self._remove_from(volume.provider_location, volume)
        except (LustackError, OSError, processutils.ProcessExecutionError) as error:
            # Why it could not be made is what is raised.
            LOG.warning("What there is of volume %s, which could not be made, cannot be removed: %s", volume.id, error)

    def _is_being_managed(self, volume: Any) -> bool:
        """Whether a volume was to be made of a file that was there, and never was available; its status may be any now.

        Cinder shows it as `creating`, so an administrator takes it for one that may be deleted with its file. When it
        becomes available, it is launched. Source: cinder 29.0.0, flows/manager/create_volume.py,
        CreateVolumeOnFinishTask; api/v3/views/volumes.py, _get_volume_status.
        """
        if volume.launched_at is not None:
            return False
        with volume.obj_as_admin():
            # Of another volume it names the one that it is a copy of.
            known = self._read_metadata(volume).get(MANAGED)
        return bool(known == volume.id)

    def _find_taken(self, volume: Any) -> set[str]:
        """The shares where files of this name are those of another volume.

        A migration that is cut off while Cinder swaps the two volumes leaves both with the name of the same files.
        Source: cinder 29.0.0, volume/manager.py, update_migrated_volume and migrate_volume_completion.
        """
        taken = set()
        for each in self._list_named(volume.obj_context.elevated(), volume.name_id):
            if each.id != volume.id:
                with contextlib.suppress(UnknownShareError):
                    taken.add(self._find_recorded(each))
        return taken

    def _list_named(self, context: Any, name_id: str) -> list[Any]:
        """The volumes of Cinder whose files are named after an id: at most the one with it, but for such a migration.

        Args:
            context: an administrator's.
            name_id: the id.
        """
        found = [
            *self._list_volumes(context, filters={"_name_id": name_id}),
            *self._list_volumes(context, filters={"id": name_id}),
        ]
        return [each for each in found if each.name_id == name_id]

    def _find_places(self, volume: Any) -> list[str]:
        """The shares where files of a volume may lie: where it is recorded, and that of its pool.

        They differ when its making was cut off. Nothing is recorded then, or, of the copy that a migration makes, where
        the original lies.

        Raises:
            UnknownShareError: it is recorded, and neither is configured.
        """
        places: list[str] = []
        problem: UnknownShareError | None = None
        for find_share in (self._find_recorded, self._find_share):
            try:
                places.append(find_share(volume))
            except UnknownShareError as error:
                problem = problem or error
        if problem is not None and not places:
            if volume.provider_location:
                raise problem
            LOG.warning("Volume %s was never made: nothing to remove", volume.id)
        return sorted(set(places))

    def _find_recorded(self, volume: Any) -> str:
        found: str = self._find_configured(volume.provider_location or "nowhere").address
        return found
