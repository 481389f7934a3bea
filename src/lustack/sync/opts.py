# SPDX-License-Identifier: Apache-2.0
"""The options of the daemon: section `[sync]` of its configuration file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from oslo_config import cfg
from oslo_log import log

from lustack.errors import ConfigurationError
from lustack.sync.settings import Settings

GROUP = cfg.OptGroup("sync", title="The daemon that makes Swift's listings say what is in the file system")

_DEFAULTS = Settings()
_FILE = (
    "one that can be read: `lustack serve DIR` writes DIR.state/etc/lustack.conf, `lustack config render` one for each "
    "node, and contrib/lustack.conf shows all options"
)

OPTIONS: tuple[cfg.Opt, ...] = (
    cfg.StrOpt(
        "swift_dir",
        default=_DEFAULTS.swift_dir,
        help="Directory of swift.conf and of the account, container and object rings.",
    ),
    cfg.StrOpt(
        "devices",
        default=_DEFAULTS.devices,
        help="Directory that holds the devices of the object rings, as `devices` in object-server.conf.",
    ),
    cfg.StrOpt(
        "state_dir",
        default=_DEFAULTS.state_dir,
        help="Directory for what the daemon remembers. It must be on a local disk; the daemon makes it.",
    ),
    cfg.StrOpt(
        "coordination_url",
        default=_DEFAULTS.coordination_url,
        secret=True,
        help="Where daemons on several machines agree on which of them works, the others stand by: a URL of tooz, as "
        "etcd3+http://host:2379, redis://host:6379, file:///a/directory/that/all/see. Empty: only daemons with the "
        "same `state_dir` agree.",
    ),
    cfg.ListOpt(
        "policies",
        default=[],
        help="Names of the storage policies to look after. Empty: all whose `diskfile_module` is ours.",
    ),
    cfg.StrOpt(
        "source",
        default=_DEFAULTS.source,
        choices=("auto", "changelog", "fanotify", "inotify", "scan"),
        help="Where news about changed files comes from. `auto`: the best that works here; `scan`: only comparisons.",
    ),
    cfg.DictOpt(
        "changelog_users",
        default={},
        help="On Lustre: the registered changelog user of every MDT, as `lustre-MDT0000:cl1,lustre-MDT0001:cl1`. "
        "`lustack sync register` tells how to register them. Nobody else may clear for them.",
    ),
    cfg.ListOpt(
        "own_jobs",
        default=[],
        help="On Lustre: the jobs that the clients of our own object servers write into changelogs (`lctl get_param "
        "jobid_var jobid_name`). Records of uploads by these are not looked at again, which saves work, and does not "
        "repair a listing whose update was lost before the next comparison. Empty, and `own_nids` too: all are.",
    ),
    cfg.ListOpt(
        "own_nids",
        default=[],
        help="On Lustre: the clients of our own object servers, as `10.0.0.5@tcp`. If `own_jobs` is set too, both must "
        "be so.",
    ),
    cfg.FloatOpt(
        "interval_s",
        default=_DEFAULTS.interval_s,
        min=0.1,
        help="Seconds from the beginning of one comparison of all files and listings to that of the next, where no "
        "source of events sees all changes.",
    ),
    cfg.FloatOpt(
        "check_interval_s",
        default=_DEFAULTS.check_interval_s,
        min=0.1,
        help="Likewise where a source of events sees all changes: only a net below the events.",
    ),
    cfg.ListOpt(
        "exclude",
        default=list(_DEFAULTS.exclude),
        help="Patterns for the last component of the path of temporary files. What jobs write under such a name is not "
        "listed; what Swift wrote is.",
    ),
    cfg.FloatOpt(
        "quiet_s",
        default=_DEFAULTS.quiet_s,
        min=0.1,
        help="A file that somebody has open for writing is listed when it is closed, or when it did not change for so "
        "many seconds; one that goes on changing is listed anew at most so often.",
    ),
    cfg.IntOpt(
        "memory_bytes",
        default=_DEFAULTS.memory_bytes,
        min=1024 * 1024,
        help="Bytes for all that grows with the number of files that change: names until they are listed (half of it; "
        "when there are more, the daemon remembers directories instead and compares those), which file has which name "
        "(3/16; others are asked for), rows that were sent lately, files that wait for their MD5 (1/8 each), and "
        "temporary names (1/16). What is on its way comes on top, up to 48 MiB, and 16 MiB for each MDT beyond two, "
        "and so does the program itself, about 65 MiB.",
    ),
    cfg.IntOpt(
        "batch_rows",
        default=_DEFAULTS.batch_rows,
        min=1,
        max=10_000,
        help="Rows of a listing that are written with one request.",
    ),
    cfg.BoolOpt(
        "adopt_containers",
        default=_DEFAULTS.adopt_containers,
        help="Whether a directory that appears beside the containers of an account becomes a container. Containers "
        "that were deleted through Swift never come back by themselves.",
    ),
    cfg.IntOpt(
        "missing_rows",
        default=_DEFAULTS.missing_rows,
        min=0,
        help="When the directory of a container is gone and its listing has more rows than this, the listing stays "
        "until `lustack sync reconcile --force` says that this is right.",
    ),
    cfg.IntOpt(
        "hash_bytes_per_s",
        default=_DEFAULTS.hash_bytes_per_s,
        min=0,
        help="Bytes a second that are read to learn the MD5 of files that jobs wrote. 0: never.",
    ),
    cfg.FloatOpt(
        "settle_s",
        default=_DEFAULTS.settle_s,
        min=2.0,
        help="A file is not read for its MD5 within so many seconds after a change: times of files are too coarse to "
        "tell two quick writes apart.",
    ),
    cfg.FloatOpt(
        "sweep_interval_s",
        default=_DEFAULTS.sweep_interval_s,
        min=1.0,
        help="Seconds from one look for left-over temporary files to the next.",
    ),
    cfg.FloatOpt(
        "sweep_age_s",
        default=_DEFAULTS.sweep_age_s,
        min=0.0,
        help="Temporary files that were not written to for so many seconds are removed. It must be longer than an "
        "upload may stall.",
    ),
    cfg.FloatOpt(
        "tombstone_age_s",
        default=_DEFAULTS.tombstone_age_s,
        min=0.0,
        help="Marks of deleted objects are removed after so many seconds. It must be longer than the longest upload.",
    ),
    cfg.PortOpt(
        "metrics_port",
        default=_DEFAULTS.metrics_port,
        help="Port of the Prometheus metrics on 127.0.0.1. 0: no metrics.",
    ),
)


def list_opts() -> list[tuple[str, Sequence[cfg.Opt]]]:
    """The options by section, for oslo-config-generator."""
    return [(GROUP.name, OPTIONS)]


def configure(files: Sequence[str]) -> cfg.ConfigOpts:
    """Reads configuration files, and sets up the log as they say.

    Args:
        files: the later override the earlier.

    Raises:
        ConfigurationError: a file is missing or holds a value that is not allowed.
    """
    conf = cfg.ConfigOpts()
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS, GROUP)
    log.register_options(conf)
    try:
        conf(args=[], project="lustack", default_config_files=list(files))
    except cfg.Error as error:
        raise ConfigurationError("[sync]", "--config-file", " ".join(files), f"{_FILE} ({error})") from error
    return conf


def read(conf: cfg.ConfigOpts) -> Settings:
    """The settings.

    Raises:
        ConfigurationError: a value is not allowed.
    """
    found: dict[str, Any] = {field.name: _value(conf, field.name) for field in fields(Settings)}
    lists: dict[str, Any] = {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
    return Settings(**{**found, **lists})


def _value(conf: cfg.ConfigOpts, name: str) -> Any:  # noqa: ANN401 (each option has a type of its own)
    try:
        return conf.sync[name]
    except cfg.ConfigFileValueError as error:
        _, _, why = str(error).partition("is not valid: ")
        raise ConfigurationError(GROUP.name, name, "a value that is not valid", f"valid ({why})") from error
