# SPDX-License-Identifier: Apache-2.0
"""Whether what was started serves: every server answers, and a user can log in and see the account."""

from __future__ import annotations

import http.client
from collections.abc import Iterable, Mapping
from urllib.parse import urlsplit

from lustack.server.topology import LOOPBACK, Access, Program

# An answer that takes longer is no answer yet; it is asked for again.
TIMEOUT_S = 10.0


def find_missing(programs: Iterable[Program], access: Access) -> str | None:
    """Say what does not answer yet, None when everything does.

    Args:
        programs: what was started; those without a port are not asked.
        access: how a user reaches the proxy.
    """
    for program in programs:
        if program.port is not None:
            status = _ask(f"http://{LOOPBACK}:{program.port}/healthcheck", {})[0]
            if status != http.client.OK:
                return f"{program.name} on port {program.port} ({_describe(status)})"
    return _find_missing_for_user(access)


def _find_missing_for_user(access: Access) -> str | None:
    login = {"X-Auth-User": access.user, "X-Auth-Key": access.key}
    status, token = _ask(access.auth_url, login)
    if token is None:
        return f"the login of {access.user} ({_describe(status)})"
    status = _ask(f"{access.storage_url}?limit=1", {"X-Auth-Token": token})[0]
    if status not in {http.client.OK, http.client.NO_CONTENT}:
        return f"the account of {access.user} ({_describe(status)})"
    return None


def _describe(status: int) -> str:
    return f"status {status}" if status else "no answer"


def _ask(url: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
    """Ask once: the status, 0 if nobody answered, and the token if there is one in the answer."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=TIMEOUT_S)
    try:
        connection.request("GET", f"{where.path}?{where.query}", headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
        return answer.status, answer.getheader("X-Auth-Token")
    except (OSError, http.client.HTTPException):
        return 0, None
    finally:
        connection.close()
