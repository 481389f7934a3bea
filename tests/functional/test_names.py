# SPDX-License-Identifier: Apache-2.0
"""Odd names on our policy and on stock, in the same Swift, answer by answer."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from tests.functional import names
from tests.functional.client import Answer, Client

from lustack.server.instance import Instance

pytestmark = pytest.mark.timeout(600)

OURS, STOCK = "gold", "silver"
Name = str | bytes
Story = dict[Name, list[object]]


@pytest.fixture
def client(served: Instance) -> Iterator[Client]:
    with Client(served.access) as client:
        yield client


def quoted(name: Name) -> str:
    return "/" + quote(name, safe="")


def show(name: Name) -> str:
    text = ascii(name)
    return text if len(text) < 60 else f"{text[:40]}..({len(name)})"


def tell(answer: Answer) -> tuple[object, ...]:
    """What must be the same whatever the policy: not the time, not the transaction, not the words of a refusal."""
    assert answer.status < 500, answer
    if answer.status >= 400:
        return (answer.status,)
    wanted = ("content-type", "content-length", "etag", "x-object-meta-colour")
    return (answer.status, answer.body, *(answer.headers.get(name) for name in wanted))


def send(client: Client, method: str, path: str, name: Name) -> Answer:
    if method == "POST":
        return client.send(method, path, {"X-Object-Meta-Colour": "red"})
    if method != "PUT":
        return client.send(method, path)
    if name in names.MARKERS:
        return client.send(method, path, {"Content-Type": "application/directory"}, b"")
    headers = {"Content-Type": "text/plain", "X-Object-Meta-Colour": "blue"}
    return client.send(method, path, headers, show(name).encode())


def list_all(client: Client, container: str, query: str) -> list[object]:
    rows = json.loads(client.send("GET", f"{container}?format=json&{query}").body)
    return [{key: value for key, value in row.items() if key != "last_modified"} for row in rows]


LISTINGS = (
    *("limit=10000", "delimiter=/", "prefix=a", "prefix=a/&delimiter=/", "prefix=twin&delimiter=/"),
    *("prefix=deep/&delimiter=/", "reverse=true&limit=30", "marker=a/b&limit=20", "end_marker=a", "delimiter=%25"),
    *("path=a", "path=", "prefix=.lustack", "prefix=%25"),
)
# Each of these is sent for all names before the next one; the last three for one name after the other.
TOGETHER = ("PUT", "GET", "POST", "HEAD", "PUT")
ONE_BY_ONE = ("GET", "DELETE", "GET")


def tell_story(client: Client, base: str, order: Sequence[Name], going: Sequence[Name]) -> Story:
    """Put, read, list, change and delete every name in the container `base`; return all answers by name."""
    story: Story = {name: [] for name in order}
    for method in TOGETHER:
        for name in order:
            answer = send(client, method, base + quoted(name), name)
            story[name].append((method, *tell(answer)))
    listings = {query: list_all(client, base, query) for query in LISTINGS}
    for name in going:
        for method in ONE_BY_ONE:
            answer = send(client, method, base + quoted(name), name)
            story[name].append((method, *tell(answer)))
    rest = list_all(client, base, "limit=10000")
    return {**story, b"listings": [listings], b"rest": rest}


def orders() -> Iterator[tuple[str, list[Name], list[Name]]]:
    forward = list(names.OBJECTS)
    yield "forward", forward, forward
    yield "backward", forward[::-1], forward
    shuffled = random.Random(7)
    yield "shuffled", shuffled.sample(forward, len(forward)), shuffled.sample(forward, len(forward))


@pytest.fixture(scope="module", params=list(orders()), ids=lambda order: order[0])
def stories(request: pytest.FixtureRequest, served: Instance) -> list[Story]:
    """The story of a container of our policy, and of one of stock; both at the same time."""
    title, order, going = request.param

    def live(policy: str) -> Story:
        base = f"/names-{title}-{policy}"
        with Client(served.access) as client:
            assert client.send("PUT", base, {"X-Storage-Policy": policy}).status == 201
            story = tell_story(client, base, order, going)
            assert client.send("DELETE", base).status == 204
        return story

    with ThreadPoolExecutor() as pool:
        return list(pool.map(live, (OURS, STOCK)))


def test_every_odd_name_gets_the_answers_that_stock_gives(stories: list[Story]) -> None:
    ours, stock = stories
    different = [f"{show(name)}\n  {ours[name]}\n  {stock[name]}" for name in stock if ours[name] != stock[name]]
    assert not different, "\n".join(different)


def test_every_odd_name_can_be_an_object_unless_swift_forbids_it(stories: list[Story]) -> None:
    ours, _ = stories
    refused = {name for name in names.OBJECTS if ours[name][0][1] != 201}
    # NUL is for Swift's own names (versions, parts of uploads): the suite's tests of versioning have them.
    assert refused == {"c" * 1025, b"bad\xff", "nul\0x", "\0" * 1024}


def test_nothing_is_listed_any_more_when_every_odd_name_was_deleted(stories: list[Story]) -> None:
    assert [story[b"rest"] for story in stories] == [[], []]


@pytest.mark.parametrize("name", names.CONTAINERS, ids=show)
def test_every_odd_container_name_gets_the_answers_that_stock_gives(client: Client, name: str) -> None:
    def tell_of(policy: str) -> list[object]:
        base = quoted(name)
        requests = (
            ("PUT", base, {"X-Storage-Policy": policy}, None),
            ("PUT", f"{base}/o", {}, b"1"),
            ("GET", f"{base}/o", {}, None),
            ("GET", base, {}, None),
            ("DELETE", base, {}, None),
            ("DELETE", f"{base}/o", {}, None),
            ("DELETE", base, {}, None),
            ("HEAD", base, {}, None),
        )
        return [tell(client.send(*request)) for request in requests]

    assert tell_of(OURS) == tell_of(STOCK)
