# SPDX-License-Identifier: Apache-2.0
"""The shares of this host's back ends, as the configuration of cinder-volume says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cinder import objects
from cinder.common import config

from lustack.cinder import witness
from lustack.lustre.mounts import parse_share


@dataclass(frozen=True)
class ServedShare:
    """A share of a back end of this host.

    Attributes:
        backend: the back end's name.
        address: as it is recorded with volumes.
        point: where it is mounted.
    """

    backend: str
    address: str
    point: str

    @property
    def pool(self) -> str:
        """Name of its pool."""
        return parse_share(self.address).identity


def configure(arguments: Sequence[str]) -> list[ServedShare]:
    """Read the configuration of cinder-volume.

    Args:
        arguments: `--config-file FILE`, as for cinder-volume.

    Returns:
        The shares of all back ends of ours.
    """
    objects.register_all()
    conf = config.CONF
    conf(list(arguments), project="cinder")
    seen = [witness.look_at_backend(name) for name in conf.enabled_backends or ()]
    return [
        ServedShare(backend["name"], share["address"], share["point"])
        for backend in seen
        if backend["is_ours"]
        for share in backend["shares"]
    ]
