# SPDX-License-Identifier: Apache-2.0
"""Whether this host is ready to run cinder-volume and cinder-backup with volumes on Lustre."""

from __future__ import annotations

import os
import pwd
import re
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from lustack.brick.errors import CommandError
from lustack.doctor.findings import Finding, Verdict, judge
from lustack.doctor.host import Host
from lustack.doctor.interpreter import NoWitnessError, ask, find_interpreter
from lustack.errors import LustackError

TESTED: Final = {"cinder": "29.", "os-brick": "7."}
"""Releases that the tests run with."""

# Its FUSE exports are what the raw view needs. Source: QEMU 6.0's change log.
_LEAST_QEMU: Final = (6, 0, 0)
_FUSE: Final = "/dev/fuse"

# What the driver runs as root beside what Cinder's own filters allow, in a form that changes nothing; exit codes.
# Source: etc/cinder/rootwrap.d/lustack.filters; rootwrap's own codes are 96 and above.
_ROOT_COMMANDS: Final = {
    "fallocate": (("fallocate", "--version"), 0),
    "umount": (("umount", "--version"), 0),
    "find": (("find", "/", "-maxdepth", "1", "-type", "f", "-name", "lustack-doctor", "-printf", "%f\\n"), 0),
    "lustack-rawview": (("lustack-rawview",), 2),
    "lustack-record": (("lustack-record",), 2),
    "lustack-copy": (("lustack-copy",), 2),
}


def examine(host: Host, python: str, config_files: Sequence[str], user: str = "", fuse: str = _FUSE) -> list[Finding]:
    """Look at everything.

    Args:
        host: this host.
        python: interpreter of cinder-volume; empty: the one that its program names.
        config_files: of cinder-volume; none: where Cinder looks by itself.
        user: who runs the service; empty: who this is.
        fuse: the device that the raw view of qcow2 volumes needs.
    """
    findings = [
        *host.look_at_client(),
        host.look_at_program("qemu-img", _LEAST_QEMU, "qemu-utils"),
        host.look_at_program("qemu-storage-daemon", _LEAST_QEMU, "qemu-system-common or qemu-utils"),
        judge("fuse", fuse, is_good=os.path.exists(fuse), remedy="modprobe fuse and install fuse3"),
    ]
    arguments = [word for file in config_files for word in ("--config-file", file)]
    try:
        become = find_way(user)
        seen = ask(python or find_interpreter("cinder-volume"), "lustack.cinder.witness", arguments, host.runner)
    except NoWitnessError as error:
        remedy = "install lustack where cinder-volume is installed: /path/to/its/python -m pip install 'lustack'"
        return [*findings, Finding("interpreter", Verdict.BAD, str(error), remedy)]
    except KeyError:
        return [*findings, Finding("user", Verdict.BAD, f"there is no user {user}", "name who runs cinder-volume")]
    is_root = pwd.getpwnam(user).pw_uid == 0 if user else os.geteuid() == 0
    as_user = replace(host, become=become)
    return [
        *findings,
        *_judge_versions(seen),
        *_judge_backends(seen["backends"], host, as_user),
        *(() if is_root else look_at_rootwrap(seen["root_helper"], as_user)),
        *_judge_locks(seen),
        _judge_account(seen),
        *_judge_backup(seen["backup"], as_user),
    ]


def find_way(user: str) -> tuple[str, ...]:
    """The words before a command that make it run as a user; none when that is who this is.

    Args:
        user: empty: who this is.

    Raises:
        KeyError: there is no such user.
    """
    uid = pwd.getpwnam(user).pw_uid if user else os.geteuid()
    return () if uid == os.geteuid() else ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")


def _judge_versions(seen: dict[str, Any]) -> Iterable[Finding]:
    for package, release in TESTED.items():
        yield judge(
            package,
            f"version {seen[package]}",
            is_good=seen[package].startswith(release),
            remedy=f"the tests run with {release}x; try it before you rely on it",
            otherwise=Verdict.WARNING,
        )
    yield judge(
        "connector",
        f"connections of type lustre: {seen['registered'] or 'unknown to os-brick'}",
        is_good=str(seen["registered"]).startswith("lustack."),
        remedy="see that one os-brick is installed where cinder-volume is, and nothing else registers `lustre`",
    )


