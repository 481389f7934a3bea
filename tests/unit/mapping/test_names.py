# SPDX-License-Identifier: Apache-2.0
"""The scheme, written out. That it holds for all names is in tests/property/test_names.py."""

from __future__ import annotations

import pytest

from lustack.mapping import names
from lustack.mapping.names import Kind, Step, UnrepresentableNameError

PLACES = [
    # What POSIX can hold plainly is stored plainly.
    ("a", b"a"),
    ("photos/2024/img 1.jpg", b"photos/2024/img 1.jpg"),
    ("ö/😀", "ö/😀".encode()),
    (".hidden/...", b".hidden/..."),
    ("new\nline\\", b"new\nline\\"),
    ("50%.txt", b"50%.txt"),
    ("100%/x", b"100%/x"),
    ("%41", b"%41"),
    ("%2e", b"%2e"),
    ("a%2E", b"a%2E"),
    (".lustack", b".lustack"),
    # What it cannot gets a mark.
    ("a//b", b"a/%/b"),
    ("/", b"%/%"),
    ("/a", b"%/a"),
    ("a/", b"a/%"),
    (".", b"%2E"),
    ("..", b"%2E."),
    ("a/../b", b"a/%2E./b"),
    ("a\0b", b"a%00b"),
    (".lustack.tmp.0123456789abcdef", b"%2Elustack.tmp.0123456789abcdef"),
    # What reads as a mark gets its % escaped.
    ("%", b"%25"),
    ("%2E", b"%252E"),
    ("%2E.", b"%252E."),
    ("%00", b"%2500"),
    ("a%00%", b"a%2500%25"),
    ("\0%", b"%00%"),
    ("\0%00", b"%00%2500"),
    ("c%dir", b"c%25dir"),
    ("c%file", b"c%25file"),
    ("c%dir/c%file/x", b"c%25dir/c%25file/x"),
    ("%dir", b"%dir"),
    # Too long for an entry: cut at characters.
    ("a" * 255, b"a" * 255),
    ("a" * 256, b"a" * 253 + b"%+/aaa"),
    ("a" * 600, b"a" * 253 + b"%+/" + b"a" * 253 + b"%+/" + b"a" * 94),
    ("a" * 252 + "é" * 2, b"a" * 252 + b"%+/" + "éé".encode()),
    ("a" * 253 + "%+", b"a" * 253 + b"%+/%25+"),
    ("a" * 253 + "%+" + "a", b"a" * 253 + b"%+/%+a"),
]


@pytest.mark.parametrize(("name", "path"), PLACES)
def test_a_name_has_its_place_and_the_place_its_name(name, path):
    assert names.encode(name) == path
    assert names.decode(path) == name


def test_the_empty_component_has_twins_too():
    assert names.decode(b"a/%%file") == "a/"
    assert names.decode(b"%%dir/a") == "/a"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (b"c%file", "c"),
        (b"c%dir/x", "c/x"),
        (b"a/c%dir/d%dir/x%file", "a/c/d/x"),
        (b"%2E%dir/x", "./x"),
        (b"c%25dir%dir/x", "c%dir/x"),
        (b"%file%file", "%file"),
        (b"%41%25%file", "%41%25"),
        (b"a" * 253 + b"%+/aaa%file", "a" * 256),
        (b"a" * 253 + b"%+/a%file", "a" * 254),
    ],
)
def test_a_twin_has_the_name_that_it_stands_for(path, name):
    assert names.decode(path) == name


@pytest.mark.parametrize(
    ("path", "why"),
    [
        (b"\xff", "not UTF-8"),
        (b"%25\xff", "not UTF-8"),
        (b"/".join([b"a" * 200] * 6), "1205 bytes"),
        (b"%", "empty"),
        (b"%%file", "empty"),
        (b".lustack.tmp.0123456789abcdef", "reserved"),
        (b"a/.lustack.tmp.x/b", "reserved"),
        (b"c%dir", "marks"),
        (b"c%file/x", "marks"),
        (b"c%dir%file", "marks"),
        (b"c%file%dir/x", "marks"),
        (b"a" * 253 + b"%+", "marks"),
        (b"a" * 253 + b"%+/a", "need not"),
        (b"a" * 240 + b"%+/" + b"a" * 250, "need not"),
    ],
)
def test_a_path_that_no_name_leads_to_says_why(path, why):
    with pytest.raises(UnrepresentableNameError, match=why) as caught:
        names.decode(path)
    assert caught.value.path
    assert str(caught.value).startswith(f"{caught.value.path!r} cannot be an object: ")


