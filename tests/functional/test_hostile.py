# SPDX-License-Identifier: Apache-2.0
"""What a user with write access to the files may plant: nothing of it leads out, hangs, breaks, or gets erased.

The canary is a directory beside the served one. Whoever can plant a link to it must not get Swift, which runs as
root, to read or to change what is in it.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from tests.functional import plainly, stand
from tests.functional.client import Answer, Client
from tests.functional.plainly import Asker, quoted

from lustack.mapping import layout
from lustack.server.instance import Instance

pytestmark = pytest.mark.timeout(600)

SECRET = b"the secret of the canary"
ACCOUNT = "AUTH_test"
NONE: Mapping[str, str] = {}
BODY = b"sent by a client"
ALL = ("GET", "HEAD", "POST", "PUT", "DELETE")
# What a client may hear about something that is no object: it is not there, or not now, or not so.
REFUSED = frozenset({400, 403, 404, 409, 412, 503})
SWAPS, PATIENCE_S = 100, 300.0
RENAME_EXCHANGE = 2  # Source: linux/fs.h
AT_FDCWD = -100  # Source: linux/fcntl.h


@pytest.fixture(scope="module")
def served(file_system: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Instance]:
    state = tmp_path_factory.mktemp("hostile") / "state"
    with stand.running(plainly.plan(file_system / "hostile", state)) as served:
        yield served


@pytest.fixture
def asker(served: Instance) -> Iterator[Asker]:
    with Client(served.access) as client:
        yield Asker(client)


@pytest.fixture
def container(served: Instance, asker: Asker, request: pytest.FixtureRequest) -> Path:
    """The directory of an empty container that only this test uses."""
    name = f"c{abs(hash(request.node.nodeid))}"
    assert asker.ask("PUT", quoted(name)).status == 201
    return Path(served.host.directory) / ACCOUNT / name


def look(path: Path) -> tuple[object, ...]:
    """All that must not change about an entry; times of access and counts of links may."""
    status = path.lstat()
    kind = stat.S_IFMT(status.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        content = path.read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    attributes = []
    if kind in {stat.S_IFREG, stat.S_IFDIR}:
        attributes = [(name, os.getxattr(path, name)) for name in sorted(os.listxattr(path))]
    return (status.st_ino, status.st_mode, status.st_uid, status.st_mtime_ns, content, attributes)


def survey(root: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything below a directory and itself."""
    found = {b"": look(root)}
    for directory, directories, files in os.walk(os.fsencode(root)):
        for entry in (*directories, *files):
            path = os.path.join(directory, entry)
            found[path] = look(Path(os.fsdecode(path)))
    return found


