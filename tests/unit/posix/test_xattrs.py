# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lustack.posix import atomic, tree, xattrs
from lustack.posix.errors import CorruptAttributeError, CorruptSidecarError, XattrUnsupportedError
from lustack.posix.xattrs import REFERENCE_PREFIX, AttributeStore, Sidecars

NAME = "user.lustack.data"
BIG = b"big" * 30_000
BIGGER = b"bigger" * 30_000


@pytest.fixture
def side(tmp_path: Path) -> Path:
    (tmp_path / "sidecars").mkdir(mode=0o700)
    return tmp_path / "sidecars"


@pytest.fixture
def sidecars(side: Path) -> Sidecars:
    return Sidecars(lambda: tree.open_root(bytes(side)))


@pytest.fixture
def store(sidecars: Sidecars) -> AttributeStore:
    return AttributeStore(sidecars)


@pytest.fixture
def hold() -> Iterator[Callable[[Path], int]]:
    """O_PATH descriptors, as the disk file uses them; closed after the test."""
    held: list[int] = []

    def do_hold(path: Path) -> int:
        held.append(os.open(path, os.O_PATH | os.O_NOFOLLOW))
        return held[-1]

    yield do_hold
    for fd in held:
        os.close(fd)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "object").write_bytes(b"content")
    return tmp_path / "object"


@pytest.fixture
def file(path: Path, hold: Callable[[Path], int]) -> int:
    return hold(path)


def files(side: Path) -> list[bytes]:
    return [os.fsencode(path.name) for path in side.rglob("*") if path.is_file()]


def errno_name(call, *arguments) -> str:
    try:
        return f"none, but the answer {call(*arguments)!r}"
    except OSError as err:
        return errno.errorcode[err.errno]


class TestSidecars:
    @pytest.mark.parametrize("blob", [b"", b"x", b"\n", BIG, bytes(range(256))])
    def test_give_back_what_was_stored(self, sidecars, blob):
        assert sidecars.read(sidecars.create(blob)) == blob

    def test_have_random_identifiers_and_only_we_may_look(self, sidecars, side):
        first, second = sidecars.create(b"x"), sidecars.create(b"x")
        assert first != second
        for identifier in (first, second):
            folder = side / identifier[:2].decode()
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
            assert (folder / identifier.decode()).is_file()

    def test_can_be_removed_more_than_once(self, sidecars, side):
        identifier = sidecars.create(b"x")
        sidecars.remove(identifier)
        sidecars.remove(identifier)
        sidecars.remove(b"0123456789abcdef" * 2)
        assert files(side) == []
        with pytest.raises(CorruptSidecarError, match="missing"):
            sidecars.read(identifier)

    def test_one_that_never_was_is_missing(self, sidecars):
        with pytest.raises(CorruptSidecarError, match="missing"):
            sidecars.read(b"0123456789abcdef" * 2)

    @pytest.mark.parametrize(
        "identifier",
        [
            b"",
            b"../../../../../../../../../../x",
            b"../outside/0123456789abcdef01234",
            b"/" * 32,
            b"0123456789ABCDEF" * 2,
            b"0123456789abcdef" * 2 + b"\n",
            b"0123456789abcdef" * 3,
        ],
    )
    def test_what_was_never_given_out_does_not_become_a_path(self, sidecars, identifier):
        for call in (sidecars.read, sidecars.remove):
            with pytest.raises(CorruptSidecarError, match="not an identifier"):
                call(identifier)

    @pytest.mark.parametrize("damage", [b"", b"x", b"0" * 64 + b"\nblob"])
    def test_a_damaged_one_is_known_by_its_checksum(self, sidecars, side, damage):
        identifier = sidecars.create(b"blob")
        (side / identifier[:2].decode() / identifier.decode()).write_bytes(damage)
        with pytest.raises(CorruptSidecarError, match="damaged"):
            sidecars.read(identifier)

    def test_one_that_lost_a_bit_is_damaged(self, sidecars, side):
        identifier = sidecars.create(b"blob")
        place = side / identifier[:2].decode() / identifier.decode()
        place.write_bytes(place.read_bytes()[:-1] + b"B")
        with pytest.raises(CorruptSidecarError, match="damaged"):
            sidecars.read(identifier)

    def test_planted_things_in_their_place_are_errors_that_block_and_leak_nothing(self, sidecars, side):
        identifier = b"00" * 16
        folder = side / "00"
        folder.mkdir()
        place = folder / identifier.decode()
        place.mkdir()
        assert errno_name(sidecars.read, identifier) == "EISDIR"
        place.rmdir()
        place.symlink_to("/etc/passwd")
        assert errno_name(sidecars.read, identifier) == "ELOOP"
        place.unlink()
        os.mkfifo(place)
        with pytest.raises(CorruptSidecarError, match="damaged"):
            sidecars.read(identifier)
        place.unlink()
        folder.rmdir()
        folder.symlink_to("/etc")
        for call in (sidecars.read, sidecars.remove):
            assert errno_name(call, identifier) == "ELOOP"


