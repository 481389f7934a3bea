# SPDX-License-Identifier: Apache-2.0
"""Talks to the Cinder of the tests, and looks at the files behind it with qemu-img.

Rule 1: what Cinder says is compared with what qemu-img and the database say, never with itself.
"""

from __future__ import annotations

import configparser
import contextlib
import json
import sqlite3
import subprocess
import urllib.request
from pathlib import Path

import requests
from cinderclient import client, exceptions
from cinderclient.contrib import noauth
from keystoneauth1 import session
from keystoneauth1.exceptions import ConnectTimeout
from tests.cinder.stand import FIXED_KEY, PROJECT, Stand, wait_for

GIB = 1 << 30
MICROVERSION = "3.71"
ANSWER_LIMIT_S = 20.0


class PatientSession(session.Session):
    """Asks again when the API's SQLite was locked by another service."""

    def request(self, *args, **kwargs):
        return super().request(*args, **{**kwargs, "status_code_retries": 5, "retriable_status_codes": [500]})


class Cinder:
    """A client with admin's rights."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.api = self._connect(None)

    def _connect(self, timeout_s: float | None) -> client.Client:
        endpoint = f"http://127.0.0.1:{self.stand.port}/v3"
        auth = noauth.CinderNoAuthPlugin("admin", PROJECT, endpoint=endpoint)
        return client.Client(MICROVERSION, session=PatientSession(auth=auth, timeout=timeout_s))

    def wait_for_services(self, *backends: str, others: int = 0) -> None:
        """Wait until back ends offer their pools, and so many other services are up."""
        # The API asks the scheduler, and what is asked before that one listens is lost: it would wait for minutes.
        limit_s, asking = ANSWER_LIMIT_S, self._connect(ANSWER_LIMIT_S)

        def are_up() -> bool:
            nonlocal limit_s, asking
            self.stand.check()
            try:
                services = asking.services.list()
                pools = find_backends(asking)
            except ConnectTimeout:
                # Or it is slow.
                limit_s *= 2
                asking = self._connect(limit_s)
                return False
            is_enough = len([each for each in services if each.state == "up"]) >= len(backends) + others
            return is_enough and pools >= {*backends}

        wait_for(are_up, "services are up and pools known")
        if "backup" in self.stand.processes:
            # What it says when the scheduler does not listen yet is lost; it says it again.
            wait_for(self.stand.can_back_up, "the scheduler knows cinder-backup")

    def pools(self) -> set[str]:
        """Names of the back ends that offer a pool."""
        return find_backends(self.api)

    def make_type(self, type_name: str, **specs: str):
        found = self.api.volume_types.create(type_name)
        found.set_keys({key.replace("__", ":"): value for key, value in specs.items()})
        return found

    def _wait(self, look, status: str):
        def is_there():
            found = look()
            is_bad = found.status.startswith("error") and not status.startswith("error")
            assert not is_bad, f"{found.id}: {found.status}"
            return found if found.status == status else None

        return wait_for(is_there, f"status {status}")

    def volume(self, volume, status: str = "available"):
        return self._wait(lambda: self.api.volumes.get(getattr(volume, "id", volume)), status)

    def create(self, size_gib: int = 1, kind: str | None = "raw", **options):
        given = options if kind is None else {**options, "volume_type": kind}
        return self.volume(self.api.volumes.create(size_gib, **given))

    def snapshot(self, volume, name: str = "s"):
        return self.look(self.api.volume_snapshots.create(volume.id, name=name))

    def look(self, thing, status: str = "available"):
        """A snapshot, backup or group, once it has a status."""
        return self._wait(lambda: thing.manager.get(thing.id), status)

    def snapshot_and_back(self, volume, *, may_leak: bool = False) -> None:
        """A snapshot can be made of it, and deleted."""
        self.gone(self.snapshot(volume))
        self.check(volume, may_leak=may_leak)

    def backup(self, volume, *, incremental: bool = False):
        made = self.api.backups.create(volume.id, name="b", incremental=incremental)
        return self.look(self.api.backups.get(made.id))

    def restore(self, backup, volume) -> None:
        self.api.restores.restore(backup.id, volume.id)
        self.look(backup)
        self.volume(volume)

    def forget(self, backup) -> None:
        """Take a backup's row out of the database, as if an older state of it had been restored."""
        with contextlib.closing(sqlite3.connect(self.stand.state / "cinder.db", timeout=120)) as database, database:
            database.execute("delete from backups where id = ?", (backup.id,))

    def upload(self, volume, disk_format: str) -> str:
        """Make an image of a volume; its id."""
        _, answer = self.api.volumes.upload_to_image(volume, False, "image", "bare", disk_format, "private", False)
        self.volume(volume)
        return answer["os-volume_upload_image"]["image_id"]

    def name_snapshot(self, snapshot) -> str:
        """Make an image as Nova does of a server that was booted from a volume: without bytes, but with a snapshot."""
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        parser.read(self.stand.etc / "cinder.conf")
        bdm = {"source_type": "snapshot", "boot_index": 0, "snapshot_id": snapshot.id, "volume_size": snapshot.size}
        given = {"status": "active", "size": 0, "block_device_mapping": json.dumps([bdm])}
        url = f"{parser['DEFAULT']['glance_api_servers']}/v2/images"
        with urllib.request.urlopen(urllib.request.Request(url, json.dumps(given).encode()), timeout=60) as answer:
            return json.load(answer)["id"]

    def make_image(self, *written: tuple[int, int]) -> str:
        """Give Glance a qcow2 image of 1 GiB with these patterns at these MiB; its id."""
        path = self.stand.root / "image"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", path, "1G"], check=True)
        io(path, "qcow2", *(f"write -P {pattern} {offset_mib}M 1M" for pattern, offset_mib in written))
        glance, described = f"{self.stand.images}/v2/images", {"name": "made", "disk_format": "qcow2"}
        image_id = requests.post(glance, json=described, timeout=ANSWER_LIMIT_S).json()["id"]
        with path.open("rb") as file:
            requests.put(f"{glance}/{image_id}/file", data=file, timeout=ANSWER_LIMIT_S).raise_for_status()
        path.unlink()
        return image_id

    def exists(self, volume) -> bool:
        try:
            self.api.volumes.get(volume.id)
        except exceptions.NotFound:
            return False
        return True

    def moved(self, volume, type_name: str):
        """The volume, once it has another type and has settled; None before."""
        found = self.volume(volume)
        settled = found.migration_status in {None, "success"}
        return found if settled and found.volume_type == type_name else None

    def gone(self, *things) -> None:
        """Delete volumes, snapshots, backups or images, and wait until they are gone."""
        for thing in things:
            thing.manager.delete(thing.id)

            def is_gone(thing=thing) -> bool:
                try:
                    found = thing.manager.get(thing.id)
                except exceptions.NotFound:
                    return True
                assert not found.status.startswith("error"), f"{thing.id}: {found.status}"
                return False

            wait_for(is_gone, f"{thing.id} is gone")

    # The truth.

    def host_of(self, volume) -> str:
        """Host, back end and pool."""
        return self.api.volumes.get(volume.id)._info["os-vol-host-attr:host"]

    def share_of(self, volume) -> Path:
        # The pool of a back end of ours is its share; the stock driver's has the name of the back end.
        return self.stand.share(self.host_of(volume).partition("#")[2].rpartition("/")[2])

    def name_of(self, volume) -> str:
        """Name of a volume's file."""
        status = self.api.volumes.get(volume.id)._info.get("os-vol-mig-status-attr:name_id")
        return f"volume-{status or volume.id}"

    def active_path(self, volume) -> Path:
        share, name = self.share_of(volume), self.name_of(volume)
        record = share / f"{name}.info"
        return share / (json.loads(record.read_text())["active"] if record.exists() else name)

    def files_of(self, volume) -> list[str]:
        return sorted(
            path.name for path in self.share_of(volume).iterdir() if path.name.startswith(self.name_of(volume))
        )

    def recorded(self, volume, key: str = "format") -> str | None:
        query = "select value from volume_admin_metadata where volume_id = ? and key = ? and deleted = 0"
        return self._ask_database(query, volume.id, key)

    def is_cached(self, image_id: str) -> bool:
        """Whether Cinder keeps a volume to make others of an image."""
        return self._ask_database("select 1 from image_volume_cache_entries where image_id = ?", image_id) is not None

    def _ask_database(self, query: str, *words: str):
        with contextlib.closing(sqlite3.connect(self.stand.state / "cinder.db", timeout=120)) as database:
            row = database.execute(query, words).fetchone()
        return row[0] if row else None

    def check(self, volume, *, may_leak: bool = False) -> dict:
        """Cinder's size and format are those of the file, and the chain is whole; what qemu-img says.

        Args:
            may_leak: clusters that nothing refers to are fine: room that a killed qemu-img took and did not use.
        """
        volume = self.api.volumes.get(volume.id)
        path, image_format = self.active_path(volume), self.recorded(volume)
        found = info(path, image_format)
        assert found[0]["virtual-size"] == volume.size * GIB, (found[0]["virtual-size"], volume.size)
        if image_format == "qcow2":
            command = ["qemu-img", "check", "-q", "-U", *render(path, "qcow2", is_encrypted=volume.encrypted)]
            code = subprocess.run(command, check=False).returncode
            # 3: leaked clusters and no errors. Source: qemu-img(1).
            assert code in ({0, 3} if may_leak else {0}), code
        return found[0]

    def write(self, volume, pattern: int, offset_mib: int, length_mib: int = 1) -> None:
        """Write a pattern as a guest would."""
        command = f"write -P {pattern} {offset_mib}M {length_mib}M"
        io(self.active_path(volume), self.recorded(volume), command, is_encrypted=volume.encrypted)

    def holds(self, volume, *expected: tuple[int, int]) -> None:
        """A guest reads these patterns at these MiB."""
        commands = [f"read -P {pattern} {offset_mib}M 1M" for pattern, offset_mib in expected]
        io(self.active_path(volume), self.recorded(volume), *commands, is_encrypted=volume.encrypted)

    def holds_one_of(self, volume, *expected: tuple[tuple[int, int], ...]) -> None:
        """A guest reads all of one of these, never some of each."""
        failed = []
        for each in expected:
            try:
                self.holds(volume, *each)
            except AssertionError as error:
                failed.append(str(error))
        assert len(failed) < len(expected), "\n".join(failed)

    def frozen_path(self, volume, snapshot) -> Path:
        """The file that holds what a snapshot saw."""
        share = self.share_of(volume)
        record = json.loads((share / f"{self.name_of(volume)}.info").read_text())
        return share / info(share / record[snapshot.id], "qcow2")[0]["backing-filename"]

    def saw(self, volume, snapshot, *expected: tuple[int, int]) -> None:
        """A snapshot saw these patterns at these MiB."""
        path = self.frozen_path(volume, snapshot)
        is_bottom = path.name == self.name_of(volume)
        image_format = self.recorded(volume, "base_format") if is_bottom else "qcow2"
        commands = [f"read -P {pattern} {offset_mib}M 1M" for pattern, offset_mib in expected]
        io(path, image_format, *commands, is_encrypted=volume.encrypted)


