# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno

import pytest

from lustack.errors import LustackError
from lustack.posix.errors import (
    CorruptAttributeError,
    CorruptSidecarError,
    OutsideRootError,
    PosixError,
    XattrUnsupportedError,
    explain,
    has_remedy,
)

ERRORS = [
    OutsideRootError(b"../x"),
    XattrUnsupportedError("/mnt/lustre"),
    CorruptAttributeError("user.lustack.data", "it is missing"),
    CorruptSidecarError(b"0f", "is missing"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_every_error_is_a_lustack_error_that_need_not_be_tried_again(error):
    assert isinstance(error, PosixError)
    assert isinstance(error, LustackError)
    assert not error.retryable


def test_a_path_out_of_the_root_is_also_the_os_error_that_the_kernel_would_give():
    error = OutsideRootError(b"../x")
    assert isinstance(error, OSError)
    assert (error.errno, error.filename, error.path) == (errno.EXDEV, b"../x", b"../x")
    assert str(error) == "the path b'../x' leads out of its root directory"


def test_missing_attributes_name_the_place_and_the_remedy():
    error = XattrUnsupportedError("/mnt/lustre")
    assert error.place == "/mnt/lustre"
    assert "/mnt/lustre" in str(error)
    assert "user_xattr" in str(error)


def test_a_corrupt_attribute_says_which_and_why():
    error = CorruptAttributeError("user.x", "it is missing")
    assert (error.name, error.why) == ("user.x", "it is missing")
    assert str(error) == "the attribute user.x cannot be read: it is missing"


def test_a_corrupt_sidecar_says_which_and_why():
    error = CorruptSidecarError(b"0f", "is missing")
    assert (error.sidecar, error.why) == (b"0f", "is missing")
    assert str(error) == "the sidecar b'0f' is missing"


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            OSError(errno.EACCES, "Permission denied", "/x"),
            "Permission denied: ask as root, or as the user whose it is",
        ),
        (OSError(errno.EBADF, "Bad file descriptor"), "Bad file descriptor"),
        (OSError("it says so itself"), "it says so itself"),
    ],
)
def test_what_the_system_says_is_followed_by_what_a_human_can_do(error, sentence):
    assert explain(error) == sentence
    assert has_remedy(error) is (error.errno == errno.EACCES)