@pytest.fixture
def canary(file_system: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A directory outside, which must be the same at the end."""
    directory = file_system / f"canary{abs(hash(request.node.nodeid))}"
    (directory / "sub").mkdir(parents=True)
    for place in ("secret", "sub/secret", "x"):
        (directory / place).write_bytes(SECRET)
        os.setxattr(directory / place, "user.note", b"mine")
    os.utime(directory, ns=(1, 1))
    before = survey(directory)
    yield directory
    assert survey(directory) == before


def ask_everything(asker: Asker, path: str, times: int = 1) -> list[Answer]:
    """Every method on one path. What is read is never the secret."""
    methods = ALL * times
    answers = [asker.ask(method, path, NONE, BODY if method == "PUT" else None) for method in methods]
    assert not any(SECRET in answer.body for answer in answers)
    return answers


def assert_others_are_served(asker: Asker) -> None:
    path = quoted("others", "o")
    assert asker.ask("PUT", quoted("others")).status in {201, 202}
    assert asker.ask("PUT", path, NONE, BODY).status == 201
    assert asker.ask("GET", path).body == BODY


def assert_stays_beside(asker: Asker, path: str, planted: Path) -> None:
    """What is planted at the place of an object is none; an object of that name lives beside it, and comes and goes."""
    before = look(planted)
    for method in ("GET", "HEAD", "POST", "DELETE"):
        assert asker.ask(method, path).status == 404, method
    assert asker.ask("PUT", path, {"X-Object-Meta-Colour": "blue"}, BODY).status == 201
    answer = asker.ask("GET", path)
    assert (answer.status, answer.body, answer.headers["x-object-meta-colour"]) == (200, BODY, "blue")
    assert asker.ask("POST", path, {"X-Object-Meta-Colour": "red"}).status == 202
    assert asker.ask("HEAD", path).headers["x-object-meta-colour"] == "red"
    assert look(planted) == before
    assert asker.ask("DELETE", path).status == 204
    assert asker.ask("GET", path).status == 404
    assert look(planted) == before


def link_absolute(path: Path, target: Path) -> None:
    path.symlink_to(target)


def link_relative(path: Path, target: Path) -> None:
    path.symlink_to(os.path.relpath(target, path.parent))


def link_by_proc(path: Path, target: Path) -> None:
    path.symlink_to(f"/proc/self/root{target}")


@pytest.mark.parametrize("link", [link_absolute, link_relative, link_by_proc])
class TestSymbolicLinks:
    def test_to_a_file_is_no_object(self, asker: Asker, container: Path, canary: Path, link: Callable) -> None:
        link(container / "o", canary / "secret")
        assert_stays_beside(asker, quoted(container.name, "o"), container / "o")

    def test_to_a_directory_is_no_directory(self, asker: Asker, container: Path, canary: Path, link: Callable) -> None:
        link(container / "d", canary)
        assert_stays_beside(asker, quoted(container.name, "d"), container / "d")
        assert_stays_beside(asker, quoted(container.name, "d/secret"), container / "d")
        assert_stays_beside(asker, quoted(container.name, "d/sub/secret"), container / "d")

    def test_in_the_middle_of_a_path_leads_nowhere(
        self, asker: Asker, container: Path, canary: Path, link: Callable
    ) -> None:
        (container / "a" / "b").mkdir(parents=True)
        link(container / "a" / "b" / "c", canary)
        assert_stays_beside(asker, quoted(container.name, "a/b/c/sub/secret"), container / "a" / "b" / "c")

    def test_as_a_container_leads_nowhere(self, asker: Asker, container: Path, canary: Path, link: Callable) -> None:
        container.rmdir()
        link(container, canary)
        for name, times in (("secret", plainly.TOO_MANY_ERRORS), ("new", 1), ("sub/secret", 1), ("d/", 1)):
            answers = ask_everything(asker, quoted(container.name, name), times)
            assert {answer.status for answer in answers} <= REFUSED
        assert_others_are_served(asker)
        assert asker.ask("PUT", quoted(container.name)).status in {202, *REFUSED}
        asker.ask("DELETE", quoted(container.name))
        assert container.is_symlink()

    def test_as_an_account_leads_nowhere(self, canary: Path, asker: Asker, container: Path, link: Callable) -> None:
        with planted_for_account(container.parent, canary, link, container.name):
            for name in ("secret", "new"):
                answers = ask_everything(asker, quoted(container.name, name), plainly.TOO_MANY_ERRORS)
                assert {answer.status for answer in answers} <= REFUSED
            asker.ask("PUT", quoted("another"))
            asker.ask("DELETE", quoted("another"))
            asker.ask("DELETE", quoted(container.name))
            assert sorted(os.listdir(canary / container.name)) == ["secret"]
        assert_others_are_served(asker)


@contextlib.contextmanager
def planted_for_account(account: Path, canary: Path, link: Callable, container: str) -> Iterator[None]:
    """A link to the canary in the place of an account's directory; the canary has the container, too."""
    aside = account.with_name("aside")
    (canary / container).mkdir()
    (canary / container / "secret").write_bytes(SECRET)
    account.rename(aside)
    link(account, canary)
    try:
        yield
    finally:
        account.unlink()
        aside.rename(account)
        (canary / container / "secret").unlink()
        (canary / container).rmdir()
        os.utime(canary, ns=(1, 1))


def test_symbolic_links_to_nothing_to_themselves_and_inside_are_no_objects(asker: Asker, container: Path) -> None:
    (container / "real").write_bytes(b"real")
    (container / "dangling").symlink_to("nothing")
    (container / "loop").symlink_to("loop")
    (container / "inside").symlink_to("real")
    (container / "up").symlink_to("../..")
    for name in ("dangling", "loop", "inside", "up", f"up/{ACCOUNT}/{container.name}/real"):
        assert_stays_beside(asker, quoted(container.name, name), container / name.split("/")[0])
    assert asker.ask("GET", quoted(container.name, "real")).body == b"real"


def exchange(one: Path, other: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        raise OSError(ctypes.get_errno(), "renameat2")


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[list[int]]:
    """Exchange two entries all the time; yields a list whose length is how often."""
    stop, swaps = threading.Event(), []

    def swap() -> None:
        while not stop.wait(0.0005):
            exchange(one, other)
            swaps.append(1)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        yield swaps
    finally:
        stop.set()
        thread.join()


def rounds(least: int, is_enough: Callable[[], bool]) -> Iterator[int]:
    """Numbers of rounds: so many, and as many more as it takes, however quick one is."""
    until_s = time.monotonic() + PATIENCE_S
    for number in itertools.count():
        if number >= least and is_enough():
            return
        assert time.monotonic() < until_s, "it is never enough"
        yield number


def test_a_link_swapped_in_while_requests_run_never_leads_out(asker: Asker, container: Path, canary: Path) -> None:
    (container / "d" / "sub").mkdir(parents=True)
    (container / "d" / "x").write_bytes(b"inside")
    (container / "link").symlink_to(canary)
    path = quoted(container.name, "d/x")
    seen = set()
    with swapping(container / "d", container / "link") as swaps:
        for round_ in rounds(40, lambda: len(swaps) > SWAPS and 200 in seen):
            answer = asker.ask("GET", path)
            assert answer.status in {200, *REFUSED}
            assert SECRET not in answer.body
            seen.add(answer.status)
            for method in ("PUT", "POST", "HEAD"):
                asker.ask(method, path, {"X-Object-Meta-Round": str(round_)}, BODY if method == "PUT" else None)
            asker.ask("PUT", quoted(container.name, "d/sub/secret"), NONE, BODY)
            asker.ask("DELETE", quoted(container.name, "d/sub/secret"))
            asker.ask("PUT", quoted(container.name, f"d/new/{round_}/"), NONE, b"")


def test_a_file_swapped_with_a_link_while_requests_run_never_leads_out(
    asker: Asker, container: Path, canary: Path
) -> None:
    (container / "o").write_bytes(b"inside")
    (container / "link").symlink_to(canary / "secret")
    path = quoted(container.name, "o")
    with swapping(container / "o", container / "link") as swaps:
        for _ in rounds(60, lambda: len(swaps) > SWAPS):
            assert asker.ask("GET", path).body in {b"inside", answer_of_404(asker)}
            asker.ask("POST", path, {"X-Object-Meta-Colour": "red"})


def answer_of_404(asker: Asker) -> bytes:
    return asker.ask("GET", "/no-such-container/o").body


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_zero_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))  # /dev/zero: endless to read. Source: Linux devices.txt


