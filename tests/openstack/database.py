# SPDX-License-Identifier: Apache-2.0
"""A MariaDB of our own: Nova's services lock each other out of SQLite ("database is locked").

It keeps nothing safe, on purpose: what is in it ends with the stand.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

import pymysql
from tests.cinder.broker import can_connect
from tests.cinder.stand import wait_for
from tests.openstack.crew import Crew

USER = "openstack"
PASSWORD = "secret"
NAME = "mariadb"

OPTIONS = (
    "--no-defaults",
    "--user=root",
    "--bind-address=127.0.0.1",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--skip-log-bin",
    "--skip-name-resolve",
    "--max-connections=400",
    "--innodb-buffer-pool-size=128M",
)


def install(directory: Path) -> None:
    """Make the files of a server with nothing in it."""
    command = [
        "mariadb-install-db",
        "--no-defaults",
        "--user=root",
        f"--datadir={rows(directory)}",
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
    ]
    subprocess.run(command, check=True, capture_output=True)


def start(crew: Crew, directory: Path, port: int) -> None:
    """Start a server on the files that are there."""
    own = (f"--datadir={rows(directory)}", f"--socket={directory / 'socket'}", f"--pid-file={directory / 'pid'}")
    crew.start(NAME, "mariadbd", *OPTIONS, *own, f"--port={port}")


def wait(crew: Crew, port: int) -> None:
    """Wait until the server answers."""
    wait_for(lambda: crew.check() or can_connect(port), "the database listens")


def create(directory: Path, names: Iterable[str]) -> None:
    """Create databases, and a user that may do everything in them."""
    for name in names:
        ask(directory, f"CREATE DATABASE {name} CHARACTER SET utf8mb3")
    ask(directory, f"CREATE USER '{USER}'@'127.0.0.1' IDENTIFIED BY '{PASSWORD}'")
    ask(directory, f"GRANT ALL ON *.* TO '{USER}'@'127.0.0.1'")


def ask(directory: Path, query: str, values: Sequence[str] = ()) -> list[tuple]:
    """What a query finds, asked as root."""
    connection = pymysql.connect(unix_socket=str(directory / "socket"), user="root", autocommit=True)
    try:
        cursor = connection.cursor()
        cursor.execute(query, values)
        return list(cursor.fetchall())
    finally:
        connection.close()


def rows(directory: Path) -> Path:
    """Where the server's files are."""
    return directory / "rows"


def url(port: int, name: str) -> str:
    """How services name a database."""
    return f"mysql+pymysql://{USER}:{PASSWORD}@127.0.0.1:{port}/{name}?charset=utf8"
