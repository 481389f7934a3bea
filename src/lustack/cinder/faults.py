# SPDX-License-Identifier: Apache-2.0
"""Turns our errors into Cinder's, once, where they leave the driver."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from cinder import exception

from lustack.errors import LustackError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def translated(method: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """A method whose errors Cinder understands: what it says stays, as the message of a VolumeDriverException."""

    @functools.wraps(method)
    def call(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        try:
            return method(*args, **kwargs)
        except LustackError as error:
            raise exception.VolumeDriverException(message=str(error)) from error

    return call
