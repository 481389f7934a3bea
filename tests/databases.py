# SPDX-License-Identifier: Apache-2.0
"""Account and container servers of the installed Swift in this process, without a network; for tests of the sink."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from swift.account.server import AccountController
from swift.common.swob import HTTPNotFound, bytes_to_wsgi
from swift.common.swob import Request as SwobRequest
from swift.common.utils import ShardRange, Timestamp, hash_path, storage_directory
from swift.container.backend import ContainerBroker
from swift.container.server import ContainerController
from tests.objects import SwiftLog, swift_conf

from lustack.sync.sinks.http import Answer, Node, NodeError, Request
from lustack.sync.sinks.protocol import ContainerKey
from lustack.sync.sinks.rings import Policy, Rings
from lustack.sync.sinks.swift import SwiftSink

__all__ = ("swift", "swift_conf")

PARTITION = 7
COPIES = ("sda", "sdb", "sdc")


class Container(ContainerController):
    """A container server that tells the account server of this process."""

    def __init__(self, conf: dict[str, str], tell: Any) -> None:
        super().__init__(conf, logger=SwiftLog())
        self._tell = tell

    def account_update(self, req: Any, account: str, container: str, broker: Any) -> Any:
        if req.headers.get("X-Account-Partition"):
            return self._tell(req, account, container, broker.get_info())
        return None


class Swift:
    """Three copies of everything, and a sink that asks them.

    Attributes:
        down: devices whose servers do not answer.
        failing: devices whose servers answer with an error.
        sink: the real one.
        asked: every request that was made.
    """

    def __init__(self, base: Path) -> None:
        for device in COPIES:
            (base / device).mkdir(parents=True)
        self.base = base
        self.conf = {"devices": str(base), "mount_check": "false", "fallocate_reserve": "0"}
        self.accounts = AccountController(self.conf, logger=SwiftLog())
        self.containers = Container(self.conf, self._tell_account)
        self.down: set[str] = set()
        self.failing: set[str] = set()
        self.asked: list[tuple[str, Request]] = []
        self.time_ns = 1_600_000_000 * 10**9
        rings = Rings(self._account_nodes, self._container_nodes, (Policy(0, "gold", "files"),), 4)
        self.sink = SwiftSink(rings, self, self._now_ns)

    def ask(self, node: Node, request: Request, *, is_spare: bool = False) -> Answer:
        """See `Connections`."""
        self.asked.append((node.device, request))
        if node.device in self.down:
            raise NodeError(node, "it is down")
        if node.device in self.failing:
            return Answer(507, {}, b"")
        app = self.accounts if node.port == 1 else self.containers
        path = "/".join(("", node.device, str(node.partition), *request.path))
        headers = {"X-Backend-Allow-Reserved-Names": "true", **request.headers}
        asked = SwobRequest.blank(
            bytes_to_wsgi(path.encode()), method=request.method, headers=headers, body=request.body
        )
        asked.params = {key: bytes_to_wsgi(str(value).encode()) for key, value in request.query.items()}
        answer = asked.get_response(app)
        return Answer(
            answer.status_int, {key.lower(): str(value) for key, value in answer.headers.items()}, answer.body
        )

    def close(self) -> None:
        """See `Connections`."""

    def make_account(self, account: str) -> None:
        for node in self._account_nodes(account):
            request = Request("PUT", (account,), {"X-Timestamp": self.next_time()}, {})
            assert self.ask(node, request).is_success

    def make_container(self, key: ContainerKey, policy_index: int = 0) -> None:
        self.sink.create(key, policy_index)

    def delete_container(self, key: ContainerKey) -> None:
        for node in self._container_nodes(*key):
            request = Request("DELETE", tuple(key), {"X-Timestamp": self.next_time()}, {})
            assert self.ask(node, request).is_success

    def next_time(self) -> str:
        return Timestamp(self._now_ns() / 1e9).internal

    def broker(self, device: str, key: ContainerKey) -> ContainerBroker:
        hashed = hash_path(*key)
        place = self.base / device / storage_directory("containers", PARTITION, hashed) / f"{hashed}.db"
        return ContainerBroker(str(place), account=key.account, container=key.container, logger=SwiftLog())

    def shard(self, key: ContainerKey, *uppers: str, finished: bool = True) -> list[ContainerKey]:
        """Spread a container: up to and with each name one shard, and one for the rest."""
        bounds = list(zip(("", *uppers), (*uppers, ""), strict=True))
        shards = [ContainerKey(f".shards_{key.account}", f"{key.container}-{number}") for number in range(len(bounds))]
        ranges = [
            ShardRange(str(shard), Timestamp(self.next_time()), lower, upper, state=ShardRange.ACTIVE)
            for shard, (lower, upper) in zip(shards, bounds, strict=True)
        ]
        for shard in shards:
            self.sink.create(shard, 0)
        for device in COPIES:
            broker = self.broker(device, key)
            own = broker.get_own_shard_range()
            own.update_state(ShardRange.SHARDING, state_timestamp=Timestamp(self.next_time()))
            own.epoch = Timestamp(self.next_time())
            broker.merge_shard_ranges([own, *ranges])
            assert broker.set_sharding_state()
            if finished:
                assert broker.set_sharded_state()
        return shards

    def _account_nodes(self, *_path: str) -> list[Node]:
        return [Node("127.0.0.1", 1, device, PARTITION) for device in COPIES]

    def _container_nodes(self, *_path: str) -> list[Node]:
        return [Node("127.0.0.1", 2, device, PARTITION) for device in COPIES]

    def _now_ns(self) -> int:
        self.time_ns += 10_000_000
        return self.time_ns

    def _tell_account(self, req: Any, account: str, container: str, info: dict[str, Any]) -> Any:
        for device in req.headers["X-Account-Device"].split(","):
            headers = {
                "X-Put-Timestamp": info["put_timestamp"],
                "X-Delete-Timestamp": info["delete_timestamp"],
                "X-Object-Count": str(info["object_count"]),
                "X-Bytes-Used": str(info["bytes_used"]),
                "X-Timestamp": self.next_time(),
                "X-Backend-Storage-Policy-Index": str(info["storage_policy_index"]),
            }
            node = Node("127.0.0.1", 1, device, PARTITION)
            answer = self.ask(node, Request("PUT", (account, container), headers, {}))
            if answer.status == 404:
                return HTTPNotFound(request=req)
        return None


@pytest.fixture
def swift(swift_conf: Path, tmp_path: Path) -> Swift:
    return Swift(tmp_path / "databases")
