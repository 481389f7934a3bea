# SPDX-License-Identifier: Apache-2.0
"""A cluster with many nodes, as its administrator describes it in a small file (TOML).

Rule 1: no input, no output: text becomes a `Site` that can be rendered, or an error that names what is wrong.
Rule 2: a key that nobody knows is an error: a typing error must not become a default.
Rule 3: `SAMPLE` holds every key, and a test asks that it does.
"""

from __future__ import annotations

import ipaddress
import re
import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, get_type_hints

from lustack.errors import ConfigurationError

Options = Mapping[str, Mapping[str, Mapping[str, str]]]
"""File -> section -> option -> value."""

SAMPLE = """\
# A Swift cluster whose objects are files of a parallel file system: for `lustack config render FILE DIRECTORY`.
# Without a value in the text beside it, a key may be left out; what stands here is then its value, or an example.

[nodes]
# Each node is named by the address at which the others reach it. Needed.
# Where clients come in; the file system is mounted here.
proxies = ["10.0.0.11", "10.0.0.12"]
# Where the databases of accounts and containers are, each with the name of a local disk. Needed.
databases = ["10.0.0.21/d1", "10.0.0.22/d1", "10.0.0.23/d1"]
# Where `lustack sync run` runs; one works, the others stand by. Default: on the first two proxies.
daemons = ["10.0.0.11", "10.0.0.12"]
# Needed.
memcached = ["10.0.0.11:11211", "10.0.0.12:11211"]

[swift]
# Of a cluster that exists. Default: made once, and kept in DIRECTORY.
hash_path_prefix = "changeme"
hash_path_suffix = "changeme"
# Who runs the servers. Only root can keep metadata where owners of files cannot forge it.
user = "root"
# Of the rings of accounts and containers: 2 to the power of this partitions, which never changes; and copies (default:
# three, or as many as there are disks).
part_power = 10
replicas = 3
# Bytes of the largest object.
max_file_size = 5497558138880

[sync]
# Where daemons agree on which of them works: a URL of tooz. Needed when there are several.
coordination_url = "etcd3+http://10.0.0.21:2379"

# Where everything lies on the nodes. SWIFT_DIR and the others may be on any local disk.
[places]
swift_dir = "/etc/swift"
# Holds the devices of the policies below: mounts, or links to directories in them.
devices = "/srv/node"
# Holds the local disks of the databases.
database_devices = "/srv/node"
spool = "/var/spool/lustack"
cache = "/var/cache/swift"
state = "/var/lib/lustack/sync"

[ports]
proxy = 8080
object = 6200
container = 6201
account = 6202

# A storage policy of ours; the table may be repeated. Needed.
[[policies]]
index = 0
name = "lustre"
device = "lustre"
default = true

# Who may do what: Keystone, or `kind = "tempauth"` with `users = ["ACCOUNT:USER:KEY:.admin"]` to try out.
[auth]
kind = "keystone"
www_authenticate_uri = "https://keystone.example.org:5000"
auth_url = "https://keystone.example.org:5000"
username = "swift"
password = "changeme"
project_name = "service"
domain = "Default"
operator_roles = "admin, member"

# Any option of any rendered file; it wins. A section that is not there is added.
[override."proxy-server.conf"."app:proxy-server"]
node_timeout = "30"
"""


@dataclass(frozen=True)
class Nodes:
    """Which node does what. A database is ADDRESS/DEVICE, a memcached ADDRESS:PORT."""

    proxies: tuple[str, ...]
    databases: tuple[str, ...]
    memcached: tuple[str, ...]
    daemons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Swift:
    """What is Swift's own; see `SAMPLE`. Empty or 0: to be chosen."""

    hash_path_prefix: str = ""
    hash_path_suffix: str = ""
    user: str = "root"
    part_power: int = 10
    replicas: int = 0
    max_file_size: int = 5 * 1024**4


@dataclass(frozen=True)
class Sync:
    """What is the daemon's own."""

    coordination_url: str = ""


@dataclass(frozen=True)
class Places:
    """Directories on the nodes, absolute."""

    swift_dir: str = "/etc/swift"
    devices: str = "/srv/node"
    database_devices: str = "/srv/node"
    spool: str = "/var/spool/lustack"
    cache: str = "/var/cache/swift"
    state: str = "/var/lib/lustack/sync"


