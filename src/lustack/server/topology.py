# SPDX-License-Identifier: Apache-2.0
"""What runs on a host and where it keeps what: the wishes, the place of every file, the list of programs.

Rule 1: no input, no output: a `Host` is what somebody wants, `Assigned` what was chosen for it, and stays.
Rule 2: everything listens on the loopback interface only. The inner servers ask nobody for a password.
Rule 3: nothing but objects lies in the served directory; databases, rings, spools and logs are in the state.

The state directory:

    etc/             configuration and rings, written at every start; serve.json: what was chosen at the first
    node/<device>    a link to the root of a storage policy (the directory of its objects)
    db/<device>/     databases of accounts and containers
    spool/<device>/  updates of listings that could not be sent yet (object-updater)
    sync/            what the daemon remembers
    cache/           figures that Swift's daemons leave for each other
    log/             one file for each process
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from lustack.server import pipeline

LOOPBACK = "127.0.0.1"
DEFAULT_PORT = 8080
DEFAULT_DEVICE = "files"
OUR_DISK_FILE = "egg:lustack#posix"
OUR_PROXY = "egg:lustack#proxy"
STOCK_PROXY = "egg:swift#proxy"
# Swift's own limit is 5 GiB, made for disks of a node; a parallel file system stripes.
# 5 TiB is the limit of S3 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
MAX_FILE_SIZE_BYTES = 5 * 1024**4


@dataclass(frozen=True)
class User:
    """Somebody who may log in.

    Attributes:
        account: the account's name, without the prefix `AUTH_`.
        name: the user's name in that account.
        key: the password, also the secret key for S3.
        groups: Swift's roles; `.admin` may do everything in the account.
    """

    account: str
    name: str
    key: str
    groups: tuple[str, ...] = (".admin",)

    @property
    def login(self) -> str:
        """The name to log in with, also the access key for S3."""
        return f"{self.account}:{self.name}"


@dataclass(frozen=True)
class Policy:
    """A storage policy, its disk file manager, and the directory that holds its objects.

    Attributes:
        index: its number; exactly one policy has 0.
        name: what clients call it.
        disk_file: the disk file manager, as Swift's `diskfile_module` wants it.
        device: the name of its device in the ring; no two policies share one.
        root: the directory of its objects; None: the served directory.
        default: whether containers get it that name none.
    """

    index: int = 0
    name: str = "posix"
    disk_file: str = OUR_DISK_FILE
    device: str = DEFAULT_DEVICE
    root: str | None = None
    default: bool = True

    @property
    def ring(self) -> str:
        """The name of its ring, without the ending."""
        return f"object-{self.index}" if self.index else "object"

    @property
    def has_own_spool(self) -> bool:
        """Whether its manager keeps pending updates outside the tree of the objects."""
        return self.disk_file.startswith("egg:lustack#")


@dataclass(frozen=True)
class Host:
    """What somebody wants to be served, and how.

    Attributes:
        directory: the served directory, absolute: the root of the policies that name no other.
        state: the state directory, absolute, never inside `directory`.
        port: of the proxy, where clients connect; 0: any free one.
        users: who may log in; the first is the one that is shown.
        policies: at least one.
        pipeline: the filters before the proxy, in order.
        filter_options: options by filter, over those of `pipeline.FILTERS`; their values are strings.
        proxy_options: options of the proxy server itself, over the ones of `render`.
        object_options: options of the object server itself, thus of the disk file managers, likewise.
        max_file_size_bytes: the largest object.
        log_level: of the servers: DEBUG, INFO, WARNING, ERROR.
        memcached: the program; None: the proxy remembers tokens by itself.
        user: the name of the user who runs everything; Swift's daemons want it in their configuration.
        short_path: whether the proxy reaches our files by itself; else, and for other policies, it asks the object
            server over a socket.
        sync: whether the daemon runs.
        sync_interval_s: how often the daemon looks for changes.
        updater_interval_s: how often Swift's daemons look for work.
        workers: processes of each server; 0: one, which serves by itself. More than one need `memcached`: each would
            remember its own tokens.
    """

    directory: str
    state: str
    port: int = DEFAULT_PORT
    users: tuple[User, ...] = (User("test", "tester", "testing"),)
    policies: tuple[Policy, ...] = (Policy(),)
    pipeline: tuple[str, ...] = pipeline.DEFAULT
    filter_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    proxy_options: Mapping[str, str] = field(default_factory=dict)
    object_options: Mapping[str, str] = field(default_factory=dict)
    max_file_size_bytes: int = MAX_FILE_SIZE_BYTES
    log_level: str = "INFO"
    memcached: str | None = None
    user: str = "root"
    short_path: bool = True
    sync: bool = True
    sync_interval_s: int = 5
    updater_interval_s: int = 5
    workers: int = 0

    @property
    def etc(self) -> str:
        """The directory of the configuration, Swift's `swift_dir`."""
        return f"{self.state}/etc"

    @property
    def node(self) -> str:
        """Swift's `devices` for objects."""
        return f"{self.state}/node"

    @property
    def databases(self) -> str:
        """Swift's `devices` for accounts and containers."""
        return f"{self.state}/db"

    @property
    def logs(self) -> str:
        """One file for each process."""
        return f"{self.state}/log"

    @property
    def cache(self) -> str:
        """Figures that Swift's daemons leave for each other."""
        return f"{self.state}/cache"

    @property
    def memory(self) -> str:
        """What the daemon remembers."""
        return f"{self.state}/sync"

    @property
    def spool(self) -> str:
        """The `devices` of the object-updater."""
        return f"{self.state}/spool"

    @property
    def device(self) -> str:
        """The device of policy 0, and the one of the databases."""
        return next(policy.device for policy in self.policies if policy.index == 0)

    @property
    def proxy_app(self) -> str:
        """The proxy itself, as paste.deploy wants it."""
        is_short = self.short_path and any(policy.has_own_spool for policy in self.policies)
        return OUR_PROXY if is_short else STOCK_PROXY

    def root_of(self, policy: Policy) -> str:
        """The directory that holds a policy's objects."""
        return self.directory if policy.root is None else policy.root


