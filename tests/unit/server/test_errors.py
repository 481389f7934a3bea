# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.errors import ConfigurationError
from lustack.server import errors


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.InUseError("/d", "process 7 on h"), ["/d", "process 7 on h", "already"]),
        (errors.ForeignStateError("/d", "/d.state"), ["/d", "/d.state", "--state", "mounted"]),
        (errors.StartError("proxy-server", 1, "/l", "boom"), ["proxy-server", "ended with 1", "/l", "boom"]),
        (errors.NotReadyError(60, "the login", "/logs"), ["60 s", "the login", "/logs"]),
        (errors.StoppedError(), ["stopped"]),
    ],
)
def test_the_sentence_names_the_facts(error, words):
    assert all(word in str(error) for word in words)


def test_who_can_mend_it_is_known():
    assert isinstance(errors.InUseError("/d", "x"), ConfigurationError)
    assert isinstance(errors.ForeignStateError("/d", "/s"), ConfigurationError)
    assert errors.NotReadyError(1, "x", "y").retryable
    assert not errors.StartError("x", 1, "y", "z").retryable
