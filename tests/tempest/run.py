# SPDX-License-Identifier: Apache-2.0
"""`make tempest`: OpenStack's own tests of volumes against our driver, in a whole OpenStack; writes doc/tempest.md.

python tests/tempest/run.py [--stand DIRECTORY] [--page FILE] [--keep DIRECTORY] [--only REGEX] [--workers N]
                            [SUITE ...]

Without --stand it starts an OpenStack of its own; with it, it uses the one that `make openstack` has started there.
What tempest writes is kept in --keep, a stream for each run; the page is made of all that are there, so that after a
mend --only runs a part again: its results take the place of the earlier ones, which the page still names.
Exits 1 when a test failed.
"""

from __future__ import annotations

import argparse
import configparser
import contextlib
import importlib.metadata
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
# As a script, only its own directory is known.
sys.path[0] = str(ROOT)

from tests.cinder.stand import SERVER  # noqa: E402 (the lines above)
from tests.openstack import catalogue, cloud, settings  # noqa: E402
from tests.openstack import stand as openstack_stand  # noqa: E402
from tests.tempest import results  # noqa: E402

PROGRAMS = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "PYTHONWARNINGS": "ignore"}
_SHARED = r"test_volume_retype\.VolumeRetypeMultiattachTest"
SUITES = {
    "volume": ("tempest.api.volume", r"^tempest\.api\.volume\.(?!admin\.)"),
    "admin": ("tempest.api.volume.admin", rf"^tempest\.api\.volume\.admin\.(?!{_SHARED})"),
    "shared": ("tempest.api.volume.admin, raw alone", rf"^tempest\.api\.volume\.admin\.{_SHARED}"),
    "plugin": ("cinder_tempest_plugin.api", r"^cinder_tempest_plugin\.api\."),
    "scenario": ("cinder_tempest_plugin.scenario", r"^cinder_tempest_plugin\.scenario\."),
    "rbac": ("cinder_tempest_plugin.rbac", r"^cinder_tempest_plugin\.rbac\."),
    "compute": ("tempest.api.compute and scenario, of volumes", r"^tempest\.(api\.compute|scenario)\..*[vV]olume"),
}
# For which suites one back end is left alone, and why; the page says it.
ALONE = {
    "shared": ("raw", "the types of the test name no back end, and in qcow2 a retype to multi-attach is a migration"),
}
# What is off, and why; the page says it.
OFF = {
    "volume-feature-enabled": {
        "consistency_group": "Nova freezes one volume after the other, so there is no moment that is the same for all",
        "extend_attached_encrypted_volume": "Nova looks for the size of LUKS in devices and RBD, ours is inside qcow2",
        "replication": "a file system has no second site",
    },
    "validation": {"run_validation": "there are no networks, so nobody logs in to guests"},
}
# What is not run, and why; the page says it, test by test.
EXCLUDED = {
    r"test_volume_backup_export_import|rbac.*test_import_backup": "they want the name of the driver to begin with "
    "`cinder.backup.drivers`; tests/cinder/test_life.py exports and imports records of ours",
    "test_encrypted_cinder_volumes_cryptsetup|luksv2": "Cinder's check of types, for drivers whose volumes are files, "
    "and qcow2 know LUKS 1 only",
    "SnapshotDataIntegrityTests|VolumeMultiattachTests|test_boot_cloned_encrypted_volume|test_rebuild_volume_backed|"
    "TestInstancesWithCinderVolumes|TestMinimumBasic|TestVolumeBackupRestore|TestVolumeMigrateRetypeAttached": ""
    "they log in to guests, and there are no networks; what guests find on their disks, tests/openstack looks at",
}
# For which reasons tempest itself skips tests, or they failed, and what that means; the page says it.
MEANINGS = {
    r"bugs/20(09818|16402|17108|17110|20113|20261) ": "the plugin skips them with every back end, "
    "for what Cinder's API allows to whom; no driver is asked",
    r"bugs/2112187 ": "tempest skips them with every back end; TestMultiAttachVolumeSwap exchanges volumes of guests",
    "Attached encrypted volume extend": "see Off, above",
    "consistency group|replication": "see Off, above",
    "Barbican": "keys are in Cinder's and Nova's own configuration here; TestEncryptedCinderVolumes runs with these",
    "Instance validation|Validation must be enabled|public_network_id": "they log in to guests; there are no networks",
    "Less than 2 compute nodes": "the stand is one machine",
    "No valid host was found": "more guests at once than the stand counted processors for; it counts more now",
    "failed to reach .* volume type": "the volume was in qcow2: Cinder 29 disables no back end; it is frozen now",
    "hw_scsi_model": "they want the volume to be a LUN of the guest, which libvirt makes of block devices only",
}
# The type of volumes that several guests may use.
SHARED = "multiattach"
BACKENDS = tuple(openstack_stand.BACKENDS)
WORKERS = 2
NANO = {"m1.nano": 128, "m1.micro": 160}
DISTRIBUTIONS = ("tempest", "cinder-tempest-plugin", "cinder", "os-brick", "nova", "glance", "keystone")


