# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import io
import logging
from logging.handlers import SysLogHandler

from lustack.server.stamps import stamp_lines


class SwiftFormatter(logging.Formatter):
    pass


def make_logger() -> tuple[logging.Logger, io.StringIO]:
    logger, stream = logging.getLogger("test_stamps"), io.StringIO()
    logger.handlers = [logging.StreamHandler(stream)]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    return logger, stream


def test_lines_for_the_console_get_the_time_and_the_level():
    logger, stream = make_logger()
    logger.handlers[0].setFormatter(SwiftFormatter("%(message)s"))
    stamp_lines({}, "proxy", True, "wsgi", "proxy: %(message)s", logger, object())
    logger.info("hello")
    assert stream.getvalue()[:2] == "20"
    assert stream.getvalue().endswith(" INFO proxy: hello\n")
    assert type(logger.handlers[0].formatter) is SwiftFormatter


def test_what_is_not_for_the_console_is_left_alone():
    logger, stream = make_logger()
    syslog = SysLogHandler(("127.0.0.1", 9))
    syslog.setFormatter(plain := SwiftFormatter("%(message)s"))
    logger.addHandler(syslog)
    stamp_lines({}, "proxy", True, "wsgi", "%(message)s", logger, object())
    assert syslog.formatter is plain
    assert logger.handlers[0].formatter is None
    syslog.close()
    assert stream.getvalue() == ""


def test_something_else_than_a_logger_is_left_alone():
    stamp_lines({}, "proxy", True, "wsgi", "%(message)s", object(), object())
