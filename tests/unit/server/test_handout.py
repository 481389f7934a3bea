# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from dataclasses import replace

import pytest
from tests.unit.server.test_site import SMALL

from lustack.errors import ConfigurationError
from lustack.server import handout
from lustack.server.cluster import RINGS, Salt
from lustack.server.site import parse

SITE = parse(SMALL, "site.toml")
SALT = Salt("salt", "pepper")


def with_salt(prefix, suffix):
    return replace(SITE, swift=replace(SITE.swift, hash_path_prefix=prefix, hash_path_suffix=suffix))


def test_only_what_differs_is_written(tmp_path):
    directory = str(tmp_path / "a" / "b")
    files = {"n/etc/x.conf": "one", RINGS: "#!/bin/sh\n"}
    assert dict(handout.write(directory, SALT, files)) == {handout.SALT: True, "n/etc/x.conf": True, RINGS: True}
    files["n/etc/x.conf"] = "two"
    assert dict(handout.write(directory, SALT, files)) == {handout.SALT: False, "n/etc/x.conf": True, RINGS: False}
    assert handout.read(directory, "n/etc/x.conf") == "two"
    assert handout.read(directory, "n/etc/y.conf") == ""


def test_nobody_else_may_read_it_and_the_script_can_be_run(tmp_path):
    directory = tmp_path / "rendered"
    dict(handout.write(str(directory), SALT, {RINGS: "#!/bin/sh\n"}))
    assert directory.stat().st_mode & 0o077 == 0
    assert os.access(directory / RINGS, os.X_OK)


def test_the_salt_is_chosen_once(tmp_path):
    first = handout.choose_salt(SITE, str(tmp_path))
    assert len(first.prefix) == len(first.suffix) == 32
    dict(handout.write(str(tmp_path), first, {}))
    assert handout.choose_salt(SITE, str(tmp_path)) == first


def test_the_salt_of_a_cluster_that_exists_is_taken_and_never_changed(tmp_path):
    assert handout.choose_salt(with_salt("salt", "pepper"), str(tmp_path)) == SALT
    dict(handout.write(str(tmp_path), SALT, {}))
    assert handout.choose_salt(with_salt("salt", "pepper"), str(tmp_path)) == SALT
    with pytest.raises(ConfigurationError, match="every database would be lost"):
        handout.choose_salt(with_salt("other", "pepper"), str(tmp_path))


def test_half_a_salt_is_a_salt(tmp_path):
    assert handout.choose_salt(with_salt("", "pepper"), str(tmp_path)) == Salt("", "pepper")


@pytest.mark.parametrize("text", ["{", '{"a": 1}'])
def test_a_salt_that_cannot_be_read_is_not_replaced(tmp_path, text):
    (tmp_path / handout.SALT).write_text(text)
    with pytest.raises(ConfigurationError, match="what was written there"):
        handout.choose_salt(SITE, str(tmp_path))


def test_where_nothing_can_be_written_the_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="Not a directory"):
        dict(handout.write(str(tmp_path / "file" / "below"), SALT, {}))


def test_what_somebody_has_put_in_the_place_of_a_file_is_only_another_text(tmp_path):
    (tmp_path / "f").write_bytes(b"\xff")
    assert handout.read(str(tmp_path), "f") == "\ufffd"
