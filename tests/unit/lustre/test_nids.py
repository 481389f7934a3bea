# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.lustre.nids import render_nid


@pytest.mark.parametrize(
    ("digits", "is_big", "text"),
    [
        ("000000000000090000000000000000000000000000000000", False, "0@lo"),  # recorded
        ("000900000000000000000000000000000000000000000000", True, "0@lo"),  # recorded
        ("000000000000000000000000000000000000000000000000", False, "0@<0:0>"),  # recorded, of HSM
        ("0f02000a00000200", False, "10.0.2.15@tcp"),
        ("0100010a01000500", False, "10.1.0.1@o2ib1"),
        ("393000000000" + "0d00", False, "12345@gni"),
        ("00020000" + "0a00020f" + "00" * 16, True, "10.0.2.15@tcp"),
        ("0c020001" + "20010db8" + "00" * 11 + "01" + "00" * 4, True, "2001:db8::1@tcp1"),
        ("ff02", False, "ff02"),
        ("ff02", True, "ff02"),
    ],
)
def test_a_nid_is_written_as_lustre_writes_it(digits, is_big, text):
    assert render_nid(bytes.fromhex(digits), is_big=is_big) == text
