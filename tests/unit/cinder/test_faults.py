# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from cinder import exception

from lustack.cinder.faults import translated
from lustack.errors import LustackError


def test_our_errors_become_cinder_s_and_keep_their_words_and_their_cause():
    @translated
    def fail() -> None:
        raise LustackError("the reason")

    with pytest.raises(exception.VolumeDriverException, match="the reason") as caught:
        fail()
    assert isinstance(caught.value.__cause__, LustackError)


def test_everything_else_passes():
    @translated
    def answer(value: int) -> int:
        return value

    assert answer(3) == 3
    with pytest.raises(TypeError):
        translated(lambda: None + 1)()
