# SPDX-License-Identifier: Apache-2.0
"""Names and paths: every name has places of its own, and every path at most one name."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from lustack.mapping import layout, names
from lustack.mapping.names import Kind, UnrepresentableNameError

TOKENS = [
    *("%", "%%", "%0", "%00", "%2", "%2E", "%2e", "%25", "%2500", "%252E", "%2F", "%+", "+", "%dir", "%file", "dir"),
    *("/", "//", ".", "..", "...", "\0", " ", "\n", "\\", "~", "a", "A", "é", "😀", "\ud7ff", "\uffff"),
    *(".lustack", ".lustack.tmp.", ".lustack.tmp.0123456789abcdef", "a" * 239, "b" * 250, "c" * 253, "d" * 255),
    *("ü" * 120, "😀" * 63, "%25" * 80, "." * 240),
]
MARKS = [kind.value.decode() for kind in Kind] + ["%+", "%", "%25", "%00", "%2E"]


def is_valid(name: str) -> bool:
    return 1 <= len(name.encode()) <= names.MAX_OBJECT_NAME_BYTES


def fit(text: str) -> str:
    """The longest start of a text that is short enough for a name."""
    return text.encode()[: names.MAX_OBJECT_NAME_BYTES].decode(errors="ignore")


characters = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
tokens = st.lists(st.sampled_from(TOKENS), max_size=12).map("".join)
# Lengths around the limit of an entry, with a mark where it is cut.
long = st.builds(
    lambda head, mark, tail: "a" * head + mark + "b" * tail,
    st.integers(230, 260),
    st.sampled_from([*MARKS, "é", "😀", "\0", ".lustack.tmp.", ""]),
    st.integers(0, 270),
)
components = st.one_of(tokens, characters, long, st.builds(str.__add__, long, st.sampled_from(MARKS)))
components = components.map(lambda text: text.replace("/", ""))
object_names = st.one_of(tokens, characters, long, st.lists(components, min_size=1, max_size=5).map("/".join))
object_names = object_names.map(fit).filter(is_valid)
container_names = components.map(fit).filter(lambda text: 1 <= len(text.encode()) <= 256)

byte_tokens = [token.encode().replace(b"\0", b"") for token in TOKENS] + [b"\xff", b"\xc3", b"\x80"]
entries = st.one_of(
    st.lists(st.sampled_from(byte_tokens), min_size=1, max_size=6).map(b"".join),
    st.binary(min_size=1, max_size=255),
    st.builds(bytes.__add__, long.map(str.encode), st.sampled_from([b"%+", b"%dir", b"%file", b"%25+"])),
)
entries = entries.map(lambda entry: entry.replace(b"/", b"").replace(b"\0", b"")[-255:])
entries = entries.filter(lambda entry: entry not in {b"", b".", b".."})
posix_paths = st.lists(entries, min_size=1, max_size=4).map(b"/".join)


def places(name: str) -> list[bytes]:
    """Every place of a name: of each component the plain one and the twin's (of the first and last ones only)."""
    steps = names.steps(name)
    free = {0, len(steps) - 2, len(steps) - 1}
    choices = [(step.plain, step.twin) if index in free else (step.plain,) for index, step in enumerate(steps)]
    return [b"/".join(choice) for choice in itertools.product(*choices)]


def assert_is_below(path: bytes) -> None:
    """Every entry can exist in any file system, and none is reserved."""
    for entry in path.split(b"/"):
        assert 1 <= len(entry) <= names.NAME_MAX
        assert entry not in {b".", b".."}
        assert b"\0" not in entry
        assert not entry.startswith(layout.TEMPORARY_PREFIX)


@given(name=object_names)
@example(name="a")
@example(name="/")
@example(name="//")
@example(name="\0")
@example(name=".")
@example(name="../..")
@example(name="%")
@example(name="%dir/%file")
def test_every_name_comes_back_from_each_of_its_places(name: str):
    assert names.encode(name) == places(name)[0]
    for place in places(name):
        assert_is_below(place)
        assert names.decode(place) == name


