# SPDX-License-Identifier: Apache-2.0
"""What is shown, in order. Each step is one function; its docstring is the sentence that it proves."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

from clients import Clients, UnexpectedError, check

ODD_NAMES = (
    "with space.txt",
    " leading and trailing ",
    "new\nline",
    "tab\tname",
    "\u00fcn\u00efc\u00f6d\u00e9 \u2603",
    "100%",
    "50%25.txt",
    "a%2Fb",
    "-dash",
    "quo'te\"s",
    ".hidden",
    "back\\slash",
    "semi;colon & $HOME",
    "*glob?[x]",
    "n" * 255,
)
MIB = 1024 * 1024


def upload_by_swift(clients: Clients) -> None:
    """What is uploaded by Swift is a file."""
    (clients.served.scratch / "hello.txt").write_text("hello from Swift\n")
    clients.run("swift", "--quiet", "upload", "docs", "hello.txt")
    path = clients.served.account / "docs/hello.txt"
    check(clients.run("cat", path), "hello from Swift\n", "cat")


def upload_by_s3(clients: Clients) -> None:
    """What is uploaded by S3 is a file."""
    clients.say("boto3: s3.put_object(Bucket='docs', Key='deep/er/s3.txt', Body=...)")
    clients.s3.put_object(Bucket="docs", Key="deep/er/s3.txt", Body=b"hello from S3\n")
    path = clients.served.account / "docs/deep/er/s3.txt"
    check(clients.run("cat", path), "hello from S3\n", "cat")


def copy_a_tree(clients: Clients) -> None:
    """A tree that is copied into a container is objects, whatever the names."""
    tree = clients.served.scratch / "tree"
    make_tree(tree, 300)
    clients.run("swift", "post", "results")
    root = clients.served.account / "results"
    clients.run("cp", "-r", tree, root / "run1")
    clients.wait_listed("results", root)
    clients.check_downloads("results", root)


def move_and_make(clients: Clients) -> None:
    """mkdir, mv of a file, mv of a directory: the names follow."""
    root = clients.served.account / "results"
    clients.run("mkdir", "-p", root / "run2/plots")
    clients.run("mv", root / "run1/file-1.dat", root / "run2/plots/renamed.dat")
    clients.run("mv", root / "run1/dir-1", root / "run2/moved")
    clients.wait_listed("results", root)
    moved = (str(path.relative_to(root)) for path in (root / "run2/moved").rglob("*.dat"))
    clients.check_downloads("results", root, "run2/plots/renamed.dat", *sorted(moved)[:5])


def change_in_place(clients: Clients) -> None:
    """What jobs overwrite, append to and truncate is served as it is now."""
    root = clients.served.account / "results"
    before = clients.listing("results")["run1/file-2.dat"]["hash"]
    path = root / "run1/file-2.dat"
    clients.say(
        f"dd if=/dev/urandom of=DIR/AUTH_test/results/run1/file-2.dat conv=notrunc   # {path.stat().st_size} bytes"
    )
    with path.open("r+b") as file:
        file.write(os.urandom(path.stat().st_size))
    clients.run("sh", "-c", f"echo more >> '{root}/run1/file-3.dat'")
    clients.run("truncate", "-s", "10", root / "run1/file-4.dat")
    clients.wait_listed("results", root)
    _wait(lambda: clients.listing("results")["run1/file-2.dat"]["hash"] != before, "a new ETag in the listing")
    clients.check_downloads("results", root, *(f"run1/file-{index}.dat" for index in (2, 3, 4)))


def remove_a_tree(clients: Clients) -> None:
    """What is removed is gone from the listing."""
    root = clients.served.account / "results"
    clients.run("rm", "-r", root / "run1")
    clients.wait_listed("results", root)


def keep_metadata(clients: Clients) -> None:
    """Metadata that a user posts stays, also when a job writes to the file."""
    root = clients.served.account / "results"
    name = "run2/plots/renamed.dat"
    clients.run("swift", "post", "results", name, "-m", "Project:cosmo")
    check("Meta Project: cosmo" in clients.run("swift", "stat", "results", name), True, "X-Object-Meta-Project")
    clients.run("sh", "-c", f"echo changed > '{root}/{name}'")
    stat = clients.run("swift", "stat", "results", name)
    check("Meta Project: cosmo" in stat and "Content Length: 8" in stat, True, f"metadata and length in {stat}")


def large_objects(clients: Clients) -> None:
    """Static and dynamic large objects work; their segments are files."""
    content = os.urandom(3 * MIB + 17)
    (clients.served.scratch / "large.bin").write_bytes(content)
    clients.run("swift", "--quiet", "upload", "large", "large.bin", "--use-slo", "-S", str(MIB))
    segments = [path for path in (clients.served.account / "large_segments").rglob("*") if path.is_file()]
    check(len(segments), 4, "segments on disk")
    clients.run("swift", "--quiet", "download", "large", "large.bin", "-o", "slo.bin")
    check((clients.served.scratch / "slo.bin").read_bytes() == content, True, "bytes of the static large object")
    (clients.served.account / "large/parts").mkdir()
    for index in range(2):
        (clients.served.account / f"large/parts/{index}").write_bytes(content[index * MIB : (index + 1) * MIB])
    clients.say("cp part-0 part-1 DIR/AUTH_test/large/parts/   # the segments of a dynamic one come from a job")
    clients.wait_listed("large", clients.served.account / "large", "large.bin")
    headers = (
        "-H",
        f"X-Auth-Token: {clients.token()}",
        "-H",
        "X-Object-Manifest: large/parts/",
        "-H",
        "Content-Length: 0",
    )
    clients.quietly("curl", "-fsS", "-X", "PUT", *headers, clients.url("large/dynamic"))
    clients.say("curl -X PUT -H 'X-Object-Manifest: large/parts/' $URL/large/dynamic")
    clients.run("swift", "--quiet", "download", "large", "dynamic", "-o", "dlo.bin")
    check((clients.served.scratch / "dlo.bin").read_bytes() == content[: 2 * MIB], True, "bytes of the dynamic one")


def versions(clients: Clients) -> None:
    """Both kinds of versioning keep old versions."""
    note = clients.served.scratch / "note"
    clients.run("swift", "post", "archive")
    clients.run("swift", "post", "old-style", "-H", "X-Versions-Location: archive")
    clients.run("swift", "post", "new-style", "-H", "X-Versions-Enabled: true")
    for container in ("old-style", "new-style"):
        for text in ("one", "two"):
            note.write_text(text)
            clients.run("swift", "--quiet", "upload", container, "note")
        check(clients.run("swift", "--quiet", "download", container, "note", "-o", "-"), "two", "the newest version")
    check((clients.served.account / "old-style/note").read_text(), "two", "the newest version on disk")
    check(len(clients.listing("archive")), 1, "old versions in the archive")
    found = clients.s3.list_object_versions(Bucket="new-style")["Versions"]
    old = next(version["VersionId"] for version in found if not version["IsLatest"])
    clients.say("boto3: s3.list_object_versions(...), s3.get_object(..., VersionId=...)")
    body = clients.s3.get_object(Bucket="new-style", Key="note", VersionId=old)["Body"].read()
    check(body, b"one", "the old version by S3")
    clients.run("swift", "--quiet", "delete", "old-style", "note")
    check((clients.served.account / "old-style/note").read_text(), "one", "the version that came back")


def temporary_url(clients: Clients) -> None:
    """A temporary URL gives a file of a job to somebody without an account."""
    path = clients.served.account / "docs/by-a-job.txt"
    path.write_text("from a job\n")
    clients.say("echo from a job > DIR/AUTH_test/docs/by-a-job.txt")
    clients.run("swift", "post", "-m", "Temp-URL-Key:secret")
    signed = clients.run("swift", "tempurl", "GET", "600", "/v1/AUTH_test/docs/by-a-job.txt", "secret").strip()
    url = clients.served.access["s3_endpoint"] + signed
    check(clients.run("curl", "-fsS", url), "from a job\n", "the file by its temporary URL")
    clients.run("curl", "-fsS", url.replace("by-a-job", "hello"), fails=True)


def delete_a_container(clients: Clients) -> None:
    """A container that holds files of jobs is not deleted; an empty one is, and its directory with it."""
    clients.run("swift", "post", "closing")
    root = clients.served.account / "closing"
    (root / "precious.dat").write_bytes(b"data")
    headers = ("-H", f"X-Auth-Token: {clients.token()}")
    refused = clients.quietly("curl", "-sS", "-X", "DELETE", *headers, "-w", "%{http_code}", clients.url("closing"))
    clients.say("curl -X DELETE $URL/closing   # 409")
    check(refused.endswith("409") and "precious.dat" in refused, True, f"a refusal that names the file: {refused!r}")
    clients.run("rm", root / "precious.dat")
    clients.wait_listed("closing", root)
    clients.run("swift", "--quiet", "delete", "closing")
    check(root.exists(), False, "the directory of the deleted container exists")


STEPS = (
    upload_by_swift,
    upload_by_s3,
    copy_a_tree,
    move_and_make,
    change_in_place,
    remove_a_tree,
    keep_metadata,
    large_objects,
    versions,
    temporary_url,
    delete_a_container,
)


def make_tree(root: Path, count: int) -> None:
    """A few hundred files with the same content each time: small, empty, large enough for no hash inside a request."""
    shutil.rmtree(root, ignore_errors=True)
    numbers = random.Random(20261123)
    for index in range(1, count + 1):
        directory = root if index <= 5 else root / f"dir-{index % 10}" / f"sub {index % 3}"
        directory.mkdir(parents=True, exist_ok=True)
        size = numbers.choice((0, 1, 100, 5000, 70_000))
        (directory / f"file-{index}.dat").write_bytes(numbers.randbytes(size if index > 5 else 5000))
    for name in ODD_NAMES:
        (root / name).write_bytes(name.encode())


def _wait(holds: object, what: str) -> None:
    end = time.monotonic() + 30
    while not holds():
        if time.monotonic() > end:
            message = f"{what}: not within 30 s"
            raise UnexpectedError(message)
        time.sleep(0.2)
