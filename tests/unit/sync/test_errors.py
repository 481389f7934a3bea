# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.sync import errors


@pytest.mark.parametrize(
    ("error", "sentence", "retryable"),
    [
        (
            errors.SwiftUnavailableError("HEAD /a/c", ["n1: down", "n2: 507"]),
            "HEAD /a/c: too few servers answered: n1: down; n2: 507",
            True,
        ),
        (errors.SwiftUnavailableError("HEAD /a/c", []), "HEAD /a/c: too few servers answered: none is known", True),
        (errors.SwiftRefusedError("PUT /a/c", 404), "PUT /a/c: refused with status 404", False),
        (errors.ContainerGoneError("a/c"), "the container a/c is gone", False),
        (
            errors.MassDeletionError("a/c", 7, "no"),
            f"a/c: 7 objects would vanish from the listing, but no. {errors.FORCE}",
            False,
        ),
        (errors.DeviceMissingError("/d", "No such file"), "the device /d cannot be used: No such file", True),
        (errors.StateError("/s", "full"), "the state /s cannot be used: full", False),
        (errors.UnreadableError("a/c", "no"), "the directory of a/c cannot be read: no", False),
        (errors.StoppedError(), "stopped; the next run continues where this one ended", True),
    ],
)
def test_errors_are_sentences(error, sentence, retryable):
    assert str(error) == sentence
    assert error.retryable is retryable
