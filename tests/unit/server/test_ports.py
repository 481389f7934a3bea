# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import errno
import itertools
import socket

import pytest

from lustack.errors import ConfigurationError
from lustack.server import ports
from lustack.server.topology import Ports

STORED = {"proxy": 70, "account": 1, "container": 2, "object": 3, "memcached": 4, "metrics": 5}


def settle(port, stored, *, busy=(), candidates=None):
    return ports.settle(port, stored, lambda number: number not in busy, candidates or itertools.count(100))


def test_the_ports_of_last_time_are_kept():
    assert settle(8080, STORED) == Ports(8080, 1, 2, 3, 4, 5)


def test_any_port_means_best_that_of_last_time():
    assert settle(0, STORED).proxy == 70
    assert settle(0, {}).proxy == 100


def test_an_inner_port_that_was_taken_is_replaced():
    assert settle(8080, STORED, busy={2, 100}) == Ports(8080, 1, 101, 3, 4, 5)


def test_no_two_servers_get_the_same_port():
    chosen = settle(101, {}, candidates=iter([100, 100, 101, 102, 103, 104, 105]))
    assert chosen == Ports(101, 100, 102, 103, 104, 105)


def test_an_inner_port_gives_way_to_the_one_of_the_user():
    assert settle(3, STORED) == Ports(3, 1, 2, 100, 4, 5)


def test_a_taken_port_of_the_user_is_refused_after_a_while():
    pauses = []
    with pytest.raises(ConfigurationError, match="8080"):
        ports.settle(8080, {}, lambda number: False, itertools.count(1), pauses.append)
    assert sum(pauses) == pytest.approx(ports.PATIENCE_S)


def test_a_port_that_becomes_free_in_time_is_taken():
    answers = itertools.chain([False, False], itertools.repeat(True))
    chosen = ports.settle(8080, {}, lambda number: next(answers), itertools.count(1), lambda seconds: None)
    assert chosen.proxy == 8080


def test_a_port_on_which_somebody_listens_is_not_free():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert not ports.is_free(port)
    assert ports.is_free(port)


def test_what_is_neither_free_nor_taken_is_an_error():
    def fail():
        raise OSError(errno.EMFILE, "too many")

    class Broken:
        def __enter__(self):
            return self

        def __exit__(self, *reason):
            return None

        def setsockopt(self, *option):
            return None

        def bind(self, address):
            fail()

    with pytest.raises(OSError, match="too many"):
        ports.is_free(1, Broken)


def test_ports_are_drawn_below_those_of_outgoing_connections():
    drawn = list(itertools.islice(ports.draw(), 100))
    assert all(20000 <= port < 32768 for port in drawn)
    assert len(set(drawn)) > 50


def test_without_help_free_ports_are_found():
    chosen = ports.settle(0, {})
    assert len(set(vars(chosen).values())) == 6
