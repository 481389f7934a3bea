# SPDX-License-Identifier: Apache-2.0
"""Why a host cannot be served."""

from __future__ import annotations

from lustack.errors import ConfigurationError, LustackError


class InUseError(ConfigurationError):
    """Somebody else serves this directory, or uses this state, now.

    Attributes:
        path: the directory.
        holder: who, as far as they said.
    """

    def __init__(self, path: str, holder: str) -> None:
        super().__init__("lustack serve", "directory", path, "one that nobody serves")
        self.path = path
        self.holder = holder

    def __str__(self) -> str:
        return f"{self.path} is being served already, by {self.holder}: stop that one first, or serve another"


class ForeignStateError(ConfigurationError):
    """A state directory holds the listings of another directory; using it would empty them.

    Attributes:
        directory: what was to be served.
        state: the state directory.
    """

    def __init__(self, directory: str, state: str) -> None:
        super().__init__("lustack serve", "--state", state, f"the state of {directory}")
        self.directory = directory
        self.state = state

    def __str__(self) -> str:
        return (
            f"{self.state} holds the listings of another directory than {self.directory} is now. If that one "
            "was moved or is not mounted, bring it back; if it was made anew, remove the state or name another "
            "(--state)"
        )


class StartError(LustackError):
    """A server ended instead of answering.

    Attributes:
        name: which one.
        code: its exit code, negative: the signal that ended it.
        log: path of its log.
        tail: the last lines of the log.
    """

    def __init__(self, name: str, code: int, log: str, tail: str) -> None:
        super().__init__(name, code, log, tail)
        self.name = name
        self.code = code
        self.log = log
        self.tail = tail

    def __str__(self) -> str:
        return f"{self.name} ended with {self.code} at its start; the end of {self.log}:\n{self.tail}"


class NotReadyError(LustackError):
    """The servers run but do not answer in time; a busy host may do better later.

    Attributes:
        waited_s: how long they were given.
        missing: what did not answer, and why.
        logs: directory of the logs.
    """

    retryable = True

    def __init__(self, waited_s: float, missing: str, logs: str) -> None:
        super().__init__(waited_s, missing, logs)
        self.waited_s = waited_s
        self.missing = missing
        self.logs = logs

    def __str__(self) -> str:
        return f"not ready after {self.waited_s:.0f} s: {self.missing}; the logs are in {self.logs}"


class StoppedError(LustackError):
    """Somebody asked to stop before everything was ready."""

    def __str__(self) -> str:
        return "stopped before it was ready"
