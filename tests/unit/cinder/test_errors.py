# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.cinder import errors
from lustack.errors import LustackError


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.CorruptRecordError("/x.info", "no json"), "/x.info cannot be understood: no json; nothing was changed"),
        (errors.UnknownFormatError("v1"), "the format of volume v1 is not recorded"),
        (errors.ForeignBackingError("/x", "/etc/passwd"), "/x is backed by '/etc/passwd'"),
        (
            errors.SpecError("lustre:pool", "?", "a pool"),
            "the extra spec lustre:pool = '?' of the volume type must be a pool",
        ),
        (
            errors.UnknownShareError("a", ["b"]),
            "the share 'a' is not configured: add it to lustre_shares_config; configured are: b",
        ),
        (errors.UnknownShareError("a", []), "configured are: none"),
    ],
)
def test_errors_say_what_is_wrong(error: LustackError, sentence: str):
    assert sentence in str(error)
    assert isinstance(error, errors.VolumeError)
