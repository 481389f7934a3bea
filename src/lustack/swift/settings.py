# SPDX-License-Identifier: Apache-2.0
"""What an operator can set in `object-server.conf`, read once.

paste.deploy gives strings; here they become values, and a slip of the pen in a `lustre_*` key is an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lustack.errors import ConfigurationError
from lustack.posix.atomic import Sync

_WHERE = "object-server.conf"
_PREFIX = "lustre_"


@dataclass(frozen=True)
class Settings:
    """Settings of the storage policy.

    Attributes:
        spool_dir: directory on a local disk for container updates that must be sent again (`lustre_spool_dir`).
            The object-updater of this node runs with it as its `devices`.
        small_hash_bytes: files of jobs up to this size get their MD5 inside the request, larger ones from the
            background hasher (`lustre_small_hash_bytes`).
        deadline_s: how long a request waits for one call of the file system; then it is answered with 503
            (`lustre_deadline_s`).
        threads: how many calls run at the same time in a device, of those that look, of those that read and of those
            that change something (`lustre_threads`).
        fsync: how durable an upload is when it is acknowledged (`lustre_fsync`): `always`, `close` or `never`, for one
            policy `NAME=close`, several with commas between them.
    """

    spool_dir: str = "/var/spool/lustack"
    small_hash_bytes: int = 65536
    deadline_s: int = 30
    threads: int = 8
    fsync: Mapping[str, Sync] = field(default_factory=lambda: {"": Sync.ALWAYS})

    @classmethod
    def from_conf(cls, conf: Mapping[str, str]) -> Settings:
        """Reads the settings.

        Args:
            conf: the section of the server, as Swift hands it over.

        Raises:
            ConfigurationError: a `lustre_*` key is unknown, or its value is not usable.
        """
        known = {_PREFIX + name for name in cls.__dataclass_fields__}
        for key in conf:
            if key.startswith(_PREFIX) and key not in known:
                raise ConfigurationError(
                    _WHERE, key, conf[key], "removed: no such option. Known: " + ", ".join(sorted(known))
                )
        spool_dir = conf.get("lustre_spool_dir", cls.spool_dir)
        if not spool_dir.startswith("/"):
            raise ConfigurationError(_WHERE, "lustre_spool_dir", spool_dir, "an absolute path")
        return cls(
            spool_dir,
            _number(conf, "lustre_small_hash_bytes", cls.small_hash_bytes, "bytes", least=0),
            _number(conf, "lustre_deadline_s", cls.deadline_s, "seconds", least=1),
            _number(conf, "lustre_threads", cls.threads, "threads", least=1),
            _fsync(conf),
        )

    def sync_of(self, policy_name: str) -> Sync:
        """How durable an upload to a policy is."""
        return self.fsync.get(policy_name, self.fsync[""])


def _fsync(conf: Mapping[str, str]) -> dict[str, Sync]:
    text = conf.get("lustre_fsync", Sync.ALWAYS.value)
    found = {"": Sync.ALWAYS}
    for part in text.split(","):
        policy_name, _, word = part.rpartition("=")
        try:
            found[policy_name.strip()] = Sync(word.strip())
        except ValueError as error:
            allowed = "always, close or never, for one policy NAME=close, with commas between them"
            raise ConfigurationError(_WHERE, "lustre_fsync", text, allowed) from error
    return found


def _number(conf: Mapping[str, str], key: str, default: int, unit: str, *, least: int) -> int:
    value = conf.get(key, str(default))
    if not value.isdecimal() or int(value) < least:
        raise ConfigurationError(_WHERE, key, value, f"a number of {unit}, {least} or more")
    return int(value)
