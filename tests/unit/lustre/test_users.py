# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.lustre import users
from lustack.lustre.users import RegistrationError


def test_the_command_names_the_mdt_the_user_and_the_types():
    assert users.register_command("lustre-MDT0000", "lustack", ("CREAT", "UNLNK")) == (
        ["lctl", "--device", "lustre-MDT0000", "changelog_register", "--user", "lustack", "--mask", "CREAT,UNLNK"]
    )


@pytest.mark.parametrize(
    ("output", "found"),
    [
        ("lustre-MDT0000: Registered changelog userid 'cl5'\n", ("lustre-MDT0000", "cl5")),
        ("lustre-MDT0001: Registered changelog userid 'cl7-lustackd'\n", ("lustre-MDT0001", "cl7")),
    ],
)
def test_the_user_is_read_from_what_it_says(output, found):
    assert users.parse_registered(output) == found


def test_what_registered_nobody_is_an_error():
    with pytest.raises(ValueError, match="User not found"):
        users.parse_registered("error: changelog_deregister: User not found")
    assert str(RegistrationError("lctl x", "so")) == "`lctl x` did not register a user: so"
