# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.lustre import errors


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (errors.FidSyntaxError("x"), "'x' is no FID: it looks like [0x200000402:0x1:0x0]"),
        (errors.ShareSyntaxError("x", "so"), "'x' is no Lustre share: so (it looks like"),
        (errors.RecordError(7, "so"), "no changelog record at byte 7: so"),
        (errors.LinkError("so"), "the names of an inode cannot be read: so"),
        (errors.NotLustreError("/x"), "/x is not on a Lustre file system"),
        (errors.FidNotFoundError("[1]"), "nothing has the FID [1]"),
        (errors.ChangelogError("m", "so"), "the changelog of m cannot be used: so"),
        (errors.ChangelogIndexError("m", 9), "the log of m ends before record 9"),
        (errors.ChangelogUserError("m", "cl1", 9), "m refuses to clear up to 9 for cl1: "),
    ],
)
def test_every_error_makes_its_sentence(error, sentence):
    assert str(error).startswith(sentence)
    assert error.retryable is isinstance(error, errors.ChangelogError)