def describe(stand: openstack_stand.Stand, image: str, flavors: list[str], work: Path) -> dict[str, dict[str, object]]:
    """What tempest has to know: where things are, and what this cloud can do."""
    return {
        "DEFAULT": {"log_file": work / "tempest.log"},
        "oslo_concurrency": {"lock_path": work / "lock"},
        "auth": {
            "use_dynamic_credentials": "true",
            "create_isolated_networks": "false",
            "admin_username": "admin",
            "admin_password": settings.PASSWORD,
            "admin_project_name": "admin",
            "admin_domain_name": "Default",
            "default_credentials_domain_name": "Default",
            "tempest_roles": "member",
        },
        "identity": {
            "uri_v3": f"{stand.site.url('keystone')}/v3",
            "auth_version": "v3",
            "region": settings.REGION,
        },
        # Of Neutron there is only the stand-in; without it, tests with guests are skipped.
        "service_available": {"cinder": "true", "glance": "true", "nova": "true", "neutron": "true", "swift": "false"},
        "network-feature-enabled": {"api_extensions": ""},
        "compute": {
            "image_ref": image,
            "image_ref_alt": image,
            "flavor_ref": flavors[0],
            "flavor_ref_alt": flavors[1],
            "build_timeout": 300,
            "min_microversion": "2.1",
            "max_microversion": "latest",
        },
        "compute-feature-enabled": {
            "resize": "true",
            "stable_rescue": "true",
            "swap_volume": "true",
            "vnc_console": "false",
            "volume_multiattach": "true",
        },
        "enforce_scope": {"cinder": "true"},
        "validation": {"connect_method": "fixed"},
        "image": {"region": settings.REGION},
        "volume": {
            "backend_names": ",".join(BACKENDS),
            "storage_protocol": "lustre",
            "vendor_name": "lustack",
            "volume_type": BACKENDS[0],
            "volume_type_multiattach": SHARED,
            "volume_size": 1,
            "manage_volume_ref": f"source-name,{SERVER}:/lfs/{BACKENDS[0]}/volume-%s",
            "manage_snapshot_ref": "source-name,%s",
            "build_timeout": 300,
            "min_microversion": "3.0",
            "max_microversion": "3.71",
        },
        "volume-feature-enabled": {
            "backup": "true",
            "snapshot": "true",
            "clone": "true",
            "manage_volume": "true",
            "manage_snapshot": "true",
            "extend_attached_volume": "true",
            "extend_volume_with_snapshot": "true",
            "volume_revert": "true",
            "volume_image_dep_tests": "true",
            "multi_backend": "true",
            "concurrency_tests": "true",
        },
    }


