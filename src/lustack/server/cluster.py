# SPDX-License-Identifier: Apache-2.0
"""The configuration files of a cluster with many nodes, as text.

Rule 1: no input, no output: the same site gives the same bytes.
Rule 2: only what differs from Swift's default is written; what is not obvious says why.
Rule 3: what asks nobody for a password listens where only the nodes are: object servers on the loopback interface,
since each proxy node has one of its own, the others on the address of their node.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from lustack.server import ini, pipeline
from lustack.server.ini import Sections
from lustack.server.render import user_options
from lustack.server.site import Site
from lustack.server.topology import LOOPBACK, OUR_DISK_FILE, OUR_PROXY, User

LUSTACK_CONF = "/etc/lustack/lustack.conf"
RINGS = "make-rings.sh"
_EVERYWHERE = "0.0.0.0"  # noqa: S104 (clients come in here)

_APP = {
    "use": OUR_PROXY,
    "account_autocreate": "true",
    # A policy of ours has one device, the loopback interface: after ten errors it would be left alone for a minute.
    # Source: swift 2.38.3 common/error_limiter.py, proxy/server.py `error_suppression_interval`.
    "error_suppression_interval": "0",
}


@dataclass(frozen=True)
class Salt:
    """Where databases lie depends on it: it never changes."""

    prefix: str
    suffix: str


def files(site: Site, salt: Salt) -> dict[str, str]:
    """Every file, by its path below the directory to render into: that of a node is below the node's name.

    Raises:
        ConfigurationError: a value that no configuration file can hold.
    """
    rendered = {RINGS: ring_commands(site)}
    for node in site.everybody:
        for place, sections in _of_node(site, salt, node).items():
            name = place.rpartition("/")[2]
            escape = "$" if place == LUSTACK_CONF else "%"
            rendered[f"{node}{place}"] = ini.render(_overridden(site, name, sections), escape)
    return rendered


def services(site: Site, node: str) -> tuple[str, ...]:
    """What runs on a node: Swift's programs by their names, and the daemon."""
    is_proxy = node in site.nodes.proxies
    is_database = node in dict(site.disks)
    wanted = (
        *(("swift-proxy-server", "swift-object-server", "swift-object-updater") if is_proxy else ()),
        # Several would do the same work.
        *(("swift-object-expirer",) if node == site.nodes.proxies[0] else ()),
        *(f"swift-{kind}-{part}" for kind, parts in _DATABASE_PARTS.items() for part in parts if is_database),
        # It deletes objects, so it needs an object server at the loopback interface.
        *(("swift-account-reaper",) if is_proxy and is_database else ()),
        *(("lustack sync run",) if node in site.daemons else ()),
    )
    return tuple(wanted)


_DATABASE_PARTS = {
    "account": ("server", "replicator", "auditor"),
    "container": ("server", "replicator", "auditor", "updater", "sharder"),
}


def ring_commands(site: Site) -> str:
    """The script that makes the rings with Swift's own tool; running it again changes nothing."""
    nodes = " ".join(shlex.quote(f"{node}{site.places.swift_dir}") for node in site.everybody)
    lines = [
        "#!/bin/sh",
        "# Makes the rings and copies them to the files of each node. Keep *.builder: they are the rings' memory.",
        "set -eu",
        'cd "$(dirname "$0")"',
        "add() {  # BUILDER DEVICE",
        '    swift-ring-builder "$1" search "$2" >/dev/null 2>&1 || swift-ring-builder "$1" add "$2" 100',
        "}",
    ]
    for kind, port in (("account", site.ports.account), ("container", site.ports.container)):
        builder = f"{kind}.builder"
        lines.append(f"[ -e {builder} ] || swift-ring-builder {builder} create {_shape(site)}")
        # A zone for each node: copies of a database are never on one.
        zones = {address: number for number, address in enumerate(dict(site.disks), start=1)}
        lines += [
            f"add {builder} r1z{zones[address]}-{_in_ring(address)}:{port}/{device}" for address, device in site.disks
        ]
    for policy in site.policies:
        builder = f"{'object' if policy.index == 0 else f'object-{policy.index}'}.builder"
        # One device: the file system does the redundancy, and is on every proxy node.
        lines.append(f"[ -e {builder} ] || swift-ring-builder {builder} create 4 1 1")
        lines.append(f"add {builder} r1z1-{LOOPBACK}:{site.ports.object}/{policy.device}")
    lines += [
        "for builder in *.builder; do",
        "    # 1: nothing had to move. Source: swift-ring-builder, EXIT_WARNING.",
        '    swift-ring-builder "$builder" rebalance || [ $? -eq 1 ]',
        "done",
        f'for directory in {nodes}; do cp -- *.ring.gz "$directory/"; done',
    ]
    return "\n".join((*lines, ""))


def _in_ring(address: str) -> str:
    """An address as swift-ring-builder wants it."""
    return f"[{address}]" if ":" in address else address


def _shape(site: Site) -> str:
    return f"{site.swift.part_power} {site.replicas} 1"


def _overridden(site: Site, name: str, sections: Sections) -> Sections:
    wanted = site.override.get(name, {})
    return {section: {**sections.get(section, {}), **wanted.get(section, {})} for section in {**sections, **wanted}}


