# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.errors import ConfigurationError
from lustack.posix.atomic import Sync
from lustack.swift.settings import Settings


def test_without_options_the_defaults_hold():
    assert Settings.from_conf({}) == Settings("/var/spool/lustack", 65536)


def test_options_of_others_play_no_part():
    assert Settings.from_conf({"devices": "/srv/node", "workers": "2", "lustrelike": "x"}) == Settings()


def test_options_are_read():
    conf = {
        "lustre_spool_dir": "/var/spool/x",
        "lustre_small_hash_bytes": "0",
        "lustre_deadline_s": "7",
        "lustre_threads": "3",
        "lustre_fsync": "close, scratch=never",
    }
    assert Settings.from_conf(conf) == Settings("/var/spool/x", 0, 7, 3, {"": Sync.CLOSE, "scratch": Sync.NEVER})


@pytest.mark.parametrize(
    ("conf", "sentence"),
    [
        (
            {"lustre_spool_dri": "/x"},
            (
                "object-server.conf: lustre_spool_dri = '/x', but it must be removed: no such option. "
                "Known: lustre_deadline_s, lustre_fsync, lustre_small_hash_bytes, lustre_spool_dir, lustre_threads"
            ),
        ),
        (
            {"lustre_spool_dir": "spool"},
            "object-server.conf: lustre_spool_dir = 'spool', but it must be an absolute path",
        ),
        (
            {"lustre_small_hash_bytes": "-1"},
            "object-server.conf: lustre_small_hash_bytes = '-1', but it must be a number of bytes, 0 or more",
        ),
        (
            {"lustre_small_hash_bytes": "64k"},
            "object-server.conf: lustre_small_hash_bytes = '64k', but it must be a number of bytes, 0 or more",
        ),
        (
            {"lustre_fsync": "scratch=sometimes"},
            (
                "object-server.conf: lustre_fsync = 'scratch=sometimes', but it must be always, close or never, "
                "for one policy NAME=close, with commas between them"
            ),
        ),
        (
            {"lustre_deadline_s": "0"},
            "object-server.conf: lustre_deadline_s = '0', but it must be a number of seconds, 1 or more",
        ),
    ],
)
def test_what_cannot_be_used_is_refused_with_its_remedy(conf, sentence):
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_conf(conf)
    assert str(caught.value) == sentence


def test_a_policy_that_is_not_named_is_as_durable_as_the_rest():
    settings = Settings.from_conf({"lustre_fsync": "scratch=never"})
    assert [settings.sync_of(name) for name in ("scratch", "gold")] == [Sync.NEVER, Sync.ALWAYS]
