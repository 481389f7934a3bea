# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.cinder.opts import list_opts


def test_every_option_says_what_it_is_for_and_names_are_those_of_the_talk():
    groups = dict(list_opts())
    names = {option.name.removeprefix("lustre_") for option in groups["backend_defaults"]}
    talk = {"shares_config", "sparsed_volumes", "qcow2_volumes", "mount_point_base", "mount_options", "mount_attempts"}
    assert talk <= names
    assert all(len(option.help) > 20 for options in groups.values() for option in options)
