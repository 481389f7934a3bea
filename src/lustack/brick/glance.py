# SPDX-License-Identifier: Apache-2.0
"""Makes Glance know the connector, when it keeps images in volumes (its store `cinder`).

    glance-api-paste.ini:    [filter:lustack]
                             paste.filter_factory = lustack.brick.glance:filter_factory
                             lustre_mount_point_base = /var/lib/glance/mnt

and `lustack` first in the pipeline that Glance runs. It takes no part in requests: what is named in that file is
imported, and that registers the connector (see `connector`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, Final

from lustack.brick import connector
from lustack.errors import ConfigurationError

_SECTION: Final = "glance-api-paste.ini, filter of lustack"
_OPTION: Final = "lustre_mount_point_base"


def filter_factory(global_conf: Mapping[str, str], **local_conf: str) -> Callable[[Any], Any]:  # noqa: ARG001 - paste's signature
    """Register the connector; the application stays as it is.

    Args:
        global_conf: of the whole file; nothing of it is used.
        local_conf: `lustre_mount_point_base`, the directory below which shares are mounted.

    Raises:
        ConfigurationError: there is an option that is not known, or the directory is no absolute path.
    """
    for name, value in local_conf.items():
        if name != _OPTION:
            raise ConfigurationError(_SECTION, name, value, f"left out: the only option is {_OPTION}")
        if not os.path.isabs(value):
            raise ConfigurationError(_SECTION, name, value, "an absolute path")
        connector.set_mount_base(value)
    connector.register()
    return _leave


def _leave(application: Any) -> Any:
    return application