def make_terminal_device(path: Path) -> None:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 0))  # /dev/tty


def make_block_device(path: Path) -> None:
    os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 255))  # a loop device that nobody uses


def make_socket(path: Path) -> None:
    here = os.open(path.parent, os.O_PATH)
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(f"/proc/self/fd/{here}/{path.name}")  # a path may have no more than 108 bytes, unix(7)
    finally:
        os.close(here)


SPECIAL = [make_fifo, make_zero_device, make_terminal_device, make_block_device, make_socket]


@pytest.mark.parametrize("make", SPECIAL)
class TestSpecialFiles:
    def test_are_no_objects_and_nobody_waits_for_them(self, asker: Asker, container: Path, make: Callable) -> None:
        make(container / "o")
        assert_stays_beside(asker, quoted(container.name, "o"), container / "o")

    def test_in_the_place_of_a_directory_are_none(self, asker: Asker, container: Path, make: Callable) -> None:
        make(container / "d")
        assert_stays_beside(asker, quoted(container.name, "d/o"), container / "d")

    def test_in_the_place_of_a_container_are_none(self, asker: Asker, container: Path, make: Callable) -> None:
        container.rmdir()
        make(container)
        for name in ("o", "d/o", "d/"):
            assert {answer.status for answer in ask_everything(asker, quoted(container.name, name))} <= REFUSED
        assert_others_are_served(asker)
        asker.ask("DELETE", quoted(container.name))
        assert container.exists()


