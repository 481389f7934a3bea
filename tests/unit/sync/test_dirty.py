# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from lustack.sync import dirty as module
from lustack.sync.dirty import DIRECTORY, FILE, LIVELY_S, NEW, SHIFT, Dirty
from lustack.sync.sinks.protocol import ContainerKey

KEY = ContainerKey("a", "c")


def at(window, flags=FILE):
    return (window << SHIFT) | flags


@pytest.fixture
def dirty():
    return Dirty(10**6, 0.5)


@pytest.fixture
def container(dirty):
    return dirty.container(0, KEY)


def add(dirty, container, rest, value=at(1), now_s=0.0, is_open=False):
    container.add(rest, value, now_s, is_open=is_open)
    dirty.touch(container, now_s)


def size_of(*names):
    return module.CONTAINER_BYTES + sum(len(each) + module.NAME_BYTES for each in names)


def test_a_batch_waits_for_others_and_one_container_sends_one_at_a_time(dirty, container):
    assert dirty.ready_s() is None
    container.taken_s = 0.0
    add(dirty, container, b"x")
    add(dirty, container, b"y", now_s=0.4)
    assert dirty.ready_s() == 0.5
    assert dirty.take(0.4) is None
    assert dirty.take(0.5) is container
    assert container.swap(10) == {b"x": at(1), b"y": at(1)}
    add(dirty, container, b"x", at(2), 1.0)
    assert dirty.take(9.0) is None
    assert dirty.oldest() == 1
    container.land(is_done=True)
    dirty.touch(container, 1.0)
    dirty.rest(container)
    assert dirty.oldest() == 2
    assert dirty.take(1.5) is container
    assert container.swap(10) == {b"x": at(2)}
    container.land(is_done=True)
    dirty.rest(container)
    assert (dirty.oldest(), dirty.size_bytes(), dirty.count()) == (None, 0, (0, 0))
    assert container.size_bytes == size_of()


def test_a_batch_has_a_limit_and_the_oldest_go_first(dirty, container):
    for number in range(5):
        add(dirty, container, b"%d" % number, at(number + 1))
    assert list(container.swap(2)) == [b"0", b"1"]
    container.land(is_done=True)
    assert container.oldest() == 3
    assert dirty.count() == (3, 0)


def test_the_first_name_after_a_while_need_not_wait_for_others(dirty, container):
    add(dirty, container, b"x", now_s=10.0)
    assert dirty.take(10.0) is container
    container.swap(10)
    container.land(is_done=True)
    add(dirty, container, b"y", now_s=10.0 + LIVELY_S / 2)
    assert dirty.ready_s() == 10.0 + LIVELY_S / 2 + 0.5
    assert dirty.take(11.0) is container
    add(dirty, container, b"z", now_s=11.0 + 2 * LIVELY_S)
    assert dirty.ready_s() == 11.0 + 2 * LIVELY_S


def test_what_could_not_be_sent_is_sent_again_and_is_not_new_any_more(dirty, container):
    for rest in (b"x", b"y", b"z", b"w"):
        add(dirty, container, rest, at(1, FILE | NEW))
    container.swap(10)
    add(dirty, container, b"x", at(2, DIRECTORY))
    add(dirty, container, b"y", at(2), is_open=True)
    container.land(is_done=False)
    assert container.swap(10) == {b"x": at(1, FILE | DIRECTORY), b"y": at(1), b"z": at(1), b"w": at(1)}
    assert container.size_bytes == size_of(b"x", b"y", b"z", b"w")
    add(dirty, container, b"v", at(3))
    container.land(is_done=False)
    add(dirty, container, b"x", at(4, DIRECTORY))
    assert list(container.swap(3)) == [b"x", b"y", b"z"]
    container.land(is_done=False)
    assert container.swap(10) == {b"w": at(1), b"x": at(1, FILE | DIRECTORY), b"y": at(1), b"z": at(1), b"v": at(3)}


def test_a_name_that_flies_and_is_due_again_counts_once(dirty, container):
    add(dirty, container, b"x", is_open=True)
    container.publish(0.0)
    container.swap(10)
    add(dirty, container, b"x", at(2), is_open=True)
    container.publish(0.0)
    container.land(is_done=False)
    assert container.swap(10) == {b"x": at(1)}
    container.land(is_done=True)
    assert container.size_bytes == size_of()


def test_what_is_being_written_waits_for_its_end(dirty, container):
    add(dirty, container, b"x", at(1, FILE | NEW), 0.0, is_open=True)
    add(dirty, container, b"x", at(2), 3.0, is_open=True)
    assert dirty.ready_s() is None
    assert dirty.oldest() == 1
    assert dirty.count() == (0, 1)
    add(dirty, container, b"x", at(3), 4.0)
    assert container.swap(10) == {b"x": at(1, FILE | NEW)}


