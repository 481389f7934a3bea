# SPDX-License-Identifier: Apache-2.0
"""What an operator can set, as values. `opts` says where they come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_DAY_S = 86_400.0


@dataclass(frozen=True)
class Settings:
    """Settings of the daemon.

    Attributes:
        swift_dir: the directory of swift.conf and the rings.
        devices: the directory that holds the devices, as in object-server.conf.
        state_dir: what the daemon remembers; on a local disk.
        coordination_url: of the coordinator that decides which daemon works; empty: the state directory does.
        policies: names of the storage policies to look after; empty: all that are ours.
        source: where events come from: `auto`, `scan` (none) or the name of a kind of source.
        changelog_users: on Lustre, our user of the changelog of each MDT, by the name of the MDT.
        own_jobs: on Lustre, the job of our own object servers as their clients write it into records; see `own_nids`.
        own_nids: on Lustre, their clients. What both say is an upload of ours is not looked at again.
        interval_s: from the beginning of one comparison of everything to that of the next, where no source of events
            sees everything.
        check_interval_s: likewise where one does.
        exclude: globs of files of jobs that are not listed.
        quiet_s: a file that is being written to is listed after so many seconds without a change, and while it goes on
            changing at most so often.
        memory_bytes: what all that grows with the number of files that change may take; see `budget`.
        batch_rows: rows of one request to a container server.
        adopt_containers: whether directories that Swift never heard of become containers.
        missing_rows: the most rows that may go because a container's directory is gone.
        hash_bytes_per_s: how fast files of jobs are read to learn their MD5; 0: never.
        settle_s: files that changed in the last so many seconds are not read yet.
        sweep_interval_s: from one look for litter to the next.
        sweep_age_s: temporary files older than this are litter.
        tombstone_age_s: likewise for tombstones; longer than the longest upload.
        metrics_port: of the Prometheus metrics on the loopback interface; 0: none.
    """

    swift_dir: str = "/etc/swift"
    devices: str = "/srv/node"
    state_dir: str = "/var/lib/lustack/sync"
    coordination_url: str = ""
    policies: tuple[str, ...] = ()
    source: str = "auto"
    changelog_users: Mapping[str, str] = field(default_factory=dict)
    own_jobs: tuple[str, ...] = ()
    own_nids: tuple[str, ...] = ()
    interval_s: float = 60.0
    check_interval_s: float = 6 * 3600.0
    exclude: tuple[str, ...] = ("?*.tmp", "?*.swp", "?*~", ".nfs*")
    quiet_s: float = 30.0
    memory_bytes: int = 256 * 1024 * 1024
    batch_rows: int = 10_000
    adopt_containers: bool = True
    missing_rows: int = 1000
    hash_bytes_per_s: int = 50_000_000
    settle_s: float = 3.0
    sweep_interval_s: float = 6 * 3600.0
    sweep_age_s: float = 2 * _DAY_S
    tombstone_age_s: float = 7 * _DAY_S
    metrics_port: int = 0
