# SPDX-License-Identifier: Apache-2.0
"""Who works on the containers while processes die: in *strict* ones one after the other, with a ledger; in *wild* ones
all at once, where only what holds for every state can be checked."""

from __future__ import annotations

import hashlib
import json
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.torture.disk import Disk
from tests.torture.jobs import Jobs
from tests.torture.ledger import Floating, Ledger, State, WrongStateError
from tests.torture.served import Answer, Client, NoAnswerError, NotSentError, Served, Tally

COLOR = "X-Object-Meta-Color"
FIXED = "fixed"
SOURCE, PARTS = "source", ("part 1", "part 2")
DIRECTORY = "application/directory"

# Some are in each other's way, some look like what lustack itself calls things.
OBJECTS = (
    *("a", "a/b", "a/", "a/b/c", "a%file", "b", "b/", "b//c", "b/d", ".x", "50%.txt", "%2E.", "c%dir/e"),
    *("grün 日本", "line\nbreak", "q?x=y&z#", "l" * 300, "d/e/f/g", "d/e", "d"),
)
# A job makes no twins: nobody but Swift does.
FILES = tuple(name.encode() for name in ("a", "a/b", "a/b/c", "b/d", "b/new", "d", "d/e", "d/h", "e", ".x", "50%.txt"))
SIZES = (1, 1, 100, 100, 5000, 70_000, 300_000, 3 << 20)
SERVER_IS_DOWN = 503
# What stock Swift says to a PUT while other servers are down. 404: memcached was killed, and the account's or the
# container's server is not back yet to say that there is a container; or what is to be copied is not found. Source:
# swift/proxy/controllers/obj.py PUT, base.py get_container_info, common/middleware/copy.py. 400: parts of a manifest
# cannot be seen. Source: swift/common/middleware/slo.py handle_multipart_put, problem_segments.
NO_CONTAINER, BAD_PARTS = 404, 400
DOWN_S = 45.0
NOBODY_S = 0.2
HISTORY = 4000


class Failures:
    """What went wrong, from many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Something went wrong."""
        with self._lock:
            self.sentences.append(sentence)


@dataclass
class World:
    """What everybody shares.

    Attributes:
        served: the servers.
        tally: what was done.
        failures: what went wrong.
        stop: ends the work.
        last_kill_s: when somebody was last killed.
    """

    served: Served
    tally: Tally = field(default_factory=Tally)
    failures: Failures = field(default_factory=Failures)
    stop: threading.Event = field(default_factory=threading.Event)
    last_kill_s: float = 0.0

    def check_status(self, what: str, answer: Answer) -> None:
        """Nobody may say that he failed, unless somebody is down."""
        self.tally.count(f"{what.split(' ', maxsplit=1)[0]} {answer.status}")
        is_down = time.monotonic() - self.last_kill_s < DOWN_S
        if answer.status >= 500 and not (answer.status == SERVER_IS_DOWN and is_down):
            self.failures.add(f"{what}: {answer.status} {answer.body[:200]!r}")
        if what.startswith("PUT") and not is_explained(answer, is_down=is_down):
            self.failures.add(f"{what}: {answer.status} {answer.body[:200]!r}")


def is_explained(answer: Answer, *, is_down: bool) -> bool:
    """Whether a PUT of these tests, of which none is wrong, may be told so."""
    if answer.status == BAD_PARTS:
        return is_down and f"/{FIXED}/part%20".encode() in answer.body
    return is_down or answer.status != NO_CONTAINER


@dataclass
class Strict:
    """A container with a ledger.

    Attributes:
        name: of the container.
        lock: held for one change.
        ledger: what may be in it.
        disk: what is in it.
        history: what was done, with the names that it changed.
    """

    name: str
    disk: Disk
    lock: threading.Lock = field(default_factory=threading.Lock)
    ledger: Ledger = field(default_factory=Ledger)
    history: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)

    def note(self, what: str, *names: str) -> None:
        """Remember what was done."""
        self.history.append((f"{time.monotonic():.3f} {what}", names))
        del self.history[:-HISTORY]

    def story(self, name: str) -> str:
        """What was done to one name."""
        return "\n".join(what for what, names in self.history if name in names)