def _judge_backends(backends: Sequence[dict[str, Any]], host: Host, as_user: Host) -> Iterable[Finding]:
    yield judge(
        "back ends",
        f"enabled_backends = {', '.join(each['name'] for each in backends) or 'nothing'}",
        is_good=any(each["is_ours"] for each in backends),
        remedy="enable a section with volume_driver = lustack.cinder.driver.LustreDriver",
    )
    for backend in backends:
        section = f"[{backend['name']}]"
        if backend["trouble"]:
            remedy = "correct it in cinder.conf; lustack and cinder must be in one environment"
            yield Finding("configuration", Verdict.BAD, f"{section} {backend['trouble']}", remedy)
        elif backend["is_ours"]:
            yield from _judge_options(section, backend)
            for share in backend["shares"]:
                who = host if backend["operations"] == "false" else as_user
                yield from who.look_at_share(share["address"], share["point"])


def _judge_options(section: str, backend: dict[str, Any]) -> Iterable[Finding]:
    options = backend["mount_options"] or ""
    yield judge(
        "options",
        f"{section} lustre_mount_options = {options}",
        is_good="flock" in options.split(","),
        remedy="add flock: qemu locks the files that it uses",
    )
    for option, found in (("operations", backend["operations"]), ("permissions", backend["permissions"])):
        yield judge(
            "options",
            f"{section} nas_secure_file_{option} = {found}",
            is_good=found in {"true", "false"},
            remedy="say true or false: auto depends on whether there were volumes when the service first started",
            otherwise=Verdict.WARNING,
        )


def look_at_rootwrap(root_helper: str, host: Host) -> Iterable[Finding]:
    """Whether the service can run as root what it must: tried, as its user.

    Args:
        root_helper: the words that make a command run as root.
        host: runs commands as the service's user.
    """
    for name, (command, code) in _ROOT_COMMANDS.items():
        why = _try_as_root([*host.become, *shlex.split(root_helper), *command], code, host)
        yield judge(
            "rootwrap",
            f"{name}: {why or 'it may be run as root'}",
            is_good=not why,
            remedy="copy etc/cinder/rootwrap.d/lustack.filters to a directory of filters_path in rootwrap.conf, have "
            f"exec_dirs there name the directory of {name}, and let sudo run cinder-rootwrap without a password",
        )


def _try_as_root(command: Sequence[str], code: int, host: Host) -> str:
    """Why a command cannot be run as root; empty: it can, and ends with the exit code."""
    try:
        said = host.runner.run(command, key=f"root {command[-1]}", limit_s=host.limit_s)
    except CommandError as error:
        return "" if error.code == code else re.sub(r"\s+", " ", error.message).strip() or str(error)
    except (LustackError, OSError) as error:
        return str(error)
    return "" if code == 0 else f"it said {said[:80]!r}"


def _judge_locks(seen: dict[str, Any]) -> Iterable[Finding]:
    found = seen["coordination"] or "nothing"
    yield judge(
        "coordination",
        f"cluster = {seen['cluster'] or 'none'}, [coordination] backend_url = {found}",
        is_good=not seen["cluster"] or not found.startswith(("file:", "nothing")),
        remedy="hosts that share a back end need locks that reach all of them: etcd3+http://... or another of tooz",
    )


def _judge_account(seen: dict[str, Any]) -> Finding:
    """Whether Cinder can have Nova do what a volume in use needs."""
    return judge(
        "account",
        f"[nova] auth_type is {'' if seen['has_account'] else 'not '}set",
        is_good=seen["has_account"],
        remedy="give Cinder an account with the role `service` in section [nova] if guests use volumes: without one "
        "Nova refuses their snapshots, does not see that they grow, and waits in vain when a server is rebuilt",
        otherwise=Verdict.WARNING,
    )


def _judge_backup(backup: dict[str, Any], host: Host) -> Iterable[Finding]:
    found = f"backup_manager = {backup['manager']}, backup_driver = {backup['driver']}"
    if backup["trouble"]:
        remedy = "correct it in cinder.conf"
        yield Finding("backup", Verdict.BAD, f"{found}: {backup['trouble']}", remedy)
        return
    yield judge(
        "backup",
        found,
        is_good=backup["is_ready"],
        remedy="if cinder-backup runs here, set backup_manager = lustack.cinder.backup_manager.BackupManager, without "
        "which it does not know volumes on Lustre, or backup_driver = lustack.cinder.backup.LustreBackupDriver",
        otherwise=Verdict.WARNING,
    )
    if backup["share"]:
        yield from host.look_at_share(backup["share"], backup["point"])
