# SPDX-License-Identifier: Apache-2.0
"""The configuration files of a host, as text.

Rule 1: no input, no output: the same host gives the same bytes.
Rule 2: every option that is not Swift's default says why.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence

from lustack.server import ini, pipeline
from lustack.server.ini import Sections
from lustack.server.topology import LOOPBACK, Assigned, Host, Policy, User

PART_POWER = 6
"""64 partitions. There is one device, so they only spread the databases over directories; it can never
change."""

# Swift's own names for the part of a server that is no filter.
_INTERNAL_APP = {
    # One device: after ten errors it would be left alone for a minute, and every request be answered with
    # 503.
    # Source: swift 2.38.3 common/error_limiter.py, proxy/server.py `error_suppression_interval`.
    "error_suppression_interval": "0",
    "account_autocreate": "true",
    # A laptop that is busy takes longer than a storage node; giving up early only makes more work.
    "conn_timeout": "5",
    "node_timeout": "60",
}
_PLAIN_NAME = re.compile(r"[A-Za-z0-9.-]+")


def files(host: Host, assigned: Assigned) -> dict[str, str]:
    """Every configuration file, by its name below `etc`.

    Raises:
        ConfigurationError: a value that no configuration file can hold, or a filter that nobody knows.
    """
    rendered = {
        "swift.conf": ini.render(_swift(host, assigned)),
        "proxy-server.conf": ini.render(_proxy(host, assigned)),
        "account-server.conf": ini.render(_database_server(host, "account", assigned.ports.account)),
        "container-server.conf": ini.render(_database_server(host, "container", assigned.ports.container)),
        "object-server.conf": ini.render(_object_server(host, assigned)),
        "object-updater.conf": ini.render(_object_updater(host)),
        "object-expirer.conf": ini.render(_object_expirer(host, assigned)),
        "internal-client.conf": ini.render(_internal_client(host, assigned)),
    }
    if host.sync:
        rendered["lustack.conf"] = ini.render(_sync(host, assigned), escape="$")
    return rendered


def rings(host: Host, assigned: Assigned) -> str:
    """What `lustack.server.rings` has to make, as JSON: ring name -> port and device."""
    ports = assigned.ports
    wanted = {
        "account": {"port": ports.account, "device": host.device},
        "container": {"port": ports.container, "device": host.device},
    }
    for policy in host.policies:
        wanted[policy.ring] = {"port": ports.object, "device": policy.device}
    return json.dumps({"ip": LOOPBACK, "part_power": PART_POWER, "rings": wanted}, indent=1, sort_keys=True)


def _common(host: Host) -> dict[str, str]:
    """What every process of Swift reads."""
    return {
        "bind_ip": LOOPBACK,
        # By default one process that serves by itself: less memory, and no child that could outlive it.
        "workers": str(host.workers),
        "user": host.user,
        "swift_dir": host.etc,
        "mount_check": "false",
        "recon_cache_path": host.cache,
        # Room for others is not Swift's business here; and a full disk answers 507 by itself.
        "fallocate_reserve": "0",
        "log_level": host.log_level,
        # The log goes to stderr, which is a file. Swift also sends every line to syslog and cannot be told
        # not to; to a port where nobody listens (9, discard, RFC 863) it is at least out of the system's log.
        "log_udp_host": LOOPBACK,
        "log_udp_port": "9",
        "log_custom_handlers": "lustack.server.stamps.stamp_lines",
    }


def _swift(host: Host, assigned: Assigned) -> Sections:
    return {
        "swift-hash": {
            "swift_hash_path_prefix": assigned.hash_prefix,
            "swift_hash_path_suffix": assigned.hash_suffix,
        },
        **{f"storage-policy:{policy.index}": policy_options(policy) for policy in host.policies},
        "swift-constraints": {"max_file_size": str(host.max_file_size_bytes)},
    }


def policy_options(policy: Policy) -> Mapping[str, str]:
    """The options of a policy in swift.conf."""
    return {
        "name": policy.name,
        "policy_type": "replication",
        "diskfile_module": policy.disk_file,
        "default": "yes" if policy.default else "no",
    }


def _pipeline(host: Host, assigned: Assigned, names: tuple[str, ...]) -> Sections:
    own = {
        "cache": _cache(host, assigned),
        "namespace": {"devices": host.node, "swift_dir": host.etc},
        "tempauth": user_options(host.users),
    }
    return pipeline.sections(names, "proxy-server", own, host.filter_options)


def _cache(host: Host, assigned: Assigned) -> Mapping[str, str]:
    if host.memcached is None:
        return {"paste.filter_factory": "lustack.server.cache:filter_factory"}
    return {
        "use": "egg:swift#memcache",
        "memcache_servers": f"{LOOPBACK}:{assigned.ports.memcached}",
        # Two connections for all requests of a process are the default. With 500 clients some waited too long for one,
        # and were told that they were not logged in (measured: `make soak`).
        "memcache_max_connections": "100",
        # Waiting for one, and for a new one: 0.3 s is the default, and with 500 clients at once the proxy itself takes
        # longer to come back to it (measured: `make soak`).
        "pool_timeout": "10",
        "connect_timeout": "10",
        # Who gets no answer within two seconds (the default) counts as not logged in: on a machine with too much to do
        # the proxy itself may be that late (measured: `make soak` beside other work).
        "io_timeout": "20",
        # There is one, which is started again at once when it dies.
        "error_suppression_interval": "0",
    }


def user_options(users: Sequence[User]) -> Mapping[str, str]:
    """The options of tempauth that make these users."""
    return {_user_option(user): " ".join((user.key, *user.groups)) for user in users}


def _user_option(user: User) -> str:
    """The option of tempauth that makes a user; in base64 what could be read in two ways.

    Source: swift 2.38.3 common/middleware/tempauth.py:249-262.
    """
    names = (user.account, user.name)
    if all(_PLAIN_NAME.fullmatch(name) for name in names):
        return "_".join(("user", *names))
    encoded = (base64.b64encode(name.encode()).decode().rstrip("=") for name in names)
    return "_".join(("user64", *encoded))


def _proxy(host: Host, assigned: Assigned) -> Sections:
    app = {
        "use": host.proxy_app,
        **_INTERNAL_APP,
        "allow_account_management": "true",
        # Uploads pass the filters in larger pieces.
        "client_chunk_size": "262144",
        **host.proxy_options,
    }
    return {
        "DEFAULT": {**_common(host), "bind_port": str(assigned.ports.proxy)},
        **_pipeline(host, assigned, host.pipeline),
        "app:proxy-server": app,
    }


def _database_server(host: Host, kind: str, port: int) -> Sections:
    return {
        "DEFAULT": {**_common(host), "bind_port": str(port), "devices": host.databases},
        **pipeline.backend(kind, host.cache),
        f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
        f"{kind}-replicator": {},
        # The account's figures follow soon, and a server that was away is asked again at once.
        f"{kind}-updater": {
            "interval": str(host.updater_interval_s),
            "account_suppression_time": "1",
            "node_timeout": "30",
        },
    }


def _object_server(host: Host, assigned: Assigned) -> Sections:
    app = {
        "use": "egg:swift#object",
        "lustre_spool_dir": host.spool,
        # The default of one second turns a short wait for SQLite into an update that waits for the
        # object-updater.
        "container_update_timeout": "5",
        # Nothing is replicated. More than 0 makes a semaphore in /dev/shm, where an ordinary user may not write.
        # Source: swift 2.38.3 obj/server.py:1537.
        "replication_concurrency": "0",
        **host.object_options,
    }
    return {
        "DEFAULT": {**_common(host), "bind_port": str(assigned.ports.object), "devices": host.node},
        **pipeline.backend("object", host.cache),
        "app:object-server": app,
    }


def _object_updater(host: Host) -> Sections:
    return {
        "DEFAULT": {**_common(host), "devices": host.spool},
        "object-updater": {"interval": str(host.updater_interval_s), "node_timeout": "30"},
    }


def _object_expirer(host: Host, assigned: Assigned) -> Sections:
    return {
        "DEFAULT": _common(host),
        "object-expirer": {"interval": str(host.updater_interval_s)},
        **_internal(host, assigned),
    }


def _internal_client(host: Host, assigned: Assigned) -> Sections:
    return {"DEFAULT": {"swift_dir": host.etc}, **_internal(host, assigned)}


def _internal(host: Host, assigned: Assigned) -> Sections:
    return {
        **_pipeline(host, assigned, pipeline.INTERNAL),
        "app:proxy-server": {"use": host.proxy_app, **_INTERNAL_APP},
    }


def _sync(host: Host, assigned: Assigned) -> Sections:
    return {
        "sync": {
            "swift_dir": host.etc,
            "devices": host.node,
            "state_dir": host.memory,
            "interval_s": str(host.sync_interval_s),
            "metrics_port": str(assigned.ports.metrics),
        },
    }
