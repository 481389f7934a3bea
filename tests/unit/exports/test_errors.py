# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno

from lustack.exports.errors import ExportMissingError


def test_a_missing_export_is_a_failure_of_the_file_system_and_no_absence():
    error = ExportMissingError(b"/projects/\xff", "it is gone")
    assert isinstance(error, OSError)
    assert error.errno == errno.ENODEV
    assert error.retryable
    assert str(error) == r"the exported directory '/projects/\udcff' cannot be used: it is gone"
