# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.lustre.errors import ShareSyntaxError
from lustack.lustre.mounts import Share, find_faults, find_mount, is_mount_point, parse_mounts, parse_share


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("10.0.2.15@tcp:/lustre", Share((("10.0.2.15@tcp",),), "lustre")),
        ("10.0.2.15:/lustre/", Share((("10.0.2.15@tcp",),), "lustre")),
        ("mds:/scratch/a//b/", Share((("mds@tcp",),), "scratch", "a/b")),
        (
            "10.0.0.1@tcp,10.1.0.1@o2ib1:10.0.0.2@tcp1:/fs_1-a/vol",
            Share((("10.0.0.1@tcp", "10.1.0.1@o2ib1"), ("10.0.0.2@tcp1",)), "fs_1-a", "vol"),
        ),
        ("[2001:db8::1]@tcp:[::2]:/x", Share((("[2001:db8::1]@tcp",), ("[::2]@tcp",)), "x")),
        (" 12345@gni:/fs \n", Share((("12345@gni",),), "fs")),
    ],
)
def test_a_share_is_read_as_administrators_write_it(text, share):
    assert parse_share(text) == share
    assert parse_share(str(share)) == share


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "`:/` is missing"),
        ("/lustre", "`:/` is missing"),
        ("mds:lustre", "`:/` is missing"),
        (":/lustre", "'' is no address"),
        ("a,:/lustre", "'' is no address"),
        ("a@:/lustre", "'a@' is no address"),
        ("mds:/", "'' is no name of a file system"),
        ("mds:/ninechars", "is no name of a file system"),
        ("mds:/lu stre", "is no name of a file system"),
        ("mds:/lustre/../etc", "no place in the path"),
        ("m ds:/lustre", "a blank"),
        ("-o,evil@tcp;reboot:/lustre", "is no address"),
    ],
)
def test_what_is_no_share_is_refused_with_its_reason(text, why):
    with pytest.raises(ShareSyntaxError, match=why):
        parse_share(text)


LINES = [
    b"proc /proc proc rw 0 0",
    b"10.0.2.15@tcp:/lustre /mnt/lustre lustre rw,flock,user_xattr 0 0",
    b"10.0.2.15@tcp:/lustre/vol /mnt/with\\040blank lustre ro,nouser_xattr,noflock 0 0",
    b"/dev/vdb /mnt/mdt lustre ro 0 0",
    b"10.0.2.15@tcp:/lustre /mnt/lustre/deep lustre rw,localflock 0 0",
    b"short lustre",
]


def test_the_mounts_of_lustre_are_found_among_others():
    mounts = parse_mounts(LINES)
    assert [mount.point for mount in mounts] == [b"/mnt/lustre", b"/mnt/with blank", b"/mnt/lustre/deep"]
    assert mounts[1].share.subdirectory == "vol"
    assert mounts[0].options == {"rw", "flock", "user_xattr"}


@pytest.mark.parametrize(
    ("path", "point"),
    [
        (b"/mnt/lustre", b"/mnt/lustre"),
        (b"/mnt/lustre/a/b", b"/mnt/lustre"),
        (b"/mnt/lustre/deep/a", b"/mnt/lustre/deep"),
        (b"/mnt/lustrex", None),
    ],
)
def test_a_path_belongs_to_the_deepest_mount(path, point):
    mount = find_mount(parse_mounts(LINES), path)
    assert (mount and mount.point) == point


def test_a_mount_at_the_root_holds_everything():
    mounts = parse_mounts([b"m@tcp:/fs / lustre rw 0 0"])
    assert find_mount(mounts, b"/a") is mounts[0]


def test_options_that_break_promises_are_named_with_the_remedy():
    whole, part, deep = parse_mounts(LINES)
    assert find_faults(whole.options) == []
    assert [each.partition(":")[0] for each in find_faults(part.options)] == [
        "user attributes are off (the default of Lustre)",
        "locks are off",
        "it is mounted read-only",
    ]
    assert "localflock" in find_faults(deep.options)[0]


def test_what_is_mounted_has_one_name_whatever_its_servers_are():
    shares = ["mds1@tcp:/lustre/vol", "10.0.0.1@o2ib,mds2@tcp:/lustre//vol/"]
    assert {parse_share(share).identity for share in shares} == {"lustre/vol"}
    assert parse_share("mds:/lustre").identity == "lustre"


@pytest.mark.parametrize(
    ("point", "is_mounted"),
    [(b"/proc", True), (b"/mnt/with blank", True), (b"/mnt/lustre/", False), (b"/mnt", False), (b"lustre", False)],
)
def test_mount_points_of_every_type_are_found(point, is_mounted):
    assert is_mount_point(LINES, point) is is_mounted
