# SPDX-License-Identifier: Apache-2.0
"""`lustack` as it is, on a fake Lustre that is kept in files; for tests that need a process to kill.

    FILED_LUSTRE=DIRECTORY [FILED_SINK=DIRECTORY] [FILED_FAULTS=SEED] [FILED_PROOF=JSON] \
        python -m tests.filed_daemon sync run ...

The proof: whenever records of files in a container are cleared, its database says so, or a durable job will find it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from dataclasses import dataclass

from tests.filed_lustre import FiledLustre, made_and_removed, seeded
from tests.filed_sink import FiledSink

from lustack.cli import main as cli
from lustack.lustre import client
from lustack.sync import world
from lustack.sync.sources.changelog import parse_position


@dataclass(frozen=True)
class Proof:
    """Whether what is cleared is done. No name in the container is used twice.

    Attributes:
        state: the daemon's memory.
        database: of the container.
        directory: of the container.
        key: the FID of that, in hexadecimal digits.
        account: of the container.
        container: its name.
    """

    state: str
    database: str
    directory: str
    key: str
    account: str
    container: str

    def __call__(self, mdt, index, records):
        stored = self.ask(self.state, "SELECT position FROM source")
        if not stored:
            # It never knew where it was: everything is compared, also if it is killed now.
            return []
        wrong = []
        position = parse_position(json.loads(stored[0][0])[mdt]).index
        if index > position:
            wrong.append(f"{mdt}: {index} is cleared, {position} is stored")
        for is_made, parent, name in made_and_removed(records):
            if parent.hex() == self.key and not self.is_done(is_made, os.fsdecode(name)):
                wrong.append(f"{mdt}: {'made' if is_made else 'removed'}: {name!r}")
        return wrong

    def is_done(self, is_made, name):
        path = os.path.join(self.directory, name)
        if os.path.lexists(path) is not is_made:
            # There is a later record of it.
            return True
        if self.is_listed(name) is is_made or os.path.lexists(path) is not is_made or self.is_job(name):
            return True
        # The job may have been finished just now.
        return self.is_listed(name) is is_made

    def is_listed(self, name):
        return bool(self.ask(self.database, "SELECT name FROM object WHERE deleted = 0 AND name = ?", name))

    def is_job(self, name):
        for account, container, prefix in self.ask(self.state, "SELECT account, container, prefix FROM job"):
            if account in ("", self.account) and container in ("", self.container) and name.startswith(prefix):
                return True
        return False

    def ask(self, database, statement, *values):
        connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=60)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()


def main():
    proof = os.environ.get("FILED_PROOF")
    lustre = FiledLustre(
        os.environ["FILED_LUSTRE"],
        chunk_bytes=int(os.environ.get("FILED_CHUNK", "43000")),
        chance=seeded(os.environ.get("FILED_FAULTS", "")),
        prove=Proof(**json.loads(proof)) if proof else None,
    )
    client.connect = lambda path: lustre
    listings = os.environ.get("FILED_SINK")
    if listings:
        world.SwiftSink = lambda rings: FiledSink(listings)
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
