# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

from cinder.common import config

from lustack.cinder import served


def test_the_shares_are_those_of_cinders_back_ends(tmp_path: Path, coordinated: None):
    (tmp_path / "shares").write_text("10.0.0.1@tcp:/scratch/a\n")
    (tmp_path / "cinder.conf").write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\nenabled_backends = h1,h2\n"
        f"[h1]\nvolume_driver = lustack.cinder.driver.LustreDriver\nlustre_shares_config = {tmp_path}/shares\n"
        "[h2]\nvolume_driver = cinder.volume.drivers.nfs.NfsDriver\n"
    )
    (found,) = served.configure(["--config-file", str(tmp_path / "cinder.conf")])
    assert (found.backend, found.address, found.pool) == ("h1", "10.0.0.1@tcp:/scratch/a", "scratch/a")
    assert Path(found.point).parent == tmp_path / "mnt"
    config.CONF.reset()
