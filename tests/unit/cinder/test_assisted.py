# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import dataclass

import pytest
from cinder import exception
from keystoneauth1 import exceptions as session_exceptions
from novaclient import exceptions as client_exceptions

from lustack.cinder import assisted


@dataclass
class State:
    status: str = "creating"
    progress: str = "0%"
    id: str = "s1"


def test_it_waits_until_nova_is_done_and_asks_less_and_less_often():
    state, pauses = State(), []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        state.progress = "90%" if len(pauses) == 20 else "50%"

    assisted.ask(lambda: None, lambda: state, "creating", 600, pause)
    assert pauses == sorted(pauses)
    assert pauses[-1] == 10


def test_a_refusal_and_a_silence_are_not_the_same():
    with pytest.raises(assisted.RefusedError, match="status error"):
        assisted.ask(lambda: None, lambda: State("error"), "creating", 1)
    with pytest.raises(assisted.SilentError, match="no answer from Nova about snapshot s1 within 20 s"):
        assisted.ask(lambda: None, State, "creating", 20, lambda seconds: None)


@pytest.mark.parametrize(
    "error",
    [
        exception.APIException(service="nova"),
        client_exceptions.BadRequest(400, "the volume is attached to several servers"),
        session_exceptions.ConnectFailure("nobody listens"),
    ],
)
def test_a_request_that_fails_is_a_refusal(error: Exception):
    def fail() -> None:
        raise error

    with pytest.raises(assisted.RefusedError):
        assisted.ask(fail, State, "creating", 1)


def test_a_request_that_nova_failed_over_may_have_been_done():
    def fail() -> None:
        raise client_exceptions.ClientException(500)

    with pytest.raises(client_exceptions.ClientException):
        assisted.ask(fail, State, "creating", 1)