def test_what_is_written_for_long_is_published_as_it_is(dirty, container):
    add(dirty, container, b"x", now_s=0.0, is_open=True)
    add(dirty, container, b"y", now_s=5.0, is_open=True)
    dirty.publish(4.0, 10.0)
    assert dirty.take(10.5) is container
    assert container.swap(10) == {b"x": at(1)}
    container.land(is_done=True)
    assert container.oldest() == 1
    dirty.publish(5.0, 10.0)
    add(dirty, container, b"y", at(2, DIRECTORY))
    assert container.swap(10) == {b"y": at(1, FILE | DIRECTORY)}


def test_names_that_are_due_in_no_order_hold_back_the_window_of_the_oldest(dirty, container):
    for window in (5, 2, 7, 3):
        add(dirty, container, b"%d" % window, at(window), is_open=True)
    container.release([b"5", b"2", b"7", b"3"])
    assert container.oldest() == 2
    assert list(container.swap(2)) == [b"5", b"2"]
    assert container.oldest() == 2
    container.land(is_done=True)
    assert container.oldest() == 3
    add(dirty, container, b"1", at(1), is_open=True)
    add(dirty, container, b"1", at(8))
    assert container.oldest() == 1
    container.swap(2)
    add(dirty, container, b"0", at(0), is_open=True)
    add(dirty, container, b"0", at(9))
    container.land(is_done=False)
    assert container.oldest() == 0
    container.give_up()
    assert container.oldest() is None


def test_what_waits_anyway_is_not_held(dirty, container):
    add(dirty, container, b"x")
    add(dirty, container, b"x", at(2), is_open=True)
    add(dirty, container, b"y", at(2), is_open=True)
    add(dirty, container, b"z", at(2))
    assert container.swap(10) == {b"x": at(1), b"z": at(2)}


def test_our_own_temporary_files_are_no_names(dirty, container):
    add(dirty, container, b".lustack.tmp.1")
    add(dirty, container, b"d/.lustack.tmp.1", is_open=True)
    assert dirty.oldest() is None


def test_with_too_many_names_directories_are_remembered_instead(dirty, container):
    for number in range(20):
        add(dirty, container, b"d/%d" % number)
        add(dirty, container, b"e/%d" % number, is_open=True)
    add(dirty, container, b"x")
    assert dirty.relieve() == []
    dirty.limit_bytes = 1000
    assert sorted(dirty.relieve()) == [(container, b"d"), (container, b"e")]
    assert container.names == {b"x": at(1)}
    add(dirty, container, b"d/new")
    add(dirty, container, b"f/new")
    assert list(container.names) == [b"x", b"f/new"]
    assert container.size_bytes == size_of(b"x", b"f/new")


def test_with_too_many_directories_containers_are_remembered_instead(dirty, container):
    other = dirty.container(0, ContainerKey("a", "small"))
    add(dirty, other, b"y")
    for number in range(100):
        add(dirty, container, b"%d/x" % number)
    dirty.limit_bytes = 10_000
    assert dirty.relieve() == [(container, None)]
    assert container.size_bytes == size_of()
    add(dirty, container, b"z", is_open=True)
    assert container.oldest() is None
    assert not container.is_idle()
    assert dirty.containers("a") == [other, container] or dirty.containers("") == [container, other]


def test_many_crowded_directories_are_a_container(dirty, container, monkeypatch):
    monkeypatch.setattr(module, "_MOST_CROWDS", 1)
    for number in range(20):
        add(dirty, container, b"d/%d" % number)
        add(dirty, container, b"e/%d" % number)
    dirty.limit_bytes = 1000
    assert dirty.relieve() == [(container, None)]


def test_what_could_not_be_sent_is_absorbed_too(dirty, container):
    add(dirty, container, b"x")
    container.swap(10)
    container.give_up()
    container.land(is_done=False)
    assert (container.oldest(), container.size_bytes) == (None, size_of())


def test_containers_at_rest_are_forgotten_when_there_are_many(monkeypatch):
    monkeypatch.setattr(module, "MOST_IDLE", 2)
    dirty = Dirty(10**6, 0.5)
    for number in range(5):
        each = dirty.container(0, ContainerKey("a", str(number)))
        add(dirty, each, b"x")
        dirty.take(1.0).swap(10)
        each.land(is_done=True)
        dirty.rest(each)
    busy = dirty.container(0, ContainerKey("b", "busy"))
    add(dirty, busy, b"x")
    dirty.rest(busy)
    assert dirty.containers("b") == [busy]
    assert len(dirty.containers("")) == 3
    assert dirty.oldest() == 1
