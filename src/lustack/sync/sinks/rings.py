# SPDX-License-Identifier: Apache-2.0
"""Where Swift keeps which database, and which storage policies are ours: swift.conf and the rings of one directory.

Rule 1: the placement is Swift's own code. It reads swift.conf when its modules are imported, from a name that must be
set before (swift 2.38.3 common/utils/__init__.py:177, common/storage_policy.py:982); so Swift is imported here, inside
`load`, and nowhere else.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from lustack.errors import ConfigurationError
from lustack.sync.sinks.http import Node

_OURS = "egg:lustack#"

Locate = Callable[..., list[Node]]


@dataclass(frozen=True)
class Policy:
    """A storage policy whose objects are files.

    Attributes:
        index: its number.
        name: what clients call it.
        device: the first device of its ring: the one tree that all of them show.
    """

    index: int
    name: str
    device: str


@dataclass(frozen=True)
class Rings:
    """The placement of databases.

    Attributes:
        accounts: account -> the nodes of its database.
        containers: account, container -> the nodes of its database.
        policies: ours, the default one first.
        page_rows: the most rows of a page of a listing.
    """

    accounts: Locate
    containers: Locate
    policies: tuple[Policy, ...]
    page_rows: int


def load(swift_dir: str) -> Rings:
    """Reads the configuration of a Swift.

    Args:
        swift_dir: the directory of swift.conf and the rings.

    Raises:
        ConfigurationError: a file is missing or says nothing useful.
    """
    conf = os.path.join(swift_dir, "swift.conf")
    if not os.path.exists(conf):
        raise ConfigurationError("[sync]", "swift_dir", swift_dir, "the directory of swift.conf")
    utils: Any = import_module("swift.common.utils")
    if conf != utils.SWIFT_CONF_FILE:
        utils.SWIFT_CONF_FILE = conf
        utils.HASH_PATH_PREFIX = utils.HASH_PATH_SUFFIX = b""
    try:
        utils.validate_hash_conf()
        return Rings(
            accounts=_locate(swift_dir, "account"),
            containers=_locate(swift_dir, "container"),
            policies=_policies(swift_dir, conf),
            page_rows=import_module("swift.common.constraints").CONTAINER_LISTING_LIMIT,
        )
    except (utils.InvalidHashPathConfigError, OSError) as error:
        raise ConfigurationError(
            "[sync]", "swift_dir", swift_dir, f"a working Swift configuration ({error})"
        ) from error


def _ring(swift_dir: str, name: str) -> Any:  # noqa: ANN401 (Swift has no types)
    return import_module("swift.common.ring").Ring(swift_dir, ring_name=name)


def _locate(swift_dir: str, name: str) -> Locate:
    ring = _ring(swift_dir, name)

    def locate(*path: str) -> list[Node]:
        partition, found = ring.get_nodes(*path)
        return [Node(each["ip"], each["port"], each["device"], partition) for each in found]

    return locate


def _policies(swift_dir: str, conf: str) -> tuple[Policy, ...]:
    parser = configparser.ConfigParser(strict=False)
    parser.read(conf)
    parsed = import_module("swift.common.storage_policy").parse_storage_policies(parser)
    ours = [policy for policy in parsed if policy.diskfile_module.startswith(_OURS)]
    if not ours:
        raise ConfigurationError(conf, "diskfile_module", "none", f"{_OURS}posix in the section of a storage policy")
    ours.sort(key=lambda policy: (not policy.is_default, int(policy)))
    return tuple(_policy(swift_dir, policy) for policy in ours)


def _policy(swift_dir: str, policy: Any) -> Policy:  # noqa: ANN401 (Swift has no types)
    ring = _ring(swift_dir, policy.ring_name)
    # As the namespace filter does it.
    device = next(device["device"] for device in ring.devs if device)
    return Policy(int(policy), policy.name, device)
