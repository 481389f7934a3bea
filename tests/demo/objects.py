# SPDX-License-Identifier: Apache-2.0
"""First act: an object is a file, for every client."""

from __future__ import annotations

from show import Show, expect
from stage import Stage

CONTAINER = "docs"


def play(show: Show, stage: Stage) -> None:
    """Upload with one client, read with another, or with none."""
    show.head("An object is a file")
    (stage.scratch / "hello.txt").write_text("Hello from Swift\n")
    (stage.scratch / "photo.jpg").write_bytes(bytes(range(256)) * 5000)
    with show.step('eval "$(swift auth)"'):
        stage.log_in()
    with show.step("swift upload docs hello.txt"):
        stage.run("swift upload docs hello.txt")
    with show.step("cat $DATA/docs/hello.txt"):
        expect("Hello from Swift\n", stage.run("cat $DATA/docs/hello.txt"))
    with show.step('s3.upload_file("photo.jpg", "docs", "album/photo.jpg")'):
        stage.s3.upload_file(str(stage.scratch / "photo.jpg"), CONTAINER, "album/photo.jpg")
    with show.step("cat $DATA/docs/album/photo.jpg | cmp - photo.jpg"):
        stage.run("cat $DATA/docs/album/photo.jpg | cmp - photo.jpg")
    with show.step('curl -H "X-Auth-Token: $OS_AUTH_TOKEN" -T photo.jpg $OS_STORAGE_URL/docs/by-curl.jpg'):
        stage.run('curl -sSf -H "X-Auth-Token: $OS_AUTH_TOKEN" -T photo.jpg $OS_STORAGE_URL/docs/by-curl.jpg')
        stage.run("cmp photo.jpg $DATA/docs/by-curl.jpg")
    with show.step("echo 'Hello from a job' > $DATA/docs/job.txt; swift download docs job.txt -o -"):
        stage.run("echo 'Hello from a job' > $DATA/docs/job.txt")
        expect("Hello from a job\n", stage.run("swift download docs job.txt -o -"))
    with show.step('s3.get_object(Bucket="docs", Key="job.txt")'):
        expect(b"Hello from a job\n", stage.s3.get_object(Bucket=CONTAINER, Key="job.txt")["Body"].read())
    with show.step("swift delete docs hello.txt; ls $DATA/docs"):
        stage.run("swift delete docs hello.txt")
        expect(["album", "by-curl.jpg", "job.txt"], stage.run("ls $DATA/docs").split())