def prepare(stand: openstack_stand.Stand, work: Path) -> None:
    """Make the workspace of tempest, and in the cloud what its tests start from."""
    with contextlib.closing(cloud.Cloud(stand)) as made:
        made.make_type(SHARED, volume_backend_name="raw", multiattach="<is> True")
    with catalogue.connect(stand.site, "admin") as admin:
        image = admin.image.find_image(cloud.IMAGE)
        admin.image.update_image(image, visibility="public")
        flavors = [
            (admin.compute.find_flavor(name) or admin.compute.create_flavor(name=name, ram=ram, vcpus=1, disk=1)).id
            for name, ram in NANO.items()
        ]
    # Its list of workspaces would be in the home directory.
    init = [PROGRAMS / "tempest", "init", "--workspace-path", work.parent / "workspaces.yaml", work]
    subprocess.run(init, check=True, capture_output=True)
    parser = configparser.ConfigParser(interpolation=None, default_section="<none>")
    parser.read_dict(describe(stand, image.id, flavors, work))
    parser.read_dict({section: dict.fromkeys(options, "false") for section, options in OFF.items()})
    with (work / "etc" / "tempest.conf").open("w") as file:
        parser.write(file)


def select(name: str, only: str = "") -> list[str | Path]:
    """The command that runs a suite, or the part of it that a regular expression finds."""
    return [PROGRAMS / "tempest", "run", "--regex", f"^(?=.*(?:{only})){SUITES[name][1]}"]


