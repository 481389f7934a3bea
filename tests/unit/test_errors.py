# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pickle

from lustack.errors import ConfigurationError, LustackError


def test_a_setting_that_must_change_is_named_with_its_file_its_value_and_what_is_allowed():
    error = ConfigurationError("proxy-server.conf", "devices", "srv", "an absolute path")
    assert str(error) == "proxy-server.conf: devices = 'srv', but it must be an absolute path"
    assert (error.where, error.option, error.value, error.allowed) == error.args


def test_an_error_says_itself_whether_to_try_again():
    assert not LustackError.retryable
    assert not ConfigurationError("a", "b", "c", "d").retryable


def test_an_error_comes_whole_out_of_another_process():
    error = pickle.loads(pickle.dumps(ConfigurationError("a", "b", 1, "2")))
    assert str(error) == "a: b = 1, but it must be 2"