class TestAttributeStore:
    def test_an_attribute_that_was_never_set_is_none(self, store, file):
        assert store.read(file, NAME) is None
        assert store.sidecar_of(file, NAME) is None
        store.remove(file, NAME)

    @pytest.mark.parametrize("blob", [b"", b"x", b"\0\xff", b"{}" * 1000])
    def test_small_blobs_are_the_value_itself(self, store, file, path, side, blob):
        store.write(file, NAME, blob)
        assert store.read(file, NAME) == blob
        assert os.getxattr(path, NAME) == blob
        assert files(side) == []

    @pytest.mark.parametrize("size_bytes", [4100, 65_537, 1_000_000])
    def test_blobs_of_any_size_come_back(self, store, file, size_bytes):
        blob = os.urandom(size_bytes)
        store.write(file, NAME, blob)
        assert store.read(file, NAME) == blob

    def test_directories_and_open_files_have_attributes_too(self, store, tmp_path, hold, path):
        folder = hold(tmp_path)
        store.write(folder, NAME, BIG)
        assert store.read(folder, NAME) == BIG
        store.write(folder, NAME, b"small")
        fd = os.open(path, os.O_RDWR)
        store.write(fd, NAME, BIG)
        assert store.read(fd, NAME) == BIG
        os.close(fd)

    def test_several_attributes_of_one_file_may_overflow(self, store, file, side):
        for number in range(5):
            store.write(file, f"user.n{number}", BIG + b"%d" % number)
        for number in range(5):
            assert store.read(file, f"user.n{number}") == BIG + b"%d" % number
        assert len(files(side)) == 5

    def test_a_sidecar_goes_with_its_value(self, store, file, side):
        store.write(file, NAME, BIG)
        first = store.sidecar_of(file, NAME)
        assert files(side) == [first]
        store.write(file, NAME, BIGGER)
        assert files(side) == [store.sidecar_of(file, NAME)] != [first]
        assert store.read(file, NAME) == BIGGER
        store.write(file, NAME, b"small")
        assert store.sidecar_of(file, NAME) is None
        assert files(side) == []
        store.write(file, NAME, BIG)
        store.remove(file, NAME)
        assert store.read(file, NAME) is None
        assert files(side) == []

    def test_the_sidecar_is_what_a_deleted_file_leaves_to_be_removed(self, store, sidecars, file, path, side):
        store.write(file, NAME, BIG)
        identifier = store.sidecar_of(file, NAME)
        path.unlink()
        sidecars.remove(identifier)
        assert files(side) == []

    def test_a_blob_that_looks_like_a_reference_is_still_a_blob(self, store, file):
        for blob in (REFERENCE_PREFIX, REFERENCE_PREFIX + b"00" * 16, REFERENCE_PREFIX + b"../x"):
            store.write(file, NAME, blob)
            assert store.read(file, NAME) == blob

    @pytest.mark.parametrize(
        "value", [b"\0", b"\xff" * 100, REFERENCE_PREFIX[:-1], b" " + REFERENCE_PREFIX, b"lustack-sidecar/1 "]
    )
    def test_garbage_is_returned_as_it_is(self, store, file, path, value):
        os.setxattr(path, NAME, value)
        assert store.read(file, NAME) == value

    @pytest.mark.parametrize(
        ("reference", "why"),
        [
            (b"", "not an identifier"),
            (b"../../../../../../../../etc/passwd", "not an identifier"),
            (b"../outside/0123456789abcdef01234", "not an identifier"),
            (b"0123456789abcdef" * 2 + b" ", "not an identifier"),
            (b"0123456789abcdef" * 2, "missing"),
        ],
    )
    def test_a_forged_reference_is_corrupt_and_can_be_replaced(self, store, file, path, reference, why):
        os.setxattr(path, NAME, REFERENCE_PREFIX + reference)
        with pytest.raises(CorruptAttributeError, match=why) as caught:
            store.read(file, NAME)
        assert caught.value.name == NAME
        assert store.sidecar_of(file, NAME) is None
        store.write(file, NAME, b"new")
        assert store.read(file, NAME) == b"new"

    def test_a_corrupt_value_can_be_removed(self, store, file, path):
        os.setxattr(path, NAME, REFERENCE_PREFIX + b"x")
        store.remove(file, NAME)
        assert store.read(file, NAME) is None

    def test_nothing_is_erased_because_it_cannot_be_read(self, store, file, path, side):
        store.write(file, NAME, BIG)
        (sidecar,) = side.rglob("*/" + os.fsdecode(files(side)[0]))
        sidecar.write_bytes(b"damaged")
        value = os.getxattr(path, NAME)
        with pytest.raises(CorruptAttributeError, match="damaged"):
            store.read(file, NAME)
        assert os.getxattr(path, NAME) == value
        assert sidecar.read_bytes() == b"damaged"

    def test_a_sidecar_made_for_another_attribute_is_refused(self, store, file, path):
        store.write(file, NAME, BIG)
        os.setxattr(path, "user.lustack.meta", os.getxattr(path, NAME))
        with pytest.raises(CorruptAttributeError, match="another attribute"):
            store.read(file, "user.lustack.meta")
        store.remove(file, "user.lustack.meta")
        assert store.read(file, NAME) == BIG

    def test_a_sidecar_that_no_store_wrote_is_refused(self, store, sidecars, file, path):
        os.setxattr(path, NAME, REFERENCE_PREFIX + sidecars.create(b"no label"))
        with pytest.raises(CorruptAttributeError, match="another attribute"):
            store.read(file, NAME)

    def test_a_copy_reads_the_sidecar_but_never_removes_it(self, store, file, path, hold, side):
        store.write(file, NAME, BIG)
        shutil.copy2(path, path.with_name("copy"))
        copy = hold(path.with_name("copy"))
        assert store.read(copy, NAME) == BIG
        assert store.sidecar_of(copy, NAME) is None
        store.write(copy, NAME, BIGGER)
        assert store.read(copy, NAME) == BIGGER
        assert store.read(file, NAME) == BIG
        store.remove(copy, NAME)
        assert store.read(file, NAME) == BIG
        assert len(files(side)) == 1

    def test_a_renamed_file_keeps_its_sidecar(self, store, file, path, hold):
        store.write(file, NAME, BIG)
        path.rename(path.with_name("renamed"))
        renamed = hold(path.with_name("renamed"))
        assert store.sidecar_of(renamed, NAME) is not None
        assert store.read(renamed, NAME) == BIG

    def test_without_sidecars_what_does_not_fit_is_refused(self, store, file, path):
        plain = AttributeStore(None)
        plain.write(file, NAME, b"small")
        assert plain.read(file, NAME) == b"small"
        assert errno_name(plain.write, file, NAME, BIG) == "E2BIG"
        assert plain.read(file, NAME) == b"small"
        store.write(file, NAME, BIG)
        with pytest.raises(CorruptAttributeError, match="there are none here"):
            plain.read(file, NAME)
        plain.remove(file, NAME)
        assert plain.read(file, NAME) is None

    def test_a_file_system_without_attributes_is_named_with_its_remedy(self, store, hold):
        held = hold(Path("/proc/version"))
        for call in (store.read, store.remove, store.sidecar_of):
            with pytest.raises(XattrUnsupportedError, match=r"/proc/version.*user_xattr"):
                call(held, NAME)
        with pytest.raises(XattrUnsupportedError):
            store.write(held, NAME, b"x")

    def test_other_errors_fly(self, store, tmp_path, hold):
        os.mkfifo(tmp_path / "fifo")
        fifo = hold(tmp_path / "fifo")
        assert store.read(fifo, NAME) is None
        assert errno_name(store.write, fifo, NAME, b"x") == "EPERM"
        assert errno_name(store.remove, fifo, NAME) == "EPERM"
        assert errno_name(store.read, fifo, "user." + "n" * 300) == "ERANGE"

    def test_the_reference_of_a_failed_write_leaves_no_sidecar(self, store, tmp_path, hold, side):
        os.mkfifo(tmp_path / "fifo")
        assert errno_name(store.write, hold(tmp_path / "fifo"), NAME, BIG) == "EPERM"
        assert files(side) == []


