# SPDX-License-Identifier: Apache-2.0
"""What a guest has said: its serial console, in a file of Nova's."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.cinder.stand import wait_for

LIMIT_S = 900.0
DISK = "vdb"
"""What the guest calls the first disk beside that which it has booted from."""
GIB_SECTORS = (1 << 30) // 512


@dataclass
class Console:
    """Remembers up to where it was read: what was said before is not waited for again.

    Attributes:
        path: of the file.
        seen: characters that are old.
        boot: what the guest calls its latest boot that was waited for.
    """

    path: Path
    seen: int = 0
    boot: str = ""

    def text(self) -> str:
        return self.path.read_text(errors="replace") if self.path.exists() else ""

    def wait_for_boot(self) -> None:
        """Wait until the guest has come up once more; its console may begin anew with that."""

        def look() -> re.Match | None:
            found = list(re.finditer(r"GUEST-UP (\S+)\s*$", self.text(), re.MULTILINE))
            return found[-1] if found and found[-1].group(1) != self.boot else None

        found = wait_for(look, "the guest is up", LIMIT_S)
        self.boot, self.seen = found.group(1), found.end()

    def wait(self, pattern: str) -> re.Match:
        """Wait until the guest says something new.

        Args:
            pattern: what is looked for; a line ends before its `$`.
        """
        compiled = re.compile(pattern, re.MULTILINE)
        found = wait_for(lambda: compiled.search(self.text(), self.seen), f"the guest says {pattern}", LIMIT_S)
        self.seen = found.end()
        return found

    def skip(self) -> None:
        """What was said until now is old."""
        self.seen = len(self.text())

    def disk(self, name: str, sectors: int) -> str:
        """Wait until the guest sees a disk, or a new size of it; what the disk held then.

        Args:
            name: of the disk.
            sectors: its size, in 512 bytes.
        """
        return self.wait(rf"GUEST-DISK {name} sectors={sectors} serial=\S* holds=(.*?)\s*$").group(1)

    def counter(self, disk: str) -> int:
        """The counter that the guest writes to a disk, once it has gone up from now on."""
        self.skip()
        return int(self.wait(rf"GUEST-WROTE {disk} (\d+)\s*$").group(1))
