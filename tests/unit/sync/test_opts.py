# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import fields

import pytest

from lustack.errors import ConfigurationError
from lustack.sync import opts
from lustack.sync.settings import Settings


def configure(tmp_path, text):
    path = tmp_path / "lustack.conf"
    path.write_text(text)
    return opts.configure([str(path)])


def test_every_setting_has_an_option_with_the_same_default_and_a_help(tmp_path):
    options = {option.name: option for option in opts.OPTIONS}
    assert sorted(options) == sorted(field.name for field in fields(Settings))
    assert all(option.help for option in options.values())
    assert opts.read(configure(tmp_path, "")) == Settings()
    assert opts.list_opts() == [("sync", opts.OPTIONS)]


def test_what_a_file_says_is_read(tmp_path):
    settings = opts.read(configure(tmp_path, "[sync]\nswift_dir = /x\npolicies = gold,silver\ninterval_s = 0.5\n"))
    assert settings == Settings(swift_dir="/x", policies=("gold", "silver"), interval_s=0.5)


def test_a_missing_file_is_named():
    with pytest.raises(ConfigurationError, match=r"/nowhere/x\.conf"):
        opts.configure(["/nowhere/x.conf"])


@pytest.mark.parametrize("line", ["batch_rows = many", "batch_rows = 0", "settle_s = 1", "metrics_port = 70000"])
def test_a_value_that_is_not_allowed_is_refused(tmp_path, line):
    with pytest.raises(ConfigurationError, match=line.split()[0]):
        opts.read(configure(tmp_path, f"[sync]\n{line}\n"))
