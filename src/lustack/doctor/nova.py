# SPDX-License-Identifier: Apache-2.0
"""Whether this host is ready to run nova-compute with volumes on Lustre."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from lustack.doctor.findings import Finding, Verdict, judge
from lustack.doctor.host import Host, is_below
from lustack.doctor.interpreter import NoWitnessError, ask, find_interpreter

TESTED: Final = {"nova": "34.", "os-brick": "7."}
"""Releases that the tests run with."""

# Source: nova 34 virt/libvirt/driver.py MIN_LIBVIRT_VERSION, MIN_QEMU_VERSION.
_LEAST_LIBVIRT: Final = (8, 0, 0)
_LEAST_QEMU: Final = (6, 2, 0)

_QEMU_CONF: Final = "/etc/libvirt/qemu.conf"
_SHARED: Final = re.compile(r"^\s*shared_filesystems\s*=\s*\[([^\]]*)\]", re.MULTILINE)


def examine(host: Host, python: str, config_files: Sequence[str], qemu_conf: str = _QEMU_CONF) -> list[Finding]:
    """Look at everything.

    Args:
        host: this host.
        python: interpreter of nova-compute; empty: the one that its program names.
        config_files: of nova-compute; none: where Nova looks by itself.
        qemu_conf: of libvirt.
    """
    findings = [
        *host.look_at_client(),
        host.look_at_program("qemu-img", _LEAST_QEMU, "qemu-utils"),
        host.look_at_program("virsh", _LEAST_LIBVIRT, "libvirt-clients"),
    ]
    arguments = [word for file in config_files for word in ("--config-file", file)]
    try:
        seen = ask(python or find_interpreter("nova-compute"), "lustack.nova.witness", arguments, host.runner)
    except NoWitnessError as error:
        remedy = "install lustack where nova-compute is installed: /path/to/its/python -m pip install 'lustack'"
        return [*findings, Finding("interpreter", Verdict.BAD, str(error), remedy)]
    base = seen["mount_point_base"]
    return [
        *findings,
        *_judge_service(seen),
        _judge_account(seen),
        *host.look_at_mounts(base),
        _look_at_migration(base, qemu_conf),
    ]


def _judge_service(seen: dict[str, Any]) -> list[Finding]:
    versions = [
        judge(
            package,
            f"version {seen[package]}",
            is_good=seen[package].startswith(release),
            remedy=f"the tests run with {release}x; try it before you rely on it",
            otherwise=Verdict.WARNING,
        )
        for package, release in TESTED.items()
    ]
    driver = f"compute_driver = {seen['compute_driver']}"
    return [
        *versions,
        judge(
            "compute driver",
            f"{driver}: {seen['trouble']}" if seen["trouble"] else driver,
            is_good=not seen["trouble"],
            remedy="correct compute_driver in nova.conf; lustack and nova must be in one environment",
        ),
        judge(
            "registration",
            f"volumes of type lustre: {seen['registered'] or 'unknown to Nova'}",
            is_good=str(seen["registered"]).startswith("lustack."),
            remedy="set compute_driver = lustack_ext.LibvirtDriver in nova.conf, or run "
            "`python -m lustack.nova.hook install` with Nova's Python; then restart nova-compute",
        ),
        judge(
            "options",
            f"[libvirt] lustre_mount_options = {seen['mount_options']}",
            is_good="flock" in (seen["mount_options"] or "").split(","),
            remedy="add flock: qemu locks the files that it uses",
        ),
    ]


def _judge_account(seen: dict[str, Any]) -> Finding:
    """Whether Nova can ask Cinder where no user waits, as when servers start with their node."""
    return judge(
        "account",
        f"[cinder] auth_type is {'' if seen['has_account'] else 'not '}set",
        is_good=seen["has_account"],
        remedy="give Nova an account in section [cinder] as in [neutron]: without one a server whose volume was "
        "migrated does not start by itself with its node",
        otherwise=Verdict.WARNING,
    )


def _look_at_migration(base: str, qemu_conf: str) -> Finding:
    """Whether libvirt allows live migration: it does not know Lustre as a shared file system by itself."""
    remedy = f'set shared_filesystems = ["{base}"] in {qemu_conf} and restart libvirt (9.0 does not know it yet)'
    try:
        with open(qemu_conf, encoding="utf-8", errors="replace") as file:
            found = _SHARED.search(file.read())
    except OSError as error:
        return Finding("live migration", Verdict.WARNING, f"{qemu_conf}: {error.strerror}", remedy)
    named = re.findall(r'"([^"]*)"', found[1]) if found else []
    return judge(
        "live migration",
        f"{qemu_conf}: shared_filesystems = {named}",
        is_good=any(each.rstrip("/") == base or is_below(base, each) for each in named),
        remedy=remedy,
        otherwise=Verdict.WARNING,
    )