def test_a_hard_link_is_the_file_but_a_client_changes_only_its_own_name(
    asker: Asker, container: Path, canary: Path
) -> None:
    for name in ("kept", "replaced", "removed"):
        os.link(canary / "secret", container / name)
    # It is a name of that file in the container, given by somebody who may: there is nothing to see through.
    assert asker.ask("GET", quoted(container.name, "kept")).body == SECRET
    assert asker.ask("PUT", quoted(container.name, "replaced"), NONE, BODY).status == 201
    assert asker.ask("DELETE", quoted(container.name, "removed")).status == 204
    assert asker.ask("GET", quoted(container.name, "replaced")).body == BODY
    assert asker.ask("GET", quoted(container.name, "removed")).status == 404
    assert (canary / "secret").read_bytes() == SECRET


DOTS = (
    *("../canary", "../../canary/secret", "x/../../../etc/passwd", "..", ".", "../", "./", "x/..", "/..//../etc"),
    *("%2E%2E/secret", "..%dir/secret", "%2E%2E%2Fsecret", "....//secret", "\\..\\secret"),
)


@pytest.mark.parametrize("name", DOTS)
def test_dots_in_names_are_names(asker: Asker, container: Path, name: str) -> None:
    path = quoted(container.name, name)
    assert asker.ask("GET", path).status == 404
    assert asker.ask("PUT", path, NONE, BODY).status == 201
    assert asker.ask("GET", path).body == BODY
    (file,) = [found for found in container.rglob("*") if found.is_file()]
    assert file.read_bytes() == BODY
    assert asker.ask("DELETE", path).status == 204
    assert list(container.iterdir()) == []


def test_dots_that_are_not_quoted_do_not_lead_out_either(asker: Asker, container: Path) -> None:
    base = f"/{container.name}"
    for path in (f"{base}/../../../../etc/passwd", f"{base}/./..", "/../AUTH_other/c/o", "/../../../etc/passwd", "/.."):
        for method in ALL:
            answer = asker.ask(method, path, NONE, BODY if method == "PUT" else None)
            assert b"root:" not in answer.body
            assert answer.status < 500
    for source in ("/../../etc/passwd", f"{base}/../../../../../etc/passwd", "/%2E%2E/%2E%2E/etc/passwd"):
        answer = asker.ask("PUT", f"{base}/copy", {"X-Copy-From": source, "Content-Length": "0"})
        assert answer.status in {400, 404, 412}
    for directory, _, files in os.walk(container):
        assert all(Path(directory, file).read_bytes() == BODY for file in files)


LONG = ("n" * 255, "n" * 253 + "%+", "n" * 251 + "%dir", "n" * 250 + "%file", "é" * 127, "%" * 255, "." * 255)


@pytest.mark.parametrize("name", LONG, ids=lambda name: f"{name[:2]}..{name[-5:]}")
def test_names_of_255_bytes_are_served_or_reported_and_never_in_the_way(
    asker: Asker, container: Path, name: str
) -> None:
    (container / name).write_bytes(b"by a job")
    path = quoted(container.name, name)
    assert asker.ask("GET", path).body in {b"by a job", answer_of_404(asker)}
    # A file in the place of a directory whose name goes on (`%+`) cannot be helped: there is no other place.
    below = asker.ask("PUT", path + "/below", NONE, BODY)
    assert below.status == 201 or (below.status == 403 and name.endswith("%+")), below
    assert asker.ask("GET", path + "/below").status == (200 if below.status == 201 else 404)
    assert (container / name).read_bytes() == b"by a job"
    assert asker.ask("DELETE", path + "/below").status == (204 if below.status == 201 else 404)
    stored = asker.ask("PUT", path, NONE, BODY)
    assert stored.status == below.status
    assert stored.status != 201 or asker.ask("GET", path).body == BODY


