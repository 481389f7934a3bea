# SPDX-License-Identifier: Apache-2.0
"""Third act: what Swift can do with objects, it can do with files."""

from __future__ import annotations

import json

import boto3.s3.transfer
from show import Show, expect
from stage import Stage


def play(show: Show, stage: Stage) -> None:
    """Show one after the other."""
    stage.run("mkdir $DATA/box")
    (stage.scratch / "big.bin").write_bytes(bytes(range(256)) * 12000)
    for act in (show_metadata, show_large_objects, show_versions, show_temporary_urls, show_last_words):
        act(show, stage)


def show_metadata(show: Show, stage: Stage) -> None:
    """Metadata stays when a job writes to the file."""
    show.head("Metadata stays when a job writes")

    def expect_stat(name: str, length: int, content_type: str, colour: str) -> None:
        found = stage.stat("box", name)
        expected = {"Content Length": str(length), "Content Type": content_type, "Meta Colour": colour}
        expect(expected, {key: found.get(key) for key in expected})

    with show.step("echo one > $DATA/box/job.txt; swift post -m Colour:blue -H Content-Type:text/x-job box job.txt"):
        stage.run("swift post box; echo one > $DATA/box/job.txt")
        stage.run("swift post -m Colour:blue -H Content-Type:text/x-job box job.txt")
        expect_stat("job.txt", 4, "text/x-job", "blue")
    with show.step("echo two >> $DATA/box/job.txt; swift stat box job.txt"):
        stage.run("echo two >> $DATA/box/job.txt")
        expect_stat("job.txt", 8, "text/x-job", "blue")
    with show.step("swift upload -H X-Object-Meta-Colour:red box put.txt; echo more >> $DATA/box/put.txt; swift stat"):
        stage.run("echo put > put.txt; swift upload -H X-Object-Meta-Colour:red box put.txt")
        stage.run("echo more >> $DATA/box/put.txt")
        expect_stat("put.txt", 9, "text/plain", "red")
    with show.step("swift download box put.txt -o -"):
        expect("put\nmore\n", stage.run("swift download box put.txt -o -"))


def show_large_objects(show: Show, stage: Stage) -> None:
    """Both kinds of large objects, of segments that clients or jobs wrote."""
    show.head("Large objects")
    with show.step("swift upload -S 1000000 box big.bin; swift download box big.bin -o - | cmp - big.bin"):
        stage.run("swift upload -S 1000000 box big.bin")
        stage.run("swift download box big.bin -o - | cmp - big.bin")
    with show.step('s3.upload_file("big.bin", ...), s3.download_file(...)   # multipart'):
        move_in_parts(stage)
    with show.step("split -b 1M big.bin $DATA/box/part/; swift upload -H X-Object-Manifest:box/part/ box joined"):
        stage.run("mkdir $DATA/box/part; split -b 1M big.bin $DATA/box/part/; : > joined")
        sizes = {"part/aa": 1024**2, "part/ab": 1024**2, "part/ac": 256 * 12000 - 2 * 1024**2}
        stage.wait_listed("box --prefix part/", sizes)
        stage.run("swift upload -H X-Object-Manifest:box/part/ box joined")
    with show.step("swift download box joined -o - | cmp - big.bin"):
        stage.run("swift download box joined -o - | cmp - big.bin")
    # Swift wants the MD5 of each segment, which the daemon learns in the background.
    with show.step(
        "until curl -sf -T manifest.json $OS_STORAGE_URL/box/static?multipart-manifest=put; do sleep 1; done"
    ):
        parts = [{"path": f"box/part/a{letter}"} for letter in "abc"]
        (stage.scratch / "manifest.json").write_text(json.dumps(parts))
        put = 'curl -sf -H "X-Auth-Token: $OS_AUTH_TOKEN" -T manifest.json'
        stage.run(f"until {put} $OS_STORAGE_URL/box/static?multipart-manifest=put; do sleep 1; done")
    with show.step("swift download box static -o - | cmp - big.bin"):
        stage.run("swift download box static -o - | cmp - big.bin")