@given(name=object_names)
def test_a_name_that_posix_can_hold_is_stored_as_it_is(name: str):
    raw = name.encode()
    parts = raw.split(b"/")
    assume(b"%" not in raw and b"\0" not in raw)
    assume(all(0 < len(part) <= 255 and not part.startswith(b".") for part in parts))
    assert names.encode(name) == raw


@settings(max_examples=500)
@given(path=posix_paths)
@example(path=b"a%dir/b")
@example(path=b"a%file")
@example(path=b"a" * 253 + b"%+/b")
@example(path=b"%252E")
def test_every_path_has_no_name_or_one_that_leads_back(path: bytes):
    try:
        name = names.decode(path)
    except UnrepresentableNameError:
        return
    assert is_valid(name)
    steps = names.steps(name)
    assert path in {b"/".join(choice) for choice in itertools.product(*((step.plain, step.twin) for step in steps))}


@given(path=posix_paths)
def test_a_path_without_our_marks_is_a_name_as_it_is(path: bytes):
    assume(b"%" not in path and len(path) <= names.MAX_OBJECT_NAME_BYTES)
    assume(not any(entry.startswith(layout.TEMPORARY_PREFIX) for entry in path.split(b"/")))
    try:
        expected = path.decode()
    except UnicodeDecodeError:
        with pytest.raises(UnrepresentableNameError, match="UTF-8"):
            names.decode(path)
    else:
        assert names.decode(path) == expected


def prefixes(path: bytes) -> list[bytes]:
    parts = path.split(b"/")
    return [b"/".join(parts[:count]) for count in range(1, len(parts))]


marked = st.builds(str.__add__, components, st.sampled_from(["", *MARKS, "%dir%file", "%+%file", "%file%dir"]))
pairs = st.one_of(
    st.tuples(marked, marked),
    components.flatmap(lambda c: st.tuples(st.just(c), st.sampled_from(MARKS).map(lambda mark: c + mark))),
    st.builds(
        lambda length, tail: ("a" * length, "a" * min(length, 253) + tail),
        st.integers(200, 600),
        st.sampled_from(MARKS),
    ),
)


@settings(max_examples=500)
@given(pair=pairs)
@example(pair=("c", "c%file"))
@example(pair=("c%dir", "c"))
@example(pair=("a" * 600, "a" * 253 + "%+"))
def test_whatever_exists_every_name_has_a_place_left(pair: tuple[str, str]):
    """The twin of a file is never a directory of another name, nor the other way; nor is a cut name's directory a file.

    A file and a directory of one name exclude each other at its plain place only.
    """
    for file, directory in (pair, pair[::-1]):
        as_file = names.steps(file)[0]
        as_directory = names.directory_steps(directory)[0]
        files = {as_file.plain, as_file.twin}
        cuts = {*prefixes(as_directory.plain), *prefixes(as_directory.twin), *prefixes(names.encode(directory))}
        assert as_file.twin not in {as_directory.plain, as_directory.twin}
        assert as_directory.twin not in files
        assert not files & cuts
        if as_file.plain == as_directory.plain:
            assert file == directory


@given(account=container_names, container=container_names)
@example(account=".lustack", container="\0versions\0c")
@example(account="AUTH_test", container="..")
def test_accounts_and_containers_come_back(account: str, container: str):
    path = names.account_path(account)
    assert_is_below(path)
    assert path.split(b"/")[0] != layout.RESERVED
    assert names.decode_account(path) == account
    whole = names.container_path(account, container)
    assert_is_below(whole)
    top = layout.HIDDEN_CONTAINERS + b"/" + path if container.startswith("\0") else path
    assert whole.startswith(top + b"/")
    assert names.decode_container(whole[len(top) + 1 :]) == container


@given(path=posix_paths)
@example(path=b"%00")
def test_every_directory_is_no_account_or_container_or_one_that_leads_back(path: bytes):
    # Hidden containers have their accounts elsewhere.
    hidden = layout.HIDDEN_CONTAINERS + b"/"
    for decode, encode in (
        (names.decode_account, names.account_path),
        (names.decode_container, lambda name: names.container_path("a", name).removeprefix(hidden).removeprefix(b"a/")),
    ):
        try:
            name = decode(path)
        except UnrepresentableNameError:
            continue
        assert encode(name) == path