def test_a_tree_deeper_than_a_path_can_be_is_no_trouble(asker: Asker, container: Path, served: Instance) -> None:
    entry, levels = "deep" * 50, 30  # 6000 bytes, PATH_MAX is 4096
    fd = os.open(container, os.O_PATH)
    for _ in range(levels):
        os.mkdir(entry, dir_fd=fd)
        below = os.open(entry, os.O_PATH, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    os.write(file, b"deep")
    os.close(file)
    os.close(fd)
    assert asker.ask("PUT", quoted(container.name, "o"), NONE, BODY).status == 201
    answer = asker.ask("DELETE", quoted(container.name))
    assert answer.status == 409
    done = plainly.reconcile(served, f"{ACCOUNT}/{container.name}")
    assert done.returncode == 0, done.stderr
    assert asker.ask("GET", quoted(container.name)).body.splitlines() == [b"o"]


def test_names_that_are_not_utf_8_are_refused_and_stay(asker: Asker, container: Path) -> None:
    for entry in (b"bad\xff", b"\xc3", b"\xed\xa0\x80", b"d\xff/x"):
        target = os.fsencode(container) + b"/" + entry
        os.makedirs(os.path.dirname(target), exist_ok=True)
        Path(os.fsdecode(target)).write_bytes(b"by a job")
        answers = ask_everything(asker, quoted(container.name, entry))
        assert {answer.status for answer in answers} == {412}
        assert Path(os.fsdecode(target)).read_bytes() == b"by a job"
    answer = asker.ask("DELETE", quoted(container.name))
    assert answer.status == 409
    answer.body.decode("utf-8")


SIDECAR = b"\0lustack-sidecar/1 "
FILE_NAMES = (*layout.FILE_ATTRIBUTES,)


def document(**members: object) -> bytes:
    return json.dumps({"version": 1, **members}).encode()


GARBAGE = {
    "empty": b"",
    "bytes": bytes(range(256)),
    "text": b"hello",
    "null": b"null",
    "list": b"[]",
    "deep": b"[" * 20000,
    "deep-object": b'{"a":' * 9000,
    "big-number": b'{"version":1,"stamp":[' + b"9" * 20000 + b",1,1,1]}",
    "float": b'{"version":1,"stamp":[1e999,NaN,-Infinity,1],"headers":{}}',
    "version": document(version=99),
    "no-headers": document(stamp=[1, 2, 3, None], inode=1),
    "wrong-headers": document(stamp=[1, 2, 3, None], inode=1, headers=[1, 2]),
    "utf-16": '{"version":1}'.encode("utf-16"),
    "surrogate": b'{"version":1,"headers":{"X-Object-Meta-A":"\\ud800"}}',
    "not-utf-8": b'{"version":1,"headers":{"\xff":"\xff"}}',
    "nul": b"\0" * 60000,
    "sidecar-empty": SIDECAR,
    "sidecar-missing": SIDECAR + b"0" * 32,
    "sidecar-out": SIDECAR + b"../../../../../etc/passwd",
    "sidecar-up": SIDECAR + b"..".ljust(32, b"/"),
    "sidecar-nul": SIDECAR + b"\0" * 32,
}


@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_attributes_makes_a_bare_file_and_stays(asker: Asker, container: Path, value: bytes) -> None:
    for attribute in FILE_NAMES:
        for entry, content in ((f"small-{attribute}", b"by a job"), (f"none-{attribute}", b"")):
            (container / entry).write_bytes(content)
            os.setxattr(container / entry, attribute, value)
            before = look(container / entry)
            answer = asker.ask("GET", quoted(container.name, entry))
            assert (answer.status, answer.body) == (200, content)
            assert asker.ask("HEAD", quoted(container.name, entry)).status == 200
            assert look(container / entry) == before
    for attribute in FILE_NAMES:
        path = quoted(container.name, f"small-{attribute}")
        assert asker.ask("POST", path, {"X-Object-Meta-Colour": "red"}).status == 202
        assert asker.ask("GET", path).headers["x-object-meta-colour"] == "red"
        assert asker.ask("PUT", path, NONE, BODY).status == 201
        assert asker.ask("GET", path).body == BODY
        assert asker.ask("DELETE", path).status == 204
        assert asker.ask("DELETE", quoted(container.name, f"none-{attribute}")).status == 204


@pytest.mark.parametrize("value", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_in_attributes_of_directories_is_no_trouble(asker: Asker, container: Path, value: bytes) -> None:
    names = (
        *(layout.SLASH_ATTRIBUTES.data, layout.SLASH_ATTRIBUTES.meta, layout.PLAIN_ATTRIBUTES.data),
        *(layout.PLAIN_ATTRIBUTES.data_system, layout.ATTRIBUTE_MADE, layout.ATTRIBUTE_TWINS),
    )
    for attribute in names:
        for entry in (".", "d"):
            directory = container / entry
            directory.mkdir(exist_ok=True)
            os.setxattr(directory, attribute, value)
    (container / "d" / "file").write_bytes(b"by a job")
    for name in ("d", "d/", "d/file", "d/new"):
        for method in ("GET", "HEAD", "POST"):
            assert asker.ask(method, quoted(container.name, name)).status in {200, 202, 404}
    for name in ("d", "d/", "d/new"):
        assert asker.ask("PUT", quoted(container.name, name), NONE, BODY).status == 201
        assert asker.ask("GET", quoted(container.name, name)).body == BODY
        assert asker.ask("DELETE", quoted(container.name, name)).status == 204
    assert (container / "d" / "file").read_bytes() == b"by a job"


def forge(
    path: Path,
    headers: Mapping[str, str],
    system: Mapping[str, str] = NONE,
    attribute: str = layout.FILE_ATTRIBUTES.data,
) -> None:
    """Write what Swift would have written, with other headers: the owner of a file can."""
    status = path.stat()
    stamp = [status.st_ino, status.st_size, status.st_mtime_ns, None]
    value = document(stamp=stamp, inode=status.st_ino, headers={**headers, **system}, system={**system})
    os.setxattr(path, attribute, value)


NOW = "1700000000.00000"
SYSTEM = {
    "X-Object-Sysmeta-Slo-Etag": "forged",
    "X-Static-Large-Object": "True",
    "X-Object-Sysmeta-Symlink-Target": "other/secret",
    "X-Symlink-Target": "other/secret",
    "X-Object-Sysmeta-Container-Update-Override-Size": "no number",
    "X-Object-Sysmeta-Container-Update-Override-Etag": "forged",
    "X-Object-Sysmeta-S3Api-Acl": '{"Owner":"somebody"}',
    "X-Object-Transient-Sysmeta-Crypto-Meta": "forged",
    "x-OBJECT-sysmeta-slo-size": "7",
    "X-Backend-Timestamp": "9999999999.99999",
}


def test_forged_system_metadata_does_not_count(asker: Asker, container: Path) -> None:
    for attribute in (layout.FILE_ATTRIBUTES.data, layout.FILE_ATTRIBUTES.meta):
        path = quoted(container.name, "o")
        (container / "o").write_bytes(b'[{"name": "/other/secret", "bytes": 1}]')
        forge(container / "o", {"X-Timestamp": NOW, "Content-Type": "text/plain"}, SYSTEM, attribute)
        answer = asker.ask("GET", path)
        assert (answer.status, answer.body) == (200, (container / "o").read_bytes())
        assert "x-static-large-object" not in answer.headers
        assert not any("forged" in value for value in answer.headers.values())
        assert asker.ask("POST", path, {"X-Object-Meta-Colour": "red"}).status == 202
        assert asker.ask("DELETE", path + "?multipart-manifest=delete").status in {200, 204}
        asker.ask("DELETE", path)


FORGED = {
    "future": {"X-Timestamp": "9999999999.99999"},
    "offset": {"X-Timestamp": "1700000000.00000_ffffffffffffffff"},
    "no-timestamp": {"X-Timestamp": "soon"},
    "other-case": {"X-Timestamp": NOW, "x-timestamp": "soon", "CONTENT-LENGTH": "-7", "content-type": "\x01"},
    "length": {"X-Timestamp": NOW, "Content-Length": "99999"},
    "name": {"X-Timestamp": NOW, "name": "/AUTH_other/c/o", "Deleted": "True"},
    "etag": {"X-Timestamp": NOW, "ETag": '"quoted"; x=y', "Etag": "no"},
    "expired": {"X-Timestamp": NOW, "X-Delete-At": "1700000001"},
    "delete-at": {"X-Timestamp": NOW, "X-Delete-At": "99999999999999999999"},
    "type": {"X-Timestamp": NOW, "Content-Type": "; charset=\x7f; =,"},
    "surrogate": {"X-Timestamp": NOW, "X-Object-Meta-A": "\ud800", "\udfff": "x"},
    "control": {"X-Timestamp": NOW, "X-Object-Meta-A": "\x01\x02\x85\u2028", "X-Object Meta:B": ":", "": ""},
    "injection": {"X-Timestamp": NOW, "X-Object-Meta-A": "a\r\nX-Injected: yes", "X-Injected: yes\r\n\r\nB": "x"},
    "unicode": {"X-Timestamp": NOW, "X-Object-Meta-A": "é😀"},
    "status": {"X-Timestamp": NOW, "Transfer-Encoding": "chunked", "Connection": "close", "Content-Range": "x"},
    "type-time": {"X-Timestamp": NOW, "Content-Type-Timestamp": NOW, "Content-Type": ""},
    "many": {"X-Timestamp": NOW, **{f"X-Object-Meta-{number}": "x" for number in range(1000)}},
    "long-line": {"X-Timestamp": NOW, "X-Object-Meta-A": "x" * 60000},
}


@pytest.mark.parametrize("headers", FORGED.values(), ids=FORGED.keys())
@pytest.mark.parametrize("attribute", [layout.FILE_ATTRIBUTES.data, layout.FILE_ATTRIBUTES.meta])
def test_forged_metadata_hurts_at_most_its_own_file(
    asker: Asker, container: Path, headers: Mapping[str, str], attribute: str
) -> None:
    file, path = container / "o", quoted(container.name, "o")
    file.write_bytes(b"by a job")
    forge(file, {"Content-Type": "text/plain", **headers}, attribute=attribute)
    before = look(file)
    for _ in range(plainly.TOO_MANY_ERRORS):
        answer = asker.ask("GET", path)
        assert answer.status in {200, 404}
        assert answer.status == 404 or answer.body == b"by a job"
        assert "x-injected" not in answer.headers
    assert look(file) == before
    assert asker.ask("POST", path, {"X-Object-Meta-Colour": "red"}).status in {202, 404, 409}
    assert_others_are_served(asker)
    stored = asker.ask("PUT", path, NONE, BODY)
    assert (stored.status, file.read_bytes()) == (201, BODY)
    assert asker.ask("GET", path).body == BODY
    assert asker.ask("DELETE", path).status == 204
    assert not file.exists()


def test_reconciling_a_hostile_tree_ends_reports_and_changes_nothing(
    served: Instance, asker: Asker, container: Path, canary: Path
) -> None:
    (container / "good").write_bytes(b"good")
    for number, make in enumerate(SPECIAL):
        make(container / f"special{number}")
    for name in ("file", "directory", "d"):
        (container / f"link-{name}").symlink_to(canary / {"file": "secret"}.get(name, ""))
    (container / "loop").symlink_to(".")
    os.link(canary / "secret", container / "hard")
    Path(os.fsdecode(os.fsencode(container) + b"/bad\xff")).write_bytes(b"by a job")
    (container / ("n" * 255)).write_bytes(b"long")
    for number, value in enumerate(GARBAGE.values()):
        for attribute in FILE_NAMES:
            file = container / f"garbage{number}{attribute}"
            file.write_bytes(b"by a job")
            os.setxattr(file, attribute, value)
    for title, headers in FORGED.items():
        (container / f"forged-{title}").write_bytes(b"by a job")
        forge(container / f"forged-{title}", {"Content-Type": "text/plain", **headers}, SYSTEM)
    before = survey(container)
    for _ in range(2):
        done = plainly.reconcile(served, f"{ACCOUNT}/{container.name}")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stdout + done.stderr
    assert survey(container) == before
    listed = asker.ask("GET", quoted(container.name) + "?limit=10000").body.decode().splitlines()
    files = [entry.name for entry in container.iterdir() if entry.is_file() and not entry.is_symlink()]
    assert listed == sorted(name for name in files if name.isprintable())
    assert "bad" in done.stdout + done.stderr


def test_nothing_that_was_asked_above_left_a_traceback_in_a_log(served: Instance) -> None:
    assert "Traceback" not in plainly.read_logs(served)
