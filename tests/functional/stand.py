# SPDX-License-Identifier: Apache-2.0
"""The Swift that the conformance tests talk to: `lustack.server` set up as the suites of others want it.

It is made for Swift's own suite, not for an operator: `s3_acl`, every optional middleware, users of four accounts.

Rule 1: stock and ours differ in the policies and in our proxy filter, in nothing else.
"""

from __future__ import annotations

import configparser
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.waiting import wait_for

from lustack.server import instance, pipeline
from lustack.server.topology import Host, Policy, User

STOCK = "egg:swift#replication.fs"
USERS = (
    User("test", "tester", "testing"),
    User("test", "tester2", "testing2"),
    User("test", "tester3", "testing3", ()),
    User("test2", "tester2", "testing2"),
    User("test5", "tester5", "testing5", ("service",)),
    User("admin", "admin", "admin", (".admin", ".reseller_admin")),
)
FILTER_OPTIONS = {
    "container_sync": {"use": "egg:swift#container_sync"},
    "domain_remap": {"storage_domain": "example.net"},
    "s3api": {"s3_acl": "true", "check_bucket_owner": "true", "cors_preflight_allow_origin": "*"},
    "tempauth": {"reseller_prefix": "AUTH, SERVICE", "SERVICE_require_group": "service"},
}
# What `test_open_expired_enabled` reads after its end must not have been removed by the expirer before.
# Source: swift 2.38.3 test/functional/test_object.py:519-560.
SELDOM_S = 86400


def ours_and_stock(root: Path) -> tuple[Policy, ...]:
    """Our policy as the default, stock as the second, each in a directory of its own below `root`."""
    return (
        Policy(0, "gold", device="ours", root=str(root / "ours")),
        Policy(1, "silver", STOCK, "stock", str(root / "stock"), default=False),
    )


def only_stock(root: Path) -> tuple[Policy, ...]:
    """Two stock policies, by the same names."""
    return (
        Policy(0, "gold", STOCK, "gold", str(root / "gold")),
        Policy(1, "silver", STOCK, "silver", str(root / "silver"), default=False),
    )


def plan(root: Path, state: Path, policies: tuple[Policy, ...], *, short_path: bool = True) -> Host:
    """What to serve.

    Args:
        root: a directory on the file system to test.
        state: a directory for everything else, on another.
        policies: as one of the functions above returns them.
        short_path: whether the proxy reaches our files by itself.
    """
    ours = any(policy.has_own_spool for policy in policies)
    return Host(
        directory=str(root),
        state=str(state),
        port=0,
        users=USERS,
        policies=policies,
        pipeline=tuple(name for name in pipeline.CONFORMANCE if ours or name != "namespace"),
        filter_options=FILTER_OPTIONS,
        proxy_options={"allow_open_expired": "true"},
        max_file_size_bytes=5 * 1024**3 + 2,  # Swift's default; its suite wants a limit near it
        memcached=shutil.which("memcached") or "memcached",
        short_path=short_path,
        sync=False,
        updater_interval_s=SELDOM_S,
    )


def remove_tree(directory: str | Path) -> None:
    """Remove what nobody needs any more: a server that was killed finishes the system call that it is in."""
    wait_for(lambda: shutil.rmtree(directory, ignore_errors=True) or not os.path.exists(directory))


@contextmanager
def running(host: Host) -> Iterator[instance.Instance]:
    """Serve `host`; in the end its directories are removed."""
    os.makedirs(host.directory)
    try:
        with instance.running(host) as served:
            yield served
    finally:
        remove_tree(host.directory)


def write_test_conf(served: instance.Instance, path: Path) -> Path:
    """Write the file that `SWIFT_TEST_CONFIG_FILE` names, for Swift's and for swiftclient's suite."""
    access = served.access
    s3api = {"endpoint": access.s3_endpoint, "region": "us-east-1", "s3_acl_tests_enabled": "True"}
    functional = {
        "auth_uri": access.auth_url,
        "s3_storage_url": f"{access.s3_endpoint}/",
        "collate": "C",
        "storage_domain": "example.net",
        "service_prefix": "SERVICE",
    }
    for number, user in zip(("", "2", "3"), USERS, strict=False):
        functional |= {f"username{number}": user.name, f"password{number}": user.key}
        functional |= {f"s3_access_key{number}": user.login, f"s3_secret_key{number}": user.key}
        s3api |= {f"access_key{number or 1}": user.login, f"secret_key{number or 1}": user.key}
    functional["account"] = USERS[0].account
    for number, user in (("2", USERS[3]), ("5", USERS[4]), ("6", USERS[5])):
        functional |= {f"account{number}": user.account}
        functional |= {f"username{number}": user.name, f"password{number}": user.key}
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_dict({"s3api_test": s3api, "func_test": functional})
    with path.open("w") as file:
        parser.write(file)
    return path
