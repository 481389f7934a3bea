# SPDX-License-Identifier: Apache-2.0
"""Asks Cinder where a volume is, when what Nova has recorded is old.

That happens when a service died while the disk of a running guest was migrated: Cinder's database is healed by
`lustack volume heal`, Nova's own record of the attachment names the file of before. Nova asks Cinder by itself only
when a server is about to leave its node (nova 34 compute/manager.py:2324).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from cinderclient import exceptions as cinder_errors
from keystoneauth1 import exceptions as keystone_errors
from nova import context, exception, objects
from nova.virt import block_device
from nova.volume import cinder
from oslo_context import context as current
from oslo_messaging import exceptions as messaging_errors

from lustack.errors import LustackError

_REFUSALS: Final = (
    exception.NovaException,
    cinder_errors.ClientException,
    keystone_errors.ClientException,
    messaging_errors.MessagingException,
)


@dataclass(eq=False, repr=False)
class UnknownPlaceError(LustackError):
    """Cinder could not be asked where a volume is.

    Attributes:
        why: what is in the way.
    """

    why: str

    def __str__(self) -> str:
        return f"Cinder cannot be asked where it is: {self.why}"


def ask(connection_info: dict[str, Any], instance: Any) -> dict[str, Any]:
    """What Cinder says about the attachment of a volume.

    Args:
        connection_info: what Nova has recorded.
        instance: the server that the volume is for.

    Returns:
        The `data` of a connection: `export`, `name`, `format`, `options`.

    Raises:
        UnknownPlaceError: Nova has no such attachment, Cinder refuses or does not answer, or has another kind of
            connection for it.
    """
    volume_id, asking = block_device.get_volume_id(connection_info), _choose_context()
    try:
        mapping = objects.BlockDeviceMapping.get_by_volume_and_instance(asking, volume_id, instance.uuid)
        found = cinder.API().attachment_get(asking, mapping.attachment_id)["connection_info"]
    except _REFUSALS as error:
        raise UnknownPlaceError(str(error)) from error
    kind = found.get("driver_volume_type")
    if kind != connection_info["driver_volume_type"]:
        raise UnknownPlaceError(f"attachment {mapping.attachment_id} is of type {kind}")
    return dict(found["data"])


def _choose_context() -> Any:
    """That of the user who asks; where nobody does, Nova's own, which needs the section `[cinder]` of nova.conf."""
    asking = current.get_current()
    if isinstance(asking, context.RequestContext) and asking.auth_token:
        return asking
    return context.get_admin_context()