def _of_node(site: Site, salt: Salt, node: str) -> dict[str, Sections]:
    """The files of a node, by their paths there."""
    etc = site.places.swift_dir
    found: dict[str, Sections] = {f"{etc}/swift.conf": _swift(site, salt)}
    if node in site.nodes.proxies:
        found |= {
            f"{etc}/proxy-server.conf": _proxy(site),
            f"{etc}/object-server.conf": _object_server(site),
            f"{etc}/object-updater.conf": _object_updater(site),
            f"{etc}/object-expirer.conf": _object_expirer(site),
            f"{etc}/internal-client.conf": {"DEFAULT": {"swift_dir": etc}, **_internal(site)},
        }
    if node in dict(site.disks):
        for kind, port in (("account", site.ports.account), ("container", site.ports.container)):
            found[f"{etc}/{kind}-server.conf"] = _database_server(site, node, kind, port)
        found.setdefault(f"{etc}/internal-client.conf", {"DEFAULT": {"swift_dir": etc}, **_internal(site)})
    if node in site.daemons:
        found[LUSTACK_CONF] = _sync(site)
    return found


def _common(site: Site) -> dict[str, str]:
    return {"user": site.swift.user, "swift_dir": site.places.swift_dir}


def _swift(site: Site, salt: Salt) -> Sections:
    policies = {
        f"storage-policy:{each.index}": {
            "name": each.name,
            "policy_type": "replication",
            "diskfile_module": OUR_DISK_FILE,
            "default": "yes" if each.default else "no",
        }
        for each in site.policies
    }
    return {
        "swift-hash": {"swift_hash_path_prefix": salt.prefix, "swift_hash_path_suffix": salt.suffix},
        **policies,
        "swift-constraints": {"max_file_size": str(site.swift.max_file_size)},
    }


def _proxy(site: Site) -> Sections:
    names: tuple[str, ...] = pipeline.DEFAULT
    own: Sections = {"tempauth": user_options([_user(each) for each in site.auth.users])}
    if site.auth.kind == "keystone":
        names, own = pipeline.with_keystone(names), _keystone(site)
    return {
        "DEFAULT": {**_common(site), "bind_ip": _EVERYWHERE, "bind_port": str(site.ports.proxy)},
        **pipeline.sections(names, "proxy-server", _filters(site), own),
        # Uploads pass the filters in larger pieces.
        "app:proxy-server": {**_app(site), "client_chunk_size": "262144"},
    }


def _user(text: str) -> User:
    account, name, key, *groups = text.split(":")
    return User(account, name, key, tuple(groups) or (".admin",))


def _keystone(site: Site) -> Sections:
    auth = site.auth
    login = {
        "auth_url": auth.auth_url,
        "auth_type": "password",
        "username": auth.username,
        "password": auth.password,
        "project_name": auth.project_name,
        "project_domain_name": auth.domain,
        "user_domain_name": auth.domain,
    }
    address = auth.auth_url.rstrip("/").removesuffix("/v3")
    return {
        # Without the delay nobody but Keystone could let somebody in: no ACL, tempurl or staticweb.
        "authtoken": {
            "www_authenticate_uri": auth.www_authenticate_uri,
            **login,
            "delay_auth_decision": "true",
            "cache": "swift.cache",
            "include_service_catalog": "false",
        },
        "s3token": {"auth_uri": f"{address}/v3", **login},
        "keystoneauth": {"operator_roles": auth.operator_roles},
    }


def _filters(site: Site) -> Sections:
    places = {"devices": site.places.devices, "swift_dir": site.places.swift_dir}
    servers = ",".join(site.nodes.memcached)
    return {"cache": {"use": "egg:swift#memcache", "memcache_servers": servers}, "namespace": places}


def _app(site: Site) -> Mapping[str, str]:
    return {**_APP, "lustre_object_server_conf": f"{site.places.swift_dir}/object-server.conf"}


def _internal(site: Site) -> Sections:
    return {
        **pipeline.sections(pipeline.INTERNAL, "proxy-server", _filters(site)),
        "app:proxy-server": _app(site),
    }


def _object_server(site: Site) -> Sections:
    return {
        "DEFAULT": {
            **_common(site),
            "bind_ip": LOOPBACK,
            "bind_port": str(site.ports.object),
            "devices": site.places.devices,
            # A device may be a link to a directory of a mount; that it is there is seen by what lies in it.
            "mount_check": "false",
            # How full a parallel file system may get is not for one of its clients to say; a full one answers 507.
            "fallocate_reserve": "0",
        },
        **pipeline.backend("object", site.places.cache),
        "app:object-server": {"use": "egg:swift#object", "lustre_spool_dir": site.places.spool},
    }


def _object_updater(site: Site) -> Sections:
    # Each node sends again what it could not send itself.
    return {
        "DEFAULT": {**_common(site), "devices": site.places.spool, "mount_check": "false"},
        "object-updater": {"recon_cache_path": site.places.cache},
    }


def _object_expirer(site: Site) -> Sections:
    return {
        "DEFAULT": _common(site),
        "object-expirer": {"recon_cache_path": site.places.cache},
        **_internal(site),
    }


def _database_server(site: Site, node: str, kind: str, port: int) -> Sections:
    programs = [name for name in services(site, node) if name.startswith(f"swift-{kind}-")]
    # A program whose section is not there does not start.
    parts = {name.removeprefix("swift-"): {"recon_cache_path": site.places.cache} for name in programs[1:]}
    if kind == "container":
        parts["container-sharder"]["internal_client_conf_path"] = f"{site.places.swift_dir}/internal-client.conf"
    return {
        "DEFAULT": {
            **_common(site),
            "bind_ip": node,
            "bind_port": str(port),
            "devices": site.places.database_devices,
        },
        **pipeline.backend(kind, site.places.cache),
        f"app:{kind}-server": {"use": f"egg:swift#{kind}"},
        **parts,
    }


def _sync(site: Site) -> Sections:
    places = site.places
    own = {"swift_dir": places.swift_dir, "devices": places.devices, "state_dir": places.state}
    url = {"coordination_url": site.sync.coordination_url} if site.sync.coordination_url else {}
    return {"sync": {**own, **url}}