@dataclass(frozen=True)
class Ports:
    """Who listens where, on the loopback interface."""

    proxy: int
    account: int
    container: int
    object: int
    memcached: int
    metrics: int


PORT_NAMES = tuple(each.name for each in fields(Ports))


@dataclass(frozen=True)
class Assigned:
    """What was chosen when the host was first started, and stays: the databases depend on it.

    Attributes:
        ports: of all servers; another start may choose others.
        hash_prefix: salt of Swift's hashes, thus of the places of the databases.
        hash_suffix: likewise.
    """

    ports: Ports
    hash_prefix: str
    hash_suffix: str


@dataclass(frozen=True)
class Access:
    """How to reach what is served, as `lustack serve --json` prints it."""

    auth_url: str
    storage_url: str
    user: str
    key: str
    s3_endpoint: str
    s3_access_key: str
    s3_secret_key: str


def access(host: Host, assigned: Assigned) -> Access:
    """How the first user reaches what is served."""
    user = host.users[0]
    base = f"http://{LOOPBACK}:{assigned.ports.proxy}"
    return Access(
        auth_url=f"{base}/auth/v1.0",
        storage_url=f"{base}/v1/AUTH_{user.account}",
        user=user.login,
        key=user.key,
        s3_endpoint=base,
        s3_access_key=user.login,
        s3_secret_key=user.key,
    )


@dataclass(frozen=True)
class Program:
    """A process to run.

    Attributes:
        name: of its log file, and what people are told.
        command: the program and its arguments; a name that starts with `swift-` is one of Swift's own.
        port: where it answers `GET /healthcheck`, None if it does not.
        first: whether nobody is served without it; the others are started when those answer.
    """

    name: str
    command: tuple[str, ...]
    port: int | None = None
    first: bool = False


def programs(host: Host, assigned: Assigned, python: str) -> tuple[Program, ...]:
    """Every process of a host, in the order of starting.

    Args:
        host: what is wanted.
        assigned: what was chosen.
        python: the interpreter, for our own daemon.
    """
    ports = assigned.ports
    return (
        *_memcached(host, ports),
        _server(host, "proxy", ports.proxy),
        _server(host, "object", ports.object),
        _server(host, "container", ports.container),
        _server(host, "account", ports.account),
        _daemon(host, "object-updater"),
        _daemon(host, "container-updater", conf="container-server"),
        _daemon(host, "object-expirer"),
        *_sync(host, python),
    )


def _memcached(host: Host, ports: Ports) -> tuple[Program, ...]:
    if host.memcached is None:
        return ()
    # It refuses root unless told; and who becomes another user does not die with its parent any more (prctl(2)).
    user = ("-u", host.user)
    command = (host.memcached, "-l", LOOPBACK, "-p", str(ports.memcached), "-U", "0", "-m", "64", *user)
    return (Program("memcached", command, first=True),)


def _server(host: Host, kind: str, port: int) -> Program:
    conf = f"{host.etc}/{kind}-server.conf"
    return Program(f"{kind}-server", (f"swift-{kind}-server", conf, "verbose"), port, first=True)


def _daemon(host: Host, name: str, conf: str | None = None) -> Program:
    return Program(name, (f"swift-{name}", f"{host.etc}/{conf or name}.conf", "verbose"))


def _sync(host: Host, python: str) -> tuple[Program, ...]:
    if not host.sync:
        return ()
    conf = f"{host.etc}/lustack.conf"
    # -P: what lies in the directory where somebody typed the command is not a module of ours.
    command = (python, "-P", "-m", "lustack.cli.main", "sync", "run", "--config-file", conf)
    return (Program("sync", command),)