class TestLimitsOfFileSystems:
    @pytest.mark.parametrize(("kind", "overflows_from"), [("ext4", 4096), ("xfs", 65_537)])
    def test_only_what_does_not_fit_overflows(self, make_filesystem, store, side, hold, kind, overflows_from):
        place = make_filesystem(kind, 600 << 20) / "object"
        place.touch()
        file = hold(place)
        store.write(file, NAME, b"x" * (overflows_from - 400))
        assert files(side) == []
        store.write(file, NAME, b"x" * overflows_from)
        assert len(files(side)) == 1
        assert store.read(file, NAME) == b"x" * overflows_from

    def test_attributes_of_others_that_leave_no_room_even_for_a_reference_are_no_space(
        self, make_filesystem, store, side, hold
    ):
        place = make_filesystem("ext4", 8 << 20) / "object"
        place.touch()
        file = hold(place)
        number = 0
        while errno_name(os.setxattr, place, f"user.{number}", b"") != "ENOSPC":
            number += 1
        assert errno_name(store.write, file, NAME, b"tiny") == "ENOSPC"
        assert errno_name(store.write, file, NAME, b"x" * 3000) == "ENOSPC"
        assert files(side) == []

    def test_no_room_for_the_sidecar_keeps_the_old_value(self, make_filesystem, hold):
        top = make_filesystem("ext4", 4 << 20)
        (top / "sidecars").mkdir()
        (top / "object").touch()
        store = AttributeStore(Sidecars(lambda: tree.open_root(bytes(top / "sidecars"))))
        file = hold(top / "object")
        store.write(file, NAME, b"old" * 2000)
        assert errno_name(store.write, file, NAME, bytes(8 << 20)) == "ENOSPC"
        assert store.read(file, NAME) == b"old" * 2000
        assert len(files(top / "sidecars")) == 1


