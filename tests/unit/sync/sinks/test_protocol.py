# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from lustack.sync.sinks.protocol import ContainerKey


def test_the_name_of_a_container_can_be_read():
    assert str(ContainerKey("a", "c")) == "a/c"
