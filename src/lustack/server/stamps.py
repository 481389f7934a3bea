# SPDX-License-Identifier: Apache-2.0
"""Times in the logs of Swift's servers: its console format has none, because syslog adds them.

It is called by Swift, through its option `log_custom_handlers` (swift 2.38.3 common/utils/logs.py:588-600).
"""

from __future__ import annotations

import logging
from logging.handlers import SysLogHandler


def stamp_lines(*arguments: object) -> None:
    """Put the time and the level before each line that a logger of Swift writes to the console.

    Args:
        arguments: what Swift gives to such a function: options, name, whether to log to the console, route,
        format
            of a line, logger, adapter of the logger.
    """
    *_, line_format, logger, _adapter = arguments
    if isinstance(logger, logging.Logger):
        _stamp(logger, f"%(asctime)s %(levelname)s {line_format}")


def _stamp(logger: logging.Logger, line_format: str) -> None:
    for handler in logger.handlers:
        if not isinstance(handler, SysLogHandler) and handler.formatter is not None:
            # Swift's own class: it keeps a traceback on one line and adds the transaction.
            handler.setFormatter(type(handler.formatter)(line_format))