@dataclass(frozen=True)
class Ports:
    """Of the servers."""

    proxy: int = 8080
    object: int = 6200
    container: int = 6201
    account: int = 6202


@dataclass(frozen=True)
class Policy:
    """A storage policy of ours."""

    index: int
    name: str
    device: str
    default: bool = False


@dataclass(frozen=True)
class Auth:
    """Who may do what. `kind` is `keystone` or `tempauth`; `users` are for the latter, the rest for the former."""

    kind: str
    users: tuple[str, ...] = ()
    www_authenticate_uri: str = ""
    auth_url: str = ""
    username: str = "swift"
    password: str = ""
    project_name: str = "service"
    domain: str = "Default"
    operator_roles: str = "admin, member"


@dataclass(frozen=True)
class Site:
    """A cluster; see `SAMPLE`.

    Attributes:
        source: the file that describes it.
    """

    source: str
    nodes: Nodes
    policies: tuple[Policy, ...]
    auth: Auth
    swift: Swift = Swift()
    sync: Sync = Sync()
    places: Places = Places()
    ports: Ports = Ports()
    override: Options = field(default_factory=dict)

    @property
    def daemons(self) -> tuple[str, ...]:
        """Where `lustack sync run` runs."""
        return self.nodes.daemons or self.nodes.proxies[:2]

    @property
    def disks(self) -> tuple[tuple[str, str], ...]:
        """Address and device of every disk for databases."""
        return tuple((address, device) for address, _, device in (each.partition("/") for each in self.nodes.databases))

    @property
    def replicas(self) -> int:
        """How many copies of a database there are."""
        return self.swift.replicas or min(3, len(self.nodes.databases))

    @property
    def everybody(self) -> tuple[str, ...]:
        """Every node once, in order."""
        databases = (address for address, _ in self.disks)
        return tuple(dict.fromkeys((*self.nodes.proxies, *databases, *self.daemons)))


_TABLES: Mapping[str, type] = {
    "nodes": Nodes,
    "auth": Auth,
    "swift": Swift,
    "sync": Sync,
    "places": Places,
    "ports": Ports,
}
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_NAME_SIGNS = "letters, digits, `.`, `_` and `-`"
_LOGIN = re.compile(r"[^:\s]+:[^:\s]+:[^:\s]+(:[^:\s]+)*")
_KINDS = {str: "a text", int: "a number", bool: "true or false", tuple: "a list of texts"}


