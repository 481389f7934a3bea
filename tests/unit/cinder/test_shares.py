# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.cinder.errors import UnknownShareError
from lustack.cinder.shares import ConfiguredShare, find, find_pool, parse_lines
from lustack.errors import ConfigurationError

LINES = ["# shares", "", "10.0.0.1@tcp:10.0.0.2@tcp:/scratch/volumes -o noatime", "10.0.0.1@tcp:/home"]


def test_shares_are_lines_with_their_options():
    found = parse_lines(LINES, "/etc/x", "lustre_shares_config")
    assert list(found.values()) == [
        ConfiguredShare("10.0.0.1@tcp:10.0.0.2@tcp:/scratch/volumes", "-o noatime", "scratch/volumes"),
        ConfiguredShare("10.0.0.1@tcp:/home", "", "home"),
    ]


def test_a_volume_is_found_by_what_it_lies_on_whatever_the_servers_were():
    found = parse_lines(LINES, "/etc/x", "lustre_shares_config")
    assert find(found, "10.0.0.1@tcp:/home").pool == "home"
    assert find(found, "1.2.3.4@o2ib:/scratch/volumes/").pool == "scratch/volumes"
    assert find_pool(found, "home").address == "10.0.0.1@tcp:/home"


@pytest.mark.parametrize("location", ["1.2.3.4@tcp:/other", "nonsense"])
def test_a_share_that_is_not_configured_is_named(location: str):
    with pytest.raises(UnknownShareError, match="is not configured"):
        find(parse_lines(LINES, "/etc/x", "lustre_shares_config"), location)


@pytest.mark.parametrize("line", ["nonsense", "10.0.0.9@tcp:/home/ -o ro"])
def test_a_line_that_is_wrong_or_about_the_same_directory_is_refused(line: str):
    with pytest.raises(ConfigurationError, match="lustre_shares_config"):
        parse_lines([*LINES, line], "/etc/x", "lustre_shares_config")