@dataclass(frozen=True)
class Upload:
    """What a PUT sends, and what it leaves if it happens."""

    headers: dict[str, str]
    body: bytes | list[bytes] | None
    state: State
    query: str = ""
    method: str = "PUT"


class Fixed:
    """Objects that never change: what is copied, and the parts of big objects."""

    def __init__(self, dice: random.Random) -> None:
        self.source = dice.randbytes(60_000)
        self.parts = tuple(dice.randbytes(size) for size in (50_000, 1))

    def upload(self, client: Client) -> None:
        """Upload them."""
        for name, body in ((SOURCE, self.source), *zip(PARTS, self.parts, strict=True)):
            assert client.send("PUT", f"/{FIXED}/{name}", {}, body).status == 201

    @property
    def manifest(self) -> bytes:
        """The manifest of a big object."""
        return json.dumps([{"path": f"/{FIXED}/{name}"} for name in PARTS]).encode()


class Worker:
    """Sends requests and does what jobs do, chosen by dice, until the world stops."""

    def __init__(self, world: World, fixed: Fixed, seed: int) -> None:
        self._world = world
        self._fixed = fixed
        self._dice = random.Random(seed)
        self._client = Client(world.served)

    def work(self, strict: list[Strict], wild: list[Path]) -> None:
        """Work until it is time to stop; what breaks the rules is a failure of the world."""
        while not self._world.stop.is_set():
            if self._dice.random() < 0.7:
                container = self._dice.choice(strict)
                with container.lock:
                    self._work_strictly(container)
            else:
                self._work_wildly(self._dice.choice(wild), wild)

    def _work_strictly(self, container: Strict) -> None:
        try:
            container.ledger.forget(time.monotonic())
            if self._dice.random() < 0.35:
                self._do_job(container)
            else:
                self._request(container, self._dice.choice(OBJECTS))
        except WrongStateError as error:
            self._world.failures.add(f"{container.name}: {error}\n{container.story(error.name)}")
            self._world.stop.set()

    def _do_job(self, container: Strict) -> None:
        before = container.disk.look()
        container.ledger.see(before)
        what = Jobs(container.disk.directory, FILES, self._dice).change()
        changed = container.ledger.see_job(before, container.disk.look(), is_copy=what.startswith("cp"))
        container.note(what, *changed)
        self._world.tally.count("jobs")

    def _request(self, container: Strict, name: str) -> None:
        ways: tuple[Callable[[Strict, str], None], ...] = (self._put, self._put, self._post, self._delete, self._get)
        self._dice.choice(ways)(container, name)

    def _put(self, container: Strict, name: str) -> None:
        upload = self._upload(name)
        answer = self._send(container, upload.method, name, upload, Floating(time.monotonic(), state=upload.state))
        if answer is not None and answer.status == 201:
            container.ledger.put(name, upload.state)

    def _post(self, container: Strict, name: str) -> None:
        color = self._color()
        upload = Upload({COLOR: color}, None, State(""), method="POST")
        seen = container.disk.look()
        if name in seen:
            container.ledger.blur(seen[name].identity, name, seen)
        answer = self._send(container, "POST", name, upload, Floating(time.monotonic(), color=color))
        if answer is not None and answer.status == 202:
            container.ledger.post(name, color)

    def _delete(self, container: Strict, name: str) -> None:
        upload = Upload({}, None, State(""), method="DELETE")
        answer = self._send(container, "DELETE", name, upload, Floating(time.monotonic()))
        if answer is not None and answer.status == 204:
            container.ledger.put(name, None)

    def _get(self, container: Strict, name: str) -> None:
        try:
            answer = self._client.send("GET", f"/{container.name}/{name}")
        except (NotSentError, NoAnswerError):
            return
        self._world.check_status(f"GET {name!r}", answer)
        if answer.status == 404:
            self._check_gone(container, name)
        elif answer.status == 200 and answer.headers.get("content-length") == str(len(answer.body)):
            self._check_body(container, name, answer)

    def _check_body(self, container: Strict, name: str, answer: Answer) -> None:
        md5 = hashlib.md5(answer.body).hexdigest()
        colors = (ANY_COLOR, answer.headers.get(COLOR.lower()))
        for state in container.ledger.possible(name):
            if state is not None and (state.served_md5 or state.md5) == md5 and state.color in colors:
                return
        raise WrongStateError(name, f"GET {md5} {colors[1]}", container.ledger.possible(name))

    def _check_gone(self, container: Strict, name: str) -> None:
        """While servers are down they say that too; then the file must be there."""
        if None not in container.ledger.possible(name):
            container.ledger.see(container.disk.look())
            if time.monotonic() - self._world.last_kill_s > DOWN_S:
                container.ledger.be_gone(name)

    def _send(self, container: Strict, method: str, name: str, upload: Upload, floating: Floating) -> Answer | None:
        what = f"{method} {name!r}"
        try:
            path = f"/{container.name}/{name}"
            answer = self._client.send(method, path, upload.headers, upload.body, upload.query)
        except NotSentError:
            self._world.tally.count("not sent")
            time.sleep(NOBODY_S)
            return None
        except NoAnswerError as error:
            self._float(container, name, floating, f"{what} -> {error.__cause__!r}")
            return None
        self._world.check_status(what, answer)
        if answer.status >= 500 or answer.status in (408, 499):
            self._float(container, name, floating, f"{what} -> {answer.status}")
            return None
        container.note(f"{what} {upload.state.md5} {upload.headers.get(COLOR)} -> {answer.status}", name)
        if answer.status == 404 and method != "PUT":
            self._check_gone(container, name)
        return answer

    def _float(self, container: Strict, name: str, floating: Floating, what: str) -> None:
        self._world.tally.count("not answered")
        container.ledger.float(name, floating)
        container.note(f"{what}: {floating}", name)

    def _color(self) -> str:
        return f"{self._dice.getrandbits(32):08x}"

    def _upload(self, name: str) -> Upload:
        ways = (self._plain, self._plain, self._plain, self._chunked, self._copied, self._big)
        if name.endswith("/") or self._dice.random() < 0.05:
            return self._marker()
        return self._dice.choice(ways)()

    def _plain(self) -> Upload:
        body = self._dice.randbytes(self._dice.choice(SIZES))
        color = self._color()
        return Upload({COLOR: color}, body, State(md5_of(body), color))

    def _chunked(self) -> Upload:
        upload = self._plain()
        assert isinstance(upload.body, bytes)
        body = upload.body
        pieces = [body[start : start + 65536] for start in range(0, len(body), 65536)]
        return Upload({**upload.headers, "Transfer-Encoding": "chunked"}, pieces, upload.state)

    def _marker(self) -> Upload:
        color = self._color()
        return Upload({COLOR: color, "Content-Type": DIRECTORY}, b"", State(md5_of(b""), color))

    def _copied(self) -> Upload:
        color = self._color()
        headers = {COLOR: color, "X-Copy-From": f"/{FIXED}/{SOURCE}"}
        return Upload(headers, b"", State(md5_of(self._fixed.source), color))

    def _big(self) -> Upload:
        color = self._color()
        state = State("", color, md5_of(b"".join(self._fixed.parts)))
        return Upload({COLOR: color}, self._fixed.manifest, state, "multipart-manifest=put")

    def _work_wildly(self, directory: Path, wild: list[Path]) -> None:
        if self._dice.random() < 0.4:
            Jobs(directory, FILES, self._dice, wild).change()
            self._world.tally.count("wild jobs")
            return
        name = self._dice.choice(OBJECTS)
        upload = self._dice.choice((self._upload(name), Upload({}, None, State(""), method="DELETE")))
        try:
            path = f"/{directory.name}/{name}"
            answer = self._client.send(upload.method, path, upload.headers, upload.body, upload.query)
        except (NotSentError, NoAnswerError):
            return
        self._world.check_status(f"{upload.method} {name!r}", answer)


ANY_COLOR = "*"


def md5_of(body: bytes) -> str:
    """MD5 of some bytes."""
    return hashlib.md5(body).hexdigest()