def test_each_component_has_a_plain_place_and_a_twin():
    assert names.steps("a/%") == [Step(b"a", b"a%dir"), Step(b"%25", b"%25%file")]
    assert names.directory_steps("a/b") == [Step(b"a", b"a%dir"), Step(b"b", b"b%dir")]
    assert names.steps("a" * 252) == [Step(b"a" * 252, b"a" * 252 + b"%%+/file")]


@pytest.mark.parametrize(
    ("account", "path"),
    [
        ("AUTH_test", b"AUTH_test"),
        (".lustack", b"%2Elustack"),
        (".shared", b".shared"),
        (".lustack.tmp.x", b"%2Elustack.tmp.x"),
        ("a" * 256, b"a" * 253 + b"%+/aaa"),
        ("c%dir", b"c%25dir"),
    ],
)
def test_an_account_is_a_directory_at_the_top(account, path):
    assert names.account_path(account) == path
    assert names.decode_account(path) == account


@pytest.mark.parametrize(
    ("container", "path"),
    [
        ("c", b"AUTH_a/c"),
        (".lustack", b"AUTH_a/.lustack"),
        ("..", b"AUTH_a/%2E."),
        ("\0versions\0c", b".lustack/reserved/AUTH_a/%00versions%00c"),
    ],
)
def test_a_container_is_a_directory_below_its_account(container, path):
    assert names.container_path("AUTH_a", container) == path
    assert names.decode_container(path.rpartition(b"/")[2]) == container


@pytest.mark.parametrize("path", [b".lustack", b"a%dir", b"%", b"a/b", b"\xff", b"a" * 253 + b"%+"])
def test_a_directory_that_no_account_leads_to_is_none(path):
    with pytest.raises(UnrepresentableNameError):
        names.decode_account(path)


@pytest.mark.parametrize("path", [b".lustack.tmp.x", b"a%dir", b"a%file", b"%", b"a/b", b"\xff"])
def test_a_directory_that_no_container_leads_to_is_none(path):
    with pytest.raises(UnrepresentableNameError):
        names.decode_container(path)


def test_only_what_is_ours_is_reserved():
    assert names.is_reserved(b".lustack.tmp.x")
    assert names.is_reserved(b".lustack", top=True)
    assert not names.is_reserved(b".lustack")
    assert not names.is_reserved(b".lustack2", top=True)


def test_an_entry_goes_on_only_if_it_is_long_enough_to_have_been_cut():
    assert names.is_continued(b"a" * 240 + b"%+")
    assert not names.is_continued(b"a" * 239 + b"%+")
    assert not names.is_continued(b"a" * 250)
    assert names.join([b"a" * 253 + b"%+", b"aaa"]) == b"a" * 256


def test_a_cut_never_makes_a_temporary_name_or_half_a_character():
    name = "a" * 253 + ".lustack.tmp.0123456789abcdef"
    assert names.encode(name) == b"a" * 252 + b"%+/a.lustack.tmp.0123456789abcdef"
    assert names.decode(names.encode(name)) == name


def test_one_entry_says_what_it_is_of_and_whether_it_is_a_twin():
    assert names.decode_entry(b"c%dir", Kind.DIRECTORY) == (b"c", True)
    assert names.decode_entry(b"c", Kind.DIRECTORY) == (b"c", False)
    assert names.decode_entry(b"%2Elustack", Kind.DIRECTORY, top=True) == (b".lustack", False)
    assert names.decode_entry(b"%2Elustack", Kind.DIRECTORY) == (b"%2Elustack", False)


@pytest.mark.parametrize("depth", [100, 511])
def test_escapes_of_escapes_of_escapes_come_back(depth):
    name = "%" + "25" * depth
    assert names.decode(names.encode(name)) == name


def test_bytes_that_are_not_text_keep_their_place():
    assert names.encode("a\udcff") == b"a\xff"