def test_litter_of_crashed_writers_is_known(side, sidecars):
    identifier = sidecars.create(b"x")
    folder = side / identifier[:2].decode()
    (folder / os.fsdecode(atomic.TEMPORARY_PREFIX + b"0" * 16)).write_bytes(b"half")
    assert sidecars.read(identifier) == b"x"
    assert {atomic.is_temporary(name) for name in files(side)} == {True, False}
    assert xattrs.LARGEST_VALUE_BYTES == 65_536


class TestChoosePresent:
    def test_it_leaves_out_what_a_file_has_not(self, file: int, store: AttributeStore):
        store.write(file, NAME, b"blob")
        assert xattrs.choose_present(file, ["user.other", NAME]) == [NAME]

    def test_a_file_with_more_than_a_list_holds_may_have_each(self, file: int):
        def list_all(_path: str) -> list[str]:
            raise OSError(errno.E2BIG, "")

        assert xattrs.choose_present(file, ["user.other", NAME], list_all) == ["user.other", NAME]

    def test_a_failure_is_no_answer(self):
        with pytest.raises(FileNotFoundError):
            xattrs.choose_present(-1, [NAME])


def test_a_sidecar_that_was_put_aside_comes_back_when_somebody_reads_it(sidecars, side):
    identifier = sidecars.create(b"blob")
    path = side / os.fsdecode(identifier[:2]) / os.fsdecode(identifier)
    sidecars.retire(identifier)
    sidecars.retire(identifier)
    assert not path.exists()
    assert sidecars.read(identifier) == b"blob"
    assert path.exists()
    with pytest.raises(CorruptSidecarError):
        sidecars.retire(b"../../etc")