def parse(text: str, source: str) -> Site:
    """The site that a file describes.

    Args:
        text: of the file.
        source: its name, for errors.

    Raises:
        ConfigurationError: something in it is wrong, unknown or missing.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(source, "text", str(error), "TOML: see `lustack config sample`") from error
    known = (*_TABLES, "policies", "override")
    _refuse_unknown(source, "table", tables, known)
    given = {name: _read(source, f"[{name}]", cls, tables.get(name, {})) for name, cls in _TABLES.items()}
    policies = tuple(_read(source, "[[policies]]", Policy, each) for each in _list(source, tables, "policies"))
    site = Site(source, policies=policies, override=_read_override(source, tables.get("override", {})), **given)
    _check(site)
    return site


def _list(source: str, tables: Mapping[str, Any], name: str) -> list[Any]:
    found = tables.get(name, [])
    if not isinstance(found, list) or not found:
        raise ConfigurationError(source, name, found, f"one table [[{name}]] or more")
    return found


def _read(source: str, where: str, cls: type, table: Any) -> Any:  # noqa: ANN401 (what TOML says)
    """A table as the class of its keys."""
    if not isinstance(table, dict):
        raise ConfigurationError(source, where, table, "a table")
    kinds = get_type_hints(cls)
    _refuse_unknown(source, f"{where} key", table, tuple(kinds))
    for each in fields(cls):
        if each.name not in table and each.default is MISSING:
            raise ConfigurationError(source, f"{where} {each.name}", None, "given")
    return cls(**{key: _value(source, f"{where} {key}", kinds[key], value) for key, value in table.items()})


def _value(source: str, option: str, kind: Any, value: Any) -> Any:  # noqa: ANN401 (what TOML says)
    plain = kind if kind in _KINDS else tuple
    is_list = isinstance(value, list) and all(isinstance(each, str) for each in value)
    if not (is_list if plain is tuple else type(value) is plain):
        raise ConfigurationError(source, option, value, _KINDS[plain])
    return tuple(value) if plain is tuple else value


def _refuse_unknown(source: str, what: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            raise ConfigurationError(source, what, name, f"one of {', '.join(known)}")


def _read_override(source: str, files: Any) -> Options:  # noqa: ANN401 (what TOML says)
    allowed = 'options as texts: [override."FILE"."SECTION"] and OPTION = "VALUE"'
    tables = [files, *(files.values() if isinstance(files, dict) else ())]
    sections = [each for table in tables[1:] if isinstance(table, dict) for each in table.values()]
    for table in (*tables, *sections):
        if not isinstance(table, dict):
            raise ConfigurationError(source, "[override]", table, allowed)
    for section in sections:
        for option, value in section.items():
            if not isinstance(value, str):
                raise ConfigurationError(source, f"[override] {option}", value, allowed)
    return dict(files)


def _check(site: Site) -> None:
    """Refuse what would only be found when the servers run.

    Raises:
        ConfigurationError: what it is.
    """
    for option, given in (("proxies", site.nodes.proxies), ("databases", site.nodes.databases)):
        if not given:
            raise ConfigurationError(site.source, f"[nodes] {option}", list(given), "one node or more")
    _check_addresses(site)
    _check_policies(site)
    _check_auth(site)
    for name, place in vars(site.places).items():
        if not place.startswith("/"):
            raise ConfigurationError(site.source, f"[places] {name}", place, "an absolute path")
    if len(site.daemons) > 1 and not site.sync.coordination_url:
        allowed = "given, for daemons on several nodes must agree on which of them works"
        raise ConfigurationError(site.source, "[sync] coordination_url", "", allowed)
    if not 1 <= site.replicas <= len(site.nodes.databases):
        allowed = f"from 1 to {len(site.nodes.databases)}, the number of databases"
        raise ConfigurationError(site.source, "[swift] replicas", site.replicas, allowed)


def _check_addresses(site: Site) -> None:
    for each in site.nodes.databases:
        if not _NAME.fullmatch(each.partition("/")[2]):
            raise ConfigurationError(site.source, "[nodes] databases", each, f"ADDRESS/DEVICE, DEVICE of {_NAME_SIGNS}")
    for address in site.everybody:
        try:
            ipaddress.ip_address(address)
        except ValueError as error:
            raise ConfigurationError(site.source, "[nodes]", address, "an IP address") from error


def _check_policies(site: Site) -> None:
    for each in site.policies:
        if not _NAME.fullmatch(each.device):
            raise ConfigurationError(site.source, "[[policies]] device", each.device, f"a name of {_NAME_SIGNS}")
    for option in ("index", "name", "device"):
        values = [getattr(each, option) for each in site.policies]
        if len(set(values)) < len(values):
            raise ConfigurationError(site.source, f"[[policies]] {option}", values, "another one for each policy")
    other = site.override.get("swift.conf", {})
    if not any(each.index == 0 for each in site.policies) and "storage-policy:0" not in other:
        allowed = (
            'there once (Swift wants it); one that is not ours belongs to [override."swift.conf"."storage-policy:0"]'
        )
        raise ConfigurationError(site.source, "[[policies]] index 0", None, allowed)
    defaults = [each.name for each in site.policies if each.default]
    if len(defaults) > 1:
        raise ConfigurationError(site.source, "[[policies]] default", defaults, "true for one policy at the most")


def _check_auth(site: Site) -> None:
    auth = site.auth
    needed = {"keystone": ("www_authenticate_uri", "auth_url", "password"), "tempauth": ("users",)}
    if auth.kind not in needed:
        raise ConfigurationError(site.source, "[auth] kind", auth.kind, "keystone or tempauth")
    for option in needed[auth.kind]:
        if not getattr(auth, option):
            raise ConfigurationError(site.source, f"[auth] {option}", getattr(auth, option), f"given for {auth.kind}")
    for each in auth.users:
        if not _LOGIN.fullmatch(each):
            raise ConfigurationError(site.source, "[auth] users", each, "ACCOUNT:USER:KEY[:GROUP...], without blanks")
