# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os

import pytest
from swift.common.exceptions import DiskFileDeviceUnavailable, DiskFileNotExist, DiskFileXattrNotSupported
from swift.common.swob import HTTPException, Request
from tests.objects import SwiftLog

from lustack.exports.errors import ExportMissingError
from lustack.mapping.exports import ExportsDamagedError
from lustack.posix.errors import OutsideRootError, XattrUnsupportedError
from lustack.swift import faults
from lustack.swift.calls import StalledError
from lustack.swift.device import DeviceMissingError

GONE = ("ENOENT", "ESTALE", "ENXIO")
IN_THE_WAY = ("ELOOP", "EXDEV", "ENOTDIR", "EISDIR", "EEXIST")


def fail(number: str) -> OSError:
    code = getattr(errno, number)
    return OSError(code, os.strerror(code))


def answer(boundary, error: Exception) -> tuple[str, str]:
    """Status and text that a client gets when `error` meets the boundary."""
    with pytest.raises(HTTPException) as caught, boundary(SwiftLog(), "/a/c/o"):
        raise error
    response = Request.blank("/").get_response(caught.value)
    return response.status, response.body.decode()


@pytest.mark.parametrize("boundary", [faults.reading, faults.writing])
class TestEither:
    def test_no_error_passes(self, boundary):
        with boundary(SwiftLog(), "/a/c/o"):
            pass

    def test_errors_of_swift_pass_as_they_are(self, boundary):
        with pytest.raises(DiskFileNotExist), boundary(SwiftLog(), "/a/c/o"):
            raise DiskFileNotExist

    def test_who_waited_in_vain_may_try_again_later(self, boundary):
        with pytest.raises(HTTPException) as caught, boundary(SwiftLog(), "/a/c/o"):
            raise StalledError("/d", 30)
        assert (caught.value.status_int, caught.value.headers["Retry-After"]) == (503, "10")

    def test_a_device_that_is_not_there_is_what_the_object_server_expects_early_and_late(self, boundary):
        for expected in (DiskFileDeviceUnavailable, DiskFileXattrNotSupported):
            with pytest.raises(expected, match="/d is not there, or not mounted"), boundary(SwiftLog(), "/a/c/o"):
                raise DeviceMissingError("/d")

    @pytest.mark.parametrize("number", ["EACCES", "EPERM", "EROFS"])
    def test_what_is_not_permitted_is_403(self, boundary, number):
        assert answer(boundary, fail(number)) == ("403 Forbidden", "The file system does not permit this.\n")

    @pytest.mark.expects_log(r"^ERROR swift.tests: /a/c/o: the file system failed: \[Errno 5\] Input/output error$")
    def test_what_fails_is_500_and_says_why_in_the_log_only(self, boundary):
        assert answer(boundary, fail("EIO")) == ("500 Internal Error", "The file system failed.\n")

    @pytest.mark.expects_log("^ERROR swift.tests: /a/c/o: /srv is on a file system without .* mount it with")
    def test_a_file_system_without_attributes_is_named_with_its_remedy(self, boundary):
        with pytest.raises(DiskFileXattrNotSupported, match="user_xattr"), boundary(SwiftLog(), "/a/c/o"):
            raise XattrUnsupportedError("/srv")

    @pytest.mark.expects_log("^ERROR swift.tests: /a/c/o: .*(x|table of exports).* cannot be used|is damaged")
    @pytest.mark.parametrize("error", [ExportMissingError(b"/x", "gone"), ExportsDamagedError("half of it")])
    def test_an_export_that_is_out_of_reach_is_not_gone(self, boundary, error):
        status, text = answer(boundary, error)
        assert status == "503 Service Unavailable"
        assert "out of reach" in text


@pytest.mark.parametrize("number", GONE + IN_THE_WAY)
def test_what_is_gone_while_it_is_read_does_not_exist(number):
    with pytest.raises(DiskFileNotExist) as caught, faults.reading(SwiftLog(), "/a/c/o"):
        raise fail(number)
    assert caught.value.__cause__.errno == getattr(errno, number)


def test_what_leads_out_of_the_root_does_not_exist():
    with pytest.raises(DiskFileNotExist), faults.reading(SwiftLog(), "/a/c/o"):
        raise OutsideRootError(b"/etc")


@pytest.mark.parametrize("number", GONE)
def test_a_tree_that_changes_while_it_is_written_is_worth_a_retry(number):
    status, text = answer(faults.writing, fail(number))
    assert status == "503 Service Unavailable"
    assert "Try again" in text


@pytest.mark.parametrize("number", IN_THE_WAY)
def test_what_is_in_the_way_of_a_write_is_said(number):
    assert answer(faults.writing, fail(number)) == (
        "403 Forbidden",
        "Something that is no directory, or a link, is in the way of this object.\n",
    )


@pytest.mark.parametrize("number", ["ENOSPC", "EDQUOT"])
def test_no_room_is_marked_so_that_the_proxy_does_not_shut_the_node_out(number):
    status, text = answer(faults.writing, fail(number))
    assert status == faults.NO_ROOM_STATUS
    assert text == "The file system has no room left, or a quota is reached.\n"