def move_in_parts(stage: Stage) -> None:
    """Up and down in parts of 5 MiB, the smallest that S3 allows."""
    source, target = stage.scratch / "bigger.bin", stage.scratch / "again.bin"
    source.write_bytes(bytes(range(251)) * 40000)
    parts = boto3.s3.transfer.TransferConfig(multipart_threshold=5 * 1024**2, multipart_chunksize=5 * 1024**2)
    stage.s3.upload_file(str(source), "box", "bigger.bin", Config=parts)
    stage.s3.download_file("box", "bigger.bin", str(target), Config=parts)
    expect(True, source.read_bytes() == target.read_bytes())


def show_versions(show: Show, stage: Stage) -> None:
    """Both kinds of versioning keep what a job wrote when a client writes over it."""
    show.head("Versions")
    stage.run("for word in one two three; do echo $word > $word; done")
    with show.step("swift post -H X-Versions-Location:old notes; swift upload notes ... three times"):
        stage.run("swift post old; swift post -H X-Versions-Location:old notes")
        stage.run("swift upload --object-name note notes one; echo by-a-job > $DATA/notes/note")
        stage.run("swift upload --object-name note notes two; swift upload --object-name note notes three")
        expect("three\n", stage.run("cat $DATA/notes/note"))
    for word in ("two", "by-a-job"):
        with show.step(f"swift delete notes note; cat $DATA/notes/note   # {word} again"):
            stage.run("swift delete notes note")
            expect(f"{word}\n", stage.run("cat $DATA/notes/note"))
    with show.step("swift post -H X-Versions-Enabled:true journal; ...; swift list --versions journal"):
        stage.run("swift post journal; echo by-a-job > $DATA/journal/day")
        stage.run("swift post -H X-Versions-Enabled:true journal; swift upload --object-name day journal one")
        stage.run("swift upload --object-name day journal two; swift delete journal day")
        expect("4\n", stage.run("swift list --versions journal | grep -c day"))
    with show.step("swift download --version-id ... journal day   # what the job wrote"):
        oldest = json.loads(stage.run("swift list --versions journal --json"))[-1]["version_id"]
        expect("by-a-job\n", stage.run(f"swift download --version-id {oldest} journal day -o -"))


def show_temporary_urls(show: Show, stage: Stage) -> None:
    """A signed address needs no login."""
    show.head("Temporary addresses")
    base = stage.access["storage_url"].partition("/v1/")[0]
    path = stage.access["storage_url"].removeprefix(base)
    with show.step(
        "swift post -m Temp-URL-Key:secret; curl $(swift tempurl GET 60 $OS_STORAGE_URL/box/job.txt secret)"
    ):
        stage.run("swift post -m Temp-URL-Key:secret")
        expect("one\ntwo\n", stage.run(f"curl -sSf {base}$(swift tempurl GET 60 {path}/box/job.txt secret)"))
    with show.step("curl -T one $(swift tempurl PUT 60 $OS_STORAGE_URL/box/given secret); cat $DATA/box/given"):
        stage.run(f"curl -sSf -T one {base}$(swift tempurl PUT 60 {path}/box/given secret)")
        expect("one\n", stage.run("cat $DATA/box/given"))


def show_last_words(show: Show, stage: Stage) -> None:
    """A container goes when the files of jobs are gone, not before."""
    show.head("Nobody's files vanish with a container")
    ask = 'curl -sS -o answer -w "%{http_code}" -H "X-Auth-Token: $OS_AUTH_TOKEN"'
    delete = f"{ask} -X DELETE $OS_STORAGE_URL/last"
    stage.run("swift post last; echo precious > $DATA/last/by-a-job")
    with show.step("curl -X DELETE $OS_STORAGE_URL/last   # while a file is in it that Swift may not have seen yet"):
        expect("409", stage.run(delete))
        expect("precious\n", stage.run("cat $DATA/last/by-a-job"))
    # Else an empty listing would say nothing about whether the file is on its way there.
    stage.wait_listed("last", {"by-a-job": 9})
    with show.step("rm $DATA/last/by-a-job; curl -X DELETE $OS_STORAGE_URL/last; ls $DATA/last"):
        stage.run("rm $DATA/last/by-a-job")
        stage.wait_listed("last", {})
        expect("204", stage.run(delete))
        expect("gone\n", stage.run("ls $DATA/last 2>/dev/null || echo gone"))
