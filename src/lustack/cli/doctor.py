# SPDX-License-Identifier: Apache-2.0
"""`lustack doctor`: the arguments, and what people are told."""

from __future__ import annotations

import argparse

from lustack.cli import arguments, exits

_EXAMPLES = """\
examples:
  lustack doctor nova
  lustack doctor nova --config-file /etc/nova/nova.conf --config-file /etc/nova/nova-compute.conf
  lustack doctor nova --python /opt/openstack/bin/python --json
  lustack doctor cinder --user cinder

Exit codes: 0 ready, 1 something is bad."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the command line."""
    parser = arguments.add_command(
        subparsers,
        "doctor",
        "tell whether this host is ready for volumes on Lustre",
        description="Looks at packages, versions, registration, mounts, locks and rights, and says how to mend what is "
        "not right. Changes nothing.",
        epilog=_EXAMPLES,
    )
    parser.add_argument("service", choices=["cinder", "nova"], help="what this host is to run")
    parser.add_argument("--config-file", metavar="FILE", action="append", default=[], help="of the service; repeatable")
    parser.add_argument("--python", metavar="PATH", default="", help="the service's Python (default: its program's)")
    parser.add_argument(
        "--user", metavar="NAME", default="", help="who runs cinder-volume (default: who this is; others need root)"
    )
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.set_defaults(run=run)


def run(wanted: argparse.Namespace) -> int:
    """Look, and tell.

    Returns:
        The exit code.
    """
    from lustack.doctor import cinder, findings, nova
    from lustack.doctor.host import Host

    if wanted.service == "cinder":
        found = cinder.examine(Host(), wanted.python, wanted.config_file, wanted.user)
    else:
        found = nova.examine(Host(), wanted.python, wanted.config_file)
    print(findings.render_json(found) if wanted.json else findings.render_text(found))
    return exits.DONE if findings.is_ready(found) else exits.FAILED