def find_backends(asking: client.Client) -> set[str]:
    """Names of the back ends that offer a pool."""
    return {pool.name.partition("@")[2].partition("#")[0] for pool in asking.pools.list()}


def info(path: Path, image_format: str) -> list[dict]:
    chain = [] if image_format == "raw" else ["--backing-chain"]
    out = subprocess.run(
        ["qemu-img", "info", "-U", "--output=json", *chain, "-f", image_format, path], check=True, capture_output=True
    ).stdout
    found = json.loads(out)
    return found if isinstance(found, list) else [found]


def render(path: Path, image_format: str, *, is_encrypted: bool) -> list[str]:
    """A file as an argument of QEMU's programs, with the stand's key if it is encrypted."""
    if not is_encrypted:
        return ["-f", image_format, str(path)]
    options = [f"driver=qcow2,file.filename={path}"]
    options += [f"{'backing.' * level}encrypt.key-secret=key" for level in range(len(inspect(path)))]
    return ["--object", f"secret,id=key,format=raw,data={FIXED_KEY}", "--image-opts", ",".join(options)]


def io(path: Path, image_format: str, *commands: str, is_encrypted: bool = False) -> None:
    """What a guest does to a disk."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", *words, *render(path, image_format, is_encrypted=is_encrypted)],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "verification failed" not in done.stdout, done.stdout


def inspect(path: Path) -> list[dict]:
    """The chain of a qcow2 file that may be encrypted."""
    command = ["qemu-img", "info", "-U", "--output=json", "--backing-chain", "--image-opts"]
    done = subprocess.run([*command, f"driver=qcow2,file.filename={path}"], check=True, capture_output=True)
    return json.loads(done.stdout)
