# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.mapping import names
from lustack.sync.address import Address, address_of, is_ours, names_of, prefix_of, scope_of
from lustack.sync.state import Scope

LONG = "l" * 256


@pytest.mark.parametrize(
    ("account", "container"), [("AUTH_a", "c"), ("a", LONG), (LONG, "c"), (LONG, LONG), ("a", "\0v\0c"), ("é", "50%25")]
)
def test_a_path_leads_to_its_container(account, container):
    directory = names.container_path(account, container)
    path = directory + b"/x/y"
    found = address_of(path)
    assert (found.key, path[found.start :]) == ((account, container), b"x/y")
    found = address_of(directory)
    assert (found.key, directory[found.start :]) == ((account, container), b"")


def test_an_account_and_the_device_have_an_address():
    assert address_of(names.account_path("a")) == Address("a")
    assert address_of(b"") == Address("")


@pytest.mark.parametrize(
    "path",
    [
        b".lustack",
        b".lustack/reserved",
        b".lustack/locks/a/b",
        b".lustack/reserved/a/c/x",
        b"a/%00c/x",
        b".x/c/y",
        b"\xff/c/y",
        b"a/\xff/y",
    ],
)
def test_what_cannot_be_listed_has_none(path):
    assert address_of(path) is None
    assert scope_of(path) is None


def test_an_entry_is_about_the_names_that_it_may_have():
    assert names_of(b"a/b", is_file=True, is_directory=False) == ("a/b",)
    assert names_of(b"a/b", is_file=True, is_directory=True) == ("a/b", "a/b/")
    assert names_of(b"a%dir/b%file", is_file=True, is_directory=False) == ("a/b",)
    assert names_of(b"a%dir", is_file=False, is_directory=True) == ("a", "a/")
    assert names_of(b"\xff", is_file=True, is_directory=True) == ()


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (b"", Scope(owner="events")),
        (b"a", Scope("a", owner="events")),
        (b"a/c", Scope("a", "c", owner="events")),
        (b"a/c/d", Scope("a", "c", "d/", "events")),
        (b"a/c/d%dir/e", Scope("a", "c", "d/e/", "events")),
        (b"a/c/d/\xff", Scope("a", "c", "d/", "events")),
        (b"a/c/%", Scope("a", "c", "", "events")),
    ],
)
def test_a_directory_is_compared_by_the_prefix_of_its_names(path, scope):
    assert scope_of(path) == scope


def test_the_prefix_of_a_container_is_empty():
    assert prefix_of(b"") == ""


def test_temporary_files_of_ours_are_known_wherever_they_are():
    assert all(map(is_ours, (b".lustack.tmp.0", b"a/c/.lustack.tmp.0", b"a/.lustack.tmp.0/x")))
    assert not is_ours(b"a/c/x.lustack.tmp.0")
