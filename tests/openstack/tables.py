# SPDX-License-Identifier: Apache-2.0
"""The services' tables: made once for each release, which takes a minute, and copied for each stand.

What is in them does not depend on a stand: Nova's cells name their database and broker by templates, which each service
fills from its own configuration (nova, "Template URLs in Cell Mappings"), and Keystone's first user has no endpoints.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from tests.openstack import database, settings
from tests.openstack.crew import PROGRAMS, Crew
from tests.openstack.settings import Site

BUILD = Path(__file__).parents[2] / "build"
PACKAGES = ("keystone", "glance", "openstack-placement", "cinder", "nova")
SERVER = "{scheme}://{username}:{password}@{hostname}:{port}"


def prepare(crew: Crew, site: Site) -> None:
    """Start a database server that has all tables."""
    directory, made = site.root / "mariadb", BUILD / f"tables-{_release()}"
    directory.mkdir()
    if not made.exists():
        _make(crew, site, directory)
        _keep(database.rows(directory), made)
    else:
        shutil.copytree(made, database.rows(directory))
    database.start(crew, directory, site.ports["mariadb"])
    database.wait(crew, site.ports["mariadb"])


def _release() -> str:
    """A word for the versions that decide what tables there are."""
    server = subprocess.run(["mariadbd", "--version"], capture_output=True, text=True, check=True).stdout
    words = [f"{name}=={metadata.version(name)}" for name in PACKAGES]
    return hashlib.sha256("\n".join([server, *words]).encode()).hexdigest()[:12]


def _keep(rows: Path, made: Path) -> None:
    """Keep the files of a server that has stopped; whole or not at all."""
    unfinished = made.with_name(f"{made.name}.{rows.parents[1].name}")
    shutil.copytree(rows, unfinished)
    try:
        unfinished.rename(made)
    except OSError:  # another stand was quicker
        shutil.rmtree(unfinished)


def _make(crew: Crew, site: Site, directory: Path) -> None:
    database.install(directory)
    database.start(crew, directory, site.ports["mariadb"])
    database.wait(crew, site.ports["mariadb"])
    database.create(directory, settings.DATABASES)
    etc = site.etc
    nova = (PROGRAMS / "nova-manage", "--config-file", etc / "nova/nova.conf")
    placement = (PROGRAMS / "placement-manage", "--config-file", etc / "placement/placement.conf")
    # Two at a time.
    crew.start("keystone-tables", *keystone(site), "db_sync")
    crew.run("nova-api-tables", *nova, "api_db", "sync")
    crew.start("cinder-tables", PROGRAMS / "cinder-manage", "--config-file", etc / "cinder.conf", "db", "sync")
    cells = (*nova, "cell_v2")
    crew.run("nova-cell0", *cells, "map_cell0", "--database_connection", f"{SERVER}/nova_cell0?{{query}}")
    crew.wait("keystone-tables")
    crew.start("glance-tables", PROGRAMS / "glance-manage", "--config-file", etc / "glance/glance-api.conf", "db_sync")
    crew.run("nova-tables", *nova, "db", "sync")
    crew.wait("cinder-tables")
    crew.start("placement-tables", *placement, "db", "sync")
    places = ("--database_connection", f"{SERVER}/{{path}}?{{query}}", "--transport-url", f"{SERVER}/")
    crew.run("nova-cell1", *cells, "create_cell", "--name", "cell1", *places)
    crew.run("keystone-first", *keystone(site), "bootstrap", "--bootstrap-password", settings.PASSWORD)
    crew.wait("glance-tables")
    crew.wait("placement-tables")
    crew.stop(database.NAME)


def keystone(site: Site) -> tuple[str | Path, ...]:
    """How Keystone's command for administrators is called."""
    return (PROGRAMS / "keystone-manage", "--config-file", site.etc / "keystone/keystone.conf")