def list_tests(name: str, work: Path) -> str:
    """The names of all tests of a suite, one a line."""
    command = [*select(name), "--list-tests"]
    lines = subprocess.run(command, cwd=work, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout
    return "".join(f"{line}\n" for line in lines.splitlines() if re.search(SUITES[name][1], line))


def run(name: str, only: str, workers: int, work: Path) -> bytes:
    """Run a suite in a workspace, or a part of it; returns its subunit stream."""
    command = [*select(name, only), "--exclude-regex", "|".join(EXCLUDED), "--concurrency", str(workers)]
    # In a session of its own, so that its workers end with it.
    process = subprocess.Popen(command, cwd=work, env=ENVIRONMENT, start_new_session=True)
    try:
        process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    last = [PROGRAMS / "stestr", "last", "--subunit"]
    return subprocess.run(last, cwd=work, env=ENVIRONMENT, check=False, capture_output=True).stdout


@contextlib.contextmanager
def left_alone(stand: openstack_stand.Stand, name: str) -> Iterator[None]:
    """Have volumes scheduled to one back end only, for a suite that needs it."""
    kept = ALONE.get(name, ("", ""))[0]
    with contextlib.ExitStack() as stack:
        admin = stack.enter_context(catalogue.connect(stand.site, "admin"))
        for service in list(admin.block_storage.services(binary="cinder-volume")):
            if kept and service.host.rpartition("@")[2] != kept:
                # Cinder's call that disables a service changes nothing. Source: cinder 29.0.0, api/v3/services.py.
                admin.block_storage.freeze_service(service)
                stack.callback(admin.block_storage.thaw_service, service)
        yield


def read(kept: Path) -> list[results.Suite]:
    """What all runs that were kept have found, but for what is not run any more."""
    suites = []
    gone = re.compile("|".join(EXCLUDED))
    for name, (title, regex) in SUITES.items():
        # Their names begin with their number.
        streams = sorted(kept.glob(f"*-{name}.subunit"))
        if streams:
            runs = [results.parse(path.read_bytes()).without(gone) for path in streams]
            names = (kept / f"{name}.names").read_text().splitlines()
            suites.append(results.merge(title, regex, names, runs, EXCLUDED))
    return suites


@contextlib.contextmanager
def find_stand(root: Path | None) -> Iterator[openstack_stand.Stand]:
    """The OpenStack at a directory, or one that runs for as long as it is used."""
    if root is not None:
        yield openstack_stand.attach(root)
        return
    # Not below /tmp, which is closed to other users at times: guests run as one.
    place = Path(tempfile.mkdtemp(prefix="lustack-tempest-", dir="/var/tmp"))
    place.chmod(0o755)
    try:
        with openstack_stand.running(place) as stand:
            yield stand
    finally:
        shutil.rmtree(place)


def find_commit() -> str:
    """What is tested; with a `+` where that is not what the repository has."""
    command = ["git", "-C", ROOT, "describe", "--always", "--dirty=+"]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def list_commits(kept: Path) -> str:
    """What the runs that were kept have tested: one commit, or each one with its suites."""
    suites: dict[str, list[str]] = {}
    for path in sorted(kept.glob("*.commit")):
        suites.setdefault(path.read_text(), []).append(path.stem)
    if len(suites) < 2:
        return "".join(f", commit {commit}" for commit in suites if commit)
    return "".join(f", commit {commit} ({', '.join(names)})" for commit, names in suites.items())


def collect_facts(stand: openstack_stand.Stand, commits: str, workers: int) -> list[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in DISTRIBUTIONS)
    ours = importlib.metadata.version("lustack") + commits
    load = " ".join(f"{each:.0f}" for each in os.getloadavg())
    guests = "emulated" if stand.site.accelerator == "qemu" else stand.site.accelerator
    return [
        f"Versions: lustack {ours}; {versions}.",
        f"Back ends: {' and '.join(BACKENDS)}, both with our driver; backups with our backup driver; guests: {guests}.",
        "The stand is that of `make openstack`: `mount -t lustre` is a stand-in over ext4, and there are no networks.",
        *(f"Off: `{option}`, since {why}." for options in OFF.values() for option, why in options.items()),
        *(f"`{SUITES[name][0]}`: {why}." for name, (_, why) in ALONE.items()),
        f"Run {time.strftime('%Y-%m-%d', time.gmtime())}, {os.cpu_count()} cores, {workers} workers, load {load}.",
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="OpenStack's own tests of volumes against our driver.")
    parser.add_argument("--stand", type=Path, help="one that make openstack has started")
    parser.add_argument("--page", type=Path, default=ROOT / "doc" / "tempest.md", help="what to write")
    parser.add_argument("--keep", type=Path, help="a directory for what tempest writes")
    parser.add_argument("--only", default="", help="a part of the suites: a regular expression")
    parser.add_argument("--workers", type=int, default=WORKERS, help="tests at the same time")
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}; all if none is named")
    options = parser.parse_args()
    if os.geteuid() != 0:
        print("root is needed: it mounts file systems and starts guests", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    commit = find_commit()
    with find_stand(options.stand) as stand, tempfile.TemporaryDirectory() as place:
        work, kept = Path(place) / "tempest", options.keep or Path(place)
        kept.mkdir(parents=True, exist_ok=True)
        prepare(stand, work)
        for name in options.suites or SUITES:
            (kept / f"{name}.names").write_text(list_tests(name, work))
            number = len(list(kept.glob("*.subunit")))
            with left_alone(stand, name):
                stream = run(name, options.only, options.workers, work)
            (kept / f"{number:03}-{name}.commit").write_text(commit)
            (kept / f"{number:03}-{name}.subunit").write_bytes(stream)
            suites = read(kept)
            facts = collect_facts(stand, list_commits(kept), options.workers)
            options.page.write_text(results.render(suites, facts, MEANINGS))
    return report(suites, options.page)


def report(suites: list[results.Suite], page: Path) -> int:
    """Say what came out; returns the exit status."""
    for suite in suites:
        for result in suite.having(results.FAILED):
            print(f"== FAILED: {result.name}\n{result.reason}")
    failed = sum(len(suite.having(results.FAILED)) for suite in suites)
    ran = sum(len(suite.having(results.PASSED)) for suite in suites)
    left = sum(len(suite.having(results.NOT_RUN)) for suite in suites)
    print(f"{ran} passed, {failed} failed, {left} not run; written: {page}")
    return 0 if ran and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
